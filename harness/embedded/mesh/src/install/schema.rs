//! Pieces of structural schemas that several CustomResourceDefinitions share.

use serde_json::{Value, json};

/// `{type: string}` with a description.
pub(super) fn string(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// A label selector.
pub(super) fn label_selector(description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": {
            "matchLabels": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "matchExpressions": {
                "description": "List of selector requirements",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string"},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "items": {"type": "string"}}
                    }
                }
            }
        }
    })
}

/// An API group, empty or a DNS name.
pub(super) fn group() -> Value {
    json!({
        "type": "string",
        "maxLength": 253,
        "pattern": r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    })
}

/// A kind.
pub(super) fn kind() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    })
}

/// An object's name.
pub(super) fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 253})
}

/// A namespace.
pub(super) fn namespace() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
    })
}

/// `schema` with a default.
pub(super) fn with_default(mut schema: Value, default: &str) -> Value {
    schema["default"] = default.into();
    schema
}

/// A condition's `lastTransitionTime`, `message`, `reason`, `status` and `type`.
pub(super) fn condition_properties() -> Value {
    json!({
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "message": {"type": "string", "maxLength": 32768},
        "reason": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
        },
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "type": {
            "type": "string",
            "maxLength": 316,
            "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        }
    })
}
