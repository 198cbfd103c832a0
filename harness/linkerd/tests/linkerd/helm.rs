//! Installing from charts, and linking without the vendor's CLI.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use meshproof_engine::driver::MeshDriver;
use meshproof_linkerd::installer::Installer;
use meshproof_linkerd::readiness::{credentials, link};
use meshproof_linkerd::{Chart, HelmInstaller, HelmOptions, Linkerd};
use meshproof_spec::scenario::Setup;
use serde_json::{Value, json};

use crate::world::{Fake, PACE, World, definition, topology};

/// Notes the values that it gets, and prints what the chart would.
const HELM: &str = r#"
case "$1 $2" in
"show chart") printf 'apiVersion: v2\nname: linkerd-control-plane\nappVersion: edge-26.8.3\nversion: 2026.8.3\n' ;;
"template "*) cat > "$D/values-$2.json"; cat "$D/$2.yaml" ;;
*) exit 64 ;;
esac
"#;

fn fake() -> Fake {
    let extension = "apiVersion: v1\nkind: Service\nmetadata:\n  name: linkerd-gateway\n  namespace: linkerd-multicluster\n  annotations:\n    mirror.linkerd.io/gateway-identity: linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local\n    mirror.linkerd.io/probe-period: '3'\n    mirror.linkerd.io/probe-path: /ready\nspec: {type: LoadBalancer, ports: [{name: mc-gateway, port: 4143}, {name: mc-probe, port: 4191}], selector: {app: linkerd-gateway}}\n---\n";
    Fake::new()
        .tool("helm", HELM)
        .file(
            "gateway-api.yaml",
            &definition("httproutes", "HTTPRoute", "gateway.networking.k8s.io", "v1"),
        )
        .file(
            "linkerd-crds.yaml",
            &definition("servers", "Server", "policy.linkerd.io", "v1beta3"),
        )
        .file(
            "linkerd-control-plane.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: linkerd-config, namespace: linkerd}\ndata: {values: \"clusterDomain: cluster.local\\nidentityTrustDomain: cluster.local\"}\n",
        )
        .file(
            "linkerd-multicluster.yaml",
            &format!(
                "{extension}{}",
                definition("links", "Link", "multicluster.linkerd.io", "v1alpha3")
            ),
        )
}

fn installer(fake: &Fake) -> HelmInstaller {
    let chart = |name: &str| Chart {
        reference: format!("charts/{name}"),
        version: None,
    };
    let options = HelmOptions {
        crds: chart("linkerd-crds"),
        control_plane: chart("linkerd-control-plane"),
        multicluster: chart("linkerd-multicluster"),
        gateway_api_crds: Some(fake.path("gateway-api.yaml")),
        ..HelmOptions::default()
    };
    HelmInstaller::new(options, fake.tools())
}

fn values(fake: &Fake, release: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fake.path(&format!("values-{release}.json"))).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_are_installed_and_clusters_linked() {
    let world = World::new(&["west", "east"]).await;
    let fake = fake();
    let driver = Linkerd::new(Arc::new(installer(&fake)), PACE);
    let (topology, setup) = (topology("pair"), Setup::default());
    for cluster in world.clusters.values() {
        driver.install(cluster, &topology, &setup).await.unwrap();
    }
    let (west, east) = (world.get("west"), world.get("east"));

    // Keys are nowhere on a command line.
    let control_plane = values(&fake, "linkerd-control-plane");
    let key = control_plane["identity"]["issuer"]["tls"]["keyPEM"].as_str().unwrap();
    assert!(key.contains("BEGIN PRIVATE KEY"));
    assert!(!fake.log().contains("PRIVATE"));
    assert_eq!(values(&fake, "linkerd-crds")["installGatewayAPI"], false);
    assert!(
        fake.log()
            .contains("helm template linkerd-multicluster charts/linkerd-multicluster --namespace linkerd-multicluster --kube-version 1.33"),
        "{}",
        fake.log()
    );
    let namespaces: Api<Namespace> = Api::all(west.client.clone());
    let labels = namespaces
        .get("linkerd-multicluster")
        .await
        .unwrap()
        .metadata
        .labels
        .unwrap();
    assert_eq!(labels["linkerd.io/extension"], "multicluster");

    // There is no token yet: an honest refusal, not a broken link.
    let refused = driver.link(west, east, &setup).await.unwrap_err();
    assert_eq!(refused.code, "link-refused");
    assert!(refused.message.contains("token"), "{}", refused.message);
    let account = "linkerd-service-mirror-remote-access-default";
    let token = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "token", "namespace": "linkerd-multicluster", "annotations": {"kubernetes.io/service-account.name": account}}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "linkerd-multicluster"}});
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(east.client.clone(), "linkerd-multicluster");
    let secrets: Api<Secret> = Api::namespaced(east.client.clone(), "linkerd-multicluster");
    let parameters = PatchParams::apply("test");
    accounts
        .patch(
            "linkerd-service-mirror-remote-access-default",
            &parameters,
            &Patch::Apply(account),
        )
        .await
        .unwrap();
    secrets.patch("token", &parameters, &Patch::Apply(token)).await.unwrap();
    let filled = kube::runtime::wait::await_condition(secrets, "token", |secret: Option<&Secret>| {
        secret.is_some_and(|secret| secret.data.as_ref().is_some_and(|data| data.contains_key("token")))
    });
    tokio::time::timeout(std::time::Duration::from_secs(20), filled)
        .await
        .unwrap()
        .unwrap();

    driver.link(west, east, &setup).await.unwrap();
    assert_eq!(
        values(&fake, "linkerd-multicluster")["controllers"],
        json!([{"link": {"ref": {"name": "east"}}}])
    );
    for namespace in ["linkerd", "linkerd-multicluster"] {
        let secrets: Api<Secret> = Api::namespaced(west.client.clone(), namespace);
        let secret = secrets.get("cluster-credentials-east").await.unwrap();
        assert_eq!(credentials::wrong(&secret, "east"), Vec::<String>::new());
    }
    let resource = driver.resource("Link", None).unwrap();
    let links: Api<DynamicObject> = Api::namespaced_with(west.client.clone(), "linkerd-multicluster", &resource);
    let link = link::read(&serde_json::to_value(links.get("east").await.unwrap()).unwrap()).unwrap();
    assert_eq!(link.gateway.unwrap().probe_port, 4191);

    let refused = driver.uninstall(west).await.unwrap_err();
    assert_eq!(refused.code, "uninstall-refused");
    assert!(refused.message.ends_with("  * east"), "{}", refused.message);
    driver.unlink(west, east).await.unwrap();
    driver.uninstall(west).await.unwrap();
    assert!(namespaces.get_opt("linkerd").await.unwrap().is_none());
    assert!(namespaces.get_opt("linkerd-multicluster").await.unwrap().is_none());
}

#[tokio::test]
async fn the_version_is_that_of_the_charts_application() {
    let fake = fake();
    assert_eq!(installer(&fake).version().await.unwrap(), "edge-26.8.3");
    assert!(fake.log().starts_with("helm show chart charts/linkerd-control-plane"));
}
