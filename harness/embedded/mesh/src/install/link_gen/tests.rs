use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use rstest::rstest;
use serde_json::{Value, json};

use super::{Facts, LinkGenOptions, Token, domains, link_side_effects, manifests, token_of};
use crate::defect::{Defect, Defects};

fn gateway(spec: Value, status: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {
            "name": "linkerd-gateway",
            "namespace": "linkerd-multicluster",
            "annotations": {
                "mirror.linkerd.io/gateway-identity":
                    "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local",
                "mirror.linkerd.io/probe-period": "3",
                "mirror.linkerd.io/probe-path": "/ready"
            }
        },
        "spec": spec,
        "status": status
    }))
    .unwrap()
}

fn node_port_gateway() -> Service {
    gateway(
        json!({"type": "NodePort", "ports": [
            {"name": "mc-gateway", "port": 4143, "nodePort": 30143},
            {"name": "mc-probe", "port": 4191, "nodePort": 30191}
        ]}),
        json!({"loadBalancer": {}}),
    )
}

fn balanced_gateway() -> Service {
    gateway(
        json!({"type": "LoadBalancer", "ports": [
            {"name": "mc-gateway", "port": 4143, "nodePort": 31000},
            {"name": "mc-probe", "port": 4191, "nodePort": 31001}
        ]}),
        json!({"loadBalancer": {"ingress": [{"ip": "172.18.0.2"}, {"hostname": "gateway.example"}, {}]}}),
    )
}

fn facts(gateway: Option<Service>) -> Facts {
    Facts {
        cluster_domain: "cluster.local".into(),
        trust_domain: "cluster.local".into(),
        token: Token {
            token: "bearer".into(),
            authority: "authority".into(),
        },
        gateway,
    }
}

fn options() -> LinkGenOptions {
    LinkGenOptions::new("east", "https://172.18.0.3:6443")
}

fn decoded_kubeconfig(secret: &Value) -> Value {
    let secret: Secret = serde_json::from_value(secret.clone()).unwrap();
    serde_json::from_slice(&secret.data.unwrap()["kubeconfig"].0).unwrap()
}

/// Recorded from the real command against a cluster with a NodePort gateway and `--gateway-addresses`.
#[test]
fn the_link_has_the_recorded_shape() {
    let options = LinkGenOptions {
        gateway_addresses: Some("172.18.0.3".into()),
        ..options()
    };
    let objects = manifests(&facts(Some(node_port_gateway())), &options).unwrap();
    let mut link = objects[2].clone();
    assert!(
        link["metadata"]["annotations"]["linkerd.io/created-by"]
            .as_str()
            .unwrap()
            .starts_with("linkerd/cli ")
    );
    link["metadata"]["annotations"]["linkerd.io/created-by"] = "linkerd/cli git-b24cd405".into();
    assert_eq!(
        link,
        json!({
            "apiVersion": "multicluster.linkerd.io/v1alpha3",
            "kind": "Link",
            "metadata": {
                "annotations": {"linkerd.io/created-by": "linkerd/cli git-b24cd405"},
                "name": "east",
                "namespace": "linkerd-multicluster"
            },
            "spec": {
                "clusterCredentialsSecret": "cluster-credentials-east",
                "federatedServiceSelector": {"matchLabels": {"mirror.linkerd.io/federated": "member"}},
                "gatewayAddress": "172.18.0.3",
                "gatewayIdentity":
                    "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local",
                "gatewayPort": "30143",
                "probeSpec": {"path": "/ready", "period": "3s", "port": "30191"},
                "remoteDiscoverySelector": {"matchLabels": {"mirror.linkerd.io/exported": "remote-discovery"}},
                "selector": {"matchLabels": {"mirror.linkerd.io/exported": "true"}},
                "targetClusterDomain": "cluster.local",
                "targetClusterLinkerdNamespace": "linkerd",
                "targetClusterName": "east"
            }
        })
    );
}

#[test]
fn the_secrets_have_the_recorded_shape() {
    let objects = manifests(&facts(Some(balanced_gateway())), &options()).unwrap();
    assert_eq!(objects.len(), 3);
    let [mirror, destination] = [&objects[0], &objects[1]];
    for secret in [mirror, destination] {
        assert_eq!(secret["metadata"]["name"], "cluster-credentials-east");
        assert_eq!(secret["type"], "mirror.linkerd.io/remote-kubeconfig");
        let kubeconfig = decoded_kubeconfig(secret);
        assert_eq!(
            kubeconfig["clusters"][0]["cluster"]["server"],
            "https://172.18.0.3:6443"
        );
        assert_eq!(kubeconfig["users"][0]["user"]["token"], "bearer");
        assert_eq!(
            kubeconfig["users"][0]["name"],
            kubeconfig["contexts"][0]["context"]["user"]
        );
        kube::config::Kubeconfig::from_yaml(&kubeconfig.to_string()).unwrap();
    }
    assert_eq!(mirror["metadata"]["namespace"], "linkerd-multicluster");
    assert!(mirror["metadata"].get("labels").is_none());
    assert_eq!(
        destination["metadata"],
        json!({
            "name": "cluster-credentials-east",
            "namespace": "linkerd",
            "labels": {"multicluster.linkerd.io/cluster-name": "east"},
            "annotations": {
                "multicluster.linkerd.io/cluster-domain": "cluster.local",
                "multicluster.linkerd.io/trust-domain": "cluster.local"
            }
        })
    );
}

#[test]
fn a_load_balancer_gives_its_addresses_and_own_ports() {
    let objects = manifests(&facts(Some(balanced_gateway())), &options()).unwrap();
    let spec = &objects[2]["spec"];
    assert_eq!(spec["gatewayAddress"], "172.18.0.2,gateway.example");
    assert_eq!(spec["gatewayPort"], "4143");
    assert_eq!(spec["probeSpec"]["port"], "4191");
}

#[test]
fn without_a_gateway_the_link_says_nothing_of_one() {
    let spec = manifests(&facts(None), &options()).unwrap()[2]["spec"].clone();
    for field in [
        "gatewayAddress",
        "gatewayPort",
        "gatewayIdentity",
        "probeSpec",
        "selector",
    ] {
        assert!(spec.get(field).is_none(), "{field}");
    }
}

#[rstest]
#[case::address(|g: &mut Service| g.status = None, "gateway linkerd-gateway.linkerd-multicluster has no ingress addresses")]
#[case::identity(
    |g: &mut Service| { g.metadata.annotations.as_mut().unwrap().remove("mirror.linkerd.io/gateway-identity"); },
    "gateway linkerd-gateway.linkerd-multicluster has no mirror.linkerd.io/gateway-identity annotation"
)]
#[case::path(
    |g: &mut Service| { g.metadata.annotations.as_mut().unwrap().remove("mirror.linkerd.io/probe-path"); },
    "probe path is empty"
)]
#[case::period(
    |g: &mut Service| { g.metadata.annotations.as_mut().unwrap().insert("mirror.linkerd.io/probe-period".into(), "often".into()); },
    "could not parse probe period: time: invalid duration \"often\""
)]
#[case::port(|g: &mut Service| g.spec.as_mut().unwrap().ports = None, "could not find port with name mc-probe")]
fn an_unusable_gateway_is_refused(#[case] spoil: fn(&mut Service), #[case] text: &str) {
    let mut gateway = balanced_gateway();
    spoil(&mut gateway);
    let error = manifests(&facts(Some(gateway)), &options()).unwrap_err();
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_token_belongs_to_its_account() {
    let secret = |name: &str, account: &str, data: Value| -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
            "data": data
        }))
        .unwrap()
    };
    let full = json!({"token": "dG9rZW4=", "ca.crt": "Y2E="});
    let secrets = [secret("a", "other", full.clone()), secret("b", "mine", full)];
    assert_eq!(token_of(&secrets, "mine").unwrap().token, "token");
    assert_eq!(
        token_of(&secrets, "nobody").unwrap_err().to_string(),
        "could not find service account token secret for nobody"
    );
    assert_eq!(
        token_of(&[secret("c", "mine", json!({}))], "mine")
            .unwrap_err()
            .to_string(),
        "could not find the token data in service account secret c"
    );
}

#[test]
fn a_broken_configuration_is_named() {
    let config = |values: Value| -> ConfigMap { serde_json::from_value(json!({"data": values})).unwrap() };
    assert_eq!(
        domains(&config(json!({"values": "clusterDomain: a\nidentityTrustDomain: b\n"}))).unwrap(),
        ("a".into(), "b".into())
    );
    for values in [json!({}), json!({"values": "clusterDomain: a"}), json!({"values": "{"})] {
        let error = domains(&config(values)).unwrap_err().to_string();
        assert!(error.starts_with("linkerd-config.linkerd: "), "{error}");
    }
}

#[test]
fn linking_touches_the_target_only_when_the_defect_is_on() {
    let linked = manifests(&facts(Some(balanced_gateway())), &options()).unwrap();
    assert!(link_side_effects(&Defects::default(), &linked).is_empty());
    let defects = [Defect::LinkWritesToTarget].into_iter().collect();
    assert_eq!(link_side_effects(&defects, &linked), [linked[2].clone()]);
}
