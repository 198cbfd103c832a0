//! Numbers in objects that nobody could ever make come true.

use std::time::{Duration, Instant};

use meshproof_apiserver::gvr;
use serde_json::{Value, json};

use crate::support::{all, clusters, create, delete, deployment, merge, serve, shut_down, until, until_all};

/// Pods that a node takes.
const NODE: usize = 110;
/// Pods that a cluster takes.
const CLUSTER: usize = 500;

fn pending(pods: &[std::sync::Arc<Value>]) -> usize {
    pods.iter().filter(|pod| pod["spec"]["nodeName"].is_null()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_without_end_fill_the_node_and_others_go_on() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut huge = deployment("west", "huge", 1);
    huge["spec"]["replicas"] = json!(i32::MAX);
    huge["spec"]["template"]["spec"]["containers"] = json!([{"name": "c", "image": "pause"}]);
    create(west, &gvr::DEPLOYMENTS, huge);
    let pods = until_all(west, &gvr::PODS, "app=huge", "the node is full", |pods| {
        pods.len() == CLUSTER && pending(pods) == CLUSTER - NODE
    })
    .await;
    let waiting = pods.iter().find(|pod| pod["spec"]["nodeName"].is_null()).unwrap();
    let condition = &waiting["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("PodScheduled"), &json!("Unschedulable"))
    );
    until(west, &gvr::DEPLOYMENTS, "huge", "told why", |deployment| {
        let conditions = deployment["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "ReplicaFailure" && condition["message"].as_str().unwrap().contains("exceeded quota")
        })
    })
    .await;
    // The rest of the cluster works, and what is freed is used.
    create(
        west,
        &gvr::SERVICES,
        json!({"metadata": {"name": "other"}, "spec": {"ports": [{"port": 80}]}}),
    );
    merge(west, &gvr::DEPLOYMENTS, "huge", json!({"spec": {"replicas": 3}}));
    until_all(west, &gvr::PODS, "app=huge", "scaled down", |pods| {
        pods.len() == 3 && pending(pods) == 0
    })
    .await;
    serve(west, "web", 1, "ClusterIP").await;
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_full_of_pods_ends_at_once() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut set = deployment("west", "huge", 1);
    set["spec"]["replicas"] = json!(i32::MAX);
    set["spec"]["serviceName"] = json!("huge");
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    create(west, &gvr::STATEFUL_SETS, set);
    let job = json!({"metadata": {"name": "many"}, "spec": {"parallelism": i32::MAX, "completions": i32::MAX,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "pause"}]}}}});
    create(west, &gvr::JOBS, job);
    until_all(west, &gvr::PODS, "", "full", |pods| pods.len() == CLUSTER).await;
    assert!(!all(west, &gvr::EVENTS, "").is_empty());
    delete(west, &gvr::JOBS, "many");
    let begin = Instant::now();
    shut_down(clusters).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
