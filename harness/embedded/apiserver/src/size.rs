//! How large a JSON value is, without writing it down.

use serde_json::Value;

/// The bytes of a value as JSON, counted up to escapes in texts.
pub(crate) fn text_length(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(_) => 5,
        Value::Number(number) => number.to_string().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 1 + items.len().max(1) + items.iter().map(text_length).sum::<usize>(),
        Value::Object(fields) => {
            let inner = |(name, value): (&String, &Value)| name.len() + 3 + text_length(value);
            1 + fields.len().max(1) + fields.iter().map(inner).sum::<usize>()
        }
    }
}

/// How deep lists and objects are nested: 0 for a scalar.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lengths_are_those_of_the_text() {
        for value in [
            json!(null),
            json!({}),
            json!([]),
            json!({"a": [1, 22, "three"], "b": {"c": true}}),
            json!(["x", {"y": null}]),
        ] {
            let written = value.to_string().len();
            let counted = text_length(&value);
            // `true` is counted as `false`.
            assert!(
                (written..=written + 1).contains(&counted),
                "{value}: {counted}, not {written}"
            );
        }
    }

    #[test]
    fn depth_counts_brackets() {
        assert_eq!(depth(&json!(1)), 0);
        assert_eq!(depth(&json!({"a": [{}, 1]})), 3);
    }
}
