//! The table of built-in kinds.

use crate::shape::{Shape, shape_of_kind};
use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v1 as autoscaling, autoscaling::v2 as autoscaling_v2,
    batch::v1 as batch, certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, flowcontrol::v1 as flowcontrol, networking::v1 as networking,
    node::v1 as node, policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;
use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};

/// A built-in kind, in one version.
#[derive(Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version inside the group, like `v1`.
    pub version: &'static str,
    /// `apiVersion` of objects, like `apps/v1` or `v1`.
    pub api_version: &'static str,
    /// Name of the kind, like `Deployment`.
    pub kind: &'static str,
    /// Name of the resource in URLs, like `deployments`.
    pub plural: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    pub(crate) definition: fn(&mut SchemaGenerator) -> Schema,
    /// Position in [`Kind::all`].
    index: usize,
}

/// Whether a scope is inside of namespaces.
trait Scope {
    const NAMESPACED: bool;
}

impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

impl Kind {
    const fn of<T: Resource + JsonSchema>() -> Self
    where
        T::Scope: Scope,
    {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            api_version: T::API_VERSION,
            kind: T::KIND,
            plural: T::URL_PATH_SEGMENT,
            namespaced: <T::Scope as Scope>::NAMESPACED,
            definition: SchemaGenerator::subschema_for::<T>,
            index: 0,
        }
    }

    /// All built-in kinds in their stable versions, in no order that matters. Subresources (`Scale`, `Eviction`, …) are not
    /// among them.
    pub fn all() -> &'static [Kind] {
        KINDS
    }

    /// The built-in kind of objects with this `apiVersion` and `kind`.
    pub fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|k| k.kind == kind && k.api_version == api_version)
    }

    /// The built-in kind of a resource, as URLs name it.
    pub fn of_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        KINDS
            .iter()
            .find(|k| k.plural == plural && k.group == group && k.version == version)
    }

    /// Built-in kinds with this name, in any group and version.
    pub fn named(kind: &str) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(move |k| k.kind == kind)
    }

    /// Kubernetes' name of the type in OpenAPI, like `io.k8s.api.apps.v1.Deployment`.
    pub fn type_name(&'static self) -> &'static str {
        match self.shape() {
            Shape::Object(fields) => fields.name(),
            Shape::Scalar(_) | Shape::List(_) | Shape::Map(_) | Shape::FreeForm => self.kind,
        }
    }

    /// What objects of this kind look like.
    pub fn shape(&'static self) -> &'static Shape {
        shape_of_kind(self.index)
    }
}

macro_rules! kinds {
    ($($group:ident: $($kind:ident)+;)+) => {
        static KINDS: &[Kind] = &number([$($(Kind::of::<$group::$kind>()),+),+]);
    };
}

/// Gives each kind its position.
const fn number<const N: usize>(mut kinds: [Kind; N]) -> [Kind; N] {
    let mut index = 0;
    while index < N {
        kinds[index].index = index;
        index += 1;
    }
    kinds
}

kinds! {
    core: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
        PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
    admission: MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
        ValidatingWebhookConfiguration;
    apps: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
    authentication: SelfSubjectReview TokenReview;
    authorization: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
    autoscaling: HorizontalPodAutoscaler;
    autoscaling_v2: HorizontalPodAutoscaler;
    batch: CronJob Job;
    certificates: CertificateSigningRequest;
    coordination: Lease;
    discovery: EndpointSlice;
    events: Event;
    extensions: CustomResourceDefinition;
    flowcontrol: FlowSchema PriorityLevelConfiguration;
    networking: IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
    node: RuntimeClass;
    policy: PodDisruptionBudget;
    rbac: ClusterRole ClusterRoleBinding Role RoleBinding;
    registration: APIService;
    scheduling: PriorityClass;
    storage: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_either_name() {
        let pod = Kind::find("v1", "Pod").unwrap();
        assert_eq!((pod.group, pod.plural, pod.namespaced), ("", "pods", true));
        let role = Kind::of_resource("rbac.authorization.k8s.io", "v1", "clusterroles").unwrap();
        assert_eq!((role.kind, role.namespaced), ("ClusterRole", false));
        assert_eq!(Kind::named("HorizontalPodAutoscaler").count(), 2);
        assert!(Kind::find("v1", "Deployment").is_none());
        assert!(Kind::find("linkerd.io/v1", "Pod").is_none());
    }

    #[test]
    fn no_kind_is_there_twice() {
        let mut names: Vec<_> = Kind::all().iter().map(|k| (k.api_version, k.kind)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::all().len());
    }
}
