//! Connections to agents: through the API server's port-forward, so that the harness needs no route into pod networks.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use meshproof_agent::control::Client;
use meshproof_agent::protocol::CONTROL_PORT;

use crate::api::Requests;
use crate::environment::Cluster;
use crate::problem::{self, Problem};

/// Time for reaching an agent (scenario time).
const CONNECT_TIME: Duration = Duration::from_secs(60);

/// A pod that runs an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentPod {
    /// Cluster.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Workload of the scenario.
    pub workload: String,
    /// Pod.
    pub pod: String,
}

impl std::fmt::Display for AgentPod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.pod)
    }
}

/// Connects to an agent's control port. Each connection carries one thing at a time.
///
/// # Errors
/// When the API server does not forward, or nothing answers.
pub async fn connect(cluster: &Cluster, pod: &AgentPod, requests: &Requests) -> Result<Client, Problem> {
    let stream = forward(cluster, &pod.namespace, &pod.pod, CONTROL_PORT, requests).await?;
    Client::connect(Box::new(stream))
        .await
        .map_err(|error| unreachable_agent(pod, &error.to_string()))
}

/// Opens a stream to a port of a pod.
///
/// # Errors
/// When the API server does not forward.
pub async fn forward(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    port: u16,
    requests: &Requests,
) -> Result<tokio::io::DuplexStream, Problem> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let what = format!("{}: forward port {port} of Pod {namespace}/{pod}", cluster.name);
    let ports = [port];
    let mut forwarder = requests
        .send(&what, CONNECT_TIME, || pods.portforward(pod, &ports))
        .await?;
    forwarder.take_stream(port).ok_or_else(|| {
        problem::harness(
            "port-forward",
            format!("{what}: no stream"),
            Some("report this as a defect of meshproof"),
        )
    })
}

/// A problem with an agent that runs.
#[must_use]
pub fn unreachable_agent(pod: &AgentPod, message: &str) -> Problem {
    problem::environment(
        "agent-unreachable",
        format!("the agent in {pod}: {message}"),
        Some("see the pod's events and log"),
    )
}
