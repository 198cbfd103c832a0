//! Whether all requests of a ledger were refused: no server of ours saw one.
//!
//! What a client is told does not prove that: an answer can be lost on its way back. So
//! * an answer of a server, or a request in a server's ledger that no answered row accounts for, is a failure;
//! * a refused or closed connection, a proxy's own error and a timeout count as refused when the ledgers of *all* servers
//!   were read and none has the request. Without that comparison nothing is proven: inconclusive;
//! * a request that was never sent proves nothing: a name that did not resolve (`name`), or one that the harness cut off
//!   (`stopped`). One of those makes the whole ledger inconclusive.

use super::request_pattern::{failure_kind, outcome};
use super::wording::{counted, list};
use super::{Finding, SeenLedger};
use crate::ledger::Row;
use crate::record::Outcome;

/// Judges a closed ledger that has rows.
pub(crate) fn refusal(ledger: &SeenLedger<'_>) -> Finding {
    let rows = &ledger.rows;
    let last_us = rows.iter().map(|row| row.ended_us).max().unwrap_or(0);
    let count = |kind: &str| rows.iter().filter(|row| failure_kind(row) == Some(kind)).count() as f64;
    let finding = |outcome: Outcome, at_us: u64, happened: String| {
        Finding::new(outcome, at_us, happened)
            .measure("requests", rows.len() as f64)
            .measure("timeouts", count("timeout"))
    };

    let served: Vec<&&Row> = rows.iter().filter(|row| row.served_by().is_some()).collect();
    if let Some(first) = served.iter().min_by_key(|row| row.ended_us) {
        let happened = format!(
            "{} of {} served: {}",
            served.len(),
            counted(rows.len() as u64, "request"),
            outcome(first)
        );
        return finding(Outcome::Fail, first.ended_us, happened).requests(served.iter().map(|row| row.id.as_str()));
    }
    let Some(closed) = ledger.closed else {
        return finding(Outcome::Inconclusive, last_us, "the ledger was not complete".to_owned());
    };
    let mut arrived: Vec<&str> = closed.unaccounted.iter().map(String::as_str).collect();
    if let Some(reconciliation) = &closed.reconciliation {
        let lists = [
            &reconciliation.reached,
            &reconciliation.unaccounted,
            &reconciliation.misrouted,
        ];
        arrived.extend(lists.iter().flat_map(|list| &list.ids).map(String::as_str));
        arrived.sort_unstable();
        arrived.dedup();
    }
    if !arrived.is_empty() {
        let happened = format!(
            "servers saw {} although the client got no answer of theirs: {}",
            counted(arrived.len() as u64, "request"),
            list(arrived.iter().copied())
        );
        return finding(Outcome::Fail, last_us, happened).requests(arrived);
    }
    let unproven = |why: String| finding(Outcome::Inconclusive, last_us, why);
    let Some(reconciliation) = &closed.reconciliation else {
        return unproven("the ledgers of the servers were not read, so that nobody knows what arrived".to_owned());
    };
    if !reconciliation.unread.is_empty() {
        let unread = list(reconciliation.unread.iter().map(String::as_str));
        return unproven(format!(
            "these servers' ledgers could not be read, so that nobody knows what arrived: {unread}"
        ));
    }
    if let Some(row) = rows
        .iter()
        .find(|row| matches!(failure_kind(row), Some("name" | "stopped")))
    {
        return unproven(format!("request {} was not sent to its end: {}", row.id, outcome(row)));
    }
    let kinds = match rows.first() {
        Some(first) => format!(", e.g. {}", outcome(first)),
        None => String::new(),
    };
    finding(
        Outcome::Pass,
        last_us,
        format!(
            "none of {} reached a server{kinds}",
            counted(rows.len() as u64, "request")
        ),
    )
}
