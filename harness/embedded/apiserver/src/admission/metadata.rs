//! Metadata: the types of its fields, and the syntax of labels, annotations, finalizers and owner references.

use super::names;
use crate::status::type_name;
use crate::{Cause, Status};
use serde_json::{Value, json};

/// Annotations of one object may be this long together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Refuses metadata whose fields have types that no client could have meant.
///
/// # Errors
/// 400 with the field, as a decoder says it.
pub(crate) fn check_types(metadata: &Value, kind: &str, version: &str) -> Result<(), Status> {
    let wrong = |field: &str, value: &Value, expected: &str| {
        Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: json: cannot unmarshal {} into field metadata.{field} of type {expected}",
            type_name(value)
        )))
    };
    if !metadata.is_object() {
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: metadata must be an object, found {}",
            type_name(metadata)
        )));
    }
    for field in ["name", "generateName", "namespace", "uid", "resourceVersion"] {
        if !matches!(&metadata[field], Value::Null | Value::String(_)) {
            return wrong(field, &metadata[field], "string");
        }
    }
    for field in ["labels", "annotations"] {
        match &metadata[field] {
            Value::Null => {}
            Value::Object(entries) => {
                if let Some((key, value)) = entries.iter().find(|(_, v)| !v.is_string()) {
                    return wrong(&format!("{field}.{key}"), value, "string");
                }
            }
            other => return wrong(field, other, "map[string]string"),
        }
    }
    for field in ["finalizers", "ownerReferences", "managedFields"] {
        if !matches!(&metadata[field], Value::Null | Value::Array(_)) {
            return wrong(field, &metadata[field], "array");
        }
    }
    Ok(())
}

/// Takes out null and empty maps and lists, which decoders drop.
pub(crate) fn normalise(metadata: &mut Value) {
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|key, value| match value {
            Value::Null => false,
            Value::Object(map) => !(map.is_empty() && matches!(key.as_str(), "labels" | "annotations")),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        });
    }
}

/// Field errors of the metadata.
pub(crate) fn validate(metadata: &Value, name_rule: fn(&str) -> Result<(), String>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if let Err(why) = name_rule(name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), &why));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if let Err(why) = names::label_key(key) {
            causes.push(Cause::invalid("metadata.labels", &json!(key), &why));
        }
        let value = value.as_str().unwrap_or_default();
        if let Err(why) = names::label_value(value) {
            causes.push(Cause::invalid("metadata.labels", &json!(value), &why));
        }
    }
    let mut length = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        length += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = names::label_key(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), &why));
        }
    }
    if length > ANNOTATIONS_LIMIT {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_LIMIT));
    }
    for (i, finalizer) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        let known = matches!(finalizer, "foregroundDeletion" | "orphan");
        if let Err(why) = names::label_key(finalizer) {
            causes.push(Cause::invalid(
                format!("metadata.finalizers[{i}]"),
                &json!(finalizer),
                &why,
            ));
        } else if !known && !finalizer.contains('/') {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(
                format!("metadata.finalizers[{i}]"),
                &json!(finalizer),
                why,
            ));
        }
    }
    let mut controllers = 0;
    for (i, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences[{i}].{field}"),
                    &json!(""),
                    &format!("{field} must not be empty"),
                ));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        causes.push(Cause::invalid(
            "metadata.ownerReferences",
            &metadata["ownerReferences"],
            "Only one reference can have Controller set to true",
        ));
    }
    causes
}

/// Finalizers cannot be added to an object that is being deleted.
pub(crate) fn validate_change(new: &Value, old: &Value) -> Vec<Cause> {
    if old["deletionTimestamp"].is_null() {
        return Vec::new();
    }
    let known = old["finalizers"].as_array().cloned().unwrap_or_default();
    let added: Vec<&Value> = new["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|f| !known.contains(f))
        .collect();
    if added.is_empty() {
        return Vec::new();
    }
    let list = added.iter().filter_map(|f| f.as_str()).collect::<Vec<_>>().join(" ");
    vec![Cause::forbidden(
        "metadata.finalizers",
        &format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{\"{list}\"}}"
        ),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_rule() {
        let metadata = json!({
            "name": "Bad", "labels": {"ok": "-"}, "finalizers": ["plain"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": ""}],
        });
        let causes = validate(&metadata, names::dns_1123_subdomain);
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.name",
                "metadata.labels",
                "metadata.finalizers[0]",
                "metadata.ownerReferences[0].uid"
            ]
        );
    }

    #[test]
    fn types_are_checked_before_anything_else() {
        let error = check_types(&json!({"labels": {"a": 1}}), "Pod", "v1").unwrap_err();
        assert_eq!(error.code, 400);
        assert!(error.message.contains("metadata.labels.a"));
        assert!(check_types(&json!([]), "Pod", "v1").is_err());
    }

    #[test]
    fn no_new_finalizers_while_deleting() {
        let old = json!({"deletionTimestamp": "x", "finalizers": ["a/b"]});
        assert_eq!(validate_change(&json!({"finalizers": ["a/b", "a/c"]}), &old).len(), 1);
        assert!(validate_change(&json!({"finalizers": []}), &old).is_empty());
    }
}
