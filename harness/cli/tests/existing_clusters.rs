//! Existing clusters, end to end through the crates: what `meshproof up` serves is used by its kubeconfig as anybody's
//! clusters would be. A plan runs with exactly the rights that it tells; what was disturbed with consent is restored; what
//! killed runs left is swept; what is wrong with a context is told.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::discovery::{Discovery, Scope};
use kube::{Api, Client};
use meshproof::args::SuiteArgs;
use meshproof::suite;
use meshproof_clusters::contexts::{ContextRef, Contexts, ContextsOptions, Liveness, sweep};
use meshproof_clusters::preflight::{Level, Needs, look_at, of_plan};
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::{Environment, EnvironmentRequest};
use meshproof_engine::plan::rbac::{ACCOUNT, needed, rbac};
use meshproof_engine::plan::{Plan, RunIdentity, Selection, Surroundings};
use meshproof_engine::{Engine, RunOptions, RunSummary, Session};
use meshproof_linkerd::Preinstalled;
use meshproof_linkerd::driver::Linkerd;
use meshproof_verdict::history::StepHistory;
use meshproof_verdict::record::{Outcome, ProblemClass};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// Scenario seconds per wall second of the served clusters.
const PACE: f64 = 10.0;
/// Clusters of the topology `pair`.
const PAIR: [&str; 2] = ["east", "west"];
/// Wall time for `up` to serve.
const UP_TIME: Duration = Duration::from_secs(120);

/// One at a time: every test has two clusters and all that runs in them.
static TURN: Mutex<()> = Mutex::const_new(());

/// Clusters that `meshproof up` serves until this is dropped.
struct Served {
    _turn: MutexGuard<'static, ()>,
    place: TempDir,
    process: Child,
    kubeconfig: PathBuf,
}

impl Served {
    async fn pair() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let turn = TURN.lock().await;
        let place = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_meshproof"))
            .args(["up", "--topology", "pair"])
            .current_dir(root())
            .env("XDG_STATE_HOME", place.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = process.stdout.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix("export KUBECONFIG=").map(PathBuf::from))
        });
        let kubeconfig = tokio::time::timeout(UP_TIME, reading).await.unwrap().unwrap().unwrap();
        Self {
            _turn: turn,
            place,
            process,
            kubeconfig,
        }
    }

    async fn admin(&self, cluster: &str) -> Client {
        let options = KubeConfigOptions {
            context: Some(cluster.to_owned()),
            ..KubeConfigOptions::default()
        };
        let whole = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(whole, &options).await.unwrap();
        Client::try_from(config).unwrap()
    }

    fn options(&self, kubeconfig: &Path, disruptive: bool) -> ContextsOptions {
        let context = |name: &str| format!("{name}={name}@{}", kubeconfig.display());
        ContextsOptions {
            pace: PACE,
            disruptive,
            ..ContextsOptions::parse(&PAIR.map(context), &[], &[]).unwrap()
        }
    }
}

impl Served {
    /// What `meshproof run` says with these credentials, and its exit code.
    async fn refused(&self, kubeconfig: &Path, scenario: &str) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshproof"));
        command
            .args(["run", "--on", "contexts", "--pace", "10", scenario, "--out"])
            .arg(self.place.path().join("refused"))
            .current_dir(root())
            .env("XDG_STATE_HOME", self.place.path().join("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        for name in PAIR {
            command.args(["--context", &format!("{name}={name}@{}", kubeconfig.display())]);
        }
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The clusters live in the process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The driver of a mesh that others installed.
fn driver() -> Arc<dyn MeshDriver> {
    Arc::new(Linkerd::new(Arc::new(Preinstalled::new()), PACE))
}

fn plan(environment: &Contexts, run: &str, ids: &[&str]) -> Plan {
    let loaded = suite::load(
        &SuiteArgs {
            scenarios: root().join("scenarios"),
            topologies: root().join("kind-configs"),
        },
        &[],
    )
    .ok()
    .unwrap();
    let driver = driver();
    let surroundings = Surroundings {
        environment: environment.kind().to_owned(),
        certifies: environment.certifies(),
        pace: environment.pace(),
        clusters: environment.cluster_names(),
        environment_capabilities: environment.capabilities(),
        mesh: driver.name().to_owned(),
        mesh_capabilities: driver.capabilities(),
    };
    let selection = Selection {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Selection::default()
    };
    let identity = RunIdentity {
        run: run.to_owned(),
        short: run.chars().filter(char::is_ascii_alphanumeric).take(8).collect(),
        seed: 1,
        defects: Vec::new(),
    };
    Plan::new(&suite::for_plan(&loaded), &selection, surroundings, identity).unwrap()
}

async fn run(served: &Served, options: ContextsOptions, run: &str, ids: &[&str]) -> RunSummary {
    let environment = Arc::new(Contexts::new(options));
    let plan = plan(&environment, run, ids);
    let options = RunOptions::new(served.place.path().join(run));
    let session = Session::open(plan, environment, Arc::new(|_: &EnvironmentRequest| driver()), options)
        .await
        .unwrap();
    Box::pin(Engine::run_session(session)).await.unwrap()
}

/// All objects of a cluster by kind, namespace and name, as somebody wanted them: without what the server keeps count of,
/// without status, and without Leases and Events, which change by themselves.
async fn everything(client: &Client) -> BTreeMap<String, Value> {
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let mut all = BTreeMap::new();
    for (resource, capabilities) in discovery
        .groups()
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
    {
        let changes_by_itself = ["Lease", "Event"].contains(&resource.kind.as_str());
        let scoped = matches!(capabilities.scope, Scope::Cluster | Scope::Namespaced);
        if changes_by_itself || !scoped || !capabilities.supports_operation("list") {
            continue;
        }
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        for object in api.list(&ListParams::default()).await.unwrap() {
            let mut object = serde_json::to_value(object).unwrap();
            let metadata = &object["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            let key = format!("{} {}/{}", resource.kind, text("namespace"), text("name"));
            object.as_object_mut().unwrap().remove("status");
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
            all.insert(key, object);
        }
    }
    assert!(
        all.len() > 30,
        "a cluster with a mesh has more than that: {:?}",
        all.keys()
    );
    all
}

fn changed(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key}: {:?} → {:?}", before.get(key), after.get(key)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_consent_what_was_disturbed_is_restored() {
    let served = Served::pair().await;
    let mut before = BTreeMap::new();
    for cluster in PAIR {
        before.insert(cluster, everything(&served.admin(cluster).await).await);
    }
    let ids = ["changes-while-the-controller-is-down"];
    let summary = run(&served, served.options(&served.kubeconfig, true), "loud1", &ids).await;
    assert_eq!(summary.outcome, Outcome::Pass, "{:#?}", summary.history);
    for cluster in PAIR {
        let mut after = everything(&served.admin(cluster).await).await;
        let before = before.get_mut(cluster).unwrap();
        for all in [&mut *before, &mut after] {
            // Scaling replaces the controller's pod, and counts.
            all.retain(|key, _| !key.starts_with("Pod ") && !key.starts_with("EndpointSlice "));
            for object in all.values_mut() {
                object["metadata"].as_object_mut().unwrap().remove("generation");
            }
            all.retain(|key, _| !key.starts_with("Endpoints linkerd-multicluster/"));
        }
        let changed = changed(before, &after);
        assert!(changed.is_empty(), "{cluster}: {changed:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_with_exactly_the_rights_that_it_tells_and_an_error_names_a_missing_one() {
    const IDS: [&str; 2] = ["exported-service-appears", "weight-zero"];
    let served = Served::pair().await;
    let planned = plan(
        &Contexts::new(served.options(&served.kubeconfig, false)),
        "rights",
        &IDS,
    );
    assert!(planned.scenarios.iter().all(|scenario| scenario.skip.is_none()));
    let manifests = rbac(&planned, driver().as_ref(), false);
    insta::assert_snapshot!("rights_of_a_plan", yaml(&manifests));

    let kubeconfig = served.place.path().join("restricted");
    restrict(&served, &manifests, &kubeconfig).await;
    let options = served.options(&kubeconfig, false);
    let summary = run(&served, options.clone(), "rights1", &IDS).await;
    assert_eq!(summary.outcome, Outcome::Pass, "{:#?}", summary.history);

    // What `doctor` says of these rights.
    let environment = Contexts::new(options.clone());
    let request = request_of(&planned);
    let needs = Needs {
        permissions: needed(&planned, driver().as_ref(), false).permissions,
        flat: false,
    };
    let running = environment.up(&request).await.unwrap();
    let mut findings = of_plan(running.clusters(), &needs).await;
    findings.extend(look_at(running.clusters()).await);
    let levels = |code: &str| -> Vec<Level> {
        let of_code = findings.iter().filter(|finding| finding.code == code);
        of_code.map(|finding| finding.level).collect()
    };
    for code in ["DOC020", "DOC023"] {
        assert_eq!(levels(code), [Level::Ok, Level::Ok], "{findings:#?}");
    }
    assert_eq!(levels("DOC022"), [Level::Ok], "{findings:#?}");

    // One right less: an error that names it, and no verdict on the mesh.
    for (resource, verb) in [
        ("pods/portforward", "get"),
        ("endpointslices", "list"),
        ("services", "patch"),
    ] {
        let lesser = without(&manifests, resource, verb);
        assert_ne!(lesser, manifests, "{resource} {verb} is not among the rights");
        restrict(&served, &lesser, &kubeconfig).await;
        if resource == "pods/portforward" {
            let problem = environment.up(&request).await.err().unwrap();
            assert_eq!(problem.code, "context-forbidden");
            assert!(problem.message.contains("get pods/portforward"), "{}", problem.message);
            continue;
        }
        let findings = of_plan(running.clusters(), &needs).await;
        let told = findings.iter().find(|finding| finding.code == "DOC023").unwrap();
        assert_eq!(told.level, Level::Error);
        assert!(told.found.contains(&format!("{verb} {resource}")), "{}", told.found);

        // The command line asks before it makes anything, and its reports name the right.
        let (code, said) = served.refused(&kubeconfig, IDS[0]).await;
        assert_eq!(code, Some(6), "{said}");
        let named = said.contains(&format!("{verb} {resource}")) && said.contains("(DOC023)");
        assert!(named && said.contains("plan --rbac"), "{said}");

        let summary = run(&served, options.clone(), &format!("less{resource}"), &IDS[..1]).await;
        assert_eq!(summary.outcome, Outcome::Error, "{resource}: {:#?}", summary.history);
        let history = &summary.history.scenarios[0];
        let problem = history.steps.iter().find_map(StepHistory::problem).unwrap();
        assert_eq!(
            (problem.class, problem.code.as_str()),
            (ProblemClass::Environment, "api-forbidden")
        );
        let named = problem
            .message
            .contains(&format!("cannot {verb} resource \"{resource}\""));
        assert!(named, "{}", problem.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_killed_runs_left_is_swept_and_nothing_else() {
    let served = Served::pair().await;
    let client = served.admin("west").await;
    let namespaces: Api<Namespace> = Api::all(client);
    for (name, labels) in [
        (
            "mp-dead",
            json!({"app.kubernetes.io/managed-by": "meshproof", "meshproof.dev/run": "dead"}),
        ),
        (
            "mp-alive",
            json!({"app.kubernetes.io/managed-by": "meshproof", "meshproof.dev/run": "alive"}),
        ),
        (
            "mp-elsewhere",
            json!({"app.kubernetes.io/managed-by": "meshproof", "meshproof.dev/run": "elsewhere"}),
        ),
        ("mp-no-run", json!({"app.kubernetes.io/managed-by": "meshproof"})),
        (
            "mp-helm",
            json!({"app.kubernetes.io/managed-by": "Helm", "meshproof.dev/run": "dead"}),
        ),
        ("mp-users", json!({})),
    ] {
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
    }
    let liveness = |run: &str| match run {
        "dead" => Liveness::Dead,
        "alive" => Liveness::Alive,
        _ => Liveness::Unknown,
    };
    let contexts = served.options(&served.kubeconfig, false).contexts;
    let swept = sweep(&contexts, &liveness, Duration::from_secs(3600)).await.unwrap();
    let west = swept.iter().find(|swept| swept.cluster == "west").unwrap();
    assert_eq!(west.removed.keys().collect::<Vec<_>>(), ["mp-dead"]);
    assert_eq!(west.spared.keys().collect::<Vec<_>>(), ["mp-alive", "mp-elsewhere"]);
    let swept = sweep(&contexts, &liveness, Duration::ZERO).await.unwrap();
    let west = swept.iter().find(|swept| swept.cluster == "west").unwrap();
    assert_eq!(west.removed.keys().collect::<Vec<_>>(), ["mp-elsewhere"]);
    let left: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|namespace| namespace.metadata.name)
        .filter(|name| name.starts_with("mp-"))
        .collect();
    assert_eq!(left, ["mp-alive", "mp-helm", "mp-no-run", "mp-users"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_context_is_told() {
    let served = Served::pair().await;
    let request = request_of(&plan(
        &Contexts::new(served.options(&served.kubeconfig, false)),
        "wrong",
        &["exported-service-appears"],
    ));
    let refused = |options: ContextsOptions| {
        let request = request.clone();
        async move { Contexts::new(options).up(&request).await.err().unwrap() }
    };
    let good = || served.options(&served.kubeconfig, false);
    let with = |change: &dyn Fn(&mut ContextRef)| {
        let mut options = good();
        change(options.contexts.get_mut("east").unwrap());
        options
    };

    let problem = refused(with(&|east| east.context = "nowhere".to_owned())).await;
    assert_eq!(problem.code, "context-unusable");
    assert!(problem.message.contains("east, west"), "{}", problem.message);

    let problem = refused(with(&|east| east.context = "west".to_owned())).await;
    assert_eq!(problem.code, "same-cluster-twice");
    assert!(problem.message.contains("east and west"), "{}", problem.message);

    let problem = refused(ContextsOptions { pace: 1.0, ..good() }).await;
    assert_eq!(problem.code, "model-at-full-pace");

    // A kubeconfig with another's certificate authority, another's token, a port where nobody listens.
    let edited = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(&served.kubeconfig).unwrap()).unwrap();
        edit(&mut config);
        let path = served.place.path().join(name);
        std::fs::write(&path, serde_yaml::to_string(&config).unwrap()).unwrap();
        with(&|east| east.kubeconfig = Some(path.clone()))
    };
    let index = |list: &Value| {
        let entries = list.as_array().unwrap();
        entries.iter().position(|entry| entry["name"] == "east").unwrap()
    };
    for (name, expected, edit) in [
        (
            "authority",
            "context-certificate",
            &(|config: &mut Value| {
                let (east, west) = (index(&config["clusters"]), 1 - index(&config["clusters"]));
                config["clusters"][east]["cluster"]["certificate-authority-data"] =
                    config["clusters"][west]["cluster"]["certificate-authority-data"].clone();
            }) as &dyn Fn(&mut Value),
        ),
        ("token", "context-unauthorized", &|config: &mut Value| {
            let east = index(&config["users"]);
            config["users"][east]["user"]["token"] = json!("not-a-token");
        }),
        ("port", "context-unreachable", &|config: &mut Value| {
            let east = index(&config["clusters"]);
            config["clusters"][east]["cluster"]["server"] = json!("https://127.0.0.1:1");
        }),
    ] {
        let problem = refused(edited(name, edit)).await;
        assert_eq!(problem.code, expected, "{}", problem.message);
        assert!(
            problem.message.contains("cluster east: context `east`"),
            "{}",
            problem.message
        );
        assert!(!problem.message.contains("not-a-token"), "{}", problem.message);
    }
}

fn request_of(plan: &Plan) -> EnvironmentRequest {
    let environment = plan.environments.values().next().unwrap();
    EnvironmentRequest {
        key: environment.key.clone(),
        topology: environment.topology.clone(),
        setup: environment.setup.clone(),
        seed: 1,
    }
}

fn yaml(manifests: &[Value]) -> String {
    let documents: Vec<String> = manifests
        .iter()
        .map(|manifest| serde_yaml::to_string(manifest).unwrap())
        .collect();
    documents.join("---\n")
}

/// The manifests without one verb on one resource.
fn without(manifests: &[Value], resource: &str, verb: &str) -> Vec<Value> {
    let mut lesser = manifests.to_vec();
    for rules in lesser
        .iter_mut()
        .filter_map(|object| object.get_mut("rules")?.as_array_mut())
    {
        let mut split = Vec::new();
        for rule in rules.iter_mut() {
            let resources = rule["resources"].as_array_mut().unwrap();
            if let Some(at) = resources.iter().position(|known| known == resource) {
                resources.remove(at);
                let mut own = rule.clone();
                own["resources"] = json!([resource]);
                own["verbs"].as_array_mut().unwrap().retain(|known| known != verb);
                split.push(own);
            }
        }
        rules.extend(split);
        rules.retain(|rule| rule["resources"] != json!([]) && rule["verbs"] != json!([]));
    }
    lesser
}

/// Applies the manifests to all clusters, and writes a kubeconfig with tokens of their ServiceAccount.
async fn restrict(served: &Served, manifests: &[Value], kubeconfig: &Path) {
    let text = std::fs::read_to_string(&served.kubeconfig).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    for cluster in PAIR {
        let client = served.admin(cluster).await;
        for manifest in manifests {
            let (kind, api) = (
                manifest["kind"].as_str().unwrap(),
                manifest["apiVersion"].as_str().unwrap(),
            );
            let (group, version) = api.split_once('/').unwrap_or(("", api));
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = match manifest["metadata"]["namespace"].as_str() {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let name = manifest["metadata"]["name"].as_str().unwrap();
            api.patch(
                name,
                &PatchParams::apply("administrator").force(),
                &Patch::Apply(manifest),
            )
            .await
            .unwrap();
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client, ACCOUNT);
        let request = TokenRequest {
            spec: TokenRequestSpec::default(),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(ACCOUNT, &PostParams::default(), &request)
            .await
            .unwrap();
        let users = config["users"].as_array_mut().unwrap();
        let user = users.iter_mut().find(|user| user["name"] == cluster).unwrap();
        user["user"] = json!({"token": answer.status.unwrap().token});
    }
    std::fs::write(kubeconfig, serde_yaml::to_string(&config).unwrap()).unwrap();
}
