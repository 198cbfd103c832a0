//! The seam for relays: containers between a gateway and its clients, which know nothing of kind.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_engine::environment::{NetworkFault, Tap};
use meshproof_engine::problem::Problem;

use super::answers::Node;

/// Something that can put relays between clusters.
#[async_trait]
pub trait Relays: Send + Sync {
    /// Puts a relay into each path. Every container that it makes carries the label [`super::LABEL`] with
    /// [`RelayRequest::environment`], so that what a crash leaves is found.
    ///
    /// # Errors
    /// A [`Problem`] of the environment; whatever was made until then has been removed again.
    async fn start(&self, request: RelayRequest) -> Result<Arc<dyn RelaySet>, Problem>;
}

/// Which relays are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRequest {
    /// Name of the environment: the label's value.
    pub environment: String,
    /// Docker network that nodes are attached to.
    pub network: String,
    /// The directed links.
    pub paths: Vec<RelayPath>,
}

/// A directed link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPath {
    /// Cluster that consumes.
    pub from: String,
    /// Cluster that exports.
    pub to: String,
    /// Nodes of `from`.
    pub from_nodes: Vec<Node>,
    /// Nodes of `to`.
    pub to_nodes: Vec<Node>,
}

/// Relays that are in place.
#[async_trait]
pub trait RelaySet: Send + Sync {
    /// Resets all connections between two clusters, once, both ways.
    ///
    /// # Errors
    /// When a relay can't be reached.
    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem>;

    /// Watches the bytes that go from one cluster to another.
    ///
    /// # Errors
    /// When a relay can't be reached.
    async fn tap(&self, from: &str, to: &str) -> Result<Box<dyn Tap>, Problem>;

    /// Delays everything from one cluster to another. `None` when these relays can't: then the nodes do.
    async fn delay(&self, from: &str, to: &str, by: Duration) -> Option<Result<Box<dyn NetworkFault>, Problem>>;

    /// The address that pods of `from` are to take for the gateway of `to`; `None` when no relay stands between them.
    fn gateway(&self, from: &str, to: &str) -> Option<String>;

    /// What crossed each relay and what disturbs it now, for evidence.
    async fn report(&self) -> String;

    /// Removes the relays.
    ///
    /// # Errors
    /// A [`Problem`] that names what is left.
    async fn stop(&self) -> Result<(), Problem>;
}
