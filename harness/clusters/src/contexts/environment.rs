//! Looking whether the clusters are there, and whether they are what they are taken for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use meshproof_engine::action::Action;
use meshproof_engine::environment::{Cluster, Environment, EnvironmentRequest, RunningEnvironment};
use meshproof_engine::problem::{self, Problem};

use super::connect::{self, Connected};
use super::options::{ContextRef, ContextsOptions};
use super::running::Running;

/// What the version of an embedded cluster's API server has in it.
const EMBEDDED: &str = "meshproof.embedded";

/// Clusters that exist already.
pub struct Contexts {
    options: ContextsOptions,
}

impl Contexts {
    /// The clusters of these contexts.
    #[must_use]
    pub fn new(options: ContextsOptions) -> Self {
        Self { options }
    }

    /// How a cluster of the topology is reached.
    fn context(&self, name: &str) -> Result<&ContextRef, Problem> {
        self.options.contexts.get(name).ok_or_else(|| {
            problem::environment(
                "context-missing",
                format!("the topology has a cluster `{name}`, and no context is given for it"),
                Some(&format!("add --context {name}=CONTEXT[@KUBECONFIG]")),
            )
        })
    }

    /// Reaches a cluster, and asks it for what it is and what the credentials may do. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with the context, the way or the credentials.
    pub(crate) async fn reach(&self, name: &str) -> Result<Cluster, Problem> {
        let context = self.context(name)?;
        let loaded = connect::load(name, context)?;
        let connected = connect::connect(name, None, context, loaded, &self.options).await?;
        Ok(connected.cluster)
    }
}

#[async_trait]
impl Environment for Contexts {
    fn kind(&self) -> &'static str {
        "contexts"
    }

    /// Clusters at another pace are embedded ones; those at this pace are told by their version when they come up.
    fn is_model(&self) -> bool {
        self.options.model
    }

    fn certifies(&self) -> bool {
        !self.options.model && (self.options.pace - 1.0).abs() < f64::EPSILON
    }

    fn pace(&self) -> f64 {
        self.options.pace
    }

    fn capabilities(&self) -> BTreeSet<String> {
        let disruptive = self.options.disruptive.then(|| "disruptive".to_owned());
        disruptive.into_iter().chain(["load-balancer".to_owned()]).collect()
    }

    fn cluster_names(&self) -> Option<BTreeSet<String>> {
        Some(self.options.contexts.keys().cloned().collect())
    }

    /// Whatever the topology, the clusters are the same ones.
    fn at_once(&self) -> Option<usize> {
        Some(1)
    }

    fn commands(&self, request: &EnvironmentRequest) -> Vec<Action> {
        let mut actions = vec![Action::Section(format!("clusters of {}", request.key))];
        for name in request.topology.clusters.keys() {
            let context = self.options.contexts.get(&name.0);
            let context = context.map_or("<no context is given>", |given| given.context.as_str());
            actions.push(Action::Note(format!(
                "{name} is the context `{context}`; it is looked at, and nothing is made"
            )));
        }
        actions
    }

    async fn up(&self, request: &EnvironmentRequest) -> Result<Arc<dyn RunningEnvironment>, Problem> {
        if !self.options.preinstalled && !self.options.disruptive {
            return Err(problem::environment(
                "consent-missing",
                "installing a mesh changes clusters that others may rely on",
                Some("consent with --disruptive, or take the mesh as it is: --mesh-from preinstalled"),
            ));
        }
        // What can be told without asking a cluster comes first.
        let mut found = Vec::new();
        for (name, spec) in &request.topology.clusters {
            let context = self.context(&name.0)?;
            found.push((name, spec.domain.as_deref(), context, connect::load(&name.0, context)?));
        }
        let connecting = found
            .into_iter()
            .map(|(name, domain, context, loaded)| connect::connect(&name.0, domain, context, loaded, &self.options));
        let connected: Vec<Connected> = try_join_all(connecting).await?;
        distinct(&connected)?;
        if self.certifies() {
            real(&connected)?;
        }
        if self.options.agent_image.is_none() {
            have_the_agent(&connected)?;
        }
        let clusters = connected.into_iter().map(|one| one.cluster).collect();
        Ok(Arc::new(Running::new(clusters)))
    }
}

/// Two names for one cluster would make every check of two clusters meaningless.
fn distinct(connected: &[Connected]) -> Result<(), Problem> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for one in connected {
        if let Some(other) = seen.insert(&one.uid, &one.cluster.name) {
            return Err(problem::environment(
                "same-cluster-twice",
                format!(
                    "{other} and {} are one and the same cluster (uid of its namespace kube-system: {})",
                    one.cluster.name, one.uid
                ),
                Some("name contexts of different clusters"),
            ));
        }
    }
    Ok(())
}

/// A run on a model's clusters certifies nothing, and must not say that it does.
fn real(connected: &[Connected]) -> Result<(), Problem> {
    match connected.iter().find(|one| one.version.contains(EMBEDDED)) {
        None => Ok(()),
        Some(model) => Err(problem::environment(
            "model-at-full-pace",
            format!(
                "{} is an embedded cluster ({}), which certifies nothing",
                model.cluster.name, model.version
            ),
            Some("say the pace at which it is served, e.g. `--pace 10`: then the report tells it from a real one"),
        )),
    }
}

/// Real clusters pull the agent's image from somewhere, and no name is a safe guess: somebody else may own it.
fn have_the_agent(connected: &[Connected]) -> Result<(), Problem> {
    match connected.iter().find(|one| !one.version.contains(EMBEDDED)) {
        None => Ok(()),
        Some(real) => Err(problem::environment(
            "agent-image-missing",
            format!(
                "{} is to pull the traffic agent's image, and none is given",
                real.cluster.name
            ),
            Some(
                "push the image that harness/agent/Dockerfile makes to a registry of yours, and name it with --agent-image",
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use meshproof_engine::environment::{Environment, EnvironmentRequest};
    use meshproof_spec::scenario::Setup;
    use serde_json::json;

    use super::{Contexts, ContextsOptions};

    fn request() -> EnvironmentRequest {
        EnvironmentRequest {
            key: "pair".to_owned(),
            topology: serde_json::from_value(json!({
                "topology": "pair", "summary": "Two.", "links": [],
                "clusters": {
                    "west": {"pod_cidr": "10.1.0.0/16", "service_cidr": "10.101.0.0/16"},
                    "east": {"pod_cidr": "10.2.0.0/16", "service_cidr": "10.102.0.0/16"},
                },
            }))
            .unwrap(),
            setup: Setup::default(),
            seed: 1,
        }
    }

    fn west() -> ContextsOptions {
        ContextsOptions::parse(&["west=west".to_owned()], &[], &[]).unwrap()
    }

    #[test]
    fn consent_is_what_makes_it_disruptive_and_nothing_makes_its_clusters_disposable() {
        let with = Contexts::new(ContextsOptions {
            disruptive: true,
            ..west()
        });
        let offered = |environment: &Contexts| environment.capabilities().into_iter().collect::<Vec<_>>();
        assert_eq!(offered(&Contexts::new(west())), ["load-balancer"]);
        assert_eq!(offered(&with), ["disruptive", "load-balancer"]);
    }

    #[tokio::test]
    async fn what_is_not_given_is_named_before_anything_is_asked() {
        let managed = ContextsOptions {
            preinstalled: false,
            ..west()
        };
        let problem = Contexts::new(managed).up(&request()).await.err().unwrap();
        assert_eq!(problem.code, "consent-missing");
        let problem = Contexts::new(west()).up(&request()).await.err().unwrap();
        assert_eq!(problem.code, "context-missing");
        assert!(problem.message.contains("`east`"), "{}", problem.message);
    }

    #[test]
    fn another_pace_than_that_of_real_clusters_certifies_nothing() {
        let faster = ContextsOptions { pace: 10.0, ..west() };
        assert!(Contexts::new(west()).certifies());
        assert!(!Contexts::new(faster).certifies());
    }
}
