//! Where manifests come from.

use std::collections::BTreeSet;

use async_trait::async_trait;
use meshproof_engine::action::Action;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scenario::{GatewayExposure, Setup, TrustStep};
use meshproof_spec::topology::Topology;
use serde_json::Value;

use crate::manifests;
use crate::names;
use crate::readiness::check::CheckResult;
use crate::trust::ClusterTrust;
use crate::version::ObjectModel;

/// Who installs, and what that allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallerKind {
    /// A model stands in for Linkerd; it knows gateway mode only.
    Model,
    /// The vendor's own CLI or chart.
    Vendor,
    /// Somebody else has installed and linked everything, and goes on managing it.
    Preinstalled,
}

/// Node ports of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// Of the data port.
    pub gateway: u16,
    /// Of the probe port.
    pub probe: u16,
}

/// How gateways are exposed, as far as scenarios don't say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayOptions {
    /// `loadBalancerClass` of gateway Services, so that no other load-balancer controller takes them.
    pub load_balancer_class: Option<String>,
    /// Exposes all gateways on these node ports and tells the controllers of the other clusters the probe's: for clusters
    /// without load balancers.
    ///
    /// Without it a gateway that a scenario wants on node ports gets whichever the API server chooses, and controllers keep
    /// the vendor's default probe port, which does not fit (linkerd/linkerd2#14451): that is then what is under test.
    pub node_ports: Option<NodePorts>,
}

/// An entry of the extension's `controllers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerFor {
    /// Name of the linked cluster, and of the Link.
    pub cluster: String,
    /// Whether that cluster has a gateway to probe.
    pub gateway: bool,
}

/// Values of the multicluster extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MulticlusterValues {
    /// Whether the cluster gets a gateway.
    pub gateway: bool,
    /// How it is exposed.
    pub exposure: GatewayExposure,
    /// Clusters that this one has a managed controller for.
    pub controllers: Vec<ControllerFor>,
    /// ServiceAccounts for links of other clusters, besides the one that is always there.
    pub accounts: BTreeSet<String>,
}

impl MulticlusterValues {
    /// The values of a cluster that is not linked yet.
    #[must_use]
    pub fn of(topology: &Topology, setup: &Setup, cluster: &str) -> Self {
        let spec = topology.clusters.iter().find(|(name, _)| name.0 == cluster);
        Self {
            gateway: spec.and_then(|(_, spec)| spec.gateway).unwrap_or(true),
            exposure: setup.gateway.unwrap_or(GatewayExposure::Loadbalancer),
            controllers: Vec::new(),
            accounts: topology
                .links
                .iter()
                .filter(|link| link.to.0 == cluster)
                .filter_map(|link| link.service_account.as_ref())
                .map(|account| account.0.clone())
                .filter(|account| account != names::REMOTE_ACCESS)
                .collect(),
        }
    }

    /// All ServiceAccounts for links of other clusters, as the extension's value `remoteMirrorServiceAccountName` takes
    /// them; `None` when they are the default. The value may be a list, too, but is a text in the CLI's own types.
    #[must_use]
    pub fn account_names(&self) -> Option<String> {
        if self.accounts.is_empty() {
            return None;
        }
        let own = std::iter::once(names::REMOTE_ACCESS);
        let all: Vec<&str> = own.chain(self.accounts.iter().map(String::as_str)).collect();
        Some(all.join(","))
    }
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
    /// Whether the target has a gateway; without one only flat and federated exports work.
    pub gateway: bool,
    /// How the target's gateway is exposed.
    pub exposure: GatewayExposure,
    /// Address of a node of the target, where a gateway on node ports is reached.
    pub node_address: String,
    /// Address to take for any other gateway instead of its own, because something stands in front of it.
    pub relayed_at: Option<String>,
}

impl LinkValues {
    /// A link from `source` to `target`; without a `service_account` of its own it uses the one that is always there.
    #[must_use]
    pub fn between(
        source: &Cluster,
        target: &Cluster,
        service_account: Option<String>,
        gateway: bool,
        exposure: GatewayExposure,
    ) -> Self {
        Self {
            name: target.name.clone(),
            api_server: target.api_from_peers.clone(),
            service_account: service_account.unwrap_or_else(|| names::REMOTE_ACCESS.to_owned()),
            gateway,
            exposure,
            node_address: target.node_address.clone(),
            relayed_at: target.gateway_from.get(&source.name).cloned(),
        }
    }
}

/// Renders what the vendor's tools would print; applying it is the driver's work. The order is that of the methods: each
/// may look at what was applied before.
#[async_trait]
pub trait Installer: Send + Sync {
    /// Who installs.
    fn kind(&self) -> InstallerKind;

    /// How links are made of objects. Known for sure after [`Installer::version`].
    fn object_model(&self) -> ObjectModel {
        ObjectModel::Managed
    }

    /// Node ports of all gateways that controllers know of, so that their probes work.
    fn node_ports(&self) -> Option<NodePorts> {
        None
    }

    /// What installing in all clusters and making all links would do, in order; empty when nothing outside of this
    /// process.
    fn commands(&self, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let _ = (topology, setup);
        Vec::new()
    }

    /// Images that installing in all clusters and making all links makes nodes pull, found out without any cluster. None
    /// when nothing is installed.
    ///
    /// # Errors
    /// When the tool is not there, refuses or fails.
    async fn images(&self, topology: &Topology, setup: &Setup) -> Result<BTreeSet<String>, Problem> {
        let _ = (topology, setup);
        Ok(BTreeSet::new())
    }

    /// Version that it installs.
    ///
    /// # Errors
    /// When the tool is not there, or is not of the version asked for.
    async fn version(&self) -> Result<String, Problem>;

    /// Version that it installs, once [`Installer::version`] has found it out.
    fn known_version(&self) -> Option<String>;

    /// What must be there before Linkerd: the Gateway API's definitions. Empty when they are there already, or come with
    /// Linkerd.
    ///
    /// # Errors
    /// Code `gateway-api-missing` when nobody brings them.
    async fn prerequisites(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem>;

    /// Linkerd's own definitions.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn definitions(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem>;

    /// The control plane. The definitions have been applied.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem>;

    /// The control plane again, with the certificates that a step of a rotation gives it.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn rotated_control_plane(
        &self,
        cluster: &Cluster,
        trust: &ClusterTrust,
        step: TrustStep,
    ) -> Result<Vec<Value>, Problem> {
        let _ = step;
        self.control_plane(cluster, trust).await
    }

    /// The multicluster extension. The control plane runs.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn multicluster(&self, cluster: &Cluster, values: &MulticlusterValues) -> Result<Vec<Value>, Problem>;

    /// What upgrading a cluster to this installer's version would do, in order; empty when nothing outside of this process.
    fn upgrade_commands(&self, cluster: &str, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let _ = (cluster, topology, setup);
        Vec::new()
    }

    /// Linkerd's own definitions, for a cluster that has those of an earlier version.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn upgraded_definitions(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        self.definitions(cluster).await
    }

    /// The control plane, for a cluster that has an earlier version of it, with the trust that it has there.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn upgraded_control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        self.control_plane(cluster, trust).await
    }

    /// What has to be deleted because this version's control plane does not have it any more. `earlier` is what
    /// [`Installer::installed_control_plane`] of the version before says; `present` is what
    /// [`Installer::upgraded_control_plane`] printed and is applied by now.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn pruned(&self, cluster: &Cluster, earlier: &[Value], present: &[Value]) -> Result<Vec<Value>, Problem> {
        let _ = cluster;
        Ok(manifests::without(earlier, present))
    }

    /// The control plane that this installer brought to a cluster, for [`Installer::pruned`] of the next version; empty when
    /// that finds out by itself.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn installed_control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        self.control_plane(cluster, trust).await
    }

    /// The extension that this installer brought to a cluster: what the next version's lacks is deleted. Empty when its
    /// procedure leaves that.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn installed_multicluster(
        &self,
        cluster: &Cluster,
        values: &MulticlusterValues,
    ) -> Result<Vec<Value>, Problem> {
        self.multicluster(cluster, values).await
    }

    /// Secrets and Link, to be applied in the source; in the legacy model the controller too. Reads the target, and waits
    /// until its gateway has an address.
    ///
    /// # Errors
    /// When the tool refuses or fails, e.g. because the gateway has no address.
    async fn link(&self, target: &Cluster, values: &LinkValues) -> Result<Vec<Value>, Problem>;

    /// What has to be deleted in `source` to remove the link to `name`, in order.
    ///
    /// # Errors
    /// When the tool refuses or fails.
    async fn unlink(&self, source: &Cluster, name: &str) -> Result<Vec<Value>, Problem>;

    /// What has to be deleted to remove the extension, in order.
    ///
    /// # Errors
    /// Code `uninstall-refused` when the tool refuses, e.g. because links exist.
    async fn uninstall_extension(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem>;

    /// What has to be deleted to remove the control plane, its definitions and whatever [`Installer::prerequisites`]
    /// brought, in order. The extension is gone.
    ///
    /// # Errors
    /// Code `uninstall-refused` when the tool refuses, e.g. because injected pods exist.
    async fn uninstall_control_plane(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem>;

    /// What linking makes in the *target*: nothing, unless a mesh is badly wrong. `linked` is what
    /// [`Installer::link`] returned.
    ///
    /// # Errors
    /// When it can't be rendered.
    async fn link_side_effects(&self, linked: &[Value]) -> Result<Vec<Value>, Problem> {
        let _ = linked;
        Ok(Vec::new())
    }

    /// Results of the vendor's own checks.
    ///
    /// # Errors
    /// Code `checks-unavailable` when there is no tool that checks.
    async fn check(&self, cluster: &Cluster) -> Result<Vec<CheckResult>, Problem> {
        Err(problem::environment(
            "checks-unavailable",
            format!("cluster {}: there is no linkerd CLI that could check it", cluster.name),
            Some("give the path of the linkerd CLI"),
        ))
    }
}
