//! From a kind's name to the resource that the API serves it under.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};

use crate::api::{ErrorClass, Requests};
use crate::driver::MeshDriver;
use crate::environment::Cluster;
use crate::plan::locks::is_cluster_scoped;
use crate::problem::{self, Problem};

/// Time for asking the API about a kind (scenario time).
const ASK_TIME: Duration = Duration::from_secs(60);

/// A kind as the API serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Its resource.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// The namespace of an object of this kind: nothing for cluster-scoped ones.
    #[must_use]
    pub fn namespace<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        self.namespaced.then_some(namespace)
    }
}

/// Kinds of Kubernetes itself that scenarios name without `api`: kind, group, version, plural.
const OWN: [(&str, &str, &str, &str); 37] = [
    ("APIService", "apiregistration.k8s.io", "v1", "apiservices"),
    ("ClusterRole", "rbac.authorization.k8s.io", "v1", "clusterroles"),
    (
        "ClusterRoleBinding",
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
    ),
    ("ConfigMap", "", "v1", "configmaps"),
    ("ControllerRevision", "apps", "v1", "controllerrevisions"),
    ("CronJob", "batch", "v1", "cronjobs"),
    (
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
    ),
    ("DaemonSet", "apps", "v1", "daemonsets"),
    ("Deployment", "apps", "v1", "deployments"),
    ("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    ("Endpoints", "", "v1", "endpoints"),
    ("Event", "", "v1", "events"),
    (
        "HorizontalPodAutoscaler",
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
    ),
    ("Ingress", "networking.k8s.io", "v1", "ingresses"),
    ("Job", "batch", "v1", "jobs"),
    ("Lease", "coordination.k8s.io", "v1", "leases"),
    ("LimitRange", "", "v1", "limitranges"),
    (
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
    ),
    ("Namespace", "", "v1", "namespaces"),
    ("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    ("Node", "", "v1", "nodes"),
    ("PersistentVolume", "", "v1", "persistentvolumes"),
    ("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    ("Pod", "", "v1", "pods"),
    ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    ("PriorityClass", "scheduling.k8s.io", "v1", "priorityclasses"),
    ("ReplicaSet", "apps", "v1", "replicasets"),
    ("ResourceQuota", "", "v1", "resourcequotas"),
    ("Role", "rbac.authorization.k8s.io", "v1", "roles"),
    ("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("Secret", "", "v1", "secrets"),
    ("Service", "", "v1", "services"),
    ("ServiceAccount", "", "v1", "serviceaccounts"),
    ("StatefulSet", "apps", "v1", "statefulsets"),
    (
        "ValidatingAdmissionPolicy",
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
    ),
    (
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
    ),
];

/// A kind of Kubernetes itself.
#[must_use]
pub fn own(kind: &str) -> Option<Kind> {
    let (kind, group, version, plural) = OWN.iter().find(|row| row.0 == kind)?;
    Some(Kind {
        resource: ApiResource {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
            api_version: if group.is_empty() {
                (*version).to_owned()
            } else {
                format!("{group}/{version}")
            },
            kind: (*kind).to_owned(),
            plural: (*plural).to_owned(),
        },
        namespaced: !is_cluster_scoped(kind) && *kind != "PersistentVolume",
    })
}

/// A kind of the engine's own use, which is in the table.
pub(crate) fn known(kind: &str) -> Kind {
    own(kind).unwrap_or_else(|| Kind {
        resource: ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind)),
        namespaced: true,
    })
}

/// Cluster, kind and `group/version` that were asked for.
type Asked = (String, String, Option<String>);

/// Finds kinds, and remembers them per cluster.
#[derive(Default)]
pub struct Kinds {
    found: Mutex<HashMap<Asked, Kind>>,
}

impl Kinds {
    /// The kind of a name, and a `group/version` where the name alone does not tell.
    ///
    /// # Errors
    /// A [`Problem`] when nobody knows the kind.
    pub async fn find(
        &self,
        cluster: &Cluster,
        driver: &Arc<dyn MeshDriver>,
        requests: &Requests,
        kind: &str,
        api: Option<&str>,
    ) -> Result<Kind, Problem> {
        if let Some(own) = own(kind)
            && api.is_none_or(|api| api == own.resource.api_version)
        {
            return Ok(own);
        }
        let key = (cluster.name.clone(), kind.to_owned(), api.map(ToOwned::to_owned));
        if let Some(found) = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(found.clone());
        }
        let of_mesh = driver.resource(kind, api);
        let asked = match (&of_mesh, api) {
            (Some(resource), _) => GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind),
            (None, Some(api)) => {
                let (group, version) = api.split_once('/').unwrap_or(("", api));
                GroupVersionKind::gvk(group, version, kind)
            }
            (None, None) => {
                return Err(problem::harness(
                    "unknown-kind",
                    format!(
                        "the kind `{kind}` is neither one of Kubernetes nor of {}",
                        driver.name()
                    ),
                    Some("write the kind's `api: group/version` beside it"),
                ));
            }
        };
        let what = format!("{}: look up {} {}", cluster.name, asked.api_version(), asked.kind);
        let answer = requests
            .send(&what, ASK_TIME, || pinned_kind(&cluster.client, &asked))
            .await;
        match answer {
            Ok((resource, capabilities)) => {
                let found = Kind {
                    resource,
                    namespaced: capabilities.scope == Scope::Namespaced,
                };
                self.found
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key, found.clone());
                Ok(found)
            }
            // Not served (yet, or any more): a check may wait for just that.
            Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::NotUnderstood) => Ok(Kind {
                resource: of_mesh.unwrap_or_else(|| ApiResource::from_gvk(&asked)),
                namespaced: !is_cluster_scoped(kind),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn own_kinds_have_their_group_and_scope() {
        let deployment = own("Deployment").unwrap();
        assert_eq!(deployment.resource.api_version, "apps/v1");
        assert!(deployment.namespaced);
        assert!(!own("ClusterRole").unwrap().namespaced);
        assert!(!own("PersistentVolume").unwrap().namespaced);
        assert!(own("PersistentVolumeClaim").unwrap().namespaced);
        assert!(own("Link").is_none());
    }
}
