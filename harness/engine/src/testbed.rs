//! A testbed: clusters that are up, with the mesh installed and linked as their plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use meshproof_verdict::record::{ClusterFacts, EnvironmentEvidence};
use meshproof_verdict::wakefulness::Wakefulness;

use crate::api::Requests;
use crate::clock::Clock;
use crate::driver::{MeshDriver, Upgraded};
use crate::environment::{Cluster, Environment, EnvironmentRequest, RunningEnvironment};
use crate::evidence::{self, Sight};
use crate::hindrance;
use crate::kinds::Kinds;
use crate::plan::EnvironmentPlan;
use crate::problem::{self, Problem};
use crate::pulse::Pulses;
use crate::scene::{RunContext, mesh_namespaces};
use crate::watch::Watches;

/// Time for collecting facts about a cluster (scenario time).
const FACT_TIME: Duration = Duration::from_secs(60);
/// Time for the clusters of an environment to come up (scenario time).
const UP_TIME: Duration = Duration::from_secs(1200);
/// Time for them to go away (scenario time).
const DOWN_TIME: Duration = Duration::from_secs(300);
/// Time for installing the mesh in one cluster (scenario time).
const INSTALL_TIME: Duration = Duration::from_secs(600);
/// Time for upgrading the mesh in one cluster and for its links to get ready again (scenario time).
const UPGRADE_TIME: Duration = Duration::from_secs(900);
/// Time for making one link, or for it to get ready (scenario time): a little more than drivers take themselves (300 s), who
/// know better what they waited for.
const LINK_TIME: Duration = Duration::from_secs(330);

/// Makes the driver of one environment's clusters.
pub type DriverFactory = dyn Fn(&EnvironmentRequest) -> Arc<dyn MeshDriver> + Send + Sync;

/// Clusters that did not come up.
pub(crate) struct NotUp {
    /// What went wrong first.
    pub(crate) problem: Problem,
    /// Who was awake meanwhile.
    pub(crate) awake: Wakefulness,
    /// What they looked like.
    pub(crate) evidence: Option<EnvironmentEvidence>,
}

impl From<Problem> for NotUp {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            awake: Wakefulness::default(),
            evidence: None,
        }
    }
}

/// Clusters that are up.
pub struct Testbed {
    /// What was planned.
    pub plan: EnvironmentPlan,
    /// The clusters.
    pub running: Arc<dyn RunningEnvironment>,
    /// The mesh in them.
    pub driver: Arc<dyn MeshDriver>,
    /// What changes in them.
    pub watches: Watches,
    /// Kinds that were looked up.
    pub kinds: Kinds,
    /// Whether their APIs answer.
    pub(crate) pulses: Pulses,
    /// Facts of the clusters, when they were ready.
    pub facts: Vec<ClusterFacts>,
    /// When everything was seen to be ready, scenario µs.
    pub(crate) ready_us: u64,
    /// Wall time that it took.
    pub took: Duration,
}

impl Testbed {
    /// Brings clusters up, installs the mesh in all of them at once and makes the links. A user's interrupt ends it. What is
    /// seen of clusters that did not get ready goes into the folder `evidence` of the run.
    ///
    /// # Errors
    /// What went wrong first; everything that was made has been removed again.
    pub(crate) async fn bring_up(
        plan: &EnvironmentPlan,
        seed: u64,
        environment: &dyn Environment,
        driver: &DriverFactory,
        run: &RunContext,
        evidence: &str,
    ) -> Result<Self, Box<NotUp>> {
        let began = Instant::now();
        let request = EnvironmentRequest {
            key: plan.key.clone(),
            topology: plan.topology.clone(),
            setup: plan.setup.clone(),
            seed,
        };
        let (clock, interrupts) = (run.requests.clock, &run.interrupts);
        let began_us = clock.now_us();
        // Who makes clusters removes them again when nobody waits for them any longer.
        let up = tokio::select! {
            biased;
            () = interrupts.stopped() => Err(problem::interrupted()),
            up = clock.within(UP_TIME, environment.up(&request)) => up.unwrap_or_else(|_| Err(not_up(&plan.key))),
        };
        let running = match up {
            Ok(running) => running,
            Err(problem) => {
                let files = environment.diagnose_failed(&plan.key).await;
                return Err(Box::new(NotUp {
                    problem,
                    awake: run.awake(&Pulses::default(), began_us),
                    evidence: evidence::write_diagnosis(run, evidence, files).await,
                }));
            }
        };
        let driver = driver(&request);
        let watches = Watches::new(running.clusters());
        let pulses = Pulses::feel(running.clusters(), &watches, clock);
        let preparing = async {
            prepare(plan, running.clusters(), driver.as_ref(), &run.requests).await?;
            collect_facts(plan, running.clusters(), driver.as_ref(), &run.requests).await
        };
        let prepared = tokio::select! {
            biased;
            () = interrupts.stopped() => Err(problem::interrupted()),
            prepared = preparing => prepared,
        };
        match prepared {
            Ok(facts) => Ok(Self {
                plan: plan.clone(),
                watches,
                pulses,
                kinds: Kinds::default(),
                running,
                driver,
                facts,
                ready_us: clock.now_us(),
                took: began.elapsed(),
            }),
            Err(mut problem) => {
                let mut awake = run.awake(&pulses, began_us);
                if problem.is_of_time() {
                    awake.hindered = hindrance::look(running.clusters(), &mesh_namespaces(driver.as_ref()), None).await;
                }
                let sight = Sight::of_environment(plan, running.as_ref(), driver.as_ref(), &run.requests);
                let frozen = if interrupts.stopping() {
                    None
                } else {
                    evidence::freeze_environment(&sight, run, evidence).await
                };
                drop(pulses);
                let gone = tokio::select! {
                    biased;
                    gone = down(running.as_ref(), &plan.key, clock) => gone,
                    // In a hurry it is left to whoever made them to go away with its process.
                    () = interrupts.hurried() => Ok(()),
                };
                if let Err(also) = gone {
                    problem.message = format!(
                        "{}; and removing the clusters failed: {}",
                        problem.message, also.message
                    );
                }
                Err(Box::new(NotUp {
                    problem,
                    awake,
                    evidence: frozen,
                }))
            }
        }
    }

    /// Removes the clusters.
    ///
    /// # Errors
    /// What is left.
    pub async fn bring_down(&self, clock: Clock) -> Result<(), Problem> {
        down(self.running.as_ref(), &self.plan.key, clock).await
    }

    /// The cluster of this name.
    ///
    /// # Errors
    /// When the topology has none.
    pub fn cluster(&self, name: &str) -> Result<&Cluster, Problem> {
        self.running
            .clusters()
            .iter()
            .find(|cluster| cluster.name == name)
            .ok_or_else(|| {
                problem::harness(
                    "unknown-cluster",
                    format!("the topology {} has no cluster {name}", self.plan.topology.topology),
                    Some("name a cluster of the topology"),
                )
            })
    }

    /// All clusters.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        self.running.clusters()
    }

    /// Links of the topology, `west → east`, as far as they were made.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        if self.plan.setup.bare || self.plan.setup.unlinked {
            return Vec::new();
        }
        self.plan
            .topology
            .links
            .iter()
            .map(|link| format!("{} → {}", link.from, link.to))
            .collect()
    }
}

fn not_up(key: &str) -> Problem {
    problem::environment(
        "environment-deadline",
        format!("the clusters of {key} are not up after {} s", UP_TIME.as_secs()),
        Some("see whether the machine is overloaded: `meshproof doctor`"),
    )
}

async fn down(running: &dyn RunningEnvironment, key: &str, clock: Clock) -> Result<(), Problem> {
    clock.within(DOWN_TIME, running.down()).await.unwrap_or_else(|_| {
        Err(problem::environment(
            "environment-deadline",
            format!("the clusters of {key} are not gone after {} s", DOWN_TIME.as_secs()),
            Some("remove what is left: `meshproof gc`"),
        ))
    })
}

async fn prepare(
    plan: &EnvironmentPlan,
    clusters: &[Cluster],
    driver: &dyn MeshDriver,
    requests: &Requests,
) -> Result<(), Problem> {
    if plan.setup.bare {
        return Ok(());
    }
    let clock = requests.clock;
    try_join_all(clusters.iter().map(|cluster| async move {
        clock
            .within(INSTALL_TIME, driver.install(cluster, &plan.topology, &plan.setup))
            .await
            .unwrap_or_else(|_| Err(too_slow("install", &cluster.name, INSTALL_TIME)))
    }))
    .await?;
    if plan.setup.unlinked {
        return Ok(());
    }
    let find = |name: &str| clusters.iter().find(|cluster| cluster.name == name);
    let mut links: BTreeMap<&str, Vec<(&Cluster, &Cluster)>> = BTreeMap::new();
    for link in &plan.topology.links {
        if let (Some(from), Some(to)) = (find(&link.from.0), find(&link.to.0)) {
            links.entry(link.from.0.as_str()).or_default().push((from, to));
        }
    }
    // A driver makes the links of one cluster one after another.
    try_join_all(links.values().map(|links| async move {
        for (from, to) in links {
            link(driver, from, to, plan, requests).await?;
        }
        Ok::<(), Problem>(())
    }))
    .await?;
    try_join_all(
        links
            .values()
            .flatten()
            .map(|(from, to)| await_link(driver, from, to, plan, requests)),
    )
    .await?;
    Ok(())
}

/// Makes a link, within its time.
pub(crate) async fn link(
    driver: &dyn MeshDriver,
    from: &Cluster,
    to: &Cluster,
    plan: &EnvironmentPlan,
    requests: &Requests,
) -> Result<(), Problem> {
    requests
        .clock
        .within(LINK_TIME, driver.link(from, to, &plan.setup))
        .await
        .unwrap_or_else(|_| Err(too_slow("link", &format!("{} → {}", from.name, to.name), LINK_TIME)))
}

/// Waits until a link is ready, within its time.
pub(crate) async fn await_link(
    driver: &dyn MeshDriver,
    from: &Cluster,
    to: &Cluster,
    plan: &EnvironmentPlan,
    requests: &Requests,
) -> Result<(), Problem> {
    requests
        .clock
        .within(LINK_TIME, driver.await_link(from, to, &plan.setup))
        .await
        .unwrap_or_else(|_| Err(too_slow("link", &format!("{} → {}", from.name, to.name), LINK_TIME)))
}

/// Installs the mesh in one cluster, within its time.
pub(crate) async fn install(
    driver: &dyn MeshDriver,
    cluster: &Cluster,
    plan: &EnvironmentPlan,
    requests: &Requests,
) -> Result<(), Problem> {
    requests
        .clock
        .within(INSTALL_TIME, driver.install(cluster, &plan.topology, &plan.setup))
        .await
        .unwrap_or_else(|_| Err(too_slow("install", &cluster.name, INSTALL_TIME)))
}

/// Upgrades the mesh in one cluster, within its time.
pub(crate) async fn upgrade(testbed: &Testbed, cluster: &Cluster, requests: &Requests) -> Result<Upgraded, Problem> {
    let upgrading = testbed.driver.upgrade(cluster, testbed.clusters(), &testbed.plan.setup);
    requests
        .clock
        .within(UPGRADE_TIME, upgrading)
        .await
        .unwrap_or_else(|_| Err(too_slow("upgrade", &cluster.name, UPGRADE_TIME)))
}

fn too_slow(what: &str, place: &str, time: Duration) -> Problem {
    problem::mesh(
        "step-deadline",
        format!("{what} {place}: not ready within {} s", time.as_secs()),
        Some("see the events and logs of the mesh's pods"),
    )
}

async fn collect_facts(
    plan: &EnvironmentPlan,
    clusters: &[Cluster],
    driver: &dyn MeshDriver,
    requests: &Requests,
) -> Result<Vec<ClusterFacts>, Problem> {
    let facts: Vec<ClusterFacts> = join_all(clusters.iter().map(|cluster| facts_of(plan, cluster, driver, requests)))
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    for cluster in &facts {
        if !seen.insert(cluster.uid.as_str()) {
            return Err(problem::environment(
                "same-cluster-twice",
                format!(
                    "{} is the same cluster as another one of the topology (uid {})",
                    cluster.name, cluster.uid
                ),
                Some("give each name of the topology a cluster of its own"),
            ));
        }
    }
    Ok(facts)
}

async fn facts_of(
    plan: &EnvironmentPlan,
    cluster: &Cluster,
    driver: &dyn MeshDriver,
    requests: &Requests,
) -> Result<ClusterFacts, Problem> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let what = format!("{}: get Namespace kube-system", cluster.name);
    let system = requests
        .send(&what, FACT_TIME, || namespaces.get("kube-system"))
        .await?;
    let what = format!("{}: get the server's version", cluster.name);
    let kubernetes = requests
        .send(&what, FACT_TIME, || cluster.client.apiserver_version())
        .await?;
    // Facts describe a run; that one can't be found out is one of them, and no reason to stop.
    let slow = || Err(too_slow("find out about the mesh", &cluster.name, FACT_TIME));
    let clock = requests.clock;
    // Where there is no mesh yet, it is the version that would be installed.
    let version = clock
        .within(FACT_TIME, driver.version(cluster))
        .await
        .unwrap_or_else(|_| slow());
    let release = version.as_ref().ok().and_then(|version| driver.release(version));
    let (mesh, trust_root) = if plan.setup.bare {
        (String::new(), String::new())
    } else {
        let unknown = |problem: Problem| format!("unknown: {}", problem.message);
        let root = clock
            .within(FACT_TIME, driver.trust_root(cluster))
            .await
            .unwrap_or_else(|_| slow());
        (
            version.map_or_else(unknown, |version| format!("{} {version}", driver.name())),
            root.unwrap_or_else(unknown),
        )
    };
    Ok(ClusterFacts {
        name: cluster.name.clone(),
        uid: system.metadata.uid.unwrap_or_default(),
        kubernetes: kubernetes.git_version,
        mesh,
        release,
        trust_root,
    })
}
