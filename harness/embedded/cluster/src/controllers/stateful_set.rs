//! The StatefulSet controller: pods with stable names, made in order and replaced from the last to the first.
//!
//! Not supported: `volumeClaimTemplates` (there is no storage) and `persistentVolumeClaimRetentionPolicy`; a set with claim
//! templates gets a warning event and no pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::store::{DeleteOptions, Subresource};
use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::{Value, json};

use super::pod_set::{Availability, BURST, availability, claim, pod_from_template};
use crate::events::{Recorder, Severity};
use crate::object::{self, Key, count, list, name, namespace, text};
use crate::pace::Pace;
use crate::work_queue::Controller;

const REVISION: &str = "controller-revision-hash";

/// Makes and deletes the pods of StatefulSets.
pub(crate) struct StatefulSetController {
    store: Store,
    events: Recorder,
    pace: Pace,
}

impl StatefulSetController {
    pub(crate) fn new(store: &Store, pace: Pace) -> Self {
        Self {
            store: store.with_manager("statefulset-controller"),
            events: Recorder::new(store, "statefulset-controller", None),
            pace,
        }
    }

    fn perform(&self, set: &Value, action: &Action, revision: &str) -> Result<(), Status> {
        let namespace = Some(namespace(set));
        let (result, verb, pod) = match action {
            Action::Create(ordinal) => {
                let pod = pod(set, *ordinal, revision);
                let pod_name = name(&pod).to_owned();
                let created = self.store.create(&gvr::PODS, namespace, pod);
                (created.map(|_| ()), "Create", pod_name)
            }
            Action::Delete(pod) => {
                let options = DeleteOptions::default();
                let deleted = self.store.delete(&gvr::PODS, namespace, pod, &options);
                (deleted.map(|_| ()), "Delete", pod.clone())
            }
        };
        let lower = verb.to_lowercase();
        let what = format!("{lower} Pod {pod} in StatefulSet {}", name(set));
        match result {
            Ok(()) => {
                let (reason, message) = (format!("Successful{verb}"), format!("{what} successful"));
                self.events.event(set, None, Severity::Normal, &reason, &message);
                Ok(())
            }
            // Gone or there already: the next look at the pods tells.
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => {
                let message = format!("{what} failed error: {}", status.message);
                self.events
                    .event(set, None, Severity::Warning, &format!("Failed{verb}"), &message);
                Err(status)
            }
        }
    }
}

impl Controller for StatefulSetController {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::STATEFUL_SETS, gvr::PODS]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::STATEFUL_SETS {
            return vec![Key::of(changed)];
        }
        match object::controller_reference(changed) {
            Some(owner) if owner["kind"] == "StatefulSet" => {
                vec![Key::new(namespace(changed), text(&owner["name"]))]
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let namespace = Some(key.namespace.as_str());
        let set = match self.store.get(&gvr::STATEFUL_SETS, namespace, &key.name) {
            Ok(set) => set,
            Err(status) if status.is_not_found() => return Ok(None),
            Err(status) => return Err(status),
        };
        let Some(selector) = object::selector(&set) else {
            return Ok(None);
        };
        if list(&set["spec"]["volumeClaimTemplates"]).next().is_some() {
            let message = "unsupported: volumeClaimTemplates (the embedded cluster has no storage)";
            self.events
                .event(&set, None, Severity::Warning, "FailedCreate", message);
            return Ok(None);
        }
        let reference = object::owner_reference("apps/v1", "StatefulSet", &set);
        let revision = object::template_hash(&set["spec"]["template"]);
        let revision = format!("{}-{revision}", name(&set));
        let pods = claim(&self.store, &set, &reference, &selector)?;
        let members = members(&set, &pods, &revision, self.pace);
        let mut failed = Ok(());
        if !object::is_being_deleted(&set) {
            for action in actions(&Plan::of(&set), &members) {
                failed = self.perform(&set, &action, &revision);
                if failed.is_err() {
                    break;
                }
            }
        }
        let pods = claim(&self.store, &set, &reference, &selector)?;
        let members = self::members(&set, &pods, &revision, self.pace);
        let change = |set: &mut Value| {
            let status = status(set, &members, &revision);
            let changed = set["status"] != status;
            set["status"] = status;
            changed
        };
        let part = Subresource::Status;
        self.store
            .modify(&gvr::STATEFUL_SETS, namespace, &key.name, part, change)?;
        failed?;
        Ok(members.values().filter_map(|m| m.available_in).min())
    }
}

/// What the set wants.
#[derive(Clone, Copy, Debug)]
struct Plan {
    first: i64,
    replicas: i64,
    parallel: bool,
    /// Pods below this ordinal keep their revision; with `OnDelete` all do.
    partition: i64,
}

impl Plan {
    fn of(set: &Value) -> Self {
        let strategy = &set["spec"]["updateStrategy"];
        let partition = if strategy["type"] == "OnDelete" {
            i64::MAX
        } else {
            count(&strategy["rollingUpdate"]["partition"])
        };
        Self {
            first: count(&set["spec"]["ordinals"]["start"]),
            replicas: set["spec"]["replicas"].as_i64().unwrap_or(1),
            parallel: set["spec"]["podManagementPolicy"] == "Parallel",
            partition,
        }
    }

    fn ordinals(&self) -> std::ops::Range<i64> {
        self.first..self.first.saturating_add(self.replicas)
    }
}

/// A pod of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    ready: bool,
    available: bool,
    available_in: Option<Duration>,
    terminating: bool,
    ended: bool,
    updated: bool,
}

/// The set's pods by ordinal. Pods whose name has none are not the set's to care for.
fn members(set: &Value, pods: &[Arc<Value>], revision: &str, pace: Pace) -> BTreeMap<i64, Member> {
    let prefix = format!("{}-", name(set));
    let min_ready = count(&set["spec"]["minReadySeconds"]);
    pods.iter()
        .filter_map(|pod| {
            let ordinal = name(pod).strip_prefix(&prefix)?.parse().ok()?;
            let availability = availability(pod, min_ready, pace);
            let member = Member {
                name: name(pod).to_owned(),
                ready: availability != Availability::NotReady,
                available: availability == Availability::Available,
                available_in: match availability {
                    Availability::In(wait) => Some(wait),
                    Availability::NotReady | Availability::Available => None,
                },
                terminating: object::is_being_deleted(pod),
                ended: object::has_ended(pod),
                updated: pod["metadata"]["labels"][REVISION] == revision,
            };
            Some((ordinal, member))
        })
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Create(i64),
    Delete(String),
}

/// What to do now, at most a burst. Pure.
fn actions(plan: &Plan, members: &BTreeMap<i64, Member>) -> Vec<Action> {
    let mut actions = Vec::new();
    for ordinal in plan.ordinals() {
        if actions.len() >= BURST {
            return actions;
        }
        match members.get(&ordinal) {
            None => actions.push(Action::Create(ordinal)),
            Some(member) if member.ended && !member.terminating => {
                actions.push(Action::Delete(member.name.clone()));
            }
            Some(member) if member.available && !member.terminating => continue,
            Some(_) => {}
        }
        if !plan.parallel {
            // Each waits for the one before it.
            actions.truncate(1);
            return actions;
        }
    }
    let surplus = members
        .iter()
        .rev()
        .filter(|(ordinal, _)| !plan.ordinals().contains(ordinal));
    for (_, member) in surplus {
        if actions.len() >= BURST {
            return actions;
        }
        if !member.terminating {
            actions.push(Action::Delete(member.name.clone()));
        }
        if !plan.parallel {
            return actions;
        }
    }
    if !actions.is_empty() {
        return actions;
    }
    // One old pod after the other is replaced, from the last on; each must be back before the next goes.
    for (&ordinal, member) in members.iter().rev() {
        if ordinal < plan.partition && plan.partition != i64::MAX && member.updated {
            continue;
        }
        if member.terminating || !member.available {
            return Vec::new();
        }
        if !member.updated && ordinal >= plan.partition {
            return vec![Action::Delete(member.name.clone())];
        }
    }
    Vec::new()
}

fn pod(set: &Value, ordinal: i64, revision: &str) -> Value {
    let reference = object::owner_reference("apps/v1", "StatefulSet", set);
    let mut pod = pod_from_template(set, &reference);
    let pod_name = format!("{}-{ordinal}", name(set));
    pod["metadata"]["name"] = json!(pod_name);
    pod["metadata"]["labels"][REVISION] = json!(revision);
    pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!(pod_name);
    pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = json!(ordinal.to_string());
    pod["spec"]["hostname"] = json!(pod_name);
    if !text(&set["spec"]["serviceName"]).is_empty() {
        pod["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
    }
    pod
}

fn status(set: &Value, members: &BTreeMap<i64, Member>, revision: &str) -> Value {
    let number = |fits: fn(&Member) -> bool| members.values().filter(|m| fits(m)).count();
    let updated = number(|m| m.updated && !m.terminating);
    let all_updated = members.values().all(|m| m.updated);
    let earlier = text(&set["status"]["currentRevision"]);
    // The old revision stays the current one until the update is through.
    let current = if all_updated || earlier.is_empty() {
        revision
    } else {
        earlier
    };
    let of_current = if current == revision {
        updated
    } else {
        number(|m| !m.updated && !m.terminating)
    };
    let mut status = json!({
        "observedGeneration": set["metadata"]["generation"],
        "replicas": members.len(),
        "availableReplicas": number(|m| m.available && !m.terminating),
        "currentRevision": current,
        "updateRevision": revision,
        "collisionCount": 0,
    });
    for (field, number) in [
        ("readyReplicas", number(|m| m.ready && !m.terminating)),
        ("currentReplicas", of_current),
        ("updatedReplicas", updated),
    ] {
        if number > 0 {
            status[field] = json!(number);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(replicas: i64) -> Plan {
        Plan {
            first: 0,
            replicas,
            parallel: false,
            partition: 0,
        }
    }

    fn members(states: &[(i64, bool, bool)]) -> BTreeMap<i64, Member> {
        states
            .iter()
            .map(|&(ordinal, available, updated)| {
                let member = Member {
                    name: format!("db-{ordinal}"),
                    ready: available,
                    available,
                    available_in: None,
                    terminating: false,
                    ended: false,
                    updated,
                };
                (ordinal, member)
            })
            .collect()
    }

    fn delete(ordinal: i64) -> Vec<Action> {
        vec![Action::Delete(format!("db-{ordinal}"))]
    }

    #[test]
    fn pods_come_one_after_the_other() {
        assert_eq!(actions(&plan(3), &members(&[])), [Action::Create(0)]);
        assert_eq!(actions(&plan(3), &members(&[(0, false, true)])), []);
        assert_eq!(actions(&plan(3), &members(&[(0, true, true)])), [Action::Create(1)]);
        assert_eq!(
            actions(&plan(3), &members(&[(1, true, true)])),
            [Action::Create(0)],
            "a gap is filled"
        );
    }

    #[test]
    fn pods_go_from_the_last_on() {
        let all = members(&[(0, true, true), (1, true, true), (2, true, true)]);
        assert_eq!(actions(&plan(1), &all), delete(2));
        let mut leaving = all;
        leaving.get_mut(&2).unwrap().terminating = true;
        assert_eq!(actions(&plan(1), &leaving), []);
    }

    #[test]
    fn an_update_replaces_from_the_last_on_and_waits() {
        let old = members(&[(0, true, false), (1, true, false)]);
        assert_eq!(actions(&plan(2), &old), delete(1));
        let back = members(&[(0, true, false), (1, false, true)]);
        assert_eq!(actions(&plan(2), &back), []);
        let back = members(&[(0, true, false), (1, true, true)]);
        assert_eq!(actions(&plan(2), &back), delete(0));
        let kept = Plan {
            partition: 1,
            ..plan(2)
        };
        assert_eq!(actions(&kept, &back), []);
        let by_hand = Plan {
            partition: i64::MAX,
            ..plan(2)
        };
        assert_eq!(actions(&by_hand, &old), []);
    }

    #[test]
    fn parallel_sets_do_everything_at_once() {
        let parallel = Plan {
            parallel: true,
            ..plan(3)
        };
        assert_eq!(
            actions(&parallel, &members(&[(1, false, true), (7, true, true)])),
            [Action::Create(0), Action::Create(2), Action::Delete("db-7".into())]
        );
    }

    #[test]
    fn a_number_without_end_is_worked_off_in_bursts() {
        let endless = Plan {
            first: 5,
            parallel: true,
            ..plan(i64::MAX)
        };
        let begin = actions(&endless, &members(&[]));
        assert_eq!(begin.len(), BURST);
        assert_eq!(begin.last(), Some(&Action::Create(4 + BURST as i64)));
    }

    #[test]
    fn a_failed_pod_is_replaced() {
        let mut failed = members(&[(0, false, true)]);
        failed.get_mut(&0).unwrap().ended = true;
        assert_eq!(actions(&plan(1), &failed), delete(0));
    }

    #[test]
    fn the_old_revision_is_current_until_the_update_is_through() {
        let set = json!({"metadata": {"generation": 2}, "status": {"currentRevision": "db-old"}});
        let half = status(&set, &members(&[(0, true, false), (1, true, true)]), "db-new");
        assert_eq!(
            [&half["currentRevision"], &half["updateRevision"]],
            ["db-old", "db-new"]
        );
        assert_eq!(
            (&half["currentReplicas"], &half["updatedReplicas"]),
            (&json!(1), &json!(1))
        );
        let done = status(&set, &members(&[(0, true, true), (1, true, true)]), "db-new");
        assert_eq!(done["currentRevision"], "db-new");
        assert_eq!(done["currentReplicas"], 2);
    }
}
