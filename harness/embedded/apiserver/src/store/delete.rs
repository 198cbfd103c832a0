//! Deletion: preconditions, finalizers, grace periods, propagation.

use super::state::{Consequence, ObjectKey, State};
use super::write::time_text;
use super::{DeleteOptions, Deleted, Propagation};
use crate::Status;
use serde_json::{Value, json};
use std::sync::Arc;

/// The finalizer of foreground deletion.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// Namespaces that nobody may delete, by the admission plugin `NamespaceLifecycle`.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What Kubernetes gives a pod that says nothing.
const DEFAULT_POD_GRACE_SECONDS: u64 = 30;

pub(super) fn delete(
    state: &mut State,
    key: &ObjectKey,
    options: &DeleteOptions,
    dry_run: bool,
) -> Result<Deleted, Status> {
    let (group, resource) = (&*key.storage.group, &*key.storage.resource);
    let object = state
        .object(key)
        .cloned()
        .ok_or_else(|| Status::not_found(group, resource, &key.name))?;
    check_preconditions(key, &object, options)?;
    if resource == "namespaces" && group.is_empty() && IMMORTAL.contains(&key.name.as_str()) {
        return Err(Status::forbidden(
            group,
            resource,
            &key.name,
            "this namespace may not be deleted",
        ));
    }
    if dry_run {
        return Ok(Deleted::Gone(object));
    }
    if resource == "namespaces" && group.is_empty() {
        return Ok(delete_namespace(state, key, &object));
    }
    let crd_with_objects = resource == "customresourcedefinitions" && state.crd_has_objects(&object);

    let metadata = &object["metadata"];
    let mut finalizers: Vec<String> = metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect();
    let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
    match options.propagation {
        Propagation::Background => {}
        Propagation::Foreground => {
            if !finalizers.iter().any(|f| f == FOREGROUND) {
                finalizers.push(FOREGROUND.into());
            }
        }
        Propagation::Orphan => state.orphan_dependents(&uid),
    }
    if crd_with_objects && !finalizers.iter().any(|f| f == crate::crd::CLEANUP_FINALIZER) {
        finalizers.push(crate::crd::CLEANUP_FINALIZER.into());
    }

    let grace = if resource == "pods" && group.is_empty() {
        pod_grace(&object, options)
    } else {
        0
    };
    let deleting = !metadata["deletionTimestamp"].is_null();
    if finalizers.is_empty() && grace == 0 {
        let last = state.remove(key).unwrap_or(object);
        return Ok(Deleted::Gone(last));
    }
    let mut new = (*object).clone();
    let metadata = &mut new["metadata"];
    let earlier = deleting && grace < metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
    if !deleting || earlier {
        metadata["deletionGracePeriodSeconds"] = json!(grace);
        if !deleting {
            let grace = jiff::SignedDuration::from_secs(i64::try_from(grace).unwrap_or(i64::MAX));
            let at = jiff::Timestamp::now()
                .saturating_add(grace)
                .unwrap_or(jiff::Timestamp::MAX);
            metadata["deletionTimestamp"] = json!(time_text(at));
            if let Some(generation) = metadata["generation"].as_i64() {
                metadata["generation"] = json!(generation + 1);
            }
        }
    }
    if !finalizers.is_empty() {
        metadata["finalizers"] = json!(finalizers);
    }
    if crd_with_objects {
        crate::crd::set_terminating(&mut new);
    }
    let stored = if new == *object { object } else { state.put(key, new) };
    if options.propagation == Propagation::Foreground {
        state.delete_dependents_first(&uid);
    }
    if crd_with_objects {
        state.delete_custom_objects(&stored);
    }
    state.settle();
    Ok(match state.object(key) {
        Some(object) if object["metadata"]["uid"] == stored["metadata"]["uid"] => Deleted::Waiting(object.clone()),
        _ => Deleted::Gone(stored),
    })
}

fn check_preconditions(key: &ObjectKey, object: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let metadata = &object["metadata"];
    let conflict = |what: &str, wanted: &str, found: &Value| {
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {}",
            found.as_str().unwrap_or_default()
        );
        Err(Status::conflict(
            &key.storage.group,
            &key.storage.resource,
            &key.name,
            &why,
        ))
    };
    if let Some(uid) = options.uid.as_deref().filter(|u| metadata["uid"] != **u) {
        return conflict("UID", uid, &metadata["uid"]);
    }
    if let Some(version) = options
        .resource_version
        .as_deref()
        .filter(|v| metadata["resourceVersion"] != **v)
    {
        return conflict("ResourceVersion", version, &metadata["resourceVersion"]);
    }
    Ok(())
}

/// Seconds that a kubelet gets. Nobody needs to stop a pod that was never scheduled or has ended.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> u64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || ended {
        return 0;
    }
    options
        .grace_period_seconds
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_u64())
        .unwrap_or(DEFAULT_POD_GRACE_SECONDS)
}

fn delete_namespace(state: &mut State, key: &ObjectKey, object: &Arc<Value>) -> Deleted {
    if object["metadata"]["deletionTimestamp"].is_null() {
        let mut new = (**object).clone();
        new["metadata"]["deletionTimestamp"] = json!(super::write::now());
        new["status"]["phase"] = json!("Terminating");
        state.put(key, new);
        if state.config.namespace_deletion_grace.is_zero() {
            state.pending.push_back(Consequence::EmptyNamespace(key.name.clone()));
        }
    }
    state.settle();
    match state.object(key) {
        Some(object) => Deleted::Waiting(object.clone()),
        None => Deleted::Gone(object.clone()),
    }
}
