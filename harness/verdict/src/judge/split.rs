//! Shares of a split, from one measurement whose size was fixed beforehand.
//!
//! # Order of the decision
//! 1. An answer of a stale pod, of a cluster that is no backend, or of a backend with weight 0 fails: no share excuses it.
//! 2. Too few or too many requests, or fewer than the stated difference needs: inconclusive.
//! 3. Requests that no server answered belong to no backend. They are given to the backends in the way that is best for
//!    the mesh: if the shares are wrong even then, it fails; otherwise the measurement is inconclusive, because a split is
//!    only defined while all backends are ready.
//! 4. Neighbours that resemble each other (too few runs at [`DEPENDENCE_ALPHA`], requests taken connection by connection)
//!    make counts vary more than drawn ones do, so that a small p-value means little: inconclusive. Neighbours that avoid
//!    each other (rotation) make counts vary less: both answers stay right, and the judgement mentions it.
//! 5. Otherwise the test of [`crate::statistics::multinomial`] decides at the question's α.

use std::collections::BTreeMap;

use super::request_pattern::{is_of_this_run, outcome};
use super::wording::{counted, number};
use super::{Assessment, Context, Finding, SeenLedger};
use crate::ledger::Row;
use crate::question::SplitQuestion;
use crate::record::Outcome;
use crate::statistics::binomial::interval;
use crate::statistics::multinomial::p_value;
use crate::statistics::power::{POWER, power_of};
use crate::statistics::runs::runs_test;

/// Probability with which requests that are drawn independently look dependent (for each backend and direction).
pub(crate) const DEPENDENCE_ALPHA: f64 = 1e-6;

/// Confidence of the reported intervals.
const CONFIDENCE: f64 = 0.999;

pub(crate) fn expectation(question: &SplitQuestion) -> String {
    let weights: Vec<String> = question
        .weights
        .iter()
        .map(|(cluster, weight)| format!("{cluster} {weight}"))
        .collect();
    format!(
        "shares of {} in {} (α = {:e}, differences of {} points are noticed)",
        weights.join(" : "),
        counted(question.requests, "request"),
        question.alpha,
        number(question.detect_points)
    )
}

pub(crate) fn assess(question: &SplitQuestion, context: &Context<'_>) -> Assessment {
    let Some(ledger) = context.ledger(&question.ledger) else {
        return Assessment::open(format!("there is no ledger `{}`", question.ledger));
    };
    let known = ledger.rows.len() as u64;
    if ledger.closed.is_none() && known < question.requests {
        return Assessment::open(format!("{known} of {} requests have an outcome", question.requests));
    }
    Assessment::settled(Split::new(question, &ledger).judge())
}

struct Split<'a> {
    question: &'a SplitQuestion,
    rows: &'a [&'a Row],
    /// Requests that each cluster answered.
    counts: BTreeMap<&'a str, u64>,
    /// Requests that no server answered.
    unserved: Vec<&'a Row>,
}

impl<'a> Split<'a> {
    fn new(question: &'a SplitQuestion, ledger: &'a SeenLedger<'a>) -> Self {
        let mut counts: BTreeMap<&str, u64> = question.weights.keys().map(|cluster| (cluster.as_str(), 0)).collect();
        let mut unserved = Vec::new();
        for row in &ledger.rows {
            match row.served_by() {
                Some(cluster) => *counts.entry(cluster).or_default() += 1,
                None => unserved.push(*row),
            }
        }
        Self {
            question,
            rows: &ledger.rows,
            counts,
            unserved,
        }
    }

    fn judge(&self) -> Finding {
        if let Some(found) = self.stray() {
            return found;
        }
        if let Some(why) = self.too_thin() {
            return self.finding(Outcome::Inconclusive, why);
        }
        let served: Vec<(&str, u32)> = self
            .question
            .weights
            .iter()
            .filter(|(_, weight)| **weight > 0)
            .map(|(cluster, weight)| (cluster.as_str(), *weight))
            .collect();
        let total: f64 = served.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let shares: Vec<f64> = served.iter().map(|(_, weight)| f64::from(*weight) / total).collect();
        let mut counts: Vec<u64> = served
            .iter()
            .map(|(cluster, _)| self.counts.get(cluster).copied().unwrap_or(0))
            .collect();
        give_to_the_neediest(&mut counts, &shares, self.unserved.len() as u64);
        let (p, method) = p_value(&counts, &shares);
        let wrong = p < self.question.alpha;
        let dependence = self.dependence(&served);
        let said = format!("{} (p = {p:.3e}, {method})", self.shares());
        let (outcome, happened) = match (wrong, &dependence) {
            (_, Dependence::Sticky(cluster)) => (
                Outcome::Inconclusive,
                format!("{said}, but requests are not drawn one by one: neighbours go to {cluster} together"),
            ),
            (true, _) => (
                Outcome::Fail,
                self.with_unserved(said, "whichever backends they went to"),
            ),
            (false, _) if !self.unserved.is_empty() => (
                Outcome::Inconclusive,
                self.with_unserved(said, "so that the shares are of the others only"),
            ),
            (false, Dependence::Rotating(cluster)) => (
                Outcome::Pass,
                format!("{said}; not drawn but in rotation (seen at {cluster})"),
            ),
            (false, Dependence::None) => (Outcome::Pass, said),
        };
        let found = self.finding(outcome, happened).measure("p_value", p);
        if self.unserved.is_empty() {
            found
        } else {
            found.requests(self.unserved.iter().map(|row| row.id.as_str()))
        }
    }

    fn with_unserved(&self, said: String, meaning: &str) -> String {
        match self.unserved.first() {
            None => said,
            Some(first) => {
                let failed = counted(self.unserved.len() as u64, "request");
                format!("{said}; {failed} not served, {meaning}, the first: {}", outcome(first))
            }
        }
    }

    /// Requests that were served by somebody who must not serve at all.
    fn stray(&self) -> Option<Finding> {
        let wrong = |row: &&&Row| -> bool {
            let weight = row
                .served_by()
                .map(|cluster| self.question.weights.get(cluster).copied().unwrap_or(0));
            weight == Some(0) || !is_of_this_run(row)
        };
        let strays: Vec<&&Row> = self.rows.iter().filter(wrong).collect();
        let first = strays.iter().min_by_key(|row| row.ended_us)?;
        let happened = format!(
            "{} served by what has no share: {}",
            counted(strays.len() as u64, "request"),
            outcome(first)
        );
        let found = Finding {
            at_us: first.ended_us,
            ..self.finding(Outcome::Fail, happened)
        };
        Some(found.requests(strays.iter().map(|row| row.id.as_str())))
    }

    /// Why the measurement can't tell, if it can't.
    fn too_thin(&self) -> Option<String> {
        let (planned, known) = (self.question.requests, self.rows.len() as u64);
        if known != planned {
            return Some(format!("{known} requests were made, {planned} were planned"));
        }
        if planned == 0 {
            return Some("no request was made".to_owned());
        }
        match power_of(
            &self.question.weights,
            planned,
            self.question.detect_points,
            self.question.alpha,
        ) {
            Ok(power) if power < POWER => Some(format!(
                "{} notice {} points only with probability {power:.3}, {POWER} is required",
                counted(planned, "request"),
                number(self.question.detect_points)
            )),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    /// Served requests, connection by connection.
    fn by_connection(&self) -> Vec<&'a Row> {
        let mut rows: Vec<&Row> = self
            .rows
            .iter()
            .copied()
            .filter(|row| row.served_by().is_some())
            .collect();
        rows.sort_by_key(|row| (row.client.as_str(), row.connection, row.started_us, row.intended_us));
        rows
    }

    /// Whether neighbours on the same connection resemble or avoid each other.
    fn dependence(&self, served: &[(&'a str, u32)]) -> Dependence<'a> {
        let mut rows: Vec<&Row> = self
            .rows
            .iter()
            .copied()
            .filter(|row| row.served_by().is_some())
            .collect();
        rows.sort_by_key(|row| (row.client.as_str(), row.connection, row.started_us, row.intended_us));
        let mut rotating = Dependence::None;
        for (cluster, _) in served {
            let sequence = rows.iter().map(|row| row.served_by() == Some(*cluster));
            match runs_test(sequence) {
                Some(test) if test.too_few_p < DEPENDENCE_ALPHA => return Dependence::Sticky(cluster),
                Some(test) if test.too_many_p < DEPENDENCE_ALPHA => rotating = Dependence::Rotating(cluster),
                _ => {}
            }
        }
        rotating
    }

    /// Counts and shares in words.
    fn shares(&self) -> String {
        let n = self.rows.len().max(1) as f64;
        let parts: Vec<String> = self
            .counts
            .iter()
            .map(|(cluster, count)| format!("{cluster} {count} = {:.2} %", *count as f64 / n * 100.0))
            .collect();
        format!("{} of {}", parts.join(", "), self.rows.len())
    }

    fn finding(&self, outcome: Outcome, happened: String) -> Finding {
        let n = self.rows.len() as u64;
        let last_us = self.rows.iter().map(|row| row.ended_us).max().unwrap_or(0);
        let mut found = Finding::new(outcome, last_us, happened)
            .measure("requests", n as f64)
            .measure("planned", self.question.requests as f64)
            .measure("unserved", self.unserved.len() as f64)
            .measure("alpha", self.question.alpha)
            .measure("confidence", CONFIDENCE);
        if let Ok(power) = power_of(
            &self.question.weights,
            self.question.requests,
            self.question.detect_points,
            self.question.alpha,
        ) {
            found = found.measure("power", power);
        }
        for (cluster, count) in &self.counts {
            let (low, high) = interval(n, *count, CONFIDENCE);
            found = found
                .measure(&format!("served_by_{cluster}"), *count as f64)
                .measure(&format!("share_{cluster}"), *count as f64 / n.max(1) as f64)
                .measure(&format!("share_low_{cluster}"), low)
                .measure(&format!("share_high_{cluster}"), high);
        }
        let drawn = self.by_connection();
        let first = drawn.first().and_then(|row| row.served_by());
        if let Some(test) = runs_test(drawn.iter().map(|row| row.served_by() == first)) {
            found = found
                .measure("runs", test.runs as f64)
                .measure("runs_expected", test.expected);
        }
        let shares = self.shares();
        found.observed(shares)
    }
}

enum Dependence<'a> {
    None,
    Sticky(&'a str),
    Rotating(&'a str),
}

/// Gives requests of unknown backends one by one to the backend that lacks most, which makes the G statistic smallest.
fn give_to_the_neediest(counts: &mut [u64], shares: &[f64], unknown: u64) {
    // By how much one more raises `count · ln(count / share)`.
    let cost = |count: u64, share: f64| {
        let part = |c: u64| {
            if c == 0 {
                0.0
            } else {
                c as f64 * (c as f64 / share).ln()
            }
        };
        part(count + 1) - part(count)
    };
    for _ in 0..unknown {
        let cheapest =
            (0..counts.len()).min_by(|a, b| cost(counts[*a], shares[*a]).total_cmp(&cost(counts[*b], shares[*b])));
        if let Some(index) = cheapest {
            counts[index] += 1;
        }
    }
}
