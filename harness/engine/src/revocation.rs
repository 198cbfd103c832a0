//! Tokens that end with an object, and the wait until the API servers refuse them.
//!
//! Deleting a token's Secret, or its ServiceAccount, ends it; but an API server that has accepted a token accepts it for a
//! while longer without looking. Whoever connects anew within that time gets in, so that a step that revokes is over only when
//! the token is refused.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::api::{ErrorClass, RequestError, classify, describe, text_at};
use crate::environment::Cluster;
use crate::problem::{self, Problem};

/// For so long an API server accepts a token that it has accepted, whatever became of it (scenario time): `TokenSuccessCacheTTL`
/// in `pkg/kubeapiserver/options/authentication.go` of Kubernetes. Each server of a cluster remembers for itself, so that a
/// refusal before that time tells of one server only.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Between two questions (scenario time).
const PAUSE: Duration = Duration::from_secs(1);

const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Tokens, in no form that could be printed.
#[derive(Default)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// The token in a Secret; none in a Secret of another type, or in one that is not filled.
    #[must_use]
    pub fn of_secret(secret: &Secret) -> Self {
        let token = || {
            let bytes = secret.data.as_ref()?.get("token")?;
            String::from_utf8(bytes.0.clone())
                .ok()
                .filter(|token| !token.is_empty())
        };
        let is_token = secret.type_.as_deref() == Some(TOKEN_TYPE);
        Self(is_token.then(token).flatten().into_iter().collect())
    }

    /// The tokens that end when this object is deleted.
    ///
    /// # Errors
    /// When it is a ServiceAccount and the Secrets of its namespace can't be listed.
    pub(crate) async fn ending_with(cluster: &Cluster, object: &Value) -> Result<Self, Problem> {
        if text_at(object, "/apiVersion") != "v1" {
            return Ok(Self::default());
        }
        match text_at(object, "/kind") {
            "Secret" => {
                let secret = serde_json::from_value(object.clone());
                Ok(secret.map(|secret| Self::of_secret(&secret)).unwrap_or_default())
            }
            "ServiceAccount" => {
                let (namespace, name) = (
                    text_at(object, "/metadata/namespace"),
                    text_at(object, "/metadata/name"),
                );
                let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
                let listed = secrets
                    .list(&ListParams::default().fields(&format!("type={TOKEN_TYPE}")))
                    .await;
                let listed = listed.map_err(|error| RequestError {
                    what: format!(
                        "{}: list the token Secrets of ServiceAccount {namespace}/{name}",
                        cluster.name
                    ),
                    class: classify(&error),
                    message: describe(&error),
                })?;
                let own = listed
                    .iter()
                    .filter(|secret| secret.annotations().get(ACCOUNT).is_some_and(|of| of == name));
                Ok(Self(own.flat_map(|secret| Self::of_secret(secret).0).collect()))
            }
            _ => Ok(Self::default()),
        }
    }

    /// Adds other tokens to these.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Waits until every API server of `cluster` refuses all of these tokens, whose objects have just been deleted. A second of
    /// scenario time takes `second` of wall time, and `within` is wall time.
    ///
    /// # Errors
    /// A [`Problem`] of the environment when one is still accepted at the end, or when no server answers.
    pub async fn refused(&self, cluster: &Cluster, second: Duration, within: Duration) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let wall = |scenario: Duration| second.mul_f64(scenario.as_secs_f64());
        let begin = tokio::time::Instant::now();
        tokio::time::sleep(wall(REMEMBERED)).await;
        for token in &self.0 {
            loop {
                let answer = ask(cluster, token, wall(REMEMBERED)).await?;
                let told = match answer {
                    Answer::Refused => break,
                    Answer::Accepted => "it is still accepted".to_owned(),
                    Answer::None(why) => format!("the API server does not tell: {why}"),
                };
                if begin.elapsed() >= within {
                    return Err(problem::environment(
                        "token-not-refused",
                        format!(
                            "cluster {}: a token whose Secret is deleted should be refused: {told}, {:.0} s later",
                            cluster.name,
                            begin.elapsed().as_secs_f64() / second.as_secs_f64()
                        ),
                        Some("see how the cluster's API servers check and remember tokens"),
                    ));
                }
                tokio::time::sleep(wall(PAUSE)).await;
            }
        }
        Ok(())
    }
}

enum Answer {
    Refused,
    Accepted,
    None(String),
}

/// Asks with a token, on a connection of its own, for what needs no right: who is not known gets a 401, and only they.
async fn ask(cluster: &Cluster, token: &str, within: Duration) -> Result<Answer, Problem> {
    let client = client_with(cluster, token).await.map_err(|why| {
        problem::harness(
            "kubeconfig-unusable",
            format!("cluster {}: its kubeconfig with another token: {why}", cluster.name),
            None,
        )
    })?;
    let request = http::Request::get("/version").body(Vec::new());
    let request = request.map_err(|error| problem::harness("request-malformed", error.to_string(), None))?;
    Ok(match tokio::time::timeout(within, client.request_text(request)).await {
        Err(_) => Answer::None("no answer".to_owned()),
        Ok(Ok(_)) => Answer::Accepted,
        Ok(Err(error)) => match classify(&error) {
            ErrorClass::Refused(401) => Answer::Refused,
            ErrorClass::Refused(_) => Answer::Accepted,
            _ => Answer::None(describe(&error)),
        },
    })
}

async fn client_with(cluster: &Cluster, token: &str) -> Result<kube::Client, String> {
    let mut kubeconfig = Kubeconfig::from_yaml(&cluster.kubeconfig).map_err(|error| error.to_string())?;
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(AuthInfo {
            token: Some(token.to_owned().into()),
            ..AuthInfo::default()
        });
    }
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    kube::Client::try_from(config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(kind: &str) -> Secret {
        serde_json::from_value(json!({"type": kind, "data": {"token": "dDE="}})).unwrap()
    }

    #[test]
    fn only_filled_token_secrets_have_a_token() {
        assert_eq!(Tokens::of_secret(&secret(TOKEN_TYPE)).0, ["t1"]);
        assert!(Tokens::of_secret(&secret("Opaque")).0.is_empty());
        let empty: Secret = serde_json::from_value(json!({"type": TOKEN_TYPE})).unwrap();
        assert!(Tokens::of_secret(&empty).0.is_empty());
    }
}
