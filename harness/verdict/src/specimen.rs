//! A small, complete and right run, for tests: two scenarios, of which one is skipped, two checks and a ledger.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::history::{CheckHistory, Folding};
use crate::journal::{JournalWriter, hex, read_journal};
use crate::judge::{KnownLedger, LedgerSet, control_outcomes, judge};
use crate::ledger::{Answered, RequestResult, Row};
use crate::question::{
    AnsweredPattern, Count, ObjectsQuestion, Observation, Question, RequestPattern, RequestsQuestion, Timing,
};
use crate::recheck::Files;
use crate::reconcile::Reconciliation;
use crate::record::{
    CheckClosed, CheckOpened, CleanedUp, CloseReason, EnvironmentReady, Event, Judged, LedgerClosed, LedgerOpened,
    Observed, Outcome, PlannedScenario, Record, RunEnded, RunStarted, ScenarioEnded, ScenarioSkipped, ScenarioStarted,
    StepEnded, StepStarted,
};
use crate::wakefulness::Wakefulness;

/// A run as it lies on disk.
pub(crate) struct Specimen {
    pub(crate) journal: Vec<u8>,
    pub(crate) records: Vec<Record>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Files for Specimen {
    type Reader = std::io::Cursor<Vec<u8>>;

    fn open(&self, file: &str) -> std::io::Result<Self::Reader> {
        let bytes = self.files.get(file).cloned();
        bytes
            .map(std::io::Cursor::new)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
    }

    fn below(&self, folder: &str) -> std::io::Result<Vec<String>> {
        let below = |file: &String| file.strip_prefix(folder)?.strip_prefix('/').map(ToOwned::to_owned);
        Ok(self.files.keys().filter_map(below).collect())
    }
}

fn planned(key: &str, checks: &[&str]) -> PlannedScenario {
    PlannedScenario {
        key: key.to_owned(),
        id: key.to_owned(),
        area: "mirroring".to_owned(),
        file: format!("mirroring/{key}.yaml"),
        summary: "One sentence.".to_owned(),
        checks: checks.iter().map(|id| (*id).to_owned()).collect(),
        topology: "pair".to_owned(),
        digest: "00".to_owned(),
        steps: Some(3),
        expects: vec![],
    }
}

pub(crate) fn started() -> RunStarted {
    RunStarted {
        format: crate::record::FORMAT,
        run: "r1".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        version: "0.1.0".to_owned(),
        command: vec!["meshproof".to_owned(), "run".to_owned()],
        nonce: "n".to_owned(),
        seed: 1,
        pace: 10.0,
        environment: "embedded".to_owned(),
        certifies: false,
        defects: vec![],
        suite_digest: "00".to_owned(),
        requirements: vec![],
        scenarios: vec![
            planned("export", &["MC-ONE-001", "MC-TWO-001"]),
            planned("skipped", &["MC-TWO-001"]),
        ],
        deviations: Vec::new(),
        strict: false,
        partition: None,
    }
}

/// Three requests that east answered.
pub(crate) fn rows() -> Vec<Row> {
    (0..3)
        .map(|number| Row {
            id: format!("shop.call-{number}"),
            intended_us: 4500 + number,
            started_us: 4500 + number,
            ended_us: 4600 + number,
            client: "west/shop/shopper".to_owned(),
            connection: 0,
            result: RequestResult::Answered(Answered {
                status: 200,
                cluster: Some("east".to_owned()),
                nonce_matches: true,
                ..Answered::default()
            }),
        })
        .collect()
}

fn ledger_bytes() -> Vec<u8> {
    let lines = rows()
        .into_iter()
        .map(|row| serde_json::to_string(&row).expect("rows have a JSON form") + "\n");
    lines.collect::<String>().into_bytes()
}

struct Pen {
    writer: JournalWriter<Vec<u8>>,
    history: Folding,
}

impl Pen {
    fn note(&mut self, at_us: u64, event: Event) {
        let record = self.writer.append(event, at_us).expect("memory takes every line");
        self.history.apply(&record);
    }

    fn judge(&mut self, at_us: u64, check: u32, ledgers: &LedgerSet) {
        let scenario = self.history.history().scenario("export").expect("it was started");
        let opened: &CheckHistory = scenario.check(check).expect("it was opened");
        let judgement = judge(opened, &control_outcomes(scenario, opened, ledgers), ledgers);
        assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.summary);
        self.note(
            at_us,
            Event::Judged(Judged {
                scenario: "export".to_owned(),
                check,
                judgement: Box::new(judgement),
            }),
        );
    }
}

/// Writes the run.
pub(crate) fn run() -> Specimen {
    let scenario = || "export".to_owned();
    let mut pen = Pen {
        writer: JournalWriter::new(Vec::new()),
        history: Folding::default(),
    };
    let step = |step: u32, line: u32, text: &str| {
        Event::StepStarted(StepStarted {
            scenario: scenario(),
            step,
            line,
            verb: text.split(' ').next().unwrap_or_default().to_owned(),
            text: text.to_owned(),
            disturbs: false,
        })
    };
    let step_ended = |step: u32| {
        Event::StepEnded(StepEnded {
            scenario: scenario(),
            step,
            problem: None,
            awake: Wakefulness::default(),
        })
    };
    let opened = |check: u32, requirement: &str, question: Question| {
        Event::CheckOpened(CheckOpened {
            scenario: scenario(),
            check,
            line: 10 + 2 * check,
            requirement: requirement.to_owned(),
            name: None,
            place: "west → east".to_owned(),
            control: vec![],
            question: Box::new(question),
            proves: None,
        })
    };
    let closed = |check: u32, rows: &[(&str, u64)]| {
        Event::CheckClosed(CheckClosed {
            scenario: scenario(),
            check,
            reason: CloseReason::Decided,
            rows: rows.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect(),
            awake: Wakefulness::default(),
        })
    };
    let saw = |objects: Vec<serde_json::Value>| {
        Event::Observed(Observed {
            scenario: scenario(),
            check: 1,
            observation: Observation::Objects(objects),
        })
    };

    pen.note(0, Event::RunStarted(Box::new(started())));
    pen.note(
        500,
        Event::EnvironmentReady(EnvironmentReady {
            environment: "pair".to_owned(),
            clusters: vec![],
            links: vec![],
            took_wall_us: 500,
        }),
    );
    pen.note(
        600,
        Event::ScenarioSkipped(ScenarioSkipped {
            scenario: "skipped".to_owned(),
            code: "capability-missing".to_owned(),
            reason: "no relay".to_owned(),
        }),
    );
    pen.note(
        1000,
        Event::ScenarioStarted(ScenarioStarted {
            scenario: scenario(),
            namespace: "shop".to_owned(),
            environment: "pair".to_owned(),
        }),
    );
    pen.note(1100, step(0, 10, "export store from east"));
    pen.note(1200, step_ended(0));
    pen.note(1900, step(1, 12, "expect object"));
    let present = Question::Objects(ObjectsQuestion {
        subject: "west Service shop/store-east".to_owned(),
        count: Count {
            exactly: Some(1),
            ..Count::default()
        },
        each: vec![],
        timing: Timing {
            within_us: Some(10_000),
            ..Timing::default()
        },
    });
    pen.note(2000, opened(1, "MC-ONE-001", present));
    pen.note(2100, saw(vec![]));
    pen.note(
        3000,
        saw(vec![json!({"kind": "Service", "metadata": {"name": "store-east"}})]),
    );
    pen.note(4000, closed(1, &[]));
    pen.judge(4010, 1, &LedgerSet::default());
    pen.note(4020, step_ended(1));
    pen.note(
        4100,
        Event::LedgerOpened(LedgerOpened {
            scenario: scenario(),
            ledger: "call".to_owned(),
            file: "ledgers/export/call.ndjson".to_owned(),
            text: "shopper → store".to_owned(),
        }),
    );
    let bytes = ledger_bytes();
    pen.note(
        5000,
        Event::LedgerClosed(LedgerClosed {
            scenario: scenario(),
            ledger: "call".to_owned(),
            rows: 3,
            sha256: hex(&Sha256::digest(&bytes)),
            unaccounted: vec![],
            max_late_us: 0,
            reconciliation: Some(Box::new(Reconciliation {
                server_rows: 3,
                ..Reconciliation::default()
            })),
        }),
    );
    pen.note(5050, step(2, 14, "expect call"));
    let every = RequestPattern::Answered(AnsweredPattern {
        by: vec!["east".to_owned()],
        ..AnsweredPattern::default()
    });
    let question = Question::Requests(RequestsQuestion {
        ledger: "call".to_owned(),
        every,
    });
    pen.note(5100, opened(2, "MC-TWO-001", question));
    pen.note(5200, closed(2, &[("call", 3)]));
    let known = pen
        .history
        .history()
        .scenario("export")
        .and_then(|scenario| scenario.ledger("call"));
    let ledger = KnownLedger {
        rows: rows(),
        closed: known.and_then(|ledger| ledger.closed.clone()),
    };
    pen.judge(5210, 2, &LedgerSet(BTreeMap::from([("call".to_owned(), ledger)])));
    pen.note(5220, step_ended(2));
    pen.note(
        6000,
        Event::CleanedUp(CleanedUp {
            scenario: scenario(),
            left: vec![],
            problem: None,
            kept: false,

            awake: Wakefulness::default(),
        }),
    );
    pen.note(
        6100,
        Event::ScenarioEnded(ScenarioEnded {
            scenario: scenario(),
            outcome: Outcome::Pass,
        }),
    );
    pen.note(6200, Event::RunEnded(RunEnded { outcome: Outcome::Pass }));

    let journal = pen.writer.into_inner();
    let records = read_journal(&journal[..]).expect("memory can be read").records;
    Specimen {
        journal,
        records,
        files: BTreeMap::from([("ledgers/export/call.ndjson".to_owned(), bytes)]),
    }
}
