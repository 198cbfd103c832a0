//! The proxy on a network in memory: two clusters, a gateway, a client, applications.

mod calls;
mod config;
mod failures;
mod security;
mod splits;
mod testbed;
mod throughput;

use serde_json::{Value, json};

use self::testbed::{
    Cluster, Pod, Testbed, echo_ports, gateway_policies, gateway_slice, mirror, pod_object, service, slice,
};
use crate::defect::Defect;
use crate::identity::authority_tests::TestRoot;
use std::sync::Arc;

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
        Self::of(testbed, west, east).await
    }

    async fn of(testbed: Testbed, west: Cluster, east: Cluster) -> Self {
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
