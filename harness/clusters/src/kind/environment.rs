//! Bringing a topology's clusters up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use meshproof_engine::action::Action;
use meshproof_engine::environment::{Environment, EnvironmentRequest, RunningEnvironment};
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Tools;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::blueprint::Blueprint;
use super::commands::Commands;
use super::feasibility;
use super::logs;
use super::making::{Made, Maker};
use super::options::KindOptions;
use super::plan;
use super::record::Claim;
use super::relays::{RelayPath, RelayRequest, RelaySet, Relays};
use super::removal::{self, Certainty};
use super::running::Running;
use super::sweep;
use crate::preflight::Finding;

/// Clusters made with `kind` and Docker.
///
/// Whatever it makes is recorded in its state folder before it exists, and is removed again when bringing it up fails or is
/// given up, when it is brought down, and when it is dropped. Removing goes on in the background when nobody waits for it:
/// [`Kind::finish`] waits for that before the process ends. What a killed process leaves is found by [`super::sweep`].
#[derive(Clone)]
pub struct Kind {
    shared: Arc<Shared>,
}

/// What an environment and its clusters share.
pub(super) struct Shared {
    pub(super) options: KindOptions,
    pub(super) tools: Tools,
    pub(super) commands: Commands,
    /// Work that goes on although nobody waits for it.
    pub(super) tracker: TaskTracker,
    relays: Option<Arc<dyn Relays>>,
    notes: Mutex<Vec<String>>,
    /// What was known of clusters that could not be made, by the key of their environment.
    failed: Mutex<BTreeMap<String, Vec<(String, String)>>>,
}

impl Kind {
    /// An environment without relays.
    #[must_use]
    pub fn new(options: KindOptions, tools: Tools) -> Self {
        Self::with(options, tools, None)
    }

    /// An environment with a relay in each link: adds `relay` and `reset` to what it can do.
    #[must_use]
    pub fn with_relays(options: KindOptions, tools: Tools, relays: Arc<dyn Relays>) -> Self {
        Self::with(options, tools, Some(relays))
    }

    fn with(options: KindOptions, tools: Tools, relays: Option<Arc<dyn Relays>>) -> Self {
        let commands = Commands::new(&options);
        Self {
            shared: Arc::new(Shared {
                options,
                tools,
                commands,
                tracker: TaskTracker::new(),
                relays,
                notes: Mutex::default(),
                failed: Mutex::default(),
            }),
        }
    }

    /// Looks whether the clusters of these requests can be made on this machine. Makes nothing.
    pub async fn feasibility(&self, requests: &[EnvironmentRequest]) -> Vec<Finding> {
        feasibility::look(&self.shared.tools, &self.shared.options, requests).await
    }

    /// What people should know although nothing failed: which clusters were made anew instead of taken over, and why. Each is
    /// told once.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes clusters that runs of this state folder left when they were killed, and that nobody asked to keep; the names
    /// of their environments. To be called before clusters are made.
    ///
    /// # Errors
    /// `clusters-left` with what could not be removed.
    pub async fn remove_killed(&self) -> Result<Vec<String>, Problem> {
        sweep::sweep_killed(&self.shared.tools, &self.shared.options).await
    }

    /// Waits until everything that goes on in the background is done: removing what was given up or dropped, healing faults
    /// that were dropped. To be called before the process ends.
    pub async fn finish(&self) {
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
        self.shared.tracker.reopen();
    }
}

#[async_trait]
impl Environment for Kind {
    fn kind(&self) -> &'static str {
        "kind"
    }

    fn certifies(&self) -> bool {
        true
    }

    fn pace(&self) -> f64 {
        1.0
    }

    fn capabilities(&self) -> BTreeSet<String> {
        let mut capabilities: BTreeSet<String> = [
            "delay",
            "disposable",
            "disruptive",
            // Where the topology has `network: flat`.
            "flat-network",
            "load-balancer",
            "node-port",
            "partition",
            "pause-api",
            "separate-trust",
        ]
        .map(ToOwned::to_owned)
        .into();
        if self.shared.relays.is_some() {
            capabilities.extend(["relay", "reset"].map(ToOwned::to_owned));
        }
        capabilities
    }

    fn at_once(&self) -> Option<usize> {
        self.shared.options.at_once
    }

    fn commands(&self, request: &EnvironmentRequest) -> Vec<Action> {
        match Blueprint::new(&self.shared.options, request) {
            Ok(blueprint) => plan::actions(&self.shared.options, &blueprint),
            Err(problem) => vec![Action::Impossible(problem.message)],
        }
    }

    async fn up(&self, request: &EnvironmentRequest) -> Result<Arc<dyn RunningEnvironment>, Problem> {
        let given_up = CancellationToken::new();
        // Cancels when this future is dropped; the task then removes what it made.
        let _guard = given_up.clone().drop_guard();
        let making = bring_up(Arc::clone(&self.shared), request.clone(), given_up);
        let running = self.shared.tracker.spawn(making).await.map_err(|error| {
            problem::harness("task-failed", format!("bringing {} up: {error}", request.key), None)
        })??;
        Ok(Arc::new(running))
    }

    async fn diagnose_failed(&self, key: &str) -> Vec<(String, String)> {
        let mut failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.remove(key).unwrap_or_default()
    }
}

async fn bring_up(
    shared: Arc<Shared>,
    request: EnvironmentRequest,
    given_up: CancellationToken,
) -> Result<Running, Problem> {
    let blueprint = Blueprint::new(&shared.options, &request)?;
    let claim = Claim::take(&blueprint.folder)?;
    let maker = Maker {
        options: &shared.options,
        tools: &shared.tools,
        commands: &shared.commands,
        blueprint: &blueprint,
        begun: AtomicBool::new(false),
        notes: &shared.notes,
    };
    let making = async {
        let made = maker.make(&claim).await?;
        let relays = start_relays(&shared, &blueprint, &request, &made).await?;
        Ok::<_, Problem>((made, relays))
    };
    let ended = tokio::select! {
        biased;
        () = given_up.cancelled() => Err(problem::environment("interrupted", "bringing clusters up was given up", None)),
        ended = Box::pin(making) => ended,
    };
    let begun = maker.begun.load(Ordering::Relaxed);
    match ended {
        Ok((made, relays)) => Ok(Running::new(shared, blueprint, made, claim, relays)),
        Err(problem) => {
            // What was given up nobody asks about; what failed is gone in a moment.
            if !given_up.is_cancelled() {
                let mut files = Vec::new();
                if begun {
                    files = logs::collect(&shared.tools, &shared.commands, &blueprint).await;
                }
                files.push(logs::commands(&shared.tools));
                let mut failed = shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.insert(request.key.clone(), files);
            }
            Err(undone(&shared, claim, begun, problem).await)
        }
    }
}

/// Removes what was made until it failed; the problem with what else went wrong.
async fn undone(shared: &Shared, claim: Claim, begun: bool, mut problem: Problem) -> Problem {
    let removed = match claim.record() {
        Ok(None) => claim.remove(),
        // Clusters that an earlier run left up were not touched.
        Ok(Some(_)) if !begun => Ok(()),
        _ => {
            removal::remove(
                &shared.tools,
                &shared.commands,
                &shared.options.state,
                claim,
                Certainty::Killed,
            )
            .await
        }
    };
    if let Err(also) = removed {
        problem.message = format!(
            "{}; and removing what was made failed: {}",
            problem.message, also.message
        );
    }
    problem
}

async fn start_relays(
    shared: &Shared,
    blueprint: &Blueprint,
    request: &EnvironmentRequest,
    made: &Made,
) -> Result<Option<Arc<dyn RelaySet>>, Problem> {
    let Some(relays) = &shared.relays else { return Ok(None) };
    let nodes = |cluster: &str| made.nodes.get(cluster).cloned().unwrap_or_default();
    let paths = request.topology.links.iter().map(|link| RelayPath {
        from: link.from.0.clone(),
        to: link.to.0.clone(),
        from_nodes: nodes(&link.from.0),
        to_nodes: nodes(&link.to.0),
    });
    let request = RelayRequest {
        environment: blueprint.environment.clone(),
        network: blueprint.network.clone(),
        paths: paths.collect(),
    };
    relays.start(request).await.map(Some)
}
