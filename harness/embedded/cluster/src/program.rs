//! What runs inside a pod: programs instead of container images.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_agent::network::BoxedStream;
pub use meshproof_agent::network::Network;
use meshproof_apiserver::ExecOutput;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::intercept::Interceptor;
use crate::pace::Pace;

/// A container image, as code. Registered under an image name without tag; the kubelet runs it for each container.
#[async_trait]
pub trait Program: Send + Sync {
    /// Runs until `container.shutdown` is cancelled (then: drain, return [`Exit::Done`]) or until it fails.
    /// The kubelet restarts it with Kubernetes' back-off when the pod's restart policy says so.
    async fn run(&self, container: ContainerContext) -> Exit;

    /// Runs a command of the image beside the program, in its container, as `kubectl exec` does. Most images have none.
    async fn exec(
        &self,
        container: &ContainerContext,
        command: &[String],
        output: mpsc::Sender<ExecOutput>,
    ) -> ExecEnd {
        let _ = (container, command, output);
        ExecEnd::NoSuchCommand
    }
}

/// What became of a command that was run beside a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// It ended with this code.
    Exited(i32),
    /// The image has no such command.
    NoSuchCommand,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to stop, or finished its work: exit code 0.
    Done,
    /// It failed: exit code 1, with the last words for the container's status.
    Failed(String),
}

/// Everything a running container has.
#[derive(Clone)]
pub struct ContainerContext {
    /// Name of the cluster, e.g. `west`.
    pub cluster: String,
    /// The pod as it was when the container started (metadata, spec, status with its address).
    pub pod: Arc<Value>,
    /// Name of the container in the pod.
    pub container: String,
    /// `args` of the container.
    pub args: Vec<String>,
    /// `env` of the container, field references resolved (`metadata.name`, `metadata.namespace`, `status.podIP`,
    /// `spec.serviceAccountName`, `metadata.annotations['…']`, `metadata.labels['…']`).
    pub env: BTreeMap<String, String>,
    /// The pod's network as the application sees it: through the sidecar if the pod has one.
    pub network: Arc<dyn Network>,
    /// What only a sidecar may do.
    pub sidecar: Arc<dyn SidecarAccess>,
    /// Takes one line of the container's log (`kubectl logs`).
    pub log: LogSink,
    /// Cancelled when the pod is being deleted or the environment goes down.
    pub shutdown: CancellationToken,
    /// Call it once the container is started in the sense of a startup probe; a sidecar's followers wait for it.
    pub started: CancellationToken,
    /// Pace of the environment.
    pub pace: Pace,
    /// A kubeconfig for the pod's own ServiceAccount on its own cluster; its server is the cluster's *virtual* node
    /// address (port 6443), to be reached through `sidecar.connect_unmeshed`.
    pub kubeconfig: String,
}

/// Takes log lines.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// A pod's network beneath its sidecar.
#[async_trait]
pub trait SidecarAccess: Send + Sync {
    /// From now on all connections of the pod go through `interceptor`, except those to and from the ports that the
    /// pod's annotations exempt (the interceptor decides that itself).
    fn intercept(&self, interceptor: Arc<dyn Interceptor>);

    /// The pod's connections go directly again.
    fn release(&self);

    /// Opens a connection to a virtual address as the pod, past the interceptor. ClusterIP and node addresses are
    /// translated as kube-proxy would.
    ///
    /// # Errors
    /// As sockets do: refused, timed out, reset, unreachable.
    async fn connect_unmeshed(&self, address: std::net::SocketAddr) -> std::io::Result<BoxedStream>;

    /// Opens a connection to a port of the application in this very pod.
    ///
    /// # Errors
    /// `ConnectionRefused` when nothing listens there.
    async fn connect_application(&self, port: u16, peer: std::net::SocketAddr) -> std::io::Result<BoxedStream>;

    /// Resolves a DNS name as the pod would (search list, `ndots:5`).
    ///
    /// # Errors
    /// `NotFound` when the name does not exist.
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<std::net::IpAddr>>;

    /// The pod's own virtual address.
    fn address(&self) -> std::net::IpAddr;
}
