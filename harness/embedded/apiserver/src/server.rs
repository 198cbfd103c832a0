//! The running server: start, addresses, credentials, pause and shutdown.

use crate::admission::bootstrap::service_address;
use crate::auth::token::{MASTERS, TokenBinding, UserInfo};
use crate::http::connection;
use crate::http::counts::{Counts, RequestKey};
use crate::pki::{self, PkiError};
use crate::store::{StoreConfig, namespaces};
use crate::{PodBackend, Status, Store, kubeconfig};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Name of the cluster: context and cluster in kubeconfigs, and part of the CA's name.
    pub cluster_name: String,
    /// IP addresses or DNS names for the serving certificate besides loopback and `kubernetes.default.svc`.
    pub subject_alt_names: Vec<String>,
    /// A watch that asks for bookmarks gets one when nothing happened for so long (wall time).
    pub bookmark_interval: Duration,
    /// A client that does not finish the head of a request in this time is dropped, and so is one that is idle so long on
    /// HTTP/1.1. The default is `ReadHeaderTimeout` of kube-apiserver.
    pub header_timeout: Duration,
    /// Events kept per resource; a watch that asks for an older version gets 410.
    pub watch_history: usize,
    /// First address and prefix length of the range from which cluster IPs are taken.
    pub service_cidr: (Ipv4Addr, u8),
    /// Ports from which node ports are taken.
    pub node_ports: RangeInclusive<u16>,
    /// How long the content of a deleted namespace stays (wall time).
    pub namespace_deletion_grace: Duration,
    /// For so long a token that was accepted is accepted without another look, revoked or not (wall time).
    pub token_success_cache_ttl: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let store = StoreConfig::default();
        Self {
            cluster_name: "embedded".into(),
            subject_alt_names: Vec::new(),
            bookmark_interval: Duration::from_secs(60),
            header_timeout: Duration::from_secs(32),
            watch_history: store.watch_history,
            service_cidr: store.service_cidr,
            node_ports: store.node_ports,
            namespace_deletion_grace: store.namespace_deletion_grace,
            token_success_cache_ttl: store.token_success_cache_ttl,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys or certificates could not be made.
    #[error("cannot make the API server's certificates: {0}")]
    Pki(#[from] PkiError),
    /// No port on loopback could be had.
    #[error("cannot listen on 127.0.0.1: {0}")]
    Listen(#[from] std::io::Error),
    /// The Service range is not usable.
    #[error("service CIDR prefix /{0} is not usable: give one between /8 and /28")]
    ServiceCidr(u8),
}

/// What connections share.
pub(crate) struct ServerState {
    pub(crate) store: Store,
    pub(crate) bookmark_interval: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) counts: Counts,
    pub(crate) paused: watch::Sender<bool>,
    /// Set when the server goes away; what runs beside connections ends with it.
    pub(crate) stop: watch::Sender<bool>,
    pod_backend: RwLock<Option<Arc<dyn PodBackend>>>,
}

impl ServerState {
    /// Returns at once unless the server is paused.
    pub(crate) async fn wait_while_paused(&self) {
        let mut paused = self.paused.subscribe();
        // An error would mean that the sender is gone, but this state holds it.
        let _ = paused.wait_for(|paused| !*paused).await;
    }

    pub(crate) fn pod_backend(&self) -> Result<Arc<dyn PodBackend>, Status> {
        let backend = self.pod_backend.read().unwrap_or_else(PoisonError::into_inner).clone();
        backend.ok_or_else(|| Status::unavailable("nothing runs pods in this cluster: no pod backend was set"))
    }
}

/// A running API server. Dropping it ends the listener and all connections.
pub struct ApiServer {
    cluster_name: String,
    address: SocketAddr,
    ca_pem: String,
    admin_token: String,
    state: Arc<ServerState>,
    accept_loop: JoinHandle<()>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("cluster_name", &self.cluster_name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Makes a CA, an administrator's token and an empty cluster, and listens on a free loopback port. Must be called inside a
    /// Tokio runtime.
    ///
    /// # Errors
    /// When certificates cannot be made, no port is to be had, or the configuration is not usable.
    pub async fn start(config: ServerConfig) -> Result<Self, StartError> {
        if !(8..=28).contains(&config.service_cidr.1) {
            return Err(StartError::ServiceCidr(config.service_cidr.1));
        }
        let pki = pki::make(
            &config.cluster_name,
            service_address(config.service_cidr.0),
            &config.subject_alt_names,
        )?;
        let store = Store::new(StoreConfig {
            watch_history: config.watch_history,
            service_cidr: config.service_cidr,
            node_ports: config.node_ports.clone(),
            namespace_deletion_grace: config.namespace_deletion_grace,
            token_success_cache_ttl: config.token_success_cache_ttl,
            ca_pem: pki.ca_pem.clone(),
        });
        let admin_token = store
            .lock()
            .tokens
            .issue(UserInfo::new("kubernetes-admin", &[MASTERS]), TokenBinding::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(ServerState {
            store,
            bookmark_interval: config.bookmark_interval,
            header_timeout: config.header_timeout,
            counts: Counts::default(),
            paused: watch::channel(false).0,
            stop: watch::channel(false).0,
            pod_backend: RwLock::new(None),
        });
        let grace = config.namespace_deletion_grace;
        if !grace.is_zero() {
            tokio::spawn(namespaces::run(state.store.clone(), grace, state.stop.subscribe()));
        }
        let stopped = state.stop.subscribe();
        let accept_loop = tokio::spawn(connection::accept_loop(listener, pki.tls, state.clone(), stopped));
        Ok(Self {
            cluster_name: config.cluster_name,
            address,
            ca_pem: pki.ca_pem,
            admin_token,
            state,
            accept_loop,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The cluster's CA certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A kubeconfig (YAML) that may do everything, for this server or for another URL that leads to it.
    pub fn admin_kubeconfig(&self, server_url: Option<&str>) -> String {
        self.kubeconfig_for("kubernetes-admin", &self.admin_token, server_url)
    }

    /// A kubeconfig (YAML) with the given token.
    pub fn kubeconfig_for(&self, user: &str, token: &str, server_url: Option<&str>) -> String {
        let own = self.url();
        kubeconfig::render(
            &self.cluster_name,
            server_url.unwrap_or(&own),
            &self.ca_pem,
            user,
            token,
        )
    }

    /// The objects of the cluster.
    pub fn store(&self) -> Store {
        self.state.store.clone()
    }

    /// A bearer token of a service account, valid until the account is deleted. Tokens that can be revoked alone come from
    /// Secrets of type `kubernetes.io/service-account-token`: deleting the Secret ends the token.
    ///
    /// # Errors
    /// 404 when there is no such account.
    pub fn issue_service_account_token(&self, namespace: &str, name: &str) -> Result<String, Status> {
        self.state.store.issue_token(namespace, name)
    }

    /// Accepts a token of the caller's choice for a user with these groups (`system:authenticated` is added).
    pub fn accept_token(&self, token: &str, user: &str, groups: &[&str]) {
        self.state
            .store
            .lock()
            .tokens
            .accept(token, UserInfo::new(user, groups));
    }

    /// Says who serves logs and port-forwards.
    pub fn set_pod_backend(&self, backend: Arc<dyn PodBackend>) {
        *self.state.pod_backend.write().unwrap_or_else(PoisonError::into_inner) = Some(backend);
    }

    /// Requests so far, by verb, resource and user agent.
    pub fn request_counts(&self) -> BTreeMap<RequestKey, u64> {
        self.state.counts.snapshot()
    }

    /// Stops answering, as a frozen process does: connections stay, running watches fall silent, new connections are accepted
    /// by the kernel but not served. In-process access goes on.
    pub fn pause(&self) {
        self.state.paused.send_replace(true);
    }

    /// Answers again. Requests that waited are served now.
    pub fn resume(&self) {
        self.state.paused.send_replace(false);
    }

    /// Ends the listener and all connections.
    pub async fn shutdown(mut self) {
        self.state.stop.send_replace(true);
        // The loop ends by itself; an error would mean that it was aborted, which is the same.
        let _ = (&mut self.accept_loop).await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.state.stop.send_replace(true);
    }
}
