//! What exists: containers, networks, images, and the embedded clusters behind the containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshproof_cluster::fabric::{Cidr, Fabric, FabricConfig};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::programs::{AgentProgram, PAUSE_IMAGE, PauseProgram};
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use meshproof_mesh::model::{Model, ModelConfig};
use sha2::{Digest, Sha256};

use crate::docker::Registry;
use crate::exchange::Failure;
use crate::node_network::NodeNetwork;

/// The networks that a container engine always has.
pub(crate) const OWN_NETWORKS: [&str; 3] = ["bridge", "host", "none"];
/// Program in an image that the stand-in can run in its clusters: the entry point of the image is this.
pub(crate) const AGENT_ENTRY_POINT: &str = "meshproof-agent";

/// Everything of one folder of stand-ins.
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) fabric: Fabric,
    pub(crate) pace: Pace,
    state: Mutex<State>,
}

/// What the container engine knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) images: Vec<Image>,
    /// Containers that are no nodes.
    pub(crate) registries: BTreeMap<String, Registry>,
    /// Named volumes, with their labels.
    pub(crate) volumes: BTreeMap<String, BTreeMap<String, String>>,
    made: u64,
}

/// A kind node: its container, and the cluster that runs in it.
#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Name of the kind cluster that it is a node of.
    pub(crate) cluster: String,
    /// Image that it was created from.
    pub(crate) image: String,
    pub(crate) network: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) created: jiff::Timestamp,
    pub(crate) paused: bool,
    /// What the cluster's nodes can run.
    pub(crate) programs: ProgramRegistry,
    /// Images that were loaded onto the node: name to id.
    pub(crate) loaded: Arc<Mutex<BTreeMap<String, String>>>,
    /// Files that commands wrote on the node, by path.
    pub(crate) files: Arc<Mutex<BTreeMap<String, String>>>,
    /// What is done to its network by commands on the node.
    pub(crate) shaping: Arc<Mutex<NodeNetwork>>,
    /// The cluster once it runs; the lock is held while it starts.
    pub(crate) served: Arc<tokio::sync::Mutex<Option<EmbeddedCluster>>>,
}

/// A network of the container engine.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) subnet: Cidr,
    pub(crate) created: jiff::Timestamp,
    pub(crate) labels: BTreeMap<String, String>,
}

/// An image of the container engine.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) id: String,
    /// `repository:tag`
    pub(crate) name: String,
    /// Last part of its entry point's path.
    pub(crate) entry_point: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created: jiff::Timestamp,
}

/// What is left of everything that was created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// kind clusters.
    pub clusters: Vec<String>,
    /// Containers.
    pub containers: Vec<String>,
    /// Named volumes.
    pub volumes: Vec<String>,
    /// Networks that somebody created. kind's own, `kind`, is among them: kind leaves it.
    pub networks: Vec<String>,
}

impl Leftovers {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl State {
    /// A new id of 64 hexadecimal digits.
    pub(crate) fn id(&mut self, of: &str) -> String {
        use std::fmt::Write;
        self.made += 1;
        let digest = Sha256::digest(format!("{} {of}", self.made));
        digest.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// A container by its name or the start of its id.
    pub(crate) fn container(&self, name: &str) -> Option<&Container> {
        self.containers.get(name).or_else(|| {
            let by_id = |container: &&Container| name.len() >= 6 && container.id.starts_with(name);
            self.containers.values().find(by_id)
        })
    }

    /// An image by its name, with or without tag, or by the start of its id.
    pub(crate) fn image(&self, name: &str) -> Option<&Image> {
        let wanted = tagged(name);
        let id = name.strip_prefix("sha256:").unwrap_or(name);
        self.images
            .iter()
            .find(|image| image.name == wanted || (id.len() >= 12 && image.id.starts_with(id)))
    }

    /// Adds an image, or gives its name to a newer one.
    pub(crate) fn add_image(&mut self, image: Image) {
        self.images.retain(|other| other.name != image.name);
        self.images.push(image);
    }

    /// The clusters whose nodes are there.
    pub(crate) fn clusters(&self) -> BTreeSet<String> {
        self.containers
            .values()
            .map(|container| container.cluster.clone())
            .collect()
    }

    /// Adds a network; without a subnet it gets the first free one that Docker would take.
    pub(crate) fn add_network(
        &mut self,
        name: &str,
        subnet: Option<Cidr>,
        labels: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        if self.networks.contains_key(name) {
            return Err(Failure::new(format!(
                "Error response from daemon: network with name {name} already exists"
            )));
        }
        let free = |range: &Cidr| !self.networks.values().any(|network| network.subnet.overlaps(*range));
        let subnet = match subnet {
            Some(subnet) if free(&subnet) => Some(subnet),
            Some(_) => None,
            // 172.17 is the default bridge's.
            None => (18..32)
                .map(|second| Cidr::containing(Ipv4Addr::new(172, second, 0, 0), 16))
                .find(free),
        };
        let subnet = subnet.ok_or_else(|| {
            Failure::new(
                "Error response from daemon: invalid pool request: Pool overlaps with other one on this address space",
            )
        })?;
        let network = Network {
            id: self.id(name),
            subnet,
            created: jiff::Timestamp::now(),
            labels,
        };
        self.networks.insert(name.to_owned(), network);
        Ok(())
    }

    /// The first address of a network that no container has; its first one is the gateway's.
    pub(crate) fn free_address(&self, network: &str) -> Option<Ipv4Addr> {
        let subnet = self.networks.get(network)?.subnet;
        let last = u32::try_from(subnet.len() - 1).unwrap_or(u32::MAX);
        (2..last).filter_map(|n| subnet.nth(n)).find(|address| {
            let of_node = self.containers.values().any(|container| container.address == *address);
            !of_node && !self.registries.values().any(|other| other.address == *address)
        })
    }
}

/// The name with a tag.
pub(crate) fn tagged(name: &str) -> String {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    if name.contains('@') || name.get(last..).is_some_and(|last| last.contains(':')) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

impl Container {
    /// Whether this very image was loaded.
    pub(crate) fn has_image(&self, image: &Image) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(&image.name) == Some(&image.id)
    }
}

impl World {
    pub(crate) fn new(pace: f64) -> Self {
        let pace = Pace::new(pace);
        let model = Model::new(ModelConfig {
            pace: Some(pace),
            ..ModelConfig::default()
        });
        Self {
            model,
            fabric: Fabric::new(FabricConfig::new(pace)),
            pace,
            state: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the container of a node, without anything in it.
    pub(crate) fn create_node(&self, cluster: &str, image: &str, network: &str) -> Result<Container, Failure> {
        let mut state = self.state();
        let name = format!("{cluster}-control-plane");
        if state.containers.contains_key(&name) {
            return Err(Failure::new(format!(
                "command \"docker run --name {name}\" failed with error: exit status 125"
            )));
        }
        let address = state
            .free_address(network)
            .ok_or_else(|| Failure::new(format!("network {network} has no free address")))?;
        let programs = ProgramRegistry::new();
        // What a node pulls from a registry by itself. Anything else has to be loaded onto it.
        self.model.register(&programs);
        programs.register(PAUSE_IMAGE, Arc::new(PauseProgram));
        let container = Container {
            id: state.id(&name),
            name: name.clone(),
            cluster: cluster.to_owned(),
            image: image.to_owned(),
            network: network.to_owned(),
            address,
            created: jiff::Timestamp::now(),
            paused: false,
            programs,
            loaded: Arc::default(),
            files: Arc::default(),
            shaping: Arc::default(),
            served: Arc::default(),
        };
        state.containers.insert(name, container.clone());
        Ok(container)
    }

    /// Starts the cluster of a node. It comes up even if nobody waits for it any more, as what runs in a container does.
    pub(crate) async fn start_cluster(&self, node: &Container, config: ClusterConfig) -> Result<(), Failure> {
        let mut served = Arc::clone(&node.served).lock_owned().await;
        let (fabric, model, programs) = (self.fabric.clone(), self.model.clone(), node.programs.clone());
        let starting = tokio::spawn(async move {
            let cluster = EmbeddedCluster::start(config, &fabric, &programs)
                .await
                .map_err(|error| Failure::new(error.to_string()))?;
            model.attach(&cluster);
            *served = Some(cluster);
            Ok(())
        });
        starting
            .await
            .unwrap_or_else(|error| Err(Failure::new(format!("stand-in: starting the cluster: {error}"))))
    }

    /// Makes an image known to a node.
    pub(crate) fn load(node: &Container, image: &Image) {
        if image.entry_point.as_deref() == Some(AGENT_ENTRY_POINT) {
            node.programs.register(&image.name, Arc::new(AgentProgram));
        }
        let mut loaded = node.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(image.name.clone(), image.id.clone());
    }

    /// Removes a container and ends what runs in it; `false` when there is none.
    pub(crate) async fn remove_container(&self, name: &str) -> bool {
        let removed = {
            let mut state = self.state();
            let name = state.container(name).map(|container| container.name.clone());
            name.and_then(|name| state.containers.remove(&name))
        };
        let Some(container) = removed else {
            return false;
        };
        container.shaping.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // A cluster that is just starting is waited for.
        let cluster = container.served.lock().await.take();
        if let Some(cluster) = cluster {
            cluster.api().resume();
            cluster.shutdown().await;
        }
        true
    }

    /// What still exists.
    pub(crate) fn leftovers(&self) -> Leftovers {
        let state = self.state();
        Leftovers {
            clusters: state.clusters().into_iter().collect(),
            containers: state
                .containers
                .keys()
                .chain(state.registries.keys())
                .cloned()
                .collect(),
            volumes: state.volumes.keys().cloned().collect(),
            networks: state.networks.keys().cloned().collect(),
        }
    }

    /// Ends everything.
    pub(crate) async fn end(&self) {
        let names: Vec<String> = self.state().containers.keys().cloned().collect();
        for name in names {
            self.remove_container(&name).await;
        }
    }
}
