//! Background traffic. 100 requests a second; the check is opened at 1 s, the last disturbance was at 0.9 s.

use rstest::rstest;

use super::*;
use crate::question::{ALPHA, AnsweredPattern, FailsPattern, ServingPattern, ServingQuestion};

const SINCE_MS: u64 = 900;

fn question(pattern: ServingPattern, timing: Timing, lost_at_most: Option<u64>) -> Question {
    Question::Serving(ServingQuestion {
        ledger: "steady".to_owned(),
        since_us: SINCE_MS * MS,
        pattern,
        lost_at_most,
        timing,
    })
}

fn names(clusters: &[&str]) -> Vec<String> {
    clusters.iter().map(|cluster| (*cluster).to_owned()).collect()
}

fn only_east() -> ServingPattern {
    ServingPattern::Only(names(&["east"]))
}

fn each() -> ServingPattern {
    ServingPattern::Each(names(&["west", "east"]))
}

/// Phases of traffic: how many of what, from time 0. `b` is both clusters in turns, `-` a request without an outcome.
fn traffic(phases: &[(usize, char)]) -> Vec<Row> {
    let letters = phases
        .iter()
        .flat_map(|(count, letter)| std::iter::repeat_n(*letter, *count));
    letters
        .enumerate()
        .filter_map(|(i, letter)| {
            let result = match letter {
                'e' => served("east"),
                'w' => served("west"),
                'b' => served(if i % 2 == 0 { "east" } else { "west" }),
                's' => stale("east"),
                '5' => proxy_error(504),
                't' => failed("timeout"),
                'x' => failed("stopped"),
                _ => return None,
            };
            Some(row(i as u64, i as u64 * 10, result))
        })
        .collect()
}

fn judged(question: Question, ledger: KnownLedger) -> Judgement {
    judge(
        &closed(check(question), 1_000_000),
        &proven(),
        &ledgers([("steady", ledger)]),
    )
}

/// Failover: west until 0.9 s, then errors, then east.
fn failover(errors: usize, then: usize) -> Vec<Row> {
    traffic(&[(90, 'w'), (errors, '5'), (then, 'e')])
}

#[rstest]
// within 3 s, that is until 4 s: request 400
#[case::recovered(failover(200, 500), timing(Some(3000), Some(1000), None), Outcome::Pass)]
#[case::at_the_last_moment(failover(310, 500), timing(Some(3000), Some(1000), None), Outcome::Pass)]
#[case::too_late(failover(311, 500), timing(Some(3000), Some(1000), None), Outcome::Fail)]
#[case::never(failover(700, 0), timing(Some(3000), Some(1000), None), Outcome::Fail)]
#[case::without_hold(failover(200, 20), timing(Some(3000), None, None), Outcome::Pass)]
#[case::not_steady_yet(failover(200, 19), timing(Some(3000), None, None), Outcome::Inconclusive)]
#[case::hold_not_over(failover(200, 100), timing(Some(3000), Some(1000), None), Outcome::Inconclusive)]
#[case::hold_over(failover(200, 101), timing(Some(3000), Some(1000), None), Outcome::Pass)]
#[case::setback_in_time(traffic(&[(90, 'w'), (50, '5'), (50, 'e'), (10, '5'), (500, 'e')]), timing(Some(3000), Some(1000), None), Outcome::Pass)]
#[case::setback_in_the_hold(traffic(&[(90, 'w'), (300, '5'), (50, 'e'), (1, '5'), (500, 'e')]), timing(Some(3000), Some(1000), None), Outcome::Fail)]
#[case::setback_behind_the_hold(traffic(&[(90, 'w'), (300, '5'), (101, 'e'), (1, '5'), (500, 'e')]), timing(Some(3000), Some(1000), None), Outcome::Pass)]
#[case::setback_at_its_last_request(traffic(&[(90, 'w'), (300, '5'), (100, 'e'), (1, '5'), (500, 'e')]), timing(Some(3000), Some(1000), None), Outcome::Fail)]
#[case::one_by_the_other(traffic(&[(90, 'w'), (300, 'e'), (50, 'e'), (1, 'w'), (500, 'e')]), timing(Some(3000), Some(4000), None), Outcome::Fail)]
#[case::one_by_a_stale_pod(traffic(&[(90, 'w'), (310, 'e'), (50, 'e'), (1, 's'), (500, 'e')]), timing(Some(3000), Some(4000), None), Outcome::Fail)]
#[case::at_once_after_the_disturbance(failover(0, 500), timing(Some(3000), Some(1000), None), Outcome::Pass)]
// without within: from the first request after the opening (request 100)
#[case::holds_on(traffic(&[(90, 'w'), (300, 'e')]), timing(None, Some(1000), None), Outcome::Pass)]
#[case::not_from_the_start(traffic(&[(101, 'w'), (300, 'e')]), timing(None, Some(1000), None), Outcome::Fail)]
#[case::from_the_start(traffic(&[(100, 'w'), (300, 'e')]), timing(None, Some(1000), None), Outcome::Pass)]
#[case::breaks(traffic(&[(90, 'w'), (100, 'e'), (1, '5'), (200, 'e')]), timing(None, Some(1000), None), Outcome::Fail)]
#[case::cut_off_within(traffic(&[(90, 'w'), (100, 'e'), (1, 'x'), (200, 'e')]), timing(None, Some(1000), None), Outcome::Inconclusive)]
#[case::cut_off_behind(traffic(&[(90, 'w'), (300, 'e'), (5, 'x')]), timing(None, Some(1000), None), Outcome::Pass)]
#[case::no_traffic(vec![], timing(Some(3000), Some(1000), None), Outcome::Inconclusive)]
fn only(#[case] rows: Vec<Row>, #[case] timing: Timing, #[case] expected: Outcome) {
    let judgement = judged(question(only_east(), timing, None), closed_ledger(rows));
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[test]
fn a_failover_is_measured() {
    let question = question(only_east(), timing(Some(10_000), Some(1000), None), Some(300));
    let rows = traffic(&[(90, 'w'), (3, 'w'), (200, '5'), (400, 'e')]);
    let judgement = judged(question, closed_ledger(rows));
    assert_eq!(judgement.outcome, Outcome::Pass);
    assert_eq!(judgement.at_us, 2930 * MS);
    let measures: BTreeMap<&str, f64> = judgement
        .measures
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(measures["lost"], 200.0);
    assert_eq!(measures["first_failure_after_us"], 30_000.0);
    assert_eq!(measures["recovery_us"], 2_030_000.0);
    assert_eq!(measures["converged_after_us"], 1_930_000.0);
    assert_eq!(measures["longest_gap_us"], 2_010_000.0);
    assert_eq!(measures["duplicated"], 0.0);
    assert_eq!(judgement.requests.first().map(String::as_str), Some("t-93"));
    insta::assert_snapshot!(judgement.summary, @"west → east: traffic `steady` is served by east and no others within 10.000 s and then for 1.000 s, losing at most 300: true 2.030 s after the last disturbance and held for 1.000 s, 200 lost before");
    insta::assert_snapshot!(judgement.observed, @"from 0.900 s 3 served by west; from 0.930 s 200 answered 504 by nobody; from 2.930 s 101 served by east");
}

#[rstest]
#[case(200, 200, Outcome::Pass)]
#[case(201, 200, Outcome::Fail)]
#[case(1, 0, Outcome::Fail)]
#[case(0, 0, Outcome::Pass)]
fn requests_lost_before_recovery_are_counted(#[case] lost: usize, #[case] allowed: u64, #[case] expected: Outcome) {
    let question = question(only_east(), timing(Some(10_000), Some(1000), None), Some(allowed));
    let judgement = judged(question, closed_ledger(failover(lost, 500)));
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    assert_eq!(judgement.requests.is_empty(), lost == 0);
}

#[test]
fn too_much_loss_is_decided_before_recovery() {
    let question = question(only_east(), timing(Some(10_000), Some(1000), None), Some(50));
    let known = ledgers([("steady", open_ledger(failover(60, 0)))]);
    assert_eq!(progress(&check(question), &known, 1600 * MS), Progress::Decided);
}

#[test]
fn a_request_without_an_outcome_holds_everything_behind_it_back() {
    let question = question(only_east(), timing(Some(3000), Some(1000), None), None);
    let hanging = traffic(&[(90, 'w'), (50, 'e'), (1, '-'), (400, 'e')]);
    let known = ledgers([("steady", open_ledger(hanging.clone()))]);
    let running = check(question.clone());
    let give_up_us = (OPENED_MS + 4000) * MS + OUTCOME_GRACE_US;
    let look_again = Progress::Undecided {
        look_again_at_us: Some(give_up_us + 1),
    };
    assert_eq!(progress(&running, &known, 6000 * MS), look_again);
    // It ends well …
    let mut rows = hanging.clone();
    rows.push(Row {
        ended_us: 6000 * MS,
        ..row(140, 1400, served("east"))
    });
    let known = ledgers([("steady", open_ledger(rows))]);
    assert_eq!(progress(&running, &known, 6000 * MS), Progress::Decided);
    assert_eq!(
        judge(&closed(running.clone(), 6000), &[], &known).outcome,
        Outcome::Pass
    );
    // … or badly, and it may begin anew, since the deadline was not over …
    let mut rows = hanging.clone();
    rows.push(Row {
        ended_us: 6000 * MS,
        ..row(140, 1400, failed("timeout"))
    });
    let known = ledgers([("steady", open_ledger(rows))]);
    let judgement = judge(&closed(running.clone(), 6000), &[], &known);
    assert_eq!((judgement.outcome, judgement.at_us), (Outcome::Pass, 1410 * MS));
    // … or never.
    let known = ledgers([("steady", open_ledger(hanging))]);
    assert_eq!(progress(&running, &known, give_up_us + 1), Progress::Decided);
    let judgement = judge(&closed(running, give_up_us / MS + 1), &[], &known);
    assert_eq!(judgement.outcome, Outcome::Inconclusive, "{}", judgement.summary);
}

#[rstest]
#[case::in_turns(traffic(&[(90, 'w'), (500, 'b')]), Outcome::Pass)]
#[case::comes_back(traffic(&[(90, 'w'), (250, 'w'), (300, 'b')]), Outcome::Pass)]
#[case::comes_back_too_late(traffic(&[(90, 'w'), (400, 'w'), (300, 'b')]), Outcome::Fail)]
#[case::never_comes_back(traffic(&[(700, 'w')]), Outcome::Fail)]
#[case::leaves_again(traffic(&[(340, 'w'), (100, 'b'), (100, 'w'), (200, 'b')]), Outcome::Fail)]
#[case::pauses(traffic(&[(340, 'w'), (100, 'b'), (98, 'w'), (300, 'b')]), Outcome::Pass)]
#[case::an_error(traffic(&[(340, 'w'), (100, 'b'), (1, '5'), (300, 'b')]), Outcome::Fail)]
#[case::missing_for_99(traffic(&[(350, 'w'), (50, 'b'), (1, 'e'), (99, 'w'), (1, 'e'), (200, 'b')]), Outcome::Pass)]
#[case::missing_for_100(traffic(&[(350, 'w'), (50, 'b'), (1, 'e'), (100, 'w'), (1, 'e'), (200, 'b')]), Outcome::Fail)]
#[case::too_few(traffic(&[(90, 'w'), (60, 'b')]), Outcome::Inconclusive)]
fn each_of(#[case] rows: Vec<Row>, #[case] expected: Outcome) {
    let judgement = judged(
        question(each(), timing(Some(3000), Some(2000), None), None),
        closed_ledger(rows),
    );
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[test]
fn each_is_true_from_the_moment_the_missing_cluster_serves() {
    let rows = traffic(&[(250, 'w'), (1, 'e'), (400, 'b')]);
    let judgement = judged(
        question(each(), timing(Some(3000), Some(2000), None), None),
        closed_ledger(rows),
    );
    assert_eq!((judgement.outcome, judgement.at_us), (Outcome::Pass, 2500 * MS));
}

#[test]
fn a_failure_names_the_cluster_that_is_missing() {
    let judgement = judged(
        question(each(), timing(Some(3000), Some(2000), None), None),
        closed_ledger(traffic(&[(700, 'w')])),
    );
    assert!(
        judgement.summary.contains("east served 0 of the last 100 requests"),
        "{}",
        judgement.summary
    );
}

#[rstest]
#[case::all(traffic(&[(150, 'b')]), Outcome::Pass)]
#[case::one_error(traffic(&[(10, 'b'), (1, '5'), (139, 'b')]), Outcome::Fail)]
#[case::one_timeout(traffic(&[(10, 'b'), (1, 't'), (139, 'b')]), Outcome::Fail)]
#[case::one_stale(traffic(&[(10, 'b'), (1, 's'), (139, 'b')]), Outcome::Fail)]
#[case::one_cut_off(traffic(&[(10, 'b'), (1, 'x'), (139, 'b')]), Outcome::Inconclusive)]
#[case::error_after_the_opening(traffic(&[(120, 'b'), (1, '5'), (30, 'b')]), Outcome::Pass)]
#[case::nothing_sent(vec![], Outcome::Inconclusive)]
fn lossless(#[case] rows: Vec<Row>, #[case] expected: Outcome) {
    let lossless = question(ServingPattern::Lossless, timing(None, None, None), None);
    for ledger in [closed_ledger(rows.clone()), open_ledger(rows)] {
        let judgement = judged(lossless.clone(), ledger);
        assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    }
}

#[test]
fn lossless_waits_for_the_outcome_of_what_was_sent_before_it() {
    let lossless = check(question(ServingPattern::Lossless, timing(None, None, None), None));
    let known = ledgers([("steady", open_ledger(traffic(&[(50, 'b'), (1, '-'), (100, 'b')])))]);
    assert!(matches!(
        progress(&lossless, &known, 2000 * MS),
        Progress::Undecided { .. }
    ));
    let known = ledgers([("steady", open_ledger(traffic(&[(50, 'b'), (100, 'b')])))]);
    assert_eq!(progress(&lossless, &known, 2000 * MS), Progress::Decided);
}

#[rstest]
#[case::all(ServingPattern::Fails(FailsPattern::default()), traffic(&[(100, 'e'), (300, '5')]), Outcome::Pass)]
#[case::one_served(ServingPattern::Fails(FailsPattern::default()), traffic(&[(100, 'e'), (100, '5'), (1, 'e'), (300, '5')]), Outcome::Fail)]
#[case::with_status(ServingPattern::Fails(FailsPattern { status: vec![504], ..FailsPattern::default() }), traffic(&[(100, 'e'), (300, '5')]), Outcome::Pass)]
#[case::another_status(ServingPattern::Fails(FailsPattern { status: vec![503], ..FailsPattern::default() }), traffic(&[(100, 'e'), (300, '5')]), Outcome::Fail)]
#[case::half(ServingPattern::Fails(FailsPattern { share: Some(0.5), ..FailsPattern::default() }), alternating(400), Outcome::Pass)]
#[case::not_half(ServingPattern::Fails(FailsPattern { share: Some(0.9), ..FailsPattern::default() }), alternating(400), Outcome::Fail)]
#[case::answered(ServingPattern::Answered(AnsweredPattern { status: vec![504], ..AnsweredPattern::default() }), traffic(&[(400, '5')]), Outcome::Fail)]
#[case::answered_well(ServingPattern::Answered(AnsweredPattern::default()), traffic(&[(400, 'b')]), Outcome::Pass)]
#[case::refused(ServingPattern::Refused, traffic(&[(100, 'e'), (300, 't')]), Outcome::Pass)]
#[case::refused_but_one(ServingPattern::Refused, traffic(&[(100, 'e'), (150, 't'), (1, 's'), (100, 't')]), Outcome::Fail)]
fn other_patterns(#[case] pattern: ServingPattern, #[case] rows: Vec<Row>, #[case] expected: Outcome) {
    let judgement = judged(
        question(pattern, timing(None, Some(2000), None), None),
        closed_ledger(rows),
    );
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

fn alternating(count: usize) -> Vec<Row> {
    traffic(
        &(0..count)
            .map(|i| (1, if i % 2 == 0 { 'e' } else { '5' }))
            .collect::<Vec<_>>(),
    )
}

#[test]
fn the_share_of_failures_is_tested_at_the_common_alpha() {
    let pattern = ServingPattern::Fails(FailsPattern {
        share: Some(0.5),
        ..FailsPattern::default()
    });
    let judgement = judged(
        question(pattern, timing(None, Some(2000), None), None),
        closed_ledger(alternating(400)),
    );
    assert_eq!(
        (judgement.measures["alpha"], judgement.measures["requests"]),
        (ALPHA, 201.0)
    );
}

#[rstest]
#[case::never(traffic(&[(400, 'w')]), Outcome::Pass)]
#[case::once(traffic(&[(200, 'w'), (1, 'e'), (200, 'w')]), Outcome::Fail)]
#[case::at_the_end(traffic(&[(300, 'w'), (1, 'e'), (100, 'w')]), Outcome::Fail)]
#[case::before(traffic(&[(100, 'e'), (301, 'w')]), Outcome::Pass)]
#[case::for_a_while(traffic(&[(200, 'w'), (20, 'e'), (200, 'w')]), Outcome::Fail)]
#[case::afterwards(traffic(&[(301, 'w'), (100, 'e')]), Outcome::Pass)]
#[case::traffic_ends(traffic(&[(200, 'w')]), Outcome::Inconclusive)]
#[case::cut_off(traffic(&[(200, 'w'), (1, 'x'), (200, 'w')]), Outcome::Inconclusive)]
fn never(#[case] rows: Vec<Row>, #[case] expected: Outcome) {
    let judgement = judged(
        question(only_east(), timing(None, None, Some(2000)), None),
        closed_ledger(rows),
    );
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[test]
fn half_of_all_requests_is_more_than_never() {
    let pattern = ServingPattern::Fails(FailsPattern::default());
    let judgement = judged(
        question(pattern, timing(None, None, Some(2000)), None),
        closed_ledger(alternating(400)),
    );
    assert_eq!(judgement.outcome, Outcome::Fail, "{}", judgement.summary);
    assert_eq!(judgement.requests.len(), 1);
}

#[rstest]
#[case(ServingPattern::Lossless)]
#[case(ServingPattern::Each(vec!["west".to_owned()]))]
#[case(ServingPattern::Fails(FailsPattern { share: Some(0.5), ..FailsPattern::default() }))]
fn never_is_not_asked_of_what_no_single_request_can_be(#[case] pattern: ServingPattern) {
    let question = question(pattern, timing(None, None, Some(2000)), None);
    assert_eq!(
        judged(question, closed_ledger(traffic(&[(400, 'w')]))).outcome,
        Outcome::Error
    );
}

#[test]
fn a_contradiction_is_an_error() {
    let question = question(only_east(), timing(Some(1), None, Some(2000)), None);
    assert_eq!(
        judged(question, closed_ledger(traffic(&[(400, 'w')]))).outcome,
        Outcome::Error
    );
}

#[test]
fn only_rows_that_were_written_when_the_check_was_closed_count() {
    let mut check = closed(
        check(question(only_east(), timing(Some(3000), Some(1000), None), None)),
        1_000_000,
    );
    let known = ledgers([("steady", open_ledger(failover(200, 500)))]);
    assert_eq!(judge(&check, &[], &known).outcome, Outcome::Pass);
    check.closed.as_mut().unwrap().rows.insert("steady".to_owned(), 300);
    assert_eq!(judge(&check, &[], &known).outcome, Outcome::Inconclusive);
}
