//! Whether a journal agrees with itself and a ledger with its journal: what can be told without judging anything again.
//!
//! A chain of hashes proves that nobody touched a line; it does not prove that the lines tell a whole run. Who makes a new
//! chain must also keep every rule of this page, and the verdicts must still follow.

use std::collections::BTreeSet;

use crate::history::{At, RunHistory, ScenarioHistory, StepHistory};
use crate::journal::Integrity;
use crate::ledger::Row;
use crate::recheck::Finding;
use crate::record::{LedgerClosed, Outcome};

/// By how much a row may end after its ledger was closed (wall µs): clocks of two machines differ.
const CLOCKS_DIFFER_US: f64 = 60e6;

/// Verb of the steps that are checks.
const CHECK: &str = "expect";

/// Everything in a journal that does not agree with the rest of it. An empty list does not say that its verdicts are right.
#[must_use]
pub fn contradictions(history: &RunHistory, integrity: &Integrity) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !integrity.is_sound() {
        findings.push(Finding::Journal(integrity.to_string()));
    }
    if let (Some(bytes), Some(_)) = (integrity.torn_bytes, &history.ended) {
        findings.push(Finding::Journal(format!(
            "{bytes} bytes follow the end of the run, without a line break: nobody writes there"
        )));
    }
    findings.extend(history.oddities.iter().cloned().map(Finding::Oddity));
    for scenario in &history.scenarios {
        let told = of_scenario(history, scenario);
        findings.extend(told.into_iter().map(|reason| Finding::Scenario {
            scenario: scenario.key.clone(),
            reason,
        }));
    }
    findings
}

/// Only what a scenario that ended must have: one that was cut short says so itself.
fn of_scenario(history: &RunHistory, scenario: &ScenarioHistory) -> Vec<String> {
    if scenario.started.is_none() {
        let done = !scenario.steps.is_empty() || !scenario.checks.is_empty() || scenario.ended.is_some();
        return done
            .then(|| "it did something and was never started".to_owned())
            .into_iter()
            .collect();
    }
    if scenario.skipped.is_some() {
        return vec!["it was skipped and started".to_owned()];
    }
    if scenario.ended.is_none() {
        return Vec::new();
    }
    let mut told = steps(scenario);
    told.extend(checks(scenario));
    if history.interrupted.is_empty() {
        let open = scenario.ledgers.iter().filter(|ledger| ledger.closed.is_none());
        told.extend(open.map(|ledger| {
            format!(
                "the ledger `{}` was never closed, so that nothing vouches for its rows",
                ledger.opened.ledger
            )
        }));
    }
    if scenario.cleanup.is_none() {
        told.push("it ended, and no record says what its cleanup left behind".to_owned());
    }
    told
}

fn steps(scenario: &ScenarioHistory) -> Vec<String> {
    let mut told = Vec::new();
    for (expected, step) in (0_u32..).zip(&scenario.steps) {
        if step.started.step != expected {
            told.push(format!(
                "step {} follows where step {expected} is expected: a step was removed, added or moved",
                step.started.step
            ));
            break;
        }
    }
    let endless = scenario.steps.iter().filter(|step| step.ended.is_none());
    told.extend(endless.map(|step| {
        format!(
            "the step of line {} (`{}`) never ended",
            step.started.line, step.started.verb
        )
    }));
    let whole = scenario.steps.iter().all(|step| step.problem().is_none());
    if let Some(planned) = scenario.planned.as_ref().and_then(|planned| planned.steps)
        && whole
        && scenario.steps.len() as u64 != u64::from(planned)
    {
        told.push(format!(
            "it has {planned} steps by its plan, none had a problem, and {} are recorded",
            scenario.steps.len()
        ));
    }
    told
}

fn checks(scenario: &ScenarioHistory) -> Vec<String> {
    let mut told = Vec::new();
    let step_of = |key: u32| scenario.steps.iter().find(|step| step.started.step == key);
    for check in &scenario.checks {
        let mut tell = |reason: String| {
            told.push(format!(
                "check of line {} ({}): {reason}",
                check.opened.line, check.opened.requirement
            ));
        };
        match step_of(check.opened.check) {
            None => tell("no step opened it".to_owned()),
            Some(step) if step.started.verb != CHECK || step.started.line != check.opened.line => tell(format!(
                "step {} is `{}` of line {}, which is no such check",
                step.started.step, step.started.verb, step.started.line
            )),
            Some(_) => {}
        }
        if let Some(planned) = &scenario.planned
            && !planned.checks.contains(&check.opened.requirement)
        {
            tell("the plan names other requirements for this scenario".to_owned());
        }
        let planned = scenario.planned.iter().flat_map(|planned| &planned.expects);
        let known = scenario
            .planned
            .as_ref()
            .is_some_and(|planned| !planned.expects.is_empty());
        let fits = |step: u32, requirement: &str, name: Option<&String>| {
            step == check.opened.check && requirement == check.opened.requirement && name == check.opened.name.as_ref()
        };
        if known
            && !planned
                .into_iter()
                .any(|planned| fits(planned.step, &planned.requirement, planned.name.as_ref()))
        {
            tell(format!("the plan has no such check at step {}", check.opened.check));
        }
        let went_well = step_of(check.opened.check).is_some_and(|step| step.problem().is_none());
        match &check.judgement {
            None if check.closed.is_some() && went_well => tell("it was closed and never judged".to_owned()),
            None if went_well => tell("it was opened and never closed".to_owned()),
            Some(judgement)
                if judgement.outcome != Outcome::Pass
                    && went_well
                    && !scenario
                        .evidence
                        .iter()
                        .any(|evidence| evidence.check == check.opened.check) =>
            {
                tell("it did not pass, and no record names its evidence".to_owned());
            }
            _ => {}
        }
    }
    let unasked = |step: &&StepHistory| {
        step.started.verb == CHECK
            && step.ended.is_some()
            && step.problem().is_none()
            && scenario.check(step.started.step).is_none()
    };
    let unasked = scenario.steps.iter().filter(unasked);
    told.extend(unasked.map(|step| {
        format!(
            "the check of line {} was done, and no record says how",
            step.started.line
        )
    }));
    told
}

/// Rows that can't be what clients of this scenario saw: of each kind the first one.
#[must_use]
pub fn odd_rows(rows: &[Row], closed: Option<&At<LedgerClosed>>, namespace: &str, pace: f64) -> Vec<String> {
    let mut told = Vec::new();
    let mut tell = |row: Option<(usize, &Row)>, reason: &str| {
        told.extend(row.map(|(index, row)| format!("row {} (`{}`): {reason}", index + 1, row.id)));
    };
    let first = |is_odd: &dyn Fn(&Row) -> bool| rows.iter().enumerate().find(|(_, row)| is_odd(row));
    let mut known = BTreeSet::new();
    let repeated = rows.iter().enumerate().find(|(_, row)| !known.insert(row.id.as_str()));
    tell(repeated, "an earlier row has this id");
    if !namespace.is_empty() {
        let foreign = |row: &Row| {
            let rest = row.id.strip_prefix(namespace);
            !rest.is_some_and(|rest| rest.starts_with('.'))
        };
        tell(first(&foreign), "its id is of another run or scenario");
    }
    tell(first(&|row| row.ended_us < row.started_us), "it ends before it starts");
    if let Some(closed) = closed {
        // Saturates: both are finite and not negative.
        let slack_us = (CLOCKS_DIFFER_US * pace.clamp(1.0, 1e6)) as u64;
        let latest_us = closed.at_us.saturating_add(slack_us);
        tell(
            first(&|row| row.ended_us > latest_us || row.started_us > latest_us),
            "it ends long after its ledger was closed",
        );
    }
    told
}
