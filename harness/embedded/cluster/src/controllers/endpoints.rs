//! The Endpoints controller: addresses of the pods that a Service selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshproof_apiserver::store::{DeleteOptions, Subresource, WatchKind};
use meshproof_apiserver::{Gvr, LabelSelector, Selector, Status, Store, gvr};
use serde_json::{Value, json};

use super::slices::HEADLESS;
use crate::object::{self, Key, list, name, namespace, text, uid};
use crate::work_queue::Controller;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// Keeps the Endpoints of Services that have a selector.
pub(crate) struct EndpointsController {
    store: Store,
}

impl EndpointsController {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            store: store.with_manager("endpoint-controller"),
        }
    }
}

impl Controller for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::SERVICES, gvr::PODS, gvr::ENDPOINTS]
    }

    /// Endpoints that somebody made before their Service, or edited, are left alone, as by the real one; deleted ones come back
    /// where there is a Service.
    fn cares(&self, gvr: &Gvr, change: WatchKind) -> bool {
        *gvr != gvr::ENDPOINTS || change == WatchKind::Deleted
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::PODS {
            services_of_pod(&self.store, changed)
        } else {
            vec![Key::of(changed)]
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<std::time::Duration>, Status> {
        let namespace = Some(key.namespace.as_str());
        let service = match self.store.get(&gvr::SERVICES, namespace, &key.name) {
            Ok(service) => service,
            Err(status) if status.is_not_found() => {
                // Its Service was deleted, or it was: as the real one, whoever made the Endpoints.
                let options = DeleteOptions::default();
                let deleted = self.store.delete(&gvr::ENDPOINTS, namespace, &key.name, &options);
                return match deleted {
                    Err(status) if !status.is_not_found() => Err(status),
                    _ => Ok(None),
                };
            }
            Err(status) => return Err(status),
        };
        if !has_selector(&service) {
            return Ok(None);
        }
        let pods = selected_pods(&self.store, &service)?;
        let wanted = endpoints(&service, &pods);
        match self.store.get(&gvr::ENDPOINTS, namespace, &key.name) {
            Ok(present) => {
                let same = object::map(&present["metadata"]["labels"]) == object::map(&wanted["metadata"]["labels"])
                    && list(&present["subsets"]).eq(list(&wanted["subsets"]));
                if !same {
                    self.store
                        .modify(&gvr::ENDPOINTS, namespace, &key.name, Subresource::Main, |present| {
                            present["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
                            present["subsets"] = wanted["subsets"].clone();
                            true
                        })?;
                }
            }
            Err(status) if status.is_not_found() => {
                self.store.create(&gvr::ENDPOINTS, namespace, wanted)?;
            }
            Err(status) => return Err(status),
        }
        Ok(None)
    }
}

/// Whether Kubernetes looks for the Service's endpoints itself.
pub(crate) fn has_selector(service: &Value) -> bool {
    service["spec"]["selector"].as_object().is_some_and(|s| !s.is_empty()) && service["spec"]["type"] != "ExternalName"
}

pub(crate) fn is_headless(service: &Value) -> bool {
    service["spec"]["clusterIP"] == "None"
}

/// The pods that a Service selects, by name.
pub(crate) fn selected_pods(store: &Store, service: &Value) -> Result<Vec<Arc<Value>>, Status> {
    let selector = Selector {
        labels: LabelSelector::from_map(&service["spec"]["selector"]),
        ..Selector::all()
    };
    Ok(store.list(&gvr::PODS, Some(namespace(service)), &selector)?.items)
}

/// The Services whose endpoints a pod may concern. Those that it ceased to match are found through their Endpoints.
pub(crate) fn services_of_pod(store: &Store, pod: &Value) -> Vec<Key> {
    let namespace = namespace(pod);
    let all = |gvr: &Gvr| {
        let found = store.list(gvr, Some(namespace), &Selector::all());
        found.map(|l| l.items).unwrap_or_default()
    };
    let mut keys: Vec<Key> = all(&gvr::SERVICES)
        .iter()
        .filter(|s| has_selector(s))
        .filter(|s| LabelSelector::from_map(&s["spec"]["selector"]).matches_labels(&pod["metadata"]["labels"]))
        .map(|s| Key::of(s))
        .collect();
    for endpoints in all(&gvr::ENDPOINTS) {
        let names_pod = list(&endpoints["subsets"]).any(|s| {
            list(&s["addresses"])
                .chain(list(&s["notReadyAddresses"]))
                .any(|a| text(&a["targetRef"]["uid"]) == uid(pod))
        });
        if names_pod {
            keys.push(Key::of(&endpoints));
        }
    }
    keys
}

/// A pod's number for a Service port's `targetPort`; `None` when the pod does not have it.
pub(crate) fn target_port(pod: &Value, port: &Value) -> Option<i64> {
    match &port["targetPort"] {
        Value::Number(number) => number.as_i64(),
        Value::String(wanted) => {
            let protocol = protocol(port);
            let sidecars = list(&pod["spec"]["initContainers"]).filter(|c| c["restartPolicy"] == "Always");
            list(&pod["spec"]["containers"])
                .chain(sidecars)
                .flat_map(|c| list(&c["ports"]))
                .find(|p| text(&p["name"]) == wanted && self::protocol(p) == protocol)
                .and_then(|p| p["containerPort"].as_i64())
        }
        _ => port["port"].as_i64(),
    }
}

pub(crate) fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// The ports of a pod that a Service leads to, as they stand in Endpoints and slices. Ports that the pod does not have
/// are left out.
pub(crate) fn pod_ports(service: &Value, pod: &Value) -> Vec<Value> {
    list(&service["spec"]["ports"])
        .filter_map(|port| {
            let number = target_port(pod, port)?;
            let mut entry = json!({"port": number, "protocol": protocol(port)});
            if !text(&port["name"]).is_empty() {
                entry["name"] = port["name"].clone();
            }
            if !text(&port["appProtocol"]).is_empty() {
                entry["appProtocol"] = port["appProtocol"].clone();
            }
            Some(entry)
        })
        .collect()
}

/// The host name under which a headless Service names the pod.
pub(crate) fn hostname<'a>(service: &Value, pod: &'a Value) -> Option<&'a str> {
    let hostname = text(&pod["spec"]["hostname"]);
    (!hostname.is_empty() && text(&pod["spec"]["subdomain"]) == name(service)).then_some(hostname)
}

pub(crate) fn target_reference(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)})
}

/// Pods that have the same ports.
#[derive(Default)]
struct Subset {
    ports: Vec<Value>,
    ready: Vec<Value>,
    not_ready: Vec<Value>,
}

/// The Endpoints of a Service. Pure.
fn endpoints(service: &Value, pods: &[Arc<Value>]) -> Value {
    let publish_all = service["spec"]["publishNotReadyAddresses"] == true;
    let mut subsets: BTreeMap<String, Subset> = BTreeMap::new();
    for pod in pods {
        let address = text(&pod["status"]["podIP"]);
        let leaves = object::is_being_deleted(pod) && !publish_all;
        if address.is_empty() || leaves || object::has_ended(pod) {
            continue;
        }
        let ports = pod_ports(service, pod);
        let none_match = ports.is_empty() && list(&service["spec"]["ports"]).next().is_some();
        if none_match {
            continue;
        }
        let mut entry = json!({
            "ip": address,
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": target_reference(pod),
        });
        if let Some(hostname) = hostname(service, pod) {
            entry["hostname"] = json!(hostname);
        }
        let subset = subsets.entry(json!(ports).to_string()).or_insert_with(|| Subset {
            ports,
            ..Subset::default()
        });
        if publish_all || object::is_ready_pod(pod) {
            subset.ready.push(entry);
        } else {
            subset.not_ready.push(entry);
        }
    }
    let subsets: Vec<Value> = subsets
        .into_values()
        .map(
            |Subset {
                 ports,
                 mut ready,
                 mut not_ready,
             }| {
                let mut subset = json!({});
                for (field, addresses) in [("addresses", &mut ready), ("notReadyAddresses", &mut not_ready)] {
                    if !addresses.is_empty() {
                        addresses.sort_by_key(|a| text(&a["ip"]).parse::<std::net::Ipv4Addr>().ok());
                        subset[field] = json!(addresses);
                    }
                }
                if !ports.is_empty() {
                    subset["ports"] = json!(ports);
                }
                subset
            },
        )
        .collect();
    let mut labels = object::map(&service["metadata"]["labels"]);
    labels.insert(MANAGED_BY.into(), json!("endpoint-controller"));
    if is_headless(service) {
        labels.insert(HEADLESS.into(), json!(""));
    }
    let mut endpoints = json!({
        "metadata": {"name": name(service), "namespace": namespace(service), "labels": labels},
    });
    if !subsets.is_empty() {
        endpoints["subsets"] = json!(subsets);
    }
    endpoints
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

    /// A pod as a test wants it.
    #[derive(Clone, Debug)]
    pub(crate) struct PodState {
        pub(crate) ready: bool,
        pub(crate) deleted: bool,
        pub(crate) phase: &'static str,
        pub(crate) has_address: bool,
        pub(crate) http_port: u16,
    }

    pub(crate) const RUNNING: PodState = PodState {
        ready: true,
        deleted: false,
        phase: "Running",
        has_address: true,
        http_port: 8080,
    };

    pub(crate) fn pods(states: &[PodState]) -> Vec<Arc<Value>> {
        let pod = |(i, s): (usize, &PodState)| {
            let mut pod = json!({
                "metadata": {"name": format!("web-{i}"), "namespace": "demo", "uid": format!("uid-{i}")},
                "spec": {
                    "nodeName": "node",
                    "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": s.http_port}]}],
                },
                "status": {
                    "phase": s.phase,
                    "conditions": [{"type": "Ready", "status": if s.ready { "True" } else { "False" }}],
                },
            });
            if s.has_address {
                pod["status"]["podIP"] = json!(format!("10.0.0.{}", i + 1));
            }
            if s.deleted {
                pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T02:14:06Z");
            }
            Arc::new(pod)
        };
        states.iter().enumerate().map(pod).collect()
    }

    pub(crate) fn any_pods() -> impl Strategy<Value = Vec<PodState>> {
        let pod = (any::<bool>(), any::<bool>(), 0usize..4, any::<bool>(), 8080u16..8082).prop_map(
            |(ready, deleted, phase, has_address, http_port)| PodState {
                ready,
                deleted,
                phase: ["Pending", "Running", "Succeeded", "Failed"][phase],
                has_address,
                http_port,
            },
        );
        prop::collection::vec(pod, 0..12)
    }

    pub(crate) fn service() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "s", "labels": {"app": "web"}},
            "spec": {
                "clusterIP": "10.1.0.1",
                "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            },
        })
    }

    #[test]
    fn endpoints_look_like_the_recorded_ones() {
        let not_ready = PodState {
            ready: false,
            ..RUNNING
        };
        let found = endpoints(&service(), &pods(&[RUNNING, not_ready]));
        let reference = |i: usize| json!({"kind": "Pod", "name": format!("web-{i}"), "namespace": "demo", "uid": format!("uid-{i}")});
        assert_eq!(
            found,
            json!({
                "metadata": {
                    "name": "web", "namespace": "demo",
                    "labels": {"app": "web", "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
                },
                "subsets": [{
                    "addresses": [{"ip": "10.0.0.1", "nodeName": "node", "targetRef": reference(0)}],
                    "notReadyAddresses": [{"ip": "10.0.0.2", "nodeName": "node", "targetRef": reference(1)}],
                    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                }],
            })
        );
    }

    #[test]
    fn target_ports_are_numbers_names_or_the_port_itself() {
        let pod = json!({"spec": {
            "containers": [{"ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [
                {"restartPolicy": "Always", "ports": [{"name": "admin", "containerPort": 4191}]},
                {"ports": [{"name": "once", "containerPort": 1}]},
            ],
        }});
        let port = |target: Value| target_port(&pod, &json!({"port": 80, "targetPort": target}));
        assert_eq!(port(json!(81)), Some(81));
        assert_eq!(port(json!("http")), Some(8080));
        assert_eq!(port(json!("admin")), Some(4191));
        assert_eq!(port(json!("dns")), None, "another protocol");
        assert_eq!(port(json!("once")), None, "not a sidecar");
        assert_eq!(port(Value::Null), Some(80));
    }

    #[test]
    fn a_headless_service_without_ports_still_lists_its_pods() {
        let mut service = service();
        service["spec"]["clusterIP"] = json!("None");
        service["spec"]["ports"] = json!([]);
        let found = endpoints(&service, &pods(&[RUNNING]));
        assert_eq!(found["subsets"][0]["ports"], Value::Null);
        assert_eq!(found["metadata"]["labels"][HEADLESS], "");
    }

    proptest! {
        #[test]
        fn every_running_pod_stands_exactly_once_where_its_readiness_says(states in any_pods()) {
            let found = endpoints(&service(), &pods(&states));
            let addresses = |field: &str| -> Vec<String> {
                list(&found["subsets"]).flat_map(|s| list(&s[field])).map(|a| text(&a["ip"]).to_owned()).collect()
            };
            let (mut ready, mut not_ready) = (addresses("addresses"), addresses("notReadyAddresses"));
            ready.sort();
            not_ready.sort();
            let expected = |wanted: bool| -> Vec<String> {
                let mut all: Vec<String> = states.iter().enumerate()
                    .filter(|(_, s)| s.has_address && !s.deleted && s.ready == wanted)
                    .filter(|(_, s)| matches!(s.phase, "Pending" | "Running"))
                    .map(|(i, _)| format!("10.0.0.{}", i + 1)).collect();
                all.sort();
                all
            };
            prop_assert_eq!(ready, expected(true));
            prop_assert_eq!(not_ready, expected(false));
            for subset in list(&found["subsets"]) {
                for address in list(&subset["addresses"]).chain(list(&subset["notReadyAddresses"])) {
                    let index: usize = text(&address["targetRef"]["name"])["web-".len()..].parse().unwrap();
                    prop_assert_eq!(&subset["ports"][0]["port"], &json!(states[index].http_port));
                }
            }
            let ports: Vec<_> = list(&found["subsets"]).map(|s| s["ports"].to_string()).collect();
            let mut distinct = ports.clone();
            distinct.dedup();
            prop_assert!(ports == distinct, "subsets with equal ports are one");
        }
    }
}
