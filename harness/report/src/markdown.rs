//! Markdown for the summary of a build job.

use crate::encode::{self, markdown as escape, markdown_code as code};
use crate::model::Report;
use crate::text::{self, count, seconds};

/// The report as Markdown: the verdict, the tally, and every requirement that is not met with where and why.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let Some(report) = &encode::printable(report) else {
        return "The report can't be shown.\n".to_owned();
    };
    let mut lines = vec![format!("## meshproof: {}", escape(&report.outcome)), String::new()];
    let tally: Vec<String> = report
        .tally()
        .into_iter()
        .filter(|(_, number)| *number > 0)
        .map(|(outcome, number)| format!("{number} {outcome}"))
        .collect();
    let scenarios = count(report.scenarios.len() as u64, "scenario");
    lines.push(format!(
        "{scenarios} on {} ({}), {}.",
        code(&report.environment),
        tally.join(", "),
        seconds(report.duration_us)
    ));
    if !report.certifies {
        lines.push("This environment is a model: the run certifies nothing.".to_owned());
    }
    if !report.complete {
        lines.push("**The run was ended before its end.**".to_owned());
    }
    if let Some(broken) = &report.journal.broken {
        lines.push(format!("**The journal is broken**: {}", escape(broken)));
    }
    if !report.journal.doubts.is_empty() {
        lines.push("**The journal does not agree with itself, or its ledgers not with it**:".to_owned());
        lines.push(String::new());
        lines.extend(report.journal.doubts.iter().map(|doubt| format!("* {}", escape(doubt))));
        lines.push(String::new());
    }
    if !report.defects.is_empty() {
        lines.push(format!("Defects switched on: {}.", escape(&report.defects.join(", "))));
    }
    for scenario in &report.scenarios {
        for upgrade in &scenario.upgrades {
            lines.push(format!(
                "{}: upgraded {}.",
                code(&scenario.key),
                escape(&text::upgrade(upgrade))
            ));
        }
    }
    for environment in &report.environments {
        if let Some(problem) = &environment.problem {
            let evidence = environment.evidence.as_ref();
            lines.push(format!(
                "Clusters of `{}` did not come up: {} ({}): {}{}",
                environment.environment,
                problem.class,
                problem.code,
                escape(&problem.message),
                evidence.map_or_else(String::new, |folder| format!(" (evidence: `{folder}`)"))
            ));
        }
    }
    lines.push(String::new());

    let unmet: Vec<_> = report
        .requirements
        .iter()
        .filter(|row| !matches!(row.status.as_str(), "pass" | "not run"))
        .collect();
    if !unmet.is_empty() {
        lines.push("| requirement | status | where | what happened |".to_owned());
        lines.push("|---|---|---|---|".to_owned());
        for row in unmet {
            let checks: Vec<_> = report
                .scenarios
                .iter()
                .flat_map(|scenario| scenario.checks.iter().map(move |check| (scenario, check)))
                .filter(|(_, check)| check.requirement == row.id && check.outcome != "pass")
                .collect();
            let (place, what) = match checks.first() {
                Some((scenario, check)) => (
                    format!(
                        "{}, {}, at {}",
                        escape(&check.place),
                        code(&format!("{}:{}", scenario.file, check.line)),
                        seconds(check.decided_us)
                    ),
                    match &check.excuse {
                        Some(excuse) => format!("{}; {excuse}", check.summary),
                        None => check.summary.clone(),
                    },
                ),
                None => (String::new(), row.text.clone()),
            };
            lines.push(format!(
                "| {} | {} | {} | {} |",
                escape(&row.id),
                escape(&row.status),
                place,
                escape(&what)
            ));
        }
        lines.push(String::new());
    }
    for row in report.requirements.iter().filter(|row| row.gone) {
        lines.push(format!(
            "{} is kept, which these releases were known to break: the deviation is gone.",
            row.id
        ));
    }
    let met = report.requirements.iter().filter(|row| row.status == "pass").count();
    lines.push(format!(
        "{met} of {} requirements of the catalogue were shown to be met.",
        report.requirements.len()
    ));
    lines.push(String::new());
    lines.join("\n")
}
