//! Upgrading a cluster, in the order of Linkerd's documentation: definitions, control plane, what it does not have any more,
//! extension, and the cluster's own links anew, because there is no command that upgrades those. Sidecars of other pods
//! follow when somebody restarts them.

use std::sync::Arc;

use meshproof_engine::driver::{MeshDriver, Upgraded};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scenario::Setup;

use super::Linkerd;
use crate::installer::Installer;
use crate::names::MULTICLUSTER_NAMESPACE;
use crate::trust::ClusterRoots;
use crate::{apply, manifests};

impl Linkerd {
    /// The same driver, which can upgrade clusters to the version of `next`.
    #[must_use]
    pub fn upgradable(mut self, next: Arc<dyn Installer>) -> Self {
        self.next = Some(next);
        self
    }

    /// Whose version a cluster has.
    pub(super) fn installer_in(&self, cluster: &Cluster) -> &Arc<dyn Installer> {
        let upgraded = self.state(|state| state.upgraded.contains(&cluster.name));
        self.next.as_ref().filter(|_| upgraded).unwrap_or(&self.installer)
    }

    pub(super) async fn upgrade_cluster(
        &self,
        cluster: &Cluster,
        peers: &[Cluster],
        setup: &Setup,
    ) -> Result<Upgraded, Problem> {
        self.changeable("upgrade the mesh")?;
        let next = self
            .next
            .as_ref()
            .ok_or_else(|| impossible(cluster, "no version to go to is known", "say which one the run goes to"))?;
        let values = self.installed(cluster, "upgrade")?;
        let from = self.version(cluster).await?;
        let to = next.version().await?;
        if from == to {
            return Err(impossible(
                cluster,
                &format!("the mesh has version {to} already"),
                "go to another version than the one that is installed",
            ));
        }
        if self.installer.object_model() != next.object_model() {
            return Err(impossible(
                cluster,
                &format!(
                    "{from} and {to} make links of different objects (from 2.18 on, the extension has the controllers), \
                     and handing links over is not supported"
                ),
                "upgrade within 2.17 and earlier, or from 2.18 on",
            ));
        }
        // As it is by now, whatever was rotated since the installation.
        let trust = self.state(|state| state.trust.get(&cluster.name).map(ClusterRoots::given));
        let trust = trust.ok_or_else(|| impossible(cluster, "its trust is not known", "install the mesh first"))?;
        let patience = self.patience();

        let prerequisites = next.prerequisites(cluster).await?;
        apply::apply(cluster, &prerequisites, patience).await?;
        let definitions = next.upgraded_definitions(cluster).await?;
        apply::apply(cluster, &definitions, patience).await?;

        let earlier = self.installer.installed_control_plane(cluster, &trust).await?;
        let control_plane = next.upgraded_control_plane(cluster, &trust).await?;
        self.apply_control_plane(cluster, &control_plane).await?;
        let gone = next.pruned(cluster, &earlier, &control_plane).await?;
        apply::delete(cluster, &gone, patience).await?;

        let earlier = self.installer.installed_multicluster(cluster, &values).await?;
        let extension = next.multicluster(cluster, &values).await?;
        // From here on, the cluster's commands are those of the new version.
        self.state(|state| state.upgraded.insert(cluster.name.clone()));
        self.apply_and_roll_out(cluster, MULTICLUSTER_NAMESPACE, &extension)
            .await?;
        apply::delete(cluster, &manifests::without(&earlier, &extension), patience).await?;

        let linked = self.state(|state| state.links.clone());
        let targets: Vec<&Cluster> = peers
            .iter()
            .filter(|peer| linked.contains(&(cluster.name.clone(), peer.name.clone())))
            .collect();
        for target in &targets {
            self.apply_link(cluster, target, setup).await?;
        }
        for target in &targets {
            self.await_link(cluster, target, setup).await?;
        }

        let now = self.version(cluster).await?;
        if now == from {
            return Err(problem::mesh(
                "upgrade-without-effect",
                format!(
                    "cluster {}: after the upgrade to {to} the mesh still says {from}",
                    cluster.name
                ),
                Some("see what the upgrade printed, and the Deployments of the control plane"),
            ));
        }
        Ok(Upgraded { from, to: now })
    }
}

fn impossible(cluster: &Cluster, what: &str, remedy: &str) -> Problem {
    problem::environment(
        "upgrade-impossible",
        format!("cluster {}: {what}", cluster.name),
        Some(remedy),
    )
}
