//! A cluster's kind configuration: the plain file that also works by hand, with our name in it, or one made from the
//! topology where there is no file. A file that disagrees with the topology is refused, because scenarios would look for
//! addresses that are not there.

use std::io::ErrorKind;
use std::path::Path;

use meshproof_engine::plain_file;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scalar::Name;
use meshproof_spec::topology::ClusterSpec;
use serde_yaml::{Mapping, Value};

/// DNS domain of clusters that name none.
pub(super) const USUAL_DOMAIN: &str = "cluster.local";

/// Most bytes of a configuration.
const LARGEST: u64 = 1 << 20;

/// Where containerd looks for `<registry>/hosts.toml`. Node images since kind 0.27 do by themselves; older ones need it said.
pub(super) const MIRRORS: &str = "/etc/containerd/certs.d";

/// A configuration that is ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    /// The YAML.
    pub(super) text: String,
    /// Nodes beside the control plane's.
    pub(super) workers: usize,
    /// What in it reaches beyond the cluster, for people.
    pub(super) hazards: Vec<String>,
}

/// The configuration of a cluster.
///
/// # Errors
/// `kind-config` with file and field.
pub(super) fn configuration(
    source: &Path,
    kind_name: &str,
    name: &Name,
    spec: &ClusterSpec,
    mirrored: bool,
) -> Result<Configuration, Problem> {
    let mut config = match plain_file::read_text(source, LARGEST) {
        Ok(text) => parsed(source, &text, spec)?,
        Err(error) if error.kind() == ErrorKind::NotFound => generated(spec),
        Err(error) => return Err(wrong(source, &format!("can't be read: {error}"))),
    };
    let workers = workers(source, name, &config, spec)?;
    config.insert("name".into(), kind_name.into());
    if let Some(domain) = spec.domain.as_deref().filter(|domain| *domain != USUAL_DOMAIN) {
        let patch = format!("kind: ClusterConfiguration\nnetworking:\n  dnsDomain: {domain}\n");
        append(source, &mut config, "kubeadmConfigPatches", patch)?;
    }
    if mirrored {
        let patch = format!("[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{MIRRORS}\"\n");
        append(source, &mut config, "containerdConfigPatches", patch)?;
    }
    let text = serde_yaml::to_string(&config).map_err(|error| wrong(source, &error.to_string()))?;
    let hazards = hazards(source, &config);
    Ok(Configuration { text, workers, hazards })
}

/// What a node reads to pull images through `url`.
pub(super) fn hosts_toml(url: &str) -> String {
    format!("[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
}

/// Image that a configuration names for its nodes.
pub(super) fn image(text: &str) -> Option<String> {
    let config: Value = serde_yaml::from_str(text).ok()?;
    Some(config.get("nodes")?.get(0)?.get("image")?.as_str()?.to_owned())
}

fn parsed(source: &Path, text: &str, spec: &ClusterSpec) -> Result<Mapping, Problem> {
    let config: Mapping =
        serde_yaml::from_str(text).map_err(|error| wrong(source, &format!("is not YAML: {error}")))?;
    let header = (
        config.get("kind").and_then(Value::as_str),
        config.get("apiVersion").and_then(Value::as_str),
    );
    if header != (Some("Cluster"), Some("kind.x-k8s.io/v1alpha4")) {
        return Err(wrong(
            source,
            "has not `kind: Cluster` and `apiVersion: kind.x-k8s.io/v1alpha4`",
        ));
    }
    for (field, expected) in [("podSubnet", &spec.pod_cidr), ("serviceSubnet", &spec.service_cidr)] {
        let found = config
            .get("networking")
            .and_then(|networking| networking.get(field))
            .and_then(Value::as_str);
        if found != Some(expected) {
            let found = found.map_or_else(|| "is missing".to_owned(), |found| format!("is `{found}`"));
            return Err(wrong(
                source,
                &format!("networking.{field} {found}, but topology.yaml says `{expected}`"),
            ));
        }
    }
    Ok(config)
}

/// Mounts of this machine's folders, an API server that is open to the network, images that are not kind's.
fn hazards(source: &Path, config: &Mapping) -> Vec<String> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
    let list = |value: &Value, field: &str| {
        value
            .get(field)
            .and_then(Value::as_sequence)
            .cloned()
            .unwrap_or_default()
    };
    let mut found = Vec::new();
    let nodes = config
        .get("nodes")
        .and_then(Value::as_sequence)
        .cloned()
        .unwrap_or_default();
    for node in &nodes {
        for mount in list(node, "extraMounts") {
            let path = text(&mount, "hostPath").unwrap_or_default();
            found.push(format!("mounts `{path}` of this machine into a node"));
        }
        for port in list(node, "extraPortMappings") {
            let address = text(&port, "listenAddress").unwrap_or_else(|| "0.0.0.0".to_owned());
            if !is_loopback(&address) {
                found.push(format!("opens a port of a node on {address}"));
            }
        }
        if let Some(image) = text(node, "image").filter(|image| !is_of_kind(image)) {
            found.push(format!("makes a node from the image `{image}`, which is not kind's"));
        }
    }
    let networking = config.get("networking").cloned().unwrap_or_default();
    if let Some(address) = text(&networking, "apiServerAddress").filter(|address| !is_loopback(address)) {
        found.push(format!("opens the API server on {address}"));
    }
    found
        .into_iter()
        .map(|what| format!("{}: {what}", source.display()))
        .collect()
}

fn is_loopback(address: &str) -> bool {
    address
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

fn is_of_kind(image: &str) -> bool {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    image.starts_with("kindest/node:") || image.starts_with("kindest/node@")
}

fn generated(spec: &ClusterSpec) -> Mapping {
    let node = |role: &str| Value::Mapping([("role".into(), role.into())].into_iter().collect());
    let workers = spec.nodes.unwrap_or(1).saturating_sub(1);
    let mut nodes = vec![node("control-plane")];
    nodes.extend((0..workers).map(|_| node("worker")));
    let networking: Mapping = [
        ("podSubnet".into(), spec.pod_cidr.as_str().into()),
        ("serviceSubnet".into(), spec.service_cidr.as_str().into()),
    ]
    .into_iter()
    .collect();
    [
        ("kind".into(), "Cluster".into()),
        ("apiVersion".into(), "kind.x-k8s.io/v1alpha4".into()),
        ("networking".into(), Value::Mapping(networking)),
        ("nodes".into(), Value::Sequence(nodes)),
    ]
    .into_iter()
    .collect()
}

fn workers(source: &Path, name: &Name, config: &Mapping, spec: &ClusterSpec) -> Result<usize, Problem> {
    let role = |node: &Value| {
        node.get("role")
            .and_then(Value::as_str)
            .unwrap_or("control-plane")
            .to_owned()
    };
    let roles: Vec<String> = match config.get("nodes") {
        None => vec!["control-plane".to_owned()],
        Some(Value::Sequence(nodes)) => nodes.iter().map(role).collect(),
        Some(_) => return Err(wrong(source, "nodes is not a list")),
    };
    let control_planes = roles.iter().filter(|role| *role == "control-plane").count();
    if control_planes != 1 {
        return Err(wrong(
            source,
            &format!("has {control_planes} control-plane nodes; one is supported, because faults are injected at it"),
        ));
    }
    if let Some(expected) = spec.nodes.map(usize::from).filter(|expected| *expected != roles.len()) {
        return Err(wrong(
            source,
            &format!(
                "has {} nodes, but topology.yaml says that {name} has {expected}",
                roles.len()
            ),
        ));
    }
    Ok(roles.len() - 1)
}

fn append(source: &Path, config: &mut Mapping, field: &str, patch: String) -> Result<(), Problem> {
    let list = config
        .entry(field.into())
        .or_insert_with(|| Value::Sequence(Vec::new()));
    let Value::Sequence(list) = list else {
        return Err(wrong(source, &format!("{field} is not a list")));
    };
    list.push(Value::String(patch));
    Ok(())
}

fn wrong(source: &Path, what: &str) -> Problem {
    problem::environment(
        "kind-config",
        format!("{}: {what}", source.display()),
        Some("correct the file, or remove it: then one is made from topology.yaml"),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use meshproof_spec::scalar::Name;
    use meshproof_spec::topology::ClusterSpec;
    use rstest::rstest;
    use serde_json::json;

    use super::{configuration, hosts_toml, image};

    fn spec(nodes: u8) -> ClusterSpec {
        serde_json::from_value(json!({
            "pod_cidr": "10.10.0.0/16", "service_cidr": "10.110.0.0/16", "domain": "west.test", "nodes": nodes,
        }))
        .unwrap()
    }

    fn of_file(content: &str) -> Result<super::Configuration, meshproof_engine::problem::Problem> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("west.yaml");
        std::fs::write(&path, content).unwrap();
        configuration(&path, "meshproof-pair-west", &Name("west".to_owned()), &spec(1), true)
    }

    #[test]
    fn one_is_made_where_there_is_no_file() {
        let made = configuration(
            Path::new("/nowhere/west.yaml"),
            "meshproof-pair-west",
            &Name("west".to_owned()),
            &spec(2),
            true,
        )
        .unwrap();
        assert_eq!(made.workers, 1);
        insta::assert_snapshot!(made.text);
    }

    #[test]
    fn a_file_keeps_what_it_says_but_its_name() {
        let made = of_file(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nname: west\nnetworking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.110.0.0/16}\nfeatureGates: {Some: true}\nnodes: [{role: control-plane, image: \"kindest/node:v1.34.3\"}]\n",
        )
        .unwrap();
        assert_eq!(image(&made.text).as_deref(), Some("kindest/node:v1.34.3"));
        insta::assert_snapshot!(made.text);
    }

    #[rstest]
    #[case("kind: [", "is not YAML")]
    #[case("kind: Pod\napiVersion: v1\n", "kind: Cluster")]
    #[case("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n", "podSubnet is missing")]
    #[case(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.1.0.0/16}\n",
        "serviceSubnet is `10.1.0.0/16`, but"
    )]
    #[case(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.110.0.0/16}\nnodes: [{role: worker}]\n",
        "has 0 control-plane nodes"
    )]
    #[case(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.110.0.0/16}\nnodes: [{role: control-plane}, {role: worker}]\n",
        "has 2 nodes, but"
    )]
    fn files_that_can_not_be_right_are_refused(#[case] content: &str, #[case] told: &str) {
        let problem = of_file(content).unwrap_err();
        assert_eq!(problem.code, "kind-config");
        assert!(problem.message.contains(told), "{}", problem.message);
    }

    #[test]
    fn what_reaches_beyond_the_cluster_is_told() {
        let made = of_file(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.110.0.0/16, apiServerAddress: 0.0.0.0}\nnodes: [{role: control-plane, image: \"evil.example/node:1\", extraMounts: [{hostPath: /, containerPath: /host}], extraPortMappings: [{containerPort: 80}, {containerPort: 81, listenAddress: 127.0.0.1}]}]\n",
        )
        .unwrap();
        let told = made.hazards.join("\n");
        for what in [
            "mounts `/`",
            "API server on 0.0.0.0",
            "evil.example/node:1",
            "a port of a node on 0.0.0.0",
        ] {
            assert!(told.contains(what), "`{what}` is not in\n{told}");
        }
        assert_eq!(made.hazards.len(), 4);
        let plain = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.110.0.0/16, apiServerAddress: 127.0.0.1}\nnodes: [{role: control-plane, image: \"kindest/node:v1.34.3\"}]\n";
        assert!(of_file(plain).unwrap().hazards.is_empty());
    }

    #[test]
    fn devices_and_huge_files_are_refused_unread() {
        let read = |path: &Path| {
            let refused = configuration(path, "meshproof-pair-west", &Name("west".to_owned()), &spec(1), false);
            refused.unwrap_err().message
        };
        assert!(read(Path::new("/dev/zero")).contains("no plain file"));
        let folder = tempfile::tempdir().unwrap();
        let huge = folder.path().join("west.yaml");
        std::fs::File::create(&huge)
            .unwrap()
            .set_len(super::LARGEST + 1)
            .unwrap();
        assert!(read(&huge).contains("larger than"));
    }

    #[test]
    fn a_mirror_is_told_to_containerd() {
        insta::assert_snapshot!(hosts_toml("http://mirror:5000"), @r#"
        [host."http://mirror:5000"]
          capabilities = ["pull", "resolve"]
        "#);
    }
}
