//! The report as data: what `report.json` holds, and what all other formats are printed from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::traffic::Timeline;

/// Version of the format of `report.json`.
pub const FORMAT: &str = "meshproof/report/v1";

/// `report.json`. Times are scenario µs since the start of the run, unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// Run id.
    pub run: String,
    /// Wall clock at the start, RFC 3339.
    pub started: String,
    /// Version of the harness.
    pub version: String,
    /// Command line.
    pub command: Vec<String>,
    /// Kind of environment.
    pub environment: String,
    /// Whether the run can certify anything.
    pub certifies: bool,
    /// Scenario seconds per wall second.
    pub pace: f64,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Defects that were switched on.
    pub defects: Vec<String>,
    /// SHA-256 over the suite's files.
    pub suite_digest: String,
    /// Part of the suite, `1/3`.
    pub partition: Option<String>,
    /// Worst outcome: `pass`, `skip`, `deviates`, `inconclusive`, `error` or `fail`.
    pub outcome: String,
    /// Length of the run.
    pub duration_us: u64,
    /// Whether the run came to its end.
    pub complete: bool,
    /// State of the journal.
    pub journal: JournalState,
    /// Environments in the order in which they came up.
    pub environments: Vec<EnvironmentRow>,
    /// All requirements of the catalogue, in its order.
    pub requirements: Vec<RequirementStatus>,
    /// All scenarios of the plan, in its order.
    pub scenarios: Vec<ScenarioRow>,
}

/// State of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalState {
    /// Records that were read.
    pub records: u64,
    /// Hash of the last one.
    pub head: String,
    /// What is wrong with it, if anything is.
    pub broken: Option<String>,
    /// Where its records do not agree with each other, or its ledgers not with it: nothing here can be relied on then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// An environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentRow {
    /// Key.
    pub environment: String,
    /// Clusters: name, Kubernetes version, mesh version, trust root.
    pub clusters: Vec<ClusterRow>,
    /// Directed links.
    pub links: Vec<String>,
    /// Wall time to bring it up, µs.
    pub took_wall_us: u64,
    /// Why it did not come up.
    pub problem: Option<ProblemRow>,
    /// Folder of what it looked like then, relative to the run's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterRow {
    /// Name.
    pub name: String,
    /// UID of kube-system.
    pub uid: String,
    /// Kubernetes version.
    pub kubernetes: String,
    /// Mesh and version.
    pub mesh: String,
    /// Fingerprint of the trust root.
    pub trust_root: String,
}

/// What became of a requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementStatus {
    /// Id.
    pub id: String,
    /// `MUST` or `SHOULD`.
    pub level: String,
    /// The sentence.
    pub text: String,
    /// Worst outcome of its checks; `not run` when no selected scenario decides it.
    pub status: String,
    /// Checks that decided it.
    pub checks: Vec<CheckKey>,
    /// What releases that ran are known to break about it.
    pub known_deviation: Option<String>,
    /// Whether a real mesh of such a release kept it all the same: the deviation is gone.
    pub gone: bool,
}

/// Where a check is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckKey {
    /// Key of the scenario.
    pub scenario: String,
    /// Key of the check.
    pub check: u32,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioRow {
    /// Key: id, and repetition if there are several.
    pub key: String,
    /// Id.
    pub id: String,
    /// Area.
    pub area: String,
    /// File.
    pub file: String,
    /// What is shown.
    pub summary: String,
    /// Topology.
    pub topology: String,
    /// Worst outcome.
    pub outcome: String,
    /// Why it was not run: `code: reason`.
    pub skipped: Option<String>,
    /// Start; absent when it did not start.
    pub started_us: Option<u64>,
    /// Length.
    pub duration_us: u64,
    /// Steps that ran.
    pub steps: Vec<StepRow>,
    /// Upgrades of the mesh, in order.
    pub upgrades: Vec<UpgradeRow>,
    /// Checks that were opened.
    pub checks: Vec<CheckRow>,
    /// Requirements of the scenario that no check was opened for.
    pub not_reached: Vec<String>,
    /// All checks of the plan, whether they were reached or not; none when the journal's plan does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned_checks: Vec<PlannedCheckRow>,
    /// Why the scenario was cut short.
    pub cut: Option<String>,
    /// Ledgers.
    pub ledgers: Vec<LedgerRow>,
    /// Objects that cleanup left behind.
    pub left: Vec<String>,
    /// What went wrong in cleanup.
    pub cleanup_problem: Option<ProblemRow>,
}

impl ScenarioRow {
    /// How many checks the scenario has, also those that were not reached. Older journals name only the requirements of those.
    #[must_use]
    pub fn promised(&self) -> usize {
        let planned = match self.planned_checks.len() {
            0 => self.checks.len() + self.not_reached.len(),
            planned => planned,
        };
        planned.max(self.checks.len())
    }
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepRow {
    /// Position.
    pub step: u32,
    /// Line of the file.
    pub line: u32,
    /// Verb.
    pub verb: String,
    /// The step on one line.
    pub text: String,
    /// Start.
    pub started_us: u64,
    /// End; absent when it did not end.
    pub ended_us: Option<u64>,
    /// Whether it disturbs running traffic.
    pub disturbs: bool,
    /// What went wrong.
    pub problem: Option<ProblemRow>,
}

/// An upgrade of the mesh in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeRow {
    /// Cluster.
    pub cluster: String,
    /// Mesh and version before.
    pub from: String,
    /// Mesh and version after.
    pub to: String,
    /// When it was done.
    pub at_us: u64,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRow {
    /// Key.
    pub check: u32,
    /// Line of the file.
    pub line: u32,
    /// Requirement.
    pub requirement: String,
    /// Name.
    pub name: Option<String>,
    /// Link or cluster.
    pub place: String,
    /// Mesh and version of each cluster when it was opened.
    pub mesh: BTreeMap<String, String>,
    /// Kind of question, e.g. `split`.
    pub kind: String,
    /// Outcome.
    pub outcome: String,
    /// One line.
    pub summary: String,
    /// What was expected.
    pub expected: String,
    /// What was observed.
    pub observed: String,
    /// Why it turns nothing red although the promise was broken.
    pub excuse: Option<String>,
    /// When it was opened.
    pub opened_us: u64,
    /// When it was decided.
    pub decided_us: u64,
    /// Numbers.
    pub measures: BTreeMap<String, f64>,
    /// Requests that prove it.
    pub requests: Vec<String>,
    /// Folder of the evidence.
    pub evidence: Option<String>,
    /// Its files, relative to the run's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence_files: Vec<String>,
    /// First broken rung, and a line about it.
    pub rung: Option<String>,
}

/// A check of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedCheckRow {
    /// Key.
    pub check: u32,
    /// Requirement.
    pub requirement: String,
    /// Name.
    pub name: Option<String>,
    /// What it is about, as the file says.
    pub place: String,
}

/// A ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerRow {
    /// Name.
    pub ledger: String,
    /// File.
    pub file: String,
    /// What was sent.
    pub text: String,
    /// Rows that the journal vouches for; absent when the ledger was not closed.
    pub rows: Option<u64>,
    /// Over time.
    pub timeline: Option<Timeline>,
}

/// Something that went wrong outside of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemRow {
    /// Whose fault: `environment`, `mesh`, `harness`, `interrupted`.
    pub class: String,
    /// Code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}
