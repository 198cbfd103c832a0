//! Endpoints, EndpointSlices and their mirroring, and what follows from them.

use meshproof_apiserver::gvr;
use serde_json::{Value, json};

use crate::support::{
    all, clusters, control, create, delete, merge, pod_names, serve, shut_down, until, until_all, until_gone,
};

fn ready_addresses(endpoints: &Value) -> usize {
    endpoints["subsets"][0]["addresses"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_readiness_of_pods() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    serve(west, "web", 2, "ClusterIP").await;
    let pod = pod_names(west, "web").remove(0);
    let (status, text) = control(west, &pod, "PUT", "/behavior", &json!({"unready": true})).await;
    assert_eq!(status, 204, "{text}");
    let moved = until(west, &gvr::ENDPOINTS, "web", "one address not ready", |e| {
        ready_addresses(e) == 1 && e["subsets"][0]["notReadyAddresses"][0]["targetRef"]["name"] == pod.as_str()
    })
    .await;
    assert_eq!(
        moved["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"],
        "endpoint-controller"
    );
    let slices = until_all(
        west,
        &gvr::ENDPOINT_SLICES,
        "kubernetes.io/service-name=web",
        "not ready",
        |s| {
            s.len() == 1
                && s[0]["endpoints"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|e| e["conditions"]["ready"] == false)
                    .count()
                    == 1
        },
    )
    .await;
    assert_eq!(
        slices[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(slices[0]["metadata"]["ownerReferences"][0]["kind"], "Service");

    control(west, &pod, "PUT", "/behavior", &json!({"unready": false})).await;
    until(west, &gvr::ENDPOINTS, "web", "ready again", |e| ready_addresses(e) == 2).await;

    merge(west, &gvr::DEPLOYMENTS, "web", json!({"spec": {"replicas": 0}}));
    until(west, &gvr::ENDPOINTS, "web", "empty", |e| e["subsets"].is_null()).await;
    delete(west, &gvr::SERVICES, "web");
    until_gone(west, &gvr::ENDPOINTS, "").await;
    until_gone(west, &gvr::ENDPOINT_SLICES, "").await;
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_leaves_its_endpoints_when_its_deletion_begins() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut object = crate::support::deployment("west", "web", 1);
    // 20 s, which are 2 s here: long enough to see the pod while it terminates.
    object["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 20}}});
    create(west, &gvr::DEPLOYMENTS, object);
    create(west, &gvr::SERVICES, crate::support::service("web", "ClusterIP"));
    until(west, &gvr::ENDPOINTS, "web", "ready", |e| ready_addresses(e) == 1).await;
    merge(west, &gvr::DEPLOYMENTS, "web", json!({"spec": {"replicas": 0}}));
    until(west, &gvr::ENDPOINTS, "web", "without address", |e| {
        ready_addresses(e) == 0
    })
    .await;
    let slices = until_all(
        west,
        &gvr::ENDPOINT_SLICES,
        "kubernetes.io/service-name=web",
        "terminating",
        |s| s[0]["endpoints"][0]["conditions"]["terminating"] == true,
    )
    .await;
    assert_eq!(
        slices[0]["endpoints"][0]["conditions"],
        json!({"ready": false, "serving": true, "terminating": true})
    );
    let pods = all(west, &gvr::PODS, "app=web");
    assert_eq!(pods.len(), 1, "the pod still runs");
    assert!(!pods[0]["metadata"]["deletionTimestamp"].is_null());
    until_gone(west, &gvr::PODS, "app=web").await;
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_somebody_wrote_are_mirrored_into_slices() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mirror = json!({
        "metadata": {"name": "store-east", "labels": {"mirror.linkerd.io/cluster-name": "east"}},
        "spec": {"ports": [{"name": "http", "port": 8080}]},
    });
    create(west, &gvr::SERVICES, mirror);
    let endpoints = json!({
        "metadata": {
            "name": "store-east",
            "labels": {"mirror.linkerd.io/cluster-name": "east", "mirror.linkerd.io/mirrored-service": "true"},
            "annotations": {"mirror.linkerd.io/remote-svc-fq-name": "store.demo.svc.cluster.local"},
        },
        "subsets": [{"addresses": [{"ip": "198.18.0.3"}], "ports": [{"name": "http", "port": 4143, "protocol": "TCP"}]}],
    });
    let endpoints = create(west, &gvr::ENDPOINTS, endpoints);
    let selector = "kubernetes.io/service-name=store-east";
    let found = until_all(west, &gvr::ENDPOINT_SLICES, selector, "mirrored", |s| s.len() == 1).await;
    let slice = &found[0];
    assert_eq!(
        slice["metadata"]["labels"],
        json!({
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
            "kubernetes.io/service-name": "store-east",
            "mirror.linkerd.io/cluster-name": "east",
            "mirror.linkerd.io/mirrored-service": "true",
        })
    );
    assert_eq!(slice["metadata"]["annotations"], endpoints["metadata"]["annotations"]);
    assert_eq!(
        slice["metadata"]["ownerReferences"][0]["uid"],
        endpoints["metadata"]["uid"]
    );
    assert_eq!(
        slice["endpoints"],
        json!([{"addresses": ["198.18.0.3"], "conditions": {"ready": true}}])
    );

    let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
    let down = json!({"subsets": [{"notReadyAddresses": [{"ip": "198.18.0.3"}], "ports": [{"name": "http", "port": 4143, "protocol": "TCP"}]}]});
    merge(west, &gvr::ENDPOINTS, "store-east", down);
    let changed = until(west, &gvr::ENDPOINT_SLICES, &name, "not ready", |s| {
        s["endpoints"][0]["conditions"]["ready"] == false
    })
    .await;
    assert_eq!(changed["metadata"]["generation"], 2, "the same slice was changed");

    delete(west, &gvr::SERVICES, "store-east");
    until_gone(west, &gvr::ENDPOINT_SLICES, selector).await;
    until_gone(west, &gvr::ENDPOINTS, "").await;
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_may_come_before_their_service_and_go_with_it() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let own = |name: &str| json!({"metadata": {"name": name}, "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]});
    create(west, &gvr::ENDPOINTS, own("early"));
    // What is made afterwards has its turn after it.
    serve(west, "web", 1, "ClusterIP").await;
    let there = |name: &str| west.store().get(&gvr::ENDPOINTS, Some("demo"), name).is_ok();
    assert!(there("early"));
    create(
        west,
        &gvr::SERVICES,
        json!({"metadata": {"name": "early"}, "spec": {"ports": [{"port": 80}]}}),
    );
    delete(west, &gvr::SERVICES, "early");
    crate::support::until_all(west, &gvr::ENDPOINTS, "", "gone with its Service", |all| {
        all.iter().all(|endpoints| endpoints["metadata"]["name"] != "early")
    })
    .await;
    shut_down(clusters).await;
}
