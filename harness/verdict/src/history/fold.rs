//! Records, one after another, into a history.

use std::collections::HashMap;
use std::sync::Arc;

use meshproof_terms::MOST_STEPS;

use super::{
    At, CheckHistory, EnvironmentHistory, Event, LedgerHistory, Record, RunHistory, ScenarioHistory, StepHistory,
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
            Event::EnvironmentReady(ready) => {
                let ready = EnvironmentHistory::Ready(At::new(at_us, ready.clone()));
                self.history.environments.push(ready);
            }
            Event::EnvironmentFailed(failed) => {
                let failed = EnvironmentHistory::Failed(Box::new(At::new(at_us, failed.clone())));
                self.history.environments.push(failed);
            }
            Event::Interrupted(_) => self.history.interrupted.push(at_us),
            Event::RunEnded(ended) => self.history.ended = Some(At::new(at_us, ended.clone())),
            event => {
                let Some(key) = event.scenario() else { return Ok(()) };
                let unplanned = self.history.started.is_some() && !self.places.contains_key(key);
                self.scenario_entry(key).take(at_us, event)?;
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
            Event::ScenarioStarted(started) => {
                if self.started.is_some() {
                    return Err(format!("scenario `{}` starts a second time", self.key));
                }
                self.started = Some(At::new(at_us, started.clone()));
            }
            Event::ScenarioSkipped(skipped) => self.skipped = Some(At::new(at_us, skipped.clone())),
            Event::ScenarioEnded(ended) => self.ended = Some(At::new(at_us, ended.clone())),
            Event::StepStarted(started) => {
                room("steps", &self.steps, MOST_STEPS)?;
                self.steps.push(StepHistory {
                    started: At::new(at_us, started.clone()),
                    ended: None,
                });
            }
            Event::StepEnded(ended) => {
                let step = ended.step;
                let open = self
                    .steps
                    .iter_mut()
                    .rev()
                    .find(|known| known.started.step == step && known.ended.is_none());
                let known = open.ok_or_else(|| format!("step {step} ends and was not started"))?;
                known.ended = Some(At::new(at_us, ended.clone()));
            }
            Event::MarkerSeen(seen) => self.markers.push(At::new(at_us, seen.clone())),
            Event::MeshUpgraded(upgraded) => self.upgrades.push(At::new(at_us, upgraded.clone())),
            Event::CleanedUp(cleaned) => self.cleanup = Some(At::new(at_us, cleaned.clone())),
            Event::EvidenceFrozen(frozen) => {
                room("pieces of evidence", &self.evidence, 2 * MOST_STEPS)?;
                self.evidence.push(At::new(at_us, frozen.clone()));
            }
            Event::LedgerOpened(opened) => {
                let name = &opened.ledger;
                room("ledgers", &self.ledgers, MOST_LEDGERS)?;
                if self.ledger(name).is_some() {
                    return Err(format!("ledger `{name}` is opened a second time"));
                }
                if let Some(other) = self.ledgers.iter().find(|other| other.opened.file == opened.file) {
                    let other = &other.opened.ledger;
                    return Err(format!("ledger `{name}` has the file of ledger `{other}`"));
                }
                self.ledgers.push(LedgerHistory {
                    opened: At::new(at_us, opened.clone()),
                    closed: None,
                });
            }
            Event::LedgerClosed(closed) => {
                let known = self
                    .ledgers
                    .iter_mut()
                    .find(|known| known.opened.ledger == closed.ledger && known.closed.is_none())
                    .ok_or_else(|| format!("ledger `{}` is closed and was not open", closed.ledger))?;
                known.closed = Some(At::new(at_us, closed.clone()));
            }
            Event::CheckOpened(opened) => {
                match opened.proves {
                    Some(_) => room("controls asked again", &self.controls, MOST_LEDGERS)?,
                    None => room("checks", &self.checks, MOST_STEPS)?,
                }
                let check = opened.check;
                if self.check_mut(check).is_ok() {
                    return Err(format!("check {check} is opened a second time"));
                }
                let opened = CheckHistory::new(at_us, opened.clone());
                if opened.opened.proves.is_some() {
                    self.controls.push(opened);
                } else {
                    self.checks.push(opened);
                }
            }
            Event::Observed(observed) => {
                let known = self.check_mut(observed.check)?;
                if known.closed.is_some() {
                    return Err(format!("check {} sees something after it was closed", observed.check));
                }
                known.observations.push((at_us, observed.observation.clone()));
            }
            Event::CheckClosed(closed) => {
                let known = self.check_mut(closed.check)?;
                if known.closed.is_some() {
                    return Err(format!("check {} is closed a second time", closed.check));
                }
                known.closed = Some(At::new(at_us, closed.clone()));
            }
            Event::Judged(judged) => {
                let known = self.check_mut(judged.check)?;
                if known.judgement.is_some() {
                    return Err(format!("check {} is judged a second time", judged.check));
                }
                known.judgement = Some((*judged.judgement).clone());
            }
            // What was changed outside of the namespace is undone by who looks at the journal's end, not judged.
            Event::Disturbed(_) | Event::Restored(_) => {}
            Event::RunStarted(_)
            | Event::EnvironmentReady(_)
            | Event::EnvironmentFailed(_)
            | Event::Interrupted(_)
            | Event::RunEnded(_) => {}
        }
        Ok(())
    }

    fn check_mut(&mut self, check: u32) -> Result<&mut CheckHistory, String> {
        self.checks
            .iter_mut()
            .chain(&mut self.controls)
            .find(|known| known.opened.check == check)
            .ok_or_else(|| format!("check {check} was not opened"))
    }
}
