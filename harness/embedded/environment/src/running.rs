//! Clusters that are up, with the engine's faults and taps turned into those of the network model. Each fault is looked at where
//! it has to be felt: at connections from one cluster to the API server of another.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use meshproof_cluster::EmbeddedCluster;
use meshproof_cluster::fabric::{ControlKind, Effect, EffectGuard, Fabric, PathSelector, TapOptions};
use meshproof_engine::environment::{Cluster, NetworkFault, RunningEnvironment, Tap, Unmodelled};
use meshproof_engine::problem::{self, Problem, without_effect};
use meshproof_mesh::unmodelled::unmodelled;
use serde_json::Value;

/// How long nothing must come through for a way to count as cut, or an API server as silent (wall time).
const SILENCE: Duration = Duration::from_millis(100);
/// How long a healed way, or a server, may take to be as it was (wall time).
const HEALED: Duration = Duration::from_secs(10);
/// Between two looks (wall time).
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(crate) struct Running {
    fabric: Fabric,
    embedded: Servers,
    clusters: Vec<Cluster>,
}

/// The running clusters, shared with the faults that concern them; empty once they are down.
type Servers = Arc<Mutex<Vec<EmbeddedCluster>>>;

fn lock(servers: &Servers) -> MutexGuard<'_, Vec<EmbeddedCluster>> {
    servers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    pub(crate) fn new(fabric: Fabric, embedded: Vec<EmbeddedCluster>, clusters: Vec<Cluster>) -> Self {
        Self {
            fabric,
            embedded: Arc::new(Mutex::new(embedded)),
            clusters,
        }
    }

    fn known(&self, name: &str) -> Result<(), Problem> {
        if self.clusters.iter().any(|cluster| cluster.name == name) {
            return Ok(());
        }
        Err(problem::harness(
            "cluster-unknown",
            format!("the environment has no cluster `{name}`"),
            None,
        ))
    }

    /// The ways from each of these clusters to the API server of the other.
    fn ways(&self, pairs: &[(&str, &str)]) -> Result<Vec<Way>, Problem> {
        let way = |(from, to): &(&str, &str)| {
            let cluster = self.clusters.iter().find(|cluster| cluster.name == *to);
            let server = cluster
                .and_then(|cluster| cluster.api_from_peers.split_once("://"))
                .and_then(|(_, host)| host.trim_end_matches('/').parse().ok());
            let server = server
                .ok_or_else(|| problem::harness("api-address", format!("{to}: its API server has no address"), None))?;
            Ok(Way {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                server,
            })
        };
        pairs.iter().map(way).collect()
    }

    fn impose(&self, ways: Vec<Way>, effect: Effect) -> Imposed {
        let impose = |way: &Way| self.fabric.impose(PathSelector::between(&way.from, &way.to), effect);
        Imposed {
            fabric: self.fabric.clone(),
            guards: Mutex::new(ways.iter().map(impose).collect()),
            ways,
        }
    }

    /// Connections that are open between two clusters, whoever opened them.
    fn open(&self, one: &str, other: &str) -> BTreeSet<u64> {
        let paths = both_ways(one, other);
        let connections = paths.iter().flat_map(|path| self.fabric.connections(path));
        connections.map(|connection| connection.id).collect()
    }
}

/// A way between two clusters, at whose end somebody listens.
struct Way {
    from: String,
    to: String,
    server: SocketAddr,
}

impl Way {
    /// How long a connection takes, if it is made within `within` (wall time).
    async fn connects(&self, fabric: &Fabric, within: Duration) -> Option<Duration> {
        let began = Instant::now();
        match tokio::time::timeout(within, fabric.connect_from(&self.from, self.server)).await {
            Ok(Ok(_)) => Some(began.elapsed()),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

fn both_ways(one: &str, other: &str) -> Vec<PathSelector> {
    vec![PathSelector::between(one, other), PathSelector::between(other, one)]
}

#[async_trait]
impl RunningEnvironment for Running {
    fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    async fn partition(&self, one: &str, other: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        self.known(one)?;
        self.known(other)?;
        let fault = self.impose(self.ways(&[(one, other), (other, one)])?, Effect::Blackhole);
        for way in &fault.ways {
            if way.connects(&self.fabric, SILENCE).await.is_some() {
                let Way { from, to, .. } = way;
                return Err(without_effect(
                    &format!("the partition of {one} and {other}"),
                    &format!("{from} still gets a connection to the API server of {to}"),
                ));
            }
        }
        Ok(Box::new(fault))
    }

    async fn delay(&self, from: &str, to: &str, by: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        self.known(from)?;
        self.known(to)?;
        let effect = Effect::Delay {
            each_way: by,
            jitter: Duration::ZERO,
        };
        let fault = self.impose(self.ways(&[(from, to)])?, effect);
        let slowed = self.fabric.config().pace.wall(by);
        for way in &fault.ways {
            // A way that is cut as well is not slow, and no connection is made.
            if let Some(took) = way.connects(&self.fabric, slowed * 2 + HEALED).await
                && took < slowed
            {
                return Err(without_effect(
                    &format!("the delay from {from} to {to}"),
                    &format!("a connection takes {took:?}, and not {slowed:?} and more (wall time)"),
                ));
            }
        }
        Ok(Box::new(fault))
    }

    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem> {
        self.known(one)?;
        self.known(other)?;
        let before = self.open(one, other);
        if before.is_empty() {
            return Err(without_effect(
                &format!("the reset between {one} and {other}"),
                "no connection is open between them",
            ));
        }
        for path in both_ways(one, other) {
            self.fabric.reset(&path);
        }
        let gone = async {
            while !self.open(one, other).is_disjoint(&before) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(HEALED, gone).await.map_err(|_| {
            without_effect(
                &format!("the reset between {one} and {other}"),
                "connections that were open before still are",
            )
        })
    }

    async fn pause_api(&self, cluster: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        self.known(cluster)?;
        match lock(&self.embedded).iter().find(|embedded| embedded.name() == cluster) {
            Some(found) => found.api().pause(),
            None => {
                return Err(problem::harness(
                    "cluster-down",
                    format!("cluster `{cluster}` is down"),
                    None,
                ));
            }
        }
        let client = self.clusters.iter().find(|known| known.name == cluster);
        let fault = Paused {
            embedded: Arc::clone(&self.embedded),
            cluster: cluster.to_owned(),
            client: client.map(|known| known.client.clone()),
        };
        if fault.answers(SILENCE).await {
            return Err(without_effect(
                &format!("the pause of the API server of {cluster}"),
                "it still answers",
            ));
        }
        Ok(Box::new(fault))
    }

    async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem> {
        self.known(from)?;
        self.known(to)?;
        let tap = self.fabric.tap(PathSelector::between(from, to), &TapOptions::default());
        Ok(Box::new(FabricTap(tap)))
    }

    fn unmodelled(&self, namespace: &str) -> Vec<Unmodelled> {
        let mut found = Vec::new();
        for cluster in lock(&self.embedded).iter() {
            for object in cluster.store().namespace_and_content(namespace) {
                let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let named = || format!("{} {namespace}/{}", text("/kind"), text("/metadata/name"));
                found.extend(unmodelled(&object).into_iter().map(|what| Unmodelled {
                    cluster: cluster.name().to_owned(),
                    object: named(),
                    what,
                }));
            }
        }
        found
    }

    async fn down(&self) -> Result<(), Problem> {
        self.fabric.heal_all();
        let embedded = std::mem::take(&mut *lock(&self.embedded));
        join_all(embedded.into_iter().map(EmbeddedCluster::shutdown)).await;
        Ok(())
    }
}

/// Effects of the network model that belong to one fault.
struct Imposed {
    fabric: Fabric,
    guards: Mutex<Vec<EffectGuard>>,
    ways: Vec<Way>,
}

#[async_trait]
impl NetworkFault for Imposed {
    async fn heal(&self) -> Result<(), Problem> {
        let guards = std::mem::take(&mut *self.guards.lock().unwrap_or_else(PoisonError::into_inner));
        let ids: Vec<u64> = guards.iter().map(EffectGuard::id).collect();
        drop(guards);
        let left = self
            .fabric
            .active()
            .into_iter()
            .filter(|control| ids.contains(&control.id))
            .count();
        if left > 0 {
            return Err(problem::harness(
                "fault-not-healed",
                format!("{left} effects are still in force on the network"),
                None,
            ));
        }
        let active = self.fabric.active();
        let alone = active.iter().all(|control| control.kind == ControlKind::Tap);
        for way in &self.ways {
            // Another fault may still be in force on the same way.
            if alone && way.connects(&self.fabric, HEALED).await.is_none() {
                let Way { from, to, .. } = way;
                return Err(problem::environment(
                    "fault-not-healed",
                    format!("{from} gets no connection to the API server of {to} after the fault was healed"),
                    None,
                ));
            }
        }
        Ok(())
    }
}

/// An API server that does not answer until this is healed or dropped.
struct Paused {
    embedded: Servers,
    cluster: String,
    client: Option<kube::Client>,
}

impl Paused {
    async fn answers(&self, within: Duration) -> bool {
        match &self.client {
            Some(client) => matches!(
                tokio::time::timeout(within, client.apiserver_version()).await,
                Ok(Ok(_))
            ),
            None => false,
        }
    }

    fn resume(&self) {
        if let Some(found) = lock(&self.embedded)
            .iter()
            .find(|embedded| embedded.name() == self.cluster)
        {
            found.api().resume();
        }
    }
}

#[async_trait]
impl NetworkFault for Paused {
    async fn heal(&self) -> Result<(), Problem> {
        self.resume();
        if self.answers(HEALED).await {
            return Ok(());
        }
        Err(problem::environment(
            "fault-not-healed",
            format!("the API server of {} does not answer after its pause", self.cluster),
            None,
        ))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.resume();
    }
}

struct FabricTap(meshproof_cluster::fabric::Tap);

#[async_trait]
impl Tap for FabricTap {
    async fn bytes(&self) -> u64 {
        let report = self.0.report();
        report.forward_bytes + report.backward_bytes
    }

    async fn look_for(&self, pattern: &[u8]) {
        self.0.look_for(pattern);
    }

    async fn saw(&self, pattern: &[u8]) -> bool {
        self.0.report().count(pattern) > 0
    }
}
