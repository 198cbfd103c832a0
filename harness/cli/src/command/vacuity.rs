//! `meshproof prove --vacuity`: whether scenarios ask for anything that they did themselves.
//!
//! Every scenario runs again without its configuring steps: workloads and traffic are there, and nothing was exported,
//! routed, broken or changed. A requirement that stays green then must at least turn red where no mesh is installed at all:
//! some promises are about what an installation consists of. What stays green in both is decided by nothing.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use meshproof_engine::plan::{Plan, Selection, Suite, SuiteScenario};
use meshproof_engine::{Engine, Interrupts, RunOptions};
use meshproof_mesh::defect::Defects;
use meshproof_spec::scenario::Setup;
use meshproof_verdict::history::{RunHistory, ScenarioHistory};
use meshproof_verdict::record::Outcome;
use serde::Serialize;

use crate::args::{Format, ProveArgs};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::{output, planning};

/// What a scenario is run without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacking {
    /// Its configuring steps.
    Configuration,
    /// Its configuring steps, and the mesh.
    Mesh,
}

impl Lacking {
    /// What is appended to the id of such a scenario.
    fn suffix(self) -> &'static str {
        match self {
            Self::Configuration => "-without-configuration",
            Self::Mesh => "-without-mesh",
        }
    }
}

/// A requirement that a scenario decides.
#[derive(Clone, Debug, Serialize)]
struct Row {
    scenario: String,
    requirement: String,
    /// `noticed`, `vacuous` or `not decided`.
    result: &'static str,
    /// What turned it red, or that nothing did.
    said: String,
}

/// Runs what `suite` selects and prints what stays green.
///
/// # Errors
/// When a run can't be planned, or its journal can't be written.
pub(super) async fn run(args: &ProveArgs, suite: &Suite, ids: &[String], interrupts: Interrupts) -> Result<Exit> {
    let scenarios: Vec<&Arc<SuiteScenario>> = suite
        .scenarios
        .iter()
        .filter(|scenario| ids.contains(&scenario.id))
        .collect();
    let unconfigured = perform(args, suite, &scenarios, Lacking::Configuration, &interrupts).await?;
    let green = |history: &RunHistory, lacking: Lacking, scenario: &SuiteScenario| {
        let found = history
            .scenario(&format!("{}{}", scenario.id, lacking.suffix()))
            .cloned();
        let checks = scenario.scenario.checks.iter().map(|id| id.0.clone());
        checks
            .filter(|id| found.as_ref().is_some_and(|found| stays_green(found, id)))
            .collect::<Vec<String>>()
    };
    let suspicious: Vec<&Arc<SuiteScenario>> = scenarios
        .iter()
        .copied()
        .filter(|scenario| !green(&unconfigured, Lacking::Configuration, scenario).is_empty())
        .collect();
    let unmeshed = perform(args, suite, &suspicious, Lacking::Mesh, &interrupts).await?;
    let mut rows = Vec::new();
    for scenario in scenarios {
        let (first, second) = (
            green(&unconfigured, Lacking::Configuration, scenario),
            green(&unmeshed, Lacking::Mesh, scenario),
        );
        for requirement in scenario.scenario.checks.iter().map(|id| &id.0) {
            let (result, said) = match (first.contains(requirement), second.contains(requirement)) {
                _ if interrupts.stopping() => ("not decided", "the user interrupted"),
                (true, true) => ("vacuous", "green without configuring steps, and green without a mesh"),
                (true, false) => ("noticed", "the mesh is missing"),
                (false, _) => ("noticed", "the configuring steps are missing"),
            };
            rows.push(Row {
                scenario: scenario.id.clone(),
                requirement: requirement.clone(),
                result,
                said: said.to_owned(),
            });
        }
    }
    Ok(tell(&rows, args, interrupts.stopping()))
}

/// Whether every check of a requirement passed.
fn stays_green(scenario: &ScenarioHistory, requirement: &str) -> bool {
    let mut checks = scenario
        .checks
        .iter()
        .filter(|check| check.opened.requirement == requirement)
        .peekable();
    checks.peek().is_some() && checks.all(|check| check.outcome() == Outcome::Pass)
}

/// Runs scenarios without something.
async fn perform(
    args: &ProveArgs,
    suite: &Suite,
    scenarios: &[&Arc<SuiteScenario>],
    lacking: Lacking,
    interrupts: &Interrupts,
) -> Result<RunHistory> {
    if scenarios.is_empty() || interrupts.stopping() {
        return Ok(RunHistory::default());
    }
    let reduced: Vec<Arc<SuiteScenario>> = scenarios
        .iter()
        .map(|scenario| Arc::new(without(scenario, lacking)))
        .collect();
    let selection = Selection {
        ids: reduced.iter().map(|scenario| scenario.id.clone()).collect(),
        repeat: 1,
        ..Selection::default()
    };
    let suite = Suite {
        scenarios: reduced,
        ..suite.clone()
    };
    let place = Place::embedded(args.pace, Defects::default());
    let plan = Plan::new(
        &suite,
        &selection,
        planning::surroundings(&place),
        planning::identity(args.seed, &place),
    )?;
    let options = RunOptions {
        interrupts: interrupts.clone(),
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RunOptions::new(
            args.out
                .join(format!("{}-prove{}", plan.identity.run, lacking.suffix())),
        )
    };
    let summary = Box::pin(Engine::run(plan, place.environment, place.driver, options))
        .await
        .map_err(|problem| anyhow!("{}", problem.message))?;
    Ok(summary.history)
}

/// The scenario without what configures it, under an id of its own.
fn without(scenario: &SuiteScenario, lacking: Lacking) -> SuiteScenario {
    let mut reduced = scenario.clone();
    reduced.id.push_str(lacking.suffix());
    let kept: Vec<bool> = scenario.scenario.steps.iter().map(|step| !step.disturbs()).collect();
    let mut keep = kept.iter();
    reduced.scenario.steps.retain(|_| *keep.next().unwrap_or(&true));
    let mut keep = kept.iter();
    reduced.lines.retain(|_| *keep.next().unwrap_or(&true));
    if lacking == Lacking::Mesh {
        reduced.scenario.setup = Some(Setup {
            bare: true,
            ..Setup::default()
        });
    }
    reduced
}

fn tell(rows: &[Row], args: &ProveArgs, interrupted: bool) -> Exit {
    let count = |result: &str| rows.iter().filter(|row| row.result == result).count();
    match args.format.format {
        Format::Json => output::json(&rows),
        Format::Text => {
            let table: Vec<Vec<String>> = rows
                .iter()
                .filter(|row| row.result != "noticed")
                .map(|row| {
                    vec![
                        row.result.to_owned(),
                        row.requirement.clone(),
                        row.scenario.clone(),
                        row.said.clone(),
                    ]
                })
                .collect();
            output::print(&output::columns(&table));
            output::line(&format!(
                "{} promises notice what is missing, {} are vacuous, {} not decided",
                count("noticed"),
                count("vacuous"),
                count("not decided"),
            ));
        }
    }
    match (interrupted, count("vacuous"), rows.is_empty()) {
        (true, _, _) => Exit::Interrupted,
        (_, _, true) => Exit::NothingRun,
        (_, 0, _) => Exit::Success,
        _ => Exit::Refuted,
    }
}
