//! A scenario file: a situation that is set up, and the requirements that are checked in it.
//!
//! These types are the grammar. They are plain data; the module `lint` holds the rules that types can't express.
//! Strings may contain `${…}` references: `${namespace}`, `${vars.x}`, `${matrix.x}` (in a fragment `${params.x}`), and facts that the mesh's driver
//! supplies, e.g. `${mirror.store.east}` (the object name of east's `store` as mirrored), `${mesh.namespace}`,
//! `${identity.gateway.east}`, `${identity.workload.shopper.west}`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scalar::{Clusters, Name, Rate, RequirementId, Target, TimeSpan};

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

/// `expect`: decides a requirement about exactly one subject (`object`, `objects`, `call`, `traffic`, `split`, `mtls`,
/// `link`, `access`, `rejected`, `unchanged`, `residue`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The requirement that is decided.
    pub id: Option<RequirementId>,
    /// Name by which a later `control` refers to this check.
    pub name: Option<Name>,
    /// Earlier checks or calls that prove the way: a negative is inconclusive unless all of them passed.
    pub control: Vec<Name>,

    /// Subject: one object.
    pub object: Option<ObjectSubject>,
    /// Subject: a set of objects.
    pub objects: Option<ObjectsSubject>,
    /// Subject: an earlier `call`.
    pub call: Option<Name>,
    /// Subject: running or stopped background traffic.
    pub traffic: Option<Name>,
    /// Subject: shares of a split, measured by this check itself.
    pub split: Option<SplitSubject>,
    /// Subject: mutual TLS between a client and what it calls, proven by this check itself.
    pub mtls: Option<MtlsSubject>,
    /// Subject: what the mesh says about a link's gateway.
    pub link: Option<LinkSubject>,
    /// Subject: what a user may do.
    pub access: Option<AccessSubject>,
    /// Subject: an object that must not be admitted.
    pub rejected: Option<RejectedSubject>,
    /// Subject: clusters hold exactly what the named inventory remembered.
    pub unchanged: Option<UnchangedSubject>,
    /// Subject: nothing is left of a link or of the mesh.
    pub residue: Option<ResidueSubject>,

    /// For `object`: `present` (default) or `absent`.
    pub is: Option<Presence>,
    /// For `object`: what it must hold. For `objects`: what an object must hold to be counted.
    pub r#where: Vec<Matcher>,
    /// For `objects`: how many.
    pub count: Option<Count>,

    /// For `call` and `traffic`: every request was answered like this.
    pub answered: Option<Answered>,
    /// For `call` and `traffic`: every request failed like this.
    pub fails: Option<Fails>,
    /// For `call` and `traffic`: no request reached any server (a negative).
    pub refused: bool,
    /// For `traffic`: who serves.
    pub served_by: Option<ServedBy>,
    /// For `traffic` with `served_by`: requests that may be lost from the last disturbance until it holds; by default
    /// any number before it holds and none after.
    pub lost_at_most: Option<u64>,
    /// For `traffic`: no request since the traffic started was lost.
    pub lossless: bool,

    /// For `link`: whether its gateway counts as alive.
    pub alive: Option<bool>,
    /// For `access`: whether it is allowed.
    pub allowed: Option<bool>,

    /// Becomes true within this time …
    pub within: Option<TimeSpan>,
    /// … and then stays true for this time.
    pub then_for: Option<TimeSpan>,
    /// Never becomes true during this time (a negative).
    pub never_for: Option<TimeSpan>,
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

/// `expect: {object: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectSubject {
    /// Cluster.
    pub r#in: Name,
    /// Kind, e.g. `Service`.
    pub kind: String,
    /// `group/version`; known for the kinds of Kubernetes itself and of the mesh.
    #[serde(default)]
    pub api: Option<String>,
    /// Name.
    pub name: String,
    /// Namespace; the scenario's by default.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// `expect: {objects: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectsSubject {
    /// Cluster.
    pub r#in: Name,
    /// Kind, e.g. `EndpointSlice`.
    pub kind: String,
    /// `group/version`; known for the kinds of Kubernetes itself and of the mesh.
    #[serde(default)]
    pub api: Option<String>,
    /// Namespace; the scenario's by default, `*` for all.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Label selector as kubectl's `-l` takes it.
    #[serde(default)]
    pub labels: Option<String>,
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It exists and holds what `where` says.
    Present,
    /// It does not exist (a negative, with `never_for` or after it was seen present).
    Absent,
}

/// What a place in an object must hold: exactly one comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Matcher {
    /// Place, e.g. `spec.ports[*].port`, `metadata.labels."a.b/c"` or `status.conditions[type=Ready].status`: `[*]` and
    /// `[path=value]` yield a list.
    pub path: String,
    /// Equal to this. A path with `[*]` yields a list.
    pub equals: Option<Value>,
    /// Equal to one of these.
    pub one_of: Option<Vec<Value>>,
    /// Text that contains this text, or a list that contains this value.
    pub contains: Option<Value>,
    /// Text that does not contain this text, or a list that does not contain this value, or nothing there.
    pub excludes: Option<Value>,
    /// Whether there is anything but null.
    pub exists: Option<bool>,
    /// A number not below this.
    pub at_least: Option<f64>,
    /// A number not above this.
    pub at_most: Option<f64>,
    /// A list (or nothing: 0) of this length.
    pub length: Option<u64>,
    /// Equal to what this earlier check of one `object` saw there last, e.g. the uid that tells whether an object is still
    /// the same one.
    pub same_as: Option<Name>,
}

/// How many objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Count {
    /// Exactly.
    pub exactly: Option<u64>,
    /// No fewer.
    pub at_least: Option<u64>,
    /// No more.
    pub at_most: Option<u64>,
}

/// How requests were answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Answered {
    /// One of these statuses; 200 by default.
    pub status: Vec<u16>,
    /// By servers of these clusters, and by each of them at least once.
    pub by: Option<Clusters>,
    /// By the mesh itself, e.g. the health port of a proxy, and by no deployed service. Only `status` goes with it.
    pub by_mesh: bool,
    /// `Host` as the server saw it.
    pub host: Option<String>,
    /// Protocol as the server saw it.
    pub protocol: Option<CallProtocol>,
    /// Request headers as the server saw them: each value must equal, or with `contains`/… match.
    pub seen: BTreeMap<String, HeaderMatcher>,
    /// Port of the container on which the request arrived.
    pub port: Option<u16>,
}

/// What a header must hold: exactly one comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderMatcher {
    /// One of the header's values equals this.
    pub equals: Option<String>,
    /// One of the header's values contains this.
    pub contains: Option<String>,
    /// None of the header's values contains this.
    pub excludes: Option<String>,
    /// Whether the header is there at all.
    pub exists: Option<bool>,
}

/// How requests failed. An empty `fails: {}` means: in any way but never answered by a server with success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fails {
    /// With one of these statuses.
    pub status: Vec<u16>,
    /// Response header that must be there, e.g. a proxy's own error header.
    pub header: Option<String>,
    /// Each within this time.
    pub faster_than: Option<TimeSpan>,
    /// Share of requests (0 to 1, with tolerance by an exact binomial test) that fails; all by default.
    pub share: Option<f64>,
}

/// Who serves background traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServedBy {
    /// These clusters and no others.
    pub only: Option<Clusters>,
    /// Each of these clusters, at least once in any hundred consecutive answers.
    pub each: Option<Clusters>,
}

/// `expect: {split: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSubject {
    /// A deployed client.
    pub from: Name,
    /// Its cluster, when it is deployed in several.
    #[serde(default)]
    pub r#in: Option<Name>,
    /// Service that is called.
    pub to: Name,
    /// Expected weights by serving cluster.
    pub weights: BTreeMap<Name, u32>,
    /// Smallest wrong share that must be noticed, in percentage points; 5 by default. Decides the number of requests.
    #[serde(default)]
    pub detect_points: Option<f64>,
    /// Connections; 4 by default.
    #[serde(default)]
    pub connections: Option<u32>,
}

/// `expect: {mtls: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MtlsSubject {
    /// A deployed, meshed client.
    pub from: Name,
    /// Its cluster, when it is deployed in several.
    #[serde(default)]
    pub r#in: Option<Name>,
    /// What it calls.
    pub to: Target,
    /// A deployed client without the mesh in the same cluster, which must be refused.
    pub stranger: Name,
}

/// `expect: {link: …}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSubject {
    /// Cluster that consumes.
    pub from: Name,
    /// Cluster that exports.
    pub to: Name,
}

/// `expect: {access: …}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessSubject {
    /// Cluster.
    pub r#in: Name,
    /// User name as RBAC knows it.
    pub user: String,
    /// Verb, e.g. `get`.
    pub verb: String,
    /// Resource in plural, e.g. `secrets`.
    pub resource: String,
    /// API group; the core group by default.
    #[serde(default)]
    pub group: Option<String>,
    /// Namespace; all by default.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// `expect: {rejected: …}`: exactly one of `manifest`, `file` and `uninstall`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectedSubject {
    /// Cluster.
    pub r#in: Name,
    /// The object.
    #[serde(default)]
    pub manifest: Option<Value>,
    /// A file with the object, below the scenario's folder.
    #[serde(default)]
    pub file: Option<String>,
    /// The mesh's own procedure for uninstalling it from the cluster.
    #[serde(default)]
    pub uninstall: bool,
    /// Text that the refusal must contain.
    pub message: String,
}

/// `expect: {unchanged: …}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnchangedSubject {
    /// Name of an earlier `inventory`.
    pub since: Name,
    /// Clusters.
    pub r#in: Clusters,
}

/// `expect: {residue: …}`: exactly one of `link` and `mesh`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResidueSubject {
    /// Objects of this link.
    pub link: Option<LinkSubject>,
    /// Objects of the mesh in these clusters.
    pub mesh: Option<Clusters>,
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
