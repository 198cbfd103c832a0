//! `meshproof run`

use std::sync::Arc;

use anyhow::{Context, Result};
use meshproof_clusters::kind::Kind;
use meshproof_clusters::preflight::{Level, kind_resources};
use meshproof_engine::environment::Environment;
use meshproof_engine::plan::Plan;
use meshproof_engine::private_files;
use meshproof_engine::problem::Problem;
use meshproof_engine::{Engine, Keep, ProvokedPanics, RunOptions, RunSummary, Session};
use meshproof_report::run_folder::RunFolder;
use meshproof_report::table;

use crate::args::{Format, RunArgs};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::planning::{self, Planned};
use crate::preflight::Refused;
use crate::signals::{listen, listen_once};
use crate::state::{Held, State, StateFile};
use crate::{aftermath, command, display, output, preflight};

/// Runs scenarios and writes reports.
///
/// # Errors
/// The exit code of what is wrong with the suite or the selection.
pub async fn run(args: &RunArgs) -> Result<Exit, Exit> {
    let planned = planning::plan(
        &args.suite,
        &args.selection,
        args.repeat.repeat,
        &args.environment,
        &args.state,
    )
    .await?;
    Box::pin(run_plan(args, planned)).await.map_err(|problem| {
        output::note(&format!("error: {problem:#}"));
        Exit::Error
    })
}

async fn run_plan(args: &RunArgs, planned: Planned) -> Result<Exit> {
    let (plan, place) = (&planned.plan, &planned.place);
    let mut options = options(args, plan, place);
    let interrupts = options.interrupts.clone();
    let listening = listen(interrupts.clone());
    let state = hold(args, plan, place)?;
    private_files::create_folder(&options.run_dir)
        .with_context(|| format!("can't make {}", options.run_dir.display()))?;
    let folder = options.run_dir.canonicalize()?;
    if let Some(state) = &state {
        state.write(&StateFile::Run, &folder.display().to_string())?;
    }
    let contexts = place.contexts.as_ref().map(|options| &options.contexts);
    let all = State::at(args.state.state.as_deref()).ok();
    let mut undoing = match (&state, &all) {
        (Some(_), Some(all)) => {
            if let Some(contexts) = contexts {
                // Whoever goes on in these clusters must not find them as a killed run left them.
                let undone = tokio::select! {
                    undone = aftermath::undo(all, contexts) => undone,
                    () = interrupts.stopped() => return Ok(Exit::Interrupted),
                };
                if let Err(problem) = undone {
                    output::note(&format!("warning: an earlier run was killed, and {problem:#}"));
                }
            }
            Some(aftermath::prepare(all, &plan.identity.run, &folder, contexts)?)
        }
        _ => None,
    };
    if let Some(kind) = &place.kind {
        // Theirs take memory and addresses that the clusters of this run may need.
        let removed = tokio::select! {
            removed = kind.remove_killed() => removed,
            () = interrupts.stopped() => return Ok(Exit::Interrupted),
        };
        match removed {
            Ok(removed) => removed
                .iter()
                .for_each(|environment| output::note(&format!("removed: {environment}, which a killed run left"))),
            Err(problem) => {
                output::note("warning: an earlier run was killed, and not all of its clusters could be removed");
                output::problem(&problem);
            }
        }
    }
    options.private_dir = undoing.as_ref().map(|undoing| undoing.place().to_owned());

    let scenarios = plan.scenarios.len();
    output::note(&format!(
        "{scenarios} scenario{} on {} clusters at pace {}, seed {}, into {}",
        if scenarios == 1 { "" } else { "s" },
        plan.surroundings.environment,
        plan.surroundings.pace,
        plan.identity.seed,
        options.run_dir.display()
    ));
    let refusal = tokio::select! {
        refusal = look(args, &planned) => refusal,
        () = interrupts.stopped() => return Ok(Exit::Interrupted),
    };
    let Planned { plan, place } = planned;
    // The journal and the reports say why nothing ran, as they would had it been tried.
    let environment: Arc<dyn Environment> = match refusal {
        Some(problem) => Arc::new(Refused::new(Arc::clone(&place.environment), problem)),
        None => Arc::clone(&place.environment),
    };
    let session = Session::open(plan, environment, Arc::clone(&place.driver), options)
        .await
        .map_err(|problem| anyhow::anyhow!("{}", problem.message))?;
    // Other clusters go with this process, or are known by a folder of state of their own.
    if let Some(undoing) = undoing.as_mut().filter(|_| place.contexts.is_some()) {
        undoing.begin();
    }
    let shown = tokio::spawn(display::show(session.records(), scenarios, args.format));
    let summary = Box::pin(Engine::run_session(session)).await;
    listening.abort();
    let _ = shown.await;
    place.finish().await;
    for note in place.kind.iter().flat_map(Kind::notes) {
        output::note(&note);
    }
    let summary = summary.map_err(|problem| anyhow::anyhow!("{}", problem.message))?;

    if let Some(undoing) = undoing.as_mut().filter(|_| summary.uncleaned == 0) {
        undoing.nothing_left();
    }
    let shown = show(args, &summary);
    for problem in &summary.problems {
        output::problem(problem);
    }
    if let Err(problem) = shown {
        let later = format!("`meshproof report {}`", summary.run_dir.display());
        let later = match state {
            // It is how `gc` knows of this run.
            Some(state) => {
                state.leave();
                format!("{later} or `meshproof gc`")
            }
            None => later,
        };
        anyhow::bail!("{problem:#}; {later} writes the reports when they can be written");
    }
    if summary.kept.clusters().next().is_some() && !interrupts.stopping() {
        for (environment, cluster) in summary.kept.clusters() {
            let state = state
                .as_ref()
                .context("kept clusters need a folder for state; give one with --state")?;
            let file = StateFile::Kept {
                environment: environment.to_owned(),
                cluster: cluster.name.clone(),
            };
            let path = state.write(&file, &cluster.kubeconfig)?;
            output::note(&format!("kept: kubectl --kubeconfig {} get pods -A", path.display()));
        }
        output::note("the clusters are kept until this process is interrupted");
        listen_once().await;
    }
    Ok(Exit::of(summary.outcome, interrupts.stopping()))
}

/// Writes the reports, and shows the table.
fn show(args: &RunArgs, summary: &RunSummary) -> Result<()> {
    let read = RunFolder::read(&summary.run_dir)?;
    let (report, _) = command::report::write(&read)?;
    if args.format == Format::Text {
        output::print(&table::table(&report));
        output::line(&format!(
            "reports: {}/{{report.html,junit.xml,report.json,summary.md}}",
            summary.run_dir.display()
        ));
        // Kept in a build's log, it tells whether the folder is still the one that this run wrote.
        output::line(&format!(
            "journal: {} records, head {}",
            read.integrity.records, summary.head
        ));
    }
    Ok(())
}

/// The name in the state folder by which `gc` learns of this run should its process be killed. Embedded clusters end with
/// the process, so that they do without where no folder was asked for and none can be had.
fn hold(args: &RunArgs, plan: &Plan, place: &Place) -> Result<Option<Held>> {
    let given = args.state.state.as_deref();
    let held = State::at(given).and_then(|state| state.hold(&State::name_of_run(&plan.identity.run)));
    match held {
        Ok(held) => Ok(Some(held)),
        Err(problem) if given.is_none() && place.contexts.is_none() && place.kind.is_none() => {
            output::note(&format!(
                "note: should this process be killed, `gc` won't know of it: {problem:#}"
            ));
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}

/// Why nothing can run, if so. What may be too little of the machine is told, and tried all the same.
async fn look(args: &RunArgs, planned: &Planned) -> Option<Problem> {
    let refusal = preflight::refusal(planned, &args.environment.mesh).await;
    if refusal.is_none() && planned.place.kind.is_some() {
        let clusters = preflight::clusters_at_once(planned);
        for finding in kind_resources(&planned.place.tools, clusters).await {
            if finding.level == Level::Error {
                let fix = finding.fix.unwrap_or_default();
                output::note(&format!("warning: {} ({}); {fix}", finding.found, finding.code));
            }
        }
    }
    refusal
}

fn options(args: &RunArgs, plan: &Plan, place: &Place) -> RunOptions {
    let usual = RunOptions::new(args.out.join(&plan.identity.run));
    RunOptions {
        parallel: args.parallel.unwrap_or(usual.parallel),
        keep: match (args.keep, args.keep_on_failure) {
            (true, _) => Keep::Everything,
            (false, true) => Keep::Failures,
            (false, false) => Keep::Nothing,
        },
        until_fail: args.until_fail,
        strict: args.strict,
        agent_image: place.agent_image.clone(),
        command: crate::args::as_typed(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // For tests of what a defect of the harness costs: it can only make errors, never another verdict.
        panics: std::env::var("MESHPROOF_TEST_PANIC")
            .map_or_else(|_| ProvokedPanics::default(), |at| ProvokedPanics::at(&at)),
        ..usual
    }
}
