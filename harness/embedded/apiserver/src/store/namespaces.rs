//! The end of a namespace: terminating first, emptied a little later, gone when nothing is left in it.
//!
//! As the namespace controller does it (`pkg/controller/namespace`): what is deleted within the first seconds by whoever deleted
//! the namespace is still there for them, and pods get the time that they ask for.

use super::state::{Consequence, ObjectKey, State, namespace_key};
use super::{Propagation, Store, WatchKind};
use crate::{Selector, gvr};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the content of a namespace stays after the namespace was deleted: `namespaceDeletionGracePeriod` in
/// `pkg/controller/namespace/namespace_controller.go`.
pub const NAMESPACE_DELETION_GRACE: Duration = Duration::from_secs(5);

/// Empties deleted namespaces after their time, until `stop`.
pub(crate) async fn run(store: Store, grace: Duration, mut stop: watch::Receiver<bool>) {
    let mut changes = match store.informer(&gvr::NAMESPACES, None, &Selector::all()) {
        Ok(changes) => changes,
        Err(status) => {
            tracing::error!(%status, "deleted namespaces will not be emptied: cannot watch namespaces");
            return;
        }
    };
    let mut known = HashSet::<String>::new();
    let mut due = FuturesUnordered::<BoxFuture<'static, (String, String)>>::new();
    loop {
        let change = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            Some((name, uid)) = due.next() => {
                known.remove(&uid);
                store.empty_namespace(name, &uid);
                continue;
            }
            change = changes.next() => change,
        };
        let Some(Ok(change)) = change else { return };
        let metadata = &change.object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let terminates =
            matches!(change.kind, WatchKind::Added | WatchKind::Modified) && !metadata["deletionTimestamp"].is_null();
        let (name, uid) = (text("name"), text("uid"));
        if terminates && !store.is_emptying(&uid) && known.insert(uid.clone()) {
            due.push(Box::pin(async move {
                tokio::time::sleep(grace).await;
                (name, uid)
            }));
        }
    }
}

impl Store {
    /// Begins to empty a namespace, if it is the one with this uid and terminates.
    fn empty_namespace(&self, name: String, uid: &str) {
        let mut state = self.lock();
        let is_it = state
            .namespace(&name)
            .is_some_and(|found| found["metadata"]["uid"] == *uid && !found["metadata"]["deletionTimestamp"].is_null());
        if is_it {
            state.pending.push_back(Consequence::EmptyNamespace(name));
            state.settle();
        }
    }

    /// All objects in a namespace, of all kinds, and the namespace itself.
    #[must_use]
    pub fn namespace_and_content(&self, name: &str) -> Vec<Arc<Value>> {
        let state = self.lock();
        let content = state.namespace_content(name).into_iter();
        let keys = content.chain([super::state::namespace_key(name)]);
        keys.filter_map(|key| state.object(&key).cloned()).collect()
    }

    fn is_emptying(&self, uid: &str) -> bool {
        self.lock().emptying.contains(uid)
    }
}

impl State {
    /// Deletes the whole content of a namespace.
    pub(super) fn empty_namespace(&mut self, name: &str) {
        if let Some(uid) = self.namespace(name).and_then(|found| found["metadata"]["uid"].as_str()) {
            let uid = uid.to_owned();
            self.emptying.insert(uid);
        }
        for key in self.namespace_content(name) {
            self.delete_quietly(&key, Propagation::Background);
        }
        self.pending
            .push_back(Consequence::NamespaceContentGone(name.to_owned()));
    }

    fn namespace_content(&self, name: &str) -> Vec<ObjectKey> {
        let first = (name.to_owned(), String::new());
        let mut keys: Vec<ObjectKey> = self
            .tables()
            .flat_map(|(storage, table)| {
                let objects = table
                    .objects
                    .range(first.clone()..)
                    .take_while(|((namespace, _), _)| namespace == name);
                objects.map(|((namespace, name), _)| ObjectKey {
                    storage: storage.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                })
            })
            .collect();
        keys.sort();
        keys
    }

    /// Removes a terminating namespace that is being emptied when nothing is left in it, or says in its conditions what is.
    pub(super) fn finish_namespace(&mut self, name: &str) {
        let key = namespace_key(name);
        let Some(namespace) = self.object(&key).cloned() else {
            return;
        };
        let uid = namespace["metadata"]["uid"].as_str().unwrap_or_default();
        if namespace["metadata"]["deletionTimestamp"].is_null() || !self.emptying.contains(uid) {
            return;
        }
        let content = self.namespace_content(name);
        if content.is_empty() && namespace["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.emptying.remove(uid);
            self.remove(&key);
            return;
        }
        let conditions = self.namespace_conditions(&content);
        if namespace["status"]["conditions"] != conditions {
            let mut new = (*namespace).clone();
            new["status"]["conditions"] = conditions;
            self.put(&key, new);
        }
    }

    fn namespace_conditions(&self, content: &[ObjectKey]) -> Value {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
        for key in content {
            // The dot also without a group, as in Kubernetes' own messages.
            let resource = format!("{}.{}", key.storage.resource, key.storage.group);
            *counts.entry(resource).or_default() += 1;
            let object = self.object(key);
            for finalizer in object
                .and_then(|o| o["metadata"]["finalizers"].as_array())
                .into_iter()
                .flatten()
            {
                *finalizers
                    .entry(finalizer.as_str().unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
        }
        let list = |counts: &BTreeMap<String, usize>, middle: &str, end: &str| {
            let told = counts.iter().map(|(name, n)| format!("{name} {middle} {n} {end}"));
            told.collect::<Vec<_>>().join(", ")
        };
        let mut conditions = Vec::new();
        if !counts.is_empty() {
            conditions.push(json!({
                "type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain",
                "message": format!("Some resources are remaining: {}", list(&counts, "has", "resource instances")),
            }));
        }
        if !finalizers.is_empty() {
            conditions.push(json!({
                "type": "NamespaceFinalizersRemaining", "status": "True", "reason": "SomeFinalizersRemain",
                "message": format!("Some content in the namespace has finalizers remaining: {}", list(&finalizers, "in", "resource instances")),
            }));
        }
        Value::Array(conditions)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::{DeleteOptions, Store, StoreConfig};
    use crate::{ApiServer, ServerConfig, gvr};
    use serde_json::json;
    use std::time::Duration;

    #[tokio::test]
    async fn a_namespace_terminates_with_its_content_for_a_while() {
        let server = ApiServer::start(ServerConfig {
            namespace_deletion_grace: Duration::from_millis(300),
            ..ServerConfig::default()
        })
        .await
        .unwrap();
        let store = server.store();
        store
            .create(&gvr::NAMESPACES, None, json!({"metadata": {"name": "shop"}}))
            .unwrap();
        for name in ["a", "b"] {
            store
                .create(&gvr::CONFIG_MAPS, Some("shop"), json!({"metadata": {"name": name}}))
                .unwrap();
        }
        let options = DeleteOptions::default();
        let deleted = store.delete(&gvr::NAMESPACES, None, "shop", &options).unwrap();
        assert_eq!(deleted.object()["status"]["phase"], "Terminating");
        assert_eq!(deleted.object()["spec"]["finalizers"], json!(["kubernetes"]));
        store.delete(&gvr::CONFIG_MAPS, Some("shop"), "a", &options).unwrap();
        let again = store.delete(&gvr::NAMESPACES, None, "shop", &options).unwrap();
        assert_eq!(
            again.object()["metadata"]["name"],
            "shop",
            "a second deletion changes nothing"
        );
        assert!(store.get(&gvr::CONFIG_MAPS, Some("shop"), "b").is_ok());
        let mut namespaces = store.informer(&gvr::NAMESPACES, None, &crate::Selector::all()).unwrap();
        let gone = async {
            use futures::StreamExt;
            while let Some(Ok(change)) = namespaces.next().await {
                if change.kind == crate::store::WatchKind::Deleted {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
        assert!(
            store
                .get(&gvr::CONFIG_MAPS, Some("shop"), "b")
                .unwrap_err()
                .is_not_found()
        );
        assert!(store.lock().emptying.is_empty());
        server.shutdown().await;
    }

    #[test]
    fn what_the_cluster_lives_on_can_not_be_deleted() {
        let store = Store::new(StoreConfig::default());
        for name in ["default", "kube-system", "kube-public"] {
            let refused = store
                .delete(&gvr::NAMESPACES, None, name, &DeleteOptions::default())
                .unwrap_err();
            let expected = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
            assert_eq!((refused.code, refused.message), (403, expected));
        }
        store
            .delete(&gvr::NAMESPACES, None, "kube-node-lease", &DeleteOptions::default())
            .unwrap();
    }
}
