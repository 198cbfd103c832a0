//! Checks on single fields that several kinds share.

use crate::resource::ResourceType;
use crate::status::type_name;
use crate::{Cause, Status};
use serde_json::{Value, json};

/// Paths and the types that must be there.
type Rules = &'static [(&'static str, &'static str)];

/// Types of the fields that the server itself or every client relies on. `*` stands for every item of a list.
const TYPES: &[(&str, &str, Rules)] = &[
    (
        "apps",
        "",
        &[
            ("spec", "object"),
            ("spec.replicas", "integer"),
            ("spec.selector", "object"),
            ("spec.template", "object"),
            ("spec.minReadySeconds", "integer"),
            ("spec.paused", "boolean"),
            ("spec.template.metadata", "object"),
            ("spec.template.metadata.labels", "object"),
            ("spec.template.spec", "object"),
            ("spec.template.spec.containers", "array"),
            ("spec.template.spec.containers.*.image", "string"),
            ("spec.template.spec.containers.*.ports", "array"),
            ("spec.template.spec.containers.*.ports.*.containerPort", "integer"),
            ("spec.template.spec.containers.*.env", "array"),
            ("spec.template.spec.containers.*.env.*.value", "string"),
            ("spec.template.spec.containers.*.args", "array"),
            ("spec.template.spec.containers.*.command", "array"),
        ],
    ),
    (
        "batch",
        "jobs",
        &[
            ("spec", "object"),
            ("spec.template", "object"),
            ("spec.template.metadata", "object"),
            ("spec.template.metadata.labels", "object"),
            ("spec.template.spec", "object"),
            ("spec.template.spec.containers", "array"),
        ],
    ),
    (
        "",
        "pods",
        &[
            ("spec", "object"),
            ("status", "object"),
            ("spec.nodeName", "string"),
            ("spec.containers", "array"),
            ("spec.containers.*.image", "string"),
            ("spec.containers.*.ports", "array"),
            ("spec.containers.*.ports.*.containerPort", "integer"),
            ("spec.containers.*.env", "array"),
            ("spec.containers.*.env.*.value", "string"),
            ("spec.containers.*.args", "array"),
            ("spec.containers.*.command", "array"),
            ("spec.terminationGracePeriodSeconds", "integer"),
            ("status.conditions", "array"),
        ],
    ),
    (
        "",
        "services",
        &[
            ("spec", "object"),
            ("status", "object"),
            ("spec.type", "string"),
            ("spec.clusterIP", "string"),
            ("spec.selector", "object"),
            ("spec.selector.*", "string"),
            ("spec.ports", "array"),
            ("spec.ports.*.port", "integer"),
            ("spec.ports.*.nodePort", "integer"),
            ("spec.ports.*.name", "string"),
            ("spec.ports.*.protocol", "string"),
            ("spec.externalName", "string"),
        ],
    ),
    (
        "",
        "endpoints",
        &[
            ("subsets", "array"),
            ("subsets.*.addresses", "array"),
            ("subsets.*.ports", "array"),
            ("subsets.*.ports.*.port", "integer"),
            ("subsets.*.addresses.*.ip", "string"),
        ],
    ),
    (
        "discovery.k8s.io",
        "endpointslices",
        &[
            ("endpoints", "array"),
            ("endpoints.*.addresses", "array"),
            ("ports", "array"),
            ("ports.*.port", "integer"),
            ("addressType", "string"),
        ],
    ),
    (
        "",
        "configmaps",
        &[
            ("data", "object"),
            ("data.*", "string"),
            ("binaryData", "object"),
            ("immutable", "boolean"),
        ],
    ),
    (
        "",
        "secrets",
        &[
            ("data", "object"),
            ("data.*", "string"),
            ("stringData", "object"),
            ("stringData.*", "string"),
            ("type", "string"),
            ("immutable", "boolean"),
        ],
    ),
    ("", "nodes", &[("spec", "object"), ("status", "object")]),
    ("", "namespaces", &[("spec", "object"), ("status", "object")]),
    (
        "coordination.k8s.io",
        "leases",
        &[
            ("spec", "object"),
            ("spec.holderIdentity", "string"),
            ("spec.leaseDurationSeconds", "integer"),
            ("spec.renewTime", "string"),
            ("spec.acquireTime", "string"),
            ("spec.leaseTransitions", "integer"),
        ],
    ),
    (
        "rbac.authorization.k8s.io",
        "",
        &[
            ("rules", "array"),
            ("rules.*", "object"),
            ("rules.*.verbs", "array"),
            ("rules.*.resources", "array"),
            ("rules.*.apiGroups", "array"),
            ("subjects", "array"),
            ("subjects.*", "object"),
            ("roleRef", "object"),
        ],
    ),
    (
        "apiextensions.k8s.io",
        "",
        &[
            ("spec", "object"),
            ("spec.names", "object"),
            ("spec.versions", "array"),
            ("spec.versions.*", "object"),
            ("status", "object"),
        ],
    ),
];

/// Refuses an object whose important fields cannot be decoded.
///
/// # Errors
/// 400 with the field, what was found and what was expected.
pub(super) fn check_types(resource: &ResourceType, object: &Value) -> Result<(), Status> {
    for (group, plural, rules) in TYPES {
        if *group != resource.group || !(plural.is_empty() || *plural == resource.plural) {
            continue;
        }
        for (path, expected) in *rules {
            let segments: Vec<&str> = path.split('.').collect();
            check_path(object, &segments, expected, "").map_err(|(at, found)| {
                let (kind, version) = (&resource.kind, resource.storage_version());
                Status::bad_request(format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: json: cannot unmarshal {found} into field {at} of type {expected}"
                ))
            })?;
        }
    }
    Ok(())
}

fn check_path(value: &Value, path: &[&str], expected: &str, at: &str) -> Result<(), (String, &'static str)> {
    let Some((first, rest)) = path.split_first() else {
        let found = type_name(value);
        return if found == expected || value.is_null() {
            Ok(())
        } else {
            Err((at.to_owned(), found))
        };
    };
    if *first == "*" {
        match value {
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    check_path(item, rest, expected, &format!("{at}[{i}]"))?;
                }
            }
            Value::Object(fields) => {
                for (name, child) in fields {
                    check_path(child, rest, expected, &format!("{at}.{name}"))?;
                }
            }
            _ => {}
        }
        return Ok(());
    }
    let at = if at.is_empty() {
        (*first).to_owned()
    } else {
        format!("{at}.{first}")
    };
    match value.get(first) {
        Some(child) => check_path(child, rest, expected, &at),
        None => Ok(()),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Registry;

    #[test]
    fn wrong_types_are_named_with_their_place() {
        let resource = Registry::built_in().lookup(&crate::gvr::SERVICES).unwrap();
        let error = check_types(&resource, &json!({"spec": {"ports": [{"port": 80}, {"port": "http"}]}})).unwrap_err();
        assert_eq!(error.code, 400);
        assert!(
            error
                .message
                .contains("string into field spec.ports[1].port of type integer"),
            "{}",
            error.message
        );
        check_types(&resource, &json!({"spec": {"ports": [{"port": 80}]}})).unwrap();
        let error = check_types(&resource, &json!({"spec": []})).unwrap_err();
        assert!(error.message.contains("field spec of type object"));
    }
}
