//! A mesh that others installed and go on managing (GitOps): nothing is changed, but that it is there and ready is checked.

use std::sync::OnceLock;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde_json::Value;

use crate::installer::{Installer, InstallerKind, LinkValues, MulticlusterValues};
use crate::names::{self, CLUSTER_NAME, CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE};
use crate::readiness::{credentials, link};
use crate::trust::ClusterTrust;
use crate::version::ObjectModel;
use crate::{apply, resources};

/// The installer that installs nothing.
#[derive(Debug, Default)]
pub struct Preinstalled {
    model: OnceLock<ObjectModel>,
}

impl Preinstalled {
    /// An installer for a mesh that is there already.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The refusal to change a mesh that is managed by others.
pub(crate) fn refused(what: &str) -> Problem {
    problem::environment(
        "mesh-preinstalled",
        format!("{what}: the mesh was installed by others, so the harness does not change it"),
        Some("let the harness install the mesh, or leave out scenarios that change it"),
    )
}

#[async_trait]
impl Installer for Preinstalled {
    fn kind(&self) -> InstallerKind {
        InstallerKind::Preinstalled
    }

    fn object_model(&self) -> ObjectModel {
        self.model.get().copied().unwrap_or_default()
    }

    fn known_version(&self) -> Option<String> {
        None
    }

    async fn version(&self) -> Result<String, Problem> {
        Err(refused("tell the version to install"))
    }

    async fn prerequisites(&self, cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        // Both models can be told by the controllers' names alone, whatever the version label says.
        let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), MULTICLUSTER_NAMESPACE);
        let controllers = deployments
            .list(&ListParams::default().labels(CLUSTER_NAME))
            .await
            .map_err(|error| unreadable(cluster, "the controllers", &error))?;
        if let Some(controller) = controllers.items.first() {
            let legacy = controller.name_any().starts_with("linkerd-service-mirror-");
            let model = if legacy {
                ObjectModel::Legacy
            } else {
                ObjectModel::Managed
            };
            // All clusters are of one model; the first one that has controllers tells.
            let _ = self.model.set(model);
        }
        Ok(Vec::new())
    }

    async fn definitions(&self, _cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        Err(refused("install the definitions"))
    }

    async fn control_plane(&self, _cluster: &Cluster, _trust: &ClusterTrust) -> Result<Vec<Value>, Problem> {
        Err(refused("install the control plane"))
    }

    async fn multicluster(&self, _cluster: &Cluster, _values: &MulticlusterValues) -> Result<Vec<Value>, Problem> {
        Err(refused("install the multicluster extension"))
    }

    async fn link(&self, _target: &Cluster, _values: &LinkValues) -> Result<Vec<Value>, Problem> {
        Err(refused("link clusters"))
    }

    async fn unlink(&self, _source: &Cluster, _name: &str) -> Result<Vec<Value>, Problem> {
        Err(refused("unlink clusters"))
    }

    async fn uninstall_extension(&self, _cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        Err(refused("uninstall the mesh"))
    }

    async fn uninstall_control_plane(&self, _cluster: &Cluster) -> Result<Vec<Value>, Problem> {
        Err(refused("uninstall the mesh"))
    }
}

/// The Deployments that a cluster must have: those of the control plane, and those of the extension's namespace.
///
/// # Errors
/// Code `mesh-missing` when control plane, extension or a gateway that the topology wants is not there.
pub(crate) async fn deployments(cluster: &Cluster, gateway: bool) -> Result<Vec<(&'static str, String)>, Problem> {
    let mut found = Vec::new();
    let mut wanted = vec![
        (CONTROL_NAMESPACE, "linkerd-destination"),
        (CONTROL_NAMESPACE, "linkerd-identity"),
        (CONTROL_NAMESPACE, "linkerd-proxy-injector"),
    ];
    if gateway {
        wanted.push((MULTICLUSTER_NAMESPACE, names::GATEWAY));
    }
    for namespace in [CONTROL_NAMESPACE, MULTICLUSTER_NAMESPACE] {
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
        let listed = api.list(&ListParams::default()).await;
        let listed = listed.map_err(|error| unreadable(cluster, "the mesh's Deployments", &error))?;
        found.extend(listed.items.iter().map(|one| (namespace, one.name_any())));
    }
    for (namespace, name) in wanted {
        if !found.iter().any(|(at, found)| *at == namespace && found == name) {
            return Err(problem::mesh(
                "mesh-missing",
                format!("cluster {} has no Deployment {namespace}/{name}", cluster.name),
                Some("install Linkerd and its multicluster extension, or let the harness do it"),
            ));
        }
    }
    Ok(found)
}

/// Whether `from` is linked to `to` with everything that a link needs; returns the controller's Deployment.
///
/// # Errors
/// Code `link-missing` or `link-malformed`.
pub(crate) async fn linked(from: &Cluster, to: &str, model: ObjectModel) -> Result<String, Problem> {
    let missing = |what: String| {
        problem::mesh(
            "link-missing",
            format!("cluster {} is not linked to {to}: {what}", from.name),
            Some("link the clusters, or let the harness do it"),
        )
    };
    let malformed = |what: String| {
        problem::mesh(
            "link-malformed",
            format!("cluster {}, link to {to}: {what}", from.name),
            Some("make the link anew"),
        )
    };
    let Some(resource) = resources::of_mesh("Link", None) else {
        return Err(missing("the kind Link is not known".to_owned()));
    };
    let links: Api<DynamicObject> = apply::dynamic(from, &resource, Some(MULTICLUSTER_NAMESPACE));
    let found = links.get_opt(to).await;
    let object = found
        .map_err(|error| apply::refused(from, "read", &resource, to, &error))?
        .ok_or_else(|| missing(format!("there is no Link {MULTICLUSTER_NAMESPACE}/{to}")))?;
    let object = serde_json::to_value(&object).map_err(|error| malformed(error.to_string()))?;
    let link = link::read(&object).map_err(malformed)?;
    for (namespace, name) in [
        (MULTICLUSTER_NAMESPACE, link.credentials.clone()),
        (CONTROL_NAMESPACE, names::credentials(to)),
    ] {
        let secrets: Api<Secret> = Api::namespaced(from.client.clone(), namespace);
        let found = secrets.get_opt(&name).await;
        let secret = found
            .map_err(|error| unreadable(from, "the link's credentials", &error))?
            .ok_or_else(|| missing(format!("there is no Secret {namespace}/{name}")))?;
        let wrong = credentials::wrong(&secret, &link.cluster);
        if !wrong.is_empty() {
            return Err(malformed(format!("Secret {namespace}/{name}: {}", wrong.join("; "))));
        }
    }
    let deployments: Api<Deployment> = Api::namespaced(from.client.clone(), MULTICLUSTER_NAMESPACE);
    let controller = model.controller(to);
    let found = deployments.get_opt(&controller).await;
    if found
        .map_err(|error| unreadable(from, "the controller", &error))?
        .is_none()
    {
        return Err(missing(format!(
            "there is no Deployment {MULTICLUSTER_NAMESPACE}/{controller}"
        )));
    }
    Ok(controller)
}

fn unreadable(cluster: &Cluster, what: &str, error: &kube::Error) -> Problem {
    problem::environment(
        "api-refused",
        format!("cluster {}: read {what}: {error}", cluster.name),
        Some("check that the API server answers and lets the harness read this"),
    )
}
