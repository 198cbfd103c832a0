//! Everything that a journal claims, computed again from its records and ledgers.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read};

use sha2::{Digest, Sha256};

use crate::consistency::{contradictions, odd_rows};
use crate::history::{CheckHistory, EnvironmentHistory, LedgerHistory, RunHistory, ScenarioHistory};
use crate::journal::{Integrity, hex};
use crate::judge::{KnownLedger, LedgerSet, control_outcomes, judge};
use crate::ledger_file::read_ledger;
use crate::record::{Judgement, Outcome};
use crate::standing::Standing;

/// Relative difference of two measures that count as equal: JSON may round the last digit of a number.
const SAME: f64 = 1e-9;

/// The files of a run's folder.
pub trait Files {
    /// What reads one.
    type Reader: BufRead;

    /// Opens a file by its name relative to the run's folder. Names come out of a journal that anybody may have written:
    /// what is opened must be a plain file below the folder.
    ///
    /// # Errors
    /// When there is none, or it is not one of the run's.
    fn open(&self, file: &str) -> io::Result<Self::Reader>;

    /// Everything below one of the run's folders that is no folder, by its path in it. A folder that is not there has
    /// nothing.
    ///
    /// # Errors
    /// When it can't be read, or is not one of the run's.
    fn below(&self, folder: &str) -> io::Result<Vec<String>>;
}

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
    /// The records of a scenario don't agree with each other or with the plan.
    #[error("{scenario}: {reason}")]
    Scenario {
        /// Key of the scenario.
        scenario: String,
        /// What does not agree.
        reason: String,
    },
    /// Evidence is not what was frozen.
    #[error("{scenario}: evidence of step {check} ({folder}): {reason}")]
    Evidence {
        /// Key of the scenario.
        scenario: String,
        /// Key of the check or step.
        check: u32,
        /// Its folder.
        folder: String,
        /// What is wrong.
        reason: String,
    },
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

/// Computes everything again.
///
/// An empty list means: the journal is whole, every judgement follows from what was recorded, and ledgers and evidence are
/// what was written.
pub fn recheck(history: &RunHistory, integrity: &Integrity, files: &impl Files) -> Vec<Finding> {
    let mut findings = contradictions(history, integrity);
    let pace = history.started.as_ref().map_or(1.0, |started| started.pace);
    if history.ended.is_none() {
        findings.push(Finding::Unfinished(integrity.to_string()));
    }
    for scenario in &history.scenarios {
        let ledgers = read_ledgers(scenario, pace, files, &mut findings);
        for check in scenario.checks.iter().chain(&scenario.controls) {
            let reason = recheck_check(&history.standing(scenario, check), scenario, check, &ledgers);
            findings.extend(reason.map(|reason| Finding::Judgement {
                scenario: scenario.key.clone(),
                line: check.opened.line,
                requirement: check.opened.requirement.clone(),
                reason,
            }));
        }
        for evidence in &scenario.evidence {
            let reasons = recheck_evidence(&evidence.folder, evidence.files.as_ref(), files);
            findings.extend(reasons.into_iter().map(|reason| Finding::Evidence {
                scenario: scenario.key.clone(),
                check: evidence.check,
                folder: evidence.folder.clone(),
                reason,
            }));
        }
        findings.extend(outcome_finding(
            &scenario.key,
            scenario.ended.as_ref().map(|ended| ended.outcome),
            scenario.outcome(),
        ));
    }
    for evidence in history.environments.iter().filter_map(EnvironmentHistory::evidence) {
        let reasons = recheck_evidence(&evidence.folder, evidence.files.as_ref(), files);
        findings.extend(
            reasons
                .into_iter()
                .map(|reason| Finding::Journal(format!("evidence of an environment ({}): {reason}", evidence.folder))),
        );
    }
    findings.extend(unnamed_evidence(history, files));
    findings.extend(outcome_finding(
        "run",
        history.ended.as_ref().map(|ended| ended.outcome),
        history.outcome(),
    ));
    findings
}

/// A recorded outcome may be worse than what follows from the parts that a journal holds, but not better.
fn outcome_finding(subject: &str, recorded: Option<Outcome>, computed: Outcome) -> Option<Finding> {
    let recorded = recorded?;
    (recorded < computed).then(|| Finding::Outcome {
        subject: subject.to_owned(),
        recorded,
        computed,
    })
}

/// Folder of evidence in a run's folder.
pub const EVIDENCE_FOLDER: &str = "evidence";

/// What is wrong with the files of one folder of evidence. A record without digests vouches for none of them, whether an
/// earlier version wrote it or somebody took them out: which of the two nobody can tell.
fn recheck_evidence(folder: &str, bound: Option<&BTreeMap<String, String>>, files: &impl Files) -> Vec<String> {
    let Some(bound) = bound else {
        return vec!["its record has no digests, so that nobody can tell whether its files were changed".to_owned()];
    };
    let there = match files.below(folder) {
        Ok(there) => there,
        Err(error) => return vec![format!("it can't be read: {error}")],
    };
    let mut told: Vec<String> = there
        .iter()
        .filter(|file| !bound.contains_key(*file))
        .map(|file| format!("`{file}` was added"))
        .collect();
    for (file, recorded) in bound {
        match files.open(&format!("{folder}/{file}")).and_then(digest) {
            Ok(found) if found == *recorded => {}
            Ok(_) => told.push(format!("`{file}` was changed")),
            Err(error) => told.push(format!("`{file}` can't be read: {error}")),
        }
    }
    told
}

/// Evidence in the run's folder that no record names.
fn unnamed_evidence(history: &RunHistory, files: &impl Files) -> Vec<Finding> {
    let of_scenarios = history.scenarios.iter().flat_map(|scenario| &scenario.evidence);
    let of_environments = history.environments.iter().filter_map(EnvironmentHistory::evidence);
    let folders: HashSet<&str> = of_scenarios
        .map(|evidence| evidence.folder.as_str())
        .chain(of_environments.map(|evidence| evidence.folder.as_str()))
        .collect();
    // A run that was killed may have been freezing it.
    if history.ended.is_none() {
        return Vec::new();
    }
    let there = match files.below(EVIDENCE_FOLDER) {
        Ok(there) => there,
        Err(error) => return vec![Finding::Journal(format!("{EVIDENCE_FOLDER} can't be read: {error}"))],
    };
    let named = |file: &String| {
        let path = format!("{EVIDENCE_FOLDER}/{file}");
        path.match_indices('/')
            .any(|(end, _)| path.get(..end).is_some_and(|folder| folders.contains(folder)))
    };
    there
        .into_iter()
        .filter(|file| !named(file))
        .map(|file| Finding::Journal(format!("no record names the evidence `{EVIDENCE_FOLDER}/{file}`")))
        .collect()
}

/// Most bytes of a file of evidence: what is larger is not frozen, and whoever made it may have made it without end.
pub const LARGEST_EVIDENCE: u64 = 64 * 1024 * 1024;

fn digest(reader: impl Read) -> io::Result<String> {
    digest_up_to(reader, LARGEST_EVIDENCE)
}

fn digest_up_to(mut reader: impl Read, most: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    let mut left = most;
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(length) => {
                hash.update(piece.get(..length).unwrap_or_default());
                left = left
                    .checked_sub(length as u64)
                    .ok_or_else(|| io::Error::other(format!("it is larger than {most} bytes; no run writes that")))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_ledgers(scenario: &ScenarioHistory, pace: f64, files: &impl Files, findings: &mut Vec<Finding>) -> LedgerSet {
    let mut set = BTreeMap::new();
    for ledger in &scenario.ledgers {
        let (rows, reasons) = read_one(ledger, scenario.namespace(), pace, files);
        findings.extend(reasons.into_iter().map(|reason| Finding::Ledger {
            scenario: scenario.key.clone(),
            ledger: ledger.opened.ledger.clone(),
            file: ledger.opened.file.clone(),
            reason,
        }));
        if let Some(rows) = rows {
            set.insert(
                ledger.opened.ledger.clone(),
                KnownLedger {
                    rows,
                    closed: ledger.closed.clone(),
                },
            );
        }
    }
    LedgerSet(set)
}

/// Rows of a ledger, if it can be read, and what is wrong with it.
pub fn read_one(
    ledger: &LedgerHistory,
    namespace: &str,
    pace: f64,
    files: &impl Files,
) -> (Option<Vec<crate::ledger::Row>>, Vec<String>) {
    let file = match files.open(&ledger.opened.file).and_then(read_ledger) {
        Ok(file) => file,
        Err(error) => return (None, vec![format!("it can't be read: {error}")]),
    };
    let mut told = Vec::new();
    if let Some((line, reason)) = &file.broken {
        told.push(format!("line {line}: {reason}; what follows was not read"));
    } else if let Some(closed) = &ledger.closed {
        if file.sha256 != closed.sha256 {
            told.push(format!(
                "its digest is {}, recorded is {}: it was changed",
                file.sha256, closed.sha256
            ));
        }
        if file.rows.len() as u64 != closed.rows {
            told.push(format!("it has {} rows, recorded are {}", file.rows.len(), closed.rows));
        }
    }
    told.extend(odd_rows(&file.rows, ledger.closed.as_ref(), namespace, pace));
    (Some(file.rows), told)
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
        .opened
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
    use crate::record::{
        CheckClosed, CheckOpened, CleanedUp, CloseReason, Event, EvidenceFrozen, Interrupted, Judged, LedgerClosed,
        LedgerOpened, Observed, RunEnded, StepEnded, StepStarted,
    };
    use crate::specimen::{self, Specimen};

    fn findings(specimen: &Specimen) -> Vec<Finding> {
        let journal = read_journal(&specimen.journal[..]).unwrap();
        let history = RunHistory::fold(&journal.records);
        recheck(&history, &journal.integrity, specimen)
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
    fn evidence_without_end_is_left() {
        assert_eq!(digest_up_to(&b"abc"[..], 3).unwrap(), hex(&Sha256::digest(b"abc")));
        let error = digest_up_to(io::repeat(0), 1_000_000).unwrap_err();
        assert!(error.to_string().contains("larger than 1000000 bytes"), "{error}");
    }

    #[test]
    fn a_run_that_is_right_has_no_findings() {
        assert_eq!(told(&specimen::run()), "");
        assert_eq!(told(&forged(|_| {})), "");
    }

    type Change = fn(&mut Event);

    #[rstest]
    #[case::an_outcome(|event: &mut Event| if let Event::Judged(Judged { check: 1, judgement, .. }) = event { judgement.outcome = Outcome::Fail }, "export: check of line 12 (MC-ONE-001): recorded is Fail, what was recorded makes it Pass")]
    #[case::a_time(|event: &mut Event| if let Event::Judged(Judged { check: 1, judgement, .. }) = event { judgement.at_us += 1 }, "recorded time is 3001 µs, computed 3000 µs")]
    #[case::a_measure(|event: &mut Event| if let Event::Judged(Judged { check: 1, judgement, .. }) = event { judgement.measures.insert("converged_after_us".to_owned(), 1.0); }, "measure `converged_after_us` is recorded as 1, computed as 1000")]
    #[case::a_measure_more(|event: &mut Event| if let Event::Judged(Judged { check: 1, judgement, .. }) = event { judgement.measures.insert("x".to_owned(), 1.0); }, "measure `x` is recorded as 1, computed as absent")]
    #[case::requests(|event: &mut Event| if let Event::Judged(Judged { check: 2, judgement, .. }) = event { judgement.requests.push("x".to_owned()); }, "(MC-TWO-001): the named requests")]
    #[case::an_observation(|event: &mut Event| if let Event::Observed(Observed { observation, .. }) = event { *observation = Observation::Objects(vec![]) }, "recorded is Pass, what was recorded makes it Inconclusive")]
    #[case::a_reason(|event: &mut Event| if let Event::CheckClosed(CheckClosed { check: 2, rows, reason, .. }) = event { *reason = CloseReason::Interrupted; rows.insert("call".to_owned(), 2); }, "recorded is Pass, what was recorded makes it Error")]
    #[case::rows_that_are_not_there(|event: &mut Event| if let Event::CheckClosed(CheckClosed { check: 2, rows, .. }) = event { rows.insert("call".to_owned(), 4); }, "it saw 4 rows of the ledger `call`, which has fewer")]
    #[case::a_digest(|event: &mut Event| if let Event::LedgerClosed(LedgerClosed { sha256, .. }) = event { *sha256 = "0".to_owned() }, "ledger `call` (ledgers/export/call.ndjson): its digest is")]
    #[case::a_number_of_rows(|event: &mut Event| if let Event::LedgerClosed(LedgerClosed { rows, .. }) = event { *rows = 2 }, "it has 3 rows, recorded are 2")]
    #[case::a_missing_file(|event: &mut Event| if let Event::LedgerOpened(LedgerOpened { file, .. }) = event { *file = "ledgers/other.ndjson".to_owned() }, "the ledger `call` that its judgement rests on is missing")]
    #[case::a_removed_judgement(|event: &mut Event| if let Event::Judged(Judged { check: 2, .. }) = event { *event = Event::Interrupted(Interrupted { count: 1 }) }, "check of line 14 (MC-TWO-001): it was closed and never judged")]
    #[case::a_removed_end_of_a_step(|event: &mut Event| if let Event::StepEnded(StepEnded { step: 0, .. }) = event { *event = Event::Interrupted(Interrupted { count: 1 }) }, "the step of line 10 (`export`) never ended")]
    #[case::a_removed_step(|event: &mut Event| if let Event::StepStarted(StepStarted { step: 0, .. }) = event { *event = Event::Interrupted(Interrupted { count: 1 }) }, "step 1 follows where step 0 is expected")]
    #[case::another_requirement(|event: &mut Event| if let Event::CheckOpened(CheckOpened { check: 2, requirement, .. }) = event { *requirement = "MC-ELSE-001".to_owned() }, "(MC-ELSE-001): the plan names other requirements")]
    #[case::a_removed_cleanup(|event: &mut Event| if let Event::CleanedUp(_) = event { *event = Event::Interrupted(Interrupted { count: 1 }) }, "no record says what its cleanup left behind")]
    #[case::fewer_steps_than_planned(|event: &mut Event| if let Event::RunStarted(started) = event { started.scenarios[0].steps = Some(4) }, "it has 4 steps by its plan, none had a problem, and 3 are recorded")]
    #[case::a_removed_evidence_record(|event: &mut Event| if let Event::Judged(Judged { check: 1, judgement, .. }) = event { judgement.outcome = Outcome::Fail }, "it did not pass, and no record names its evidence")]
    #[case::leftovers_under_a_green_outcome(|event: &mut Event| if let Event::CleanedUp(CleanedUp { left, .. }) = event { left.push("west Service shop/x".to_owned()) }, "export: recorded outcome Pass, its parts make it Error\nrun: recorded outcome Pass, its parts make it Error")]
    fn what_was_forged_is_found(#[case] change: Change, #[case] says: &str) {
        let told = told(&forged(change));
        assert!(told.contains(says), "{told}");
    }

    /// The run with some records left out, under a chain that is right again.
    fn without(is_gone: impl Fn(&Event) -> bool) -> Specimen {
        let mut specimen = specimen::run();
        let mut writer = JournalWriter::new(Vec::new());
        for record in specimen.records.iter().filter(|record| !is_gone(&record.event)) {
            writer.append(record.event.clone(), record.at_us).unwrap();
        }
        specimen.journal = writer.into_inner();
        specimen
    }

    #[test]
    fn what_was_left_out_is_found() {
        let told = |is_gone: fn(&Event) -> bool| told(&without(is_gone));
        let judgements = told(|event| matches!(event, Event::Judged(_)));
        assert_eq!(judgements.matches("never judged").count(), 2, "{judgements}");
        let closes = told(|event| matches!(event, Event::LedgerClosed(_)));
        assert!(closes.contains("the ledger `call` was never closed"), "{closes}");
        let last = told(|event| {
            matches!(
                event,
                Event::StepStarted(StepStarted { step: 2, .. })
                    | Event::StepEnded(StepEnded { step: 2, .. })
                    | Event::CheckOpened(CheckOpened { check: 2, .. })
                    | Event::CheckClosed(CheckClosed { check: 2, .. })
                    | Event::Judged(Judged { check: 2, .. })
            )
        });
        assert!(last.contains("3 steps by its plan"), "{last}");
        let check = told(|event| {
            matches!(
                event,
                Event::CheckOpened(CheckOpened { check: 1, .. })
                    | Event::CheckClosed(CheckClosed { check: 1, .. })
                    | Event::Observed(Observed { check: 1, .. })
                    | Event::Judged(Judged { check: 1, .. })
            )
        });
        assert!(
            check.contains("the check of line 12 was done, and no record says how"),
            "{check}"
        );
        let start = told(|event| matches!(event, Event::ScenarioStarted(_)));
        assert!(start.contains("was never started"), "{start}");
    }

    #[test]
    fn time_that_goes_backwards_and_records_behind_the_end_are_found() {
        let mut specimen = specimen::run();
        let mut writer = JournalWriter::new(Vec::new());
        for record in &specimen.records {
            let at_us = if matches!(record.event, Event::CleanedUp(_)) {
                1
            } else {
                record.at_us
            };
            writer.append(record.event.clone(), at_us).unwrap();
        }
        writer
            .append(Event::Interrupted(Interrupted { count: 1 }), 9000)
            .unwrap();
        specimen.journal = writer.into_inner();
        let told = told(&specimen);
        assert!(told.contains("time goes backwards"), "{told}");
        assert!(told.contains("it stands behind the end of the run"), "{told}");
    }

    #[test]
    fn bytes_behind_the_end_are_found() {
        let mut specimen = specimen::run();
        specimen.journal.extend_from_slice(b"{\"seq\":");
        assert!(
            told(&specimen).contains("7 bytes follow the end of the run"),
            "{}",
            told(&specimen)
        );
    }

    /// The run with other rows in its ledger, whose digest and number are right again.
    fn with_rows(change: impl Fn(&mut Vec<crate::ledger::Row>)) -> String {
        let mut rows = specimen::rows();
        change(&mut rows);
        let text: String = rows
            .iter()
            .map(|row| serde_json::to_string(row).unwrap() + "\n")
            .collect();
        let mut specimen = forged(|event| {
            if let Event::LedgerClosed(LedgerClosed {
                sha256, rows: count, ..
            }) = event
            {
                *sha256 = hex(&Sha256::digest(text.as_bytes()));
                *count = rows.len() as u64;
            }
        });
        specimen
            .files
            .insert("ledgers/export/call.ndjson".to_owned(), text.clone().into_bytes());
        told(&specimen)
    }

    #[test]
    fn rows_that_nobody_can_have_seen_are_found() {
        assert_eq!(with_rows(|_| {}), "");
        let repeated = with_rows(|rows| rows[1].id = rows[0].id.clone());
        assert!(
            repeated.contains("row 2 (`shop.call-0`): an earlier row has this id"),
            "{repeated}"
        );
        let foreign = with_rows(|rows| rows[2].id = "shopping.call-2".to_owned());
        assert!(foreign.contains("its id is of another run or scenario"), "{foreign}");
        let reversed = with_rows(|rows| rows[1].ended_us = rows[1].started_us - 1);
        assert!(reversed.contains("it ends before it starts"), "{reversed}");
        for late in [2 * 86_400_000_000, u64::MAX] {
            let late = with_rows(|rows| rows[0].ended_us = late);
            assert!(late.contains("it ends long after its ledger was closed"), "{late}");
        }
    }

    #[test]
    fn evidence_is_what_was_frozen() {
        let frozen = |files: Option<BTreeMap<String, String>>| {
            let mut specimen = specimen::run();
            let mut writer = JournalWriter::new(Vec::new());
            for record in &specimen.records {
                if matches!(record.event, Event::CleanedUp(_)) {
                    let frozen = Event::EvidenceFrozen(EvidenceFrozen {
                        scenario: "export".to_owned(),
                        check: 2,
                        folder: "evidence/export/2".to_owned(),
                        rung: None,
                        note: String::new(),
                        files: files.clone(),
                    });
                    writer.append(frozen, record.at_us).unwrap();
                }
                writer.append(record.event.clone(), record.at_us).unwrap();
            }
            specimen.journal = writer.into_inner();
            specimen
                .files
                .insert("evidence/export/2/west/a.log".to_owned(), b"as it was".to_vec());
            specimen
        };
        let bound = || {
            frozen(Some(
                [("west/a.log".to_owned(), hex(&Sha256::digest(b"as it was")))].into(),
            ))
        };
        assert_eq!(told(&bound()), "");
        let unbound = told(&frozen(None));
        assert!(
            unbound.contains("evidence/export/2") && unbound.contains("its record has no digests"),
            "{unbound}"
        );

        let mut changed = bound();
        changed
            .files
            .insert("evidence/export/2/west/a.log".to_owned(), b"as they like".to_vec());
        assert!(
            told(&changed).contains("`west/a.log` was changed"),
            "{}",
            told(&changed)
        );
        let mut removed = bound();
        removed.files.remove("evidence/export/2/west/a.log");
        assert!(
            told(&removed).contains("`west/a.log` can't be read"),
            "{}",
            told(&removed)
        );
        let mut added = bound();
        added.files.insert("evidence/export/2/b.log".to_owned(), vec![]);
        added.files.insert("evidence/other/1/c.log".to_owned(), vec![]);
        let mut beside_unbound = frozen(None);
        beside_unbound.files = added.files.clone();
        assert!(told(&beside_unbound).contains("evidence/other/1/c.log"));
        let told = told(&added);
        assert!(told.contains("`b.log` was added"), "{told}");
        assert!(
            told.contains("no record names the evidence `evidence/other/1/c.log`"),
            "{told}"
        );
    }

    #[test]
    fn a_recorded_outcome_may_be_worse_than_its_parts() {
        let specimen = forged(|event| {
            if let Event::RunEnded(RunEnded { outcome }) = event {
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
