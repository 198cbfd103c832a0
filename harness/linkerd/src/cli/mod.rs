//! Installation with the vendor's own CLI, as its documentation describes it.

pub(crate) mod commands;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_engine::action::Action;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{self, Invocation, Output, Tools};
use meshproof_spec::scenario::{Setup, TrustStep};
use meshproof_spec::topology::Topology;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::gateway_api::GatewayApi;
use crate::installer::{GatewayOptions, Installer, InstallerKind, LinkValues, MulticlusterValues, NodePorts};
use crate::plan::{self, Plan};
use crate::readiness::check::{self, CheckResult};
use crate::readiness::gateways::{self, Gateway};
use crate::secret_file::SecretFile;
use crate::trust::ClusterTrust;
use crate::version::{ObjectModel, ships_gateway_api};
use crate::{exposure, manifests, removal};

/// What the installation shall be like.
#[derive(Clone, Debug, Default)]
pub struct CliOptions {
    /// Version that the CLI must have, e.g. `edge-26.8.3`; any when absent.
    pub version: Option<String>,
    /// File with the Gateway API's definitions, applied to clusters that lack them.
    pub gateway_api_crds: Option<PathBuf>,
    /// How gateways are exposed.
    pub gateway: GatewayOptions,
    /// More `--set` for `linkerd install`, each `key=value`.
    pub control_plane_set: Vec<String>,
    /// More `--set` for `linkerd multicluster install`, each `key=value`.
    pub multicluster_set: Vec<String>,
}

/// Installs with the `linkerd` CLI.
pub struct CliInstaller {
    options: CliOptions,
    tools: Tools,
    gateway_api: Arc<GatewayApi>,
    version: OnceCell<String>,
}

impl CliInstaller {
    /// An installer that runs the `linkerd` of `tools`.
    #[must_use]
    pub fn new(options: CliOptions, tools: Tools) -> Self {
        Self {
            gateway_api: Arc::new(GatewayApi::new(options.gateway_api_crds.clone())),
            options,
            tools,
            version: OnceCell::new(),
        }
    }

    /// An installer for the version that clusters of this one are upgraded to: the CLI of `version` (any when absent) in
    /// `tools`, and otherwise the same options.
    #[must_use]
    pub fn next(&self, version: Option<String>, tools: Tools) -> Self {
        Self {
            options: CliOptions {
                version,
                ..self.options.clone()
            },
            tools,
            // It must know what was brought, to remove it with the mesh.
            gateway_api: Arc::clone(&self.gateway_api),
            version: OnceCell::new(),
        }
    }

    /// The gateways of the clusters that `cluster` is linked to, as its controllers see them.
    ///
    /// # Errors
    /// When the tool fails, or prints something else.
    pub async fn gateways(&self, cluster: &Cluster) -> Result<Vec<Gateway>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let invocation = commands::gateways(&kubeconfig.path());
        let output = self.tools.run(&invocation).await?;
        gateways::parse(&output.stdout).map_err(|expected| tool::unreadable(&invocation, &output.stdout, &expected))
    }

    async fn rendered(&self, invocation: &Invocation) -> Result<Vec<Value>, Problem> {
        let output = self.tools.run(invocation).await?;
        manifests::printed_by(invocation, &output.stdout)
    }

    /// As [`Self::rendered`], with a refusal told as what it is.
    async fn removed(&self, cluster: &Cluster, invocation: &Invocation) -> Result<Vec<Value>, Problem> {
        let output = self.tools.try_run(invocation).await?;
        if output.success() {
            return manifests::printed_by(invocation, &output.stdout);
        }
        Err(refusal(cluster, &output).unwrap_or_else(|| tool::failed(invocation, &output)))
    }

    async fn checked(&self, invocation: &Invocation) -> Result<Vec<CheckResult>, Problem> {
        // Exit 1 says that something is not as it should be; that is a result.
        let output = self.tools.try_run(invocation).await?;
        check::parse(&output.stdout).map_err(|expected| {
            if output.success() || !output.stdout.trim().is_empty() {
                tool::unreadable(invocation, &output.stdout, &expected)
            } else {
                tool::failed(invocation, &output)
            }
        })
    }
}

/// A cluster's kubeconfig in a file of its own.
pub(crate) fn kubeconfig(cluster: &Cluster) -> Result<SecretFile, Problem> {
    SecretFile::write(&format!("kubeconfig of {}", cluster.name), &cluster.kubeconfig)
}

/// Certificates and the issuer's key in files of their own.
struct TrustSecrets {
    anchors: SecretFile,
    certificate: SecretFile,
    key: SecretFile,
}

impl TrustSecrets {
    fn write(cluster: &Cluster, trust: &ClusterTrust) -> Result<Self, Problem> {
        let of = |what: &str| format!("{what} of {}", cluster.name);
        Ok(Self {
            anchors: SecretFile::write(&of("trust anchors"), &trust.anchors_pem)?,
            certificate: SecretFile::write(&of("issuer certificate"), &trust.issuer_certificate_pem)?,
            key: SecretFile::write(&of("issuer key"), &trust.issuer_key_pem)?,
        })
    }

    fn paths(&self) -> commands::TrustFiles {
        commands::TrustFiles {
            anchors: self.anchors.path(),
            issuer_certificate: self.certificate.path(),
            issuer_key: self.key.path(),
        }
    }
}

/// What the CLI says when it will not remove something that is in use: up to the usage that it prints after it.
fn refusal(cluster: &Cluster, output: &Output) -> Option<Problem> {
    let said = output.stderr.trim();
    let start = ["Please unlink", "Please uninstall", "Please uninject"]
        .iter()
        .filter_map(|words| said.find(words))
        .min()?;
    let said = said[start..].split("\nUsage:").next().unwrap_or_default().trim();
    Some(problem::mesh(
        "uninstall-refused",
        format!("cluster {}: {said}", cluster.name),
        Some("do what it says first"),
    ))
}

#[async_trait]
impl Installer for CliInstaller {
    fn kind(&self) -> InstallerKind {
        InstallerKind::Vendor
    }

    fn object_model(&self) -> ObjectModel {
        let version = self.version.get().or(self.options.version.as_ref());
        version.map_or(ObjectModel::Managed, |version| ObjectModel::of_version(version))
    }

    fn node_ports(&self) -> Option<NodePorts> {
        self.options.gateway.node_ports
    }

    fn commands(&self, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let model = self.object_model();
        let options = &self.options;
        let mut plan = Plan::new(topology, setup);
        plan.section("linkerd CLI");
        plan.run(commands::version());
        for cluster in plan.clusters() {
            let kubeconfig = plan::kubeconfig(cluster);
            plan.section(&format!("control plane of {cluster}"));
            plan.gateway_api(cluster, self.gateway_api.file());
            plan.rendered(
                commands::definitions(&kubeconfig, model, self.gateway_api.file().is_some()),
                cluster,
                "until they are established",
            );
            let files = commands::TrustFiles {
                anchors: format!("<trust anchors of {cluster}>"),
                issuer_certificate: format!("<issuer certificate of {cluster}>"),
                issuer_key: format!("<issuer key of {cluster}>"),
            };
            plan.rendered(
                commands::control_plane(
                    &kubeconfig,
                    &files,
                    topology.trust.workload_lifetime,
                    plan.domain(cluster),
                    &options.control_plane_set,
                ),
                cluster,
                "until all Deployments are rolled out",
            );
            plan.section(&format!("multicluster extension of {cluster}"));
            let values = MulticlusterValues::of(topology, setup, cluster);
            plan.rendered(
                commands::multicluster(&kubeconfig, &values, &options.gateway, &options.multicluster_set),
                cluster,
                "until all Deployments are rolled out",
            );
        }
        for link in plan.links() {
            plan.section(&format!("link {} → {}", link.from, link.to));
            if model == ObjectModel::Managed {
                plan.rendered(
                    commands::multicluster(
                        &plan::kubeconfig(link.from),
                        &link.source,
                        &options.gateway,
                        &options.multicluster_set,
                    ),
                    link.from,
                    "until all Deployments are rolled out",
                );
            }
            plan.awaited_address(&link, options.gateway.node_ports);
            plan.rendered(
                commands::link(
                    &plan::kubeconfig(link.to),
                    &link.values,
                    model,
                    options.gateway.node_ports,
                ),
                link.from,
                match model {
                    ObjectModel::Managed => "until the gateway is seen alive",
                    ObjectModel::Legacy => "until the controller is rolled out and sees the gateway alive",
                },
            );
        }
        plan.actions()
    }

    /// Up to 2.17 a link brings its controller; its image is one of the control plane's.
    async fn images(&self, topology: &Topology, setup: &Setup) -> Result<BTreeSet<String>, Problem> {
        let plan = Plan::new(topology, setup);
        if plan.clusters().is_empty() {
            return Ok(BTreeSet::new());
        }
        // Images of another version than the one that is asked for would be of no use.
        self.version().await?;
        let options = &self.options;
        let mut rendering = vec![commands::control_plane_anywhere(&options.control_plane_set)];
        for values in plan.extensions() {
            let invocation = commands::multicluster_anywhere(&values, &options.gateway, &options.multicluster_set);
            if !rendering.contains(&invocation) {
                rendering.push(invocation);
            }
        }
        let mut images = BTreeSet::new();
        for invocation in rendering {
            images.extend(manifests::images(&self.rendered(&invocation).await?));
        }
        Ok(images)
    }

    fn upgrade_commands(&self, cluster: &str, topology: &Topology, setup: &Setup) -> Vec<Action> {
        let model = self.object_model();
        let options = &self.options;
        let kubeconfig = plan::kubeconfig(cluster);
        let mut plan = Plan::new(topology, setup);
        plan.section(&format!(
            "upgrade of {cluster}, with the linkerd CLI of the version to go to"
        ));
        plan.run(commands::version());
        plan.gateway_api(cluster, self.gateway_api.file());
        plan.rendered(
            commands::upgraded_definitions(&kubeconfig, model, self.gateway_api.file().is_some()),
            cluster,
            "until they are established",
        );
        plan.rendered(
            commands::upgraded_control_plane(&kubeconfig),
            cluster,
            "until all Deployments are rolled out",
        );
        plan.run(commands::prune(&kubeconfig));
        plan.note(format!("delete from {cluster} what it prints"));
        let (mut values, links) = plan.links_from(cluster);
        if model == ObjectModel::Legacy {
            values.controllers.clear();
        }
        plan.rendered(
            commands::multicluster(&kubeconfig, &values, &options.gateway, &options.multicluster_set),
            cluster,
            "until all Deployments are rolled out",
        );
        for link in links {
            plan.rendered(
                commands::link(
                    &plan::kubeconfig(link.to),
                    &link.values,
                    model,
                    options.gateway.node_ports,
                ),
                cluster,
                "until the gateway is seen alive",
            );
        }
        plan.actions()
    }

    async fn version(&self) -> Result<String, Problem> {
        let asked = || async {
            let invocation = commands::version();
            let output = self.tools.run(&invocation).await?;
            let found = output.stdout.trim().to_owned();
            if found.is_empty() || found.contains(char::is_whitespace) {
                return Err(tool::unreadable(&invocation, &output.stdout, "a version"));
            }
            match &self.options.version {
                Some(wanted) if *wanted != found => Err(problem::environment(
                    "tool-version",
                    format!("the linkerd CLI has version {found}, and {wanted} is to be installed"),
                    Some("give the path of the right CLI, or let it be fetched"),
                )),
                _ => Ok(found),
            }
        };
        self.version.get_or_try_init(asked).await.cloned()
    }

    fn known_version(&self) -> Option<String> {
        self.version.get().cloned()
    }

    async fn upgraded_definitions(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let brought = self.gateway_api.is_ours(&cluster.name);
        let invocation = commands::upgraded_definitions(&kubeconfig.path(), self.object_model(), brought);
        self.rendered(&invocation).await
    }

    async fn upgraded_control_plane(&self, cluster: &Cluster, _trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        self.rendered(&commands::upgraded_control_plane(&kubeconfig.path()))
            .await
    }

    async fn pruned(&self, cluster: &Cluster, _earlier: &[Value], _present: &[Value]) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let invocation = commands::prune(&kubeconfig.path());
        let output = self.tools.run(&invocation).await?;
        let nothing = output.stdout.chars().all(|c| c == '-' || c.is_whitespace());
        if nothing {
            return Ok(Vec::new());
        }
        manifests::printed_by(&invocation, &output.stdout)
    }

    async fn installed_control_plane(&self, _: &Cluster, _: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        // `linkerd prune` of the next version finds out by itself.
        Ok(Vec::new())
    }

    async fn installed_multicluster(&self, _: &Cluster, _: &MulticlusterValues) -> Result<Vec<Value>, Problem> {
        // There is no command that prunes the extension: what a new version does not have stays.
        Ok(Vec::new())
    }

    async fn prerequisites(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let version = self.version().await?;
        self.gateway_api.missing(cluster, ships_gateway_api(&version)).await
    }

    async fn definitions(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let brought = self.gateway_api.is_ours(&cluster.name);
        let invocation = commands::definitions(&kubeconfig.path(), self.object_model(), brought);
        self.rendered(&invocation).await
    }

    async fn control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let files = TrustSecrets::write(cluster, trust)?;
        let sets = &self.options.control_plane_set;
        let invocation = commands::control_plane(
            &kubeconfig.path(),
            &files.paths(),
            trust.workload_lifetime,
            &cluster.domain,
            sets,
        );
        self.rendered(&invocation).await
    }

    async fn rotated_control_plane(
        &self,
        cluster: &Cluster,
        trust: &ClusterTrust,
        step: TrustStep,
    ) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let files = TrustSecrets::write(cluster, trust)?;
        let sets = &self.options.control_plane_set;
        let invocation = commands::rotated_control_plane(&kubeconfig.path(), &files.paths(), step, sets);
        self.rendered(&invocation).await
    }

    async fn multicluster(&self, cluster: &Cluster, values: &MulticlusterValues) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let options = &self.options;
        let invocation =
            commands::multicluster(&kubeconfig.path(), values, &options.gateway, &options.multicluster_set);
        self.rendered(&invocation).await
    }

    async fn link(&self, target: &Cluster, values: &LinkValues) -> Result<Vec<Value>, Problem> {
        let node_ports = self.options.gateway.node_ports;
        exposure::gateway_has_address(target, values, node_ports).await?;
        let kubeconfig = kubeconfig(target)?;
        let invocation = commands::link(&kubeconfig.path(), values, self.object_model(), node_ports);
        self.rendered(&invocation).await
    }

    async fn unlink(&self, source: &Cluster, name: &str) -> Result<Vec<Value>, Problem> {
        match self.object_model() {
            // The CLI's `unlink` is for links of the legacy model: it knows nothing of managed controllers.
            ObjectModel::Managed => removal::unlink(source, ObjectModel::Managed, name).await,
            ObjectModel::Legacy => {
                let kubeconfig = kubeconfig(source)?;
                self.rendered(&commands::unlink(&kubeconfig.path(), name)).await
            }
        }
    }

    async fn uninstall_extension(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let invocation = commands::uninstall_extension(&kubeconfig.path());
        self.removed(cluster, &invocation).await
    }

    async fn uninstall_control_plane(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let invocation = commands::uninstall_control_plane(&kubeconfig.path());
        let mut objects = self.removed(cluster, &invocation).await?;
        objects.extend(self.gateway_api.remove(&cluster.name)?);
        Ok(objects)
    }

    async fn check(&self, cluster: &Cluster) -> Result<Vec<CheckResult>, Problem> {
        let kubeconfig = kubeconfig(cluster)?;
        let mut results = self.checked(&commands::check(&kubeconfig.path())).await?;
        // The CLI runs the extensions' checks too, if it finds them.
        if !results.iter().any(|result| result.category == "linkerd-multicluster") {
            results.extend(self.checked(&commands::check_multicluster(&kubeconfig.path())).await?);
        }
        Ok(results)
    }
}
