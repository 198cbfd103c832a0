//! Start, rest and end of whole clusters.

use std::time::{Duration, Instant};

use meshproof_apiserver::gvr;
use meshproof_cluster::fabric::{Fabric, FabricConfig, PathSelector};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use serde_json::json;

use crate::support::{client_that_expects, clusters, create, delete, merge, pod_names, serve, shut_down, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_starts_with_what_every_cluster_has() {
    let begin = Instant::now();
    let clusters = clusters(2).await;
    println!("2 clusters up after {:?}", begin.elapsed());
    for cluster in &clusters.all {
        let store = cluster.store();
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let found = store.get(&gvr::NAMESPACES, None, namespace).unwrap();
            assert!(!found["metadata"]["uid"].as_str().unwrap().is_empty());
        }
        let node = store.get(&gvr::NODES, None, &cluster.config().node_name()).unwrap();
        assert_eq!(
            node["status"]["addresses"][0]["address"],
            cluster.node_address().to_string()
        );
        assert_eq!(node["status"]["conditions"][3]["status"], "True");
        let endpoints = store.get(&gvr::ENDPOINTS, Some("default"), "kubernetes").unwrap();
        assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 6443);
    }
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_at_rest_writes_nothing() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    serve(west, "web", 2, "LoadBalancer").await;
    let mut mirror = crate::support::service("mirror", "ClusterIP");
    mirror["spec"]["selector"] = serde_json::Value::Null;
    create(west, &gvr::SERVICES, mirror);
    let endpoints = json!({
        "metadata": {"name": "mirror"},
        "subsets": [{"addresses": [{"ip": "198.18.0.9"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}],
    });
    create(west, &gvr::ENDPOINTS, endpoints);
    merge(west, &gvr::DEPLOYMENTS, "web", json!({"spec": {"replicas": 1}}));
    crate::support::until_available(west, "web", 1).await;
    until(west, &gvr::ENDPOINTS, "web", "one address", |e| {
        e["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == 1)
    })
    .await;
    // Quiet for ten probe periods (of 1 s at pace 10), after all that has been set going has ended.
    let quiet = Duration::from_secs(1);
    let begin = Instant::now();
    let mut version = west.store().resource_version();
    let mut since = Instant::now();
    while since.elapsed() < quiet {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "the cluster never comes to rest"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = west.store().resource_version();
        // The node's heartbeat goes on.
        let text = now.to_string();
        let lease = west
            .store()
            .get(&gvr::LEASES, Some("kube-node-lease"), "west-control-plane");
        let beat = now == version + 1 && lease.unwrap()["metadata"]["resourceVersion"] == text.as_str();
        if now != version && !beat {
            since = Instant::now();
        }
        version = now;
    }
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_after_a_shutdown() {
    let runtime = tokio::runtime::Handle::current();
    let before = runtime.metrics().num_alive_tasks();
    let clusters = clusters(2).await;
    let fabric = clusters.fabric.clone();
    let west = clusters.west();
    serve(west, "web", 2, "LoadBalancer").await;
    serve(clusters.east(), "web", 1, "ClusterIP").await;
    let api = west.api().address();
    let mut open = fabric
        .connect_from("east", ([198, 18, 100, 1], 9090).into())
        .await
        .unwrap();
    shut_down(clusters).await;

    assert!(
        tokio::io::AsyncReadExt::read(&mut open, &mut [0; 1]).await.is_err(),
        "connections are broken"
    );
    drop(open);
    assert!(fabric.connections(&PathSelector::default()).is_empty());
    assert!(
        tokio::net::TcpStream::connect(api).await.is_err(),
        "the API server's port is closed"
    );
    // Tasks that were told to end do so when they are next scheduled.
    let begin = Instant::now();
    while runtime.metrics().num_alive_tasks() > before {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{} tasks are left",
            runtime.metrics().num_alive_tasks() - before
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The names and addresses are free again.
    let again = EmbeddedCluster::start(
        ClusterConfig::numbered("west", 0),
        &fabric,
        &ProgramRegistry::standard(),
    )
    .await
    .unwrap();
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_its_pods() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    serve(west, "web", 2, "ClusterIP").await;
    assert_eq!(pod_names(west, "web").len(), 2);
    west.store()
        .delete(&gvr::NAMESPACES, None, "demo", &Default::default())
        .unwrap();
    let begin = Instant::now();
    while west.store().get(&gvr::NAMESPACES, None, "demo").is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the namespace stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    create(west, &gvr::NAMESPACES, json!({"metadata": {"name": "demo"}}));
    serve(west, "web", 1, "ClusterIP").await;
    delete(west, &gvr::DEPLOYMENTS, "web");
    shut_down(clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_fit_does_not_start() {
    let fabric = Fabric::new(FabricConfig::new(Pace::new(10.0)));
    let programs = ProgramRegistry::new();
    let west = EmbeddedCluster::start(ClusterConfig::numbered("west", 0), &fabric, &programs)
        .await
        .unwrap();
    let overlapping = ClusterConfig {
        name: "east".into(),
        ..ClusterConfig::numbered("west", 0)
    };
    let error = EmbeddedCluster::start(overlapping, &fabric, &programs)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cluster `east`: pod range 198.19.0.0/24 of west and pod range 198.19.0.0/24 of east overlap"),
        "{error}"
    );
    let error = EmbeddedCluster::start(ClusterConfig::numbered("west", 1), &fabric, &programs)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("already has a cluster `west`"), "{error}");
    west.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_shows_that_it_lives() {
    let clusters = crate::support::clusters(1).await;
    let west = clusters.west();
    let renewed = || {
        let lease = west
            .store()
            .get(&gvr::LEASES, Some("kube-node-lease"), "west-control-plane");
        lease
            .ok()
            .map(|lease| lease["spec"]["renewTime"].as_str().unwrap().to_owned())
    };
    let mut changes = west
        .store()
        .informer(&gvr::LEASES, None, &meshproof_apiserver::Selector::all())
        .unwrap();
    let twice = async {
        let first = loop {
            match renewed() {
                Some(first) => break first,
                None => drop(futures::StreamExt::next(&mut changes).await),
            }
        };
        while renewed() == Some(first.clone()) {
            futures::StreamExt::next(&mut changes).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), twice)
        .await
        .unwrap();
    let ca = west.store().get(&gvr::SERVICES, Some("default"), "kubernetes").unwrap();
    assert_eq!(ca["spec"]["clusterIP"], "198.19.1.1");
    crate::support::shut_down(clusters).await;
}

/// What a client in a pod dials: `KUBERNETES_SERVICE_HOST`, which is the Service's address, or one of its names; and from the
/// other cluster, the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_has_every_name_that_the_api_server_is_dialled_by() {
    let clusters = clusters(1).await;
    let west = clusters.west();
    let service = west.store().get(&gvr::SERVICES, Some("default"), "kubernetes").unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let node = west.node_address().to_string();
    let names = [address, &node, "kubernetes.default.svc", "kubernetes", "localhost"];
    for name in names {
        let version = client_that_expects(west, Some(name)).await.apiserver_version().await;
        assert!(version.is_ok(), "{name}: {version:?}");
    }
    for name in ["192.0.2.1", "kubernetes.other.svc"] {
        let version = client_that_expects(west, Some(name)).await.apiserver_version().await;
        assert!(version.is_err(), "{name} is nobody's");
    }
    shut_down(clusters).await;
}
