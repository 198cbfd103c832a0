//! Questions about what was observed: objects, numbers, inventories, access, admission.

use rstest::rstest;

use super::*;
use crate::question::{
    AccessQuestion, Comparison, Count, InventoryQuestion, Matcher, NumberQuestion, ObjectsQuestion, RejectedQuestion,
};

/// `T`rue, `f`alse, `-` blind at these times after the opening.
fn alive(timing: Timing, timeline: &[(u64, char)]) -> CheckHistory {
    let question = Question::Number(NumberQuestion {
        subject: "gateway_alive of link west → east".to_owned(),
        holds: Comparison::Equals(json!(1)),
        timing,
    });
    let observations = timeline.iter().map(|(at_ms, state)| {
        let observation = match state {
            'T' => Observation::Number(Some(1.0)),
            'f' => Observation::Number(Some(0.0)),
            'n' => Observation::Number(None),
            _ => blind(),
        };
        (*at_ms, observation)
    });
    seen(check(question), observations)
}

fn outcome_at(check: CheckHistory, closed_ms: u64) -> (Outcome, u64) {
    let judgement = judge(&closed(check, OPENED_MS + closed_ms), &proven(), &no_ledgers());
    (judgement.outcome, judgement.at_us / MS - OPENED_MS)
}

#[rstest]
// within 5 s
#[case::at_once(timing(Some(5000), None, None), &[(1, 'T')], Outcome::Pass, 1)]
#[case::later(timing(Some(5000), None, None), &[(1, 'f'), (4000, 'T')], Outcome::Pass, 4000)]
#[case::at_the_last_moment(timing(Some(5000), None, None), &[(1, 'f'), (5000, 'T')], Outcome::Pass, 5000)]
#[case::too_late(timing(Some(5000), None, None), &[(1, 'f'), (5001, 'T')], Outcome::Fail, 5000)]
#[case::never_published(timing(Some(5000), None, None), &[(1, 'n')], Outcome::Fail, 5000)]
#[case::for_a_moment(timing(Some(5000), None, None), &[(1, 'f'), (2, 'T'), (3, 'f')], Outcome::Pass, 2)]
#[case::blind_over_the_deadline(timing(Some(5000), None, None), &[(1, 'f'), (4000, '-'), (6000, 'T')], Outcome::Inconclusive, 5000)]
#[case::blind_but_still_false(timing(Some(5000), None, None), &[(1, 'f'), (4000, '-'), (6000, 'f')], Outcome::Fail, 5000)]
#[case::blind_before(timing(Some(5000), None, None), &[(1, '-'), (3000, 'T')], Outcome::Pass, 3000)]
#[case::never_seen(timing(Some(5000), None, None), &[], Outcome::Inconclusive, 5000)]
// within 5 s then for 10 s
#[case::held(timing(Some(5000), Some(10_000), None), &[(1, 'f'), (2000, 'T')], Outcome::Pass, 2000)]
#[case::broke_in_the_hold(timing(Some(5000), Some(10_000), None), &[(1, 'f'), (2000, 'T'), (9000, 'f')], Outcome::Fail, 9000)]
#[case::broke_at_its_last_moment(timing(Some(5000), Some(10_000), None), &[(2000, 'T'), (12_000, 'f')], Outcome::Fail, 12_000)]
#[case::broke_after_it(timing(Some(5000), Some(10_000), None), &[(2000, 'T'), (12_001, 'f')], Outcome::Pass, 2000)]
#[case::setback_in_time(timing(Some(5000), Some(10_000), None), &[(1, 'T'), (3000, 'f'), (4000, 'T')], Outcome::Pass, 4000)]
#[case::setback_too_late(timing(Some(5000), Some(10_000), None), &[(1, 'T'), (3000, 'f'), (5500, 'T')], Outcome::Fail, 5000)]
#[case::never_true(timing(Some(5000), Some(10_000), None), &[(1, 'f')], Outcome::Fail, 5000)]
#[case::blind_in_the_hold(timing(Some(5000), Some(10_000), None), &[(1, 'T'), (6000, '-'), (6500, 'T')], Outcome::Inconclusive, 15_000)]
#[case::blind_then_broken(timing(Some(5000), Some(10_000), None), &[(1, 'T'), (6000, '-'), (6500, 'f')], Outcome::Fail, 6000)]
#[case::blind_before_the_hold(timing(Some(5000), Some(10_000), None), &[(1, 'T'), (2000, '-'), (2500, 'T')], Outcome::Pass, 2500)]
#[case::blind_after_the_hold(timing(Some(5000), Some(10_000), None), &[(1, 'T'), (11_000, '-')], Outcome::Pass, 1)]
// then for 10 s, from the first look on
#[case::holds_on(timing(None, Some(10_000), None), &[(1, 'T')], Outcome::Pass, 1)]
#[case::not_at_first(timing(None, Some(10_000), None), &[(1, 'f'), (2, 'T')], Outcome::Fail, 1)]
#[case::breaks(timing(None, Some(10_000), None), &[(1, 'T'), (9000, 'f'), (9001, 'T')], Outcome::Fail, 9000)]
#[case::starts_blind(timing(None, Some(10_000), None), &[(1, '-'), (2, 'T')], Outcome::Inconclusive, 10_001)]
// never for 10 s
#[case::never(timing(None, None, Some(10_000)), &[(1, 'f')], Outcome::Pass, 10_001)]
#[case::once(timing(None, None, Some(10_000)), &[(1, 'f'), (5000, 'T'), (5001, 'f')], Outcome::Fail, 5000)]
#[case::at_the_end(timing(None, None, Some(10_000)), &[(1, 'f'), (10_001, 'T')], Outcome::Fail, 10_001)]
#[case::after_the_end(timing(None, None, Some(10_000)), &[(1, 'f'), (10_002, 'T')], Outcome::Pass, 10_001)]
#[case::blind_while_never(timing(None, None, Some(10_000)), &[(1, 'f'), (5000, '-'), (5001, 'f')], Outcome::Inconclusive, 10_001)]
#[case::blind_but_violated(timing(None, None, Some(10_000)), &[(1, 'f'), (5000, '-'), (5001, 'T')], Outcome::Fail, 5001)]
#[case::blind_afterwards(timing(None, None, Some(10_000)), &[(1, 'f'), (10_500, '-')], Outcome::Pass, 10_001)]
// at once
#[case::one_look(timing(None, None, None), &[(1, 'T'), (2, 'f')], Outcome::Pass, 1)]
#[case::one_bad_look(timing(None, None, None), &[(1, 'f'), (2, 'T')], Outcome::Fail, 1)]
#[case::one_look_after_blindness(timing(None, None, None), &[(1, '-'), (2, 'T')], Outcome::Pass, 2)]
// contradiction
#[case::never_within(timing(Some(1), None, Some(10_000)), &[(1, 'f')], Outcome::Error, 0)]
fn over_time(#[case] timing: Timing, #[case] timeline: &[(u64, char)], #[case] expected: Outcome, #[case] at_ms: u64) {
    assert_eq!(outcome_at(alive(timing, timeline), 100_000), (expected, at_ms));
}

#[test]
fn a_check_that_was_closed_too_early_is_inconclusive() {
    let check = alive(timing(Some(5000), Some(10_000), None), &[(1, 'T')]);
    assert_eq!(outcome_at(check.clone(), 10_001).0, Outcome::Inconclusive);
    assert_eq!(outcome_at(check, 10_002).0, Outcome::Pass);
}

#[test]
fn the_last_moment_of_a_never_still_counts() {
    let check = alive(timing(None, None, Some(10_000)), &[(1, 'f')]);
    let end_us = (OPENED_MS + 10_001) * MS;
    assert_eq!(
        progress(&check, &no_ledgers(), end_us),
        Progress::Undecided {
            look_again_at_us: Some(end_us + 1)
        }
    );
    assert_eq!(progress(&check, &no_ledgers(), end_us + 1), Progress::Decided);
}

#[test]
fn a_check_that_was_never_closed_is_an_error() {
    let judgement = judge(&alive(timing(Some(5000), None, None), &[(1, 'T')]), &[], &no_ledgers());
    assert_eq!(judgement.outcome, Outcome::Error);
    assert!(
        judgement.summary.contains("the run ended before"),
        "{}",
        judgement.summary
    );
}

#[rstest]
#[case(CloseReason::Interrupted, Outcome::Inconclusive, "interrupted")]
#[case(CloseReason::Deadline, Outcome::Inconclusive, "time was up")]
#[case(problem(ProblemClass::Environment), Outcome::Error, "api-unreachable")]
#[case(problem(ProblemClass::Harness), Outcome::Error, "api-unreachable")]
#[case(problem(ProblemClass::Mesh), Outcome::Inconclusive, "api-unreachable")]
fn an_open_check_is_decided_by_why_it_was_closed(
    #[case] reason: CloseReason,
    #[case] expected: Outcome,
    #[case] word: &str,
) {
    let mut check = closed(alive(timing(Some(5000), None, None), &[(1, 'f')]), OPENED_MS + 10);
    check.closed.as_mut().unwrap().reason = reason;
    let judgement = judge(&check, &[], &no_ledgers());
    assert_eq!(judgement.outcome, expected);
    assert!(judgement.summary.contains(word), "{}", judgement.summary);
}

#[test]
fn what_was_seen_before_a_problem_still_counts() {
    let mut check = closed(
        alive(timing(None, None, Some(5000)), &[(1, 'f'), (5, 'T')]),
        OPENED_MS + 10,
    );
    check.closed.as_mut().unwrap().reason = problem(ProblemClass::Environment);
    assert_eq!(judge(&check, &[], &no_ledgers()).outcome, Outcome::Fail);
}

fn problem(class: ProblemClass) -> CloseReason {
    CloseReason::Problem(crate::record::Problem {
        class,
        code: "api-unreachable".to_owned(),
        message: "no answer".to_owned(),
        remedy: None,
    })
}

fn ports(count: Count, port: u64) -> Question {
    Question::Objects(ObjectsQuestion {
        subject: "west Service shop/store-east".to_owned(),
        count,
        each: vec![
            Matcher {
                path: "spec.ports[*].port".to_owned(),
                holds: Comparison::Equals(json!([port])),
            },
            Matcher {
                path: "kind".to_owned(),
                holds: Comparison::Equals(json!("Service")),
            },
        ],
        timing: timing(Some(1000), None, None),
    })
}

fn exactly(count: u64) -> Count {
    Count {
        exactly: Some(count),
        ..Count::default()
    }
}

#[rstest]
#[case::right(exactly(1), vec![service("store-east", 80)], Outcome::Pass)]
#[case::none(exactly(1), vec![], Outcome::Fail)]
#[case::wrong_port(exactly(1), vec![service("store-east", 81)], Outcome::Fail)]
#[case::others_do_not_count(exactly(1), vec![service("a", 80), service("b", 81)], Outcome::Pass)]
#[case::too_many(exactly(1), vec![service("a", 80), service("b", 80)], Outcome::Fail)]
#[case::at_least(Count { at_least: Some(2), ..Count::default() }, vec![service("a", 80), service("b", 80)], Outcome::Pass)]
#[case::not_at_least(Count { at_least: Some(2), ..Count::default() }, vec![service("a", 80), service("b", 81)], Outcome::Fail)]
#[case::at_most(Count { at_most: Some(1), ..Count::default() }, vec![service("a", 80)], Outcome::Pass)]
#[case::not_at_most(Count { at_most: Some(1), ..Count::default() }, vec![service("a", 80), service("b", 80)], Outcome::Fail)]
#[case::any_number(Count::default(), vec![service("a", 80), service("b", 80)], Outcome::Pass)]
#[case::any_number_but_none(Count::default(), vec![], Outcome::Fail)]
#[case::absent(exactly(0), vec![service("a", 81)], Outcome::Pass)]
#[case::not_absent(exactly(0), vec![service("a", 80)], Outcome::Fail)]
fn objects_are_counted_when_they_hold_what_is_asked(
    #[case] count: Count,
    #[case] objects: Vec<Value>,
    #[case] expected: Outcome,
) {
    let check = seen(check(ports(count, 80)), [(1, Observation::Objects(objects))]);
    assert_eq!(outcome_at(check, 2000).0, expected);
}

#[test]
fn a_failure_tells_the_nearest_object_and_the_last_states() {
    let mut near = service("store-east", 81);
    near["extra"] = json!(1);
    let far = json!({"kind": "Endpoints", "metadata": {"name": "x"}});
    let states = [
        (1, Observation::Objects(vec![])),
        (100, Observation::Objects(vec![service("store-east", 79)])),
        (200, Observation::Objects(vec![service("store-east", 79)])),
        (300, Observation::Objects(vec![service("store-east", 80)])),
        (400, Observation::Objects(vec![far, near])),
    ];
    let judgement = judge(
        &closed(seen(check(ports(exactly(1), 8080)), states), 9000),
        &[],
        &no_ledgers(),
    );
    assert_eq!(judgement.outcome, Outcome::Fail);
    insta::assert_snapshot!(judgement.summary, @r#"west → east: west Service shop/store-east present where spec.ports[*].port equals [8080] and kind equals "Service" within 1.000 s: it did not come true in time: no such object; nearest is Service shop/store-east: spec.ports[*].port is [81]"#);
    insta::assert_snapshot!(judgement.observed, @"at 1.100 s: no such object; nearest is Service shop/store-east: spec.ports[*].port is [79]; at 1.300 s: no such object; nearest is Service shop/store-east: spec.ports[*].port is [80]; at 1.400 s: no such object; nearest is Service shop/store-east: spec.ports[*].port is [81] (last change at 1.400 s)");
}

#[test]
fn a_secret_is_not_quoted() {
    let question = Question::Objects(ObjectsQuestion {
        subject: "west Secret mesh/credentials".to_owned(),
        count: exactly(1),
        each: vec![Matcher {
            path: "data.token".to_owned(),
            holds: Comparison::Exists(false),
        }],
        timing: timing(None, None, None),
    });
    let secret = json!({"kind": "Secret", "metadata": {"name": "credentials"}, "data": {"token": "aHVudGVyMg=="}});
    let judgement = judge(
        &closed(seen(check(question), [(1, Observation::Objects(vec![secret]))]), 9000),
        &[],
        &no_ledgers(),
    );
    assert_eq!(judgement.outcome, Outcome::Fail);
    assert!(!format!("{judgement:?}").contains("aHVudGVyMg"), "{judgement:?}");
}

#[test]
fn a_path_that_is_none_is_an_error() {
    let question = Question::Objects(ObjectsQuestion {
        subject: "x".to_owned(),
        count: exactly(1),
        each: vec![Matcher {
            path: "spec..x".to_owned(),
            holds: Comparison::Exists(true),
        }],
        timing: timing(Some(1000), None, None),
    });
    let judgement = judge(&closed(check(question), 9000), &[], &no_ledgers());
    assert_eq!(judgement.outcome, Outcome::Error);
    assert!(
        judgement.summary.contains("`spec..x` is not a path"),
        "{}",
        judgement.summary
    );
}

#[rstest]
#[case(vec![], vec![], Outcome::Pass)]
#[case(vec!["west Service shop/x"], vec![], Outcome::Fail)]
#[case(vec![], vec!["west Link mesh/east"], Outcome::Fail)]
fn an_inventory_has_no_difference(
    #[case] unexpected: Vec<&str>,
    #[case] missing: Vec<&str>,
    #[case] expected: Outcome,
) {
    let question = Question::Inventory(InventoryQuestion {
        subject: "objects of link west → east".to_owned(),
        timing: timing(Some(1000), None, None),
    });
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let observation = Observation::Inventory {
        unexpected: owned(&unexpected),
        missing: owned(&missing),
    };
    let judgement = judge(
        &closed(seen(check(question), [(1, observation)]), 9000),
        &[],
        &no_ledgers(),
    );
    assert_eq!(judgement.outcome, expected);
    for name in unexpected.iter().chain(&missing) {
        assert!(judgement.summary.contains(name), "{}", judgement.summary);
    }
}

#[rstest]
#[case(true, true, Outcome::Pass)]
#[case(true, false, Outcome::Fail)]
#[case(false, false, Outcome::Pass)]
#[case(false, true, Outcome::Fail)]
fn access_is_as_asked(#[case] wanted: bool, #[case] allowed: bool, #[case] expected: Outcome) {
    let question = Question::Access(AccessQuestion {
        subject: "x gets secrets in east".to_owned(),
        allowed: wanted,
    });
    let answer = Observation::Access {
        allowed,
        reason: "RBAC".to_owned(),
    };
    let check = seen(check(question), [(1, blind()), (2, answer)]);
    assert_eq!(outcome_at(check, 10), (expected, 2));
}

#[test]
fn access_without_an_answer_is_open() {
    let question = Question::Access(AccessQuestion {
        subject: "x".to_owned(),
        allowed: true,
    });
    let check = seen(check(question), [(1, blind())]);
    assert_eq!(
        progress(&check, &no_ledgers(), 5000 * MS),
        Progress::Undecided { look_again_at_us: None }
    );
    assert_eq!(outcome_at(check, 10).0, Outcome::Inconclusive);
}

#[rstest]
#[case::right(false, 422, "spec.backends: must not be split", Outcome::Pass)]
#[case::denied_by_a_webhook(false, 403, "denied: must not be split", Outcome::Pass)]
#[case::accepted(true, 201, "", Outcome::Fail)]
#[case::another_message(false, 422, "metadata.name: too long", Outcome::Fail)]
#[case::forbidden(false, 403, "cannot create resource", Outcome::Fail)]
#[case::no_answer(false, 0, "connection refused", Outcome::Error)]
#[case::no_answer_with_the_words(false, 0, "must not be split", Outcome::Error)]
#[case::unauthorized(false, 401, "Unauthorized", Outcome::Error)]
#[case::too_many(false, 429, "slow down", Outcome::Error)]
#[case::broken_server(false, 500, "must not be split", Outcome::Error)]
#[case::not_a_refusal(false, 302, "elsewhere", Outcome::Error)]
fn rejection(#[case] accepted: bool, #[case] status: u16, #[case] message: &str, #[case] expected: Outcome) {
    let question = Question::Rejected(RejectedQuestion {
        subject: "split".to_owned(),
        message: "must not be split".to_owned(),
    });
    let answer = Observation::Admission {
        accepted,
        status,
        message: message.to_owned(),
    };
    let judgement = judge(&closed(seen(check(question), [(1, answer)]), 9000), &[], &no_ledgers());
    assert_eq!(judgement.outcome, expected);
    assert!(judgement.summary.contains(message), "{}", judgement.summary);
}

#[rstest]
#[case::in_time(0, "f", Outcome::Fail)]
#[case::a_little_late(2_999_999, "f", Outcome::Fail)]
#[case::stalled(3_000_000, "f", Outcome::Inconclusive)]
#[case::kept_all_the_same(60_000_000, "T", Outcome::Pass)]
fn a_promise_that_breaks_while_the_harness_is_stalled_is_not_decided(
    #[case] stalled_us: u64,
    #[case] state: &str,
    #[case] expected: Outcome,
) {
    let state = state.chars().next().unwrap();
    let mut check = closed(alive(timing(Some(5000), None, None), &[(1, state)]), OPENED_MS + 6000);
    check.closed.as_mut().unwrap().awake.stalled_us = stalled_us;
    let judgement = judge(&check, &proven(), &no_ledgers());
    assert_eq!(judgement.outcome, expected);
    assert_eq!(
        judgement.summary.contains("was stalled for 3.0 s"),
        expected == Outcome::Inconclusive
    );
}

#[rstest]
#[case::kept("T")]
#[case::broken("f")]
fn a_promise_that_rests_on_what_is_not_modelled_is_not_judged(#[case] state: &str) {
    let state = state.chars().next().unwrap();
    let mut check = closed(alive(timing(Some(5000), None, None), &[(1, state)]), OPENED_MS + 6000);
    check.closed.as_mut().unwrap().awake.unmodelled = vec![crate::wakefulness::Unmodelled {
        cluster: "west".to_owned(),
        object: "Service shop/store".to_owned(),
        what: "annotation `retry/http`".to_owned(),
    }];
    let judgement = judge(&check, &proven(), &no_ledgers());
    assert_eq!(judgement.outcome, Outcome::Skip);
    assert!(
        judgement
            .summary
            .contains("not-modelled: without effect in these clusters: west Service shop/store")
    );
}
