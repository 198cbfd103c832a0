//! Positive controls of negatives.

use crate::record::StepStarted;
use rstest::rstest;

use super::*;
use crate::history::{ScenarioHistory, StepHistory};
use crate::question::{
    AccessQuestion, AnsweredPattern, Comparison, Count, FailsPattern, Matcher, NumberQuestion, ObjectsQuestion,
    RequestPattern, RequestsQuestion, ServingPattern, ServingQuestion,
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

fn fails_anyhow() -> CheckHistory {
    check(Question::Requests(RequestsQuestion {
        ledger: "call".to_owned(),
        every: RequestPattern::Fails(FailsPattern::default()),
    }))
}

/// A scenario with a control that passed at 500 ms, and when it was asked again.
fn with_control(asked_again: Option<Outcome>, disturbed_ms: Option<u64>) -> ScenarioHistory {
    let again = asked_again.map(|outcome| {
        let mut again = earlier(present("b"), outcome, 200_000);
        again.opened.proves = Some(3);
        again
    });
    ScenarioHistory {
        checks: vec![earlier(present("b"), Outcome::Pass, 500)],
        controls: again.into_iter().collect(),
        steps: disturbed_ms
            .into_iter()
            .map(|ms| StepHistory {
                started: At::new(
                    ms * MS,
                    StepStarted {
                        scenario: String::new(),
                        step: 2,
                        line: 7,
                        verb: "fault".to_owned(),
                        text: "fault: {name: cut}".to_owned(),
                        disturbs: true,
                    },
                ),
                ended: None,
            })
            .collect(),
        ..ScenarioHistory::default()
    }
}

#[rstest]
#[case::before_and_after(Some(Outcome::Pass), None, Outcome::Pass)]
#[case::only_before(None, None, Outcome::Inconclusive)]
#[case::not_after(Some(Outcome::Fail), None, Outcome::Inconclusive)]
#[case::unclear_after(Some(Outcome::Inconclusive), None, Outcome::Inconclusive)]
#[case::a_step_in_between(Some(Outcome::Pass), Some(700), Outcome::Inconclusive)]
#[case::a_step_before(Some(Outcome::Pass), Some(300), Outcome::Pass)]
#[case::a_step_behind(Some(Outcome::Pass), Some(1500), Outcome::Pass)]
fn a_negative_is_bracketed(
    #[case] again: Option<Outcome>,
    #[case] disturbed_ms: Option<u64>,
    #[case] expected: Outcome,
) {
    for mut check in [never_alive(), denied(), gone(), refused(), fails_anyhow()] {
        let known = ledgers([("call", closed_ledger(rows([failed("refused")])))]);
        check.opened.control = vec!["before".to_owned()];
        let check = closed(check, 100_000);
        let scenario = with_control(again, disturbed_ms);
        let judgement = judge(&check, &control_outcomes(&scenario, &check, &known), &known);
        assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    }
}

#[test]
fn the_step_that_came_between_is_named() {
    let mut check = closed(gone(), 100_000);
    check.opened.control = vec!["before".to_owned()];
    let controls = control_outcomes(&with_control(None, Some(700)), &check, &no_ledgers());
    let judgement = judge(&check, &controls, &no_ledgers());
    assert!(
        judgement.summary.contains("the step of line 7 (`fault: {name: cut}`"),
        "{}",
        judgement.summary
    );
}

#[test]
fn controls_that_still_prove_the_way_are_asked_again() {
    let again = |disturbed_ms, check: &CheckHistory| {
        controls_to_ask_again(&with_control(None, disturbed_ms), check, &no_ledgers())
    };
    let mut check = closed(gone(), 100_000);
    check.opened.control = vec!["before".to_owned(), "nobody".to_owned()];
    assert_eq!(again(None, &check), ["before"]);
    assert_eq!(again(Some(700), &check), [""; 0]);
    // What was seen broken needs no control.
    let mut broken = closed(seen(never_alive(), [(2, Observation::Number(Some(1.0)))]), 100_000);
    broken.opened.control = vec!["before".to_owned()];
    assert_eq!(again(None, &broken), [""; 0]);
}

#[rstest]
#[case::there_all_the_time(vec![vec![service("a", 80)], vec![service("a", 81)]], Outcome::Pass)]
#[case::gone_at_the_end(vec![vec![service("a", 80)], vec![]], Outcome::Inconclusive)]
#[case::never_there(vec![vec![]], Outcome::Inconclusive)]
fn what_objects_never_hold_is_bracketed_by_the_objects(#[case] looks: Vec<Vec<Value>>, #[case] expected: Outcome) {
    let question = Question::Objects(ObjectsQuestion {
        subject: "a".to_owned(),
        count: Count {
            exactly: Some(1),
            ..Count::default()
        },
        each: vec![Matcher {
            path: "spec.ports[*].port".to_owned(),
            holds: Comparison::Equals(json!([90])),
        }],
        timing: timing(None, None, Some(1000)),
    });
    let looks = looks
        .into_iter()
        .zip(1..)
        .map(|(objects, ms)| (ms, Observation::Objects(objects)));
    let mut check = seen(check(question), looks);
    check.opened.control = vec!["before".to_owned()];
    let check = closed(check, 100_000);
    let controls = control_outcomes(&with_control(None, Some(700)), &check, &no_ledgers());
    let judgement = judge(&check, &controls, &no_ledgers());
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[test]
fn a_name_that_does_not_resolve_is_no_failure_of_the_mesh() {
    let known = ledgers([("call", closed_ledger(rows([failed("name")])))]);
    let judgement = judge(&closed(fails_anyhow(), 100_000), &proven(), &known);
    assert_eq!(judgement.outcome, Outcome::Inconclusive, "{}", judgement.summary);
}

#[rstest]
#[case::never(never_alive())]
#[case::denied(denied())]
#[case::absent(gone())]
#[case::refused(refused())]
#[case::fails_anyhow(fails_anyhow())]
fn a_negative_passes_only_with_controls_that_passed(#[case] check: CheckHistory) {
    let known = ledgers([("call", closed_ledger(rows([failed("refused")])))]);
    let outcome = |controls: &[ControlOutcome]| judge(&closed(check.clone(), 100_000), controls, &known).outcome;
    let control = |passed: bool| ControlOutcome {
        name: "c".to_owned(),
        passed,
        brackets: passed,
        note: "it failed".to_owned(),
    };
    let stale = ControlOutcome {
        brackets: false,
        ..control(true)
    };
    assert_eq!(outcome(&[control(true)]), Outcome::Pass);
    assert_eq!(outcome(&[stale.clone(), control(true)]), Outcome::Pass);
    assert_eq!(outcome(&[stale]), Outcome::Inconclusive);
    assert_eq!(outcome(&[]), Outcome::Inconclusive);
    assert_eq!(outcome(&[control(false)]), Outcome::Inconclusive);
    assert_eq!(outcome(&[control(true), control(false)]), Outcome::Inconclusive);
}

#[test]
fn a_named_control_that_was_not_looked_up_is_missing() {
    let mut check = closed(never_alive(), 100_000);
    check.opened.control = vec!["before".to_owned()];
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
    let mut earlier = closed(opened(1, "MC-TEST-000", "", question, 0), closed_ms);
    earlier.opened.name = Some("before".to_owned());
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
    check.opened.control = vec!["before".to_owned()];
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
    check.opened.control = vec!["call".to_owned(), "nowhere".to_owned()];
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
    check.opened.control = vec!["call".to_owned()];
    let known = ledgers([("call", open_ledger(vec![row(1, OPENED_MS + 1, served("east"))]))]);
    assert!(!control_outcomes(&ScenarioHistory::default(), &check, &known)[0].passed);
}

#[test]
fn traffic_that_worked_before_does_not_prove_that_it_would_have_worked() {
    let question = Question::Serving(ServingQuestion {
        ledger: "steady".to_owned(),
        since_us: 0,
        pattern: ServingPattern::Refused,
        lost_at_most: None,
        timing: timing(Some(0), None, None),
    });
    let results = times(95, &served("east"))
        .into_iter()
        .chain(times(100, &failed("closed")));
    let known = ledgers([("steady", open_ledger(rows(results)))]);
    let outcome =
        |controls: &[ControlOutcome]| judge(&closed(check(question.clone()), 100_000), controls, &known).outcome;
    assert_eq!(outcome(&[]), Outcome::Inconclusive);
    assert_eq!(outcome(&proven()), Outcome::Pass);
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
    check.opened.control = vec!["before".to_owned()];
    assert_eq!(judge(&check, &[], &known).outcome, Outcome::Inconclusive);
}
