//! The ReplicaSet controller: as many pods as wanted.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::store::{DeleteOptions, Subresource};
use meshproof_apiserver::{Gvr, Selector, Status, Store, gvr};
use serde_json::{Value, json};

use super::pod_set::{BURST, claim, pod_from_template, tally};
use crate::events::{Recorder, Severity};
use crate::object::{self, Key, count, name, namespace, text};
use crate::pace::Pace;
use crate::work_queue::Controller;

/// Makes and deletes the pods of ReplicaSets.
pub(crate) struct ReplicaSetController {
    store: Store,
    events: Recorder,
    pace: Pace,
}

impl ReplicaSetController {
    pub(crate) fn new(store: &Store, pace: Pace) -> Self {
        Self {
            store: store.with_manager("replicaset-controller"),
            events: Recorder::new(store, "replicaset-controller", None),
            pace,
        }
    }

    /// Creates or deletes pods, at most a burst of them; the changes of these bring the set here again. Returns an error text
    /// for the status.
    fn scale(&self, set: &Value, active: &[Arc<Value>]) -> Result<(), Status> {
        let wanted = usize::try_from(count(&set["spec"]["replicas"])).unwrap_or(0);
        for _ in (active.len()..wanted).take(BURST) {
            let reference = object::owner_reference("apps/v1", "ReplicaSet", set);
            let mut pod = pod_from_template(set, &reference);
            pod["metadata"]["generateName"] = json!(format!("{}-", name(set)));
            match self.store.create(&gvr::PODS, Some(namespace(set)), pod) {
                Ok(pod) => {
                    let message = format!("Created pod: {}", name(&pod));
                    self.event(set, Severity::Normal, "SuccessfulCreate", &message);
                }
                Err(status) => {
                    let message = format!("Error creating: {}", status.message);
                    self.event(set, Severity::Warning, "FailedCreate", &message);
                    return Err(status);
                }
            }
        }
        if active.len() > wanted {
            let mut candidates: Vec<_> = active.iter().collect();
            candidates.sort_by_key(|pod| deletion_rank(pod));
            for pod in candidates.iter().take((active.len() - wanted).min(BURST)) {
                let options = DeleteOptions::default();
                match self.store.delete(&gvr::PODS, Some(namespace(set)), name(pod), &options) {
                    Err(status) if !status.is_not_found() => return Err(status),
                    _ => {
                        let message = format!("Deleted pod: {}", name(pod));
                        self.event(set, Severity::Normal, "SuccessfulDelete", &message);
                    }
                }
            }
        }
        Ok(())
    }

    fn event(&self, set: &Value, severity: Severity, reason: &str, message: &str) {
        self.events.event(set, None, severity, reason, message);
    }
}

/// Pods that are deleted first sort first: not scheduled, not ready, then the youngest.
fn deletion_rank(pod: &Value) -> (bool, bool, Reverse<String>, String) {
    (
        !text(&pod["spec"]["nodeName"]).is_empty(),
        object::is_ready_pod(pod),
        Reverse(text(&pod["metadata"]["creationTimestamp"]).to_owned()),
        name(pod).to_owned(),
    )
}

impl Controller for ReplicaSetController {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::REPLICA_SETS, gvr::PODS]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::REPLICA_SETS {
            return vec![Key::of(changed)];
        }
        match object::controller_reference(changed) {
            Some(owner) if owner["kind"] == "ReplicaSet" => {
                vec![Key::new(namespace(changed), text(&owner["name"]))]
            }
            Some(_) => Vec::new(),
            // A pod without a manager may be adopted by whichever set selects it.
            None => sets_that_select(&self.store, changed),
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let namespace = Some(key.namespace.as_str());
        let set = match self.store.get(&gvr::REPLICA_SETS, namespace, &key.name) {
            Ok(set) => set,
            Err(status) if status.is_not_found() => return Ok(None),
            Err(status) => return Err(status),
        };
        let Some(selector) = object::selector(&set) else {
            return Ok(None);
        };
        let reference = object::owner_reference("apps/v1", "ReplicaSet", &set);
        let active = |pods: Vec<Arc<Value>>| -> Vec<Arc<Value>> {
            pods.into_iter().filter(|p| object::is_active_pod(p)).collect()
        };
        let pods = active(claim(&self.store, &set, &reference, &selector)?);
        let scaled = if object::is_being_deleted(&set) {
            Ok(())
        } else {
            self.scale(&set, &pods)
        };
        let pods = active(claim(&self.store, &set, &reference, &selector)?);
        let (tally, next) = tally(&pods, count(&set["spec"]["minReadySeconds"]), self.pace);
        let template_labels = &set["spec"]["template"]["metadata"]["labels"];
        let labelled = pods.iter().filter(|p| has_labels(p, template_labels)).count();
        let change = |set: &mut Value| {
            let mut status = json!({
                "replicas": pods.len(),
                "observedGeneration": set["metadata"]["generation"],
            });
            for (field, number) in [
                ("fullyLabeledReplicas", labelled as i64),
                ("readyReplicas", tally.ready),
                ("availableReplicas", tally.available),
            ] {
                if number > 0 {
                    status[field] = json!(number);
                }
            }
            if let Err(failure) = &scaled {
                let earlier = object::condition(set, "ReplicaFailure");
                let since = earlier.map_or_else(object::now, |c| c["lastTransitionTime"].clone());
                status["conditions"] = json!([{
                    "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                    "message": failure.message, "lastTransitionTime": since,
                }]);
            }
            let changed = set["status"] != status;
            set["status"] = status;
            changed
        };
        let part = Subresource::Status;
        self.store
            .modify(&gvr::REPLICA_SETS, namespace, &key.name, part, change)?;
        scaled.map(|()| next)
    }
}

fn has_labels(pod: &Value, labels: &Value) -> bool {
    object::map(labels)
        .iter()
        .all(|(key, value)| pod["metadata"]["labels"][key] == *value)
}

fn sets_that_select(store: &Store, pod: &Value) -> Vec<Key> {
    let sets = store.list(&gvr::REPLICA_SETS, Some(namespace(pod)), &Selector::all());
    sets.map(|l| l.items)
        .unwrap_or_default()
        .iter()
        .filter(|set| object::selector(set).is_some_and(|s| s.matches_labels(&pod["metadata"]["labels"])))
        .map(|set| Key::of(set))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_matter_least_are_deleted_first() {
        let pod = |name: &str, node: &str, ready: &str, created: &str| {
            json!({
                "metadata": {"name": name, "creationTimestamp": created},
                "spec": {"nodeName": node},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let mut pods = [
            pod("old", "n", "True", "2026-01-01T00:00:00Z"),
            pod("young", "n", "True", "2026-01-02T00:00:00Z"),
            pod("unready", "n", "False", "2026-01-01T00:00:00Z"),
            pod("unscheduled", "", "False", "2026-01-01T00:00:00Z"),
        ];
        pods.sort_by_key(deletion_rank);
        let names: Vec<_> = pods.iter().map(name).collect();
        assert_eq!(names, ["unscheduled", "unready", "young", "old"]);
    }
}
