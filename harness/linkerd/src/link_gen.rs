//! What `linkerd multicluster link-gen` prints, made from the target's objects: for installations by chart, where no CLI is
//! at hand. The chart has no template for it.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::{Api, ListParams};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde_json::{Value, json};

use crate::installer::LinkValues;
use crate::names::{
    self, CONTROL_NAMESPACE, CREDENTIALS_CLUSTER, CREDENTIALS_CLUSTER_DOMAIN, CREDENTIALS_TRUST_DOMAIN,
    CREDENTIALS_TYPE, EXPORTED, FEDERATED, GATEWAY, GATEWAY_IDENTITY, MULTICLUSTER_NAMESPACE,
};

const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Credentials and Link for `target`. A gateway on node ports is linked at `values.node_address`.
pub(crate) async fn link_gen(target: &Cluster, values: &LinkValues, node_port: bool) -> Result<Vec<Value>, Problem> {
    let refused = |what: &str| {
        problem::mesh(
            "link-refused",
            format!("cluster {}: {what}", target.name),
            Some("check the extension's installation in the target"),
        )
    };
    let unreadable = |what: &str, error: &kube::Error| {
        problem::environment(
            "api-refused",
            format!("cluster {}: read {what}: {error}", target.name),
            None,
        )
    };
    let maps: Api<ConfigMap> = Api::namespaced(target.client.clone(), CONTROL_NAMESPACE);
    let config = maps.get_opt("linkerd-config").await;
    let config: Value = config
        .map_err(|error| unreadable("linkerd-config", &error))?
        .and_then(|map| map.data)
        .and_then(|mut data| data.remove("values"))
        .and_then(|values| serde_yaml::from_str(&values).ok())
        .ok_or_else(|| refused("there is no ConfigMap linkerd/linkerd-config with values"))?;
    let secrets: Api<Secret> = Api::namespaced(target.client.clone(), MULTICLUSTER_NAMESPACE);
    let of_accounts = ListParams::default().fields("type=kubernetes.io/service-account-token");
    let token = secrets
        .list(&of_accounts)
        .await
        .map_err(|error| unreadable("token Secrets", &error))?
        .into_iter()
        .find(|secret| {
            let annotations = secret.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(ACCOUNT)) == Some(&values.service_account)
        })
        .and_then(|secret| secret.data?.remove("token"))
        .and_then(|token| String::from_utf8(token.0).ok())
        .ok_or_else(|| {
            refused(&format!(
                "there is no token of ServiceAccount {}",
                values.service_account
            ))
        })?;
    let gateway = if values.gateway {
        let services: Api<Service> = Api::namespaced(target.client.clone(), MULTICLUSTER_NAMESPACE);
        let found = services.get_opt(GATEWAY).await;
        let service = found
            .map_err(|error| unreadable("the gateway", &error))?
            .ok_or_else(|| refused("there is no Service linkerd-gateway"))?;
        Some(
            gateway(
                &service,
                node_port.then_some(&values.node_address).or(values.relayed_at.as_ref()),
            )
            .map_err(|what| refused(&what))?,
        )
    } else {
        None
    };
    let kubeconfig = kubeconfig(&target.kubeconfig, values, &token).ok_or_else(|| {
        problem::environment(
            "kubeconfig-malformed",
            format!(
                "cluster {}: its kubeconfig has no current context with a cluster",
                target.name
            ),
            None,
        )
    })?;
    Ok(manifests(values, &config, &kubeconfig, gateway))
}

/// The gateway's part of a Link's spec.
fn gateway(service: &Service, at: Option<&String>) -> Result<Value, String> {
    let annotation = |key: &str| {
        let value = service.metadata.annotations.as_ref().and_then(|all| all.get(key));
        value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("Service {GATEWAY} has no annotation {key}"))
    };
    let spec = service.spec.as_ref();
    let node_port = spec.and_then(|spec| spec.type_.as_deref()) == Some("NodePort");
    let port = |name: &str| {
        spec.and_then(|spec| spec.ports.as_ref())
            .into_iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| if node_port { port.node_port } else { Some(port.port) })
            .map(|port| port.to_string())
            .ok_or_else(|| format!("Service {GATEWAY} has no port {name}"))
    };
    let status = || {
        let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
        let addresses: Vec<String> = ingress
            .iter()
            .filter_map(|one| one.ip.clone().or_else(|| one.hostname.clone()))
            .collect();
        (!addresses.is_empty()).then(|| addresses.join(","))
    };
    let address = at
        .cloned()
        .or_else(status)
        .ok_or_else(|| format!("gateway {GATEWAY}.{MULTICLUSTER_NAMESPACE} has no ingress addresses"))?;
    // Seconds as a number, or a duration already.
    let period = annotation("mirror.linkerd.io/probe-period")?;
    let period = period
        .parse::<u64>()
        .map_or_else(|_| period.clone(), |seconds| format!("{seconds}s"));
    Ok(json!({
        "gatewayAddress": address,
        "gatewayIdentity": annotation(GATEWAY_IDENTITY)?,
        "gatewayPort": port("mc-gateway")?,
        "probeSpec": {
            "path": annotation("mirror.linkerd.io/probe-path")?,
            "port": port("mc-probe")?,
            "period": period,
        },
        "selector": {"matchLabels": {EXPORTED: "true"}},
    }))
}

/// A kubeconfig for pods of another cluster.
fn kubeconfig(own: &str, values: &LinkValues, token: &str) -> Option<String> {
    let config: Value = serde_yaml::from_str(own).ok()?;
    let named = |list: &str, name: &Value| {
        let entries = config[list].as_array()?;
        entries.iter().find(|entry| entry["name"] == *name)
    };
    let current = &config["current-context"];
    let cluster_name = &named("contexts", current)?["context"]["cluster"];
    let mut cluster = named("clusters", cluster_name)?["cluster"].clone();
    cluster["server"] = values.api_server.as_str().into();
    let account = &values.service_account;
    serde_yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": cluster_name, "cluster": cluster}],
        "contexts": [{"name": current, "context": {"cluster": cluster_name, "user": account}}],
        "users": [{"name": account, "user": {"token": token}}],
    }))
    .ok()
}

fn manifests(values: &LinkValues, config: &Value, kubeconfig: &str, gateway: Option<Value>) -> Vec<Value> {
    let name = &values.name;
    let data = json!({"kubeconfig": ByteString(kubeconfig.as_bytes().to_vec())});
    let domain = config["clusterDomain"].as_str().unwrap_or(names::DEFAULT_DOMAIN);
    let trust_domain = config["identityTrustDomain"].as_str().filter(|text| !text.is_empty());
    let secret = |metadata: Value| json!({"apiVersion": "v1", "kind": "Secret", "type": CREDENTIALS_TYPE, "metadata": metadata, "data": data});
    let mut spec = json!({
        "targetClusterName": name,
        "targetClusterDomain": domain,
        "targetClusterLinkerdNamespace": CONTROL_NAMESPACE,
        "clusterCredentialsSecret": names::credentials(name),
        "remoteDiscoverySelector": {"matchLabels": {EXPORTED: "remote-discovery"}},
        "federatedServiceSelector": {"matchLabels": {FEDERATED: "member"}},
    });
    if let (Some(Value::Object(gateway)), Some(spec)) = (gateway, spec.as_object_mut()) {
        spec.extend(gateway);
    }
    vec![
        secret(json!({"name": names::credentials(name), "namespace": MULTICLUSTER_NAMESPACE})),
        secret(json!({
            "name": names::credentials(name), "namespace": CONTROL_NAMESPACE,
            "labels": {CREDENTIALS_CLUSTER: name},
            "annotations": {
                CREDENTIALS_TRUST_DOMAIN: trust_domain.unwrap_or(domain),
                CREDENTIALS_CLUSTER_DOMAIN: domain,
            },
        })),
        json!({
            "apiVersion": "multicluster.linkerd.io/v1alpha3",
            "kind": "Link",
            "metadata": {"name": name, "namespace": MULTICLUSTER_NAMESPACE},
            "spec": spec,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::{gateway, kubeconfig, manifests};
    use crate::installer::LinkValues;
    use crate::readiness::{credentials, link};
    use k8s_openapi::api::core::v1::{Secret, Service};
    use meshproof_spec::scenario::GatewayExposure;
    use serde_json::{Value, json};

    fn values() -> LinkValues {
        LinkValues {
            name: "east".into(),
            api_server: "https://172.18.0.3:6443".into(),
            service_account: "for-links".into(),
            gateway: true,
            exposure: GatewayExposure::Loadbalancer,
            node_address: "172.18.0.3".into(),
            relayed_at: None,
        }
    }

    fn service(kind: &str) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "linkerd-gateway", "annotations": {
                "mirror.linkerd.io/gateway-identity": "gw.id", "mirror.linkerd.io/probe-period": "3",
                "mirror.linkerd.io/probe-path": "/ready"}},
            "spec": {"type": kind, "ports": [
                {"name": "mc-gateway", "port": 4143, "nodePort": 30143}, {"name": "mc-probe", "port": 4191, "nodePort": 30191}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "gw.example"}]}}
        }))
        .unwrap()
    }

    #[test]
    fn a_link_has_the_gateway_as_its_service_says() {
        let balanced = gateway(&service("LoadBalancer"), None).unwrap();
        assert_eq!(balanced["gatewayAddress"], "10.0.0.1,gw.example");
        assert_eq!(balanced["gatewayPort"], "4143");
        assert_eq!(
            balanced["probeSpec"],
            json!({"path": "/ready", "port": "4191", "period": "3s"})
        );
        let node = gateway(&service("NodePort"), Some(&"172.18.0.3".into())).unwrap();
        assert_eq!(
            (&node["gatewayAddress"], &node["gatewayPort"]),
            (&json!("172.18.0.3"), &json!("30143"))
        );
        let mut without = service("LoadBalancer");
        without.status = None;
        assert_eq!(
            gateway(&without, None).unwrap_err(),
            "gateway linkerd-gateway.linkerd-multicluster has no ingress addresses"
        );
    }

    #[test]
    fn what_is_made_is_what_readers_need() {
        let own = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: e, user: admin}}]\nclusters: [{name: e, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: Q0E=}}]\nusers: [{name: admin, user: {token: admins}}]\n";
        let travelling = kubeconfig(own, &values(), "theirs").unwrap();
        let read: Value = serde_yaml::from_str(&travelling).unwrap();
        assert_eq!(read["clusters"][0]["cluster"]["server"], "https://172.18.0.3:6443");
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], "Q0E=");
        assert_eq!(
            read["users"][0],
            json!({"name": "for-links", "user": {"token": "theirs"}})
        );
        assert!(!travelling.contains("admins"));

        let gateway = gateway(&service("LoadBalancer"), None).unwrap();
        let made = manifests(
            &values(),
            &json!({"clusterDomain": "east.local"}),
            &travelling,
            Some(gateway),
        );
        for secret in &made[..2] {
            let secret: Secret = serde_json::from_value(secret.clone()).unwrap();
            assert_eq!(credentials::wrong(&secret, "east"), Vec::<String>::new());
        }
        let link = link::read(&made[2]).unwrap();
        assert_eq!(link.gateway.unwrap().probe_port, 4191);
        let flat = manifests(&values(), &json!({}), &travelling, None);
        assert!(link::read(&flat[2]).unwrap().gateway.is_none());
        assert!(flat[2]["spec"].get("selector").is_none());
    }
}
