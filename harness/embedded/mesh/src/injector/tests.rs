use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshproof_apiserver::store::StoreConfig;
use meshproof_apiserver::{Store, gvr};
use rstest::rstest;
use serde_json::{Value, json};

use super::Injector;
use crate::install::{ControlPlaneValues, Trust, control_plane};

/// A cluster with a control plane's configuration, a namespace `shop` with these annotations, and an injector.
fn cluster(annotations: Value) -> (Store, Injector) {
    let store = Store::new(StoreConfig::default());
    let injector = Injector::default();
    injector.serving.fetch_add(1, Ordering::Relaxed);
    store.add_mutator(gvr::PODS, Arc::new(injector.clone()));
    let values = ControlPlaneValues::new(Trust {
        anchors: "anchors\n".into(),
        issuer_certificate: "issuer".into(),
        issuer_key: "key".into(),
    });
    for object in control_plane(&values) {
        let resource = match object["kind"].as_str() {
            Some("Namespace") => &gvr::NAMESPACES,
            Some("ConfigMap") => &gvr::CONFIG_MAPS,
            _ => continue,
        };
        store.create(resource, None, object).unwrap();
    }
    let namespace = json!({"metadata": {"name": "shop", "annotations": annotations}});
    store.create(&gvr::NAMESPACES, None, namespace).unwrap();
    (store, injector)
}

fn create(store: &Store, namespace: &str, metadata: Value) -> Result<Arc<Value>, String> {
    let mut pod = json!({
        "metadata": {"name": "client"},
        "spec": {"containers": [{"name": "app", "image": "agent", "ports": [{"containerPort": 8080}, {"containerPort": 9090}]}]}
    });
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    store
        .create(&gvr::PODS, Some(namespace), pod)
        .map_err(|status| status.message)
}

fn proxy(pod: &Value) -> Option<&Value> {
    pod["spec"]["initContainers"]
        .as_array()?
        .iter()
        .find(|container| container["name"] == "linkerd-proxy")
}

fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    proxy(pod)?["env"]
        .as_array()?
        .iter()
        .find(|variable| variable["name"] == name)?["value"]
        .as_str()
}

#[rstest]
#[case::nobody_asks(json!({}), json!({}), false)]
#[case::the_pod_asks(json!({}), json!({"linkerd.io/inject": "enabled"}), true)]
#[case::the_namespace_asks(json!({"linkerd.io/inject": "enabled"}), json!({}), true)]
#[case::the_pod_declines(json!({"linkerd.io/inject": "enabled"}), json!({"linkerd.io/inject": "disabled"}), false)]
#[case::not_a_wish(json!({}), json!({"linkerd.io/inject": "true"}), false)]
fn a_pod_is_injected_when_asked_for(#[case] namespace: Value, #[case] pod: Value, #[case] injected: bool) {
    let (store, _) = cluster(namespace);
    let pod = create(&store, "shop", json!({"annotations": pod})).unwrap();
    assert_eq!(proxy(&pod).is_some(), injected);
}

#[test]
fn the_sidecar_has_the_recorded_shape() {
    let (store, _) = cluster(json!({"linkerd.io/inject": "enabled"}));
    let pod = create(
        &store,
        "shop",
        json!({
            "labels": {"pod-template-hash": "5d77bccf9b"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "client-5d77bccf9b", "uid": "1", "controller": true
            }]
        }),
    )
    .unwrap();
    let metadata = &pod["metadata"];
    assert_eq!(
        metadata["labels"],
        json!({
            "pod-template-hash": "5d77bccf9b",
            "linkerd.io/control-plane-ns": "linkerd",
            "linkerd.io/proxy-deployment": "client",
            "linkerd.io/workload-ns": "shop"
        })
    );
    assert_eq!(metadata["annotations"]["linkerd.io/inject"], "enabled");
    assert_eq!(
        metadata["annotations"]["linkerd.io/proxy-version"],
        crate::names::VERSION
    );
    // printf anchors | sha256sum
    assert_eq!(
        metadata["annotations"]["linkerd.io/trust-root-sha256"],
        "197129aec34bcd1814b9f325984f4fc47efee8a39bafc0f6d2f8e304a0f2699e"
    );
    let proxy = proxy(&pod).unwrap();
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(
        proxy["ports"],
        json!([
            {"containerPort": 4143, "name": "linkerd-proxy", "protocol": "TCP"},
            {"containerPort": 4191, "name": "linkerd-admin", "protocol": "TCP"}
        ])
    );
    assert_eq!(variable(&pod, "LINKERD2_PROXY_INBOUND_PORTS"), Some("8080,9090"));
    assert_eq!(
        variable(&pod, "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"),
        Some("all-unauthenticated")
    );
    assert_eq!(variable(&pod, "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES"), None);
    assert_eq!(
        variable(&pod, "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"),
        Some("$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local")
    );
}

#[test]
fn a_gateway_is_told_what_it_is() {
    let (store, _) = cluster(json!({}));
    let pod = create(
        &store,
        "shop",
        json!({"annotations": {
            "linkerd.io/inject": "enabled",
            "config.linkerd.io/enable-gateway": "true",
            "config.linkerd.io/proxy-require-identity-inbound-ports": "4143",
            "config.linkerd.io/default-inbound-policy": "all-authenticated"
        }}),
    )
    .unwrap();
    assert_eq!(
        variable(&pod, "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES"),
        Some("svc.cluster.local.")
    );
    assert_eq!(
        variable(&pod, "LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY"),
        Some("4143")
    );
    assert_eq!(
        variable(&pod, "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"),
        Some("all-authenticated")
    );
}

#[test]
fn a_namespace_configures_its_pods() {
    let (store, _) = cluster(json!({
        "linkerd.io/inject": "enabled",
        "config.linkerd.io/opaque-ports": "9090",
        "config.linkerd.io/default-inbound-policy": "deny",
        "unrelated": "x"
    }));
    let own = json!({"annotations": {"config.linkerd.io/default-inbound-policy": "all-authenticated"}});
    let pod = create(&store, "shop", own).unwrap();
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["config.linkerd.io/opaque-ports"], "9090");
    assert_eq!(
        annotations["config.linkerd.io/default-inbound-policy"],
        "all-authenticated"
    );
    assert!(annotations.get("unrelated").is_none());
    assert_eq!(
        variable(&pod, "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"),
        Some("9090")
    );
}

#[test]
fn without_a_running_injector_or_control_plane_pods_start_without_a_proxy() {
    let asking = json!({"annotations": {"linkerd.io/inject": "enabled"}});
    let (store, injector) = cluster(json!({}));
    injector.serving.fetch_sub(1, Ordering::Relaxed);
    assert!(proxy(&create(&store, "shop", asking.clone()).unwrap()).is_none());

    let (store, _) = cluster(json!({}));
    store
        .delete(
            &gvr::CONFIG_MAPS,
            Some("linkerd"),
            "linkerd-config",
            &Default::default(),
        )
        .unwrap();
    assert!(proxy(&create(&store, "shop", asking.clone()).unwrap()).is_none());
    assert!(proxy(&create(&store, "kube-system", asking).unwrap()).is_none());
}

#[test]
fn ingress_mode_is_refused() {
    let (store, _) = cluster(json!({}));
    let error = create(&store, "shop", json!({"annotations": {"linkerd.io/inject": "ingress"}})).unwrap_err();
    assert!(error.contains("ingress mode is not modelled"), "{error}");
}
