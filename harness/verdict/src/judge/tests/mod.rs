//! Good and bad histories for every judge. Times are in milliseconds of scenario time where a name says `ms`.

use crate::record::{CheckClosed, CheckOpened};
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::ledger::{Answered, RequestResult};
use crate::question::Timing;
use crate::reconcile::Reconciliation;

mod controls;
mod mtls;
mod observed;
mod progress;
mod requests;
mod serving;
mod split;

const MS: u64 = 1000;
const OPENED_MS: u64 = 1000;

/// A check that was opened at 1 s.
fn check(question: Question) -> CheckHistory {
    opened(3, "MC-TEST-001", "west → east", question, OPENED_MS * MS)
}

/// A check that was opened at a time, without name and controls.
fn opened(check: u32, requirement: &str, place: &str, question: Question, at_us: u64) -> CheckHistory {
    CheckHistory::new(
        at_us,
        CheckOpened {
            scenario: String::new(),
            check,
            line: 0,
            requirement: requirement.to_owned(),
            name: None,
            place: place.to_owned(),
            control: Vec::new(),
            question: Box::new(question),
            proves: None,
        },
    )
}

/// The same check, closed.
fn closed(mut check: CheckHistory, at_ms: u64) -> CheckHistory {
    check.closed = Some(At::new(
        at_ms * MS,
        CheckClosed {
            scenario: String::new(),
            check: check.opened.check,
            reason: CloseReason::Decided,
            rows: BTreeMap::new(),
            awake: Wakefulness::default(),
        },
    ));
    check
}

/// The same check with observations at times after it was opened.
fn seen(mut check: CheckHistory, observations: impl IntoIterator<Item = (u64, Observation)>) -> CheckHistory {
    let absolute = observations
        .into_iter()
        .map(|(after_ms, seen)| ((OPENED_MS + after_ms) * MS, seen));
    check.observations.extend(absolute);
    check
}

fn timing(within_ms: Option<u64>, then_for_ms: Option<u64>, never_for_ms: Option<u64>) -> Timing {
    Timing {
        within_us: within_ms.map(|ms| ms * MS),
        then_for_us: then_for_ms.map(|ms| ms * MS),
        never_for_us: never_for_ms.map(|ms| ms * MS),
    }
}

fn service(name: &str, port: u64) -> Value {
    json!({
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"ports": [{"port": port}]},
    })
}

fn blind() -> Observation {
    Observation::Blind {
        reason: "watch broken".to_owned(),
    }
}

/// A request of 20 ms.
fn row(number: u64, intended_ms: u64, result: RequestResult) -> Row {
    Row {
        id: format!("t-{number}"),
        intended_us: intended_ms * MS,
        started_us: intended_ms * MS,
        ended_us: (intended_ms + 20) * MS,
        client: "west/shop/shopper-1".to_owned(),
        connection: (number % 4) as u32,
        result,
    }
}

fn served(cluster: &str) -> RequestResult {
    RequestResult::Answered(Answered {
        status: 200,
        cluster: Some(cluster.to_owned()),
        pod: Some(format!("store-{cluster}-1")),
        nonce_matches: true,
        host: Some("store".to_owned()),
        protocol: Some("http1".to_owned()),
        port: Some(8080),
        ..Answered::default()
    })
}

fn stale(cluster: &str) -> RequestResult {
    match served(cluster) {
        RequestResult::Answered(answered) => RequestResult::Answered(Answered {
            nonce_matches: false,
            ..answered
        }),
        failed @ RequestResult::Failed { .. } => failed,
    }
}

/// An answer that a proxy made.
fn proxy_error(status: u16) -> RequestResult {
    RequestResult::Answered(Answered {
        status,
        error_headers: BTreeMap::from([("l5d-proxy-error".to_owned(), "service in fail-fast".to_owned())]),
        ..Answered::default()
    })
}

fn failed(kind: &str) -> RequestResult {
    RequestResult::Failed {
        kind: kind.to_owned(),
        detail: "as told".to_owned(),
    }
}

/// Requests 10 ms apart, from time 0.
fn rows(results: impl IntoIterator<Item = RequestResult>) -> Vec<Row> {
    results
        .into_iter()
        .enumerate()
        .map(|(i, result)| row(i as u64, i as u64 * 10, result))
        .collect()
}

fn times(count: usize, result: &RequestResult) -> Vec<RequestResult> {
    vec![result.clone(); count]
}

/// A ledger that was closed after its last row, with nothing unusual in the servers' ledgers.
fn closed_ledger(rows: Vec<Row>) -> KnownLedger {
    let at_us = rows.iter().map(|row| row.ended_us).max().unwrap_or(0);
    KnownLedger {
        closed: Some(end_of_ledger(at_us, &rows)),
        rows,
    }
}

fn end_of_ledger(at_us: u64, rows: &[Row]) -> At<LedgerClosed> {
    At::new(
        at_us,
        LedgerClosed {
            scenario: String::new(),
            ledger: String::new(),
            rows: rows.len() as u64,
            sha256: String::new(),
            unaccounted: Vec::new(),
            max_late_us: 0,
            reconciliation: Some(Box::default()),
        },
    )
}

fn open_ledger(rows: Vec<Row>) -> KnownLedger {
    KnownLedger { rows, closed: None }
}

fn ledgers<const N: usize>(known: [(&str, KnownLedger); N]) -> LedgerSet {
    LedgerSet(
        known
            .into_iter()
            .map(|(name, ledger)| (name.to_owned(), ledger))
            .collect(),
    )
}

fn no_ledgers() -> LedgerSet {
    LedgerSet::default()
}

/// Controls that passed, so that negatives can.
fn proven() -> Vec<ControlOutcome> {
    vec![ControlOutcome {
        name: "control".to_owned(),
        passed: true,
        brackets: true,
        note: String::new(),
    }]
}
