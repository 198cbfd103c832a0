//! A run that is open: its folder, journal and testbeds. Scenarios are run on it one by one or at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use meshproof_spec::scalar::Clusters;
use meshproof_spec::scenario::{Expect, LinkSubject, Step};
use meshproof_verdict::history::{RunHistory, ScenarioHistory};
use meshproof_verdict::record::{
    EnvironmentFailed, EnvironmentReady, Event, FORMAT, Interrupted, Outcome, PlannedCheck, PlannedScenario, Record,
    RunEnded, RunStarted, ScenarioSkipped,
};
use meshproof_verdict::standing::{NOT_IN_VERSION, Standing};
use rand::Rng;
use tokio::sync::{OnceCell, broadcast};

use crate::api::{Requests, Retries};
use crate::clock::{Clock, micros};
use crate::environment::{Cluster, Environment};
use crate::evidence::ENVIRONMENTS_FOLDER;
use crate::interrupts::Interrupts;
use crate::journal::Journal;
use crate::ledgers::file_name;
use crate::panics::{ProvokedPanics, isolated};
use crate::plan::{Plan, ScenarioPlan};
use crate::private_files;
use crate::problem::{self, Problem};
use crate::scenario_run::{self, Keep};
use crate::scene::RunContext;
use crate::stalls::Stalls;
use crate::starvation::Starvation;
use crate::testbed::{DriverFactory, NotUp, Testbed};

/// Image of the agent unless told otherwise.
pub const AGENT_IMAGE: &str = "meshproof/agent";

/// How a run is done.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder of the run; it is made, and must not hold a journal.
    pub run_dir: PathBuf,
    /// Scenarios at a time, at most; by default four for each core, because scenarios mostly wait.
    pub parallel: usize,
    /// When clusters are left as they are.
    pub keep: Keep,
    /// Stop after the first scenario that does not pass.
    pub until_fail: bool,
    /// Whether known deviations and broken SHOULDs are failures.
    pub strict: bool,
    /// The user's interrupts.
    pub interrupts: Interrupts,
    /// Image of the agent.
    pub agent_image: String,
    /// Command line, for the report.
    pub command: Vec<String>,
    /// Version of the harness, for the report.
    pub version: String,
    /// Where tests let the harness panic; nowhere otherwise.
    pub panics: ProvokedPanics,
    /// Folder that nobody else can read, for what undoes changes and is secret. Without it such changes are refused.
    pub private_dir: Option<PathBuf>,
}

impl RunOptions {
    /// The usual ones, into this folder.
    #[must_use]
    pub fn new(run_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            run_dir: run_dir.into(),
            parallel: cores * 4,
            keep: Keep::Nothing,
            until_fail: false,
            strict: false,
            interrupts: Interrupts::default(),
            agent_image: AGENT_IMAGE.to_owned(),
            command: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            panics: ProvokedPanics::default(),
            private_dir: None,
        }
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Id.
    pub run: String,
    /// Folder with the journal, ledgers and evidence.
    pub run_dir: PathBuf,
    /// Worst outcome.
    pub outcome: Outcome,
    /// Everything that happened.
    pub history: RunHistory,
    /// API requests that had to be tried again.
    pub retries: u64,
    /// Clusters that could not be removed, scenarios that broke off, and a journal that could not be written.
    pub problems: Vec<Problem>,
    /// SHA-256 (hex) of the journal's last line: who keeps it elsewhere can tell whether the journal was replaced.
    pub head: String,
    /// Clusters that are left as they are; they go when this goes.
    pub kept: Kept,
    /// Scenarios of which something may be left in clusters that outlive the run. Counted in memory: it is known also when the
    /// journal could not be written.
    pub uncleaned: u64,
}

/// Clusters that outlive their run because the user asked for it.
#[derive(Clone, Default)]
pub struct Kept(Vec<Arc<Testbed>>);

impl Kept {
    /// The clusters, each with the key of its environment.
    pub fn clusters(&self) -> impl Iterator<Item = (&str, &Cluster)> {
        self.0.iter().flat_map(|testbed| {
            testbed
                .running
                .clusters()
                .iter()
                .map(move |cluster| (testbed.plan.key.as_str(), cluster))
        })
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|testbed| &testbed.plan.key))
            .finish()
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .map(|testbed| &testbed.plan.key)
            .eq(other.0.iter().map(|testbed| &testbed.plan.key))
    }
}

/// A testbed that is brought up once, or fails once.
type TestbedCell = OnceCell<Result<Arc<Testbed>, Problem>>;

/// A run that is open.
pub struct Session {
    plan: Arc<Plan>,
    environment: Arc<dyn Environment>,
    driver: Arc<DriverFactory>,
    options: RunOptions,
    context: RunContext,
    /// Testbeds by key, each brought up by whoever needs it first.
    testbeds: Mutex<BTreeMap<String, Arc<TestbedCell>>>,
    /// Clusters that could not be removed.
    leftovers: Mutex<Vec<Problem>>,
    /// Clusters of scenarios with clusters of their own, which are left as they are.
    kept: Mutex<Vec<Arc<Testbed>>>,
    /// How often clusters were brought up, or tried to.
    brought_up: AtomicU64,
}

impl Session {
    /// Makes the run's folder and starts its journal. Nothing is brought up yet.
    ///
    /// # Errors
    /// When the folder or journal can't be made.
    pub async fn open(
        plan: Plan,
        environment: Arc<dyn Environment>,
        driver: Arc<DriverFactory>,
        options: RunOptions,
    ) -> Result<Self, Problem> {
        private_files::create_folder(&options.run_dir).map_err(|error| {
            problem::harness(
                "run-folder",
                format!("{}: {error}", options.run_dir.display()),
                Some("choose another folder for the run"),
            )
        })?;
        let clock = Clock::start(plan.surroundings.pace);
        let journal = Journal::create(&options.run_dir, clock)?;
        let nonce = nonce();
        let started = started(&plan, &options, &nonce);
        journal.durable(Event::RunStarted(Box::new(started.clone()))).await?;
        let context = RunContext {
            run: plan.identity.run.clone(),
            started: Arc::new(started),
            nonce,
            journal,
            requests: Requests {
                clock,
                retries: Retries::default(),
            },
            agent_image: options.agent_image.clone(),
            interrupts: options.interrupts.clone(),
            capabilities: Arc::new(plan.surroundings.environment_capabilities.clone()),
            stalls: Arc::new(Stalls::watch(clock)),
            starvation: environment.is_model().then(|| Arc::new(Starvation::watch(clock))),
            panics: options.panics.clone(),
            disturbances: Arc::default(),
            uncleaned: Arc::default(),
            private_dir: options.private_dir.clone(),
        };
        let testbeds = plan
            .environments
            .keys()
            .map(|key| (key.clone(), Arc::default()))
            .collect();
        Ok(Self {
            plan: Arc::new(plan),
            environment,
            driver,
            options,
            context,
            testbeds: Mutex::new(testbeds),
            leftovers: Mutex::default(),
            kept: Mutex::default(),
            brought_up: AtomicU64::new(0),
        })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How the run is done.
    #[must_use]
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Folder of the run.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.options.run_dir
    }

    /// Records from now on, for live display: each is durable by the time it is seen.
    #[must_use]
    pub fn records(&self) -> broadcast::Receiver<Arc<Record>> {
        self.context.journal.records()
    }

    /// Runs a scenario of the plan, bringing its clusters up if nobody did yet. Locks are the caller's business: one
    /// scenario at a time needs none.
    ///
    /// # Errors
    /// When there is no such scenario, or the journal can't be written.
    pub async fn run(&self, key: &str) -> Result<Arc<ScenarioHistory>, Problem> {
        let plan = self
            .plan
            .scenario(key)
            .ok_or_else(|| problem::harness("unknown-scenario", format!("the plan has no scenario `{key}`"), None))?;
        self.run_planned(plan).await?;
        Ok(self.context.journal.scenario(key))
    }

    async fn run_planned(&self, plan: &ScenarioPlan) -> Result<(), Problem> {
        if let Some(skip) = &plan.skip {
            return self.skip(&plan.key, &skip.code, &skip.reason).await;
        }
        if self.context.interrupts.stopping() || self.journal_is_broken() {
            return Ok(());
        }
        // A scenario's own clusters are not remembered: nobody else needs them, and they are gone after it.
        let own = self
            .plan
            .environments
            .get(&plan.environment)
            .is_some_and(|environment| environment.own);
        let up = if own {
            self.bring_up(&plan.environment).await
        } else {
            self.testbed(&plan.environment).await
        };
        let Ok(testbed) = up else {
            // The environment's failure is in the journal; the scenario never starts.
            return Ok(());
        };
        if let Some(reason) = self.outside_of_versions(plan, &testbed) {
            self.skip(&plan.key, NOT_IN_VERSION, &reason).await?;
            if own {
                self.bring_down(&testbed).await;
            }
            return Ok(());
        }
        let run = scenario_run::run(
            self.context.clone(),
            Arc::new(plan.clone()),
            Arc::clone(&testbed),
            self.options.keep,
        );
        let history = Box::pin(run).await?;
        let kept = history.cleanup.as_ref().is_some_and(|cleanup| cleanup.kept);
        match (own, kept) {
            (true, false) => self.bring_down(&testbed).await,
            (true, true) => lock(&self.kept).push(testbed),
            (false, _) => {}
        }
        Ok(())
    }

    /// Why a scenario has nothing to ask on these clusters: every requirement that it decides is one of other releases. One
    /// that upgrades may decide it afterwards.
    fn outside_of_versions(&self, plan: &ScenarioPlan, testbed: &Testbed) -> Option<String> {
        let scenario = &plan.scenario.scenario;
        if scenario.steps.iter().any(|step| matches!(step, Step::Upgrade(_))) {
            return None;
        }
        let outside = |id: &str| Standing::of(Some(&self.context.started), &testbed.facts, &[], id, u64::MAX).outside();
        let reasons: Option<Vec<String>> = scenario.checks.iter().map(|check| outside(&check.0)).collect();
        reasons?.into_iter().next()
    }

    async fn skip(&self, scenario: &str, code: &str, reason: &str) -> Result<(), Problem> {
        let skipped = self.context.journal.durable(Event::ScenarioSkipped(ScenarioSkipped {
            scenario: scenario.to_owned(),
            code: code.to_owned(),
            reason: reason.to_owned(),
        }));
        skipped.await.map(drop)
    }

    /// How many testbeds there may be at the same time.
    #[must_use]
    pub(crate) fn at_once(&self) -> usize {
        self.environment.at_once().unwrap_or(usize::MAX).max(1)
    }

    /// Removes clusters that several scenarios shared, when no more of them come; those that a scenario was kept in stay.
    pub(crate) async fn release(&self, key: &str) {
        if self.options.keep == Keep::Everything || self.kept_in().contains(key) {
            return;
        }
        let cell = lock(&self.testbeds).insert(key.to_owned(), Arc::default());
        if let Some(Ok(testbed)) = cell.as_ref().and_then(|cell| cell.get()) {
            self.bring_down(testbed).await;
        }
    }

    /// Environments in which a scenario left its things.
    fn kept_in(&self) -> BTreeSet<String> {
        let kept = |scenario: &&Arc<ScenarioHistory>| scenario.cleanup.as_ref().is_some_and(|cleanup| cleanup.kept);
        let history = self.context.journal.history();
        let kept = history.scenarios.iter().filter(kept);
        kept.map(|scenario| scenario.environment().to_owned()).collect()
    }

    /// The testbed with this key, brought up if nobody did yet. Also a failure is remembered.
    pub(crate) async fn testbed(&self, key: &str) -> Result<Arc<Testbed>, Problem> {
        let missing = || {
            problem::harness(
                "unknown-environment",
                format!("the plan has no environment `{key}`"),
                None,
            )
        };
        let cell = lock(&self.testbeds).get(key).cloned().ok_or_else(missing)?;
        cell.get_or_init(|| self.bring_up(key)).await.clone()
    }

    async fn bring_up(&self, key: &str) -> Result<Arc<Testbed>, Problem> {
        let missing = || {
            problem::harness(
                "unknown-environment",
                format!("the plan has no environment `{key}`"),
                None,
            )
        };
        let plan = self.plan.environments.get(key).ok_or_else(missing)?;
        // The same environment may be brought up several times.
        let number = self.brought_up.fetch_add(1, Ordering::Relaxed);
        let evidence = format!("{ENVIRONMENTS_FOLDER}/{}.{number}", file_name(key));
        let up = async {
            self.context.panics.here(key, "up");
            Testbed::bring_up(
                plan,
                self.plan.identity.seed,
                self.environment.as_ref(),
                self.driver.as_ref(),
                &self.context,
                &evidence,
            )
            .await
        };
        let up = isolated("bringing the clusters up", Box::pin(up)).await;
        match up.unwrap_or_else(|panic| Err(Box::new(NotUp::from(panic)))) {
            Ok(testbed) => {
                self.context.journal.note(Event::EnvironmentReady(EnvironmentReady {
                    environment: key.to_owned(),
                    clusters: testbed.facts.clone(),
                    links: testbed.links(),
                    took_wall_us: micros(testbed.took),
                }));
                Ok(Arc::new(testbed))
            }
            Err(not_up) => {
                let NotUp {
                    problem,
                    awake,
                    evidence,
                } = *not_up;
                self.context.journal.note(Event::EnvironmentFailed(EnvironmentFailed {
                    environment: key.to_owned(),
                    problem: problem.clone(),
                    awake,
                    evidence,
                }));
                Err(problem)
            }
        }
    }

    async fn bring_down(&self, testbed: &Testbed) {
        let down = isolated(
            "bringing the clusters down",
            testbed.bring_down(self.context.requests.clock),
        );
        if let Err(problem) = down.await.and_then(|down| down) {
            tracing::warn!(
                environment = testbed.plan.key,
                problem = problem.message,
                "clusters are left"
            );
            lock(&self.leftovers).push(problem);
        }
    }

    /// Takes note of a scenario that broke off.
    pub(crate) fn broke(&self, key: &str, mut problem: Problem) {
        problem.message = format!("{key}: {}", problem.message);
        lock(&self.leftovers).push(problem);
    }

    /// Whether the journal could not be written: nothing new may be begun then.
    #[must_use]
    pub(crate) fn journal_is_broken(&self) -> bool {
        self.context.journal.is_broken()
    }

    /// Removes all clusters that are left (unless they are to be kept), writes the end down and returns what happened.
    ///
    /// # Errors
    /// None any more: also that the journal could not be written is in the summary.
    pub async fn close(&self) -> Result<RunSummary, Problem> {
        let keep_all = self.options.keep == Keep::Everything;
        let kept = self.kept_in();
        let up: Vec<Arc<Testbed>> = lock(&self.testbeds)
            .values()
            .filter_map(|cell| cell.get().and_then(|testbed| testbed.as_ref().ok()).map(Arc::clone))
            .collect();
        let (mut left, down): (Vec<_>, Vec<_>) = up
            .into_iter()
            .partition(|testbed| keep_all || kept.contains(&testbed.plan.key));
        left.append(&mut lock(&self.kept));
        join_all(down.iter().map(|testbed| self.bring_down(testbed))).await;
        let mut problems = std::mem::take(&mut *lock(&self.leftovers));
        let left_over = if problems.is_empty() {
            Outcome::Pass
        } else {
            Outcome::Error
        };
        let mut outcome = self.context.journal.history().outcome_so_far().max(left_over);
        let ended = self
            .context
            .journal
            .durable(Event::RunEnded(RunEnded { outcome }))
            .await;
        let mut history = self.context.journal.history();
        if let Err(problem) = ended {
            // Whatever was found: it can't be shown.
            outcome = Outcome::Error;
            history.ended = None;
            problems.retain(|other| !other.message.ends_with(&problem.message));
            problems.push(problem);
        }
        let head = self.context.journal.head();
        let redactor = self.context.journal.redactor();
        let problems = problems
            .iter()
            .map(|problem| redactor.problem(problem).into_inner())
            .collect();
        Ok(RunSummary {
            run: self.plan.identity.run.clone(),
            run_dir: self.options.run_dir.clone(),
            outcome,
            history,
            retries: self.context.requests.retries.count(),
            problems,
            head,
            kept: Kept(left),
            uncleaned: self.context.uncleaned.load(Ordering::Relaxed),
        })
    }

    /// Writes down that the user interrupted, for the first or second time.
    pub fn interrupted(&self, count: u32) {
        self.context.journal.note(Event::Interrupted(Interrupted { count }));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn planned(plan: &ScenarioPlan) -> PlannedScenario {
    let scenario = &plan.scenario;
    PlannedScenario {
        key: plan.key.clone(),
        id: scenario.id.clone(),
        area: scenario.area.clone(),
        file: scenario.file.clone(),
        summary: scenario.scenario.summary.clone(),
        checks: scenario.scenario.checks.iter().map(|check| check.0.clone()).collect(),
        topology: scenario.scenario.topology.0.clone(),
        digest: scenario.digest.clone(),
        steps: u32::try_from(scenario.scenario.steps.len()).ok(),
        expects: checks(&scenario.scenario.steps),
    }
}

/// The checks among some steps.
fn checks(steps: &[Step]) -> Vec<PlannedCheck> {
    let expects = (0_u32..).zip(steps).filter_map(|(step, action)| match action {
        Step::Expect(expect) => Some((step, expect)),
        _ => None,
    });
    expects
        .map(|(step, expect)| PlannedCheck {
            step,
            requirement: expect.id.as_ref().map(|id| id.0.clone()).unwrap_or_default(),
            name: expect.name.as_ref().map(|name| name.0.clone()),
            place: about(expect),
        })
        .collect()
}

/// What a check is about, as far as its file says: it must be known before anything runs.
fn about(expect: &Expect) -> String {
    let link = |link: &LinkSubject| format!("{} → {}", link.from, link.to);
    let clusters = |clusters: &Clusters| {
        let names: Vec<&str> = clusters.0.iter().map(|name| name.0.as_str()).collect();
        names.join(", ")
    };
    let places = [
        expect.object.as_ref().map(|object| object.r#in.0.clone()),
        expect.objects.as_ref().map(|objects| objects.r#in.0.clone()),
        expect.access.as_ref().map(|access| access.r#in.0.clone()),
        expect.rejected.as_ref().map(|rejected| rejected.r#in.0.clone()),
        expect.link.as_ref().map(link),
        expect.unchanged.as_ref().map(|unchanged| clusters(&unchanged.r#in)),
        expect
            .residue
            .as_ref()
            .and_then(|residue| residue.link.as_ref().map(link).or(residue.mesh.as_ref().map(clusters))),
        expect.call.as_ref().map(|call| format!("call {call}")),
        expect.traffic.as_ref().map(|traffic| format!("traffic {traffic}")),
        expect.split.as_ref().map(|_| "split".to_owned()),
        expect.mtls.as_ref().map(|_| "mtls".to_owned()),
    ];
    places.into_iter().flatten().next().unwrap_or_default()
}

fn started(plan: &Plan, options: &RunOptions, nonce: &str) -> RunStarted {
    RunStarted {
        format: FORMAT,
        run: plan.identity.run.clone(),
        started: jiff::Timestamp::now().to_string(),
        version: options.version.clone(),
        command: options.command.clone(),
        nonce: nonce.to_owned(),
        seed: plan.identity.seed,
        pace: plan.surroundings.pace,
        environment: plan.surroundings.environment.clone(),
        certifies: plan.surroundings.certifies,
        defects: plan.identity.defects.clone(),
        suite_digest: plan.suite_digest.clone(),
        requirements: plan.requirements.clone(),
        scenarios: plan.scenarios.iter().map(planned).collect(),
        deviations: plan.deviations.clone(),
        strict: options.strict,
        partition: plan.partition.map(|partition| partition.to_string()),
    }
}

/// A nonce that no earlier run had.
fn nonce() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}
