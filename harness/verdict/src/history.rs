//! The journal folded into a model of the run: what was planned, what happened, what was not reached.
//!
//! It takes journals that stop anywhere. What is open at the end stays open here, and [`ScenarioHistory::outcome`] says
//! what that means.

mod fold;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub use fold::Folding;

use crate::question::Observation;
use crate::record::{
    CheckClosed, CheckOpened, CleanedUp, EnvironmentEvidence, EnvironmentFailed, EnvironmentReady, Event,
    EvidenceFrozen, Judgement, LedgerClosed, LedgerOpened, MarkerSeen, MeshUpgraded, Outcome, PlannedScenario, Record,
    RunEnded, RunStarted, ScenarioEnded, ScenarioSkipped, ScenarioStarted, StepEnded, StepStarted,
};
use crate::standing::Standing;
use crate::wakefulness::Attributed;

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
    pub ended: Option<At<RunEnded>>,
    /// Time of the last record, scenario µs.
    pub last_us: u64,
    /// Records that do not fit to those before them, for people.
    pub oddities: Vec<String>,
}

/// An event with the time at which it was written down.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// Scenario time since the start of the run, µs.
    pub at_us: u64,
    /// What happened then.
    pub event: T,
}

impl<T> At<T> {
    /// An event of a time, scenario µs.
    pub const fn new(at_us: u64, event: T) -> Self {
        Self { at_us, event }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.event
    }
}

impl<T> DerefMut for At<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.event
    }
}

/// An environment: it came up, or it did not.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvironmentHistory {
    /// When it was ready.
    Ready(At<EnvironmentReady>),
    /// When it had failed.
    Failed(Box<At<EnvironmentFailed>>),
}

/// A scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScenarioHistory {
    /// Run-unique key.
    pub key: String,
    /// Its row in the plan.
    pub planned: Option<PlannedScenario>,
    /// Its start.
    pub started: Option<At<ScenarioStarted>>,
    /// Why it was skipped.
    pub skipped: Option<At<ScenarioSkipped>>,
    /// Steps in order.
    pub steps: Vec<StepHistory>,
    /// Markers in order.
    pub markers: Vec<At<MarkerSeen>>,
    /// Upgrades of the mesh in order.
    pub upgrades: Vec<At<MeshUpgraded>>,
    /// Checks in the order in which they were opened.
    pub checks: Vec<CheckHistory>,
    /// Controls that were asked again after a negative: see [`CheckOpened::proves`].
    pub controls: Vec<CheckHistory>,
    /// Ledgers in the order in which they were opened.
    pub ledgers: Vec<LedgerHistory>,
    /// Evidence that was collected.
    pub evidence: Vec<At<EvidenceFrozen>>,
    /// Cleanup, when it was finished.
    pub cleanup: Option<At<CleanedUp>>,
    /// When it ended and with what outcome, as the run recorded it.
    pub ended: Option<At<ScenarioEnded>>,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepHistory {
    /// Its start.
    pub started: At<StepStarted>,
    /// Its end; absent when the journal stops before.
    pub ended: Option<At<StepEnded>>,
}

/// A check: everything that its judgement is made from, apart from ledgers.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckHistory {
    /// Its start, with what it wants to know.
    pub opened: At<CheckOpened>,
    /// What it saw, with times, in order.
    pub observations: Vec<(u64, Observation)>,
    /// Its end; absent while it looks.
    pub closed: Option<At<CheckClosed>>,
    /// Its judgement as the run recorded it.
    pub judgement: Option<Judgement>,
}

/// A ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerHistory {
    /// Its start.
    pub opened: At<LedgerOpened>,
    /// Its end; absent when the journal stops before.
    pub closed: Option<At<LedgerClosed>>,
}

impl EnvironmentHistory {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Ready(ready) => &ready.environment,
            Self::Failed(failed) => &failed.environment,
        }
    }

    /// How it came up.
    #[must_use]
    pub const fn ready(&self) -> Option<&At<EnvironmentReady>> {
        match self {
            Self::Ready(ready) => Some(ready),
            Self::Failed(_) => None,
        }
    }

    /// When it was ready or had failed, scenario µs.
    #[must_use]
    pub const fn at_us(&self) -> u64 {
        match self {
            Self::Ready(ready) => ready.at_us,
            Self::Failed(failed) => failed.at_us,
        }
    }

    /// What it looked like when it had failed.
    #[must_use]
    pub fn evidence(&self) -> Option<&EnvironmentEvidence> {
        match self {
            Self::Ready(_) => None,
            Self::Failed(failed) => failed.evidence.as_ref(),
        }
    }

    /// Why it could not be brought up.
    #[must_use]
    pub fn problem(&self) -> Option<Attributed> {
        match self {
            Self::Ready(_) => None,
            Self::Failed(failed) => Some(failed.awake.attribute(failed.problem.clone())),
        }
    }
}

impl StepHistory {
    /// What went wrong.
    #[must_use]
    pub fn problem(&self) -> Option<Attributed> {
        let ended = self.ended.as_ref()?;
        ended.problem.clone().map(|problem| ended.awake.attribute(problem))
    }
}

impl CleanedUp {
    /// What went wrong, and whether its accuser was awake.
    #[must_use]
    pub fn attributed(&self) -> Option<Attributed> {
        self.problem.clone().map(|problem| self.awake.attribute(problem))
    }
}

impl RunHistory {
    /// The environment with this key that came up.
    #[must_use]
    pub fn environment(&self, key: &str) -> Option<&At<EnvironmentReady>> {
        let mut environments = self.environments.iter().rev().filter_map(EnvironmentHistory::ready);
        environments.find(|ready| ready.environment == key)
    }

    /// What holds for the requirement of a check when it was closed.
    #[must_use]
    pub fn standing(&self, scenario: &ScenarioHistory, check: &CheckHistory) -> Standing<'_> {
        let environment = self.environment(scenario.environment());
        Standing::of(
            self.started.as_ref(),
            environment.map_or(&[], |environment| &environment.clusters),
            &scenario.upgrades,
            &check.opened.requirement,
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
            .filter_map(EnvironmentHistory::problem)
            .map(|problem| problem.outcome_without_promise());
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
        let steps = self.steps.iter().filter_map(StepHistory::problem);
        let cleanup = self.cleanup.iter().filter_map(|cleanup| cleanup.attributed());
        let problems = steps
            .map(|problem| problem.outcome())
            .chain(cleanup.map(|problem| problem.outcome_without_promise()));
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
            .filter(|id| !self.checks.iter().any(|check| check.opened.requirement == **id))
            .map(String::as_str)
            .collect()
    }

    /// Why this scenario is unfinished, for people; nothing when it ended or was skipped.
    #[must_use]
    pub fn cut(&self) -> Option<String> {
        if self.skipped.is_some() || self.ended.is_some() {
            return None;
        }
        if self.started.is_none() {
            return Some("the run ended before this scenario was started".to_owned());
        }
        let open = self.steps.iter().rev().find(|step| step.ended.is_none());
        Some(match open {
            Some(step) => format!(
                "the run ended before the step of line {} (`{}`) was over",
                step.started.line, step.started.text
            ),
            None => "the run ended before this scenario was over".to_owned(),
        })
    }

    /// Its namespace; empty until it started.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.started.as_ref().map_or("", |started| &started.namespace)
    }

    /// Key of its environment; empty until it started.
    #[must_use]
    pub fn environment(&self) -> &str {
        self.started.as_ref().map_or("", |started| &started.environment)
    }

    /// The check with this key.
    #[must_use]
    pub fn check(&self, check: u32) -> Option<&CheckHistory> {
        self.checks.iter().find(|candidate| candidate.opened.check == check)
    }

    /// The check with this key, or the control that was asked again under it.
    #[must_use]
    pub fn asked(&self, check: u32) -> Option<&CheckHistory> {
        let mut all = self.checks.iter().chain(&self.controls);
        all.find(|candidate| candidate.opened.check == check)
    }

    /// The ledger with this name.
    #[must_use]
    pub fn ledger(&self, name: &str) -> Option<&LedgerHistory> {
        self.ledgers.iter().find(|ledger| ledger.opened.ledger == name)
    }
}

impl CheckHistory {
    /// A check that begins to look at a time, scenario µs.
    #[must_use]
    pub const fn new(at_us: u64, opened: CheckOpened) -> Self {
        Self {
            opened: At::new(at_us, opened),
            observations: Vec::new(),
            closed: None,
            judgement: None,
        }
    }

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
