//! The network between and inside the clusters of one environment.
//!
//! All addresses that programs see are virtual. A pod has one real listener on loopback, and a connection to its virtual
//! address is a real loopback connection to that listener. Between the two stands what stands there on real clusters:
//! routing between nodes, kube-proxy's translation, and whatever is done to a path — [`Effect`]s, resets and [`Tap`]s.
//!
//! Outside of the paths, as on real clusters: connections inside a pod, probes, and port-forwards.

mod address;
mod connection;
mod path;
mod pod;
mod routes;
mod stream;
mod tap;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use meshproof_agent::network::BoxedStream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::pace::Pace;
use connection::{Admission, Parties, Registry};
use pod::{Arrival, Arrivals};
use routes::{ClusterRoutes, Destination, NoRoute, ServiceTable};
use stream::DialledStream;
use tap::TapState;

pub use address::{AddressError, AddressPool, Cidr};
pub(crate) use connection::ScopeId;
pub use path::{ActiveControl, ConnectionInfo, ControlKind, Effect, PathSelector};
pub(crate) use pod::PodSocket;
pub use routes::{API_SERVER_PORT, ClusterAddresses, PortEntry, ServiceEntry, ServiceRef};
pub use tap::{Direction, PatternHits, Sample, TapOptions, TapReport};

/// Settings of a fabric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FabricConfig {
    /// Whether pods reach the pods of other clusters by address.
    pub flat: bool,
    /// Pace of the environment.
    pub pace: Pace,
    /// How long opening a connection takes to time out, scenario time.
    pub connect_timeout: Duration,
}

impl FabricConfig {
    /// Separate pod networks at the given pace; connections time out after 127 s as Linux' do by default
    /// (`tcp_syn_retries` = 6).
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self {
            flat: false,
            pace,
            connect_timeout: Duration::from_secs(127),
        }
    }
}

/// How long a router looks for a host that is not there before it says so (Linux' ARP time-out), scenario time.
const HOST_UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// The network of an environment. Clones are the same network.
#[derive(Clone)]
pub struct Fabric {
    shared: Arc<Shared>,
}

struct Shared {
    config: FabricConfig,
    registry: Arc<Registry>,
    arrivals: Arc<Arrivals>,
    map: RwLock<Map>,
}

/// Who has which address.
#[derive(Default)]
struct Map {
    routes: HashMap<String, ClusterRoutes>,
    pods: HashMap<Ipv4Addr, Arc<PodSocket>>,
    api_servers: HashMap<String, SocketAddr>,
    hosts: HashMap<String, Ipv4Addr>,
}

/// Who opens a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) scope: Option<ScopeId>,
}

impl std::fmt::Debug for Fabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clusters: Vec<_> = self.read().routes.keys().cloned().collect();
        f.debug_struct("Fabric")
            .field("config", &self.shared.config)
            .field("clusters", &clusters)
            .finish()
    }
}

impl Fabric {
    /// An empty network.
    #[must_use]
    pub fn new(config: FabricConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                registry: Registry::new(config.pace),
                arrivals: Arc::default(),
                map: RwLock::default(),
            }),
        }
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> FabricConfig {
        self.shared.config
    }

    /// Puts `effect` on the chosen connections, open and new ones, until the guard is dropped.
    #[must_use = "dropping the guard heals the path"]
    pub fn impose(&self, selector: PathSelector, effect: Effect) -> EffectGuard {
        let id = self.shared.registry.add_effect(selector, effect);
        EffectGuard {
            id,
            registry: Arc::clone(&self.shared.registry),
        }
    }

    /// Resets the chosen open connections; both ends notice. Returns how many there were.
    pub fn reset(&self, selector: &PathSelector) -> usize {
        self.shared.registry.reset(selector)
    }

    /// Reads along on the chosen connections, open and new ones, until the tap is dropped. A tap sees the bytes that
    /// cross the network, whoever wrote them, and nothing that stays inside a pod.
    #[must_use = "dropping the tap ends it"]
    pub fn tap(&self, selector: PathSelector, options: &TapOptions) -> Tap {
        let state = TapState::new(options);
        let id = self.shared.registry.add_tap(selector, Arc::clone(&state));
        Tap {
            id,
            state,
            registry: Arc::clone(&self.shared.registry),
        }
    }

    /// All effects and taps in force.
    #[must_use]
    pub fn active(&self) -> Vec<ActiveControl> {
        self.shared.registry.active()
    }

    /// Removes an effect or a tap by its number; `false` when there is none (any more).
    pub fn remove(&self, id: u64) -> bool {
        self.shared.registry.remove(id)
    }

    /// Removes all effects, whoever holds their guards; taps stay. Returns how many there were.
    pub fn heal_all(&self) -> usize {
        self.shared.registry.remove_effects()
    }

    /// The chosen connections that are open now.
    #[must_use]
    pub fn connections(&self, selector: &PathSelector) -> Vec<ConnectionInfo> {
        self.shared.registry.connections(selector)
    }

    /// Opens a connection from outside of any pod: from the node of `cluster`, for example as an attacker on the node's
    /// network would. The address is translated as for pods of that cluster.
    ///
    /// # Errors
    /// As sockets do: refused, timed out, unreachable. `InvalidInput` when the fabric has no such cluster.
    pub async fn connect_from(&self, cluster: &str, destination: SocketAddr) -> io::Result<BoxedStream> {
        let address = self
            .read()
            .routes
            .get(cluster)
            .map(|c| c.addresses.node)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("the fabric has no cluster `{cluster}`"),
                )
            })?;
        let source = Source {
            cluster,
            address,
            scope: None,
        };
        self.dial(source, destination).await
    }

    /// Makes `name` resolve to `address` in every cluster, as a DNS zone outside of the clusters would.
    pub fn add_host(&self, name: &str, address: Ipv4Addr) {
        self.write().hosts.insert(name.to_ascii_lowercase(), address);
    }

    /// Gives the node of `cluster` a route to pods of other clusters: from now on its pods reach addresses of `range`.
    /// Their own address is translated to the node's on the way. Nothing happens when there is no such cluster.
    pub fn add_pod_route(&self, cluster: &str, range: Cidr) {
        if let Some(routes) = self.write().routes.get_mut(cluster) {
            routes.pod_routes.insert(range);
        }
    }

    /// Takes a route away again; `false` when there was none.
    pub fn remove_pod_route(&self, cluster: &str, range: Cidr) -> bool {
        let mut map = self.write();
        let routes = map.routes.get_mut(cluster);
        routes.is_some_and(|routes| routes.pod_routes.remove(&range))
    }

    /// The address of a name outside of the clusters.
    pub(crate) fn host(&self, name: &str) -> Option<Ipv4Addr> {
        self.read().hosts.get(&name.to_ascii_lowercase()).copied()
    }

    /// Gives a cluster its addresses.
    pub(crate) fn add_cluster(&self, name: &str, addresses: ClusterAddresses) -> Result<(), AddressError> {
        let mut map = self.write();
        if map.routes.contains_key(name) {
            return Err(AddressError::NameTaken(name.to_owned()));
        }
        let ranges = |name: &str, a: &ClusterAddresses| {
            let load_balancers = a
                .load_balancers
                .map(|range| (range, format!("load-balancer range {range} of {name}")));
            let others = [
                (a.pod_cidr, format!("pod range {} of {name}", a.pod_cidr)),
                (a.service_cidr, format!("service range {} of {name}", a.service_cidr)),
                (
                    Cidr::containing(a.node, 32),
                    format!("node address {} of {name}", a.node),
                ),
            ];
            others.into_iter().chain(load_balancers)
        };
        let own = ranges(name, &addresses);
        let mut taken: Vec<_> = map.routes.iter().flat_map(|(n, c)| ranges(n, &c.addresses)).collect();
        for (range, text) in own {
            if let Some((_, other)) = taken.iter().find(|(r, _)| r.overlaps(range)) {
                return Err(AddressError::Overlap {
                    first: other.clone(),
                    second: text,
                });
            }
            taken.push((range, text));
        }
        let services = ServiceTable::default();
        let routes = ClusterRoutes {
            addresses,
            services,
            pod_routes: HashSet::new(),
        };
        map.routes.insert(name.to_owned(), routes);
        Ok(())
    }

    /// Takes a cluster with all its pods and connections off the network.
    pub(crate) fn remove_cluster(&self, name: &str) {
        let mut map = self.write();
        let Some(routes) = map.routes.remove(name) else {
            return;
        };
        map.api_servers.remove(name);
        map.hosts.retain(|_, a| *a != routes.addresses.node);
        let (gone, kept) = std::mem::take(&mut map.pods)
            .into_iter()
            .partition(|(_, p)| p.cluster == name);
        map.pods = kept;
        drop(map);
        let gone: HashMap<Ipv4Addr, Arc<PodSocket>> = gone;
        for pod in gone.values() {
            pod.close();
        }
        self.shared.registry.reset_cluster(name);
    }

    /// Where the API server of a cluster really listens.
    pub(crate) fn set_api_server(&self, cluster: &str, real: SocketAddr) {
        self.write().api_servers.insert(cluster.to_owned(), real);
    }

    /// What kube-proxy of the service's cluster knows of it.
    pub(crate) fn set_service(&self, service: &ServiceRef, entry: Option<ServiceEntry>) {
        if let Some(cluster) = self.write().routes.get_mut(&service.cluster) {
            cluster.services.set(service, entry);
        }
    }

    /// Puts a pod on the network.
    pub(crate) async fn add_pod(&self, cluster: &str, address: Ipv4Addr) -> io::Result<Arc<PodSocket>> {
        let registry = Arc::clone(&self.shared.registry);
        let arrivals = Arc::clone(&self.shared.arrivals);
        let pod = PodSocket::open(cluster, address, registry, arrivals).await?;
        let mut map = self.write();
        if !map.routes.contains_key(cluster) {
            let text = format!("cluster `{cluster}` has left the network");
            return Err(io::Error::new(io::ErrorKind::NetworkDown, text));
        }
        map.pods.insert(address, Arc::clone(&pod));
        Ok(pod)
    }

    /// Takes a pod off the network and breaks its connections.
    pub(crate) fn remove_pod(&self, pod: &Arc<PodSocket>) {
        let mut map = self.write();
        if map.pods.get(&pod.address).is_some_and(|p| Arc::ptr_eq(p, pod)) {
            map.pods.remove(&pod.address);
        }
        drop(map);
        pod.close();
    }

    pub(crate) fn new_scope(&self) -> ScopeId {
        self.shared.registry.next_scope()
    }

    /// Opens a connection over the network.
    pub(crate) async fn dial(&self, source: Source<'_>, destination: SocketAddr) -> io::Result<BoxedStream> {
        let dialled = match destination {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => {
                return Err(unreachable_error(&format!("{address} (IPv4 only)")));
            }
        };
        let timeout = self.wall(self.shared.config.connect_timeout);
        let dialling = self.dial_until_answered(source, dialled);
        tokio::time::timeout(timeout, dialling).await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("connection to {dialled} timed out"),
            ))
        })
    }

    /// Tries like TCP: a first packet, and when nothing comes back, again after 1, 2, 4 … s (scenario time).
    async fn dial_until_answered(&self, source: Source<'_>, dialled: SocketAddrV4) -> io::Result<BoxedStream> {
        let mut pause = self.wall(Duration::from_secs(1));
        loop {
            if let Some(answer) = self.dial_once(source, dialled).await {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// `None` when nothing comes back.
    async fn dial_once(&self, source: Source<'_>, dialled: SocketAddrV4) -> Option<io::Result<BoxedStream>> {
        let found = routes::route(
            &self.read().routes,
            self.shared.config.flat,
            source.cluster,
            dialled,
            |n| rand::random_range(0..n),
        );
        let route = match found {
            Ok(route) => route,
            Err(NoRoute::TimedOut) => return None,
            Err(NoRoute::Refused) => return Some(Err(refused_error(dialled))),
            Err(NoRoute::HostUnreachable) => {
                tokio::time::sleep(self.wall(HOST_UNREACHABLE_AFTER)).await;
                return Some(Err(unreachable_error(&dialled.to_string())));
            }
        };
        let info = self.connection_info(source, &route);
        // A pod that dials its own address stays inside itself.
        let local = route.destination == Destination::Pod(SocketAddrV4::new(source.address, route.port()));
        let admission = if local {
            Admission::default()
        } else {
            self.shared.registry.admission(&info)
        };
        if admission.held {
            return None;
        }
        if !admission.handshake.is_zero() {
            tokio::time::sleep(admission.handshake).await;
        }
        if admission.refused {
            return Some(Err(refused_error(dialled)));
        }
        let parties = Parties {
            dialler: source.scope,
            acceptor: None,
            local,
        };
        Some(match route.destination {
            Destination::ApiServer => self.open_to_api_server(info, parties).await,
            Destination::Pod(target) => {
                let pod = self.read().pods.get(target.ip()).cloned();
                match pod {
                    Some(pod) if pod.takes(target.port(), false) => {
                        self.open_to_pod(&pod, target.port(), info, parties, false).await
                    }
                    Some(_) => Err(refused_error(dialled)),
                    None => {
                        tokio::time::sleep(self.wall(HOST_UNREACHABLE_AFTER)).await;
                        Err(unreachable_error(&dialled.to_string()))
                    }
                }
            }
        })
    }

    /// Opens a connection to a port inside a pod, from the pod itself or from its node: no path lies between.
    pub(crate) async fn dial_inside(
        &self,
        pod: &Arc<PodSocket>,
        port: u16,
        peer: IpAddr,
        scope: Option<ScopeId>,
        past_sidecar: bool,
    ) -> io::Result<BoxedStream> {
        let target = SocketAddrV4::new(pod.address, port);
        if !pod.takes(port, past_sidecar) {
            return Err(refused_error(target));
        }
        let peer = match peer {
            IpAddr::V4(peer) => peer,
            IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
        };
        let info = ConnectionInfo {
            id: self.shared.registry.next_connection(),
            from: pod.cluster.clone(),
            to: pod.cluster.clone(),
            source: SocketAddrV4::new(peer, 0),
            seen_source: peer,
            hops: vec![target],
            services: Vec::new(),
        };
        let parties = Parties {
            dialler: scope,
            acceptor: None,
            local: true,
        };
        self.open_to_pod(pod, port, info, parties, past_sidecar).await
    }

    async fn open_to_pod(
        &self,
        pod: &PodSocket,
        port: u16,
        info: ConnectionInfo,
        parties: Parties,
        past_sidecar: bool,
    ) -> io::Result<BoxedStream> {
        let seen_source = info.seen_source;
        let live = self.shared.registry.register(info, parties);
        let mut tcp = TcpStream::connect(pod.real).await?;
        tcp.set_nodelay(true)?;
        let source_port = tcp.local_addr()?.port();
        live.set_source_port(source_port);
        let token = self.shared.arrivals.expect(Arrival {
            pod: pod.address,
            live: Arc::clone(&live),
            port,
            peer: SocketAddrV4::new(seen_source, source_port).into(),
            past_sidecar,
        });
        let written = tcp.write_all(&token).await;
        if written.is_err() || pod.is_closed() {
            self.shared.arrivals.take(&token);
            written?;
            return Err(refused_error(SocketAddrV4::new(pod.address, port)));
        }
        Ok(Box::new(DialledStream::new(tcp, live)))
    }

    async fn open_to_api_server(&self, info: ConnectionInfo, parties: Parties) -> io::Result<BoxedStream> {
        let real = self.read().api_servers.get(&info.to).copied();
        let Some(real) = real else {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("the API server of {} does not run", info.to),
            ));
        };
        let live = self.shared.registry.register(info, parties);
        let tcp = TcpStream::connect(real).await?;
        tcp.set_nodelay(true)?;
        live.set_source_port(tcp.local_addr()?.port());
        Ok(Box::new(DialledStream::new(tcp, live)))
    }

    fn connection_info(&self, source: Source<'_>, route: &routes::Route) -> ConnectionInfo {
        // Nodes translate the source of what leaves for another cluster, except on a flat network between pods.
        let keeps_address = route.cluster == source.cluster || (self.shared.config.flat && route.hops.len() == 1);
        let seen_source = if keeps_address {
            source.address
        } else {
            let map = self.read();
            let node = map.routes.get(source.cluster).map(|c| c.addresses.node);
            node.unwrap_or(source.address)
        };
        ConnectionInfo {
            id: self.shared.registry.next_connection(),
            from: source.cluster.to_owned(),
            to: route.cluster.clone(),
            source: SocketAddrV4::new(source.address, 0),
            seen_source,
            hops: route.hops.clone(),
            services: route.services.clone(),
        }
    }

    fn wall(&self, scenario: Duration) -> Duration {
        self.shared.config.pace.wall(scenario)
    }

    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.shared.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Map> {
        self.shared.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused_error(to: SocketAddrV4) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, format!("connection to {to} refused"))
}

fn unreachable_error(to: &str) -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, format!("no route to host {to}"))
}

/// Keeps an effect in force; dropping it heals the path.
pub struct EffectGuard {
    id: u64,
    registry: Arc<Registry>,
}

impl EffectGuard {
    /// The number of the effect in [`Fabric::active`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Leaves the effect in force without a guard; [`Fabric::remove`] or [`Fabric::heal_all`] ends it.
    pub fn keep(self) -> u64 {
        let id = self.id;
        let mut guard = self;
        guard.id = 0;
        id
    }
}

impl Drop for EffectGuard {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}

/// Reads along on a path until it is dropped.
pub struct Tap {
    id: u64,
    state: Arc<TapState>,
    registry: Arc<Registry>,
}

impl Tap {
    /// The number of the tap in [`Fabric::active`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Looks for one more pattern from now on.
    pub fn look_for(&self, pattern: &[u8]) {
        self.state.look_for(pattern);
    }

    /// What it saw so far.
    #[must_use]
    pub fn report(&self) -> TapReport {
        self.state.report()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}

#[cfg(test)]
mod tests;
