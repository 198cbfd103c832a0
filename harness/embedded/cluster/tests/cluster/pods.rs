//! Pods: containers, restarts, images, logs, probes, sidecars.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use meshproof_apiserver::gvr;
use meshproof_cluster::program::{ContainerContext, Exit, Program};
use serde_json::{Value, json};

use crate::support::{NS, agent_template, all, client, clusters, create, delete, shut_down, until, until_gone};

/// Fails until it was run `failures` times, then stays.
struct Fails {
    failures: u32,
    runs: AtomicU32,
}

#[async_trait]
impl Program for Fails {
    async fn run(&self, container: ContainerContext) -> Exit {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        (container.log)(&format!("run {run}"));
        if run < self.failures {
            return Exit::Failed(format!("failure {run}"));
        }
        container.started.cancel();
        container.shutdown.cancelled().await;
        (container.log)("stopped in order");
        Exit::Done
    }
}

fn pod(name: &str, containers: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": containers}})
}

fn events(cluster: &meshproof_cluster::EmbeddedCluster, name: &str) -> Vec<String> {
    let mut events = all(cluster, &gvr::EVENTS, "");
    events.retain(|e| e["involvedObject"]["name"] == name);
    events
        .iter()
        .map(|e| e["reason"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_failing_container_is_restarted_with_growing_pauses() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let program = Arc::new(Fails {
        failures: 2,
        runs: AtomicU32::new(0),
    });
    clusters.programs.register("test/fails", program);
    create(
        west,
        &gvr::PODS,
        pod("crash", json!([{"name": "main", "image": "test/fails:1"}])),
    );
    let waiting = until(west, &gvr::PODS, "crash", "in back-off", |p| {
        p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    let status = &waiting["status"]["containerStatuses"][0];
    // The first restart is immediate, the second waits 10 s (1 s here).
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["message"], "failure 1");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    assert!(
        status["state"]["waiting"]["message"]
            .as_str()
            .unwrap()
            .starts_with("back-off 10s restarting failed container=main pod=crash_demo(")
    );
    let up = until(west, &gvr::PODS, "crash", "running", |p| {
        p["status"]["containerStatuses"][0]["ready"] == true && p["status"]["containerStatuses"][0]["restartCount"] == 2
    })
    .await;
    assert_eq!(up["status"]["phase"], "Running");

    let pods: kube::Api<Pod> = kube::Api::namespaced(client(west).await, NS);
    assert_eq!(pods.logs("crash", &LogParams::default()).await.unwrap(), "run 2\n");
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert_eq!(pods.logs("crash", &previous).await.unwrap(), "run 1\n");
    let told = events(west, "crash");
    for reason in ["Scheduled", "Pulled", "Created", "Started", "BackOff"] {
        assert!(told.iter().any(|r| r == reason), "{reason} is not among {told:?}");
    }
    shut_down(clusters).await;
}

#[tokio::test]
async fn an_unknown_image_is_waited_for() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    create(
        west,
        &gvr::PODS,
        pod("late", json!([{"name": "main", "image": "test/late:1"}])),
    );
    let waiting = until(west, &gvr::PODS, "late", "in back-off", |p| {
        p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    })
    .await;
    assert_eq!(waiting["status"]["phase"], "Pending");
    let told = events(west, "late");
    assert!(
        told.contains(&"Failed".to_owned()) && told.contains(&"BackOff".to_owned()),
        "{told:?}"
    );
    clusters
        .programs
        .register("test/late", Arc::new(meshproof_cluster::programs::PauseProgram));
    until(west, &gvr::PODS, "late", "running", |p| {
        p["status"]["phase"] == "Running"
    })
    .await;
    delete(west, &gvr::PODS, "late");
    until_gone(west, &gvr::PODS, "").await;
    shut_down(clusters).await;
}

#[tokio::test]
async fn a_pod_that_may_not_restart_ends() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    clusters.programs.register(
        "test/fails",
        Arc::new(Fails {
            failures: 9,
            runs: AtomicU32::new(0),
        }),
    );
    let mut object = pod("once", json!([{"name": "main", "image": "test/fails"}]));
    object["spec"]["restartPolicy"] = json!("Never");
    create(west, &gvr::PODS, object);
    let ended = until(west, &gvr::PODS, "once", "failed", |p| p["status"]["phase"] == "Failed").await;
    assert_eq!(
        ended["status"]["containerStatuses"][0]["state"]["terminated"]["message"],
        "failure 0"
    );
    let pods: kube::Api<Pod> = kube::Api::namespaced(client(west).await, NS);
    assert_eq!(
        pods.logs("once", &LogParams::default()).await.unwrap(),
        "run 0\n",
        "the log stays"
    );
    delete(west, &gvr::PODS, "once");
    until_gone(west, &gvr::PODS, "").await;
    shut_down(clusters).await;
}

#[tokio::test]
async fn a_log_is_followed_to_its_end() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    clusters.programs.register(
        "test/stays",
        Arc::new(Fails {
            failures: 0,
            runs: AtomicU32::new(0),
        }),
    );
    create(
        west,
        &gvr::PODS,
        pod("stays", json!([{"name": "main", "image": "test/stays"}])),
    );
    until(west, &gvr::PODS, "stays", "running", |p| {
        p["status"]["phase"] == "Running"
    })
    .await;
    let pods: kube::Api<Pod> = kube::Api::namespaced(client(west).await, NS);
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream("stays", &follow).await.unwrap().lines();
    assert_eq!(lines.next().await.unwrap().unwrap(), "run 0");
    delete(west, &gvr::PODS, "stays");
    assert_eq!(lines.next().await.unwrap().unwrap(), "stopped in order");
    assert!(lines.next().await.is_none());
    shut_down(clusters).await;
}

#[tokio::test]
async fn sidecars_start_before_and_stop_after_the_application() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
    clusters.programs.register("test/told", Arc::new(Told(told)));
    let container = |name: &str| json!({"name": name, "image": "test/told"});
    let mut sidecar = container("proxy");
    sidecar["restartPolicy"] = json!("Always");
    let mut object = pod("meshed", json!([container("app")]));
    object["spec"]["initContainers"] = json!([container("setup"), sidecar, container("check")]);
    create(west, &gvr::PODS, object);
    let up = until(west, &gvr::PODS, "meshed", "ready", |p| {
        p["status"]["containerStatuses"][0]["ready"] == true
    })
    .await;
    let names: Vec<_> = up["status"]["initContainerStatuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["name"].clone(), s["ready"].clone()))
        .collect();
    assert_eq!(
        names,
        [
            (json!("setup"), json!(true)),
            (json!("proxy"), json!(true)),
            (json!("check"), json!(true))
        ]
    );
    delete(west, &gvr::PODS, "meshed");
    until_gone(west, &gvr::PODS, "").await;
    let mut all = Vec::new();
    while let Ok(step) = order.try_recv() {
        all.push(step);
    }
    assert_eq!(
        all,
        [
            "setup up",
            "setup down",
            "proxy up",
            "check up",
            "check down",
            "app up",
            "app down",
            "proxy down"
        ]
    );
    shut_down(clusters).await;
}

/// Tells when it starts and stops. Init containers stop by themselves.
struct Told(tokio::sync::mpsc::UnboundedSender<String>);

#[async_trait]
impl Program for Told {
    async fn run(&self, container: ContainerContext) -> Exit {
        let name = container.container.clone();
        self.0.send(format!("{name} up")).unwrap();
        container.started.cancel();
        if name == "app" || name == "proxy" {
            container.shutdown.cancelled().await;
        }
        self.0.send(format!("{name} down")).unwrap();
        Exit::Done
    }
}

#[tokio::test]
async fn a_program_that_does_not_stop_is_killed_after_its_grace() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    clusters.programs.register("test/stubborn", Arc::new(Stubborn));
    let mut object = pod("stubborn", json!([{"name": "main", "image": "test/stubborn"}]));
    object["spec"]["terminationGracePeriodSeconds"] = json!(3);
    create(west, &gvr::PODS, object);
    until(west, &gvr::PODS, "stubborn", "running", |p| {
        p["status"]["phase"] == "Running"
    })
    .await;
    let begin = std::time::Instant::now();
    delete(west, &gvr::PODS, "stubborn");
    until_gone(west, &gvr::PODS, "").await;
    assert!(
        begin.elapsed() >= std::time::Duration::from_millis(300),
        "3 s at pace 10"
    );
    shut_down(clusters).await;
}

struct Stubborn;

#[async_trait]
impl Program for Stubborn {
    async fn run(&self, _: ContainerContext) -> Exit {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_pod_that_fails_its_liveness_probe_is_restarted() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut object = json!({"metadata": {"name": "dead"}});
    object["spec"] = agent_template("west", "dead")["spec"].clone();
    // Nobody listens there.
    object["spec"]["containers"][0]["livenessProbe"] =
        json!({"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2});
    create(west, &gvr::PODS, object);
    let restarted = until(west, &gvr::PODS, "dead", "restarted", |p| {
        p["status"]["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    assert_eq!(
        restarted["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        0
    );
    let told = events(west, "dead");
    assert!(
        told.contains(&"Unhealthy".to_owned()) && told.contains(&"Killing".to_owned()),
        "{told:?}"
    );
    shut_down(clusters).await;
}

#[tokio::test]
async fn a_pod_knows_itself_and_its_cluster() {
    let clusters = clusters(2).await;
    let west = clusters.west();
    let (told, mut known) = tokio::sync::mpsc::unbounded_channel();
    clusters.programs.register("test/curious", Arc::new(Curious(told)));
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let containers = json!([{"name": "main", "image": "test/curious", "args": ["--me=$(ME)"], "env": [field("ME", "metadata.name"), field("IP", "status.podIP")]}]);
    create(west, &gvr::PODS, pod("curious", containers));
    let seen: Value = known.recv().await.unwrap();
    assert_eq!(seen["args"], json!(["--me=curious"]));
    assert_eq!(seen["cluster"], "west");
    assert_eq!(seen["env"]["IP"], seen["address"]);
    assert_eq!(seen["self"], seen["address"]);
    assert!(
        seen["kubeconfig"]
            .as_str()
            .unwrap()
            .contains("server: https://198.18.0.2:6443")
    );
    assert_eq!(seen["api"], "open");
    assert_eq!(
        seen["other"], "open",
        "the other cluster's API server is reached by its node's address"
    );
    shut_down(clusters).await;
}

struct Curious(tokio::sync::mpsc::UnboundedSender<Value>);

#[async_trait]
impl Program for Curious {
    async fn run(&self, container: ContainerContext) -> Exit {
        let reached = |result: std::io::Result<_>| match result {
            Ok(_) => "open".to_owned(),
            Err(error) => error.to_string(),
        };
        let sidecar = &container.sidecar;
        let node = |last| ([198, 18, 0, last], 6443).into();
        let seen = json!({
            "cluster": container.cluster, "args": container.args, "env": container.env,
            "address": sidecar.address().to_string(),
            "self": sidecar.resolve("curious").await.unwrap()[0].to_string(),
            "kubeconfig": container.kubeconfig,
            "api": reached(container.network.connect("kubernetes.default", 443).await),
            "other": reached(sidecar.connect_unmeshed(node(3)).await),
        });
        self.0.send(seen).unwrap();
        container.shutdown.cancelled().await;
        Exit::Done
    }
}

#[tokio::test]
async fn what_is_not_modelled_is_refused_with_an_event() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut on_host = pod("on-host", json!([{"name": "main", "image": "pause"}]));
    on_host["spec"]["hostNetwork"] = json!(true);
    create(west, &gvr::PODS, on_host);
    let shell = json!([{"name": "main", "image": "pause", "command": ["sh"]}]);
    create(west, &gvr::PODS, pod("shell", shell));
    let template = json!({"metadata": {"labels": {"app": "job"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "pause"}]}});
    create(
        west,
        &gvr::JOBS,
        json!({"metadata": {"name": "job"}, "spec": {"completionMode": "Indexed", "template": template}}),
    );
    for (name, reason) in [
        ("on-host", "FailedCreatePodSandBox"),
        ("shell", "Failed"),
        ("job", "Unsupported"),
    ] {
        crate::support::until_all(west, &gvr::EVENTS, "", name, |events| {
            events.iter().any(|e| {
                e["involvedObject"]["name"] == name
                    && e["reason"] == reason
                    && e["message"].as_str().unwrap().contains("unsupported: ")
            })
        })
        .await;
    }
    for name in ["on-host", "shell"] {
        delete(west, &gvr::PODS, name);
    }
    until_gone(west, &gvr::PODS, "").await;
    shut_down(clusters).await;
}
