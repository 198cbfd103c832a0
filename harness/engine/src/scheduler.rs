//! Runs a whole plan: clusters brought up when they are first needed, scenarios side by side as far as their locks allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meshproof_verdict::record::Outcome;

use crate::environment::Environment;
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
    /// When the run's folder or journal can't be written. Everything else is in the summary.
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
    /// As [`Engine::run`].
    pub async fn run_session(session: Session) -> Result<RunSummary, Problem> {
        let ran = {
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
                ran = &mut scenarios => ran,
                () = watched => Ok(()),
            }
        };
        let summary = session.close().await;
        ran?;
        summary
    }
}

async fn run_all(session: &Session) -> Result<(), Problem> {
    let options = session.options();
    let mut waiting = start_order(session.plan());
    let mut running: BTreeMap<&str, &ScenarioPlan> = BTreeMap::new();
    let mut up: BTreeSet<&str> = BTreeSet::new();
    let mut tasks = FuturesUnordered::new();
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
            tasks.push(async move { (scenario, session.run(&scenario.key).await) });
        }
        let Some((scenario, ended)) = tasks.next().await else {
            return Ok(());
        };
        running.remove(scenario.key.as_str());
        let outcome = ended?.outcome();
        let fine = matches!(outcome, Outcome::Pass | Outcome::Skip);
        stop |= options.until_fail && !fine;
        let environment = scenario.environment.as_str();
        let mut others = running.values().chain(&waiting);
        if !others.any(|other| other.environment == environment && other.skip.is_none()) && up.remove(environment) {
            session.release(environment).await;
        }
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
