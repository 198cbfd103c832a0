//! Replacing the credentials of a link: a new token in the target, both Secrets of the source updated in place, then the
//! old token revoked. That is what a rotation by hand or by a secrets operator does.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde_json::json;

use crate::apply::within;
use crate::names::{self, CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE, REMOTE_ACCESS};

const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Rotates the credentials with which `from` reads `to`.
pub(crate) async fn rotate(from: &Cluster, to: &Cluster, deadline: Duration) -> Result<(), Problem> {
    let target: Api<Secret> = Api::namespaced(to.client.clone(), MULTICLUSTER_NAMESPACE);
    let old: Vec<String> = target
        .list(&ListParams::default().fields("type=kubernetes.io/service-account-token"))
        .await
        .map_err(|error| api_problem(to, "list token Secrets", &error))?
        .into_iter()
        .filter(|secret| {
            secret
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(ACCOUNT))
                .is_some_and(|of| of == REMOTE_ACCESS)
        })
        .filter_map(|secret| secret.metadata.name)
        .collect();

    let fresh: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "generateName": format!("{REMOTE_ACCESS}-token-"),
            "labels": {"linkerd.io/extension": "multicluster"},
            "annotations": {ACCOUNT: REMOTE_ACCESS},
        },
    }))
    .map_err(|error| problem::harness("secret-malformed", error.to_string(), None))?;
    let fresh = target
        .create(&PostParams::default(), &fresh)
        .await
        .map_err(|error| api_problem(to, "create a token Secret", &error))?;
    let name = fresh.metadata.name.unwrap_or_default();
    let filled = await_condition(target.clone(), &name, |secret: Option<&Secret>| {
        secret.and_then(token).is_some()
    });
    let secret = within(deadline, to, "the new token", filled).await?;
    let token = secret.as_ref().and_then(token).unwrap_or_default();

    for namespace in [MULTICLUSTER_NAMESPACE, CONTROL_NAMESPACE] {
        replace_token(from, namespace, &names::credentials(&to.name), &token).await?;
    }
    for name in old {
        target
            .delete(&name, &DeleteParams::default())
            .await
            .map_err(|error| api_problem(to, "delete the old token Secret", &error))?;
    }
    Ok(())
}

async fn replace_token(cluster: &Cluster, namespace: &str, name: &str, token: &str) -> Result<(), Problem> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let secret = secrets
        .get(name)
        .await
        .map_err(|error| api_problem(cluster, "read the link's credentials", &error))?;
    let malformed = |what: &str| {
        problem::environment(
            "credentials-malformed",
            format!("cluster {}: Secret {namespace}/{name}: {what}", cluster.name),
            Some("link the clusters again"),
        )
    };
    let kubeconfig = secret
        .data
        .as_ref()
        .and_then(|data| data.get("kubeconfig"))
        .ok_or_else(|| malformed("no key `kubeconfig`"))?;
    let mut config: serde_yaml::Value =
        serde_yaml::from_slice(&kubeconfig.0).map_err(|_| malformed("`kubeconfig` is not YAML"))?;
    let user = config
        .get_mut("users")
        .and_then(|users| users.get_mut(0))
        .and_then(|user| user.get_mut("user"))
        .and_then(serde_yaml::Value::as_mapping_mut)
        .ok_or_else(|| malformed("`kubeconfig` has no user"))?;
    user.insert("token".into(), token.into());
    let text = serde_yaml::to_string(&config).map_err(|_| malformed("`kubeconfig` can't be written"))?;
    let patch = json!({"data": {"kubeconfig": ByteString(text.into_bytes())}});
    secrets
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(|error| api_problem(cluster, "write the link's credentials", &error))?;
    Ok(())
}

fn token(secret: &Secret) -> Option<String> {
    let bytes = secret.data.as_ref()?.get("token")?;
    String::from_utf8(bytes.0.clone())
        .ok()
        .filter(|token| !token.is_empty())
}

fn api_problem(cluster: &Cluster, what: &str, error: &kube::Error) -> Problem {
    problem::environment(
        "api-refused",
        format!("cluster {}: {what}: {error}", cluster.name),
        None,
    )
}
