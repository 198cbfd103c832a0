//! All requests of a finished call.

use rstest::rstest;

use super::*;
use crate::question::{AnsweredPattern, FailsPattern, HeaderPattern, RequestPattern, RequestsQuestion};
use crate::reconcile::IdList;

fn question(every: RequestPattern) -> Question {
    Question::Requests(RequestsQuestion {
        ledger: "call".to_owned(),
        every,
    })
}

fn judged(every: RequestPattern, ledger: KnownLedger) -> Judgement {
    judge(
        &closed(check(question(every)), 100_000),
        &proven(),
        &ledgers([("call", ledger)]),
    )
}

fn answered(pattern: AnsweredPattern) -> RequestPattern {
    RequestPattern::Answered(pattern)
}

fn fails(pattern: FailsPattern) -> RequestPattern {
    RequestPattern::Fails(pattern)
}

fn by(clusters: &[&str]) -> AnsweredPattern {
    AnsweredPattern {
        status: vec![200],
        by: clusters.iter().map(|cluster| (*cluster).to_owned()).collect(),
        ..AnsweredPattern::default()
    }
}

fn by_mesh(status: u16) -> AnsweredPattern {
    AnsweredPattern {
        status: vec![status],
        by_mesh: true,
        ..AnsweredPattern::default()
    }
}

/// `e`ast, `w`est, `s`tale pod of east, proxy `5`04, `t`imeout, `c`losed, `r`efused, `n`ame, `x` stopped.
fn call(results: &str) -> Vec<Row> {
    rows(results.chars().map(|c| match c {
        'e' => served("east"),
        'w' => served("west"),
        's' => stale("east"),
        '5' => proxy_error(504),
        't' => failed("timeout"),
        'c' => failed("closed"),
        'r' => failed("refused"),
        'n' => failed("name"),
        _ => failed("stopped"),
    }))
}

#[rstest]
#[case::all_right("eee", by(&["east"]), Outcome::Pass, "")]
#[case::any_cluster("ewe", AnsweredPattern::default(), Outcome::Pass, "")]
#[case::both("eew", by(&["east", "west"]), Outcome::Pass, "")]
#[case::by_the_mesh("555", by_mesh(504), Outcome::Pass, "")]
#[case::by_the_mesh_otherwise("555", by_mesh(200), Outcome::Fail, "3 of 3 requests not: answered 504 by no server")]
#[case::not_by_the_mesh("eee", by_mesh(200), Outcome::Fail, "3 of 3 requests not: answered 200 by east")]
#[case::not_by_a_server("555", AnsweredPattern { status: vec![504], ..AnsweredPattern::default() }, Outcome::Fail, "by no server")]
#[case::one_idle("eee", by(&["east", "west"]), Outcome::Fail, "west served none of 3 requests")]
#[case::wrong_cluster("eew", by(&["east"]), Outcome::Fail, "1 of 3 requests not: answered 200 by west")]
#[case::stale("ese", by(&["east"]), Outcome::Fail, "a stale pod of another run")]
#[case::stale_is_named_first("tse", by(&["east"]), Outcome::Fail, "a stale pod of another run")]
#[case::proxy("e5", by(&["east"]), Outcome::Fail, "answered 504 by no server of this run (l5d-proxy-error: service in fail-fast)")]
#[case::timeout("et", by(&["east"]), Outcome::Fail, "timeout after 0.020 s")]
#[case::cut_off("ex", by(&["east"]), Outcome::Inconclusive, "1 of 2 requests cut off")]
#[case::cut_off_but_broken_anyway("xw", by(&["east"]), Outcome::Fail, "by west")]
#[case::nothing_sent("", by(&["east"]), Outcome::Inconclusive, "no request was sent")]
#[case::another_status("e", AnsweredPattern { status: vec![404], ..AnsweredPattern::default() }, Outcome::Fail, "answered 200")]
#[case::host("e", AnsweredPattern { host: Some("store".to_owned()), ..AnsweredPattern::default() }, Outcome::Pass, "")]
#[case::wrong_host("e", AnsweredPattern { host: Some("shop".to_owned()), ..AnsweredPattern::default() }, Outcome::Fail, "saw host store")]
#[case::protocol("e", AnsweredPattern { protocol: Some("http1".to_owned()), ..AnsweredPattern::default() }, Outcome::Pass, "")]
#[case::wrong_protocol("e", AnsweredPattern { protocol: Some("http2".to_owned()), ..AnsweredPattern::default() }, Outcome::Fail, "saw protocol http1")]
#[case::port("e", AnsweredPattern { port: Some(8080), ..AnsweredPattern::default() }, Outcome::Pass, "")]
#[case::wrong_port("e", AnsweredPattern { port: Some(9090), ..AnsweredPattern::default() }, Outcome::Fail, "saw port 8080")]
fn answers(#[case] results: &str, #[case] pattern: AnsweredPattern, #[case] expected: Outcome, #[case] says: &str) {
    let judgement = judged(answered(pattern), closed_ledger(call(results)));
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    assert!(judgement.summary.contains(says), "{}", judgement.summary);
}

#[rstest]
#[case(HeaderPattern::Equals("a".to_owned()), &["b", "a"], true)]
#[case(HeaderPattern::Equals("a".to_owned()), &["ab"], false)]
#[case(HeaderPattern::Equals("a".to_owned()), &[], false)]
#[case(HeaderPattern::Contains("a".to_owned()), &["xay"], true)]
#[case(HeaderPattern::Contains("a".to_owned()), &["xy"], false)]
#[case(HeaderPattern::Excludes("a".to_owned()), &["xy"], true)]
#[case(HeaderPattern::Excludes("a".to_owned()), &[], true)]
#[case(HeaderPattern::Excludes("a".to_owned()), &["xy", "xay"], false)]
#[case(HeaderPattern::Exists(true), &["x"], true)]
#[case(HeaderPattern::Exists(true), &[], false)]
#[case(HeaderPattern::Exists(false), &[], true)]
#[case(HeaderPattern::Exists(false), &["x"], false)]
fn headers(#[case] holds: HeaderPattern, #[case] values: &[&str], #[case] fits: bool) {
    let mut answer = served("east");
    if let RequestResult::Answered(answered) = &mut answer
        && !values.is_empty()
    {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        answered.seen.insert("l5d-client-id".to_owned(), values);
    }
    let pattern = AnsweredPattern {
        seen: BTreeMap::from([("L5D-Client-Id".to_owned(), holds)]),
        ..AnsweredPattern::default()
    };
    let judgement = judged(answered(pattern), closed_ledger(rows([answer])));
    assert_eq!(judgement.outcome == Outcome::Pass, fits, "{}", judgement.summary);
}

#[rstest]
#[case::any_way("5tcr", FailsPattern::default(), Outcome::Pass)]
#[case::never_sent("5tn", FailsPattern::default(), Outcome::Inconclusive)]
#[case::one_served("5e", FailsPattern::default(), Outcome::Fail)]
#[case::one_served_by_a_stale_pod("5s", FailsPattern::default(), Outcome::Fail)]
#[case::cut_off("5x", FailsPattern::default(), Outcome::Inconclusive)]
#[case::status("55", FailsPattern { status: vec![503, 504], ..FailsPattern::default() }, Outcome::Pass)]
#[case::wrong_status("55", FailsPattern { status: vec![503], ..FailsPattern::default() }, Outcome::Fail)]
#[case::no_status("5t", FailsPattern { status: vec![504], ..FailsPattern::default() }, Outcome::Fail)]
#[case::header("5", FailsPattern { header: Some("L5d-Proxy-Error".to_owned()), ..FailsPattern::default() }, Outcome::Pass)]
#[case::no_header("5", FailsPattern { header: Some("x-other".to_owned()), ..FailsPattern::default() }, Outcome::Fail)]
#[case::header_without_answer("t", FailsPattern { header: Some("l5d-proxy-error".to_owned()), ..FailsPattern::default() }, Outcome::Fail)]
#[case::fast("5", FailsPattern { faster_than_us: Some(20_000), ..FailsPattern::default() }, Outcome::Pass)]
#[case::too_slow("5", FailsPattern { faster_than_us: Some(19_999), ..FailsPattern::default() }, Outcome::Fail)]
#[case::nothing_sent("", FailsPattern::default(), Outcome::Inconclusive)]
fn failures(#[case] results: &str, #[case] pattern: FailsPattern, #[case] expected: Outcome) {
    let judgement = judged(fails(pattern), closed_ledger(call(results)));
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[rstest]
#[case::right(250, 500, Outcome::Pass)]
#[case::a_little_off(280, 500, Outcome::Pass)]
#[case::wrong(350, 500, Outcome::Fail)]
#[case::none_fails(0, 500, Outcome::Fail)]
#[case::all_fail(500, 500, Outcome::Fail)]
#[case::too_few_to_tell(5, 10, Outcome::Inconclusive)]
#[case::nobody_could_tell(10, 10, Outcome::Inconclusive)]
fn share_of_failures(#[case] failing: usize, #[case] requests: usize, #[case] expected: Outcome) {
    let results = "5".repeat(failing) + &"e".repeat(requests - failing);
    let pattern = FailsPattern {
        share: Some(0.5),
        ..FailsPattern::default()
    };
    let judgement = judged(fails(pattern), closed_ledger(call(&results)));
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[test]
fn requests_of_a_share_have_to_fail_as_asked() {
    let results = "5".repeat(250) + &"e".repeat(249) + "t";
    let pattern = FailsPattern {
        share: Some(0.5),
        status: vec![504],
        ..FailsPattern::default()
    };
    assert_eq!(
        judged(fails(pattern), closed_ledger(call(&results))).outcome,
        Outcome::Fail
    );
}

fn reconciled(results: &str, reconciliation: Option<Reconciliation>) -> KnownLedger {
    let mut ledger = closed_ledger(call(results));
    ledger.closed.as_mut().unwrap().reconciliation = reconciliation.map(Box::new);
    ledger
}

fn ids(id: &str) -> IdList {
    let mut ids = IdList::default();
    ids.add(id);
    ids
}

#[rstest]
#[case::refused("rrc5t", Some(Reconciliation::default()), Outcome::Pass)]
#[case::served("rre", Some(Reconciliation::default()), Outcome::Fail)]
#[case::served_by_a_stale_pod("rs", Some(Reconciliation::default()), Outcome::Fail)]
#[case::answer_lost("tt", Some(Reconciliation { reached: ids("t-1"), ..Reconciliation::default() }), Outcome::Fail)]
#[case::sent_twice("tt", Some(Reconciliation { unaccounted: ids("t-9"), ..Reconciliation::default() }), Outcome::Fail)]
#[case::servers_not_asked("rr", None, Outcome::Inconclusive)]
#[case::one_server_not_asked("rr", Some(Reconciliation { unread: vec!["east/shop/store-2".to_owned()], ..Reconciliation::default() }), Outcome::Inconclusive)]
#[case::name_unknown("rn", Some(Reconciliation::default()), Outcome::Inconclusive)]
#[case::cut_off("rx", Some(Reconciliation::default()), Outcome::Inconclusive)]
#[case::nothing_sent("", Some(Reconciliation::default()), Outcome::Inconclusive)]
fn refusals(#[case] results: &str, #[case] reconciliation: Option<Reconciliation>, #[case] expected: Outcome) {
    let judgement = judged(RequestPattern::Refused, reconciled(results, reconciliation));
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
}

#[test]
fn what_servers_saw_is_a_failure_also_when_only_the_ids_are_known() {
    let mut ledger = reconciled("tt", None);
    ledger.closed.as_mut().unwrap().unaccounted = vec!["t-1".to_owned()];
    let judgement = judged(RequestPattern::Refused, ledger);
    assert_eq!(
        (judgement.outcome, judgement.requests),
        (Outcome::Fail, vec!["t-1".to_owned()])
    );
}

#[test]
fn a_call_that_is_not_finished_is_open() {
    let known = ledgers([("call", open_ledger(call("ee")))]);
    let check = check(question(answered(by(&["east"]))));
    assert_eq!(
        progress(&check, &known, 9_000_000),
        Progress::Undecided { look_again_at_us: None }
    );
    assert_eq!(judge(&closed(check, 9000), &[], &known).outcome, Outcome::Inconclusive);
}

#[test]
fn a_ledger_that_lacks_rows_is_an_error() {
    let mut ledger = closed_ledger(call("eee"));
    ledger.rows.pop();
    assert_eq!(judged(answered(by(&["east"])), ledger).outcome, Outcome::Error);
}

#[test]
fn a_failure_names_at_most_twenty_requests_and_the_first_moment() {
    let judgement = judged(
        answered(by(&["east"])),
        closed_ledger(call(&("e".to_owned() + &"w".repeat(30)))),
    );
    assert_eq!(judgement.requests.len(), NAMED_REQUESTS);
    assert_eq!((judgement.requests[0].as_str(), judgement.at_us), ("t-1", 30 * MS));
    assert_eq!(
        (judgement.measures["requests"], judgement.measures["served_by_west"]),
        (31.0, 30.0)
    );
}

/// The rows say that the client was starved: what it lost accuses nobody, and `recheck` comes to the same.
#[rstest]
#[case::in_time(999, Outcome::Fail)]
#[case::late(2_270, Outcome::Inconclusive)]
fn a_client_that_was_late_itself_accuses_nobody(#[case] late_ms: u64, #[case] expected: Outcome) {
    let mut rows = call("eet");
    rows[1].started_us = rows[1].intended_us + late_ms * MS;
    let judgement = judged(answered(by(&["east"])), closed_ledger(rows));
    assert_eq!(judgement.outcome, expected);
    assert_eq!(
        judgement
            .summary
            .contains("was itself late: it started a request 2.3 s after it should have"),
        expected == Outcome::Inconclusive,
        "{}",
        judgement.summary
    );
}
