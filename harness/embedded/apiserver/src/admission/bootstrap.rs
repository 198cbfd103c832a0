//! What every cluster starts with: system namespaces, the roles that clients rely on, the API server's own Service.

use super::names::new_uid;
use crate::resource::StorageKey;
use crate::store::{StoreConfig, now};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

const RBAC: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// The objects, in an order in which each finds what it needs.
pub(crate) fn objects(config: &StoreConfig) -> Vec<(StorageKey, Value)> {
    let mut out = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": metadata(name, Some(json!({"kubernetes.io/metadata.name": name}))),
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        out.push((StorageKey::new("", "namespaces"), namespace));
    }
    for (name, rules) in cluster_roles() {
        let role = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
            "metadata": metadata(name, Some(json!({"kubernetes.io/bootstrapping": "rbac-defaults"}))),
            "rules": rules,
        });
        out.push((StorageKey::new(RBAC, "clusterroles"), role));
    }
    for (name, group) in [
        ("cluster-admin", "system:masters"),
        ("system:basic-user", "system:authenticated"),
        ("system:discovery", "system:authenticated"),
    ] {
        let binding = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
            "metadata": metadata(name, Some(json!({"kubernetes.io/bootstrapping": "rbac-defaults"}))),
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
        });
        out.push((StorageKey::new(RBAC, "clusterrolebindings"), binding));
    }
    out.push((StorageKey::new("", "services"), api_service(config)));
    out.extend(authentication_config(&config.ca_pem));
    out
}

/// What extension API servers read to know who calls them, and the role that lets them.
fn authentication_config(ca_pem: &str) -> [(StorageKey, Value); 2] {
    let in_system = |name: &str| {
        let mut metadata = metadata(name, None);
        metadata["namespace"] = json!("kube-system");
        metadata
    };
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": in_system("extension-apiserver-authentication"),
        "data": {
            "client-ca-file": ca_pem, "requestheader-client-ca-file": ca_pem,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    });
    let role = json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": in_system("extension-apiserver-authentication-reader"),
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["extension-apiserver-authentication"],
            "verbs": ["get", "list", "watch"]}],
    });
    [
        (StorageKey::new("", "configmaps"), config),
        (StorageKey::new(RBAC, "roles"), role),
    ]
}

/// What every namespace gets: a service account and the cluster's CA.
pub(crate) fn namespace_content(namespace: &str, ca_pem: &str) -> Vec<(StorageKey, Value)> {
    let in_namespace = |name: &str| {
        let mut metadata = metadata(name, None);
        metadata["namespace"] = json!(namespace);
        metadata
    };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": in_namespace("default")});
    let ca = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": in_namespace("kube-root-ca.crt"),
        "data": {"ca.crt": ca_pem},
    });
    vec![
        (StorageKey::new("", "serviceaccounts"), account),
        (StorageKey::new("", "configmaps"), ca),
    ]
}

fn metadata(name: &str, labels: Option<Value>) -> Value {
    let mut metadata = json!({"name": name, "uid": new_uid(), "creationTimestamp": now()});
    if let Some(labels) = labels {
        metadata["labels"] = labels;
    }
    metadata
}

fn cluster_roles() -> Vec<(&'static str, Value)> {
    let workloads = json!([
        "deployments",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
        "daemonsets"
    ]);
    let core = json!([
        "configmaps",
        "endpoints",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
        "services",
        "services/status",
        "events"
    ]);
    let rules = |verbs: Vec<&str>| {
        json!([
            {"apiGroups": [""], "resources": core, "verbs": verbs},
            {"apiGroups": ["apps"], "resources": workloads, "verbs": verbs},
            {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": verbs},
            {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": verbs},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": verbs},
        ])
    };
    let all = [READ, WRITE].concat();
    let mut edit = rules([READ, WRITE].concat());
    let secrets = json!({"apiGroups": [""], "resources": ["secrets", "pods/portforward", "pods/exec", "pods/attach", "pods/eviction"], "verbs": all});
    if let Some(list) = edit.as_array_mut() {
        list.push(secrets);
    }
    let mut admin = edit.clone();
    if let Some(list) = admin.as_array_mut() {
        list.push(json!({"apiGroups": [RBAC], "resources": ["roles", "rolebindings"], "verbs": all}));
    }
    vec![
        (
            "cluster-admin",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]),
        ),
        ("admin", admin),
        ("edit", edit),
        ("view", rules(READ.to_vec())),
        (
            "system:basic-user",
            json!([{"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
                   {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]}]),
        ),
        (
            "system:discovery",
            json!([{"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/livez/*", "/readyz", "/readyz/*", "/openapi", "/openapi/*", "/version", "/version/"], "verbs": ["get"]}]),
        ),
        (
            "system:auth-delegator",
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
                   {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}]),
        ),
    ]
}

/// Address of the Service `default/kubernetes`: the first of the Service range.
pub(crate) fn service_address(range: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range).wrapping_add(1))
}

/// `default/kubernetes` on the first address of the Service range. Its endpoints are up to whoever knows the nodes.
fn api_service(config: &StoreConfig) -> Value {
    let address = service_address(config.service_cidr.0).to_string();
    let mut metadata = metadata(
        "kubernetes",
        Some(json!({"component": "apiserver", "provider": "kubernetes"})),
    );
    metadata["namespace"] = json!("default");
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
            "sessionAffinity": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    })
}
