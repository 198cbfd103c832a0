//! What proxies of one cluster know at one moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::objects::{Key, Namespace, Pod, PortSet, Service, Slice};
use super::policy::{AuthorizationPolicy, MeshTlsAuthentication, NetworkAuthentication, Server};
use super::route::Route;
use crate::defect::{Defect, Defects};
use crate::identity::CONTROL_PLANE_NAMESPACE;
use crate::metrics::Labels;

/// An immutable picture of the cluster. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Services by namespace and name.
    pub services: Arc<HashMap<Key, Arc<Service>>>,
    /// Services by virtual address.
    pub by_cluster_ip: Arc<HashMap<IpAddr, Arc<Service>>>,
    /// EndpointSlices by Service.
    pub slices: Arc<HashMap<Key, Vec<Arc<Slice>>>>,
    /// Pods by address.
    pub pods: Arc<HashMap<IpAddr, Arc<Pod>>>,
    /// Namespaces by name.
    pub namespaces: Arc<HashMap<String, Arc<Namespace>>>,
    /// Routes by parent Service.
    pub routes: Arc<HashMap<Key, Vec<Arc<Route>>>>,
    /// Servers.
    pub servers: Arc<BTreeMap<Key, Server>>,
    /// AuthorizationPolicies.
    pub authorization_policies: Arc<BTreeMap<Key, AuthorizationPolicy>>,
    /// MeshTLSAuthentications.
    pub mesh_tls_authentications: Arc<BTreeMap<Key, MeshTlsAuthentication>>,
    /// NetworkAuthentications.
    pub network_authentications: Arc<BTreeMap<Key, NetworkAuthentication>>,
    /// Target clusters whose mirrors are withheld (only by a defect).
    pub withheld: Arc<BTreeSet<String>>,
}

/// Where a proxy may send traffic, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTarget {
    /// Address as discovery knows it; metrics name it.
    pub address: SocketAddr,
    /// How to talk to it.
    pub transport: Transport,
    /// Labels that name the endpoint in metrics: `dst_…`.
    pub labels: Labels,
}

/// How a proxy talks to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A gateway of another cluster: mutual TLS, and a transport header that names the remote Service.
    Gateway {
        /// Identity that it must prove.
        identity: String,
        /// Full name of the remote Service.
        host: String,
        /// Port of the remote Service.
        port: u16,
    },
    /// A pod with a proxy: mutual TLS to the proxy's own port, and a transport header that names the pod's port.
    Pod {
        /// Identity that it must prove.
        identity: String,
    },
    /// Mutual TLS to the address itself.
    Tls {
        /// Identity that it must prove.
        identity: String,
    },
    /// No proxy there.
    Plain,
}

impl Transport {
    /// Identity that the endpoint must prove.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        match self {
            Self::Gateway { identity, .. } | Self::Pod { identity } | Self::Tls { identity } => Some(identity),
            Self::Plain => None,
        }
    }
}

impl View {
    /// The Service with this virtual address.
    #[must_use]
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.by_cluster_ip.get(&address)
    }

    /// Whether the port of a Service is opaque.
    #[must_use]
    pub fn is_opaque(&self, service: &Service, port: u16) -> bool {
        self.opaque(service.opaque_ports.as_ref(), &service.namespace, port)
    }

    /// Whether the port of a pod is opaque.
    #[must_use]
    pub fn is_opaque_in_pod(&self, pod: &Pod, port: u16) -> bool {
        self.opaque(pod.opaque_ports.as_ref(), &pod.namespace, port)
    }

    fn opaque(&self, own: Option<&PortSet>, namespace: &str, port: u16) -> bool {
        let inherited = || {
            self.namespaces
                .get(namespace)
                .and_then(|namespace| namespace.opaque_ports.as_ref())
        };
        match own.or_else(inherited) {
            Some(ports) => ports.contains(port),
            None => PortSet::default_opaque().contains(port),
        }
    }

    /// The endpoints of a Service's port that take connections.
    #[must_use]
    pub fn endpoints(&self, service: &Service, port: u16, defects: &Defects) -> Vec<EndpointTarget> {
        if let Some(mirror) = &service.mirror {
            if self.withheld.contains(&mirror.cluster) {
                return Vec::new();
            }
            if defects.has(Defect::MirrorAnswersLocally) {
                let local = self.services.get(&(mirror.namespace.clone(), mirror.service.clone()));
                if let Some(local) = local.filter(|local| local.mirror.is_none()) {
                    return self.endpoints(local, port, defects);
                }
            }
        }
        let Some(service_port) = service.port(port) else {
            return Vec::new();
        };
        let remote_port = match service.ports.first() {
            Some(first) if defects.has(Defect::EveryPortToTheFirst) => first.port,
            _ => port,
        };
        let mut targets = Vec::new();
        for slice in self.slices_of(service) {
            let Some((_, number)) = slice.ports.iter().find(|(name, _)| *name == service_port.name) else {
                continue;
            };
            for address in slice.addresses.iter().filter(|address| address.ready) {
                let target = self.target(service, slice, SocketAddr::new(address.ip, *number), remote_port);
                // An address that stands in two slices is one endpoint.
                if targets
                    .iter()
                    .all(|known: &EndpointTarget| known.address != target.address)
                {
                    targets.push(target);
                }
            }
        }
        targets
    }

    fn slices_of(&self, service: &Service) -> &[Arc<Slice>] {
        let key = (service.namespace.clone(), service.name.clone());
        self.slices.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the slices of a Service hold addresses that are not ready.
    #[must_use]
    pub fn has_unready_addresses(&self, service: &Service) -> bool {
        self.slices_of(service)
            .iter()
            .any(|slice| slice.addresses.iter().any(|address| !address.ready))
    }

    fn target(&self, service: &Service, slice: &Slice, address: SocketAddr, remote_port: u16) -> EndpointTarget {
        if let Some(identity) = slice.gateway_identity.clone() {
            let transport = match &slice.remote_name {
                Some(host) => Transport::Gateway {
                    identity,
                    host: host.clone(),
                    port: remote_port,
                },
                None => Transport::Tls { identity },
            };
            return EndpointTarget {
                address,
                transport,
                labels: gateway_labels(service),
            };
        }
        match self.pods.get(&address.ip()) {
            Some(pod) => pod_target(pod, address, Some(&service.name)),
            None => {
                let labels = Labels::from([
                    ("dst_namespace", service.namespace.as_str()),
                    ("dst_service", &service.name),
                ]);
                EndpointTarget {
                    address,
                    transport: Transport::Plain,
                    labels,
                }
            }
        }
    }

    /// How to reach an address that belongs to no Service: a pod, or something outside the cluster.
    #[must_use]
    pub fn direct_target(&self, address: SocketAddr) -> EndpointTarget {
        match self.pods.get(&address.ip()) {
            Some(pod) => pod_target(pod, address, None),
            None => EndpointTarget {
                address,
                transport: Transport::Plain,
                labels: Labels::new(),
            },
        }
    }

    /// The routes that a client in `client_namespace` follows for a Service's port, best first: routes of the client's own
    /// namespace replace those of the Service's.
    #[must_use]
    pub fn routes_for(&self, service: &Key, port: u16, client_namespace: &str) -> Vec<Arc<Route>> {
        let attached = self.routes.get(service).map(Vec::as_slice).unwrap_or_default();
        let of_namespace = |namespace: &str| {
            let mut routes: Vec<_> = attached
                .iter()
                .filter(|route| route.namespace == namespace && route.unsupported.is_none())
                .filter(|route| {
                    let covers = |own: Option<u16>| own.is_none_or(|own| own == port);
                    route
                        .parents
                        .iter()
                        .any(|parent| parent.service == *service && covers(parent.port))
                })
                .cloned()
                .collect();
            routes.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
            routes
        };
        let consumer = of_namespace(client_namespace);
        if consumer.is_empty() {
            of_namespace(&service.0)
        } else {
            consumer
        }
    }
}

/// The rules of `routes` with their place, in the order in which a request is compared with them.
#[must_use]
pub(crate) fn rules_by_precedence(routes: &[Arc<Route>]) -> Vec<(usize, usize)> {
    let mut order: Vec<_> = routes
        .iter()
        .enumerate()
        .flat_map(|(route, content)| {
            content.rules.iter().enumerate().map(move |(rule, rules)| {
                let best = rules.matches.iter().map(super::route::Match::precedence).max();
                (Reverse(best.unwrap_or_default()), route, rule)
            })
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, route, rule)| (route, rule)).collect()
}

fn gateway_labels(service: &Service) -> Labels {
    let mut labels = Labels::from([
        ("dst_namespace", service.namespace.as_str()),
        ("dst_service", &service.name),
    ]);
    if let Some(mirror) = &service.mirror {
        labels = labels
            .with("dst_target_cluster", &mirror.cluster)
            .with("dst_target_service", &mirror.service)
            .with("dst_target_service_namespace", &mirror.namespace);
    }
    labels.with("dst_zone_locality", "unknown")
}

fn pod_target(pod: &Pod, address: SocketAddr, service: Option<&str>) -> EndpointTarget {
    let identity = pod
        .identity
        .clone()
        .filter(|_| !pod.skip_inbound_ports.contains(address.port()));
    let mut labels = Labels::new();
    if identity.is_some() {
        labels = labels.with("dst_control_plane_ns", CONTROL_PLANE_NAMESPACE);
    }
    if let Some((kind, name)) = &pod.owner {
        labels = labels.with(&format!("dst_{kind}"), name);
    }
    labels = labels.with("dst_namespace", &pod.namespace).with("dst_pod", &pod.name);
    if let Some(hash) = &pod.template_hash {
        labels = labels.with("dst_pod_template_hash", hash);
    }
    if let Some(service) = service {
        labels = labels.with("dst_service", service);
    }
    labels = labels
        .with("dst_serviceaccount", &pod.service_account)
        .with("dst_zone", "")
        .with("dst_zone_locality", "unknown");
    let transport = identity.map_or(Transport::Plain, |identity| Transport::Pod { identity });
    EndpointTarget {
        address,
        transport,
        labels,
    }
}
