//! The API server's refusals without their noise.

use kube::core::Status;

/// Begins the cause that only says that other rules were not looked at.
const UNCHECKED: &str = "some validation rules were not checked";

/// What the API server objects to, as sentences for a person.
pub(crate) fn plain(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut sentences: Vec<String> = causes
        .filter(|cause| !cause.message.contains(UNCHECKED))
        .map(|cause| {
            let sentence = without_value(&cause.message);
            match cause.field.as_str() {
                // The sentence about the whole object stands for itself.
                "" | "<nil>" | "spec" | "metadata" => sentence,
                field => {
                    let in_body = format!("{field} in body ");
                    format!("{field}: {}", sentence.replacen(&in_body, "", 1))
                }
            }
        })
        .collect();
    sentences.dedup();
    if sentences.is_empty() { status.message.clone() } else { sentences.join("; ") }
}

/// Drops `Invalid value: …: ` from the front, and keeps the value when it is one that the user wrote.
fn without_value(message: &str) -> String {
    let Some(rest) = message.strip_prefix("Invalid value: ") else { return message.into() };
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
    let (value, sentence) = match values.next() {
        Some(Ok(value)) => {
            let end = values.byte_offset();
            (Some(value), rest[end..].strip_prefix(": ").unwrap_or(&rest[end..]))
        }
        _ => (None, rest.split_once(": ").map_or(rest, |(_, sentence)| sentence)),
    };
    match value {
        // The API server writes the type in place of a value that a CEL rule refuses.
        Some(serde_json::Value::String(text)) if !is_type(&text) && !text.is_empty() => {
            format!("\"{text}\" is refused: {sentence}")
        }
        _ => sentence.into(),
    }
}

fn is_type(text: &str) -> bool {
    matches!(text, "object" | "string" | "array" | "integer" | "number" | "boolean" | "null")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use kube::core::response::StatusCause;

    fn refused(causes: &[(&str, &str)]) -> String {
        let causes: Vec<_> = causes
            .iter()
            .map(|(field, message)| StatusCause {
                reason: "FieldValueInvalid".into(),
                message: (*message).into(),
                field: (*field).into(),
            })
            .collect();
        let details = serde_json::from_value(serde_json::json!({"causes": causes})).unwrap();
        plain(&Status::failure("noise", "Invalid").with_details(details))
    }

    #[test]
    fn a_cel_message_stands_alone() {
        let got = refused(&[
            ("spec", "Invalid value: \"object\": exactly one of image and from must be set"),
            (
                "<nil>",
                "Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            ),
        ]);
        assert_eq!(got, "exactly one of image and from must be set");
    }

    #[test]
    fn the_field_and_the_users_value_are_named() {
        let got = refused(&[(
            "spec.disk.size",
            "Invalid value: \"5x\": must be a positive quantity, for example 20Gi",
        )]);
        assert_eq!(got, "spec.disk.size: \"5x\" is refused: must be a positive quantity, for example 20Gi");
    }

    #[test]
    fn an_object_in_the_message_is_left_out_even_with_colons_in_it() {
        let got = refused(&[(
            "spec",
            "Invalid value: {\"a\":\"b: c\"}: image can't be changed: create a new Spark",
        )]);
        assert_eq!(got, "image can't be changed: create a new Spark");
    }

    #[test]
    fn a_refusal_without_causes_is_the_servers_own_sentence() {
        assert_eq!(refused(&[]), "noise");
    }
}
