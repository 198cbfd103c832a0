//! How one mesh is installed, linked and spoken to. The engine knows a mesh only through this trait.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube::core::ApiResource;
use meshproof_spec::scenario::{AccessSubject, Component, ExportMode, Setup, TrustStep};
use meshproof_spec::topology::Topology;
use meshproof_terms::Release;
use serde_json::Value;

use crate::action::Action;
use crate::environment::Cluster;
use crate::plan::permission::Permission;
use crate::problem::Problem;

pub use meshproof_agent::protocol::MARKER_HEADER;

/// A mesh. One value serves one environment (its clusters), so it may remember what it made for them.
#[async_trait]
pub trait MeshDriver: Send + Sync {
    /// Name of the mesh, e.g. `linkerd`.
    fn name(&self) -> &'static str;

    /// What it can do: `export-gateway`, `export-flat`, `export-federated`, `route`, `mtls`, `rotate-credentials`,
    /// `rotate-trust`, `install-mesh` and `link-clusters` (and their opposites), `upgrade-mesh` when there is a version to
    /// go to …
    fn capabilities(&self) -> BTreeSet<String>;

    /// What installing the mesh in all clusters and making all links of a topology would do, in order; empty when nothing
    /// outside of this process.
    fn commands(&self, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let _ = (topology, setup);
        Vec::new()
    }

    /// What [`MeshDriver::upgrade`] of a cluster would do, in order; empty when nothing outside of this process.
    fn upgrade_commands(&self, cluster: &str, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let _ = (cluster, topology, setup);
        Vec::new()
    }

    // --- life cycle ------------------------------------------------------------------------------------------------

    /// Installs the mesh with everything that multi-cluster needs, and waits until it is ready.
    ///
    /// # Errors
    /// A [`Problem`] of class mesh (it did not get ready) or environment (the API or a tool failed).
    async fn install(&self, cluster: &Cluster, topology: &Topology, setup: &Setup) -> Result<(), Problem>;

    /// Upgrades the mesh in one cluster by its documented procedure (control plane, then what multi-cluster needs, then the
    /// cluster's own links), and waits until it is ready. Trust is kept, and so are the sidecars of pods that are not the
    /// mesh's own: those follow when they are restarted. `peers` are all clusters.
    ///
    /// # Errors
    /// As [`MeshDriver::install`]; code `upgrade-impossible` when there is nothing to go to from here.
    async fn upgrade(&self, cluster: &Cluster, peers: &[Cluster], setup: &Setup) -> Result<Upgraded, Problem>;

    /// Removes the mesh by its documented procedure and waits until nothing of it is left.
    ///
    /// # Errors
    /// As [`MeshDriver::install`]; a refusal of the mesh's own tool has code `uninstall-refused`.
    async fn uninstall(&self, cluster: &Cluster) -> Result<(), Problem>;

    /// Links `from` to `to` (`from` consumes what `to` exports). Calls for one `from` must not overlap.
    ///
    /// # Errors
    /// As [`MeshDriver::install`].
    async fn link(&self, from: &Cluster, to: &Cluster, setup: &Setup) -> Result<(), Problem>;

    /// Waits until a link is ready.
    ///
    /// # Errors
    /// As [`MeshDriver::install`].
    async fn await_link(&self, from: &Cluster, to: &Cluster, setup: &Setup) -> Result<(), Problem>;

    /// Removes a link by the documented procedure.
    ///
    /// # Errors
    /// As [`MeshDriver::install`].
    async fn unlink(&self, from: &Cluster, to: &Cluster) -> Result<(), Problem>;

    /// Gives a link new credentials, then revokes the old ones in `to`.
    ///
    /// # Errors
    /// As [`MeshDriver::install`].
    async fn rotate_credentials(&self, from: &Cluster, to: &Cluster) -> Result<(), Problem>;

    /// Takes one step of replacing a cluster's certificates; ends when the control plane works with it. What has to be
    /// restarted for it and is a component or a workload is the caller's to restart. Calls for different clusters may overlap.
    ///
    /// # Errors
    /// As [`MeshDriver::install`]; code `no-new-root` when there is none that could be used or kept.
    async fn rotate_trust(&self, cluster: &Cluster, step: TrustStep) -> Result<(), Problem>;

    /// Version of the mesh as the cluster shows it; of a cluster without a mesh, the one that would be installed.
    ///
    /// # Errors
    /// When it can't be found out.
    async fn version(&self, cluster: &Cluster) -> Result<String, Problem>;

    /// The release that a version of the mesh counts as, in the words of the catalogue's `versions`; nothing for a build
    /// that is none.
    fn release(&self, version: &str) -> Option<Release>;

    /// SHA-256 (hex) of the DER of the trust root in force.
    ///
    /// # Errors
    /// When it can't be found out.
    async fn trust_root(&self, cluster: &Cluster) -> Result<String, Problem>;

    // --- workloads -------------------------------------------------------------------------------------------------

    /// Annotations of a scenario's namespace.
    fn namespace_annotations(&self) -> BTreeMap<String, String>;

    /// Annotations of a pod template that shall, or shall not, get a sidecar.
    fn pod_annotations(&self, meshed: bool) -> BTreeMap<String, String>;

    /// Annotations of a Service of which these ports carry opaque TCP.
    fn service_annotations(&self, opaque_ports: &[u16]) -> BTreeMap<String, String>;

    /// Merge patch that exports a Service, or takes the export back when `mode` is absent.
    ///
    /// # Errors
    /// A message when the mesh does not know the mode.
    fn export_patch(&self, mode: Option<ExportMode>) -> Result<Value, String>;

    /// Name under which pods of another, linked cluster find `service` of `cluster`, exported in this mode (in the same
    /// namespace).
    fn mirror_name(&self, service: &str, cluster: &str, mode: ExportMode) -> String;

    /// Objects that split traffic to `route.service`.
    ///
    /// # Errors
    /// A message when the mesh can't.
    fn route(&self, route: &RouteRequest) -> Result<Vec<Value>, String>;

    // --- knowledge -------------------------------------------------------------------------------------------------

    /// Value of a `${…}` reference, e.g. `mesh.namespace`, `mesh.link.east`, `identity.gateway.east`,
    /// `identity.workload.shopper.west`; `namespace` is the scenario's.
    fn fact(&self, reference: &str, namespace: &str) -> Option<String>;

    /// Resource of one of the mesh's own kinds, by kind and optional `group/version`.
    fn resource(&self, kind: &str, api: Option<&str>) -> Option<ApiResource>;

    /// Deployment behind a component.
    fn component(&self, component: Component, of: Option<&str>) -> WorkloadRef;

    /// Where to read whether the gateway of `to` counts as alive in `from`: 1, 0, or nothing published. The stream
    /// yields the current value first and then every change; it samples no faster than every 50 ms of wall time over one
    /// kept connection, and never asks the API server again.
    ///
    /// # Errors
    /// When there is no such place.
    async fn link_alive(&self, from: &Cluster, to: &str) -> Result<BoxStream<'static, Option<f64>>, Problem>;

    /// Lease of the controller that serves the link to `to`.
    fn lease(&self, to: &str) -> WorkloadRef;

    /// What takes verbs on mirrors away from the controller of a link. Reads and computes; whoever asks changes, and undoes.
    ///
    /// # Errors
    /// When the API refuses, or nothing would be taken away.
    async fn deny_writes(&self, from: &Cluster, to: &str, verbs: &[String]) -> Result<Denial, Problem>;

    /// What [`MeshDriver`]'s own requests need of a cluster's API, where it makes any: what the engine does to the kinds,
    /// names and namespaces that this trait tells it is not among them.
    fn permissions(&self, call: DriverCall) -> Vec<Permission> {
        let _ = call;
        Vec::new()
    }

    /// Whose an object is. `cluster` is where it stands.
    fn owner(&self, cluster: &str, object: &Value) -> Owner;

    /// Kinds that the mesh makes objects of, for inventories.
    fn kinds(&self) -> Vec<ApiResource>;

    /// What the mesh's own tools say of a cluster, as files of evidence by name; empty when it has none. What they could not
    /// be asked is said in the file.
    async fn diagnose(&self, cluster: &Cluster) -> Vec<(String, String)> {
        let _ = cluster;
        Vec::new()
    }

    /// Request header in which a target names its peer, and the identity expected for this flow.
    fn peer_identity(&self, flow: &Flow) -> Option<(String, String)>;

    /// Counters that must move by exactly the number of requests of a flow.
    fn counters(&self, flow: &Flow) -> Vec<Counter>;
}

/// Versions of the mesh in a cluster before and after an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// As [`MeshDriver::version`] was before.
    pub from: String,
    /// As it is now; never the same.
    pub to: String,
}

/// Requests of a driver to a cluster's API, by what they are for. Installing, upgrading, linking and their
/// opposites take every right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriverCall {
    /// [`MeshDriver::version`] and [`MeshDriver::trust_root`].
    Facts,
    /// [`MeshDriver::await_link`] and [`MeshDriver::link_alive`].
    AwaitLink,
    /// [`MeshDriver::deny_writes`] and its undoing.
    DenyWrites,
    /// [`MeshDriver::rotate_credentials`].
    RotateCredentials,
}

/// A split.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRequest {
    /// Namespace.
    pub namespace: String,
    /// Service whose callers are routed.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Backends: Service name and weight.
    pub backends: Vec<(String, u32)>,
    /// Value that requests carry in the agent's marker header once this very route is live.
    pub marker: String,
}

/// An object by namespace and name; its kind follows from the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// How rights are taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// Changes of objects, in order.
    pub changes: Vec<ObjectChange>,
    /// Rights that are held before, and are not while it lasts: their proof.
    pub denied: Vec<AccessSubject>,
}

/// A change of an object, and what takes it back.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectChange {
    /// Its resource.
    pub resource: ApiResource,
    /// Its namespace; absent for objects of the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Merge patch that makes the change.
    pub merge: Value,
    /// Merge patch that takes it back.
    pub undo: Value,
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Not the mesh's.
    Nobody,
    /// The mesh's installation.
    Mesh,
    /// A link's: made in this cluster for the link to the named one.
    Link(String),
}

/// A client calling a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Namespace.
    pub namespace: String,
    /// Cluster of the client.
    pub client_cluster: String,
    /// Workload of the client.
    pub client: String,
    /// Cluster of the server.
    pub server_cluster: String,
    /// Service (workload) of the server.
    pub service: String,
    /// Port of the Service.
    pub port: u16,
    /// How the service is exported to the client; absent when the client calls it in its own cluster.
    pub export: Option<ExportMode>,
}

/// A counter of a proxy or controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name for reports, unique in the flow: `client outbound requests over TLS`.
    pub name: String,
    /// Cluster of the pods.
    pub cluster: String,
    /// Namespace of the pods.
    pub namespace: String,
    /// Label selector of the pods; their values are added up. Pods of a scenario's workload carry `app=<workload>`.
    pub selector: String,
    /// Port of the metrics endpoint.
    pub port: u16,
    /// Metric.
    pub metric: String,
    /// Labels that must match exactly.
    pub labels: BTreeMap<String, String>,
}
