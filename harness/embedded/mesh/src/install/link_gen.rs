//! What `linkerd multicluster link-gen` reads from a target cluster and prints for its source cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{created_by, strings};
use crate::defect::{Defect, Defects};
use crate::duration;
use crate::names::{
    CONTROL_PLANE_NAMESPACE, GATEWAY, GATEWAY_PORT_NAME, KUBECONFIG_KEY, LINKERD_CONFIG, MULTICLUSTER_NAMESPACE,
    PROBE_PORT_NAME, REMOTE_ACCESS, REMOTE_KUBECONFIG_TYPE, annotation, credentials_secret, label,
};

/// Options of the command; [`LinkGenOptions::new`] has its defaults.
#[derive(Clone, Debug)]
pub struct LinkGenOptions {
    /// `--cluster-name`: name of the target cluster and of the Link.
    pub cluster_name: String,
    /// `--api-server-address`: URL of the target's API server as pods of the source reach it.
    pub api_server_address: String,
    /// `--service-account-name`: ServiceAccount of the target whose token is handed over.
    pub service_account: String,
    /// `--gateway`: whether the target has one.
    pub gateway: bool,
    /// `--gateway-addresses`: instead of those in the gateway Service's status, separated by commas.
    pub gateway_addresses: Option<String>,
    /// `--gateway-port`: instead of the gateway Service's.
    pub gateway_port: Option<u16>,
    /// `--excluded-annotations`.
    pub excluded_annotations: Vec<String>,
    /// `--excluded-labels`.
    pub excluded_labels: Vec<String>,
}

impl LinkGenOptions {
    /// The command's defaults.
    #[must_use]
    pub fn new(cluster_name: impl Into<String>, api_server_address: impl Into<String>) -> Self {
        Self {
            cluster_name: cluster_name.into(),
            api_server_address: api_server_address.into(),
            service_account: REMOTE_ACCESS.to_owned(),
            gateway: true,
            gateway_addresses: None,
            gateway_port: None,
            excluded_annotations: Vec::new(),
            excluded_labels: Vec::new(),
        }
    }
}

/// Why the command refuses. Texts are the real command's.
#[derive(Debug, thiserror::Error)]
pub enum LinkGenError {
    /// `--cluster-name` is missing.
    #[error("you need to specify cluster name")]
    NoClusterName,
    /// There is no control plane in the target.
    #[error("you need Linkerd to be installed on a cluster in order to get its credentials")]
    NoControlPlane,
    /// `linkerd-config` cannot be read.
    #[error("{LINKERD_CONFIG}.{CONTROL_PLANE_NAMESPACE}: {0}")]
    Configuration(String),
    /// The ServiceAccount has no token Secret.
    #[error("could not find service account token secret for {0}")]
    NoToken(String),
    /// The token Secret has not been filled yet.
    #[error("could not find the token data in service account secret {0}")]
    EmptyToken(String),
    /// The gateway's load balancer has no address and none is given.
    #[error("gateway {GATEWAY}.{MULTICLUSTER_NAMESPACE} has no ingress addresses")]
    NoIngressAddress,
    /// The gateway Service lacks an annotation.
    #[error("gateway {GATEWAY}.{MULTICLUSTER_NAMESPACE} has no {0} annotation")]
    NoAnnotation(&'static str),
    /// The gateway Service lacks the probe path.
    #[error("probe path is empty")]
    NoProbePath,
    /// The gateway Service's probe period is neither a number of seconds nor a duration.
    #[error("could not parse probe period: time: invalid duration {0:?}")]
    ProbePeriod(String),
    /// The gateway Service lacks a port.
    #[error("{0}")]
    NoPort(String),
    /// The API server of the target refused or was out of reach.
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// What a Link needs to know of its target.
struct Facts {
    cluster_domain: String,
    trust_domain: String,
    token: Token,
    gateway: Option<Service>,
}

/// A bearer token and the certificate authority of the API server that takes it.
struct Token {
    token: String,
    authority: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// Two Secrets and a Link for the source cluster, made from what the target cluster's API says.
///
/// # Errors
/// [`LinkGenError`], with the texts of the real command.
pub async fn link_gen(
    target: &Client,
    defects: &Defects,
    options: &LinkGenOptions,
) -> Result<Vec<Value>, LinkGenError> {
    if options.cluster_name.is_empty() {
        return Err(LinkGenError::NoClusterName);
    }
    let facts = read(target, defects, options).await?;
    manifests(&facts, options)
}

/// What linking does to the target cluster: nothing, unless the model is told to be wrong. `linked` is what [`link_gen`]
/// returned.
#[must_use]
pub fn link_side_effects(defects: &Defects, linked: &[Value]) -> Vec<Value> {
    if !defects.has(Defect::LinkWritesToTarget) {
        return Vec::new();
    }
    linked
        .iter()
        .filter(|object| object["kind"] == "Link")
        .cloned()
        .collect()
}

async fn read(target: &Client, defects: &Defects, options: &LinkGenOptions) -> Result<Facts, LinkGenError> {
    let config = Api::<ConfigMap>::namespaced(target.clone(), CONTROL_PLANE_NAMESPACE)
        .get_opt(LINKERD_CONFIG)
        .await?
        .ok_or(LinkGenError::NoControlPlane)?;
    let (cluster_domain, trust_domain) = domains(&config)?;

    // The real command fails here when the account does not exist, with the API server's own text.
    Api::<ServiceAccount>::namespaced(target.clone(), MULTICLUSTER_NAMESPACE)
        .get(&options.service_account)
        .await?;
    let secrets = Api::<Secret>::namespaced(target.clone(), MULTICLUSTER_NAMESPACE)
        .list(&ListParams::default().fields("type=kubernetes.io/service-account-token"))
        .await?;
    let account = if defects.has(Defect::LinkAccountsShared) {
        REMOTE_ACCESS
    } else {
        &options.service_account
    };
    let token = token_of(&secrets.items, account)?;

    let gateway = if options.gateway {
        Some(
            Api::<Service>::namespaced(target.clone(), MULTICLUSTER_NAMESPACE)
                .get(GATEWAY)
                .await?,
        )
    } else {
        None
    };
    Ok(Facts {
        cluster_domain,
        trust_domain,
        token,
        gateway,
    })
}

fn domains(config: &ConfigMap) -> Result<(String, String), LinkGenError> {
    let values = config
        .data
        .as_ref()
        .and_then(|data| data.get("values"))
        .ok_or_else(|| LinkGenError::Configuration("key `values` is missing".to_owned()))?;
    let values: serde_yaml::Value = serde_yaml::from_str(values)
        .map_err(|error| LinkGenError::Configuration(format!("`values` is no YAML: {error}")))?;
    let text = |key: &str| {
        values
            .get(key)
            .and_then(serde_yaml::Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| LinkGenError::Configuration(format!("`values.{key}` is missing")))
    };
    Ok((text("clusterDomain")?, text("identityTrustDomain")?))
}

fn token_of(secrets: &[Secret], account: &str) -> Result<Token, LinkGenError> {
    let secret = secrets
        .iter()
        .find(|secret| {
            secret
                .metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(annotation::SERVICE_ACCOUNT_NAME))
                .is_some_and(|name| name == account)
        })
        .ok_or_else(|| LinkGenError::NoToken(account.to_owned()))?;
    let text = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
            .filter(|text| !text.is_empty())
            .ok_or_else(|| LinkGenError::EmptyToken(secret.metadata.name.clone().unwrap_or_default()))
    };
    Ok(Token {
        token: text("token")?,
        authority: text("ca.crt")?,
    })
}

fn manifests(facts: &Facts, options: &LinkGenOptions) -> Result<Vec<Value>, LinkGenError> {
    let cluster = &options.cluster_name;
    let link = link(facts, options)?;
    let kubeconfig = BASE64.encode(kubeconfig(&facts.token, options));
    let secret = |metadata: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": REMOTE_KUBECONFIG_TYPE,
            "data": {KUBECONFIG_KEY: kubeconfig}
        })
    };
    Ok(vec![
        secret(json!({"name": credentials_secret(cluster), "namespace": MULTICLUSTER_NAMESPACE})),
        secret(json!({
            "name": credentials_secret(cluster),
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": {label::CREDENTIALS_CLUSTER: cluster},
            "annotations": {
                annotation::CLUSTER_DOMAIN: facts.cluster_domain,
                annotation::TRUST_DOMAIN: facts.trust_domain
            }
        })),
        link,
    ])
}

/// One context whose user is the ServiceAccount. Written as JSON, which every reader of kubeconfigs takes as YAML.
fn kubeconfig(token: &Token, options: &LinkGenOptions) -> String {
    let cluster = &options.cluster_name;
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{
            "name": cluster,
            "cluster": {
                "server": options.api_server_address,
                "certificate-authority-data": BASE64.encode(&token.authority)
            }
        }],
        "contexts": [{
            "name": cluster,
            "context": {"cluster": cluster, "user": options.service_account}
        }],
        "current-context": cluster,
        "users": [{"name": options.service_account, "user": {"token": token.token}}]
    })
    .to_string()
}

fn link(facts: &Facts, options: &LinkGenOptions) -> Result<Value, LinkGenError> {
    let cluster = &options.cluster_name;
    let selector = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let mut spec = json!({
        "targetClusterName": cluster,
        "targetClusterDomain": facts.cluster_domain,
        "targetClusterLinkerdNamespace": CONTROL_PLANE_NAMESPACE,
        "clusterCredentialsSecret": credentials_secret(cluster),
        "remoteDiscoverySelector": selector(label::EXPORTED, "remote-discovery"),
        "federatedServiceSelector": selector(label::FEDERATED, "member")
    });
    for (field, excluded) in [
        ("excludedAnnotations", &options.excluded_annotations),
        ("excludedLabels", &options.excluded_labels),
    ] {
        if !excluded.is_empty() {
            spec[field] = json!(excluded);
        }
    }
    if let Some(gateway) = &facts.gateway {
        let facts = GatewayFacts::of(gateway, options)?;
        spec["gatewayAddress"] = facts.addresses.into();
        spec["gatewayIdentity"] = facts.identity.into();
        spec["gatewayPort"] = facts.port.to_string().into();
        // failureThreshold and timeout are left to the CRD's defaults, as the real command does.
        spec["probeSpec"] = json!({
            "path": facts.probe_path,
            "port": facts.probe_port.to_string(),
            "period": facts.probe_period
        });
        spec["selector"] = selector(label::EXPORTED, "true");
    }
    Ok(json!({
        "apiVersion": "multicluster.linkerd.io/v1alpha3",
        "kind": "Link",
        "metadata": {
            "name": cluster,
            "namespace": MULTICLUSTER_NAMESPACE,
            "annotations": strings([created_by()])
        },
        "spec": spec
    }))
}

struct GatewayFacts {
    addresses: String,
    identity: String,
    port: i32,
    probe_path: String,
    probe_port: i32,
    probe_period: String,
}

impl GatewayFacts {
    fn of(gateway: &Service, options: &LinkGenOptions) -> Result<Self, LinkGenError> {
        let none = BTreeMap::new();
        let annotations = gateway.metadata.annotations.as_ref().unwrap_or(&none);
        let annotated = |key: &'static str| annotations.get(key).filter(|text| !text.is_empty()).cloned();
        let addresses = match &options.gateway_addresses {
            Some(addresses) => addresses.clone(),
            None => ingress_addresses(gateway).ok_or(LinkGenError::NoIngressAddress)?,
        };
        let identity =
            annotated(annotation::GATEWAY_IDENTITY).ok_or(LinkGenError::NoAnnotation(annotation::GATEWAY_IDENTITY))?;
        let probe_path = annotated(annotation::PROBE_PATH).ok_or(LinkGenError::NoProbePath)?;
        let probe_port = reachable_port(gateway, PROBE_PORT_NAME)
            .ok_or_else(|| LinkGenError::NoPort(format!("could not find port with name {PROBE_PORT_NAME}")))?;
        let probe_period = period(annotations.get(annotation::PROBE_PERIOD).map_or("", |p| p))?;
        let port = match options.gateway_port {
            Some(port) => i32::from(port),
            None => reachable_port(gateway, GATEWAY_PORT_NAME).ok_or_else(|| {
                LinkGenError::NoPort(format!(
                    "gateway service {GATEWAY} has no gateway port named {GATEWAY_PORT_NAME}"
                ))
            })?,
        };
        Ok(Self {
            addresses,
            identity,
            port,
            probe_path,
            probe_port,
            probe_period,
        })
    }
}

fn ingress_addresses(gateway: &Service) -> Option<String> {
    let ingress = gateway.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    let addresses: Vec<&str> = ingress
        .iter()
        .filter_map(|entry| {
            entry
                .ip
                .as_deref()
                .filter(|ip| !ip.is_empty())
                .or(entry.hostname.as_deref())
        })
        .filter(|address| !address.is_empty())
        .collect();
    (!addresses.is_empty()).then(|| addresses.join(","))
}

/// The node port of a NodePort Service, else the Service's own.
fn reachable_port(service: &Service, name: &str) -> Option<i32> {
    let spec = service.spec.as_ref()?;
    let port = spec
        .ports
        .as_ref()?
        .iter()
        .find(|port| port.name.as_deref() == Some(name))?;
    if spec.type_.as_deref() == Some("NodePort") {
        port.node_port
    } else {
        Some(port.port)
    }
}

/// The annotation holds seconds (`3`) or a duration (`3s`); the Link wants a duration.
fn period(annotation: &str) -> Result<String, LinkGenError> {
    if let Ok(seconds) = annotation.parse::<u32>() {
        return Ok(duration::format(Duration::from_secs(seconds.into())));
    }
    duration::parse(annotation)
        .map(|_| annotation.to_owned())
        .ok_or_else(|| LinkGenError::ProbePeriod(annotation.to_owned()))
}

#[cfg(test)]
mod tests;
