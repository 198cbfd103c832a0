//! Clusters that are up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_engine::environment::{Cluster, NetworkFault, RunningEnvironment, Tap};
use meshproof_engine::problem::{self, Problem};

use super::answers::Node;
use super::blueprint::Blueprint;
use super::connections;
use super::environment::Shared;
use super::faults::{self, FaultContext};
use super::load_balancer::LoadBalancer;
use super::logs;
use super::making::Made;
use super::record::{self, Claim};
use super::relays::RelaySet;
use super::removal::{self, Certainty};

/// Clusters that are up. When it is dropped without [`RunningEnvironment::down`], they are removed in the background, unless
/// they are to be kept.
pub(super) struct Running {
    shared: Arc<Shared>,
    blueprint: Blueprint,
    clusters: Vec<Cluster>,
    nodes: BTreeMap<String, Vec<Node>>,
    faults: Arc<FaultContext>,
    relays: Option<Arc<dyn RelaySet>>,
    held: Mutex<Option<Held>>,
}

/// What ends when the clusters go down.
struct Held {
    claim: Claim,
    balancers: Vec<LoadBalancer>,
}

impl Running {
    pub(super) fn new(
        shared: Arc<Shared>,
        blueprint: Blueprint,
        made: Made,
        claim: Claim,
        relays: Option<Arc<dyn RelaySet>>,
    ) -> Self {
        let balancer = |cluster: &Cluster| {
            let node = made.nodes.get(&cluster.name)?.iter().find(|node| node.control_plane)?;
            Some(LoadBalancer::start(cluster.client.clone(), node.address))
        };
        let balancers = made.clusters.iter().filter_map(balancer).collect();
        let mut clusters = made.clusters;
        if let Some(relays) = &relays {
            let names: Vec<String> = clusters.iter().map(|cluster| cluster.name.clone()).collect();
            for to in &mut clusters {
                let relayed = |from: &String| Some((from.clone(), relays.gateway(from, &to.name)?));
                to.gateway_from = names.iter().filter_map(relayed).collect();
            }
        }
        let faults = FaultContext::new(shared.tools.clone(), shared.commands.clone(), shared.tracker.clone());
        Self {
            shared,
            blueprint,
            clusters,
            nodes: made.nodes,
            faults: Arc::new(faults),
            relays,
            held: Mutex::new(Some(Held { claim, balancers })),
        }
    }

    fn nodes(&self, cluster: &str) -> Result<&[Node], Problem> {
        self.nodes.get(cluster).map(Vec::as_slice).ok_or_else(|| {
            problem::harness(
                "cluster-unknown",
                format!("the environment has no cluster `{cluster}`"),
                None,
            )
        })
    }

    fn relays(&self, what: &str) -> Result<&Arc<dyn RelaySet>, Problem> {
        self.relays.as_ref().ok_or_else(|| {
            problem::environment(
                "relay-missing",
                format!("{what} needs a relay between the clusters, and there is none"),
                Some("switch relays on for this environment"),
            )
        })
    }

    fn take(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Stops what serves the clusters and removes them, as far as they are not to be kept.
async fn end(shared: Arc<Shared>, held: Held, relays: Option<Arc<dyn RelaySet>>) -> Result<(), Problem> {
    let Held { claim, balancers } = held;
    drop(balancers);
    let stopped = match relays {
        Some(relays) => relays.stop().await,
        None => Ok(()),
    };
    if shared.options.keep {
        return stopped;
    }
    // Also relays that could not be stopped go with the environment's containers.
    removal::remove(
        &shared.tools,
        &shared.commands,
        &shared.options.state,
        claim,
        Certainty::Ended,
    )
    .await
}

#[async_trait]
impl RunningEnvironment for Running {
    fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    async fn partition(&self, one: &str, other: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        faults::partition(&self.faults, self.nodes(one)?, self.nodes(other)?).await
    }

    async fn delay(&self, from: &str, to: &str, by: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        let (from_nodes, to_nodes) = (self.nodes(from)?, self.nodes(to)?);
        if let Some(relays) = &self.relays
            && let Some(fault) = relays.delay(from, to, by).await
        {
            return fault;
        }
        faults::delay(&self.faults, from_nodes, to_nodes, by).await
    }

    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem> {
        let (ones, others) = (self.nodes(one)?, self.nodes(other)?);
        self.relays("reset")?.reset(one, other).await?;
        // Relays carry the gateways' ports; controllers go to the peer's API server themselves.
        let (tools, commands) = (&self.shared.tools, &self.shared.commands);
        connections::reset(tools, commands, (one, ones), (other, others)).await
    }

    async fn pause_api(&self, cluster: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        let nodes = self.nodes(cluster)?;
        let Some(found) = self.clusters.iter().find(|found| found.name == cluster) else {
            return Err(problem::harness(
                "cluster-unknown",
                format!("no client for `{cluster}`"),
                None,
            ));
        };
        let resume = self.shared.options.waits.resume;
        faults::pause_api(&self.faults, cluster, &found.client, nodes, resume).await
    }

    async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem> {
        self.nodes(from)?;
        self.nodes(to)?;
        self.relays("a tap")?.tap(from, to).await
    }

    async fn diagnose(&self) -> Vec<(String, String)> {
        let shared = &self.shared;
        let mut files = logs::collect(&shared.tools, &shared.commands, &self.blueprint).await;
        files.push(logs::commands(&shared.tools));
        if let Some(relays) = &self.relays {
            files.push(("relays.txt".to_owned(), relays.report().await));
        }
        files
    }

    async fn down(&self) -> Result<(), Problem> {
        let held = match self.take() {
            Some(held) => held,
            None if self.shared.options.keep || record::read_record(&self.blueprint.folder)?.is_none() => return Ok(()),
            // An earlier attempt left something.
            None => Held {
                claim: Claim::take(&self.blueprint.folder)?,
                balancers: Vec::new(),
            },
        };
        // On its own, so that it goes on when nobody waits for it any longer.
        let ending = self
            .shared
            .tracker
            .spawn(end(Arc::clone(&self.shared), held, self.relays.clone()));
        ending.await.map_err(|error| {
            problem::harness(
                "task-failed",
                format!("removing {}: {error}", self.blueprint.environment),
                None,
            )
        })?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(held) = self.take() else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            // The record stays for `gc`.
            return;
        }
        let (shared, relays) = (Arc::clone(&self.shared), self.relays.clone());
        self.shared.tracker.spawn(async move {
            if let Err(problem) = end(shared, held, relays).await {
                tracing::warn!(problem = problem.message, "clusters are left");
            }
        });
    }
}
