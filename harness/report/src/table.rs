//! The table at the end of a run, for the terminal.

use crate::encode::{self, field};
use crate::model::Report;
use crate::text::{count, seconds};

/// Widest column: what is longer stands out, and makes no other line longer. (Formatting panics at widths of 65536.)
const WIDEST: usize = 100;

/// The table: a line per scenario, and for each check that did not pass what a person needs to know.
#[must_use]
pub fn table(report: &Report) -> String {
    let Some(report) = &encode::printable(report) else {
        return "the report can't be shown\n".to_owned();
    };
    let mut lines = Vec::new();
    let width = report
        .scenarios
        .iter()
        .map(|scenario| scenario.area.len() + scenario.key.len() + 1)
        .max()
        .unwrap_or(0)
        .min(WIDEST);
    for scenario in &report.scenarios {
        let name = format!("{}/{}", scenario.area, scenario.key);
        let passed = scenario.checks.iter().filter(|check| check.outcome == "pass").count();
        let detail = match &scenario.skipped {
            Some(reason) => field(reason),
            None => format!(
                "{passed}/{} checks  {:>8}",
                scenario.promised(),
                seconds(scenario.duration_us)
            ),
        };
        lines.push(format!(
            "{:<12}  {:<width$}  {detail}",
            field(&scenario.outcome),
            field(&name)
        ));
        for step in scenario.steps.iter().filter(|step| step.problem.is_some()) {
            if let Some(problem) = &step.problem {
                lines.push(format!(
                    "    {}:{} `{}`",
                    field(&scenario.file),
                    step.line,
                    field(&step.text)
                ));
                lines.push(format!(
                    "      {} ({}): {}",
                    field(&problem.class),
                    field(&problem.code),
                    field(&problem.message)
                ));
                if let Some(remedy) = &problem.remedy {
                    lines.push(format!("      try: {}", field(remedy)));
                }
            }
        }
        for check in scenario.checks.iter().filter(|check| check.outcome != "pass") {
            lines.push(format!(
                "    {} {} [{}] at {}",
                field(&check.outcome),
                field(&check.requirement),
                field(&check.place),
                seconds(check.decided_us)
            ));
            lines.push(format!(
                "      {}:{}: {}",
                field(&scenario.file),
                check.line,
                field(&check.summary)
            ));
            lines.push(format!("      expected: {}", field(&check.expected)));
            lines.push(format!("      observed: {}", field(&check.observed)));
            if let Some(excuse) = &check.excuse {
                lines.push(format!("      {}", field(excuse)));
            }
            if let Some(rung) = &check.rung {
                lines.push(format!("      first broken rung: {}", field(rung)));
            }
            if let Some(evidence) = &check.evidence {
                lines.push(format!("      evidence: {}", field(evidence)));
            }
        }
        if let Some(cut) = &scenario.cut {
            lines.push(format!("    {}", field(cut)));
        }
        for left in &scenario.left {
            lines.push(format!("    left behind: {}", field(left)));
        }
        if let Some(problem) = &scenario.cleanup_problem {
            lines.push(format!(
                "    cleanup: {} ({}): {}",
                field(&problem.class),
                field(&problem.code),
                field(&problem.message)
            ));
        }
    }
    for environment in &report.environments {
        if let Some(problem) = &environment.problem {
            lines.push(format!(
                "environment {}: {} ({}): {}",
                field(&environment.environment),
                field(&problem.class),
                field(&problem.code),
                field(&problem.message)
            ));
            if let Some(remedy) = &problem.remedy {
                lines.push(format!("  try: {}", field(remedy)));
            }
            if let Some(evidence) = &environment.evidence {
                lines.push(format!("  evidence: {evidence}"));
            }
        }
    }
    for row in report.requirements.iter().filter(|row| row.gone) {
        lines.push(format!(
            "gone: {} is kept, which these releases were known to break; see the deviations of the suite",
            row.id
        ));
    }
    let tally: Vec<String> = report
        .tally()
        .into_iter()
        .filter(|(_, number)| *number > 0)
        .map(|(outcome, number)| format!("{number} {outcome}"))
        .collect();
    let met = report.requirements.iter().filter(|row| row.status == "pass").count();
    if let Some(broken) = &report.journal.broken {
        lines.push(format!("journal: {}", field(broken)));
    }
    lines.extend(
        report
            .journal
            .doubts
            .iter()
            .map(|doubt| format!("doubtful: {}", field(doubt))),
    );
    lines.push(String::new());
    lines.push(format!(
        "{}: {} ({}); {met} of {} requirements met",
        report.outcome,
        count(report.scenarios.len() as u64, "scenario"),
        tally.join(", "),
        report.requirements.len(),
    ));
    lines.push(String::new());
    encode::terminal(&lines.join("\n"))
}
