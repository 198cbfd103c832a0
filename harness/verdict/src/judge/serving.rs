//! Background traffic, while it goes on.
//!
//! # What is looked at
//! Requests in the order of their *intended* times, and only as far as all of them have an outcome: the newest row is
//! no evidence while an earlier request still hangs. Traffic is sent at a fixed rate, so that a request without an
//! outcome shows as a gap between intended times ([`settled_until`]). Requests that the harness cut off (`stopped`) have
//! no outcome; a pass does not rest on a time with one of them.
//!
//! # When a pattern has become true
//! At the intended time `R` of the first request from which [`STEADY`] requests in a row are as the pattern says (for
//! `each`: [`EACH_OF`], and none of the clusters is missing in any [`EACH_OF`] in a row). `R` may lie before the check was
//! opened, but not before the last disturbance. It must be no later than opened + within; without *within*, the first
//! request after the check was opened must belong to it. It must hold up to the first request that was intended
//! *then for* after `R` or after the check was opened, whichever is later. What breaks until opened + within may begin
//! anew; what breaks after that has failed.
//!
//! # Never
//! *never for* is the opposite of *once*: from the check's opening to the end of its time, both included, no single request
//! is as the pattern says. It passes only when a request that was intended at the end or later has an outcome, and none of
//! those in between was cut off.
//!
//! # Lost requests
//! A request is lost when no server of this run answered it with success. They are counted from the last disturbance on:
//! before `R` they must be no more than allowed, and behind it there is none.

use std::collections::BTreeMap;

use super::request_pattern::{
    answered_as, expected_answer, expected_failure, failed_as, is_stopped, outcome, served_well,
};
use super::requests::{share_of_failures, tally};
use super::wording::{self, counted, seconds};
use super::{Assessment, Context, Finding, OUTCOME_GRACE_US, SeenLedger};
use crate::ledger::Row;
use crate::question::{FailsPattern, ServingPattern, ServingQuestion};
use crate::record::Outcome;

/// Requests in a row that must be as the pattern says before it counts as true.
pub(crate) const STEADY: usize = 20;

/// Requests in a row among which each cluster must serve at least one.
pub(crate) const EACH_OF: usize = 100;

pub(crate) fn expectation(question: &ServingQuestion) -> String {
    let what = match &question.pattern {
        ServingPattern::Only(clusters) => format!("is served by {} and no others", clusters.join(" and ")),
        ServingPattern::Each(clusters) => format!("is served by each of {} and no others", clusters.join(", ")),
        ServingPattern::Lossless => "loses no request".to_owned(),
        ServingPattern::Fails(pattern) => expected_failure(pattern),
        ServingPattern::Answered(pattern) => format!("is {}", expected_answer(pattern)),
        ServingPattern::Refused => "is served by nobody".to_owned(),
    };
    let lost = question
        .lost_at_most
        .map(|lost| format!(", losing at most {lost}"))
        .unwrap_or_default();
    format!(
        "traffic `{}` {what}{}{lost}",
        question.ledger,
        wording::timing(&question.timing)
    )
}

pub(crate) fn assess(question: &ServingQuestion, context: &Context<'_>) -> Assessment {
    let timing = &question.timing;
    if timing.never_for_us.is_some() && (timing.within_us.is_some() || timing.then_for_us.is_some()) {
        let contradiction = "the question asks for `never for` together with `within` or `then for`; ask two questions";
        return Assessment::settled(Finding::new(Outcome::Error, context.check.opened.at_us, contradiction));
    }
    let of_many = match &question.pattern {
        ServingPattern::Lossless | ServingPattern::Each(_) => true,
        ServingPattern::Fails(pattern) => pattern.share.is_some(),
        ServingPattern::Only(_) | ServingPattern::Answered(_) | ServingPattern::Refused => false,
    };
    if timing.never_for_us.is_some() && of_many {
        let senseless = "the question asks for `never for` of something that no single request can be";
        return Assessment::settled(Finding::new(Outcome::Error, context.check.opened.at_us, senseless));
    }
    let Some(ledger) = context.ledger(&question.ledger) else {
        return Assessment::open(format!("there is no ledger `{}`", question.ledger));
    };
    let judge = Serving::new(question, context, &ledger);
    match &question.pattern {
        ServingPattern::Lossless => judge.lossless(),
        ServingPattern::Fails(pattern @ FailsPattern { share: Some(share), .. }) => judge.share(pattern, *share),
        _ if timing.never_for_us.is_some() => judge.never(),
        _ => judge.steady(),
    }
}

/// Last intended time up to which every request has an outcome, as far as the rhythm of intended times tells.
///
/// For each client the usual distance of two intended times is the one that only a tenth of all distances fall short of;
/// the first distance of more than one and a half times that is a request without an outcome.
fn settled_until(rows: &[&Row]) -> Option<u64> {
    let mut by_client: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for row in rows {
        by_client.entry(&row.client).or_default().push(row.intended_us);
    }
    let settled = by_client.into_values().filter_map(|mut times| {
        times.sort_unstable();
        times.dedup();
        let mut distances: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        distances.sort_unstable();
        let Some(usual_us) = distances.get(distances.len() / 10).copied() else {
            return times.last().copied();
        };
        let gap = times
            .windows(2)
            .find(|pair| pair[1].saturating_sub(pair[0]) > usual_us.saturating_add(usual_us / 2));
        gap.map(|pair| pair[0]).or(times.last().copied())
    });
    settled.min()
}

struct Serving<'a> {
    question: &'a ServingQuestion,
    opened_us: u64,
    now_us: u64,
    /// Nothing that ends later is waited for.
    give_up_us: u64,
    /// No further request will follow.
    ended: bool,
    /// Requests whose outcomes are known without a gap, by intended time, without those that were cut off.
    rows: Vec<&'a Row>,
    /// Requests that were cut off.
    stopped: Vec<&'a Row>,
    /// Requests that servers saw more than once, once that is known.
    duplicated: Option<u64>,
}

impl<'a> Serving<'a> {
    fn new(question: &'a ServingQuestion, context: &Context<'_>, ledger: &SeenLedger<'a>) -> Self {
        let timing = &question.timing;
        let opened_us = context.check.opened.at_us;
        let spans = [timing.within_us, timing.then_for_us, timing.never_for_us];
        let give_up_us = spans
            .into_iter()
            .flatten()
            .fold(opened_us, u64::saturating_add)
            .saturating_add(OUTCOME_GRACE_US);
        let mut rows: Vec<&Row> = ledger
            .rows
            .iter()
            .copied()
            .filter(|row| row.ended_us <= give_up_us)
            .collect();
        rows.sort_by_key(|row| (row.intended_us, row.started_us, row.id.as_str()));
        if ledger.closed.is_none() {
            let settled_us = settled_until(&rows).unwrap_or(0);
            rows.retain(|row| row.intended_us <= settled_us);
        }
        let (stopped, rows) = rows.into_iter().partition(|row| is_stopped(row));
        Self {
            question,
            opened_us,
            now_us: context.now_us,
            give_up_us,
            ended: ledger.closed.is_some(),
            rows,
            stopped,
            duplicated: ledger
                .closed
                .and_then(|closed| closed.reconciliation.as_ref())
                .map(|reconciliation| reconciliation.duplicated.count),
        }
    }

    /// How one request must be.
    fn fits(&self, row: &Row) -> Result<(), String> {
        match &self.question.pattern {
            ServingPattern::Only(clusters) | ServingPattern::Each(clusters) => {
                let right = row
                    .served_by()
                    .is_some_and(|by| clusters.iter().any(|cluster| cluster == by));
                if right && served_well(row) {
                    Ok(())
                } else {
                    Err(outcome(row))
                }
            }
            ServingPattern::Lossless => {
                if served_well(row) {
                    Ok(())
                } else {
                    Err(outcome(row))
                }
            }
            ServingPattern::Fails(pattern) => failed_as(pattern, row),
            ServingPattern::Answered(pattern) => answered_as(pattern, row),
            ServingPattern::Refused => match row.served_by() {
                Some(_) => Err(outcome(row)),
                None => Ok(()),
            },
        }
    }

    /// Requests that count: from the last disturbance, or for what must be so "since the check was opened" from then.
    fn counted_from_us(&self) -> u64 {
        match &self.question.pattern {
            ServingPattern::Only(_) | ServingPattern::Each(_) | ServingPattern::Answered(_) => self.question.since_us,
            ServingPattern::Lossless => 0,
            ServingPattern::Fails(_) | ServingPattern::Refused => self.opened_us,
        }
    }

    fn in_a_row(&self) -> usize {
        if matches!(self.question.pattern, ServingPattern::Each(_)) {
            EACH_OF
        } else {
            STEADY
        }
    }

    fn steady(&self) -> Assessment {
        let timing = &self.question.timing;
        let from_us = self.counted_from_us();
        let rows = &self.rows[self.rows.partition_point(|row| row.intended_us < from_us)..];
        let runs = self.runs(rows);
        let first_after = rows
            .iter()
            .map(|row| row.intended_us)
            .find(|at_us| *at_us >= self.opened_us);
        let deadline_us = match timing.within_us {
            Some(within_us) => Some(self.opened_us.saturating_add(within_us)),
            None => first_after,
        };
        let Some(deadline_us) = deadline_us else {
            return self.wait("no request of the time after the check was opened has an outcome yet");
        };
        let candidates: Vec<&Run> = runs.iter().filter(|run| run.start_us <= deadline_us).collect();
        let settled = self
            .kept(rows, &candidates)
            .or_else(|| self.broken(rows, deadline_us, candidates.last().copied()));
        // What is decided first stays decided, however much is lost later.
        let until_us = settled.as_ref().map_or(u64::MAX, |(decided_us, _)| *decided_us);
        if let Some(found) = self.too_much_lost(up_to(rows, until_us)) {
            return Assessment::settled(found);
        }
        match settled {
            Some((_, found)) => Assessment::settled(found),
            None if rows.is_empty() => self.wait("no request yet"),
            None => self.wait("it has not held for long enough yet"),
        }
    }

    /// More requests were lost than may be, before it held.
    fn too_much_lost(&self, rows: &[&Row]) -> Option<Finding> {
        let allowed = self.question.lost_at_most.filter(|_| self.counts_loss())?;
        let mut lost = rows.iter().filter(|row| !served_well(row));
        let row = lost.nth(usize::try_from(allowed).unwrap_or(usize::MAX))?;
        let happened = format!("more than {allowed} were lost before it held, then: {}", outcome(row));
        Some(self.finding(Outcome::Fail, row.ended_us, happened, up_to(rows, row.intended_us)))
    }

    /// The first of the runs that held for long enough: the intended time of the request that decides, and the finding.
    fn kept(&self, rows: &[&Row], candidates: &[&Run]) -> Option<(u64, Finding)> {
        let last_us = rows.last()?.intended_us;
        candidates.iter().find_map(|run| {
            let hold_us = self.question.timing.then_for_us.unwrap_or(0);
            let end_us = run
                .start_us
                .max(self.opened_us)
                .saturating_add(hold_us)
                .max(run.steady_us?);
            let held = run.broke.as_ref().is_none_or(|broke| broke.at_us > end_us);
            (held && last_us >= end_us).then(|| (end_us, self.held(up_to(rows, end_us), run, end_us)))
        })
    }

    /// It can't become true in time any more: the intended time of the request that decides, and the finding.
    fn broken(&self, rows: &[&Row], deadline_us: u64, last_run: Option<&Run>) -> Option<(u64, Finding)> {
        if let Some(Run { start_us, broke, .. }) = last_run {
            match broke {
                None => return None,
                Some(broke) if broke.at_us > deadline_us => {
                    let happened = format!(
                        "true after {}, but broken {} later: {}",
                        seconds(start_us.saturating_sub(self.opened_us)),
                        seconds(broke.at_us.saturating_sub(*start_us)),
                        broke.why
                    );
                    let found = self.finding(Outcome::Fail, broke.at_us, happened, up_to(rows, broke.at_us));
                    return Some((broke.at_us, found.requests([broke.id.as_str()])));
                }
                Some(_) => {}
            }
        }
        let beyond = match self.question.timing.within_us {
            Some(_) => rows.iter().find(|row| row.intended_us > deadline_us)?.intended_us,
            None => deadline_us,
        };
        let seen = up_to(rows, deadline_us);
        let misfit = seen
            .iter()
            .rev()
            .filter(|row| row.intended_us >= self.opened_us)
            .find_map(|row| self.fits(row).err().map(|why| (row, why)));
        let why = misfit.as_ref().map_or_else(
            || self.missing_cluster(seen),
            |(row, why)| format!("at {} {why}", seconds(row.intended_us)),
        );
        let found = self.finding(Outcome::Fail, deadline_us, format!("not true in time: {why}"), seen);
        let found = match misfit {
            Some((row, _)) => found.requests([row.id.as_str()]),
            None => found,
        };
        Some((beyond, found))
    }

    /// For `each`: the cluster that serves least.
    fn missing_cluster(&self, rows: &[&Row]) -> String {
        let ServingPattern::Each(clusters) = &self.question.pattern else {
            return "too few requests in a row".to_owned();
        };
        let latest = &rows[rows.len().saturating_sub(EACH_OF)..];
        let served = |cluster: &String| {
            latest
                .iter()
                .filter(|row| row.served_by() == Some(cluster.as_str()))
                .count()
        };
        match clusters.iter().min_by_key(|cluster| served(cluster)) {
            Some(cluster) => {
                format!(
                    "{cluster} served {} of the last {}",
                    served(cluster),
                    counted(latest.len() as u64, "request")
                )
            }
            None => "no cluster is named".to_owned(),
        }
    }

    /// The finding when it held from `run` up to `end_us`.
    fn held(&self, rows: &[&Row], run: &Run, end_us: u64) -> Finding {
        let cut: Vec<&str> = self
            .stopped
            .iter()
            .filter(|row| (run.start_us..=end_us).contains(&row.intended_us))
            .map(|row| row.id.as_str())
            .collect();
        let hold = self
            .question
            .timing
            .then_for_us
            .map(|us| format!(" and held for {}", seconds(us)));
        let lost_before = rows
            .iter()
            .filter(|row| row.intended_us < run.start_us && !served_well(row))
            .count();
        let after_us = run.start_us.saturating_sub(self.question.since_us);
        let lost = if self.counts_loss() {
            format!(", {lost_before} lost before")
        } else {
            String::new()
        };
        let happened = format!(
            "true {} after the last disturbance{}{lost}",
            seconds(after_us),
            hold.unwrap_or_default()
        );
        let finding = |outcome: Outcome, happened: String| {
            self.finding(outcome, run.start_us, happened, rows)
                .measure("recovery_us", after_us as f64)
                .measure("converged_after_us", run.start_us.saturating_sub(self.opened_us) as f64)
                .measure("lost_before_recovery", lost_before as f64)
        };
        if cut.is_empty() {
            return finding(Outcome::Pass, happened);
        }
        let happened = format!(
            "{happened}, but {} cut off in this time",
            counted(cut.len() as u64, "request")
        );
        finding(Outcome::Inconclusive, happened).requests(cut)
    }

    /// Whether an unsuccessful request is a loss; not where failing is what is asked for.
    fn counts_loss(&self) -> bool {
        !matches!(
            self.question.pattern,
            ServingPattern::Fails(_) | ServingPattern::Refused
        )
    }

    fn never(&self) -> Assessment {
        let never_us = self.question.timing.never_for_us.unwrap_or(0);
        let end_us = self.opened_us.saturating_add(never_us);
        let rows = &self.rows[self.rows.partition_point(|row| row.intended_us < self.opened_us)..];
        let inside = &rows[..rows.partition_point(|row| row.intended_us <= end_us)];
        // The opposite of *never* is *once*: a single request is enough.
        if let Some(row) = inside.iter().find(|row| self.fits(row).is_ok()) {
            let happened = format!(
                "it came true after {}: {}",
                seconds(row.intended_us.saturating_sub(self.opened_us)),
                outcome(row)
            );
            let found = self.finding(Outcome::Fail, row.ended_us, happened, inside);
            return Assessment::settled(found.requests([row.id.as_str()]));
        }
        let seen_to_its_end = rows.last().is_some_and(|last| last.intended_us >= end_us);
        if !seen_to_its_end {
            return self.wait("its time is not over");
        }
        let cut = self
            .stopped
            .iter()
            .any(|row| (self.opened_us..=end_us).contains(&row.intended_us));
        if inside.is_empty() || cut {
            let happened = format!("{} can't tell", counted(inside.len() as u64, "request"));
            return Assessment::settled(self.finding(Outcome::Inconclusive, end_us, happened, inside));
        }
        Assessment::settled(self.finding(Outcome::Pass, end_us, "it never came true".to_owned(), inside))
    }

    fn lossless(&self) -> Assessment {
        let rows = &self.rows[..self.rows.partition_point(|row| row.intended_us <= self.opened_us)];
        let lost: Vec<&&Row> = rows.iter().filter(|row| !served_well(row)).collect();
        if let Some(first) = lost.iter().min_by_key(|row| row.ended_us) {
            let sent = counted(rows.len() as u64, "request");
            let happened = format!("{} of {sent} lost, the first: {}", lost.len(), outcome(first));
            return Assessment::settled(self.finding(Outcome::Fail, first.ended_us, happened, rows));
        }
        let complete = self.ended || self.rows.last().is_some_and(|last| last.intended_us >= self.opened_us);
        if rows.is_empty() || !complete {
            return self.wait("not all requests that were sent before the check have an outcome yet");
        }
        let cut: Vec<&str> = self
            .stopped
            .iter()
            .filter(|row| row.intended_us <= self.opened_us)
            .map(|row| row.id.as_str())
            .collect();
        if !cut.is_empty() {
            let happened = format!(
                "{} cut off before the outcome was known",
                counted(cut.len() as u64, "request")
            );
            let found = self.finding(Outcome::Inconclusive, self.opened_us, happened, rows);
            return Assessment::settled(found.requests(cut));
        }
        let happened = format!("all {} succeeded", counted(rows.len() as u64, "request"));
        Assessment::settled(self.finding(Outcome::Pass, self.opened_us, happened, rows))
    }

    fn share(&self, pattern: &FailsPattern, share: f64) -> Assessment {
        let timing = &self.question.timing;
        let start_us = self.opened_us.saturating_add(timing.within_us.unwrap_or(0));
        let from = &self.rows[self.rows.partition_point(|row| row.intended_us < start_us)..];
        let window = match timing.then_for_us {
            Some(hold_us) => {
                let end_us = start_us.saturating_add(hold_us);
                let over = from.last().is_some_and(|last| last.intended_us >= end_us);
                over.then(|| &from[..from.partition_point(|row| row.intended_us <= end_us)])
            }
            None => from.get(..EACH_OF),
        };
        match window {
            Some(window) => Assessment::settled(share_of_failures(pattern, share, window)),
            None => self.wait("its time is not over"),
        }
    }

    /// Open until more requests have outcomes, unless none will come or waiting is over.
    fn wait(&self, why: &str) -> Assessment {
        let so_far = format!("{why}; {}", self.so_far());
        if self.ended || self.now_us > self.give_up_us {
            let reason = if self.ended {
                "the traffic ended before that"
            } else {
                "requests are without an outcome"
            };
            let at_us = self.now_us.min(self.give_up_us);
            let found = self.finding(Outcome::Inconclusive, at_us, format!("{why}, and {reason}"), &self.rows);
            return Assessment::settled(found);
        }
        Assessment::open_until(self.give_up_us.saturating_add(1), so_far)
    }

    fn so_far(&self) -> String {
        let last = self
            .rows
            .last()
            .map(|row| format!(", the last at {}: {}", seconds(row.intended_us), outcome(row)));
        format!(
            "{} with an outcome{}",
            counted(self.rows.len() as u64, "request"),
            last.unwrap_or_default()
        )
    }

    /// A finding with what the traffic went through since the last disturbance.
    fn finding(&self, outcome: Outcome, at_us: u64, happened: String, rows: &[&Row]) -> Finding {
        let lost: Vec<&&Row> = rows.iter().filter(|row| !served_well(row)).collect();
        let mut found = Finding::new(outcome, at_us, happened)
            .measures(tally(rows))
            .measure("lost", lost.len() as f64)
            .measure("longest_gap_us", longest_gap_us(rows) as f64);
        if let Some(first) = lost.first() {
            let after_us = first.intended_us.saturating_sub(self.question.since_us);
            found = found.measure("first_failure_after_us", after_us as f64);
        }
        if let Some(duplicated) = self.duplicated {
            found = found.measure("duplicated", duplicated as f64);
        }
        let phases = phases(rows);
        if !phases.is_empty() {
            found = found.observed(phases);
        }
        if self.counts_loss() {
            found.requests(lost.iter().map(|row| row.id.as_str()))
        } else {
            found
        }
    }

    /// The longest stretches of requests in a row that are as the pattern says.
    fn runs(&self, rows: &[&Row]) -> Vec<Run> {
        let each: &[String] = match &self.question.pattern {
            ServingPattern::Each(clusters) => clusters,
            _ => &[],
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut open: Option<OpenRun<'_>> = None;
        // A cluster that has been missing for too long: nothing begins before it serves again.
        let mut awaited: Option<&str> = None;
        for row in rows {
            let by = row.served_by();
            if let Err(why) = self.fits(row) {
                if let Some(run) = open.take() {
                    runs.push(run.closed(Some(Break {
                        at_us: row.intended_us,
                        why,
                        id: row.id.clone(),
                    })));
                }
                awaited = None;
                continue;
            }
            if awaited.is_some() && awaited != by {
                continue;
            }
            awaited = None;
            let run = open.get_or_insert_with(|| OpenRun::new(row.intended_us, each, self.in_a_row()));
            if let Some(missing) = run.take(row) {
                let why = format!("{missing} served none of {EACH_OF} requests in a row");
                if let Some(run) = open.take() {
                    runs.push(run.closed(Some(Break {
                        at_us: row.intended_us,
                        why,
                        id: row.id.clone(),
                    })));
                }
                awaited = Some(missing);
            }
        }
        runs.extend(open.map(|run| run.closed(None)));
        runs
    }
}

/// Requests in a row that are as the pattern says.
struct Run {
    start_us: u64,
    /// Intended time of the request that made it long enough to count.
    steady_us: Option<u64>,
    broke: Option<Break>,
}

struct Break {
    at_us: u64,
    why: String,
    id: String,
}

struct OpenRun<'q> {
    start_us: u64,
    steady_us: Option<u64>,
    length: usize,
    needed: usize,
    /// For each cluster that must serve: requests since it served last.
    absent_for: Vec<(&'q str, usize)>,
}

impl<'q> OpenRun<'q> {
    fn new(start_us: u64, each: &'q [String], needed: usize) -> Self {
        let absent_for = each.iter().map(|cluster| (cluster.as_str(), 0)).collect();
        Self {
            start_us,
            steady_us: None,
            length: 0,
            needed,
            absent_for,
        }
    }

    /// Adds a request; gives back a cluster that is missing for too long.
    fn take(&mut self, row: &Row) -> Option<&'q str> {
        for (cluster, absent_for) in &mut self.absent_for {
            *absent_for = if row.served_by() == Some(*cluster) {
                0
            } else {
                *absent_for + 1
            };
            if *absent_for >= EACH_OF {
                return Some(cluster);
            }
        }
        self.length += 1;
        if self.length == self.needed {
            self.steady_us = Some(row.intended_us);
        }
        None
    }

    fn closed(self, broke: Option<Break>) -> Run {
        Run {
            start_us: self.start_us,
            steady_us: self.steady_us,
            broke,
        }
    }
}

/// The requests that were intended up to a time.
fn up_to<'r, 'a>(rows: &'r [&'a Row], at_us: u64) -> &'r [&'a Row] {
    &rows[..rows.partition_point(|row| row.intended_us <= at_us)]
}

/// Longest time between two successes in a row, by the times at which they ended; an outage that lasts counts up to the
/// last outcome.
fn longest_gap_us(rows: &[&Row]) -> u64 {
    let mut successes: Vec<u64> = rows
        .iter()
        .filter(|row| served_well(row))
        .map(|row| row.ended_us)
        .collect();
    let edges = [
        rows.first().map(|row| row.started_us),
        rows.iter().map(|row| row.ended_us).max(),
    ];
    successes.extend(edges.into_iter().flatten());
    successes.sort_unstable();
    successes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

/// The traffic as phases of equal outcomes: `from 1.000 s 300 served by west; from 4.000 s 12 lost (timeout); …`.
fn phases(rows: &[&Row]) -> String {
    const SHOWN: usize = 6;
    let mut phases: Vec<(String, u64, u64)> = Vec::new();
    for row in rows {
        let kind = kind_of(row);
        match phases.last_mut() {
            Some((last, _, count)) if *last == kind => *count += 1,
            _ => phases.push((kind, row.intended_us, 1)),
        }
    }
    if phases.len() > 2 * SHOWN {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, _, count) in &phases {
            *counts.entry(kind).or_default() += count;
        }
        let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        return format!("in turns: {}", counts.join(", "));
    }
    let texts: Vec<String> = phases
        .iter()
        .map(|(kind, from_us, count)| format!("from {} {count} {kind}", seconds(*from_us)))
        .collect();
    texts.join("; ")
}

fn kind_of(row: &Row) -> String {
    match (row.served_by(), served_well(row)) {
        (Some(cluster), true) => format!("served by {cluster}"),
        (Some(cluster), false) => format!("answered with an error by {cluster}"),
        (None, _) => match &row.result {
            crate::ledger::RequestResult::Answered(answered) => format!("answered {} by nobody", answered.status),
            crate::ledger::RequestResult::Failed { kind, .. } => format!("lost ({kind})"),
        },
    }
}
