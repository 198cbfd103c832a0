//! Splits: shares, strays, thin evidence, failed requests, dependence.

use rstest::rstest;

use super::*;
use crate::question::SplitQuestion;

fn question(weights: &[(&str, u32)], requests: u64) -> SplitQuestion {
    SplitQuestion {
        ledger: "split".to_owned(),
        weights: weights
            .iter()
            .map(|(cluster, weight)| ((*cluster).to_owned(), *weight))
            .collect(),
        requests,
        detect_points: 5.0,
        alpha: 1e-5,
    }
}

fn judged(question: SplitQuestion, rows: Vec<Row>) -> Judgement {
    let known = ledgers([("split", closed_ledger(rows))]);
    judge(&closed(check(Question::Split(question)), 1_000_000), &[], &known)
}

/// A small generator with a fixed seed (xorshift64*), so that the same draws are made for ever.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    /// Evenly between 0 and 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Requests that are drawn with these shares.
fn drawn(shares: &[(&str, f64)], count: usize, seed: u64) -> Vec<Row> {
    let mut draws = Draws(seed);
    let pick = |unit: f64| {
        let mut sum = 0.0;
        let found = shares.iter().find(|(_, share)| {
            sum += share;
            unit < sum
        });
        found.map_or(shares[shares.len() - 1].0, |(cluster, _)| cluster)
    };
    rows((0..count).map(|_| served(pick(draws.unit()))))
        .into_iter()
        .collect()
}

#[test]
fn a_clean_split_passes_and_five_points_off_fails() {
    let weights = [("west", 70), ("east", 30)];
    for seed in 1..20 {
        let judgement = judged(
            question(&weights, 5000),
            drawn(&[("west", 0.7), ("east", 0.3)], 5000, seed),
        );
        assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.summary);
        let judgement = judged(
            question(&weights, 5000),
            drawn(&[("west", 0.65), ("east", 0.35)], 5000, seed),
        );
        assert_eq!(judgement.outcome, Outcome::Fail, "{}", judgement.summary);
    }
}

#[test]
fn a_clean_split_over_three_passes_and_five_points_off_fails() {
    let weights = [("west", 50), ("east", 30), ("north", 20)];
    for seed in 1..20 {
        let clean = drawn(&[("west", 0.5), ("east", 0.3), ("north", 0.2)], 6000, seed);
        assert_eq!(judged(question(&weights, 6000), clean).outcome, Outcome::Pass);
        let off = drawn(&[("west", 0.45), ("east", 0.33), ("north", 0.22)], 6000, seed);
        assert_eq!(judged(question(&weights, 6000), off).outcome, Outcome::Fail);
    }
}

#[test]
fn the_report_has_all_numbers() {
    let judgement = judged(
        question(&[("west", 70), ("east", 30)], 5000),
        drawn(&[("west", 0.7), ("east", 0.3)], 5000, 7),
    );
    let measures = &judgement.measures;
    assert_eq!(measures["requests"], 5000.0);
    assert_eq!(measures["alpha"], 1e-5);
    assert_eq!(measures["served_by_west"] + measures["served_by_east"], 5000.0);
    assert!(measures["power"] > 0.999, "{}", measures["power"]);
    assert!(measures["share_low_west"] < 0.7 && 0.7 < measures["share_high_west"]);
    assert!(measures["share_high_west"] - measures["share_low_west"] < 0.05);
    assert!((measures["runs"] - measures["runs_expected"]).abs() < 150.0);
    assert!(measures["p_value"] > 1e-5);
}

#[test]
fn one_request_to_weight_zero_fails_and_is_named() {
    let mut rows = drawn(&[("west", 1.0)], 5000, 1);
    let weights = [("west", 100), ("east", 0)];
    let judgement = judged(question(&weights, 5000), rows.clone());
    assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.summary);
    assert!(judgement.measures["share_high_east"] < 0.0016);
    rows[1234].result = served("east");
    let judgement = judged(question(&weights, 5000), rows);
    assert_eq!(
        (judgement.outcome, judgement.requests),
        (Outcome::Fail, vec!["t-1234".to_owned()])
    );
}

#[rstest]
#[case::a_cluster_that_is_no_backend(served("north"))]
#[case::a_stale_pod(stale("west"))]
fn one_request_to_a_stranger_fails(#[case] result: RequestResult) {
    let mut rows = drawn(&[("west", 0.7), ("east", 0.3)], 5000, 1);
    rows[99].result = result;
    let judgement = judged(question(&[("west", 70), ("east", 30)], 5000), rows);
    assert_eq!(
        (judgement.outcome, judgement.requests),
        (Outcome::Fail, vec!["t-99".to_owned()])
    );
}

#[rstest]
#[case::too_few(5000, 4999, "4999 requests were made, 5000 were planned")]
#[case::too_many(5000, 5001, "5001 requests were made, 5000 were planned")]
#[case::too_little_power(500, 500, "notice 5 points only with probability")]
#[case::none_at_all(0, 0, "no request was made")]
fn thin_evidence_is_inconclusive(#[case] planned: u64, #[case] made: usize, #[case] says: &str) {
    let judgement = judged(
        question(&[("west", 70), ("east", 30)], planned),
        drawn(&[("west", 0.7), ("east", 0.3)], made, 1),
    );
    assert_eq!(judgement.outcome, Outcome::Inconclusive);
    assert!(judgement.summary.contains(says), "{}", judgement.summary);
}

#[test]
fn a_measurement_that_goes_on_is_open() {
    let known = ledgers([("split", open_ledger(drawn(&[("west", 0.7), ("east", 0.3)], 100, 1)))]);
    let check = check(Question::Split(question(&[("west", 70), ("east", 30)], 5000)));
    assert_eq!(
        progress(&check, &known, 9000 * MS),
        Progress::Undecided { look_again_at_us: None }
    );
}

/// Every n-th request fails.
fn with_failures(mut rows: Vec<Row>, every: usize) -> Vec<Row> {
    for row in rows.iter_mut().step_by(every) {
        row.result = failed("timeout");
    }
    rows
}

#[rstest]
#[case::some_fail(0.7, 100, Outcome::Inconclusive)]
#[case::wrong_whatever_they_were(0.6, 100, Outcome::Fail)]
#[case::wrong_only_if_they_were(0.65, 10, Outcome::Inconclusive)]
fn failed_requests_do_not_excuse_wrong_shares(#[case] west: f64, #[case] every: usize, #[case] expected: Outcome) {
    let rows = with_failures(drawn(&[("west", west), ("east", 1.0 - west)], 5000, 3), every);
    let judgement = judged(question(&[("west", 70), ("east", 30)], 5000), rows);
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    assert!(judgement.requests.contains(&"t-0".to_owned()));
}

#[test]
fn an_error_of_the_application_still_belongs_to_its_backend() {
    let mut rows = drawn(&[("west", 0.7), ("east", 0.3)], 5000, 3);
    for row in &mut rows {
        if let RequestResult::Answered(answered) = &mut row.result {
            answered.status = 500;
        }
    }
    assert_eq!(
        judged(question(&[("west", 70), ("east", 30)], 5000), rows).outcome,
        Outcome::Pass
    );
}

#[test]
fn requests_that_stick_to_a_server_are_inconclusive() {
    // The right shares, but every connection has one server for a hundred requests at a time.
    let mut draws = Draws(5);
    let mut clusters: Vec<&str> = vec![];
    for _ in 0..50 {
        clusters.extend([if draws.unit() < 0.7 { "west" } else { "east" }; 100]);
    }
    let mut rows = rows(clusters.into_iter().map(served));
    for row in &mut rows {
        row.connection = 0;
    }
    let judgement = judged(question(&[("west", 70), ("east", 30)], 5000), rows);
    assert_eq!(judgement.outcome, Outcome::Inconclusive, "{}", judgement.summary);
    assert!(
        judgement.summary.contains("not drawn one by one"),
        "{}",
        judgement.summary
    );
}

#[test]
fn connections_that_stick_to_a_server_are_inconclusive() {
    // 70 of 100 connections always go west; in the order of time the servers mix well.
    let mut rows = rows((0..5000).map(|i| served(if (i * 37) % 100 < 70 { "west" } else { "east" })));
    for (i, row) in rows.iter_mut().enumerate() {
        row.connection = ((i * 37) % 100) as u32;
    }
    let judgement = judged(question(&[("west", 70), ("east", 30)], 5000), rows);
    assert_eq!(judgement.outcome, Outcome::Inconclusive, "{}", judgement.summary);
}

#[rstest]
#[case::right(7, Outcome::Pass, "in rotation")]
#[case::wrong(5, Outcome::Fail, "west 2500")]
fn rotation_is_judged_by_its_shares(#[case] west_of_ten: usize, #[case] expected: Outcome, #[case] says: &str) {
    let turn = [9, 2, 7, 0, 5, 3, 8, 1, 6, 4];
    let mut rows = rows((0..5000).map(|i| served(if turn[i % 10] < west_of_ten { "west" } else { "east" })));
    for row in &mut rows {
        row.connection = 0;
    }
    let judgement = judged(question(&[("west", 70), ("east", 30)], 5000), rows);
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    assert!(judgement.summary.contains(says), "{}", judgement.summary);
}

#[test]
fn all_traffic_to_one_of_two_fails() {
    let judgement = judged(
        question(&[("west", 70), ("east", 30)], 5000),
        drawn(&[("west", 1.0)], 5000, 1),
    );
    assert_eq!(judgement.outcome, Outcome::Fail, "{}", judgement.summary);
}
