//! `kind`: clusters in containers.
//!
//! Words and streams are those of kind 0.33 (progress and errors on standard error). Where it differs: a cluster has one
//! node; the administrator's credential in the kubeconfig is a token; `~/.kube/config` is never written.

mod config;
mod kubeconfig;

use std::fs;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use meshproof_cluster::ClusterConfig;

use crate::exchange::{Call, Failure, Terminal, not_modelled, parse};
use crate::server::ended;
use crate::world::{Container, Image, World};

/// Version that the stand-in says it has.
const VERSION: &str = "v0.33.0";
/// Kubernetes in the default node image of this version.
const DEFAULT_IMAGE: &str = "kindest/node:v1.36.1";
/// Docker network that kind makes for its nodes.
const NETWORK: &str = "kind";

#[derive(Parser)]
#[command(name = "kind", disable_help_subcommand = true)]
struct Kind {
    #[arg(short, long, global = true)]
    quiet: bool,
    #[arg(short, long, global = true, default_value = "0")]
    verbosity: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Create(Create),
    #[command(subcommand)]
    Delete(Delete),
    #[command(subcommand)]
    Get(Get),
    #[command(subcommand)]
    Load(Load),
    #[command(subcommand)]
    Export(Export),
    Version,
}

#[derive(Subcommand)]
enum Create {
    Cluster(CreateCluster),
}

#[derive(Args)]
struct CreateCluster {
    #[arg(short, long)]
    name: Option<String>,
    #[arg(long)]
    config: Option<String>,
    #[arg(long)]
    image: Option<String>,
    #[arg(long)]
    kubeconfig: Option<String>,
    #[arg(long)]
    wait: Option<String>,
    #[arg(long)]
    retain: bool,
}

#[derive(Subcommand)]
enum Delete {
    Cluster(Named),
    Clusters {
        names: Vec<String>,
        #[arg(short = 'A', long)]
        all: bool,
        #[arg(long)]
        kubeconfig: Option<String>,
    },
}

#[derive(Args)]
struct Named {
    #[arg(short, long)]
    name: Option<String>,
    #[arg(long)]
    kubeconfig: Option<String>,
}

#[derive(Subcommand)]
enum Get {
    Clusters,
    Kubeconfig {
        #[arg(short, long)]
        name: Option<String>,
        #[arg(long)]
        internal: bool,
    },
    Nodes {
        #[arg(short, long)]
        name: Option<String>,
        #[arg(short = 'A', long)]
        all_clusters: bool,
    },
}

#[derive(Subcommand)]
enum Load {
    DockerImage(LoadImages),
    ImageArchive(LoadImages),
}

#[derive(Args)]
struct LoadImages {
    /// Images or archives.
    what: Vec<String>,
    #[arg(short, long)]
    name: Option<String>,
}

#[derive(Subcommand)]
enum Export {
    Logs {
        folder: Option<String>,
        #[arg(short, long)]
        name: Option<String>,
    },
}

/// Runs `kind`.
pub(crate) async fn run(world: &World, call: &Call, terminal: &Terminal) -> u8 {
    let result = match parse(call, 1) {
        Ok(parsed) => execute(world, call, terminal, parsed).await,
        Err(failure) => Err(failure),
    };
    ended(result, terminal, "ERROR: ")
}

/// Runs `kind create cluster` up to where the node's container exists, and nothing of any other command.
pub(crate) async fn run_half(world: &World, call: &Call, terminal: &Terminal) {
    if let Ok(Kind {
        command: Command::Create(Create::Cluster(options)),
        ..
    }) = parse(call, 1)
    {
        // A failure ends as the hang that was asked for.
        let _ = prepare(world, call, terminal, &options).await;
    }
}

async fn execute(world: &World, call: &Call, terminal: &Terminal, parsed: Kind) -> Result<(), Failure> {
    match parsed.command {
        Command::Create(Create::Cluster(options)) => create(world, call, terminal, &options)
            .await
            .map_err(|failure| failure.within("failed to create cluster")),
        Command::Delete(Delete::Cluster(options)) => {
            let name = cluster_name(call, options.name);
            terminal.note(&format!("Deleting cluster \"{name}\" ..."));
            let deleted = delete(world, call, &name, options.kubeconfig.as_deref()).await?;
            if !deleted.is_empty() {
                terminal.note(&format!("Deleted nodes: {deleted:?}"));
            }
            Ok(())
        }
        Command::Delete(Delete::Clusters { names, all, kubeconfig }) => {
            if !all && names.is_empty() {
                return Err(Failure::new("no cluster names provided"));
            }
            let names = if all {
                world.state().clusters().into_iter().collect()
            } else {
                names
            };
            for name in &names {
                let deleted = delete(world, call, name, kubeconfig.as_deref()).await?;
                if !deleted.is_empty() {
                    terminal.note(&format!("Deleted nodes: {deleted:?}"));
                }
            }
            terminal.note(&format!("Deleted clusters: {names:?}"));
            Ok(())
        }
        Command::Get(Get::Clusters) => {
            let clusters = world.state().clusters();
            if clusters.is_empty() {
                terminal.note("No kind clusters found.");
            }
            clusters.iter().for_each(|cluster| terminal.line(cluster));
            Ok(())
        }
        Command::Get(Get::Kubeconfig { name, internal }) => {
            let name = cluster_name(call, name);
            let node = node_of(world, &name)?.ok_or_else(|| {
                Failure::new(format!("could not locate any control plane nodes for cluster named '{name}'. Use the --name option to select a different cluster"))
            })?;
            terminal.line(&kubeconfig::of(&node, internal).await?);
            Ok(())
        }
        Command::Get(Get::Nodes { name, all_clusters }) => {
            let name = cluster_name(call, name);
            let nodes: Vec<String> = {
                let state = world.state();
                let wanted = |node: &&Container| all_clusters || node.cluster == name;
                state
                    .containers
                    .values()
                    .filter(wanted)
                    .map(|node| node.name.clone())
                    .collect()
            };
            match nodes.as_slice() {
                [] if all_clusters => terminal.note("No kind nodes for any cluster."),
                [] => terminal.note(&format!("No kind nodes found for cluster \"{name}\".")),
                nodes => nodes.iter().for_each(|node| terminal.line(node)),
            }
            Ok(())
        }
        Command::Load(Load::DockerImage(options)) => load_images(world, call, terminal, options),
        Command::Load(Load::ImageArchive(options)) => load_archives(world, call, options),
        Command::Export(Export::Logs { folder, name }) => {
            let name = cluster_name(call, name);
            let node = node_of(world, &name)?.ok_or_else(|| Failure::new(format!("unknown cluster \"{name}\"")))?;
            let folder = folder.ok_or_else(|| not_modelled("`kind export logs` without a folder"))?;
            terminal.note(&format!("Exporting logs for cluster \"{name}\" to:"));
            terminal.line(&folder);
            export_logs(&call.path(&folder), &node).map_err(|error| Failure::new(format!("cannot write logs: {error}")))
        }
        Command::Version => {
            if parsed.quiet {
                terminal.line(VERSION.trim_start_matches('v'));
            } else {
                terminal.line(&format!("kind {VERSION} go1.26.2 linux/amd64"));
            }
            Ok(())
        }
    }
}

/// `--name` wins over the environment, which wins over kind's default.
fn cluster_name(call: &Call, option: Option<String>) -> String {
    option
        .or_else(|| call.variables.get("KIND_CLUSTER_NAME").cloned())
        .unwrap_or_else(|| "kind".to_owned())
}

fn node_of(world: &World, cluster: &str) -> Result<Option<Container>, Failure> {
    Ok(world
        .state()
        .containers
        .values()
        .find(|node| node.cluster == cluster)
        .cloned())
}

/// A cluster whose node is there and whose contents are not.
struct Prepared {
    node: Container,
    config: ClusterConfig,
    kubeconfig: PathBuf,
}

async fn create(world: &World, call: &Call, terminal: &Terminal, options: &CreateCluster) -> Result<(), Failure> {
    let began = Instant::now();
    let prepared = prepare(world, call, terminal, options).await?;
    let name = prepared.config.name.clone();
    let finished = finish(world, terminal, options, prepared, began).await;
    if finished.is_err() && !options.retain {
        // As kind does. The kubeconfig does not have the cluster yet.
        world.remove_container(&format!("{name}-control-plane")).await;
    }
    finished
}

/// Everything up to the node's container.
async fn prepare(
    world: &World,
    call: &Call,
    terminal: &Terminal,
    options: &CreateCluster,
) -> Result<Prepared, Failure> {
    let text = match options.config.as_deref() {
        None => String::new(),
        Some("-") => terminal.input().await,
        Some(path) => call
            .read(path)
            .map_err(|failure| failure.within("error reading file"))?,
    };
    let read = config::read(&text)?;
    let name = options
        .name
        .clone()
        .or_else(|| call.variables.get("KIND_CLUSTER_NAME").cloned())
        .or_else(|| read.name.clone())
        .unwrap_or_else(|| "kind".to_owned());
    if world.state().clusters().contains(&name) {
        return Err(Failure::new(format!(
            "node(s) already exist for a cluster with the name \"{name}\""
        )));
    }
    let kubeconfig = kubeconfig::path(call, options.kubeconfig.as_deref())?;
    let image = options
        .image
        .clone()
        .or_else(|| read.image.clone())
        .unwrap_or_else(|| DEFAULT_IMAGE.to_owned());

    terminal.note(&format!("Creating cluster \"{name}\" ..."));
    let shown = image.split('@').next().unwrap_or_default();
    step(terminal, &format!("Ensuring node image ({shown}) 🖼"));
    let network = call.variables.get("KIND_EXPERIMENTAL_DOCKER_NETWORK").cloned();
    if network.is_some() {
        terminal.note("WARNING: Overriding docker network due to KIND_EXPERIMENTAL_DOCKER_NETWORK");
        terminal.note("WARNING: Here be dragons! This is not supported currently.");
    }
    let network = network.unwrap_or_else(|| NETWORK.to_owned());
    {
        let mut state = world.state();
        if !state.networks.contains_key(&network) {
            state.add_network(&network, None, std::iter::empty().collect())?;
        }
    }
    terminal.note(" • Preparing nodes 📦   ...");
    let node = world.create_node(&name, &image, &network)?;
    terminal.note(" ✓ Preparing nodes 📦 ");
    let config = ClusterConfig {
        name,
        domain: read.domain,
        pod_cidr: read.pod_subnet,
        service_cidr: read.service_subnet,
        node_address: node.address,
        kubelet_version: kubernetes_version(&image),
        // Nobody hands out addresses on kind.
        load_balancers: None,
    };
    Ok(Prepared {
        node,
        config,
        kubeconfig,
    })
}

async fn finish(
    world: &World,
    terminal: &Terminal,
    options: &CreateCluster,
    prepared: Prepared,
    began: Instant,
) -> Result<(), Failure> {
    let Prepared {
        node,
        config,
        kubeconfig: path,
    } = prepared;
    let name = config.name.clone();
    step(terminal, "Writing configuration 📜");
    terminal.note(" • Starting control-plane 🕹️  ...");
    world.start_cluster(&node, config).await?;
    terminal.note(" ✓ Starting control-plane 🕹️");
    step(terminal, "Installing CNI 🔌");
    step(terminal, "Installing StorageClass 💾");
    if let Some(wait) = options.wait.as_deref().and_then(go_duration) {
        // The node was ready when its API server answered.
        step(terminal, &format!("Waiting ≤ {wait} for control-plane = Ready ⏳"));
        terminal.note(&format!(" • Ready after {}s 💚", began.elapsed().as_secs()));
    }
    kubeconfig::export(&path, &name, &kubeconfig::of(&node, false).await?).await?;
    terminal.note(&format!(
        "Set kubectl context to \"kind-{name}\"\nYou can now use your cluster with:\n"
    ));
    let explicit = options.kubeconfig.as_ref().map_or_else(String::new, |given| {
        let quoted = shlex::try_quote(given).map_or_else(|_| given.clone(), std::borrow::Cow::into_owned);
        format!(" --kubeconfig {quoted}")
    });
    terminal.note(&format!("kubectl cluster-info --context kind-{name}{explicit}\n"));
    terminal.note("Have a nice day! 👋");
    Ok(())
}

fn step(terminal: &Terminal, what: &str) {
    terminal.note(&format!(" • {what}  ...\n ✓ {what}"));
}

/// Kubernetes' version by the tag of a node image: `kindest/node:v1.34.9@sha256:…` has v1.34.9.
fn kubernetes_version(image: &str) -> String {
    let tag = image.split('@').next().and_then(|name| name.rsplit(':').next());
    let version = |tag: &&str| tag.starts_with("v1.") && tag.matches('.').count() == 2;
    tag.filter(version).unwrap_or("v1.36.1").to_owned()
}

/// A duration as Go prints it: `180s` is `3m0s`. `None` when it is zero or unreadable.
fn go_duration(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" => number,
        "m" | "m0s" => number * 60,
        "h" => number * 3600,
        _ => return None,
    };
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, 0) => None,
        (0, 0, _) => Some(format!("{rest}s")),
        (0, ..) => Some(format!("{minutes}m{rest}s")),
        _ => Some(format!("{hours}h{minutes}m{rest}s")),
    }
}

async fn delete(world: &World, call: &Call, name: &str, kubeconfig: Option<&str>) -> Result<Vec<String>, Failure> {
    // A kubeconfig that nobody named is none that the stand-in has written.
    if let Ok(path) = kubeconfig::path(call, kubeconfig) {
        kubeconfig::forget(&path, name)
            .await
            .map_err(|failure| failure.within(&format!("failed to delete cluster \"{name}\"")))?;
    }
    let nodes: Vec<String> = {
        let state = world.state();
        let nodes = state.containers.values().filter(|node| node.cluster == name);
        nodes.map(|node| node.name.clone()).collect()
    };
    for node in &nodes {
        world.remove_container(node).await;
    }
    Ok(nodes)
}

fn load_images(world: &World, call: &Call, terminal: &Terminal, options: LoadImages) -> Result<(), Failure> {
    if options.what.is_empty() {
        return Err(Failure::new("a list of image names is required"));
    }
    let mut images: Vec<Image> = Vec::new();
    for name in &options.what {
        let found = world.state().image(name).cloned();
        let image = found.ok_or_else(|| Failure::new(format!("image: \"{name}\" not present locally")))?;
        images.push(Image {
            name: crate::world::tagged(name),
            ..image
        });
    }
    let cluster = cluster_name(call, options.name);
    let node =
        node_of(world, &cluster)?.ok_or_else(|| Failure::new(format!("no nodes found for cluster \"{cluster}\"")))?;
    for (image, name) in images.iter().zip(&options.what) {
        let id = format!("sha256:{}", image.id);
        if node.has_image(image) {
            terminal.note(&format!(
                "Image: \"{name}\" with ID \"{id}\" found to be already present on all nodes."
            ));
            continue;
        }
        let node_name = &node.name;
        terminal.note(&format!(
            "Image: \"{name}\" with ID \"{id}\" not yet present on node \"{node_name}\", loading..."
        ));
        World::load(&node, image);
    }
    Ok(())
}

/// Archives are what the stand-in's own `docker save` writes: a list of image names.
fn load_archives(world: &World, call: &Call, options: LoadImages) -> Result<(), Failure> {
    if options.what.is_empty() {
        return Err(Failure::new("name of image archive is required"));
    }
    let cluster = cluster_name(call, options.name);
    for archive in &options.what {
        let text = call.read(archive).map_err(|failure| Failure {
            message: failure.message.replace("open ", "stat "),
            ..failure
        })?;
        let node = node_of(world, &cluster)?
            .ok_or_else(|| Failure::new(format!("no nodes found for cluster \"{cluster}\"")))?;
        let images = crate::docker::read_archive(&text).ok_or_else(|| {
            not_modelled(&format!(
                "the archive {archive}, which the stand-in's `docker save` did not write,"
            ))
        })?;
        for image in images {
            World::load(&node, &image);
        }
    }
    Ok(())
}

/// The files that kind writes, as far as stand-in nodes have anything for them.
fn export_logs(folder: &std::path::Path, node: &Container) -> std::io::Result<()> {
    let of_node = folder.join(&node.name);
    fs::create_dir_all(of_node.join("containers"))?;
    fs::write(
        folder.join("kind-version.txt"),
        format!("kind {VERSION} go1.26.2 linux/amd64\n"),
    )?;
    let images: Vec<String> = {
        let loaded = node.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded
            .iter()
            .map(|(name, id)| format!("{name}   sha256:{id}\n"))
            .collect()
    };
    for (name, text) in [
        (
            "journal.log",
            "stand-in: a node without a system keeps no journal\n".to_owned(),
        ),
        // Something that nobody may be shown.
        (
            "kubelet.log",
            "stand-in: a node without a kubelet\nAuthorization: Bearer 0000-a-token-that-nobody-has-0000\n".to_owned(),
        ),
        ("containerd.log", "stand-in: a node without containerd\n".to_owned()),
        ("images.log", images.concat()),
        ("kubernetes-version.txt", kubernetes_version(&node.image)),
        ("serial.log", String::new()),
        ("inspect.json", "[]\n".to_owned()),
        ("containers/etcd_kube-system_etcd-0.log", String::new()),
    ] {
        fs::write(of_node.join(name), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{go_duration, kubernetes_version};

    #[rstest]
    #[case("180s", Some("3m0s"))]
    #[case("45s", Some("45s"))]
    #[case("2m", Some("2m0s"))]
    #[case("1h", Some("1h0m0s"))]
    #[case("0s", None)]
    #[case("soon", None)]
    fn durations_print_as_in_go(#[case] given: &str, #[case] printed: Option<&str>) {
        assert_eq!(go_duration(given).as_deref(), printed);
    }

    #[rstest]
    #[case("kindest/node:v1.34.9@sha256:00", "v1.34.9")]
    #[case("lab/kindnode:v1.33.1", "v1.33.1")]
    #[case("localhost:5000/node", "v1.36.1")]
    fn the_tag_of_the_node_image_is_the_version(#[case] image: &str, #[case] version: &str) {
        assert_eq!(kubernetes_version(image), version);
    }
}
