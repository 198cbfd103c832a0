//! What a cloud's load-balancer controller, or a harness that patches statuses, does on real clusters.

use std::net::Ipv4Addr;
use std::time::Duration;

use meshproof_apiserver::store::Subresource;
use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::{Value, json};

use crate::object::{Key, list};
use crate::work_queue::Controller;

/// Gives every Service of type LoadBalancer the node's address.
pub(crate) struct LoadBalancerController {
    store: Store,
    address: Ipv4Addr,
}

impl LoadBalancerController {
    pub(crate) fn new(store: &Store, address: Ipv4Addr) -> Self {
        Self {
            store: store.with_manager("service-controller"),
            address,
        }
    }
}

impl Controller for LoadBalancerController {
    fn name(&self) -> &'static str {
        "service-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::SERVICES]
    }

    fn keys(&self, _: &Gvr, service: &Value) -> Vec<Key> {
        let waits = service["spec"]["type"] == "LoadBalancer" && ingress(service).is_empty();
        if waits { vec![Key::of(service)] } else { Vec::new() }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let address = self.address.to_string();
        let change = |service: &mut Value| {
            if service["spec"]["type"] != "LoadBalancer" || !ingress(service).is_empty() {
                return false;
            }
            service["status"]["loadBalancer"] = json!({"ingress": [{"ip": address, "ipMode": "VIP"}]});
            true
        };
        let namespace = Some(key.namespace.as_str());
        let part = Subresource::Status;
        match self.store.modify(&gvr::SERVICES, namespace, &key.name, part, change) {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(None),
        }
    }
}

/// Addresses in the status of a load balancer; host names do not occur on this network.
pub(crate) fn ingress(service: &Value) -> Vec<Ipv4Addr> {
    list(&service["status"]["loadBalancer"]["ingress"])
        .filter_map(|i| i["ip"].as_str()?.parse().ok())
        .collect()
}
