//! A folder with tools that stand in for `kind` and `docker`, and clusters that really answer.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshproof_cluster::fabric::{Fabric, FabricConfig};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::tool::Tools;
use meshproof_spec::scenario::Setup;
use meshproof_spec::topology::Topology;
use serde_json::json;

use crate::kind::{Kind, KindOptions};

/// What every wait of a test ends by.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// The folder.
pub(super) struct Lab {
    folder: tempfile::TempDir,
    embedded: Vec<EmbeddedCluster>,
}

impl Lab {
    /// Tools without clusters that answer: enough for everything up to the first request to an API server.
    pub(super) fn without_servers() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path();
        for (name, script) in [("kind", include_str!("kind.sh")), ("docker", include_str!("docker.sh"))] {
            let path = bin.join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for inner in ["clusters", "kubeconfigs", "addresses"] {
            fs::create_dir_all(bin.join("state").join(inner)).unwrap();
        }
        let network = include_str!("../../../tests/recorded/kind/docker-network-kind.json");
        fs::write(bin.join("state/network.json"), network).unwrap();
        fs::write(bin.join("state/network.json.made"), network).unwrap();
        Self {
            folder,
            embedded: Vec::new(),
        }
    }

    /// Tools, with an API server behind each cluster that they make.
    pub(super) async fn start() -> Self {
        let mut lab = Self::without_servers();
        let fabric = Fabric::new(FabricConfig::new(Pace::new(10.0)));
        let programs = ProgramRegistry::standard();
        for (number, cluster) in ["meshproof-pair-east", "meshproof-pair-west"].into_iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            let config = ClusterConfig {
                pod_cidr: format!("10.{}.0.0/16", 10 + number).parse().unwrap(),
                service_cidr: format!("10.{}.0.0/16", 130 + number).parse().unwrap(),
                // On the network that docker gives to kind.
                node_address: [172, 18, 0, 2 + number].into(),
                load_balancers: None,
                ..ClusterConfig::numbered(cluster, number)
            };
            let node = config.node_name();
            let server = EmbeddedCluster::start(config, &fabric, &programs).await.unwrap();
            lab.write(&format!("kubeconfigs/{cluster}"), &server.api().admin_kubeconfig(None));
            lab.write(&format!("addresses/{node}"), &server.node_address().to_string());
            lab.embedded.push(server);
        }
        lab
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Folder of the harness' own state.
    pub(super) fn state(&self) -> PathBuf {
        self.path().join("own")
    }

    /// Writes a file that the tools look at.
    pub(super) fn write(&self, file: &str, content: &str) {
        fs::write(self.path().join("state").join(file), content).unwrap();
    }

    pub(super) fn remove(&self, file: &str) {
        fs::remove_file(self.path().join("state").join(file)).unwrap();
    }

    pub(super) fn exists(&self, file: &str) -> bool {
        self.path().join("state").join(file).exists()
    }

    /// Clusters that exist.
    pub(super) fn clusters(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path().join("state/clusters"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Commands that were run.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path().join("state/log")).unwrap_or_default()
    }

    /// Commands that were run and have this in them.
    pub(super) fn ran(&self, what: &str) -> usize {
        self.log().lines().filter(|line| line.contains(what)).count()
    }

    /// Everything that is in the folder of state.
    pub(super) fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state()).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    pub(super) fn tools(&self) -> Tools {
        let paths = ["kind", "docker"].map(|tool| (tool.to_owned(), self.path().join(tool)));
        Tools::at(BTreeMap::from(paths))
    }

    pub(super) fn options(&self) -> KindOptions {
        let mut options = KindOptions::new(self.path().join("configs"), self.state());
        options.waits.nodes = SOON;
        options.waits.resume = SOON;
        options
    }

    pub(super) fn kind(&self, options: KindOptions) -> Kind {
        Kind::new(options, self.tools())
    }
}

/// West and east, whose pods reach each other.
pub(super) fn pair() -> EnvironmentRequest {
    let topology: Topology = serde_json::from_value(json!({
        "topology": "pair",
        "summary": "A test.",
        "clusters": {
            "west": {"pod_cidr": "10.11.0.0/16", "service_cidr": "10.131.0.0/16"},
            "east": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.130.0.0/16"},
        },
        "links": [{"from": "west", "to": "east"}],
    }))
    .unwrap();
    EnvironmentRequest {
        key: "pair".to_owned(),
        topology,
        setup: Setup::default(),
        seed: 1,
    }
}

/// Waits until something is so.
pub(super) async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}
