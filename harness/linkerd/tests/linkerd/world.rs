//! Clusters without a mesh, tools that only print, and the files of this repository.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use meshproof_cluster::fabric::{Fabric, FabricConfig};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use meshproof_engine::environment::Cluster;
use meshproof_engine::tool::Tools;
use meshproof_spec::topology::Topology;
use serde_json::Value;

pub(crate) const PACE: f64 = 10.0;

/// Embedded clusters; they end when dropped.
pub(crate) struct World {
    pub(crate) clusters: BTreeMap<String, Cluster>,
    _embedded: Vec<EmbeddedCluster>,
}

impl World {
    pub(crate) async fn new(names: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fabric = Fabric::new(FabricConfig::new(Pace::new(PACE)));
        let programs = ProgramRegistry::standard();
        let (mut clusters, mut embedded) = (BTreeMap::new(), Vec::new());
        for (name, number) in names.iter().zip(0..) {
            let cluster = EmbeddedCluster::start(ClusterConfig::numbered(name, number), &fabric, &programs)
                .await
                .unwrap();
            clusters.insert((*name).to_owned(), engine_cluster(&cluster).await);
            embedded.push(cluster);
        }
        Self {
            clusters,
            _embedded: embedded,
        }
    }

    pub(crate) fn get(&self, name: &str) -> &Cluster {
        &self.clusters[name]
    }
}

async fn engine_cluster(cluster: &EmbeddedCluster) -> Cluster {
    let kubeconfig = cluster.api().admin_kubeconfig(None);
    let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .unwrap();
    Cluster {
        name: cluster.name().to_owned(),
        client: kube::Client::try_from(config).unwrap(),
        kubeconfig,
        api_from_peers: cluster.virtual_api_url(),
        node_address: cluster.node_address().to_string(),
        gateway_from: std::collections::BTreeMap::new(),
        domain: cluster.config().domain.clone(),
    }
}

/// Applies an object as somebody else would.
pub(crate) async fn apply(cluster: &Cluster, object: Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
    let namespace = object["metadata"]["namespace"].as_str();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    };
    let name = text(&object["metadata"]["name"]);
    api.patch(&name, &PatchParams::apply("others").force(), &Patch::Apply(object))
        .await
        .unwrap();
}

/// Shell scripts in place of tools. Each notes its arguments, and whatever else it likes, in `log`.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    paths: BTreeMap<String, PathBuf>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            paths: BTreeMap::new(),
        }
    }

    /// A tool; `$D` is the folder with the files of [`Self::file`].
    pub(crate) fn tool(mut self, name: &str, body: &str) -> Self {
        let path = self.folder.path().join(name);
        let script = format!(
            "#!/bin/sh\nD={}\necho \"{name} $*\" >> \"$D/log\"\necho 'W1121 warnings.go:107] v1 Endpoints is deprecated' >&2\n{body}\n",
            self.folder.path().display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.paths.insert(name.to_owned(), path);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.path(name), content).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tools(&self) -> Tools {
        Tools::at(self.paths.clone())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

pub(crate) fn topology(name: &str) -> Topology {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../kind-configs/{name}/topology.yaml"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A file of `tests/recorded`.
pub(crate) fn recorded(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn recorded_json(path: &str) -> Value {
    serde_json::from_str(&recorded(path)).unwrap()
}

/// A definition of a namespaced kind, as small as the API server takes it.
pub(crate) fn definition(plural: &str, kind: &str, group: &str, version: &str) -> String {
    let singular = kind.to_lowercase();
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {plural}.{group}\n  labels: {{linkerd.io/extension: multicluster}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: {plural}, singular: {singular}, kind: {kind}, listKind: {kind}List}}\n  versions:\n  - name: {version}\n    served: true\n    storage: true\n    schema:\n      openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}\n"
    )
}
