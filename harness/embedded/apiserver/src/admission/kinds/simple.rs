//! Kinds with few rules: ConfigMaps, Secrets, Events, Leases.

use super::fields::{check_non_negative, set_default};
use crate::Cause;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// ConfigMaps and Secrets may hold this much.
const DATA_LIMIT: usize = 1024 * 1024;

fn validate_data_keys(object: &Value, field: &str, causes: &mut Vec<Cause>) -> usize {
    let mut size = 0;
    for (key, value) in object[field].as_object().into_iter().flatten() {
        size += value.as_str().map_or(0, str::len);
        let fits = !key.is_empty()
            && key.len() <= 253
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && key != "."
            && !key.starts_with("..");
        if !fits {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), why));
        }
    }
    size
}

/// Field errors of a ConfigMap.
pub(super) fn validate_config_map(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let size = validate_data_keys(object, "data", &mut causes) + validate_data_keys(object, "binaryData", &mut causes);
    if size > DATA_LIMIT {
        causes.push(Cause::too_long("data", DATA_LIMIT));
    }
    causes
}

/// `stringData` is written into `data`, encoded.
pub(super) fn default_secret(object: &mut Value) {
    set_default(object, "type", json!("Opaque"));
    let plain = object.as_object_mut().and_then(|fields| fields.remove("stringData"));
    for (key, value) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        if !object["data"].is_object() {
            object["data"] = json!({});
        }
        object["data"][key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

/// Field errors of a Secret.
pub(super) fn validate_secret(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let size = validate_data_keys(object, "data", &mut causes);
    if size > DATA_LIMIT {
        causes.push(Cause::too_long("data", DATA_LIMIT));
    }
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        if STANDARD.decode(value.as_str().unwrap_or_default()).is_err() {
            // The value itself stays out of the message.
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &json!("<redacted>"),
                "must be base64",
            ));
        }
    }
    let required: &[&str] = match object["type"].as_str() {
        Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
        Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
        _ => &[],
    };
    for key in required {
        if object["data"][key].is_null() {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
    }
    let account = &object["metadata"]["annotations"]["kubernetes.io/service-account.name"];
    if object["type"] == "kubernetes.io/service-account-token" && account.as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required(
            "metadata.annotations[kubernetes.io/service-account.name]",
            "",
        ));
    }
    causes
}

/// The type of a Secret and everything in an immutable one stay.
pub(super) fn validate_immutable_data(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if new["type"] != old["type"] {
        causes.push(Cause::invalid("type", &new["type"], "field is immutable"));
    }
    if old["immutable"] == true {
        for field in ["data", "binaryData", "immutable"] {
            if new[field] != old[field] {
                causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    causes
}

/// Field errors of an Event in the core form.
pub(super) fn validate_event(object: &Value) -> Vec<Cause> {
    let involved = object["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let fits = involved == namespace || (involved.is_empty() && matches!(namespace, "default" | "kube-system"));
    if fits {
        return Vec::new();
    }
    vec![Cause::invalid(
        "involvedObject.namespace",
        &json!(involved),
        "does not match event.namespace",
    )]
}

/// Field errors of a Lease.
pub(super) fn validate_lease(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &object["spec"];
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|&n| n <= 0) {
        causes.push(Cause::invalid(
            "spec.leaseDurationSeconds",
            &json!(seconds),
            "must be greater than 0",
        ));
    }
    causes.extend(check_non_negative(spec, "leaseTransitions", "spec"));
    for field in ["renewTime", "acquireTime"] {
        if let Some(text) = spec[field].as_str()
            && text.parse::<jiff::Timestamp>().is_err()
        {
            causes.push(Cause::invalid(
                format!("spec.{field}"),
                &json!(text),
                "must be an RFC 3339 time",
            ));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let mut secret = json!({"stringData": {"a": "hi"}});
        default_secret(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGk="}}));
        let causes = validate_secret(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "%%secret%%"}}));
        assert_eq!(causes.len(), 2);
        assert!(!causes[0].message.contains("secret"));
    }

    #[test]
    fn immutable_data() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(
            validate_immutable_data(&json!({"immutable": true, "data": {"a": "2"}}), &old).len(),
            1
        );
        assert!(validate_immutable_data(&old, &old).is_empty());
    }

    #[test]
    fn leases() {
        assert!(
            validate_lease(&json!({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}}))
                .is_empty()
        );
        assert_eq!(
            validate_lease(&json!({"spec": {"renewTime": "now", "leaseDurationSeconds": 0}})).len(),
            2
        );
    }
}
