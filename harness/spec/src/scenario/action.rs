//! Verbs that set a situation up and change it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LinkSubject;
use crate::scalar::{Clusters, Name, Rate, Target, TimeSpan};

/// `deploy`: exactly one of `service` and `client`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// A Deployment of agents with a Service in front.
    #[serde(default)]
    pub service: Option<Name>,
    /// A Deployment of agents that only send.
    #[serde(default)]
    pub client: Option<Name>,
    /// Where.
    pub r#in: Clusters,
    /// Pods; 1 by default. 0 is allowed for services.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Ports of the Service; by default `{name: http, port: 80, protocol: http}`.
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    /// Whether the mesh's sidecar is injected; true by default.
    #[serde(default)]
    pub meshed: Option<bool>,
    /// Additional labels of the Service.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of the Service.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Name, unique in the service.
    pub name: Name,
    /// Port of the Service.
    pub port: u16,
    /// Port of the container; the agent answers there. By default 8080 for http, 9090 for tcp.
    #[serde(default)]
    pub target: Option<u16>,
    /// What is spoken; `http` by default.
    #[serde(default)]
    pub protocol: Option<PortProtocol>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge.
    Http,
    /// Opaque TCP; the port is declared opaque to the mesh.
    Tcp,
}

/// How an export is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportMode {
    /// Through the exporting cluster's gateway.
    #[default]
    Gateway,
    /// Pod to pod.
    Flat,
    /// Merged with the services of the same name in other clusters.
    Federated,
}

/// `export`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// A deployed service.
    pub service: Name,
    /// Exporting clusters.
    pub from: Clusters,
    /// `gateway` by default.
    #[serde(default)]
    pub mode: ExportMode,
}

/// `unexport`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unexport {
    /// An exported service.
    pub service: Name,
    /// Clusters that stop exporting it.
    pub from: Clusters,
}

/// `route`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Service whose callers are routed.
    pub service: Name,
    /// Cluster of the callers.
    pub r#in: Name,
    /// Where to, with weights.
    pub backends: Vec<Backend>,
}

/// A backend of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Local service or another cluster's export.
    pub to: Target,
    /// Relative weight; 0 means never.
    pub weight: u32,
    /// Says that the service does not exist, on purpose.
    #[serde(default)]
    pub missing: bool,
}

/// `unroute`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unroute {
    /// Service of the route.
    pub service: Name,
    /// Cluster of the callers.
    pub r#in: Name,
}

/// Part of a mesh that scenarios may scale, restart and observe without knowing its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The gateway through which other clusters call in.
    Gateway,
    /// The controller that serves the link to the cluster named by `of`.
    Controller,
}

/// `scale`: exactly one of `service`, `client`, `component`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// A deployed service.
    #[serde(default)]
    pub service: Option<Name>,
    /// A deployed client.
    #[serde(default)]
    pub client: Option<Name>,
    /// A part of the mesh.
    #[serde(default)]
    pub component: Option<Component>,
    /// For `component: controller`: the cluster that it mirrors.
    #[serde(default)]
    pub of: Option<Name>,
    /// Where.
    pub r#in: Name,
    /// Replicas. The step ends when the workload's status agrees and, for 0, no pod is left.
    pub to: u32,
}

/// `restart`: exactly one of `service`, `client`, `component`. Ends when the new pods are ready and the old ones gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// A deployed service.
    #[serde(default)]
    pub service: Option<Name>,
    /// A deployed client.
    #[serde(default)]
    pub client: Option<Name>,
    /// A part of the mesh.
    #[serde(default)]
    pub component: Option<Component>,
    /// For `component: controller`: the cluster that it mirrors.
    #[serde(default)]
    pub of: Option<Name>,
    /// Where.
    pub r#in: Name,
}

/// `behave`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Behave {
    /// A deployed service.
    pub service: Name,
    /// Where.
    pub r#in: Clusters,
    /// Wait before answering.
    #[serde(default)]
    pub delay: Option<TimeSpan>,
    /// Answer with this status instead of 200.
    #[serde(default)]
    pub status: Option<u16>,
    /// Close connections instead of answering.
    #[serde(default)]
    pub close: bool,
    /// Fail the readiness probe.
    #[serde(default)]
    pub unready: bool,
}

/// Application protocol of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Opaque TCP.
    Tcp,
}

/// `call`: requests in a closed loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Name by which an `expect` refers to it.
    pub name: Name,
    /// A deployed client.
    pub from: Name,
    /// Its cluster, when it is deployed in several.
    #[serde(default)]
    pub r#in: Option<Name>,
    /// What is called.
    pub to: Target,
    /// Port of the Service; its first one by default.
    #[serde(default)]
    pub port: Option<u16>,
    /// `http1` by default.
    #[serde(default)]
    pub protocol: CallProtocol,
    /// Requests in total; 1 by default.
    #[serde(default)]
    pub count: Option<u64>,
    /// Connections; 1 by default.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Per request; 10s by default.
    #[serde(default)]
    pub timeout: Option<TimeSpan>,
    /// Request path; `/` by default.
    #[serde(default)]
    pub path: Option<String>,
    /// Additional request headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// `traffic`: requests in an open loop, in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Name by which an `expect` refers to it.
    pub name: Name,
    /// A deployed client.
    pub from: Name,
    /// Its cluster, when it is deployed in several.
    #[serde(default)]
    pub r#in: Option<Name>,
    /// What is called.
    pub to: Target,
    /// Port of the Service; its first one by default.
    #[serde(default)]
    pub port: Option<u16>,
    /// `http1` by default.
    #[serde(default)]
    pub protocol: CallProtocol,
    /// Requests per second.
    pub rate: Rate,
    /// Connections kept open; 4 by default.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Per request; 10s by default.
    #[serde(default)]
    pub timeout: Option<TimeSpan>,
}

/// `stop`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Running background traffic.
    pub traffic: Name,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Kind, e.g. `Service`.
    pub kind: String,
    /// `group/version`; known for the kinds of Kubernetes itself and of the mesh.
    #[serde(default)]
    pub api: Option<String>,
    /// Name.
    pub name: String,
    /// Namespace; the scenario's by default; ignored for cluster-scoped kinds.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// `fault`: a name and exactly one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name for `heal`.
    pub name: Name,
    /// All packets between two clusters vanish, both ways.
    #[serde(default)]
    pub partition: Option<LinkSubject>,
    /// Everything from one cluster to another takes longer.
    #[serde(default)]
    pub delay: Option<DelayFault>,
    /// All connections between two clusters are reset, once.
    #[serde(default)]
    pub reset: Option<LinkSubject>,
    /// Another holder takes the lease of a link's controller once.
    #[serde(default)]
    pub steal_lease: Option<LinkSubject>,
    /// A link's controller may no longer write mirrors.
    #[serde(default)]
    pub deny_writes: Option<DenyWrites>,
    /// The API server of a cluster stops answering.
    #[serde(default)]
    pub pause_api: Option<Name>,
}

/// `fault: {delay: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayFault {
    /// Sending cluster.
    pub from: Name,
    /// Receiving cluster.
    pub to: Name,
    /// Added one-way latency.
    pub by: TimeSpan,
}

/// `fault: {deny_writes: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyWrites {
    /// Cluster that consumes.
    pub from: Name,
    /// Cluster that exports.
    pub to: Name,
    /// Verbs that are denied: `create`, `update`, `delete`.
    pub verbs: Vec<String>,
}

/// `heal`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heal {
    /// Name of an active fault.
    pub fault: Name,
}

/// `link`, `unlink`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkStep {
    /// Cluster that consumes.
    pub from: Name,
    /// Cluster that exports.
    pub to: Name,
}

/// `install`, `upgrade`, `uninstall`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallStep {
    /// Where.
    pub r#in: Clusters,
}

/// `rotate`: exactly one of `credentials` and `trust`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Gives a link new credentials and revokes the old ones.
    #[serde(default)]
    pub credentials: Option<LinkSubject>,
    /// Takes one step of replacing the mesh's certificates; ends when the control plane works with it. Everything with a
    /// sidecar keeps the roots, and for a while the certificate, that it started with: restart gateways, controllers and
    /// workloads afterwards.
    #[serde(default)]
    pub trust: Option<TrustStep>,
    /// For `trust`: where; in several clusters at once.
    #[serde(default)]
    pub r#in: Option<Clusters>,
}

/// A step of replacing certificates. A root is replaced in three: `add-root`, `use-root` and `drop-root`, each in all
/// clusters and with everything restarted before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrustStep {
    /// A new issuer under the root that the present one is under.
    Issuer,
    /// A new root is trusted beside the old ones; the same in all clusters.
    AddRoot,
    /// A new issuer under the newest root.
    UseRoot,
    /// No root is trusted any more but the newest.
    DropRoot,
}

/// `inventory`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InventoryStep {
    /// Name for `unchanged`.
    pub name: Name,
    /// Clusters.
    pub r#in: Clusters,
}

/// `namespace`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceStep {
    /// Clusters in which the scenario's namespace is created.
    pub create_in: Clusters,
}

/// `apply`: exactly one of `manifest` and `file`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Where.
    pub r#in: Clusters,
    /// The object. A namespaced one without a namespace goes to the scenario's.
    #[serde(default)]
    pub manifest: Option<Value>,
    /// A file with one or several objects, below the scenario's folder.
    #[serde(default)]
    pub file: Option<String>,
}

/// `patch`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Cluster.
    pub r#in: Name,
    /// The object.
    pub object: ObjectRef,
    /// JSON merge patch.
    pub merge: Value,
}

/// `delete`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Cluster.
    pub r#in: Name,
    /// The object.
    pub object: ObjectRef,
}

/// `use`: the steps of `scenarios/fragments/<fragment>.yaml` with its parameters filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Name of the fragment.
    pub fragment: Name,
    /// A value for each parameter that the fragment declares.
    #[serde(default)]
    pub with: BTreeMap<Name, String>,
}
