//! `kubectl` against a cluster. Without `kubectl` on the `PATH` these tests say so and check nothing.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::gvr;
use meshproof_cluster::EmbeddedCluster;
use serde_json::json;

use crate::support::{clusters, create, deployment, pod_names, serve, shut_down, until, until_available};

struct Kubectl {
    home: tempfile::TempDir,
}

impl Kubectl {
    /// `None` without kubectl.
    async fn new(cluster: &EmbeddedCluster) -> Option<Self> {
        let mut version = tokio::process::Command::new("kubectl");
        if version.args(["version", "--client"]).output().await.is_err() {
            println!("kubectl is not on the PATH: nothing is checked");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), cluster.api().admin_kubeconfig(None)).unwrap();
        Some(Self { home })
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("config")
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.config())
            .args(["--namespace", "demo"])
            .args(arguments)
            .env("HOME", self.home.path())
            .kill_on_drop(true);
        tokio::time::timeout(Duration::from_secs(30), command.output())
            .await
            .unwrap()
            .unwrap()
    }

    /// What kubectl prints; it must succeed.
    async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "kubectl {arguments:?}: {err}");
        out.into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_pods_logs_and_scale_read_as_on_a_real_cluster() {
    let clusters = clusters(1).await;
    let west: Arc<EmbeddedCluster> = Arc::clone(clusters.west());
    let Some(kubectl) = Kubectl::new(&west).await else {
        drop(west);
        return shut_down(clusters).await;
    };
    create(&west, &gvr::DEPLOYMENTS, deployment("west", "web", 2));
    let status = kubectl
        .run(&["rollout", "status", "deployment/web", "--timeout=20s"])
        .await;
    assert!(
        status.contains("deployment \"web\" successfully rolled out"),
        "{status}"
    );

    let pods = kubectl.run(&["get", "pods", "-o", "wide"]).await;
    let rows: Vec<Vec<&str>> = pods.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0][..7],
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"],
        "{pods}"
    );
    for row in &rows[1..] {
        assert_eq!(row[1..4], ["1/1", "Running", "0"], "{pods}");
        assert!(
            row[5].starts_with("198.19.0.") && row[6] == "west-control-plane",
            "{pods}"
        );
    }
    assert_eq!(rows.len(), 3);

    let pod = pod_names(&west, "web").remove(0);
    let log = kubectl.run(&["logs", &pod]).await;
    assert!(!log.is_empty(), "the agent says that it has started");
    let deployments = kubectl.run(&["get", "deployment", "web"]).await;
    assert!(deployments.contains("2/2"), "{deployments}");
    let nodes = kubectl.run(&["get", "nodes"]).await;
    assert!(
        nodes.contains("west-control-plane") && nodes.contains("Ready"),
        "{nodes}"
    );

    kubectl.run(&["rollout", "restart", "deployment/web"]).await;
    kubectl
        .run(&["rollout", "status", "deployment/web", "--timeout=20s"])
        .await;
    let history = kubectl.run(&["rollout", "history", "deployment/web"]).await;
    assert!(history.lines().any(|l| l.starts_with('2')), "{history}");
    kubectl.run(&["scale", "deployment/web", "--replicas=0"]).await;
    until(&west, &gvr::DEPLOYMENTS, "web", "scaled down", |d| {
        d["status"]["replicas"].is_null()
    })
    .await;
    let described = kubectl.run(&["describe", "deployment", "web"]).await;
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    let left = kubectl.run(&["delete", "deployment", "web", "--timeout=20s"]).await;
    assert!(left.contains("deleted"), "{left}");
    drop(west);
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_waited_for_described_and_forwarded_to() {
    let clusters = clusters(1).await;
    let west: Arc<EmbeddedCluster> = Arc::clone(clusters.west());
    let Some(kubectl) = Kubectl::new(&west).await else {
        drop(west);
        return shut_down(clusters).await;
    };
    serve(&west, "web", 1, "LoadBalancer").await;
    let pod = pod_names(&west, "web").remove(0);
    kubectl
        .run(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=20s"])
        .await;
    let described = kubectl.run(&["describe", "pod", &pod]).await;
    for text in ["Scheduled", "Started container agent", "Ready:          True", "IP:"] {
        assert!(described.contains(text), "{text:?} is not in\n{described}");
    }
    let services = kubectl.run(&["get", "service", "web"]).await;
    assert!(
        services.contains("LoadBalancer") && services.contains("198.18.100.1"),
        "{services}"
    );
    let slices = kubectl.run(&["get", "endpointslices"]).await;
    assert!(slices.contains("198.19.0.2"), "{slices}");
    let crash =
        json!({"metadata": {"name": "nosuch"}, "spec": {"containers": [{"name": "a", "image": "nosuch/image"}]}});
    create(&west, &gvr::PODS, crash);
    until(&west, &gvr::PODS, "nosuch", "in back-off", |p| {
        p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    })
    .await;
    let pods = kubectl.run(&["get", "pod", "nosuch"]).await;
    assert!(pods.contains("ImagePullBackOff"), "{pods}");
    let failed = kubectl.output(&["logs", "nosuch"]).await;
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(
        !failed.status.success() && said.contains("trying and failing to pull image"),
        "{said}"
    );
    drop(west);
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_made_by_hand_from_any_pod() {
    let clusters = clusters(1).await;
    let west: Arc<EmbeddedCluster> = Arc::clone(clusters.west());
    let Some(kubectl) = Kubectl::new(&west).await else {
        drop(west);
        return shut_down(clusters).await;
    };
    serve(&west, "store", 1, "ClusterIP").await;
    create(&west, &gvr::DEPLOYMENTS, deployment("west", "shopper", 1));
    until_available(&west, "shopper", 1).await;
    let call = [
        "exec",
        "deploy/shopper",
        "--",
        "meshproof-agent",
        "call",
        "http://store:80/",
        "--count",
        "2",
    ];
    let rows = kubectl.run(&call).await;
    assert_eq!(rows.lines().count(), 2, "{rows}");
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!(row["outcome"]["answered"]["server"]["workload"], "store", "{row}");
    }
    let refused = kubectl
        .output(&["exec", "deploy/shopper", "--", "meshproof-agent", "call", "store:81"])
        .await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stdout).contains("\"kind\":\"refused\""),
        "{refused:?}"
    );
    let shell = kubectl.output(&["exec", "deploy/shopper", "--", "sh"]).await;
    let said = String::from_utf8_lossy(&shell.stderr);
    assert!(
        !shell.status.success() && said.contains("executable file not found in $PATH"),
        "{said}"
    );
    drop(west);
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_begins_with_its_namespace_is_deleted() {
    let clusters = clusters(1).await;
    let west: Arc<EmbeddedCluster> = Arc::clone(clusters.west());
    let Some(kubectl) = Kubectl::new(&west).await else {
        drop(west);
        return shut_down(clusters).await;
    };
    let manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kz}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: kz}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: kz}\nspec: {ports: [{port: 80}]}\n";
    let file = kubectl.home.path().join("all.yaml");
    std::fs::write(&file, manifest).unwrap();
    let file = file.display().to_string();
    kubectl
        .run(&["create", "--validate=false", "--namespace=kz", "-f", &file])
        .await;
    kubectl.run(&["delete", "--namespace=kz", "-f", &file]).await;
    assert!(
        west.store()
            .get(&gvr::NAMESPACES, None, "kz")
            .unwrap_err()
            .is_not_found()
    );
    drop(west);
    shut_down(clusters).await;
}
