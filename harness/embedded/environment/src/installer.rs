//! The model's manifests in place of what the vendor's tools would print.

use async_trait::async_trait;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_linkerd::installer::{Installer, InstallerKind, LinkValues, MulticlusterValues};
use meshproof_linkerd::trust::ClusterTrust;
use meshproof_mesh::install::{
    ControlPlaneValues, ControllerValues, GatewayServiceType, GatewayValues, LinkGenError, LinkGenOptions,
    RemovalError, Trust, control_plane, crds, gateway_api_crds, link_gen, link_side_effects, multicluster, of_version,
    uninstall, uninstall_control_plane, unlink,
};
use meshproof_mesh::model::Model;
use meshproof_mesh::names::{NEXT_VERSION, REMOTE_ACCESS, VERSION};
use meshproof_spec::scenario::GatewayExposure;
use serde_json::Value;

/// Installs the model mesh.
pub struct ModelInstaller {
    model: Model,
    version: &'static str,
}

impl ModelInstaller {
    /// An installer whose manifests have the defects of `model`.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            model,
            version: VERSION,
        }
    }

    /// An installer of the version that clusters with `model` are upgraded to.
    #[must_use]
    pub fn next(model: Model) -> Self {
        Self {
            model,
            version: NEXT_VERSION,
        }
    }

    /// Manifests of the model, as this version has them.
    fn of_version(&self, manifests: Vec<Value>) -> Vec<Value> {
        of_version(self.version, &self.model.defects(), manifests)
    }
}

#[async_trait]
impl Installer for ModelInstaller {
    fn kind(&self) -> InstallerKind {
        InstallerKind::Model
    }

    async fn version(&self) -> Result<String, Problem> {
        Ok(self.version.to_owned())
    }

    fn known_version(&self) -> Option<String> {
        Some(self.version.to_owned())
    }

    async fn prerequisites(&self, _cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        Ok(gateway_api_crds(&self.model.defects()))
    }

    async fn definitions(&self, _cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        Ok(self.of_version(crds()))
    }

    async fn control_plane(&self, cluster: &Cluster, trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        let mut values = ControlPlaneValues {
            cluster_domain: cluster.domain.clone(),
            ..ControlPlaneValues::new(Trust {
                anchors: trust.anchors_pem.clone(),
                issuer_certificate: trust.issuer_certificate_pem.clone(),
                issuer_key: trust.issuer_key_pem.clone(),
            })
        };
        if let Some(lifetime) = trust.workload_lifetime {
            values.issuance_lifetime = lifetime.to_string();
        }
        Ok(self.of_version(control_plane(&values)))
    }

    async fn multicluster(&self, _cluster: &Cluster, values: &MulticlusterValues) -> Result<Vec<Value>, Problem> {
        let service_type = match values.exposure {
            GatewayExposure::Loadbalancer => GatewayServiceType::LoadBalancer,
            GatewayExposure::Nodeport => GatewayServiceType::NodePort {
                gateway: None,
                probe: None,
            },
        };
        let values = meshproof_mesh::install::MulticlusterValues {
            gateway: values.gateway.then(|| GatewayValues {
                service_type,
                ..GatewayValues::default()
            }),
            remote_access_accounts: std::iter::once(REMOTE_ACCESS.to_owned())
                .chain(values.accounts.iter().cloned())
                .collect(),
            controllers: values
                .controllers
                .iter()
                .map(|controller| ControllerValues {
                    gateway: controller.gateway,
                    ..ControllerValues::new(&controller.cluster)
                })
                .collect(),
            ..meshproof_mesh::install::MulticlusterValues::default()
        };
        Ok(self.of_version(multicluster(&self.model.defects(), &values)))
    }

    async fn link(&self, target: &Cluster, values: &LinkValues) -> Result<Vec<Value>, Problem> {
        let options = LinkGenOptions {
            service_account: values.service_account.clone(),
            gateway: values.gateway,
            // A NodePort gateway has no address in its status; link-gen is told the node's.
            gateway_addresses: match values.exposure {
                GatewayExposure::Nodeport => Some(values.node_address.clone()),
                GatewayExposure::Loadbalancer => values.relayed_at.clone(),
            },
            ..LinkGenOptions::new(&values.name, &values.api_server)
        };
        let manifests = link_gen(&target.client, &self.model.defects(), &options).await;
        manifests
            .map(|manifests| self.of_version(manifests))
            .map_err(|error| refused_link(target, &error))
    }

    async fn unlink(&self, source: &Cluster, name: &str) -> Result<Vec<Value>, Problem> {
        unlink(&source.client, &self.model.defects(), name)
            .await
            .map_err(|error| refused_removal(source, &error))
    }

    async fn uninstall_extension(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        uninstall(&cluster.client, &self.model.defects())
            .await
            .map_err(|error| refused_removal(cluster, &error))
    }

    async fn uninstall_control_plane(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        let mut objects = uninstall_control_plane(&cluster.client)
            .await
            .map_err(|error| refused_removal(cluster, &error))?;
        // The Gateway API's definitions came with the installation, so they go with it.
        objects.extend(gateway_api_crds(&self.model.defects()));
        Ok(objects)
    }

    async fn link_side_effects(&self, linked: &[Value]) -> Result<Vec<Value>, Problem> {
        Ok(link_side_effects(&self.model.defects(), linked))
    }
}

fn refused_link(target: &Cluster, error: &LinkGenError) -> Problem {
    let message = format!("cluster {}: link-gen: {error}", target.name);
    match error {
        LinkGenError::Api(_) => problem::environment("api-refused", message, None),
        _ => problem::mesh(
            "link-refused",
            message,
            Some("check the extension's installation in the target"),
        ),
    }
}

fn refused_removal(cluster: &Cluster, error: &RemovalError) -> Problem {
    let message = format!("cluster {}: {error}", cluster.name);
    match error {
        RemovalError::StillLinked(_) => problem::mesh("uninstall-refused", message, Some("unlink the clusters first")),
        RemovalError::Api(_) => problem::environment("api-refused", message, None),
    }
}
