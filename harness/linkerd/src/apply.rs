//! Applying and deleting manifests, and waiting for what they describe. All waiting is on watches.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde_json::{Value, json};

use crate::resources;

/// Field manager of everything that the driver applies.
const MANAGER: &str = "meshproof";

/// Applies manifests in order; a CRD is established before the next manifest is applied.
pub(crate) async fn apply(cluster: &Cluster, manifests: &[Value], deadline: Duration) -> Result<(), Problem> {
    for manifest in manifests {
        let (resource, namespace, name) = identify(cluster, manifest).await?;
        let api = dynamic(cluster, &resource, namespace);
        api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(manifest))
            .await
            .map_err(|error| refused(cluster, "apply", &resource, name, &error))?;
        if resource.kind == "CustomResourceDefinition" {
            let api = Api::all_with(cluster.client.clone(), &resource);
            within(
                deadline,
                cluster,
                &format!("CRD {name} to be established"),
                await_condition(api, name, established),
            )
            .await?;
        }
    }
    Ok(())
}

/// Deletes objects in order, each in the background, and waits until all of them are gone.
pub(crate) async fn delete(cluster: &Cluster, objects: &[Value], deadline: Duration) -> Result<(), Problem> {
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let mut waiting = Vec::new();
    for object in objects {
        let (resource, namespace, name) = match identify(cluster, object).await {
            Ok(identified) => identified,
            // The kind itself is gone with its CRD, and its objects with it.
            Err(problem) if problem.code == "kind-unknown" => continue,
            Err(problem) => return Err(problem),
        };
        let api = dynamic(cluster, &resource, namespace);
        match api.delete(name, &parameters).await {
            Ok(_) => waiting.push((api, resource, name)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(refused(cluster, "delete", &resource, name, &error)),
        }
    }
    for (api, resource, name) in waiting {
        let gone = await_condition(api, name, |object: Option<&DynamicObject>| object.is_none());
        within(deadline, cluster, &format!("{} {name} to be gone", resource.kind), gone).await?;
    }
    Ok(())
}

/// Waits until these Deployments of a namespace are rolled out.
pub(crate) async fn rolled_out(
    cluster: &Cluster,
    namespace: &str,
    names: &[String],
    deadline: Duration,
) -> Result<(), Problem> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    for name in names {
        let complete = await_condition(deployments.clone(), name, is_rolled_out);
        within(
            deadline,
            cluster,
            &format!("Deployment {namespace}/{name} to be rolled out"),
            complete,
        )
        .await?;
    }
    Ok(())
}

/// Whether every pod is of the present template and available, as `kubectl rollout status` sees it. The condition
/// `Progressing` alone would not do: right after a change it still speaks of the template before.
fn is_rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some((deployment, status)) = deployment.and_then(|found| Some((found, found.status.as_ref()?))) else {
        return false;
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let observed = status.observed_generation >= deployment.metadata.generation;
    let number = |replicas: Option<i32>| replicas.unwrap_or(0);
    let updated = number(status.updated_replicas);
    observed && updated == wanted && number(status.replicas) == updated && number(status.available_replicas) == updated
}

/// Waits until the pods that a selector finds now are gone.
pub(crate) async fn pods_gone(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    deadline: Duration,
) -> Result<(), Problem> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let found = pods.list(&ListParams::default().labels(selector)).await;
    let found = found.map_err(|error| refused(cluster, "list", &ApiResource::erase::<Pod>(&()), selector, &error))?;
    for pod in found {
        let (Some(name), Some(uid)) = (pod.metadata.name, pod.metadata.uid) else {
            continue;
        };
        let gone = await_condition(pods.clone(), &name, conditions::is_deleted(&uid));
        within(deadline, cluster, &format!("Pod {namespace}/{name} to be gone"), gone).await?;
    }
    Ok(())
}

/// Replaces the pods of Deployments of a namespace, as `kubectl rollout restart` does, and waits until the new ones are ready.
pub(crate) async fn restart(
    cluster: &Cluster,
    namespace: &str,
    names: &[String],
    deadline: Duration,
) -> Result<(), Problem> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let at = jiff::Timestamp::now().to_string();
    let template = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}});
    let patch = Patch::Merge(json!({"spec": {"template": template}}));
    for name in names {
        let patched = deployments.patch(name, &PatchParams::default(), &patch).await;
        patched.map_err(|error| refused(cluster, "restart", &ApiResource::erase::<Deployment>(&()), name, &error))?;
    }
    rolled_out(cluster, namespace, names, deadline).await
}

/// Names of the Deployments of a namespace among manifests.
pub(crate) fn deployments(manifests: &[Value], namespace: &str) -> Vec<String> {
    manifests
        .iter()
        .filter(|manifest| manifest["kind"] == "Deployment" && manifest["metadata"]["namespace"] == namespace)
        .filter_map(|manifest| manifest["metadata"]["name"].as_str().map(ToOwned::to_owned))
        .collect()
}

/// An API of a kind, in a namespace or cluster-wide.
pub(crate) fn dynamic(cluster: &Cluster, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, resource),
        None => Api::all_with(cluster.client.clone(), resource),
    }
}

/// Waits for `what` within `deadline` of wall time.
pub(crate) async fn within<T, E: std::fmt::Display>(
    deadline: Duration,
    cluster: &Cluster,
    what: &str,
    wait: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(deadline, wait).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(problem::environment(
            "api-watch-failed",
            format!("cluster {}: waiting for {what}: {error}", cluster.name),
            Some("check that the cluster's API server answers"),
        )),
        Err(_) => Err(problem::mesh(
            "not-ready",
            format!(
                "cluster {}: waited {:.1} s (wall) for {what}",
                cluster.name,
                deadline.as_secs_f64()
            ),
            Some("look at the events and pod logs of the namespace in the evidence"),
        )),
    }
}

/// The problem that an API error is.
pub(crate) fn refused(
    cluster: &Cluster,
    verb: &str,
    resource: &ApiResource,
    name: &str,
    error: &kube::Error,
) -> Problem {
    let message = format!("cluster {}: {verb} {} {name}: {error}", cluster.name, resource.kind);
    match error {
        kube::Error::Api(status) if status.code == 403 => problem::environment(
            "api-forbidden",
            message,
            Some("give the harness' credentials this permission"),
        ),
        kube::Error::Api(status) if status.code < 500 => problem::environment("api-refused", message, None),
        _ => problem::environment(
            "api-unreachable",
            message,
            Some("check that the cluster's API server answers"),
        ),
    }
}

fn established(object: Option<&DynamicObject>) -> bool {
    object
        .and_then(|object| object.data["status"]["conditions"].as_array())
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|c| c["type"] == "Established" && c["status"] == "True")
        })
}

async fn identify<'a>(
    cluster: &Cluster,
    manifest: &'a Value,
) -> Result<(ApiResource, Option<&'a str>, &'a str), Problem> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
    let (Some(kind), Some(api_version), Some(name)) = (text("/kind"), text("/apiVersion"), text("/metadata/name"))
    else {
        return Err(problem::harness(
            "manifest-incomplete",
            "a manifest lacks apiVersion, kind or metadata.name",
            None,
        ));
    };
    let namespace = text("/metadata/namespace");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(resource) =
        resources::of_any(kind).filter(|resource| resource.group == group && resource.version == version)
    {
        return Ok((resource, namespace, name));
    }
    let gvk = GroupVersionKind::gvk(group, version, kind);
    match kube::discovery::pinned_kind(&cluster.client, &gvk).await {
        Ok((resource, _)) => Ok((resource, namespace, name)),
        Err(kube::Error::Service(error)) => Err(problem::environment(
            "api-unreachable",
            format!("cluster {}: looking up {api_version} {kind}: {error}", cluster.name),
            Some("check that the cluster's API server answers"),
        )),
        Err(error) => Err(problem::environment(
            "kind-unknown",
            format!("cluster {} does not serve {api_version} {kind}: {error}", cluster.name),
            Some("install the CRD first"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::is_rolled_out;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::all_new(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}), true)]
    #[case::the_change_is_not_noticed(json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}), false)]
    #[case::an_old_pod_is_left(json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}), false)]
    #[case::a_new_pod_is_missing(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}), false)]
    #[case::a_new_pod_is_not_available(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}), false)]
    #[case::nothing_is_known(json!({}), false)]
    fn a_deployment_is_rolled_out_when_all_its_pods_are_new(#[case] status: Value, #[case] expected: bool) {
        let deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status,
        }));
        assert_eq!(is_rolled_out(Some(&deployment.unwrap())), expected);
        assert!(!is_rolled_out(None));
    }

    #[test]
    fn no_pods_are_rolled_out_too() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "generation": 1},
            "spec": {"replicas": 0, "selector": {}, "template": {}}, "status": {"observedGeneration": 1},
        });
        assert!(is_rolled_out(Some(&serde_json::from_value(deployment).unwrap())));
    }
}
