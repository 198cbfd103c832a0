//! Gateways are exposed without a load-balancer controller: Services of type LoadBalancer get their cluster's node's address
//! as their ingress, and kube-proxy does the rest. (Verified on kind: with this address the gateway's own ports are served
//! on the node.)

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::options::LOAD_BALANCER_CLASS;

/// When a patch that was refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Gives Services their addresses until it is dropped.
#[derive(Debug)]
pub(super) struct LoadBalancer(AbortHandle);

impl LoadBalancer {
    /// Starts for one cluster.
    pub(super) fn start(client: Client, address: Ipv4Addr) -> Self {
        Self(tokio::spawn(serve(client, address)).abort_handle())
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Node {
    client: Client,
    address: Ipv4Addr,
}

async fn serve(client: Client, address: Ipv4Addr) {
    let services: Api<Service> = Api::all(client.clone());
    // It goes on by itself whatever happens, e.g. while the API server is paused on purpose.
    Controller::new(services, watcher::Config::default())
        .run(give, again, Arc::new(Node { client, address }))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn give(service: Arc<Service>, node: Arc<Node>) -> Result<Action, kube::Error> {
    if let Some(patch) = patch(&service, node.address) {
        let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
        let api: Api<Service> = Api::namespaced(node.client.clone(), &namespace);
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            // Deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            given => {
                given?;
                tracing::debug!(namespace, name, address = %node.address, "gave a Service its address");
            }
        }
    }
    Ok(Action::await_change())
}

fn again(service: Arc<Service>, error: &kube::Error, _: Arc<Node>) -> Action {
    tracing::warn!(service = service.name_any(), %error, "can't give a Service its address yet");
    Action::requeue(AGAIN)
}

/// What gives a Service its address; `None` when it is not ours to give, or has it.
pub(super) fn patch(service: &Service, address: Ipv4Addr) -> Option<Value> {
    let spec = service.spec.as_ref()?;
    let ours = spec
        .load_balancer_class
        .as_deref()
        .is_none_or(|class| class == LOAD_BALANCER_CLASS);
    if spec.type_.as_deref() != Some("LoadBalancer") || !ours || service.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let address = address.to_string();
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default();
    let has_it = ingress.len() == 1 && ingress[0].ip.as_deref() == Some(&address);
    (!has_it).then(|| json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::patch;

    #[rstest]
    #[case(json!({"spec": {"type": "LoadBalancer"}}), true)]
    #[case(json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "meshproof.dev/node"}}), true)]
    #[case(json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "172.18.0.9"}]}}}), true)]
    #[case(json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "172.18.0.2", "ipMode": "VIP"}]}}}), false)]
    #[case(json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "other.io/lb"}}), false)]
    #[case(json!({"spec": {"type": "NodePort"}}), false)]
    #[case(json!({}), false)]
    fn only_load_balancers_that_are_ours_get_an_address(#[case] service: Value, #[case] patched: bool) {
        let service: Service = serde_json::from_value(service).unwrap();
        let expected = patched.then(|| json!({"status": {"loadBalancer": {"ingress": [{"ip": "172.18.0.2"}]}}}));
        assert_eq!(patch(&service, [172, 18, 0, 2].into()), expected);
    }
}
