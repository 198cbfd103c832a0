//! Clusters that are up, with the engine's faults and taps turned into those of the network model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use meshproof_cluster::EmbeddedCluster;
use meshproof_cluster::fabric::{Effect, EffectGuard, Fabric, PathSelector, TapOptions};
use meshproof_engine::environment::{Cluster, NetworkFault, RunningEnvironment, Tap};
use meshproof_engine::problem::{self, Problem};

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

    fn impose(&self, paths: Vec<PathSelector>, effect: Effect) -> Box<dyn NetworkFault> {
        let guards = paths.into_iter().map(|path| self.fabric.impose(path, effect)).collect();
        Box::new(Imposed {
            fabric: self.fabric.clone(),
            guards: Mutex::new(guards),
        })
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
        Ok(self.impose(both_ways(one, other), Effect::Blackhole))
    }

    async fn delay(&self, from: &str, to: &str, by: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        self.known(from)?;
        self.known(to)?;
        let effect = Effect::Delay {
            each_way: by,
            jitter: Duration::ZERO,
        };
        Ok(self.impose(vec![PathSelector::between(from, to)], effect))
    }

    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem> {
        self.known(one)?;
        self.known(other)?;
        for path in both_ways(one, other) {
            self.fabric.reset(&path);
        }
        Ok(())
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
        Ok(Box::new(Paused {
            embedded: Arc::clone(&self.embedded),
            cluster: cluster.to_owned(),
        }))
    }

    async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem> {
        self.known(from)?;
        self.known(to)?;
        let tap = self.fabric.tap(PathSelector::between(from, to), &TapOptions::default());
        Ok(Box::new(FabricTap(tap)))
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
        if left == 0 {
            return Ok(());
        }
        Err(problem::harness(
            "fault-not-healed",
            format!("{left} effects are still in force on the network"),
            None,
        ))
    }
}

/// An API server that does not answer until this is healed or dropped.
struct Paused {
    embedded: Servers,
    cluster: String,
}

impl Paused {
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
        Ok(())
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
