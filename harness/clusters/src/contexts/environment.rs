//! Looking whether the clusters are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meshproof_engine::environment::{Cluster, Environment, EnvironmentRequest, NetworkFault, RunningEnvironment, Tap};
use meshproof_engine::problem::{self, Problem};

use super::options::{ContextRef, ContextsOptions};

/// Domain of a cluster unless its topology says otherwise.
const DOMAIN: &str = "cluster.local";

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

    /// Reaches a cluster and asks it for its version. Changes nothing.
    pub(crate) async fn reach(&self, name: &str, domain: Option<&str>) -> Result<Cluster, Problem> {
        let context = self.context(name)?;
        let (kubeconfig, server) = one_context(name, context)?;
        let client = client(name, context, kubeconfig.clone()).await?;
        let version = client
            .apiserver_version()
            .await
            .map_err(|error| unreachable(name, context, &error))?;
        tracing::info!(cluster = name, version = version.git_version, "reached");
        let node_address = match self.options.node_addresses.get(name) {
            Some(address) => address.clone(),
            None => node_address(&client).await.unwrap_or_default(),
        };
        let text = serde_yaml::to_string(&kubeconfig)
            .map_err(|error| unusable(name, context, &format!("it can't be written: {error}")))?;
        Ok(Cluster {
            name: name.to_owned(),
            client,
            kubeconfig: text,
            api_from_peers: self.options.apis.get(name).cloned().unwrap_or(server),
            node_address,
            gateway_from: BTreeMap::new(),
            domain: domain.unwrap_or(DOMAIN).to_owned(),
        })
    }
}

#[async_trait]
impl Environment for Contexts {
    fn kind(&self) -> &'static str {
        "contexts"
    }

    /// Clusters at another pace are embedded ones.
    fn certifies(&self) -> bool {
        (self.options.pace - 1.0).abs() < f64::EPSILON
    }

    fn pace(&self) -> f64 {
        self.options.pace
    }

    fn capabilities(&self) -> BTreeSet<String> {
        let disruptive = self.options.disruptive.then(|| "disruptive".to_owned());
        disruptive.into_iter().chain(["load-balancer".to_owned()]).collect()
    }

    /// Whatever the topology, the clusters are the same ones.
    fn at_once(&self) -> Option<usize> {
        Some(1)
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
        for name in request.topology.clusters.keys() {
            one_context(&name.0, self.context(&name.0)?)?;
        }
        let clusters = request.topology.clusters.iter();
        let clusters = try_join_all(clusters.map(|(name, spec)| self.reach(&name.0, spec.domain.as_deref()))).await?;
        Ok(Arc::new(Found { clusters }))
    }
}

/// A kubeconfig with the one context only, and the URL of its server.
fn one_context(name: &str, context: &ContextRef) -> Result<(Kubeconfig, String), Problem> {
    let read = match &context.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let mut kubeconfig = read.map_err(|error| unusable(name, context, &error.to_string()))?;
    let known: Vec<String> = kubeconfig.contexts.iter().map(|known| known.name.clone()).collect();
    kubeconfig.contexts.retain(|known| known.name == context.context);
    let Some(found) = kubeconfig.contexts.first().and_then(|found| found.context.clone()) else {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Err(unusable(
            name,
            context,
            &format!("it has no such context; it has {known}"),
        ));
    };
    kubeconfig.clusters.retain(|cluster| cluster.name == found.cluster);
    kubeconfig
        .auth_infos
        .retain(|user| Some(&user.name) == found.user.as_ref());
    kubeconfig.current_context = Some(context.context.clone());
    let server = kubeconfig
        .clusters
        .first()
        .and_then(|cluster| cluster.cluster.as_ref()?.server.clone())
        .ok_or_else(|| unusable(name, context, &format!("its cluster `{}` has no server", found.cluster)))?;
    Ok((kubeconfig, server))
}

async fn client(name: &str, context: &ContextRef, kubeconfig: Kubeconfig) -> Result<Client, Problem> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(name, context, &error.to_string()))?;
    config.connect_timeout = Some(Duration::from_secs(15));
    Client::try_from(config).map_err(|error| unusable(name, context, &error.to_string()))
}

/// The address of the first node that has one: an external one where there is one.
async fn node_address(client: &Client) -> Option<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    // Without the right to see nodes only scenarios that need their addresses don't work.
    let nodes = nodes.list(&ListParams::default()).await.ok()?;
    let of_type = |kind: &str| {
        let addresses = nodes
            .items
            .iter()
            .filter_map(|node| node.status.as_ref()?.addresses.as_ref());
        let mut addresses = addresses.flatten();
        addresses
            .find(|address| address.type_ == kind)
            .map(|address| address.address.clone())
    };
    of_type("ExternalIP").or_else(|| of_type("InternalIP"))
}

fn place(name: &str, context: &ContextRef) -> String {
    let file = context
        .kubeconfig
        .as_ref()
        .map_or_else(|| "the usual kubeconfig".to_owned(), |path| path.display().to_string());
    format!("cluster {name}: context `{}` of {file}", context.context)
}

fn unusable(name: &str, context: &ContextRef, what: &str) -> Problem {
    problem::environment(
        "context-unusable",
        format!("{}: {what}", place(name, context)),
        Some("see `kubectl config get-contexts`"),
    )
}

fn unreachable(name: &str, context: &ContextRef, error: &kube::Error) -> Problem {
    let (code, remedy) = match error {
        kube::Error::Api(status) if status.code == 401 => {
            ("context-unauthorized", "renew the credentials of the context")
        }
        kube::Error::Api(status) if status.code == 403 => (
            "context-forbidden",
            "bind the rights that `meshproof plan --on contexts --rbac` prints",
        ),
        _ => (
            "context-unreachable",
            "check the server's address and certificate with `kubectl --context … version`",
        ),
    };
    // The cause of a failed connection is further down.
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    problem::environment(code, format!("{}: {text}", place(name, context)), Some(remedy))
}

/// Clusters that were found.
struct Found {
    clusters: Vec<Cluster>,
}

fn cannot(what: &str) -> Problem {
    problem::harness(
        "capability-missing",
        format!("{what} is not possible on clusters that others made"),
        None,
    )
}

#[async_trait]
impl RunningEnvironment for Found {
    fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    async fn partition(&self, _one: &str, _other: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        Err(cannot("a partition"))
    }

    async fn delay(&self, _from: &str, _to: &str, _by: Duration) -> Result<Box<dyn NetworkFault>, Problem> {
        Err(cannot("a delay"))
    }

    async fn reset(&self, _one: &str, _other: &str) -> Result<(), Problem> {
        Err(cannot("resetting connections"))
    }

    async fn pause_api(&self, _cluster: &str) -> Result<Box<dyn NetworkFault>, Problem> {
        Err(cannot("pausing an API server"))
    }

    async fn tap(&self, _from: &str, _to: &str) -> Result<Box<dyn Tap>, Problem> {
        Err(cannot("reading the traffic between clusters"))
    }

    async fn down(&self) -> Result<(), Problem> {
        Ok(())
    }
}
