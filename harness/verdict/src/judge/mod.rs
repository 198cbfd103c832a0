//! The judges: from a check and its ledgers to a judgement.
//!
//! [`judge`] gives the judgement of a closed check. [`progress`] tells a running engine whether that judgement is
//! settled. Both ask the same function ([`assess`]), `judge` with the time at which the check was closed and `progress`
//! with the present: once `progress` says [`Progress::Decided`], no later observation and no later row changes the
//! outcome. That is why the engine may stop looking then, and why `recheck` finds what the run found.
//!
//! # What a judge may use
//! Observations up to the close, the first [`Closed::rows`](crate::history::Closed::rows) rows of each ledger (or, in a
//! journal that does not say how many, the rows that had ended by then), and the ledger's reconciliation when the ledger
//! had been closed by then.
//!
//! # How an outcome is found
//! 1. What was seen decides: [`Outcome::Fail`] when the promise was seen broken, [`Outcome::Pass`] when it was kept for
//!    all the time that it names, [`Outcome::Inconclusive`] when the evidence can't tell (blind periods, too few requests).
//! 2. When that leaves it open, the reason of the close does: a problem of the environment or the harness is an error, one
//!    of the mesh and an interrupt leave it inconclusive.
//! 3. A pass of a negative is inconclusive unless its controls passed ([`controls`]).
//! 4. A failure is inconclusive unless who accuses was awake ([`crate::wakefulness`]).

use std::collections::BTreeMap;

use crate::history::{At, CheckHistory};
use crate::ledger::Row;
use crate::question::{Observation, Question};
use crate::record::{CloseReason, Judgement, LedgerClosed, Outcome, ProblemClass};
use crate::wakefulness::{Wakefulness, late_client};

mod access;
pub mod controls;
mod inventory;
mod mtls;
mod number;
mod objects;
mod refusal;
mod rejected;
mod request_pattern;
mod requests;
mod serving;
mod split;
mod timeline;
mod wording;

pub use controls::{ControlOutcome, control_outcomes, controls_to_ask_again};

/// Ids of requests that a judgement names at most.
pub const NAMED_REQUESTS: usize = 20;

/// Scenario time for which outcomes of requests are waited for after a check's own time, µs. Longer than any request may
/// take; a request without an outcome by then leaves the check inconclusive.
pub const OUTCOME_GRACE_US: u64 = 30_000_000;

/// Where judges find the requests of the scenario.
pub trait Ledgers {
    /// The ledger with this name, as far as it is known.
    fn ledger(&self, name: &str) -> Option<LedgerView<'_>>;
}

/// A ledger as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct LedgerView<'a> {
    /// Rows in the order in which they were written.
    pub rows: &'a [Row],
    /// Its end, when it has been closed.
    pub closed: Option<&'a At<LedgerClosed>>,
}

/// Ledgers in memory, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerSet(pub BTreeMap<String, KnownLedger>);

/// A ledger in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownLedger {
    /// Rows in the order in which they were written.
    pub rows: Vec<Row>,
    /// Its end, when it has been closed.
    pub closed: Option<At<LedgerClosed>>,
}

impl Ledgers for LedgerSet {
    fn ledger(&self, name: &str) -> Option<LedgerView<'_>> {
        let known = self.0.get(name)?;
        Some(LedgerView {
            rows: &known.rows,
            closed: known.closed.as_ref(),
        })
    }
}

/// Whether the judgement of a running check is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something may still change it.
    Undecided {
        /// Scenario time at which to ask again if nothing new was seen until then; absent when only something new can
        /// decide.
        look_again_at_us: Option<u64>,
    },
    /// Nothing that may still be seen changes it: close the check.
    Decided,
}

/// Judges a closed check. A check that was never closed is an error.
#[must_use]
pub fn judge(check: &CheckHistory, controls: &[ControlOutcome], ledgers: &dyn Ledgers) -> Judgement {
    let expected = expectation(&check.opened.question);
    let Some(closed) = &check.closed else {
        let found = Finding::new(
            Outcome::Error,
            check.opened.at_us,
            "the run ended before this check was decided",
        );
        return found.into_judgement(check, expected);
    };
    let context = Context {
        check,
        now_us: closed.at_us,
        ledgers,
        row_counts: Some(&closed.rows),
    };
    let found = match assess(&context) {
        Assessment::Settled(found) => *found,
        Assessment::Open { so_far, .. } => stopped(&closed.reason, closed.at_us, &so_far),
    };
    let found = controls::applied(found, check, controls, &context);
    if_awake(found, &closed.awake, &context).into_judgement(check, expected)
}

/// A promise that was broken while who accuses was not awake is not decided; one that rests on what is not modelled is not
/// judged.
fn if_awake(mut found: Finding, awake: &Wakefulness, context: &Context<'_>) -> Finding {
    if let Some(why) = awake.not_modelled() {
        found.outcome = Outcome::Skip;
        found.happened = why;
        return found;
    }
    if found.outcome != Outcome::Fail {
        return found;
    }
    let mut doubts = awake.doubts();
    for name in context.check.opened.question.ledgers() {
        if let Some(ledger) = context.ledger(name) {
            doubts.extend(late_client(name, &ledger.rows, found.at_us));
        }
    }
    if !doubts.is_empty() {
        found.outcome = Outcome::Inconclusive;
        found.happened = format!("{}; but {}", found.happened, doubts.join("; and "));
    }
    found
}

/// Says whether a running check is settled at `now_us`, with everything seen so far. `check.closed` is not looked at.
///
/// Call it when an observation or rows came in, and at the time it asks for. Rows may be handed in in batches.
#[must_use]
pub fn progress(check: &CheckHistory, ledgers: &dyn Ledgers, now_us: u64) -> Progress {
    match assess(&Context {
        check,
        now_us,
        ledgers,
        row_counts: None,
    }) {
        Assessment::Settled(_) => Progress::Decided,
        Assessment::Open { look_again_at_us, .. } => Progress::Undecided { look_again_at_us },
    }
}

/// What a question promises, on one line, for people.
#[must_use]
pub fn expectation(question: &Question) -> String {
    match question {
        Question::Objects(question) => objects::expectation(question),
        Question::Number(question) => number::expectation(question),
        Question::Requests(question) => requests::expectation(question),
        Question::Serving(question) => serving::expectation(question),
        Question::Split(question) => split::expectation(question),
        Question::Mtls(question) => mtls::expectation(question),
        Question::Access(question) => access::expectation(question),
        Question::Rejected(question) => rejected::expectation(question),
        Question::Inventory(question) => inventory::expectation(question),
    }
}

/// The one function behind [`judge`] and [`progress`].
fn assess(context: &Context<'_>) -> Assessment {
    match &*context.check.opened.question {
        Question::Objects(question) => objects::assess(question, context),
        Question::Number(question) => number::assess(question, context),
        Question::Requests(question) => requests::assess(question, context),
        Question::Serving(question) => serving::assess(question, context),
        Question::Split(question) => split::assess(question, context),
        Question::Mtls(question) => mtls::assess(question, context),
        Question::Access(question) => access::assess(question, context),
        Question::Rejected(question) => rejected::assess(question, context),
        Question::Inventory(question) => inventory::assess(question, context),
    }
}

/// What an assessment may look at.
pub(crate) struct Context<'a> {
    check: &'a CheckHistory,
    now_us: u64,
    ledgers: &'a dyn Ledgers,
    row_counts: Option<&'a BTreeMap<String, u64>>,
}

impl<'a> Context<'a> {
    /// Observations up to now.
    fn observations(&self) -> impl Iterator<Item = (u64, &'a Observation)> {
        let now_us = self.now_us;
        let observations = self.check.observations.iter();
        observations
            .filter(move |(at_us, _)| *at_us <= now_us)
            .map(|(at_us, observation)| (*at_us, observation))
    }

    /// Rows of a ledger up to now, in the order in which they were written; absent when there is no such ledger.
    fn ledger(&self, name: &str) -> Option<SeenLedger<'a>> {
        let view = self.ledgers.ledger(name)?;
        let rows = match self.row_counts.and_then(|counts| counts.get(name)) {
            Some(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX).min(view.rows.len());
                view.rows[..count].iter().collect()
            }
            None if self.row_counts.is_some() => view.rows.iter().filter(|row| row.ended_us <= self.now_us).collect(),
            None => view.rows.iter().collect(),
        };
        Some(SeenLedger {
            rows,
            closed: view.closed.filter(|closed| closed.at_us <= self.now_us),
        })
    }
}

/// What can be seen of a ledger at some time.
pub(crate) struct SeenLedger<'a> {
    rows: Vec<&'a Row>,
    closed: Option<&'a At<LedgerClosed>>,
}

/// What an assessment says.
pub(crate) enum Assessment {
    /// Nothing that may still come changes it.
    Settled(Box<Finding>),
    /// Something may still change it.
    Open {
        /// When time alone may settle it.
        look_again_at_us: Option<u64>,
        /// What to say if it stops here.
        so_far: String,
    },
}

impl Assessment {
    fn settled(found: Finding) -> Self {
        Self::Settled(Box::new(found))
    }

    /// Open until something new is seen.
    fn open(so_far: impl Into<String>) -> Self {
        Self::Open {
            look_again_at_us: None,
            so_far: so_far.into(),
        }
    }

    /// Open until something new is seen, or until this time.
    fn open_until(at_us: u64, so_far: impl Into<String>) -> Self {
        Self::Open {
            look_again_at_us: Some(at_us),
            so_far: so_far.into(),
        }
    }
}

/// A judgement without its promise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    outcome: Outcome,
    at_us: u64,
    /// What happened, on one line.
    happened: String,
    /// More about what was seen; the same as `happened` when empty.
    observed: String,
    measures: BTreeMap<String, f64>,
    requests: Vec<String>,
}

impl Finding {
    fn new(outcome: Outcome, at_us: u64, happened: impl Into<String>) -> Self {
        Self {
            outcome,
            at_us,
            happened: happened.into(),
            observed: String::new(),
            measures: BTreeMap::new(),
            requests: Vec::new(),
        }
    }

    fn observed(mut self, observed: impl Into<String>) -> Self {
        self.observed = observed.into();
        self
    }

    fn measure(mut self, name: &str, value: f64) -> Self {
        self.measures.insert(name.to_owned(), value);
        self
    }

    fn measures(mut self, measures: impl IntoIterator<Item = (String, f64)>) -> Self {
        self.measures.extend(measures);
        self
    }

    fn requests<'r>(mut self, ids: impl IntoIterator<Item = &'r str>) -> Self {
        self.requests = ids.into_iter().take(NAMED_REQUESTS).map(str::to_owned).collect();
        self
    }

    fn into_judgement(self, check: &CheckHistory, expected: String) -> Judgement {
        let place = if check.opened.place.is_empty() {
            String::new()
        } else {
            format!("{}: ", check.opened.place)
        };
        let observed = if self.observed.is_empty() {
            self.happened.clone()
        } else {
            self.observed
        };
        // JSON has no word for these; a measure that does not exist is left out.
        let measures = self
            .measures
            .into_iter()
            .filter(|(_, value)| value.is_finite())
            .collect();
        Judgement {
            outcome: self.outcome,
            summary: wording::one_line(&format!("{place}{expected}: {}", self.happened)),
            expected,
            observed,
            at_us: self.at_us,
            measures,
            requests: self.requests,
            excuse: None,
        }
    }
}

/// The finding of a check that was closed while it was open.
fn stopped(reason: &CloseReason, at_us: u64, so_far: &str) -> Finding {
    let (outcome, why) = match reason {
        CloseReason::Decided => (Outcome::Inconclusive, "it was closed before it was decided".to_owned()),
        CloseReason::Deadline => (
            Outcome::Inconclusive,
            "its time was up before it was decided".to_owned(),
        ),
        CloseReason::Interrupted => (Outcome::Inconclusive, "the run was interrupted".to_owned()),
        CloseReason::Problem(problem) => {
            let outcome = match problem.class {
                ProblemClass::Environment | ProblemClass::Harness => Outcome::Error,
                // The mesh did not get to where this promise could be tested; that is not this promise broken.
                ProblemClass::Mesh | ProblemClass::Interrupted => Outcome::Inconclusive,
            };
            (
                outcome,
                format!("it could not look ({}): {}", problem.code, problem.message),
            )
        }
    };
    let finding = Finding::new(outcome, at_us, why.clone());
    if so_far.is_empty() {
        finding
    } else {
        finding.observed(format!("{why}; so far: {so_far}"))
    }
}

#[cfg(test)]
mod tests;
