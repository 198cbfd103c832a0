//! A whole cluster: API server, controllers, node and network, started and stopped as one.

use std::collections::HashMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use meshproof_apiserver::store::{NAMESPACE_DELETION_GRACE, Subresource, TOKEN_SUCCESS_CACHE_TTL};
use meshproof_apiserver::{ApiServer, ServerConfig, StartError, Status, Store, gvr};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controllers::{
    DeploymentController, EndpointSliceController, EndpointsController, JobController, LoadBalancerController,
    ReplicaSetController, ServiceProxy, SliceMirroringController, StatefulSetController, UnsupportedWorkloads,
};
use crate::dns::Zone;
use crate::events::Recorder;
use crate::fabric::{API_SERVER_PORT, AddressError, AddressPool, Cidr, ClusterAddresses, Fabric};
use crate::kubelet::{self, MAX_PODS, Node, NodeBackend};
use crate::object;
use crate::registry::ProgramRegistry;
use crate::work_queue::{self, Controller};

/// Addresses at the start of the pod range that are not given to pods: network and bridge.
const RESERVED_POD_ADDRESSES: u32 = 2;

/// Settings of a cluster. Its pace is the fabric's.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Name of the cluster, e.g. `west`; its node is `west-control-plane`.
    pub name: String,
    /// DNS domain of its Services.
    pub domain: String,
    /// Range of the pods' addresses.
    pub pod_cidr: Cidr,
    /// Range of the Services' ClusterIPs, between /8 and /28.
    pub service_cidr: Cidr,
    /// Address of the node, reachable from every cluster.
    pub node_address: Ipv4Addr,
    /// Version that the node's kubelet says it has.
    pub kubelet_version: String,
    /// Range of the addresses that Services of type LoadBalancer get. Without it, somebody has to patch theirs in.
    pub load_balancers: Option<Cidr>,
}

impl ClusterConfig {
    /// Settings for the `number`-th cluster of a fabric, from 0. Numbers above 99 wrap around.
    ///
    /// All addresses lie in `198.18.0.0/15`, which is set aside for measuring networks (RFC 2544) and which nobody has: what a
    /// tool on the host dials by mistake must not be there. Nodes are in `198.18.0.0/24`, load balancers in
    /// `198.18.(100 + number).0/24`; pods and Services have `198.19.0.0/16`, 256 addresses each.
    #[must_use]
    pub fn numbered(name: &str, number: u8) -> Self {
        let number = number % 100;
        Self {
            name: name.to_owned(),
            domain: "cluster.local".into(),
            pod_cidr: Cidr::containing(Ipv4Addr::new(198, 19, 2 * number, 0), 24),
            service_cidr: Cidr::containing(Ipv4Addr::new(198, 19, 2 * number + 1, 0), 24),
            node_address: Ipv4Addr::new(198, 18, 0, 2 + number),
            kubelet_version: "v1.33.0".into(),
            load_balancers: Some(Cidr::containing(Ipv4Addr::new(198, 18, 100 + number, 0), 24)),
        }
    }

    /// Name of the cluster's only node.
    #[must_use]
    pub fn node_name(&self) -> String {
        format!("{}-control-plane", self.name)
    }
}

/// Why a cluster did not start. Nothing of it is left running then.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Its addresses or its name do not fit into the fabric.
    #[error("cluster `{cluster}`: {source}")]
    Address {
        /// The cluster.
        cluster: String,
        /// What does not fit.
        source: AddressError,
    },
    /// Its API server did not start.
    #[error("cluster `{cluster}`: {source}")]
    ApiServer {
        /// The cluster.
        cluster: String,
        /// Why.
        source: StartError,
    },
    /// The objects that it starts with could not be written.
    #[error("cluster `{cluster}`: cannot write its first objects: {source}")]
    Objects {
        /// The cluster.
        cluster: String,
        /// Why.
        source: Status,
    },
}

/// A running cluster. Dropping it stops it without waiting; [`EmbeddedCluster::shutdown`] waits.
pub struct EmbeddedCluster {
    config: ClusterConfig,
    fabric: Fabric,
    store: Store,
    api: Arc<ApiServer>,
    node: Arc<Node>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCluster")
            .field("config", &self.config)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

impl EmbeddedCluster {
    /// Starts a cluster on a fabric. Returns when its API answers, its node is ready and its controllers run.
    ///
    /// # Errors
    /// [`ClusterError`], with nothing left running.
    pub async fn start(
        config: ClusterConfig,
        fabric: &Fabric,
        programs: &ProgramRegistry,
    ) -> Result<Self, ClusterError> {
        let addresses = ClusterAddresses {
            pod_cidr: config.pod_cidr,
            service_cidr: config.service_cidr,
            node: config.node_address,
            load_balancers: config.load_balancers,
        };
        fabric
            .add_cluster(&config.name, addresses)
            .map_err(|source| ClusterError::Address {
                cluster: config.name.clone(),
                source,
            })?;
        let name = config.name.clone();
        let started = Self::start_on_network(config, fabric, programs).await;
        if started.is_err() {
            fabric.remove_cluster(&name);
        }
        started
    }

    async fn start_on_network(
        config: ClusterConfig,
        fabric: &Fabric,
        programs: &ProgramRegistry,
    ) -> Result<Self, ClusterError> {
        let node_name = config.node_name();
        let server = ServerConfig {
            cluster_name: config.name.clone(),
            subject_alt_names: vec![
                config.node_address.to_string(),
                node_name.clone(),
                format!("kubernetes.default.svc.{}", config.domain),
            ],
            service_cidr: (config.service_cidr.base(), config.service_cidr.prefix()),
            namespace_deletion_grace: fabric.config().pace.wall(NAMESPACE_DELETION_GRACE),
            token_success_cache_ttl: fabric.config().pace.wall(TOKEN_SUCCESS_CACHE_TTL),
            ..ServerConfig::default()
        };
        let api = ApiServer::start(server)
            .await
            .map_err(|source| ClusterError::ApiServer {
                cluster: config.name.clone(),
                source,
            })?;
        let store = api.store();
        write_first_objects(&store, &config).map_err(|source| ClusterError::Objects {
            cluster: config.name.clone(),
            source,
        })?;
        fabric.set_api_server(&config.name, api.address());
        fabric.add_host(&node_name, config.node_address);
        let zone = Zone::new(&config.domain, fabric.clone());
        let api = Arc::new(api);
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let node = Arc::new(Node {
            cluster: config.name.clone(),
            name: node_name.clone(),
            address: config.node_address,
            pace: fabric.config().pace,
            store: store.with_manager("kubelet"),
            fabric: fabric.clone(),
            zone: Arc::clone(&zone),
            registry: programs.clone(),
            addresses: Mutex::new(AddressPool::new(config.pod_cidr, RESERVED_POD_ADDRESSES)),
            events: Recorder::new(&store, "kubelet", Some(&node_name)),
            scheduler_events: Recorder::new(&store, "default-scheduler", None),
            api: Arc::downgrade(&api),
            pods: Mutex::new(HashMap::new()),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        });
        api.set_pod_backend(Arc::new(NodeBackend {
            node: Arc::downgrade(&node),
        }));
        let cluster = Self {
            config,
            fabric: fabric.clone(),
            store,
            api,
            node,
            tasks,
            shutdown,
        };
        cluster.run_controllers(zone);
        cluster.tasks.spawn(kubelet::run(Arc::clone(&cluster.node)));
        cluster.tasks.spawn(kubelet::heartbeat::run(Arc::clone(&cluster.node)));
        Ok(cluster)
    }

    fn run_controllers(&self, zone: Arc<Zone>) {
        let (store, pace) = (&self.store, self.fabric.config().pace);
        self.run_controller(DeploymentController::new(store, pace));
        self.run_controller(ReplicaSetController::new(store, pace));
        self.run_controller(StatefulSetController::new(store, pace));
        self.run_controller(JobController::new(store, &self.node.registry, pace));
        self.run_controller(EndpointsController::new(store));
        self.run_controller(EndpointSliceController::new(store));
        self.run_controller(SliceMirroringController::new(store));
        self.run_controller(UnsupportedWorkloads::new(store));
        if let Some(range) = self.config.load_balancers {
            self.run_controller(LoadBalancerController::new(store, range));
        }
        self.run_controller(ServiceProxy {
            store: store.clone(),
            cluster: self.config.name.clone(),
            fabric: self.fabric.clone(),
            zone,
        });
    }

    fn run_controller(&self, controller: impl Controller) {
        let running = work_queue::run(controller, self.store.clone(), self.shutdown.clone());
        self.spawn(running);
    }

    /// Runs something as part of the cluster: a controller of a mesh, for example. It is waited for by
    /// [`Self::shutdown`] and should end when [`Self::stopping`] is cancelled.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Cancelled when the cluster goes down.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The cluster's settings.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// The cluster's API server.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// The cluster's objects.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The network that the cluster is on.
    #[must_use]
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The virtual address of the node.
    #[must_use]
    pub fn node_address(&self) -> Ipv4Addr {
        self.config.node_address
    }

    /// The URL under which pods of every cluster reach this API server: for kubeconfigs that travel between clusters.
    #[must_use]
    pub fn virtual_api_url(&self) -> String {
        format!("https://{}:{API_SERVER_PORT}", self.config.node_address)
    }

    /// Stops everything: pods end without being deleted, then controllers, network and API server. Returns when nothing of
    /// the cluster runs any more.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let api = Arc::clone(&self.api);
        drop(self);
        // Requests to the pod backend may hold it for a moment; the server then ends when they do.
        if let Ok(api) = Arc::try_unwrap(api) {
            api.shutdown().await;
        }
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.fabric.remove_cluster(&self.config.name);
        // The pods hold the node, and the node holds them.
        self.node.pods().clear();
    }
}

/// The node, and the addresses behind the Service `kubernetes`.
fn write_first_objects(store: &Store, config: &ClusterConfig) -> Result<(), Status> {
    let node_name = config.node_name();
    let address = config.node_address.to_string();
    let labels = json!({
        "kubernetes.io/hostname": node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node-role.kubernetes.io/control-plane": "",
    });
    let pod_cidr = config.pod_cidr.to_string();
    let node = json!({
        "metadata": {"name": node_name, "labels": labels},
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr], "providerID": format!("embedded://{}", config.name)},
    });
    let kubelet = store.with_manager("kubelet");
    kubelet.create(&gvr::NODES, None, node)?;
    let status = node_status(config, &node_name, &address);
    let part = Subresource::Status;
    kubelet.modify(&gvr::NODES, None, &node_name, part, |node| {
        node["status"] = status;
        true
    })?;

    // Written by the API server itself on real clusters, and never mirrored.
    let server = store.with_manager("kube-apiserver");
    let ports = json!([{"name": "https", "port": API_SERVER_PORT, "protocol": "TCP"}]);
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
    });
    server.create(&gvr::ENDPOINTS, Some("default"), endpoints)?;
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": ports,
    });
    server.create(&gvr::ENDPOINT_SLICES, Some("default"), slice)?;
    Ok(())
}

fn node_status(config: &ClusterConfig, name: &str, address: &str) -> Value {
    let condition = |kind: &str, value: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": value, "reason": reason, "message": message,
            "lastHeartbeatTime": object::now(), "lastTransitionTime": object::now(),
        })
    };
    let capacity = json!({"cpu": "2", "memory": "8Gi", "pods": MAX_PODS.to_string()});
    json!({
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "",
            "kernelVersion": "embedded", "osImage": "meshproof embedded cluster",
            "containerRuntimeVersion": "embedded://0", "kubeletVersion": config.kubelet_version,
            "kubeProxyVersion": config.kubelet_version, "operatingSystem": "linux", "architecture": "amd64",
        },
    })
}
