//! The node: schedules pods onto itself and runs them.
//!
//! Volumes, resources, node selectors, affinities and security contexts are accepted and have no effect. Host networking,
//! `command`, and probes and hooks that would run a command are refused, with an event that says so.

mod backend;
mod container;
mod environment;
mod logs;
mod pod;
mod probe;
mod status;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use meshproof_apiserver::store::{Subresource, WatchKind};
use meshproof_apiserver::{ApiServer, Selector, Status, Store, gvr};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::Zone;
use crate::events::{Recorder, Severity};
use crate::fabric::{API_SERVER_PORT, AddressPool, Fabric};
use crate::object::{self, Key, name, namespace, text, uid};
use crate::pace::Pace;
use crate::registry::ProgramRegistry;
pub(crate) use backend::NodeBackend;
use pod::PodRun;

/// The scheduler that pods name when they name none.
const SCHEDULER: &str = "default-scheduler";

/// A node with everything its pods need.
pub(crate) struct Node {
    pub(crate) cluster: String,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) pace: Pace,
    pub(crate) store: Store,
    pub(crate) fabric: Fabric,
    pub(crate) zone: Arc<Zone>,
    pub(crate) registry: ProgramRegistry,
    pub(crate) addresses: Mutex<AddressPool>,
    pub(crate) events: Recorder,
    pub(crate) scheduler_events: Recorder,
    /// Issues tokens for pods. Weak, because the server holds the backend that leads here.
    pub(crate) api: Weak<ApiServer>,
    /// Pods by uid, until their object is gone.
    pub(crate) pods: Mutex<HashMap<String, Arc<PodRun>>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Node {
    pub(crate) fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<PodRun>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, AddressPool> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kubeconfig for a pod's ServiceAccount that leads over the virtual network. Empty when the account is gone.
    fn kubeconfig(&self, namespace: &str, account: &str) -> String {
        let account = if account.is_empty() { "default" } else { account };
        let Some(api) = self.api.upgrade() else {
            return String::new();
        };
        match api.issue_service_account_token(namespace, account) {
            Ok(token) => {
                let url = format!("https://{}:{API_SERVER_PORT}", self.address);
                api.kubeconfig_for(account, &token, Some(&url))
            }
            Err(_) => String::new(),
        }
    }
}

/// Schedules and runs pods until the node shuts down.
pub(crate) async fn run(node: Arc<Node>) {
    let mut changes = match node.store.informer(&gvr::PODS, None, &Selector::all()) {
        Ok(changes) => changes,
        Err(status) => {
            tracing::error!(%status, "the kubelet cannot watch pods");
            return;
        }
    };
    loop {
        let change = tokio::select! {
            () = node.shutdown.cancelled() => return,
            change = changes.next() => change,
        };
        let Some(Ok(change)) = change else { return };
        match change.kind {
            WatchKind::Added | WatchKind::Modified => changed(&node, &change.object),
            WatchKind::Deleted => {
                let run = node.pods().remove(uid(&change.object));
                if let Some(run) = run {
                    run.kill();
                }
            }
            WatchKind::Bookmark => {}
        }
    }
}

fn changed(node: &Arc<Node>, pod: &Arc<Value>) {
    match text(&pod["spec"]["nodeName"]) {
        "" => {
            let scheduler = pod["spec"]["schedulerName"].as_str().unwrap_or(SCHEDULER);
            if scheduler == SCHEDULER && object::is_active_pod(pod) {
                bind(node, pod);
            }
        }
        name if name == node.name => {
            let known = node.pods().get(uid(pod)).cloned();
            match known {
                Some(run) => run.changed(pod),
                None if !object::has_ended(pod) => {
                    let run = PodRun::new(node, pod);
                    node.pods().insert(uid(pod).to_owned(), Arc::clone(&run));
                    run.changed(pod);
                    node.tasks.spawn(run.run());
                }
                None => {}
            }
        }
        _ => {}
    }
}

/// Binds a pod to the only node.
fn bind(node: &Node, pod: &Value) {
    let wanted = uid(pod);
    let bound = write_pod(node, pod, Subresource::Internal, |pod| {
        if uid(pod) != wanted || !text(&pod["spec"]["nodeName"]).is_empty() {
            return false;
        }
        pod["spec"]["nodeName"] = json!(node.name);
        status::set_condition(pod, "PodScheduled", true, None, None);
        true
    });
    match bound {
        Ok(_) => {
            let message = format!("Successfully assigned {} to {}", Key::of(pod), node.name);
            let (severity, reason) = (Severity::Normal, "Scheduled");
            node.scheduler_events.event(pod, None, severity, reason, &message);
        }
        // Gone again; anything else would be a pod that the store itself took before.
        Err(status) => tracing::debug!(pod = %Key::of(pod), %status, "not scheduled"),
    }
}

/// Changes a pod's object in the store.
fn write_pod(
    node: &Node,
    pod: &Value,
    part: Subresource,
    change: impl FnOnce(&mut Value) -> bool,
) -> Result<Arc<Value>, Status> {
    let namespace = Some(namespace(pod));
    node.store.modify(&gvr::PODS, namespace, name(pod), part, change)
}
