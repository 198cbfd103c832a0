//! Traffic: agents call each other by name, in one cluster and across, and paths are cut, slowed and read.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meshproof_agent::network::BoxedStream;
use meshproof_apiserver::gvr;
use meshproof_cluster::fabric::{Effect, PathSelector, TapOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Clusters, call, clusters, create, pod_names, serve, service, shut_down, until, until_answered};

fn servers(outcomes: &[Value]) -> Vec<(String, String)> {
    outcomes
        .iter()
        .map(|o| {
            let server = &o["answered"]["server"];
            let text = |field: &str| {
                server[field]
                    .as_str()
                    .unwrap_or_else(|| panic!("no answer: {o}"))
                    .to_owned()
            };
            (text("cluster"), text("pod"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_call_each_other_by_name_and_are_balanced() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    serve(west, "store", 2, "ClusterIP").await;
    serve(west, "shop", 1, "ClusterIP").await;
    let shop = pod_names(west, "shop").remove(0);
    for name in ["store", "store.demo", "store.demo.svc.cluster.local"] {
        let found = servers(&call(west, &shop, name, 80, 20).await);
        assert_eq!(found.len(), 20, "{name}");
        let mut pods: Vec<_> = found.into_iter().map(|(_, pod)| pod).collect();
        pods.sort();
        pods.dedup();
        // With 20 draws among 2, one of them stays out once in 500,000 runs.
        assert_eq!(pods, pod_names(west, "store"), "{name}");
    }
    let unknown = call(west, &shop, "nosuch", 80, 1).await;
    assert_eq!(unknown[0]["failed"]["kind"], "name", "{unknown:?}");
    let undefined = call(west, &shop, "store", 81, 1).await;
    assert_eq!(undefined[0]["failed"]["kind"], "refused", "{undefined:?}");
    shut_down(clusters).await;
}

/// A store in east behind a load balancer, and its mirror in west.
async fn pair() -> (Clusters, String) {
    let clusters = clusters(2).await;
    let (west, east) = (clusters.west(), clusters.east());
    serve(east, "store", 1, "LoadBalancer").await;
    serve(west, "shop", 1, "ClusterIP").await;
    let found = until(east, &gvr::SERVICES, "store", "an ingress address", |s| {
        !s["status"]["loadBalancer"]["ingress"].is_null()
    })
    .await;
    let gateway = found["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    assert_eq!(gateway, "198.18.101.1");
    let mut mirror = service("store-east", "ClusterIP");
    mirror["spec"]["selector"] = Value::Null;
    create(west, &gvr::SERVICES, mirror);
    let ports =
        json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "tcp", "port": 9090, "protocol": "TCP"}]);
    let endpoints = json!({
        "metadata": {"name": "store-east"},
        "subsets": [{"addresses": [{"ip": gateway}], "ports": ports}],
    });
    create(west, &gvr::ENDPOINTS, endpoints);
    let shop = pod_names(west, "shop").remove(0);
    until_answered(west, &shop, "store-east", 80).await;
    (clusters, shop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_leads_to_the_other_cluster() {
    let (clusters, shop) = pair().await;
    let found = servers(&call(clusters.west(), &shop, "store-east", 80, 3).await);
    assert!(found.iter().all(|(cluster, _)| cluster == "east"), "{found:?}");
    // The same by the node's address and node port, but not by the pod's own address.
    let east = clusters.east();
    let node = east.node_address().to_string();
    let object = east.store().get(&gvr::SERVICES, Some("demo"), "store").unwrap();
    let node_port = u16::try_from(object["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    assert_eq!(
        servers(&call(clusters.west(), &shop, &node, node_port, 1).await)[0].0,
        "east"
    );
    shut_down(clusters).await;
}

async fn line(stream: &mut BoxedStream, text: &str) -> std::io::Result<String> {
    let request = json!({"id": "x", "headers": {"x-note": text}}).to_string() + "\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        if byte == b'\n' {
            return Ok(String::from_utf8(answer).unwrap());
        }
        answer.push(byte);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_delays_and_resets_hit_live_connections() {
    let (clusters, shop) = pair().await;
    let (west, fabric) = (clusters.west(), &clusters.fabric);
    let store: SocketAddr = ([198, 18, 101, 1], 9090).into();
    let mut stream = fabric.connect_from("west", store).await.unwrap();
    let answer = line(&mut stream, "hello").await.unwrap();
    assert!(answer.contains("\"cluster\":\"east\""), "{answer}");

    let path = PathSelector::between("west", "east");
    let slow = Effect::Delay {
        each_way: Duration::from_secs(1),
        jitter: Duration::ZERO,
    };
    let guard = fabric.impose(path.clone(), slow);
    let begin = Instant::now();
    line(&mut stream, "slow").await.unwrap();
    assert!(
        begin.elapsed() >= Duration::from_millis(200),
        "2 s there and back at pace 10"
    );
    drop(guard);

    let hole = fabric.impose(path.clone().service("demo", "store"), Effect::Blackhole);
    let silent = tokio::time::timeout(Duration::from_millis(200), line(&mut stream, "lost?")).await;
    assert!(silent.is_err());
    let failed = call(west, &shop, "store-east", 80, 1).await;
    assert_eq!(failed[0]["failed"]["kind"], "timeout", "{failed:?}");
    let inside = call(west, &shop, "shop", 80, 1).await;
    assert!(inside[0].get("answered").is_some(), "{inside:?}");
    drop(hole);
    // What was sent into the hole arrives now; its answer is still to be read.
    let mut rest = vec![0; 4096];
    let count = stream.read(&mut rest).await.unwrap();
    assert!(String::from_utf8_lossy(&rest[..count]).contains("lost?"));

    let refusal = fabric.impose(path.clone(), Effect::Refuse);
    let refused = call(west, &shop, "store-east", 80, 1).await;
    assert_eq!(refused[0]["failed"]["kind"], "refused", "{refused:?}");
    drop(refusal);

    assert!(fabric.reset(&path) >= 1);
    assert_eq!(
        stream.read(&mut rest).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert!(
        call(west, &shop, "store-east", 80, 1).await[0]
            .get("answered")
            .is_some()
    );
    assert!(fabric.active().is_empty());
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_tells_whether_a_canary_crossed() {
    let (clusters, shop) = pair().await;
    let patterns = vec![b"/canary-4711".to_vec(), b"/elsewhere-0815".to_vec()];
    let options = TapOptions {
        patterns,
        sample_bytes: 1024,
    };
    let across = clusters.fabric.tap(PathSelector::between("west", "east"), &options);
    let inside = clusters.fabric.tap(PathSelector::between("west", "west"), &options);
    for (host, path) in [("store-east", "/canary-4711"), ("shop", "/elsewhere-0815")] {
        let job = json!({
            "name": format!("job{}", path.len()), "run": "test", "host": host, "port": 80, "protocol": "http1",
            "load": {"closed": {"requests": 2, "gap_ms": 0}}, "connections": 1, "timeout_ms": 5000, "path": path,
        });
        let (status, text) = crate::support::control(clusters.west(), &shop, "POST", "/jobs", &job).await;
        assert_eq!(status, 201, "{text}");
    }
    let (across, inside) = (across.report(), inside.report());
    assert_eq!((across.connections, across.count(b"/elsewhere-0815")), (1, 0));
    // In the request line there, and in the answer that repeats it.
    assert_eq!((across.hits[0].forward, across.hits[0].backward), (2, 2));
    assert_eq!(inside.count(b"/canary-4711"), 0);
    assert!(
        across.samples[0].bytes.starts_with(b"GET /canary-4711"),
        "{:?}",
        across.samples
    );
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_reached_over_the_network_and_can_be_cut_off() {
    let clusters = clusters(2).await;
    let api: SocketAddr = (clusters.east().node_address(), 6443).into();
    let mut stream = clusters.fabric.connect_from("west", api).await.unwrap();
    // No TLS: the server hangs up, which shows that somebody is there.
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    let cut = clusters
        .fabric
        .impose(PathSelector::between("west", "east").port(6443), Effect::Refuse);
    let error = clusters.fabric.connect_from("west", api).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    clusters.fabric.connect_from("east", api).await.unwrap();
    drop(cut);
    clusters.fabric.connect_from("west", api).await.unwrap();
    shut_down(clusters).await;
}
