//! Installation from the vendor's charts: rendered with `helm template`, applied like everything else, so that no release
//! is left in the cluster that the harness would have to know of.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_engine::action::Action;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{self, Invocation, Tools};
use meshproof_spec::scenario::{GatewayExposure, Setup};
use meshproof_spec::topology::Topology;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::cli::{commands, kubeconfig};
use crate::gateway_api::GatewayApi;
use crate::installer::{GatewayOptions, Installer, InstallerKind, LinkValues, MulticlusterValues, NodePorts};
use crate::names::{
    CONTROL_NAMESPACE, CONTROL_PLANE_NS, DEFAULT_DOMAIN, EXTENSION, INJECT, MULTICLUSTER_NAMESPACE, TRUST_DOMAIN,
};
use crate::plan::{self, Plan, PlannedLink};
use crate::trust::ClusterTrust;
use crate::version::{ObjectModel, ships_gateway_api};
use crate::{exposure, link_gen, manifests, removal};

const HELM: &str = "helm";
/// A chart from a repository is downloaded first.
const RENDERS: Duration = Duration::from_secs(120);
/// Version of Kubernetes that charts are rendered for when no cluster is asked; images don't depend on it.
const ANY_KUBERNETES: &str = "1.33.0";

/// A chart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chart {
    /// Folder, archive or `repository/name`.
    pub reference: String,
    /// Version of the chart, which is not Linkerd's; the newest when absent.
    pub version: Option<String>,
}

/// What the installation shall be like.
#[derive(Clone, Debug, Default)]
pub struct HelmOptions {
    /// Chart `linkerd-crds`.
    pub crds: Chart,
    /// Chart `linkerd-control-plane`.
    pub control_plane: Chart,
    /// Chart `linkerd-multicluster`.
    pub multicluster: Chart,
    /// File with the Gateway API's definitions, applied to clusters that lack them.
    pub gateway_api_crds: Option<PathBuf>,
    /// How gateways are exposed.
    pub gateway: GatewayOptions,
    /// Values for the control plane beyond those that the harness sets, which win.
    pub control_plane_values: Value,
    /// Values for the extension beyond those that the harness sets, which win.
    pub multicluster_values: Value,
    /// Whether links come from the vendor's `linkerd` CLI. Without it the harness makes the same objects by itself, for
    /// Linkerd 2.18 and later.
    pub links_by_cli: bool,
}

/// Installs from charts.
pub struct HelmInstaller {
    options: HelmOptions,
    tools: Tools,
    gateway_api: Arc<GatewayApi>,
    version: OnceCell<String>,
}

/// The charts of a version that clusters are upgraded to.
#[derive(Clone, Debug, Default)]
pub struct NextCharts {
    /// Chart `linkerd-crds`.
    pub crds: Chart,
    /// Chart `linkerd-control-plane`.
    pub control_plane: Chart,
    /// Chart `linkerd-multicluster`.
    pub multicluster: Chart,
}

impl HelmInstaller {
    /// An installer that runs the `helm` of `tools`, and its `linkerd` when links come from there.
    #[must_use]
    pub fn new(options: HelmOptions, tools: Tools) -> Self {
        Self {
            gateway_api: Arc::new(GatewayApi::new(options.gateway_api_crds.clone())),
            options,
            tools,
            version: OnceCell::new(),
        }
    }

    /// An installer for the version that clusters of this one are upgraded to: other charts, links by the CLI of `tools` if
    /// they come from there, and otherwise the same options.
    #[must_use]
    pub fn next(&self, charts: NextCharts, tools: Tools) -> Self {
        Self {
            options: HelmOptions {
                crds: charts.crds,
                control_plane: charts.control_plane,
                multicluster: charts.multicluster,
                ..self.options.clone()
            },
            tools,
            // It must know what was brought, to remove it with the mesh.
            gateway_api: Arc::clone(&self.gateway_api),
            version: OnceCell::new(),
        }
    }

    async fn rendered(&self, invocation: &Invocation) -> Result<Vec<Value>, Problem> {
        let output = self.tools.run(invocation).await?;
        manifests::printed_by(invocation, &output.stdout)
    }

    fn plan_control_plane(&self, plan: &mut Plan<'_>, cluster: &str) {
        let options = &self.options;
        plan.gateway_api(cluster, self.gateway_api.file());
        let values = definition_values(self.gateway_api.file().is_some());
        let invocation = template(
            "linkerd-crds",
            &options.crds,
            CONTROL_NAMESPACE,
            &planned_kubernetes(cluster),
            &values,
        );
        plan_rendered(plan, cluster, invocation, "until they are established");
        plan.apply(cluster, control_namespace());
        let trust = ClusterTrust {
            anchors_pem: format!("<trust anchors of {cluster}>"),
            issuer_certificate_pem: format!("<issuer certificate of {cluster}>"),
            issuer_key_pem: format!("<issuer key of {cluster}>"),
            workload_lifetime: plan.workload_lifetime(),
        };
        let values = control_plane_values(&options.control_plane_values, plan.domain(cluster), &trust);
        let invocation = template(
            "linkerd-control-plane",
            &options.control_plane,
            CONTROL_NAMESPACE,
            &planned_kubernetes(cluster),
            &values,
        );
        plan_rendered(plan, cluster, invocation, "until all Deployments are rolled out");
    }

    fn plan_extension(&self, plan: &mut Plan<'_>, cluster: &str, values: &MulticlusterValues) {
        let options = &self.options;
        let values = multicluster_values(&options.multicluster_values, values, &options.gateway);
        let invocation = template(
            "linkerd-multicluster",
            &options.multicluster,
            MULTICLUSTER_NAMESPACE,
            &planned_kubernetes(cluster),
            &values,
        );
        plan_rendered(plan, cluster, invocation, "until all Deployments are rolled out");
    }

    fn plan_link(&self, plan: &mut Plan<'_>, link: &PlannedLink<'_>) {
        let node_ports = self.options.gateway.node_ports;
        plan.awaited_address(link, node_ports);
        if self.options.links_by_cli {
            let kubeconfig = plan::kubeconfig(link.to);
            let invocation = commands::link(&kubeconfig, &link.values, ObjectModel::Managed, node_ports);
            plan.rendered(invocation, link.from, "until the gateway is seen alive");
        } else {
            plan.note(format!(
                "apply to {} a Link and two Secrets made from the token of {} and the gateway of {}, and wait until the \
                 gateway is seen alive",
                link.from, link.values.service_account, link.to
            ));
        }
    }
}

/// Stands for the version of a cluster's API server.
fn planned_kubernetes(cluster: &str) -> String {
    format!("<Kubernetes version of {cluster}>")
}

fn plan_rendered(plan: &mut Plan<'_>, cluster: &str, invocation: Invocation, awaited: &str) {
    plan.note(format!("{}: {}", invocation.input_name, printable(&invocation)));
    plan.rendered(invocation, cluster, awaited);
}

fn template(release: &str, chart: &Chart, namespace: &str, kubernetes: &str, values: &Value) -> Invocation {
    let mut line = vec!["template".to_owned(), release.to_owned(), chart.reference.clone()];
    if let Some(version) = &chart.version {
        line.extend(["--version".to_owned(), version.clone()]);
    }
    // Charts refuse Kubernetes versions that they don't know, and helm assumes one of its own.
    for word in ["--namespace", namespace, "--kube-version", kubernetes, "--values", "-"] {
        line.push(word.to_owned());
    }
    // JSON is YAML.
    Invocation::new(HELM, line, RENDERS).with_input(&format!("values of {release}"), values.to_string())
}

fn show(chart: &Chart) -> Invocation {
    let mut line = vec!["show".to_owned(), "chart".to_owned(), chart.reference.clone()];
    if let Some(version) = &chart.version {
        line.extend(["--version".to_owned(), version.clone()]);
    }
    Invocation::new(HELM, line, RENDERS)
}

/// Values of `linkerd-crds`. The Gateway API's definitions are left out when others brought them.
fn definition_values(gateway_api_is_there: bool) -> Value {
    if gateway_api_is_there {
        json!({"installGatewayAPI": false, "enableHttpRoutes": false, "enableTlsRoutes": false, "enableTcpRoutes": false})
    } else {
        json!({})
    }
}

fn control_plane_values(more: &Value, domain: &str, trust: &ClusterTrust) -> Value {
    let mut issuer = json!({"tls": {"crtPEM": trust.issuer_certificate_pem, "keyPEM": trust.issuer_key_pem}});
    if let Some(lifetime) = trust.workload_lifetime {
        issuer["issuanceLifetime"] = lifetime.to_string().into();
    }
    merged(
        more,
        json!({
            "clusterDomain": domain,
            // By default it follows the cluster's domain; clusters that trust each other share one.
            "identityTrustDomain": TRUST_DOMAIN,
            "identityTrustAnchorsPEM": trust.anchors_pem,
            "identity": {"issuer": issuer},
        }),
    )
}

fn multicluster_values(more: &Value, values: &MulticlusterValues, options: &GatewayOptions) -> Value {
    let node_port = values.exposure == GatewayExposure::Nodeport || options.node_ports.is_some();
    let mut gateway = json!({"enabled": values.gateway});
    if values.gateway {
        gateway["serviceType"] = if node_port { "NodePort" } else { "LoadBalancer" }.into();
        if let Some(class) = options.load_balancer_class.as_ref().filter(|_| !node_port) {
            gateway["loadBalancerClass"] = class.as_str().into();
        }
        if let Some(ports) = options.node_ports {
            gateway["nodePort"] = ports.gateway.into();
            gateway["probe"] = json!({"nodePort": ports.probe});
        }
    }
    let controllers: Vec<Value> = values
        .controllers
        .iter()
        .map(|controller| {
            let mut entry = json!({"link": {"ref": {"name": controller.cluster}}});
            if !controller.gateway {
                entry["gateway"] = json!({"enabled": false});
            } else if let Some(ports) = options.node_ports {
                entry["gateway"] = json!({"probe": {"port": ports.probe}});
            }
            entry
        })
        .collect();
    let mut own = json!({
        // The harness makes the namespace as it must be, so the chart's job has nothing to do.
        "createNamespaceMetadataJob": false,
        "identityTrustDomain": TRUST_DOMAIN,
        "gateway": gateway,
        "controllers": controllers,
    });
    if let Some(names) = values.account_names() {
        own["remoteMirrorServiceAccountName"] = names.into();
    }
    merged(more, own)
}

/// Values as a plan shows them: a key that the user gave is not repeated.
fn printable(invocation: &Invocation) -> Value {
    fn hide(value: &mut Value) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    let shown = value.as_str().is_none_or(|text| text.starts_with('<'));
                    if name.ends_with("keyPEM") && !shown {
                        *value = "<key>".into();
                    }
                    hide(value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(hide),
            _ => {}
        }
    }
    let mut values = serde_json::from_str(invocation.input.as_deref().unwrap_or_default()).unwrap_or_default();
    hide(&mut values);
    values
}

/// `over` laid over `base`, objects key by key.
fn merged(base: &Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            let mut both = base.clone();
            for (key, value) in over {
                let value = merged(base.get(&key).unwrap_or(&Value::Null), value);
                both.insert(key, value);
            }
            Value::Object(both)
        }
        (_, over) => over,
    }
}

/// The namespaces as the CLI makes them: charts expect them to be there. Proxies' init containers need `privileged`.
fn control_namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": CONTROL_NAMESPACE,
        "annotations": {INJECT: "disabled"},
        "labels": {
            "linkerd.io/is-control-plane": "true",
            "config.linkerd.io/admission-webhooks": "disabled",
            CONTROL_PLANE_NS: CONTROL_NAMESPACE,
            "pod-security.kubernetes.io/enforce": "privileged",
        },
    }})
}

fn extension_namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": MULTICLUSTER_NAMESPACE,
        "labels": {EXTENSION: "multicluster", "pod-security.kubernetes.io/enforce": "privileged"},
    }})
}

/// Version of a cluster's API server, as helm takes it.
async fn kubernetes(cluster: &Cluster) -> Result<String, Problem> {
    let version = cluster.client.apiserver_version().await.map_err(|error| {
        problem::environment(
            "api-unreachable",
            format!("cluster {}: read the API server's version: {error}", cluster.name),
            Some("check that the cluster's API server answers"),
        )
    })?;
    Ok(version.git_version.trim_start_matches('v').to_owned())
}

#[async_trait]
impl Installer for HelmInstaller {
    fn kind(&self) -> InstallerKind {
        InstallerKind::Vendor
    }

    fn object_model(&self) -> ObjectModel {
        let version = self.version.get();
        version.map_or(ObjectModel::Managed, |version| ObjectModel::of_version(version))
    }

    fn node_ports(&self) -> Option<NodePorts> {
        self.options.gateway.node_ports
    }

    fn commands(&self, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let options = &self.options;
        let mut plan = Plan::new(topology, setup);
        plan.section("charts");
        plan.run(show(&options.control_plane));
        for cluster in plan.clusters() {
            plan.section(&format!("control plane of {cluster}"));
            self.plan_control_plane(&mut plan, cluster);
            plan.section(&format!("multicluster extension of {cluster}"));
            plan.apply(cluster, extension_namespace());
            self.plan_extension(&mut plan, cluster, &MulticlusterValues::of(topology, setup, cluster));
        }
        for link in plan.links() {
            plan.section(&format!("link {} → {}", link.from, link.to));
            self.plan_extension(&mut plan, link.from, &link.source);
            self.plan_link(&mut plan, &link);
        }
        plan.actions()
    }

    async fn images(&self, topology: &Topology, setup: &Setup) -> Result<BTreeSet<String>, Problem> {
        let options = &self.options;
        let plan = Plan::new(topology, setup);
        if plan.clusters().is_empty() {
            return Ok(BTreeSet::new());
        }
        let nobodys = ClusterTrust {
            anchors_pem: "<trust anchors>".to_owned(),
            issuer_certificate_pem: "<issuer certificate>".to_owned(),
            issuer_key_pem: "<issuer key>".to_owned(),
            workload_lifetime: topology.trust.workload_lifetime,
        };
        let values = control_plane_values(&options.control_plane_values, DEFAULT_DOMAIN, &nobodys);
        let mut rendering = vec![template(
            "linkerd-control-plane",
            &options.control_plane,
            CONTROL_NAMESPACE,
            ANY_KUBERNETES,
            &values,
        )];
        for values in plan.extensions() {
            let invocation = template(
                "linkerd-multicluster",
                &options.multicluster,
                MULTICLUSTER_NAMESPACE,
                ANY_KUBERNETES,
                &multicluster_values(&options.multicluster_values, &values, &options.gateway),
            );
            if !rendering.contains(&invocation) {
                rendering.push(invocation);
            }
        }
        let mut images = BTreeSet::new();
        for invocation in rendering {
            let output = self.tools.run(&invocation).await?;
            images.extend(manifests::images(&manifests::printed_by(&invocation, &output.stdout)?));
        }
        Ok(images)
    }

    fn upgrade_commands(&self, cluster: &str, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let mut plan = Plan::new(topology, setup);
        plan.section(&format!(
            "upgrade of {cluster}, with the charts of the version to go to"
        ));
        plan.run(show(&self.options.control_plane));
        self.plan_control_plane(&mut plan, cluster);
        let (values, links) = plan.links_from(cluster);
        plan.apply(cluster, extension_namespace());
        self.plan_extension(&mut plan, cluster, &values);
        plan.note(format!(
            "delete from {cluster} what the charts before had and these have not, as `helm upgrade` does"
        ));
        for link in links {
            self.plan_link(&mut plan, &link);
        }
        plan.actions()
    }

    fn known_version(&self) -> Option<String> {
        self.version.get().cloned()
    }

    async fn version(&self) -> Result<String, Problem> {
        let asked = || async {
            let invocation = show(&self.options.control_plane);
            let output = self.tools.run(&invocation).await?;
            let chart: Value = serde_yaml::from_str(&output.stdout).unwrap_or_default();
            match chart["appVersion"].as_str() {
                Some(version) => Ok(version.to_owned()),
                None => Err(tool::unreadable(&invocation, &output.stdout, "a chart with appVersion")),
            }
        };
        self.version.get_or_try_init(asked).await.cloned()
    }

    async fn prerequisites(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let version = self.version().await?;
        self.gateway_api.missing(cluster, ships_gateway_api(&version)).await
    }

    async fn definitions(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let values = definition_values(self.gateway_api.is_there(cluster).await?);
        let kubernetes = kubernetes(cluster).await?;
        let crds = &self.options.crds;
        self.rendered(&template("linkerd-crds", crds, CONTROL_NAMESPACE, &kubernetes, &values))
            .await
    }

    async fn control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        let values = control_plane_values(&self.options.control_plane_values, &cluster.domain, trust);
        let kubernetes = kubernetes(cluster).await?;
        let chart = &self.options.control_plane;
        let invocation = template("linkerd-control-plane", chart, CONTROL_NAMESPACE, &kubernetes, &values);
        let mut all = vec![control_namespace()];
        all.extend(self.rendered(&invocation).await?);
        Ok(all)
    }

    async fn multicluster(&self, cluster: &Cluster, values: &MulticlusterValues) -> Result<Vec<Value>, Problem> {
        let values = multicluster_values(&self.options.multicluster_values, values, &self.options.gateway);
        let kubernetes = kubernetes(cluster).await?;
        let chart = &self.options.multicluster;
        let invocation = template(
            "linkerd-multicluster",
            chart,
            MULTICLUSTER_NAMESPACE,
            &kubernetes,
            &values,
        );
        let mut all = vec![extension_namespace()];
        all.extend(self.rendered(&invocation).await?);
        Ok(all)
    }

    async fn link(&self, target: &Cluster, values: &LinkValues) -> Result<Vec<Value>, Problem> {
        let node_ports = self.options.gateway.node_ports;
        exposure::gateway_has_address(target, values, node_ports).await?;
        if self.options.links_by_cli {
            let kubeconfig = kubeconfig(target)?;
            let invocation = commands::link(&kubeconfig.path(), values, self.object_model(), node_ports);
            return self.rendered(&invocation).await;
        }
        if self.object_model() == ObjectModel::Legacy {
            return Err(problem::environment(
                "unsupported",
                "the charts of Linkerd 2.17 and earlier have no controllers; only the linkerd CLI can link clusters",
                Some("give the path of the linkerd CLI, and let links come from there"),
            ));
        }
        let node_port = !exposure::from_status(values, node_ports);
        link_gen::link_gen(target, values, node_port).await
    }

    async fn unlink(&self, source: &Cluster, name: &str) -> Result<Vec<Value>, Problem> {
        removal::unlink(source, self.object_model(), name).await
    }

    async fn uninstall_extension(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        removal::extension(cluster).await
    }

    async fn uninstall_control_plane(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let mut objects = removal::control_plane(cluster).await?;
        objects.extend(self.gateway_api.remove(&cluster.name)?);
        Ok(objects)
    }
}

#[cfg(test)]
mod tests {
    use super::{Chart, control_plane_values, merged, multicluster_values, printable, template};
    use crate::installer::{ControllerFor, GatewayOptions, MulticlusterValues, NodePorts};
    use crate::trust::ClusterTrust;
    use meshproof_spec::scenario::GatewayExposure;
    use serde_json::{Value, json};

    fn trust(key: &str) -> ClusterTrust {
        ClusterTrust {
            anchors_pem: "<anchors>".into(),
            issuer_certificate_pem: "<certificate>".into(),
            issuer_key_pem: key.into(),
            workload_lifetime: "2h".parse().ok(),
        }
    }

    #[test]
    fn the_harness_wins_over_the_users_values_key_by_key() {
        let user = json!({"proxy": {"logLevel": "debug"}, "identity": {"issuer": {"clockSkewAllowance": "20s", "tls": {"keyPEM": "theirs"}}}});
        let values = control_plane_values(&user, "cluster.local", &trust("k"));
        assert_eq!(values["identity"]["issuer"]["issuanceLifetime"], "7200s");
        assert_eq!(values["proxy"]["logLevel"], "debug");
        assert_eq!(values["identity"]["issuer"]["clockSkewAllowance"], "20s");
        assert_eq!(values["identity"]["issuer"]["tls"]["keyPEM"], "k");
        assert_eq!(merged(&Value::Null, json!({"a": 1})), json!({"a": 1}));
    }

    #[test]
    fn a_plan_does_not_repeat_the_users_keys() {
        let user = json!({"proxyInjector": {"keyPEM": "secret", "crtPEM": "public"}});
        let values = control_plane_values(&user, "cluster.local", &trust("<issuer key>"));
        let shown = printable(&template("r", &Chart::default(), "linkerd", "1.34.9", &values));
        assert_eq!(shown["proxyInjector"], json!({"keyPEM": "<key>", "crtPEM": "public"}));
        assert_eq!(shown["identity"]["issuer"]["tls"]["keyPEM"], "<issuer key>");
    }

    #[test]
    fn the_extensions_values_say_what_the_clis_flags_say() {
        let values = MulticlusterValues {
            gateway: true,
            exposure: GatewayExposure::Loadbalancer,
            controllers: vec![
                ControllerFor {
                    cluster: "east".into(),
                    gateway: true,
                },
                ControllerFor {
                    cluster: "north".into(),
                    gateway: false,
                },
            ],
            accounts: ["for-west".to_owned()].into(),
        };
        let balanced = GatewayOptions {
            load_balancer_class: Some("own".into()),
            node_ports: None,
        };
        let made = multicluster_values(&Value::Null, &values, &balanced);
        assert_eq!(
            made["gateway"],
            json!({"enabled": true, "serviceType": "LoadBalancer", "loadBalancerClass": "own"})
        );
        assert_eq!(
            made["remoteMirrorServiceAccountName"],
            "linkerd-service-mirror-remote-access-default,for-west"
        );
        let ports = GatewayOptions {
            node_ports: Some(NodePorts {
                gateway: 30143,
                probe: 30191,
            }),
            ..balanced
        };
        let made = multicluster_values(&Value::Null, &values, &ports);
        assert_eq!(
            made["gateway"],
            json!({"enabled": true, "serviceType": "NodePort", "nodePort": 30143, "probe": {"nodePort": 30191}})
        );
        assert_eq!(
            made["controllers"],
            json!([
                {"link": {"ref": {"name": "east"}}, "gateway": {"probe": {"port": 30191}}},
                {"link": {"ref": {"name": "north"}}, "gateway": {"enabled": false}},
            ])
        );
    }
}
