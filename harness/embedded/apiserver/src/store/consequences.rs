//! What follows from a write: garbage collection by owner, content of new namespaces, custom resource types, token secrets.
//!
//! Real clusters leave this to controllers that lag behind by some milliseconds. Here it happens before the lock is released,
//! as writes of their own, in the same order. What takes seconds there takes its time here as well, see [`super::namespaces`].

use super::delete::{FOREGROUND, delete};
use super::state::{Consequence, ObjectKey, State, namespace_key, owner_uids};
use super::{DeleteOptions, Propagation, token_secrets};
use crate::admission::bootstrap;
use serde_json::Value;
use std::sync::Arc;

impl State {
    /// Works off all consequences of the writes so far.
    pub(crate) fn settle(&mut self) {
        while let Some(consequence) = self.pending.pop_front() {
            match consequence {
                Consequence::OwnerGone(uid) => self.collect_dependents(&uid),
                Consequence::DependentGone { owner_uid } => self.finish_foreground(&owner_uid),
                Consequence::CheckOwners(key) => self.collect_if_ownerless(&key),
                Consequence::EmptyNamespace(name) => self.empty_namespace(&name),
                Consequence::NamespaceContentGone(name) => self.finish_namespace(&name),
                Consequence::Written(key) => self.written(&key),
                Consequence::Removed(key, object) => self.removed(&key, &object),
            }
        }
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&Arc<Value>> {
        self.object(&namespace_key(name))
    }

    /// Creates what every cluster starts with.
    pub(crate) fn bootstrap(&mut self) {
        for (storage, object) in bootstrap::objects(&self.config) {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let key = ObjectKey {
                storage,
                namespace: text("namespace"),
                name: text("name"),
            };
            self.put(&key, object);
            self.settle();
        }
    }

    fn written(&mut self, key: &ObjectKey) {
        let Some(object) = self.object(key).cloned() else {
            return;
        };
        match (&*key.storage.group, &*key.storage.resource) {
            ("", "namespaces") if object["metadata"]["deletionTimestamp"].is_null() => {
                self.furnish_namespace(&key.name);
            }
            ("", "secrets") => token_secrets::fill(self, key, &object),
            ("", "serviceaccounts") => token_secrets::fill_waiting(self, key),
            ("apiextensions.k8s.io", "customresourcedefinitions") => crate::crd::establish(self, key, &object),
            _ => {}
        }
    }

    fn removed(&mut self, key: &ObjectKey, object: &Arc<Value>) {
        match (&*key.storage.group, &*key.storage.resource) {
            ("", "secrets") => token_secrets::revoke_secret(self, object),
            ("", "serviceaccounts") => token_secrets::revoke_account(self, key, object),
            ("apiextensions.k8s.io", "customresourcedefinitions") => crate::crd::retire(self, object),
            _ => {
                // A CRD that waits for its last object may go now.
                crate::crd::finish_deletion(self, &key.storage);
            }
        }
    }

    /// Default service account and CA of a namespace.
    fn furnish_namespace(&mut self, name: &str) {
        for (storage, object) in bootstrap::namespace_content(name, &self.config.ca_pem) {
            let key = ObjectKey {
                storage,
                namespace: name.to_owned(),
                name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            };
            if self.object(&key).is_none() {
                self.put(&key, object);
            }
        }
    }

    /// An owner is gone: dependents lose the reference, and go too when it was their last.
    fn collect_dependents(&mut self, owner_uid: &str) {
        for key in self.dependents(owner_uid) {
            let Some(object) = self.object(&key).cloned() else {
                continue;
            };
            let other_owner = owner_uids(&object)
                .iter()
                .any(|uid| uid != owner_uid && self.owner_exists(uid, &key));
            if other_owner {
                self.drop_owner_reference(&key, &object, owner_uid);
            } else if !awaits_orphaning(&object) {
                self.delete_quietly(&key, Propagation::Background);
            }
        }
    }

    /// An object whose owners are all missing goes away, as the garbage collector does with absent owners. References to kinds
    /// that are not served are left alone: whether such an owner exists cannot be known.
    fn collect_if_ownerless(&mut self, key: &ObjectKey) {
        let Some(object) = self.object(key).cloned() else {
            return;
        };
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        let references = object["metadata"]["ownerReferences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let absent = |reference: &Value| {
            let kind = |field: &str| reference[field].as_str().unwrap_or_default();
            let known_kind = self.registry.by_kind(kind("apiVersion"), kind("kind")).is_some();
            known_kind && !self.owner_exists(kind("uid"), key)
        };
        if !references.is_empty() && references.iter().all(absent) {
            self.delete_quietly(key, Propagation::Background);
        }
    }

    fn owner_exists(&self, uid: &str, dependent: &ObjectKey) -> bool {
        self.by_uid(uid)
            .is_some_and(|owner| owner.namespace.is_empty() || owner.namespace == dependent.namespace)
    }

    fn drop_owner_reference(&mut self, key: &ObjectKey, object: &Value, owner_uid: &str) {
        let mut new = object.clone();
        if let Some(references) = new["metadata"]["ownerReferences"].as_array_mut() {
            references.retain(|r| r["uid"] != owner_uid);
            if references.is_empty() {
                super::write::remove(&mut new["metadata"], "ownerReferences");
            }
        }
        self.put(key, new);
    }

    /// Takes the reference to an owner from all its dependents.
    pub(super) fn orphan_dependents(&mut self, owner_uid: &str) {
        for key in self.dependents(owner_uid) {
            if let Some(object) = self.object(&key).cloned() {
                self.drop_owner_reference(&key, &object, owner_uid);
            }
        }
    }

    /// Deletes the dependents of an owner that waits for them.
    pub(super) fn delete_dependents_first(&mut self, owner_uid: &str) {
        for key in self.dependents(owner_uid) {
            let Some(object) = self.object(&key).cloned() else {
                continue;
            };
            let has_dependents = object["metadata"]["uid"]
                .as_str()
                .is_some_and(|uid| !self.dependents(uid).is_empty());
            let propagation = if has_dependents && blocks(&object, owner_uid) {
                Propagation::Foreground
            } else {
                Propagation::Background
            };
            self.delete_quietly(&key, propagation);
        }
        self.finish_foreground(owner_uid);
    }

    /// Lets an owner go that waited for its dependents, when none is left that blocks it.
    fn finish_foreground(&mut self, owner_uid: &str) {
        let Some(key) = self.by_uid(owner_uid).cloned() else {
            return;
        };
        let Some(owner) = self.object(&key).cloned() else {
            return;
        };
        let finalizers = owner["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        if owner["metadata"]["deletionTimestamp"].is_null() || !finalizers.iter().any(|f| f == FOREGROUND) {
            return;
        }
        let blocked = self
            .dependents(owner_uid)
            .iter()
            .filter_map(|key| self.object(key))
            .any(|object| blocks(object, owner_uid));
        if !blocked {
            self.remove_finalizer(&key, &owner, FOREGROUND);
        }
    }

    /// Takes a finalizer off an object and removes the object when it was the last thing to wait for.
    pub(crate) fn remove_finalizer(&mut self, key: &ObjectKey, object: &Value, finalizer: &str) {
        let mut new = object.clone();
        let mut left = 0;
        if let Some(finalizers) = new["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|f| f != finalizer);
            left = finalizers.len();
        }
        if left == 0 {
            super::write::remove(&mut new["metadata"], "finalizers");
        }
        let done = left == 0
            && !new["metadata"]["deletionTimestamp"].is_null()
            && new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
        if done {
            self.remove(key);
        } else {
            self.put(key, new);
        }
    }

    /// Deletes an object that may already be gone or going.
    pub(crate) fn delete_quietly(&mut self, key: &ObjectKey, propagation: Propagation) {
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        // The only errors are 404 (gone meanwhile, which is what was wanted) and preconditions (none given).
        let _ = delete(self, key, &options, false);
    }
}

fn blocks(dependent: &Value, owner_uid: &str) -> bool {
    let references = dependent["metadata"]["ownerReferences"].as_array();
    references
        .into_iter()
        .flatten()
        .any(|r| r["uid"] == owner_uid && r["blockOwnerDeletion"] == true)
}

fn awaits_orphaning(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|f| f.iter().any(|f| f == "orphan"))
}
