//! `meshproof prove`: what the suite is worth. Every requirement's scenarios run against the clean model, which must be
//! green, and under each of the requirement's defects, which must turn the requirement red.

use anyhow::{Result, anyhow};
use futures::StreamExt;
use meshproof_engine::plan::{Plan, Selection, SuiteScenario};
use meshproof_engine::{Engine, Interrupts, RunOptions};
use meshproof_mesh::defect::{Defect, Defects};
use meshproof_spec::catalogue::Requirement;
use meshproof_spec::suite::Suite;
use meshproof_verdict::history::{EnvironmentHistory, RunHistory, StepHistory};
use meshproof_verdict::record::{Outcome, ProblemClass};
use serde::Serialize;

use crate::args::{Format, ProveArgs};
use crate::command::vacuity;
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
    /// See [`Proof`].
    result: Proof,
    /// Scenario that decided it.
    scenario: String,
    /// What the deciding check said.
    said: String,
    /// Other requirements that failed in the same runs.
    also_red: Vec<String>,
}

/// What a run proves of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Proof {
    /// A check of the requirement failed under the defect, and nothing else did that the catalogue does not name.
    Killed,
    /// The mesh is so wrong under the defect that what the check needs never came about, and the catalogue says so.
    Refused,
    /// As `Refused`, and the catalogue does not say so: the requirement's own check never saw the defect.
    NotReached,
    /// As `Killed`, but requirements failed that the catalogue does not name.
    Collateral,
    /// The requirement stayed green under the defect.
    Survived,
    /// No scenario decided it.
    NotDecided,
    /// The clean model kept it.
    Green,
    /// The clean model broke it, or did not get there.
    Red,
}

impl Proof {
    const ALL: [Self; 8] = [
        Self::Killed,
        Self::Refused,
        Self::NotReached,
        Self::Collateral,
        Self::Survived,
        Self::NotDecided,
        Self::Green,
        Self::Red,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Refused => "refused",
            Self::NotReached => "not reached",
            Self::Collateral => "collateral",
            Self::Survived => "survived",
            Self::NotDecided => "not decided",
            Self::Green => "green",
            Self::Red => "red",
        }
    }

    /// Whether it is as it must be.
    fn is_good(self) -> bool {
        matches!(self, Self::Killed | Self::Refused | Self::Green)
    }
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
    let loaded = suite::load(&args.suite, &args.files)?;
    if args.vacuity {
        return vacuous(args, &loaded).await;
    }
    let jobs = jobs(&loaded, args)?;
    if jobs.is_empty() {
        output::note("error: nothing to prove: no requirement and defect match");
        return Err(Exit::NothingRun);
    }
    let interrupts = Interrupts::default();
    let listening = listen(interrupts.clone());
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
                row.result.text(),
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

/// What stays green without what scenarios do.
async fn vacuous(args: &ProveArgs, loaded: &Suite) -> Result<Exit, Exit> {
    let interrupts = Interrupts::default();
    let listening = listen(interrupts.clone());
    let wanted = |scenario: &SuiteScenario| {
        let mut checks = scenario.scenario.checks.iter();
        args.requirements.is_empty() || checks.any(|check| args.requirements.contains(&check.0))
    };
    let plan_suite = suite::for_plan(loaded);
    let wanted: Vec<String> = plan_suite
        .scenarios
        .iter()
        .filter(|scenario| wanted(scenario))
        .map(|scenario| scenario.id.clone())
        .collect();
    let told = vacuity::run(args, &plan_suite, &wanted, interrupts).await;
    listening.abort();
    told.map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })
}

/// A run of `prove`: requirements without a defect, or one requirement with one.
struct Job {
    requirements: Vec<Requirement>,
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
        // Of given files only what they check is asked for.
        if scenarios.is_empty() && !args.files.is_empty() && args.requirements.is_empty() {
            continue;
        }
        for name in &requirement.defects {
            let defect = name.0.parse::<Defect>().map_err(|problem| {
                output::note(&format!("error: {id}: {problem}"));
                Exit::Input
            })?;
            if wanted_defects.iter().next().is_some() && !wanted_defects.has(defect) {
                continue;
            }
            jobs.push(Job {
                requirements: vec![requirement.clone()],
                defect: Some(defect),
                scenarios: scenarios.clone(),
            });
            if !clean.requirements.contains(requirement) {
                clean.requirements.push(requirement.clone());
            }
        }
        if clean.requirements.contains(requirement) {
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
        let requirements = job.requirements.iter();
        return Ok(requirements
            .map(|requirement| undecided(&requirement.id.0, job.defect))
            .collect());
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
        command: crate::args::as_typed(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RunOptions::new(args.out.join(format!("{}-prove-{name}", plan.identity.run)))
    };
    let summary = Box::pin(Engine::run(plan, place.environment, place.driver, options))
        .await
        .map_err(|problem| anyhow!("{}", problem.message))?;
    Ok(job
        .requirements
        .iter()
        .map(|requirement| row(requirement, job.defect, &summary.history))
        .collect())
}

fn undecided(requirement: &str, defect: Option<Defect>) -> Row {
    Row {
        requirement: requirement.to_owned(),
        defect: defect.map(|defect| defect.name().to_owned()),
        result: Proof::NotDecided,
        scenario: String::new(),
        said: "no scenario decided it".to_owned(),
        also_red: Vec::new(),
    }
}

/// What a run says of a requirement.
fn row(requirement: &Requirement, defect: Option<Defect>, history: &RunHistory) -> Row {
    let id = requirement.id.0.as_str();
    let checks: Vec<_> = history
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.checks.iter().map(move |check| (scenario, check)))
        .collect();
    let worst = checks
        .iter()
        .filter(|(_, check)| check.opened.requirement == id)
        .max_by_key(|(_, check)| check.outcome());
    let outcome = worst.map(|(_, check)| check.outcome());
    let refusal = refusal(id, history);
    let row = Row {
        scenario: worst.map(|(scenario, _)| scenario.key.clone()).unwrap_or_default(),
        said: worst.and_then(|(_, check)| check.judgement.as_ref()).map_or_else(
            || "no check was opened".to_owned(),
            |judgement| judgement.summary.clone(),
        ),
        ..undecided(id, defect)
    };
    let Some(defect) = defect else {
        let green = outcome == Some(Outcome::Pass) && refusal.is_none();
        return Row {
            result: if green { Proof::Green } else { Proof::Red },
            said: refusal.unwrap_or(row.said),
            ..row
        };
    };
    let mut also_red: Vec<String> = checks
        .iter()
        .filter(|(_, check)| check.opened.requirement != id && is_red(check.outcome()))
        .map(|(_, check)| check.opened.requirement.clone())
        .collect();
    also_red.sort();
    also_red.dedup();
    let unnamed: Vec<&str> = also_red
        .iter()
        .map(String::as_str)
        .filter(|other| !requirement.also.iter().any(|named| named.0 == *other))
        .collect();
    let (result, said) = match (outcome, refusal) {
        (Some(outcome), _) if is_red(outcome) && unnamed.is_empty() => (Proof::Killed, None),
        (Some(outcome), _) if is_red(outcome) => (
            Proof::Collateral,
            Some(format!(
                "{} failed as well: name what the defect breaks besides in the requirement's `also`, or narrow the defect",
                unnamed.join(" ")
            )),
        ),
        (_, Some(said)) if requirement.refused_by.iter().any(|name| name.0 == defect.name()) => {
            (Proof::Refused, Some(said))
        }
        (_, Some(said)) => (Proof::NotReached, Some(said)),
        (Some(Outcome::Pass), None) => (Proof::Survived, None),
        _ => (Proof::NotDecided, None),
    };
    Row {
        result,
        said: said.unwrap_or_else(|| row.said.clone()),
        also_red,
        defect: Some(defect.name().to_owned()),
        ..row
    }
}

/// Whether a check saw the promise broken, also as upstream is known to break it.
fn is_red(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Fail | Outcome::Deviates)
}

/// What the mesh did not do although a scenario that decides the requirement, or its clusters, needed it.
fn refusal(requirement: &str, history: &RunHistory) -> Option<String> {
    let environments = history.environments.iter().filter_map(EnvironmentHistory::problem);
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
        .filter_map(StepHistory::problem);
    steps
        .chain(environments)
        .find(|problem| problem.class == ProblemClass::Mesh)
        .map(|problem| format!("{}: {}", problem.code, problem.message))
}

fn tell(rows: &[Row], args: &ProveArgs, interrupted: bool) -> Exit {
    let bad: Vec<&Row> = rows.iter().filter(|row| !row.result.is_good()).collect();
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
                        row.result.text().to_owned(),
                        row.scenario.clone(),
                        also,
                    ]
                })
                .collect();
            output::print(&output::columns(&table));
            for row in &bad {
                output::line(&format!(
                    "{} {}: {}: {}",
                    row.result.text(),
                    row.requirement,
                    row.defect.as_deref().unwrap_or("(clean)"),
                    row.said
                ));
            }
            let counts: Vec<String> = Proof::ALL
                .into_iter()
                .map(|proof| (proof, rows.iter().filter(|row| row.result == proof).count()))
                .filter(|(proof, number)| *number > 0 || matches!(proof, Proof::Killed | Proof::Survived | Proof::Red))
                .map(|(proof, number)| format!("{number} {}", proof.text()))
                .collect();
            output::line(&counts.join(", "));
        }
    }
    match (interrupted, bad.is_empty()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Success,
        (false, false) => Exit::Refuted,
    }
}
