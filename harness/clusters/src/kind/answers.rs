//! What `kind` and `docker` answer, read strictly: anything unexpected is a problem that names the command.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use meshproof_engine::problem::Problem;
use meshproof_engine::tool::{Invocation, unreadable};
use serde::Deserialize;

/// A node of a cluster: a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of the container, and of the Kubernetes node in it.
    pub name: String,
    /// Its address on the docker network.
    pub address: Ipv4Addr,
    /// Whether it holds the control plane.
    pub control_plane: bool,
}

/// Version in the answer of `kind version`: `kind v0.31.0 go1.25.5 linux/amd64` → `v0.31.0`.
pub(super) fn kind_version(asked: &Invocation, answer: &str) -> Result<String, Problem> {
    let mut words = answer.split_whitespace();
    match (words.next(), words.next()) {
        (Some("kind"), Some(version)) if version.starts_with('v') => Ok(version.to_owned()),
        _ => Err(unreadable(
            asked,
            answer,
            "a line such as `kind v0.31.0 go1.25.5 linux/amd64`",
        )),
    }
}

/// Names, one a line: the answer of `kind get clusters` and of `docker ps --format {{.Names}}`.
pub(super) fn names(asked: &Invocation, answer: &str) -> Result<Vec<String>, Problem> {
    let fine = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    answer
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            if fine(line) {
                Ok(line.to_owned())
            } else {
                Err(unreadable(asked, line, "one name a line"))
            }
        })
        .collect()
}

/// Pairs `<environment> <container>`, one a line.
pub(super) fn labelled(asked: &Invocation, answer: &str) -> Result<Vec<(String, String)>, Problem> {
    answer
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [environment, container] => Ok((environment.to_owned(), container.to_owned())),
            _ => Err(unreadable(asked, line, "an environment and a container")),
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(rename = "IPAM")]
    ipam: Ipam,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    #[serde(default)]
    config: Option<Vec<IpamConfig>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    #[serde(default)]
    subnet: String,
}

/// IPv4 subnets in the answer of `docker network inspect`.
pub(super) fn subnets(asked: &Invocation, answer: &str) -> Result<Vec<Ipv4Net>, Problem> {
    let wrong = || unreadable(asked, answer, "JSON with one network and its IPAM.Config");
    let networks: Vec<Network> = serde_json::from_str(answer).map_err(|_| wrong())?;
    let [network] = networks.as_slice() else {
        return Err(wrong());
    };
    network
        .ipam
        .config
        .iter()
        .flatten()
        // Networks of kind have an IPv6 subnet, too; clusters don't.
        .filter(|config| !config.subnet.contains(':'))
        .map(|config| config.subnet.parse().map_err(|_| wrong()))
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    name: String,
    state: State,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "IPAddress", default)]
    ip_address: String,
}

/// Nodes in the answer of `docker inspect`, in the order in which they were asked for.
///
/// # Errors
/// `tool-output` when it can't be read, `node-not-running` when one does not run or has no address on the network.
pub(super) fn nodes(asked: &Invocation, answer: &str, names: &[String], network: &str) -> Result<Vec<Node>, Problem> {
    let containers: Vec<Container> =
        serde_json::from_str(answer).map_err(|_| unreadable(asked, answer, "JSON with a container for each node"))?;
    names
        .iter()
        .map(|name| {
            let container = containers
                .iter()
                .find(|container| container.name.trim_start_matches('/') == name)
                .ok_or_else(|| unreadable(asked, answer, &format!("JSON with the container {name}")))?;
            let status = container.state.status.as_str();
            if status != "running" {
                return Err(not_running(name, &format!("is {status}")));
            }
            let address = container
                .network_settings
                .networks
                .get(network)
                .and_then(|endpoint| endpoint.ip_address.parse().ok())
                .ok_or_else(|| not_running(name, &format!("has no IPv4 address on the docker network `{network}`")))?;
            let role = container.config.labels.get("io.x-k8s.kind.role").map(String::as_str);
            Ok(Node {
                name: name.clone(),
                address,
                control_plane: role == Some("control-plane"),
            })
        })
        .collect()
}

fn not_running(node: &str, what: &str) -> Problem {
    meshproof_engine::problem::environment(
        "node-not-running",
        format!("the node {node} {what}"),
        Some(&format!(
            "see why: `docker logs {node}`; then bring the clusters up again"
        )),
    )
}

/// Lines of `iptables-save`, `iptables -S` or `tc qdisc show` that a fault left behind.
pub(super) fn traces_of_faults(answer: &str) -> Vec<String> {
    answer
        .lines()
        .filter(|line| {
            line.contains("--comment meshproof-")
                || line.contains("--comment \"meshproof-")
                || line.contains("qdisc netem")
        })
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Whether a rule with this comment is in the answer of `iptables -S`.
pub(super) fn has_rule(answer: &str, tag: &str) -> bool {
    answer
        .lines()
        .any(|line| line.split_whitespace().any(|word| word.trim_matches('"') == tag))
}

/// Whether a netem discipline with this handle, e.g. `20:`, is in the answer of `tc qdisc show`.
pub(super) fn has_netem(answer: &str, handle: &str) -> bool {
    answer.lines().any(|line| {
        line.split_whitespace()
            .collect::<Vec<_>>()
            .starts_with(&["qdisc", "netem", handle])
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshproof_engine::tool::Invocation;
    use proptest::prelude::*;

    use super::{Node, has_netem, has_rule, kind_version, labelled, names, nodes, subnets, traces_of_faults};

    /// As recorded with two clusters of kind on the network.
    const NETWORK: &str = include_str!("../../tests/recorded/kind/docker-network-kind.json");
    /// The fields that are read, in the shape that the Docker Engine API documents; written by hand.
    const NODES: &str = include_str!("answers/docker-inspect-nodes.json");

    fn asked() -> Invocation {
        Invocation::new("docker", ["x"], Duration::from_secs(1))
    }

    #[test]
    fn versions() {
        assert_eq!(
            kind_version(&asked(), "kind v0.31.0 go1.25.5 linux/amd64\n").unwrap(),
            "v0.31.0"
        );
        assert_eq!(
            kind_version(&asked(), "kind v0.33.0-alpha.12+0123456789abcd go1.26.0 linux/amd64").unwrap(),
            "v0.33.0-alpha.12+0123456789abcd"
        );
        for garbage in ["", "0.31.0", "docker v1", "kind"] {
            assert_eq!(
                kind_version(&asked(), garbage).unwrap_err().code,
                "tool-output",
                "{garbage}"
            );
        }
    }

    #[test]
    fn lists_of_names() {
        assert_eq!(names(&asked(), "east\nwest\n").unwrap(), ["east", "west"]);
        assert!(names(&asked(), "").unwrap().is_empty());
        assert_eq!(names(&asked(), "<html> no </html>").unwrap_err().code, "tool-output");
        assert_eq!(
            labelled(&asked(), "meshproof-pair relay-1\n").unwrap(),
            [("meshproof-pair".to_owned(), "relay-1".to_owned())]
        );
        assert_eq!(labelled(&asked(), "only-one").unwrap_err().code, "tool-output");
    }

    #[test]
    fn only_ipv4_subnets_of_a_recorded_network_count() {
        let subnets: Vec<String> = subnets(&asked(), NETWORK)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(subnets, ["172.18.0.0/16"]);
    }

    #[test]
    fn garbage_instead_of_a_network_is_told() {
        for garbage in ["", "[]", "{}", "[{\"IPAM\": {\"Config\": [{\"Subnet\": \"ten\"}]}}]"] {
            assert_eq!(subnets(&asked(), garbage).unwrap_err().code, "tool-output", "{garbage}");
        }
        assert!(
            subnets(&asked(), "[{\"IPAM\": {\"Config\": null}}]")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn nodes_have_names_addresses_and_roles() {
        let wanted = ["east-worker".to_owned(), "east-control-plane".to_owned()];
        assert_eq!(
            nodes(&asked(), NODES, &wanted, "kind").unwrap(),
            [
                Node {
                    name: "east-worker".to_owned(),
                    address: [172, 18, 0, 4].into(),
                    control_plane: false
                },
                Node {
                    name: "east-control-plane".to_owned(),
                    address: [172, 18, 0, 3].into(),
                    control_plane: true
                },
            ]
        );
    }

    #[test]
    fn nodes_that_are_of_no_use_are_told() {
        let wanted = ["east-control-plane".to_owned()];
        let stopped = NODES.replace("\"running\"", "\"exited\"");
        let problem = nodes(&asked(), &stopped, &wanted, "kind").unwrap_err();
        assert_eq!(problem.code, "node-not-running");
        assert!(problem.message.contains("is exited"), "{}", problem.message);
        assert_eq!(
            nodes(&asked(), NODES, &wanted, "other").unwrap_err().code,
            "node-not-running"
        );
        assert_eq!(nodes(&asked(), "[]", &wanted, "kind").unwrap_err().code, "tool-output");
        assert_eq!(
            nodes(&asked(), "oops", &wanted, "kind").unwrap_err().code,
            "tool-output"
        );
    }

    #[test]
    fn faults_are_recognised() {
        let rules =
            "-P PREROUTING ACCEPT\n-A PREROUTING -s 172.18.0.3/32 -m comment --comment meshproof-partition-1 -j DROP\n";
        assert!(has_rule(rules, "meshproof-partition-1"));
        assert!(has_rule(
            &rules.replace("meshproof-partition-1", "\"meshproof-partition-1\""),
            "meshproof-partition-1"
        ));
        assert!(!has_rule(rules, "meshproof-partition-11"));
        assert_eq!(traces_of_faults(rules).len(), 1);
        let queues =
            "qdisc prio 1: root refcnt 3 bands 16 priomap 0 0\nqdisc netem 20: parent 1:2 limit 100000 delay 150ms\n";
        assert!(has_netem(queues, "20:"));
        assert!(!has_netem(queues, "30:"));
        assert_eq!(traces_of_faults(queues).len(), 1);
        assert!(traces_of_faults("qdisc noqueue 0: root refcnt 2\n-P INPUT ACCEPT").is_empty());
    }

    proptest! {
        #[test]
        fn nothing_that_a_tool_prints_can_panic(text in "\\PC{0,200}") {
            let _ = kind_version(&asked(), &text);
            let _ = names(&asked(), &text);
            let _ = labelled(&asked(), &text);
            let _ = subnets(&asked(), &text);
            let _ = nodes(&asked(), &text, &["a".to_owned()], "kind");
            let _ = (has_rule(&text, "a"), has_netem(&text, "20:"), traces_of_faults(&text));
        }
    }
}
