//! Records, one after another, into a history.

use std::collections::HashMap;
use std::sync::Arc;

use meshproof_terms::MOST_STEPS;

use super::{
    CheckHistory, CleanupHistory, Closed, ClosedLedger, EnvironmentHistory, Event, EvidenceHistory, LedgerHistory,
    MarkerHistory, Record, RunHistory, ScenarioHistory, Skipped, StepHistory, UpgradeHistory,
};

/// Most ledgers of a scenario: a step may have several.
const MOST_LEDGERS: usize = 10 * MOST_STEPS;

impl RunHistory {
    /// Folds records. Nothing makes it fail; what does not fit is told in [`RunHistory::oddities`].
    #[must_use]
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut folding = Folding::default();
        for record in records {
            folding.apply(record);
        }
        folding.done()
    }
}

/// A history that records are still added to. However many there are, each takes the same time.
#[derive(Clone, Debug, Default)]
pub struct Folding {
    history: RunHistory,
    /// Where scenarios stand, by key.
    places: HashMap<String, usize>,
}

impl Folding {
    /// What happened so far.
    #[must_use]
    pub fn history(&self) -> &RunHistory {
        &self.history
    }

    /// What happened.
    #[must_use]
    pub fn done(self) -> RunHistory {
        self.history
    }

    /// The scenario with this key, as far as it came; a record that is added later does not change what was given out.
    #[must_use]
    pub fn scenario(&self, key: &str) -> Option<Arc<ScenarioHistory>> {
        let place = *self.places.get(key)?;
        self.history.scenarios.get(place).map(Arc::clone)
    }

    /// Adds one record.
    pub fn apply(&mut self, record: &Record) {
        self.add(record.seq, record.at_us, &record.event);
    }

    /// Adds what a record of this position and time (scenario µs) says.
    pub fn add(&mut self, seq: u64, at_us: u64, event: &Event) {
        let history = &mut self.history;
        let mut oddity = |text: String| history.oddities.push(format!("record {seq}: {text}"));
        if at_us < history.last_us {
            oddity(format!(
                "its time is {at_us} µs, after one of {} µs: time goes backwards",
                history.last_us
            ));
        }
        if history.ended.is_some() {
            oddity("it stands behind the end of the run".to_owned());
        }
        history.last_us = history.last_us.max(at_us);
        if let Err(oddity) = self.take(at_us, event) {
            self.history.oddities.push(format!("record {seq}: {oddity}"));
        }
    }

    fn take(&mut self, at_us: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::RunStarted(started) => {
                if self.history.started.is_some() {
                    return Err("the run starts a second time".to_owned());
                }
                for planned in &started.scenarios {
                    let scenario = self.scenario_entry(&planned.key);
                    scenario.planned = Some(planned.clone());
                }
                self.history.started = Some((**started).clone());
            }
            Event::EnvironmentReady {
                environment,
                clusters,
                links,
                took_wall_us,
            } => {
                self.history.environments.push(EnvironmentHistory {
                    environment: environment.clone(),
                    at_us,
                    clusters: clusters.clone(),
                    links: links.clone(),
                    took_wall_us: *took_wall_us,
                    problem: None,
                    evidence: None,
                });
            }
            Event::EnvironmentFailed {
                environment,
                problem,
                awake,
                evidence,
            } => {
                self.history.environments.push(EnvironmentHistory {
                    environment: environment.clone(),
                    at_us,
                    clusters: Vec::new(),
                    links: Vec::new(),
                    took_wall_us: 0,
                    problem: Some(awake.attribute(problem.clone())),
                    evidence: evidence.clone(),
                });
            }
            Event::Interrupted { .. } => self.history.interrupted.push(at_us),
            Event::RunEnded { outcome } => self.history.ended = Some((at_us, *outcome)),
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
            | Event::Disturbed { scenario, .. }
            | Event::Restored { scenario, .. }
            | Event::CleanedUp { scenario, .. }
            | Event::ScenarioEnded { scenario, .. } => {
                let unplanned = self.history.started.is_some() && !self.places.contains_key(scenario);
                let key = scenario.clone();
                self.scenario_entry(&key).take(at_us, event)?;
                if unplanned {
                    return Err(format!("scenario `{key}` is not in the plan"));
                }
            }
        }
        Ok(())
    }

    fn scenario_entry(&mut self, key: &str) -> &mut ScenarioHistory {
        let scenarios = &mut self.history.scenarios;
        let place = *self.places.entry(key.to_owned()).or_insert_with(|| {
            scenarios.push(Arc::new(ScenarioHistory {
                key: key.to_owned(),
                ..ScenarioHistory::default()
            }));
            scenarios.len() - 1
        });
        Arc::make_mut(&mut scenarios[place])
    }
}

/// Refuses one more of what a scenario has at most this many.
fn room<T>(what: &str, known: &[T], most: usize) -> Result<(), String> {
    if known.len() < most {
        Ok(())
    } else {
        Err(format!("no scenario has more than {most} {what}"))
    }
}

impl ScenarioHistory {
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
            } => {
                room("steps", &self.steps, MOST_STEPS)?;
                self.steps.push(StepHistory {
                    step: *step,
                    line: *line,
                    verb: verb.clone(),
                    text: text.clone(),
                    disturbs: *disturbs,
                    started_us: at_us,
                    ended_us: None,
                    problem: None,
                });
            }
            Event::StepEnded {
                step, problem, awake, ..
            } => {
                let open = self
                    .steps
                    .iter_mut()
                    .rev()
                    .find(|known| known.step == *step && known.ended_us.is_none());
                let known = open.ok_or_else(|| format!("step {step} ends and was not started"))?;
                known.ended_us = Some(at_us);
                known.problem = problem.clone().map(|problem| awake.attribute(problem));
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
                release,
                ..
            } => self.upgrades.push(UpgradeHistory {
                at_us,
                step: *step,
                cluster: cluster.clone(),
                from: from.clone(),
                to: to.clone(),
                release: *release,
            }),
            Event::CleanedUp {
                left,
                problem,
                kept,
                awake,
                ..
            } => {
                self.cleanup = Some(CleanupHistory {
                    at_us,
                    left: left.clone(),
                    problem: problem.clone().map(|problem| awake.attribute(problem)),
                    kept: *kept,
                });
            }
            Event::EvidenceFrozen {
                check,
                folder,
                rung,
                note,
                files,
                ..
            } => {
                room("pieces of evidence", &self.evidence, 2 * MOST_STEPS)?;
                self.evidence.push(EvidenceHistory {
                    at_us,
                    check: *check,
                    folder: folder.clone(),
                    rung: rung.clone(),
                    note: note.clone(),
                    files: files.clone(),
                });
            }
            Event::LedgerOpened { ledger, file, text, .. } => {
                room("ledgers", &self.ledgers, MOST_LEDGERS)?;
                if self.ledger(ledger).is_some() {
                    return Err(format!("ledger `{ledger}` is opened a second time"));
                }
                if let Some(other) = self.ledgers.iter().find(|other| other.file == *file) {
                    return Err(format!("ledger `{ledger}` has the file of ledger `{}`", other.name));
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
                proves,
                ..
            } => {
                match proves {
                    Some(_) => room("controls asked again", &self.controls, MOST_LEDGERS)?,
                    None => room("checks", &self.checks, MOST_STEPS)?,
                }
                if self.check_mut(*check).is_ok() {
                    return Err(format!("check {check} is opened a second time"));
                }
                let mut opened = CheckHistory::new(*check, requirement, place, (**question).clone(), at_us);
                opened.line = *line;
                opened.name.clone_from(name);
                opened.control.clone_from(control);
                opened.proves = *proves;
                if proves.is_some() {
                    self.controls.push(opened);
                } else {
                    self.checks.push(opened);
                }
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
                awake,
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
                    awake: awake.clone(),
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
            .chain(&mut self.controls)
            .find(|known| known.check == check)
            .ok_or_else(|| format!("check {check} was not opened"))
    }
}
