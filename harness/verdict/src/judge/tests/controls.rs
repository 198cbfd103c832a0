//! Positive controls of negatives.

use rstest::rstest;

use super::*;
use crate::history::ScenarioHistory;
use crate::question::{
    AccessQuestion, AnsweredPattern, Comparison, Count, NumberQuestion, ObjectsQuestion, RequestPattern,
    RequestsQuestion, ServingPattern, ServingQuestion,
};

fn absent(subject: &str) -> Question {
    Question::Objects(ObjectsQuestion {
        subject: subject.to_owned(),
        count: Count {
            exactly: Some(0),
            ..Count::default()
        },
        each: vec![],
        timing: timing(Some(1000), None, None),
    })
}

fn present(subject: &str) -> Question {
    match absent(subject) {
        Question::Objects(question) => Question::Objects(ObjectsQuestion {
            count: Count {
                exactly: Some(1),
                ..Count::default()
            },
            ..question
        }),
        other => other,
    }
}

fn never_alive() -> CheckHistory {
    let question = Question::Number(NumberQuestion {
        subject: "gateway_alive".to_owned(),
        holds: Comparison::Equals(json!(1)),
        timing: timing(None, None, Some(1000)),
    });
    seen(check(question), [(1, Observation::Number(Some(0.0)))])
}

fn denied() -> CheckHistory {
    let question = Question::Access(AccessQuestion {
        subject: "x".to_owned(),
        allowed: false,
    });
    seen(
        check(question),
        [(
            1,
            Observation::Access {
                allowed: false,
                reason: String::new(),
            },
        )],
    )
}

fn gone() -> CheckHistory {
    seen(check(absent("a")), [(1, Observation::Objects(vec![]))])
}

fn refused() -> CheckHistory {
    check(Question::Requests(RequestsQuestion {
        ledger: "call".to_owned(),
        every: RequestPattern::Refused,
    }))
}

#[rstest]
#[case::never(never_alive())]
#[case::denied(denied())]
#[case::absent(gone())]
#[case::refused(refused())]
fn a_negative_passes_only_with_controls_that_passed(#[case] check: CheckHistory) {
    let known = ledgers([("call", closed_ledger(rows([failed("refused")])))]);
    let outcome = |controls: &[ControlOutcome]| judge(&closed(check.clone(), 100_000), controls, &known).outcome;
    let control = |passed: bool| ControlOutcome {
        name: "c".to_owned(),
        passed,
        note: "it failed".to_owned(),
    };
    assert_eq!(outcome(&[control(true)]), Outcome::Pass);
    assert_eq!(outcome(&[]), Outcome::Inconclusive);
    assert_eq!(outcome(&[control(false)]), Outcome::Inconclusive);
    assert_eq!(outcome(&[control(true), control(false)]), Outcome::Inconclusive);
}

#[test]
fn a_named_control_that_was_not_looked_up_is_missing() {
    let mut check = closed(never_alive(), 100_000);
    check.control = vec!["before".to_owned()];
    assert_eq!(judge(&check, &proven(), &no_ledgers()).outcome, Outcome::Inconclusive);
}

#[test]
fn a_negative_that_was_seen_broken_fails_without_controls() {
    let check = seen(never_alive(), [(2, Observation::Number(Some(1.0)))]);
    assert_eq!(
        judge(&closed(check, 100_000), &[], &no_ledgers()).outcome,
        Outcome::Fail
    );
}

#[test]
fn an_object_that_was_seen_and_is_gone_needs_no_control() {
    let states = [
        (1, Observation::Objects(vec![service("a", 80)])),
        (500, Observation::Objects(vec![])),
    ];
    let judgement = judge(&closed(seen(check(absent("a")), states), 100_000), &[], &no_ledgers());
    assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.summary);
}

/// An earlier check that passed, or not.
fn earlier(question: Question, outcome: Outcome, closed_ms: u64) -> CheckHistory {
    let mut earlier = closed(CheckHistory::new(1, "MC-TEST-000", "", question, 0), closed_ms);
    earlier.name = Some("before".to_owned());
    earlier.judgement = Some(Judgement {
        outcome,
        summary: String::new(),
        expected: String::new(),
        observed: String::new(),
        at_us: 0,
        measures: BTreeMap::new(),
        requests: vec![],
        excuse: None,
    });
    earlier
}

#[rstest]
#[case::same_subject(earlier(present("a"), Outcome::Pass, 500), Outcome::Pass)]
#[case::another_subject(earlier(present("b"), Outcome::Pass, 500), Outcome::Inconclusive)]
#[case::it_failed(earlier(present("a"), Outcome::Fail, 500), Outcome::Inconclusive)]
#[case::it_saw_absence(earlier(absent("a"), Outcome::Pass, 500), Outcome::Inconclusive)]
#[case::it_is_not_earlier(earlier(present("a"), Outcome::Pass, 1500), Outcome::Inconclusive)]
fn an_earlier_check_of_the_same_object_is_a_control(#[case] earlier: CheckHistory, #[case] expected: Outcome) {
    let scenario = ScenarioHistory {
        checks: vec![earlier],
        ..ScenarioHistory::default()
    };
    let check = closed(gone(), 100_000);
    let controls = control_outcomes(&scenario, &check, &no_ledgers());
    assert_eq!(judge(&check, &controls, &no_ledgers()).outcome, expected);
}

#[rstest]
#[case::passed(earlier(present("b"), Outcome::Pass, 500), true)]
#[case::failed(earlier(present("b"), Outcome::Fail, 500), false)]
#[case::inconclusive(earlier(present("b"), Outcome::Inconclusive, 500), false)]
#[case::later(earlier(present("b"), Outcome::Pass, 1500), false)]
fn a_named_check_is_a_control_when_it_passed_before(#[case] earlier: CheckHistory, #[case] expected: bool) {
    let scenario = ScenarioHistory {
        checks: vec![earlier],
        ..ScenarioHistory::default()
    };
    let mut check = never_alive();
    check.control = vec!["before".to_owned()];
    let controls = control_outcomes(&scenario, &check, &no_ledgers());
    assert_eq!(
        controls.iter().map(|control| control.passed).collect::<Vec<_>>(),
        [expected]
    );
}

#[rstest]
#[case::all_good(vec![served("east"), served("west")], true)]
#[case::one_bad(vec![served("east"), proxy_error(503)], false)]
#[case::stale_pod(vec![stale("east")], false)]
#[case::nothing_sent(vec![], false)]
fn a_named_call_is_a_control_when_all_its_requests_succeeded(
    #[case] results: Vec<RequestResult>,
    #[case] expected: bool,
) {
    let mut check = never_alive();
    check.control = vec!["call".to_owned(), "nowhere".to_owned()];
    let known = ledgers([("call", closed_ledger(rows(results)))]);
    let controls = control_outcomes(&ScenarioHistory::default(), &check, &known);
    assert_eq!(
        controls.iter().map(|control| control.passed).collect::<Vec<_>>(),
        [expected, false]
    );
}

#[test]
fn requests_after_the_check_was_opened_prove_nothing() {
    let mut check = never_alive();
    check.control = vec!["call".to_owned()];
    let known = ledgers([("call", open_ledger(vec![row(1, OPENED_MS + 1, served("east"))]))]);
    assert!(!control_outcomes(&ScenarioHistory::default(), &check, &known)[0].passed);
}

#[rstest]
#[case::it_worked_before(served("east"), Outcome::Pass)]
#[case::it_never_worked(failed("closed"), Outcome::Inconclusive)]
fn refused_traffic_is_its_own_control_when_it_worked_before(#[case] before: RequestResult, #[case] expected: Outcome) {
    let question = Question::Serving(ServingQuestion {
        ledger: "steady".to_owned(),
        since_us: 0,
        pattern: ServingPattern::Refused,
        lost_at_most: None,
        timing: timing(Some(0), None, None),
    });
    let known = ledgers([(
        "steady",
        open_ledger(rows(
            times(95, &before).into_iter().chain(times(100, &failed("closed"))),
        )),
    )]);
    assert_eq!(judge(&closed(check(question), 100_000), &[], &known).outcome, expected);
}

#[test]
fn questions_that_are_not_negative_need_no_control_unless_they_name_one() {
    let every = RequestPattern::Answered(AnsweredPattern::default());
    let question = Question::Requests(RequestsQuestion {
        ledger: "call".to_owned(),
        every,
    });
    let known = ledgers([("call", closed_ledger(rows([served("east")])))]);
    let mut check = closed(check(question), 100_000);
    assert_eq!(judge(&check, &[], &known).outcome, Outcome::Pass);
    check.control = vec!["before".to_owned()];
    assert_eq!(judge(&check, &[], &known).outcome, Outcome::Inconclusive);
}
