//! Runs a whole plan: clusters brought up when they are first needed, scenarios side by side as far as their locks allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshproof_verdict::history::ScenarioHistory;
use meshproof_verdict::record::Outcome;
use tokio::task::JoinSet;

use crate::environment::Environment;
use crate::panics::panicked;
use crate::plan::{Plan, ScenarioPlan, start_order};
use crate::problem::Problem;
use crate::session::{RunOptions, RunSummary, Session};
use crate::testbed::DriverFactory;

/// Entry point: see [`Engine::run`].
#[derive(Clone, Copy, Debug)]
pub struct Engine;

impl Engine {
    /// Runs a plan to its end, also when the user interrupts it.
    ///
    /// # Errors
    /// When the run's folder or journal can't be made. Everything else is in the summary.
    pub async fn run(
        plan: Plan,
        environment: Arc<dyn Environment>,
        driver: Arc<DriverFactory>,
        options: RunOptions,
    ) -> Result<RunSummary, Problem> {
        let session = Session::open(plan, environment, driver, options).await?;
        Self::run_session(session).await
    }

    /// Runs everything of an open session and closes it.
    ///
    /// # Errors
    /// None any more: also that the journal could not be written is in the summary.
    pub async fn run_session(session: Session) -> Result<RunSummary, Problem> {
        let session = Arc::new(session);
        {
            let scenarios = run_all(&session);
            tokio::pin!(scenarios);
            let interrupts = session.options().interrupts.clone();
            let watched = async {
                interrupts.stopped().await;
                session.interrupted(1);
                interrupts.hurried().await;
                session.interrupted(2);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = &mut scenarios => {}
                () = watched => {}
            }
        }
        session.close().await
    }
}

/// Runs scenarios, each on a task of its own: what goes wrong in one costs that one.
async fn run_all(session: &Arc<Session>) {
    let options = session.options();
    let mut waiting = start_order(session.plan());
    let mut running: BTreeMap<&str, &ScenarioPlan> = BTreeMap::new();
    let mut up: BTreeSet<&str> = BTreeSet::new();
    let mut tasks: JoinSet<Result<Arc<ScenarioHistory>, Problem>> = JoinSet::new();
    let mut task_of: BTreeMap<tokio::task::Id, &ScenarioPlan> = BTreeMap::new();
    let mut stop = false;
    loop {
        stop |= options.interrupts.stopping();
        while !stop && running.len() < options.parallel.max(1) {
            let Some(index) = next(&waiting, running.values().copied(), &up, session.at_once()) else {
                break;
            };
            let scenario = waiting.remove(index);
            if scenario.skip.is_none() {
                up.insert(&scenario.environment);
            }
            running.insert(&scenario.key, scenario);
            let (session, key) = (Arc::clone(session), scenario.key.clone());
            let task = tasks.spawn(async move { session.run(&key).await });
            task_of.insert(task.id(), scenario);
        }
        let Some(joined) = tasks.join_next_with_id().await else {
            return;
        };
        let (task, ended) = match joined {
            Ok((task, ended)) => (task, ended),
            Err(error) => (error.id(), Err(lost(error))),
        };
        let Some(scenario) = task_of.remove(&task) else {
            continue;
        };
        running.remove(scenario.key.as_str());
        let fine = ended
            .as_ref()
            .is_ok_and(|history| matches!(history.outcome(), Outcome::Pass | Outcome::Skip | Outcome::Deviates));
        stop |= options.until_fail && !fine;
        if let Err(problem) = ended {
            session.broke(&scenario.key, problem);
        }
        // Nothing that happens from now on could be known afterwards.
        stop |= session.journal_is_broken();
        let environment = scenario.environment.as_str();
        let mut others = running.values().chain(&waiting);
        if !others.any(|other| other.environment == environment && other.skip.is_none()) && up.remove(environment) {
            session.release(environment).await;
        }
    }
}

/// What became of a scenario whose task did not end by itself.
fn lost(error: tokio::task::JoinError) -> Problem {
    match error.try_into_panic() {
        Ok(payload) => panicked("a scenario", payload.as_ref()),
        Err(error) => crate::problem::harness("task-failed", error.to_string(), None),
    }
}

/// The first scenario that may run beside those that run already: its clusters are up or may come up beside the others
/// (`at_once` testbeds at most), and its locks conflict with nobody's on the same clusters.
fn next<'a>(
    waiting: &[&ScenarioPlan],
    running: impl Iterator<Item = &'a ScenarioPlan> + Clone,
    up: &BTreeSet<&str>,
    at_once: usize,
) -> Option<usize> {
    waiting.iter().position(|candidate| {
        let room = up.contains(candidate.environment.as_str()) || up.len() < at_once;
        candidate.skip.is_some()
            || room
                && running.clone().all(|other| {
                    other.environment != candidate.environment || !other.locks.conflicts_with(&candidate.locks)
                })
    })
}
