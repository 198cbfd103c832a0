//! `meshproof prove`: what the suite is worth. Every requirement's scenarios run against the clean model, which must be
//! green, and under each of the requirement's defects, which must turn the requirement red.

use anyhow::{Result, anyhow};
use futures::StreamExt;
use meshproof_engine::plan::{Plan, Selection};
use meshproof_engine::{Engine, Interrupts, RunOptions};
use meshproof_mesh::defect::{Defect, Defects};
use meshproof_spec::suite::Suite;
use meshproof_verdict::history::RunHistory;
use meshproof_verdict::record::{Outcome, ProblemClass};
use serde::Serialize;

use crate::args::{Format, ProveArgs};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::signals::listen;
use crate::{output, place, planning, suite};

/// One requirement under one defect, or without any.
#[derive(Clone, Debug, Serialize)]
struct Row {
    requirement: String,
    /// Absent for the clean model.
    defect: Option<String>,
    /// `killed`, `survived`, `not decided`; for the clean model `green` or `red`.
    result: &'static str,
    /// Scenario that decided it.
    scenario: String,
    /// What the deciding check said.
    said: String,
    /// Other requirements that failed in the same runs.
    also_red: Vec<String>,
}

/// Prints the table requirement × defect.
///
/// # Errors
/// The exit code of what is wrong with the suite or the arguments.
pub async fn run(args: &ProveArgs) -> Result<Exit, Exit> {
    if args.list {
        let rows: Vec<Vec<String>> = Defect::all()
            .map(|defect| vec![defect.name().to_owned(), defect.summary().to_owned()])
            .collect();
        output::print(&output::columns(&rows));
        return Ok(Exit::Success);
    }
    let loaded = suite::load(&args.suite, &[])?;
    let jobs = jobs(&loaded, args)?;
    if jobs.is_empty() {
        output::note("error: nothing to prove: no requirement and defect match");
        return Err(Exit::NothingRun);
    }
    let interrupts = Interrupts::default();
    let listening = tokio::spawn(listen(interrupts.clone()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let total = jobs.len();
    let plan_suite = suite::for_plan(&loaded);
    let mut done = 0;
    let mut rows = Vec::new();
    let mut jobs = jobs.into_iter();
    // The clean model runs alone: a starved machine must not make it look wrong.
    let clean = jobs.next();
    let clean = clean
        .into_iter()
        .map(|job| prove(args, &plan_suite, job, interrupts.clone()));
    let clean = futures::stream::iter(clean).buffer_unordered(1);
    let defects = jobs.map(|job| prove(args, &plan_suite, job, interrupts.clone()));
    let defects = futures::stream::iter(defects).buffer_unordered(args.parallel.unwrap_or(cores * 2));
    let mut running = Box::pin(clean.chain(defects));
    while let Some(row) = running.next().await {
        done += 1;
        let row = row.map_err(|problem| {
            output::note(&format!("error: {problem:#}"));
            Exit::Error
        })?;
        for row in row {
            output::note(&format!(
                "{done}/{total}  {:<11}  {}  {}",
                row.result,
                row.requirement,
                row.defect.as_deref().unwrap_or("(clean)")
            ));
            rows.push(row);
        }
    }
    drop(running);
    listening.abort();
    rows.sort_by(|one, other| (&one.requirement, &one.defect).cmp(&(&other.requirement, &other.defect)));
    Ok(tell(&rows, args, interrupts.stopping()))
}

/// A run of `prove`: requirements without a defect, or one requirement with one.
struct Job {
    requirements: Vec<String>,
    defect: Option<Defect>,
    scenarios: Vec<String>,
}

fn jobs(loaded: &Suite, args: &ProveArgs) -> Result<Vec<Job>, Exit> {
    let wanted_defects = place::defects(&args.defects)?;
    let coverage = loaded.coverage();
    let known = |id: &&String| coverage.decided_by.keys().any(|known| known.0 == **id);
    if let Some(unknown) = args.requirements.iter().find(|id| !known(id)) {
        output::note(&format!(
            "error: there is no requirement `{unknown}` in the catalogue; `meshproof coverage` lists all"
        ));
        return Err(Exit::NothingRun);
    }
    let mut clean = Job {
        requirements: Vec::new(),
        defect: None,
        scenarios: Vec::new(),
    };
    let mut jobs = Vec::new();
    for requirement in loaded.catalogue.iter().flat_map(|catalogue| &catalogue.requirements) {
        let id = &requirement.id.0;
        if !args.requirements.is_empty() && !args.requirements.contains(id) {
            continue;
        }
        let scenarios = coverage.decided_by.get(&requirement.id).cloned().unwrap_or_default();
        for name in &requirement.defects {
            let defect = name.0.parse::<Defect>().map_err(|problem| {
                output::note(&format!("error: {id}: {problem}"));
                Exit::Input
            })?;
            if wanted_defects.iter().next().is_some() && !wanted_defects.has(defect) {
                continue;
            }
            jobs.push(Job {
                requirements: vec![id.clone()],
                defect: Some(defect),
                scenarios: scenarios.clone(),
            });
            if !clean.requirements.contains(id) {
                clean.requirements.push(id.clone());
            }
        }
        if clean.requirements.contains(id) {
            clean.scenarios.extend(scenarios);
        }
    }
    clean.scenarios.sort();
    clean.scenarios.dedup();
    if !jobs.is_empty() {
        jobs.insert(0, clean);
    }
    Ok(jobs)
}

async fn prove(
    args: &ProveArgs,
    plan_suite: &meshproof_engine::plan::Suite,
    job: Job,
    interrupts: Interrupts,
) -> Result<Vec<Row>> {
    if job.scenarios.is_empty() || interrupts.stopping() {
        return Ok(job.requirements.iter().map(|id| undecided(id, job.defect)).collect());
    }
    let defects: Defects = job.defect.into_iter().collect();
    let place = Place::embedded(args.pace, defects);
    let selection = Selection {
        ids: job.scenarios,
        repeat: 1,
        ..Selection::default()
    };
    let plan = Plan::new(
        plan_suite,
        &selection,
        planning::surroundings(&place),
        planning::identity(args.seed, &place),
    )?;
    let name = job.defect.map_or("clean", Defect::name);
    let options = RunOptions {
        interrupts,
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RunOptions::new(args.out.join(format!("{}-prove-{name}", plan.identity.run)))
    };
    let summary = Box::pin(Engine::run(plan, place.environment, place.driver, options))
        .await
        .map_err(|problem| anyhow!("{}", problem.message))?;
    Ok(job
        .requirements
        .iter()
        .map(|id| row(id, job.defect, &summary.history))
        .collect())
}

fn undecided(requirement: &str, defect: Option<Defect>) -> Row {
    Row {
        requirement: requirement.to_owned(),
        defect: defect.map(|defect| defect.name().to_owned()),
        result: "not decided",
        scenario: String::new(),
        said: "no scenario decided it".to_owned(),
        also_red: Vec::new(),
    }
}

/// What a run says of a requirement.
fn row(requirement: &str, defect: Option<Defect>, history: &RunHistory) -> Row {
    let checks: Vec<_> = history
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.checks.iter().map(move |check| (scenario, check)))
        .collect();
    let worst = checks
        .iter()
        .filter(|(_, check)| check.requirement == requirement)
        .max_by_key(|(_, check)| check.outcome());
    let refusal = refusal(requirement, history);
    let row = Row {
        scenario: worst.map(|(scenario, _)| scenario.key.clone()).unwrap_or_default(),
        said: worst.and_then(|(_, check)| check.judgement.as_ref()).map_or_else(
            || "no check was opened".to_owned(),
            |judgement| judgement.summary.clone(),
        ),
        ..undecided(requirement, defect)
    };
    let Some(defect) = defect else {
        let green = worst.is_some_and(|(_, check)| check.outcome() == Outcome::Pass) && refusal.is_none();
        return Row {
            result: if green { "green" } else { "red" },
            said: refusal.unwrap_or(row.said),
            ..row
        };
    };
    let mut also_red: Vec<String> = checks
        .iter()
        .filter(|(_, check)| check.requirement != requirement && check.outcome() == Outcome::Fail)
        .map(|(_, check)| check.requirement.clone())
        .collect();
    also_red.sort();
    also_red.dedup();
    let row = Row {
        also_red,
        defect: Some(defect.name().to_owned()),
        ..row
    };
    match (worst.map(|(_, check)| check.outcome()), refusal) {
        (Some(Outcome::Fail), _) => Row {
            result: "killed",
            ..row
        },
        // The mesh is so wrong that what the check needs never came about: the run is red, and says why.
        (_, Some(said)) => Row {
            result: "killed",
            said,
            ..row
        },
        (Some(Outcome::Pass), None) => Row {
            result: "survived",
            ..row
        },
        _ => row,
    }
}

/// What the mesh did not do although a scenario that decides the requirement, or its clusters, needed it.
fn refusal(requirement: &str, history: &RunHistory) -> Option<String> {
    let environments = history
        .environments
        .iter()
        .filter_map(|environment| environment.problem.as_ref());
    let steps = history
        .scenarios
        .iter()
        .filter(|scenario| {
            scenario
                .planned
                .as_ref()
                .is_some_and(|planned| planned.checks.iter().any(|id| id == requirement))
        })
        .flat_map(|scenario| &scenario.steps)
        .filter_map(|step| step.problem.as_ref());
    steps
        .chain(environments)
        .find(|problem| problem.class == ProblemClass::Mesh)
        .map(|problem| format!("{}: {}", problem.code, problem.message))
}

fn tell(rows: &[Row], args: &ProveArgs, interrupted: bool) -> Exit {
    let bad: Vec<&Row> = rows
        .iter()
        .filter(|row| !matches!(row.result, "killed" | "green"))
        .collect();
    match args.format.format {
        Format::Json => output::json(&rows),
        Format::Text => {
            let table: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    let also = if row.also_red.is_empty() {
                        String::new()
                    } else {
                        format!("also red: {}", row.also_red.join(" "))
                    };
                    vec![
                        row.requirement.clone(),
                        row.defect.clone().unwrap_or_else(|| "(clean)".to_owned()),
                        row.result.to_owned(),
                        row.scenario.clone(),
                        also,
                    ]
                })
                .collect();
            output::print(&output::columns(&table));
            for row in &bad {
                output::line(&format!(
                    "{} {}: {}: {}",
                    row.result,
                    row.requirement,
                    row.defect.as_deref().unwrap_or("(clean)"),
                    row.said
                ));
            }
            let count = |result: &str| rows.iter().filter(|row| row.result == result).count();
            output::line(&format!(
                "{} defects killed, {} survived, {} not decided; the clean model: {} requirements green, {} red",
                count("killed"),
                count("survived"),
                count("not decided"),
                count("green"),
                count("red"),
            ));
        }
    }
    match (interrupted, bad.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Success,
        (false, false) => Exit::Refuted,
    }
}
