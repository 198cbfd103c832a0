//! Whether the Secrets with a link's credentials have the shape that their readers need. What is wrong with them shows
//! nowhere else: a Secret that lacks its metadata is passed over in silence.

use k8s_openapi::api::core::v1::Secret;

use crate::names::{
    CONTROL_NAMESPACE, CREDENTIALS_CLUSTER, CREDENTIALS_CLUSTER_DOMAIN, CREDENTIALS_TRUST_DOMAIN, CREDENTIALS_TYPE,
};

/// What is wrong with a Secret with the credentials for `cluster`; empty when nothing. The one in the control plane's
/// namespace, for flat and federated Services, needs more than the one for the controller.
#[must_use]
pub fn wrong(secret: &Secret, cluster: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if secret.type_.as_deref() != Some(CREDENTIALS_TYPE) {
        let found = secret.type_.as_deref().unwrap_or("none");
        wrong.push(format!("its type is `{found}`, not `{CREDENTIALS_TYPE}`"));
    }
    if !secret.data.as_ref().is_some_and(|data| data.contains_key("kubeconfig")) {
        wrong.push("it has no key `kubeconfig`".to_owned());
    }
    if secret.metadata.namespace.as_deref() != Some(CONTROL_NAMESPACE) {
        return wrong;
    }
    let label = secret
        .metadata
        .labels
        .as_ref()
        .and_then(|all| all.get(CREDENTIALS_CLUSTER));
    if label.map(String::as_str) != Some(cluster) {
        wrong.push(format!("its label {CREDENTIALS_CLUSTER} is not `{cluster}`"));
    }
    for annotation in [CREDENTIALS_TRUST_DOMAIN, CREDENTIALS_CLUSTER_DOMAIN] {
        let value = secret.metadata.annotations.as_ref().and_then(|all| all.get(annotation));
        if value.is_none_or(String::is_empty) {
            wrong.push(format!("it has no annotation {annotation}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::wrong;
    use k8s_openapi::api::core::v1::Secret;

    #[test]
    fn everything_that_is_missing_is_told() {
        let mut secret = Secret::default();
        assert_eq!(wrong(&secret, "east").len(), 2);
        secret.metadata.namespace = Some("linkerd".into());
        assert_eq!(wrong(&secret, "east").len(), 5);
    }
}
