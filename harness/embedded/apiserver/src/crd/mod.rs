//! Custom resource definitions: from a definition to a served type, and back to nothing.

mod definition;
pub(crate) mod formats;
pub(crate) mod schema;
pub(crate) mod validation;

pub(crate) use definition::{default, validate, validate_change};

use crate::resource::StorageKey;
use crate::store::{ObjectKey, Propagation, State};
use serde_json::{Value, json};

/// Keeps a definition until its objects are gone.
pub(crate) const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Serves the type of a definition that was written, and says so in its status.
pub(crate) fn establish(state: &mut State, key: &ObjectKey, crd: &Value) {
    if crd["metadata"]["deletionTimestamp"].is_null() {
        let accepted = names_conflict(state, crd);
        if accepted.is_none()
            && let Ok(resource) = definition::to_type(crd)
        {
            state.registry.insert(resource);
        }
        let status = definition::status(crd, accepted.as_deref());
        if crd["status"] != status {
            let mut new = crd.clone();
            new["status"] = status;
            state.put(key, new);
        }
    }
}

/// Why the names of a definition are taken, if they are.
fn names_conflict(state: &State, crd: &Value) -> Option<String> {
    let (group, plural) = (crd["spec"]["group"].as_str()?, crd["spec"]["names"]["plural"].as_str()?);
    let kind = crd["spec"]["names"]["kind"].as_str()?;
    let other = state
        .registry
        .all()
        .find(|t| t.group == group && t.kind == kind && t.plural != plural)?;
    Some(format!(
        "\"{kind}\" is already in use by {}.{}",
        other.plural, other.group
    ))
}

/// Marks a definition that waits for its objects.
pub(crate) fn set_terminating(crd: &mut Value) {
    let condition = json!({
        "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        "lastTransitionTime": crate::store::now(),
    });
    match crd["status"]["conditions"].as_array_mut() {
        Some(conditions) if !conditions.iter().any(|c| c["type"] == "Terminating") => conditions.push(condition),
        Some(_) => {}
        None => crd["status"]["conditions"] = json!([condition]),
    }
}

/// Stops serving the type of a removed definition.
pub(crate) fn retire(state: &mut State, crd: &Value) {
    let storage = storage_of(crd);
    if state.registry.by_storage(&storage).is_some_and(|t| t.custom) {
        state.registry.remove(&storage);
        state.close_watches(&storage);
    }
}

/// Lets a terminating definition go when the last of its objects is gone.
pub(crate) fn finish_deletion(state: &mut State, storage: &StorageKey) {
    if state.table(storage).is_some_and(|t| !t.objects.is_empty()) || !state.crd_is_terminating(storage) {
        return;
    }
    let key = crd_key(storage);
    if let Some(crd) = state.object(&key).cloned() {
        state.remove_finalizer(&key, &crd, CLEANUP_FINALIZER);
    }
}

fn storage_of(crd: &Value) -> StorageKey {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    StorageKey::new(&text(&crd["spec"]["group"]), &text(&crd["spec"]["names"]["plural"]))
}

fn crd_key(storage: &StorageKey) -> ObjectKey {
    ObjectKey {
        storage: StorageKey::new("apiextensions.k8s.io", "customresourcedefinitions"),
        namespace: String::new(),
        name: format!("{}.{}", storage.resource, storage.group),
    }
}

impl State {
    pub(crate) fn crd_has_objects(&self, crd: &Value) -> bool {
        self.table(&storage_of(crd)).is_some_and(|t| !t.objects.is_empty())
    }

    pub(crate) fn crd_is_terminating(&self, storage: &StorageKey) -> bool {
        self.object(&crd_key(storage))
            .is_some_and(|crd| !crd["metadata"]["deletionTimestamp"].is_null())
    }

    /// Deletes all objects of a definition.
    pub(crate) fn delete_custom_objects(&mut self, crd: &Value) {
        let storage = storage_of(crd);
        let names: Vec<_> = self
            .table(&storage)
            .into_iter()
            .flat_map(|t| t.objects.keys().cloned())
            .collect();
        for (namespace, name) in names {
            let key = ObjectKey {
                storage: storage.clone(),
                namespace,
                name,
            };
            self.delete_quietly(&key, Propagation::Background);
        }
    }
}

/// Whether any version of a definition carries CEL rules, which are not evaluated.
pub(crate) fn has_rules(crd: &Value) -> bool {
    definition::to_type(crd).is_ok_and(|t| {
        t.versions
            .iter()
            .any(|v| v.schema.as_deref().is_some_and(schema::has_rules))
    })
}
