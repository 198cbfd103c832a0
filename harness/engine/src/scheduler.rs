//! Runs a whole plan: clusters brought up at once, scenarios side by side as far as their locks allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meshproof_verdict::record::Outcome;

use crate::environment::Environment;
use crate::plan::{Plan, ScenarioPlan};
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
    let plan = session.plan();
    let mut waiting: Vec<&ScenarioPlan> = plan.scenarios.iter().collect();
    let mut running: BTreeMap<&str, &ScenarioPlan> = BTreeMap::new();
    let mut tasks = FuturesUnordered::new();
    let shared = session.bring_up_shared();
    tokio::pin!(shared);
    let mut shared_up = false;
    let mut stop = false;
    loop {
        stop |= options.interrupts.stopping();
        while !stop && running.len() < options.parallel.max(1) {
            let Some(index) = next(&waiting, running.values().copied()) else {
                break;
            };
            let scenario = waiting.remove(index);
            running.insert(&scenario.key, scenario);
            tasks.push(async move { (scenario.key.as_str(), session.run(&scenario.key).await) });
        }
        if tasks.is_empty() && (waiting.is_empty() || stop) {
            return Ok(());
        }
        tokio::select! {
            () = &mut shared, if !shared_up => shared_up = true,
            Some((key, ended)) = tasks.next() => {
                running.remove(key);
                let outcome = ended?.outcome();
                let fine = matches!(outcome, Outcome::Pass | Outcome::Skip);
                stop |= options.until_fail && !fine;
            }
        }
    }
}

/// The first scenario that may run beside those that run already. Clusters of different environments never conflict.
fn next<'a>(waiting: &[&ScenarioPlan], running: impl Iterator<Item = &'a ScenarioPlan> + Clone) -> Option<usize> {
    waiting.iter().position(|candidate| {
        candidate.skip.is_some()
            || running.clone().all(|other| {
                other.environment != candidate.environment || !other.locks.conflicts_with(&candidate.locks)
            })
    })
}
