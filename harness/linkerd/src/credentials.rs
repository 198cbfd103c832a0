//! Replacing the credentials of a link: a new token in the target, both Secrets of the source updated in place, then the
//! old token revoked. That is what a rotation by hand or by a secrets operator does. It is over when the old token is refused.
//!
//! Whose token it is stands in the link's own Secret: another link of the target is touched only where it shares the
//! ServiceAccount.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::revocation::Tokens;
use serde_json::json;

use crate::apply::within;
use crate::names::{self, CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE};

const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Rotates the credentials with which `from` reads `to`. A second of scenario time takes `second`.
pub(crate) async fn rotate(from: &Cluster, to: &Cluster, second: Duration, deadline: Duration) -> Result<(), Problem> {
    let name = names::credentials(&to.name);
    let mut linked = Vec::new();
    for namespace in [MULTICLUSTER_NAMESPACE, CONTROL_NAMESPACE] {
        linked.push(LinkSecret::read(from, namespace, &name).await?);
    }
    // link-gen names the kubeconfig's user by its ServiceAccount.
    let account = linked[0].user()?;
    let target: Api<Secret> = Api::namespaced(to.client.clone(), MULTICLUSTER_NAMESPACE);
    let old: Vec<Secret> = target
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
                .is_some_and(|of| *of == account)
        })
        .collect();

    let fresh: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "generateName": format!("{account}-token-"),
            "labels": {"linkerd.io/extension": "multicluster"},
            "annotations": {ACCOUNT: account},
        },
    }))
    .map_err(|error| problem::harness("secret-malformed", error.to_string(), None))?;
    let fresh = target
        .create(&PostParams::default(), &fresh)
        .await
        .map_err(|error| api_problem(to, "create a token Secret", &error))?;
    let fresh = fresh.metadata.name.unwrap_or_default();
    let filled = await_condition(target.clone(), &fresh, |secret: Option<&Secret>| {
        secret.and_then(token).is_some()
    });
    let secret = within(deadline, to, "the new token", filled).await?;
    let token = secret.as_ref().and_then(token).unwrap_or_default();

    for secret in linked {
        secret.write_token(&token).await?;
    }
    let mut revoked = Tokens::default();
    for secret in old {
        target
            .delete(
                secret.metadata.name.as_deref().unwrap_or_default(),
                &DeleteParams::default(),
            )
            .await
            .map_err(|error| api_problem(to, "delete the old token Secret", &error))?;
        revoked.extend(Tokens::of_secret(&secret));
    }
    revoked.refused(to, second, deadline).await
}

/// A Secret of the source with a kubeconfig for the target.
struct LinkSecret<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    name: &'a str,
    config: serde_yaml::Value,
}

impl<'a> LinkSecret<'a> {
    async fn read(cluster: &'a Cluster, namespace: &'a str, name: &'a str) -> Result<Self, Problem> {
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
        let secret = secrets
            .get(name)
            .await
            .map_err(|error| api_problem(cluster, "read the link's credentials", &error))?;
        let mut found = Self {
            cluster,
            namespace,
            name,
            config: serde_yaml::Value::Null,
        };
        let kubeconfig = secret.data.as_ref().and_then(|data| data.get("kubeconfig"));
        let kubeconfig = kubeconfig.ok_or_else(|| found.malformed("no key `kubeconfig`"))?;
        found.config =
            serde_yaml::from_slice(&kubeconfig.0).map_err(|_| found.malformed("`kubeconfig` is not YAML"))?;
        Ok(found)
    }

    /// Name of the kubeconfig's only user.
    fn user(&self) -> Result<String, Problem> {
        let users = self.config.get("users").and_then(|users| users.get(0));
        users
            .and_then(|user| user.get("name"))
            .and_then(serde_yaml::Value::as_str)
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.malformed("`kubeconfig` has no user"))
    }

    async fn write_token(mut self, token: &str) -> Result<(), Problem> {
        let users = self.config.get_mut("users").and_then(|users| users.get_mut(0));
        let user = users
            .and_then(|user| user.get_mut("user"))
            .and_then(serde_yaml::Value::as_mapping_mut);
        match user {
            Some(user) => user.insert("token".into(), token.into()),
            None => return Err(self.malformed("`kubeconfig` has no user")),
        };
        let text = serde_yaml::to_string(&self.config).map_err(|_| self.malformed("`kubeconfig` can't be written"))?;
        let patch = json!({"data": {"kubeconfig": ByteString(text.into_bytes())}});
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        secrets
            .patch(self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|error| api_problem(self.cluster, "write the link's credentials", &error))?;
        Ok(())
    }

    fn malformed(&self, what: &str) -> Problem {
        problem::environment(
            "credentials-malformed",
            format!(
                "cluster {}: Secret {}/{}: {what}",
                self.cluster.name, self.namespace, self.name
            ),
            Some("link the clusters again"),
        )
    }
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
