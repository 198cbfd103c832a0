//! The journal: an append-only, hash-chained sequence of records, one JSON object a line.

mod event;

use std::collections::BTreeMap;

use meshproof_terms::{Level, Release, VersionRange};
use serde::{Deserialize, Serialize};

pub use event::{
    CheckClosed, CheckOpened, CleanedUp, Disturbed, EnvironmentFailed, EnvironmentReady, Event, EvidenceFrozen,
    Interrupted, Judged, LedgerClosed, LedgerOpened, MarkerSeen, MeshUpgraded, Observed, Restored, RunEnded,
    ScenarioEnded, ScenarioSkipped, ScenarioStarted, StepEnded, StepStarted,
};

/// Version of the journal's format, raised when a reader of the previous one would misread it.
pub const FORMAT: u32 = 1;

/// One line of a journal. On disk each line ends with one more member, `sum`: see [`crate::journal`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Position, from 0.
    pub seq: u64,
    /// Scenario time since the start of the run, µs.
    pub at_us: u64,
    /// SHA-256 (hex) of the previous line's bytes without the newline; 64 zeros in the first line.
    pub prev: String,
    /// What happened.
    pub event: Event,
}

/// One of six, never merged up to green. The order is that of reports: the worst of several counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The promise was kept.
    Pass,
    /// Not asked, for a coded reason.
    Skip,
    /// The promise was broken, as the deviations of the suite say that this release of the mesh does.
    Deviates,
    /// The evidence is too thin, or a control is missing.
    Inconclusive,
    /// The environment or the harness failed.
    Error,
    /// The promise was broken.
    Fail,
}

/// The plan of a run and everything that a report has to say about where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStarted {
    /// [`FORMAT`].
    pub format: u32,
    /// Run id; also the name of its folder.
    pub run: String,
    /// Wall clock, RFC 3339.
    pub started: String,
    /// Version of the harness.
    pub version: String,
    /// Command line.
    pub command: Vec<String>,
    /// Nonce that every pod of the run repeats.
    pub nonce: String,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Scenario seconds per wall second.
    pub pace: f64,
    /// Kind of environment, e.g. `embedded`.
    pub environment: String,
    /// Whether the run can certify anything (an embedded one can't).
    pub certifies: bool,
    /// Defects that are switched on.
    pub defects: Vec<String>,
    /// SHA-256 (hex) over all scenario, topology and catalogue files.
    pub suite_digest: String,
    /// Requirements of the catalogue.
    pub requirements: Vec<RequirementRow>,
    /// Scenarios of the plan, in order, also those that will be skipped.
    pub scenarios: Vec<PlannedScenario>,
    /// Deviations of releases of the mesh that are known.
    #[serde(deserialize_with = "deviation_rows")]
    pub deviations: Vec<DeviationRow>,
    /// Whether a known deviation and a broken SHOULD are failures as any other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict: bool,
    /// `1/3` when only a part of the suite was selected.
    pub partition: Option<String>,
}

/// A requirement as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequirementRow {
    /// Id.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// The sentence.
    pub text: String,
    /// Releases of the mesh that it applies to.
    #[serde(default, skip_serializing_if = "VersionRange::is_all")]
    pub versions: VersionRange,
}

/// A requirement that releases of the mesh are known to break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviationRow {
    /// The requirement.
    pub requirement: String,
    /// Releases in which it was seen.
    #[serde(default, skip_serializing_if = "VersionRange::is_all")]
    pub versions: VersionRange,
    /// What was seen.
    pub observed: String,
    /// Issue or commit upstream, or `not reported`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub upstream: String,
}

/// Journals from before deviations had versions hold a map from requirement to what upstream does.
fn deviation_rows<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<DeviationRow>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Rows(Vec<DeviationRow>),
        Map(BTreeMap<String, String>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Rows(rows) => rows,
        Written::Map(map) => map
            .into_iter()
            .map(|(requirement, observed)| DeviationRow {
                requirement,
                versions: VersionRange::ALL,
                observed,
                upstream: String::new(),
            })
            .collect(),
    })
}

/// A scenario of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedScenario {
    /// Key: `<id>` or `<id>#<repetition>`.
    pub key: String,
    /// Id.
    pub id: String,
    /// Area (folder).
    pub area: String,
    /// File, relative to the suite.
    pub file: String,
    /// One sentence.
    pub summary: String,
    /// Requirements that it decides.
    pub checks: Vec<String>,
    /// Topology.
    pub topology: String,
    /// SHA-256 (hex) of the file.
    pub digest: String,
    /// How many steps it has; absent in journals whose plan did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Its checks, in order; none in journals whose plan did not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expects: Vec<PlannedCheck>,
}

/// A check of the plan: what it is called before anybody knows what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCheck {
    /// Position of its step; the check's key.
    pub step: u32,
    /// Requirement that it decides.
    pub requirement: String,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is about, as the file says: `west`, `west → east`, `call c`.
    pub place: String,
}

/// What was found out about a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterFacts {
    /// Name in the topology.
    pub name: String,
    /// UID of the kube-system namespace: the cluster's identity.
    pub uid: String,
    /// Kubernetes version.
    pub kubernetes: String,
    /// Mesh and version.
    pub mesh: String,
    /// Release that this version counts as; absent when it is none (a development build).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// Fingerprint of the trust root (SHA-256 of its DER, hex).
    pub trust_root: String,
}

/// Evidence of an environment that did not come up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentEvidence {
    /// Folder, relative to the run's folder.
    pub folder: String,
    /// One line about it.
    pub note: String,
    /// SHA-256 (hex) of each file by its path in the folder; absent in journals of earlier versions, which vouch for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
}

/// Something that went wrong outside of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Whose fault.
    pub class: ProblemClass,
    /// Stable code, e.g. `step-deadline`, `api-unreachable`.
    pub code: String,
    /// What happened, with place, expected and found.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Problem {
    /// Whether it says that something was not done or not so: whether who says it was awake is worth finding out, down to
    /// the pods that it may have waited for. All problems of the mesh are such, and deadlines of the environment.
    #[must_use]
    pub fn is_of_time(&self) -> bool {
        match self.class {
            ProblemClass::Mesh => true,
            ProblemClass::Environment => self.code.ends_with("-deadline"),
            ProblemClass::Harness | ProblemClass::Interrupted => false,
        }
    }
}

/// Whose fault a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemClass {
    /// The clusters, the network, a tool.
    Environment,
    /// The mesh did not do what a step needs (a route never went live, a link never got ready).
    Mesh,
    /// meshproof itself.
    Harness,
    /// The user stopped it.
    Interrupted,
}

/// Why a check stopped looking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Nothing that may still come can change the answer.
    Decided,
    /// Its time is up.
    Deadline,
    /// The user stopped it.
    Interrupted,
    /// It could not look.
    Problem(Problem),
}

/// What a judge says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// One of six.
    pub outcome: Outcome,
    /// One line: what was promised and what happened.
    pub summary: String,
    /// What was expected.
    pub expected: String,
    /// What was observed.
    pub observed: String,
    /// Second at which it was decided (scenario µs since the start of the run): when it became true, or broke, or the
    /// deadline.
    pub at_us: u64,
    /// Numbers for the report, e.g. `requests`, `p_value`, `lost`, `longest_gap_us`, `converged_after_us`.
    pub measures: BTreeMap<String, f64>,
    /// Ids of requests that prove it (bounded).
    pub requests: Vec<String>,
    /// Why a broken promise does not turn the run red, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excuse: Option<Excuse>,
}

/// Why a broken promise does not turn a run red.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excuse {
    /// The release of the mesh is known to break it.
    KnownDeviation {
        /// Releases that do.
        versions: VersionRange,
        /// Issue or commit upstream, or `not reported`.
        upstream: String,
    },
    /// It is a SHOULD.
    Should,
}

/// Whether a flag is left out because it says nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
