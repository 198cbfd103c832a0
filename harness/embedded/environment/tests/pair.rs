//! Two embedded clusters through the engine's traits alone: up, installed, linked, exported, mirrored, down.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use meshproof_embedded::environment::Embedded;
use meshproof_engine::environment::{Cluster, Environment, EnvironmentRequest};
use meshproof_mesh::defect::Defects;
use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::{ExportMode, Setup};
use meshproof_spec::topology::{ClusterSpec, LinkSpec, Network, Topology, TopologyTrust};
use serde_json::{Value, json};

fn pair() -> EnvironmentRequest {
    let cluster = |number: u8| ClusterSpec {
        pod_cidr: format!("10.{number}.0.0/16"),
        service_cidr: format!("10.{}.0.0/16", 100 + number),
        domain: None,
        gateway: None,
        nodes: None,
        node_image: None,
    };
    EnvironmentRequest {
        key: "pair".into(),
        topology: Topology {
            topology: Name("pair".into()),
            summary: String::new(),
            clusters: BTreeMap::from([(Name("west".into()), cluster(10)), (Name("east".into()), cluster(20))]),
            links: vec![LinkSpec {
                from: Name("west".into()),
                to: Name("east".into()),
                service_account: None,
            }],
            network: Network::default(),
            trust: TopologyTrust::default(),
        },
        setup: Setup::default(),
        seed: 1,
    }
}

fn api(cluster: &Cluster, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    match kind {
        "Namespace" => Api::all_with(cluster.client.clone(), &resource),
        _ => Api::namespaced_with(cluster.client.clone(), "shop", &resource),
    }
}

async fn create(cluster: &Cluster, kind: &str, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api(cluster, kind)
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_service_is_mirrored() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let environment = Embedded::new(10.0, Defects::default());
    let request = pair();
    let driver = environment.driver(&request);
    let running = environment.up(&request).await.unwrap();
    let cluster = |name: &str| {
        running
            .clusters()
            .iter()
            .find(|cluster| cluster.name == name)
            .unwrap()
            .clone()
    };
    let (west, east) = (cluster("west"), cluster("east"));

    for cluster in [&west, &east] {
        driver
            .install(cluster, &request.topology, &request.setup)
            .await
            .unwrap();
    }
    driver.link(&west, &east, &request.setup).await.unwrap();
    driver.await_link(&west, &east, &request.setup).await.unwrap();
    assert_eq!(
        driver.trust_root(&west).await.unwrap(),
        driver.trust_root(&east).await.unwrap()
    );

    for cluster in [&west, &east] {
        create(
            cluster,
            "Namespace",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        )
        .await;
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"},
        "spec": {"selector": {"app": "store"}, "ports": [{"name": "http", "port": 80}]},
    });
    create(&east, "Service", service).await;
    let export = driver.export_patch(Some(ExportMode::Gateway)).unwrap();
    api(&east, "Service")
        .patch("store", &PatchParams::default(), &Patch::Merge(export))
        .await
        .unwrap();

    let mirror = driver.mirror_name("store", "east", ExportMode::Gateway);
    let appears = await_condition(api(&west, "Service"), &mirror, |object: Option<&DynamicObject>| {
        object.is_some()
    });
    let mirrored = tokio::time::timeout(Duration::from_secs(10), appears)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(mirrored.data["spec"]["ports"][0]["port"], 80);
    assert_eq!(
        mirrored.metadata.labels.unwrap()["mirror.linkerd.io/cluster-name"],
        "east"
    );

    running.down().await.unwrap();
}
