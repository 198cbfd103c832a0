//! Whether the control plane's webhooks really act, which its rollout does not say: an API server reaches a webhook only when
//! the way to its Service is there as well, and until then those of Linkerd fail open (`webhookFailurePolicy: Ignore`). A pod
//! that is made in that moment stays without a proxy for ever, and an object that should be refused is taken.
//!
//! There is nothing to watch for it: each webhook is asked, by a dry run that it must answer in its own way, until it does. A
//! mesh that others installed is not asked; its pods have been injected long ago.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde_json::{Value, json};

use crate::names::{INJECT, MULTICLUSTER_NAMESPACE};
use crate::{apply, resources};

/// Scenario time between two questions to a webhook.
const PAUSE: Duration = Duration::from_millis(500);
/// Every cluster has this namespace, and no webhook of Linkerd leaves it out.
const NAMESPACE: &str = "default";
/// The container that injection adds, and the one that prepares the pod for it where no CNI plugin does.
const INJECTED: [&str; 2] = ["linkerd-proxy", "linkerd-init"];

/// What an answer says of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It acted.
    Acts,
    /// It did not, or could not be asked at present.
    NotYet(String),
    /// Somebody else refused what was to show it.
    CannotTell,
}

/// Something that only a webhook of the control plane does.
struct Sign {
    /// What is waited for, for people.
    what: &'static str,
    object: Value,
    says: fn(&Result<Value, kube::Error>) -> Answer,
}

/// Waits until those webhooks act that these manifests of the control plane bring. `pace` is the environment's.
///
/// # Errors
/// Code `webhook-idle` when one does not in time.
pub(crate) async fn await_acting(
    cluster: &Cluster,
    manifests: &[Value],
    deadline: Duration,
    pace: f64,
) -> Result<(), Problem> {
    for sign in signs(manifests) {
        await_sign(cluster, &sign, deadline, PAUSE.div_f64(pace)).await?;
    }
    Ok(())
}

fn signs(manifests: &[Value]) -> Vec<Sign> {
    let has = |kind: &str, name: &str| {
        let named = |manifest: &&Value| manifest["kind"] == kind && manifest["metadata"]["name"] == name;
        manifests.iter().find(named).is_some()
    };
    let mut signs = Vec::new();
    if has("Deployment", "linkerd-proxy-injector") {
        signs.push(Sign {
            what: "a Pod that asks for injection to be injected",
            object: json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "meshproof-injection", "namespace": NAMESPACE, "annotations": {INJECT: "enabled"}},
                "spec": {"containers": [{"name": "asks", "image": "meshproof/none"}]},
            }),
            says: injection,
        });
    }
    if has(
        "ValidatingWebhookConfiguration",
        "linkerd-policy-validator-webhook-config",
    ) {
        // Its validator wants at least one network (`policy-controller/src/admission.rs`); the definition's schema does not.
        signs.push(Sign {
            what: "a NetworkAuthentication without networks to be refused by the policy validator",
            object: json!({
                "apiVersion": "policy.linkerd.io/v1alpha1", "kind": "NetworkAuthentication",
                "metadata": {"name": "meshproof-validation", "namespace": NAMESPACE}, "spec": {"networks": []},
            }),
            says: validation,
        });
    }
    signs
}

async fn await_sign(cluster: &Cluster, sign: &Sign, deadline: Duration, pause: Duration) -> Result<(), Problem> {
    let kind = sign.object["kind"].as_str().unwrap_or_default();
    let Some(resource) = resources::of_any(kind) else {
        return Ok(());
    };
    let api = apply::dynamic(cluster, &resource, Some(NAMESPACE));
    let object: DynamicObject = serde_json::from_value(sign.object.clone()).map_err(|error| {
        problem::harness(
            "manifest-incomplete",
            format!("{kind}: {error}"),
            Some("report this as a defect of meshproof"),
        )
    })?;
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut last = String::from("no answer");
    let asking = async {
        loop {
            let answer = api.create(&parameters, &object).await;
            let answer = answer.map(|object| serde_json::to_value(object).unwrap_or_default());
            match (sign.says)(&answer) {
                Answer::Acts | Answer::CannotTell => return,
                Answer::NotYet(why) => last = why,
            }
            tokio::time::sleep(pause).await;
        }
    };
    if tokio::time::timeout(deadline, asking).await.is_ok() {
        return Ok(());
    }
    Err(problem::mesh(
        "webhook-idle",
        format!(
            "cluster {}: waited {:.1} s (wall) after the control plane was rolled out for {}; the last answer: {last}",
            cluster.name,
            deadline.as_secs_f64(),
            sign.what
        ),
        Some("see whether the API server reaches the Services of the control plane's webhooks"),
    ))
}

fn injection(answer: &Result<Value, kube::Error>) -> Answer {
    match answer {
        Ok(pod) if is_injected(&pod["spec"]) => Answer::Acts,
        Ok(_) => Answer::NotYet("it came back without a proxy".to_owned()),
        // Pod security, which comes after injection, does not like what was injected.
        Err(kube::Error::Api(status))
            if status.code == 403 && INJECTED.iter().any(|name| status.message.contains(name)) =>
        {
            Answer::Acts
        }
        Err(error) => refused(error),
    }
}

fn validation(answer: &Result<Value, kube::Error>) -> Answer {
    match answer {
        Ok(_) => Answer::NotYet("it was admitted".to_owned()),
        Err(kube::Error::Api(status)) if status.message.contains("admission webhook \"linkerd-policy-validator") => {
            Answer::Acts
        }
        Err(error) => refused(error),
    }
}

fn refused(error: &kube::Error) -> Answer {
    match error {
        // The namespace's own account is made a moment after the namespace.
        kube::Error::Api(status) if status.message.contains("error looking up service account") => {
            Answer::NotYet(status.message.clone())
        }
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => Answer::CannotTell,
        error => Answer::NotYet(error.to_string()),
    }
}

/// Whether a Pod's spec has the proxy, as a container or as a native sidecar.
fn is_injected(spec: &Value) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        let containers = spec[list].as_array();
        containers.is_some_and(|list| list.iter().any(|container| container["name"] == INJECTED[0]))
    })
}

/// Pods of the extension in these clusters that ask for a proxy and have none, for people: `; Pod … was not injected`. What
/// can't be seen is left out.
pub(crate) async fn uninjected(clusters: [&Cluster; 2]) -> String {
    let mut told = Vec::new();
    for cluster in clusters {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), MULTICLUSTER_NAMESPACE);
        let found = tokio::time::timeout(Duration::from_secs(5), pods.list(&ListParams::default())).await;
        let Ok(Ok(found)) = found else { continue };
        for pod in found {
            let asks = pod.annotations().get(INJECT).is_some_and(|value| value == "enabled");
            let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
            if asks && pod.meta().deletion_timestamp.is_none() && !is_injected(&spec) {
                told.push(format!(
                    "; Pod {} {MULTICLUSTER_NAMESPACE}/{} asks for a proxy and was not injected",
                    cluster.name,
                    pod.name_any()
                ));
            }
        }
    }
    told.concat()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::{Answer, injection, signs, validation};

    fn pod(init: &[&str]) -> Result<Value, kube::Error> {
        let init: Vec<Value> = init.iter().map(|name| json!({"name": name})).collect();
        Ok(json!({"spec": {"initContainers": init, "containers": [{"name": "asks"}]}}))
    }

    fn error(code: u16, message: &str) -> Result<Value, kube::Error> {
        Err(kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        })))
    }

    #[derive(Debug, PartialEq)]
    enum Kind {
        Acts,
        NotYet,
        CannotTell,
    }

    fn kind(answer: Answer) -> Kind {
        match answer {
            Answer::Acts => Kind::Acts,
            Answer::NotYet(_) => Kind::NotYet,
            Answer::CannotTell => Kind::CannotTell,
        }
    }

    #[rstest]
    #[case::injected(pod(&["linkerd-init", "linkerd-proxy"]), Kind::Acts)]
    #[case::failed_open(pod(&[]), Kind::NotYet)]
    #[case::another_mesh(pod(&["istio-proxy"]), Kind::NotYet)]
    #[case::pod_security(
        error(
            403,
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": unrestricted capabilities (container \"linkerd-init\" must not include \"NET_ADMIN\")"
        ),
        Kind::Acts
    )]
    #[case::no_account_yet(
        error(
            403,
            "pods \"x\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
        ),
        Kind::NotYet
    )]
    #[case::somebody_elses_policy(
        error(403, "admission webhook \"validate.kyverno.svc\" denied the request"),
        Kind::CannotTell
    )]
    #[case::failed_closed(
        error(
            500,
            "Internal error occurred: failed calling webhook \"linkerd-proxy-injector.linkerd.io\": connect: connection refused"
        ),
        Kind::NotYet
    )]
    fn a_pod_tells_whether_injection_happens(#[case] answer: Result<Value, kube::Error>, #[case] expected: Kind) {
        assert_eq!(kind(injection(&answer)), expected);
    }

    #[rstest]
    #[case::refused(
        error(
            400,
            "admission webhook \"linkerd-policy-validator.linkerd.io\" denied the request: at least one network must be specified"
        ),
        Kind::Acts
    )]
    #[case::failed_open(Ok(json!({})), Kind::NotYet)]
    #[case::failed_closed(
        error(500, "failed calling webhook \"linkerd-policy-validator.linkerd.io\""),
        Kind::NotYet
    )]
    #[case::by_the_schema(error(422, "spec.networks: Invalid value"), Kind::CannotTell)]
    fn a_refusal_tells_whether_validation_happens(#[case] answer: Result<Value, kube::Error>, #[case] expected: Kind) {
        assert_eq!(kind(validation(&answer)), expected);
    }

    #[test]
    fn only_what_the_manifests_bring_is_waited_for() {
        let injector = json!({"kind": "Deployment", "metadata": {"name": "linkerd-proxy-injector"}});
        let validator = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "linkerd-policy-validator-webhook-config"}});
        assert_eq!(signs(&[]).len(), 0);
        assert_eq!(signs(std::slice::from_ref(&injector)).len(), 1);
        assert_eq!(signs(&[injector, validator]).len(), 2);
    }
}
