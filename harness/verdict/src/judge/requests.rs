//! All requests of a finished call.

use super::refusal::refusal;
use super::request_pattern::{
    answered_as, expected_answer, expected_failure, failed_as, failure_kind, is_of_this_run, is_stopped, outcome,
    served_well,
};
use super::wording::{counted, number};
use super::{Assessment, Context, Finding, SeenLedger};
use crate::ledger::Row;
use crate::question::{ALPHA, AnsweredPattern, FailsPattern, RequestPattern, RequestsQuestion};
use crate::record::Outcome;
use crate::statistics::binomial::two_sided_p;

pub(crate) fn expectation(question: &RequestsQuestion) -> String {
    let what = match &question.every {
        RequestPattern::Answered(pattern) => format!("is {}", expected_answer(pattern)),
        RequestPattern::Fails(pattern) => match pattern.share {
            Some(_) => format!("is right: {}", expected_failure(pattern)),
            None => expected_failure(pattern),
        },
        RequestPattern::Refused => "is refused, none reaches a server".to_owned(),
    };
    format!("every request of `{}` {what}", question.ledger)
}

pub(crate) fn assess(question: &RequestsQuestion, context: &Context<'_>) -> Assessment {
    let Some(ledger) = context.ledger(&question.ledger) else {
        return Assessment::open(format!("there is no ledger `{}`", question.ledger));
    };
    let Some(closed) = ledger.closed else {
        return Assessment::open(format!("the call is not finished ({} rows)", ledger.rows.len()));
    };
    let known = ledger.rows.len() as u64;
    if known < closed.rows {
        let happened = format!("the ledger has {known} of its {} rows", closed.rows);
        return Assessment::settled(Finding::new(Outcome::Error, closed.at_us, happened));
    }
    if ledger.rows.is_empty() {
        let found = Finding::new(Outcome::Inconclusive, closed.at_us, "no request was sent");
        return Assessment::settled(found.measure("requests", 0.0));
    }
    Assessment::settled(match &question.every {
        RequestPattern::Answered(pattern) => answered(pattern, &ledger),
        RequestPattern::Fails(pattern) => fails(pattern, &ledger),
        RequestPattern::Refused => refusal(&ledger),
    })
}

fn answered(pattern: &AnsweredPattern, ledger: &SeenLedger<'_>) -> Finding {
    if let Some(found) = misfits(ledger, |row| answered_as(pattern, row)) {
        return found;
    }
    let by = |cluster: &String| ledger.rows.iter().any(|row| row.served_by() == Some(cluster.as_str()));
    if let Some(idle) = pattern.by.iter().find(|cluster| !by(cluster)) {
        let happened = format!("{idle} served none of {}", counted(ledger.rows.len() as u64, "request"));
        return summed(Outcome::Fail, ledger, happened);
    }
    let example = ledger.rows.first().map(|row| outcome(row)).unwrap_or_default();
    summed(
        Outcome::Pass,
        ledger,
        format!(
            "all {} were, e.g. {example}",
            counted(ledger.rows.len() as u64, "request")
        ),
    )
}

fn fails(pattern: &FailsPattern, ledger: &SeenLedger<'_>) -> Finding {
    if let Some(share) = pattern.share {
        return share_of_failures(pattern, share, &ledger.rows);
    }
    if let Some(found) = misfits(ledger, |row| failed_as(pattern, row)) {
        return found;
    }
    // A name that does not resolve says nothing about what would have become of the request.
    if let Some(row) = ledger.rows.iter().find(|row| failure_kind(row) == Some("name")) {
        let happened = format!("request {} was never sent: {}", row.id, outcome(row));
        return summed(Outcome::Inconclusive, ledger, happened).requests([row.id.as_str()]);
    }
    let example = ledger.rows.first().map(|row| outcome(row)).unwrap_or_default();
    summed(
        Outcome::Pass,
        ledger,
        format!(
            "all {} did, e.g. {example}",
            counted(ledger.rows.len() as u64, "request")
        ),
    )
}

/// The finding about requests that do not fit, or whose outcome is not known; nothing when all fit.
fn misfits(ledger: &SeenLedger<'_>, fits: impl Fn(&Row) -> Result<(), String>) -> Option<Finding> {
    let sent = counted(ledger.rows.len() as u64, "request");
    let misfits: Vec<(&Row, String)> = ledger
        .rows
        .iter()
        .filter(|row| !is_stopped(row))
        .filter_map(|row| fits(row).err().map(|why| (*row, why)))
        .collect();
    // A stale pod explains most other oddities: name it first.
    let first = misfits
        .iter()
        .find(|(row, _)| !is_of_this_run(row))
        .or_else(|| misfits.iter().min_by_key(|(row, _)| row.ended_us));
    if let Some((row, why)) = first {
        let happened = format!("{} of {sent} not: {why}", misfits.len());
        let found = Finding {
            at_us: row.ended_us,
            ..summed(Outcome::Fail, ledger, happened)
        };
        return Some(found.requests(misfits.iter().map(|(row, _)| row.id.as_str())));
    }
    let cut: Vec<&str> = ledger
        .rows
        .iter()
        .filter(|row| is_stopped(row))
        .map(|row| row.id.as_str())
        .collect();
    if cut.is_empty() {
        return None;
    }
    let happened = format!("{} of {sent} cut off before their outcome was known", cut.len());
    Some(summed(Outcome::Inconclusive, ledger, happened).requests(cut))
}

fn summed(outcome: Outcome, ledger: &SeenLedger<'_>, happened: String) -> Finding {
    let last_us = ledger.rows.iter().map(|row| row.ended_us).max().unwrap_or(0);
    Finding::new(outcome, last_us, happened).measures(tally(&ledger.rows))
}

/// How many requests there were, how many did not succeed, and who served.
pub(crate) fn tally(rows: &[&Row]) -> Vec<(String, f64)> {
    let mut measures = std::collections::BTreeMap::new();
    measures.insert("requests".to_owned(), rows.len() as f64);
    measures.insert(
        "unsuccessful".to_owned(),
        rows.iter().filter(|row| !served_well(row)).count() as f64,
    );
    for row in rows {
        if let Some(cluster) = row.served_by() {
            *measures.entry(format!("served_by_{cluster}")).or_insert(0.0) += 1.0;
        }
    }
    measures.into_iter().collect()
}

/// Tests the share of requests that fail, exactly. Those that fail have to fail as the pattern says. Inconclusive when
/// there are so few requests that no outcome could contradict the share.
pub(crate) fn share_of_failures(pattern: &FailsPattern, share: f64, rows: &[&Row]) -> Finding {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| !is_stopped(row)).collect();
    let last_us = rows.iter().map(|row| row.ended_us).max().unwrap_or(0);
    let failed: Vec<&Row> = rows.iter().copied().filter(|row| !served_well(row)).collect();
    let (n, k) = (rows.len() as u64, failed.len() as u64);
    let finding = |outcome: Outcome, happened: String| {
        Finding::new(outcome, last_us, happened)
            .measures(tally(&rows))
            .measure("share", if n == 0 { 0.0 } else { k as f64 / n as f64 })
            .measure("p_value", two_sided_p(n, k, share))
            .measure("alpha", ALPHA)
            .requests(failed.iter().map(|row| row.id.as_str()))
    };
    if !(0.0..=1.0).contains(&share) {
        return finding(
            Outcome::Error,
            format!("a share of {share} makes no sense; it lies between 0 and 1"),
        );
    }
    if let Some((row, why)) = failed
        .iter()
        .find_map(|row| failed_as(pattern, row).err().map(|why| (row, why)))
    {
        let found = finding(
            Outcome::Fail,
            format!("request {} failed in another way: {why}", row.id),
        );
        return Finding {
            at_us: row.ended_us,
            ..found
        };
    }
    if two_sided_p(n, 0, share) >= ALPHA && two_sided_p(n, n, share) >= ALPHA {
        let happened = format!("{} can't tell a share of {}", counted(n, "request"), number(share));
        return finding(Outcome::Inconclusive, happened);
    }
    let p = two_sided_p(n, k, share);
    let outcome = if p < ALPHA { Outcome::Fail } else { Outcome::Pass };
    finding(
        outcome,
        format!("{k} of {} failed (p = {p:.3e})", counted(n, "request")),
    )
}
