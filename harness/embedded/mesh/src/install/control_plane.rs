//! The control plane: namespace, trust, configuration, and the Deployments whose programs the model has.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{created_by, strings};
use crate::model::image;
use crate::names::{CONTROL_PLANE_NAMESPACE, IDENTITY_ISSUER, LINKERD_CONFIG, TRUST_ROOTS, VERSION, annotation, label};

/// The certificates that a control plane works with, as PEM.
#[derive(Clone)]
pub struct Trust {
    /// Trust anchors: one root, or several while they are being rotated.
    pub anchors: String,
    /// The issuer's certificate, signed by one of the anchors.
    pub issuer_certificate: String,
    /// The issuer's private key.
    pub issuer_key: String,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// What a control plane is installed with.
#[derive(Clone, Debug)]
pub struct ControlPlaneValues {
    /// Anchors and issuer; the issuer ends in a Secret, never in the configuration.
    pub trust: Trust,
    /// Domain of all identities; the same in all clusters of a mesh unless trust domains are under test.
    pub trust_domain: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// How long certificates of workloads are valid (`identity.issuer.issuanceLifetime`), as Go writes durations; scenario
    /// time.
    pub issuance_lifetime: String,
}

impl ControlPlaneValues {
    /// The usual domains, `cluster.local`.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            trust_domain: "cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            issuance_lifetime: "24h0m0s".to_owned(),
        }
    }
}

/// What `linkerd install` prints, with the issuer given from outside (`identity.issuer.scheme=kubernetes.io/tls`).
#[must_use]
pub fn control_plane(values: &ControlPlaneValues) -> Vec<Value> {
    let mut objects = vec![namespace()];
    objects.extend(rbac(
        "identity",
        json!([
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}
        ]),
    ));
    objects.extend(rbac(
        "destination",
        json!([
            {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "get", "watch"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "get", "watch"]},
            {"apiGroups": [""], "resources": ["pods", "endpoints", "services", "nodes"], "verbs": ["list", "get", "watch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update", "patch"]},
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "get", "watch", "create", "update", "patch", "delete"]
            },
            {
                "apiGroups": ["policy.linkerd.io"],
                "resources": ["authorizationpolicies", "meshtlsauthentications", "networkauthentications", "servers"],
                "verbs": ["get", "list", "watch"]
            },
            {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes/status"], "verbs": ["patch"]}
        ]),
    ));
    objects.extend(rbac(
        "proxy-injector",
        json!([
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
            {"apiGroups": [""], "resources": ["namespaces", "replicationcontrollers"], "verbs": ["list", "get", "watch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {
                "apiGroups": ["extensions", "apps"],
                "resources": ["deployments", "replicasets", "daemonsets", "statefulsets"],
                "verbs": ["list", "get", "watch"]
            },
            {"apiGroups": ["extensions", "batch"], "resources": ["cronjobs", "jobs"], "verbs": ["list", "get", "watch"]}
        ]),
    ));
    objects.extend(remote_discovery());
    objects.push(config(values));
    objects.push(issuer(&values.trust));
    objects.push(trust_roots(&values.trust));
    objects.push(service("linkerd-identity", "identity", false, "grpc", 8080));
    objects.push(service("linkerd-identity-headless", "identity", true, "grpc", 8080));
    objects.push(deployment(
        "identity",
        image::IDENTITY,
        &[
            "identity",
            "-log-level=info",
            "-log-format=plain",
            &format!("-identity-issuance-lifetime={}", values.issuance_lifetime),
        ],
    ));
    objects.push(service("linkerd-dst", "destination", false, "grpc", 8086));
    objects.push(service("linkerd-dst-headless", "destination", true, "grpc", 8086));
    objects.push(service("linkerd-policy", "destination", true, "grpc", 8090));
    objects.push(deployment(
        "destination",
        image::DESTINATION,
        &["destination", "-addr=:8086", "-log-level=info", "-log-format=plain"],
    ));
    objects.push(deployment(
        "proxy-injector",
        image::PROXY_INJECTOR,
        &["proxy-injector", "-log-level=info", "-log-format=plain"],
    ));
    objects.push(service(
        "linkerd-proxy-injector",
        "proxy-injector",
        false,
        "proxy-injector",
        443,
    ));
    objects
}

fn labels(component: &str) -> Value {
    json!({
        label::CONTROL_PLANE_COMPONENT: component,
        label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE
    })
}

fn namespace() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": CONTROL_PLANE_NAMESPACE,
            "annotations": {annotation::INJECT: "disabled"},
            "labels": {
                "linkerd.io/is-control-plane": "true",
                "config.linkerd.io/admission-webhooks": "disabled",
                label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE,
                "pod-security.kubernetes.io/enforce": "privileged"
            }
        }
    })
}

/// ClusterRole, ClusterRoleBinding and ServiceAccount of a component.
fn rbac(component: &str, rules: Value) -> [Value; 3] {
    let role = format!("linkerd-{CONTROL_PLANE_NAMESPACE}-{component}");
    let account = format!("linkerd-{component}");
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role, "labels": labels(component)},
            "rules": rules
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role, "labels": labels(component)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [
                {"kind": "ServiceAccount", "name": account, "namespace": CONTROL_PLANE_NAMESPACE}
            ]
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": CONTROL_PLANE_NAMESPACE, "labels": labels(component)}
        }),
    ]
}

/// The destination controller's right to read other clusters' credentials.
fn remote_discovery() -> [Value; 2] {
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {
                "name": "remote-discovery",
                "namespace": CONTROL_PLANE_NAMESPACE,
                "labels": labels("destination")
            },
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {
                "name": "linkerd-destination-remote-discovery",
                "namespace": CONTROL_PLANE_NAMESPACE,
                "labels": labels("destination")
            },
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "remote-discovery"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "linkerd-destination", "namespace": CONTROL_PLANE_NAMESPACE}
            ]
        }),
    ]
}

fn config(values: &ControlPlaneValues) -> Value {
    // YAML's block scalar keeps the PEM readable, as the real ConfigMap has it.
    let anchors: String = values
        .trust
        .anchors
        .lines()
        .map(|line| format!("  {}\n", line.trim()))
        .collect();
    let text = format!(
        "cliVersion: linkerd/cli {VERSION}\n\
         clusterDomain: {}\n\
         identity:\n  issuer:\n    clockSkewAllowance: 20s\n    issuanceLifetime: {}\n    scheme: kubernetes.io/tls\n\
         identityTrustAnchorsPEM: |\n{anchors}\
         identityTrustDomain: {}\n\
         linkerdVersion: {VERSION}\n\
         proxy:\n  defaultInboundPolicy: all-unauthenticated\n  nativeSidecar: true\n  \
         opaquePorts: 25,587,3306,4444,5432,6379,9300,11211\n  ports:\n    admin: 4191\n    control: 4190\n    \
         inbound: 4143\n    outbound: 4140\n",
        values.cluster_domain, values.issuance_lifetime, values.trust_domain,
    );
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": LINKERD_CONFIG,
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": labels("controller"),
            "annotations": strings([created_by()])
        },
        "data": {"linkerd-crds-chart-version": "linkerd-crds-1.0.0-edge", "values": text}
    })
}

fn issuer(trust: &Trust) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": IDENTITY_ISSUER,
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": labels("identity"),
            "annotations": strings([created_by()])
        },
        "type": "kubernetes.io/tls",
        "data": {
            "ca.crt": BASE64.encode(&trust.anchors),
            "tls.crt": BASE64.encode(&trust.issuer_certificate),
            "tls.key": BASE64.encode(&trust.issuer_key)
        }
    })
}

fn trust_roots(trust: &Trust) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": TRUST_ROOTS,
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": labels("identity"),
            "annotations": strings([created_by()])
        },
        "data": {"ca-bundle.crt": trust.anchors}
    })
}

fn service(name: &str, component: &str, headless: bool, port_name: &str, port: u16) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "selector": {label::CONTROL_PLANE_COMPONENT: component},
        "ports": [{"name": port_name, "port": port, "targetPort": port, "protocol": "TCP"}]
    });
    if headless {
        spec["clusterIP"] = "None".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": labels(component),
            "annotations": strings([created_by()])
        },
        "spec": spec
    })
}

fn deployment(component: &str, image: &str, args: &[&str]) -> Value {
    let name = format!("linkerd-{component}");
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": {
                label::CONTROL_PLANE_COMPONENT: component,
                label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE,
                "app.kubernetes.io/name": component,
                "app.kubernetes.io/part-of": "Linkerd",
                "app.kubernetes.io/version": VERSION
            },
            "annotations": strings([created_by()])
        },
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {
                label::CONTROL_PLANE_COMPONENT: component,
                label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE
            }},
            "template": {
                "metadata": {
                    "labels": {
                        label::CONTROL_PLANE_COMPONENT: component,
                        label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE,
                        label::WORKLOAD_NS: CONTROL_PLANE_NAMESPACE
                    },
                    "annotations": strings([created_by()])
                },
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{
                        "name": component,
                        "image": format!("{image}:{VERSION}"),
                        "args": args
                    }]
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{ControlPlaneValues, Trust, control_plane};

    fn values() -> ControlPlaneValues {
        ControlPlaneValues::new(Trust {
            anchors: "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n".into(),
            issuer_certificate: "issuer".into(),
            issuer_key: "very secret".into(),
        })
    }

    #[test]
    fn the_configuration_reads_back_as_yaml() {
        let objects = control_plane(&values());
        let config = objects
            .iter()
            .find(|object| object["metadata"]["name"] == "linkerd-config")
            .unwrap();
        let parsed: serde_yaml::Value = serde_yaml::from_str(config["data"]["values"].as_str().unwrap()).unwrap();
        assert_eq!(parsed["clusterDomain"], "cluster.local");
        assert_eq!(parsed["identityTrustDomain"], "cluster.local");
        assert_eq!(
            parsed["identityTrustAnchorsPEM"].as_str().unwrap(),
            values().trust.anchors
        );
        assert_eq!(parsed["proxy"]["ports"]["inbound"], 4143);
    }

    #[test]
    fn the_issuer_key_is_in_its_secret_alone() {
        assert!(!format!("{:?}", values()).contains("very secret"));
        for object in control_plane(&values()) {
            let holds = object.to_string().contains("dmVyeSBzZWNyZXQ");
            assert_eq!(holds, object["metadata"]["name"] == "linkerd-identity-issuer");
        }
    }
}
