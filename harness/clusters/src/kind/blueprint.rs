//! What exactly will be made: names, files and their contents. Pure but for reading the kind configurations; everything
//! that can be wrong with a request is found here, before anything is created.

use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scalar::Name;
use meshproof_spec::topology::{ClusterSpec, Network};
use sha2::{Digest, Sha256};

use super::caches::Cache;
use super::config;
use super::names;
use super::options::KindOptions;

/// Version of what [`Blueprint::digest`] covers: clusters of an older format are not taken over.
const FORMAT: &str = "meshproof kind environment 1";

/// Clusters to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blueprint {
    /// Name of the environment, `<prefix>-<key>`: that of its folder, and the value of [`super::LABEL`].
    pub(super) environment: String,
    /// Folder of its record, configurations and kubeconfigs.
    pub(super) folder: PathBuf,
    /// Docker network.
    pub(super) network: String,
    /// Whether pods of different clusters reach each other.
    pub(super) flat: bool,
    /// The clusters, in the topology's order.
    pub(super) clusters: Vec<ClusterBlueprint>,
    /// Caches of registries.
    pub(super) caches: Vec<Cache>,
    /// What nodes pull through: a registry as containerd names it, and the URL that stands for it.
    pub(super) mirrors: Vec<(String, String)>,
    /// SHA-256 (hex) of everything that clusters are made from.
    pub(super) digest: String,
}

/// A cluster to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClusterBlueprint {
    /// Name in the topology.
    pub(super) name: String,
    /// Name in kind.
    pub(super) kind_name: String,
    /// The kind configuration, with our name in it.
    pub(super) config: String,
    /// What that asks for beyond the cluster, for people.
    pub(super) hazards: Vec<String>,
    /// Where it is written.
    pub(super) config_path: PathBuf,
    /// Where kind writes the kubeconfig.
    pub(super) kubeconfig_path: PathBuf,
    /// Image of the nodes, when it is not kind's usual one or the configuration's.
    pub(super) image: Option<String>,
    /// Names of the nodes; the first has the control plane.
    pub(super) nodes: Vec<String>,
    /// Addresses of pods and of Services.
    pub(super) ranges: [(&'static str, Ipv4Net); 2],
    /// DNS domain.
    pub(super) domain: String,
}

impl Blueprint {
    /// Reads the configurations and settles everything that is known before a cluster exists.
    ///
    /// # Errors
    /// `topology-invalid`, `cidr-overlap`, `kind-config`, `registry-malformed`.
    pub(super) fn new(options: &KindOptions, request: &EnvironmentRequest) -> Result<Self, Problem> {
        valid_name("the prefix", &options.prefix)?;
        let topology = &request.topology;
        if topology.clusters.is_empty() {
            return Err(invalid(format!("the topology {} has no clusters", topology.topology)));
        }
        let environment = names::environment(&options.prefix, &request.key);
        let folder = options.state.join(&environment);
        let mut clusters = Vec::new();
        for (name, spec) in &topology.clusters {
            valid_name("a cluster", &name.0)?;
            let source = options.configs.join(&topology.topology.0).join(format!("{name}.yaml"));
            clusters.push(cluster(options, &environment, &folder, &source, name, spec)?);
        }
        let cache = |registry: &String| Cache::new(&options.prefix, &environment, registry);
        let caches: Vec<Cache> = options.registry_caches.iter().map(cache).collect::<Result<_, _>>()?;
        let mirrored = options.registry_mirror.iter().flat_map(|url| {
            let registries = options.mirrored_registries.iter();
            registries.map(move |registry| (registry.clone(), url.clone()))
        });
        let cached = caches.iter().map(|cache| (cache.registry.clone(), cache.url()));
        let mirrors = mirrored.chain(cached).collect();
        let mut blueprint = Self {
            environment,
            folder,
            network: options.network.clone(),
            flat: topology.network == Network::Flat,
            clusters,
            caches,
            mirrors,
            digest: String::new(),
        };
        blueprint.check_disjoint(&[])?;
        blueprint.digest = blueprint.compute_digest();
        Ok(blueprint)
    }

    /// What the configurations ask for beyond the clusters, for people.
    pub(super) fn hazards(&self) -> Vec<String> {
        let clusters = self.clusters.iter();
        clusters.flat_map(|cluster| cluster.hazards.clone()).collect()
    }

    /// Checks that no two ranges of addresses overlap, those of the docker network (`subnets`) among them.
    ///
    /// # Errors
    /// `cidr-overlap` with both ranges.
    pub(super) fn check_disjoint(&self, subnets: &[Ipv4Net]) -> Result<(), Problem> {
        let mut known: Vec<(String, Ipv4Net)> = subnets
            .iter()
            .map(|subnet| (format!("the docker network `{}`", self.network), *subnet))
            .collect();
        for cluster in &self.clusters {
            for (what, range) in cluster.ranges {
                let what = format!("the {what} of cluster {}", cluster.name);
                if let Some((other, with)) = known
                    .iter()
                    .find(|(_, other)| other.contains(&range) || range.contains(other))
                {
                    return Err(problem::environment(
                        "cidr-overlap",
                        format!("{what} ({range}) overlaps {other} ({with}): an address would not tell where it leads"),
                        Some(
                            "change the range in topology.yaml and in the cluster's kind configuration, or use another docker network",
                        ),
                    ));
                }
                known.push((what, range));
            }
        }
        Ok(())
    }

    fn compute_digest(&self) -> String {
        let mut digest = Sha256::new();
        let mut add = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        };
        add(FORMAT);
        add(&self.environment);
        add(&self.network);
        add(if self.flat { "flat" } else { "gateway-only" });
        for (registry, url) in &self.mirrors {
            add(registry);
            add(url);
        }
        for cluster in &self.clusters {
            add(&cluster.kind_name);
            add(&cluster.config);
            add(cluster.image.as_deref().unwrap_or_default());
        }
        names::hex(&digest.finalize())
    }

    /// Names of the clusters in kind.
    pub(super) fn kind_names(&self) -> Vec<String> {
        self.clusters.iter().map(|cluster| cluster.kind_name.clone()).collect()
    }
}

fn cluster(
    options: &KindOptions,
    environment: &str,
    folder: &Path,
    source: &Path,
    name: &Name,
    spec: &ClusterSpec,
) -> Result<ClusterBlueprint, Problem> {
    let range = |field: &str, text: &str| {
        text.parse::<Ipv4Net>().map_err(|_| {
            invalid(format!(
                "cluster {name}: {field} is `{text}`, where a range such as 10.10.0.0/16 was expected"
            ))
        })
    };
    let kind_name = names::cluster(environment, &name.0);
    let mirrored = options.registry_mirror.is_some() || !options.registry_caches.is_empty();
    let config = config::configuration(source, &kind_name, name, spec, mirrored)?;
    Ok(ClusterBlueprint {
        name: name.0.clone(),
        nodes: names::nodes(&kind_name, config.workers),
        config: config.text,
        hazards: config.hazards,
        config_path: folder.join(format!("{name}.yaml")),
        kubeconfig_path: folder.join(format!("{name}.kubeconfig")),
        image: options.node_image.clone().or_else(|| spec.node_image.clone()),
        ranges: [
            ("pod_cidr", range("pod_cidr", &spec.pod_cidr)?),
            ("service_cidr", range("service_cidr", &spec.service_cidr)?),
        ],
        domain: spec.domain.clone().unwrap_or_else(|| config::USUAL_DOMAIN.to_owned()),
        kind_name,
    })
}

/// A DNS label (RFC 1123) that begins with a letter.
fn valid_name(what: &str, name: &str) -> Result<(), Problem> {
    match Name(name.to_owned()).fault() {
        None => Ok(()),
        Some(fault) => Err(invalid(format!("`{name}` can't be the name of {what}: {fault}"))),
    }
}

fn invalid(message: String) -> Problem {
    problem::environment("topology-invalid", message, Some("see `meshproof lint`"))
}

#[cfg(test)]
mod tests {
    use meshproof_engine::environment::EnvironmentRequest;
    use meshproof_spec::scenario::Setup;
    use meshproof_spec::topology::Topology;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::Blueprint;
    use crate::kind::KindOptions;

    fn blueprint(clusters: Value) -> Result<Blueprint, meshproof_engine::problem::Problem> {
        let topology: Topology = serde_json::from_value(json!({
            "topology": "test", "summary": "A test.", "links": [], "clusters": clusters,
        }))
        .unwrap();
        let request = EnvironmentRequest {
            key: "test".to_owned(),
            topology,
            setup: Setup::default(),
            seed: 1,
        };
        Blueprint::new(&KindOptions::new("/nowhere", "/state"), &request)
    }

    #[test]
    fn disjoint_ranges_are_fine() {
        let fine = blueprint(json!({
            "west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.110.0.0/16"},
            "east": {"pod_cidr": "10.20.0.0/16", "service_cidr": "10.120.0.0/16", "nodes": 2},
        }))
        .unwrap();
        assert_eq!(fine.kind_names(), ["meshproof-test-east", "meshproof-test-west"]);
        assert_eq!(fine.clusters[0].nodes.len(), 2);
        fine.check_disjoint(&["172.18.0.0/16".parse().unwrap()]).unwrap();
        let problem = fine.check_disjoint(&["10.0.0.0/8".parse().unwrap()]).unwrap_err();
        assert_eq!(problem.code, "cidr-overlap");
        assert!(problem.message.contains("docker network `kind`"), "{}", problem.message);
    }

    #[rstest]
    #[case(json!({}), "topology-invalid")]
    #[case(json!({"West": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.110.0.0/16"}}), "topology-invalid")]
    #[case(json!({"west": {"pod_cidr": "10.10.0.0", "service_cidr": "10.110.0.0/16"}}), "topology-invalid")]
    #[case(json!({"west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.10.128.0/20"}}), "cidr-overlap")]
    #[case(json!({
        "west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.110.0.0/16"},
        "east": {"pod_cidr": "10.110.0.0/16", "service_cidr": "10.120.0.0/16"},
    }), "cidr-overlap")]
    fn mistakes_are_found_before_anything_is_made(#[case] clusters: Value, #[case] code: &str) {
        assert_eq!(blueprint(clusters).unwrap_err().code, code);
    }

    #[test]
    fn the_digest_covers_what_clusters_are_made_from() {
        let one = |nodes: u8| {
            blueprint(json!({"west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.110.0.0/16", "nodes": nodes}}))
                .unwrap()
                .digest
        };
        assert_eq!(one(1), one(1));
        assert_ne!(one(1), one(2));
    }
}
