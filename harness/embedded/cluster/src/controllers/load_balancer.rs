//! What a load-balancer controller does on real clusters: an address of its own for every Service of type LoadBalancer.
//!
//! As Kubernetes has it, Services with a `loadBalancerClass` are somebody else's. A wanted `loadBalancerIP` is given if it is in
//! the cluster's range and free; otherwise the Service stays pending, with an event that says why, and gets it when it comes
//! free. An address is given back with its Service, or when that is no load balancer any more.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use meshproof_apiserver::store::Subresource;
use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::{Value, json};

use crate::events::{Recorder, Severity};
use crate::fabric::Cidr;
use crate::object::{Key, list, text};
use crate::work_queue::Controller;

/// Gives addresses of a range to Services of type LoadBalancer.
pub(crate) struct LoadBalancerController {
    store: Store,
    events: Recorder,
    addresses: Addresses,
}

impl LoadBalancerController {
    pub(crate) fn new(store: &Store, range: Cidr) -> Self {
        Self {
            store: store.with_manager("service-controller"),
            events: Recorder::new(store, "service-controller", None),
            addresses: Addresses::new(range),
        }
    }

    fn set_ingress(&self, key: &Key, from: &[Ipv4Addr], to: Option<Ipv4Addr>) -> Result<(), Status> {
        let change = |service: &mut Value| {
            if ingress(service) != from {
                return false;
            }
            service["status"]["loadBalancer"] = match to {
                Some(address) => json!({"ingress": [{"ip": address.to_string(), "ipMode": "VIP"}]}),
                None => json!({}),
            };
            true
        };
        let (namespace, part) = (Some(key.namespace.as_str()), Subresource::Status);
        match self.store.modify(&gvr::SERVICES, namespace, &key.name, part, change) {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
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

    /// Whoever waits for an address looks again when any Service changes: one may have come free.
    fn keys(&self, _: &Gvr, service: &Value) -> Vec<Key> {
        let changed = Key::of(service);
        let waiting = self.addresses.waiting.keys().filter(|key| **key != changed).cloned();
        [changed.clone()].into_iter().chain(waiting).collect()
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let service = match self.store.get(&gvr::SERVICES, Some(&key.namespace), &key.name) {
            Ok(service) => service,
            Err(status) if status.is_not_found() => {
                self.addresses.release(key);
                return Ok(None);
            }
            Err(status) => return Err(status),
        };
        let shown = ingress(&service);
        if !is_ours(&service) {
            if let Some(address) = self.addresses.release(key)
                && shown == [address]
            {
                self.set_ingress(key, &shown, None)?;
            }
            return Ok(None);
        }
        // Somebody else has given it an address: that is theirs to care for.
        let given = self.addresses.given.get(key).copied();
        if !shown.is_empty() && given.is_none_or(|given| shown != [given]) {
            return Ok(None);
        }
        let wanted = text(&service["spec"]["loadBalancerIP"]);
        match self.addresses.give(key, wanted) {
            Ok(address) if shown == [address] => {}
            Ok(address) => {
                self.set_ingress(key, &shown, Some(address))?;
                let (severity, reason) = (Severity::Normal, "EnsuredLoadBalancer");
                self.events
                    .event(&service, None, severity, reason, "Ensured load balancer");
            }
            Err(why) => {
                self.set_ingress(key, &shown, None)?;
                if self.addresses.waiting.insert(key.clone(), why.clone()).as_ref() != Some(&why) {
                    let message = format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                    let (severity, reason) = (Severity::Warning, "SyncLoadBalancerFailed");
                    self.events.event(&service, None, severity, reason, &message);
                }
            }
        }
        Ok(None)
    }
}

/// Whether this controller cares for a Service: a load balancer of no class.
fn is_ours(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer" && text(&service["spec"]["loadBalancerClass"]).is_empty()
}

/// Who has which address.
struct Addresses {
    range: Cidr,
    given: HashMap<Key, Ipv4Addr>,
    /// Who has none, and why.
    waiting: HashMap<Key, String>,
}

impl Addresses {
    fn new(range: Cidr) -> Self {
        Self {
            range,
            given: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// The address of a Service that wants this one, or (empty) any: the one that it has, when that fits.
    fn give(&mut self, key: &Key, wanted: &str) -> Result<Ipv4Addr, String> {
        let chosen = self.choose(key, wanted);
        match &chosen {
            Ok(address) => {
                self.waiting.remove(key);
                self.given.insert(key.clone(), *address);
            }
            Err(_) => {
                self.given.remove(key);
            }
        }
        chosen
    }

    fn choose(&self, key: &Key, wanted: &str) -> Result<Ipv4Addr, String> {
        let holder = |address: Ipv4Addr| {
            self.given
                .iter()
                .find(|(_, given)| **given == address)
                .map(|(key, _)| key)
        };
        if wanted.is_empty() {
            if let Some(given) = self.given.get(key) {
                return Ok(*given);
            }
            // Neither the network's own address nor the broadcast address.
            let last = u32::try_from(self.range.len() - 1).unwrap_or(u32::MAX);
            let mut all = (1..last).filter_map(|n| self.range.nth(n));
            return all
                .find(|address| holder(*address).is_none())
                .ok_or_else(|| format!("no address is free in {}", self.range));
        }
        let address: Ipv4Addr = wanted
            .parse()
            .map_err(|_| format!("loadBalancerIP {wanted} is no IPv4 address"))?;
        if !self.range.contains(address) {
            return Err(format!(
                "loadBalancerIP {wanted} is not in {}, the range of this cluster",
                self.range
            ));
        }
        match holder(address) {
            Some(other) if other != key => Err(format!("loadBalancerIP {wanted} belongs to Service {other}")),
            _ => Ok(address),
        }
    }

    /// Takes a Service's address back and tells which it was.
    fn release(&mut self, key: &Key) -> Option<Ipv4Addr> {
        self.waiting.remove(key);
        self.given.remove(key)
    }
}

/// Addresses in the status of a load balancer; host names do not occur on this network.
pub(crate) fn ingress(service: &Value) -> Vec<Ipv4Addr> {
    list(&service["status"]["loadBalancer"]["ingress"])
        .filter_map(|i| i["ip"].as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_apiserver::Selector;
    use meshproof_apiserver::store::{DeleteOptions, StoreConfig};

    fn controller(range: &str) -> (Store, LoadBalancerController) {
        let store = Store::new(StoreConfig::default());
        let controller = LoadBalancerController::new(&store, range.parse().unwrap());
        (store, controller)
    }

    fn make(store: &Store, name: &str, more: &Value) -> Key {
        let mut service =
            json!({"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "ports": [{"port": 4143}]}});
        for (field, value) in more.as_object().into_iter().flatten() {
            service["spec"][field] = value.clone();
        }
        store.create(&gvr::SERVICES, Some("default"), service).unwrap();
        Key::new("default", name)
    }

    fn shown(store: &Store, key: &Key) -> Vec<String> {
        let service = store.get(&gvr::SERVICES, Some("default"), &key.name).unwrap();
        ingress(&service).iter().map(ToString::to_string).collect()
    }

    fn warnings(store: &Store) -> Vec<String> {
        let events = store.list(&gvr::EVENTS, None, &Selector::all()).unwrap().items;
        let warnings = events.iter().filter(|event| event["type"] == "Warning");
        warnings.map(|event| text(&event["message"]).to_owned()).collect()
    }

    #[test]
    fn each_service_has_an_address_of_its_own_and_gives_it_back() {
        let (store, mut controller) = controller("198.51.100.0/30");
        let [first, second, third] = ["a", "b", "c"].map(|name| make(&store, name, &json!({})));
        for key in [&first, &second, &third, &first] {
            controller.reconcile(key).unwrap();
        }
        assert_eq!(shown(&store, &first), ["198.51.100.1"]);
        assert_eq!(shown(&store, &second), ["198.51.100.2"]);
        assert_eq!(shown(&store, &third), [""; 0], "the range is used up");
        assert_eq!(
            warnings(&store),
            ["Error syncing load balancer: failed to ensure load balancer: no address is free in 198.51.100.0/30"]
        );
        let gone = store
            .delete(&gvr::SERVICES, Some("default"), "a", &DeleteOptions::default())
            .unwrap();
        for key in controller.keys(&gvr::SERVICES, gone.object()) {
            controller.reconcile(&key).unwrap();
        }
        assert_eq!(shown(&store, &third), ["198.51.100.1"]);
        let to = |service: &mut Value| {
            service["spec"]["type"] = json!("ClusterIP");
            true
        };
        store
            .modify(&gvr::SERVICES, Some("default"), "b", Subresource::Main, to)
            .unwrap();
        controller.reconcile(&second).unwrap();
        assert_eq!(shown(&store, &second), [""; 0]);
        assert!(controller.addresses.waiting.is_empty() && controller.addresses.given.len() == 1);
    }

    #[test]
    fn a_wanted_address_is_given_if_it_can_be_and_a_class_is_somebody_elses() {
        let (store, mut controller) = controller("198.51.100.0/24");
        let wanted = make(&store, "a", &json!({"loadBalancerIP": "198.51.100.77"}));
        let taken = make(&store, "b", &json!({"loadBalancerIP": "198.51.100.77"}));
        let foreign = make(&store, "c", &json!({"loadBalancerIP": "10.9.8.7"}));
        let of_class = make(&store, "d", &json!({"loadBalancerClass": "example.com/none"}));
        for key in [&wanted, &taken, &foreign, &of_class, &taken] {
            controller.reconcile(key).unwrap();
        }
        assert_eq!(shown(&store, &wanted), ["198.51.100.77"]);
        for pending in [&taken, &foreign, &of_class] {
            assert_eq!(shown(&store, pending), [""; 0]);
        }
        let told = warnings(&store).join("\n");
        assert!(told.contains("belongs to Service default/a"), "{told}");
        assert!(
            told.contains("loadBalancerIP 10.9.8.7 is not in 198.51.100.0/24"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 2, "{told}");
        store
            .delete(&gvr::SERVICES, Some("default"), "a", &DeleteOptions::default())
            .unwrap();
        for key in [&wanted, &taken] {
            controller.reconcile(key).unwrap();
        }
        assert_eq!(shown(&store, &taken), ["198.51.100.77"]);
    }
}
