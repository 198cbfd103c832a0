//! Positive controls: "nothing arrived" is also true when nothing was sent.
//!
//! A negative is a question that is answered by the absence of something: `never for`, an absent object, `refused`,
//! access that is denied. A negative passes only when every control that it names passed, and it names at least one. These
//! count as controls without being named:
//! * for an absent object: this check saw it present before, or an earlier check of the same subject passed with it
//!   present;
//! * for background traffic that must be refused: a request of the same traffic that succeeded before the check.
//!
//! A negative that failed needs no control: something was seen. Questions that are not negative need none either, but if
//! they name controls, those have to have passed.

use super::objects::any_matches;
use super::request_pattern::served_well;
use super::{Context, Finding, LedgerView, Ledgers};
use crate::history::{CheckHistory, ScenarioHistory};
use crate::question::{Count, Observation, Question, RequestPattern, ServingPattern, Timing};
use crate::record::Outcome;

/// What became of a control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOutcome {
    /// Name of the check or ledger.
    pub name: String,
    /// Whether it proves the way.
    pub passed: bool,
    /// What became of it, for people.
    pub note: String,
}

/// Looks up the controls of a check: named ones, and for an absent object an earlier check that saw it present.
#[must_use]
pub fn control_outcomes(
    scenario: &ScenarioHistory,
    check: &CheckHistory,
    ledgers: &dyn Ledgers,
) -> Vec<ControlOutcome> {
    let named = check
        .control
        .iter()
        .map(|name| named_control(scenario, check, ledgers, name));
    let implied = scenario
        .checks
        .iter()
        .filter(|earlier| saw_present(earlier, check))
        .map(|earlier| ControlOutcome {
            name: earlier
                .name
                .clone()
                .unwrap_or_else(|| format!("check of line {}", earlier.line)),
            passed: true,
            note: "it saw the same object present".to_owned(),
        });
    named.chain(implied).collect()
}

fn named_control(
    scenario: &ScenarioHistory,
    check: &CheckHistory,
    ledgers: &dyn Ledgers,
    name: &str,
) -> ControlOutcome {
    let of_this_name = |earlier: &&CheckHistory| earlier.check != check.check && earlier.name.as_deref() == Some(name);
    let (passed, note) = if let Some(earlier) = scenario.checks.iter().find(of_this_name) {
        let over = earlier
            .closed
            .as_ref()
            .is_some_and(|closed| closed.at_us <= check.opened_us);
        match earlier.judgement.as_ref().filter(|_| over) {
            Some(judgement) => (
                judgement.outcome == Outcome::Pass,
                format!("its outcome is {:?}", judgement.outcome),
            ),
            None => (false, "it was not judged before".to_owned()),
        }
    } else if let Some(view) = ledgers.ledger(name) {
        ledger_control(name, &view, check)
    } else {
        (false, "there is no check and no ledger of this name".to_owned())
    };
    ControlOutcome {
        name: name.to_owned(),
        passed,
        note: note.to_lowercase(),
    }
}

/// A ledger proves the way when every request that had ended before the check succeeded, and there was one.
fn ledger_control(name: &str, view: &LedgerView<'_>, check: &CheckHistory) -> (bool, String) {
    let written = check
        .closed
        .as_ref()
        .and_then(|closed| closed.rows.get(name))
        .copied()
        .unwrap_or(u64::MAX);
    let written = usize::try_from(written).unwrap_or(usize::MAX);
    let before = || {
        view.rows
            .iter()
            .take(written)
            .filter(|row| row.ended_us <= check.opened_us)
    };
    let (sent, good) = (before().count(), before().filter(|row| served_well(row)).count());
    (sent > 0 && good == sent, format!("{good} of {sent} requests succeeded"))
}

/// Whether `earlier` passed with the object present whose absence `check` is about.
fn saw_present(earlier: &CheckHistory, check: &CheckHistory) -> bool {
    let (Question::Objects(then), Question::Objects(now)) = (&earlier.question, &check.question) else {
        return false;
    };
    let passed = earlier
        .judgement
        .as_ref()
        .is_some_and(|judgement| judgement.outcome == Outcome::Pass);
    let asked_present = then.timing.never_for_us.is_none()
        && (then.count.exactly.is_some_and(|count| count > 0) || then.count.at_least.is_some_and(|count| count > 0));
    let before = earlier
        .closed
        .as_ref()
        .is_some_and(|closed| closed.at_us <= check.opened_us);
    let same = then.subject == now.subject && (now.each.is_empty() || now.each == then.each);
    is_absence(&now.count) && passed && asked_present && before && same
}

fn is_absence(count: &Count) -> bool {
    count.exactly == Some(0) || (count.exactly.is_none() && count.at_most == Some(0))
}

fn is_negative(question: &Question) -> bool {
    let never = |timing: &Timing| timing.never_for_us.is_some();
    match question {
        Question::Objects(question) => never(&question.timing) || is_absence(&question.count),
        Question::Number(question) => never(&question.timing),
        Question::Requests(question) => question.every == RequestPattern::Refused,
        Question::Serving(question) => never(&question.timing) || question.pattern == ServingPattern::Refused,
        Question::Access(question) => !question.allowed,
        Question::Inventory(question) => never(&question.timing),
        Question::Split(_) | Question::Mtls(_) | Question::Rejected(_) => false,
    }
}

/// Whether the check itself proves the way.
fn proves_itself(context: &Context<'_>) -> bool {
    match &context.check.question {
        Question::Objects(question) if question.timing.never_for_us.is_none() => context.observations().any(
            |(_, observation)| matches!(observation, Observation::Objects(objects) if any_matches(question, objects)),
        ),
        Question::Serving(question) if question.timing.never_for_us.is_none() => {
            let opened_us = context.check.opened_us;
            context.ledger(&question.ledger).is_some_and(|ledger| {
                ledger
                    .rows
                    .iter()
                    .any(|row| row.ended_us <= opened_us && served_well(row))
            })
        }
        _ => false,
    }
}

/// Takes a pass back that no control supports.
pub(crate) fn applied(
    found: Finding,
    check: &CheckHistory,
    controls: &[ControlOutcome],
    context: &Context<'_>,
) -> Finding {
    if found.outcome != Outcome::Pass {
        return found;
    }
    let named_but_unknown = check
        .control
        .iter()
        .find(|name| !controls.iter().any(|control| control.name == **name));
    let failed = controls.iter().find(|control| !control.passed);
    let reason = if let Some(control) = failed {
        format!(
            "its control `{}` does not prove the way ({})",
            control.name, control.note
        )
    } else if let Some(name) = named_but_unknown {
        format!("its control `{name}` was not looked up")
    } else if controls.is_empty() && is_negative(&check.question) && !proves_itself(context) {
        "no control proves that it could have been otherwise".to_owned()
    } else {
        return found;
    };
    Finding {
        outcome: Outcome::Inconclusive,
        observed: format!(
            "{}; {reason}",
            if found.observed.is_empty() {
                &found.happened
            } else {
                &found.observed
            }
        ),
        happened: format!("{}, but {reason}", found.happened),
        ..found
    }
}
