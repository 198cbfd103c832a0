//! A run's folder folded into a report: what each row of it is taken from.

use std::collections::BTreeMap;

use meshproof_verdict::consistency::contradictions;
use meshproof_verdict::history::{CheckHistory, LedgerHistory, RunHistory, ScenarioHistory};
use meshproof_verdict::question::Question;
use meshproof_verdict::recheck::{Files as _, Finding, read_one};
use meshproof_verdict::record::{CloseReason, EvidenceFrozen, Outcome};
use meshproof_verdict::wakefulness::Attributed;

use crate::model::{
    CheckKey, CheckRow, ClusterRow, EnvironmentRow, FORMAT, JournalState, LedgerRow, PlannedCheckRow, ProblemRow,
    Report, RequirementStatus, ScenarioRow, StepRow, UpgradeRow,
};
use crate::run_folder::RunFolder;
use crate::text;
use crate::traffic::{Timeline, timeline};

impl From<&Attributed> for ProblemRow {
    fn from(problem: &Attributed) -> Self {
        Self {
            class: format!("{:?}", problem.class).to_lowercase(),
            code: problem.code.clone(),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
        }
    }
}

impl Report {
    /// Folds a run's folder into a report. A ledger that can't be read, or is not the one that the journal vouches for, has
    /// no timeline; the journal decides all else.
    #[must_use]
    pub fn of(folder: &RunFolder) -> Self {
        let history = &folder.history;
        let started = history.started.clone();
        let mut doubts: Vec<String> = contradictions(history, &folder.integrity)
            .into_iter()
            // What is broken is told as such.
            .filter(|_| folder.integrity.is_sound())
            .map(|finding| finding.to_string())
            .collect();
        let scenarios: Vec<ScenarioRow> = history
            .scenarios
            .iter()
            .map(|scenario| scenario_row(folder, scenario, &mut doubts))
            .collect();
        let mut report = Self {
            format: FORMAT.to_owned(),
            run: String::new(),
            started: String::new(),
            version: String::new(),
            command: Vec::new(),
            environment: String::new(),
            certifies: false,
            pace: 1.0,
            seed: 0,
            defects: Vec::new(),
            suite_digest: String::new(),
            partition: None,
            outcome: text::outcome(history.outcome()).to_owned(),
            duration_us: history.last_us,
            complete: history.ended.is_some(),
            journal: JournalState {
                records: folder.integrity.records,
                head: folder.integrity.head.clone(),
                broken: broken(folder),
                doubts,
            },
            environments: history
                .environments
                .iter()
                .map(|environment| EnvironmentRow {
                    environment: environment.key().to_owned(),
                    clusters: environment
                        .ready()
                        .iter()
                        .flat_map(|ready| &ready.clusters)
                        .map(|facts| ClusterRow {
                            name: facts.name.clone(),
                            uid: facts.uid.clone(),
                            kubernetes: facts.kubernetes.clone(),
                            mesh: facts.mesh.clone(),
                            trust_root: facts.trust_root.clone(),
                        })
                        .collect(),
                    links: environment.ready().map_or_else(Vec::new, |ready| ready.links.clone()),
                    took_wall_us: environment.ready().map_or(0, |ready| ready.took_wall_us),
                    problem: environment.problem().as_ref().map(Into::into),
                    evidence: environment.evidence().map(|evidence| evidence.folder.clone()),
                })
                .collect(),
            requirements: Vec::new(),
            scenarios,
        };
        if let Some(started) = started {
            report.requirements = started
                .requirements
                .iter()
                .map(|row| requirement_status(row, &report.scenarios, history, started.certifies))
                .collect();
            report.run = started.run;
            report.started = started.started;
            report.version = started.version;
            report.command = started.command;
            report.environment = started.environment;
            report.certifies = started.certifies;
            report.pace = started.pace;
            report.seed = started.seed;
            report.defects = started.defects;
            report.suite_digest = started.suite_digest;
            report.partition = started.partition;
        }
        report
    }

    /// Number of scenarios with each outcome, in the order pass, deviates, fail, inconclusive, error, skip.
    #[must_use]
    pub fn tally(&self) -> Vec<(&'static str, usize)> {
        let of = |outcome: &str| {
            self.scenarios
                .iter()
                .filter(|scenario| scenario.outcome == outcome)
                .count()
        };
        ["pass", "deviates", "fail", "inconclusive", "error", "skip"]
            .map(|outcome| (outcome, of(outcome)))
            .to_vec()
    }
}

fn broken(folder: &RunFolder) -> Option<String> {
    let broken = folder
        .integrity
        .broken
        .as_ref()
        .map(|broken| format!("record {}: {}", broken.seq, broken.reason));
    broken.or_else(|| {
        folder
            .integrity
            .torn_bytes
            .map(|bytes| format!("the last record is torn ({bytes} bytes): the run was killed while writing"))
    })
}

fn scenario_row(folder: &RunFolder, scenario: &ScenarioHistory, doubts: &mut Vec<String>) -> ScenarioRow {
    let ledgers = scenario
        .ledgers
        .iter()
        .map(|ledger| LedgerRow {
            ledger: ledger.opened.ledger.clone(),
            file: ledger.opened.file.clone(),
            text: ledger.opened.text.clone(),
            rows: ledger.closed.as_ref().map(|closed| closed.rows),
            timeline: timeline_of(folder, scenario, ledger, doubts),
        })
        .collect();
    let planned = scenario.planned.clone();
    let end_us = scenario
        .ended
        .as_ref()
        .map_or(folder.history.last_us, |ended| ended.at_us);
    let evidence = |check: u32| scenario.evidence.iter().find(|evidence| evidence.check == check);
    let planned = planned.as_ref();
    let text =
        |of: fn(&meshproof_verdict::record::PlannedScenario) -> &String| planned.map(of).cloned().unwrap_or_default();
    ScenarioRow {
        key: scenario.key.clone(),
        id: planned.map_or_else(|| scenario.key.clone(), |planned| planned.id.clone()),
        area: text(|planned| &planned.area),
        file: text(|planned| &planned.file),
        summary: text(|planned| &planned.summary),
        topology: text(|planned| &planned.topology),
        outcome: text::outcome(scenario.outcome()).to_owned(),
        skipped: scenario
            .skipped
            .as_ref()
            .map(|skipped| format!("{}: {}", skipped.code, skipped.reason)),
        started_us: scenario.started.as_ref().map(|started| started.at_us),
        duration_us: scenario
            .started
            .as_ref()
            .map_or(0, |started| end_us.saturating_sub(started.at_us)),
        steps: scenario
            .steps
            .iter()
            .map(|step| StepRow {
                step: step.started.step,
                line: step.started.line,
                verb: step.started.verb.clone(),
                text: step.started.text.clone(),
                started_us: step.started.at_us,
                ended_us: step.ended.as_ref().map(|ended| ended.at_us),
                disturbs: step.started.disturbs,
                problem: step.problem().as_ref().map(Into::into),
            })
            .collect(),
        upgrades: scenario
            .upgrades
            .iter()
            .map(|upgrade| UpgradeRow {
                cluster: upgrade.cluster.clone(),
                from: upgrade.from.clone(),
                to: upgrade.to.clone(),
                at_us: upgrade.at_us,
            })
            .collect(),
        checks: scenario
            .checks
            .iter()
            .map(|check| {
                let evidence = evidence(check.opened.check);
                CheckRow {
                    mesh: mesh_at(folder, scenario, check.opened.at_us),
                    evidence: evidence.map(|evidence| evidence.folder.clone()),
                    evidence_files: evidence
                        .map(|evidence| evidence_files(folder, evidence))
                        .unwrap_or_default(),
                    rung: evidence
                        .and_then(|evidence| evidence.rung.as_ref().map(|rung| format!("{rung}: {}", evidence.note))),
                    ..check_row(check)
                }
            })
            .collect(),
        not_reached: scenario.not_run().into_iter().map(ToOwned::to_owned).collect(),
        planned_checks: planned
            .iter()
            .flat_map(|planned| &planned.expects)
            .map(|planned| PlannedCheckRow {
                check: planned.step,
                requirement: planned.requirement.clone(),
                name: planned.name.clone(),
                place: planned.place.clone(),
            })
            .collect(),
        cut: scenario.cut(),
        ledgers,
        left: scenario
            .cleanup
            .as_ref()
            .map(|cleanup| cleanup.left.clone())
            .unwrap_or_default(),
        cleanup_problem: scenario
            .cleanup
            .as_ref()
            .and_then(|cleanup| cleanup.attributed())
            .as_ref()
            .map(Into::into),
    }
}

/// Files of evidence, as the journal names them; where it does not, as they lie there.
fn evidence_files(folder: &RunFolder, evidence: &EvidenceFrozen) -> Vec<String> {
    let files = match &evidence.files {
        Some(files) => files.keys().cloned().collect(),
        None => folder.below(&evidence.folder).unwrap_or_default(),
    };
    files
        .into_iter()
        .map(|file| format!("{}/{file}", evidence.folder))
        .collect()
}

/// A ledger over time, unless there is something wrong with it, which is told in `doubts`.
fn timeline_of(
    folder: &RunFolder,
    scenario: &ScenarioHistory,
    ledger: &LedgerHistory,
    doubts: &mut Vec<String>,
) -> Option<Timeline> {
    let pace = folder.history.started.as_ref().map_or(1.0, |started| started.pace);
    let (rows, reasons) = read_one(ledger, scenario.namespace(), pace, folder);
    if reasons.is_empty() {
        return rows.and_then(|rows| timeline(&rows));
    }
    // A journal that was cut may name a ledger that was never made.
    if rows.is_some() || ledger.closed.is_some() {
        doubts.extend(reasons.into_iter().map(|reason| {
            let finding = Finding::Ledger {
                scenario: scenario.key.clone(),
                ledger: ledger.opened.ledger.clone(),
                file: ledger.opened.file.clone(),
                reason,
            };
            format!("{finding}; no chart of it is drawn")
        }));
    }
    None
}

/// Mesh and version of each cluster of a scenario at a time: as it was found, and as the scenario upgraded it since.
fn mesh_at(folder: &RunFolder, scenario: &ScenarioHistory, at_us: u64) -> BTreeMap<String, String> {
    let mut environments = folder.history.environments.iter();
    let found =
        environments.rfind(|environment| environment.key() == scenario.environment() && environment.at_us() <= at_us);
    let mut mesh: BTreeMap<String, String> = found
        .iter()
        .filter_map(|environment| environment.ready())
        .flat_map(|ready| &ready.clusters)
        .filter(|cluster| !cluster.mesh.is_empty())
        .map(|cluster| (cluster.name.clone(), cluster.mesh.clone()))
        .collect();
    for upgrade in scenario.upgrades.iter().filter(|upgrade| upgrade.at_us <= at_us) {
        mesh.insert(upgrade.cluster.clone(), upgrade.to.clone());
    }
    mesh
}

fn check_row(check: &CheckHistory) -> CheckRow {
    let unjudged = match check.closed.as_ref().map(|closed| &closed.reason) {
        Some(CloseReason::Problem(problem)) => problem.message.clone(),
        Some(_) => "the run ended before it was judged".to_owned(),
        None => "the run ended while it was looking".to_owned(),
    };
    let judgement = check.judgement.as_ref();
    CheckRow {
        check: check.opened.check,
        line: check.opened.line,
        requirement: check.opened.requirement.clone(),
        name: check.opened.name.clone(),
        place: check.opened.place.clone(),
        mesh: BTreeMap::new(),
        kind: kind(&check.opened.question).to_owned(),
        outcome: text::outcome(check.outcome()).to_owned(),
        summary: judgement.map_or(unjudged, |judgement| judgement.summary.clone()),
        expected: judgement
            .map(|judgement| judgement.expected.clone())
            .unwrap_or_default(),
        observed: judgement
            .map(|judgement| judgement.observed.clone())
            .unwrap_or_default(),
        excuse: judgement
            .and_then(|judgement| judgement.excuse.as_ref())
            .map(text::excuse),
        opened_us: check.opened.at_us,
        decided_us: judgement.map_or(check.opened.at_us, |judgement| judgement.at_us),
        measures: judgement
            .map(|judgement| judgement.measures.clone())
            .unwrap_or_default(),
        requests: judgement
            .map(|judgement| judgement.requests.clone())
            .unwrap_or_default(),
        evidence: None,
        evidence_files: Vec::new(),
        rung: None,
    }
}

fn kind(question: &Question) -> &'static str {
    match question {
        Question::Objects(_) => "objects",
        Question::Number(_) => "number",
        Question::Requests(_) => "requests",
        Question::Serving(_) => "serving",
        Question::Split(_) => "split",
        Question::Mtls(_) => "mtls",
        Question::Access(_) => "access",
        Question::Rejected(_) => "rejected",
        Question::Inventory(_) => "inventory",
    }
}

fn requirement_status(
    row: &meshproof_verdict::record::RequirementRow,
    scenarios: &[ScenarioRow],
    run: &RunHistory,
    certifies: bool,
) -> RequirementStatus {
    let mut checks = Vec::new();
    let mut known = None;
    let mut worst: Option<Outcome> = None;
    let mut skipped = false;
    for (scenario, history) in scenarios.iter().zip(&run.scenarios) {
        let planned = history
            .planned
            .as_ref()
            .is_some_and(|planned| planned.checks.contains(&row.id));
        for check in history.checks.iter().filter(|check| check.opened.requirement == row.id) {
            checks.push(CheckKey {
                scenario: scenario.key.clone(),
                check: check.opened.check,
            });
            known = known.or(run.standing(history, check).known());
            match check.outcome() {
                Outcome::Skip => skipped = true,
                outcome => worst = worst.max(Some(outcome)),
            }
        }
        if planned && history.skipped.is_some() {
            skipped = true;
        } else if planned && scenario.not_reached.contains(&row.id) {
            worst = worst.max(Some(history.outcome().max(Outcome::Inconclusive)));
        }
    }
    let status = worst.or(skipped.then_some(Outcome::Skip));
    RequirementStatus {
        id: row.id.clone(),
        level: row.level.to_string(),
        text: row.text.clone(),
        status: status.map_or("not run", text::outcome).to_owned(),
        checks,
        gone: certifies && status == Some(Outcome::Pass) && known.is_some(),
        known_deviation: known.map(|row| row.observed.clone()),
    }
}
