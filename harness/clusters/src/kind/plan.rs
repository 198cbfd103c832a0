//! What bringing clusters up would do, for people: the same commands that are run, with words where only a running
//! cluster knows a value.

use std::fmt;

use meshproof_engine::action::Action;
use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::problem::Problem;
use meshproof_spec::topology::Topology;
use serde::Serialize;
use serde_json::json;

use super::blueprint::{Blueprint, ClusterBlueprint};
use super::caches;
use super::commands::Commands;
use super::config;
use super::options::{KindOptions, LOAD_BALANCER_CLASS};

/// An image that a run needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeededImage {
    /// The image, or the path of an archive.
    pub image: String,
    /// Who gets it, and from where.
    pub source: ImageSource,
}

/// Who gets an image, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// The local Docker engine pulls it, to make nodes.
    Node,
    /// The local Docker engine has it, and it is loaded into nodes.
    Loaded,
    /// An archive on this machine, loaded into nodes.
    Archive,
    /// The local Docker engine pulls it, to run caches of registries.
    Cache,
    /// Nodes pull it when a pod needs it.
    Pulled,
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "pulled by the Docker engine, to make nodes",
            Self::Loaded => "loaded from the Docker engine into nodes",
            Self::Archive => "loaded from a file into nodes",
            Self::Cache => "pulled by the Docker engine, to run caches of registries",
            Self::Pulled => "pulled by nodes when a pod needs it",
        })
    }
}

/// Every image that is pulled or loaded for these topologies, each once: what has to be there for a run without network.
/// `mesh` are the images of the mesh and of whatever else runs in pods. Kubernetes' own images are in the node's.
///
/// # Errors
/// As bringing them up: a topology or a configuration is wrong.
pub fn images(options: &KindOptions, topologies: &[Topology], mesh: &[String]) -> Result<Vec<NeededImage>, Problem> {
    let mut needed = Vec::new();
    let mut add = |image: String, source| {
        let one = NeededImage { image, source };
        if !needed.contains(&one) {
            needed.push(one);
        }
    };
    for topology in topologies {
        let blueprint = Blueprint::new(options, &request_of(topology))?;
        for cluster in &blueprint.clusters {
            let image = cluster.image.clone().or_else(|| config::image(&cluster.config));
            // Which one is compiled into kind, and printed when it makes a cluster.
            add(
                image.unwrap_or_else(|| "kindest/node (the one of this version of kind)".to_owned()),
                ImageSource::Node,
            );
        }
    }
    let loaded = options.loaded();
    for image in &loaded {
        add(image.clone(), ImageSource::Loaded);
    }
    for archive in &options.archives {
        add(archive.display().to_string(), ImageSource::Archive);
    }
    if !options.registry_caches.is_empty() {
        add(caches::IMAGE.to_owned(), ImageSource::Cache);
    }
    for image in mesh.iter().filter(|image| !loaded.contains(image)) {
        add(image.clone(), ImageSource::Pulled);
    }
    Ok(needed)
}

fn request_of(topology: &Topology) -> EnvironmentRequest {
    EnvironmentRequest {
        key: topology.topology.0.clone(),
        topology: topology.clone(),
        setup: meshproof_spec::scenario::Setup::default(),
        seed: 0,
    }
}

/// Everything that bringing clusters up does, in order; what is done for several clusters at once stands one after another.
pub(super) fn actions(options: &KindOptions, blueprint: &Blueprint) -> Vec<Action> {
    let commands = Commands::new(options);
    let mut actions = vec![
        Action::Section(format!("clusters of {}", blueprint.environment)),
        Action::Run(commands.version()),
        Action::Note(format!(
            "its subnets must not overlap the clusters' ranges; kind makes the network if there is none{}",
            if options.reuse {
                "; clusters that are up are taken over when nothing that they were made from has changed, and everything is removed that was not in them when they were new: webhooks first, then namespaces, definitions and the rest"
            } else {
                ""
            }
        )),
        Action::Run(commands.inspect_network()),
        Action::Note("none of the clusters may exist".to_owned()),
        Action::Run(commands.clusters()),
    ];
    actions.extend(
        blueprint
            .hazards()
            .into_iter()
            .map(|hazard| Action::Note(format!("WARNING: {hazard}"))),
    );
    for cluster in &blueprint.clusters {
        actions.push(Action::Write {
            path: cluster.config_path.display().to_string(),
            content: cluster.config.clone(),
        });
    }
    actions.push(Action::Note("at once".to_owned()));
    actions.extend(
        blueprint
            .clusters
            .iter()
            .map(|cluster| Action::Run(commands.create(cluster))),
    );
    caches_of(&commands, blueprint, &mut actions);
    for cluster in &blueprint.clusters {
        of_cluster(options, &commands, blueprint, cluster, &mut actions);
    }
    if blueprint.flat {
        routes(&commands, blueprint, &mut actions);
    }
    for cluster in &blueprint.clusters {
        actions.push(Action::Note(format!(
            "while the environment is up, for every Service of type LoadBalancer in {} without a class or with {LOAD_BALANCER_CLASS}",
            cluster.name
        )));
        actions.push(Action::Patch {
            cluster: cluster.name.clone(),
            object: "-n <namespace> service/<name>".to_owned(),
            subresource: Some("status"),
            patch: json!({"status": {"loadBalancer": {"ingress": [{"ip": address(&cluster.nodes[0])}]}}}),
        });
    }
    actions
}

fn caches_of(commands: &Commands, blueprint: &Blueprint, actions: &mut Vec<Action>) {
    for cache in &blueprint.caches {
        actions.push(Action::Note(format!(
            "a cache of {}; what it pulls stays in its volume when the clusters go",
            cache.registry
        )));
        actions.push(Action::Run(commands.create_volume(cache)));
        actions.push(Action::Run(commands.run_cache(&blueprint.environment, cache)));
        actions.push(Action::Note("until it says that it listens".to_owned()));
        actions.push(Action::Run(commands.status(&cache.container)));
        actions.push(Action::Run(commands.log(&cache.container)));
    }
}

fn of_cluster(
    options: &KindOptions,
    commands: &Commands,
    blueprint: &Blueprint,
    cluster: &ClusterBlueprint,
    actions: &mut Vec<Action>,
) {
    actions.push(Action::Run(commands.inspect_nodes(&cluster.nodes)));
    for node in &cluster.nodes {
        for (registry, url) in &blueprint.mirrors {
            let hosts = config::hosts_toml(url);
            actions.extend(commands.mirror(node, registry, hosts).map(Action::Run));
        }
    }
    let images = options.loaded();
    if !images.is_empty() {
        actions.push(Action::Run(commands.load_images(&cluster.kind_name, &images)));
    }
    for archive in &options.archives {
        actions.push(Action::Run(commands.load_archive(&cluster.kind_name, archive)));
    }
    actions.push(Action::Note(format!(
        "wait until all nodes of {} are ready",
        cluster.name
    )));
}

fn routes(commands: &Commands, blueprint: &Blueprint, actions: &mut Vec<Action>) {
    for one in &blueprint.clusters {
        for other in blueprint.clusters.iter().filter(|other| other.name != one.name) {
            for node in &one.nodes {
                for peer in &other.nodes {
                    let pods = format!("<podCIDR of {peer}>");
                    actions.push(Action::Run(commands.route(node, &pods, &address(peer))));
                }
            }
        }
    }
}

fn address(node: &str) -> String {
    format!("<address of {node}>")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use meshproof_spec::topology::Topology;

    use super::{ImageSource, NeededImage, actions, images, request_of};
    use crate::kind::KindOptions;
    use crate::kind::blueprint::Blueprint;

    fn configs() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind-configs")
    }

    fn topology(name: &str) -> Topology {
        let text = std::fs::read_to_string(configs().join(name).join("topology.yaml")).unwrap();
        serde_yaml::from_str(&text).unwrap()
    }

    fn printed(options: &KindOptions, topology: &Topology) -> String {
        let blueprint = Blueprint::new(options, &request_of(topology)).unwrap();
        actions(options, &blueprint).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn commands_of_pair() {
        insta::assert_snapshot!(printed(&KindOptions::new(configs(), "/state"), &topology("pair")));
    }

    #[test]
    fn commands_of_hub_and_spoke() {
        insta::assert_snapshot!(printed(
            &KindOptions::new(configs(), "/state"),
            &topology("hub-and-spoke")
        ));
    }

    #[test]
    fn commands_of_a_flat_pair_with_workers_images_and_a_mirror_on_a_network_of_its_own() {
        let mut options = KindOptions::new("/nowhere", "/state");
        options.network = "mesh".to_owned();
        options.node_image = Some("kindest/node:v1.34.3".to_owned());
        options.images = vec!["lab/app:v1".to_owned()];
        options.agent_image = Some("meshproof/agent".to_owned());
        options.archives = vec!["/images/mesh.tar".into()];
        options.registry_mirror = Some("http://mirror:5000".to_owned());
        let mut topology = topology("pair-flat");
        for spec in topology.clusters.values_mut() {
            spec.nodes = Some(2);
        }
        insta::assert_snapshot!(printed(&options, &topology));
    }

    #[test]
    fn commands_of_a_pair_that_pulls_through_caches() {
        let mut options = KindOptions::new("/nowhere", "/state");
        options.registry_caches = vec!["docker.io".to_owned(), "registry.example:5000".to_owned()];
        insta::assert_snapshot!(printed(&options, &topology("pair")));
    }

    #[test]
    fn taking_clusters_over_is_told_where_it_was_asked_for() {
        let mut options = KindOptions::new(configs(), "/state");
        let told = "everything is removed that was not in them when they were new";
        assert!(!printed(&options, &topology("pair")).contains(told));
        options.reuse = true;
        assert!(printed(&options, &topology("pair")).contains(told));
    }

    #[test]
    fn all_images_are_listed_once() {
        let mut options = KindOptions::new(configs(), "/state");
        options.registry_caches = vec!["docker.io".to_owned(), "quay.io".to_owned()];
        options.agent_image = Some("meshproof/agent".to_owned());
        options.images = vec!["mesh/proxy:v1".to_owned()];
        let mesh = ["mesh/proxy:v1".to_owned(), "mesh/controller:v1".to_owned()];
        let mut pair = topology("pair");
        for spec in pair.clusters.values_mut() {
            spec.node_image = Some("kindest/node:v1.34.3".to_owned());
        }
        let image = |image: &str, source| NeededImage {
            image: image.to_owned(),
            source,
        };
        assert_eq!(
            images(&options, &[pair, topology("trio")], &mesh).unwrap(),
            [
                image("kindest/node:v1.34.3", ImageSource::Node),
                image("kindest/node (the one of this version of kind)", ImageSource::Node),
                image("mesh/proxy:v1", ImageSource::Loaded),
                image("meshproof/agent", ImageSource::Loaded),
                image("registry:3", ImageSource::Cache),
                image("mesh/controller:v1", ImageSource::Pulled),
            ]
        );
    }
}
