//! The EndpointSlice controller: slices of the pods that a Service selects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::{Value, json};

use super::endpoints::{
    has_selector, hostname, is_headless, pod_ports, selected_pods, services_of_pod, target_reference,
};
use super::slices::{HEADLESS, WantedSlices, delete_managed, service_of};
use crate::object::{self, Key, list, name, text};
use crate::work_queue::Controller;

const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// Most endpoints in one slice (`--max-endpoints-per-slice`).
const LIMIT: usize = 100;

/// Keeps the slices of Services that have a selector.
pub(crate) struct EndpointSliceController {
    store: Store,
}

impl EndpointSliceController {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            store: store.with_manager("endpointslice-controller"),
        }
    }
}

impl Controller for EndpointSliceController {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::SERVICES, gvr::PODS, gvr::ENDPOINT_SLICES]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::PODS {
            services_of_pod(&self.store, changed)
        } else if *gvr == gvr::ENDPOINT_SLICES {
            service_of(changed).into_iter().collect()
        } else {
            vec![Key::of(changed)]
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let service = self.store.get(&gvr::SERVICES, Some(&key.namespace), &key.name);
        match service {
            Ok(service) if has_selector(&service) && !object::is_being_deleted(&service) => {
                let pods = selected_pods(&self.store, &service)?;
                wanted(&service, &pods).apply(&self.store, &key.namespace)?;
            }
            Ok(_) => delete_managed(&self.store, key, MANAGED_BY)?,
            Err(status) if status.is_not_found() => delete_managed(&self.store, key, MANAGED_BY)?,
            Err(status) => return Err(status),
        }
        Ok(None)
    }
}

/// The slices of a Service. Pure.
fn wanted(service: &Value, pods: &[Arc<Value>]) -> WantedSlices {
    let publish_all = service["spec"]["publishNotReadyAddresses"] == true;
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let address = text(&pod["status"]["podIP"]);
        if address.is_empty() || object::has_ended(pod) {
            continue;
        }
        let ports = pod_ports(service, pod);
        if ports.is_empty() && list(&service["spec"]["ports"]).next().is_some() {
            continue;
        }
        let serving = object::is_ready_pod(pod);
        let terminating = object::is_being_deleted(pod);
        let mut endpoint = json!({
            "addresses": [address],
            "conditions": {
                "ready": publish_all || (serving && !terminating),
                "serving": serving,
                "terminating": terminating,
            },
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": target_reference(pod),
        });
        if let Some(hostname) = hostname(service, pod) {
            endpoint["hostname"] = json!(hostname);
        }
        let ports = json!(ports);
        groups
            .entry(ports.to_string())
            .or_insert_with(|| (ports, Vec::new()))
            .1
            .push(endpoint);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    for (_, endpoints) in &mut groups {
        let address = |e: &Value| text(&e["addresses"][0]).parse::<std::net::Ipv4Addr>().ok();
        endpoints.sort_by_key(address);
    }
    if groups.is_empty() {
        // A Service always has a slice, so that its readers can tell "none" from "not yet known".
        groups.push((json!([]), Vec::new()));
    }
    let mut labels = object::map(&service["metadata"]["labels"]);
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), json!(""));
    }
    WantedSlices {
        service: name(service).to_owned(),
        managed_by: MANAGED_BY,
        labels,
        annotations: serde_json::Map::new(),
        owner: object::owner_reference("v1", "Service", service),
        limit: LIMIT,
        groups,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::endpoints::tests::{PodState, RUNNING, any_pods, pods, service};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_slice_looks_like_the_recorded_one() {
        let found = wanted(&service(), &pods(&[RUNNING]));
        let (ports, endpoints) = &found.groups[0];
        assert_eq!(*ports, json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        assert_eq!(
            endpoints[0],
            json!({
                "addresses": ["10.0.0.1"],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "node",
                "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "demo", "uid": "uid-0"},
            })
        );
        assert_eq!(found.owner["kind"], "Service");
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice() {
        let found = wanted(&service(), &[]);
        assert_eq!(found.groups, [(json!([]), vec![])]);
    }

    #[test]
    fn a_pod_that_is_being_deleted_stays_as_terminating() {
        let leaving = PodState {
            deleted: true,
            ..RUNNING
        };
        let found = wanted(&service(), &pods(&[leaving]));
        assert_eq!(
            found.groups[0].1[0]["conditions"],
            json!({"ready": false, "serving": true, "terminating": true})
        );
    }

    proptest! {
        #[test]
        fn ready_means_serving_and_staying(states in any_pods()) {
            let found = wanted(&service(), &pods(&states));
            let endpoints: Vec<&Value> = found.groups.iter().flat_map(|g| &g.1).collect();
            let with_address = states.iter().filter(|s| s.has_address && matches!(s.phase, "Pending" | "Running")).count();
            prop_assert_eq!(endpoints.len(), with_address);
            for endpoint in endpoints {
                let index: usize = text(&endpoint["targetRef"]["name"])["web-".len()..].parse().unwrap();
                let state = &states[index];
                prop_assert_eq!(&endpoint["conditions"]["ready"], &json!(state.ready && !state.deleted));
                prop_assert_eq!(&endpoint["conditions"]["serving"], &json!(state.ready));
            }
            prop_assert!(!found.groups.is_empty());
        }
    }
}
