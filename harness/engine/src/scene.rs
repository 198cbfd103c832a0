//! One scenario while it runs: where it is, what it made, what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshproof_spec::scalar::{Name, Target};
use meshproof_spec::scenario::{Component, ExportMode, PortProtocol};
use meshproof_verdict::history::ScenarioHistory;
use meshproof_verdict::record::RunStarted;
use meshproof_verdict::wakefulness::{Diligence, Unmodelled, Wakefulness};
use serde_json::Value;

use crate::agents::AgentPod;
use crate::api::{self, Requests, text_at};
use crate::clock::Clock;
use crate::disturbance::Disturbances;
use crate::driver::MeshDriver;
use crate::environment::Cluster;
use crate::hindrance;
use crate::interrupts::Interrupts;
use crate::inventory::Inventory;
use crate::journal::Journal;
use crate::kinds::{Kind, known};
use crate::ledgers::LedgerBook;
use crate::lower::Surroundings;
use crate::ownership::MANAGED_LABEL;
use crate::panics::ProvokedPanics;
use crate::plan::ScenarioPlan;
use crate::problem::{self, Problem};
use crate::pulse::Pulses;
use crate::reconcile::ServerRows;
use crate::stalls::Stalls;
use crate::starvation::Starvation;
use crate::steps::exports::Exports;
use crate::steps::fault::ActiveFault;
use crate::steps::traffic::RunningTraffic;
use crate::testbed::Testbed;
use crate::watch::{Subscription, WatchKey};

/// Time for a request to the API of a cluster, tries included (scenario time).
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Time for a workload to get ready or to go away (scenario time).
pub(crate) const WORKLOAD_TIME: Duration = Duration::from_secs(180);

/// Label that names the workload of a pod. Drivers rely on it where they select the pods of a flow.
pub(crate) const WORKLOAD_LABEL: &str = "app";

/// What all scenarios of a run share.
#[derive(Clone)]
pub(crate) struct RunContext {
    /// Id of the run.
    pub(crate) run: String,
    /// The run's first record.
    pub(crate) started: Arc<RunStarted>,
    /// Nonce that every pod of the run repeats.
    pub(crate) nonce: String,
    /// The journal.
    pub(crate) journal: Journal,
    /// How API requests are made.
    pub(crate) requests: Requests,
    /// Image of the agent.
    pub(crate) agent_image: String,
    /// The user's interrupts.
    pub(crate) interrupts: Interrupts,
    /// What the environment can do.
    pub(crate) capabilities: Arc<BTreeSet<String>>,
    /// When the harness itself did not keep time.
    pub(crate) stalls: Arc<Stalls>,
    /// When a model that shares the harness's processors had none; nothing about other clusters.
    pub(crate) starvation: Option<Arc<Starvation>>,
    /// Where tests let the harness panic.
    pub(crate) panics: ProvokedPanics,
    /// How many changes outside of namespaces there were.
    pub(crate) disturbances: Arc<AtomicU64>,
    /// Scenarios that began and of which it is not known that they left nothing.
    pub(crate) uncleaned: Arc<AtomicU64>,
    /// Folder for what undoes changes and is secret.
    pub(crate) private_dir: Option<PathBuf>,
}

impl RunContext {
    /// Whether the harness and these APIs were awake since a scenario time.
    pub(crate) fn awake(&self, pulses: &Pulses, since_us: u64) -> Wakefulness {
        Wakefulness {
            stalled_us: self.stalls.longest_since(since_us),
            starved_us: self
                .starvation
                .as_ref()
                .map_or(0, |starvation| starvation.since(since_us)),
            unanswered_us: pulses.longest_since(since_us),
            ..Wakefulness::default()
        }
    }
}

/// So long a mesh may suffer from a stall that is over (scenario time): a lease that was lost in it is another's for as long
/// as leases of controllers usually last, 15 to 30 s.
const AFTER_EFFECT_US: u64 = 30_000_000;

/// Namespaces of the mesh itself, as far as its driver tells.
pub(crate) fn mesh_namespaces(driver: &dyn MeshDriver) -> BTreeSet<String> {
    let named = ["mesh.namespace", "mesh.control-namespace"];
    let told = named.iter().filter_map(|fact| driver.fact(fact, ""));
    told.chain([driver.component(Component::Gateway, None).namespace])
        .collect()
}

/// A scenario while it runs.
pub(crate) struct Scene {
    /// What all scenarios share.
    pub(crate) run: RunContext,
    /// What was planned.
    pub(crate) plan: Arc<ScenarioPlan>,
    /// Its clusters.
    pub(crate) testbed: Arc<Testbed>,
    /// Its ledgers.
    pub(crate) ledgers: Arc<LedgerBook>,
    /// Position of the present step.
    pub(crate) step: u32,
    /// What was deployed.
    pub(crate) workloads: Vec<Workload>,
    /// Background traffic, also when it was stopped.
    pub(crate) traffic: BTreeMap<String, RunningTraffic>,
    /// Who calls what, by ledger.
    pub(crate) flows: BTreeMap<String, CallFlow>,
    /// Exports by cluster and service.
    pub(crate) exports: Exports,
    /// Objects of routes by cluster and service.
    pub(crate) routes: BTreeMap<(String, String), Vec<Value>>,
    /// Faults that are not healed.
    pub(crate) faults: BTreeMap<String, ActiveFault>,
    /// What it changed outside of its namespace, and what undoes that.
    pub(crate) disturbances: Disturbances,
    /// Inventories by name.
    pub(crate) inventories: BTreeMap<String, Inventory>,
    /// Start of the last step that running traffic may feel (scenario µs).
    pub(crate) disturbed_us: u64,
    /// Clusters in which the scenario's namespace was made.
    pub(crate) namespaces: Vec<String>,
    /// What servers saw, as far as it was read.
    pub(crate) server_rows: ServerRows,
    /// Clients whose requests the present step waited for in vain, outside of any ledger.
    pub(crate) clients: Mutex<BTreeMap<String, Diligence>>,
    /// What it put into the clusters so far that they do not model, also when it is gone again.
    pub(crate) unmodelled: Mutex<BTreeSet<Unmodelled>>,
    /// Keeps watches of the scenario's pods and Deployments running from step to step.
    pub(crate) held: Vec<Subscription>,
}

/// Who calls what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallFlow {
    /// Cluster of the client.
    pub(crate) cluster: String,
    /// Client.
    pub(crate) client: String,
    /// What it calls.
    pub(crate) target: Target,
    /// Port of the Service.
    pub(crate) port: u16,
}

/// A deployed service or client in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    /// Cluster.
    pub(crate) cluster: String,
    /// Name.
    pub(crate) name: String,
    /// Whether it only sends.
    pub(crate) is_client: bool,
    /// Whether it has a sidecar.
    pub(crate) meshed: bool,
    /// Ports of its Service.
    pub(crate) ports: Vec<Port>,
}

/// A port of a deployed service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Name.
    pub(crate) name: String,
    /// Port of the Service.
    pub(crate) port: u16,
    /// Port of the container.
    pub(crate) target: u16,
    /// What is spoken.
    pub(crate) protocol: PortProtocol,
}

impl Scene {
    /// The clock of the run.
    #[must_use]
    pub(crate) fn clock(&self) -> Clock {
        self.run.requests.clock
    }

    /// Who was awake since the scenario began. A stall before it counts as long as the mesh may still suffer from it, but not
    /// one from before the clusters were seen to be ready. When somebody `accuses`, the pods of the mesh and of the
    /// scenario's workloads are looked at, too; a pod that the scenario applied itself is its own affair.
    pub(crate) async fn awake(&self, accuses: bool) -> Wakefulness {
        let started_us = self.history().started.as_ref().map_or(0, |started| started.at_us);
        let began_us = started_us.saturating_sub(AFTER_EFFECT_US);
        let since_us = began_us.max(self.testbed.ready_us);
        let hindered = if accuses {
            self.look_for_unmodelled();
            let (clusters, own) = (self.testbed.clusters(), BTreeSet::from([self.namespace().to_owned()]));
            let mesh = mesh_namespaces(self.testbed.driver.as_ref());
            let mut hindered = hindrance::look(clusters, &mesh, None).await;
            let deployed = format!("{WORKLOAD_LABEL},{MANAGED_LABEL}");
            hindered.extend(hindrance::look(clusters, &own, Some(&deployed)).await);
            hindered
        } else {
            Vec::new()
        };
        Wakefulness {
            hindered,
            clients: std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner)),
            unmodelled: self.lock_unmodelled().iter().cloned().collect(),
            ..self.run.awake(&self.testbed.pulses, since_us)
        }
    }

    /// Looks for what is in the scenario's and the mesh's namespaces and is not modelled. It is remembered when it goes again.
    pub(crate) fn look_for_unmodelled(&self) {
        let mut namespaces = mesh_namespaces(self.testbed.driver.as_ref());
        namespaces.insert(self.namespace().to_owned());
        let running = &self.testbed.running;
        let now = namespaces.iter().flat_map(|namespace| running.unmodelled(namespace));
        self.lock_unmodelled().extend(now);
    }

    fn lock_unmodelled(&self) -> MutexGuard<'_, BTreeSet<Unmodelled>> {
        self.unmodelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a client did that the present step waited for in vain.
    pub(crate) fn sent(&self, client: &AgentPod, did: Diligence) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.to_string(), did);
    }

    /// Everything that happened to it so far, which its outcome is made from.
    #[must_use]
    pub(crate) fn history(&self) -> Arc<ScenarioHistory> {
        self.run.journal.scenario(self.key())
    }

    /// Key of the scenario.
    #[must_use]
    pub(crate) fn key(&self) -> &str {
        &self.plan.key
    }

    /// The scenario's namespace.
    #[must_use]
    pub(crate) fn namespace(&self) -> &str {
        &self.plan.namespace
    }

    /// The cluster of this name.
    ///
    /// # Errors
    /// When the topology has none.
    pub(crate) fn cluster(&self, name: &str) -> Result<&Cluster, Problem> {
        self.testbed.cluster(name)
    }

    /// The kind of this name in a cluster.
    ///
    /// # Errors
    /// When nobody knows the kind.
    pub(crate) async fn kind(&self, cluster: &str, kind: &str, api: Option<&str>) -> Result<Kind, Problem> {
        let cluster = self.cluster(cluster)?;
        self.testbed
            .kinds
            .find(cluster, &self.testbed.driver, &self.run.requests, kind, api)
            .await
    }

    /// Watches objects of a kind of Kubernetes itself in the scenario's namespace.
    #[must_use]
    pub(crate) fn watch(&self, cluster: &str, kind: &str) -> Subscription {
        self.watch_in(cluster, kind, self.namespace())
    }

    /// Watches objects of a kind of Kubernetes itself in a namespace.
    #[must_use]
    pub(crate) fn watch_in(&self, cluster: &str, kind: &str, namespace: &str) -> Subscription {
        let kind = known(kind);
        self.testbed.watches.subscribe(WatchKey {
            cluster: cluster.to_owned(),
            namespace: kind.namespace(namespace).map(ToOwned::to_owned),
            resource: kind.resource,
            labels: None,
        })
    }

    /// Waits for objects of a kind in a namespace to satisfy a condition, within a time (scenario).
    ///
    /// # Errors
    /// When they don't in time (a problem of the environment named by `what`), or the server refuses to show them.
    pub(crate) async fn wait_for<T>(
        &self,
        cluster: &str,
        kind: &str,
        namespace: &str,
        within: Duration,
        what: &str,
        mut condition: impl FnMut(&[Arc<Value>]) -> Option<T>,
    ) -> Result<T, Problem> {
        let mut subscription = self.watch_in(cluster, kind, namespace);
        let mut last = String::new();
        let waiting = subscription.until(|objects| {
            let answer = condition(objects);
            if answer.is_none() {
                last = summary(objects);
            }
            answer
        });
        match self.clock().within(within, waiting).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(problem::environment(
                "step-deadline",
                format!(
                    "{cluster}: {what}: not within {} s; last seen: {last}",
                    within.as_secs_f64()
                ),
                Some("see the events and pod logs in the evidence"),
            )),
        }
    }

    /// Deployed workloads of this name, in one cluster or in all.
    #[must_use]
    pub(crate) fn workloads(&self, name: &str, cluster: Option<&str>) -> Vec<&Workload> {
        self.workloads
            .iter()
            .filter(|workload| workload.name == name && cluster.is_none_or(|cluster| workload.cluster == cluster))
            .collect()
    }

    /// Pods of a workload that exist now, ready ones first, each with whether it is ready, then by name.
    ///
    /// # Errors
    /// When pods can't be seen in time.
    pub(crate) async fn pods(&self, cluster: &str, workload: &str) -> Result<Vec<(AgentPod, bool)>, Problem> {
        let namespace = self.namespace().to_owned();
        let mut found = self
            .wait_for(cluster, "Pod", &namespace, REQUEST_TIME, "list pods", |objects| {
                Some(
                    objects
                        .iter()
                        .filter(|pod| is_of(pod, workload))
                        .map(|pod| {
                            let agent = AgentPod {
                                cluster: cluster.to_owned(),
                                namespace: text_at(pod, "/metadata/namespace").to_owned(),
                                workload: workload.to_owned(),
                                pod: text_at(pod, "/metadata/name").to_owned(),
                            };
                            (agent, is_ready(pod))
                        })
                        .collect::<Vec<_>>(),
                )
            })
            .await?;
        found.sort_by(|one, other| (!one.1, &one.0).cmp(&(!other.1, &other.0)));
        Ok(found)
    }

    /// The pod from which a client sends: its first ready one.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn sender(&self, cluster: &str, client: &str) -> Result<AgentPod, Problem> {
        let pods = self.pods(cluster, client).await?;
        pods.into_iter()
            .find(|(_, ready)| *ready)
            .map(|(pod, _)| pod)
            .ok_or_else(|| {
                problem::environment(
                    "no-ready-pod",
                    format!("{cluster}: `{client}` has no ready pod to send from"),
                    Some("see the pod's events and log in the evidence"),
                )
            })
    }

    /// Name under which pods of `cluster` reach a target.
    #[must_use]
    pub(crate) fn host_of(&self, cluster: &str, target: &Target) -> String {
        match &target.cluster {
            Some(exporting) if exporting.0 != cluster => {
                let mode = self.exports.mode(&exporting.0, &target.service.0);
                self.testbed.driver.mirror_name(&target.service.0, &exporting.0, mode)
            }
            _ => target.service.0.clone(),
        }
    }

    /// Place of a flow from `cluster` to a target, for people.
    #[must_use]
    pub(crate) fn place(cluster: &str, target: &Target) -> String {
        match &target.cluster {
            Some(exporting) if exporting.0 != cluster => format!("{cluster} → {exporting}"),
            _ => cluster.to_owned(),
        }
    }
}

impl Surroundings for Scene {
    fn namespace(&self) -> &str {
        &self.plan.namespace
    }

    fn driver(&self) -> &dyn crate::driver::MeshDriver {
        self.testbed.driver.as_ref()
    }

    fn step(&self) -> u32 {
        self.step
    }

    fn since_us(&self, traffic: &str) -> u64 {
        let started = self.traffic.get(traffic).map_or(0, |traffic| traffic.started_us);
        self.disturbed_us.max(started)
    }

    fn place_of(&self, ledger: &str) -> Option<String> {
        self.flows
            .get(ledger)
            .map(|flow| Self::place(&flow.cluster, &flow.target))
    }

    fn client_cluster(&self, client: &Name, named: Option<&Name>) -> Result<String, Problem> {
        let deployed: Vec<&str> = self
            .workloads
            .iter()
            .filter(|workload| workload.name == client.0)
            .map(|workload| workload.cluster.as_str())
            .collect();
        let found = match (named, deployed.as_slice()) {
            (Some(named), _) => deployed.iter().find(|cluster| **cluster == named.0).copied(),
            (None, [only]) => Some(*only),
            (None, _) => None,
        };
        found.map(ToOwned::to_owned).ok_or_else(|| {
            problem::harness(
                "unknown-client",
                match named {
                    Some(named) => format!("`{client}` is not deployed in {named}"),
                    None if deployed.is_empty() => format!("`{client}` is not deployed"),
                    None => format!("`{client}` is deployed in {}; say which with `in`", deployed.join(", ")),
                },
                Some("run `meshproof lint` on the file"),
            )
        })
    }

    fn port_of(&self, target: &Target) -> Result<u16, Problem> {
        let of_cluster = target.cluster.as_ref().map(|cluster| cluster.0.as_str());
        let deployed = self.workloads(&target.service.0, of_cluster);
        let port = deployed
            .iter()
            .chain(&self.workloads(&target.service.0, None))
            .find_map(|workload| workload.ports.first());
        // A service that some `apply` made: the usual port.
        Ok(port.map_or(DEFAULT_PORT, |port| port.port))
    }

    fn export_of(&self, cluster: &str, target: &Target) -> Option<ExportMode> {
        let exporting = target.cluster.as_ref().filter(|exporting| exporting.0 != cluster)?;
        Some(self.exports.mode(&exporting.0, &target.service.0))
    }

    fn can_tap(&self) -> bool {
        self.run.capabilities.contains("relay")
    }
}

/// Port of a Service when a scenario names none.
pub(crate) const DEFAULT_PORT: u16 = 80;

/// Whether a pod belongs to a workload.
#[must_use]
pub(crate) fn is_of(pod: &Value, workload: &str) -> bool {
    pod.pointer("/metadata/labels")
        .and_then(|labels| labels.get(WORKLOAD_LABEL))
        .and_then(Value::as_str)
        == Some(workload)
}

/// Whether a pod is ready and not on its way out.
#[must_use]
pub(crate) fn is_ready(pod: &Value) -> bool {
    pod.pointer("/metadata/deletionTimestamp").is_none_or(Value::is_null) && has_condition(pod, "Ready")
}

/// Whether an object has a condition of this type that is true.
#[must_use]
pub(crate) fn has_condition(object: &Value, condition: &str) -> bool {
    object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|entry| text_at(entry, "/type") == condition && text_at(entry, "/status") == "True")
        })
}

/// Names and states of some objects, on one line.
fn summary(objects: &[Arc<Value>]) -> String {
    const SHOWN: usize = 8;
    if objects.is_empty() {
        return "nothing".to_owned();
    }
    let mut names: Vec<String> = objects
        .iter()
        .take(SHOWN)
        .map(|object| {
            let name = api::full_name(object);
            match object.pointer("/status/phase").and_then(Value::as_str) {
                Some(phase) => format!("{name} ({phase}{})", if is_ready(object) { ", ready" } else { "" }),
                None => name,
            }
        })
        .collect();
    if objects.len() > SHOWN {
        names.push(format!("and {} more", objects.len() - SHOWN));
    }
    names.join(", ")
}
