//! Which object a write is about: kind, name, namespace, version, and the metadata that clients cannot change.

use super::write::{remove, set_or_remove};
use super::{ObjectKey, State, object_key};
use crate::resource::ResourceType;
use crate::{Gvr, Status, admission};
use serde_json::{Map, Value, json};

/// The object must be a JSON object of the right kind with a metadata object. A missing kind is filled in, as decoders do.
pub(super) fn check_shape(resource: &ResourceType, gvr: &Gvr, object: &mut Value) -> Result<(), Status> {
    let Some(fields) = object.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "the object provided is not a {}: expected a JSON object",
            resource.kind
        )));
    };
    let api_version = gvr.api_version();
    for (field, expected) in [("apiVersion", api_version.as_str()), ("kind", resource.kind.as_str())] {
        match fields.get(field) {
            None | Some(Value::Null) => {
                fields.insert(field.into(), json!(expected));
            }
            Some(Value::String(found)) if found.is_empty() => {
                fields.insert(field.into(), json!(expected));
            }
            Some(found) if found != expected => {
                let found = format!(
                    "{}, Kind={}",
                    fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default(),
                    fields.get("kind").and_then(Value::as_str).unwrap_or_default()
                );
                return Err(Status::bad_request(format!(
                    "the API version and kind in the data ({found}) do not match the expected {api_version}, Kind={}",
                    resource.kind
                )));
            }
            Some(_) => {}
        }
    }
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    admission::metadata::check_types(metadata, &resource.kind, &gvr.version)
}

/// The object's namespace, from the path or from itself; they must agree.
pub(super) fn own_namespace(
    resource: &ResourceType,
    namespace: Option<&str>,
    object: &Value,
) -> Result<Option<String>, Status> {
    if !resource.namespaced {
        return Ok(None);
    }
    let inner = object["metadata"]["namespace"].as_str().filter(|n| !n.is_empty());
    match (namespace.filter(|n| !n.is_empty()), inner) {
        (Some(outer), Some(inner)) if outer != inner => Err(Status::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({inner} is not {outer})"
        ))),
        (Some(namespace), _) | (None, Some(namespace)) => Ok(Some(namespace.to_owned())),
        (None, None) => Ok(None),
    }
}

/// Settles name and namespace of an object to be created.
pub(super) fn name_new_object(
    resource: &ResourceType,
    namespace: Option<&str>,
    object: &mut Value,
) -> Result<ObjectKey, Status> {
    let namespace = own_namespace(resource, namespace, object)?;
    let metadata = &mut object["metadata"];
    if resource.namespaced {
        if let Some(namespace) = &namespace {
            metadata["namespace"] = json!(namespace);
        }
    } else {
        remove(metadata, "namespace");
    }
    let mut name = metadata["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        let base = metadata["generateName"].as_str().unwrap_or_default();
        if base.is_empty() {
            let cause = crate::Cause::required("metadata.name", "name or generateName is required");
            return Err(resource.invalid("", vec![cause]));
        }
        name = admission::names::generate(base);
        metadata["name"] = json!(name);
    }
    object_key(resource, namespace.as_deref(), &name)
}

pub(super) fn check_namespace(state: &State, resource: &ResourceType, key: &ObjectKey) -> Result<(), Status> {
    if key.namespace.is_empty() {
        return Ok(());
    }
    let namespace = state
        .namespace(&key.namespace)
        .ok_or_else(|| Status::not_found("", "namespaces", &key.namespace))?;
    if namespace["metadata"]["deletionTimestamp"].is_null() {
        Ok(())
    } else {
        Err(Status::namespace_terminating(
            &resource.group,
            &resource.plural,
            &key.name,
            &key.namespace,
        ))
    }
}

pub(super) fn check_identity(resource: &ResourceType, key: &ObjectKey, old: &Value, new: &Value) -> Result<(), Status> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    let conflict = |why: &str| Err(Status::conflict(&resource.group, &resource.plural, &key.name, why));
    for (field, expected) in [("name", &key.name), ("namespace", &key.namespace)] {
        if let Some(found) = new[field].as_str().filter(|f| !f.is_empty())
            && found != expected
        {
            return Err(Status::bad_request(format!(
                "the {field} of the object ({found}) does not match the {field} on the URL ({expected})"
            )));
        }
    }
    if let Some(uid) = new["uid"].as_str().filter(|u| !u.is_empty() && old["uid"] != **u) {
        let found = old["uid"].as_str().unwrap_or_default();
        return conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        ));
    }
    if new["resourceVersion"]
        .as_str()
        .is_some_and(|v| !v.is_empty() && old["resourceVersion"] != *v)
    {
        return conflict("the object has been modified; please apply your changes to the latest version and try again");
    }
    Ok(())
}

/// Fields of the metadata that clients cannot change.
pub(super) fn keep_server_metadata(new: &mut Value, old: &Value, managed_fields_are_ours: bool) {
    let resets_managed_fields = new["metadata"]["managedFields"] == json!([{}]);
    let metadata = &mut new["metadata"];
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        set_or_remove(metadata, field, old["metadata"].get(field).cloned());
    }
    remove(metadata, "selfLink");
    if resets_managed_fields {
        remove(metadata, "managedFields");
    } else if !managed_fields_are_ours {
        set_or_remove(metadata, "managedFields", old["metadata"].get("managedFields").cloned());
    }
}
