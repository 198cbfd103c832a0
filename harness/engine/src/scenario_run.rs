//! One scenario from its first step to its cleanup.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use meshproof_verdict::history::{At, ScenarioHistory};
use meshproof_verdict::record::{
    CleanedUp, Event, Outcome, Problem, ProblemClass, ScenarioEnded, ScenarioStarted, StepEnded, StepStarted,
};

use crate::cleanup::{Extent, clean_up};
use crate::describe::{text, verb};
use crate::disturbance::Disturbances;
use crate::evidence;
use crate::ledgers::LedgerBook;
use crate::panics::isolated;
use crate::plan::ScenarioPlan;
use crate::problem;
use crate::scene::{RunContext, Scene};
use crate::steps::exports::Exports;
use crate::steps::{self, namespace};
use crate::testbed::Testbed;
use crate::{expect, references};
use meshproof_spec::scenario::Step;

/// When clusters are left as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Never.
    #[default]
    Nothing,
    /// When a scenario did not pass.
    Failures,
    /// Always.
    Everything,
}

/// Runs a scenario. Its outcome is written down before this returns. Whatever happens in a step, a panic of the harness too,
/// what the scenario did is undone and cleaned up.
///
/// # Errors
/// When the journal can't be written. Everything is cleaned up then, too.
pub(crate) async fn run(
    run: RunContext,
    plan: Arc<ScenarioPlan>,
    testbed: Arc<Testbed>,
    keep: Keep,
) -> Result<Arc<ScenarioHistory>, Problem> {
    let uncleaned = Arc::clone(&run.uncleaned);
    // Until the opposite is known.
    uncleaned.fetch_add(1, Ordering::Relaxed);
    let started_us = run.journal.note(Event::ScenarioStarted(ScenarioStarted {
        scenario: plan.key.clone(),
        namespace: plan.namespace.clone(),
        environment: plan.environment.clone(),
    }));
    let mut scene = Scene {
        ledgers: Arc::new(LedgerBook::new(&plan.key, run.journal.clone())),
        run,
        plan,
        testbed,
        step: 0,
        workloads: Vec::new(),
        traffic: BTreeMap::new(),
        flows: BTreeMap::new(),
        exports: Exports::default(),
        routes: BTreeMap::new(),
        faults: BTreeMap::new(),
        disturbances: Disturbances::default(),
        inventories: BTreeMap::new(),
        disturbed_us: started_us,
        namespaces: Vec::new(),
        server_rows: crate::reconcile::ServerRows::default(),
        clients: Mutex::default(),
        unmodelled: Mutex::default(),
        held: Vec::new(),
    };
    perform_steps(&mut scene).await;
    let extent = extent(&scene, keep);
    clean_up(&mut scene, extent).await;
    let history = scene.history();
    let clean = |cleanup: &At<CleanedUp>| !cleanup.kept && cleanup.left.is_empty() && cleanup.problem.is_none();
    if history.cleanup.as_ref().is_some_and(clean) {
        uncleaned.fetch_sub(1, Ordering::Relaxed);
    }
    let ended = scene.run.journal.durable(Event::ScenarioEnded(ScenarioEnded {
        scenario: scene.key().to_owned(),
        outcome: history.outcome_so_far(),
    }));
    drop(history);
    ended.await?;
    Ok(scene.history())
}

fn extent(scene: &Scene, keep: Keep) -> Extent {
    let history = scene.history();
    let failed = history.checks.iter().any(|check| check.outcome() != Outcome::Pass)
        || history.steps.iter().any(|step| step.problem().is_some());
    if scene.run.interrupts.hurrying() {
        Extent::HealOnly
    } else if keep == Keep::Everything || (keep == Keep::Failures && failed) {
        Extent::Keep
    } else if scene.testbed.plan.own {
        Extent::ClustersGo
    } else {
        Extent::Everything
    }
}

/// Performs the steps in order. A check that does not pass stops nothing; a step that has a problem ends the scenario, and
/// checks after it are not reached.
async fn perform_steps(scene: &mut Scene) {
    let scenario = Arc::clone(&scene.plan.scenario);
    for (index, step) in scenario.scenario.steps.iter().enumerate() {
        scene.step = u32::try_from(index).unwrap_or(u32::MAX);
        let line = scenario.line(index);
        let disturbs = step.disturbs();
        let started_us = scene.run.journal.note(Event::StepStarted(StepStarted {
            scenario: scene.key().to_owned(),
            step: scene.step,
            line,
            verb: verb(step),
            text: text(step, scene.run.journal.redactor()),
            disturbs,
        }));
        if disturbs {
            scene.disturbed_us = started_us;
        }
        let mut outcome = Outcome::Pass;
        let journal = scene.run.journal.clone();
        let what = format!("the step of line {line}");
        let performed = tokio::select! {
            biased;
            problem = journal.broken() => Err(problem),
            performed = isolated(&what, perform(scene, step, index, line)) => performed.and_then(|performed| performed),
        };
        let problem = performed.map(|found| outcome = found).err();
        if step.changes() {
            scene.look_for_unmodelled();
        }
        let awake = scene.awake(problem.as_ref().is_some_and(Problem::is_of_time)).await;
        if outcome != Outcome::Pass
            || problem
                .as_ref()
                .is_some_and(|problem| problem.class != ProblemClass::Interrupted)
        {
            let frozen = isolated("collecting evidence", evidence::freeze(scene, problem.as_ref()));
            if let Err(problem) = frozen.await {
                tracing::warn!(problem = problem.message, "there is less evidence than there could be");
            }
        }
        let ends = problem.is_some();
        scene.run.journal.note(Event::StepEnded(StepEnded {
            scenario: scene.key().to_owned(),
            step: scene.step,
            problem,
            awake,
        }));
        if ends {
            return;
        }
    }
}

/// Performs one step; the outcome is that of a check, or pass.
async fn perform(scene: &mut Scene, step: &Step, index: usize, line: u32) -> Result<Outcome, Problem> {
    let interrupts = scene.run.interrupts.clone();
    if interrupts.stopping() {
        return Err(problem::interrupted());
    }
    scene.run.panics.here(scene.key(), &index.to_string());
    if index == 0 {
        tokio::select! {
            biased;
            () = interrupts.stopped() => return Err(problem::interrupted()),
            made = namespace::create_first(scene) => made?,
        }
    }
    let bed = Arc::clone(&scene.testbed);
    let step = references::resolve(step, scene.plan.namespace.as_str(), bed.clusters(), bed.driver.as_ref())?;
    if let Step::Expect(expect) = &step {
        return expect::expect(scene, expect, line).await;
    }
    tokio::select! {
        biased;
        () = interrupts.stopped() => Err(problem::interrupted()),
        done = steps::perform(scene, &step) => done.map(|()| Outcome::Pass),
    }
}
