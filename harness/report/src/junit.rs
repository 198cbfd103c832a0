//! JUnit: one suite per scenario, one case per check, and cases for set-up and cleanup.
//!
//! Consumers disagree (names must be unique, many drop case properties, some cut long texts), so: names are unique in the
//! file, messages are one short line, what matters is in the text as well, and a failure (`<failure>`: a promise was broken)
//! is not an error (`<error>`: it could not be found out).
//!
//! Those who compare runs (Jenkins' history, GitLab's newly failed, detection of flaky tests) go by class and name, so these
//! say which check it is and nothing that an edit of the file or a bad day changes: no line, and the same name whether it
//! passed, failed, was skipped or was never reached. Elements and attributes are those of `junit-10.xsd` of Jenkins' xUnit
//! plugin, which drops files that have others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Property, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use crate::encode;
use crate::model::{CheckRow, ProblemRow, Report, ScenarioRow};
use crate::text::{self, clip, seconds};

/// Longest message attribute, bytes.
const MESSAGE: usize = 250;
/// Longest body, bytes.
const BODY: usize = 8 * 1024;

/// Files that one case has attached, at most.
const ATTACHMENTS: usize = 20;

/// The report as JUnit XML. `folder` is the run's folder as those who read the file name it, with a slash at its end, or
/// empty: attachments lie below it.
///
/// # Errors
/// When the XML can't be written, which only a bug can cause.
pub fn junit(report: &Report, folder: &str) -> Result<String, quick_junit::SerializeError> {
    // A report that can't be copied is a bug; one without scenarios and complete would be a lie.
    let unprintable = encode::printable(report).is_none();
    let printable = encode::printable(report).unwrap_or_default();
    let report = &printable;
    let mut junit = Junit::new(encode::junit(&format!("meshproof {}", report.environment)));
    junit.set_time(std::time::Duration::from_micros(report.duration_us));
    for environment in &report.environments {
        if let Some(problem) = &environment.problem {
            let mut suite = TestSuite::new(encode::junit(&format!("environment {}", environment.environment)));
            suite.add_test_case(case(
                "environment",
                &format!("{} comes up", environment.environment),
                nobodys_promise(problem, environment.evidence.as_deref()),
            ));
            junit.add_test_suite(suite);
        }
    }
    for scenario in &report.scenarios {
        junit.add_test_suite(suite(report, scenario, folder));
    }
    let mut run = TestSuite::new("run");
    if !report.complete || unprintable {
        let message = "the run was ended before its end; what is missing here was not run";
        run.add_test_case(case("run", "complete", error("harness", message, message)));
    }
    let doubts: Vec<&str> = report
        .journal
        .broken
        .iter()
        .chain(&report.journal.doubts)
        .map(String::as_str)
        .collect();
    if let Some(first) = doubts.first() {
        run.add_test_case(case("run", "journal", error("harness", first, &doubts.join("\n"))));
    }
    if !run.test_cases.is_empty() {
        junit.add_test_suite(run);
    }
    junit.to_string().map(|xml| without_skipped(&xml))
}

/// The sum of skipped cases at the root is in no schema but the crate's own; suites have theirs.
fn without_skipped(xml: &str) -> String {
    let Some(start) = xml.find("<testsuites ") else {
        return xml.to_owned();
    };
    let (front, rest) = xml.split_at(start);
    let end = rest.find('>').unwrap_or(rest.len());
    let (root, rest) = rest.split_at(end);
    // Quotes in values are escaped, so this can be nothing but the attribute.
    let Some((before, value)) = root.split_once(" skipped=\"") else {
        return xml.to_owned();
    };
    let after = value.split_once('"').map_or("", |(_, after)| after);
    format!("{front}{before}{after}{rest}")
}

/// What a check is called, whatever becomes of it and wherever it stands in its file: by its requirement, its name and what
/// it is about; the second of the same with its number.
fn names(scenario: &ScenarioRow) -> BTreeMap<u32, String> {
    let planned = scenario.planned_checks.iter().map(|planned| {
        let name = planned.name.as_deref();
        (
            planned.check,
            planned.requirement.as_str(),
            name,
            planned.place.as_str(),
        )
    });
    let opened = scenario.checks.iter().map(|check| {
        let name = check.name.as_deref();
        (check.check, check.requirement.as_str(), name, check.place.as_str())
    });
    let mut names = BTreeMap::new();
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for (key, requirement, name, place) in planned.chain(opened) {
        if names.contains_key(&key) {
            continue;
        }
        let mut label = requirement.to_owned();
        if let Some(name) = name {
            label = format!("{label} {name}");
        }
        if !place.is_empty() {
            label = format!("{label} [{place}]");
        }
        let count = taken.entry(label.clone()).or_default();
        *count = count.saturating_add(1);
        if *count > 1 {
            label = format!("{label} #{count}");
        }
        names.insert(key, label);
    }
    names
}

fn suite(report: &Report, scenario: &ScenarioRow, folder: &str) -> TestSuite {
    let classname = format!("{}.{}", scenario.area, scenario.key);
    let mut suite = TestSuite::new(encode::junit(&classname));
    suite.set_time(std::time::Duration::from_micros(scenario.duration_us));
    suite.set_timestamp(timestamp(&report.started));
    for (name, value) in [
        ("environment", report.environment.clone()),
        ("certifies", report.certifies.to_string()),
        ("pace", report.pace.to_string()),
        ("seed", report.seed.to_string()),
        ("topology", scenario.topology.clone()),
        ("file", scenario.file.clone()),
        ("suite-digest", report.suite_digest.clone()),
        ("defects", report.defects.join(" ")),
    ] {
        suite.add_property(Property::new(name, encode::junit(&value)));
    }
    for upgrade in &scenario.upgrades {
        suite.add_property(Property::new("upgrade", encode::junit(&text::upgrade(upgrade))));
    }
    let names = names(scenario);
    let skipped = |reason: &str| {
        let mut status = TestCaseStatus::skipped();
        status.set_message(clip(&one_line(reason), MESSAGE));
        status
    };
    let mut steps = case(
        &classname,
        "steps",
        scenario
            .skipped
            .as_deref()
            .map_or_else(|| steps_status(scenario), skipped),
    );
    steps.set_time(std::time::Duration::from_micros(scenario.duration_us));
    suite.add_test_case(steps);
    // In the order of their steps, as the plan has them.
    for (key, name) in &names {
        let check = scenario.checks.iter().find(|check| check.check == *key);
        suite.add_test_case(match (check, &scenario.skipped) {
            (Some(check), _) => check_case(report, scenario, check, (&classname, name), folder),
            (None, Some(reason)) => case(&classname, name, skipped(reason)),
            (None, None) => case(&classname, name, not_reached()),
        });
    }
    if scenario.planned_checks.is_empty() {
        for requirement in &scenario.not_reached {
            let status = scenario.skipped.as_deref().map_or_else(not_reached, skipped);
            suite.add_test_case(case(&classname, requirement, status));
        }
    }
    let cleanup = match (&scenario.cleanup_problem, &scenario.skipped) {
        (Some(problem), _) => nobodys_promise(problem, None),
        (None, Some(reason)) => skipped(reason),
        (None, None) if scenario.left.is_empty() => TestCaseStatus::success(),
        (None, None) => error("environment", "cleanup left objects behind", &scenario.left.join("\n")),
    };
    suite.add_test_case(case(&classname, "cleanup", cleanup));
    suite
}

fn not_reached() -> TestCaseStatus {
    error(
        "inconclusive",
        "not reached",
        "an earlier step did not end well, so this was never looked at",
    )
}

fn steps_status(scenario: &ScenarioRow) -> TestCaseStatus {
    let broken_step = scenario
        .steps
        .iter()
        .find_map(|step| step.problem.as_ref().map(|problem| (step, problem)));
    match (broken_step, &scenario.cut) {
        (Some((step, problem)), _) => {
            let mut status = problem_status(problem);
            status.set_description(encode::junit(&clip(
                &format!(
                    "{}:{}: step `{}`\n{}\n{}",
                    scenario.file,
                    step.line,
                    step.text,
                    problem.message,
                    problem.remedy.as_deref().unwrap_or("")
                ),
                BODY,
            )));
            status
        }
        (None, Some(cut)) => error("harness", cut, cut),
        (None, None) => TestCaseStatus::success(),
    }
}

fn check_case(
    report: &Report,
    scenario: &ScenarioRow,
    check: &CheckRow,
    (classname, name): (&str, &str),
    folder: &str,
) -> TestCase {
    let requirement = report
        .requirements
        .iter()
        .find(|requirement| requirement.id == check.requirement);
    let body = encode::junit(&clip(
        &format!(
            "{}\nrequirement: {} {}\nplace: {}\nat: {}\nexpected: {}\nobserved: {}\n{}{}{}{}:{}",
            check.summary,
            check.requirement,
            requirement.map_or("", |requirement| requirement.text.as_str()),
            check.place,
            seconds(check.decided_us),
            check.expected,
            check.observed,
            text::mesh_of(scenario, check)
                .map(|mesh| format!("mesh: {mesh}\n"))
                .unwrap_or_default(),
            check
                .rung
                .as_ref()
                .map(|rung| format!("first broken rung: {rung}\n"))
                .unwrap_or_default(),
            check
                .evidence
                .as_ref()
                .map(|folder| format!("evidence: {folder}\n"))
                .unwrap_or_default(),
            scenario.file,
            check.line,
        ),
        BODY,
    ));
    // What is excused passes, and says in its output what it broke: build servers know no third colour.
    let status = match check.outcome.as_str() {
        "pass" | "deviates" => TestCaseStatus::success(),
        "fail" if check.excuse.is_some() => TestCaseStatus::success(),
        "fail" => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_type(encode::junit(&check.requirement))
                .set_message(clip(&one_line(&check.summary), MESSAGE))
                .set_description(&body);
            status
        }
        "skip" => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(clip(&one_line(&check.summary), MESSAGE));
            status
        }
        other => error(other, &check.summary, &body),
    };
    let told = check.excuse.is_some() || !matches!(status, TestCaseStatus::Success { .. });
    let mut case = case(classname, name, status);
    case.set_time(std::time::Duration::from_micros(
        check.decided_us.saturating_sub(check.opened_us),
    ));
    if told {
        // File and line are in its text: schemas know no attributes for them.
        let mut output = match &check.excuse {
            Some(excuse) => format!("{}: {}\n{body}", check.outcome, encode::junit(excuse)),
            None => body,
        };
        for file in check.evidence_files.iter().take(ATTACHMENTS) {
            let file = encode::junit(&encode::line(file)).replace(']', "_");
            let _ = write!(output, "\n[[ATTACHMENT|{folder}{file}]]");
        }
        case.set_system_out(output);
    }
    case
}

fn case(classname: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(encode::junit(&encode::line(name)), status);
    case.set_classname(encode::junit(&encode::line(classname)));
    // A case without a time is no case to some readers.
    case.set_time(std::time::Duration::ZERO);
    case
}

fn error(kind: &str, message: &str, body: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status
        .set_type(encode::junit(kind))
        .set_message(clip(&one_line(message), MESSAGE))
        .set_description(encode::junit(&clip(body, BODY)));
    status
}

fn problem_status(problem: &ProblemRow) -> TestCaseStatus {
    let body = format!("{}\n{}", problem.message, problem.remedy.as_deref().unwrap_or(""));
    if problem.class == "mesh" {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_type(encode::junit(&problem.code))
            .set_message(clip(&one_line(&problem.message), MESSAGE))
            .set_description(encode::junit(&clip(&body, BODY)));
        return status;
    }
    error(&problem.class, &format!("{}: {}", problem.code, problem.message), &body)
}

/// A problem of an environment that did not come up or of a cleanup: no requirement was asked for, so that it is an error
/// whoever is to blame.
fn nobodys_promise(problem: &ProblemRow, evidence: Option<&str>) -> TestCaseStatus {
    let evidence = evidence.map(|evidence| format!("evidence: {evidence}"));
    let lines = [Some(problem.message.clone()), problem.remedy.clone(), evidence];
    let body = lines.into_iter().flatten().collect::<Vec<_>>().join("\n");
    error(&problem.class, &format!("{}: {}", problem.code, problem.message), &body)
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    encode::junit(&encode::line(&words.join(" ")))
}

/// The start of the run; the epoch when the journal has none that can be read.
fn timestamp(started: &str) -> chrono::DateTime<chrono::FixedOffset> {
    chrono::DateTime::parse_from_rfc3339(started).unwrap_or_default()
}
