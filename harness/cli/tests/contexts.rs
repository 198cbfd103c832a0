//! `--on contexts` against clusters that another process serves: green, and nothing of theirs is changed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kube::api::{Api, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, verbs};
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

/// Scenario seconds per wall second of the served clusters.
const PACE: &str = "10";
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
        let context = |cluster: &str| format!("{cluster}={cluster}@{}", self.kubeconfig.display());
        let mut command = meshproof(self.folder.path(), &["run", "--on", "contexts", "--pace", PACE]);
        command.args(["--context", &context("west"), "--context", &context("east")]);
        command.arg("--out").arg(self.folder.path().join("runs")).args(more);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// Every object of every kind in a cluster, without what changes by itself: versions, leases, events, and what nodes and
    /// controllers report.
    async fn objects(&self, cluster: &str) -> BTreeMap<String, Value> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let options = KubeConfigOptions {
            context: Some(cluster.to_owned()),
            ..KubeConfigOptions::default()
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let client = kube::Client::try_from(config).unwrap();
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

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn scenarios_run_on_somebody_elses_clusters_and_change_nothing_there() {
    let _ = rustls::crypto::ring::default_provider().install_default();
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
#[case::defect(&["run", "--on", "contexts", "--context", "west=a", "--defect", "weights-ignored"], 2, "--defect needs --on embedded")]
#[case::file(&["run", "--on", "contexts", "--context", "west=a@/no/such/file", "--context", "east=b@/no/such/file", "exported-service-appears"], 6, "/no/such/file")]
fn mistakes_are_told(#[case] arguments: &[&str], #[case] code: i32, #[case] message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = meshproof(folder.path(), arguments);
    let output = command.arg("--out").arg(folder.path().join("runs")).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
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
