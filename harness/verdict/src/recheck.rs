//! Everything that a journal claims, computed again from its records and ledgers.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use crate::history::{CheckHistory, LedgerHistory, RunHistory, ScenarioHistory};
use crate::journal::Integrity;
use crate::judge::{KnownLedger, LedgerSet, control_outcomes, judge};
use crate::ledger_file::read_ledger;
use crate::record::{Judgement, Outcome};
use crate::standing::Standing;

/// Relative difference of two measures that count as equal: JSON may round the last digit of a number.
const SAME: f64 = 1e-9;

/// Something that is not as the journal claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The journal is damaged or was changed.
    #[error("journal: {0}")]
    Journal(String),
    /// The journal stops before the run ended.
    #[error("journal: the run did not end ({0})")]
    Unfinished(String),
    /// A record does not fit to those before it.
    #[error("journal: {0}")]
    Oddity(String),
    /// A ledger can't be read.
    #[error("{scenario}: ledger `{ledger}` ({file}): {reason}")]
    Ledger {
        /// Key of the scenario.
        scenario: String,
        /// Name of the ledger.
        ledger: String,
        /// Its file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A judgement can't be derived from what was recorded.
    #[error("{scenario}: check of line {line} ({requirement}): {reason}")]
    Judgement {
        /// Key of the scenario.
        scenario: String,
        /// Line of the check.
        line: u32,
        /// Its requirement.
        requirement: String,
        /// What differs.
        reason: String,
    },
    /// The recorded outcome of a scenario or of the run is not the worst of its parts.
    #[error("{subject}: recorded outcome {recorded:?}, its parts make it {computed:?}")]
    Outcome {
        /// The scenario's key, or `run`.
        subject: String,
        /// What the journal says.
        recorded: Outcome,
        /// What follows from its parts.
        computed: Outcome,
    },
}

/// Computes everything again. `open` opens a file by its name relative to the run's folder.
///
/// An empty list means: the journal is whole, and every judgement follows from what was recorded.
pub fn recheck<R: BufRead>(
    history: &RunHistory,
    integrity: &Integrity,
    mut open: impl FnMut(&str) -> io::Result<R>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !integrity.is_sound() {
        findings.push(Finding::Journal(integrity.to_string()));
    }
    if history.ended.is_none() {
        findings.push(Finding::Unfinished(integrity.to_string()));
    }
    findings.extend(history.oddities.iter().cloned().map(Finding::Oddity));
    for scenario in &history.scenarios {
        let ledgers = read_ledgers(scenario, &mut open, &mut findings);
        for check in &scenario.checks {
            let reason = recheck_check(&history.standing(scenario, check), scenario, check, &ledgers);
            findings.extend(reason.map(|reason| Finding::Judgement {
                scenario: scenario.key.clone(),
                line: check.line,
                requirement: check.requirement.clone(),
                reason,
            }));
        }
        findings.extend(outcome_finding(&scenario.key, scenario.ended, scenario.outcome()));
    }
    findings.extend(outcome_finding("run", history.ended, history.outcome()));
    findings
}

/// A recorded outcome may be worse than what follows from the parts that a journal holds, but not better.
fn outcome_finding(subject: &str, ended: Option<(u64, Outcome)>, computed: Outcome) -> Option<Finding> {
    let (_, recorded) = ended?;
    (recorded < computed).then(|| Finding::Outcome {
        subject: subject.to_owned(),
        recorded,
        computed,
    })
}

fn read_ledgers<R: BufRead>(
    scenario: &ScenarioHistory,
    open: &mut impl FnMut(&str) -> io::Result<R>,
    findings: &mut Vec<Finding>,
) -> LedgerSet {
    let mut set = BTreeMap::new();
    for ledger in &scenario.ledgers {
        let mut report = |reason: String| {
            findings.push(Finding::Ledger {
                scenario: scenario.key.clone(),
                ledger: ledger.name.clone(),
                file: ledger.file.clone(),
                reason,
            });
        };
        if let Some(rows) = read_one(ledger, open, &mut report) {
            set.insert(
                ledger.name.clone(),
                KnownLedger {
                    rows,
                    closed: ledger.closed.clone(),
                },
            );
        }
    }
    LedgerSet(set)
}

fn read_one<R: BufRead>(
    ledger: &LedgerHistory,
    open: &mut impl FnMut(&str) -> io::Result<R>,
    report: &mut impl FnMut(String),
) -> Option<Vec<crate::ledger::Row>> {
    // The name comes out of a file that anybody may have written.
    let leaves = ledger.file.starts_with('/') || ledger.file.split(['/', '\\']).any(|part| part == "..");
    if leaves {
        report("its file lies outside of the run's folder; it was not read".to_owned());
        return None;
    }
    let file = match open(&ledger.file).and_then(read_ledger) {
        Ok(file) => file,
        Err(error) => {
            report(format!("it can't be read: {error}"));
            return None;
        }
    };
    if let Some((line, reason)) = &file.broken {
        report(format!("line {line}: {reason}"));
    }
    if let Some(closed) = &ledger.closed {
        if file.sha256 != closed.sha256 {
            report(format!(
                "its digest is {}, recorded is {}: it was changed",
                file.sha256, closed.sha256
            ));
        }
        if file.rows.len() as u64 != closed.rows {
            report(format!("it has {} rows, recorded are {}", file.rows.len(), closed.rows));
        }
    }
    Some(file.rows)
}

/// What is wrong with the judgement of a check.
fn recheck_check(
    standing: &Standing<'_>,
    scenario: &ScenarioHistory,
    check: &CheckHistory,
    ledgers: &LedgerSet,
) -> Option<String> {
    let recorded = check.judgement.as_ref()?;
    if check.closed.is_none() {
        return Some("it was judged before it was closed".to_owned());
    }
    let missing = check
        .question
        .ledgers()
        .into_iter()
        .find(|name| !ledgers.0.contains_key(*name));
    if let Some(name) = missing.filter(|_| recorded.outcome == Outcome::Pass) {
        return Some(format!("the ledger `{name}` that its judgement rests on is missing"));
    }
    let short = check
        .closed
        .iter()
        .flat_map(|closed| &closed.rows)
        .find(|(name, rows)| {
            ledgers
                .0
                .get(*name)
                .is_some_and(|ledger| (ledger.rows.len() as u64) < **rows)
        });
    if let Some((name, rows)) = short {
        return Some(format!("it saw {rows} rows of the ledger `{name}`, which has fewer"));
    }
    let controls = control_outcomes(scenario, check, ledgers);
    difference(recorded, &standing.applied(judge(check, &controls, ledgers)))
}

/// What differs between the recorded judgement and the computed one. Words may differ between versions of meshproof;
/// outcome, time, measures and requests may not.
fn difference(recorded: &Judgement, computed: &Judgement) -> Option<String> {
    if recorded.outcome != computed.outcome {
        return Some(format!(
            "recorded is {:?}, what was recorded makes it {:?}: {}",
            recorded.outcome, computed.outcome, computed.summary
        ));
    }
    if recorded.excuse != computed.excuse {
        return Some("what excuses it is not what the plan says of the releases that ran".to_owned());
    }
    if recorded.at_us != computed.at_us {
        return Some(format!(
            "recorded time is {} µs, computed {} µs",
            recorded.at_us, computed.at_us
        ));
    }
    if recorded.requests != computed.requests {
        return Some("the named requests are not those that follow from the ledger".to_owned());
    }
    let names = recorded.measures.keys().chain(computed.measures.keys());
    let differs = |name: &&String| match (recorded.measures.get(*name), computed.measures.get(*name)) {
        (Some(a), Some(b)) => (a - b).abs() > SAME * a.abs().max(b.abs()),
        _ => true,
    };
    names.clone().find(differs).map(|name| {
        let value = |judgement: &Judgement| {
            judgement
                .measures
                .get(name)
                .map_or_else(|| "absent".to_owned(), f64::to_string)
        };
        format!(
            "measure `{name}` is recorded as {}, computed as {}",
            value(recorded),
            value(computed)
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::journal::{JournalWriter, read_journal};
    use crate::question::Observation;
    use crate::record::{CloseReason, Event};
    use crate::specimen::{self, Specimen};

    fn findings(specimen: &Specimen) -> Vec<Finding> {
        let journal = read_journal(&specimen.journal[..]).unwrap();
        let history = RunHistory::fold(&journal.records);
        recheck(&history, &journal.integrity, |file| {
            let bytes = specimen
                .files
                .get(file)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(&bytes[..])
        })
    }

    /// The run with changed events under a chain that is right again: what somebody would do who edits a journal.
    fn forged(change: impl Fn(&mut Event)) -> Specimen {
        let mut specimen = specimen::run();
        let mut writer = JournalWriter::new(Vec::new());
        for record in &specimen.records {
            let mut event = record.event.clone();
            change(&mut event);
            writer.append(event, record.at_us).unwrap();
        }
        specimen.journal = writer.into_inner();
        specimen
    }

    fn told(specimen: &Specimen) -> String {
        findings(specimen)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn a_run_that_is_right_has_no_findings() {
        assert_eq!(told(&specimen::run()), "");
        assert_eq!(told(&forged(|_| {})), "");
    }

    type Change = fn(&mut Event);

    #[rstest]
    #[case::an_outcome(|event: &mut Event| if let Event::Judged { check: 1, judgement, .. } = event { judgement.outcome = Outcome::Fail }, "export: check of line 12 (MC-ONE-001): recorded is Fail, what was recorded makes it Pass")]
    #[case::a_time(|event: &mut Event| if let Event::Judged { check: 1, judgement, .. } = event { judgement.at_us += 1 }, "recorded time is 3001 µs, computed 3000 µs")]
    #[case::a_measure(|event: &mut Event| if let Event::Judged { check: 1, judgement, .. } = event { judgement.measures.insert("converged_after_us".to_owned(), 1.0); }, "measure `converged_after_us` is recorded as 1, computed as 1000")]
    #[case::a_measure_more(|event: &mut Event| if let Event::Judged { check: 1, judgement, .. } = event { judgement.measures.insert("x".to_owned(), 1.0); }, "measure `x` is recorded as 1, computed as absent")]
    #[case::requests(|event: &mut Event| if let Event::Judged { check: 2, judgement, .. } = event { judgement.requests.push("x".to_owned()); }, "(MC-TWO-001): the named requests")]
    #[case::an_observation(|event: &mut Event| if let Event::Observed { observation, .. } = event { *observation = Observation::Objects(vec![]) }, "recorded is Pass, what was recorded makes it Inconclusive")]
    #[case::a_reason(|event: &mut Event| if let Event::CheckClosed { check: 2, rows, reason, .. } = event { *reason = CloseReason::Interrupted; rows.insert("call".to_owned(), 2); }, "recorded is Pass, what was recorded makes it Error")]
    #[case::rows_that_are_not_there(|event: &mut Event| if let Event::CheckClosed { check: 2, rows, .. } = event { rows.insert("call".to_owned(), 4); }, "it saw 4 rows of the ledger `call`, which has fewer")]
    #[case::a_digest(|event: &mut Event| if let Event::LedgerClosed { sha256, .. } = event { *sha256 = "0".to_owned() }, "ledger `call` (ledgers/export/call.ndjson): its digest is")]
    #[case::a_number_of_rows(|event: &mut Event| if let Event::LedgerClosed { rows, .. } = event { *rows = 2 }, "it has 3 rows, recorded are 2")]
    #[case::a_file_outside(|event: &mut Event| if let Event::LedgerOpened { file, .. } = event { *file = "../../etc/passwd".to_owned() }, "lies outside of the run's folder")]
    #[case::a_file_at_the_root(|event: &mut Event| if let Event::LedgerOpened { file, .. } = event { *file = "/etc/passwd".to_owned() }, "lies outside of the run's folder")]
    #[case::a_missing_file(|event: &mut Event| if let Event::LedgerOpened { file, .. } = event { *file = "ledgers/other.ndjson".to_owned() }, "the ledger `call` that its judgement rests on is missing")]
    #[case::leftovers_under_a_green_outcome(|event: &mut Event| if let Event::CleanedUp { left, .. } = event { left.push("west Service shop/x".to_owned()) }, "export: recorded outcome Pass, its parts make it Error\nrun: recorded outcome Pass, its parts make it Error")]
    fn what_was_forged_is_found(#[case] change: Change, #[case] says: &str) {
        let told = told(&forged(change));
        assert!(told.contains(says), "{told}");
    }

    #[test]
    fn a_recorded_outcome_may_be_worse_than_its_parts() {
        let specimen = forged(|event| {
            if let Event::RunEnded { outcome } = event {
                *outcome = Outcome::Error;
            }
        });
        assert_eq!(told(&specimen), "");
    }

    #[test]
    fn a_changed_ledger_is_found_by_its_digest_and_by_what_follows() {
        let mut specimen = specimen::run();
        for bytes in specimen.files.values_mut() {
            *bytes = String::from_utf8(bytes.clone())
                .unwrap()
                .replacen("east", "west", 1)
                .into_bytes();
        }
        let told = told(&specimen);
        assert!(told.contains("it was changed"), "{told}");
        assert!(
            told.contains("recorded is Pass, what was recorded makes it Fail"),
            "{told}"
        );
    }

    #[test]
    fn a_cut_and_a_damaged_journal_are_found() {
        let mut cut = specimen::run();
        cut.journal.truncate(cut.journal.len() - 10);
        assert!(told(&cut).contains("journal: the run did not end"), "{}", told(&cut));
        let mut damaged = specimen::run();
        let middle = damaged.journal.len() / 2;
        damaged.journal[middle] ^= 1;
        assert!(told(&damaged).contains("is broken"), "{}", told(&damaged));
    }
}
