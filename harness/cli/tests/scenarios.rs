//! Every shipped scenario as a test, through the same engine as `meshproof run`. Listing reads files and starts nothing.
//!
//! Names are `embedded::<area>::<scenario>`. The tests of one process share clusters as the scenarios of one run do, and
//! wait for each other where they touch the same link, gateway or control plane.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use meshproof::args::{SelectionArgs, SuiteArgs};
use meshproof::output;
use meshproof::place::Place;
use meshproof::planning::{self, Planned};
use meshproof_engine::plan::ScenarioPlan;
use meshproof_engine::{RunOptions, Session};
use meshproof_mesh::defect::Defects;
use meshproof_report::{model::Report, run_folder::RunFolder, table};
use meshproof_verdict::record::Outcome;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Tests at the same time unless the command line says otherwise: scenarios mostly wait.
const THREADS: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let suite = SuiteArgs {
        scenarios: root.join("scenarios"),
        topologies: root.join("kind-configs"),
    };
    let place = Place::embedded(10.0, Defects::default());
    let selection = SelectionArgs::default();
    let planned = match planning::plan_at(place, &suite, &selection, 1, Some(1)) {
        Ok(planned) => planned,
        Err(exit) => return exit.into(),
    };
    let scenarios = planned.plan.scenarios.clone();
    let suite = match Shared::new(planned) {
        Ok(shared) => Arc::new(shared),
        Err(error) => {
            output::note(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let trials = scenarios
        .into_iter()
        .map(|plan| {
            let shared = Arc::clone(&suite);
            let name = format!("embedded::{}::{}", plan.scenario.area, plan.key);
            Trial::ignorable_test(name, move || shared.run(&plan))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(shared) = Arc::try_unwrap(suite).map_err(|_| "a test still runs") {
        shared.close();
    }
    conclusion.exit_code()
}

/// What the tests of this process share.
struct Shared {
    runtime: Runtime,
    folder: tempfile::TempDir,
    planned: Mutex<Option<Planned>>,
    session: OnceCell<Session>,
    running: Mutex<Vec<ScenarioPlan>>,
    freed: Condvar,
}

impl Shared {
    fn new(planned: Planned) -> std::io::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            runtime: Runtime::new()?,
            folder: tempfile::tempdir()?,
            planned: Mutex::new(Some(planned)),
            session: OnceCell::new(),
            running: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    fn run(&self, plan: &ScenarioPlan) -> Result<Completion, Failed> {
        self.enter(plan);
        let ran = self.runtime.block_on(async {
            let session = self.session.get_or_try_init(|| self.open()).await?;
            session.run(&plan.key).await.map_err(|problem| problem.message)
        });
        self.leave(plan);
        let history = ran.map_err(Failed::from)?;
        match history.outcome() {
            Outcome::Pass => Ok(Completion::Completed),
            Outcome::Skip => {
                let reason = history
                    .skipped
                    .as_ref()
                    .map(|skipped| format!("{}: {}", skipped.code, skipped.reason));
                Ok(Completion::ignored_with(reason.unwrap_or_default()))
            }
            _ => Err(self.failure(&plan.key).into()),
        }
    }

    async fn open(&self) -> Result<Session, String> {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Planned { plan, place } = planned.ok_or("the session could not be opened")?;
        let options = RunOptions::new(self.folder.path());
        let session = Session::open(plan, place.environment, place.driver, options).await;
        session.map_err(|problem| problem.message)
    }

    /// The lines of the run's table that are about a scenario.
    fn failure(&self, key: &str) -> String {
        let read = RunFolder::read(self.folder.path()).map(|folder| Report::of(&folder));
        let mut report = match read {
            Ok(report) => report,
            Err(error) => return error.to_string(),
        };
        report.scenarios.retain(|scenario| scenario.key == key);
        table::table(&report)
    }

    /// Waits until no running test conflicts with the scenario.
    fn enter(&self, plan: &ScenarioPlan) {
        let conflicts = |running: &mut Vec<ScenarioPlan>| {
            running
                .iter()
                .any(|other| other.environment == plan.environment && other.locks.conflicts_with(&plan.locks))
        };
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = self
            .freed
            .wait_while(running, conflicts)
            .unwrap_or_else(PoisonError::into_inner);
        running.push(plan.clone());
    }

    fn leave(&self, plan: &ScenarioPlan) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other.key != plan.key);
        self.freed.notify_all();
    }

    fn close(self) {
        if let Some(session) = self.session.into_inner()
            && let Err(problem) = self.runtime.block_on(session.close())
        {
            output::note(&format!("error: {}", problem.message));
        }
    }
}
