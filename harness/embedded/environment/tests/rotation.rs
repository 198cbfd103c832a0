//! Certificates of two embedded clusters are replaced through the engine's traits.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use futures::TryStreamExt;
use futures::future::ready;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use meshproof_embedded::environment::Embedded;
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::{Cluster, Environment, EnvironmentRequest};
use meshproof_engine::problem::ProblemClass;
use meshproof_mesh::defect::Defects;
use meshproof_spec::scenario::{Setup, TrustStep};
use meshproof_spec::topology::Topology;
use serde_json::json;

fn request() -> EnvironmentRequest {
    let topology: Topology = serde_json::from_value(json!({
        "topology": "pair", "summary": "Two clusters.", "links": [],
        "clusters": {
            "west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.110.0.0/16"},
            "east": {"pod_cidr": "10.20.0.0/16", "service_cidr": "10.120.0.0/16"},
        },
    }))
    .unwrap();
    EnvironmentRequest {
        key: "rotation".into(),
        topology,
        setup: Setup::default(),
        seed: 1,
    }
}

fn of_control_plane(cluster: &Cluster, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    Api::namespaced_with(cluster.client.clone(), "linkerd", &resource)
}

/// How often the identity service has told this.
async fn told(cluster: &Cluster, reason: &str) -> usize {
    let events = of_control_plane(cluster, "Event").list(&ListParams::default()).await;
    let events = events.unwrap().items;
    events.iter().filter(|event| event.data["reason"] == reason).count()
}

async fn roots(driver: &dyn MeshDriver, cluster: &Cluster) -> Vec<String> {
    let roots = driver.trust_root(cluster).await.unwrap();
    roots.split('+').map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_replaced_in_three_steps() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let environment = Embedded::new(10.0, Defects::default());
    let request = request();
    let driver = environment.driver(&request);
    let running = environment.up(&request).await.unwrap();
    let clusters = running.clusters().to_vec();
    for cluster in &clusters {
        let installed = driver.install(cluster, &request.topology, &request.setup).await;
        installed.unwrap();
    }
    let [west, east] = clusters.as_slice() else {
        unreachable!("the topology has two clusters");
    };
    let [old] = roots(driver.as_ref(), west).await.try_into().unwrap();

    let early = driver.rotate_trust(west, TrustStep::UseRoot).await.unwrap_err();
    assert_eq!(
        (early.class, early.code.as_str()),
        (ProblemClass::Harness, "no-new-root")
    );
    assert_eq!(told(west, "IssuerUpdated").await, 0);
    driver.rotate_trust(west, TrustStep::Issuer).await.unwrap();
    assert_eq!(told(west, "IssuerUpdated").await, 1);
    assert_eq!(roots(driver.as_ref(), west).await, std::slice::from_ref(&old));

    for cluster in [west, east] {
        driver.rotate_trust(cluster, TrustStep::AddRoot).await.unwrap();
    }
    let both = roots(driver.as_ref(), west).await;
    assert_eq!(
        both,
        roots(driver.as_ref(), east).await,
        "one new root for all clusters"
    );
    assert_eq!((both.len(), &both[1]), (2, &old));
    driver.rotate_trust(west, TrustStep::UseRoot).await.unwrap();
    assert_eq!(roots(driver.as_ref(), west).await, both);
    driver.rotate_trust(west, TrustStep::DropRoot).await.unwrap();
    assert_eq!(roots(driver.as_ref(), west).await, &both[..1]);
    assert_eq!(
        roots(driver.as_ref(), east).await,
        both,
        "each cluster has its own steps"
    );

    // An issuer that can't be used is told, too.
    assert_eq!(told(west, "IssuerUpdateSkipped").await, 0);
    let garbage = json!({"stringData": {"tls.crt": "no certificate"}});
    of_control_plane(west, "Secret")
        .patch(
            "linkerd-identity-issuer",
            &PatchParams::default(),
            &Patch::Merge(garbage),
        )
        .await
        .unwrap();
    let refused = async {
        let events = watcher(of_control_plane(west, "Event"), watcher::Config::default()).applied_objects();
        let mut skipped =
            std::pin::pin!(events.try_filter(|event| ready(event.data["reason"] == "IssuerUpdateSkipped")));
        skipped.try_next().await.unwrap().unwrap()
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), refused)
        .await
        .unwrap();
    running.down().await.unwrap();
}
