//! The scheduler of a cluster with one node: binds pods while there is room on it; further ones wait.

use std::collections::HashSet;
use std::sync::Arc;

use meshproof_apiserver::store::Subresource;
use serde_json::{Value, json};

use super::{Node, status, write_pod};
use crate::events::Severity;
use crate::object::{self, Key, text, uid};

/// The scheduler that pods name when they name none.
const SCHEDULER: &str = "default-scheduler";

/// Pods that the node takes: `maxPods` of a kubelet that is not told otherwise.
pub(crate) const MAX_PODS: usize = 110;

/// Which pods have a place on the node, and which wait for one.
#[derive(Default)]
pub(super) struct Scheduler {
    /// Uids of the pods that have a place: bound, and not ended.
    placed: HashSet<String>,
    /// In the order in which they came.
    waiting: Vec<Arc<Value>>,
}

impl Scheduler {
    /// Binds a new pod, or lets it wait and says why.
    pub(super) fn schedule(&mut self, node: &Node, pod: &Arc<Value>) {
        let scheduler = pod["spec"]["schedulerName"].as_str().unwrap_or(SCHEDULER);
        if scheduler != SCHEDULER || !object::is_active_pod(pod) {
            return;
        }
        if self.waiting.iter().any(|waiting| uid(waiting) == uid(pod)) {
            return;
        }
        if self.placed.len() < MAX_PODS {
            self.place(node, pod);
        } else {
            self.waiting.push(Arc::clone(pod));
            tell_no_room(node, pod);
        }
    }

    /// Whether a pod that is bound to the node may run there. One that was bound by somebody else takes a place as well.
    pub(super) fn admits(&mut self, pod: &Value) -> bool {
        self.placed.contains(uid(pod)) || (self.placed.len() < MAX_PODS && self.placed.insert(uid(pod).to_owned()))
    }

    /// A pod has ended or was deleted: its place is the next one's.
    pub(super) fn gone(&mut self, node: &Node, pod: &Value) {
        self.waiting.retain(|waiting| uid(waiting) != uid(pod));
        if !self.placed.remove(uid(pod)) {
            return;
        }
        while self.placed.len() < MAX_PODS && !self.waiting.is_empty() {
            let next = self.waiting.remove(0);
            self.place(node, &next);
        }
    }

    fn place(&mut self, node: &Node, pod: &Value) {
        if bind(node, pod) {
            self.placed.insert(uid(pod).to_owned());
        }
    }
}

/// Binds a pod to the only node, if it is still there and free.
fn bind(node: &Node, pod: &Value) -> bool {
    let wanted = uid(pod);
    let mut is_bound = false;
    let written = write_pod(node, pod, Subresource::Internal, |pod| {
        is_bound = uid(pod) == wanted && text(&pod["spec"]["nodeName"]).is_empty() && !object::is_being_deleted(pod);
        if is_bound {
            pod["spec"]["nodeName"] = json!(node.name);
            status::set_condition(pod, "PodScheduled", true, None, None);
        }
        is_bound
    });
    match written {
        Ok(_) if is_bound => {
            let message = format!("Successfully assigned {} to {}", Key::of(pod), node.name);
            let (severity, reason) = (Severity::Normal, "Scheduled");
            node.scheduler_events.event(pod, None, severity, reason, &message);
            true
        }
        Ok(_) => false,
        // Gone again; anything else would be a pod that the store itself took before.
        Err(status) => {
            tracing::debug!(pod = %Key::of(pod), %status, "not scheduled");
            false
        }
    }
}

/// Says of a pod that waits that it does, as the scheduler does.
fn tell_no_room(node: &Node, pod: &Value) {
    let why = "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for \
               incoming pod.";
    let written = write_pod(node, pod, Subresource::Internal, |pod| {
        let (reason, message) = (Some("Unschedulable".to_owned()), Some(why.to_owned()));
        status::set_condition(pod, "PodScheduled", false, reason, message);
        true
    });
    match written {
        Ok(_) => node
            .scheduler_events
            .event(pod, None, Severity::Warning, "FailedScheduling", why),
        Err(status) => tracing::debug!(pod = %Key::of(pod), %status, "gone while it waited for a node"),
    }
}

/// Fails a pod that somebody else bound to a full node, as a kubelet does.
pub(super) fn reject(node: &Node, pod: &Value) {
    let why = format!(
        "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {MAX_PODS}, capacity: {MAX_PODS}"
    );
    let written = write_pod(node, pod, Subresource::Status, |pod| {
        pod["status"]["phase"] = json!("Failed");
        pod["status"]["reason"] = json!("OutOfpods");
        pod["status"]["message"] = json!(why);
        true
    });
    match written {
        Ok(_) => node.events.event(pod, None, Severity::Warning, "OutOfpods", &why),
        Err(status) => tracing::debug!(pod = %Key::of(pod), %status, "gone before it was rejected"),
    }
}
