//! The multicluster extension as the chart of 2.18 and later renders it: gateway, remote access, local service mirror, and
//! one controller per linked cluster.

use serde_json::{Value, json};

use super::link_crd::link_crd;
use super::{created_by, strings};
use crate::defect::{Defect, Defects};
use crate::model::image;
use crate::names::{
    CONTROL_PLANE_NAMESPACE, CONTROLLER_ADMIN_PORT, CONTROLLER_CLUSTER_ROLE, GATEWAY, GATEWAY_PORT_NAME,
    LINKERD_CONFIG, LOCAL_SERVICE_MIRROR, MULTICLUSTER_NAMESPACE, PROBE_PORT_NAME, PROXY_ADMIN_PORT,
    PROXY_INBOUND_PORT, REMOTE_ACCESS, VERSION, annotation, controller, controller_cluster_role_binding,
    credentials_role, credentials_secret, label, probe_service,
};

/// What the extension is installed with.
#[derive(Clone, Debug)]
pub struct MulticlusterValues {
    /// The gateway, or `None` for `gateway.enabled=false`.
    pub gateway: Option<GatewayValues>,
    /// One entry per linked cluster.
    pub controllers: Vec<ControllerValues>,
    /// Names of the ServiceAccounts for other clusters (`remoteMirrorServiceAccountName`).
    pub remote_access_accounts: Vec<String>,
    /// Controllers create namespaces that are missing (`enableNamespaceCreation`).
    pub namespace_creation: bool,
    /// Trust domain of the control plane, part of the gateway's identity.
    pub trust_domain: String,
}

impl Default for MulticlusterValues {
    fn default() -> Self {
        Self {
            gateway: Some(GatewayValues::default()),
            controllers: Vec::new(),
            remote_access_accounts: vec![REMOTE_ACCESS.to_owned()],
            namespace_creation: false,
            trust_domain: "cluster.local".to_owned(),
        }
    }
}

/// The gateway's settings.
#[derive(Clone, Debug)]
pub struct GatewayValues {
    /// Type of its Service.
    pub service_type: GatewayServiceType,
    /// `loadBalancerClass` of its Service.
    pub load_balancer_class: Option<String>,
    /// Number of pods.
    pub replicas: u32,
    /// Probe period that is announced to linking clusters, in seconds.
    pub probe_seconds: u32,
    /// Adds a PodDisruptionBudget (`enablePodAntiAffinity`).
    pub disruption_budget: bool,
}

impl Default for GatewayValues {
    fn default() -> Self {
        Self {
            service_type: GatewayServiceType::LoadBalancer,
            load_balancer_class: None,
            replicas: 1,
            probe_seconds: 3,
            disruption_budget: false,
        }
    }
}

/// Type of the gateway's Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayServiceType {
    /// Reached at the load balancer's address.
    LoadBalancer,
    /// Reached at a node's address; `None` lets the API server choose the ports.
    NodePort {
        /// Node port of the data port.
        gateway: Option<u16>,
        /// Node port of the probe port.
        probe: Option<u16>,
    },
}

/// One entry of the chart's `controllers`.
#[derive(Clone, Debug)]
pub struct ControllerValues {
    /// Name of the Link that the controller serves (`link.ref.name`).
    pub link: String,
    /// The target has a gateway to probe (`gateway.enabled`).
    pub gateway: bool,
    /// Port of the probe Service (`gateway.probe.port`).
    pub probe_port: u16,
    /// Number of pods; one of them writes.
    pub replicas: u32,
}

impl ControllerValues {
    /// The chart's defaults for `link`.
    #[must_use]
    pub fn new(link: impl Into<String>) -> Self {
        Self {
            link: link.into(),
            gateway: true,
            probe_port: PROXY_ADMIN_PORT,
            replicas: 1,
        }
    }
}

/// What `linkerd multicluster install` prints.
#[must_use]
pub fn multicluster(defects: &Defects, values: &MulticlusterValues) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": MULTICLUSTER_NAMESPACE,
            "labels": {
                label::EXTENSION: "multicluster",
                "pod-security.kubernetes.io/enforce": "privileged"
            }
        }
    })];
    if let Some(gateway) = &values.gateway {
        objects.extend(gateway_objects(defects, gateway, &values.trust_domain));
    }
    for account in &values.remote_access_accounts {
        objects.extend(remote_access(defects, account));
    }
    objects.push(link_crd(defects));
    objects.extend(admin_policies("linkerd-admin", None, "linkerd-admin"));
    objects.extend(admin_policies(
        "service-mirror",
        Some("linkerd-service-mirror"),
        "svcmi-admin",
    ));
    if !defects.has(Defect::InstallOmitsAdminServers) {
        objects.extend(admin_policies("controller", Some("controller"), "ctrl-admin"));
        objects.extend(admin_policies(
            "local-service-mirror",
            Some("local-service-mirror"),
            "locsm-admin",
        ));
    }
    objects.extend(local_service_mirror(defects));
    objects.push(controller_cluster_role(values.namespace_creation));
    for entry in &values.controllers {
        objects.extend(controller_objects(defects, entry, values.namespace_creation));
    }
    // Pods then find their accounts and rights at once.
    objects.sort_by_key(|object| object["kind"] == "Deployment");
    objects
}

fn extension_labels(more: &[(&str, &str)]) -> Value {
    strings(
        [(label::EXTENSION, "multicluster")]
            .into_iter()
            .chain(more.iter().copied()),
    )
}

fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": 2103,
        "runAsGroup": 2103,
        "seccompProfile": {"type": "RuntimeDefault"}
    })
}

fn gateway_objects(defects: &Defects, values: &GatewayValues, trust_domain: &str) -> Vec<Value> {
    let (created_key, created) = created_by();
    let labels = extension_labels(&[("app", GATEWAY)]);
    let annotations = strings([created_by()]);
    let policy = |api_version: &str, kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": MULTICLUSTER_NAMESPACE,
                "labels": labels,
                "annotations": annotations
            },
            "spec": spec
        })
    };
    let mut objects = vec![json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": GATEWAY,
            "namespace": MULTICLUSTER_NAMESPACE,
            "annotations": annotations,
            "labels": extension_labels(&[
                ("app.kubernetes.io/name", "gateway"),
                ("app.kubernetes.io/part-of", "Linkerd"),
                ("app.kubernetes.io/version", VERSION),
                ("component", "gateway"),
                ("app", GATEWAY),
            ])
        },
        "spec": {
            "replicas": values.replicas,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": GATEWAY}},
            "template": {
                "metadata": {
                    "annotations": {
                        created_key: created,
                        annotation::INJECT: "enabled",
                        annotation::REQUIRE_IDENTITY_PORTS: PROXY_INBOUND_PORT.to_string(),
                        annotation::ENABLE_GATEWAY: "true",
                        annotation::DEFAULT_INBOUND_POLICY: "all-authenticated",
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"
                    },
                    "labels": labels
                },
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "pause",
                        "image": format!("{}:{VERSION}", image::PAUSE),
                        "securityContext": restricted()
                    }],
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "serviceAccountName": GATEWAY
                }
            }
        }
    })];
    if values.disruption_budget {
        objects.push(policy(
            "policy/v1",
            "PodDisruptionBudget",
            GATEWAY,
            json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": GATEWAY}}}),
        ));
    }
    objects.push(gateway_service(defects, values, trust_domain));
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": GATEWAY,
            "namespace": MULTICLUSTER_NAMESPACE,
            "labels": extension_labels(&[])
        }
    }));
    objects.push(policy(
        "policy.linkerd.io/v1beta3",
        "Server",
        GATEWAY,
        json!({"podSelector": {"matchLabels": {"app": GATEWAY}}, "port": "linkerd-proxy"}),
    ));
    let required = |kind: &str, name: &str| {
        json!({
            "group": "policy.linkerd.io",
            "kind": kind,
            "name": name,
            "namespace": MULTICLUSTER_NAMESPACE
        })
    };
    objects.push(policy(
        "policy.linkerd.io/v1alpha1",
        "AuthorizationPolicy",
        GATEWAY,
        json!({
            "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": GATEWAY},
            "requiredAuthenticationRefs": [
                required("MeshTLSAuthentication", "any-meshed"),
                required("NetworkAuthentication", "source-cluster")
            ]
        }),
    ));
    objects.push(policy(
        "policy.linkerd.io/v1alpha1",
        "MeshTLSAuthentication",
        "any-meshed",
        json!({"identities": ["*"]}),
    ));
    objects.push(policy(
        "policy.linkerd.io/v1alpha1",
        "NetworkAuthentication",
        "source-cluster",
        json!({"networks": [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]}),
    ));
    objects
}

fn gateway_service(defects: &Defects, values: &GatewayValues, trust_domain: &str) -> Value {
    let seconds = if defects.has(Defect::GatewayProbePeriodWrong) {
        values.probe_seconds.saturating_mul(10)
    } else {
        values.probe_seconds
    };
    let mut gateway = json!({"name": GATEWAY_PORT_NAME, "port": PROXY_INBOUND_PORT, "protocol": "TCP"});
    let mut probe = json!({"name": PROBE_PORT_NAME, "port": PROXY_ADMIN_PORT, "protocol": "TCP"});
    let service_type = match values.service_type {
        GatewayServiceType::LoadBalancer => "LoadBalancer",
        GatewayServiceType::NodePort {
            gateway: gateway_port,
            probe: probe_port,
        } => {
            if let Some(port) = gateway_port {
                gateway["nodePort"] = port.into();
            }
            if let Some(port) = probe_port {
                probe["nodePort"] = port.into();
            }
            "NodePort"
        }
    };
    let mut spec = json!({
        "ports": [gateway, probe],
        "selector": {"app": GATEWAY},
        "type": service_type
    });
    if let (Some(class), GatewayServiceType::LoadBalancer) = (&values.load_balancer_class, values.service_type) {
        spec["loadBalancerClass"] = class.as_str().into();
    }
    let (created_key, created) = created_by();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": GATEWAY,
            "namespace": MULTICLUSTER_NAMESPACE,
            "labels": extension_labels(&[]),
            "annotations": {
                annotation::GATEWAY_IDENTITY: format!(
                    "{GATEWAY}.{MULTICLUSTER_NAMESPACE}.serviceaccount.identity.{CONTROL_PLANE_NAMESPACE}.{trust_domain}"
                ),
                annotation::PROBE_PERIOD: seconds.to_string(),
                annotation::PROBE_PATH: "/ready",
                annotation::MULTICLUSTER_GATEWAY: "true",
                "component": "gateway",
                created_key: created
            }
        },
        "spec": spec
    })
}

fn remote_access(defects: &Defects, account: &str) -> [Value; 4] {
    let metadata = |namespaced: bool, name: &str| {
        let mut metadata = json!({
            "name": name,
            "labels": extension_labels(&[]),
            "annotations": strings([created_by()])
        });
        if namespaced {
            metadata["namespace"] = MULTICLUSTER_NAMESPACE.into();
        }
        metadata
    };
    let mut rules = vec![
        json!({"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "get", "watch"]}),
        json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "get", "watch"]}),
        json!({"apiGroups": [""], "resources": ["pods", "endpoints", "services"], "verbs": ["list", "get", "watch"]}),
        json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "get", "watch"]}),
        json!({"apiGroups": ["policy.linkerd.io"], "resources": ["servers"], "verbs": ["list", "get", "watch"]}),
        json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": [LINKERD_CONFIG]}),
        json!({"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}),
    ];
    if defects.has(Defect::RemoteAccessReadsSecrets) {
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "get", "watch"]}));
    }
    if defects.has(Defect::RemoteAccessWritesServices) {
        rules.push(
            json!({"apiGroups": [""], "resources": ["services"], "verbs": ["create", "update", "patch", "delete"]}),
        );
    }
    let token_name = format!("{account}-token");
    let mut token = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(true, &token_name),
        "type": "kubernetes.io/service-account-token"
    });
    token["metadata"]["annotations"][annotation::SERVICE_ACCOUNT_NAME] = account.into();
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": metadata(false, account),
            "rules": rules
        }),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(true, account)}),
        token,
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata(false, account),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
            "subjects": [service_account(account)]
        }),
    ]
}

fn service_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": MULTICLUSTER_NAMESPACE})
}

/// Server and AuthorizationPolicy that keep an admin port to the metrics collector; health stays open to everybody.
fn admin_policies(name: &str, component: Option<&str>, port: &str) -> [Value; 2] {
    let labels = match component {
        Some(component) => extension_labels(&[(label::COMPONENT, component)]),
        None => extension_labels(&[]),
    };
    let metadata = json!({"name": name, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels});
    [
        json!({
            "apiVersion": "policy.linkerd.io/v1beta3",
            "kind": "Server",
            "metadata": metadata,
            "spec": {"podSelector": {"matchLabels": labels}, "port": port, "proxyProtocol": "HTTP/1"}
        }),
        json!({
            "apiVersion": "policy.linkerd.io/v1alpha1",
            "kind": "AuthorizationPolicy",
            "metadata": metadata,
            "spec": {
                "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": name},
                "requiredAuthenticationRefs": [
                    {"kind": "ServiceAccount", "name": "prometheus", "namespace": "linkerd-viz"}
                ]
            }
        }),
    ]
}

fn local_service_mirror(defects: &Defects) -> Vec<Value> {
    let labels = extension_labels(&[(label::COMPONENT, "local-service-mirror")]);
    let role = format!("{LOCAL_SERVICE_MIRROR}-access-local-resources");
    let mut objects = vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role, "labels": labels},
            "rules": [
                mirror_rule(),
                {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "get", "watch"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update", "patch"]},
                {"apiGroups": ["multicluster.linkerd.io"], "resources": ["links"], "verbs": ["list", "get", "watch"]},
                {"apiGroups": ["multicluster.linkerd.io"], "resources": ["links/status"], "verbs": ["update"]}
            ]
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role, "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [service_account(LOCAL_SERVICE_MIRROR)]
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": LOCAL_SERVICE_MIRROR, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels}
        }),
    ];
    if !defects.has(Defect::InstallOmitsLocalServiceMirror) {
        objects.push(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": LOCAL_SERVICE_MIRROR, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels},
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {label::COMPONENT: "local-service-mirror"}},
                "template": {
                    "metadata": {"annotations": mirror_pod_annotations(), "labels": labels},
                    "spec": mirror_pod(
                        LOCAL_SERVICE_MIRROR,
                        "service-mirror",
                        "locsm-admin",
                        vec![
                            "-enable-pprof=false".to_owned(),
                            "-local-mirror".to_owned(),
                            format!("-federated-service-selector={}=member", label::FEDERATED),
                            "-excluded-labels=".to_owned(),
                            "-excluded-annotations=".to_owned(),
                        ],
                    )
                }
            }
        }));
    }
    objects
}

/// What every service mirror may do with mirrors.
fn mirror_rule() -> Value {
    json!({
        "apiGroups": [""],
        "resources": ["endpoints", "services"],
        "verbs": ["list", "get", "watch", "create", "delete", "update"]
    })
}

fn mirror_pod_annotations() -> Value {
    json!({
        annotation::INJECT: "enabled",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
        "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "0"
    })
}

/// Pod spec of a service mirror; `more` are the arguments after those that all have.
fn mirror_pod(account: &str, container: &str, port: &str, more: Vec<String>) -> Value {
    let mut args = vec![
        "service-mirror".to_owned(),
        "-log-level=info".to_owned(),
        "-log-format=plain".to_owned(),
        "-event-requeue-limit=3".to_owned(),
        format!("-namespace={MULTICLUSTER_NAMESPACE}"),
    ];
    args.extend(more);
    json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": container,
            "image": format!("{}:{VERSION}", image::CONTROLLER),
            "args": args,
            "ports": [{"containerPort": CONTROLLER_ADMIN_PORT, "name": port}],
            "securityContext": restricted(),
            "volumeMounts": [{
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "name": "kube-api-access",
                "readOnly": true
            }]
        }],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": account,
        "volumes": [{
            "name": "kube-api-access",
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                    {"downwardAPI": {"items": [
                        {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}
                    ]}}
                ]
            }
        }]
    })
}

fn controller_cluster_role(namespace_creation: bool) -> Value {
    let mut rules = vec![
        mirror_rule(),
        json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "get", "watch"]}),
    ];
    if namespace_creation {
        rules.push(json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]}));
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": CONTROLLER_CLUSTER_ROLE,
            "labels": extension_labels(&[(label::COMPONENT, "controller")])
        },
        "rules": rules
    })
}

fn controller_objects(defects: &Defects, values: &ControllerValues, namespace_creation: bool) -> Vec<Value> {
    let link = values.link.as_str();
    let name = controller(link);
    let labels = extension_labels(&[(label::COMPONENT, "controller"), (label::CLUSTER_NAME, link)]);
    let mut more = Vec::new();
    if namespace_creation {
        more.push("-enable-namespace-creation".to_owned());
    }
    more.push("-enable-pprof=false".to_owned());
    if values.gateway {
        more.push(format!("-probe-service={}", probe_service(link)));
    }
    more.push(link.to_owned());
    let mut pod_annotations = mirror_pod_annotations();
    if defects.has(Defect::ControllerNotInjected) {
        pod_annotations[annotation::INJECT] = "disabled".into();
    }
    let mut objects = vec![json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels},
        "spec": {
            "replicas": values.replicas,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {label::COMPONENT: "controller", label::CLUSTER_NAME: link}},
            "template": {
                "metadata": {"annotations": pod_annotations, "labels": labels},
                "spec": mirror_pod(&name, "controller", "ctrl-admin", more)
            }
        }
    })];
    if values.gateway {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": probe_service(link),
                "namespace": MULTICLUSTER_NAMESPACE,
                "annotations": strings([created_by()]),
                "labels": extension_labels(&[(label::MIRRORED_GATEWAY, "true"), (label::CLUSTER_NAME, link)])
            },
            "spec": {"ports": [{"name": PROBE_PORT_NAME, "port": values.probe_port, "protocol": "TCP"}]}
        }));
    }
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels}
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": controller_cluster_role_binding(link), "labels": labels},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": CONTROLLER_CLUSTER_ROLE
        },
        "subjects": [service_account(&name)]
    }));
    let role = credentials_role(link);
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": role, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": [credentials_secret(link)],
                "verbs": ["list", "get", "watch"]
            },
            {"apiGroups": ["multicluster.linkerd.io"], "resources": ["links"], "verbs": ["list", "get", "watch"]},
            {"apiGroups": ["multicluster.linkerd.io"], "resources": ["links/status"], "verbs": ["update", "patch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update", "patch"]}
        ]
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": MULTICLUSTER_NAMESPACE, "labels": labels},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [service_account(&name)]
    }));
    objects
}

#[cfg(test)]
mod tests;
