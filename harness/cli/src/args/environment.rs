//! Where a run takes place: clusters, the mesh in them, the agent.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where clusters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// In this process: no Docker, no privilege, a model of the mesh
    Embedded,
    /// Clusters made with kind and Docker, and the real mesh in them
    Kind,
    /// Existing clusters by kubeconfig context, see --context
    Contexts,
}

/// Who installs the mesh on real clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeshFrom {
    /// The vendor's CLI, `linkerd`
    Cli,
    /// The vendor's charts, rendered with `helm`
    Helm,
    /// Somebody else did (GitOps): it is checked and never changed
    Preinstalled,
}

/// Where the clusters are, and how they behave.
#[derive(Args, Clone, Debug)]
pub struct EnvironmentArgs {
    /// Where the clusters are
    #[arg(long, value_enum, default_value_t = On::Embedded)]
    pub on: On,
    /// Real clusters of kind.
    #[command(flatten)]
    pub kind: KindArgs,
    /// Existing clusters.
    #[command(flatten)]
    pub contexts: ContextsArgs,
    /// The real mesh.
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// The agent's image.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Give the embedded mesh a defect; `upstream` stands for all that the real mesh was seen to have
    #[arg(long = "defect", value_name = "NAME")]
    pub defects: Vec<String>,
    /// Scenario seconds per wall second: 10 on embedded clusters; on contexts, the pace at which `meshproof up` serves them
    #[arg(long, value_name = "FACTOR", value_parser = super::number::pace)]
    pub pace: Option<f64>,
    /// Seed of everything drawn at random; printed by every run
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// `--on kind`
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Clusters made with kind")]
pub struct KindArgs {
    /// Image of all nodes, which decides the version of Kubernetes
    #[arg(long, value_name = "IMAGE")]
    pub node_image: Option<String>,
    /// Image of the local Docker engine to load into all nodes
    #[arg(long = "load-image", value_name = "IMAGE")]
    pub load_images: Vec<String>,
    /// Archive of images, as `docker save` writes it, to load into all nodes
    #[arg(long = "load-archive", value_name = "FILE")]
    pub load_archives: Vec<PathBuf>,
    /// URL of a registry on the docker network that nodes pull through
    #[arg(long, value_name = "URL")]
    pub registry_mirror: Option<String>,
    /// Registry, e.g. docker.io, that nodes pull through a cache which the harness runs; what it pulled stays in a docker
    /// volume until `gc --caches`
    #[arg(long = "registry-cache", value_name = "REGISTRY")]
    pub registry_caches: Vec<String>,
    /// Leave clusters up, and take them over that an earlier run left: when nothing that they were made from has changed and
    /// everything that was put into them can be removed
    #[arg(long)]
    pub reuse: bool,
    /// Sets of clusters at the same time; each needs 2 to 4 GiB of memory
    #[arg(long, value_name = "N", value_parser = super::number::at_once)]
    pub at_once: Option<usize>,
    /// No relay containers between the clusters: scenarios that need one are skipped
    #[arg(long)]
    pub no_relay: bool,
    /// `kind` to use instead of that on the PATH
    #[arg(long = "kind", value_name = "PATH")]
    pub kind_path: Option<PathBuf>,
    /// Longest time that any command may take, and clearing clusters for --reuse, in seconds; each has a deadline of its own
    /// otherwise
    #[arg(long, value_name = "SECONDS", value_parser = super::number::seconds)]
    pub tool_deadline: Option<u64>,
}

/// `--on contexts`
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Existing clusters")]
pub struct ContextsArgs {
    /// A cluster of the topology, the context to reach it with, and its kubeconfig unless it is the usual one
    #[arg(long = "context", value_name = "CLUSTER=CONTEXT[@KUBECONFIG]")]
    pub contexts: Vec<String>,
    /// URL of a cluster's API server as pods of the other clusters reach it; the kubeconfig's unless given
    #[arg(long = "api", value_name = "CLUSTER=URL")]
    pub apis: Vec<String>,
    /// Address of a node of a cluster as pods of the other clusters reach it
    #[arg(long = "node-address", value_name = "CLUSTER=ADDRESS")]
    pub node_addresses: Vec<String>,
    /// Consent to steps that disturb what others rely on: scaling and restarting the mesh, unlinking, cluster-wide objects
    #[arg(long)]
    pub disruptive: bool,
}

/// The mesh on real clusters.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The mesh on real clusters")]
pub struct MeshArgs {
    /// Who installs it: cli on kind, preinstalled on contexts unless given
    #[arg(long = "mesh-from", value_enum, value_name = "HOW")]
    pub from: Option<MeshFrom>,
    /// `linkerd` to use instead of that on the PATH
    #[arg(long, value_name = "PATH")]
    pub linkerd: Option<PathBuf>,
    /// Version of Linkerd, e.g. edge-25.10.7: the CLI must have it, or is downloaded with --linkerd-sha256
    #[arg(long, value_name = "VERSION")]
    pub linkerd_version: Option<String>,
    /// SHA-256 of the CLI of --linkerd-version; it is downloaded into a cache and used only when it has this sum
    #[arg(long, value_name = "HEX", requires = "linkerd_version", conflicts_with = "linkerd")]
    pub linkerd_sha256: Option<String>,
    /// File with the Gateway API's definitions, applied to clusters that lack them (Linkerd 2.19 and later need them)
    #[arg(long, value_name = "FILE")]
    pub gateway_api_crds: Option<PathBuf>,
    /// `helm` to use instead of that on the PATH
    #[arg(long, value_name = "PATH")]
    pub helm: Option<PathBuf>,
    /// Chart linkerd-crds: folder, archive or repository/name, with its version after an `@`
    #[arg(long, value_name = "CHART", default_value = "linkerd/linkerd-crds")]
    pub chart_crds: String,
    /// Chart linkerd-control-plane
    #[arg(long, value_name = "CHART", default_value = "linkerd/linkerd-control-plane")]
    pub chart_control_plane: String,
    /// Chart linkerd-multicluster
    #[arg(long, value_name = "CHART", default_value = "linkerd/linkerd-multicluster")]
    pub chart_multicluster: String,
    /// Value for the control plane, key=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Value for the multicluster extension, key=value
    #[arg(long = "multicluster-set", value_name = "KEY=VALUE")]
    pub multicluster_set: Vec<String>,
    /// The version that scenarios upgrade to.
    #[command(flatten)]
    pub upgrade: UpgradeArgs,
}

/// The version of the mesh that scenarios with `upgrade` go to; without one they are skipped.
#[derive(Args, Clone, Debug, Default)]
pub struct UpgradeArgs {
    /// `linkerd` of the version that scenarios upgrade to
    #[arg(id = "upgrade_linkerd", long = "upgrade-linkerd", value_name = "PATH")]
    pub linkerd: Option<PathBuf>,
    /// Version of Linkerd that scenarios upgrade to: that CLI must have it, or is downloaded with --upgrade-sha256
    #[arg(long = "upgrade-to", value_name = "VERSION")]
    pub to: Option<String>,
    /// SHA-256 of the CLI of --upgrade-to; it is downloaded into a cache and used only when it has this sum
    #[arg(
        long = "upgrade-sha256",
        value_name = "HEX",
        requires = "to",
        conflicts_with = "upgrade_linkerd"
    )]
    pub sha256: Option<String>,
    /// With --mesh-from helm: chart linkerd-crds of the version that scenarios upgrade to
    #[arg(
        long = "upgrade-chart-crds",
        value_name = "CHART",
        requires = "upgrade_control_plane"
    )]
    pub crds: Option<String>,
    /// With --mesh-from helm: chart linkerd-control-plane of that version
    #[arg(
        id = "upgrade_control_plane",
        long = "upgrade-chart-control-plane",
        value_name = "CHART",
        requires = "upgrade_multicluster"
    )]
    pub control_plane: Option<String>,
    /// With --mesh-from helm: chart linkerd-multicluster of that version
    #[arg(
        id = "upgrade_multicluster",
        long = "upgrade-chart-multicluster",
        value_name = "CHART",
        requires = "crds"
    )]
    pub multicluster: Option<String>,
}

impl UpgradeArgs {
    /// Whether any of them is given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.linkerd.is_some() || self.to.is_some() || self.crds.is_some()
    }
}

/// The traffic agent on real clusters.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The traffic agent on real clusters")]
pub struct AgentArgs {
    /// Image of the agent; on contexts it has to be given, except for clusters of `up`, and the clusters must be able to pull it
    #[arg(long, value_name = "IMAGE")]
    pub agent_image: Option<String>,
    /// Static binary of the agent that the image is made from, when it is not there
    #[arg(long, value_name = "FILE")]
    pub agent_binary: Option<PathBuf>,
}
