//! Where a topology exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_spec::scenario::Setup;
use meshproof_spec::topology::Topology;

pub use meshproof_verdict::wakefulness::Unmodelled;

use crate::action::Action;
use crate::problem::Problem;

/// A kind of environment: something that can bring a topology's clusters up.
#[async_trait]
pub trait Environment: Send + Sync {
    /// Name on the command line and in reports, e.g. `kind`.
    fn kind(&self) -> &'static str;

    /// Whether a run on it can certify anything.
    fn certifies(&self) -> bool;

    /// Scenario seconds per wall second; 1 on real clusters.
    fn pace(&self) -> f64;

    /// Whether its clusters are a model that shares the harness's processors: then it starves when the harness does.
    fn is_model(&self) -> bool {
        false
    }

    /// What scenarios may ask for in `needs`, and what steps need: `relay`, `partition`, `delay`, `pause-api`,
    /// `disposable` (clusters of a scenario's own), `disruptive` (what others rely on may be disturbed: everything that
    /// takes an exclusive lock), `node-port`, `load-balancer`, `separate-trust`, `flat-network` (pods reach pods of other
    /// clusters where the topology says so; exports without a gateway need it) …
    fn capabilities(&self) -> BTreeSet<String>;

    /// How many sets of clusters it can hold at the same time, e.g. for want of memory; `None` when any number.
    fn at_once(&self) -> Option<usize> {
        None
    }

    /// Names of the clusters that it can be; any when absent. Scenarios on topologies with others are skipped.
    fn cluster_names(&self) -> Option<BTreeSet<String>> {
        None
    }

    /// What [`Environment::up`] would do, in order; empty when nothing outside of this process.
    fn commands(&self, request: &EnvironmentRequest) -> Vec<Action> {
        let _ = request;
        Vec::new()
    }

    /// Brings the clusters up, without any mesh, and waits until they serve.
    ///
    /// # Errors
    /// A [`Problem`] of the environment; whatever was made until then has been removed again.
    async fn up(&self, request: &EnvironmentRequest) -> Result<Arc<dyn RunningEnvironment>, Problem>;

    /// What the environment knows of clusters that [`Environment::up`] could not bring up, as files of evidence by name, as
    /// [`RunningEnvironment::diagnose`] tells it of others. It is told once.
    async fn diagnose_failed(&self, key: &str) -> Vec<(String, String)> {
        let _ = key;
        Vec::new()
    }
}

/// What clusters are wanted.
#[derive(Clone, Debug)]
pub struct EnvironmentRequest {
    /// Key: scenarios with the same key share these clusters.
    pub key: String,
    /// Clusters and links.
    pub topology: Topology,
    /// How they differ from the usual.
    pub setup: Setup,
    /// Seed of everything drawn at random.
    pub seed: u64,
}

/// A cluster as the engine and the driver see it.
#[derive(Clone)]
pub struct Cluster {
    /// Name in the topology.
    pub name: String,
    /// Client with the harness' own credentials.
    pub client: kube::Client,
    /// The same credentials as a kubeconfig, for tools that take a file. A secret.
    pub kubeconfig: String,
    /// URL of the API server as pods of *other* clusters reach it.
    pub api_from_peers: String,
    /// Address of a node as pods of other clusters reach it.
    pub node_address: String,
    /// Address to take for this cluster's gateway, by the cluster that calls, where something stands between them; the
    /// gateway's own otherwise.
    pub gateway_from: BTreeMap<String, String>,
    /// DNS domain, e.g. `cluster.local`.
    pub domain: String,
}

/// Clusters that are up.
///
/// A fault is begun when it was seen to take effect on everything that its contract names, where it has to be felt: at the pods'
/// ways and not at a switch. One without effect is an error, `fault-without-effect` ([`crate::problem::without_effect`]), because
/// checks that rest on it would decide nothing. What an environment can't do to all of it is not among its capabilities.
#[async_trait]
pub trait RunningEnvironment: Send + Sync {
    /// The clusters, in the topology's order.
    fn clusters(&self) -> &[Cluster];

    /// Lets all packets between two clusters vanish, both ways, until the handle is healed or dropped.
    ///
    /// # Errors
    /// When the environment can't (see [`Environment::capabilities`]).
    async fn partition(&self, one: &str, other: &str) -> Result<Box<dyn NetworkFault>, Problem>;

    /// Delays everything from one cluster to another by `by` (scenario time).
    ///
    /// # Errors
    /// When the environment can't.
    async fn delay(&self, from: &str, to: &str, by: Duration) -> Result<Box<dyn NetworkFault>, Problem>;

    /// Resets all connections between two clusters, once, both ways: also those of controllers to the peer's API server.
    /// Connections that were open before are gone when this returns.
    ///
    /// # Errors
    /// When the environment can't; code `fault-without-effect` when none was open, or one still is.
    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem>;

    /// Stops a cluster's API server from answering whoever asks from outside of its own nodes.
    ///
    /// # Errors
    /// When the environment can't.
    async fn pause_api(&self, cluster: &str) -> Result<Box<dyn NetworkFault>, Problem>;

    /// Watches the bytes that go from one cluster to another.
    ///
    /// # Errors
    /// When the environment can't.
    async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem>;

    /// What the environment itself knows (commands that were run, what crossed relays, what nodes logged), as files of
    /// evidence by name; `/` stands between folders.
    async fn diagnose(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What of a namespace, and of all objects in it, has no effect in these clusters although it has in real ones. Real
    /// clusters know of nothing.
    fn unmodelled(&self, namespace: &str) -> Vec<Unmodelled> {
        let _ = namespace;
        Vec::new()
    }

    /// Removes the clusters and everything that belongs to them.
    ///
    /// # Errors
    /// A [`Problem`] that names what is left.
    async fn down(&self) -> Result<(), Problem>;
}

/// An active fault. Dropping it heals it too, but unverified.
#[async_trait]
pub trait NetworkFault: Send + Sync {
    /// Ends the fault and verifies that it is over.
    ///
    /// # Errors
    /// When it can't be verified.
    async fn heal(&self) -> Result<(), Problem>;
}

/// A tap on a directed path between two clusters.
#[async_trait]
pub trait Tap: Send + Sync {
    /// Bytes seen since the tap was made.
    async fn bytes(&self) -> u64;

    /// Looks for one more byte sequence from now on.
    async fn look_for(&self, pattern: &[u8]);

    /// Whether this byte sequence has crossed since it was first looked for, even split over packets.
    async fn saw(&self, pattern: &[u8]) -> bool;
}
