//! The questions that checks ask. A question is complete in itself: with the observations and ledgers that the journal
//! names, its answer can be computed again at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the mark begins that stands for a secret wherever one would be written. Equal secrets of a run have equal marks.
pub const HIDDEN: &str = "<not shown: ";

/// What a check wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// About objects of a cluster ([`Observation::Objects`]).
    Objects(ObjectsQuestion),
    /// About a number that the mesh publishes ([`Observation::Number`]), e.g. whether a gateway is alive.
    Number(NumberQuestion),
    /// About all requests of a finished call (one ledger).
    Requests(RequestsQuestion),
    /// About background traffic, while it goes on (one ledger).
    Serving(ServingQuestion),
    /// About shares (one ledger, measured for this check).
    Split(SplitQuestion),
    /// About mutual TLS (two ledgers and [`Observation::Security`]).
    Mtls(MtlsQuestion),
    /// About what a user may do ([`Observation::Access`]).
    Access(AccessQuestion),
    /// About an object that must not be admitted ([`Observation::Admission`]).
    Rejected(RejectedQuestion),
    /// About what is left or has changed ([`Observation::Inventory`]).
    Inventory(InventoryQuestion),
}

impl Question {
    /// Names of the ledgers that its answer rests on.
    #[must_use]
    pub fn ledgers(&self) -> Vec<&str> {
        match self {
            Self::Requests(question) => vec![&question.ledger],
            Self::Serving(question) => vec![&question.ledger],
            Self::Split(question) => vec![&question.ledger],
            Self::Mtls(question) => vec![&question.ledger, &question.stranger_ledger],
            Self::Objects(_) | Self::Number(_) | Self::Access(_) | Self::Rejected(_) | Self::Inventory(_) => Vec::new(),
        }
    }
}

/// When something has to hold. All absent: at the one time it was looked at, for questions whose answer can't change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Becomes true within this time after the check was opened, µs …
    pub within_us: Option<u64>,
    /// … and then stays true for this time, µs.
    pub then_for_us: Option<u64>,
    /// Never becomes true during this time, not even once, µs. Of traffic: no single request is as the pattern says.
    pub never_for_us: Option<u64>,
}

/// See [`Question::Objects`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsQuestion {
    /// What is looked at, for people: `west Service shop/store-east`.
    pub subject: String,
    /// Number of objects that hold all of `each`. One present object is `exactly: 1`, an absent one `exactly: 0`.
    pub count: Count,
    /// What an object must hold to be counted (a filter: objects that don't hold it are no failure by themselves).
    pub each: Vec<Matcher>,
    /// When.
    pub timing: Timing,
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Count {
    /// Exactly.
    pub exactly: Option<u64>,
    /// No fewer.
    pub at_least: Option<u64>,
    /// No more.
    pub at_most: Option<u64>,
}

/// What a place in an object must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// Place, e.g. `spec.ports[*].port`, `spec.ports[0].name`, `metadata.labels."a.b/c"`, or
    /// `status.mirrorServices[remoteRef.namespace=shop].conditions[*].reason`: `[path=value]` keeps the elements of a list
    /// whose `path` has this text as its value. `[*]` and `[path=value]` yield a list, nested ones a flat list; without
    /// matches an empty one.
    pub path: String,
    /// Comparison.
    pub holds: Comparison,
}

/// A comparison with a value found in an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal. A path with `[*]` yields a list.
    Equals(Value),
    /// Equal to one of them.
    OneOf(Vec<Value>),
    /// Text containing this text, list containing this value.
    Contains(Value),
    /// Text or list without it, or nothing there.
    Excludes(Value),
    /// Anything but null there, or not.
    Exists(bool),
    /// Number not below.
    AtLeast(f64),
    /// Number not above.
    AtMost(f64),
    /// Length of a list; nothing counts as 0.
    Length(u64),
}

/// See [`Question::Number`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberQuestion {
    /// What is looked at, for people: `gateway_alive of link west → east`.
    pub subject: String,
    /// Comparison.
    pub holds: Comparison,
    /// When.
    pub timing: Timing,
}

/// See [`Question::Requests`]. Every request of the ledger must be as said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsQuestion {
    /// Name of the ledger.
    pub ledger: String,
    /// What every request must be.
    pub every: RequestPattern,
}

/// What requests must be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestPattern {
    /// Answered by servers of this run.
    Answered(AnsweredPattern),
    /// Failed, or answered with an error, and never served with success.
    Fails(FailsPattern),
    /// No server of ours saw it: no answer of a server, and no row in the servers' ledgers.
    Refused,
}

/// See [`RequestPattern::Answered`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnsweredPattern {
    /// One of these statuses.
    pub status: Vec<u16>,
    /// By servers of these clusters only, each at least once; any when empty.
    pub by: Vec<String>,
    /// By something that is no server of the run, such as a proxy; nothing but `status` is looked at then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_mesh: bool,
    /// `Host` as the server saw it.
    pub host: Option<String>,
    /// Protocol as the server saw it: `http1`, `http2`, `tcp`.
    pub protocol: Option<String>,
    /// Container port.
    pub port: Option<u16>,
    /// Request headers as the server saw them.
    pub seen: BTreeMap<String, HeaderPattern>,
}

/// What a header must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderPattern {
    /// One of its values equals this.
    Equals(String),
    /// One of its values contains this.
    Contains(String),
    /// None of its values contains this.
    Excludes(String),
    /// It is there, or not.
    Exists(bool),
}

/// See [`RequestPattern::Fails`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailsPattern {
    /// Error answers have one of these statuses; any failure when empty.
    pub status: Vec<u16>,
    /// Response header that must be there.
    pub header: Option<String>,
    /// Each fails within this time, µs.
    pub faster_than_us: Option<u64>,
    /// Share of requests that fails (exact binomial test at [`crate::question::ALPHA`]); all when absent.
    pub share: Option<f64>,
}

impl FailsPattern {
    /// Whether a failure of any kind fits, also one that the mesh has no part in.
    #[must_use]
    pub fn is_without_reason(&self) -> bool {
        self.status.is_empty() && self.header.is_none()
    }
}

/// Probability with which one statistical check may accuse a mesh that is right.
pub const ALPHA: f64 = 1e-5;

/// See [`Question::Serving`]. Judged over requests whose intended start is not before `since_us`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingQuestion {
    /// Name of the ledger.
    pub ledger: String,
    /// Start of the last disturbance (or of the traffic), scenario µs.
    pub since_us: u64,
    /// What must become true and hold.
    pub pattern: ServingPattern,
    /// Requests that may be lost from `since_us` until it holds; any number when absent. None may be lost afterwards.
    pub lost_at_most: Option<u64>,
    /// When. `within_us` counts from the time the check was opened.
    pub timing: Timing,
}

/// What background traffic must show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServingPattern {
    /// Every request succeeds, served by these clusters and no others.
    Only(Vec<String>),
    /// Every request succeeds, and each of these clusters serves at least one of any hundred in a row, no others.
    Each(Vec<String>),
    /// Every request of the whole traffic so far succeeded; decided at once.
    Lossless,
    /// Every request since the check was opened fails like this.
    Fails(FailsPattern),
    /// Every request is answered like this.
    Answered(AnsweredPattern),
    /// No request is served by anyone.
    Refused,
}

/// See [`Question::Split`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitQuestion {
    /// Name of the ledger.
    pub ledger: String,
    /// Declared weights by serving cluster.
    pub weights: BTreeMap<String, u32>,
    /// Number of requests, fixed beforehand.
    pub requests: u64,
    /// Smallest wrong share that this number notices with a power of at least 0.99, percentage points.
    pub detect_points: f64,
    /// Probability of a false accusation.
    pub alpha: f64,
}

/// See [`Question::Mtls`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtlsQuestion {
    /// Ledger of the meshed client's requests.
    pub ledger: String,
    /// Ledger of the stranger's requests.
    pub stranger_ledger: String,
    /// Requests that each sent.
    pub requests: u64,
    /// Header in which the target names its peer, and the identity it must name.
    pub peer_header: Option<(String, String)>,
    /// Counters that must have moved by exactly `requests`.
    pub counters: Vec<String>,
    /// Whether a tap was there to look for the canary.
    pub tapped: bool,
}

/// See [`Question::Access`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessQuestion {
    /// For people: `system:serviceaccount:… get secrets in east`.
    pub subject: String,
    /// What it must be.
    pub allowed: bool,
}

/// See [`Question::Rejected`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedQuestion {
    /// For people: `TrafficSplit shop/store in west`.
    pub subject: String,
    /// Text that the refusal must contain.
    pub message: String,
}

/// See [`Question::Inventory`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InventoryQuestion {
    /// For people: `objects of link west → east`.
    pub subject: String,
    /// When.
    pub timing: Timing,
}

/// What was seen at one time for one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// All objects that the check looks at, complete, at this time (first one when the check was opened, then at each
    /// change).
    Objects(Vec<Value>),
    /// The number, or nothing when it is not published.
    Number(Option<f64>),
    /// Answer to an access review.
    Access {
        /// Whether it is allowed.
        allowed: bool,
        /// The authorizer's reason.
        reason: String,
    },
    /// Answer to an attempt to create an object.
    Admission {
        /// Whether it was accepted.
        accepted: bool,
        /// HTTP status.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// Difference between what is there and what should be.
    Inventory {
        /// Objects that should not be there, `cluster kind namespace/name`.
        unexpected: Vec<String>,
        /// Objects that are missing.
        missing: Vec<String>,
    },
    /// What was collected for an encryption proof.
    Security(SecurityEvidence),
    /// The cluster could not be observed from now on until the next observation.
    Blind {
        /// Why.
        reason: String,
    },
}

/// Evidence of an encryption proof.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityEvidence {
    /// By how much each counter moved between before and after the meshed client's requests.
    pub counters: BTreeMap<String, f64>,
    /// Bytes that the tap saw on the link during the meshed client's requests; absent without a tap.
    pub tapped_bytes: Option<u64>,
    /// Whether the secret canary of the meshed client's requests was seen on the wire.
    pub canary_on_wire: Option<bool>,
    /// Whether the control canary, sent in plaintext on the same path, was seen (it must be).
    pub control_canary_on_wire: Option<bool>,
}
