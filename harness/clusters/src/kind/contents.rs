//! What is in a cluster: noted while nothing is installed, so that everything that is put in later can be told from it.
//!
//! An object counts when somebody made it who may make it again. Left out is, beside what the engine's inventory leaves out
//! (Events, Nodes, `kube-root-ca.crt` …), what Kubernetes makes, renews and removes by itself:
//! * objects whose owner is there, which are the owner's business: pods, ReplicaSets, slices. They go with it, by the garbage
//!   collector; one that was left behind counts. Nodes own static pods and `CSINode`s;
//! * Endpoints of a Service that is there: they have no owner, and go with the Service. So do its `IPAddress`es;
//! * Leases, and Endpoints and ConfigMaps that serve as such: whoever leads renews them, and nobody minds one that ran out;
//! * requests for certificates, which kubelets make and the controller manager removes after an hour or a day;
//! * tokens for joining nodes, and the ConfigMap `cluster-info` that they sign: they run out after a day;
//! * APIServices without a Service: the API server registers its own groups and those of CustomResourceDefinitions.

use std::collections::{BTreeMap, HashSet};

use kube::core::ApiResource;
use meshproof_engine::api::{Requests, full_name, text_at};
use meshproof_engine::environment::Cluster;
use meshproof_engine::inventory;
use meshproof_engine::problem::Problem;
use serde_json::Value;

/// Names of objects (`Kind.group namespace/name`) with digests of what somebody wanted them to be.
pub(super) type Note = BTreeMap<String, String>;

/// Annotation of objects that stand for a lease.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// An object that counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    /// Its resource.
    pub(super) resource: ApiResource,
    /// All of it.
    pub(super) value: Value,
}

impl Object {
    /// For people, and to know it again: `RoleBinding.rbac.authorization.k8s.io kube-system/reader`.
    pub(super) fn name(&self) -> String {
        let ApiResource { kind, group, .. } = &self.resource;
        let dot = if group.is_empty() { "" } else { "." };
        format!("{kind}{dot}{group} {}", full_name(&self.value))
    }

    /// Its namespace; empty for cluster scope.
    pub(super) fn namespace(&self) -> &str {
        text_at(&self.value, "/metadata/namespace")
    }

    /// Whether it is of this kind, of a group of Kubernetes.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.resource.group == group && self.resource.kind == kind
    }

    fn digest(&self) -> String {
        // Rules of an aggregated role are computed from other roles.
        let computed = self.value.pointer("/aggregationRule").is_some_and(Value::is_object);
        if computed {
            String::new()
        } else {
            inventory::digest(&self.value)
        }
    }
}

/// What is in a cluster, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents(BTreeMap<String, Object>);

impl Contents {
    /// Looks at everything that a cluster has.
    ///
    /// # Errors
    /// When the API server does not tell everything in time.
    pub(super) async fn of(requests: &Requests, cluster: &Cluster) -> Result<Self, Problem> {
        Ok(Self::counted(inventory::listed(requests, cluster).await?))
    }

    /// What counts of everything that a cluster has.
    pub(super) fn counted(listed: Vec<(ApiResource, Vec<Value>)>) -> Self {
        let objects: Vec<Object> = listed
            .into_iter()
            .flat_map(|(resource, values)| {
                values.into_iter().map(move |value| Object {
                    resource: resource.clone(),
                    value,
                })
            })
            .collect();
        let uids: HashSet<&str> = objects
            .iter()
            .map(|object| text_at(&object.value, "/metadata/uid"))
            .collect();
        let services: HashSet<String> = objects
            .iter()
            .filter(|object| object.is("", "Service"))
            .map(|object| full_name(&object.value))
            .collect();
        let counted = objects
            .iter()
            .filter(|object| {
                let of_service = object.is("", "Endpoints") && services.contains(&full_name(&object.value));
                !of_service && !is_owned(object, &uids) && !is_renewed(object)
            })
            .map(|object| (object.name(), object.clone()))
            .collect();
        Self(counted)
    }

    /// To be compared with later.
    pub(super) fn note(&self) -> Note {
        let noted = self.0.iter().map(|(name, object)| (name.clone(), object.digest()));
        noted.collect()
    }

    /// Objects that were not there then.
    pub(super) fn added(&self, note: &Note) -> Vec<&Object> {
        let added = self.0.iter().filter(|(name, _)| !note.contains_key(*name));
        added.map(|(_, object)| object).collect()
    }

    /// What was there then and is not what it was, for people.
    pub(super) fn altered(&self, note: &Note) -> Vec<String> {
        let altered = note.iter().filter_map(|(name, digest)| match self.0.get(name) {
            None => Some(format!("{name} is gone")),
            Some(object) if object.digest() != *digest => Some(format!("{name} was changed")),
            Some(_) => None,
        });
        altered.collect()
    }
}

fn is_owned(object: &Object, there: &HashSet<&str>) -> bool {
    let owners = object
        .value
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let is_there = |owner: &Value| text_at(owner, "/kind") == "Node" || there.contains(text_at(owner, "/uid"));
    owners.into_iter().flatten().any(is_there)
}

fn is_renewed(object: &Object) -> bool {
    let value = &object.value;
    let annotations = value.pointer("/metadata/annotations");
    match (object.resource.group.as_str(), object.resource.kind.as_str()) {
        ("coordination.k8s.io", "Lease")
        | ("certificates.k8s.io", "CertificateSigningRequest")
        | ("networking.k8s.io", "IPAddress") => true,
        ("apiregistration.k8s.io", "APIService") => value.pointer("/spec/service").is_none_or(Value::is_null),
        ("", "Secret") => text_at(value, "/type") == "bootstrap.kubernetes.io/token",
        ("", "Endpoints" | "ConfigMap") => {
            annotations.is_some_and(|annotations| annotations.get(LEADER).is_some())
                || full_name(value) == "kube-public/cluster-info"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ApiResource, GroupVersionKind};
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::Contents;

    fn contents(objects: &[Value]) -> Contents {
        let listed = objects.iter().map(|object| {
            let api = object["apiVersion"].as_str().unwrap();
            let (group, version) = api.split_once('/').unwrap_or(("", api));
            let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
            (ApiResource::from_gvk(&kind), vec![object.clone()])
        });
        Contents::counted(listed.collect())
    }

    fn names(objects: &[Value]) -> Vec<String> {
        contents(objects).note().into_keys().collect()
    }

    fn object(api: &str, kind: &str, namespace: &str, name: &str) -> Value {
        let mut metadata = json!({"name": name, "uid": format!("{kind}-{name}")});
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": api, "kind": kind, "metadata": metadata})
    }

    fn owned(mut object: Value, kind: &str, name: &str) -> Value {
        object["metadata"]["ownerReferences"] = json!([{"kind": kind, "name": name, "uid": format!("{kind}-{name}")}]);
        object
    }

    #[test]
    fn what_an_owner_made_goes_with_it_and_counts_once_it_is_gone() {
        let deployment = object("apps/v1", "Deployment", "kube-system", "coredns");
        let set = owned(
            object("apps/v1", "ReplicaSet", "kube-system", "coredns-1"),
            "Deployment",
            "coredns",
        );
        let pod = owned(
            object("v1", "Pod", "kube-system", "coredns-1-a"),
            "ReplicaSet",
            "coredns-1",
        );
        let of_node = owned(object("v1", "Pod", "kube-system", "etcd-west"), "Node", "west");
        assert_eq!(
            names(&[deployment, set.clone(), pod.clone(), of_node]),
            ["Deployment.apps kube-system/coredns"]
        );
        assert_eq!(names(&[set, pod.clone()]), ["ReplicaSet.apps kube-system/coredns-1"]);
        assert_eq!(names(&[pod]), ["Pod kube-system/coredns-1-a"]);
    }

    #[test]
    fn endpoints_are_their_services_business_and_count_without_one() {
        let service = object("v1", "Service", "default", "kubernetes");
        let endpoints = object("v1", "Endpoints", "default", "kubernetes");
        let elsewhere = object("v1", "Endpoints", "kube-system", "kubernetes");
        assert_eq!(
            names(&[service, endpoints, elsewhere]),
            ["Endpoints kube-system/kubernetes", "Service default/kubernetes"]
        );
    }

    #[rstest]
    #[case::lease("coordination.k8s.io/v1", "Lease", "kube-system", "kube-scheduler", json!({}))]
    #[case::request("certificates.k8s.io/v1", "CertificateSigningRequest", "", "csr-abcde", json!({}))]
    #[case::address("networking.k8s.io/v1", "IPAddress", "", "10.42.0.1", json!({}))]
    #[case::own_group("apiregistration.k8s.io/v1", "APIService", "", "v1.apps", json!({"spec": {"group": "apps"}}))]
    #[case::token("v1", "Secret", "kube-system", "bootstrap-token-abcdef", json!({"type": "bootstrap.kubernetes.io/token"}))]
    #[case::cluster_info("v1", "ConfigMap", "kube-public", "cluster-info", json!({}))]
    #[case::leader("v1", "Endpoints", "local-path-storage", "rancher.io-local-path",
        json!({"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}}))]
    fn what_kubernetes_renews_is_left_out(
        #[case] api: &str,
        #[case] kind: &str,
        #[case] namespace: &str,
        #[case] name: &str,
        #[case] more: Value,
    ) {
        let mut object = object(api, kind, namespace, name);
        for (key, value) in more.as_object().unwrap() {
            match key.as_str() {
                "metadata" => object["metadata"]["annotations"] = value["annotations"].clone(),
                _ => object[key] = value.clone(),
            }
        }
        assert!(names(&[object.clone()]).is_empty());
        // The same of somebody else's making.
        object["kind"] = json!("Gateway");
        assert_eq!(names(&[object]).len(), 1);
    }

    #[rstest]
    #[case(object("v1", "Secret", "kube-system", "credentials"))]
    #[case(object("v1", "ConfigMap", "kube-system", "cluster-info"))]
    #[case(json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1alpha1.tap.linkerd.io"},
        "spec": {"service": {"name": "tap"}}}))]
    fn what_looks_like_it_counts(#[case] object: Value) {
        assert_eq!(names(&[object]).len(), 1);
    }

    #[test]
    fn what_was_added_changed_and_removed_is_told() {
        let settings = |value: &str| {
            let mut settings = object("v1", "ConfigMap", "kube-system", "coredns");
            settings["data"] = json!({"Corefile": value});
            settings
        };
        let role = |rules: Value| {
            let mut role = object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "admin");
            role["aggregationRule"] = json!({});
            role["rules"] = rules;
            role
        };
        let gone = object("v1", "Namespace", "", "local-path-storage");
        let note = contents(&[settings("a"), role(json!([])), gone]).note();
        let added = object("rbac.authorization.k8s.io/v1", "RoleBinding", "kube-system", "reader");
        let now = contents(&[settings("b"), role(json!([{"verbs": ["get"]}])), added]);
        assert_eq!(
            now.altered(&note),
            [
                "ConfigMap kube-system/coredns was changed",
                "Namespace local-path-storage is gone"
            ]
        );
        let added: Vec<String> = now.added(&note).into_iter().map(super::Object::name).collect();
        assert_eq!(added, ["RoleBinding.rbac.authorization.k8s.io kube-system/reader"]);
    }
}
