//! Kinds: from what a scenario writes to the resource that the API serves.

use kube::core::{ApiResource, GroupVersionKind};

/// The mesh's own kinds and those it makes objects of: kind, group, version, plural, namespaced.
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("Link", "multicluster.linkerd.io", "v1alpha3", "links"),
    ("Server", "policy.linkerd.io", "v1beta3", "servers"),
    (
        "AuthorizationPolicy",
        "policy.linkerd.io",
        "v1alpha1",
        "authorizationpolicies",
    ),
    (
        "MeshTLSAuthentication",
        "policy.linkerd.io",
        "v1alpha1",
        "meshtlsauthentications",
    ),
    (
        "NetworkAuthentication",
        "policy.linkerd.io",
        "v1alpha1",
        "networkauthentications",
    ),
    ("ServiceProfile", "linkerd.io", "v1alpha2", "serviceprofiles"),
    ("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes"),
];

/// Kinds of Kubernetes that the mesh makes objects of.
const BUILT_IN: &[(&str, &str, &str, &str)] = &[
    ("Service", "", "v1", "services"),
    ("Endpoints", "", "v1", "endpoints"),
    ("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    ("Secret", "", "v1", "secrets"),
    ("ConfigMap", "", "v1", "configmaps"),
    ("ServiceAccount", "", "v1", "serviceaccounts"),
    ("Namespace", "", "v1", "namespaces"),
    ("Deployment", "apps", "v1", "deployments"),
    ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    ("Lease", "coordination.k8s.io", "v1", "leases"),
    ("Role", "rbac.authorization.k8s.io", "v1", "roles"),
    ("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("ClusterRole", "rbac.authorization.k8s.io", "v1", "clusterroles"),
    (
        "ClusterRoleBinding",
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
    ),
    (
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
    ),
];

fn resource((kind, group, version, plural): (&str, &str, &str, &str)) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// One of the mesh's own kinds; `api` overrides group and version.
pub(crate) fn of_mesh(kind: &str, api: Option<&str>) -> Option<ApiResource> {
    let row = *KINDS.iter().find(|row| row.0 == kind)?;
    match api {
        None => Some(resource(row)),
        Some(api) => {
            let (group, version) = api.split_once('/')?;
            (group == row.1).then(|| resource((kind, group, version, row.3)))
        }
    }
}

/// A kind of Kubernetes or of the mesh.
pub(crate) fn of_any(kind: &str) -> Option<ApiResource> {
    BUILT_IN
        .iter()
        .chain(KINDS)
        .find(|row| row.0 == kind)
        .map(|row| resource(*row))
}

/// All kinds that the mesh makes objects of.
pub(crate) fn all() -> Vec<ApiResource> {
    BUILT_IN.iter().chain(KINDS).map(|row| resource(*row)).collect()
}

#[cfg(test)]
mod tests {
    use super::of_mesh;

    #[test]
    fn a_link_is_known_in_all_its_versions_but_not_in_another_group() {
        assert_eq!(
            of_mesh("Link", None).unwrap().api_version,
            "multicluster.linkerd.io/v1alpha3"
        );
        let old = of_mesh("Link", Some("multicluster.linkerd.io/v1alpha1")).unwrap();
        assert_eq!((old.version.as_str(), old.plural.as_str()), ("v1alpha1", "links"));
        assert!(of_mesh("Link", Some("example.com/v1")).is_none());
        assert!(of_mesh("TrafficSplit", None).is_none());
    }
}
