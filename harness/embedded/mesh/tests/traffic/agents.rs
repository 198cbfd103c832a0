//! Real traffic between agents in two embedded clusters, through the sidecars and the gateway.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use meshproof_apiserver::{Gvr, gvr};
use meshproof_cluster::fabric::{PathSelector, TapOptions};
use meshproof_mesh::defect::Defect;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{MC, Mesh, NS, PACE, Site, State, pair};

const ROUTES: Gvr = Gvr::constant("gateway.networking.k8s.io", "v1", "httproutes");
const GATEWAY_ID: &str = "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local";
const CLIENT_ID: &str = "default.shop.serviceaccount.identity.linkerd.cluster.local";

/// An agent with a Service; `exported` labels it for the other cluster.
fn workload(site: &Site, app: &str, exported: bool, meshed: bool) {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let name = site.cluster.name();
    let inject = if meshed { "enabled" } else { "disabled" };
    let labels = if exported {
        json!({"app": app, "mirror.linkerd.io/exported": "true"})
    } else {
        json!({"app": app})
    };
    site.create(
        &gvr::SERVICES,
        NS,
        json!({
            "metadata": {"name": app, "labels": labels, "annotations": {"config.linkerd.io/opaque-ports": "9090"}},
            "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 8080}, {"name": "tcp", "port": 9090}]},
        }),
    );
    site.create(
        &gvr::DEPLOYMENTS,
        NS,
        json!({
            "metadata": {"name": app, "labels": {"app": app}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": {
                "metadata": {"labels": {"app": app}, "annotations": {
                    "linkerd.io/inject": inject, "config.linkerd.io/opaque-ports": "9090"}},
                "spec": {"containers": [{
                    "name": "agent", "image": "meshproof/agent:test",
                    "env": [
                        {"name": "CLUSTER", "value": name}, {"name": "WORKLOAD", "value": app},
                        {"name": "NONCE", "value": "test"},
                        field("NAMESPACE", "metadata.namespace"), field("POD", "metadata.name")],
                    "ports": [{"name": "http", "containerPort": 8080}, {"name": "tcp", "containerPort": 9090}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 4180}, "periodSeconds": 1},
                }]},
            }},
        }),
    );
}

fn pod_of(site: &Site, namespace: &str, app: &str) -> String {
    let pods = site.list(&gvr::PODS, namespace);
    let pod = pods
        .iter()
        .find(|pod| pod["metadata"]["labels"]["app"] == app && pod["metadata"]["deletionTimestamp"].is_null());
    let pod = pod.unwrap_or_else(|| panic!("no pod of {app} in {}", site.cluster.name()));
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// One HTTP request to a port of a pod through the API server's port-forward.
async fn forwarded(site: &Site, namespace: &str, pod: &str, port: u16, request: http::Request<Full<Bytes>>) -> String {
    let pods: Api<Pod> = Api::namespaced(site.client.clone(), namespace);
    let mut forward = pods.portforward(pod, &[port]).await.unwrap();
    let stream = TokioIo::new(forward.take_stream(port).unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    String::from_utf8(body.to_vec()).unwrap()
}

/// What became of one request.
#[derive(Clone, Debug)]
struct Row(Value);

impl Row {
    /// The cluster that answered, or the status, or the failure.
    fn end(&self) -> String {
        let outcome = &self.0["outcome"];
        let answered = &outcome["answered"];
        match (answered["server"]["cluster"].as_str(), answered["status"].as_u64()) {
            (Some(cluster), Some(200)) => cluster.to_owned(),
            (_, Some(status)) => status.to_string(),
            _ => outcome["failed"]["kind"].as_str().unwrap_or("?").to_owned(),
        }
    }

    fn seen(&self, header: &str) -> Vec<String> {
        let values = self.0["outcome"]["answered"]["seen"][header]
            .as_array()
            .cloned()
            .unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// When it was sent, in scenario seconds since the job's start.
    fn sent(&self) -> f64 {
        self.0["started_us"].as_f64().unwrap() / 1e6 * PACE
    }
}

/// A job for the agent of `from`; `change` edits the default: 20 requests over HTTP/1 on one connection.
async fn job(site: &Site, from: &str, host: &str, change: Value) -> Vec<Row> {
    let mut job = json!({
        "name": format!("job-{:x}", rand::random::<u64>()), "run": "test", "host": host, "port": 8080,
        "protocol": "http1", "load": {"closed": {"requests": 20, "gap_ms": 0}}, "connections": 1,
        "timeout_ms": 5000, "path": "/",
        "record": ["l5d-client-id", "forwarded", "l5d-dst-canonical", "x-marker"],
    });
    for (field, value) in change.as_object().unwrap() {
        job[field] = value.clone();
    }
    let request = http::Request::post("/jobs")
        .header("host", "agent")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(job.to_string())))
        .unwrap();
    let text = forwarded(site, NS, &pod_of(site, NS, from), 4180, request).await;
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|event| event.get("row").cloned().map(Row)).collect()
}

fn ends(rows: &[Row]) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for row in rows {
        *ends.entry(row.end()).or_default() += 1;
    }
    ends
}

/// The sum of the series of a metric of a pod's proxy whose labels contain all of `labels`.
async fn metric(site: &Site, namespace: &str, app: &str, name: &str, labels: &[&str]) -> u64 {
    let request = http::Request::get("/metrics")
        .header("host", "localhost")
        .body(Full::default())
        .unwrap();
    let page = forwarded(site, namespace, &pod_of(site, namespace, app), 4191, request).await;
    let series = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let matching = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    matching
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
        .sum()
}

/// Stores in both clusters, east's exported to west; a client and an unmeshed pod in west; a Service `split` in west.
async fn shop(defects: &[Defect]) -> Mesh {
    let mesh = pair(defects).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    workload(west, "store", false, true);
    workload(west, "shopper", false, true);
    workload(west, "raw", false, false);
    workload(east, "store", true, true);
    west.create(
        &gvr::SERVICES,
        NS,
        json!({"metadata": {"name": "split"}, "spec": {"selector": {"app": "store"},
            "ports": [{"name": "http", "port": 8080}]}}),
    );
    for site in [west, east] {
        site.deployments_available(NS).await;
    }
    west.endpoints("store-east", State::Ready).await;
    for host in ["store", "store-east"] {
        until(&mesh, host, |ends| {
            ends.get(if host == "store" { "west" } else { "east" }) == Some(&1)
        })
        .await;
    }
    mesh
}

/// Calls until the outcome of one request fits.
async fn until(mesh: &Mesh, host: &str, fits: impl Fn(&BTreeMap<String, usize>) -> bool) {
    let start = Instant::now();
    let one = json!({"load": {"closed": {"requests": 1, "gap_ms": 0}}});
    loop {
        let ends = ends(&job(&mesh["west"], "shopper", host, one.clone()).await);
        if fits(&ends) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{host}: {ends:?}");
    }
}

fn split(mesh: &Mesh, weights: (u32, u32), marker: &str) {
    let spec = json!({
        "parentRefs": [{"group": "core", "kind": "Service", "name": "split", "port": 8080}],
        "rules": [{
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-marker", "value": marker}]}}],
            "backendRefs": [
                {"name": "store", "port": 8080, "weight": weights.0},
                {"name": "store-east", "port": 8080, "weight": weights.1}],
        }],
    });
    let west = &mesh["west"];
    match west.get(&ROUTES, NS, "split") {
        Some(_) => west.patch(&ROUTES, NS, "split", json!({"spec": spec})),
        None => {
            west.create(&ROUTES, NS, json!({"metadata": {"name": "split"}, "spec": spec}));
        }
    }
}

/// Waits until the client's proxy follows the route with this marker.
async fn until_live(mesh: &Mesh, marker: &str) {
    let change = json!({
        "load": {"closed": {"requests": 1000, "gap_ms": 1}},
        "until_seen": {"header": "x-marker", "value": marker, "consecutive": 3},
    });
    let rows = job(&mesh["west"], "shopper", "split", change).await;
    assert_eq!(rows.last().unwrap().seen("x-marker"), [marker]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_call_each_other_through_sidecars_and_the_gateway() {
    let mesh = shop(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let before = metric(
        east,
        MC,
        "linkerd-gateway",
        "inbound_http_authz_allow_total",
        &["target_port=\"4143\""],
    )
    .await;
    let rows = job(
        west,
        "shopper",
        "store-east",
        json!({"load": {"closed": {"requests": 100, "gap_ms": 0}}}),
    )
    .await;
    assert_eq!(ends(&rows), BTreeMap::from([("east".to_owned(), 100)]));
    for row in &rows {
        assert_eq!(
            row.0["outcome"]["answered"]["host"],
            "store.shop.svc.cluster.local:8080"
        );
        assert_eq!(row.seen("l5d-client-id"), [GATEWAY_ID]);
        assert_eq!(row.seen("l5d-dst-canonical"), ["store.shop.svc.cluster.local:8080"]);
        let host = "store.shop.svc.cluster.local:8080";
        assert_eq!(
            row.seen("forwarded"),
            [format!("by={GATEWAY_ID};for={CLIENT_ID};host={host};proto=https")]
        );
    }
    let after = metric(
        east,
        MC,
        "linkerd-gateway",
        "inbound_http_authz_allow_total",
        &["target_port=\"4143\""],
    )
    .await;
    assert_eq!(after - before, 100);
    let tls = [
        "direction=\"outbound\"",
        "dst_target_cluster=\"east\"",
        "dst_target_service=\"store\"",
        "tls=\"true\"",
    ];
    assert!(metric(west, NS, "shopper", "request_total", &tls).await >= 100);
    assert_eq!(
        metric(west, NS, "shopper", "tcp_open_total", &tls).await,
        1,
        "one connection for all"
    );

    let rows = job(west, "shopper", "store", json!({})).await;
    assert_eq!(ends(&rows), BTreeMap::from([("west".to_owned(), 20)]));
    assert_eq!(rows[0].seen("l5d-client-id"), [CLIENT_ID]);

    for (protocol, port) in [("http2", 8080), ("tcp", 9090)] {
        let rows = job(
            west,
            "shopper",
            "store-east",
            json!({"protocol": protocol, "port": port}),
        )
        .await;
        assert_eq!(ends(&rows), BTreeMap::from([("east".to_owned(), 20)]), "{protocol}");
        assert_eq!(rows[0].0["outcome"]["answered"]["protocol"], protocol);
    }

    // Without a proxy: plaintext within the cluster, nothing through the gateway.
    let rows = job(west, "raw", "store", json!({})).await;
    assert_eq!(ends(&rows), BTreeMap::from([("west".to_owned(), 20)]));
    assert!(rows[0].seen("l5d-client-id").is_empty());
    let rows = job(west, "raw", "store-east", json!({})).await;
    assert_eq!(ends(&rows), BTreeMap::from([("closed".to_owned(), 20)]));
    // A port that no Service defines.
    let rows = job(west, "shopper", "store-east", json!({"port": 7777})).await;
    assert_eq!(ends(&rows), BTreeMap::from([("closed".to_owned(), 20)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_follows_its_weights_and_says_so_in_its_status() {
    let mesh = shop(&[]).await;
    split(&mesh, (70, 30), "m1");
    until_live(&mesh, "m1").await;
    let accepted = |route: &Value| {
        let conditions = &route["status"]["parents"][0]["conditions"];
        (0..2).all(|index| conditions[index]["status"] == "True")
    };
    mesh["west"].until(&ROUTES, NS, "split", "accepted", accepted).await;
    let count = async |backend: &str| {
        let labels = ["parent_name=\"split\"", "route_kind=\"HTTPRoute\"", backend];
        metric(
            &mesh["west"],
            NS,
            "shopper",
            "outbound_http_route_backend_requests_total",
            &labels,
        )
        .await
    };
    let before = count("backend_name=\"store-east\"").await;
    let change = json!({"connections": 4, "load": {"closed": {"requests": 5000, "gap_ms": 0}}});
    let start = Instant::now();
    let counts = ends(&job(&mesh["west"], "shopper", "split", change).await);
    println!("5000 requests in {:?}", start.elapsed());
    assert_eq!(counts.values().sum::<usize>(), 5000);
    let east = counts["east"];
    assert_eq!(counts["west"] + east, 5000, "{counts:?}");
    // Normal approximation; 4.4 standard deviations are exceeded once in 100,000 runs.
    let deviation = (east as f64 - 1500.0) / (5000.0 * 0.7 * 0.3_f64).sqrt();
    assert!(deviation.abs() < 4.4, "{east} of 5000 in east");
    assert_eq!(count("backend_name=\"store-east\"").await - before, east as u64);
    split(&mesh, (0, 1), "m2");
    until_live(&mesh, "m2").await;
    let counts = ends(&job(&mesh["west"], "shopper", "split", json!({})).await);
    assert_eq!(counts, BTreeMap::from([("east".to_owned(), 20)]));
}

/// Open-loop traffic for some scenario seconds while `event` happens after the first eight, or a little earlier: the job
/// starts when the agent has been reached.
async fn watched(mesh: &Mesh, host: &str, seconds: f64, event: impl Future<Output = ()>) -> Vec<Row> {
    let per_second = 50.0 * PACE;
    let requests = (seconds * 50.0) as u64;
    let change = json!({"connections": 20, "load": {"open": {"per_second": per_second, "requests": requests}}});
    let traffic = job(&mesh["west"], "shopper", host, change);
    let event = async {
        tokio::time::sleep(Mesh::wall(8.0)).await;
        event.await;
    };
    tokio::join!(traffic, event).0
}

fn between(rows: &[Row], from: f64, to: f64) -> BTreeMap<String, usize> {
    let chosen: Vec<_> = rows
        .iter()
        .filter(|row| (from..to).contains(&row.sent()))
        .cloned()
        .collect();
    ends(&chosen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_survives_the_local_backend_and_takes_it_back() {
    let mesh = shop(&[]).await;
    split(&mesh, (50, 50), "m1");
    until_live(&mesh, "m1").await;
    let west = &mesh["west"];
    let rows = watched(&mesh, "split", 30.0, async { west.scale(NS, "store", 0) }).await;
    assert!(
        between(&rows, 0.0, 3.0).keys().eq(["east", "west"]),
        "{:?}",
        between(&rows, 0.0, 3.0)
    );
    let late = between(&rows, 20.0, 30.0);
    assert!(late.keys().eq(["east"]), "{late:?}");
    let failed = ends(&rows);
    assert!(failed.get("504").is_some_and(|failed| *failed > 20), "{failed:?}");
    assert!(
        !failed.contains_key("503"),
        "no unavailability while another backend lives: {failed:?}"
    );
    west.scale(NS, "store", 1);
    west.deployments_available(NS).await;
    until(&mesh, "split", |ends| ends.contains_key("west")).await;
    let counts = ends(
        &job(
            west,
            "shopper",
            "split",
            json!({"load": {"closed": {"requests": 200, "gap_ms": 0}}}),
        )
        .await,
    );
    assert!(
        counts["west"] > 50 && counts["east"] > 50 && counts.len() == 2,
        "{counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_survives_the_gateway_and_takes_it_back() {
    let mesh = shop(&[]).await;
    split(&mesh, (50, 50), "m1");
    until_live(&mesh, "m1").await;
    let east = &mesh["east"];
    let rows = watched(&mesh, "split", 46.0, async { east.scale(MC, "linkerd-gateway", 0) }).await;
    let late = between(&rows, 30.0, 46.0);
    assert!(late.keys().eq(["west"]), "{late:?}");
    east.scale(MC, "linkerd-gateway", 1);
    east.deployments_available(MC).await;
    mesh["west"].endpoints("store-east", State::Ready).await;
    until(&mesh, "split", |ends| ends.contains_key("east")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_target_fails_fast_and_comes_back() {
    let mesh = shop(&[]).await;
    let east = &mesh["east"];
    east.scale(NS, "store", 0);
    mesh["west"].endpoints("store-east", State::Empty).await;
    until(&mesh, "store-east", |ends| ends.contains_key("503")).await;
    east.scale(NS, "store", 1);
    until(&mesh, "store-east", |ends| ends.contains_key("east")).await;
}

#[rstest]
#[case::clean(&[], false)]
#[case::defect(&[Defect::PlaintextOnLink], true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_readable_between_the_clusters_only_with_the_defect(
    #[case] defects: &[Defect],
    #[case] readable: bool,
) {
    const CANARY: &str = "canary-5b1f0c";
    let mesh = shop(defects).await;
    let selector = PathSelector {
        from: Some("west".into()),
        to: Some("east".into()),
        ..PathSelector::default()
    };
    let options = TapOptions {
        patterns: vec![CANARY.as_bytes().to_vec()],
        ..TapOptions::default()
    };
    let tap = mesh.fabric.tap(selector, &options);
    let change = json!({"headers": {"x-meshproof-canary": CANARY}});
    let rows = job(&mesh["west"], "shopper", "store-east", change).await;
    assert_eq!(ends(&rows), BTreeMap::from([("east".to_owned(), 20)]));
    let report = tap.report();
    assert_eq!(
        report.hits.iter().any(|hits| hits.forward > 0),
        readable,
        "{:?}",
        report.hits
    );
}

#[rstest]
#[case::clean(&[], true)]
#[case::defect(&[Defect::ControllerRestartDropsTraffic], false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_controller_does_not_interrupt_traffic(#[case] defects: &[Defect], #[case] uninterrupted: bool) {
    let mesh = shop(defects).await;
    let west = &mesh["west"];
    let restart = async {
        let pod = west.controller_pod("east").unwrap();
        west.remove(&gvr::PODS, MC, &pod);
    };
    let rows = watched(&mesh, "store-east", 24.0, restart).await;
    let counts = ends(&rows);
    assert_eq!(counts.keys().eq(["east"]), uninterrupted, "{counts:?}");
    // Local traffic is no concern of the controller.
    assert_eq!(
        ends(&job(west, "shopper", "store", json!({})).await),
        BTreeMap::from([("west".to_owned(), 20)])
    );
}

#[rstest]
#[case::clean(&[], "closed")]
#[case::defect(&[Defect::GatewayAcceptsUnauthenticated], "east")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmeshed_client_is_served_only_with_the_defect(#[case] defects: &[Defect], #[case] expected: &str) {
    let mesh = shop(defects).await;
    for host in ["store-east", "store-east.shop", "store-east.shop.svc.cluster.local"] {
        let rows = job(&mesh["west"], "raw", host, json!({})).await;
        assert_eq!(ends(&rows), BTreeMap::from([(expected.to_owned(), 20)]), "{host}");
    }
}
