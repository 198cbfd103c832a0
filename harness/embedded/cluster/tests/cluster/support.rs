//! Clusters for tests, waiting for objects, and talking to agents.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use meshproof_apiserver::store::{WatchKind, WatchStream};
use meshproof_apiserver::{Gvr, Selector, gvr};
use meshproof_cluster::fabric::{Fabric, FabricConfig};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use serde_json::{Value, json};

/// No test waits longer for anything; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const NS: &str = "demo";

pub(crate) struct Clusters {
    pub(crate) fabric: Fabric,
    pub(crate) programs: ProgramRegistry,
    pub(crate) all: Vec<Arc<EmbeddedCluster>>,
}

/// Clusters `west`, `east`, … with the namespace `demo`, ten times faster than real.
pub(crate) async fn clusters(count: usize) -> Clusters {
    let fabric = Fabric::new(FabricConfig::new(Pace::new(10.0)));
    let programs = ProgramRegistry::standard();
    let names = ["west", "east", "north"];
    let starting = names[..count]
        .iter()
        .zip(0..)
        .map(|(name, number)| EmbeddedCluster::start(ClusterConfig::numbered(name, number), &fabric, &programs));
    let started = futures::future::join_all(starting).await;
    let all: Vec<_> = started.into_iter().map(|c| Arc::new(c.unwrap())).collect();
    for cluster in &all {
        create(cluster, &gvr::NAMESPACES, json!({"metadata": {"name": NS}}));
    }
    Clusters { fabric, programs, all }
}

impl Clusters {
    pub(crate) fn west(&self) -> &Arc<EmbeddedCluster> {
        &self.all[0]
    }

    pub(crate) fn east(&self) -> &Arc<EmbeddedCluster> {
        &self.all[1]
    }
}

/// Creates an object in `demo` (or in the cluster).
pub(crate) fn create(cluster: &EmbeddedCluster, gvr: &Gvr, object: Value) -> Arc<Value> {
    let namespaced = *gvr != gvr::NAMESPACES;
    let name = object["metadata"]["name"].clone();
    cluster
        .store()
        .create(gvr, namespaced.then_some(NS), object)
        .unwrap_or_else(|status| panic!("cannot create {gvr} {name}: {status}"))
}

pub(crate) fn merge(cluster: &EmbeddedCluster, gvr: &Gvr, name: &str, patch: Value) -> Arc<Value> {
    let patch = meshproof_apiserver::store::Patch::Merge(patch);
    cluster.store().patch(gvr, Some(NS), name, &patch).unwrap()
}

pub(crate) fn delete(cluster: &EmbeddedCluster, gvr: &Gvr, name: &str) {
    cluster
        .store()
        .delete(gvr, Some(NS), name, &Default::default())
        .unwrap();
}

pub(crate) fn all(cluster: &EmbeddedCluster, gvr: &Gvr, labels: &str) -> Vec<Arc<Value>> {
    let selector = Selector::labels(labels).unwrap();
    cluster.store().list(gvr, Some(NS), &selector).unwrap().items
}

/// Waits until the objects that `labels` select satisfy `fits`.
pub(crate) async fn until_all(
    cluster: &EmbeddedCluster,
    gvr: &Gvr,
    labels: &str,
    what: &str,
    fits: impl Fn(&[Arc<Value>]) -> bool,
) -> Vec<Arc<Value>> {
    let mut changes = watch(cluster, gvr);
    let waiting = async {
        loop {
            let now = all(cluster, gvr, labels);
            if fits(&now) {
                return now;
            }
            changes.next().await.unwrap().unwrap();
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(found) => found,
        Err(_) => {
            let now = all(cluster, gvr, labels);
            let events = all(cluster, &gvr::EVENTS, "");
            let told: Vec<_> = events
                .iter()
                .map(|e| format!("{}: {} {}", e["involvedObject"]["name"], e["reason"], e["message"]))
                .collect();
            let pods = all(cluster, &gvr::PODS, "");
            panic!("not seen in time: {what}; {gvr} are {now:?}\npods: {pods:?}\nevents: {told:#?}");
        }
    }
}

/// Waits until the named object satisfies `fits`.
pub(crate) async fn until(
    cluster: &EmbeddedCluster,
    gvr: &Gvr,
    name: &str,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Arc<Value> {
    let named = |all: &[Arc<Value>]| {
        all.iter()
            .find(|o| o["metadata"]["name"] == name)
            .is_some_and(|o| fits(o))
    };
    let found = until_all(cluster, gvr, "", what, named).await;
    found.into_iter().find(|o| o["metadata"]["name"] == name).unwrap()
}

/// Waits until the named object is gone.
pub(crate) async fn until_gone(cluster: &EmbeddedCluster, gvr: &Gvr, labels: &str) {
    until_all(cluster, gvr, labels, "gone", <[_]>::is_empty).await;
}

pub(crate) fn watch(cluster: &EmbeddedCluster, gvr: &Gvr) -> WatchStream {
    cluster.store().informer(gvr, None, &Selector::all()).unwrap()
}

/// The changes of a kind from now on, as they come.
pub(crate) async fn watch_new(cluster: &EmbeddedCluster, gvr: &Gvr) -> WatchStream {
    let mut changes = watch(cluster, gvr);
    while changes.next().await.unwrap().unwrap().kind != WatchKind::Bookmark {}
    changes
}

/// Environment of an agent's container.
pub(crate) fn agent_env(cluster: &str, workload: &str) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!([
        {"name": "CLUSTER", "value": cluster},
        {"name": "WORKLOAD", "value": workload},
        {"name": "NONCE", "value": "test"},
        field("NAMESPACE", "metadata.namespace"),
        field("POD", "metadata.name"),
    ])
}

/// A pod template that runs the agent.
pub(crate) fn agent_template(cluster: &str, app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{
            "name": "agent",
            "image": "docker.io/meshproof/agent:test",
            "env": agent_env(cluster, app),
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "tcp", "containerPort": 9090}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 4180}, "periodSeconds": 1, "failureThreshold": 1},
        }]},
    })
}

pub(crate) fn deployment(cluster: &str, app: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"name": app, "labels": {"app": app}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": agent_template(cluster, app),
        },
    })
}

pub(crate) fn service(app: &str, kind: &str) -> Value {
    json!({
        "metadata": {"name": app, "labels": {"app": app}},
        "spec": {
            "type": kind,
            "selector": {"app": app},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http"},
                {"name": "tcp", "port": 9090},
            ],
        },
    })
}

/// Deploys an agent with a Service and waits until it is available.
pub(crate) async fn serve(cluster: &EmbeddedCluster, app: &str, replicas: u32, kind: &str) {
    create(cluster, &gvr::DEPLOYMENTS, deployment(cluster.name(), app, replicas));
    create(cluster, &gvr::SERVICES, service(app, kind));
    until_available(cluster, app, replicas).await;
    let ready = |e: &Value| {
        let addresses = e["subsets"][0]["addresses"].as_array();
        addresses.is_some_and(|a| a.len() == replicas as usize)
    };
    until(cluster, &gvr::ENDPOINTS, app, "ready endpoints", ready).await;
    until_reached(cluster, app).await;
}

/// The network follows Endpoints a little later, as a kube-proxy does.
async fn until_reached(cluster: &EmbeddedCluster, app: &str) {
    let service = cluster.store().get(&gvr::SERVICES, Some(NS), app).unwrap();
    let address: std::net::IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let reached = async {
        while let Err(error) = cluster
            .fabric()
            .connect_from(cluster.name(), (address, 80).into())
            .await
        {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{app}: {error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

pub(crate) async fn until_available(cluster: &EmbeddedCluster, app: &str, replicas: u32) {
    let what = "rolled out";
    until(cluster, &gvr::DEPLOYMENTS, app, what, |d| rolled_out(d, replicas)).await;
}

/// What `kubectl rollout status` waits for.
pub(crate) fn rolled_out(deployment: &Value, replicas: u32) -> bool {
    let status = &deployment["status"];
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && number("updatedReplicas") == u64::from(replicas)
        && number("replicas") == u64::from(replicas)
        && number("availableReplicas") == u64::from(replicas)
}

pub(crate) fn pod_names(cluster: &EmbeddedCluster, app: &str) -> Vec<String> {
    let pods = all(cluster, &gvr::PODS, &format!("app={app}"));
    pods.iter()
        .map(|p| p["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) async fn client(cluster: &EmbeddedCluster) -> kube::Client {
    client_that_expects(cluster, None).await
}

/// A client that takes the API server for real only when its certificate has this name or address.
pub(crate) async fn client_that_expects(cluster: &EmbeddedCluster, name: Option<&str>) -> kube::Client {
    // The second call of a process finds the provider installed, which is all that is wanted.
    rustls::crypto::ring::default_provider().install_default().ok();
    let text = cluster.api().admin_kubeconfig(None);
    let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.tls_server_name = name.map(str::to_owned).or(config.tls_server_name);
    kube::Client::try_from(config).unwrap()
}

/// One request to the control port of an agent, through the API server's port-forward.
pub(crate) async fn control(
    cluster: &EmbeddedCluster,
    pod: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, String) {
    let pods: kube::Api<Pod> = kube::Api::namespaced(client(cluster).await, NS);
    let mut forwarder = pods.portforward(pod, &[4180]).await.unwrap();
    let stream = forwarder.take_stream(4180).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let body = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent")
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(body))
        .unwrap();
    let answering = async {
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let answer = tokio::time::timeout(PATIENCE, answering).await.unwrap();
    drop(sender);
    connection.abort();
    answer
}

/// Lets an agent call `host:port` and returns the outcomes of its requests.
pub(crate) async fn call(cluster: &EmbeddedCluster, pod: &str, host: &str, port: u16, requests: u64) -> Vec<Value> {
    let job = json!({
        "name": format!("job-{:x}", rand::random::<u64>()), "run": "test", "host": host, "port": port, "protocol": "http1",
        "load": {"closed": {"requests": requests, "gap_ms": 0}},
        "connections": 1, "timeout_ms": 5000, "path": "/", "fresh_connections": true,
    });
    let (status, text) = control(cluster, pod, "POST", "/jobs", &job).await;
    assert_eq!(status, 201, "{text}");
    let events = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    events
        .filter_map(|e| e.get("row").map(|row| row["outcome"].clone()))
        .collect()
}

/// Calls until there is an answer, and returns it: names, addresses and their ways follow Endpoints and the status of
/// Services a little later, as those of a cluster's DNS and kube-proxy do.
pub(crate) async fn until_answered(cluster: &EmbeddedCluster, pod: &str, host: &str, port: u16) -> Value {
    let answered = async {
        loop {
            let outcome = call(cluster, pod, host, port, 1).await.remove(0);
            if outcome.get("answered").is_some() {
                return outcome;
            }
            let kind = &outcome["failed"]["kind"];
            assert!(kind == "name" || kind == "refused", "{host}: {outcome}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap()
}

pub(crate) async fn shut_down(clusters: Clusters) {
    for cluster in clusters.all {
        let cluster = Arc::try_unwrap(cluster).unwrap_or_else(|_| panic!("the cluster is still used"));
        cluster.shutdown().await;
    }
}
