//! Whole, cut, odd and failing runs, folded.

use rstest::rstest;

use super::*;
use crate::record::{Problem, ProblemClass};
use crate::specimen;
use crate::wakefulness::Wakefulness;

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
        (check.opened.at_us, check.observations.len(), check.outcome()),
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
        .position(|record| matches!(record.event, Event::StepStarted(StepStarted { step: 1, .. })))
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
fn a_journal_makes_no_scenario_longer_than_a_file_can() {
    let mut records = specimen::run().records;
    let place = records
        .iter()
        .position(|record| matches!(record.event, Event::StepStarted(_)))
        .unwrap();
    let one = records[place].clone();
    records.splice(place..place, std::iter::repeat_n(one, 3_000));
    let run = RunHistory::fold(&records);
    let longest = run.scenarios.iter().map(|scenario| scenario.steps.len()).max();
    assert_eq!(longest, Some(1_000));
    let told = |oddity: &&String| oddity.contains("no scenario has more than 1000 steps");
    assert!(run.oddities.iter().filter(told).count() > 2_000);
}

#[test]
fn records_that_do_not_fit_are_told_and_do_no_harm() {
    let mut records = specimen::run().records;
    let double: Vec<Record> = records.iter().cloned().chain(records.iter().cloned()).collect();
    assert!(RunHistory::fold(&double).oddities.len() > 5);
    records.retain(|record| {
        !matches!(
            record.event,
            Event::CheckOpened(_) | Event::LedgerOpened(_) | Event::StepStarted(_)
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
    let event = Event::ScenarioStarted(ScenarioStarted {
        scenario: "surprise".to_owned(),
        namespace: "n".to_owned(),
        environment: "pair".to_owned(),
    });
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

fn problem(class: ProblemClass) -> Option<Problem> {
    Some(Problem {
        class,
        code: "c".to_owned(),
        message: "m".to_owned(),
        remedy: None,
    })
}

type Change = fn(&mut ScenarioHistory);

#[rstest]
#[case::as_it_is(|_: &mut ScenarioHistory| {}, Outcome::Pass)]
#[case::a_check_failed(|s: &mut ScenarioHistory| s.checks[0].judgement.as_mut().unwrap().outcome = Outcome::Fail, Outcome::Fail)]
#[case::a_check_was_not_judged(|s: &mut ScenarioHistory| s.checks[0].judgement = None, Outcome::Error)]
#[case::a_check_was_not_reached(|s: &mut ScenarioHistory| { s.checks.remove(0); }, Outcome::Inconclusive)]
#[case::the_mesh_blocked_a_step(|s: &mut ScenarioHistory| s.steps[0].ended.as_mut().unwrap().problem = problem(ProblemClass::Mesh), Outcome::Fail)]
#[case::the_environment_did(|s: &mut ScenarioHistory| s.steps[0].ended.as_mut().unwrap().problem = problem(ProblemClass::Environment), Outcome::Error)]
#[case::the_user_did(|s: &mut ScenarioHistory| s.steps[0].ended.as_mut().unwrap().problem = problem(ProblemClass::Interrupted), Outcome::Inconclusive)]
#[case::cleanup_failed(|s: &mut ScenarioHistory| s.cleanup.as_mut().unwrap().problem = problem(ProblemClass::Harness), Outcome::Error)]
#[case::cleanup_was_blocked_by_the_mesh(|s: &mut ScenarioHistory| s.cleanup.as_mut().unwrap().problem = problem(ProblemClass::Mesh), Outcome::Error)]
#[case::something_is_left(|s: &mut ScenarioHistory| s.cleanup.as_mut().unwrap().left = vec!["x".to_owned()], Outcome::Error)]
#[case::something_is_kept(|s: &mut ScenarioHistory| { let cleanup = s.cleanup.as_mut().unwrap(); cleanup.left = vec!["x".to_owned()]; cleanup.kept = true; }, Outcome::Pass)]
fn the_worst_part_is_the_outcome(#[case] change: Change, #[case] expected: Outcome) {
    let mut run = RunHistory::fold(&specimen::run().records);
    change(std::sync::Arc::make_mut(&mut run.scenarios[0]));
    assert_eq!(run.scenarios[0].outcome(), expected);
    assert_eq!(run.outcome(), expected);
}

/// Clusters that did not come up are no broken promise, whoever is to blame: no requirement was asked for.
#[test]
fn only_a_failed_scenario_makes_a_run_fail() {
    let mut run = RunHistory::fold(&specimen::run().records);
    let failed = |class| {
        EnvironmentHistory::Failed(Box::new(At::new(
            0,
            EnvironmentFailed {
                environment: "pair".to_owned(),
                problem: problem(class).unwrap(),
                awake: Wakefulness::default(),
                evidence: None,
            },
        )))
    };
    run.environments[0] = failed(ProblemClass::Mesh);
    assert_eq!(run.outcome(), Outcome::Error);
    run.environments[0] = failed(ProblemClass::Interrupted);
    assert_eq!(run.outcome(), Outcome::Inconclusive);
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
