//! The proxy injector: adds the sidecar to pods that ask for it, as they are created.
//!
//! The real one is a mutating webhook with failure policy `Ignore`: while it does not run, pods start without a proxy.
//!
//! # Not modelled
//! The `linkerd-init` container (the sidecar takes over the pod's connections itself), the debug container, resource
//! settings, and `linkerd.io/inject: ingress`, which is refused.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use meshproof_apiserver::gvr;
use meshproof_apiserver::store::{Lookup, Mutator};
use meshproof_cluster::program::{ContainerContext, Exit, Program};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::model::{Model, image};
use crate::names::{
    CONTROL_PLANE_NAMESPACE, LINKERD_CONFIG, PROXY_ADMIN_PORT, PROXY_INBOUND_PORT, TRUST_ROOTS, annotation, label,
};

/// Prefix of annotations that configure a proxy; a namespace's hold for its pods.
const CONFIG_PREFIX: &str = "config.linkerd.io/";
/// Ports whose protocol is not detected unless a pod says otherwise.
const DEFAULT_OPAQUE_PORTS: &str = "25,587,3306,4444,5432,6379,9300,11211";
/// Namespaces that the webhook does not look at.
const EXEMPT_NAMESPACES: [&str; 2] = ["kube-system", "cert-manager"];

/// Injects into the pods of one cluster while its program runs. Clones are the same injector.
#[derive(Clone, Debug, Default)]
pub struct Injector {
    /// How many pods of the injector run.
    serving: Arc<AtomicUsize>,
}

/// What the injector knows of its control plane.
struct Configuration {
    version: String,
    trust_domain: String,
    cluster_domain: String,
    trust_anchors: String,
}

impl Injector {
    /// Whether pods are injected now.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed) > 0
    }
}

impl Mutator for Injector {
    fn mutate(&self, lookup: &Lookup<'_>, namespace: &str, pod: &mut Value) -> Result<(), String> {
        if !self.is_serving() || EXEMPT_NAMESPACES.contains(&namespace) {
            return Ok(());
        }
        let Some(namespace_object) = lookup(&gvr::NAMESPACES, None, namespace) else {
            return Ok(());
        };
        let inherited = &namespace_object["metadata"]["annotations"];
        let asked =
            text(&pod["metadata"]["annotations"][annotation::INJECT]).or_else(|| text(&inherited[annotation::INJECT]));
        match asked {
            Some("enabled") => {}
            Some("ingress") => {
                return Err(format!(
                    "{}: ingress mode is not modelled; use `enabled` or `disabled`",
                    annotation::INJECT
                ));
            }
            _ => return Ok(()),
        }
        if pod["spec"]["hostNetwork"] == true || has_proxy(pod) {
            return Ok(());
        }
        let Some(configuration) = configuration(lookup) else {
            return Ok(());
        };
        inherit(pod, inherited);
        inject(namespace, pod, &configuration);
        Ok(())
    }
}

/// `None` when there is no control plane, or one that is being taken away.
fn configuration(lookup: &Lookup<'_>) -> Option<Configuration> {
    let config_map = |name: &str| lookup(&gvr::CONFIG_MAPS, Some(CONTROL_PLANE_NAMESPACE), name);
    let config = config_map(LINKERD_CONFIG)?;
    let values: serde_yaml::Value = serde_yaml::from_str(text(&config["data"]["values"])?).ok()?;
    let value = |key: &str| Some(values.get(key)?.as_str()?.to_owned());
    let roots = config_map(TRUST_ROOTS)?;
    Some(Configuration {
        version: value("linkerdVersion")?,
        trust_domain: value("identityTrustDomain")?,
        cluster_domain: value("clusterDomain")?,
        trust_anchors: text(&roots["data"]["ca-bundle.crt"])?.to_owned(),
    })
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn has_proxy(pod: &Value) -> bool {
    ["containers", "initContainers"].iter().any(|field| {
        pod["spec"][field]
            .as_array()
            .is_some_and(|list| list.iter().any(|container| container["name"] == "linkerd-proxy"))
    })
}

/// A namespace's wishes hold for pods that have none of their own.
fn inherit(pod: &mut Value, inherited: &Value) {
    for (key, value) in inherited.as_object().into_iter().flatten() {
        if (key.starts_with(CONFIG_PREFIX) || key == annotation::INJECT)
            && pod["metadata"]["annotations"].get(key).is_none()
        {
            pod["metadata"]["annotations"][key] = value.clone();
        }
    }
}

fn inject(namespace: &str, pod: &mut Value, configuration: &Configuration) {
    let owner = owner(pod);
    let labels = &mut pod["metadata"]["labels"];
    labels[label::CONTROL_PLANE_NS] = CONTROL_PLANE_NAMESPACE.into();
    labels[label::WORKLOAD_NS] = namespace.into();
    if let Some((kind, name)) = owner {
        labels[format!("linkerd.io/proxy-{kind}")] = name.into();
    }
    let proxy = proxy(pod, configuration);
    let annotations = &mut pod["metadata"]["annotations"];
    let version = configuration.version.as_str();
    annotations[annotation::CREATED_BY] = format!("linkerd/proxy-injector {version}").into();
    annotations[annotation::PROXY_VERSION] = version.into();
    annotations[annotation::TRUST_ROOT_SHA256] = sha256_hex(configuration.trust_anchors.trim_end().as_bytes()).into();
    let spec = &mut pod["spec"];
    if let Some(init) = list(spec, "initContainers") {
        init.insert(0, proxy);
    }
    if let Some(present) = list(spec, "volumes") {
        present.extend(volumes());
    }
}

/// The list at `field`, made if there is none. `None` when something else is there, which validation will refuse.
fn list<'a>(spec: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    if spec[field].is_null() {
        spec[field] = json!([]);
    }
    spec[field].as_array_mut()
}

/// Kind (lower case) and name of the workload that a pod belongs to. A ReplicaSet's name is its Deployment's with the
/// hash of the pod template at its end.
fn owner(pod: &Value) -> Option<(String, String)> {
    let owner = pod["metadata"]["ownerReferences"]
        .as_array()?
        .iter()
        .find(|owner| owner["controller"] == true)?;
    let (kind, name) = (text(&owner["kind"])?, text(&owner["name"])?);
    let hash = text(&pod["metadata"]["labels"]["pod-template-hash"]);
    if kind == "ReplicaSet"
        && let Some(deployment) = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'))
    {
        return Some(("deployment".to_owned(), deployment.to_owned()));
    }
    Some((kind.to_lowercase(), name.to_owned()))
}

/// The sidecar, as a native one: an init container that stays.
fn proxy(pod: &Value, configuration: &Configuration) -> Value {
    let probe = |path: &str| json!({"path": path, "port": PROXY_ADMIN_PORT, "scheme": "HTTP"});
    json!({
        "name": "linkerd-proxy",
        "image": format!("{}:{}", image::PROXY, configuration.version),
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": environment(pod, configuration),
        "ports": [
            {"containerPort": PROXY_INBOUND_PORT, "name": "linkerd-proxy", "protocol": "TCP"},
            {"containerPort": PROXY_ADMIN_PORT, "name": "linkerd-admin", "protocol": "TCP"}
        ],
        "startupProbe": {"httpGet": probe("/ready"), "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {"httpGet": probe("/ready"), "initialDelaySeconds": 2, "periodSeconds": 10},
        "livenessProbe": {"httpGet": probe("/live"), "initialDelaySeconds": 10, "periodSeconds": 10},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": 2102,
            "seccompProfile": {"type": "RuntimeDefault"}
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": "/var/run/linkerd/identity/end-entity", "name": "linkerd-identity-end-entity"},
            {"mountPath": "/var/run/secrets/tokens", "name": "linkerd-identity-token"}
        ]
    })
}

fn environment(pod: &Value, configuration: &Configuration) -> Value {
    let Configuration {
        trust_domain,
        cluster_domain,
        trust_anchors,
        ..
    } = configuration;
    let annotations = &pod["metadata"]["annotations"];
    let annotated = |key: &str| text(&annotations[key]);
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let service = |name: &str| {
        format!("{name}.{CONTROL_PLANE_NAMESPACE}.serviceaccount.identity.{CONTROL_PLANE_NAMESPACE}.{trust_domain}")
    };
    let address = |name: &str, port: u16| format!("{name}.{CONTROL_PLANE_NAMESPACE}.svc.{cluster_domain}.:{port}");
    let mut variables = vec![
        field("_pod_name", "metadata.name"),
        field("_pod_ns", "metadata.namespace"),
        field("_pod_uid", "metadata.uid"),
        field("_pod_ip", "status.podIP"),
        field("_pod_nodeName", "spec.nodeName"),
        field("_pod_sa", "spec.serviceAccountName"),
        value("_l5d_ns", CONTROL_PLANE_NAMESPACE),
        value("_l5d_trustdomain", trust_domain),
        value(
            "LINKERD2_PROXY_DESTINATION_SVC_ADDR",
            &address("linkerd-dst-headless", 8086),
        ),
        value("LINKERD2_PROXY_POLICY_SVC_ADDR", &address("linkerd-policy", 8090)),
        value(
            "LINKERD2_PROXY_IDENTITY_SVC_ADDR",
            &address("linkerd-identity-headless", 8080),
        ),
        value(
            "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY",
            annotated(annotation::DEFAULT_INBOUND_POLICY).unwrap_or("all-unauthenticated"),
        ),
        value(
            "LINKERD2_PROXY_INBOUND_LISTEN_ADDR",
            &format!("0.0.0.0:{PROXY_INBOUND_PORT}"),
        ),
        value(
            "LINKERD2_PROXY_ADMIN_LISTEN_ADDR",
            &format!("0.0.0.0:{PROXY_ADMIN_PORT}"),
        ),
        field("LINKERD2_PROXY_INBOUND_IPS", "status.podIPs"),
        value("LINKERD2_PROXY_INBOUND_PORTS", &declared_ports(pod)),
        value(
            "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
            annotated(annotation::OPAQUE_PORTS).unwrap_or(DEFAULT_OPAQUE_PORTS),
        ),
        value(
            "LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES",
            &format!("svc.{cluster_domain}."),
        ),
        value("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", trust_anchors),
        value(
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            &format!("$(_pod_sa).$(_pod_ns).serviceaccount.identity.{CONTROL_PLANE_NAMESPACE}.{trust_domain}"),
        ),
        value("LINKERD2_PROXY_IDENTITY_SVC_NAME", &service("linkerd-identity")),
        value("LINKERD2_PROXY_DESTINATION_SVC_NAME", &service("linkerd-destination")),
        value("LINKERD2_PROXY_POLICY_SVC_NAME", &service("linkerd-destination")),
    ];
    if annotated(annotation::ENABLE_GATEWAY) == Some("true") {
        variables.push(value(
            "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES",
            &format!("svc.{cluster_domain}."),
        ));
    }
    if let Some(ports) = annotated(annotation::REQUIRE_IDENTITY_PORTS) {
        variables.push(value("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY", ports));
    }
    variables.into()
}

/// Ports that the pod's containers declare.
fn declared_ports(pod: &Value) -> String {
    let ports: Vec<String> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|container| container["ports"].as_array().into_iter().flatten())
        .filter_map(|port| Some(port["containerPort"].as_u64()?.to_string()))
        .collect();
    ports.join(",")
}

fn volumes() -> [Value; 2] {
    [
        json!({"name": "linkerd-identity-end-entity", "emptyDir": {"medium": "Memory"}}),
        json!({
            "name": "linkerd-identity-token",
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": "identity.l5d.io",
                "expirationSeconds": 86400,
                "path": "linkerd-identity-token"
            }}]}
        }),
    ]
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The injector's program: it serves while it runs.
pub(crate) struct InjectorProgram {
    model: Model,
}

impl InjectorProgram {
    pub(crate) fn new(model: Model) -> Self {
        Self { model }
    }
}

#[async_trait]
impl Program for InjectorProgram {
    async fn run(&self, container: ContainerContext) -> Exit {
        let Some(cluster) = self.model.cluster(&container.cluster) else {
            return Exit::Failed(format!("cluster {} is not attached to the model", container.cluster));
        };
        let serving = &cluster.injector.serving;
        serving.fetch_add(1, Ordering::Relaxed);
        // Also when the pod is killed rather than stopped.
        let _served = Leaving(serving);
        container.started.cancel();
        container.shutdown.cancelled().await;
        Exit::Done
    }
}

#[cfg(test)]
mod tests;
