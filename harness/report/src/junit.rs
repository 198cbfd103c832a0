//! JUnit: one suite per scenario, one case per check, and cases for set-up and cleanup.
//!
//! Consumers disagree (names must be unique, many drop case properties, some cut long texts), so: names are unique in the
//! file, messages are one short line, what matters is in the text as well, and a failure (`<failure>`: a promise was broken)
//! is not an error (`<error>`: it could not be found out).

use quick_junit::{NonSuccessKind, Property, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use crate::model::{CheckRow, ProblemRow, Report, ScenarioRow};
use crate::text::{self, clip, seconds};

/// Longest message attribute, bytes.
const MESSAGE: usize = 250;
/// Longest body, bytes.
const BODY: usize = 8 * 1024;

/// The report as JUnit XML.
///
/// # Errors
/// When the XML can't be written, which only a bug can cause.
pub fn junit(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut junit = Junit::new(format!("meshproof {}", report.environment));
    junit.set_timestamp(timestamp(&report.started));
    junit.set_time(std::time::Duration::from_micros(report.duration_us));
    for environment in &report.environments {
        if let Some(problem) = &environment.problem {
            let mut suite = TestSuite::new(format!("environment {}", environment.environment));
            suite.add_test_case(case(
                "environment",
                &format!("{} comes up", environment.environment),
                nobodys_promise(problem, environment.evidence.as_deref()),
            ));
            junit.add_test_suite(suite);
        }
    }
    for scenario in &report.scenarios {
        junit.add_test_suite(suite(report, scenario));
    }
    if !report.complete {
        let mut suite = TestSuite::new("run");
        let message = "the run was ended before its end; what is missing here was not run";
        suite.add_test_case(case("run", "complete", error("harness", message, message)));
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

fn suite(report: &Report, scenario: &ScenarioRow) -> TestSuite {
    let classname = format!("{}.{}", scenario.area, scenario.key);
    let mut suite = TestSuite::new(classname.clone());
    suite.set_time(std::time::Duration::from_micros(scenario.duration_us));
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
        suite.add_property(Property::new(name, value));
    }
    for upgrade in &scenario.upgrades {
        suite.add_property(Property::new("upgrade", text::upgrade(upgrade)));
    }
    if let Some(reason) = &scenario.skipped {
        let mut status = TestCaseStatus::skipped();
        status.set_message(clip(reason, MESSAGE));
        suite.add_test_case(case(&classname, "scenario", status));
        return suite;
    }
    let broken_step = scenario
        .steps
        .iter()
        .find_map(|step| step.problem.as_ref().map(|problem| (step, problem)));
    let setup = match (broken_step, &scenario.cut) {
        (Some((step, problem)), _) => {
            let mut status = problem_status(problem);
            status.set_description(clip(
                &format!(
                    "{}:{}: step `{}`\n{}\n{}",
                    scenario.file,
                    step.line,
                    step.text,
                    problem.message,
                    problem.remedy.as_deref().unwrap_or("")
                ),
                BODY,
            ));
            status
        }
        (None, Some(cut)) => error("harness", cut, cut),
        (None, None) => TestCaseStatus::success(),
    };
    suite.add_test_case(case(&classname, "steps", setup));
    for check in &scenario.checks {
        suite.add_test_case(check_case(report, scenario, &classname, check));
    }
    for requirement in &scenario.not_reached {
        let status = error(
            "inconclusive",
            "not reached",
            "an earlier step did not end well, so this was never looked at",
        );
        suite.add_test_case(case(&classname, &format!("{requirement} (not reached)"), status));
    }
    let cleanup = match &scenario.cleanup_problem {
        Some(problem) => nobodys_promise(problem, None),
        None if scenario.left.is_empty() => TestCaseStatus::success(),
        None => error("environment", "cleanup left objects behind", &scenario.left.join("\n")),
    };
    suite.add_test_case(case(&classname, "cleanup", cleanup));
    suite
}

fn check_case(report: &Report, scenario: &ScenarioRow, classname: &str, check: &CheckRow) -> TestCase {
    let requirement = report
        .requirements
        .iter()
        .find(|requirement| requirement.id == check.requirement);
    let name = format!("{} line {} [{}]", check.requirement, check.line, check.place);
    let body = clip(
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
    );
    // What is excused passes, and says in its output what it broke: build servers know no third colour.
    let status = match check.outcome.as_str() {
        "pass" | "deviates" => TestCaseStatus::success(),
        "fail" if check.excuse.is_some() => TestCaseStatus::success(),
        "fail" => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_type(check.requirement.clone())
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
    let mut case = case(classname, &name, status);
    case.set_time(std::time::Duration::from_micros(
        check.decided_us.saturating_sub(check.opened_us),
    ));
    case.extra.insert("file".into(), scenario.file.clone().into());
    case.extra.insert("line".into(), check.line.to_string().into());
    if told {
        let mut output = match &check.excuse {
            Some(excuse) => format!("{}: {excuse}\n{body}", check.outcome),
            None => body,
        };
        if let Some(folder) = &check.evidence {
            output = format!("{output}\n[[ATTACHMENT|{folder}]]");
        }
        case.set_system_out(output);
    }
    case
}

fn case(classname: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(classname);
    case
}

fn error(kind: &str, message: &str, body: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status
        .set_type(kind)
        .set_message(clip(&one_line(message), MESSAGE))
        .set_description(clip(body, BODY));
    status
}

fn problem_status(problem: &ProblemRow) -> TestCaseStatus {
    let body = format!("{}\n{}", problem.message, problem.remedy.as_deref().unwrap_or(""));
    if problem.class == "mesh" {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_type(problem.code.clone())
            .set_message(clip(&one_line(&problem.message), MESSAGE))
            .set_description(body);
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
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The start of the run; the epoch when the journal has none that can be read.
fn timestamp(started: &str) -> chrono::DateTime<chrono::FixedOffset> {
    chrono::DateTime::parse_from_rfc3339(started).unwrap_or_default()
}
