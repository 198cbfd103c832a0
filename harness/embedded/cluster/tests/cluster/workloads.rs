//! Deployments and StatefulSets.

use meshproof_apiserver::gvr;
use serde_json::{Value, json};

use crate::support::{
    all, clusters, create, delete, deployment, merge, pod_names, rolled_out, shut_down, until, until_all,
    until_available, until_gone,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_scales_and_goes() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let begin = std::time::Instant::now();
    create(west, &gvr::DEPLOYMENTS, deployment("west", "web", 3));
    until_available(west, "web", 3).await;
    println!("3 replicas available after {:?}", begin.elapsed());

    let found = west.store().get(&gvr::DEPLOYMENTS, Some("demo"), "web").unwrap();
    let reasons: Vec<_> = found["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["reason"].clone())
        .collect();
    assert_eq!(reasons, ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
    assert_eq!(
        found["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "1"
    );

    merge(west, &gvr::DEPLOYMENTS, "web", json!({"spec": {"replicas": 1}}));
    until_available(west, "web", 1).await;
    until_all(west, &gvr::PODS, "app=web", "one pod", |p| p.len() == 1).await;

    delete(west, &gvr::DEPLOYMENTS, "web");
    until_gone(west, &gvr::PODS, "app=web").await;
    assert!(all(west, &gvr::REPLICA_SETS, "app=web").is_empty());
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_template_replaces_all_pods_and_keeps_the_old_set() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    create(west, &gvr::DEPLOYMENTS, deployment("west", "web", 2));
    until_available(west, "web", 2).await;
    let before = pod_names(west, "web");
    // What `kubectl rollout restart` does.
    let stamp = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-21T02:12:19Z"});
    let restart = json!({"spec": {"template": {"metadata": {"annotations": stamp}}}});
    merge(west, &gvr::DEPLOYMENTS, "web", restart);
    until_available(west, "web", 2).await;
    let after = until_all(west, &gvr::PODS, "app=web", "old pods gone", |p| p.len() == 2).await;
    assert!(
        after
            .iter()
            .all(|p| !before.contains(&p["metadata"]["name"].as_str().unwrap().to_owned()))
    );
    let sets = all(west, &gvr::REPLICA_SETS, "app=web");
    let mut revisions: Vec<_> = sets
        .iter()
        .map(|s| {
            (
                s["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone(),
                s["spec"]["replicas"].clone(),
            )
        })
        .collect();
    revisions.sort_by_key(|r| r.0.to_string());
    assert_eq!(revisions, [(json!("1"), json!(0)), (json!("2"), json!(2))]);

    // Back to the first template: its set is used again.
    let undo = json!({"spec": {"template": {"metadata": {"annotations": null}}}});
    merge(west, &gvr::DEPLOYMENTS, "web", undo);
    until(west, &gvr::DEPLOYMENTS, "web", "rolled back", |d| {
        d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3" && rolled_out(d, 2)
    })
    .await;
    assert_eq!(all(west, &gvr::REPLICA_SETS, "app=web").len(), 2);
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_stops_the_old_before_it_starts_the_new() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut object = deployment("west", "web", 2);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    create(west, &gvr::DEPLOYMENTS, object);
    until_available(west, "web", 2).await;
    let mut pods = crate::support::watch_new(west, &gvr::PODS).await;
    let image = json!({"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}});
    merge(west, &gvr::DEPLOYMENTS, "web", image);
    until_available(west, "web", 2).await;
    // Every old pod is gone before the first new one is made.
    let mut gone = 0;
    loop {
        let event = futures::StreamExt::next(&mut pods).await.unwrap().unwrap();
        match event.kind.as_str() {
            "DELETED" => gone += 1,
            "ADDED" => break,
            _ => {}
        }
    }
    assert_eq!(gone, 2);
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_comes_back_and_a_relabelled_one_is_let_go() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    create(west, &gvr::DEPLOYMENTS, deployment("west", "web", 1));
    until_available(west, "web", 1).await;
    let first = pod_names(west, "web").remove(0);
    delete(west, &gvr::PODS, &first);
    until_all(west, &gvr::PODS, "app=web", "a new pod that runs", |pods| {
        pods.len() == 1 && pods[0]["metadata"]["name"] != first.as_str() && pods[0]["status"]["phase"] == "Running"
    })
    .await;
    let second = pod_names(west, "web").remove(0);
    merge(
        west,
        &gvr::PODS,
        &second,
        json!({"metadata": {"labels": {"app": "quarantine"}}}),
    );
    until_all(west, &gvr::PODS, "app=web", "a third pod", |pods| pods.len() == 1).await;
    let quarantined = until(west, &gvr::PODS, &second, "let go", |p| {
        p["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
    })
    .await;
    assert_eq!(quarantined["status"]["phase"], "Running");
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_starts_in_order_with_stable_names() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let mut pods = crate::support::watch_new(west, &gvr::PODS).await;
    let headless = json!({
        "metadata": {"name": "db"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"name": "http", "port": 8080}]},
    });
    create(west, &gvr::SERVICES, headless);
    let set = json!({
        "metadata": {"name": "db"},
        "spec": {
            "replicas": 3, "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": crate::support::agent_template("west", "db"),
        },
    });
    create(west, &gvr::STATEFUL_SETS, set);
    until(west, &gvr::STATEFUL_SETS, "db", "all ready", |s| {
        s["status"]["readyReplicas"] == 3
    })
    .await;
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    // Each pod is made only after the one before it was ready.
    let (mut made, mut ready) = (Vec::new(), std::collections::BTreeSet::new());
    while ready.len() < 3 {
        let event = futures::StreamExt::next(&mut pods).await.unwrap().unwrap();
        let name = event.object["metadata"]["name"].as_str().unwrap().to_owned();
        if event.kind.as_str() == "ADDED" {
            assert_eq!(made.len(), ready.len(), "{name} came before {made:?} were ready");
            made.push(name.clone());
        }
        if is_ready(&event.object) {
            ready.insert(name);
        }
    }
    assert_eq!(made, ["db-0", "db-1", "db-2"]);

    let outcome = crate::support::until_answered(west, "db-0", "db-2.db", 8080).await;
    assert_eq!(outcome["answered"]["server"]["pod"], "db-2", "{outcome}");
    merge(west, &gvr::STATEFUL_SETS, "db", json!({"spec": {"replicas": 1}}));
    until_all(west, &gvr::PODS, "app=db", "scaled down", |p| p.len() == 1).await;
    assert_eq!(pod_names(west, "db"), ["db-0"]);
    shut_down(clusters).await;
}
