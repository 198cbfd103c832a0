//! The node's signs of life: its Lease in `kube-node-lease`, and from time to time the conditions of its status.

use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::store::Subresource;
use meshproof_apiserver::{Status, gvr};
use serde_json::{Value, json};

use super::Node;
use crate::object;

/// Namespace of the nodes' Leases.
const NAMESPACE: &str = "kube-node-lease";
/// For so long the node counts as alive after a renewal: `nodeLeaseDurationSeconds` of a kubelet.
const LEASE_SECONDS: u32 = 40;
/// A quarter of it, as a kubelet does (scenario time).
const RENEWAL: Duration = Duration::from_secs(10);
/// A status that has not changed is reported every five minutes (`nodeStatusReportFrequency`): so many renewals.
const RENEWALS_PER_REPORT: u32 = 30;

/// Shows that the node lives until it shuts down. Needs nobody: what fails is tried again with the next renewal.
pub(crate) async fn run(node: Arc<Node>) {
    let mut renewals = 0_u32;
    loop {
        if let Err(status) = renew(&node) {
            tracing::debug!(node = node.name, %status, "the node's Lease is not renewed");
        }
        if renewals % RENEWALS_PER_REPORT == RENEWALS_PER_REPORT - 1
            && let Err(status) = report(&node)
        {
            tracing::debug!(node = node.name, %status, "the node's status is not reported");
        }
        renewals = renewals.wrapping_add(1);
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            () = tokio::time::sleep(node.pace.wall(RENEWAL)) => {}
        }
    }
}

fn renew(node: &Node) -> Result<(), Status> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let renewed = node
        .store
        .modify(&gvr::LEASES, Some(NAMESPACE), &node.name, Subresource::Main, |lease| {
            lease["spec"]["renewTime"] = json!(now);
            true
        });
    match renewed {
        Err(status) if status.is_not_found() => {}
        other => return other.map(|_| ()),
    }
    let owner = node.store.get(&gvr::NODES, None, &node.name)?;
    let lease = json!({
        "metadata": {
            "name": node.name,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": node.name, "uid": object::uid(&owner),
            }],
        },
        "spec": {"holderIdentity": node.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
    });
    node.store.create(&gvr::LEASES, Some(NAMESPACE), lease).map(|_| ())
}

fn report(node: &Node) -> Result<(), Status> {
    let beat = |node: &mut Value| {
        let now = object::now();
        for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastHeartbeatTime"] = now.clone();
        }
        true
    };
    node.store
        .modify(&gvr::NODES, None, &node.name, Subresource::Status, beat)
        .map(|_| ())
}
