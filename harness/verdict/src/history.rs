//! The journal folded into a model of the run: what was planned, what happened, what was not reached.
//!
//! It takes journals that stop anywhere. What is open at the end stays open here, and [`ScenarioHistory::outcome`] says
//! what that means.

mod fold;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshproof_terms::Release;

pub use fold::Folding;

use crate::question::{Observation, Question};
use crate::reconcile::Reconciliation;
use crate::record::{
    CloseReason, ClusterFacts, EnvironmentEvidence, Event, Judgement, Outcome, PlannedScenario, Record, RunStarted,
};
use crate::standing::Standing;
use crate::wakefulness::{Attributed, Wakefulness};

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunHistory {
    /// Plan and provenance; absent when the journal lacks its first record.
    pub started: Option<RunStarted>,
    /// Environments in the order in which they came up or failed.
    pub environments: Vec<EnvironmentHistory>,
    /// Scenarios in the order of the plan, then any that were not planned. Shared, so that who judges one holds up nobody who
    /// adds to it.
    pub scenarios: Vec<Arc<ScenarioHistory>>,
    /// Times of the user's interrupts, scenario µs.
    pub interrupted: Vec<u64>,
    /// When the run ended, and with what outcome; absent when the journal stops before.
    pub ended: Option<(u64, Outcome)>,
    /// Time of the last record, scenario µs.
    pub last_us: u64,
    /// Records that do not fit to those before them, for people.
    pub oddities: Vec<String>,
}

/// An environment.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentHistory {
    /// Its key.
    pub environment: String,
    /// When it was ready or had failed, scenario µs.
    pub at_us: u64,
    /// Facts of its clusters.
    pub clusters: Vec<ClusterFacts>,
    /// Directed links, `west → east`.
    pub links: Vec<String>,
    /// Wall time that it took, µs.
    pub took_wall_us: u64,
    /// Why it could not be brought up.
    pub problem: Option<Attributed>,
    /// What it looked like then.
    pub evidence: Option<EnvironmentEvidence>,
}

/// A scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScenarioHistory {
    /// Run-unique key.
    pub key: String,
    /// Its row in the plan.
    pub planned: Option<PlannedScenario>,
    /// Its namespace; empty until it started.
    pub namespace: String,
    /// Key of its environment; empty until it started.
    pub environment: String,
    /// When it started, scenario µs.
    pub started_us: Option<u64>,
    /// Why it was skipped.
    pub skipped: Option<Skipped>,
    /// Steps in order.
    pub steps: Vec<StepHistory>,
    /// Markers in order.
    pub markers: Vec<MarkerHistory>,
    /// Upgrades of the mesh in order.
    pub upgrades: Vec<UpgradeHistory>,
    /// Checks in the order in which they were opened.
    pub checks: Vec<CheckHistory>,
    /// Controls that were asked again after a negative: see [`CheckHistory::proves`].
    pub controls: Vec<CheckHistory>,
    /// Ledgers in the order in which they were opened.
    pub ledgers: Vec<LedgerHistory>,
    /// Evidence that was collected.
    pub evidence: Vec<EvidenceHistory>,
    /// Cleanup, when it was finished.
    pub cleanup: Option<CleanupHistory>,
    /// When it ended and with what outcome, as the run recorded it.
    pub ended: Option<(u64, Outcome)>,
}

/// A scenario that was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// When, scenario µs.
    pub at_us: u64,
    /// Stable code.
    pub code: String,
    /// For people.
    pub reason: String,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepHistory {
    /// Position in the scenario, from 0.
    pub step: u32,
    /// Line of the file.
    pub line: u32,
    /// Verb.
    pub verb: String,
    /// The step on one line.
    pub text: String,
    /// Whether it changes something that running traffic may feel.
    pub disturbs: bool,
    /// Start, scenario µs.
    pub started_us: u64,
    /// End, scenario µs; absent when the journal stops before.
    pub ended_us: Option<u64>,
    /// What went wrong.
    pub problem: Option<Attributed>,
}

/// A marker that a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerHistory {
    /// When, scenario µs.
    pub at_us: u64,
    /// Position of the step.
    pub step: u32,
    /// Pod of the client.
    pub client: String,
    /// The marker.
    pub marker: String,
    /// Requests that it took.
    pub requests: u64,
}

/// An upgrade of a cluster's mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeHistory {
    /// When it was done, scenario µs.
    pub at_us: u64,
    /// Position of the step.
    pub step: u32,
    /// Cluster.
    pub cluster: String,
    /// Mesh and version before.
    pub from: String,
    /// Mesh and version after.
    pub to: String,
    /// Release that it counts as from then on.
    pub release: Option<Release>,
}

/// A check: everything that its judgement is made from, apart from ledgers.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckHistory {
    /// Position of its step; its key in the scenario.
    pub check: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Line of the file.
    pub line: u32,
    /// Requirement that it decides.
    pub requirement: String,
    /// Link or cluster that it is about.
    pub place: String,
    /// Names of checks or ledgers that prove the way.
    pub control: Vec<String>,
    /// What it wants to know.
    pub question: Question,
    /// The check whose control this is, asked again right after it. Then it decides nothing by itself.
    pub proves: Option<u32>,
    /// When it began to look, scenario µs.
    pub opened_us: u64,
    /// What it saw, with times, in order.
    pub observations: Vec<(u64, Observation)>,
    /// Its end; absent while it looks.
    pub closed: Option<Closed>,
    /// Its judgement as the run recorded it.
    pub judgement: Option<Judgement>,
}

/// The end of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When, scenario µs.
    pub at_us: u64,
    /// Why.
    pub reason: CloseReason,
    /// Rows that each ledger had by then.
    pub rows: BTreeMap<String, u64>,
    /// Who was awake since the scenario began.
    pub awake: Wakefulness,
}

impl CheckHistory {
    /// A check that begins to look at `opened_us`, without name and controls.
    #[must_use]
    pub fn new(check: u32, requirement: &str, place: &str, question: Question, opened_us: u64) -> Self {
        Self {
            check,
            name: None,
            line: 0,
            requirement: requirement.to_owned(),
            place: place.to_owned(),
            control: Vec::new(),
            question,
            proves: None,
            opened_us,
            observations: Vec::new(),
            closed: None,
            judgement: None,
        }
    }
}

/// A ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHistory {
    /// Name, unique in the scenario.
    pub name: String,
    /// File, relative to the run's folder.
    pub file: String,
    /// What is sent, for people.
    pub text: String,
    /// When it was opened, scenario µs.
    pub opened_us: u64,
    /// Its end; absent when the journal stops before.
    pub closed: Option<ClosedLedger>,
}

/// The end of a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosedLedger {
    /// When, scenario µs.
    pub at_us: u64,
    /// Rows.
    pub rows: u64,
    /// SHA-256 (hex) of the file.
    pub sha256: String,
    /// Requests that servers saw and no client row accounts for.
    pub unaccounted: Vec<String>,
    /// Largest lateness of a start against its intended time, µs.
    pub max_late_us: u64,
    /// Comparison with the servers' ledgers.
    pub reconciliation: Option<Reconciliation>,
}

/// Evidence that was collected for a check or a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceHistory {
    /// When, scenario µs.
    pub at_us: u64,
    /// Key of the check or step.
    pub check: u32,
    /// Folder, relative to the run's folder.
    pub folder: String,
    /// First broken rung.
    pub rung: Option<String>,
    /// One line about it.
    pub note: String,
    /// SHA-256 (hex) of each file by its path in the folder; absent in journals of earlier versions, which vouch for none.
    pub files: Option<BTreeMap<String, String>>,
}

/// The cleanup of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupHistory {
    /// When it was over, scenario µs.
    pub at_us: u64,
    /// Objects that are still there.
    pub left: Vec<String>,
    /// What went wrong.
    pub problem: Option<Attributed>,
    /// Kept on purpose.
    pub kept: bool,
}

impl RunHistory {
    /// The environment with this key that came up.
    #[must_use]
    pub fn environment(&self, key: &str) -> Option<&EnvironmentHistory> {
        let mut environments = self.environments.iter().rev();
        environments.find(|environment| environment.environment == key && environment.problem.is_none())
    }

    /// What holds for the requirement of a check when it was closed.
    #[must_use]
    pub fn standing(&self, scenario: &ScenarioHistory, check: &CheckHistory) -> Standing<'_> {
        let environment = self.environment(&scenario.environment);
        Standing::of(
            self.started.as_ref(),
            environment.map_or(&[], |environment| &environment.clusters),
            &scenario.upgrades,
            &check.requirement,
            check.closed.as_ref().map_or(u64::MAX, |closed| closed.at_us),
        )
    }

    /// The scenario with this key.
    #[must_use]
    pub fn scenario(&self, key: &str) -> Option<&ScenarioHistory> {
        let mut scenarios = self.scenarios.iter().map(Arc::as_ref);
        scenarios.find(|scenario| scenario.key == key)
    }

    /// Worst outcome of all scenarios that were run and of all environments, which are at worst an error: only a failed
    /// scenario makes a run fail. A skipped scenario, which has its coded
    /// reason, does not make a run worse, but when all were skipped, so was the run. A run without a scenario, or one that
    /// did not end, is an error.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let cut = self.ended.is_none().then_some(Outcome::Error);
        cut.into_iter()
            .chain([self.outcome_so_far()])
            .max()
            .unwrap_or(Outcome::Error)
    }

    /// What the outcome is if the run ends now.
    #[must_use]
    pub fn outcome_so_far(&self) -> Outcome {
        let ran = self.scenarios.iter().filter(|scenario| scenario.skipped.is_none());
        let scenarios = ran.map(|scenario| scenario.outcome());
        let environments = self
            .environments
            .iter()
            .filter_map(|environment| environment.problem.as_ref())
            .map(Attributed::outcome_without_promise);
        let interrupted = (!self.interrupted.is_empty()).then_some(Outcome::Inconclusive);
        let nothing = self.scenarios.is_empty().then_some(Outcome::Error);
        scenarios
            .chain(environments)
            .chain(interrupted)
            .chain(nothing)
            .max()
            .unwrap_or(Outcome::Skip)
    }
}

impl ScenarioHistory {
    /// Worst outcome of its checks, steps and cleanup; an error when it was planned and never ran, or did not end. Checks
    /// that were not judged, which have their coded reason, do not make it worse; when none was judged, neither was it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let cut = self.cut().map(|_| Outcome::Error);
        cut.into_iter()
            .chain([self.outcome_so_far()])
            .max()
            .unwrap_or(Outcome::Error)
    }

    /// What the outcome is if it ends now.
    #[must_use]
    pub fn outcome_so_far(&self) -> Outcome {
        if self.skipped.is_some() {
            return Outcome::Skip;
        }
        let checks = self.checks.iter().map(CheckHistory::counts_as);
        let judged = checks.clone().filter(|outcome| *outcome != Outcome::Skip);
        let steps = self.steps.iter().filter_map(|step| step.problem.as_ref());
        let cleanup = self.cleanup.iter().filter_map(|cleanup| cleanup.problem.as_ref());
        let problems = steps
            .map(Attributed::outcome)
            .chain(cleanup.map(Attributed::outcome_without_promise));
        let left = self
            .cleanup
            .iter()
            .filter(|cleanup| !cleanup.left.is_empty() && !cleanup.kept)
            .map(|_| Outcome::Error);
        let unasked = (!self.not_run().is_empty()).then_some(Outcome::Inconclusive);
        judged
            .chain(problems)
            .chain(left)
            .chain(unasked)
            .max()
            .or_else(|| checks.max())
            .unwrap_or(Outcome::Error)
    }

    /// Requirements of the plan that no check of this scenario got to, in the plan's order.
    #[must_use]
    pub fn not_run(&self) -> Vec<&str> {
        let planned = self.planned.iter().flat_map(|planned| &planned.checks);
        planned
            .filter(|id| !self.checks.iter().any(|check| check.requirement == **id))
            .map(String::as_str)
            .collect()
    }

    /// Why this scenario is unfinished, for people; nothing when it ended or was skipped.
    #[must_use]
    pub fn cut(&self) -> Option<String> {
        if self.skipped.is_some() || self.ended.is_some() {
            return None;
        }
        if self.started_us.is_none() {
            return Some("the run ended before this scenario was started".to_owned());
        }
        let open = self.steps.iter().rev().find(|step| step.ended_us.is_none());
        Some(match open {
            Some(step) => format!(
                "the run ended before the step of line {} (`{}`) was over",
                step.line, step.text
            ),
            None => "the run ended before this scenario was over".to_owned(),
        })
    }

    /// The check with this key.
    #[must_use]
    pub fn check(&self, check: u32) -> Option<&CheckHistory> {
        self.checks.iter().find(|candidate| candidate.check == check)
    }

    /// The check with this key, or the control that was asked again under it.
    #[must_use]
    pub fn asked(&self, check: u32) -> Option<&CheckHistory> {
        let mut all = self.checks.iter().chain(&self.controls);
        all.find(|candidate| candidate.check == check)
    }

    /// The ledger with this name.
    #[must_use]
    pub fn ledger(&self, name: &str) -> Option<&LedgerHistory> {
        self.ledgers.iter().find(|ledger| ledger.name == name)
    }
}

impl CheckHistory {
    /// The outcome that the run recorded; an error when it recorded none.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.judgement
            .as_ref()
            .map_or(Outcome::Error, |judgement| judgement.outcome)
    }

    /// What the outcome counts for in its scenario and run: what is excused is told, and turns neither red.
    #[must_use]
    pub fn counts_as(&self) -> Outcome {
        let excused = self
            .judgement
            .as_ref()
            .is_some_and(|judgement| judgement.excuse.is_some());
        match self.outcome() {
            Outcome::Fail if excused => Outcome::Deviates,
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests;
