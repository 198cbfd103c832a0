//! The journal: an append-only, hash-chained sequence of records, one JSON object a line.

use std::collections::BTreeMap;

use meshproof_terms::{Level, Release, VersionRange};
use serde::{Deserialize, Serialize};

use crate::disturbance::{DisturbedObject, Undo};
use crate::question::{Observation, Question};
use crate::reconcile::Reconciliation;
use crate::wakefulness::Wakefulness;

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

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First record.
    RunStarted(Box<RunStarted>),
    /// Clusters are up, the mesh is installed and linked.
    EnvironmentReady {
        /// Key of the environment: scenarios with the same key share its clusters.
        environment: String,
        /// Facts collected from the clusters.
        clusters: Vec<ClusterFacts>,
        /// Directed links, `west → east`.
        links: Vec<String>,
        /// Wall time that it took, µs.
        took_wall_us: u64,
    },
    /// Clusters could not be brought up; all scenarios on them are errors.
    EnvironmentFailed {
        /// Key of the environment.
        environment: String,
        /// What went wrong, as whoever saw it said.
        problem: Problem,
        /// Who was awake while it was brought up.
        #[serde(flatten)]
        awake: Wakefulness,
        /// What the clusters looked like before they were taken down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<EnvironmentEvidence>,
    },
    /// A scenario begins.
    ScenarioStarted {
        /// Run-unique key: `<id>` or `<id>#<repetition>`.
        scenario: String,
        /// Its namespace in the clusters.
        namespace: String,
        /// Key of the environment.
        environment: String,
    },
    /// A scenario is not run.
    ScenarioSkipped {
        /// Key.
        scenario: String,
        /// Stable code, e.g. `capability-missing`.
        code: String,
        /// For people.
        reason: String,
    },
    /// A step begins.
    StepStarted {
        /// Key of the scenario.
        scenario: String,
        /// Position in the scenario, from 0.
        step: u32,
        /// Line of the file.
        line: u32,
        /// Verb, e.g. `scale`.
        verb: String,
        /// The step on one line, for people.
        text: String,
        /// Whether it changes something that running traffic may feel.
        disturbs: bool,
    },
    /// A step ended.
    StepEnded {
        /// Key of the scenario.
        scenario: String,
        /// Position.
        step: u32,
        /// What went wrong, if anything did, as whoever saw it said.
        problem: Option<Problem>,
        /// Who was awake since the scenario began.
        #[serde(flatten)]
        awake: Wakefulness,
    },
    /// A new configuration was seen to be live by a client.
    MarkerSeen {
        /// Key of the scenario.
        scenario: String,
        /// Position of the step.
        step: u32,
        /// `cluster/namespace/pod` of the client.
        client: String,
        /// The marker.
        marker: String,
        /// Requests that it took.
        requests: u64,
    },
    /// The mesh of a cluster was upgraded.
    MeshUpgraded {
        /// Key of the scenario.
        scenario: String,
        /// Position of the step.
        step: u32,
        /// Cluster.
        cluster: String,
        /// Mesh and version before, as in [`ClusterFacts::mesh`].
        from: String,
        /// Mesh and version from now on.
        to: String,
        /// Release that it counts as from now on; absent when it is none (a development build).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// A ledger is opened.
    LedgerOpened {
        /// Key of the scenario.
        scenario: String,
        /// Name, unique in the scenario.
        ledger: String,
        /// File, relative to the run's folder.
        file: String,
        /// What is sent, for people: `shopper (west) → store@east, 100/s`.
        text: String,
    },
    /// A ledger is complete.
    LedgerClosed {
        /// Key of the scenario.
        scenario: String,
        /// Name.
        ledger: String,
        /// Rows.
        rows: u64,
        /// SHA-256 (hex) of the file.
        sha256: String,
        /// Requests that servers of the run saw, and that no client row accounts for (misrouted or duplicated), by id.
        unaccounted: Vec<String>,
        /// Largest lateness of a start against its intended time, µs.
        max_late_us: u64,
        /// Comparison with the servers' ledgers; absent when none was made. Without it no request counts as refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reconciliation: Option<Box<Reconciliation>>,
    },
    /// A check begins to look.
    CheckOpened {
        /// Key of the scenario.
        scenario: String,
        /// Position of its step; the check's key.
        check: u32,
        /// Line of the file.
        line: u32,
        /// Requirement that it decides.
        requirement: String,
        /// Its name, if it has one.
        name: Option<String>,
        /// Link or cluster that it is about, for people: `west → east`, `west`.
        place: String,
        /// Names of checks or ledgers that prove the way.
        control: Vec<String>,
        /// What it wants to know.
        question: Box<Question>,
        /// The check whose control this is, asked again right after it. It decides nothing by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proves: Option<u32>,
    },
    /// A check saw something.
    Observed {
        /// Key of the scenario.
        scenario: String,
        /// Key of the check.
        check: u32,
        /// What it saw.
        observation: Observation,
    },
    /// A check stops looking.
    CheckClosed {
        /// Key of the scenario.
        scenario: String,
        /// Key of the check.
        check: u32,
        /// Why.
        reason: CloseReason,
        /// How many rows of each ledger of the scenario had been written by then. Rows are written in the order in which
        /// their outcomes became known, so that this says exactly what the judge could see.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        rows: BTreeMap<String, u64>,
        /// Who was awake since the scenario began.
        #[serde(flatten)]
        awake: Wakefulness,
    },
    /// The judgement of a check.
    Judged {
        /// Key of the scenario.
        scenario: String,
        /// Key of the check.
        check: u32,
        /// The judgement.
        judgement: Box<Judgement>,
    },
    /// Evidence was collected for a check that did not pass.
    EvidenceFrozen {
        /// Key of the scenario.
        scenario: String,
        /// Key of the check, or of the step that failed.
        check: u32,
        /// Folder, relative to the run's folder.
        folder: String,
        /// First broken rung: `dns`, `mirror`, `endpoints`, `gateway`, `identity`, `policy`, `application`.
        rung: Option<String>,
        /// One line about it.
        note: String,
        /// SHA-256 (hex) of each file by its path in the folder; absent in journals of earlier versions, which vouch for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files: Option<BTreeMap<String, String>>,
    },
    /// Something outside of the scenario's namespace is about to be changed. Durable before the request that changes it is
    /// made.
    Disturbed {
        /// Key of the scenario.
        scenario: String,
        /// Number of the change, unique in the run.
        id: u64,
        /// Cluster.
        cluster: String,
        /// What is changed.
        object: DisturbedObject,
        /// What undoes it.
        undo: Undo,
    },
    /// A change was undone.
    Restored {
        /// Key of the scenario.
        scenario: String,
        /// Number of the change.
        id: u64,
    },
    /// Everything that the scenario made was removed, or not.
    CleanedUp {
        /// Key of the scenario.
        scenario: String,
        /// Objects that are still there.
        left: Vec<String>,
        /// What went wrong, if anything did, as whoever saw it said.
        problem: Option<Problem>,
        /// Kept on purpose (`--keep`).
        kept: bool,
        /// Who was awake since the scenario began.
        #[serde(flatten)]
        awake: Wakefulness,
    },
    /// A scenario is over.
    ScenarioEnded {
        /// Key of the scenario.
        scenario: String,
        /// Worst outcome of its checks, steps and cleanup.
        outcome: Outcome,
    },
    /// The user interrupted.
    Interrupted {
        /// First or second time.
        count: u32,
    },
    /// Last record of a complete run.
    RunEnded {
        /// Worst outcome.
        outcome: Outcome,
    },
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
