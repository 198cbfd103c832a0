//! A toy mesh: a sidecar that is injected at creation, takes its pod's traffic over, and marks what it sends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_agent::network::BoxedStream;
use meshproof_apiserver::gvr;
use meshproof_apiserver::store::{Lookup, Mutator};
use meshproof_cluster::EmbeddedCluster;
use meshproof_cluster::fabric::{PathSelector, TapOptions};
use meshproof_cluster::intercept::Interceptor;
use meshproof_cluster::program::{ContainerContext, Exit, Program, SidecarAccess};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{call, clusters, pod_names, serve, shut_down, until};

/// First bytes of every connection between two sidecars.
const MARK: &[u8; 8] = b"toymesh\n";
/// Port that only the sidecar serves.
const ADMIN_PORT: u16 = 4191;
const CRASH_PORT: u16 = 4192;

struct Injector;

impl Mutator for Injector {
    fn mutate(&self, lookup: &Lookup<'_>, namespace: &str, pod: &mut Value) -> Result<(), String> {
        let namespace = lookup(&gvr::NAMESPACES, None, namespace).ok_or("no such namespace")?;
        if namespace["metadata"]["annotations"]["toy/inject"] == "enabled" {
            pod["spec"]["initContainers"] = json!([{
                "name": "toy-proxy", "image": "test/toy-proxy", "restartPolicy": "Always",
                "readinessProbe": {"httpGet": {"path": "/ready", "port": ADMIN_PORT}, "periodSeconds": 1},
            }]);
        }
        Ok(())
    }
}

struct ToyProxy;

#[async_trait]
impl Program for ToyProxy {
    async fn run(&self, container: ContainerContext) -> Exit {
        let (crash, mut crashed) = tokio::sync::mpsc::channel(1);
        let interceptor = Redirected {
            sidecar: Arc::clone(&container.sidecar),
            crash,
        };
        container.sidecar.intercept(Arc::new(interceptor));
        container.started.cancel();
        tokio::select! {
            () = container.shutdown.cancelled() => Exit::Done,
            _ = crashed.recv() => Exit::Failed("asked to crash".into()),
        }
    }
}

struct Redirected {
    sidecar: Arc<dyn SidecarAccess>,
    crash: tokio::sync::mpsc::Sender<()>,
}

#[async_trait]
impl Interceptor for Redirected {
    async fn outbound(&self, destination: SocketAddr) -> io::Result<BoxedStream> {
        let mut stream = self.sidecar.connect_unmeshed(destination).await?;
        stream.write_all(MARK).await?;
        Ok(stream)
    }

    async fn inbound(&self, mut stream: BoxedStream, port: u16, peer: SocketAddr) {
        if port == CRASH_PORT {
            self.crash.send(()).await.ok();
            return;
        }
        if port == ADMIN_PORT {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.ok();
            return;
        }
        let mut mark = [0; MARK.len()];
        // Whoever does not speak for a sidecar is turned away.
        if stream.read_exact(&mut mark).await.is_err() || mark != *MARK {
            return;
        }
        if let Ok(mut inner) = self.sidecar.connect_application(port, peer).await {
            tokio::io::copy_bidirectional(&mut stream, &mut inner).await.ok();
        }
    }
}

async fn toy_mesh() -> (crate::support::Clusters, String) {
    let clusters = clusters(1).await;
    let west = clusters.west();
    clusters.programs.register("test/toy-proxy", Arc::new(ToyProxy));
    west.store().add_mutator(gvr::PODS, Arc::new(Injector));
    serve(west, "plain", 1, "ClusterIP").await;
    let inject = json!({"metadata": {"annotations": {"toy/inject": "enabled"}}});
    let patch = meshproof_apiserver::store::Patch::Merge(inject);
    west.store().patch(&gvr::NAMESPACES, None, "demo", &patch).unwrap();
    serve(west, "store", 1, "ClusterIP").await;
    serve(west, "shop", 1, "ClusterIP").await;
    let shop = pod_names(west, "shop").remove(0);
    (clusters, shop)
}

async fn answers(west: &EmbeddedCluster, from: &str, to: &str) -> bool {
    call(west, from, to, 80, 1).await[0].get("answered").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_injected_sidecar_takes_the_pods_traffic_over() {
    let (clusters, shop) = toy_mesh().await;
    let west = clusters.west();
    let options = TapOptions {
        patterns: vec![MARK.to_vec()],
        sample_bytes: 0,
    };
    let tap = clusters
        .fabric
        .tap(PathSelector::default().service("demo", "store"), &options);
    let outcome = call(west, &shop, "store", 80, 1).await;
    let server = &outcome[0]["answered"]["server"];
    assert_eq!(server["workload"], "store", "{outcome:?}");
    assert_eq!(tap.report().count(MARK), 1, "the mark crossed the network");

    // The control port of the agents was reached past the sidecar all the time; others are not.
    let plain = pod_names(west, "plain").remove(0);
    assert!(
        !answers(west, &plain, "store").await,
        "an unmeshed client is turned away"
    );
    let pod = west.store().get(&gvr::PODS, Some("demo"), &shop).unwrap();
    assert_eq!(
        pod["status"]["initContainerStatuses"][0]["ready"], true,
        "probed through the sidecar"
    );
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_sidecar_cuts_its_pod_off_until_it_is_back() {
    let (clusters, shop) = toy_mesh().await;
    let west = clusters.west();
    let store = pod_names(west, "store").remove(0);
    let address = west.store().get(&gvr::PODS, Some("demo"), &store).unwrap()["status"]["podIP"].clone();
    let address: std::net::IpAddr = address.as_str().unwrap().parse().unwrap();
    let crash = async || {
        let crash_port = (address, CRASH_PORT).into();
        clusters.fabric.connect_from("west", crash_port).await.unwrap();
    };
    // The first restart is immediate; the second one waits, so that there is time to look.
    crash().await;
    until(west, &gvr::PODS, &store, "restarted", |p| {
        let proxy = &p["status"]["initContainerStatuses"][0];
        proxy["restartCount"] == 1 && proxy["ready"] == true
    })
    .await;
    crash().await;
    until(west, &gvr::PODS, &store, "in back-off", |p| {
        p["status"]["initContainerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    let pod = west.store().get(&gvr::PODS, Some("demo"), &store).unwrap();
    let proxy = &pod["status"]["initContainerStatuses"][0];
    assert_eq!(proxy["lastState"]["terminated"]["message"], "asked to crash");
    let cut_off = clusters.fabric.connect_from("west", (address, 8080).into()).await;
    assert_eq!(cut_off.err().map(|e| e.kind()), Some(io::ErrorKind::ConnectionRefused));
    assert!(!answers(west, &shop, "store").await);

    until(west, &gvr::PODS, &store, "back", |p| {
        p["status"]["initContainerStatuses"][0]["ready"] == true
            && p["status"]["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
    .await;
    until(west, &gvr::ENDPOINTS, "store", "ready", |e| {
        !e["subsets"][0]["addresses"].is_null()
    })
    .await;
    let begin = std::time::Instant::now();
    while !answers(west, &shop, "store").await {
        assert!(
            begin.elapsed() < std::time::Duration::from_secs(10),
            "it never answered again"
        );
    }
    shut_down(clusters).await;
}
