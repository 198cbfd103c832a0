//! `expect`: what is looked at, and what must be true of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CallProtocol;
use crate::scalar::{Clusters, Name, RequirementId, Target, TimeSpan};

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

impl Count {
    /// Whether no object at all is enough: then it also holds when the wrong place was looked at.
    #[must_use]
    pub fn admits_none(self) -> bool {
        match self.exactly {
            Some(exactly) => exactly == 0,
            None => self.at_most.is_some() && self.at_least.unwrap_or(0) == 0,
        }
    }
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
