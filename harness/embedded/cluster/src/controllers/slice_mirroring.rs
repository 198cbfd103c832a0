//! The EndpointSlice mirroring controller: slices that copy Endpoints which nobody derives from pods.

use std::collections::BTreeMap;
use std::time::Duration;

use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::{Value, json};

use super::endpoints::has_selector;
use super::slices::{HEADLESS, MANAGED_BY as MANAGED_BY_LABEL, SERVICE_NAME, WantedSlices, delete_managed, service_of};
use crate::object::{self, Key, list, name};
use crate::work_queue::Controller;

const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// Most addresses of a subset that are mirrored (`--mirroring-max-endpoints-per-subset`).
const LIMIT: usize = 1000;
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that speak of the Endpoints only.
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// Mirrors the Endpoints of Services without a selector.
pub(crate) struct SliceMirroringController {
    store: Store,
}

impl SliceMirroringController {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            store: store.with_manager("endpointslicemirroring-controller"),
        }
    }
}

impl Controller for SliceMirroringController {
    fn name(&self) -> &'static str {
        "endpointslicemirroring-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::ENDPOINTS, gvr::SERVICES, gvr::ENDPOINT_SLICES]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::ENDPOINT_SLICES {
            service_of(changed).into_iter().collect()
        } else {
            vec![Key::of(changed)]
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let get = |gvr: &Gvr| match self.store.get(gvr, Some(&key.namespace), &key.name) {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        };
        match (get(&gvr::ENDPOINTS)?, get(&gvr::SERVICES)?) {
            (Some(endpoints), Some(service)) if !has_selector(&service) && wants_mirror(&endpoints) => {
                wanted(&endpoints).apply(&self.store, &key.namespace)?;
            }
            _ => delete_managed(&self.store, key, MANAGED_BY)?,
        }
        Ok(None)
    }
}

fn wants_mirror(endpoints: &Value) -> bool {
    let metadata = &endpoints["metadata"];
    metadata["labels"][SKIP] != "true" && metadata["annotations"][LEADER].is_null()
}

/// The slices that mirror Endpoints. Pure.
fn wanted(endpoints: &Value) -> WantedSlices {
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for subset in list(&endpoints["subsets"]) {
        let ports = json!(list(&subset["ports"]).collect::<Vec<_>>());
        let group = groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new()));
        let ready = list(&subset["addresses"]).map(|a| (a, true));
        let not_ready = list(&subset["notReadyAddresses"]).map(|a| (a, false));
        for (address, ready) in ready.chain(not_ready).take(LIMIT) {
            let mut endpoint = json!({"addresses": [address["ip"]], "conditions": {"ready": ready}});
            for field in ["hostname", "nodeName", "targetRef"] {
                if !address[field].is_null() {
                    endpoint[field] = address[field].clone();
                }
            }
            if !group.1.contains(&endpoint) {
                group.1.push(endpoint);
            }
        }
    }
    groups.retain(|_, (_, endpoints)| !endpoints.is_empty());
    let mut labels = object::map(&endpoints["metadata"]["labels"]);
    for reserved in [MANAGED_BY_LABEL, SERVICE_NAME, HEADLESS] {
        labels.remove(reserved);
    }
    let mut annotations = object::map(&endpoints["metadata"]["annotations"]);
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    WantedSlices {
        service: name(endpoints).to_owned(),
        managed_by: MANAGED_BY,
        labels,
        annotations,
        owner: object::owner_reference("v1", "Endpoints", endpoints),
        limit: LIMIT,
        groups: groups.into_values().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(field: &str) -> Value {
        json!({
            "metadata": {
                "name": "backend-east", "namespace": "demo", "uid": "e",
                "labels": {"app": "backend", "mirror.linkerd.io/cluster-name": "east"},
                "annotations": {
                    "mirror.linkerd.io/remote-svc-fq-name": "backend.demo.svc.cluster.local",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                },
            },
            "subsets": [{
                field: [{"ip": "172.18.0.3"}],
                "ports": [{"name": "http", "port": 30143, "protocol": "TCP"}],
            }],
        })
    }

    #[test]
    fn a_mirrored_slice_looks_like_the_recorded_one() {
        let found = wanted(&endpoints("addresses"));
        assert_eq!(
            found.groups,
            [(
                json!([{"name": "http", "port": 30143, "protocol": "TCP"}]),
                vec![json!({"addresses": ["172.18.0.3"], "conditions": {"ready": true}})],
            )]
        );
        assert_eq!(
            json!(found.labels),
            json!({"app": "backend", "mirror.linkerd.io/cluster-name": "east"})
        );
        assert_eq!(
            json!(found.annotations),
            json!({"mirror.linkerd.io/remote-svc-fq-name": "backend.demo.svc.cluster.local"})
        );
        assert_eq!(
            found.owner,
            json!({"apiVersion": "v1", "kind": "Endpoints", "name": "backend-east", "uid": "e", "controller": true, "blockOwnerDeletion": true})
        );
    }

    #[test]
    fn addresses_that_are_not_ready_are_mirrored_as_such() {
        let found = wanted(&endpoints("notReadyAddresses"));
        assert_eq!(found.groups[0].1[0]["conditions"], json!({"ready": false}));
    }

    #[test]
    fn equal_ports_are_one_slice_and_nothing_is_none() {
        let mut both = endpoints("addresses");
        let second = both["subsets"][0].clone();
        both["subsets"] = json!([second, second]);
        both["subsets"][1]["addresses"] = json!([{"ip": "172.18.0.4"}, {"ip": "172.18.0.3"}]);
        let found = wanted(&both);
        assert_eq!(found.groups.len(), 1);
        assert_eq!(found.groups[0].1.len(), 2, "each address once");
        assert!(wanted(&json!({"metadata": {"name": "x"}})).groups.is_empty());
    }

    #[test]
    fn endpoints_can_ask_not_to_be_mirrored() {
        let mut endpoints = endpoints("addresses");
        assert!(wants_mirror(&endpoints));
        endpoints["metadata"]["labels"][SKIP] = json!("true");
        assert!(!wants_mirror(&endpoints));
    }
}
