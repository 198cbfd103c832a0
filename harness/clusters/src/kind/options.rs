//! How clusters are made.

use std::path::PathBuf;
use std::time::Duration;

/// Label of every container and network that is made for an environment beside kind's own, e.g. by relays. Its value is the
/// environment's name, `<prefix>-<key>`, so that what a crash left can be told from what is in use.
pub const LABEL: &str = "dev.meshproof.environment";

/// Label of docker volumes in which caches of registries keep what they pulled. Its value is the registry.
pub const CACHE_LABEL: &str = "dev.meshproof.cache";

/// Class of Services of type LoadBalancer that get their node's address; Services without a class do, too.
pub const LOAD_BALANCER_CLASS: &str = "meshproof.dev/node";

/// How clusters are made.
#[derive(Clone, Debug)]
pub struct KindOptions {
    /// Folder of topologies; `<topology>/<cluster>.yaml` is a cluster's plain kind configuration. Where there is none, one
    /// is made from the topology.
    pub configs: PathBuf,
    /// Folder for records, configurations and kubeconfigs, used by nothing else. Private to the user; never `~/.kube`.
    pub state: PathBuf,
    /// First part of the names of everything that is made.
    pub prefix: String,
    /// Docker network that nodes are attached to.
    pub network: String,
    /// Image of all nodes, which decides the version of Kubernetes; otherwise the topology's, the configuration's, or the
    /// one that belongs to the version of kind.
    pub node_image: Option<String>,
    /// Images of the local Docker engine that are loaded into all nodes.
    pub images: Vec<String>,
    /// Archives (as `docker save` writes them) that are loaded into all nodes.
    pub archives: Vec<PathBuf>,
    /// Image of the agent in the local Docker engine, loaded like [`KindOptions::images`].
    pub agent_image: Option<String>,
    /// URL of a registry on the docker network that nodes pull through, e.g. `http://mirror:5000`.
    pub registry_mirror: Option<String>,
    /// Registries that it stands for, e.g. `docker.io`; `_default` is containerd's word for all.
    pub mirrored_registries: Vec<String>,
    /// Registries, e.g. `docker.io`, for each of which a cache is started on the docker network that nodes pull through.
    /// What it pulled stays in a docker volume when the clusters go.
    pub registry_caches: Vec<String>,
    /// Take clusters over that an earlier run kept, when nothing that they were made from has changed and everything that
    /// was put into them can be removed.
    pub reuse: bool,
    /// Leave clusters up when they are not needed any more.
    pub keep: bool,
    /// Sets of clusters at the same time; `None` when the machine holds any number.
    pub at_once: Option<usize>,
    /// How long things may take.
    pub waits: Waits,
}

/// How long things may take, in wall time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The control plane of a new cluster to become ready; kind's own `--wait`.
    pub control_plane: Duration,
    /// `kind create cluster` in all, with pulling the node image.
    pub create: Duration,
    /// All nodes to be ready after it.
    pub nodes: Duration,
    /// Loading images into one cluster.
    pub load: Duration,
    /// Any other command.
    pub command: Duration,
    /// Clusters that are taken over to be rid of everything that an earlier run put into them. Longer than pods take to end
    /// (30 s of grace), shorter than making clusters anew takes.
    pub clear: Duration,
    /// An API server to answer again after it was paused.
    pub resume: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            control_plane: Duration::from_secs(180),
            create: Duration::from_secs(600),
            nodes: Duration::from_secs(120),
            load: Duration::from_secs(300),
            command: Duration::from_secs(60),
            clear: Duration::from_secs(120),
            resume: Duration::from_secs(60),
        }
    }
}

impl KindOptions {
    /// The usual ones, with these folders.
    #[must_use]
    pub fn new(configs: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self {
            configs: configs.into(),
            state: state.into(),
            prefix: "meshproof".to_owned(),
            network: "kind".to_owned(),
            node_image: None,
            images: Vec::new(),
            archives: Vec::new(),
            agent_image: None,
            registry_mirror: None,
            mirrored_registries: vec!["_default".to_owned()],
            registry_caches: Vec::new(),
            reuse: false,
            keep: false,
            // A cluster takes 1 to 2 GiB with a mesh in it, and a set of them is two or three.
            at_once: Some(1),
            waits: Waits::default(),
        }
    }

    /// Names of all local images that are loaded into nodes, each once.
    pub(super) fn loaded(&self) -> Vec<String> {
        let mut images: Vec<String> = Vec::new();
        for image in self.images.iter().chain(&self.agent_image) {
            if !images.contains(image) {
                images.push(image.clone());
            }
        }
        images
    }
}
