//! What keeps pods from starting that is nobody's broken promise: images that can't be pulled, nodes without room.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use kube::api::ListParams;
use meshproof_verdict::wakefulness::{Cause, Hindrance};
use serde_json::Value;

use crate::api::{dynamic, full_name, text_at, to_json};
use crate::environment::Cluster;
use crate::kinds::known;

/// Time for looking at the pods of a cluster (wall time).
const LOOK: Duration = Duration::from_secs(5);
/// Pods of each namespace that are looked at, at most.
const MOST_PODS: u32 = 500;
/// Pods that are told of, at most.
const TOLD: usize = 5;

/// Pods of these namespaces that can't start now: all of them, or those that carry a `label`. What can't be seen is not there.
pub(crate) async fn look(clusters: &[Cluster], namespaces: &BTreeSet<String>, label: Option<&str>) -> Vec<Hindrance> {
    let places = clusters
        .iter()
        .flat_map(|cluster| namespaces.iter().map(move |namespace| (cluster, namespace)));
    let found = join_all(places.map(|(cluster, namespace)| async move {
        let pods = known("Pod").resource;
        let api = dynamic(&cluster.client, &pods, Some(namespace));
        let parameters = ListParams {
            label_selector: label.map(str::to_owned),
            ..ListParams::default().limit(MOST_PODS)
        };
        let Ok(Ok(list)) = tokio::time::timeout(LOOK, api.list(&parameters)).await else {
            return Vec::new();
        };
        let listed = list.items.into_iter().map(|pod| to_json(pod, &pods));
        listed.filter_map(|pod| of_pod(&cluster.name, &pod)).collect()
    }))
    .await;
    let mut found: Vec<Hindrance> = found.into_iter().flatten().collect();
    found.truncate(TOLD);
    found
}

/// Reasons for which the kubelet lets a container wait for its image (`pkg/kubelet/images` of Kubernetes).
const IMAGE_REASONS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "RegistryUnavailable",
    "ImageInspectError",
];

fn of_pod(cluster: &str, pod: &Value) -> Option<Hindrance> {
    let (cause, detail) = image(pod).or_else(|| unschedulable(pod)).or_else(|| evicted(pod))?;
    Some(Hindrance {
        pod: format!("{cluster} {}", full_name(pod)),
        cause,
        detail,
    })
}

fn image(pod: &Value) -> Option<(Cause, String)> {
    let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let statuses = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    statuses
        .filter_map(|status| status.pointer("/state/waiting"))
        .find(|waiting| IMAGE_REASONS.contains(&text_at(waiting, "/reason")))
        .map(|waiting| (Cause::ImagePull, reason_and_message(waiting)))
}

fn unschedulable(pod: &Value) -> Option<(Cause, String)> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let condition = conditions.iter().find(|condition| {
        text_at(condition, "/type") == "PodScheduled"
            && text_at(condition, "/status") == "False"
            && text_at(condition, "/reason") == "Unschedulable"
    })?;
    Some((Cause::Unschedulable, reason_and_message(condition)))
}

fn evicted(pod: &Value) -> Option<(Cause, String)> {
    let status = pod.pointer("/status")?;
    (text_at(status, "/reason") == "Evicted").then(|| (Cause::Evicted, reason_and_message(status)))
}

fn reason_and_message(of: &Value) -> String {
    match (text_at(of, "/reason"), text_at(of, "/message")) {
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use meshproof_verdict::wakefulness::Cause;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::of_pod;

    fn waiting(reason: &str) -> Value {
        json!({"containerStatuses": [{"name": "a", "state": {"running": {}}},
            {"name": "b", "state": {"waiting": {"reason": reason, "message": "back-off"}}}]})
    }

    #[rstest]
    #[case::image(waiting("ImagePullBackOff"), Some((Cause::ImagePull, "ImagePullBackOff: back-off")))]
    #[case::image_of_an_init_container(json!({"initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}), Some((Cause::ImagePull, "ErrImagePull")))]
    #[case::a_crash_is_its_own_fault(waiting("CrashLoopBackOff"), None)]
    #[case::it_is_only_being_made(waiting("ContainerCreating"), None)]
    #[case::no_room(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient cpu."}]}), Some((Cause::Unschedulable, "Unschedulable: 0/1 nodes: Insufficient cpu.")))]
    #[case::scheduled(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}), None)]
    #[case::evicted(json!({"phase": "Failed", "reason": "Evicted", "message": "low on resource: memory"}), Some((Cause::Evicted, "Evicted: low on resource: memory")))]
    #[case::nothing_is_known(json!({}), None)]
    fn what_keeps_a_pod_from_starting(#[case] status: Value, #[case] expected: Option<(Cause, &str)>) {
        let pod = json!({"metadata": {"name": "p", "namespace": "mesh"}, "status": status});
        let found = of_pod("west", &pod);
        assert!(found.iter().all(|found| found.pod == "west mesh/p"));
        assert_eq!(
            found.map(|found| (found.cause, found.detail)),
            expected.map(|(cause, detail)| (cause, detail.to_owned()))
        );
    }
}
