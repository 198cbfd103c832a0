//! A mesh that others installed: it is looked at, and never changed.

use std::sync::Arc;

use kube::api::Api;
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::ProblemClass;
use meshproof_linkerd::{Linkerd, Preinstalled};
use meshproof_spec::scenario::Setup;
use serde_json::{Value, json};

use crate::world::{PACE, World, apply, definition, topology};

fn deployment(namespace: &str, name: &str, labels: &Value) -> Value {
    // Nothing has to run for these tests, so none of it does.
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}}})
}

async fn control_plane(cluster: &Cluster) {
    for namespace in ["linkerd", "linkerd-multicluster"] {
        apply(
            cluster,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        )
        .await;
    }
    for name in ["linkerd-destination", "linkerd-identity", "linkerd-proxy-injector"] {
        apply(cluster, deployment("linkerd", name, &json!({}))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_until_all_is_there() {
    let world = World::new(&["west", "east"]).await;
    let (west, east) = (world.get("west"), world.get("east"));
    let driver = Linkerd::new(Arc::new(Preinstalled::new()), PACE);
    let (topology, setup) = (topology("pair"), Setup::default());

    let problem = driver.install(west, &topology, &setup).await.unwrap_err();
    assert_eq!(
        (problem.code.as_str(), problem.class),
        ("mesh-missing", ProblemClass::Mesh)
    );
    control_plane(west).await;
    let problem = driver.install(west, &topology, &setup).await.unwrap_err();
    assert!(
        problem.message.ends_with("linkerd-multicluster/linkerd-gateway"),
        "{}",
        problem.message
    );
    apply(west, deployment("linkerd-multicluster", "linkerd-gateway", &json!({}))).await;
    let labels = json!({"mirror.linkerd.io/cluster-name": "east"});
    apply(
        west,
        deployment("linkerd-multicluster", "linkerd-service-mirror-east", &labels),
    )
    .await;
    driver.install(west, &topology, &setup).await.unwrap();
    // The controller's name tells the model.
    assert_eq!(
        driver.fact("mesh.controller.east", "shop").as_deref(),
        Some("linkerd-service-mirror-east")
    );

    let problem = driver.link(west, east, &setup).await.unwrap_err();
    assert_eq!(problem.code, "link-missing");
    let crd: Value = serde_yaml::from_str(&definition("links", "Link", "multicluster.linkerd.io", "v1alpha3")).unwrap();
    apply(west, crd).await;
    let definitions: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(west.client.clone());
    let established = kube::runtime::wait::await_condition(
        definitions,
        "links.multicluster.linkerd.io",
        kube::runtime::wait::conditions::is_crd_established(),
    );
    tokio::time::timeout(std::time::Duration::from_secs(20), established)
        .await
        .unwrap()
        .unwrap();
    apply(
        west,
        json!({"apiVersion": "multicluster.linkerd.io/v1alpha3", "kind": "Link",
            "metadata": {"name": "east", "namespace": "linkerd-multicluster"},
            "spec": {"targetClusterName": "east", "clusterCredentialsSecret": "cluster-credentials-east"}}),
    )
    .await;
    let secret = |namespace: &str, metadata: Value| {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "mirror.linkerd.io/remote-kubeconfig",
            "metadata": metadata, "data": {"kubeconfig": "YQ=="}});
        secret["metadata"]["name"] = "cluster-credentials-east".into();
        secret["metadata"]["namespace"] = namespace.into();
        secret
    };
    let problem = driver.link(west, east, &setup).await.unwrap_err();
    assert!(
        problem
            .message
            .ends_with("Secret linkerd-multicluster/cluster-credentials-east"),
        "{}",
        problem.message
    );
    apply(west, secret("linkerd-multicluster", json!({}))).await;
    apply(west, secret("linkerd", json!({}))).await;
    let problem = driver.link(west, east, &setup).await.unwrap_err();
    assert_eq!(problem.code, "link-malformed");
    assert!(
        problem.message.contains("multicluster.linkerd.io/trust-domain"),
        "{}",
        problem.message
    );
    apply(
        west,
        secret(
            "linkerd",
            json!({"labels": {"multicluster.linkerd.io/cluster-name": "east"}, "annotations": {
                "multicluster.linkerd.io/trust-domain": "cluster.local", "multicluster.linkerd.io/cluster-domain": "cluster.local"}}),
        ),
    )
    .await;
    driver.link(west, east, &setup).await.unwrap();

    for problem in [
        driver.unlink(west, east).await.unwrap_err(),
        driver.uninstall(west).await.unwrap_err(),
        driver.rotate_credentials(west, east).await.unwrap_err(),
        driver
            .deny_writes(west, "east", &["update".to_owned()])
            .await
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert_eq!(problem.code, "mesh-preinstalled");
        assert!(problem.remedy.is_some());
    }
}
