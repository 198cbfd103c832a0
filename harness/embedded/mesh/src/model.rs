//! The model of one environment: which defects are on, how fast time runs, and what each attached cluster has.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use meshproof_apiserver::{Store, gvr};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::program::Program;
use meshproof_cluster::{EmbeddedCluster, ProgramRegistry};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::defect::{Defect, Defects};
use crate::destination::{DestinationProgram, Destinations};
use crate::identity::{Authority, IdentityProgram};
use crate::injector::{Injector, InjectorProgram};
use crate::mirror::{ServiceMirror, StaleContent};
use crate::proxy::ProxyProgram;
use crate::waiting::Waiting;

/// Names of the images whose programs make up the model, as manifests refer to them.
pub mod image {
    /// The sidecar.
    pub const PROXY: &str = "model.linkerd/proxy";
    /// The service mirror and the local service mirror.
    pub const CONTROLLER: &str = "model.linkerd/controller";
    /// The identity service of the control plane.
    pub const IDENTITY: &str = "model.linkerd/identity";
    /// The destination and policy services of the control plane.
    pub const DESTINATION: &str = "model.linkerd/destination";
    /// The proxy injector of the control plane.
    pub const PROXY_INJECTOR: &str = "model.linkerd/proxy-injector";
    /// A container that only waits; the gateway's application.
    pub const PAUSE: &str = "model.linkerd/pause";
}

/// How a model starts.
#[derive(Clone, Debug, Default)]
pub struct ModelConfig {
    /// Defects that are on from the start; none in the clean model.
    pub defects: Defects,
    /// Pace of the environment; all timers of the model follow it.
    pub pace: Option<Pace>,
    /// Seed of every random draw of the model.
    pub seed: u64,
}

/// The model of one environment. Cheap to clone; all clones are the same model.
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
}

struct Shared {
    defects: watch::Sender<Arc<Defects>>,
    pace: Pace,
    seed: u64,
    clusters: RwLock<BTreeMap<String, Arc<ClusterModel>>>,
    stale_content: StaleContent,
}

/// What the model has of one cluster.
pub struct ClusterModel {
    /// Name of the cluster in the topology, e.g. `west`.
    pub name: String,
    /// The cluster's objects.
    pub store: Store,
    /// Its identity service.
    pub authority: Authority,
    /// Its discovery and policy service.
    pub destinations: Destinations,
    /// Its proxy injector.
    pub injector: Injector,
}

impl Model {
    /// A model without clusters.
    #[must_use]
    pub fn new(config: ModelConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                defects: watch::Sender::new(Arc::new(config.defects)),
                pace: config.pace.unwrap_or(Pace::NORMAL),
                seed: config.seed,
                clusters: RwLock::default(),
                stale_content: StaleContent::default(),
            }),
        }
    }

    /// Whether `defect` is on right now.
    #[must_use]
    pub fn has(&self, defect: Defect) -> bool {
        self.shared.defects.borrow().has(defect)
    }

    /// All defects that are on right now.
    #[must_use]
    pub fn defects(&self) -> Arc<Defects> {
        self.shared.defects.borrow().clone()
    }

    /// Replaces the set of defects; running programs notice at their next decision.
    pub fn set_defects(&self, defects: Defects) {
        self.shared.defects.send_replace(Arc::new(defects));
    }

    /// Tells of every later change of the set of defects.
    #[must_use]
    pub fn watch_defects(&self) -> watch::Receiver<Arc<Defects>> {
        self.shared.defects.subscribe()
    }

    /// Pace of the environment.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.shared.pace
    }

    /// A random generator for `purpose`: the same model seed and purpose give the same draws, and two purposes never
    /// share a sequence.
    #[must_use]
    pub fn rng(&self, purpose: &str) -> StdRng {
        // FNV-1a: a stable hash, because the standard library's may change between releases.
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        StdRng::seed_from_u64(self.shared.seed ^ hash)
    }

    /// The programs of the model by image name, for the registry of the environment.
    #[must_use]
    pub fn programs(&self) -> Vec<(&'static str, Arc<dyn Program>)> {
        vec![
            (
                image::CONTROLLER,
                Arc::new(ServiceMirror::new(self.clone())) as Arc<dyn Program>,
            ),
            (image::IDENTITY, Arc::new(IdentityProgram::new(self.clone()))),
            (image::DESTINATION, Arc::new(DestinationProgram::new(self.clone()))),
            (image::PROXY, Arc::new(ProxyProgram::new(self.clone()))),
            (image::PROXY_INJECTOR, Arc::new(InjectorProgram::new(self.clone()))),
            (image::PAUSE, Arc::new(Waiting)),
        ]
    }

    /// Makes the model's images known.
    pub fn register(&self, registry: &ProgramRegistry) {
        for (image, program) in self.programs() {
            registry.register(image, program);
        }
    }

    /// Takes a running cluster in: its pods are injected from now on, once a control plane is installed there.
    pub fn attach(&self, cluster: &EmbeddedCluster) -> Arc<ClusterModel> {
        self.add_cluster(cluster.name(), cluster.store())
    }

    /// Takes the cluster in whose objects are in `store`; its programs find it by `name`.
    pub fn add_cluster(&self, name: &str, store: Store) -> Arc<ClusterModel> {
        let injector = Injector::default();
        store.add_mutator(gvr::PODS, Arc::new(injector.clone()));
        let cluster = Arc::new(ClusterModel {
            name: name.to_owned(),
            store,
            authority: Authority::new(),
            destinations: Destinations::new(),
            injector,
        });
        let mut clusters = self.shared.clusters.write().unwrap_or_else(PoisonError::into_inner);
        clusters.insert(name.to_owned(), cluster.clone());
        cluster
    }

    /// The memory of the defects that bring old content of mirrors back.
    pub(crate) fn stale_content(&self) -> &StaleContent {
        &self.shared.stale_content
    }

    /// What the model has of the cluster `name`, once it is attached.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<Arc<ClusterModel>> {
        self.shared
            .clusters
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Model, ModelConfig};
    use crate::defect::Defect;
    use rand::Rng;

    #[test]
    fn defects_switch_for_all_clones() {
        let model = Model::new(ModelConfig::default());
        let clone = model.clone();
        assert!(!clone.has(Defect::ExportsIgnored));
        model.set_defects([Defect::ExportsIgnored].into_iter().collect());
        assert!(clone.has(Defect::ExportsIgnored));
        assert!(!clone.has(Defect::WeightsIgnored));
    }

    #[test]
    fn draws_depend_on_seed_and_purpose_alone() {
        let draw = |seed, purpose: &str| {
            let config = ModelConfig {
                seed,
                ..ModelConfig::default()
            };
            Model::new(config).rng(purpose).random::<u64>()
        };
        assert_eq!(draw(1, "west/probe"), draw(1, "west/probe"));
        assert_ne!(draw(1, "west/probe"), draw(2, "west/probe"));
        assert_ne!(draw(1, "west/probe"), draw(1, "east/probe"));
    }
}
