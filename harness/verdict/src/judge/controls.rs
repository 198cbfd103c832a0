//! Positive controls: "nothing arrived" is also true when nothing was sent.
//!
//! A negative is a question that is answered by the absence of something: `never for`, an absent object, `refused`, a failure
//! without a reason, access that is denied. It passes only when it is *bracketed*: a control that it names passed before it,
//! with no step in between that disturbs, and held again when it was asked again right after it. A control that a step came
//! after still has to have passed, but it brackets nothing: the step may have broken the way. These bracket a negative, too:
//! * for an absent object: this check saw it present before, or an earlier check of the same subject passed with it present;
//! * for *never* about what objects hold: such objects were there at the first and at the last look, and a named control
//!   passed.
//!
//! A negative that failed needs no control: something was seen. Questions that are not negative need none either, but if
//! they name controls, those have to have passed.

use super::objects::any_matches;
use super::request_pattern::served_well;
use super::wording::seconds;
use super::{Assessment, Context, Finding, LedgerView, Ledgers, assess};
use crate::history::{CheckHistory, ScenarioHistory, StepHistory};
use crate::question::{Count, Observation, Question, RequestPattern, ServingPattern, Timing};
use crate::record::Outcome;

/// What became of a control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOutcome {
    /// Name of the check or ledger.
    pub name: String,
    /// Whether it proves the way.
    pub passed: bool,
    /// Whether it proves it before and after, with nothing in between that disturbs.
    pub brackets: bool,
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
        .opened
        .control
        .iter()
        .map(|name| named_control(scenario, check, ledgers, name));
    let implied = scenario
        .checks
        .iter()
        .filter(|earlier| saw_present(earlier, check))
        .map(|earlier| ControlOutcome {
            name: earlier
                .opened
                .name
                .clone()
                .unwrap_or_else(|| format!("check of line {}", earlier.opened.line)),
            passed: true,
            brackets: true,
            note: "it saw the same object present".to_owned(),
        });
    named.chain(implied).collect()
}

/// The named controls of a closed negative that have to be asked again now: those that passed before it, with nothing in
/// between that disturbs. None when the negative did not pass, so that it needs none.
#[must_use]
pub fn controls_to_ask_again(scenario: &ScenarioHistory, check: &CheckHistory, ledgers: &dyn Ledgers) -> Vec<String> {
    let Some(closed) = &check.closed else {
        return Vec::new();
    };
    let context = Context {
        check,
        now_us: closed.at_us,
        ledgers,
        row_counts: Some(&closed.rows),
    };
    let kept = matches!(assess(&context), Assessment::Settled(found) if found.outcome == Outcome::Pass);
    if !kept || !is_negative(&check.opened.question) {
        return Vec::new();
    }
    let undisturbed = |name: &&String| {
        let before = before(scenario, check, ledgers, name);
        before.passed && disturbance(scenario, check, before.proved_us).is_none()
    };
    check.opened.control.iter().filter(undisturbed).cloned().collect()
}

/// What a control showed before a check was opened.
struct Before {
    passed: bool,
    /// Up to when it shows that the way works, scenario µs.
    proved_us: u64,
    note: String,
}

fn before(scenario: &ScenarioHistory, check: &CheckHistory, ledgers: &dyn Ledgers, name: &str) -> Before {
    let nothing = |note: &str| Before {
        passed: false,
        proved_us: 0,
        note: note.to_owned(),
    };
    let of_this_name = |earlier: &&CheckHistory| {
        earlier.opened.check != check.opened.check && earlier.opened.name.as_deref() == Some(name)
    };
    if let Some(earlier) = scenario.checks.iter().find(of_this_name) {
        let closed = earlier
            .closed
            .as_ref()
            .filter(|closed| closed.at_us <= check.opened.at_us);
        let Some((closed, judgement)) = closed.zip(earlier.judgement.as_ref()) else {
            return nothing("it was not judged before");
        };
        // A call shows how it was when its requests were sent, however late it is judged.
        let proved_us = match &*earlier.opened.question {
            Question::Requests(question) => sent_us(scenario, &question.ledger),
            _ => None,
        };
        return Before {
            passed: judgement.outcome == Outcome::Pass,
            proved_us: proved_us.unwrap_or(closed.at_us),
            note: format!("its outcome is {:?}", judgement.outcome).to_lowercase(),
        };
    }
    let Some(view) = ledgers.ledger(name) else {
        return nothing("there is no check and no ledger of this name");
    };
    let (passed, note) = ledger_control(name, &view, check);
    let ended = view.closed.is_some_and(|closed| closed.at_us <= check.opened.at_us);
    let proved_us = if ended { sent_us(scenario, name) } else { None };
    Before {
        passed,
        proved_us: proved_us.unwrap_or(check.opened.at_us),
        note,
    }
}

/// When the requests of a ledger began to be sent.
fn sent_us(scenario: &ScenarioHistory, ledger: &str) -> Option<u64> {
    scenario.ledger(ledger).map(|ledger| ledger.opened.at_us)
}

/// The first step that disturbs between a time and the opening of a check.
fn disturbance<'a>(scenario: &'a ScenarioHistory, check: &CheckHistory, since_us: u64) -> Option<&'a StepHistory> {
    scenario.steps.iter().find(|step| {
        step.started.disturbs && step.started.at_us >= since_us && step.started.at_us <= check.opened.at_us
    })
}

fn named_control(
    scenario: &ScenarioHistory,
    check: &CheckHistory,
    ledgers: &dyn Ledgers,
    name: &str,
) -> ControlOutcome {
    let Before {
        mut passed,
        proved_us,
        mut note,
    } = before(scenario, check, ledgers, name);
    let again = scenario
        .controls
        .iter()
        .rfind(|again| again.opened.proves == Some(check.opened.check) && again.opened.name.as_deref() == Some(name));
    let mut brackets = false;
    if passed && is_negative(&check.opened.question) {
        let disturbance = disturbance(scenario, check, proved_us);
        match (again.and_then(|again| again.judgement.as_ref()), disturbance) {
            (Some(judgement), _) if judgement.outcome != Outcome::Pass => {
                passed = false;
                note = format!("asked again afterwards, it did not hold: {}", judgement.summary);
            }
            (_, Some(step)) => {
                let at = seconds(step.started.at_us);
                note = format!(
                    "the step of line {} (`{}`, at {at}) came after it",
                    step.started.line, step.started.text
                );
            }
            (Some(_), None) => brackets = true,
            (None, None) => note.push_str("; it was not asked again afterwards"),
        }
    }
    ControlOutcome {
        name: name.to_owned(),
        passed,
        brackets,
        note,
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
            .filter(|row| row.ended_us <= check.opened.at_us)
    };
    let (sent, good) = (before().count(), before().filter(|row| served_well(row)).count());
    (sent > 0 && good == sent, format!("{good} of {sent} requests succeeded"))
}

/// Whether `earlier` passed with the object present whose absence `check` is about.
fn saw_present(earlier: &CheckHistory, check: &CheckHistory) -> bool {
    let (Question::Objects(then), Question::Objects(now)) = (&*earlier.opened.question, &*check.opened.question) else {
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
        .is_some_and(|closed| closed.at_us <= check.opened.at_us);
    let same = then.subject == now.subject && (now.each.is_empty() || now.each == then.each);
    is_absence(&now.count) && passed && asked_present && before && same
}

/// Whether no object at all is enough.
fn is_absence(count: &Count) -> bool {
    match count.exactly {
        Some(exactly) => exactly == 0,
        None => count.at_most.is_some() && count.at_least.unwrap_or(0) == 0,
    }
}

fn is_negative(question: &Question) -> bool {
    let never = |timing: &Timing| timing.never_for_us.is_some();
    match question {
        Question::Objects(question) => never(&question.timing) || is_absence(&question.count),
        Question::Number(question) => never(&question.timing),
        Question::Requests(question) => match &question.every {
            RequestPattern::Refused => true,
            RequestPattern::Fails(pattern) => pattern.is_without_reason(),
            RequestPattern::Answered(_) => false,
        },
        Question::Serving(question) => {
            never(&question.timing)
                || match &question.pattern {
                    ServingPattern::Refused => true,
                    ServingPattern::Fails(pattern) => pattern.is_without_reason(),
                    ServingPattern::Only(_)
                    | ServingPattern::Each(_)
                    | ServingPattern::Lossless
                    | ServingPattern::Answered(_) => false,
                }
        }
        Question::Access(question) => !question.allowed,
        Question::Inventory(question) => never(&question.timing),
        Question::Split(_) | Question::Mtls(_) | Question::Rejected(_) => false,
    }
}

/// Whether the check itself saw what is absent now.
fn saw_it_go(context: &Context<'_>) -> bool {
    match &*context.check.opened.question {
        Question::Objects(question) if question.timing.never_for_us.is_none() => context.observations().any(
            |(_, observation)| matches!(observation, Observation::Objects(objects) if any_matches(question, objects)),
        ),
        _ => false,
    }
}

/// Whether the objects that never became so were there at the first look and at the last.
fn saw_objects_throughout(context: &Context<'_>) -> bool {
    let Question::Objects(question) = &*context.check.opened.question else {
        return false;
    };
    if question.timing.never_for_us.is_none() || question.each.is_empty() || is_absence(&question.count) {
        return false;
    }
    let mut looks = context.observations().filter_map(|(_, observation)| match observation {
        Observation::Objects(objects) => Some(!objects.is_empty()),
        _ => None,
    });
    let first = looks.next();
    let last = looks.last().or(first);
    first == Some(true) && last == Some(true)
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
        .opened
        .control
        .iter()
        .find(|name| !controls.iter().any(|control| control.name == **name));
    let failed = controls.iter().find(|control| !control.passed);
    let bracketed = || {
        controls.iter().any(|control| control.brackets)
            || saw_it_go(context)
            || (saw_objects_throughout(context) && !controls.is_empty())
    };
    let reason = if let Some(control) = failed {
        format!(
            "its control `{}` does not prove the way ({})",
            control.name, control.note
        )
    } else if let Some(name) = named_but_unknown {
        format!("its control `{name}` was not looked up")
    } else if is_negative(&check.opened.question) && !bracketed() {
        let notes: Vec<String> = controls
            .iter()
            .map(|control| format!("`{}`: {}", control.name, control.note))
            .collect();
        if notes.is_empty() {
            "no control proves that it could have been otherwise".to_owned()
        } else {
            format!("no control proves the way before and after it ({})", notes.join("; "))
        }
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
