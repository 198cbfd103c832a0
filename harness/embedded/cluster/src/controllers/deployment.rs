//! The Deployment controller: ReplicaSets per revision of the template, and the way from one to the next.

use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::store::{DeleteOptions, Subresource};
use meshproof_apiserver::{Gvr, Selector, Status, Store, gvr};
use serde_json::{Map, Value, json};

use super::deployment_status::status;
use super::rollout::{self, Limits, SetState};
use crate::events::{Recorder, Severity};
use crate::object::{self, Key, count, name, namespace, text, uid};
use crate::pace::Pace;
use crate::work_queue::Controller;

const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Rolls Deployments out.
pub(crate) struct DeploymentController {
    store: Store,
    events: Recorder,
    pace: Pace,
}

impl DeploymentController {
    pub(crate) fn new(store: &Store, pace: Pace) -> Self {
        Self {
            store: store.with_manager("deployment-controller"),
            events: Recorder::new(store, "deployment-controller", None),
            pace,
        }
    }
}

impl Controller for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::DEPLOYMENTS, gvr::REPLICA_SETS, gvr::PODS]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::DEPLOYMENTS {
            return vec![Key::of(changed)];
        }
        let Some(owner) = object::controller_reference(changed) else {
            return Vec::new();
        };
        let key = Key::new(namespace(changed), text(&owner["name"]));
        match text(&owner["kind"]) {
            "Deployment" => vec![key],
            // Only a Recreate waits for pods to be gone; everything else shows in the ReplicaSet's status.
            "ReplicaSet" if object::is_being_deleted(changed) => {
                let set = self.store.get(&gvr::REPLICA_SETS, Some(&key.namespace), &key.name);
                let owner = set.ok().and_then(|set| {
                    let owner = object::controller_reference(&set)?;
                    Some(Key::new(&key.namespace, text(&owner["name"])))
                });
                owner.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let deployment = match self.store.get(&gvr::DEPLOYMENTS, Some(&key.namespace), &key.name) {
            Ok(deployment) => deployment,
            Err(status) if status.is_not_found() => return Ok(None),
            Err(status) => return Err(status),
        };
        if object::selector(&deployment).is_none() {
            return Ok(None);
        }
        if !object::is_being_deleted(&deployment) {
            self.roll(&deployment)?;
        }
        self.update_status(&deployment)
    }
}

impl DeploymentController {
    /// The Deployment's ReplicaSets, oldest first.
    fn sets(&self, deployment: &Value) -> Result<Vec<Arc<Value>>, Status> {
        let mut sets = self
            .store
            .list(&gvr::REPLICA_SETS, Some(namespace(deployment)), &Selector::all())?
            .items;
        sets.retain(|s| object::controller_uid(s) == Some(uid(deployment)));
        sets.sort_by_key(|s| (revision(s), name(s).to_owned()));
        Ok(sets)
    }

    fn roll(&self, deployment: &Value) -> Result<(), Status> {
        let replicas = count(&deployment["spec"]["replicas"]);
        let sets = self.sets(deployment)?;
        let (new, old) = split(deployment, &sets);
        let strategy = &deployment["spec"]["strategy"];
        let recreate = strategy["type"] == "Recreate";
        if deployment["spec"]["paused"] == true {
            // A paused Deployment is scaled, but not rolled on.
            if let Some(active) = sets.iter().rev().find(|s| wanted(s) > 0).or(new) {
                self.scale(deployment, active, replicas)?;
            }
            return Ok(());
        }
        if recreate {
            for set in &old {
                self.scale(deployment, set, 0)?;
            }
            if self.old_pods_remain(deployment, &old)? {
                return Ok(());
            }
        }
        let new = self.new_set(deployment, new, &old)?;
        if recreate {
            self.scale(deployment, &new, replicas)?;
        } else {
            let limits = Limits::of(strategy, replicas);
            let states: Vec<SetState> = old.iter().map(|s| state(s)).collect();
            let target = rollout::new_set(replicas, limits, state(&new), &states);
            self.scale(deployment, &new, target)?;
            let grown = SetState {
                wanted: target,
                ..state(&new)
            };
            let targets = rollout::old_sets(replicas, limits, grown, &states);
            for (set, target) in old.iter().zip(targets) {
                self.scale(deployment, set, target)?;
            }
        }
        self.clean_up(deployment, &old)
    }

    fn old_pods_remain(&self, deployment: &Value, old: &[&Arc<Value>]) -> Result<bool, Status> {
        let pods = self
            .store
            .list(&gvr::PODS, Some(namespace(deployment)), &Selector::all())?
            .items;
        Ok(pods.iter().any(|pod| {
            let owner = object::controller_uid(pod);
            !object::has_ended(pod) && old.iter().any(|set| owner == Some(uid(set)))
        }))
    }

    /// The ReplicaSet of the present template, made or brought up to date.
    fn new_set(&self, deployment: &Value, new: Option<&Arc<Value>>, old: &[&Arc<Value>]) -> Result<Arc<Value>, Status> {
        let latest_old = old.iter().map(|s| revision(s)).max().unwrap_or(0);
        let revision = match new {
            // An old template that is wanted again gets the next revision: a rollback.
            Some(set) if self::revision(set) > latest_old => self::revision(set),
            _ => latest_old + 1,
        };
        let annotations = set_annotations(deployment, revision);
        let set = match new {
            Some(set) => self.annotate(&gvr::REPLICA_SETS, set, &annotations)?,
            None => self.create_set(deployment, &annotations)?,
        };
        let mut own = Map::new();
        own.insert(REVISION.into(), json!(revision.to_string()));
        self.annotate(&gvr::DEPLOYMENTS, deployment, &own)?;
        Ok(set)
    }

    fn create_set(&self, deployment: &Value, annotations: &Map<String, Value>) -> Result<Arc<Value>, Status> {
        let template = &deployment["spec"]["template"];
        let hash = object::template_hash(template);
        let mut template = template.clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let mut set = json!({
            "metadata": {
                "name": format!("{}-{hash}", name(deployment)),
                "namespace": namespace(deployment),
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [object::owner_reference("apps/v1", "Deployment", deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        });
        if !deployment["spec"]["minReadySeconds"].is_null() {
            set["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"].clone();
        }
        self.store.create(&gvr::REPLICA_SETS, Some(namespace(deployment)), set)
    }

    /// Adds annotations that are missing or differ.
    fn annotate(&self, gvr: &Gvr, object: &Value, annotations: &Map<String, Value>) -> Result<Arc<Value>, Status> {
        let (namespace, part) = (Some(namespace(object)), Subresource::Main);
        self.store.modify(gvr, namespace, name(object), part, |object| {
            let mut present = object::map(&object["metadata"]["annotations"]);
            let before = present.clone();
            present.extend(annotations.clone());
            let changed = present != before;
            object["metadata"]["annotations"] = Value::Object(present);
            changed
        })
    }

    fn scale(&self, deployment: &Value, set: &Value, target: i64) -> Result<(), Status> {
        let before = wanted(set);
        if before == target {
            return Ok(());
        }
        let (namespace, part) = (Some(namespace(set)), Subresource::Main);
        let change = |set: &mut Value| {
            set["spec"]["replicas"] = json!(target);
            true
        };
        match self
            .store
            .modify(&gvr::REPLICA_SETS, namespace, name(set), part, change)
        {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
        let direction = if target > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {target}", name(set));
        self.events
            .event(deployment, None, Severity::Normal, "ScalingReplicaSet", &message);
        Ok(())
    }

    /// Deletes the oldest empty sets beyond the history limit.
    fn clean_up(&self, deployment: &Value, old: &[&Arc<Value>]) -> Result<(), Status> {
        let limit = deployment["spec"]["revisionHistoryLimit"].as_u64().unwrap_or(10);
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        let empty = |set: &&&Arc<Value>| {
            wanted(set) == 0
                && count(&set["status"]["replicas"]) == 0
                && set["metadata"]["generation"] == set["status"]["observedGeneration"]
        };
        for set in old.iter().take(surplus).filter(empty) {
            let options = DeleteOptions::default();
            let namespace = Some(namespace(set));
            match self.store.delete(&gvr::REPLICA_SETS, namespace, name(set), &options) {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }

    fn update_status(&self, deployment: &Value) -> Result<Option<Duration>, Status> {
        let sets = self.sets(deployment)?;
        let pace = self.pace;
        let mut again = None;
        let change = |deployment: &mut Value| {
            let (new, _) = split(deployment, &sets);
            let (status, deadline) = status(deployment, new.map(AsRef::as_ref), &sets, pace);
            again = deadline;
            let changed = deployment["status"] != status;
            deployment["status"] = status;
            changed
        };
        let namespace = Some(namespace(deployment));
        let part = Subresource::Status;
        match self
            .store
            .modify(&gvr::DEPLOYMENTS, namespace, name(deployment), part, change)
        {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(again),
        }
    }
}

fn revision(set: &Value) -> u64 {
    text(&set["metadata"]["annotations"][REVISION]).parse().unwrap_or(0)
}

fn wanted(set: &Value) -> i64 {
    count(&set["spec"]["replicas"])
}

fn state(set: &Value) -> SetState {
    SetState {
        wanted: wanted(set),
        available: count(&set["status"]["availableReplicas"]),
    }
}

/// The set of the present template, and all others.
fn split<'a>(deployment: &Value, sets: &'a [Arc<Value>]) -> (Option<&'a Arc<Value>>, Vec<&'a Arc<Value>>) {
    let template = without_hash(&deployment["spec"]["template"]);
    let new = sets
        .iter()
        .position(|s| without_hash(&s["spec"]["template"]) == template);
    let old = sets
        .iter()
        .enumerate()
        .filter(|(i, _)| Some(*i) != new)
        .map(|(_, s)| s)
        .collect();
    (new.map(|i| &sets[i]), old)
}

/// The template without what the controller and the API server put in on the way.
fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    template
}

/// Annotations of a new ReplicaSet: the Deployment's own, its revision, and the numbers that scaling needs.
fn set_annotations(deployment: &Value, revision: u64) -> Map<String, Value> {
    let mut annotations = object::map(&deployment["metadata"]["annotations"]);
    annotations.remove(LAST_APPLIED);
    let replicas = count(&deployment["spec"]["replicas"]);
    let surge = match text(&deployment["spec"]["strategy"]["type"]) {
        "Recreate" => 0,
        _ => Limits::of(&deployment["spec"]["strategy"], replicas).surge,
    };
    annotations.insert(REVISION.into(), json!(revision.to_string()));
    annotations.insert(DESIRED.into(), json!(replicas.to_string()));
    annotations.insert(MAX.into(), json!((replicas + surge).to_string()));
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(image: &str) -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "d", "generation": 3,
                "annotations": {"team": "a", LAST_APPLIED: "{}"}},
            "spec": {
                "replicas": 4,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": image}]}},
            },
        })
    }

    fn set(name: &str, image: &str, wanted: i64, ready: i64) -> Arc<Value> {
        let mut template = deployment(image)["spec"]["template"].clone();
        template["metadata"]["labels"][HASH] = json!(name);
        Arc::new(json!({
            "metadata": {"name": name, "annotations": {REVISION: "1"}},
            "spec": {"replicas": wanted, "template": template},
            "status": {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready},
        }))
    }

    #[test]
    fn the_set_of_the_template_is_found_behind_its_hash() {
        let sets = [set("web-1", "a:1", 2, 2), set("web-2", "a:2", 2, 2)];
        let (new, old) = split(&deployment("a:2"), &sets);
        assert_eq!(name(new.unwrap()), "web-2");
        assert_eq!(old.len(), 1);
        assert!(split(&deployment("a:3"), &sets).0.is_none());
    }

    #[test]
    fn a_set_carries_the_deployments_annotations_but_not_kubectls() {
        let annotations = set_annotations(&deployment("a:1"), 7);
        assert_eq!(
            json!(annotations),
            json!({"team": "a", REVISION: "7", DESIRED: "4", MAX: "5"})
        );
    }
}
