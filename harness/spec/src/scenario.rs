//! A scenario file: a situation that is set up, and the requirements that are checked in it.
//!
//! These types are the grammar. They are plain data; the module `lint` holds the rules that types can't express.
//! Strings may contain `${…}` references: `${namespace}`, `${vars.x}`, `${matrix.x}` (in a fragment `${params.x}`), and facts
//! that the mesh's driver supplies, e.g. `${mirror.store.east}` (the object name of east's `store` as mirrored), `${mesh.namespace}`,
//! `${identity.gateway.east}`, `${identity.workload.shopper.west}`.

mod action;
mod expectation;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::action::*;
pub use self::expectation::*;
use crate::scalar::{Clusters, Name, RequirementId};

/// A whole scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Stable id, unique in the suite.
    pub scenario: Name,
    /// What is shown, in one sentence for people.
    pub summary: String,
    /// Name of a topology (a folder of `kind-configs/`).
    pub topology: Name,
    /// Requirements that this scenario decides; each must be named by at least one `expect`.
    pub checks: Vec<RequirementId>,
    /// Words to filter by.
    #[serde(default)]
    pub tags: Vec<Name>,
    /// Capabilities of the environment without which the scenario is skipped, e.g. `relay`.
    #[serde(default)]
    pub needs: Vec<Name>,
    /// Name of the mesh whose own objects the file uses; required when it does.
    #[serde(default)]
    pub mesh: Option<Name>,
    /// The scenario's namespace, which otherwise exists in every cluster and is injected.
    #[serde(default)]
    pub namespace: NamespaceOptions,
    /// How the clusters are prepared, where it differs from what the topology says. The scenario then gets clusters of
    /// its own.
    #[serde(default)]
    pub setup: Option<Setup>,
    /// Constants for `${vars.…}`.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Rows of values for `${matrix.…}`; the scenario runs once per row, under the id `<scenario>.<row>`.
    #[serde(default)]
    pub matrix: BTreeMap<Name, BTreeMap<String, String>>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// Options of the scenario's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceOptions {
    /// Clusters in which it does not exist at first (see the step `namespace`).
    pub absent_in: Option<Clusters>,
}

/// Clusters that differ from the topology's usual ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Setup {
    /// `separate`: every cluster has a root of its own.
    pub trust: Option<TrustSetup>,
    /// Install nothing and link nothing: the steps do it.
    pub bare: bool,
    /// Install the mesh but link nothing.
    pub unlinked: bool,
    /// How gateways are exposed.
    pub gateway: Option<GatewayExposure>,
}

/// Where trust anchors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrustSetup {
    /// One root for all clusters, an issuer per cluster.
    Shared,
    /// A root per cluster.
    Separate,
}

/// How a gateway is reached from other clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GatewayExposure {
    /// Service of type LoadBalancer.
    Loadbalancer,
    /// Service of type NodePort.
    Nodeport,
}

/// One step. Exactly one verb each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Deploy a service or a client.
    Deploy(Deploy),
    /// Export a service to the clusters linked to its own.
    Export(Export),
    /// Take an export back.
    Unexport(Unexport),
    /// Split the traffic to a service; ends when this very route is live at every client of the cluster.
    Route(Route),
    /// Remove a route; ends when the object is gone.
    Unroute(Unroute),
    /// Change a number of replicas.
    Scale(Scale),
    /// Replace all pods of a workload.
    Restart(Restart),
    /// Tell the pods of a service how to answer from now on; fields that are not named go back to normal.
    Behave(Behave),
    /// Send a fixed number of requests and wait for their outcomes.
    Call(Call),
    /// Start background traffic at a fixed rate.
    Traffic(Traffic),
    /// Stop background traffic.
    Stop(Stop),
    /// Decide a requirement.
    Expect(Box<Expect>),
    /// Break something until `heal` or the end of the scenario.
    Fault(Fault),
    /// End a fault; ends when it is verified to be over.
    Heal(Heal),
    /// Link a cluster to another one; ends when the link is ready.
    Link(LinkStep),
    /// Remove a link by the mesh's documented procedure.
    Unlink(LinkStep),
    /// Install the mesh.
    Install(InstallStep),
    /// Upgrade the mesh, one cluster after another, to the version that the run goes to; ends when all of it runs that
    /// version and the cluster's links work again. Pods of the scenario keep the sidecars that they have until `restart`.
    Upgrade(InstallStep),
    /// Uninstall the mesh by its documented procedure.
    Uninstall(InstallStep),
    /// Replace credentials or certificates.
    Rotate(Rotate),
    /// Remember all objects of some clusters under a name.
    Inventory(InventoryStep),
    /// Create the scenario's namespace where it was absent.
    Namespace(NamespaceStep),
    /// Apply an object as it stands.
    Apply(Apply),
    /// Change an object by a JSON merge patch.
    Patch(Patch),
    /// Delete an object and wait until it is gone.
    Delete(Delete),
    /// Insert the steps of a fragment here. Expansion replaces it: an expanded scenario holds none.
    Use(Use),
}

impl Step {
    /// Whether it makes, changes or removes objects, or how pods behave.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.disturbs() || matches!(self, Self::Deploy(_))
    }

    /// Whether it changes something that running traffic may feel. What was seen before such a step proves nothing about
    /// the time after it.
    #[must_use]
    pub fn disturbs(&self) -> bool {
        match self {
            Self::Export(_)
            | Self::Unexport(_)
            | Self::Route(_)
            | Self::Unroute(_)
            | Self::Scale(_)
            | Self::Restart(_)
            | Self::Behave(_)
            | Self::Fault(_)
            | Self::Heal(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Install(_)
            | Self::Upgrade(_)
            | Self::Uninstall(_)
            | Self::Rotate(_)
            | Self::Namespace(_)
            | Self::Apply(_)
            | Self::Patch(_)
            | Self::Delete(_) => true,
            Self::Deploy(_)
            | Self::Call(_)
            | Self::Traffic(_)
            | Self::Stop(_)
            | Self::Expect(_)
            | Self::Inventory(_)
            | Self::Use(_) => false,
        }
    }
}

/// A fragment file, `scenarios/fragments/<name>.yaml`: steps that several scenarios share.
///
/// It sees its own parameters (`${params.x}`) and what the mesh's driver supplies, not the variables of the scenario
/// that uses it. It uses no other fragment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Name; equals the file's.
    pub fragment: Name,
    /// What the steps achieve, in one sentence.
    pub summary: String,
    /// Parameters, each with a sentence that says what it stands for. Whoever uses the fragment gives all of them.
    #[serde(default)]
    pub parameters: BTreeMap<Name, String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}
