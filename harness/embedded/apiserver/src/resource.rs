//! The resource types that the server serves: a fixed table of built-in ones, and those that CRDs add at run time.

use crate::crd::schema::Schema;
use crate::{Gvr, Status};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One served resource type.
#[derive(Debug)]
pub(crate) struct ResourceType {
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Served and unserved versions, in the order in which discovery lists them.
    pub(crate) versions: Vec<VersionInfo>,
    /// Where the objects are kept. Differs from group and plural only where two groups show the same objects.
    pub(crate) storage: StorageKey,
    /// Whether a CRD defines this type.
    pub(crate) custom: bool,
}

/// One version of a resource type.
#[derive(Debug, Default)]
pub(crate) struct VersionInfo {
    pub(crate) name: String,
    pub(crate) served: bool,
    pub(crate) storage: bool,
    pub(crate) status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// Structural schema; `None` for built-in types.
    pub(crate) schema: Option<Arc<Schema>>,
    /// `additionalPrinterColumns` of a CRD.
    pub(crate) columns: Vec<Value>,
}

/// Where the scale subresource finds its fields (JSON paths like `.spec.replicas`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    /// Where the selector is found. A label selector object (built-in types) or text (custom types).
    pub(crate) selector: Option<String>,
}

/// Group and plural under which objects are kept, whatever version they are shown in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StorageKey {
    pub(crate) group: Arc<str>,
    pub(crate) resource: Arc<str>,
}

impl StorageKey {
    pub(crate) fn new(group: &str, resource: &str) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }
}

impl ResourceType {
    /// The version with this name, if it is served.
    pub(crate) fn served(&self, version: &str) -> Option<&VersionInfo> {
        self.versions.iter().find(|v| v.served && v.name == version)
    }

    pub(crate) fn storage_version(&self) -> &str {
        self.versions
            .iter()
            .find(|v| v.storage)
            .map_or("v1", |v| v.name.as_str())
    }

    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }

    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        &[
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ]
    }

    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.group, &self.plural, name)
    }

    pub(crate) fn invalid(&self, name: &str, causes: Vec<crate::status::Cause>) -> Status {
        Status::invalid(&self.group, &self.kind, name, causes)
    }
}

/// Group → its versions, best first → the types of each.
pub(crate) type Groups = BTreeMap<String, Vec<(String, Vec<Arc<ResourceType>>)>>;

/// All resource types of one server.
#[derive(Debug)]
pub(crate) struct Registry {
    types: HashMap<(String, String), Arc<ResourceType>>,
}

impl Registry {
    pub(crate) fn built_in() -> Self {
        let types = BUILT_IN
            .iter()
            .map(BuiltIn::to_type)
            .map(|t| ((t.group.clone(), t.plural.clone()), Arc::new(t)));
        Self { types: types.collect() }
    }

    /// The type of a served resource.
    pub(crate) fn lookup(&self, gvr: &Gvr) -> Result<Arc<ResourceType>, Status> {
        self.types
            .get(&(gvr.group.to_string(), gvr.resource.to_string()))
            .filter(|t| t.served(&gvr.version).is_some())
            .cloned()
            .ok_or_else(Status::no_such_resource)
    }

    /// The type whose storage has this key.
    pub(crate) fn by_storage(&self, key: &StorageKey) -> Option<Arc<ResourceType>> {
        self.types
            .get(&(key.group.to_string(), key.resource.to_string()))
            .cloned()
    }

    /// The type of an object, by its `apiVersion` and `kind`.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<ResourceType>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.types
            .values()
            .find(|t| t.group == group && t.kind == kind && t.served(version).is_some())
            .cloned()
    }

    pub(crate) fn insert(&mut self, resource: ResourceType) {
        self.types
            .insert((resource.group.clone(), resource.plural.clone()), Arc::new(resource));
    }

    pub(crate) fn remove(&mut self, key: &StorageKey) {
        self.types.remove(&(key.group.to_string(), key.resource.to_string()));
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<ResourceType>> {
        self.types.values()
    }

    /// Served groups with their versions in order of preference, and the types of each version.
    pub(crate) fn groups(&self) -> Groups {
        let mut groups: BTreeMap<String, BTreeMap<String, Vec<Arc<ResourceType>>>> = BTreeMap::new();
        for resource in self.types.values() {
            for version in resource.versions.iter().filter(|v| v.served) {
                let versions = groups.entry(resource.group.clone()).or_default();
                versions.entry(version.name.clone()).or_default().push(resource.clone());
            }
        }
        let order = |versions: BTreeMap<String, Vec<Arc<ResourceType>>>| {
            let mut versions: Vec<_> = versions.into_iter().collect();
            for (_, types) in &mut versions {
                types.sort_by(|a, b| a.plural.cmp(&b.plural));
            }
            versions.sort_by_key(|(name, _)| std::cmp::Reverse(version_priority(name)));
            versions
        };
        groups
            .into_iter()
            .map(|(group, versions)| (group, order(versions)))
            .collect()
    }
}

/// Orders versions as Kubernetes does: `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > anything else.
fn version_priority(version: &str) -> (u8, u64, u64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..digits].parse().ok()?;
        let (level, minor) = match &rest[digits..] {
            "" => (3, 0),
            tail => {
                let (level, number) = match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                    (Some(number), _) => (2, number),
                    (_, Some(number)) => (1, number),
                    (None, None) => return None,
                };
                (level, number.parse().ok()?)
            }
        };
        Some((level, major, minor))
    };
    parse().unwrap_or((0, 0, 0))
}

/// A row of the built-in table.
struct BuiltIn {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    status: bool,
    scale: bool,
}

impl BuiltIn {
    fn to_type(&self) -> ResourceType {
        let scale = self.scale.then(|| ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: Some(".spec.selector".into()),
        });
        // events.k8s.io shows the same objects as the core group's events.
        let storage_group = if self.group == "events.k8s.io" { "" } else { self.group };
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        ResourceType {
            group: self.group.into(),
            plural: self.plural.into(),
            singular: self.kind.to_lowercase(),
            kind: self.kind.into(),
            list_kind: format!("{}List", self.kind),
            short_names: owned(self.short),
            categories: owned(self.categories),
            namespaced: self.namespaced,
            versions: vec![VersionInfo {
                name: self.version.into(),
                served: true,
                storage: true,
                status: self.status,
                scale,
                schema: None,
                columns: Vec::new(),
            }],
            storage: StorageKey::new(storage_group, self.plural),
            custom: false,
        }
    }
}

const NS: bool = true;
const CLUSTER: bool = false;
const STATUS: bool = true;
const PLAIN: bool = false;
const SCALE: bool = true;
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const ALL: &[&str] = &["all"];

#[rustfmt::skip]
const BUILT_IN: &[BuiltIn] = &[
    row("", "v1", "namespaces", "Namespace", &["ns"], &[], CLUSTER, STATUS, false),
    row("", "v1", "nodes", "Node", &["no"], &[], CLUSTER, STATUS, false),
    row("", "v1", "pods", "Pod", &["po"], ALL, NS, STATUS, false),
    row("", "v1", "services", "Service", &["svc"], ALL, NS, STATUS, false),
    row("", "v1", "endpoints", "Endpoints", &["ep"], &[], NS, PLAIN, false),
    row("", "v1", "configmaps", "ConfigMap", &["cm"], &[], NS, PLAIN, false),
    row("", "v1", "secrets", "Secret", &[], &[], NS, PLAIN, false),
    row("", "v1", "serviceaccounts", "ServiceAccount", &["sa"], &[], NS, PLAIN, false),
    row("", "v1", "events", "Event", &["ev"], &[], NS, PLAIN, false),
    row("events.k8s.io", "v1", "events", "Event", &["ev"], &[], NS, PLAIN, false),
    row("apps", "v1", "deployments", "Deployment", &["deploy"], ALL, NS, STATUS, SCALE),
    row("apps", "v1", "replicasets", "ReplicaSet", &["rs"], ALL, NS, STATUS, SCALE),
    row("apps", "v1", "statefulsets", "StatefulSet", &["sts"], ALL, NS, STATUS, SCALE),
    row("apps", "v1", "daemonsets", "DaemonSet", &["ds"], ALL, NS, STATUS, false),
    row("batch", "v1", "jobs", "Job", &[], ALL, NS, STATUS, false),
    row("batch", "v1", "cronjobs", "CronJob", &["cj"], ALL, NS, STATUS, false),
    row("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", &[], &[], NS, PLAIN, false),
    row("coordination.k8s.io", "v1", "leases", "Lease", &[], &[], NS, PLAIN, false),
    row(RBAC, "v1", "roles", "Role", &[], &[], NS, PLAIN, false),
    row(RBAC, "v1", "rolebindings", "RoleBinding", &[], &[], NS, PLAIN, false),
    row(RBAC, "v1", "clusterroles", "ClusterRole", &[], &[], CLUSTER, PLAIN, false),
    row(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", &[], &[], CLUSTER, PLAIN, false),
    row("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", &["crd", "crds"], &["api-extensions"], CLUSTER, STATUS, false),
    row("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", &["pdb"], &[], NS, STATUS, false),
    row("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", &["netpol"], &[], NS, PLAIN, false),
    // Stored only; see `admission::kinds::stored`.
    row("networking.k8s.io", "v1", "ingresses", "Ingress", &["ing"], &[], NS, STATUS, false),
    row("networking.k8s.io", "v1", "ingressclasses", "IngressClass", &[], &[], CLUSTER, PLAIN, false),
    row("", "v1", "limitranges", "LimitRange", &["limits"], &[], NS, PLAIN, false),
    row("", "v1", "resourcequotas", "ResourceQuota", &["quota"], &[], NS, STATUS, false),
    row("", "v1", "persistentvolumes", "PersistentVolume", &["pv"], &[], CLUSTER, STATUS, false),
    row("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", &["pvc"], &[], NS, STATUS, false),
    row("", "v1", "replicationcontrollers", "ReplicationController", &["rc"], ALL, NS, STATUS, SCALE),
    row("", "v1", "podtemplates", "PodTemplate", &[], &[], NS, PLAIN, false),
    row("apps", "v1", "controllerrevisions", "ControllerRevision", &[], &[], NS, PLAIN, false),
    row(ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", &[], &["api-extensions"], CLUSTER, PLAIN, false),
    row(ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", &[], &["api-extensions"], CLUSTER, PLAIN, false),
    row(ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", &[], &["api-extensions"], CLUSTER, STATUS, false),
    row(ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", &[], &["api-extensions"], CLUSTER, PLAIN, false),
    row("apiregistration.k8s.io", "v1", "apiservices", "APIService", &[], &["api-extensions"], CLUSTER, STATUS, false),
    row("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", &["hpa"], ALL, NS, STATUS, false),
    row("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", &["csr"], &[], CLUSTER, STATUS, false),
    row("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", &[], &[], CLUSTER, STATUS, false),
    row("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", &[], &[], CLUSTER, STATUS, false),
    row("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", &[], &[], CLUSTER, PLAIN, false),
    row("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", &["pc"], &[], CLUSTER, PLAIN, false),
    row("storage.k8s.io", "v1", "storageclasses", "StorageClass", &["sc"], &[], CLUSTER, PLAIN, false),
    row("storage.k8s.io", "v1", "csidrivers", "CSIDriver", &[], &[], CLUSTER, PLAIN, false),
    row("storage.k8s.io", "v1", "csinodes", "CSINode", &[], &[], CLUSTER, PLAIN, false),
    row("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", &[], &[], NS, PLAIN, false),
    row("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", &[], &[], CLUSTER, STATUS, false),
];

#[expect(clippy::too_many_arguments, reason = "one argument per column of the table above")]
const fn row(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    status: bool,
    scale: bool,
) -> BuiltIn {
    BuiltIn {
        group,
        version,
        plural,
        kind,
        short,
        categories,
        namespaced,
        status,
        scale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability() {
        let mut versions = vec!["v1alpha1", "foo", "v1", "v1beta2", "v2", "v1beta1"];
        versions.sort_by_key(|v| std::cmp::Reverse(version_priority(v)));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn every_built_in_type_is_one_of_kubernetes() {
        for row in BUILT_IN {
            let kind = meshproof_kinds::Kind::of_resource(row.group, row.version, row.plural).unwrap();
            assert_eq!(
                (kind.kind, kind.namespaced),
                (row.kind, row.namespaced),
                "{}",
                row.plural
            );
        }
    }

    #[test]
    fn both_event_groups_share_storage() {
        let registry = Registry::built_in();
        let a = registry.lookup(&crate::gvr::EVENTS).unwrap();
        let b = registry
            .lookup(&Gvr::constant("events.k8s.io", "v1", "events"))
            .unwrap();
        assert_eq!(a.storage, b.storage);
    }
}
