//! What happens in a run: one struct for each event, which histories and reports hold as it was written.

use std::collections::BTreeMap;

use meshproof_terms::Release;
use serde::{Deserialize, Serialize};

use super::{CloseReason, ClusterFacts, EnvironmentEvidence, Judgement, Outcome, Problem, RunStarted};
use crate::disturbance::{DisturbedObject, Undo};
use crate::question::{Observation, Question};
use crate::reconcile::Reconciliation;
use crate::wakefulness::Wakefulness;

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First record.
    RunStarted(Box<RunStarted>),
    /// Clusters are up, the mesh is installed and linked.
    EnvironmentReady(EnvironmentReady),
    /// Clusters could not be brought up; all scenarios on them are errors.
    EnvironmentFailed(EnvironmentFailed),
    /// A scenario begins.
    ScenarioStarted(ScenarioStarted),
    /// A scenario is not run.
    ScenarioSkipped(ScenarioSkipped),
    /// A step begins.
    StepStarted(StepStarted),
    /// A step ended.
    StepEnded(StepEnded),
    /// A new configuration was seen to be live by a client.
    MarkerSeen(MarkerSeen),
    /// The mesh of a cluster was upgraded.
    MeshUpgraded(MeshUpgraded),
    /// A ledger is opened.
    LedgerOpened(LedgerOpened),
    /// A ledger is complete.
    LedgerClosed(LedgerClosed),
    /// A check begins to look.
    CheckOpened(CheckOpened),
    /// A check saw something.
    Observed(Observed),
    /// A check stops looking.
    CheckClosed(CheckClosed),
    /// The judgement of a check.
    Judged(Judged),
    /// Evidence was collected for a check that did not pass.
    EvidenceFrozen(EvidenceFrozen),
    /// Something outside of the scenario's namespace is about to be changed. Durable before the request that changes it is
    /// made.
    Disturbed(Disturbed),
    /// A change was undone.
    Restored(Restored),
    /// Everything that the scenario made was removed, or not.
    CleanedUp(CleanedUp),
    /// A scenario is over.
    ScenarioEnded(ScenarioEnded),
    /// The user interrupted.
    Interrupted(Interrupted),
    /// Last record of a complete run.
    RunEnded(RunEnded),
}

impl Event {
    /// Key of the scenario that it happened in, if it did in one.
    #[must_use]
    pub fn scenario(&self) -> Option<&str> {
        Some(match self {
            Self::ScenarioStarted(event) => &event.scenario,
            Self::ScenarioSkipped(event) => &event.scenario,
            Self::StepStarted(event) => &event.scenario,
            Self::StepEnded(event) => &event.scenario,
            Self::MarkerSeen(event) => &event.scenario,
            Self::MeshUpgraded(event) => &event.scenario,
            Self::LedgerOpened(event) => &event.scenario,
            Self::LedgerClosed(event) => &event.scenario,
            Self::CheckOpened(event) => &event.scenario,
            Self::Observed(event) => &event.scenario,
            Self::CheckClosed(event) => &event.scenario,
            Self::Judged(event) => &event.scenario,
            Self::EvidenceFrozen(event) => &event.scenario,
            Self::Disturbed(event) => &event.scenario,
            Self::Restored(event) => &event.scenario,
            Self::CleanedUp(event) => &event.scenario,
            Self::ScenarioEnded(event) => &event.scenario,
            Self::RunStarted(_)
            | Self::EnvironmentReady(_)
            | Self::EnvironmentFailed(_)
            | Self::Interrupted(_)
            | Self::RunEnded(_) => return None,
        })
    }
}

/// Clusters are up, the mesh is installed and linked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentReady {
    /// Key of the environment: scenarios with the same key share its clusters.
    pub environment: String,
    /// Facts collected from the clusters.
    pub clusters: Vec<ClusterFacts>,
    /// Directed links, `west → east`.
    pub links: Vec<String>,
    /// Wall time that it took, µs.
    pub took_wall_us: u64,
}

/// Clusters could not be brought up; all scenarios on them are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentFailed {
    /// Key of the environment.
    pub environment: String,
    /// What went wrong, as whoever saw it said.
    pub problem: Problem,
    /// Who was awake while it was brought up.
    #[serde(flatten)]
    pub awake: Wakefulness,
    /// What the clusters looked like before they were taken down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EnvironmentEvidence>,
}

/// A scenario begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioStarted {
    /// Run-unique key: `<id>` or `<id>#<repetition>`.
    pub scenario: String,
    /// Its namespace in the clusters.
    pub namespace: String,
    /// Key of the environment.
    pub environment: String,
}

/// A scenario is not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioSkipped {
    /// Key.
    pub scenario: String,
    /// Stable code, e.g. `capability-missing`.
    pub code: String,
    /// For people.
    pub reason: String,
}

/// A step begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepStarted {
    /// Key of the scenario.
    pub scenario: String,
    /// Position in the scenario, from 0.
    pub step: u32,
    /// Line of the file.
    pub line: u32,
    /// Verb, e.g. `scale`.
    pub verb: String,
    /// The step on one line, for people.
    pub text: String,
    /// Whether it changes something that running traffic may feel.
    pub disturbs: bool,
}

/// A step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEnded {
    /// Key of the scenario.
    pub scenario: String,
    /// Position.
    pub step: u32,
    /// What went wrong, if anything did, as whoever saw it said.
    pub problem: Option<Problem>,
    /// Who was awake since the scenario began.
    #[serde(flatten)]
    pub awake: Wakefulness,
}

/// A new configuration was seen to be live by a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkerSeen {
    /// Key of the scenario.
    pub scenario: String,
    /// Position of the step.
    pub step: u32,
    /// `cluster/namespace/pod` of the client.
    pub client: String,
    /// The marker.
    pub marker: String,
    /// Requests that it took.
    pub requests: u64,
}

/// The mesh of a cluster was upgraded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshUpgraded {
    /// Key of the scenario.
    pub scenario: String,
    /// Position of the step.
    pub step: u32,
    /// Cluster.
    pub cluster: String,
    /// Mesh and version before, as in [`ClusterFacts::mesh`].
    pub from: String,
    /// Mesh and version from now on.
    pub to: String,
    /// Release that it counts as from now on; absent when it is none (a development build).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// A ledger is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerOpened {
    /// Key of the scenario.
    pub scenario: String,
    /// Name, unique in the scenario.
    pub ledger: String,
    /// File, relative to the run's folder.
    pub file: String,
    /// What is sent, for people: `shopper (west) → store@east, 100/s`.
    pub text: String,
}

/// A ledger is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerClosed {
    /// Key of the scenario.
    pub scenario: String,
    /// Name.
    pub ledger: String,
    /// Rows.
    pub rows: u64,
    /// SHA-256 (hex) of the file.
    pub sha256: String,
    /// Requests that servers of the run saw, and that no client row accounts for (misrouted or duplicated), by id.
    pub unaccounted: Vec<String>,
    /// Largest lateness of a start against its intended time, µs.
    pub max_late_us: u64,
    /// Comparison with the servers' ledgers; absent when none was made. Without it no request counts as refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciliation: Option<Box<Reconciliation>>,
}

/// A check begins to look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckOpened {
    /// Key of the scenario.
    pub scenario: String,
    /// Position of its step; the check's key.
    pub check: u32,
    /// Line of the file.
    pub line: u32,
    /// Requirement that it decides.
    pub requirement: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Link or cluster that it is about, for people: `west → east`, `west`.
    pub place: String,
    /// Names of checks or ledgers that prove the way.
    pub control: Vec<String>,
    /// What it wants to know.
    pub question: Box<Question>,
    /// The check whose control this is, asked again right after it. It decides nothing by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proves: Option<u32>,
}

/// A check saw something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Key of the scenario.
    pub scenario: String,
    /// Key of the check.
    pub check: u32,
    /// What it saw.
    pub observation: Observation,
}

/// A check stops looking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckClosed {
    /// Key of the scenario.
    pub scenario: String,
    /// Key of the check.
    pub check: u32,
    /// Why.
    pub reason: CloseReason,
    /// How many rows of each ledger of the scenario had been written by then. Rows are written in the order in which
    /// their outcomes became known, so that this says exactly what the judge could see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
    /// Who was awake since the scenario began.
    #[serde(flatten)]
    pub awake: Wakefulness,
}

/// The judgement of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Key of the scenario.
    pub scenario: String,
    /// Key of the check.
    pub check: u32,
    /// The judgement.
    pub judgement: Box<Judgement>,
}

/// Evidence was collected for a check that did not pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceFrozen {
    /// Key of the scenario.
    pub scenario: String,
    /// Key of the check, or of the step that failed.
    pub check: u32,
    /// Folder, relative to the run's folder.
    pub folder: String,
    /// First broken rung: `dns`, `mirror`, `endpoints`, `gateway`, `identity`, `policy`, `application`.
    pub rung: Option<String>,
    /// One line about it.
    pub note: String,
    /// SHA-256 (hex) of each file by its path in the folder; absent in journals of earlier versions, which vouch for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
}

/// Something outside of the scenario's namespace is about to be changed. Durable before the request that changes it is
/// made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disturbed {
    /// Key of the scenario.
    pub scenario: String,
    /// Number of the change, unique in the run.
    pub id: u64,
    /// Cluster.
    pub cluster: String,
    /// What is changed.
    pub object: DisturbedObject,
    /// What undoes it.
    pub undo: Undo,
}

/// A change was undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// Key of the scenario.
    pub scenario: String,
    /// Number of the change.
    pub id: u64,
}

/// Everything that the scenario made was removed, or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CleanedUp {
    /// Key of the scenario.
    pub scenario: String,
    /// Objects that are still there.
    pub left: Vec<String>,
    /// What went wrong, if anything did, as whoever saw it said.
    pub problem: Option<Problem>,
    /// Kept on purpose (`--keep`).
    pub kept: bool,
    /// Who was awake since the scenario began.
    #[serde(flatten)]
    pub awake: Wakefulness,
}

/// A scenario is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioEnded {
    /// Key of the scenario.
    pub scenario: String,
    /// Worst outcome of its checks, steps and cleanup.
    pub outcome: Outcome,
}

/// The user interrupted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interrupted {
    /// First or second time.
    pub count: u32,
}

/// Last record of a complete run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    /// Worst outcome.
    pub outcome: Outcome,
}
