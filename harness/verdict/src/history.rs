//! The journal folded into a model of the run: what was planned, what happened, what was not reached.
//!
//! It takes journals that stop anywhere. What is open at the end stays open here, and [`ScenarioHistory::outcome`] says
//! what that means.

use std::collections::BTreeMap;

use crate::question::{Observation, Question};
use crate::reconcile::Reconciliation;
use crate::record::{
    CloseReason, ClusterFacts, Event, Judgement, Outcome, PlannedScenario, Problem, ProblemClass, Record, RunStarted,
};

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunHistory {
    /// Plan and provenance; absent when the journal lacks its first record.
    pub started: Option<RunStarted>,
    /// Environments in the order in which they came up or failed.
    pub environments: Vec<EnvironmentHistory>,
    /// Scenarios in the order of the plan, then any that were not planned.
    pub scenarios: Vec<ScenarioHistory>,
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
    pub problem: Option<Problem>,
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
    pub problem: Option<Problem>,
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
    /// Longest time by which a timer of the harness fired late since the scenario began, scenario µs.
    pub stalled_us: u64,
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
}

/// The cleanup of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupHistory {
    /// When it was over, scenario µs.
    pub at_us: u64,
    /// Objects that are still there.
    pub left: Vec<String>,
    /// What went wrong.
    pub problem: Option<Problem>,
    /// Kept on purpose.
    pub kept: bool,
}

/// Outcome of a scenario's step or cleanup that had this problem. A problem of the environment or of the harness is an
/// error; of the mesh, a failure (it did not do what every step is entitled to); an interrupt leaves the question open.
#[must_use]
pub fn outcome_of_problem(class: ProblemClass) -> Outcome {
    match class {
        ProblemClass::Environment | ProblemClass::Harness => Outcome::Error,
        ProblemClass::Mesh => Outcome::Fail,
        ProblemClass::Interrupted => Outcome::Inconclusive,
    }
}

impl RunHistory {
    /// Folds records. Nothing makes it fail; what does not fit is told in [`RunHistory::oddities`].
    #[must_use]
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut run = Self::default();
        for record in records {
            run.apply(record);
        }
        run
    }

    /// Adds one record: a running engine keeps its history up to date with this.
    pub fn apply(&mut self, record: &Record) {
        self.last_us = self.last_us.max(record.at_us);
        if let Err(oddity) = self.take(record) {
            self.oddities.push(format!("record {}: {oddity}", record.seq));
        }
    }

    /// The scenario with this key.
    #[must_use]
    pub fn scenario(&self, key: &str) -> Option<&ScenarioHistory> {
        self.scenarios.iter().find(|scenario| scenario.key == key)
    }

    /// Worst outcome of all scenarios that were run and of all environments: a skipped scenario, which has its coded
    /// reason, does not make a run worse, but when all were skipped, so was the run. A run without a scenario, or one that
    /// did not end, is an error.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let ran = self.scenarios.iter().filter(|scenario| scenario.skipped.is_none());
        let scenarios = ran.map(ScenarioHistory::outcome);
        let environments = self
            .environments
            .iter()
            .filter_map(|environment| environment.problem.as_ref())
            .map(|problem| outcome_of_problem(problem.class));
        let interrupted = (!self.interrupted.is_empty()).then_some(Outcome::Inconclusive);
        let cut = (self.ended.is_none() || self.scenarios.is_empty()).then_some(Outcome::Error);
        scenarios
            .chain(environments)
            .chain(interrupted)
            .chain(cut)
            .max()
            .unwrap_or(Outcome::Skip)
    }

    fn take(&mut self, record: &Record) -> Result<(), String> {
        let at_us = record.at_us;
        match &record.event {
            Event::RunStarted(started) => {
                if self.started.is_some() {
                    return Err("the run starts a second time".to_owned());
                }
                for planned in &started.scenarios {
                    let scenario = self.scenario_entry(&planned.key);
                    scenario.planned = Some(planned.clone());
                }
                self.started = Some((**started).clone());
            }
            Event::EnvironmentReady {
                environment,
                clusters,
                links,
                took_wall_us,
            } => {
                self.environments.push(EnvironmentHistory {
                    environment: environment.clone(),
                    at_us,
                    clusters: clusters.clone(),
                    links: links.clone(),
                    took_wall_us: *took_wall_us,
                    problem: None,
                });
            }
            Event::EnvironmentFailed { environment, problem } => {
                self.environments.push(EnvironmentHistory {
                    environment: environment.clone(),
                    at_us,
                    clusters: Vec::new(),
                    links: Vec::new(),
                    took_wall_us: 0,
                    problem: Some(problem.clone()),
                });
            }
            Event::Interrupted { .. } => self.interrupted.push(at_us),
            Event::RunEnded { outcome } => self.ended = Some((at_us, *outcome)),
            Event::ScenarioStarted { scenario, .. }
            | Event::ScenarioSkipped { scenario, .. }
            | Event::StepStarted { scenario, .. }
            | Event::StepEnded { scenario, .. }
            | Event::MarkerSeen { scenario, .. }
            | Event::MeshUpgraded { scenario, .. }
            | Event::LedgerOpened { scenario, .. }
            | Event::LedgerClosed { scenario, .. }
            | Event::CheckOpened { scenario, .. }
            | Event::Observed { scenario, .. }
            | Event::CheckClosed { scenario, .. }
            | Event::Judged { scenario, .. }
            | Event::EvidenceFrozen { scenario, .. }
            | Event::CleanedUp { scenario, .. }
            | Event::ScenarioEnded { scenario, .. } => {
                let unplanned = self.started.is_some() && self.scenario(scenario).is_none();
                let key = scenario.clone();
                self.scenario_entry(&key).take(at_us, &record.event)?;
                if unplanned {
                    return Err(format!("scenario `{key}` is not in the plan"));
                }
            }
        }
        Ok(())
    }

    fn scenario_entry(&mut self, key: &str) -> &mut ScenarioHistory {
        let position = self
            .scenarios
            .iter()
            .position(|scenario| scenario.key == key)
            .unwrap_or_else(|| {
                self.scenarios.push(ScenarioHistory {
                    key: key.to_owned(),
                    ..ScenarioHistory::default()
                });
                self.scenarios.len() - 1
            });
        &mut self.scenarios[position]
    }
}

impl ScenarioHistory {
    /// Worst outcome of its checks, steps and cleanup; an error when it was planned and never ran, or did not end.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.skipped.is_some() {
            return Outcome::Skip;
        }
        let checks = self.checks.iter().map(CheckHistory::outcome);
        let problems = self
            .steps
            .iter()
            .filter_map(|step| step.problem.as_ref())
            .chain(self.cleanup.iter().filter_map(|cleanup| cleanup.problem.as_ref()))
            .map(|problem| outcome_of_problem(problem.class));
        let left = self
            .cleanup
            .iter()
            .filter(|cleanup| !cleanup.left.is_empty() && !cleanup.kept)
            .map(|_| Outcome::Error);
        let unasked = (!self.not_run().is_empty()).then_some(Outcome::Inconclusive);
        let cut = self.cut().map(|_| Outcome::Error);
        checks
            .chain(problems)
            .chain(left)
            .chain(unasked)
            .chain(cut)
            .max()
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

    /// The ledger with this name.
    #[must_use]
    pub fn ledger(&self, name: &str) -> Option<&LedgerHistory> {
        self.ledgers.iter().find(|ledger| ledger.name == name)
    }

    fn take(&mut self, at_us: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::ScenarioStarted {
                namespace, environment, ..
            } => {
                if self.started_us.is_some() {
                    return Err(format!("scenario `{}` starts a second time", self.key));
                }
                self.started_us = Some(at_us);
                self.namespace.clone_from(namespace);
                self.environment.clone_from(environment);
            }
            Event::ScenarioSkipped { code, reason, .. } => {
                self.skipped = Some(Skipped {
                    at_us,
                    code: code.clone(),
                    reason: reason.clone(),
                });
            }
            Event::ScenarioEnded { outcome, .. } => self.ended = Some((at_us, *outcome)),
            Event::StepStarted {
                step,
                line,
                verb,
                text,
                disturbs,
                ..
            } => self.steps.push(StepHistory {
                step: *step,
                line: *line,
                verb: verb.clone(),
                text: text.clone(),
                disturbs: *disturbs,
                started_us: at_us,
                ended_us: None,
                problem: None,
            }),
            Event::StepEnded { step, problem, .. } => {
                let open = self
                    .steps
                    .iter_mut()
                    .rev()
                    .find(|known| known.step == *step && known.ended_us.is_none());
                let known = open.ok_or_else(|| format!("step {step} ends and was not started"))?;
                known.ended_us = Some(at_us);
                known.problem.clone_from(problem);
            }
            Event::MarkerSeen {
                step,
                client,
                marker,
                requests,
                ..
            } => self.markers.push(MarkerHistory {
                at_us,
                step: *step,
                client: client.clone(),
                marker: marker.clone(),
                requests: *requests,
            }),
            Event::MeshUpgraded {
                step,
                cluster,
                from,
                to,
                ..
            } => self.upgrades.push(UpgradeHistory {
                at_us,
                step: *step,
                cluster: cluster.clone(),
                from: from.clone(),
                to: to.clone(),
            }),
            Event::CleanedUp {
                left, problem, kept, ..
            } => {
                self.cleanup = Some(CleanupHistory {
                    at_us,
                    left: left.clone(),
                    problem: problem.clone(),
                    kept: *kept,
                });
            }
            Event::EvidenceFrozen {
                check,
                folder,
                rung,
                note,
                ..
            } => self.evidence.push(EvidenceHistory {
                at_us,
                check: *check,
                folder: folder.clone(),
                rung: rung.clone(),
                note: note.clone(),
            }),
            Event::LedgerOpened { ledger, file, text, .. } => {
                if self.ledger(ledger).is_some() {
                    return Err(format!("ledger `{ledger}` is opened a second time"));
                }
                self.ledgers.push(LedgerHistory {
                    name: ledger.clone(),
                    file: file.clone(),
                    text: text.clone(),
                    opened_us: at_us,
                    closed: None,
                });
            }
            Event::LedgerClosed {
                ledger,
                rows,
                sha256,
                unaccounted,
                max_late_us,
                reconciliation,
                ..
            } => {
                let known = self
                    .ledgers
                    .iter_mut()
                    .find(|known| known.name == *ledger && known.closed.is_none())
                    .ok_or_else(|| format!("ledger `{ledger}` is closed and was not open"))?;
                known.closed = Some(ClosedLedger {
                    at_us,
                    rows: *rows,
                    sha256: sha256.clone(),
                    unaccounted: unaccounted.clone(),
                    max_late_us: *max_late_us,
                    reconciliation: reconciliation.as_deref().cloned(),
                });
            }
            _ => return self.take_check_event(at_us, event),
        }
        Ok(())
    }

    fn take_check_event(&mut self, at_us: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::CheckOpened {
                check,
                line,
                requirement,
                name,
                place,
                control,
                question,
                ..
            } => {
                if self.check(*check).is_some() {
                    return Err(format!("check {check} is opened a second time"));
                }
                let mut opened = CheckHistory::new(*check, requirement, place, (**question).clone(), at_us);
                opened.line = *line;
                opened.name.clone_from(name);
                opened.control.clone_from(control);
                self.checks.push(opened);
            }
            Event::Observed { check, observation, .. } => {
                let known = self.check_mut(*check)?;
                if known.closed.is_some() {
                    return Err(format!("check {check} sees something after it was closed"));
                }
                known.observations.push((at_us, observation.clone()));
            }
            Event::CheckClosed {
                check,
                reason,
                rows,
                stalled_us,
                ..
            } => {
                let known = self.check_mut(*check)?;
                if known.closed.is_some() {
                    return Err(format!("check {check} is closed a second time"));
                }
                known.closed = Some(Closed {
                    at_us,
                    reason: reason.clone(),
                    rows: rows.clone(),
                    stalled_us: *stalled_us,
                });
            }
            Event::Judged { check, judgement, .. } => {
                let known = self.check_mut(*check)?;
                if known.judgement.is_some() {
                    return Err(format!("check {check} is judged a second time"));
                }
                known.judgement = Some((**judgement).clone());
            }
            _ => {}
        }
        Ok(())
    }

    fn check_mut(&mut self, check: u32) -> Result<&mut CheckHistory, String> {
        self.checks
            .iter_mut()
            .find(|known| known.check == check)
            .ok_or_else(|| format!("check {check} was not opened"))
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
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::specimen;

    #[test]
    fn a_whole_run_is_folded() {
        let run = RunHistory::fold(&specimen::run().records);
        assert_eq!(run.oddities, Vec::<String>::new());
        assert_eq!(run.outcome(), Outcome::Pass);
        let keys: Vec<&str> = run.scenarios.iter().map(|scenario| scenario.key.as_str()).collect();
        assert_eq!(keys, ["export", "skipped"]);
        let scenario = run.scenario("export").unwrap();
        assert_eq!(scenario.outcome(), Outcome::Pass);
        assert_eq!(scenario.steps.len(), 3);
        assert_eq!(scenario.ledgers[0].closed.as_ref().unwrap().rows, 3);
        let check = scenario.check(1).unwrap();
        assert_eq!(
            (check.opened_us, check.observations.len(), check.outcome()),
            (2000, 2, Outcome::Pass)
        );
        assert_eq!(check.closed.as_ref().unwrap().at_us, 4000);
        assert!(scenario.not_run().is_empty());
        assert_eq!(run.scenario("skipped").unwrap().outcome(), Outcome::Skip);
    }

    #[test]
    fn a_journal_that_stops_anywhere_is_never_green() {
        let records = specimen::run().records;
        for length in 0..records.len() {
            let run = RunHistory::fold(&records[..length]);
            assert_eq!(run.oddities, Vec::<String>::new());
            assert_eq!(run.outcome(), Outcome::Error, "after {length} records");
            let Some(scenario) = run.scenario("export") else {
                continue;
            };
            if scenario.ended.is_none() {
                assert_eq!(scenario.outcome(), Outcome::Error);
                assert!(scenario.cut().unwrap().contains("the run ended before"));
            }
        }
    }

    #[test]
    fn an_unfinished_step_is_named() {
        let records = specimen::run().records;
        let step = records
            .iter()
            .position(|record| matches!(record.event, Event::StepStarted { step: 1, .. }))
            .unwrap();
        let run = RunHistory::fold(&records[..=step]);
        let scenario = run.scenario("export").unwrap();
        assert_eq!(
            scenario.cut().unwrap(),
            "the run ended before the step of line 12 (`expect object`) was over"
        );
        assert_eq!(scenario.not_run(), ["MC-ONE-001", "MC-TWO-001"]);
    }

    #[test]
    fn records_that_do_not_fit_are_told_and_do_no_harm() {
        let mut records = specimen::run().records;
        let double: Vec<Record> = records.iter().cloned().chain(records.iter().cloned()).collect();
        assert!(RunHistory::fold(&double).oddities.len() > 5);
        records.retain(|record| {
            !matches!(
                record.event,
                Event::CheckOpened { .. } | Event::LedgerOpened { .. } | Event::StepStarted { .. }
            )
        });
        let run = RunHistory::fold(&records);
        assert!(
            run.oddities
                .iter()
                .any(|oddity| oddity.ends_with("check 1 was not opened")),
            "{:?}",
            run.oddities
        );
        assert_eq!(run.outcome(), Outcome::Inconclusive);
    }

    #[test]
    fn a_scenario_outside_of_the_plan_is_told() {
        let mut records = specimen::run().records;
        let event = Event::ScenarioStarted {
            scenario: "surprise".to_owned(),
            namespace: "n".to_owned(),
            environment: "pair".to_owned(),
        };
        let stray = Record {
            seq: 99,
            at_us: 0,
            prev: String::new(),
            event,
        };
        records.insert(1, stray);
        let run = RunHistory::fold(&records);
        assert_eq!(run.oddities, ["record 99: scenario `surprise` is not in the plan"]);
    }

    fn problem(class: ProblemClass) -> Problem {
        Problem {
            class,
            code: "c".to_owned(),
            message: "m".to_owned(),
            remedy: None,
        }
    }

    type Change = fn(&mut ScenarioHistory);

    #[rstest]
    #[case::as_it_is(|_: &mut ScenarioHistory| {}, Outcome::Pass)]
    #[case::a_check_failed(|s: &mut ScenarioHistory| s.checks[0].judgement.as_mut().unwrap().outcome = Outcome::Fail, Outcome::Fail)]
    #[case::a_check_was_not_judged(|s: &mut ScenarioHistory| s.checks[0].judgement = None, Outcome::Error)]
    #[case::a_check_was_not_reached(|s: &mut ScenarioHistory| { s.checks.remove(0); }, Outcome::Inconclusive)]
    #[case::the_mesh_blocked_a_step(|s: &mut ScenarioHistory| s.steps[0].problem = Some(problem(ProblemClass::Mesh)), Outcome::Fail)]
    #[case::the_environment_did(|s: &mut ScenarioHistory| s.steps[0].problem = Some(problem(ProblemClass::Environment)), Outcome::Error)]
    #[case::the_user_did(|s: &mut ScenarioHistory| s.steps[0].problem = Some(problem(ProblemClass::Interrupted)), Outcome::Inconclusive)]
    #[case::cleanup_failed(|s: &mut ScenarioHistory| s.cleanup.as_mut().unwrap().problem = Some(problem(ProblemClass::Harness)), Outcome::Error)]
    #[case::something_is_left(|s: &mut ScenarioHistory| s.cleanup.as_mut().unwrap().left = vec!["x".to_owned()], Outcome::Error)]
    #[case::something_is_kept(|s: &mut ScenarioHistory| *s.cleanup.as_mut().unwrap() = CleanupHistory { at_us: 0, left: vec!["x".to_owned()], problem: None, kept: true }, Outcome::Pass)]
    fn the_worst_part_is_the_outcome(#[case] change: Change, #[case] expected: Outcome) {
        let mut run = RunHistory::fold(&specimen::run().records);
        change(&mut run.scenarios[0]);
        assert_eq!(run.scenarios[0].outcome(), expected);
        assert_eq!(run.outcome(), expected);
    }

    #[test]
    fn no_scenario_and_an_interrupt_are_not_green() {
        let mut run = RunHistory::fold(&specimen::run().records);
        run.interrupted.push(5);
        assert_eq!(run.outcome(), Outcome::Inconclusive);
        run.scenarios.clear();
        assert_eq!(run.outcome(), Outcome::Error);
    }

    #[test]
    fn a_run_is_skipped_when_all_its_scenarios_were() {
        let mut run = RunHistory::fold(&specimen::run().records);
        run.scenarios.remove(0);
        assert_eq!(run.outcome(), Outcome::Skip);
    }
}
