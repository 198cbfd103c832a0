//! The watcher of one target cluster: its copies, its queue and its worker.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use kube::{Api, Client, ResourceExt};
use meshproof_cluster::program::Network;
use meshproof_cluster::program::SidecarAccess;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::arguments::Arguments;
use super::client;
use super::desired::Desired;
use super::events::Recorder;
use super::failure::Failure;
use super::informer::{Change, Informer, Key};
use super::link::Link;
use super::log::Logger;
use super::probe::ProbeWorker;
use super::probe_metrics::ProbeMetrics;
use super::queue::{Event, Queue, Queued};

use crate::defect::{Defect, Defects};
use crate::metrics::Registry;
use crate::model::Model;
use crate::names::{PROBE_PORT_NAME, label};

/// Kubernetes' label on the Endpoints of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How long the first lists may take, scenario time.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// What a controller has of its own cluster, for all its life.
pub(super) struct Local {
    /// For mirrors.
    pub(super) client: Client,
    /// For the Link, with a rate of its own.
    pub(super) link_client: Client,
    pub(super) services: Informer<Service>,
    pub(super) endpoints: Informer<Endpoints>,
    pub(super) namespaces: Informer<Namespace>,
    pub(super) links: Informer<Link>,
}

/// The pod that a controller runs in.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) model: Model,
    /// The controller's own version.
    pub(super) version: String,
    pub(super) cluster: String,
    pub(super) arguments: Arc<Arguments>,
    pub(super) network: Arc<dyn Network>,
    pub(super) sidecar: Arc<dyn SidecarAccess>,
    pub(super) registry: Registry,
    pub(super) log: Logger,
}

/// What a watcher has of its target.
pub(super) struct Remote {
    pub(super) services: Informer<Service>,
    pub(super) endpoints: Informer<Endpoints>,
    pub(super) recorder: Recorder,
}

/// A watcher at work.
pub(super) struct Watcher {
    pub(super) place: Place,
    pub(super) link: Arc<Link>,
    pub(super) local: Arc<Local>,
    pub(super) remote: Remote,
    pub(super) metrics: ProbeMetrics,
    pub(super) log: Logger,
    pub(super) queue: Queue,
    memory: Mutex<Memory>,
}

/// What the worker keeps in mind between two events.
#[derive(Default)]
pub(super) struct Memory {
    /// What the probes say; `None` until they have said something.
    pub(super) gateway_alive: Option<bool>,
    /// Slow retries: how many rounds, and whether the next one is already in line.
    pub(super) retries: HashMap<Key, (u32, bool)>,
    /// Remote versions that were there when the watcher started, if this is not its first start.
    pub(super) seen_while_down: HashMap<Key, String>,
    /// Remote Services that the Link's selector once matched.
    pub(super) once_exported: HashSet<Key>,
    /// Remote versions whose update was denied and is taken for done.
    pub(super) denied_updates: HashMap<Key, String>,
    /// Remote Services, by uid, whose creation was denied and is given up.
    pub(super) denied_creations: HashMap<Key, String>,
}

/// Runs until dropped, or until the target cannot be watched.
///
/// # Errors
/// Why it cannot; the caller tries again later.
pub(super) async fn run(
    place: Place,
    link: Arc<Link>,
    local: Arc<Local>,
    kubeconfig: String,
) -> Result<Infallible, String> {
    let pace = place.model.pace();
    let target = link.spec.target_cluster_name.clone();
    let log = place.log.with("cluster", &target);
    let probed = !link.spec.probe_spec.path.is_empty();
    let metrics = Registered(ProbeMetrics::register(&place.registry, &target, probed));

    // Dropping the set ends the worker.
    let mut tasks = JoinSet::new();
    let (liveness_sender, liveness) = mpsc::unbounded_channel();
    if probed {
        start_probing(&mut tasks, &place, &link, &local, &metrics.0, liveness_sender);
    }

    let remote = client::connect(&kubeconfig, &place.sidecar, pace).await?;
    remote.apiserver_version().await.map_err(|error| {
        format!("unable to create cluster watcher: cannot connect to api for target cluster {target}: {error}")
    })?;
    place.log.info("waiting for caches to sync");
    let services = Informer::start(Api::all(remote.clone()), None, pace, place.log.clone());
    let endpoints = Informer::start(Api::all(remote.clone()), None, pace, place.log.clone());
    tokio::time::timeout(pace.wall(SYNC_TIMEOUT), join(services.synced(), endpoints.synced()))
        .await
        .map_err(|_| "failed to sync caches".to_owned())?;
    place.log.info("caches synced");

    let (queue, events) = Queue::new(pace);
    let watcher = Watcher {
        remote: Remote {
            services,
            endpoints,
            recorder: Recorder::new(remote, &target, log.clone()),
        },
        memory: Mutex::new(Memory {
            gateway_alive: initial_liveness(&place.model, probed),
            ..Memory::default()
        }),
        metrics: metrics.0.clone(),
        place,
        link,
        local,
        log,
        queue,
    };
    watcher.remember_what_is_there();
    tokio::select! {
        never = watcher.listen(liveness) => match never {},
        ended = watcher.work(events) => ended,
    }
}

/// Unregisters the metrics when the watcher ends, however it ends.
struct Registered(ProbeMetrics);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.unregister();
    }
}

/// Unknown, so that a restart neither hides a dead gateway nor doubts a live one.
fn initial_liveness(model: &Model, probed: bool) -> Option<bool> {
    if !probed || model.has(Defect::UpstreamDeadGatewayTurnsReady) {
        Some(true)
    } else if model.has(Defect::RestartBlipsUnready) {
        Some(false)
    } else {
        None
    }
}

fn start_probing(
    tasks: &mut JoinSet<()>,
    place: &Place,
    link: &Link,
    local: &Local,
    metrics: &ProbeMetrics,
    liveness: mpsc::UnboundedSender<bool>,
) {
    let log = place.log.with("probe-key", &link.spec.target_cluster_name);
    let probe = match link.spec.probe_spec.probe() {
        Ok(probe) => probe,
        Err(error) => return log.error(error),
    };
    let host = place.arguments.probe_service.clone();
    log.info("Starting probe worker");
    let worker = ProbeWorker {
        model: place.model.clone(),
        network: place.network.clone(),
        port: probed_port(place, local, &host, probe.port),
        rng: place
            .model
            .rng(&format!("{}/probe/{}", place.cluster, link.spec.target_cluster_name)),
        host,
        probe,
        metrics: metrics.clone(),
        log,
        services: local.services.clone(),
        target: link.spec.target_cluster_name.clone(),
        liveness,
    };
    tasks.spawn(worker.run());
}

/// The probe Service's own port, behind which its Endpoints have the gateway's. The real controller dials the gateway's
/// port number at the probe Service, which has no such port when the gateway is behind a node port.
fn probed_port(place: &Place, local: &Local, service: &str, gateway_port: u16) -> u16 {
    if place.model.has(Defect::UpstreamNodeportProbeDead) {
        return gateway_port;
    }
    local
        .services
        .get(&place.arguments.namespace, service)
        .and_then(|service| {
            let ports = service.spec.as_ref()?.ports.as_ref()?;
            let port = ports
                .iter()
                .find(|port| port.name.as_deref() == Some(PROBE_PORT_NAME))?;
            u16::try_from(port.port).ok()
        })
        .unwrap_or(gateway_port)
}

impl Watcher {
    pub(super) fn has(&self, defect: Defect) -> bool {
        self.place.model.has(defect)
    }

    pub(super) fn defects(&self) -> Arc<Defects> {
        self.place.model.defects()
    }

    pub(super) fn desired<'a>(&'a self, defects: &'a Defects) -> Desired<'a> {
        Desired {
            link: &self.link.spec,
            defects,
        }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Link that already has a status has been watched before.
    fn remember_what_is_there(&self) {
        let watched_before = self
            .link
            .status
            .as_ref()
            .is_some_and(|status| !status.mirror_services.is_empty());
        if watched_before {
            self.memory().seen_while_down = self
                .remote
                .services
                .filter(|_| true)
                .into_iter()
                .map(|service| {
                    (
                        (service.namespace().unwrap_or_default(), service.name_any()),
                        service.resource_version().unwrap_or_default(),
                    )
                })
                .collect();
        }
    }

    /// Turns what happens into events.
    async fn listen(&self, mut liveness: mpsc::UnboundedReceiver<bool>) -> Infallible {
        let pace = self.place.model.pace();
        let mut services = self.remote.services.subscribe();
        let mut endpoints = self.remote.endpoints.subscribe();
        let mut own_endpoints = self.local.endpoints.subscribe();
        let mut namespaces = self.local.namespaces.subscribe();
        let known: HashSet<String> = self
            .local
            .namespaces
            .filter(|_| true)
            .iter()
            .map(|namespace| namespace.uid().unwrap_or_default())
            .collect();
        let has_gateway = !self.link.spec.gateway_address.is_empty();

        self.queue.push(Event::CollectOrphans);
        let mut repair = tokio::time::interval(pace.wall(self.place.arguments.repair_period));
        repair.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(change) = services.recv() => self.queue.push(match change {
                    Change::Added(service) => Event::OnAdd(service),
                    Change::Updated(service) => Event::OnUpdate(service),
                    Change::Deleted(service) => Event::OnDelete(service),
                }),
                Some(change) = endpoints.recv() => {
                    if let Some(endpoints) = self.news_of_endpoints(change)
                        && self.desired(&self.defects()).follows(&endpoints)
                    {
                        self.queue.push(Event::OnEndpoints(endpoints));
                    }
                }
                Some(change) = own_endpoints.recv() => {
                    if let Change::Deleted(endpoints) = change
                        && !self.has(Defect::UpstreamDeletedEndpointsStay)
                        && endpoints.labels().get(label::CLUSTER_NAME)
                            == Some(&self.link.spec.target_cluster_name)
                    {
                        self.queue.push(Event::RestoreEndpoints {
                            namespace: endpoints.namespace().unwrap_or_default(),
                            name: endpoints.name_any(),
                        });
                    }
                }
                Some(change) = namespaces.recv() => {
                    if let Change::Added(namespace) = change
                        && !known.contains(&namespace.uid().unwrap_or_default())
                        && !self.has(Defect::LateNamespaceIgnored)
                    {
                        self.queue.push(Event::NamespaceAdded(namespace.name_any()));
                    }
                }
                Some(alive) = liveness.recv() => {
                    self.memory().gateway_alive = Some(alive);
                    self.queue.push(Event::Repair { periodic: false });
                }
                _ = repair.tick(), if has_gateway => {
                    self.queue.push(Event::Repair { periodic: true });
                }
            }
        }
    }

    /// The Endpoints that a change is about, if anybody looks at it: the real controller takes updates only, and of headless
    /// Services none.
    fn news_of_endpoints(&self, change: Change<Endpoints>) -> Option<Arc<Endpoints>> {
        let missed = self.has(Defect::UpstreamRemoteEndpointsMissed);
        match change {
            Change::Updated(endpoints) => (!missed || !endpoints.labels().contains_key(HEADLESS)).then_some(endpoints),
            Change::Added(endpoints) | Change::Deleted(endpoints) => (!missed).then_some(endpoints),
        }
    }

    /// Works events off, one after the other.
    async fn work(&self, mut events: mpsc::UnboundedReceiver<Queued>) -> Result<Infallible, String> {
        loop {
            let Some(Queued { event, failures }) = events.recv().await else {
                return Err("the event queue ended".to_owned());
            };
            self.log.info(format!("Received: {event}"));
            match self.process(&event).await {
                Ok(()) => self.forget(&event),
                Err(failure) => self.retry(event, failures, failure),
            }
        }
    }

    fn forget(&self, event: &Event) {
        // Only the last step of a Service's way counts as success.
        if let (Some(key), Event::Exported(_) | Event::ExportedUpdated(_) | Event::Unexported { .. }) =
            (event.subject(), event)
        {
            self.memory().retries.remove(&key);
        }
    }

    fn retry(&self, event: Event, failures: u32, failure: Failure) {
        let limit = self.place.arguments.requeue_limit;
        let worth_a_slow_retry = match failure {
            Failure::Final(_) => {
                self.log
                    .error(format!("Error processing {event} (will not retry): {failure}"));
                return;
            }
            Failure::Retry(_) => true,
            Failure::RetryQuickly(_) => false,
        };
        self.log
            .warn(format!("Requeues: {failures}, Limit: {limit} for event {event}"));
        if failures < limit {
            self.log
                .error(format!("Error processing {event} (will retry): {failure}"));
            self.queue.retry_quickly(event, failures + 1);
            return;
        }
        self.log
            .error(format!("Error processing {event} (giving up): {failure}"));
        if worth_a_slow_retry && let Some((namespace, name)) = event.subject() {
            let mut memory = self.memory();
            let (round, waiting) = memory.retries.entry((namespace.clone(), name.clone())).or_default();
            if !*waiting {
                *waiting = true;
                self.queue
                    .push_later(Queue::slow_pause(*round), Event::Reconsider { namespace, name });
                *round += 1;
            }
        }
    }
}
