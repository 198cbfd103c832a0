//! What kube-proxy and the cluster's DNS server learn from Services and EndpointSlices.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::{Gvr, Selector, Status, Store, gvr};
use serde_json::Value;

use super::endpoints::is_headless;
use super::load_balancer::ingress;
use super::slices::{SERVICE_NAME, service_of};
use crate::dns::{ServiceName, Zone};
use crate::fabric::{Fabric, PortEntry, ServiceEntry, ServiceRef};
use crate::object::{Key, list, name, text};
use crate::work_queue::Controller;

/// Tells the fabric and the zone of a cluster about its Services.
pub(crate) struct ServiceProxy {
    pub(crate) store: Store,
    pub(crate) cluster: String,
    pub(crate) fabric: Fabric,
    pub(crate) zone: Arc<Zone>,
}

impl Controller for ServiceProxy {
    fn name(&self) -> &'static str {
        "kube-proxy"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::SERVICES, gvr::ENDPOINT_SLICES]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::SERVICES {
            vec![Key::of(changed)]
        } else {
            service_of(changed).into_iter().collect()
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let reference = ServiceRef {
            cluster: self.cluster.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let (entry, name) = match self.store.get(&gvr::SERVICES, Some(&key.namespace), &key.name) {
            Ok(service) => {
                let selector = Selector::labels(&format!("{SERVICE_NAME}={}", key.name))?;
                let slices = self
                    .store
                    .list(&gvr::ENDPOINT_SLICES, Some(&key.namespace), &selector)?
                    .items;
                (entry(&service, &slices), service_name(&service, &slices))
            }
            Err(status) if status.is_not_found() => (None, None),
            Err(status) => return Err(status),
        };
        self.fabric.set_service(&reference, entry);
        self.zone.set(&key.namespace, &key.name, name);
        Ok(None)
    }
}

/// The translations of a Service; `None` when it has no address of its own. Pure.
fn entry(service: &Value, slices: &[Arc<Value>]) -> Option<ServiceEntry> {
    let cluster_ip = text(&service["spec"]["clusterIP"]).parse().ok();
    if cluster_ip.is_none() || service["spec"]["type"] == "ExternalName" {
        return None;
    }
    let ports = list(&service["spec"]["ports"])
        .filter(|p| p["protocol"].as_str().is_none_or(|p| p == "TCP"))
        .filter_map(|port| {
            Some(PortEntry {
                port: number(&port["port"])?,
                node_port: number(&port["nodePort"]).filter(|p| *p > 0),
                endpoints: endpoints(text(&port["name"]), slices),
            })
        })
        .collect();
    Some(ServiceEntry {
        cluster_ip,
        load_balancer: ingress(service),
        ports,
    })
}

/// Ready endpoints of a port; when there is none, those that still serve while they terminate.
fn endpoints(port: &str, slices: &[Arc<Value>]) -> Vec<SocketAddrV4> {
    let chosen = |fits: fn(&Value) -> bool| -> Vec<SocketAddrV4> {
        let mut all: Vec<_> = slices
            .iter()
            .flat_map(|slice| {
                let numbers = list(&slice["ports"])
                    .filter(move |p| text(&p["name"]) == port)
                    .filter_map(|p| number(&p["port"]));
                numbers.flat_map(move |number| {
                    list(&slice["endpoints"])
                        .filter(move |e| fits(&e["conditions"]))
                        .filter_map(|e| text(&e["addresses"][0]).parse().ok())
                        .map(move |ip| SocketAddrV4::new(ip, number))
                })
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let ready = chosen(|conditions| conditions["ready"] != false);
    if ready.is_empty() {
        chosen(|conditions| conditions["serving"] == true && conditions["terminating"] == true)
    } else {
        ready
    }
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| n.try_into().ok())
}

/// What the Service's DNS name stands for. Pure.
fn service_name(service: &Value, slices: &[Arc<Value>]) -> Option<ServiceName> {
    if service["spec"]["type"] == "ExternalName" {
        return Some(ServiceName::External(text(&service["spec"]["externalName"]).to_owned()));
    }
    if !is_headless(service) {
        return text(&service["spec"]["clusterIP"])
            .parse()
            .ok()
            .map(ServiceName::Address);
    }
    let pods = slices.iter().flat_map(|s| list(&s["endpoints"]));
    let ready = pods.filter(|e| e["conditions"]["ready"] != false);
    let mut all: Vec<_> = ready
        .filter_map(|e| {
            let address = text(&e["addresses"][0]).parse().ok()?;
            Some((address, e["hostname"].as_str().map(str::to_owned)))
        })
        .collect();
    all.sort();
    all.dedup();
    debug_assert!(!name(service).is_empty());
    Some(ServiceName::Headless(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(endpoints: &[(&str, [bool; 3])]) -> Arc<Value> {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(ip, [ready, serving, terminating])| {
                json!({"addresses": [ip], "hostname": format!("h{}", &ip[7..]),
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
            })
            .collect();
        Arc::new(
            json!({"endpoints": endpoints, "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}]}),
        )
    }

    fn service(cluster_ip: &str) -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "demo"},
            "spec": {"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 80, "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "172.18.0.2"}, {"hostname": "lb.example"}]}},
        })
    }

    const READY: [bool; 3] = [true, true, false];
    const LEAVING: [bool; 3] = [false, true, true];
    const STARTING: [bool; 3] = [false, false, false];

    #[test]
    fn ready_endpoints_of_the_port_are_taken() {
        let slices = [
            slice(&[("10.0.0.2", READY), ("10.0.0.1", READY), ("10.0.0.3", STARTING)]),
            slice(&[("10.0.0.1", READY), ("10.0.0.4", LEAVING)]),
        ];
        let found = entry(&service("10.1.0.1"), &slices).unwrap();
        assert_eq!(found.load_balancer, [std::net::Ipv4Addr::new(172, 18, 0, 2)]);
        assert_eq!(
            found.ports,
            [PortEntry {
                port: 80,
                node_port: Some(30080),
                endpoints: vec!["10.0.0.1:8080".parse().unwrap(), "10.0.0.2:8080".parse().unwrap()],
            }]
        );
    }

    #[test]
    fn terminating_endpoints_serve_while_there_is_no_other() {
        let slices = [slice(&[("10.0.0.3", STARTING), ("10.0.0.4", LEAVING)])];
        let found = entry(&service("10.1.0.1"), &slices).unwrap();
        assert_eq!(found.ports[0].endpoints, ["10.0.0.4:8080".parse().unwrap()]);
        let found = entry(&service("10.1.0.1"), &[slice(&[("10.0.0.3", STARTING)])]).unwrap();
        assert!(found.ports[0].endpoints.is_empty());
    }

    #[test]
    fn names_stand_for_addresses_pods_or_other_names() {
        let slices = [slice(&[("10.0.0.1", READY), ("10.0.0.3", STARTING)])];
        assert_eq!(
            service_name(&service("10.1.0.1"), &slices),
            Some(ServiceName::Address([10, 1, 0, 1].into()))
        );
        let headless = service("None");
        assert!(entry(&headless, &slices).is_none());
        assert_eq!(
            service_name(&headless, &slices),
            Some(ServiceName::Headless(vec![([10, 0, 0, 1].into(), Some("h1".into()))]))
        );
        let external = json!({"spec": {"type": "ExternalName", "externalName": "x.example"}});
        assert!(entry(&external, &[]).is_none());
        assert_eq!(
            service_name(&external, &[]),
            Some(ServiceName::External("x.example".into()))
        );
    }
}
