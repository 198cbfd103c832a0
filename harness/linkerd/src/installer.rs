//! Where manifests come from.

use async_trait::async_trait;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::Problem;
use meshproof_spec::scenario::GatewayExposure;
use serde_json::Value;

use crate::trust::ClusterTrust;

/// Values of the multicluster extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MulticlusterValues {
    /// Whether the cluster gets a gateway.
    pub gateway: bool,
    /// How it is exposed.
    pub exposure: GatewayExposure,
    /// Clusters that this one has a controller for.
    pub controllers: Vec<String>,
}

/// Values of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkValues {
    /// Name of the target cluster, and of the Link.
    pub name: String,
    /// URL of the target's API server as pods of the source reach it.
    pub api_server: String,
    /// ServiceAccount of the target whose token is used.
    pub service_account: String,
}

/// Renders what the vendor's tools would print; applying it is the driver's work.
#[async_trait]
pub trait Installer: Send + Sync {
    /// Version that it installs.
    fn version(&self) -> String;

    /// CRDs, then the control plane.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem>;

    /// The multicluster extension.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn multicluster(&self, cluster: &Cluster, values: &MulticlusterValues) -> Result<Vec<Value>, Problem>;

    /// Secrets and Link, to be applied in the source. Reads the target.
    ///
    /// # Errors
    /// When the tool refuses or fails, e.g. because the gateway has no address.
    async fn link(&self, target: &Cluster, values: &LinkValues) -> Result<Vec<Value>, Problem>;

    /// What has to be deleted in `source` to remove the link to `name`, in order.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn unlink(&self, source: &Cluster, name: &str) -> Result<Vec<Value>, Problem>;

    /// What has to be deleted to remove extension and control plane, in order.
    ///
    /// # Errors
    /// Code `uninstall-refused` when the tool refuses, e.g. because links exist.
    async fn uninstall(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem>;

    /// What linking makes in the *target*: nothing, unless a mesh is badly wrong. `linked` is what
    /// [`Installer::link`] returned.
    ///
    /// # Errors
    /// When it can't be rendered.
    async fn link_side_effects(&self, linked: &[Value]) -> Result<Vec<Value>, Problem> {
        let _ = linked;
        Ok(Vec::new())
    }
}
