//! What happens to an object on its way into the store: defaults, validation, allocation. Pure functions over JSON, one file
//! per kind or per family of kinds. Custom resources are handled by [`crate::crd`] instead, apart from their metadata.

pub(crate) mod allocation;
pub(crate) mod bootstrap;
pub(crate) mod events;
pub(crate) mod metadata;
pub(crate) mod names;
pub(crate) mod typed;

pub(crate) mod kinds;

use crate::resource::ResourceType;
use crate::store::Subresource;
use crate::{Cause, Status};
use serde_json::Value;

/// Sets what a client cannot choose on creation.
pub(crate) fn prepare_create(resource: &ResourceType, object: &mut Value) {
    metadata::normalise(&mut object["metadata"]);
    if !resource.custom {
        kinds::prepare_create(resource, object);
    }
}

/// Keeps what a client cannot change.
pub(crate) fn prepare_update(resource: &ResourceType, new: &mut Value, old: &Value) {
    metadata::normalise(&mut new["metadata"]);
    if !resource.custom {
        kinds::prepare_update(resource, new, old);
    }
}

/// Fills the defaults of a built-in kind.
///
/// # Errors
/// 400 when a field has a type that cannot be decoded.
pub(crate) fn default(resource: &ResourceType, object: &mut Value) -> Result<(), Status> {
    kinds::default(resource, object)
}

/// Field errors of a new object.
pub(crate) fn validate_create(resource: &ResourceType, object: &Value) -> Vec<Cause> {
    let mut causes = metadata::validate(&object["metadata"], name_rule(resource));
    if !resource.custom {
        causes.extend(kinds::validate(resource, object));
    }
    causes
}

/// Field errors of a changed object.
pub(crate) fn validate_update(resource: &ResourceType, new: &Value, old: &Value, part: Subresource) -> Vec<Cause> {
    if part == Subresource::Internal {
        return Vec::new();
    }
    let mut causes = metadata::validate(&new["metadata"], name_rule(resource));
    causes.extend(metadata::validate_change(&new["metadata"], &old["metadata"]));
    if !resource.custom && part == Subresource::Main {
        causes.extend(kinds::validate(resource, new));
        causes.extend(kinds::validate_change(resource, new, old));
    }
    causes
}

fn name_rule(resource: &ResourceType) -> fn(&str) -> Result<(), String> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => names::dns_1123_label,
        ("", "services") => names::dns_1035_label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        _ => names::dns_1123_subdomain,
    }
}

/// The objects in a list, if there is such a list.
fn items_mut<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.get_mut(field).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter(|item| item.is_object())
}
