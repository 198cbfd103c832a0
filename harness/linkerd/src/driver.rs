//! The driver itself: the engine's interface, answered in Linkerd's words.

mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::Api;
use kube::core::ApiResource;
use meshproof_engine::action::Action;
use meshproof_engine::driver::{
    Counter, Denial, DriverCall, Flow, MeshDriver, Owner, RouteRequest, Upgraded, WorkloadRef,
};
use meshproof_engine::environment::Cluster;
use meshproof_engine::plan::permission::Permission;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scenario::{Component, ExportMode, GatewayExposure, Setup, TrustSetup, TrustStep};
use meshproof_spec::topology::Topology;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::installer::{ControllerFor, Installer, InstallerKind, LinkValues, MulticlusterValues};
use crate::names::{self, CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE};
use crate::readiness::check::CheckResult;
use crate::trust::{ClusterRoots, ClusterTrust, Lifetimes, Root, RotationError};
use crate::version::ObjectModel;
use crate::{
    apply, counters, credentials, denied_writes, gateway_alive, ownership, permissions, preinstalled, resources,
    rotation, routes, webhooks,
};
use meshproof_terms::Release;

/// Scenario time within which an installation, a link or a removal must be complete.
const PATIENCE: Duration = Duration::from_secs(300);

/// Linkerd in one environment.
pub struct Linkerd {
    installer: Arc<dyn Installer>,
    /// Brings the version that clusters are upgraded to.
    next: Option<Arc<dyn Installer>>,
    pace: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shared_root: Option<Arc<Root>>,
    /// The root that clusters were given last, beside the one that they were installed with.
    newest_root: Option<Arc<Root>>,
    trust: BTreeMap<String, ClusterRoots>,
    /// Whether each cluster was installed with a root of its own.
    separate_roots: bool,
    extensions: BTreeMap<String, MulticlusterValues>,
    /// ServiceAccounts that links have of their own, by source and target.
    accounts: BTreeMap<(String, String), String>,
    /// Links that were made, from and to.
    links: BTreeSet<(String, String)>,
    /// Clusters that have the version that is upgraded to.
    upgraded: BTreeSet<String>,
}

impl Linkerd {
    /// A driver whose manifests come from `installer`, in an environment of this `pace` (scenario seconds per wall
    /// second).
    #[must_use]
    pub fn new(installer: Arc<dyn Installer>, pace: f64) -> Self {
        Self {
            installer,
            next: None,
            pace,
            state: Mutex::default(),
        }
    }

    /// Values of a cluster's extension.
    fn installed(&self, cluster: &Cluster, what: &str) -> Result<MulticlusterValues, Problem> {
        let values = self.state(|state| state.extensions.get(&cluster.name).cloned());
        values.ok_or_else(|| {
            problem::harness(
                "mesh-not-installed",
                format!("{what} {}: the mesh is not installed there", cluster.name),
                Some("put an `install` step first"),
            )
        })
    }

    fn patience(&self) -> Duration {
        PATIENCE.div_f64(self.pace)
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The trust of a cluster: made once, under one root for all clusters or under one of its own.
    fn trust(&self, cluster: &str, topology: &Topology, setup: &Setup) -> Result<ClusterTrust, Problem> {
        let separate = topology.roots(setup) == TrustSetup::Separate;
        let lifetimes = Lifetimes::of(&topology.trust, self.pace);
        let failed =
            |error: rcgen::Error| problem::harness("trust-not-made", format!("cluster {cluster}: {error}"), None);
        self.state(|state| {
            if let Some(trust) = state.trust.get(cluster) {
                return Ok(trust.given());
            }
            let root = match &state.shared_root {
                Some(root) if !separate => Arc::clone(root),
                _ => {
                    let root = Arc::new(Root::generate(&lifetimes).map_err(failed)?);
                    if !separate {
                        state.shared_root = Some(Arc::clone(&root));
                    }
                    root
                }
            };
            let trust = ClusterRoots::under(root, lifetimes).map_err(failed)?;
            let given = trust.given();
            state.trust.insert(cluster.to_owned(), trust);
            Ok(given)
        })
    }

    /// Applies the extension with the values that the cluster has now, and waits for all of it.
    async fn apply_extension(&self, cluster: &Cluster, values: &MulticlusterValues) -> Result<(), Problem> {
        let manifests = self.installer_in(cluster).multicluster(cluster, values).await?;
        self.apply_and_roll_out(cluster, MULTICLUSTER_NAMESPACE, &manifests)
            .await?;
        self.state(|state| state.extensions.insert(cluster.name.clone(), values.clone()));
        Ok(())
    }

    /// Results of the vendor's own checks of a cluster, for evidence. Readiness is never taken from them: they also
    /// complain of exported Services without pods, and need the internet for some.
    ///
    /// # Errors
    /// Code `checks-unavailable` when there is no tool that checks.
    pub async fn check(&self, cluster: &Cluster) -> Result<Vec<CheckResult>, Problem> {
        self.installer_in(cluster).check(cluster).await
    }

    fn is_preinstalled(&self) -> bool {
        self.installer.kind() == InstallerKind::Preinstalled
    }

    fn changeable(&self, what: &str) -> Result<(), Problem> {
        if self.is_preinstalled() {
            Err(preinstalled::refused(what))
        } else {
            Ok(())
        }
    }

    /// Applies manifests and waits until their Deployments in `namespace` are rolled out.
    async fn apply_and_roll_out(&self, cluster: &Cluster, namespace: &str, manifests: &[Value]) -> Result<(), Problem> {
        apply::apply(cluster, manifests, self.patience()).await?;
        let deployments = apply::deployments(manifests, namespace);
        apply::rolled_out(cluster, namespace, &deployments, self.patience()).await
    }

    /// Applies the control plane and waits until it is rolled out and its webhooks act: whatever is made before stays without a
    /// proxy.
    async fn apply_control_plane(&self, cluster: &Cluster, manifests: &[Value]) -> Result<(), Problem> {
        self.apply_and_roll_out(cluster, CONTROL_NAMESPACE, manifests).await?;
        webhooks::await_acting(cluster, manifests, self.patience(), self.pace).await
    }

    /// Waits until what others installed is ready.
    async fn await_installed(&self, cluster: &Cluster, gateway: bool) -> Result<(), Problem> {
        self.installer.prerequisites(cluster).await?;
        for (namespace, name) in preinstalled::deployments(cluster, gateway).await? {
            apply::rolled_out(cluster, namespace, &[name], self.patience()).await?;
        }
        Ok(())
    }

    /// Applies what links `from` to `to`, in the words of the version that `from` has.
    async fn apply_link(&self, from: &Cluster, to: &Cluster, setup: &Setup) -> Result<(), Problem> {
        let between = (from.name.clone(), to.name.clone());
        let link = LinkValues::between(
            from,
            to,
            self.state(|state| state.accounts.get(&between).cloned()),
            self.should_have_gateway(to).await?,
            setup.gateway.unwrap_or(GatewayExposure::Loadbalancer),
        );
        let installer = self.installer_in(from);
        let manifests = installer.link(to, &link).await?;
        self.apply_and_roll_out(from, MULTICLUSTER_NAMESPACE, &manifests)
            .await?;
        let side_effects = installer.link_side_effects(&manifests).await?;
        apply::apply(to, &side_effects, self.patience()).await
    }

    /// What was asked for, not what is there: a gateway that should be and is not makes linking fail.
    async fn should_have_gateway(&self, cluster: &Cluster) -> Result<bool, Problem> {
        match self.state(|state| state.extensions.get(&cluster.name).map(|values| values.gateway)) {
            Some(gateway) => Ok(gateway),
            None => self.has_gateway(cluster).await,
        }
    }

    async fn has_gateway(&self, cluster: &Cluster) -> Result<bool, Problem> {
        let services: Api<Service> = Api::namespaced(cluster.client.clone(), MULTICLUSTER_NAMESPACE);
        let found = services.get_opt(names::GATEWAY).await;
        found.map(|service| service.is_some()).map_err(|error| {
            problem::environment(
                "api-unreachable",
                format!("cluster {}: read the gateway: {error}", cluster.name),
                None,
            )
        })
    }
}

#[async_trait]
impl MeshDriver for Linkerd {
    fn name(&self) -> &'static str {
        "linkerd"
    }

    fn capabilities(&self) -> BTreeSet<String> {
        let mut capabilities = vec!["export-gateway", "mtls", "route", "steal-lease"];
        match self.installer.kind() {
            // What a model does not know it refuses.
            InstallerKind::Model => {}
            InstallerKind::Vendor | InstallerKind::Preinstalled => {
                capabilities.extend(["export-federated", "export-flat"]);
            }
        }
        if !self.is_preinstalled() {
            // Whoever manages the mesh would undo the rest, or be undone by it.
            capabilities.extend([
                "deny-writes",
                "install-mesh",
                "link-clusters",
                "rotate-credentials",
                "rotate-trust",
                "separate-trust",
            ]);
            if self.next.is_some() {
                capabilities.push("upgrade-mesh");
            }
        }
        capabilities.into_iter().map(ToOwned::to_owned).collect()
    }

    fn commands(&self, topology: &Topology, setup: &Setup) -> Vec<Action> {
        self.installer.commands(topology, setup)
    }

    fn upgrade_commands(&self, cluster: &str, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let next = self.next.as_ref();
        next.map_or_else(Vec::new, |next| next.upgrade_commands(cluster, topology, setup))
    }

    async fn install(&self, cluster: &Cluster, topology: &Topology, setup: &Setup) -> Result<(), Problem> {
        let values = MulticlusterValues::of(topology, setup, &cluster.name);
        if self.is_preinstalled() {
            return self.await_installed(cluster, values.gateway).await;
        }
        if let Some(next) = &self.next {
            // What is wrong with it is better known now than in the middle of a scenario.
            next.version().await?;
        }
        self.state(|state| {
            state.separate_roots = topology.roots(setup) == TrustSetup::Separate;
            for link in &topology.links {
                if let Some(account) = &link.service_account {
                    let between = (link.from.0.clone(), link.to.0.clone());
                    state.accounts.insert(between, account.0.clone());
                }
            }
        });
        let trust = self.trust(&cluster.name, topology, setup)?;
        // Each may look at what was applied before it.
        let prerequisites = self.installer.prerequisites(cluster).await?;
        apply::apply(cluster, &prerequisites, self.patience()).await?;
        let definitions = self.installer.definitions(cluster).await?;
        apply::apply(cluster, &definitions, self.patience()).await?;
        let control_plane = self.installer.control_plane(cluster, &trust).await?;
        self.apply_control_plane(cluster, &control_plane).await?;
        self.apply_extension(cluster, &values).await
    }

    async fn upgrade(&self, cluster: &Cluster, peers: &[Cluster], setup: &Setup) -> Result<Upgraded, Problem> {
        self.upgrade_cluster(cluster, peers, setup).await
    }

    async fn uninstall(&self, cluster: &Cluster) -> Result<(), Problem> {
        self.changeable("uninstall the mesh")?;
        let installer = self.installer_in(cluster);
        let extension = installer.uninstall_extension(cluster).await?;
        apply::delete(cluster, &extension, self.patience()).await?;
        let control_plane = installer.uninstall_control_plane(cluster).await?;
        apply::delete(cluster, &control_plane, self.patience()).await?;
        self.state(|state| {
            state.extensions.remove(&cluster.name);
            state.upgraded.remove(&cluster.name);
        });
        Ok(())
    }

    async fn link(&self, from: &Cluster, to: &Cluster, setup: &Setup) -> Result<(), Problem> {
        let model = self.installer.object_model();
        if self.is_preinstalled() {
            let controller = preinstalled::linked(from, &to.name, model).await?;
            return apply::rolled_out(from, MULTICLUSTER_NAMESPACE, &[controller], self.patience()).await;
        }
        let mut values = self.installed(from, "link")?;
        let gateway = self.should_have_gateway(to).await?;
        // The documented order: the controller's values first, then what link-gen prints. In the legacy model `link`
        // prints the controller too.
        let controlled = values.controllers.iter().any(|known| known.cluster == to.name);
        if model == ObjectModel::Managed && !controlled {
            values.controllers.push(ControllerFor {
                cluster: to.name.clone(),
                gateway,
            });
            self.apply_extension(from, &values).await?;
        }
        self.apply_link(from, to, setup).await?;
        self.state(|state| state.links.insert((from.name.clone(), to.name.clone())));
        Ok(())
    }

    async fn await_link(&self, from: &Cluster, to: &Cluster, setup: &Setup) -> Result<(), Problem> {
        use futures::StreamExt;
        // A gateway on node ports is reached on other ports than those that the default probe values say, and one under
        // another root refuses the probe: there, that the link works is for the scenario to say.
        let probed = setup.gateway != Some(GatewayExposure::Nodeport) || self.installer.node_ports().is_some();
        let decidable = probed && !self.state(|state| state.separate_roots);
        if !decidable || !self.has_gateway(to).await? {
            return Ok(());
        }
        let mut alive = gateway_alive::watch(from, &to.name, self.installer.object_model());
        let wait = async {
            while let Some(value) = alive.next().await {
                if value == Some(1.0) {
                    return Ok(());
                }
            }
            Err("the metric's stream ended")
        };
        let what = format!("the gateway of {} to be seen alive", to.name);
        match apply::within(self.patience(), from, &what, wait).await {
            Ok(()) => Ok(()),
            Err(mut problem) => {
                problem.message += &webhooks::uninjected([from, to]).await;
                Err(problem)
            }
        }
    }

    async fn unlink(&self, from: &Cluster, to: &Cluster) -> Result<(), Problem> {
        self.changeable("unlink clusters")?;
        let objects = self.installer_in(from).unlink(from, &to.name).await?;
        // While a controller still runs it makes its mirrors and its lease anew.
        let (controllers, others): (Vec<Value>, Vec<Value>) =
            objects.into_iter().partition(|object| object["kind"] == "Deployment");
        apply::delete(from, &controllers, self.patience()).await?;
        let pods = self.installer.object_model().controller_pods(&to.name);
        apply::pods_gone(from, MULTICLUSTER_NAMESPACE, &pods, self.patience()).await?;
        apply::delete(from, &others, self.patience()).await?;
        self.state(|state| {
            state.links.remove(&(from.name.clone(), to.name.clone()));
            if let Some(values) = state.extensions.get_mut(&from.name) {
                values.controllers.retain(|known| known.cluster != to.name);
            }
        });
        Ok(())
    }

    async fn rotate_credentials(&self, from: &Cluster, to: &Cluster) -> Result<(), Problem> {
        self.changeable("give a link new credentials")?;
        credentials::rotate(from, to, Duration::from_secs(1).div_f64(self.pace), self.patience()).await
    }

    async fn rotate_trust(&self, cluster: &Cluster, step: TrustStep) -> Result<(), Problem> {
        self.changeable("replace certificates")?;
        let rotated = self.state(|state| {
            let roots = state.trust.get(&cluster.name).ok_or(RotationError::NotInstalled)?;
            roots.rotated(step, &mut state.newest_root)
        });
        let rotated = rotated.map_err(|error| error.problem(&cluster.name))?;
        rotation::rotate(
            self.installer_in(cluster).as_ref(),
            cluster,
            &rotated.given(),
            step,
            self.patience(),
            self.pace,
        )
        .await?;
        self.state(|state| state.trust.insert(cluster.name.clone(), rotated));
        Ok(())
    }

    async fn version(&self, cluster: &Cluster) -> Result<String, Problem> {
        let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), CONTROL_NAMESPACE);
        let found = deployments.get_opt("linkerd-destination").await.map_err(|error| {
            problem::environment(
                "api-unreachable",
                format!("cluster {}: read the mesh's version: {error}", cluster.name),
                None,
            )
        })?;
        let labels = found
            .and_then(|deployment| deployment.metadata.labels)
            .unwrap_or_default();
        match labels.get("app.kubernetes.io/version") {
            Some(version) => Ok(version.clone()),
            None => self.installer_in(cluster).version().await,
        }
    }

    fn release(&self, version: &str) -> Option<Release> {
        crate::version::release(version)
    }

    async fn trust_root(&self, cluster: &Cluster) -> Result<String, Problem> {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), CONTROL_NAMESPACE);
        let found = maps.get_opt("linkerd-identity-trust-roots").await.map_err(|error| {
            problem::environment(
                "api-unreachable",
                format!("cluster {}: read the trust roots: {error}", cluster.name),
                None,
            )
        })?;
        let bundle = found
            .and_then(|map| map.data)
            .and_then(|mut data| data.remove("ca-bundle.crt"))
            .unwrap_or_default();
        let fingerprints: Vec<String> = pem_blocks(&bundle)
            .iter()
            .map(|der| hex(&Sha256::digest(der)))
            .collect();
        if fingerprints.is_empty() {
            return Err(problem::mesh(
                "trust-roots-missing",
                format!(
                    "cluster {}: ConfigMap linkerd/linkerd-identity-trust-roots has no certificate",
                    cluster.name
                ),
                Some("check the installation of the control plane"),
            ));
        }
        Ok(fingerprints.join("+"))
    }

    fn namespace_annotations(&self) -> BTreeMap<String, String> {
        [(names::INJECT.to_owned(), "enabled".to_owned())].into()
    }

    fn pod_annotations(&self, meshed: bool) -> BTreeMap<String, String> {
        [(
            names::INJECT.to_owned(),
            if meshed { "enabled" } else { "disabled" }.to_owned(),
        )]
        .into()
    }

    fn service_annotations(&self, opaque_ports: &[u16]) -> BTreeMap<String, String> {
        if opaque_ports.is_empty() {
            return BTreeMap::new();
        }
        let ports: Vec<String> = opaque_ports.iter().map(ToString::to_string).collect();
        [(names::OPAQUE_PORTS.to_owned(), ports.join(","))].into()
    }

    fn export_patch(&self, mode: Option<ExportMode>) -> Result<Value, String> {
        let labels = match mode {
            Some(ExportMode::Gateway) => json!({names::EXPORTED: "true"}),
            Some(ExportMode::Flat) => json!({names::EXPORTED: "remote-discovery"}),
            Some(ExportMode::Federated) => json!({names::FEDERATED: "member"}),
            None => json!({names::EXPORTED: null, names::FEDERATED: null}),
        };
        Ok(json!({"metadata": {"labels": labels}}))
    }

    fn mirror_name(&self, service: &str, cluster: &str, mode: ExportMode) -> String {
        match mode {
            ExportMode::Gateway | ExportMode::Flat => names::mirror(service, cluster),
            ExportMode::Federated => names::federated(service),
        }
    }

    fn route(&self, route: &RouteRequest) -> Result<Vec<Value>, String> {
        Ok(vec![routes::http_route(route)])
    }

    fn fact(&self, reference: &str, namespace: &str) -> Option<String> {
        let parts: Vec<&str> = reference.split('.').collect();
        let fact = match parts.as_slice() {
            ["mirror", service, cluster] => names::mirror(service, cluster),
            ["federated", service] => names::federated(service),
            ["mesh", "namespace"] => MULTICLUSTER_NAMESPACE.to_owned(),
            ["mesh", "control-namespace"] => CONTROL_NAMESPACE.to_owned(),
            ["mesh", "version"] => self.installer.known_version()?,
            ["mesh", "next-version"] => self.next.as_ref()?.known_version()?,
            ["mesh", "link", cluster] => (*cluster).to_owned(),
            ["mesh", "controller", cluster] => self.installer.object_model().controller(cluster),
            ["mesh", "probe", cluster] => self.installer.object_model().probe_service(cluster),
            ["mesh", "credentials", cluster] => names::credentials(cluster),
            ["mesh", "remote-access", _] => format!(
                "system:serviceaccount:{MULTICLUSTER_NAMESPACE}:{}",
                names::REMOTE_ACCESS
            ),
            ["identity", "gateway", _] => names::gateway_identity(),
            ["identity", "workload", workload, _] => names::identity(workload, namespace),
            _ => return None,
        };
        Some(fact)
    }

    fn resource(&self, kind: &str, api: Option<&str>) -> Option<ApiResource> {
        resources::of_mesh(kind, api)
    }

    fn component(&self, component: Component, of: Option<&str>) -> WorkloadRef {
        let name = match component {
            Component::Gateway => names::GATEWAY.to_owned(),
            Component::Controller => self.installer.object_model().controller(of.unwrap_or_default()),
        };
        WorkloadRef {
            namespace: MULTICLUSTER_NAMESPACE.to_owned(),
            name,
        }
    }

    async fn link_alive(&self, from: &Cluster, to: &str) -> Result<BoxStream<'static, Option<f64>>, Problem> {
        Ok(gateway_alive::watch(from, to, self.installer.object_model()))
    }

    fn lease(&self, to: &str) -> WorkloadRef {
        WorkloadRef {
            namespace: MULTICLUSTER_NAMESPACE.to_owned(),
            name: names::lease(to),
        }
    }

    async fn deny_writes(&self, from: &Cluster, to: &str, verbs: &[String]) -> Result<Denial, Problem> {
        self.changeable("deny writes to the controller")?;
        let model = self.installer.object_model();
        let account = format!(
            "system:serviceaccount:{MULTICLUSTER_NAMESPACE}:{}",
            model.controller(to)
        );
        denied_writes::deny(from, &account, &model.local_access_role(to), verbs).await
    }

    fn permissions(&self, call: DriverCall) -> Vec<Permission> {
        permissions::of(call, self.installer.kind(), self.installer.object_model())
    }

    fn owner(&self, _cluster: &str, object: &Value) -> Owner {
        ownership::owner(object)
    }

    fn kinds(&self) -> Vec<ApiResource> {
        resources::all(self.installer.kind() != InstallerKind::Model)
    }

    async fn diagnose(&self, cluster: &Cluster) -> Vec<(String, String)> {
        match self.check(cluster).await {
            Ok(results) => {
                let lines: Vec<String> = results.iter().map(ToString::to_string).collect();
                vec![("check.txt".to_owned(), lines.join("\n") + "\n")]
            }
            Err(problem) if problem.code == "checks-unavailable" => Vec::new(),
            Err(problem) => vec![("check.txt".to_owned(), problem.message + "\n")],
        }
    }

    fn peer_identity(&self, flow: &Flow) -> Option<(String, String)> {
        let peer = match flow.export {
            // A meshed target sees the gateway, not the client.
            Some(ExportMode::Gateway) => names::gateway_identity(),
            None | Some(ExportMode::Flat | ExportMode::Federated) => names::identity(&flow.client, &flow.namespace),
        };
        Some(("l5d-client-id".to_owned(), peer))
    }

    fn counters(&self, flow: &Flow) -> Vec<Counter> {
        counters::of(flow)
    }
}

/// DER of the certificates of a PEM bundle; what is no certificate is left out.
fn pem_blocks(bundle: &str) -> Vec<Vec<u8>> {
    use base64::Engine;
    bundle
        .split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .filter_map(|block| block.split("-----END CERTIFICATE-----").next())
        .map(|body| body.split_whitespace().collect::<String>())
        .filter_map(|body| base64::engine::general_purpose::STANDARD.decode(body).ok())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
