//! The proxy on real sockets: two clusters, a gateway, a client, applications.

mod testbed;

use serde_json::{Value, json};

use self::testbed::{
    CLIENT_ID, Cluster, ECHO_ID, GATEWAY_ID, Pod, Testbed, echo_ports, gateway_policies, gateway_slice, mirror,
    pod_object, service, slice,
};
use crate::defect::Defect;
use crate::identity::authority_tests::TestRoot;
use http::StatusCode;
use rstest::rstest;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Virtual addresses in west.
const ECHO: &str = "10.42.0.8:8080";
const ECHO_EAST: &str = "10.42.0.9:8080";
const ECHO_EAST_SECOND: &str = "10.42.0.9:8081";
const SPLIT: &str = "10.42.0.7:8080";
/// Where east's gateway is reached.
const EAST_GATEWAY: &str = "172.18.0.3";

/// West with a client and two echo pods; east with a gateway and one echo pod, mirrored into west.
struct Pair {
    testbed: Testbed,
    west: Cluster,
    east: Cluster,
    client: Arc<Pod>,
    west_echo: Arc<Pod>,
    gateway: Arc<Pod>,
    east_echo: Arc<Pod>,
}

fn echo_object(name: &str, ip: &str) -> Value {
    pod_object(
        "lab",
        name,
        "echo",
        ip,
        &json!({"config.linkerd.io/opaque-ports": "9000"}),
        true,
    )
}

impl Pair {
    async fn new(defects: &[Defect]) -> Self {
        let root = TestRoot::new();
        Self::with_roots(defects, &root, &root).await
    }

    async fn with_roots(defects: &[Defect], west_root: &TestRoot, east_root: &TestRoot) -> Self {
        let testbed = Testbed::new(defects);
        let (west, east) = (testbed.cluster("west", west_root), testbed.cluster("east", east_root));
        for policy in gateway_policies() {
            east.set(&policy);
        }
        let gateway_object = pod_object(
            "linkerd-multicluster",
            "gateway",
            "linkerd-gateway",
            "10.23.0.8",
            &json!({
                "config.linkerd.io/enable-gateway": "true",
                "config.linkerd.io/default-inbound-policy": "all-authenticated",
                "config.linkerd.io/proxy-require-identity-inbound-ports": "4143",
            }),
            true,
        );
        let client = pod_object("lab", "client", "client", "10.22.0.5", &json!({}), true);
        let client = testbed.meshed_pod(&west, client).await;
        let west_echo = testbed.meshed_pod(&west, echo_object("echo-w", "10.22.0.20")).await;
        let gateway = testbed.meshed_pod(&east, gateway_object).await;
        let east_echo = testbed.meshed_pod(&east, echo_object("echo-e", "10.23.0.16")).await;
        gateway.expose_at(EAST_GATEWAY);
        for (pod, cluster) in [(&west_echo, "west"), (&east_echo, "east")] {
            pod.serve_http(cluster, 8080);
            pod.serve_http(cluster, 8081);
            pod.serve_tcp(cluster, 9000);
        }
        let ports = echo_ports();
        let mut echo = service("echo", "10.42.0.8", &ports);
        echo["metadata"]["annotations"] = json!({"config.linkerd.io/opaque-ports": "9000"});
        west.set(&echo);
        west.set(&slice("echo", &ports, &["10.22.0.20"]));
        west.set(&service("split", "10.42.0.7", &ports));
        west.set(&slice("split", &ports, &["10.22.0.20"]));
        let mut echo_east = mirror("echo-east", "east", "echo", "10.42.0.9", &ports);
        echo_east["metadata"]["annotations"]["config.linkerd.io/opaque-ports"] = json!("9000");
        west.set(&echo_east);
        west.set(&gateway_slice("echo-east", "echo", &ports, &[EAST_GATEWAY], true));
        let mut echo = service("echo", "10.43.0.8", &ports);
        echo["metadata"]["annotations"] = json!({"config.linkerd.io/opaque-ports": "9000"});
        east.set(&echo);
        east.set(&slice("echo", &ports, &["10.23.0.16"]));
        Self {
            testbed,
            west,
            east,
            client,
            west_echo,
            gateway,
            east_echo,
        }
    }

    fn route(&self, backends: &[(&str, u32)]) {
        self.west.set(&route(backends));
    }
}

fn route(backends: &[(&str, u32)]) -> Value {
    let backends: Value = backends
        .iter()
        .map(|(name, weight)| json!({"name": name, "port": 8080, "weight": weight}))
        .collect();
    json!({"kind": "HTTPRoute", "apiVersion": "gateway.networking.k8s.io/v1",
        "metadata": {"namespace": "lab", "name": "split"}, "spec": {
            "parentRefs": [{"group": "core", "kind": "Service", "name": "split", "port": 8080}],
            "rules": [{"backendRefs": backends}]}})
}

#[tokio::test]
async fn a_local_call_is_authenticated_and_counted() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(ECHO, "echo.lab:8080").await;
    for _ in 0..100 {
        let answer = client.get(&[]).await.unwrap();
        assert_eq!(answer.cluster(), "west");
        assert_eq!(answer.seen()["host"], "echo.lab:8080");
        assert_eq!(answer.header("l5d-client-id"), [CLIENT_ID]);
        assert!(answer.header("forwarded").is_empty() && answer.header("l5d-dst-canonical").is_empty());
        assert_eq!(
            answer.seen()["peer"],
            "10.22.0.20",
            "the source is the pod's own address"
        );
        assert!(answer.header("l5d-orig-proto").is_empty());
    }
    let outbound = [
        "direction=\"outbound\"",
        "authority=\"echo.lab.svc.cluster.local:8080\"",
        "tls=\"true\"",
    ];
    let server = format!("server_id=\"{ECHO_ID}\"");
    let labels: Vec<_> = outbound
        .iter()
        .copied()
        .chain([server.as_str(), "dst_pod=\"echo-w\""])
        .collect();
    assert_eq!(pair.client.metric("request_total", &labels), 100);
    assert_eq!(pair.client.metric("response_total", &labels), 100);
    assert_eq!(pair.client.metric("tcp_open_total", &labels), 1);
    let route = [
        "parent_name=\"echo\"",
        "backend_name=\"echo\"",
        "route_kind=\"default\",route_namespace=\"\",route_name=\"http\"",
    ];
    assert_eq!(
        pair.client.metric("outbound_http_route_backend_requests_total", &route),
        100
    );
    let inbound = format!("client_id=\"{CLIENT_ID}\"");
    let inbound = [
        "target_addr=\"10.22.0.20:8080\"",
        "srv_name=\"all-unauthenticated\"",
        inbound.as_str(),
    ];
    assert_eq!(pair.west_echo.metric("request_total", &inbound), 100);
    assert_eq!(pair.west_echo.metric("inbound_http_authz_allow_total", &inbound), 100);
    assert_eq!(
        pair.west_echo
            .metric("inbound_http_statuses_total", &["status=\"200\""]),
        100
    );
}

#[tokio::test]
async fn a_mirror_leads_through_the_gateway() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(ECHO_EAST, "echo-east.lab:8080").await;
    for _ in 0..100 {
        let answer = client.get(&[]).await.unwrap();
        assert_eq!(answer.cluster(), "east");
        assert_eq!(answer.seen()["host"], "echo.lab.svc.cluster.local:8080");
        assert_eq!(answer.header("l5d-client-id"), [GATEWAY_ID]);
        assert_eq!(answer.header("l5d-dst-canonical"), ["echo.lab.svc.cluster.local:8080"]);
        let forwarded = format!("by={GATEWAY_ID};for={CLIENT_ID};host=echo.lab.svc.cluster.local:8080;proto=https");
        assert_eq!(answer.header("forwarded"), [forwarded]);
    }
    let gateway_id = format!("server_id=\"{GATEWAY_ID}\"");
    let outbound = [
        "direction=\"outbound\"",
        "authority=\"echo-east.lab.svc.cluster.local:8080\"",
        "target_addr=\"172.18.0.3:4143\"",
        "tls=\"true\"",
        gateway_id.as_str(),
        "dst_service=\"echo-east\",dst_target_cluster=\"east\",dst_target_service=\"echo\",dst_target_service_namespace=\"lab\"",
    ];
    assert_eq!(pair.client.metric("request_total", &outbound), 100);
    assert_eq!(pair.client.metric("response_total", &outbound), 100);
    assert_eq!(pair.client.metric("response_latency_ms_count", &outbound), 100);
    assert_eq!(
        pair.client.metric("tcp_open_total", &outbound),
        1,
        "one connection for all"
    );
    let statuses = ["parent_name=\"echo-east\"", "http_status=\"200\",error=\"\""];
    assert_eq!(
        pair.client
            .metric("outbound_http_route_backend_response_statuses_total", &statuses),
        100
    );
    assert_eq!(
        pair.client
            .metric("outbound_http_route_request_statuses_total", &statuses),
        100
    );
    let allowed = format!("tls=\"true\",client_id=\"{CLIENT_ID}\"");
    let allowed = [
        "target_port=\"4143\"",
        "srv_name=\"linkerd-gateway\"",
        "authz_name=\"linkerd-gateway\"",
        allowed.as_str(),
    ];
    assert_eq!(pair.gateway.metric("inbound_http_authz_allow_total", &allowed), 100);
    assert_eq!(pair.gateway.metric("request_total", &["direction=\"inbound\""]), 0);
    let onward = format!("server_id=\"{ECHO_ID}\"");
    assert_eq!(
        pair.gateway.metric(
            "request_total",
            &["direction=\"outbound\"", &onward, "dst_service=\"echo\""]
        ),
        100
    );
    let dst = "dst=\"echo.lab.svc.cluster.local:8080\"";
    for name in [
        "route_request_total",
        "route_response_total",
        "route_actual_request_total",
    ] {
        assert_eq!(pair.gateway.metric(name, &[dst]), 100, "{name}");
    }
    assert_eq!(
        pair.gateway.metric("outbound_http_route_backend_requests_total", &[]),
        0
    );
    let by_gateway = format!("client_id=\"{GATEWAY_ID}\"");
    assert_eq!(
        pair.east_echo
            .metric("request_total", &["direction=\"inbound\"", &by_gateway]),
        100
    );
}
