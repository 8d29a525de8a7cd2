//! Printing objects.

use std::io::Write;

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::cli::Format;
use crate::errors::CliError;

/// Writes a line to standard output; a reader that has gone is an error and no panic.
pub fn line(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Writes lines to standard output.
pub fn lines(lines: &[String]) -> Result<(), CliError> {
    lines.iter().try_for_each(|text| line(text))
}

/// Prints one object.
pub fn object<K: Resource<DynamicType = ()> + Serialize>(format: Format, object: &K) -> Result<(), CliError> {
    match format {
        Format::Name => line(&reference(object)),
        Format::Json => json(&plain(object)?),
        Format::Yaml | Format::Wide => yaml(&plain(object)?),
    }
}

/// Prints many objects, as a `List` as kubectl does.
pub fn objects<K: Resource<DynamicType = ()> + Serialize>(format: Format, all: &[K]) -> Result<(), CliError> {
    if format == Format::Name {
        return all.iter().try_for_each(|object| line(&reference(object)));
    }
    let items = all.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    if format == Format::Json { json(&list) } else { yaml(&list) }
}

/// `spark/NAME`.
fn reference<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{}/{}", K::kind(&()).to_lowercase(), object.name_any())
}

/// The object without what only the API server needs.
fn plain<K: Resource + Serialize>(object: &K) -> Result<serde_json::Value, CliError> {
    let mut value = serde_json::to_value(object)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

fn json(value: &serde_json::Value) -> Result<(), CliError> {
    line(&serde_json::to_string_pretty(value)?)
}

fn yaml(value: &serde_json::Value) -> Result<(), CliError> {
    line(serde_saphyr::to_string(value)?.trim_end())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sparks_api::{Spark, SparkSpec};

    #[test]
    fn a_spark_is_named_as_kubectl_names_things() {
        assert_eq!(reference(&Spark::new("api", SparkSpec::default())), "spark/api");
    }

    #[test]
    fn yaml_keeps_strings_that_look_like_something_else() {
        let value = json!({"a": "1", "b": "true", "c": "", "d": "x: y", "e": "null", "f": "1e3"});
        let text = serde_saphyr::to_string(&value).unwrap();
        let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
    }
}
