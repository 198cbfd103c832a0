//! The node: runs the pods that its [`scheduler`] binds to it.
//!
//! Volumes, resources, node selectors, affinities and security contexts are accepted and have no effect. Host networking,
//! `command`, and probes and hooks that would run a command are refused, with an event that says so.

mod backend;
mod container;
mod environment;
pub(crate) mod heartbeat;
mod logs;
mod pod;
mod probe;
mod scheduler;
mod status;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use meshproof_apiserver::store::{Subresource, WatchKind};
use meshproof_apiserver::{ApiServer, Selector, Status, Store, gvr};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::Zone;
use crate::events::Recorder;
use crate::fabric::{API_SERVER_PORT, AddressPool, Fabric};
use crate::object::{self, name, namespace, text, uid};
use crate::pace::Pace;
use crate::registry::ProgramRegistry;
pub(crate) use backend::NodeBackend;
use pod::PodRun;
pub(crate) use scheduler::MAX_PODS;
use scheduler::Scheduler;

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
    let mut scheduler = Scheduler::default();
    loop {
        let change = tokio::select! {
            () = node.shutdown.cancelled() => return,
            change = changes.next() => change,
        };
        let Some(Ok(change)) = change else { return };
        match change.kind {
            WatchKind::Added | WatchKind::Modified => changed(&node, &mut scheduler, &change.object),
            WatchKind::Deleted => {
                let run = node.pods().remove(uid(&change.object));
                if let Some(run) = run {
                    run.kill();
                }
                scheduler.gone(&node, &change.object);
            }
            WatchKind::Bookmark => {}
        }
    }
}

fn changed(node: &Arc<Node>, scheduler: &mut Scheduler, pod: &Arc<Value>) {
    match text(&pod["spec"]["nodeName"]) {
        "" => scheduler.schedule(node, pod),
        name if name == node.name => {
            let known = node.pods().get(uid(pod)).cloned();
            match known {
                Some(run) => run.changed(pod),
                None if !object::has_ended(pod) && scheduler.admits(pod) => {
                    let run = PodRun::new(node, pod);
                    node.pods().insert(uid(pod).to_owned(), Arc::clone(&run));
                    run.changed(pod);
                    node.tasks.spawn(run.run());
                }
                None if !object::has_ended(pod) => scheduler::reject(node, pod),
                None => {}
            }
            if object::has_ended(pod) {
                scheduler.gone(node, pod);
            }
        }
        _ => {}
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
