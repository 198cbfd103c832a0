//! What a scenario must not share with others while it runs. Derived from its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meshproof_spec::scenario::{Component, Scenario, Step};
use meshproof_spec::topology::Topology;
use serde::Serialize;
use serde_json::Value;

/// Something that scenarios on the same clusters share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// Everything in a cluster.
    Cluster(String),
    /// The mesh's control plane of a cluster.
    ControlPlane(String),
    /// The gateway of a cluster.
    Gateway(String),
    /// A directed link.
    Link {
        /// Cluster that consumes.
        from: String,
        /// Cluster that exports.
        to: String,
    },
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(cluster) => write!(f, "cluster {cluster}"),
            Self::ControlPlane(cluster) => write!(f, "control-plane {cluster}"),
            Self::Gateway(cluster) => write!(f, "gateway {cluster}"),
            Self::Link { from, to } => write!(f, "link {from} → {to}"),
        }
    }
}

/// How a thing is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// It is relied on: others may rely on it too.
    Shared,
    /// It is disturbed: nobody else may rely on it.
    Exclusive,
}

/// All things that a scenario uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locks(BTreeMap<Thing, Use>);

impl Locks {
    /// Things and uses, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Thing, Use)> {
        self.0.iter().map(|(thing, used)| (thing, *used))
    }

    /// Whether both can't run at the same time.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.0.iter().any(|(thing, used)| {
            other
                .0
                .get(thing)
                .is_some_and(|theirs| *used == Use::Exclusive || *theirs == Use::Exclusive)
        })
    }

    /// Things that are used exclusively.
    pub fn exclusive(&self) -> impl Iterator<Item = &Thing> {
        self.iter()
            .filter(|(_, used)| *used == Use::Exclusive)
            .map(|(thing, _)| thing)
    }

    fn add(&mut self, thing: Thing, used: Use) {
        let entry = self.0.entry(thing).or_insert(used);
        *entry = (*entry).max(used);
    }

    /// The locks of a scenario on a topology.
    ///
    /// * Shared: every cluster and control plane of the topology (the scenario's namespace and sidecars are there), the
    ///   links and gateways behind everything that it exports, calls, routes to or looks at, and those of a cluster in which
    ///   it looks at objects outside of its namespace, which may be theirs.
    /// * Exclusive: what it scales, restarts, breaks, links, installs, upgrades, rotates or remembers, and clusters in
    ///   which it changes objects outside of its namespace.
    #[must_use]
    pub fn of(scenario: &Scenario, topology: &Topology) -> Self {
        let mut locks = Self::default();
        for cluster in topology.clusters.keys() {
            locks.add(Thing::Cluster(cluster.0.clone()), Use::Shared);
            locks.add(Thing::ControlPlane(cluster.0.clone()), Use::Shared);
        }
        let (mut exporting, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for step in &scenario.steps {
            locks.add_step(step);
            exporting.extend(exporting_clusters(step));
            seen.extend(seen_outside(step));
        }
        for cluster in &seen {
            locks.add(Thing::Gateway((*cluster).to_owned()), Use::Shared);
        }
        for link in &topology.links {
            let (from, to) = (link.from.0.as_str(), link.to.0.as_str());
            if exporting.contains(to) || seen.contains(from) || seen.contains(to) {
                locks.add_link(from, to, Use::Shared);
            }
        }
        locks
    }

    fn add_link(&mut self, from: &str, to: &str, used: Use) {
        self.add(
            Thing::Link {
                from: from.to_owned(),
                to: to.to_owned(),
            },
            used,
        );
        self.add(Thing::Gateway(to.to_owned()), Use::Shared);
    }

    fn add_component(&mut self, component: Component, of: Option<&str>, cluster: &str) {
        match (component, of) {
            (Component::Controller, Some(of)) => self.add_link(cluster, of, Use::Exclusive),
            (Component::Controller, None) => {
                self.add(Thing::ControlPlane(cluster.to_owned()), Use::Exclusive);
            }
            (Component::Gateway, _) => self.add(Thing::Gateway(cluster.to_owned()), Use::Exclusive),
        }
    }

    fn add_step(&mut self, step: &Step) {
        match step {
            Step::Scale(scale) => {
                if let Some(component) = scale.component {
                    self.add_component(component, scale.of.as_ref().map(|of| of.0.as_str()), &scale.r#in.0);
                }
            }
            Step::Restart(restart) => {
                if let Some(component) = restart.component {
                    self.add_component(component, restart.of.as_ref().map(|of| of.0.as_str()), &restart.r#in.0);
                }
            }
            Step::Fault(fault) => {
                for link in [&fault.partition, &fault.reset].into_iter().flatten() {
                    self.add_link(&link.from.0, &link.to.0, Use::Exclusive);
                    self.add_link(&link.to.0, &link.from.0, Use::Exclusive);
                }
                if let Some(delay) = &fault.delay {
                    // Answers of the one direction travel like requests of the other.
                    self.add_link(&delay.from.0, &delay.to.0, Use::Exclusive);
                    self.add_link(&delay.to.0, &delay.from.0, Use::Exclusive);
                }
                if let Some(link) = &fault.steal_lease {
                    self.add_link(&link.from.0, &link.to.0, Use::Exclusive);
                }
                if let Some(deny) = &fault.deny_writes {
                    self.add_link(&deny.from.0, &deny.to.0, Use::Exclusive);
                }
                if let Some(cluster) = &fault.pause_api {
                    self.add(Thing::Cluster(cluster.0.clone()), Use::Exclusive);
                }
            }
            Step::Link(link) | Step::Unlink(link) => self.add_link(&link.from.0, &link.to.0, Use::Exclusive),
            Step::Install(install) | Step::Upgrade(install) | Step::Uninstall(install) => {
                for cluster in &install.r#in.0 {
                    self.add(Thing::ControlPlane(cluster.0.clone()), Use::Exclusive);
                    self.add(Thing::Cluster(cluster.0.clone()), Use::Exclusive);
                }
            }
            Step::Rotate(rotate) => {
                if let Some(link) = &rotate.credentials {
                    self.add_link(&link.from.0, &link.to.0, Use::Exclusive);
                }
                for cluster in rotate.r#in.iter().flat_map(|clusters| &clusters.0) {
                    self.add(Thing::ControlPlane(cluster.0.clone()), Use::Exclusive);
                    self.add(Thing::Cluster(cluster.0.clone()), Use::Exclusive);
                }
            }
            // An inventory is only worth something while nobody else makes objects.
            Step::Inventory(inventory) => {
                for cluster in &inventory.r#in.0 {
                    self.add(Thing::Cluster(cluster.0.clone()), Use::Exclusive);
                }
            }
            Step::Apply(apply) => {
                let outside = match &apply.manifest {
                    Some(manifest) => is_outside(
                        manifest.get("kind").and_then(Value::as_str).unwrap_or(""),
                        manifest.pointer("/metadata/namespace").and_then(Value::as_str),
                    ),
                    // What a file holds is known only when it is read.
                    None => true,
                };
                if outside {
                    for cluster in &apply.r#in.0 {
                        self.add(Thing::Cluster(cluster.0.clone()), Use::Exclusive);
                    }
                }
            }
            Step::Patch(patch) => {
                if is_outside(&patch.object.kind, patch.object.namespace.as_deref()) {
                    self.add(Thing::Cluster(patch.r#in.0.clone()), Use::Exclusive);
                }
            }
            Step::Delete(delete) => {
                if is_outside(&delete.object.kind, delete.object.namespace.as_deref()) {
                    self.add(Thing::Cluster(delete.r#in.0.clone()), Use::Exclusive);
                }
            }
            Step::Call(call) => self.add_target(call.r#in.as_ref(), &call.to),
            Step::Traffic(traffic) => self.add_target(traffic.r#in.as_ref(), &traffic.to),
            Step::Route(route) => {
                for backend in &route.backends {
                    self.add_target(Some(&route.r#in), &backend.to);
                }
            }
            Step::Expect(expect) => {
                if let Some(link) = &expect.link {
                    self.add_link(&link.from.0, &link.to.0, Use::Shared);
                }
                if let Some(mtls) = &expect.mtls {
                    self.add_target(mtls.r#in.as_ref(), &mtls.to);
                }
                if let Some(link) = expect.residue.as_ref().and_then(|residue| residue.link.as_ref()) {
                    self.add_link(&link.from.0, &link.to.0, Use::Shared);
                }
                if let Some(rejected) = expect.rejected.as_ref().filter(|rejected| rejected.uninstall) {
                    self.add(Thing::ControlPlane(rejected.r#in.0.clone()), Use::Exclusive);
                    self.add(Thing::Cluster(rejected.r#in.0.clone()), Use::Exclusive);
                }
                if let Some(unchanged) = &expect.unchanged {
                    for cluster in &unchanged.r#in.0 {
                        self.add(Thing::Cluster(cluster.0.clone()), Use::Exclusive);
                    }
                }
            }
            Step::Deploy(_)
            | Step::Behave(_)
            | Step::Export(_)
            | Step::Unexport(_)
            | Step::Unroute(_)
            | Step::Stop(_)
            | Step::Heal(_)
            | Step::Namespace(_)
            | Step::Use(_) => {}
        }
    }

    fn add_target(&mut self, from: Option<&meshproof_spec::scalar::Name>, to: &meshproof_spec::scalar::Target) {
        match (from, &to.cluster) {
            (Some(from), Some(to)) => self.add_link(&from.0, &to.0, Use::Shared),
            (None, Some(to)) => self.add(Thing::Gateway(to.0.clone()), Use::Shared),
            (_, None) => {}
        }
    }
}

/// Clusters whose services may be mirrored to others because of this step.
fn exporting_clusters(step: &Step) -> Vec<String> {
    let names = |clusters: &meshproof_spec::scalar::Clusters| clusters.0.iter().map(|name| name.0.clone()).collect();
    match step {
        Step::Export(export) => names(&export.from),
        Step::Deploy(deploy) if !deploy.labels.is_empty() || !deploy.annotations.is_empty() => names(&deploy.r#in),
        Step::Apply(apply) => names(&apply.r#in),
        Step::Patch(patch) => vec![patch.r#in.0.clone()],
        _ => Vec::new(),
    }
}

/// The cluster in which a step looks at objects outside of the scenario's namespace.
fn seen_outside(step: &Step) -> Option<&str> {
    let Step::Expect(expect) = step else { return None };
    let (cluster, kind, namespace) = match (&expect.object, &expect.objects) {
        (Some(object), _) => (&object.r#in, &object.kind, &object.namespace),
        (None, Some(objects)) => (&objects.r#in, &objects.kind, &objects.namespace),
        (None, None) => return None,
    };
    is_outside(kind, namespace.as_deref()).then_some(cluster.0.as_str())
}

/// Kinds of Kubernetes that live in no namespace.
const CLUSTER_SCOPED: [&str; 17] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CSIDriver",
    "CSINode",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Whether an object of this kind and namespace lies outside of the scenario's namespace.
#[must_use]
pub fn is_outside(kind: &str, namespace: Option<&str>) -> bool {
    let own_namespace = namespace.is_none_or(|namespace| namespace == "${namespace}");
    is_cluster_scoped(kind) || !own_namespace
}

/// Whether a kind lives in no namespace, as far as that can be told from its name.
#[must_use]
pub fn is_cluster_scoped(kind: &str) -> bool {
    CLUSTER_SCOPED.contains(&kind) || kind.starts_with("Cluster")
}
