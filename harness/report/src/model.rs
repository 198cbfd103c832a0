//! The report as data: what `report.json` holds, and what all other formats are printed from.

use std::collections::BTreeMap;

use meshproof_verdict::consistency::contradictions;
use meshproof_verdict::history::{CheckHistory, LedgerHistory, RunHistory, ScenarioHistory};
use meshproof_verdict::question::Question;
use meshproof_verdict::recheck::{Files as _, Finding, read_one};
use meshproof_verdict::record::{CloseReason, EvidenceFrozen, Outcome};
use meshproof_verdict::wakefulness::Attributed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run_folder::RunFolder;
use crate::text;
use crate::traffic::{Timeline, timeline};

/// Version of the format of `report.json`.
pub const FORMAT: &str = "meshproof/report/v1";

/// `report.json`. Times are scenario µs since the start of the run, unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// Run id.
    pub run: String,
    /// Wall clock at the start, RFC 3339.
    pub started: String,
    /// Version of the harness.
    pub version: String,
    /// Command line.
    pub command: Vec<String>,
    /// Kind of environment.
    pub environment: String,
    /// Whether the run can certify anything.
    pub certifies: bool,
    /// Scenario seconds per wall second.
    pub pace: f64,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Defects that were switched on.
    pub defects: Vec<String>,
    /// SHA-256 over the suite's files.
    pub suite_digest: String,
    /// Part of the suite, `1/3`.
    pub partition: Option<String>,
    /// Worst outcome: `pass`, `skip`, `deviates`, `inconclusive`, `error` or `fail`.
    pub outcome: String,
    /// Length of the run.
    pub duration_us: u64,
    /// Whether the run came to its end.
    pub complete: bool,
    /// State of the journal.
    pub journal: JournalState,
    /// Environments in the order in which they came up.
    pub environments: Vec<EnvironmentRow>,
    /// All requirements of the catalogue, in its order.
    pub requirements: Vec<RequirementStatus>,
    /// All scenarios of the plan, in its order.
    pub scenarios: Vec<ScenarioRow>,
}

/// State of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalState {
    /// Records that were read.
    pub records: u64,
    /// Hash of the last one.
    pub head: String,
    /// What is wrong with it, if anything is.
    pub broken: Option<String>,
    /// Where its records do not agree with each other, or its ledgers not with it: nothing here can be relied on then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// An environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentRow {
    /// Key.
    pub environment: String,
    /// Clusters: name, Kubernetes version, mesh version, trust root.
    pub clusters: Vec<ClusterRow>,
    /// Directed links.
    pub links: Vec<String>,
    /// Wall time to bring it up, µs.
    pub took_wall_us: u64,
    /// Why it did not come up.
    pub problem: Option<ProblemRow>,
    /// Folder of what it looked like then, relative to the run's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterRow {
    /// Name.
    pub name: String,
    /// UID of kube-system.
    pub uid: String,
    /// Kubernetes version.
    pub kubernetes: String,
    /// Mesh and version.
    pub mesh: String,
    /// Fingerprint of the trust root.
    pub trust_root: String,
}

/// What became of a requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementStatus {
    /// Id.
    pub id: String,
    /// `MUST` or `SHOULD`.
    pub level: String,
    /// The sentence.
    pub text: String,
    /// Worst outcome of its checks; `not run` when no selected scenario decides it.
    pub status: String,
    /// Checks that decided it.
    pub checks: Vec<CheckKey>,
    /// What releases that ran are known to break about it.
    pub known_deviation: Option<String>,
    /// Whether a real mesh of such a release kept it all the same: the deviation is gone.
    pub gone: bool,
}

/// Where a check is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckKey {
    /// Key of the scenario.
    pub scenario: String,
    /// Key of the check.
    pub check: u32,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioRow {
    /// Key: id, and repetition if there are several.
    pub key: String,
    /// Id.
    pub id: String,
    /// Area.
    pub area: String,
    /// File.
    pub file: String,
    /// What is shown.
    pub summary: String,
    /// Topology.
    pub topology: String,
    /// Worst outcome.
    pub outcome: String,
    /// Why it was not run: `code: reason`.
    pub skipped: Option<String>,
    /// Start; absent when it did not start.
    pub started_us: Option<u64>,
    /// Length.
    pub duration_us: u64,
    /// Steps that ran.
    pub steps: Vec<StepRow>,
    /// Upgrades of the mesh, in order.
    pub upgrades: Vec<UpgradeRow>,
    /// Checks that were opened.
    pub checks: Vec<CheckRow>,
    /// Requirements of the scenario that no check was opened for.
    pub not_reached: Vec<String>,
    /// All checks of the plan, whether they were reached or not; none when the journal's plan does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned_checks: Vec<PlannedCheckRow>,
    /// Why the scenario was cut short.
    pub cut: Option<String>,
    /// Ledgers.
    pub ledgers: Vec<LedgerRow>,
    /// Objects that cleanup left behind.
    pub left: Vec<String>,
    /// What went wrong in cleanup.
    pub cleanup_problem: Option<ProblemRow>,
}

impl ScenarioRow {
    /// How many checks the scenario has, also those that were not reached. Older journals name only the requirements of those.
    #[must_use]
    pub fn promised(&self) -> usize {
        let planned = match self.planned_checks.len() {
            0 => self.checks.len() + self.not_reached.len(),
            planned => planned,
        };
        planned.max(self.checks.len())
    }
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepRow {
    /// Position.
    pub step: u32,
    /// Line of the file.
    pub line: u32,
    /// Verb.
    pub verb: String,
    /// The step on one line.
    pub text: String,
    /// Start.
    pub started_us: u64,
    /// End; absent when it did not end.
    pub ended_us: Option<u64>,
    /// Whether it disturbs running traffic.
    pub disturbs: bool,
    /// What went wrong.
    pub problem: Option<ProblemRow>,
}

/// An upgrade of the mesh in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeRow {
    /// Cluster.
    pub cluster: String,
    /// Mesh and version before.
    pub from: String,
    /// Mesh and version after.
    pub to: String,
    /// When it was done.
    pub at_us: u64,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRow {
    /// Key.
    pub check: u32,
    /// Line of the file.
    pub line: u32,
    /// Requirement.
    pub requirement: String,
    /// Name.
    pub name: Option<String>,
    /// Link or cluster.
    pub place: String,
    /// Mesh and version of each cluster when it was opened.
    pub mesh: BTreeMap<String, String>,
    /// Kind of question, e.g. `split`.
    pub kind: String,
    /// Outcome.
    pub outcome: String,
    /// One line.
    pub summary: String,
    /// What was expected.
    pub expected: String,
    /// What was observed.
    pub observed: String,
    /// Why it turns nothing red although the promise was broken.
    pub excuse: Option<String>,
    /// When it was opened.
    pub opened_us: u64,
    /// When it was decided.
    pub decided_us: u64,
    /// Numbers.
    pub measures: BTreeMap<String, f64>,
    /// Requests that prove it.
    pub requests: Vec<String>,
    /// Folder of the evidence.
    pub evidence: Option<String>,
    /// Its files, relative to the run's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence_files: Vec<String>,
    /// First broken rung, and a line about it.
    pub rung: Option<String>,
}

/// A check of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedCheckRow {
    /// Key.
    pub check: u32,
    /// Requirement.
    pub requirement: String,
    /// Name.
    pub name: Option<String>,
    /// What it is about, as the file says.
    pub place: String,
}

/// A ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerRow {
    /// Name.
    pub ledger: String,
    /// File.
    pub file: String,
    /// What was sent.
    pub text: String,
    /// Rows that the journal vouches for; absent when the ledger was not closed.
    pub rows: Option<u64>,
    /// Over time.
    pub timeline: Option<Timeline>,
}

/// Something that went wrong outside of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemRow {
    /// Whose fault: `environment`, `mesh`, `harness`, `interrupted`.
    pub class: String,
    /// Code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

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
