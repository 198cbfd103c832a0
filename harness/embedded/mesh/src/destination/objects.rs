//! Kubernetes objects as the data plane needs them, read from JSON.

use std::net::IpAddr;

use serde_json::Value;

use crate::identity::workload_name;
use crate::names::{annotation, label};

/// Namespace and name.
pub type Key = (String, String);

/// Ports that the proxy treats as opaque unless an annotation says otherwise.
const DEFAULT_OPAQUE_PORTS: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

pub(super) fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn annotation_of<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

fn label_of<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["labels"][name].as_str()
}

/// A list of ports and ranges of ports, as in `25,587,8000-8100`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    /// Reads a list; parts that are no ports are left out, as the real injector does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
        };
        Self(text.split(',').filter_map(range).collect())
    }

    /// The default list of opaque ports.
    #[must_use]
    pub fn default_opaque() -> Self {
        Self(DEFAULT_OPAQUE_PORTS.iter().map(|port| (*port, *port)).collect())
    }

    /// Whether `port` is in the list.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&port))
    }
}

/// A namespace's say on its pods and Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// `config.linkerd.io/opaque-ports`.
    pub opaque_ports: Option<PortSet>,
    /// `config.linkerd.io/default-inbound-policy`.
    pub default_inbound_policy: Option<String>,
}

impl Namespace {
    pub(super) fn read(object: &Value) -> Self {
        Self {
            opaque_ports: annotation_of(object, annotation::OPAQUE_PORTS).map(PortSet::parse),
            default_inbound_policy: annotation_of(object, annotation::DEFAULT_INBOUND_POLICY).map(str::to_owned),
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty when the Service has only this one.
    pub name: String,
    /// Number on the cluster IP.
    pub port: u16,
}

/// What makes a Service a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name of the target cluster.
    pub cluster: String,
    /// The remote Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity of the object.
    pub uid: String,
    /// Virtual address; none for headless Services.
    pub cluster_ip: Option<IpAddr>,
    /// TCP ports.
    pub ports: Vec<ServicePort>,
    /// `config.linkerd.io/opaque-ports`.
    pub opaque_ports: Option<PortSet>,
    /// Set when it stands for a Service of another cluster.
    pub mirror: Option<Mirror>,
}

impl Service {
    pub(super) fn read(object: &Value) -> Self {
        let (namespace, name) = key(object);
        let ports = object["spec"]["ports"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Self {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            cluster_ip: object["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok()),
            ports: ports
                .iter()
                .filter(|port| port["protocol"].as_str().unwrap_or("TCP") == "TCP")
                .filter_map(|port| {
                    Some(ServicePort {
                        name: port["name"].as_str().unwrap_or_default().to_owned(),
                        port: port_number(&port["port"])?,
                    })
                })
                .collect(),
            opaque_ports: annotation_of(object, annotation::OPAQUE_PORTS).map(PortSet::parse),
            mirror: mirror(object),
            namespace,
            name,
        }
    }

    /// The port with this number.
    #[must_use]
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number)
    }
}

fn mirror(object: &Value) -> Option<Mirror> {
    if label_of(object, label::MIRRORED_SERVICE) != Some("true") {
        return None;
    }
    let full_name = annotation_of(object, annotation::REMOTE_SVC_FQ_NAME)?;
    let mut parts = full_name.split('.');
    Some(Mirror {
        cluster: label_of(object, label::CLUSTER_NAME)?.to_owned(),
        service: parts.next()?.to_owned(),
        namespace: parts.next()?.to_owned(),
    })
}

fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

/// One address of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceAddress {
    /// Address.
    pub ip: IpAddr,
    /// Whether it takes connections.
    pub ready: bool,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: Key,
    /// Name and number of each TCP port.
    pub ports: Vec<(String, u16)>,
    /// Addresses, ready or not.
    pub addresses: Vec<SliceAddress>,
    /// Identity that the addresses prove, when they are gateways.
    pub gateway_identity: Option<String>,
    /// Full name of the remote Service behind the gateways.
    pub remote_name: Option<String>,
}

impl Slice {
    pub(super) fn read(object: &Value) -> Option<Self> {
        let (namespace, _) = key(object);
        let service = label_of(object, "kubernetes.io/service-name")?.to_owned();
        let list = |field: &str| object[field].as_array().cloned().unwrap_or_default();
        let mut addresses = Vec::new();
        for endpoint in list("endpoints") {
            // No word on readiness counts as ready, as the API says.
            let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
            for address in endpoint["addresses"].as_array().into_iter().flatten() {
                if let Some(ip) = address.as_str().and_then(|ip| ip.parse().ok()) {
                    addresses.push(SliceAddress { ip, ready });
                }
            }
        }
        Some(Self {
            service: (namespace, service),
            ports: list("ports")
                .iter()
                .filter(|port| port["protocol"].as_str().unwrap_or("TCP") == "TCP")
                .filter_map(|port| {
                    Some((
                        port["name"].as_str().unwrap_or_default().to_owned(),
                        port_number(&port["port"])?,
                    ))
                })
                .collect(),
            addresses,
            gateway_identity: annotation_of(object, annotation::REMOTE_GATEWAY_IDENTITY).map(str::to_owned),
            remote_name: annotation_of(object, annotation::REMOTE_SVC_FQ_NAME).map(str::to_owned),
        })
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Address, once it has one.
    pub ip: Option<IpAddr>,
    /// ServiceAccount.
    pub service_account: String,
    /// Identity of its proxy; none without a proxy.
    pub identity: Option<String>,
    /// Ports that pass its proxy by.
    pub skip_inbound_ports: PortSet,
    /// `config.linkerd.io/opaque-ports`.
    pub opaque_ports: Option<PortSet>,
    /// Kind and name of the controller, as in metrics labels: `deployment`, `echo`.
    pub owner: Option<(&'static str, String)>,
    /// `pod-template-hash`.
    pub template_hash: Option<String>,
    /// Whether all its containers are ready and it is not being deleted.
    pub ready: bool,
    /// Target cluster whose mirror controller it is.
    pub controller_of: Option<String>,
}

impl Pod {
    /// Reads a pod's object.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let (namespace, name) = key(object);
        let service_account = object["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default")
            .to_owned();
        let has_proxy = label_of(object, label::CONTROL_PLANE_NS).is_some()
            && ["initContainers", "containers"].iter().any(|list| {
                let containers = object["spec"][list].as_array();
                containers.is_some_and(|all| all.iter().any(|container| container["name"] == "linkerd-proxy"))
            });
        let condition = |name: &str| {
            let conditions = object["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == name && one["status"] == "True"))
        };
        Self {
            // The address of a pod that has ended may belong to another one by now.
            ip: match object["status"]["phase"].as_str() {
                Some("Succeeded" | "Failed") => None,
                _ => object["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()),
            },
            identity: has_proxy.then(|| workload_name(&service_account, &namespace)),
            skip_inbound_ports: annotation_of(object, annotation::SKIP_INBOUND_PORTS)
                .map(PortSet::parse)
                .unwrap_or_default(),
            opaque_ports: annotation_of(object, annotation::OPAQUE_PORTS).map(PortSet::parse),
            owner: owner(object),
            template_hash: label_of(object, "pod-template-hash").map(str::to_owned),
            ready: condition("Ready") && object["metadata"]["deletionTimestamp"].is_null(),
            controller_of: (label_of(object, label::EXTENSION) == Some("multicluster"))
                .then(|| label_of(object, label::CLUSTER_NAME).map(str::to_owned))
                .flatten(),
            service_account,
            namespace,
            name,
        }
    }
}

fn owner(object: &Value) -> Option<(&'static str, String)> {
    let owner = object["metadata"]["ownerReferences"].as_array()?.first()?;
    let name = owner["name"].as_str()?;
    match owner["kind"].as_str()? {
        "ReplicaSet" => {
            let hash = label_of(object, "pod-template-hash").unwrap_or_default();
            let deployment = name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'));
            Some(match deployment {
                Some(deployment) if !hash.is_empty() => ("deployment", deployment.to_owned()),
                _ => ("replicaset", name.to_owned()),
            })
        }
        "StatefulSet" => Some(("statefulset", name.to_owned())),
        "DaemonSet" => Some(("daemonset", name.to_owned())),
        "Job" => Some(("job", name.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Mirror, Pod, PortSet, Service, Slice};
    use serde_json::json;

    #[test]
    fn port_lists_have_ranges_and_forgive_nonsense() {
        let ports = PortSet::parse("25, 8000-8100,nonsense,");
        assert!(ports.contains(25) && ports.contains(8050));
        assert!(!ports.contains(26) && !ports.contains(8101));
        assert!(PortSet::default_opaque().contains(3306));
    }

    #[test]
    fn a_mirror_is_known_by_label_and_annotation_together() {
        let mut object = json!({
            "metadata": {
                "namespace": "lab", "name": "echo-east", "uid": "u",
                "labels": {"mirror.linkerd.io/mirrored-service": "true", "mirror.linkerd.io/cluster-name": "east"},
                "annotations": {"mirror.linkerd.io/remote-svc-fq-name": "echo.lab.svc.cluster.local"},
            },
            "spec": {"clusterIP": "10.42.71.191", "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]},
        });
        let service = Service::read(&object);
        assert_eq!(
            service.mirror,
            Some(Mirror {
                cluster: "east".into(),
                service: "echo".into(),
                namespace: "lab".into()
            })
        );
        assert!(service.port(8080).is_some() && service.port(53).is_none());
        object["metadata"]["labels"] = json!({});
        assert_eq!(Service::read(&object).mirror, None);
    }

    #[test]
    fn readiness_of_a_slice_is_per_address() {
        let slice = Slice::read(&json!({
            "metadata": {"namespace": "lab", "name": "echo-east-fc52v",
                "labels": {"kubernetes.io/service-name": "echo-east"},
                "annotations": {"mirror.linkerd.io/remote-gateway-identity": "gw"}},
            "endpoints": [
                {"addresses": ["172.18.0.3"], "conditions": {"ready": true}},
                {"addresses": ["172.18.0.4"], "conditions": {"ready": false}}],
            "ports": [{"name": "http", "port": 4143, "protocol": "TCP"}],
        }))
        .unwrap();
        assert_eq!(
            slice.addresses.iter().map(|address| address.ready).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(slice.ports, [("http".to_owned(), 4143)]);
        assert_eq!(slice.gateway_identity.as_deref(), Some("gw"));
    }

    #[test]
    fn only_a_pod_with_a_proxy_has_an_identity() {
        let mut object = json!({
            "metadata": {"namespace": "lab", "name": "echo-585-x", "labels": {
                "linkerd.io/control-plane-ns": "linkerd", "pod-template-hash": "585"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "echo-585"}]},
            "spec": {"serviceAccountName": "echo", "initContainers": [{"name": "linkerd-proxy"}], "containers": []},
            "status": {"podIP": "10.22.0.20", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let pod = Pod::read(&object);
        assert_eq!(
            pod.identity.as_deref(),
            Some("echo.lab.serviceaccount.identity.linkerd.cluster.local")
        );
        assert_eq!(pod.owner, Some(("deployment", "echo".to_owned())));
        assert!(pod.ready);
        object["spec"]["initContainers"] = json!([]);
        assert_eq!(Pod::read(&object).identity, None);
    }
}
