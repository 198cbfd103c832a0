//! Steps in words: their verb, and their text on one line.

use std::fmt::Write as _;

use meshproof_spec::scenario::Step;
use serde_json::Value;

use crate::redaction::{Redacted, Redactor};

/// Longest text of a step, characters.
const LONGEST: usize = 300;

/// The verb of a step, e.g. `scale`.
#[must_use]
pub(crate) fn verb(step: &Step) -> String {
    match serde_json::to_value(step) {
        Ok(Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// The step on one line, e.g. `scale: {in: west, service: store, to: 0}`. What was not written is left out, and what is
/// too long is cut.
#[must_use]
pub(crate) fn text(step: &Step, redactor: &Redactor) -> String {
    let mut text = String::new();
    let value = serde_json::to_value(step).map(|value| redactor.object(&value));
    // Before it is one line, in which nobody can tell any more what stands where.
    if let Ok(Value::Object(map)) = value.as_ref().map(Redacted::get) {
        for (verb, arguments) in map {
            let _ = write!(text, "{verb}: ");
            write_flow(arguments, &mut text);
        }
    }
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn write_flow(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            text.push('{');
            for (index, (key, value)) in map.iter().filter(|(_, value)| is_said(value)).enumerate() {
                let _ = write!(text, "{}{key}: ", if index == 0 { "" } else { ", " });
                write_flow(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_flow(item, text);
            }
            text.push(']');
        }
        Value::String(string) => text.push_str(&string.replace(['\n', '\r'], " ")),
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

/// Whether a value was written in the file, as far as that can be told: defaults look like nothing.
fn is_said(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => map.values().any(is_said),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::verb;
    use crate::redaction::Redactor;
    use meshproof_spec::scenario::Step;

    fn text(step: &Step) -> String {
        super::text(step, &Redactor::new())
    }

    fn step(json: serde_json::Value) -> Step {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_step_is_told_on_one_line_without_what_was_not_written() {
        let scale = step(serde_json::json!({"scale": {"service": "store", "in": "west", "to": 0}}));
        assert_eq!(verb(&scale), "scale");
        assert_eq!(text(&scale), "scale: {in: west, service: store, to: 0}");
        assert!(scale.disturbs());
    }

    #[test]
    fn a_long_step_is_cut() {
        let apply = step(serde_json::json!({"apply": {"in": "west", "manifest": {"data": "x\n".repeat(500)}}}));
        let text = text(&apply);
        assert_eq!(text.chars().count(), 301);
        assert!(!text.contains('\n'));
    }
}
