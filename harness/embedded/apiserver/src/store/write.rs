//! Create, update and patch: the one way by which objects get into the store.

use super::identity::{
    check_identity, check_namespace, check_shape, keep_server_metadata, name_new_object, own_namespace,
};
use super::state::shown;
use super::{ObjectKey, Patch, State, Subresource, Writer, mutator, object_key, quota};
use crate::admission;
use crate::crd::{schema, validation};
use crate::patch::{self, managed};
use crate::resource::{ResourceType, VersionInfo};
use crate::{Gvr, Status};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Kinds whose `metadata.generation` counts changes of the specification. Custom resources always do.
const WITH_GENERATION: &[&str] = &[
    "deployments",
    "replicasets",
    "statefulsets",
    "daemonsets",
    "jobs",
    "poddisruptionbudgets",
    "networkpolicies",
    "endpointslices",
    "customresourcedefinitions",
    "pods",
    "cronjobs",
    "ingresses",
    "replicationcontrollers",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "flowschemas",
    "prioritylevelconfigurations",
    "priorityclasses",
];

/// How the write shows in `metadata.managedFields`.
enum Ownership<'a> {
    /// The manager owns what it changed.
    Changed(&'a str),
    /// A server-side apply has worked it out already.
    Applied,
}

pub(super) fn create(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    namespace: Option<&str>,
    object: Value,
) -> Result<Arc<Value>, Status> {
    create_owned(
        state,
        writer,
        gvr,
        namespace,
        object,
        &Ownership::Changed(&writer.manager),
    )
}

fn create_owned(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    namespace: Option<&str>,
    mut object: Value,
    ownership: &Ownership<'_>,
) -> Result<Arc<Value>, Status> {
    let resource = state.registry.lookup(gvr)?;
    let version = served(&resource, gvr)?;
    check_shape(&resource, gvr, &mut object)?;
    let key = name_new_object(&resource, namespace, &mut object)?;
    if !object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .is_empty()
    {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    check_namespace(state, &resource, &key)?;
    if resource.custom && state.crd_is_terminating(&resource.storage) {
        let mut status = Status::method_not_allowed();
        status.message = "create not allowed while custom resource definition is terminating".into();
        return Err(status);
    }

    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(admission::names::new_uid());
    metadata["creationTimestamp"] = json!(now());
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
        "resourceVersion",
    ] {
        remove(metadata, field);
    }
    if !matches!(ownership, Ownership::Applied) {
        remove(metadata, "managedFields");
    }
    if has_generation(&resource) {
        metadata["generation"] = json!(1);
    }
    mutator::run(state, &resource, gvr, &key, &mut object)?;
    to_storage(&resource, &mut object);
    if version.status {
        remove(&mut object, "status");
    }
    admission::prepare_create(&resource, &mut object);
    default_and_prune(&resource, version, &mut object)?;
    let mut causes = admission::validate_create(&resource, &object);
    causes.extend(schema_causes(version, &object));
    if !causes.is_empty() {
        return Err(resource.invalid(&key.name, causes));
    }
    admission::allocation::allocate(state, &resource, &mut object, None)?;
    if state.object(&key).is_some() {
        return Err(Status::already_exists(&resource.group, &resource.plural, &key.name));
    }
    quota::check_number(state, &key)?;
    quota::check_size(state, None, &object)?;
    let lists = patch::lists::ListTypes::of(&resource, version);
    patch::lists::check_lengths(&object, &lists)?;
    if let Ownership::Changed(manager) = ownership {
        managed::record_update(None, &mut object, manager, &gvr.api_version(), "", &lists);
    }
    if writer.dry_run {
        return Ok(shown(&resource, &gvr.version, &Arc::new(object)));
    }
    let stored = state.put(&key, object);
    state.settle();
    // Consequences may have changed it again (a token secret is filled at once).
    let stored = state.object(&key).cloned().unwrap_or(stored);
    Ok(shown(&resource, &gvr.version, &stored))
}

pub(super) fn update(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    namespace: Option<&str>,
    mut object: Value,
    part: Subresource,
) -> Result<Arc<Value>, Status> {
    let resource = state.registry.lookup(gvr)?;
    check_shape(&resource, gvr, &mut object)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Status::bad_request(
            "the name of the object must be given in metadata.name",
        ));
    }
    let namespace = own_namespace(&resource, namespace, &object)?;
    if resource.custom
        && part == Subresource::Main
        && object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
    {
        let cause = crate::Cause::invalid(
            "metadata.resourceVersion",
            &json!("0x0"),
            "must be specified for an update",
        );
        return Err(resource.invalid(&name, vec![cause]));
    }
    to_storage(&resource, &mut object);
    modify(state, writer, gvr, namespace.as_deref(), &name, part, |current| {
        *current = object;
        Ok(true)
    })
}

/// Reads, changes and writes; `change` returns whether there is anything to write.
pub(super) fn modify(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    namespace: Option<&str>,
    name: &str,
    part: Subresource,
    change: impl FnOnce(&mut Value) -> Result<bool, Status>,
) -> Result<Arc<Value>, Status> {
    let resource = state.registry.lookup(gvr)?;
    let key = object_key(&resource, namespace, name)?;
    let old = state.object(&key).cloned().ok_or_else(|| resource.not_found(name))?;
    let mut new = (*old).clone();
    if !change(&mut new)? {
        return Ok(shown(&resource, &gvr.version, &old));
    }
    replace(
        state,
        writer,
        gvr,
        &resource,
        &key,
        &old,
        new,
        part,
        &Ownership::Changed(&writer.manager),
    )
}

pub(super) fn patch(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    namespace: Option<&str>,
    name: &str,
    patch: &Patch,
    part: Subresource,
) -> Result<(Arc<Value>, bool), Status> {
    let resource = state.registry.lookup(gvr)?;
    let version = served(&resource, gvr)?;
    let key = object_key(&resource, namespace, name)?;
    if let Patch::Apply { object, manager, force } = patch {
        return apply(
            state, writer, gvr, &resource, version, &key, object, manager, *force, part,
        );
    }
    let old = state.object(&key).cloned().ok_or_else(|| resource.not_found(name))?;
    let current = shown(&resource, &gvr.version, &old);
    let mut new = (*current).clone();
    match patch {
        Patch::Merge(changes) => {
            if !changes.is_object() {
                return Err(Status::bad_request("a merge patch must be an object"));
            }
            patch::merge::merge(&mut new, changes);
        }
        Patch::Json(operations) => patch::json::apply(&mut new, operations)?,
        Patch::Strategic(changes) => {
            if resource.custom {
                return Err(Status::unsupported_media_type(
                    "application/strategic-merge-patch+json",
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ));
            }
            patch::strategic::merge(&mut new, changes)?;
        }
        Patch::Apply { .. } => {}
    }
    check_shape(&resource, gvr, &mut new)?;
    let stale = new["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"];
    if !stale {
        // The patch was made on the present state, whatever version the client had in mind.
        remove(&mut new["metadata"], "resourceVersion");
    }
    to_storage(&resource, &mut new);
    let ownership = Ownership::Changed(&writer.manager);
    replace(state, writer, gvr, &resource, &key, &old, new, part, &ownership).map(|object| (object, false))
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one request, used in this file only"
)]
fn apply(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    resource: &ResourceType,
    version: &VersionInfo,
    key: &ObjectKey,
    applied: &Value,
    manager: &str,
    force: bool,
    part: Subresource,
) -> Result<(Arc<Value>, bool), Status> {
    let mut applied = applied.clone();
    check_shape(resource, gvr, &mut applied)?;
    let named = applied["metadata"]["name"].as_str().unwrap_or_default();
    if !named.is_empty() && named != key.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({})",
            key.name
        )));
    }
    own_namespace(resource, Some(&key.namespace), &applied)?;
    if applied["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|m| !m.is_empty())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    applied["metadata"]["name"] = json!(key.name);
    let old = state.object(key).cloned();
    if old.is_none() && part != Subresource::Main {
        return Err(resource.not_found(&key.name));
    }
    let lists = patch::lists::ListTypes::of(resource, version);
    patch::lists::check_lengths(&applied, &lists)?;
    let subresource = if part == Subresource::Status { "status" } else { "" };
    let live = old.as_ref().map(|old| shown(resource, &gvr.version, old));
    if let Some(wanted) = applied["metadata"]["uid"].as_str()
        && live.as_ref().is_none_or(|live| live["metadata"]["uid"] != wanted)
    {
        let found = live
            .as_ref()
            .and_then(|live| live["metadata"]["uid"].as_str())
            .unwrap_or_default();
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        return Err(Status::conflict(&resource.group, &resource.plural, &key.name, &why));
    }
    let manager = managed::Manager {
        name: manager,
        api_version: &gvr.api_version(),
        subresource,
    };
    let merged = managed::apply(live.as_deref(), &applied, &manager, force, &lists)?;
    match old {
        None => {
            let namespace = (!key.namespace.is_empty()).then_some(key.namespace.as_str());
            create_owned(state, writer, gvr, namespace, merged, &Ownership::Applied).map(|object| (object, true))
        }
        Some(old) => {
            let mut merged = merged;
            if applied["metadata"]["resourceVersion"].is_null() {
                remove(&mut merged["metadata"], "resourceVersion");
            }
            to_storage(resource, &mut merged);
            replace(
                state,
                writer,
                gvr,
                resource,
                key,
                &old,
                merged,
                part,
                &Ownership::Applied,
            )
            .map(|object| (object, false))
        }
    }
}

/// The common end of every change to an existing object.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one request, used in this file only"
)]
fn replace(
    state: &mut State,
    writer: &Writer,
    gvr: &Gvr,
    resource: &ResourceType,
    key: &ObjectKey,
    old: &Arc<Value>,
    mut new: Value,
    part: Subresource,
    ownership: &Ownership<'_>,
) -> Result<Arc<Value>, Status> {
    let version = served(resource, gvr)?;
    if part == Subresource::Status && !version.status {
        return Err(Status::no_such_resource());
    }
    check_identity(resource, key, old, &new)?;
    keep_server_metadata(&mut new, old, matches!(ownership, Ownership::Applied));
    match part {
        Subresource::Main => {
            if version.status {
                set_or_remove(&mut new, "status", old.get("status").cloned());
            }
            admission::prepare_update(resource, &mut new, old);
        }
        Subresource::Status => {
            let status = new.get("status").cloned();
            let managed = new["metadata"].get("managedFields").cloned();
            new = (**old).clone();
            set_or_remove(&mut new, "status", status);
            set_or_remove(&mut new["metadata"], "managedFields", managed);
        }
        Subresource::Internal => {}
    }
    default_and_prune(resource, version, &mut new)?;
    let mut causes = admission::validate_update(resource, &new, old, part);
    causes.extend(schema_causes(version, &new));
    if !causes.is_empty() {
        return Err(resource.invalid(&key.name, causes));
    }
    if part == Subresource::Main {
        admission::allocation::allocate(state, resource, &mut new, Some(old))?;
    }
    if has_generation(resource) && part != Subresource::Status && spec_changed(resource, version, &new, old) {
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
    }
    let lists = patch::lists::ListTypes::of(resource, version);
    patch::lists::check_lengths(&new, &lists)?;
    if let Ownership::Changed(manager) = ownership {
        let subresource = if part == Subresource::Status { "status" } else { "" };
        managed::record_update(Some(old), &mut new, manager, &gvr.api_version(), subresource, &lists);
    }
    if managed::same_apart_from_times(&new, old) {
        return Ok(shown(resource, &gvr.version, old));
    }
    quota::check_size(state, Some(old), &new)?;
    if writer.dry_run {
        return Ok(shown(resource, &gvr.version, &Arc::new(new)));
    }
    let finished = !new["metadata"]["deletionTimestamp"].is_null()
        && new["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
        && new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && *key.storage.resource != *"namespaces";
    if finished {
        // The last finalizer is gone: the deletion that was asked for earlier happens instead of the change.
        state.remove(key);
        return Ok(shown(resource, &gvr.version, &Arc::new(new)));
    }
    let stored = state.put(key, new);
    if !stored["metadata"]["deletionTimestamp"].is_null() && *key.storage.resource == *"namespaces" {
        state
            .pending
            .push_back(super::state::Consequence::NamespaceContentGone(key.name.clone()));
    }
    Ok(shown(resource, &gvr.version, &stored))
}

fn served<'a>(resource: &'a ResourceType, gvr: &Gvr) -> Result<&'a VersionInfo, Status> {
    resource.served(&gvr.version).ok_or_else(Status::no_such_resource)
}

fn to_storage(resource: &ResourceType, object: &mut Value) {
    if resource.group == "events.k8s.io" {
        admission::events::to_core(object);
    } else {
        object["apiVersion"] = json!(resource.api_version(resource.storage_version()));
    }
}

fn default_and_prune(resource: &ResourceType, version: &VersionInfo, object: &mut Value) -> Result<(), Status> {
    match &version.schema {
        Some(schema) => {
            schema::prune(schema, object);
            schema::default(schema, object);
            Ok(())
        }
        None => admission::default(resource, object),
    }
}

fn schema_causes(version: &VersionInfo, object: &Value) -> Vec<crate::Cause> {
    version
        .schema
        .as_ref()
        .map(|schema| validation::validate(schema, object))
        .unwrap_or_default()
}

fn has_generation(resource: &ResourceType) -> bool {
    resource.custom || WITH_GENERATION.contains(&resource.plural.as_str())
}

/// Whether anything but metadata (and, where it is a subresource, the status) changed.
fn spec_changed(resource: &ResourceType, version: &VersionInfo, new: &Value, old: &Value) -> bool {
    let skip_status = version.status || !resource.custom;
    let relevant = |object: &Value| -> Map<String, Value> {
        let fields = object.as_object().into_iter().flatten();
        let kept = fields.filter(|(key, _)| {
            let skipped = match key.as_str() {
                "metadata" | "apiVersion" | "kind" => true,
                "status" => skip_status,
                _ => false,
            };
            !skipped
        });
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    relevant(new) != relevant(old)
}

pub(crate) fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

pub(crate) fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    match value {
        Some(value) => object[field] = value,
        None => remove(object, field),
    }
}

/// The present time as it stands in metadata: RFC 3339, whole seconds, UTC.
pub(crate) fn now() -> String {
    time_text(jiff::Timestamp::now())
}

pub(crate) fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
