//! A topology file: clusters, their networks and the directed links between them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Name, TimeSpan};
use crate::scenario::{Setup, TrustSetup};

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
    /// What clusters can reach of each other; `gateway-only` by default.
    #[serde(default)]
    pub network: Network,
    /// Certificates of the mesh, where they differ from the usual.
    #[serde(default, skip_serializing_if = "TopologyTrust::is_usual")]
    pub trust: TopologyTrust,
}

impl Topology {
    /// Where trust anchors come from when the clusters are prepared like this.
    #[must_use]
    pub fn roots(&self, setup: &Setup) -> TrustSetup {
        setup.trust.or(self.trust.roots).unwrap_or(TrustSetup::Shared)
    }
}

/// Certificates of a mesh that the harness installs. Lifetimes are scenario time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopologyTrust {
    /// One root for all clusters (`shared`, the default) or one for each (`separate`). A scenario's `setup` wins.
    pub roots: Option<TrustSetup>,
    /// How long roots are valid; as good as for ever by default.
    pub root_lifetime: Option<TimeSpan>,
    /// How long issuers are valid; as good as for ever by default.
    pub issuer_lifetime: Option<TimeSpan>,
    /// How long certificates of workloads are valid; the mesh's own default when absent.
    pub workload_lifetime: Option<TimeSpan>,
}

impl TopologyTrust {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What clusters can reach of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Addresses of nodes, and what is exposed on them.
    #[default]
    GatewayOnly,
    /// Addresses of pods, too.
    Flat,
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
    /// Number of nodes, the control plane's among them; 1 by default. For environments that make clusters.
    #[serde(default)]
    pub nodes: Option<u8>,
    /// Image of the nodes, e.g. `kindest/node:v1.34.3@sha256:…`, which decides the version of Kubernetes; by default the
    /// environment's. For environments that make clusters of containers.
    #[serde(default)]
    pub node_image: Option<String>,
}

/// A directed link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Cluster that consumes.
    pub from: Name,
    /// Cluster that exports.
    pub to: Name,
    /// ServiceAccount of the exporting cluster that the link reads it with, so that its credentials can be replaced and
    /// revoked without touching other links'; by default the one that all links share. The mesh makes it in that cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Name>,
}
