//! What a cluster takes at most, so that no client and no controller makes the process grow without end.
//!
//! Numbers in objects (replicas, parallelism) end here, whatever makes pods of them: pods beyond the bound are refused as a
//! ResourceQuota would, and everything else goes on. All objects together have the bound that etcd has.

use super::state::{ObjectKey, State};
use crate::Status;
use serde_json::Value;

/// Pods of a cluster: several times what its node runs, so that pods that wait for a node can be seen.
pub(crate) const MAX_PODS: usize = 500;

/// Bytes of all objects of a cluster, as [`size`] counts them.
const MAX_BYTES: usize = 128 << 20;

/// Bytes of one object as JSON: what etcd takes in a request. Many small parts may take eight times as much in memory.
const MAX_OBJECT_BYTES: usize = 1536 << 10;

/// Events that are kept, the newest. Kubernetes keeps them for an hour.
pub(super) const MAX_EVENTS: usize = 5_000;

/// Refuses an object that is new, when there are too many already.
pub(super) fn check_number(state: &State, key: &ObjectKey) -> Result<(), Status> {
    let (group, resource) = (&*key.storage.group, &*key.storage.resource);
    if !group.is_empty() || resource != "pods" {
        return Ok(());
    }
    let used = state.table(&key.storage).map_or(0, |pods| pods.objects.len());
    if used < MAX_PODS {
        return Ok(());
    }
    let why =
        format!("exceeded quota: embedded-cluster, requested: pods=1, used: pods={used}, limited: pods={MAX_PODS}");
    Err(Status::forbidden(group, resource, &key.name, &why))
}

/// Refuses an object that is too large, and what makes the cluster's objects larger than they may be together.
pub(super) fn check_size(state: &State, before: Option<&Value>, after: &Value) -> Result<(), Status> {
    let (old, new) = (before.map_or(0, size), size(after));
    // Every byte of text is in the size: most objects need no second look.
    if new > MAX_OBJECT_BYTES && (new > 8 * MAX_OBJECT_BYTES || crate::size::text_length(after) > MAX_OBJECT_BYTES) {
        return Err(Status::too_large(MAX_OBJECT_BYTES));
    }
    if new <= old || state.bytes() - old + new <= MAX_BYTES {
        return Ok(());
    }
    Err(Status::internal(format!(
        "etcdserver: mvcc: database space exceeded (an embedded cluster keeps {} MiB of objects; delete some)",
        MAX_BYTES >> 20
    )))
}

/// About what an object takes in memory.
pub(super) fn size(value: &Value) -> usize {
    const NODE: usize = 32;
    NODE + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| NODE + name.len() + size(value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use crate::store::{DeleteOptions, Store, StoreConfig};
    use crate::{Selector, gvr};
    use serde_json::json;

    #[test]
    fn pods_beyond_the_bound_are_refused_and_everything_else_goes_on() {
        let store = Store::new(StoreConfig::default());
        let pod = || json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
        for _ in 0..super::MAX_PODS {
            store.create(&gvr::PODS, Some("default"), pod()).unwrap();
        }
        let refused = store.create(&gvr::PODS, Some("default"), pod()).unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(refused.message.contains("exceeded quota"), "{}", refused.message);
        store
            .create(&gvr::CONFIG_MAPS, Some("default"), json!({"metadata": {"name": "c"}}))
            .unwrap();
        let some = store.list(&gvr::PODS, None, &Selector::all()).unwrap().items[0].clone();
        let name = some["metadata"]["name"].as_str().unwrap();
        store
            .delete(&gvr::PODS, Some("default"), name, &DeleteOptions::now())
            .unwrap();
        store.create(&gvr::PODS, Some("default"), pod()).unwrap();
    }

    #[test]
    fn objects_have_a_bound_together_and_room_comes_back() {
        let store = Store::new(StoreConfig::default());
        let large = json!("x".repeat(1_000_000));
        let map = |name: &str| json!({"metadata": {"name": name}, "data": {"a": large}});
        let mut made = 0;
        let refused = loop {
            match store.create(&gvr::CONFIG_MAPS, Some("default"), map(&format!("m{made}"))) {
                Ok(_) => made += 1,
                Err(status) => break status,
            }
        };
        assert!(
            refused.message.contains("database space exceeded"),
            "{}",
            refused.message
        );
        assert!((130..135).contains(&made), "{made}");
        store
            .create(
                &gvr::CONFIG_MAPS,
                Some("default"),
                json!({"metadata": {"name": "small"}}),
            )
            .unwrap();
        let grown = store.modify(
            &gvr::CONFIG_MAPS,
            Some("default"),
            "small",
            crate::store::Subresource::Main,
            |map| {
                map["data"] = json!({"a": large});
                true
            },
        );
        assert_eq!(grown.unwrap_err().code, 500);
        store
            .delete(&gvr::CONFIG_MAPS, Some("default"), "m0", &DeleteOptions::default())
            .unwrap();
        store.create(&gvr::CONFIG_MAPS, Some("default"), map("again")).unwrap();
    }

    #[test]
    fn the_newest_events_are_kept() {
        let store = Store::new(StoreConfig::default());
        for number in 0..super::MAX_EVENTS + 3 {
            let event = json!({
                "metadata": {"name": format!("e{number}")},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
            });
            store.create(&gvr::EVENTS, Some("default"), event).unwrap();
        }
        assert_eq!(
            store.list(&gvr::EVENTS, None, &Selector::all()).unwrap().items.len(),
            super::MAX_EVENTS
        );
        assert!(
            store
                .get(&gvr::EVENTS, Some("default"), "e2")
                .unwrap_err()
                .is_not_found()
        );
        assert!(store.get(&gvr::EVENTS, Some("default"), "e3").is_ok());
    }
}
