//! Checks on single fields that several kinds share.

use crate::Cause;
use serde_json::{Value, json};

/// A cause per path whose value changed.
pub(super) fn immutable(new: &Value, old: &Value, paths: &[&str]) -> Vec<Cause> {
    let at = |object: &Value, path: &str| {
        path.split('.')
            .fold(object.clone(), |value, field| value[field].clone())
    };
    let changed = paths.iter().filter(|path| at(new, path) != at(old, path));
    changed
        .map(|path| Cause::invalid(*path, &at(new, path), "field is immutable"))
        .collect()
}

/// Sets a field that is missing or null. Does nothing to a value that is no object: validation will name it.
pub(super) fn set_default(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = json!({});
    }
    if let Some(fields) = object.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), value);
    }
}

/// A port number from 1 to 65535.
pub(super) fn check_port(value: &Value, at: &str) -> Option<Cause> {
    match value.as_i64() {
        None => Some(Cause::required(at, "")),
        Some(1..=65535) => None,
        Some(other) => Some(Cause::invalid(
            at,
            &json!(other),
            "must be between 1 and 65535, inclusive",
        )),
    }
}

/// A number that is at least zero, if there is one.
pub(super) fn check_non_negative(object: &Value, field: &str, at: &str) -> Option<Cause> {
    let value = object[field].as_i64().filter(|&n| n < 0)?;
    Some(Cause::invalid(
        format!("{at}.{field}"),
        &json!(value),
        "must be greater than or equal to 0",
    ))
}
