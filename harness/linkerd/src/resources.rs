//! Kinds: from what a scenario writes to the resource that the API serves.

use kube::core::{ApiResource, GroupVersionKind};
use meshproof_engine::kinds;

/// The mesh's own kinds: kind, group, version, plural.
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
const BUILT_IN: &[&str] = &[
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Secret",
    "ConfigMap",
    "ServiceAccount",
    "Namespace",
    "Deployment",
    "PodDisruptionBudget",
    "Lease",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
];

/// Kinds that the real control plane makes objects of besides.
const OF_VENDOR: &[&str] = &[
    "CronJob",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
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
    kinds::own(kind).map(|own| own.resource).or_else(|| of_mesh(kind, None))
}

/// All kinds that the mesh makes objects of, a model or the real one.
pub(crate) fn all(real: bool) -> Vec<ApiResource> {
    let more = if real { OF_VENDOR } else { &[] };
    BUILT_IN
        .iter()
        .chain(more)
        .filter_map(|kind| kinds::own(kind))
        .map(|own| own.resource)
        .chain(KINDS.iter().map(|row| resource(*row)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, KINDS, OF_VENDOR, all, of_mesh};

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

    #[test]
    fn every_built_in_kind_is_one_that_the_engine_knows() {
        assert_eq!(all(false).len(), BUILT_IN.len() + KINDS.len());
        assert_eq!(all(true).len(), BUILT_IN.len() + OF_VENDOR.len() + KINDS.len());
    }
}
