//! `--on contexts` against clusters that another process serves: green, and nothing of theirs is changed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, verbs};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Scenario seconds per wall second of the served clusters.
const PACE: &str = "10";
/// Changes nothing, and stays as it is until it is ended: what it waits for never comes.
const STAYS: &str = "
scenario: stays-as-it-is
summary: Waits for what never comes.
topology: pair
checks: [MC-UPD-007]
steps:
  - expect: {id: MC-UPD-007, object: {in: west, kind: Service, name: nobody-makes-it}, within: 15m}
";
/// As [`STAYS`], with the link's controller down.
const STAYS_WITHOUT_CONTROLLER: &str = "
scenario: stays-without-controller
summary: Stops the link's controller, and waits for what never comes.
topology: pair
checks: [MC-UPD-007]
steps:
  - scale: {component: controller, of: east, in: west, to: 0}
  - expect: {id: MC-UPD-007, object: {in: west, kind: Service, name: nobody-makes-it}, within: 15m}
";
/// Scenarios that disturb nothing.
const HARMLESS: [&str; 6] = [
    "exported-service-appears",
    "answers-come-from-the-target",
    "unexport-removes",
    "remote-pods-decide",
    "mutual-tls-is-proven",
    "declared-shares",
];

fn meshproof(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshproof"));
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("XDG_STATE_HOME", folder.join("state"))
        .env_remove("KUBECONFIG")
        .env("HOME", folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Clusters served by another process; they end with this.
struct Served {
    process: Child,
    folder: TempDir,
    kubeconfig: PathBuf,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = meshproof(folder.path(), &["up", "--pace", PACE]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next().expect("`up` printed nothing").unwrap();
        let kubeconfig = PathBuf::from(line.strip_prefix("export KUBECONFIG=").unwrap());
        Self {
            process,
            folder,
            kubeconfig,
        }
    }

    fn run(&self, more: &[&str]) -> (Option<i32>, String) {
        said(&mut self.run_command(more))
    }

    fn run_command(&self, more: &[&str]) -> Command {
        let mut command = meshproof(self.folder.path(), &["run", "--on", "contexts", "--pace", PACE]);
        command.args(self.contexts());
        command.arg("--out").arg(self.folder.path().join("runs")).args(more);
        command
    }

    /// Starts a run of a scenario of the test's own; it is ended with this at the latest.
    fn start_run(&self, scenario: &str, more: &[&str]) -> Run {
        let file = self.folder.path().join("own.yaml");
        fs::write(&file, scenario).unwrap();
        let process = self.run_command(more).arg(file).spawn().unwrap();
        Run { process }
    }

    /// Options that name both clusters.
    fn contexts(&self) -> [String; 4] {
        let context = |cluster: &str| format!("{cluster}={cluster}@{}", self.kubeconfig.display());
        ["--context".into(), context("west"), "--context".into(), context("east")]
    }

    fn gc(&self, more: &[&str]) -> (Option<i32>, String) {
        said(meshproof(self.folder.path(), &["gc"]).args(self.contexts()).args(more))
    }

    async fn client(&self, cluster: &str) -> kube::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let options = KubeConfigOptions {
            context: Some(cluster.to_owned()),
            ..KubeConfigOptions::default()
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// Replicas that the controller of the link to east shall have.
    async fn controllers(&self) -> i64 {
        let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
            Api::namespaced(self.client("west").await, "linkerd-multicluster");
        let controller = deployments.get("controller-east").await.unwrap();
        controller.spec.and_then(|spec| spec.replicas).unwrap_or(1).into()
    }

    /// Namespaces that the harness made, in a cluster.
    async fn own_namespaces(&self, cluster: &str) -> Vec<String> {
        let namespaces: Api<Namespace> = Api::all(self.client(cluster).await);
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=meshproof");
        let listed = namespaces.list(&ours).await.unwrap();
        listed.into_iter().filter_map(|found| found.metadata.name).collect()
    }

    /// Waits until a run has made its namespaces in both clusters.
    async fn until_namespaces_appear(&self, run: &mut Run) {
        run.until("its namespaces were there", async || {
            !self.own_namespaces("west").await.is_empty() && !self.own_namespaces("east").await.is_empty()
        })
        .await;
    }

    /// Every object of every kind in a cluster, without what changes by itself: versions, leases, events, and what nodes and
    /// controllers report.
    async fn objects(&self, cluster: &str) -> BTreeMap<String, Value> {
        let client = self.client(cluster).await;
        let discovery = Discovery::new(client.clone()).run().await.unwrap();
        let mut objects = BTreeMap::new();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let passing = ["Lease", "Event"].contains(&resource.kind.as_str());
                if passing || !capabilities.supports_operation(verbs::LIST) {
                    continue;
                }
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                for object in api.list(&ListParams::default()).await.unwrap() {
                    let mut value = serde_json::to_value(&object).unwrap();
                    let metadata = value["metadata"].as_object_mut().unwrap();
                    metadata.remove("resourceVersion");
                    metadata.remove("managedFields");
                    value.as_object_mut().unwrap().remove("status");
                    let namespace = object.metadata.namespace.unwrap_or_default();
                    let name = object.metadata.name.unwrap_or_default();
                    objects.insert(format!("{} {namespace}/{name}", resource.kind), value);
                }
            }
        }
        objects
    }
}

/// A run in a process of its own, which is ended with this.
struct Run {
    process: Child,
}

impl Run {
    /// Waits for what a run brings about and does not end by itself; a run that ended before tells why.
    async fn until(&mut self, what: &str, reached: impl AsyncFn() -> bool) {
        let coming = async {
            while !reached().await {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return Some(status);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            None
        };
        let coming = tokio::time::timeout(Duration::from_secs(60), coming).await;
        if coming.is_err() {
            self.process.kill().unwrap();
        }
        if !matches!(coming, Ok(None)) {
            let mut said = String::new();
            self.process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(coming.is_ok(), "60 s were over before {what}: {said}");
            assert_eq!(coming, Ok(None), "the run was over before {what}: {said}");
        }
    }

    fn kill(&mut self) {
        assert_eq!(self.process.try_wait().unwrap(), None, "it ended by itself");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a command; its exit code, and what it printed to both streams.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn scenarios_run_on_somebody_elses_clusters_and_change_nothing_there() {
    let served = Served::start();
    let before = (served.objects("west").await, served.objects("east").await);
    let (code, said) = served.run(&HARMLESS);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("pass: 6 scenarios (6 pass)"), "{said}");
    let after = (served.objects("west").await, served.objects("east").await);
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        assert!(before.len() > 100, "only {} objects were looked at", before.len());
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after));
        for (name, object) in &before {
            assert_eq!(object, &after[name], "{name} was changed");
        }
    }
}

#[test]
fn what_disturbs_others_is_skipped_until_the_user_consents() {
    let served = Served::start();
    // It stops the controller of a link, which others may rely on.
    let disturbing = "changes-while-the-controller-is-down";
    let (code, said) = served.run(&[disturbing]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("consent"), "{said}");
    let (code, said) = served.run(&["--disruptive", disturbing]);
    assert_eq!(code, Some(0), "{said}");
    // One that needs clusters of its own can't have them here, whatever the user says.
    let (code, said) = served.run(&["--disruptive", "unlink-and-link-again"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("disposable"), "{said}");
}

/// A killed run can't clean up; `gc` does, in the clusters of the run and in those that it is told, and touches nobody else's
/// namespaces.
#[tokio::test]
async fn what_a_killed_run_left_in_clusters_is_removed_by_gc() {
    let served = Served::start();
    let mut run = served.start_run(STAYS, &[]);
    served.until_namespaces_appear(&mut run).await;
    let of_run = served.own_namespaces("west").await;
    // While it lives, its namespaces are its own, however young anybody wants them.
    let (code, told) = served.gc(&["--older-than", "0s"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(&format!("in use: namespace {} in west", of_run[0])),
        "{told}"
    );
    assert_eq!(served.own_namespaces("west").await, of_run);
    run.kill();

    // Of a run that was started elsewhere, and of somebody who only uses the same name.
    let namespaces: Api<Namespace> = Api::all(served.client("west").await);
    for (name, labels) in [
        (
            "mp-elsewhere",
            json!({"app.kubernetes.io/managed-by": "meshproof", "meshproof.dev/run": "other"}),
        ),
        ("mp-somebodys", json!({})),
    ] {
        let made = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        namespaces.create(&PostParams::default(), &made).await.unwrap();
    }
    // What can't be reached is told, and the knowledge of dead runs is kept.
    let kubeconfig = fs::read_to_string(&served.kubeconfig).unwrap();
    fs::remove_file(&served.kubeconfig).unwrap();
    for _ in 0..2 {
        let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
        assert_eq!(code, Some(6), "{told}");
        assert!(
            told.contains("namespaces of run ") && told.contains("gone for good"),
            "{told}"
        );
    }
    fs::write(&served.kubeconfig, kubeconfig).unwrap();
    let nowhere = format!("north=nowhere@{}", served.kubeconfig.display());
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc", "--context", &nowhere]));
    assert_eq!(code, Some(6), "{told}");
    assert!(
        told.contains("it has east, west") && told.contains("the state of dead runs stays"),
        "{told}"
    );
    // Where the run was is known without being told.
    for cluster in ["west", "east"] {
        let line = format!("removed: namespace {} in {cluster}, of run ", of_run[0]);
        assert!(told.contains(&line), "{told}");
    }
    assert_eq!(served.own_namespaces("west").await, ["mp-elsewhere"]);
    assert!(served.own_namespaces("east").await.is_empty());

    let (code, told) = served.gc(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("left: namespace mp-elsewhere in west") && told.contains("older than 24h"),
        "{told}"
    );
    let (code, told) = served.gc(&["--older-than", "0s"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(served.own_namespaces("west").await.is_empty(), "{told}");
    assert!(namespaces.get_opt("mp-somebodys").await.unwrap().is_some());
}

/// A run that disturbs, killed while a part of the mesh that is somebody else's is away.
async fn killed_while_a_controller_is_down(served: &Served) {
    let mut run = served.start_run(STAYS_WITHOUT_CONTROLLER, &["--disruptive"]);
    run.until("the controller was down", async || served.controllers().await == 0)
        .await;
    run.kill();
    assert_eq!(served.controllers().await, 0, "nobody is there to undo it");
}

/// What a run changed outside of its namespaces is undone also when the run can't do it any more: by `gc`, and by the next run.
#[tokio::test]
async fn what_a_killed_run_changed_is_undone_by_gc_and_by_the_next_run() {
    let served = Served::start();
    killed_while_a_controller_is_down(&served).await;
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("undone: west: restore Deployment linkerd-multicluster/controller-east"),
        "{told}"
    );
    assert_eq!(served.controllers().await, 1);
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
    assert!(code == Some(0) && told.contains("0 leftovers removed"), "{told}");

    killed_while_a_controller_is_down(&served).await;
    let (code, told) = served.run(&["exported-service-appears"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("undone: west: restore Deployment linkerd-multicluster/controller-east"),
        "{told}"
    );
    assert_eq!(served.controllers().await, 1);
    // Its namespaces are left to `gc`, which knows where to look.
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
    assert!(code == Some(0) && told.contains("removed: namespace mp-"), "{told}");
    for cluster in ["west", "east"] {
        assert!(served.own_namespaces(cluster).await.is_empty(), "{cluster}");
    }
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
    assert!(code == Some(0) && told.contains("0 leftovers removed"), "{told}");
}

/// Who interrupts twice does not wait for namespaces to go; `gc` does. Some may be going already, and be gone before it looks.
#[tokio::test]
async fn what_an_impatient_user_left_is_gone_after_gc() {
    let served = Served::start();
    let mut run = served.start_run(STAYS, &[]);
    served.until_namespaces_appear(&mut run).await;
    let process = rustix::process::Pid::from_raw(i32::try_from(run.process.id()).unwrap()).unwrap();
    for _ in 0..2 {
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        // Two signals of a kind at once are one.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(run.process.wait().unwrap().code(), Some(130));
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
    assert_eq!(code, Some(0), "{told}");
    for cluster in ["west", "east"] {
        assert!(served.own_namespaces(cluster).await.is_empty(), "{cluster}: {told}");
    }
    let (code, told) = said(&mut meshproof(served.folder.path(), &["gc"]));
    assert!(code == Some(0) && told.contains("0 leftovers removed"), "{told}");
}

#[test]
fn the_doctor_looks_at_contexts() {
    let served = Served::start();
    let context = |cluster: &str, context: &str| format!("{cluster}={context}@{}", served.kubeconfig.display());
    let doctor = |east: &str| {
        let mut command = meshproof(served.folder.path(), &["doctor", "--on", "contexts"]);
        command.args([
            "--context",
            &context("west", "west"),
            "--context",
            &context("east", east),
        ]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = doctor("east");
    assert_eq!(code, Some(0), "{said}");
    for found in [
        "east: Kubernetes v",
        "west: the Gateway API is there",
        "the clocks of the clusters agree",
    ] {
        assert!(said.contains(found), "{said}");
    }
    let (code, said) = doctor("nowhere");
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("it has east, west"), "{said}");
}

#[rstest]
#[case::no_context(&["run", "--on", "contexts"], 2, "no cluster is named")]
#[case::malformed(&["run", "--on", "contexts", "--context", "west"], 2, "`west` is not of the form")]
#[case::malformed_for_gc(&["gc", "--context", "west"], 2, "`west` is not of the form")]
#[case::age_of_nothing(&["gc", "--older-than", "1h"], 2, "--context")]
#[case::age_without_unit(&["gc", "--context", "west=a", "--older-than", "24"], 2, "is not a length of time")]
#[case::defect(&["run", "--on", "contexts", "--context", "west=a", "--defect", "weights-ignored"], 2, "--defect is not read with --on contexts; it is for --on embedded")]
#[case::file(&["run", "--on", "contexts", "--context", "west=a@/no/such/file", "--context", "east=b@/no/such/file", "exported-service-appears"], 6, "/no/such/file")]
fn mistakes_are_told(#[case] arguments: &[&str], #[case] code: i32, #[case] message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = meshproof(folder.path(), arguments);
    if arguments[0] == "run" {
        command.arg("--out").arg(folder.path().join("runs"));
    }
    let (found, said) = said(&mut command);
    assert_eq!(found, Some(code), "{said}");
    assert!(said.contains(message), "{said}");
}

#[test]
fn a_context_that_is_not_there_is_told_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(
        &path,
        "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: []\ncontexts: [{name: eks-west, context: {cluster: c, user: u}}]\n",
    )
    .unwrap();
    let context = |name: &str, context: &str| format!("{name}={context}@{}", path.display());
    let run = |west: &str| {
        let mut command = meshproof(folder.path(), &["run", "--on", "contexts", "exported-service-appears"]);
        command.args([
            "--context",
            &context("west", west),
            "--context",
            &context("east", "eks-west"),
        ]);
        let output = command.arg("--out").arg(folder.path().join("runs")).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let said = run("eks-wst");
    assert!(said.contains("it has eks-west"), "{said}");
    // Nothing listens on that port.
    let said = run("eks-west");
    assert!(said.contains("context-unreachable"), "{said}");
    assert!(said.contains("try: "), "{said}");
}
