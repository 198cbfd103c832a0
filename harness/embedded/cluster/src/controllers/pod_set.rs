//! What the controllers that make pods have in common: which pods are theirs, and making one from a template.

use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::store::Subresource;
use meshproof_apiserver::{LabelSelector, Selector, Status, Store, gvr};
use serde_json::{Value, json};

use crate::object::{self, namespace, uid};
use crate::pace::Pace;

/// Pods that a controller makes or deletes before it looks again and lets others have their turn. Whatever number an object
/// asks for, one step towards it is small; how many pods there can be at all is the API server's to bound.
pub(crate) const BURST: usize = 25;

/// The pods that `owner` manages. On the way, matching pods without a manager are adopted, and pods that ceased to match
/// are let go, as a label edit on a pod does on real clusters.
pub(crate) fn claim(
    store: &Store,
    owner: &Value,
    reference: &Value,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Value>>, Status> {
    let pods = store.list(&gvr::PODS, Some(namespace(owner)), &Selector::all())?.items;
    let mut own = Vec::new();
    for pod in pods {
        let matches = selector.matches_labels(&pod["metadata"]["labels"]);
        match object::controller_uid(&pod) {
            Some(owner_uid) if owner_uid == uid(owner) => {
                if matches {
                    own.push(pod);
                } else if !object::is_being_deleted(&pod) {
                    edit_owners(store, &pod, |owners| {
                        owners.retain(|r| r["uid"] != reference["uid"]);
                    })?;
                }
            }
            Some(_) => {}
            None if matches && object::is_active_pod(&pod) && !object::is_being_deleted(owner) => {
                own.push(edit_owners(store, &pod, |owners| owners.push(reference.clone()))?);
            }
            None => {}
        }
    }
    Ok(own)
}

fn edit_owners(store: &Store, pod: &Value, edit: impl FnOnce(&mut Vec<Value>)) -> Result<Arc<Value>, Status> {
    let namespace = Some(namespace(pod));
    let part = Subresource::Main;
    store.modify(&gvr::PODS, namespace, object::name(pod), part, |pod| {
        let metadata = &mut pod["metadata"];
        if !metadata["ownerReferences"].is_array() {
            metadata["ownerReferences"] = json!([]);
        }
        if let Some(owners) = metadata["ownerReferences"].as_array_mut() {
            edit(owners);
        }
        true
    })
}

/// A pod made from the template in `owner`. The caller adds its name or `generateName`.
pub(crate) fn pod_from_template(owner: &Value, reference: &Value) -> Value {
    let template = &owner["spec"]["template"];
    let mut pod = json!({
        "metadata": {"namespace": namespace(owner), "ownerReferences": [reference]},
        "spec": template["spec"],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            pod["metadata"][field] = template["metadata"][field].clone();
        }
    }
    pod
}

/// How many of the pods are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ready: i64,
    pub(crate) available: i64,
}

/// Counts ready and available pods. Also tells after how much wall time another pod becomes available.
pub(crate) fn tally(pods: &[Arc<Value>], min_ready_seconds: i64, pace: Pace) -> (Tally, Option<Duration>) {
    let mut tally = Tally::default();
    let mut next: Option<Duration> = None;
    for pod in pods {
        match availability(pod, min_ready_seconds, pace) {
            Availability::NotReady => {}
            Availability::Available => {
                tally.ready += 1;
                tally.available += 1;
            }
            Availability::In(wait) => {
                tally.ready += 1;
                next = Some(next.map_or(wait, |n| n.min(wait)));
            }
        }
    }
    (tally, next)
}

/// Whether a pod has been ready for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    NotReady,
    /// Ready; available after so much more wall time.
    In(Duration),
    Available,
}

pub(crate) fn availability(pod: &Value, min_ready_seconds: i64, pace: Pace) -> Availability {
    if !object::is_ready_pod(pod) {
        return Availability::NotReady;
    }
    let needed = pace.wall(Duration::from_secs(min_ready_seconds.try_into().unwrap_or_default()));
    let since = object::condition(pod, "Ready").and_then(|c| object::time(&c["lastTransitionTime"]));
    let ready_for = since.map_or(Duration::MAX, |since| {
        let passed = jiff::Timestamp::now().duration_since(since);
        Duration::try_from(passed).unwrap_or_default()
    });
    match needed.checked_sub(ready_for) {
        Some(left) if !left.is_zero() => Availability::In(left),
        _ => Availability::Available,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: &str, seconds_ago: i64) -> Arc<Value> {
        let since = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
        Arc::new(json!({"status": {"conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": since.to_string()}
        ]}}))
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_for_long_enough() {
        let pods = [pod("True", 100), pod("True", 1), pod("False", 100)];
        let (found, next) = tally(&pods, 0, Pace::NORMAL);
        assert_eq!((found.ready, found.available, next), (2, 2, None));
        let (found, next) = tally(&pods, 10, Pace::NORMAL);
        assert_eq!((found.ready, found.available), (2, 1));
        let next = next.unwrap();
        assert!(next > Duration::from_secs(8) && next < Duration::from_secs(10));
        let (found, _) = tally(&pods, 10, Pace::new(20.0));
        assert_eq!(found.available, 2, "10 s are half a second at pace 20");
    }
}
