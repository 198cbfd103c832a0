//! The sidecar: everything that a pod's connections go through.
//!
//! # Outbound
//! A connection of the application to a Service's address is told apart as HTTP/1, HTTP/2 or opaque. HTTP requests go through
//! the routes of the Service to the balancer of a backend; opaque connections go to one of the Service's endpoints. Endpoints
//! with an identity are reached by mutual TLS, over one lasting HTTP/2 connection each; others in plaintext. Addresses that
//! belong to no Service are passed on.
//!
//! # Inbound
//! Connections from other proxies arrive on port 4143 with TLS and a transport header that names a port of this pod, or, on
//! a gateway, a Service of this cluster. Connections to any other port are taken as they come, TLS for this pod included. Every
//! connection or request is subject to policy.
//!
//! # Not modelled
//! Retries, timeouts and circuit breaking by annotation, ServiceProfiles, GRPCRoutes, inbound HTTPRoutes, HTTP upgrades,
//! ingress mode, tap. Connections are not closed when they were idle for long. Connections to the address of a pod, past any
//! Service, are passed on as they are, with TLS when the pod has a proxy, but without a look at the protocol.

mod access;
mod admin;
mod balancer;
mod connect;
mod detect;
mod endpoint;
mod gateway;
mod http1_pool;
mod inbound;
mod labels;
mod logical;
mod messages;
mod outbound;
mod route_metrics;
mod routing;
mod stream;
#[cfg(test)]
mod tests;
mod transport_header;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meshproof_cluster::intercept::{BoxedStream, Interceptor};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::program::{ContainerContext, Exit, Program, SidecarAccess};
use rand::rngs::StdRng;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::defect::Defect;
use crate::destination::policy::DefaultPolicy;
use crate::destination::{Destinations, Pod, PortSet, Service, View};
use crate::identity::{Authority, WorkloadIdentity};
use crate::metrics::Registry;
use crate::model::Model;
use crate::names::{PROXY_ADMIN_PORT, PROXY_INBOUND_PORT, VERSION, annotation};
use crate::version;

use self::http1_pool::Http1Pool;
use self::logical::Logical;

/// Name of the proxy's container.
const CONTAINER: &str = "linkerd-proxy";
/// How long protocol detection waits for first bytes, in scenario time.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may take once the pod is being stopped, in scenario time.
const DRAIN: Duration = Duration::from_secs(5);
/// How late a defective gateway starts, in scenario time: longer than requests wait for one.
const LATE: Duration = Duration::from_secs(10);
/// How long metrics stay that nothing counts any more, in scenario time: the default of `LINKERD2_PROXY_METRICS_RETAIN_IDLE`.
const RETAIN_IDLE: Duration = Duration::from_secs(600);
/// The variable that tells a proxy the suffix of its cluster's Service names; the injector takes it from the control plane's
/// `clusterDomain`.
const PROFILE_SUFFIXES: &str = "LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES";
/// Domain of a cluster whose control plane was told none.
const USUAL_DOMAIN: &str = "cluster.local";
/// Ports of proxies that nothing is redirected to or from.
const CONTROL_PORTS: [u16; 3] = [4190, 4567, 4568];

/// The sidecar program for all pods of a model.
pub struct ProxyProgram {
    model: Model,
}

impl ProxyProgram {
    /// The program for all clusters of `model`.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model }
    }
}

#[async_trait]
impl Program for ProxyProgram {
    async fn run(&self, container: ContainerContext) -> Exit {
        let Some(cluster) = self.model.cluster(&container.cluster) else {
            return Exit::Failed(format!("cluster {} is not attached to the model", container.cluster));
        };
        let config = Config::read(&container);
        let services = ControlPlane {
            authority: cluster.authority.clone(),
            destinations: if config.version == VERSION && self.model.has(Defect::OlderProxiesNotTold) {
                cluster.destinations.as_of_first_version()
            } else {
                cluster.destinations.clone()
            },
        };
        let shutdown = container.shutdown.clone();
        let late = config.gateway && config.version != VERSION && self.model.has(Defect::UpgradeDropsTraffic);
        let start = async {
            if late {
                tokio::time::sleep(container.pace.wall(LATE)).await;
            }
            Proxy::start(
                self.model.clone(),
                services,
                config,
                container.sidecar.clone(),
                container.pace,
            )
            .await
        };
        let proxy = tokio::select! {
            () = shutdown.cancelled() => return Exit::Done,
            proxy = start => match proxy {
                Ok(proxy) => proxy,
                Err(problem) => return Exit::Failed(problem),
            },
        };
        (container.log)(&format!(
            "level=info msg=\"certified identity\" id={}",
            proxy.identity.name()
        ));
        container.sidecar.intercept(Arc::new(ProxyInterceptor(proxy.clone())));
        container.started.cancel();
        shutdown.cancelled().await;
        proxy.stop().await;
        container.sidecar.release();
        Exit::Done
    }
}

/// The parts of the control plane that a proxy talks to.
#[derive(Clone)]
pub struct ControlPlane {
    /// Issues its certificate.
    pub authority: Authority,
    /// Tells it about destinations and policies.
    pub destinations: Destinations,
}

/// What a proxy is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster.
    pub cluster: String,
    /// The pod's object.
    pub pod: Arc<Value>,
    /// DNS domain of the cluster, as its control plane was told.
    pub cluster_domain: String,
    /// The proxy's own version.
    pub version: String,
    /// Trust roots in PEM; without them those of the cluster are taken.
    pub trust_roots: Option<String>,
    /// Policy for ports without a Server; without it the namespace's or the mesh's applies.
    pub default_inbound_policy: Option<String>,
    /// Forwards for other clusters.
    pub gateway: bool,
    /// Ports that only clients with an identity may use.
    pub require_identity_ports: PortSet,
    /// Inbound ports that pass the proxy by.
    pub skip_inbound_ports: PortSet,
    /// Outbound ports that pass the proxy by.
    pub skip_outbound_ports: PortSet,
}

impl Config {
    /// The configuration from a container's environment variables, as an injector sets them, and the pod's annotations.
    #[must_use]
    pub fn read(container: &ContainerContext) -> Self {
        Self::from_pod(&container.cluster, container.pod.clone(), &container.env)
    }

    /// The configuration from the pod's object and environment variables.
    #[must_use]
    pub fn from_pod(cluster: &str, pod: Arc<Value>, env: &BTreeMap<String, String>) -> Self {
        let annotated = |name: &str| pod["metadata"]["annotations"][name].as_str().map(str::to_owned);
        let ports = |name: &str| annotated(name).map(|list| PortSet::parse(&list)).unwrap_or_default();
        let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            cluster: cluster.to_owned(),
            cluster_domain: set(PROFILE_SUFFIXES)
                .as_deref()
                .and_then(domain_of_suffix)
                .unwrap_or(USUAL_DOMAIN)
                .to_owned(),
            version: version::of_container(&pod, CONTAINER).to_owned(),
            trust_roots: set("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"),
            default_inbound_policy: annotated(annotation::DEFAULT_INBOUND_POLICY)
                .or_else(|| set("LINKERD2_PROXY_INBOUND_DEFAULT_POLICY")),
            gateway: annotated(annotation::ENABLE_GATEWAY).as_deref() == Some("true"),
            require_identity_ports: ports(annotation::REQUIRE_IDENTITY_PORTS),
            skip_inbound_ports: ports(annotation::SKIP_INBOUND_PORTS),
            skip_outbound_ports: ports(annotation::SKIP_OUTBOUND_PORTS),
            pod,
        }
    }

    /// Full name and port of one of the cluster's own Services, as routes, metrics and headers name it.
    fn authority(&self, namespace: &str, name: &str, port: u16) -> String {
        format!("{name}.{namespace}.svc.{}:{port}", self.cluster_domain)
    }
}

/// The cluster's domain in `svc.<domain>.`, the suffix of the names of its Services.
fn domain_of_suffix(suffix: &str) -> Option<&str> {
    suffix
        .strip_prefix("svc.")
        .map(|domain| domain.trim_end_matches('.'))
        .filter(|domain| !domain.is_empty())
}

/// A running proxy.
pub struct Proxy {
    model: Model,
    pace: Pace,
    config: Config,
    this: Pod,
    identity: WorkloadIdentity,
    destinations: Destinations,
    sidecar: Arc<dyn SidecarAccess>,
    metrics: Registry,
    random: Mutex<StdRng>,
    outbound: Mutex<BTreeMap<SocketAddr, Arc<Logical>>>,
    gateway: Mutex<BTreeMap<(String, String, u16), Arc<Logical>>>,
    applications: Mutex<BTreeMap<u16, Arc<Http1Pool>>>,
    probes: Vec<(u16, String)>,
    /// No new connections are taken; what is under way is finished.
    shutdown: CancellationToken,
    /// Everything ends.
    closed: CancellationToken,
    connections: tokio_util::task::TaskTracker,
}

impl Proxy {
    /// Waits for an identity and starts.
    ///
    /// # Errors
    /// What is wrong with the trust roots or the name; waiting would not help.
    pub async fn start(
        model: Model,
        control_plane: ControlPlane,
        config: Config,
        sidecar: Arc<dyn SidecarAccess>,
        pace: Pace,
    ) -> Result<Arc<Self>, String> {
        let this = Pod::read(&config.pod);
        let roots = config.trust_roots.as_ref().map(|pem| {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| format!("the trust anchors cannot be read: {error}"))
        });
        let roots = roots.transpose()?.map(Arc::new);
        let name = crate::identity::workload_name(&this.service_account, &this.namespace);
        let metrics = Registry::new();
        let identity = WorkloadIdentity::obtain(&name, model.clone(), control_plane.authority, roots, metrics.clone())
            .await
            .map_err(|error| error.to_string())?;
        let purpose = format!("{}/{}/{}", config.cluster, this.namespace, this.name);
        let proxy = Arc::new(Self {
            random: Mutex::new(model.rng(&purpose)),
            destinations: control_plane.destinations,
            probes: inbound::probe_paths(&config.pod),
            outbound: Mutex::default(),
            gateway: Mutex::default(),
            applications: Mutex::default(),
            shutdown: CancellationToken::new(),
            closed: CancellationToken::new(),
            connections: tokio_util::task::TaskTracker::new(),
            model,
            pace,
            config,
            this,
            identity,
            sidecar,
            metrics,
        });
        tokio::spawn({
            let proxy = proxy.clone();
            async move { proxy.identity.keep_renewed(proxy.shutdown.clone()).await }
        });
        tokio::spawn(proxy.clone().follow_control_plane());
        Ok(proxy)
    }

    /// Lets what is under way finish for a while, then closes everything.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(self.pace.wall(DRAIN), self.connections.wait()).await;
        self.closed.cancel();
        for logical in self.logicals() {
            logical.stop();
        }
    }

    fn random(&self) -> MutexGuard<'_, StdRng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logicals(&self) -> Vec<Arc<Logical>> {
        let outbound = self.outbound.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        outbound.values().chain(gateway.values()).cloned().collect()
    }

    /// Applies every new view, and every switched defect, to what is in use.
    async fn follow_control_plane(self: Arc<Self>) {
        let mut views = self.destinations.watch();
        let mut defects = self.model.watch_defects();
        loop {
            let anew = tokio::select! {
                () = self.shutdown.cancelled() => return,
                changed = views.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                changed = defects.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
            };
            let view = views.borrow_and_update().clone();
            for logical in self.logicals() {
                if anew {
                    logical.reconnect(&self, &view);
                } else {
                    logical.refresh(&self, &view);
                }
            }
            self.drop_unused(&view);
        }
    }

    /// Forgets Services that are gone and that no connection is for any more.
    fn drop_unused(&self, view: &View) {
        let used = |logical: &mut Arc<Logical>| !logical.is_gone(view) || Arc::strong_count(logical) > 1;
        let mut outbound = self.outbound.lock().unwrap_or_else(PoisonError::into_inner);
        outbound.retain(|_, logical| used(logical));
        let mut gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        gateway.retain(|_, logical| used(logical));
    }

    fn application(&self, port: u16) -> Arc<Http1Pool> {
        let mut applications = self.applications.lock().unwrap_or_else(PoisonError::into_inner);
        applications.entry(port).or_default().clone()
    }

    fn own_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.sidecar.address(), port)
    }

    fn detect_timeout(&self) -> Duration {
        self.pace.wall(DETECT_TIMEOUT)
    }

    fn default_policy(&self) -> DefaultPolicy {
        let own = self.config.default_inbound_policy.as_deref();
        crate::destination::policy::default_policy(own, &self.destinations.view(), &self.this)
    }

    /// The page of `/metrics`. Asking for it is also when idle metrics are dropped.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.forget_idle(Instant::now(), self.pace.wall(RETAIN_IDLE));
        self.metrics.render()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.destinations.view().services.get(&key).cloned()
    }
}

/// A proxy at the place where a pod's connections are redirected.
pub struct ProxyInterceptor(pub Arc<Proxy>);

#[async_trait]
impl Interceptor for ProxyInterceptor {
    async fn outbound(&self, destination: SocketAddr) -> std::io::Result<BoxedStream> {
        outbound::open(&self.0, destination).await
    }

    async fn inbound(&self, stream: BoxedStream, port: u16, peer: SocketAddr) {
        if self.0.shutdown.is_cancelled() {
            return;
        }
        let proxy = self.0.clone();
        let serve = async move {
            match port {
                PROXY_INBOUND_PORT => inbound::serve_proxy_port(&proxy, stream, peer).await,
                PROXY_ADMIN_PORT => admin::serve(&proxy, stream, peer).await,
                _ => inbound::serve_port(&proxy, stream, port, peer).await,
            }
        };
        // Tracked, so that stopping waits for what is under way.
        let _ = self.0.connections.spawn(serve).await;
    }
}
