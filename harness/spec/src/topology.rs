//! A topology file: clusters, their networks and the directed links between them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Name;

/// `kind-configs/<name>/topology.yaml`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Name; equals the folder's.
    pub topology: Name,
    /// What it is for, in one sentence.
    pub summary: String,
    /// Clusters by name.
    pub clusters: BTreeMap<Name, ClusterSpec>,
    /// Directed links: `from` consumes what `to` exports.
    pub links: Vec<LinkSpec>,
}

/// A cluster of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Pod addresses, disjoint from all others.
    pub pod_cidr: String,
    /// Service addresses, disjoint from all others.
    pub service_cidr: String,
    /// DNS domain; `cluster.local` by default.
    #[serde(default)]
    pub domain: Option<String>,
    /// Whether other clusters can call in through a gateway; true by default.
    #[serde(default)]
    pub gateway: Option<bool>,
}

/// A directed link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Cluster that consumes.
    pub from: Name,
    /// Cluster that exports.
    pub to: Name,
}
