//! Where a virtual address leads: what kube-proxy and the routing between nodes do on real clusters. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use super::address::Cidr;

/// Port of the API server on the node's address.
pub const API_SERVER_PORT: u16 = 6443;

/// How often an address may be translated before it counts as a loop. ClusterIP → load-balancer address of another
/// cluster → pod are two.
const MAX_TRANSLATIONS: usize = 4;

/// Addresses of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterAddresses {
    /// Range of the pods' addresses.
    pub pod_cidr: Cidr,
    /// Range of the Services' ClusterIPs.
    pub service_cidr: Cidr,
    /// Address of the node; every cluster can reach it.
    pub node: Ipv4Addr,
    /// Range of the addresses of load balancers, if the cluster has one; every cluster can reach them.
    pub load_balancers: Option<Cidr>,
}

/// A Service of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceRef {
    /// Cluster that the Service lives in.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.name, self.cluster)
    }
}

/// What kube-proxy knows of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its virtual address; `None` for headless Services.
    pub cluster_ip: Option<Ipv4Addr>,
    /// Addresses in `status.loadBalancer.ingress`.
    pub load_balancer: Vec<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<PortEntry>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortEntry {
    /// Port of the Service.
    pub port: u16,
    /// Port on the node, if the Service has one.
    pub node_port: Option<u16>,
    /// Ready endpoints.
    pub endpoints: Vec<SocketAddrV4>,
}

/// A Service port as a target of translation.
#[derive(Debug)]
struct Target {
    service: ServiceRef,
    endpoints: Vec<SocketAddrV4>,
}

/// Who stands behind an address. Of several Services that claim it (a status may say anything) it is the first one's, and the
/// next one's when that gives it up.
#[derive(Debug)]
struct Claims<K>(HashMap<K, Vec<Arc<Target>>>);

impl<K> Default for Claims<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Claims<K> {
    fn get(&self, address: &K) -> Option<&Arc<Target>> {
        self.0.get(address)?.first()
    }

    /// Makes `wanted` all that this Service claims. What it claimed before keeps its place.
    fn set(&mut self, service: &ServiceRef, before: impl Iterator<Item = K>, wanted: &HashMap<K, Arc<Target>>) {
        for address in before.filter(|address| !wanted.contains_key(address)) {
            if let Some(claims) = self.0.get_mut(&address) {
                claims.retain(|target| target.service != *service);
                if claims.is_empty() {
                    self.0.remove(&address);
                }
            }
        }
        for (address, target) in wanted {
            let claims = self.0.entry(*address).or_default();
            match claims.iter_mut().find(|target| target.service == *service) {
                Some(present) => *present = Arc::clone(target),
                None => claims.push(Arc::clone(target)),
            }
        }
    }
}

/// The translations of one cluster.
#[derive(Debug, Default)]
pub(super) struct ServiceTable {
    services: HashMap<(String, String), ServiceEntry>,
    cluster_ips: Claims<SocketAddrV4>,
    load_balancers: Claims<SocketAddrV4>,
    node_ports: Claims<u16>,
}

impl ServiceEntry {
    fn cluster_ips(&self, port: &PortEntry) -> Option<SocketAddrV4> {
        self.cluster_ip.map(|ip| SocketAddrV4::new(ip, port.port))
    }

    fn load_balancers(&self, port: &PortEntry) -> Vec<SocketAddrV4> {
        let addresses = self.load_balancer.iter();
        addresses.map(|ip| SocketAddrV4::new(*ip, port.port)).collect()
    }
}

impl ServiceTable {
    /// Sets what is known of a Service, or forgets it.
    pub(super) fn set(&mut self, service: &ServiceRef, entry: Option<ServiceEntry>) {
        let key = (service.namespace.clone(), service.name.clone());
        let old = self.services.remove(&key);
        let targets: Vec<(&PortEntry, Arc<Target>)> = entry
            .iter()
            .flat_map(|entry| &entry.ports)
            .map(|port| {
                let target = Target {
                    service: service.clone(),
                    endpoints: port.endpoints.clone(),
                };
                (port, Arc::new(target))
            })
            .collect();
        self.cluster_ips.set(
            service,
            claimed(old.as_ref(), ServiceEntry::cluster_ips),
            &wanted(entry.as_ref(), &targets, ServiceEntry::cluster_ips),
        );
        self.load_balancers.set(
            service,
            claimed(old.as_ref(), ServiceEntry::load_balancers),
            &wanted(entry.as_ref(), &targets, ServiceEntry::load_balancers),
        );
        let node_port = |_: &ServiceEntry, port: &PortEntry| port.node_port;
        self.node_ports.set(
            service,
            claimed(old.as_ref(), node_port),
            &wanted(entry.as_ref(), &targets, node_port),
        );
        if let Some(entry) = entry {
            self.services.insert(key, entry);
        }
    }

    fn has_cluster_ip(&self, address: Ipv4Addr) -> bool {
        self.services.values().any(|s| s.cluster_ip == Some(address))
    }

    fn has_load_balancer(&self, address: Ipv4Addr) -> bool {
        self.services.values().any(|s| s.load_balancer.contains(&address))
    }
}

/// What a Service claims by each of its ports.
fn claimed<K, I: IntoIterator<Item = K>>(
    entry: Option<&ServiceEntry>,
    of: impl Fn(&ServiceEntry, &PortEntry) -> I,
) -> impl Iterator<Item = K> {
    entry
        .into_iter()
        .flat_map(move |entry| entry.ports.iter().flat_map(|port| of(entry, port)).collect::<Vec<_>>())
}

/// The same with who stands behind it.
fn wanted<K: Eq + Hash, I: IntoIterator<Item = K>>(
    entry: Option<&ServiceEntry>,
    targets: &[(&PortEntry, Arc<Target>)],
    of: impl Fn(&ServiceEntry, &PortEntry) -> I,
) -> HashMap<K, Arc<Target>> {
    let mut all = HashMap::new();
    for (port, target) in targets {
        for address in entry.into_iter().flat_map(|entry| of(entry, port)) {
            all.insert(address, Arc::clone(target));
        }
    }
    all
}

/// One cluster as the routing sees it.
#[derive(Debug)]
pub(super) struct ClusterRoutes {
    /// Its addresses.
    pub(super) addresses: ClusterAddresses,
    /// Its Services.
    pub(super) services: ServiceTable,
    /// Pod ranges of other clusters that its node has a route to.
    pub(super) pod_routes: HashSet<Cidr>,
}

/// Where a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// At a port of a pod address. Whether a pod has the address is not the routing's business.
    Pod(SocketAddrV4),
    /// At the cluster's API server.
    ApiServer,
}

/// The way of a connection through the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The cluster in which it ends.
    pub(super) cluster: String,
    /// Where it ends.
    pub(super) destination: Destination,
    /// Services whose addresses were translated, in order.
    pub(super) services: Vec<ServiceRef>,
    /// Every address on the way: as dialled, and after each translation.
    pub(super) hops: Vec<SocketAddrV4>,
}

impl Route {
    /// The port at which it ends.
    pub(super) fn port(&self) -> u16 {
        self.hops.last().map_or(0, SocketAddrV4::port)
    }
}

/// Why there is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// Somebody answers with a reset: no endpoints, or nobody listens there.
    Refused,
    /// The last router says that the host is not there.
    HostUnreachable,
    /// Packets vanish.
    TimedOut,
}

/// Finds the way from `from` (a cluster's name) to `dialled`. `pick(n)` chooses one of `n` endpoints.
///
/// # Errors
/// [`NoRoute`] as a client's socket would notice it.
pub(super) fn route(
    clusters: &HashMap<String, ClusterRoutes>,
    flat: bool,
    from: &str,
    dialled: SocketAddrV4,
    mut pick: impl FnMut(usize) -> usize,
) -> Result<Route, NoRoute> {
    // The cluster whose node handles the packet now.
    let mut at = from;
    let mut address = dialled;
    let mut services = Vec::new();
    let mut hops = vec![dialled];
    for _ in 0..=MAX_TRANSLATIONS {
        let here = clusters.get(at).ok_or(NoRoute::TimedOut)?;
        let ip = *address.ip();
        let target = if here.addresses.service_cidr.contains(ip) {
            match here.services.cluster_ips.get(&address) {
                Some(target) => target,
                // The nftables mode of kube-proxy refuses undefined ports of known addresses.
                None if here.services.has_cluster_ip(ip) => return Err(NoRoute::Refused),
                None => return Err(NoRoute::TimedOut),
            }
        } else if let Some((name, cluster)) = clusters.iter().find(|(_, c)| c.addresses.node == ip) {
            if address.port() == API_SERVER_PORT {
                return Ok(Route {
                    cluster: name.clone(),
                    destination: Destination::ApiServer,
                    services,
                    hops,
                });
            }
            at = name;
            cluster
                .services
                .load_balancers
                .get(&address)
                .or_else(|| cluster.services.node_ports.get(&address.port()))
                .ok_or(NoRoute::Refused)?
        } else if let Some((name, _)) = clusters.iter().find(|(_, c)| c.addresses.pod_cidr.contains(ip)) {
            if name != at && !flat && !here.pod_routes.iter().any(|range| range.contains(ip)) {
                return Err(NoRoute::TimedOut);
            }
            return Ok(Route {
                cluster: name.clone(),
                destination: Destination::Pod(address),
                services,
                hops,
            });
        } else if let Some((name, cluster)) = clusters.iter().find(|(_, c)| c.services.has_load_balancer(ip)) {
            at = name;
            cluster.services.load_balancers.get(&address).ok_or(NoRoute::Refused)?
        } else {
            // Also the ClusterIPs of other clusters: flat networks carry pod addresses, not translations.
            return Err(NoRoute::TimedOut);
        };
        if target.endpoints.is_empty() {
            return Err(NoRoute::Refused);
        }
        address = target.endpoints[pick(target.endpoints.len()) % target.endpoints.len()];
        services.push(target.service.clone());
        hops.push(address);
    }
    Err(NoRoute::HostUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn service(cluster: &str, name: &str) -> ServiceRef {
        ServiceRef {
            cluster: cluster.into(),
            namespace: "demo".into(),
            name: name.into(),
        }
    }

    fn port(port: u16, node_port: Option<u16>, endpoints: &[&str]) -> PortEntry {
        PortEntry {
            port,
            node_port,
            endpoints: endpoints.iter().map(|e| at(e)).collect(),
        }
    }

    /// West and east; east has a gateway behind its node's address, west a mirror that points there.
    fn clusters() -> HashMap<String, ClusterRoutes> {
        let mut all = HashMap::new();
        for (name, pods, services, node) in [
            ("west", "10.10.0.0/16", "10.20.0.0/16", [172, 18, 0, 2]),
            ("east", "10.11.0.0/16", "10.21.0.0/16", [172, 18, 0, 3]),
        ] {
            let addresses = ClusterAddresses {
                pod_cidr: pods.parse().unwrap(),
                service_cidr: services.parse().unwrap(),
                node: node.into(),
                load_balancers: None,
            };
            all.insert(
                name.to_owned(),
                ClusterRoutes {
                    addresses,
                    services: ServiceTable::default(),
                    pod_routes: HashSet::new(),
                },
            );
        }
        let west = &mut all.get_mut("west").unwrap().services;
        west.set(
            &service("west", "store-east"),
            Some(ServiceEntry {
                cluster_ip: Some([10, 20, 0, 5].into()),
                load_balancer: vec![],
                ports: vec![port(8080, None, &["172.18.0.3:4143"])],
            }),
        );
        west.set(
            &service("west", "store"),
            Some(ServiceEntry {
                cluster_ip: Some([10, 20, 0, 6].into()),
                load_balancer: vec![],
                ports: vec![port(80, None, &["10.10.0.7:8080", "10.10.0.8:8080"])],
            }),
        );
        west.set(
            &service("west", "empty"),
            Some(ServiceEntry {
                cluster_ip: Some([10, 20, 0, 7].into()),
                load_balancer: vec![],
                ports: vec![port(80, None, &[])],
            }),
        );
        all.get_mut("east").unwrap().services.set(
            &service("east", "gateway"),
            Some(ServiceEntry {
                cluster_ip: Some([10, 21, 0, 9].into()),
                load_balancer: vec![[172, 18, 0, 3].into(), [172, 18, 200, 1].into()],
                ports: vec![port(4143, Some(30143), &["10.11.0.4:4143"])],
            }),
        );
        all
    }

    fn go(from: &str, to: &str, flat: bool) -> Result<Route, NoRoute> {
        route(&clusters(), flat, from, at(to), |_| 1)
    }

    #[test]
    fn a_cluster_ip_leads_to_a_chosen_endpoint() {
        let found = go("west", "10.20.0.6:80", false).unwrap();
        assert_eq!(found.destination, Destination::Pod(at("10.10.0.8:8080")));
        assert_eq!(found.services, [service("west", "store")]);
        assert_eq!(found.hops, [at("10.20.0.6:80"), at("10.10.0.8:8080")]);
    }

    #[test]
    fn a_mirror_leads_through_the_other_clusters_load_balancer_to_its_pod() {
        let found = go("west", "10.20.0.5:8080", false).unwrap();
        assert_eq!(
            (found.cluster.as_str(), found.destination),
            ("east", Destination::Pod(at("10.11.0.4:4143")))
        );
        assert_eq!(
            found.services,
            [service("west", "store-east"), service("east", "gateway")]
        );
    }

    #[test]
    fn node_ports_and_load_balancer_addresses_are_reachable_from_every_cluster() {
        for to in ["172.18.0.3:30143", "172.18.200.1:4143", "172.18.0.3:4143"] {
            for from in ["west", "east"] {
                assert_eq!(
                    go(from, to, false).unwrap().destination,
                    Destination::Pod(at("10.11.0.4:4143"))
                );
            }
        }
        assert_eq!(
            go("west", "172.18.0.3:6443", false).unwrap().destination,
            Destination::ApiServer
        );
    }

    #[test]
    fn pod_addresses_cross_clusters_only_on_a_flat_network() {
        assert_eq!(go("west", "10.11.0.4:8080", false), Err(NoRoute::TimedOut));
        assert_eq!(go("west", "10.11.0.4:8080", true).unwrap().cluster, "east");
        assert_eq!(go("east", "10.11.0.4:8080", false).unwrap().cluster, "east");
        assert_eq!(
            go("east", "10.20.0.6:80", true),
            Err(NoRoute::TimedOut),
            "ClusterIPs never do"
        );
    }

    #[test]
    fn a_route_of_the_node_leads_to_another_clusters_pods() {
        let mut all = clusters();
        let routes = &mut all.get_mut("west").unwrap().pod_routes;
        routes.insert("10.11.0.0/16".parse().unwrap());
        let go = |from: &str, to: &str| route(&all, false, from, at(to), |_| 1);
        assert_eq!(go("west", "10.11.0.4:8080").unwrap().cluster, "east");
        assert_eq!(
            go("east", "10.10.0.4:8080"),
            Err(NoRoute::TimedOut),
            "the route is one-way"
        );
    }

    #[test]
    fn what_nobody_serves_fails_as_on_a_real_network() {
        assert_eq!(go("west", "10.20.0.7:80", false), Err(NoRoute::Refused), "no endpoints");
        assert_eq!(
            go("west", "10.20.0.6:81", false),
            Err(NoRoute::Refused),
            "undefined port"
        );
        assert_eq!(
            go("west", "10.20.9.9:80", false),
            Err(NoRoute::TimedOut),
            "unused ClusterIP"
        );
        assert_eq!(
            go("west", "172.18.0.3:81", false),
            Err(NoRoute::Refused),
            "node without listener"
        );
        assert_eq!(
            go("west", "172.18.200.1:81", false),
            Err(NoRoute::Refused),
            "load balancer"
        );
        assert_eq!(go("west", "192.0.2.1:80", false), Err(NoRoute::TimedOut));
    }

    #[test]
    fn a_service_that_points_at_itself_ends() {
        let mut all = clusters();
        all.get_mut("west").unwrap().services.set(
            &service("west", "loop"),
            Some(ServiceEntry {
                cluster_ip: Some([10, 20, 0, 8].into()),
                load_balancer: vec![],
                ports: vec![port(80, None, &["10.20.0.8:80"])],
            }),
        );
        assert_eq!(
            route(&all, false, "west", at("10.20.0.8:80"), |_| 0),
            Err(NoRoute::HostUnreachable)
        );
    }

    #[test]
    fn an_address_is_the_first_ones_and_the_next_ones_after_it() {
        let mut all = clusters();
        let go = |all: &HashMap<String, ClusterRoutes>| {
            let found = route(all, false, "west", at("172.18.200.1:4143"), |_| 0).unwrap();
            found.services[0].name.clone()
        };
        let entry = |endpoint: &str| ServiceEntry {
            cluster_ip: Some([10, 21, 0, 10].into()),
            load_balancer: vec![[172, 18, 200, 1].into()],
            ports: vec![port(4143, None, &[endpoint])],
        };
        let set = |all: &mut HashMap<String, ClusterRoutes>, name: &str, entry: Option<ServiceEntry>| {
            all.get_mut("east").unwrap().services.set(&service("east", name), entry);
        };
        set(&mut all, "other", Some(entry("10.11.0.9:80")));
        assert_eq!(go(&all), "gateway");
        set(&mut all, "gateway", Some(entry("10.11.0.5:4143")));
        assert_eq!(go(&all), "gateway", "an update keeps its place");
        set(&mut all, "other", None);
        assert_eq!(go(&all), "gateway");
        set(&mut all, "other", Some(entry("10.11.0.9:80")));
        set(&mut all, "gateway", None);
        assert_eq!(go(&all), "other");
    }

    #[test]
    fn a_forgotten_service_leaves_nothing_behind() {
        let mut table = ServiceTable::default();
        let gateway = service("east", "gateway");
        let entry = ServiceEntry {
            cluster_ip: Some([10, 21, 0, 9].into()),
            load_balancer: vec![[172, 18, 0, 3].into()],
            ports: vec![port(4143, Some(30143), &["10.11.0.4:4143"])],
        };
        table.set(&gateway, Some(entry.clone()));
        table.set(
            &gateway,
            Some(ServiceEntry {
                ports: vec![port(4144, Some(30144), &[])],
                ..entry
            }),
        );
        assert_eq!(
            table.node_ports.0.keys().collect::<Vec<_>>(),
            [&30144],
            "a changed port replaces the old one"
        );
        table.set(&gateway, None);
        assert!(table.services.is_empty() && table.cluster_ips.0.is_empty() && table.load_balancers.0.is_empty());
        assert!(table.node_ports.0.is_empty());
    }
}
