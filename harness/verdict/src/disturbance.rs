//! What a scenario changed outside of its namespace, and what undoes it: written down before it is done, so that it can be
//! undone also by another process, after this one was killed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Disturbed, EnvironmentReady, Event, Record, Restored, ScenarioStarted};

/// An object of a cluster, named so that it can be reached without asking the cluster about its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisturbedObject {
    /// `group/version`, or `v1`.
    pub api_version: String,
    /// Kind, e.g. `Deployment`.
    pub kind: String,
    /// Name of the resource, e.g. `deployments`.
    pub plural: String,
    /// Namespace; absent for objects of the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for DisturbedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind, namespace, name, ..
        } = self;
        match namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{name}"),
            None => write!(f, "{kind} {name}"),
        }
    }
}

/// What undoes a change of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// It was not there before: delete it, if it carries the run's labels.
    Delete,
    /// It was changed: apply this merge patch.
    Merge(Value),
    /// It was deleted: make it again, unless somebody else did.
    Create(Value),
    /// A Lease was taken: free it, if this holder still has it.
    Release {
        /// Who took it.
        holder: String,
    },
    /// As this private file of the run's state has it, because it holds what nobody else may read.
    Private {
        /// Name of the file.
        file: String,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Merge(_) | Self::Private { .. } => "restore",
            Self::Create(_) => "make again",
            Self::Release { .. } => "free",
        })
    }
}

/// A change that was not undone.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenDisturbance {
    /// Its number in the run.
    pub id: u64,
    /// Key of the scenario.
    pub scenario: String,
    /// Cluster.
    pub cluster: String,
    /// UID of that cluster, as far as it was found out: another cluster may have its name by now.
    pub cluster_uid: Option<String>,
    /// What was changed.
    pub object: DisturbedObject,
    /// What undoes it.
    pub undo: Undo,
}

/// All changes of a journal that were not undone, in the order in which they have to be: the last one first.
#[must_use]
pub fn open<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<OpenDisturbance> {
    let mut open: Vec<OpenDisturbance> = Vec::new();
    let mut uids: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut environments: BTreeMap<String, String> = BTreeMap::new();
    for record in records {
        match &record.event {
            Event::EnvironmentReady(EnvironmentReady {
                environment, clusters, ..
            }) => {
                for cluster in clusters {
                    uids.insert((environment.clone(), cluster.name.clone()), cluster.uid.clone());
                }
            }
            Event::ScenarioStarted(ScenarioStarted {
                scenario, environment, ..
            }) => {
                environments.insert(scenario.clone(), environment.clone());
            }
            Event::Disturbed(Disturbed {
                scenario,
                id,
                cluster,
                object,
                undo,
            }) => {
                let environment = environments.get(scenario).cloned().unwrap_or_default();
                open.push(OpenDisturbance {
                    id: *id,
                    scenario: scenario.clone(),
                    cluster: cluster.clone(),
                    cluster_uid: uids.get(&(environment, cluster.clone())).cloned(),
                    object: object.clone(),
                    undo: undo.clone(),
                });
            }
            Event::Restored(Restored { id, .. }) => open.retain(|disturbance| disturbance.id != *id),
            _ => {}
        }
    }
    open.reverse();
    open
}

#[cfg(test)]
mod tests {
    use super::{DisturbedObject, Undo, open};
    use crate::record::{ClusterFacts, Disturbed, EnvironmentReady, Event, Record, Restored, ScenarioStarted};

    fn records(events: Vec<Event>) -> Vec<Record> {
        let record = |(seq, event)| Record {
            seq,
            at_us: seq,
            prev: String::new(),
            event,
        };
        (0..).zip(events).map(record).collect()
    }

    fn disturbed(id: u64, name: &str) -> Event {
        Event::Disturbed(Disturbed {
            scenario: "a".to_owned(),
            id,
            cluster: "west".to_owned(),
            object: DisturbedObject {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                plural: "deployments".to_owned(),
                namespace: Some("mesh".to_owned()),
                name: name.to_owned(),
            },
            undo: Undo::Delete,
        })
    }

    #[test]
    fn what_was_not_restored_is_open_the_last_first_and_knows_its_cluster() {
        let ready = Event::EnvironmentReady(EnvironmentReady {
            environment: "pair".to_owned(),
            clusters: vec![ClusterFacts {
                name: "west".to_owned(),
                uid: "uid-of-west".to_owned(),
                ..ClusterFacts::default()
            }],
            links: Vec::new(),
            took_wall_us: 0,
        });
        let started = Event::ScenarioStarted(ScenarioStarted {
            scenario: "a".to_owned(),
            namespace: "mp-a".to_owned(),
            environment: "pair".to_owned(),
        });
        let restored = Event::Restored(Restored {
            scenario: "a".to_owned(),
            id: 2,
        });
        let events = vec![
            ready,
            started,
            disturbed(1, "one"),
            disturbed(2, "two"),
            disturbed(3, "three"),
            restored,
        ];
        let open = open(&records(events));
        let ids: Vec<u64> = open.iter().map(|disturbance| disturbance.id).collect();
        assert_eq!(ids, [3, 1]);
        assert!(open.iter().all(|one| one.cluster_uid.as_deref() == Some("uid-of-west")));
        assert_eq!(open[0].object.to_string(), "Deployment mesh/three");
    }
}
