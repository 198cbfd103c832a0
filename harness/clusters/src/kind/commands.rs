//! The commands that are run: one place for what a plan prints and what really happens.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use meshproof_engine::tool::Invocation;

use super::blueprint::ClusterBlueprint;
use super::caches::{self, Cache};
use super::config::MIRRORS;
use super::logs;
use super::options::{CACHE_LABEL, KindOptions, LABEL, Waits};

/// Label that kind gives to the containers of a cluster.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";

/// Commands with the deadlines and the network of these options.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    waits: Waits,
    network: String,
}

impl Commands {
    pub(super) fn new(options: &KindOptions) -> Self {
        Self {
            waits: options.waits.clone(),
            network: options.network.clone(),
        }
    }

    /// The same commands for another docker network.
    pub(super) fn on_network(&self, network: &str) -> Self {
        Self {
            network: network.to_owned(),
            ..self.clone()
        }
    }

    /// The docker network.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    fn kind<'a>(&self, arguments: impl IntoIterator<Item = &'a str>, deadline: Duration) -> Invocation {
        let invocation = Invocation::new("kind", arguments, deadline);
        if self.network == "kind" {
            return invocation;
        }
        // The only way to tell kind; it has no flag.
        invocation.with_variable("KIND_EXPERIMENTAL_DOCKER_NETWORK", &self.network)
    }

    fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Invocation {
        Invocation::new("docker", arguments, self.waits.command)
    }

    pub(super) fn version(&self) -> Invocation {
        self.kind(["version"], self.waits.command)
    }

    pub(super) fn clusters(&self) -> Invocation {
        self.kind(["get", "clusters"], self.waits.command)
    }

    pub(super) fn create(&self, cluster: &ClusterBlueprint) -> Invocation {
        let config = cluster.config_path.display().to_string();
        let kubeconfig = cluster.kubeconfig_path.display().to_string();
        let wait = format!("{}s", self.waits.control_plane.as_secs());
        let mut arguments = vec!["create", "cluster", "--name", &cluster.kind_name, "--config", &config];
        if let Some(image) = &cluster.image {
            arguments.extend(["--image", image]);
        }
        // Without this kind would write into the user's own kubeconfig.
        arguments.extend(["--kubeconfig", &kubeconfig, "--wait", &wait]);
        self.kind(arguments, self.waits.create)
    }

    pub(super) fn delete(&self, kind_name: &str, kubeconfig: &Path) -> Invocation {
        let kubeconfig = kubeconfig.display().to_string();
        let arguments = ["delete", "cluster", "--name", kind_name, "--kubeconfig", &kubeconfig];
        self.kind(arguments, self.waits.command * 2)
    }

    pub(super) fn load_images(&self, kind_name: &str, images: &[String]) -> Invocation {
        let mut arguments = vec!["load", "docker-image"];
        arguments.extend(images.iter().map(String::as_str));
        arguments.extend(["--name", kind_name]);
        self.kind(arguments, self.waits.load)
    }

    pub(super) fn load_archive(&self, kind_name: &str, archive: &Path) -> Invocation {
        let archive = archive.display().to_string();
        self.kind(
            ["load", "image-archive", &archive, "--name", kind_name],
            self.waits.load,
        )
    }

    /// What nodes logged, into a folder.
    pub(super) fn export_logs(&self, kind_name: &str, folder: &Path) -> Invocation {
        let folder = folder.display().to_string();
        self.kind(["export", "logs", &folder, "--name", kind_name], logs::TIME)
    }

    pub(super) fn inspect_network(&self) -> Invocation {
        self.docker(["network", "inspect", &self.network])
    }

    pub(super) fn remove_network(&self) -> Invocation {
        self.docker(["network", "rm", &self.network])
    }

    pub(super) fn inspect_nodes(&self, nodes: &[String]) -> Invocation {
        let arguments = ["inspect", "--type", "container"];
        self.docker(arguments.into_iter().chain(nodes.iter().map(String::as_str)))
    }

    pub(super) fn containers_of(&self, kind_name: &str) -> Invocation {
        self.containers(&format!("{CLUSTER_LABEL}={kind_name}"), "{{.Names}}")
    }

    pub(super) fn labelled_containers_of(&self, environment: &str) -> Invocation {
        self.containers(&format!("{LABEL}={environment}"), "{{.Names}}")
    }

    pub(super) fn labelled_containers(&self) -> Invocation {
        self.containers(LABEL, &format!("{{{{.Label \"{LABEL}\"}}}} {{{{.Names}}}}"))
    }

    fn containers(&self, label: &str, format: &str) -> Invocation {
        let filter = format!("label={label}");
        self.docker(["ps", "--all", "--filter", &filter, "--format", format])
    }

    pub(super) fn remove_containers(&self, containers: &[String]) -> Invocation {
        let arguments = ["rm", "--force", "--volumes"];
        self.docker(arguments.into_iter().chain(containers.iter().map(String::as_str)))
    }

    /// The volume of a cache; docker leaves one that is there as it is.
    pub(super) fn create_volume(&self, cache: &Cache) -> Invocation {
        let label = format!("{CACHE_LABEL}={}", cache.registry);
        self.docker(["volume", "create", "--label", &label, &cache.volume])
    }

    /// Starts a cache; docker pulls its image when it is not there.
    pub(super) fn run_cache(&self, environment: &str, cache: &Cache) -> Invocation {
        let label = format!("{LABEL}={environment}");
        let upstream = format!("REGISTRY_PROXY_REMOTEURL={}", cache.upstream());
        let mount = format!("type=volume,source={},target=/var/lib/registry", cache.volume);
        let arguments = [
            "run",
            "--detach",
            "--name",
            &cache.container,
            "--network",
            &self.network,
            "--label",
            &label,
            "--env",
            &upstream,
            "--mount",
            &mount,
            caches::IMAGE,
        ];
        Invocation::new("docker", arguments, self.waits.load)
    }

    pub(super) fn status(&self, container: &str) -> Invocation {
        self.docker([
            "inspect",
            "--type",
            "container",
            "--format",
            "{{.State.Status}}",
            container,
        ])
    }

    pub(super) fn log(&self, container: &str) -> Invocation {
        self.docker(["logs", "--tail", "50", container])
    }

    /// Volumes of caches, with the registry of each.
    pub(super) fn cache_volumes(&self) -> Invocation {
        let filter = format!("label={CACHE_LABEL}");
        let format = format!("{{{{.Label \"{CACHE_LABEL}\"}}}} {{{{.Name}}}}");
        self.docker(["volume", "ls", "--filter", &filter, "--format", &format])
    }

    pub(super) fn remove_volumes(&self, volumes: &[String]) -> Invocation {
        self.docker(["volume", "rm"].into_iter().chain(volumes.iter().map(String::as_str)))
    }

    /// A command in a node.
    pub(super) fn exec<'a>(&self, node: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Invocation {
        self.docker(["exec", node].into_iter().chain(arguments))
    }

    /// A shell in a node, whose input stays open.
    pub(super) fn wait_in(&self, node: &str, script: &str) -> Invocation {
        self.docker(["exec", "--interactive", node, "sh", "-c", script])
    }

    pub(super) fn mirror(&self, node: &str, registry: &str, hosts: String) -> [Invocation; 2] {
        let folder = format!("{MIRRORS}/{registry}");
        let file = format!("{folder}/hosts.toml");
        [
            self.exec(node, ["mkdir", "-p", &folder]),
            self.docker(["exec", "--interactive", node, "cp", "/dev/stdin", &file])
                .with_input(&format!("hosts.toml of {registry}"), hosts),
        ]
    }

    /// Leads to a peer's pods through its node. `replace`, so that it may be there already.
    pub(super) fn route(&self, node: &str, pods: &str, via: &str) -> Invocation {
        self.exec(node, ["ip", "route", "replace", pods, "via", via])
    }

    pub(super) fn all_rules(&self, node: &str) -> Invocation {
        self.exec(node, ["iptables-save"])
    }

    pub(super) fn disciplines(&self, node: &str) -> Invocation {
        self.exec(node, ["tc", "qdisc", "show", "dev", "eth0"])
    }

    pub(super) fn add_bands(&self, node: &str) -> Invocation {
        // Everything goes to the first band unless a filter says otherwise.
        let mut arguments = vec![
            "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "prio", "bands", "16",
        ];
        arguments.push("priomap");
        arguments.extend(["0"; 16]);
        self.exec(node, arguments)
    }

    pub(super) fn remove_bands(&self, node: &str) -> Invocation {
        self.exec(node, ["tc", "qdisc", "del", "dev", "eth0", "root"])
    }

    pub(super) fn add_delay(&self, node: &str, band: u8, by: Duration) -> Invocation {
        let (parent, handle) = (format!("1:{band:x}"), handle(band));
        let delay = format!("{}us", by.as_micros());
        // The usual limit of 1000 packets would lose some at high rates.
        let netem = ["netem", "delay", &delay, "limit", "100000"];
        let place = [
            "tc", "qdisc", "add", "dev", "eth0", "parent", &parent, "handle", &handle,
        ];
        self.exec(node, place.into_iter().chain(netem))
    }

    pub(super) fn remove_delay(&self, node: &str, band: u8) -> Invocation {
        let (parent, handle) = (format!("1:{band:x}"), handle(band));
        self.exec(
            node,
            [
                "tc", "qdisc", "del", "dev", "eth0", "parent", &parent, "handle", &handle,
            ],
        )
    }

    pub(super) fn add_filter(&self, node: &str, band: u8, to: Ipv4Addr) -> Invocation {
        let (prio, to, flow) = (format!("{band}"), format!("{to}/32"), format!("1:{band:x}"));
        let place = [
            "tc", "filter", "add", "dev", "eth0", "parent", "1:", "protocol", "ip", "prio", &prio,
        ];
        let which = ["u32", "match", "ip", "dst", &to, "flowid", &flow];
        self.exec(node, place.into_iter().chain(which))
    }

    pub(super) fn remove_filters(&self, node: &str, band: u8) -> Invocation {
        let prio = format!("{band}");
        self.exec(
            node,
            [
                "tc", "filter", "del", "dev", "eth0", "parent", "1:", "protocol", "ip", "prio", &prio, "u32",
            ],
        )
    }
}

/// Handle of the delay in a band, e.g. `20:`.
pub(super) fn handle(band: u8) -> String {
    format!("{band:x}0:")
}
