//! A world to run scenarios in: embedded clusters on a flat network without any mesh, and a driver that mirrors exported
//! Services by itself. What a mesh would do is done in the simplest way, so that these tests are about the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use meshproof_apiserver::{Gvr, Selector, Store, gvr};
use meshproof_cluster::fabric::{Effect, EffectGuard, Fabric, FabricConfig, PathSelector};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use meshproof_engine::driver::{
    Counter, Denial, Flow, MeshDriver, ObjectChange, Owner, RouteRequest, Upgraded, WorkloadRef,
};
use meshproof_engine::environment::{Cluster, Environment, EnvironmentRequest, NetworkFault, RunningEnvironment, Tap};
use meshproof_engine::kinds;
use meshproof_engine::plan::{RunIdentity, Selection, Suite, SuiteScenario, Surroundings};
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::{Engine, Plan, RunOptions, RunSummary};
use meshproof_spec::scenario::{Component, ExportMode, Scenario, Setup, TrustStep};
use meshproof_spec::topology::Topology;
use meshproof_terms::{Level, Release, VersionRange};
use meshproof_verdict::record::RequirementRow;
use serde_json::{Value, json};

/// Scenario seconds per wall second of the clusters, and of the harness where a test says nothing else.
pub(crate) const PACE: f64 = 10.0;
const EXPORTED: &str = "test/exported";
const MIRROR_OF: &str = "test/mirror-of";

/// What tests look at from outside.
#[derive(Default)]
pub(crate) struct Outside {
    /// Scenario seconds per wall second of the harness, where it is not that of the clusters.
    pace: Option<f64>,
    /// Environments that were brought up, and that were brought down.
    pub(crate) ups: AtomicUsize,
    pub(crate) downs: AtomicUsize,
    /// Faults in force.
    pub(crate) faults: Arc<AtomicUsize>,
    /// The clusters' stores by name, of the environment that came up last.
    pub(crate) stores: Mutex<BTreeMap<String, Store>>,
    /// Objects that are in every cluster before anything else is.
    pub(crate) foreign: Mutex<Vec<(Gvr, Option<String>, Value)>>,
    /// Installing fails.
    pub(crate) broken_install: AtomicBool,
    /// Installing never ends.
    pub(crate) endless_install: AtomicBool,
    /// Such an installation has begun.
    pub(crate) installing: AtomicBool,
    /// Unlinking fails …
    pub(crate) broken_unlink: AtomicBool,
    /// … after it has blocked the thread of the whole process for this long, as a busy machine does.
    pub(crate) stall: Mutex<Duration>,
}

impl Outside {
    pub(crate) fn store(&self, cluster: &str) -> Store {
        self.stores.lock().unwrap()[cluster].clone()
    }
}

pub(crate) struct PlainEnvironment(pub(crate) Arc<Outside>);

#[async_trait]
impl Environment for PlainEnvironment {
    fn kind(&self) -> &'static str {
        "plain"
    }

    fn certifies(&self) -> bool {
        false
    }

    fn pace(&self) -> f64 {
        self.0.pace.unwrap_or(PACE)
    }

    fn capabilities(&self) -> BTreeSet<String> {
        ["partition", "delay", "pause-api", "reset", "disposable", "disruptive"]
            .map(ToOwned::to_owned)
            .into()
    }

    async fn up(&self, request: &EnvironmentRequest) -> Result<Arc<dyn RunningEnvironment>, Problem> {
        let pace = Pace::new(PACE);
        let fabric = Fabric::new(FabricConfig {
            flat: true,
            ..FabricConfig::new(pace)
        });
        let programs = ProgramRegistry::standard();
        let mut embedded = Vec::new();
        let mut clusters = Vec::new();
        for (name, number) in request.topology.clusters.keys().zip(0..) {
            let cluster = EmbeddedCluster::start(ClusterConfig::numbered(&name.0, number), &fabric, &programs)
                .await
                .unwrap();
            clusters.push(engine_cluster(&cluster).await);
            for (gvr, namespace, object) in self.0.foreign.lock().unwrap().iter() {
                cluster
                    .store()
                    .create(gvr, namespace.as_deref(), object.clone())
                    .unwrap();
            }
            self.0.stores.lock().unwrap().insert(name.0.clone(), cluster.store());
            embedded.push(cluster);
        }
        for link in &request.topology.links {
            let find = |name: &str| {
                embedded
                    .iter()
                    .find(|cluster: &&EmbeddedCluster| cluster.name() == name)
                    .unwrap()
            };
            let (from, to) = (find(&link.from.0), find(&link.to.0));
            let (mirroring, stopping) = (mirror(link.to.0.clone(), to.store(), from.store()), from.stopping());
            from.spawn(async move {
                stopping.run_until_cancelled_owned(mirroring).await;
            });
        }
        self.0.ups.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Running {
            fabric,
            embedded: Mutex::new(embedded),
            clusters,
            outside: Arc::clone(&self.0),
        }))
    }
}

async fn engine_cluster(cluster: &EmbeddedCluster) -> Cluster {
    let kubeconfig = cluster.api().admin_kubeconfig(None);
    let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .unwrap();
    Cluster {
        name: cluster.name().to_owned(),
        client: kube::Client::try_from(config).unwrap(),
        kubeconfig,
        api_from_peers: cluster.virtual_api_url(),
        gateway_from: std::collections::BTreeMap::new(),
        node_address: cluster.node_address().to_string(),
        domain: cluster.config().domain.clone(),
    }
}

/// Copies exported Services of `theirs` into `ours` as `<name>-<cluster>`, with the addresses of their endpoints.
async fn mirror(cluster: String, theirs: Store, ours: Store) {
    let services = theirs.informer(&gvr::SERVICES, None, &Selector::all()).unwrap();
    let endpoints = theirs.informer(&gvr::ENDPOINTS, None, &Selector::all()).unwrap();
    let mut changes = stream::select(services.map(drop), endpoints.map(drop));
    while changes.next().await.is_some() {
        let all = Selector::all();
        let exported: Vec<Arc<Value>> = theirs
            .list(
                &gvr::SERVICES,
                None,
                &Selector::labels(&format!("{EXPORTED}=true")).unwrap(),
            )
            .unwrap()
            .items;
        for service in &exported {
            let namespace = service["metadata"]["namespace"].as_str().unwrap();
            let name = service["metadata"]["name"].as_str().unwrap();
            let mirror = format!("{name}-{cluster}");
            let object = json!({
                "metadata": {"name": mirror, "labels": {MIRROR_OF: cluster, "test/service": name}},
                "spec": {"ports": service["spec"]["ports"]},
            });
            let _ = ours.create(&gvr::SERVICES, Some(namespace), object);
            let subsets = theirs
                .get(&gvr::ENDPOINTS, Some(namespace), name)
                .map(|found| found["subsets"].clone())
                .unwrap_or(Value::Null);
            let subsets = without_target_refs(subsets);
            if ours.get(&gvr::ENDPOINTS, Some(namespace), &mirror).is_err() {
                let object = json!({"metadata": {"name": mirror}, "subsets": subsets});
                let _ = ours.create(&gvr::ENDPOINTS, Some(namespace), object);
            } else {
                let patch = meshproof_apiserver::store::Patch::Merge(json!({"subsets": subsets}));
                let _ = ours.patch(&gvr::ENDPOINTS, Some(namespace), &mirror, &patch);
            }
        }
        let mirrors = Selector::labels(&format!("{MIRROR_OF}={cluster}")).unwrap();
        for mirror in ours.list(&gvr::SERVICES, None, &mirrors).unwrap().items {
            let (namespace, name) = (
                &mirror["metadata"]["namespace"],
                &mirror["metadata"]["labels"]["test/service"],
            );
            let kept = exported
                .iter()
                .any(|service| service["metadata"]["namespace"] == *namespace && service["metadata"]["name"] == *name);
            if !kept {
                let (namespace, name) = (
                    namespace.as_str().unwrap(),
                    mirror["metadata"]["name"].as_str().unwrap(),
                );
                let _ = ours.delete(&gvr::SERVICES, Some(namespace), name, &Default::default());
            }
        }
        drop(all);
    }
}

fn without_target_refs(mut subsets: Value) -> Value {
    for subset in subsets.as_array_mut().into_iter().flatten() {
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(map) = address.as_object_mut() {
                    map.retain(|key, _| key == "ip");
                }
            }
        }
    }
    subsets
}

struct Running {
    fabric: Fabric,
    embedded: Mutex<Vec<EmbeddedCluster>>,
    clusters: Vec<Cluster>,
    outside: Arc<Outside>,
}

struct Imposed {
    guards: Mutex<Vec<EffectGuard>>,
    count: Arc<AtomicUsize>,
}

impl Imposed {
    fn boxed(guards: Vec<EffectGuard>, count: &Arc<AtomicUsize>) -> Box<dyn NetworkFault> {
        count.fetch_add(1, Ordering::SeqCst);
        Box::new(Self {
            guards: Mutex::new(guards),
            count: Arc::clone(count),
        })
    }
}

#[async_trait]
impl NetworkFault for Imposed {
    async fn heal(&self) -> Result<(), Problem> {
        self.guards.lock().unwrap().clear();
        Ok(())
    }
}

impl Drop for Imposed {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RunningEnvironment for Running {
    fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    async fn partition(&self, one: &str, other: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        let guards = [(one, other), (other, one)]
            .map(|(from, to)| self.fabric.impose(PathSelector::between(from, to), Effect::Blackhole));
        Ok(Imposed::boxed(guards.into(), &self.outside.faults))
    }

    async fn delay(&self, from: &str, to: &str, by: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        let effect = Effect::Delay {
            each_way: by,
            jitter: Duration::ZERO,
        };
        let guard = self.fabric.impose(PathSelector::between(from, to), effect);
        Ok(Imposed::boxed(vec![guard], &self.outside.faults))
    }

    async fn reset(&self, one: &str, other: &str) -> Result<(), Problem> {
        self.fabric.reset(&PathSelector::between(one, other));
        Ok(())
    }

    async fn pause_api(&self, cluster: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        let embedded = self.embedded.lock().unwrap();
        let found = embedded.iter().find(|other| other.name() == cluster).unwrap();
        found.api().pause();
        drop(embedded);
        Err(problem::environment("unsupported", "tests resume it by hand", None))
    }

    async fn tap(&self, _: &str, _: &str) -> Result<Box<dyn Tap>, Problem> {
        Err(problem::environment("unsupported", "there is no relay here", None))
    }

    async fn down(&self) -> Result<(), Problem> {
        let embedded = std::mem::take(&mut *self.embedded.lock().unwrap());
        for cluster in embedded {
            cluster.shutdown().await;
        }
        self.outside.downs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A driver of no mesh: exporting is a label, and everything else needs nothing.
pub(crate) struct PlainDriver(pub(crate) Arc<Outside>);

#[async_trait]
impl MeshDriver for PlainDriver {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn capabilities(&self) -> BTreeSet<String> {
        [
            "export-gateway",
            "install-mesh",
            "link-clusters",
            "upgrade-mesh",
            "steal-lease",
            "deny-writes",
        ]
        .map(ToOwned::to_owned)
        .into()
    }

    async fn install(&self, cluster: &Cluster, _: &Topology, _: &Setup) -> Result<(), Problem> {
        if self.0.broken_install.load(Ordering::SeqCst) {
            return Err(problem::mesh(
                "not-ready",
                format!("{}: it never got ready", cluster.name),
                None,
            ));
        }
        if self.0.endless_install.load(Ordering::SeqCst) {
            self.0.installing.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn upgrade(&self, _: &Cluster, _: &[Cluster], _: &Setup) -> Result<Upgraded, Problem> {
        Ok(Upgraded {
            from: "1.0".to_owned(),
            to: "2.0".to_owned(),
        })
    }

    async fn uninstall(&self, _: &Cluster) -> Result<(), Problem> {
        Ok(())
    }

    async fn link(&self, _: &Cluster, _: &Cluster, _: &Setup) -> Result<(), Problem> {
        Ok(())
    }

    async fn await_link(&self, _: &Cluster, _: &Cluster, _: &Setup) -> Result<(), Problem> {
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "blocking the runtime is the subject")]
    async fn unlink(&self, from: &Cluster, _: &Cluster) -> Result<(), Problem> {
        std::thread::sleep(*self.0.stall.lock().unwrap());
        if self.0.broken_unlink.load(Ordering::SeqCst) {
            return Err(problem::mesh(
                "not-ready",
                format!("{}: it is still linked", from.name),
                None,
            ));
        }
        Ok(())
    }

    async fn rotate_credentials(&self, _: &Cluster, _: &Cluster) -> Result<(), Problem> {
        Ok(())
    }

    async fn rotate_trust(&self, _: &Cluster, _: TrustStep) -> Result<(), Problem> {
        Ok(())
    }

    async fn version(&self, _: &Cluster) -> Result<String, Problem> {
        Ok("1.0".to_owned())
    }

    fn release(&self, version: &str) -> Option<Release> {
        version.parse().ok()
    }

    async fn trust_root(&self, _: &Cluster) -> Result<String, Problem> {
        Ok("none".to_owned())
    }

    fn namespace_annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn pod_annotations(&self, _: bool) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn service_annotations(&self, _: &[u16]) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn export_patch(&self, mode: Option<ExportMode>) -> Result<Value, String> {
        let value = mode.map_or(Value::Null, |_| json!("true"));
        Ok(json!({"metadata": {"labels": {EXPORTED: value}}}))
    }

    fn mirror_name(&self, service: &str, cluster: &str, _: ExportMode) -> String {
        format!("{service}-{cluster}")
    }

    fn route(&self, _: &RouteRequest) -> Result<Vec<Value>, String> {
        Err("there is no mesh that could split".to_owned())
    }

    fn fact(&self, reference: &str, _: &str) -> Option<String> {
        let rest = reference.strip_prefix("mirror.")?;
        let (service, cluster) = rest.split_once('.')?;
        Some(self.mirror_name(service, cluster, ExportMode::Gateway))
    }

    fn resource(&self, _: &str, _: Option<&str>) -> Option<ApiResource> {
        None
    }

    fn component(&self, _: Component, _: Option<&str>) -> WorkloadRef {
        WorkloadRef {
            namespace: "kube-system".to_owned(),
            name: "none".to_owned(),
        }
    }

    async fn link_alive(&self, _: &Cluster, _: &str) -> Result<BoxStream<'static, Option<f64>>, Problem> {
        Ok(stream::iter([Some(0.0), Some(1.0)]).chain(stream::pending()).boxed())
    }

    fn lease(&self, _: &str) -> WorkloadRef {
        WorkloadRef {
            namespace: "kube-system".to_owned(),
            name: "none".to_owned(),
        }
    }

    async fn deny_writes(&self, _: &Cluster, _: &str, verbs: &[String]) -> Result<Denial, Problem> {
        let rules =
            |verbs: Vec<&str>| json!({"rules": [{"apiGroups": [""], "resources": ["services"], "verbs": verbs}]});
        let held = ["create", "update", "get"];
        let left = held
            .into_iter()
            .filter(|verb| !verbs.iter().any(|denied| denied == verb));
        Ok(Denial {
            changes: vec![ObjectChange {
                resource: kinds::own("ClusterRole").unwrap().resource,
                namespace: None,
                name: "test-writer".to_owned(),
                merge: rules(left.collect()),
                undo: rules(held.to_vec()),
            }],
            denied: Vec::new(),
        })
    }

    fn owner(&self, _: &str, object: &Value) -> Owner {
        match object["metadata"]["labels"][MIRROR_OF].as_str() {
            Some(cluster) => Owner::Link(cluster.to_owned()),
            None => Owner::Nobody,
        }
    }

    fn kinds(&self) -> Vec<ApiResource> {
        Vec::new()
    }

    fn peer_identity(&self, _: &Flow) -> Option<(String, String)> {
        None
    }

    fn counters(&self, _: &Flow) -> Vec<Counter> {
        Vec::new()
    }
}

/// The requirement that all test scenarios decide.
pub(crate) const REQUIREMENT: &str = "MC-TEST-001";

pub(crate) fn topologies() -> BTreeMap<String, Topology> {
    let topology: Topology = serde_json::from_value(json!({
        "topology": "pair",
        "summary": "Two clusters, linked both ways.",
        "clusters": {
            "east": {"pod_cidr": "10.11.0.0/16", "service_cidr": "10.131.0.0/16"},
            "west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.130.0.0/16"},
        },
        "links": [{"from": "west", "to": "east"}, {"from": "east", "to": "west"}],
    }))
    .unwrap();
    BTreeMap::from([("pair".to_owned(), topology)])
}

/// A scenario on `pair` that decides [`REQUIREMENT`]. `extra` adds or replaces fields.
pub(crate) fn scenario(id: &str, steps: Value, extra: Value) -> SuiteScenario {
    let mut scenario = json!({
        "scenario": id,
        "summary": "A test.",
        "topology": "pair",
        "checks": [REQUIREMENT],
        "steps": steps,
    });
    json_patch::merge(&mut scenario, &extra);
    let scenario: Scenario = serde_json::from_value(scenario).unwrap();
    SuiteScenario {
        id: id.to_owned(),
        area: "test".to_owned(),
        file: format!("test/{id}.yaml"),
        folder: Path::new(".").to_path_buf(),
        digest: "0".repeat(64),
        lines: (0..scenario.steps.len())
            .map(|index| u32::try_from(index).unwrap() + 10)
            .collect(),
        scenario,
    }
}

pub(crate) fn suite(scenarios: Vec<SuiteScenario>) -> Suite {
    Suite {
        scenarios: scenarios.into_iter().map(Arc::new).collect(),
        topologies: topologies(),
        requirements: vec![RequirementRow {
            id: REQUIREMENT.to_owned(),
            level: Level::Must,
            versions: VersionRange::ALL,
            text: "It works.".to_owned(),
        }],
        ..Suite::default()
    }
}

pub(crate) fn surroundings(environment: &PlainEnvironment, driver: &PlainDriver) -> Surroundings {
    Surroundings {
        environment: environment.kind().to_owned(),
        certifies: environment.certifies(),
        pace: environment.pace(),
        clusters: environment.cluster_names(),
        environment_capabilities: environment.capabilities(),
        mesh: driver.name().to_owned(),
        mesh_capabilities: driver.capabilities(),
    }
}

/// A world and what is needed to run in it.
pub(crate) struct World {
    pub(crate) outside: Arc<Outside>,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Outside::default())
    }

    /// A world whose harness runs so slowly that on a busy machine, too, it does not take itself for stalled and leave undecided
    /// what failed: it would have to stand still for twelve seconds.
    pub(crate) fn that_judges() -> Self {
        Self::with(Outside {
            pace: Some(0.25),
            ..Outside::default()
        })
    }

    fn with(outside: Outside) -> Self {
        // Another test of this process may have chosen it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            outside: Arc::new(outside),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn plan(&self, scenarios: Vec<SuiteScenario>, selection: &Selection) -> Plan {
        let environment = PlainEnvironment(Arc::clone(&self.outside));
        let driver = PlainDriver(Arc::clone(&self.outside));
        let identity = RunIdentity {
            run: "run-1".to_owned(),
            short: "r1".to_owned(),
            seed: 7,
            defects: Vec::new(),
        };
        Plan::new(
            &suite(scenarios),
            selection,
            surroundings(&environment, &driver),
            identity,
        )
        .unwrap()
    }

    pub(crate) fn options(&self) -> RunOptions {
        RunOptions::new(self.folder.path().join("run"))
    }

    pub(crate) async fn session(&self, plan: Plan, options: RunOptions) -> meshproof_engine::Session {
        let outside = Arc::clone(&self.outside);
        let driver =
            move |_: &EnvironmentRequest| -> Arc<dyn MeshDriver> { Arc::new(PlainDriver(Arc::clone(&outside))) };
        let environment = Arc::new(PlainEnvironment(Arc::clone(&self.outside)));
        meshproof_engine::Session::open(plan, environment, Arc::new(driver), options)
            .await
            .unwrap()
    }

    pub(crate) async fn run(&self, scenarios: Vec<SuiteScenario>) -> RunSummary {
        let plan = self.plan(scenarios, &Selection::default());
        let session = self.session(plan, self.options()).await;
        Engine::run_session(session).await.unwrap()
    }
}
