//! JSON merge patches (RFC 7396) that turn one state into another.

use serde::Serialize;
use serde_json::{Map, Value};

/// The merge patch from `old` to `new`, with null for what is gone; `None` when they are equal.
///
/// # Errors
/// When one of them can't be written as JSON.
pub fn between<T: Serialize>(old: Option<&T>, new: &T) -> Result<Option<Value>, serde_json::Error> {
    let old = old.map(serde_json::to_value).transpose()?.unwrap_or(Value::Object(Map::new()));
    let patch = merge(&old, &serde_json::to_value(new)?);
    Ok(match &patch {
        Some(Value::Object(fields)) if fields.is_empty() => None,
        _ => patch,
    })
}

/// The patch from `old` to `new`, or `None` when they are equal.
fn merge(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (a, b) if a == b => None,
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = new.iter().filter_map(|(key, value)| {
                let before = old.get(key).unwrap_or(&Value::Null);
                merge(before, value).map(|patch| (key.clone(), patch))
            });
            Some(Value::Object(gone.chain(changed).collect()))
        }
        (_, new) => Some(new.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_states_need_no_patch() {
        assert_eq!(between(Some(&json!({"a": [1]})), &json!({"a": [1]})).unwrap(), None);
        assert_eq!(between(None, &json!({})).unwrap(), None);
    }

    #[test]
    fn what_is_gone_is_nulled_and_what_stayed_is_left_out() {
        let (old, new) =
            (json!({"a": 1, "b": {"c": 1, "d": 2}, "l": [1, 2]}), json!({"b": {"c": 1, "e": 3}, "l": [2]}));
        let patch = between(Some(&old), &new).unwrap().unwrap();
        assert_eq!(patch, json!({"a": null, "b": {"d": null, "e": 3}, "l": [2]}));
    }
}
