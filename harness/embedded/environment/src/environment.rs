//! Bringing a topology's clusters up in process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::try_join_all;
use meshproof_cluster::fabric::{Cidr, Fabric, FabricConfig};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::{Cluster, Environment, EnvironmentRequest, RunningEnvironment};
use meshproof_engine::problem::{self, Problem};
use meshproof_kubeconfig::Proxies;
use meshproof_linkerd::driver::Linkerd;
use meshproof_mesh::defect::Defects;
use meshproof_mesh::model::{Model, ModelConfig};
use meshproof_spec::topology::ClusterSpec;

use crate::installer::ModelInstaller;
use crate::running::Running;

/// In-process clusters with the model mesh.
pub struct Embedded {
    pace: Pace,
    defects: Defects,
    models: Mutex<BTreeMap<String, Model>>,
}

impl Embedded {
    /// An environment that runs `pace` times as fast as a real one, whose mesh has `defects`.
    #[must_use]
    pub fn new(pace: f64, defects: Defects) -> Self {
        Self {
            pace: Pace::new(pace),
            defects,
            models: Mutex::default(),
        }
    }

    /// Defects of the mesh.
    #[must_use]
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// The driver for the clusters of a request.
    #[must_use]
    pub fn driver(&self, request: &EnvironmentRequest) -> Arc<dyn MeshDriver> {
        let model = self.model(request);
        let next = ModelInstaller::next(model.clone());
        let driver = Linkerd::new(Arc::new(ModelInstaller::new(model)), self.pace.factor());
        Arc::new(driver.upgradable(Arc::new(next)))
    }

    /// The model of the clusters of a request. The clusters and their driver ask once each: whoever comes first makes it,
    /// the other one takes it over, and this keeps nothing.
    fn model(&self, request: &EnvironmentRequest) -> Model {
        let mut waiting = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&request.key).unwrap_or_else(|| {
            let config = ModelConfig {
                defects: self.defects.clone(),
                pace: Some(self.pace),
                seed: request.seed,
            };
            let model = Model::new(config);
            waiting.insert(request.key.clone(), model.clone());
            model
        })
    }
}

#[async_trait]
impl Environment for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn is_model(&self) -> bool {
        true
    }

    fn certifies(&self) -> bool {
        false
    }

    fn pace(&self) -> f64 {
        self.pace.factor()
    }

    fn capabilities(&self) -> BTreeSet<String> {
        [
            "delay",
            "disposable",
            "disruptive",
            "load-balancer",
            "node-port",
            "partition",
            "pause-api",
            "relay",
            "reset",
            "separate-trust",
        ]
        .map(ToOwned::to_owned)
        .into()
    }

    /// Two and a half testbeds for each core: scenarios that have one to themselves wait half of their time, and each costs
    /// some 30 MB of memory.
    fn at_once(&self) -> Option<usize> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Some(cores * 5 / 2)
    }

    async fn up(&self, request: &EnvironmentRequest) -> Result<Arc<dyn RunningEnvironment>, Problem> {
        let model = self.model(request);
        let fabric = Fabric::new(FabricConfig::new(self.pace));
        let registry = ProgramRegistry::standard();
        model.register(&registry);

        let mut configs = Vec::new();
        for (index, (name, spec)) in request.topology.clusters.iter().enumerate() {
            configs.push(cluster_config(&name.0, spec, index)?);
        }
        let starting = configs
            .into_iter()
            .map(|config| EmbeddedCluster::start(config, &fabric, &registry));
        let embedded = try_join_all(starting).await.map_err(|error| {
            problem::environment(
                "cluster-not-started",
                error.to_string(),
                Some("check that loopback sockets can be opened"),
            )
        })?;

        let mut clusters = Vec::new();
        for cluster in &embedded {
            model.attach(cluster);
            clusters.push(engine_cluster(cluster).await?);
        }
        Ok(Arc::new(Running::new(fabric, embedded, clusters)))
    }
}

fn cluster_config(name: &str, spec: &ClusterSpec, index: usize) -> Result<ClusterConfig, Problem> {
    let cidr = |text: &str| {
        text.parse::<Cidr>().map_err(|error| {
            problem::environment(
                "cidr-malformed",
                format!("cluster {name}: `{text}`: {error}"),
                Some("write e.g. 10.10.0.0/16"),
            )
        })
    };
    // The number gives the node's address, outside of all pod and service networks as on kind.
    let number = u8::try_from(index).ok().filter(|number| *number < 100).ok_or_else(|| {
        problem::environment(
            "too-many-clusters",
            format!("cluster {name}: an environment has at most 100 clusters"),
            None,
        )
    })?;
    let usual = ClusterConfig::numbered(name, number);
    Ok(ClusterConfig {
        pod_cidr: cidr(&spec.pod_cidr)?,
        service_cidr: cidr(&spec.service_cidr)?,
        domain: spec.domain.clone().unwrap_or_else(|| usual.domain.clone()),
        ..usual
    })
}

async fn engine_cluster(cluster: &EmbeddedCluster) -> Result<Cluster, Problem> {
    let failed = |error: String| {
        problem::harness(
            "kubeconfig-unusable",
            format!("cluster {}: its own kubeconfig: {error}", cluster.name()),
            None,
        )
    };
    let kubeconfig = cluster.api().admin_kubeconfig(None);
    let parsed = kube::config::Kubeconfig::from_yaml(&kubeconfig).map_err(|error| failed(error.to_string()))?;
    // It is on loopback, wherever the host's proxies lead.
    let config =
        meshproof_kubeconfig::config(&parsed, None, &Proxies::none()).map_err(|error| failed(error.to_string()))?;
    let client = meshproof_kubeconfig::client(config)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Cluster {
        name: cluster.name().to_owned(),
        client,
        kubeconfig,
        api_from_peers: cluster.virtual_api_url(),
        node_address: cluster.node_address().to_string(),
        gateway_from: BTreeMap::new(),
        domain: cluster.config().domain.clone(),
    })
}
