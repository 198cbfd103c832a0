//! A small run, written as the engine would, and what every format makes of it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;

use meshproof_report::model::Report;
use meshproof_report::run_folder::{JOURNAL, RunFolder};
use meshproof_report::traffic::timeline;
use meshproof_report::{html, junit, markdown, schema, table};
use meshproof_terms::{Level, VersionRange};
use meshproof_verdict::journal::{JournalWriter, hex};
use meshproof_verdict::ledger::{Answered, RequestResult, Row};
use meshproof_verdict::question::{Count, ObjectsQuestion, Question, ServingPattern, ServingQuestion, Timing};
use meshproof_verdict::recheck::recheck;
use meshproof_verdict::record::{
    CheckClosed, CheckOpened, CleanedUp, CloseReason, ClusterFacts, DeviationRow, EnvironmentEvidence,
    EnvironmentFailed, EnvironmentReady, Event, EvidenceFrozen, Judged, Judgement, LedgerClosed, LedgerOpened, Outcome,
    PlannedCheck, PlannedScenario, Problem, ProblemClass, RequirementRow, RunEnded, RunStarted, ScenarioEnded,
    ScenarioSkipped, ScenarioStarted, StepEnded, StepStarted,
};
use meshproof_verdict::wakefulness::Wakefulness;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn planned(key: &str, checks: &[&str]) -> PlannedScenario {
    PlannedScenario {
        key: key.into(),
        id: key.into(),
        area: "failover".into(),
        file: format!("scenarios/failover/{key}.yaml"),
        summary: "A route keeps answering.".into(),
        checks: checks.iter().map(ToString::to_string).collect(),
        topology: "pair".into(),
        digest: "0".repeat(64),
        steps: None,
        expects: checks
            .iter()
            .map(|id| PlannedCheck {
                step: if key == "green" { 1 } else { 2 },
                requirement: (*id).to_owned(),
                name: None,
                place: "west".into(),
            })
            .collect(),
    }
}

fn judgement(outcome: Outcome, text: &str, at_us: u64) -> Box<Judgement> {
    Box::new(Judgement {
        outcome,
        summary: format!("{text}: the promise and what happened"),
        expected: format!("{text}: expected"),
        observed: format!("{text}: observed"),
        at_us,
        measures: [("lost".to_owned(), 3.0), ("recovered_after_us".to_owned(), 3_200_000.0)].into(),
        requests: vec!["steady-17".into()],
        excuse: None,
    })
}

/// The events of a run with a scenario that passes, one that fails and one that is skipped. `text` appears wherever the
/// outside world puts text.
fn events(text: &str) -> Vec<(u64, Event)> {
    let check = |scenario: &str, check, requirement: &str, question| {
        Event::CheckOpened(CheckOpened {
            scenario: scenario.into(),
            check,
            line: 10 + check,
            requirement: requirement.into(),
            name: None,
            place: "west → east".into(),
            control: Vec::new(),
            question: Box::new(question),
            proves: None,
        })
    };
    let objects = Question::Objects(ObjectsQuestion {
        subject: "west Service shop/store-east".into(),
        count: Count {
            exactly: Some(1),
            ..Count::default()
        },
        each: Vec::new(),
        timing: Timing::default(),
    });
    let serving = Question::Serving(ServingQuestion {
        ledger: "steady".into(),
        since_us: 2_000_000,
        pattern: ServingPattern::Only(vec!["east".into()]),
        lost_at_most: Some(10),
        timing: Timing::default(),
    });
    let step = |scenario: &str, step, verb: &str| {
        Event::StepStarted(StepStarted {
            scenario: scenario.into(),
            step,
            line: 10 + step,
            verb: verb.into(),
            text: format!("{verb} {text}"),
            disturbs: verb == "scale",
        })
    };
    let end = |scenario: &str, step| {
        Event::StepEnded(StepEnded {
            scenario: scenario.into(),
            step,
            problem: None,
            awake: Wakefulness::default(),
        })
    };
    vec![
        (
            0,
            Event::RunStarted(Box::new(RunStarted {
                format: meshproof_verdict::record::FORMAT,
                run: "r1".into(),
                started: "2026-03-01T12:00:00Z".into(),
                version: "0.1.0".into(),
                command: vec!["meshproof".into(), "run".into()],
                nonce: "n".into(),
                seed: 7,
                pace: 10.0,
                environment: "embedded".into(),
                certifies: false,
                defects: vec!["weights-ignored".into()],
                suite_digest: "5".repeat(64),
                requirements: ["MC-A-001", "MC-A-002", "MC-A-003", "MC-A-004"]
                    .map(|id| RequirementRow {
                        id: id.into(),
                        level: Level::Must,
                        text: text.into(),
                        versions: VersionRange::ALL,
                    })
                    .into(),
                scenarios: vec![
                    planned("green", &["MC-A-001"]),
                    planned("red", &["MC-A-002"]),
                    planned("left-out", &["MC-A-003"]),
                ],
                deviations: vec![DeviationRow {
                    requirement: "MC-A-002".into(),
                    versions: "2.18+".parse().unwrap(),
                    observed: "seen upstream".into(),
                    upstream: "not reported".into(),
                }],
                strict: false,
                partition: None,
            })),
        ),
        (
            500_000,
            Event::EnvironmentReady(EnvironmentReady {
                environment: "pair".into(),
                clusters: vec![ClusterFacts {
                    name: "west".into(),
                    mesh: text.into(),
                    ..ClusterFacts::default()
                }],
                links: vec!["west → east".into()],
                took_wall_us: 120_000,
            }),
        ),
        (
            600_000,
            Event::ScenarioStarted(ScenarioStarted {
                scenario: "green".into(),
                namespace: "a".into(),
                environment: "pair".into(),
            }),
        ),
        (700_000, step("green", 0, "deploy")),
        (800_000, end("green", 0)),
        (850_000, step("green", 1, "expect")),
        (900_000, check("green", 1, "MC-A-001", objects)),
        (
            1_000_000,
            Event::CheckClosed(CheckClosed {
                scenario: "green".into(),
                check: 1,
                reason: CloseReason::Decided,
                rows: Default::default(),
                awake: Wakefulness::default(),
            }),
        ),
        (
            1_000_000,
            Event::Judged(Judged {
                scenario: "green".into(),
                check: 1,
                judgement: judgement(Outcome::Pass, text, 1_000_000),
            }),
        ),
        (1_000_000, end("green", 1)),
        (
            1_100_000,
            Event::CleanedUp(CleanedUp {
                scenario: "green".into(),
                left: Vec::new(),
                problem: None,
                kept: false,

                awake: Wakefulness::default(),
            }),
        ),
        (
            1_100_000,
            Event::ScenarioEnded(ScenarioEnded {
                scenario: "green".into(),
                outcome: Outcome::Pass,
            }),
        ),
        (
            1_200_000,
            Event::ScenarioStarted(ScenarioStarted {
                scenario: "red".into(),
                namespace: "b".into(),
                environment: "pair".into(),
            }),
        ),
        (
            1_300_000,
            Event::LedgerOpened(LedgerOpened {
                scenario: "red".into(),
                ledger: "steady".into(),
                file: "ledgers/red/steady.ndjson".into(),
                text: format!("shopper (west) → store, 100/s {text}"),
            }),
        ),
        (1_300_000, step("red", 0, "traffic")),
        (1_400_000, end("red", 0)),
        (2_000_000, step("red", 1, "scale")),
        (2_100_000, end("red", 1)),
        (2_150_000, step("red", 2, "expect")),
        (2_200_000, check("red", 2, "MC-A-002", serving)),
        (
            9_000_000,
            Event::CheckClosed(CheckClosed {
                scenario: "red".into(),
                check: 2,
                reason: CloseReason::Deadline,
                rows: Default::default(),
                awake: Wakefulness::default(),
            }),
        ),
        (
            9_000_000,
            Event::Judged(Judged {
                scenario: "red".into(),
                check: 2,
                judgement: judgement(Outcome::Fail, text, 9_000_000),
            }),
        ),
        (
            9_100_000,
            Event::EvidenceFrozen(EvidenceFrozen {
                scenario: "red".into(),
                check: 2,
                folder: "evidence/red-2".into(),
                rung: Some("endpoints".into()),
                note: text.into(),
                files: None,
            }),
        ),
        (9_100_000, end("red", 2)),
        (
            9_150_000,
            Event::LedgerClosed(LedgerClosed {
                scenario: "red".into(),
                ledger: "steady".into(),
                rows: 200,
                sha256: hex(&Sha256::digest(rows().as_bytes())),
                unaccounted: Vec::new(),
                max_late_us: 0,
                reconciliation: None,
            }),
        ),
        (
            9_200_000,
            Event::CleanedUp(CleanedUp {
                scenario: "red".into(),
                left: vec![text.into()],
                problem: None,
                kept: false,

                awake: Wakefulness::default(),
            }),
        ),
        (
            9_200_000,
            Event::ScenarioEnded(ScenarioEnded {
                scenario: "red".into(),
                outcome: Outcome::Fail,
            }),
        ),
        (
            9_300_000,
            Event::ScenarioSkipped(ScenarioSkipped {
                scenario: "left-out".into(),
                code: "capability-missing".into(),
                reason: text.into(),
            }),
        ),
        (9_400_000, Event::RunEnded(RunEnded { outcome: Outcome::Fail })),
    ]
}

fn write(folder: &Path, events: Vec<(u64, Event)>) {
    let mut journal = JournalWriter::new(Vec::new());
    for (at_us, event) in events {
        journal.append(event, at_us).unwrap();
    }
    fs::write(folder.join(JOURNAL), journal.into_inner()).unwrap();
    fs::create_dir_all(folder.join("ledgers/red")).unwrap();
    fs::write(folder.join("ledgers/red/steady.ndjson"), rows()).unwrap();
}

/// The ledger of the run.
fn rows() -> String {
    (0..200)
        .map(|n| {
            let cluster = if n < 50 { "west" } else { "east" };
            let result = if (50..60).contains(&n) {
                RequestResult::Failed {
                    kind: "timeout".into(),
                    detail: "no answer".into(),
                }
            } else {
                RequestResult::Answered(Answered {
                    status: 200,
                    cluster: Some(cluster.into()),
                    ..Answered::default()
                })
            };
            let at_us = 1_500_000 + n * 20_000;
            let row = Row {
                id: format!("b.steady-{n}"),
                intended_us: at_us,
                started_us: at_us,
                ended_us: at_us + 900,
                client: "west/b/shopper".into(),
                connection: 0,
                result,
            };
            serde_json::to_string(&row).unwrap() + "\n"
        })
        .collect()
}

fn report(events: Vec<(u64, Event)>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), events);
    Report::of(&RunFolder::read(folder.path()).unwrap())
}

#[test]
fn the_table_tells_what_a_person_needs_to_know() {
    insta::assert_snapshot!(table::table(&report(events("store"))));
}

#[test]
fn markdown_names_what_is_not_met() {
    insta::assert_snapshot!(markdown::markdown(&report(events("store"))));
}

#[test]
fn junit_tells_failures_from_passes_and_skips() {
    let xml = junit::junit(&report(events("store")), "").unwrap();
    insta::assert_snapshot!(xml);
    let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let suites: Vec<_> = read
        .test_suites
        .iter()
        .map(|suite| (suite.name.as_str(), suite.tests, suite.failures, suite.errors))
        .collect();
    assert_eq!(
        suites,
        [
            ("failover.green", 3, 0, 0),
            ("failover.red", 3, 1, 1),
            ("failover.left-out", 3, 0, 0)
        ]
    );
}

#[test]
fn names_in_junit_are_unique() {
    let xml = junit::junit(&report(events("store")), "").unwrap();
    let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let mut names: Vec<_> = read
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .map(|case| (case.classname.clone(), case.name.clone()))
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_run_that_was_killed_is_an_error_and_still_a_report() {
    let all = events("store");
    for length in 1..all.len() {
        let report = report(all[..length].to_vec());
        assert!(!report.complete);
        let failed = all[..length].iter().any(
            |(_, event)| matches!(event, Event::Judged(Judged { judgement, .. }) if judgement.outcome == Outcome::Fail),
        );
        assert_eq!(
            report.outcome,
            if failed { "fail" } else { "error" },
            "after {length} records"
        );
        let xml = junit::junit(&report, "").unwrap();
        assert!(
            quick_junit::Report::deserialize_from_str(&xml).is_ok(),
            "after {length} records"
        );
        assert!(html::html(&report).unwrap().contains("ended before its end"));
    }
}

#[test]
fn a_requirement_that_nobody_decides_is_not_run() {
    let report = report(events("store"));
    let status = |id: &str| {
        report
            .requirements
            .iter()
            .find(|row| row.id == id)
            .unwrap()
            .status
            .clone()
    };
    assert_eq!(
        ["MC-A-001", "MC-A-002", "MC-A-003", "MC-A-004"].map(status),
        ["pass", "fail", "skip", "not run"]
    );
}

#[test]
fn clusters_that_did_not_come_up_are_an_error_and_show_their_evidence() {
    let failures = |events| junit::junit(&report(events), "").unwrap().matches("<failure").count();
    let without = failures(events("store"));
    let folder = "evidence/environments/trio.0";
    let mut events = events("store");
    let failed = Event::EnvironmentFailed(EnvironmentFailed {
        environment: "trio".into(),
        problem: Problem {
            class: ProblemClass::Mesh,
            code: "not-ready".into(),
            message: "link west → east: not ready".into(),
            remedy: None,
        },
        awake: Wakefulness::default(),
        evidence: Some(EnvironmentEvidence {
            folder: folder.into(),
            note: "9 files".into(),
            files: None,
        }),
    });
    events.insert(2, (550_000, failed));
    assert_eq!(failures(events.clone()), without, "no requirement was asked for");
    let report = report(events);
    for text in [
        junit::junit(&report, "").unwrap(),
        table::table(&report),
        markdown::markdown(&report),
        html::html(&report).unwrap(),
    ] {
        assert!(
            text.contains("link west → east: not ready") && text.contains(folder),
            "{text}"
        );
    }
}

#[test]
fn report_json_reads_back_and_holds_to_its_schema() {
    let report = report(events("store"));
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let committed = fs::read_to_string("../../reports/schemas/report.json").unwrap();
    assert_eq!(
        schema::report(),
        committed,
        "run `meshproof schema --write reports/schemas`"
    );
}

#[test]
fn the_page_draws_the_traffic_and_needs_no_network() {
    let page = html::html(&report(events("store"))).unwrap();
    assert!(page.contains("<svg") && page.contains("east 140") && page.contains("lost 10"));
    assert!(page.contains(">scale</text>"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn text_from_outside_stays_text() {
    let evil = "<script>alert(1)</script>\"'&]]>|`\u{0}";
    let report = report(events(evil));
    assert!(!html::html(&report).unwrap().contains("<script"));
    let xml = junit::junit(&report, "").unwrap();
    assert!(quick_junit::Report::deserialize_from_str(&xml).is_ok());
    assert!(!markdown::markdown(&report).contains("<script"));
}

#[test]
fn a_run_that_agrees_with_itself_raises_no_doubts() {
    let report = report(events("store"));
    assert_eq!(report.journal.doubts, Vec::<String>::new());
    assert!(report.scenarios[1].ledgers[0].timeline.is_some());
}

#[test]
fn a_ledger_that_was_changed_is_told_and_not_drawn() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), events("store"));
    let file = folder.path().join("ledgers/red/steady.ndjson");
    fs::write(&file, rows().replace("east", "mars")).unwrap();
    let read = |path: &Path| Report::of(&RunFolder::read(path).unwrap());
    let report = read(folder.path());
    assert_eq!(report.scenarios[1].ledgers[0].timeline, None);
    let doubts = report.journal.doubts.join("\n");
    assert!(doubts.contains("it was changed; no chart"), "{doubts}");
    for shown in [
        table::table(&report),
        markdown::markdown(&report),
        html::html(&report).unwrap(),
        junit::junit(&report, "").unwrap(),
    ] {
        assert!(shown.contains("it was changed"), "{shown}");
        assert!(!shown.contains("mars"), "{shown}");
    }
    fs::remove_file(&file).unwrap();
    let doubts = read(folder.path()).journal.doubts.join("\n");
    assert!(doubts.contains("it can't be read"), "{doubts}");
}

#[test]
fn nothing_outside_of_the_folder_is_read() {
    for file in ["/dev/zero", "/etc/passwd", "../outside", "ledgers/red/zero"] {
        let folder = tempfile::tempdir().unwrap();
        let mut events = events("store");
        for (_, event) in &mut events {
            if let Event::LedgerOpened(LedgerOpened { file: named, .. }) = event {
                *named = file.into();
            }
        }
        write(folder.path(), events);
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("ledgers/red/zero")).unwrap();
        let report = Report::of(&RunFolder::read(folder.path()).unwrap());
        assert_eq!(report.scenarios[1].ledgers[0].timeline, None, "{file}");
        let doubts = report.journal.doubts.join("\n");
        assert!(doubts.contains("it can't be read"), "{file}: {doubts}");
    }
}

#[test]
fn a_folder_without_a_journal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = RunFolder::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains(JOURNAL), "{error}");
    fs::write(folder.path().join(JOURNAL), "nonsense\n").unwrap();
    let error = RunFolder::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("the line is too short for a record"), "{error}");
}

/// What every text of a hostile journal tries: escape sequences, lines and orders of its own, markup, attachments.
const HOSTILE: &str = "a\n::add-mask::pass\npass: 59 scenarios (59 pass)\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e} ##[error]x \
                       <script>alert(1)</script> [x](javascript:alert(1)) ![](http://a.b/c) `c` | [[ATTACHMENT|/etc/passwd]] ]]>";

/// The events with this text in every text that has no meaning to the reader.
fn hostile_events() -> Vec<(u64, Event)> {
    let mut events = events(HOSTILE);
    for (_, event) in &mut events {
        match event {
            Event::RunStarted(started) => {
                started.environment = HOSTILE.into();
                started.version = HOSTILE.into();
                started.defects = vec![HOSTILE.into()];
                started.command = vec![HOSTILE.into()];
                for scenario in &mut started.scenarios {
                    scenario.file = HOSTILE.into();
                    scenario.area = HOSTILE.into();
                    scenario.summary = HOSTILE.into();
                }
            }
            Event::CheckOpened(CheckOpened { place, name, .. }) => {
                *place = HOSTILE.into();
                *name = Some(HOSTILE.into());
            }
            Event::StepEnded(StepEnded { problem, step: 0, .. }) => {
                *problem = Some(meshproof_verdict::record::Problem {
                    class: meshproof_verdict::record::ProblemClass::Environment,
                    code: HOSTILE.into(),
                    message: HOSTILE.into(),
                    remedy: Some(HOSTILE.into()),
                });
            }
            Event::EvidenceFrozen(EvidenceFrozen {
                folder, rung, files, ..
            }) => {
                *folder = HOSTILE.into();
                *rung = Some(HOSTILE.into());
                *files = Some([(HOSTILE.to_owned(), HOSTILE.to_owned())].into());
            }
            _ => {}
        }
    }
    events
}

#[test]
fn a_hostile_journal_says_nothing_of_its_own_in_any_sink() {
    let report = report(hostile_events());
    let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    let shown = table::table(&report);
    assert!(!shown.chars().any(acts), "{shown}");
    assert!(!shown.contains("##"), "{shown}");
    for line in shown.lines() {
        assert!(!line.trim_start().starts_with("::"), "{line}");
        assert!(!line.starts_with("pass: 59"), "{line}");
    }
    let markdown = markdown::markdown(&report);
    assert!(!markdown.chars().any(acts), "{markdown}");
    for markup in ["](javascript", "![](", "http://", "<script", "\n::"] {
        assert!(!markdown.contains(markup), "{markup} in {markdown}");
    }
    let page = html::html(&report).unwrap();
    assert!(!page.chars().any(acts));
    assert!(!page.contains("<script") && !page.contains("href=\"javascript"));
    let xml = junit::junit(&report, "").unwrap();
    assert!(!xml.chars().any(acts), "{xml}");
    assert!(!xml.contains("[[ATTACHMENT|/etc/passwd]]"), "{xml}");
    assert!(quick_junit::Report::deserialize_from_str(&xml).is_ok());
}

/// Attributes of each element that `junit-10.xsd` of Jenkins' xUnit plugin knows; it drops files that have others.
const KNOWN: [(&str, &[&str]); 9] = [
    ("testsuites", &["name", "time", "tests", "failures", "errors"]),
    (
        "testsuite",
        &[
            "name",
            "tests",
            "failures",
            "errors",
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
        ],
    ),
    ("testcase", &["name", "time", "classname", "group"]),
    ("properties", &[]),
    ("property", &["name", "value"]),
    ("failure", &["type", "message"]),
    ("error", &["type", "message"]),
    ("skipped", &["type", "message"]),
    ("system-out", &[]),
];

/// Elements and their attributes, in order. Good enough for what a serializer writes: quotes in values are escaped.
fn elements(xml: &str) -> Vec<(String, Vec<String>)> {
    let tags = xml.split('<').skip(1).filter(|tag| !tag.starts_with(['/', '?', '!']));
    tags.map(|tag| {
        let tag = tag.split_once('>').map_or(tag, |(tag, _)| tag).trim_end_matches('/');
        let (name, rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let attributes = rest
            .split('"')
            .step_by(2)
            .map(|name| name.trim().trim_end_matches('=').to_owned());
        (name.to_owned(), attributes.filter(|name| !name.is_empty()).collect())
    })
    .collect()
}

#[test]
fn junit_has_only_what_its_schema_knows() {
    for events in [events("store"), hostile_events()] {
        let xml = junit::junit(&report(events), "reports/runs/r1/").unwrap();
        let mut cases = 0;
        for (element, attributes) in elements(&xml) {
            let known = KNOWN.iter().find(|(known, _)| *known == element);
            let (_, known) = known.unwrap_or_else(|| panic!("element {element} in {xml}"));
            for attribute in &attributes {
                assert!(known.contains(&attribute.as_str()), "{element} {attribute} in {xml}");
            }
            if element == "testcase" {
                cases += 1;
                assert_eq!(attributes, ["name", "classname", "time"]);
            }
        }
        assert!(cases > 8, "{xml}");
    }
}

/// Class and name of every case.
fn cases(report: &Report) -> Vec<(String, String)> {
    let xml = junit::junit(report, "").unwrap();
    let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let cases = read.test_suites.iter().flat_map(|suite| &suite.test_cases);
    cases
        .map(|case| {
            let class = case.classname.as_ref().unwrap().to_string();
            (class, case.name.to_string())
        })
        .collect()
}

#[test]
fn names_of_any_length_are_shown() {
    let name = "x".repeat(70_000);
    let mut long = events("store");
    for (_, event) in &mut long {
        if let Event::RunStarted(started) = event {
            started.scenarios[0].area.clone_from(&name);
        }
    }
    let report = report(long);
    let table = table::table(&report);
    assert!(table.contains(&format!("{name}/green")));
    // It makes no other line longer.
    assert!(table.len() < name.len() + 10_000, "{}", table.len());
    assert!(junit::junit(&report, "").unwrap().contains("xxx"));
    assert!(html::html(&report).unwrap().contains("xxx"));
    assert!(!markdown::markdown(&report).is_empty());
}

#[test]
fn the_table_counts_the_checks_that_were_promised() {
    // The journal ends before any step: nothing was reached.
    let cut: Vec<_> = events("store").drain(..1).collect();
    let table = table::table(&report(cut.clone()));
    assert_eq!(table.matches("0/1 checks").count(), 3, "{table}");
    // Older journals have no list of them.
    let older = cut.into_iter().map(|(at_us, mut event)| {
        if let Event::RunStarted(started) = &mut event {
            for scenario in &mut started.scenarios {
                scenario.expects.clear();
            }
        }
        (at_us, event)
    });
    let table = table::table(&report(older.collect()));
    assert_eq!(table.matches("0/1 checks").count(), 3, "{table}");
}

#[test]
fn a_check_is_called_the_same_whatever_becomes_of_it() {
    let usual = cases(&report(events("store")));
    // The scenarios were edited: everything stands lower in its file.
    let mut moved = events("store");
    for (_, event) in &mut moved {
        if let Event::StepStarted(StepStarted { line, .. }) | Event::CheckOpened(CheckOpened { line, .. }) = event {
            *line += 100;
        }
    }
    assert_eq!(cases(&report(moved)), usual);
    // Nothing was reached.
    let all = events("store");
    let planned: Vec<_> = all[..1].to_vec();
    let names = |cases: &[(String, String)]| -> Vec<(String, String)> {
        let cases = cases.iter().filter(|(class, _)| class != "run");
        cases.cloned().collect()
    };
    assert_eq!(names(&cases(&report(planned))), names(&usual));
    // All were skipped.
    let skipped = ["green", "red", "left-out"].map(|scenario| {
        (
            1,
            Event::ScenarioSkipped(ScenarioSkipped {
                scenario: scenario.into(),
                code: "capability-missing".into(),
                reason: "no relay".into(),
            }),
        )
    });
    let skipped: Vec<_> = all[..1].iter().cloned().chain(skipped).collect();
    assert_eq!(names(&cases(&report(skipped))), names(&usual));
}

#[test]
fn what_is_attached_is_a_file_from_where_the_build_works() {
    let mut events = events("store");
    for (_, event) in &mut events {
        if let Event::EvidenceFrozen(EvidenceFrozen { files, .. }) = event {
            *files = Some([("west/logs/a.log".to_owned(), "00".to_owned())].into());
        }
    }
    let xml = junit::junit(&report(events), "reports/runs/r1/").unwrap();
    assert!(
        xml.contains("[[ATTACHMENT|reports/runs/r1/evidence/red-2/west/logs/a.log]]"),
        "{xml}"
    );
}

/// Numbers of a value, one after another, as a hostile writer would choose them.
fn with_number(value: &mut serde_json::Value, at: &mut usize, number: u64) {
    match value {
        serde_json::Value::Number(old) if old.is_u64() => {
            if *at == 0 {
                *value = number.into();
            }
            *at = at.wrapping_sub(1);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| with_number(item, at, number)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|item| with_number(item, at, number)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Any number of any record and row may be anything: nothing panics, and everything is still shown.
    #[test]
    fn no_number_makes_it_panic(
        record in 0_usize..30, field in 0_usize..12, late in any::<bool>(),
        number in prop::sample::select(vec![0, 1, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX]),
        row in 0_usize..200, row_field in 0_usize..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut events = events("store");
        let record = record % events.len();
        let mut value = serde_json::to_value(&events[record].1).unwrap();
        with_number(&mut value, &mut field.clone(), number);
        if let Ok(event) = serde_json::from_value(value) {
            events[record].1 = event;
        }
        if late {
            events[record].0 = number;
        }
        write(folder.path(), events);
        let rows: Vec<String> = rows().lines().enumerate().map(|(index, line)| {
            if index != row {
                return line.to_owned() + "\n";
            }
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            with_number(&mut value, &mut row_field.clone(), number);
            value.to_string() + "\n"
        }).collect();
        fs::write(folder.path().join("ledgers/red/steady.ndjson"), rows.concat()).unwrap();
        let read = RunFolder::read(folder.path()).unwrap();
        let _ = recheck(&read.history, &read.integrity, &read);
        let mut report = Report::of(&read);
        // Also where the digest fits: who wrote the rows could have made it fit.
        let rows = meshproof_verdict::ledger_file::read_ledger(rows.concat().as_bytes()).unwrap().rows;
        report.scenarios[1].ledgers[0].timeline = timeline(&rows);
        prop_assert!(html::html(&report).is_ok());
        prop_assert!(junit::junit(&report, "").is_ok());
        prop_assert!(!table::table(&report).is_empty() && !markdown::markdown(&report).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_gives_valid_xml_and_html(text in any::<String>()) {
        let report = report(events(&text));
        let xml = junit::junit(&report, "").unwrap();
        prop_assert!(quick_junit::Report::deserialize_from_str(&xml).is_ok());
        prop_assert!(html::html(&report).is_ok());
        prop_assert!(!table::table(&report).is_empty());
    }
}
