//! What belongs to a link or to an installation, found in the cluster itself: for the procedures that the vendor documents
//! in words, without a command of its tools.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Resource, ResourceExt};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::names::{
    self, CLUSTER_NAME, CONTROL_NAMESPACE, CONTROL_PLANE_NS, CREDENTIALS_CLUSTER, EXTENSION, MIRRORED_SERVICE,
    MULTICLUSTER_NAMESPACE,
};
use crate::version::ObjectModel;
use crate::{apply, resources};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The documented procedure of 2.18 and later: the entry of `controllers` (that is: its objects), the Link, the credentials
/// in both namespaces, and then what the controller left: mirrors and lease.
///
/// # Errors
/// Code `link-missing` when there is no such Link.
pub(crate) async fn unlink(source: &Cluster, model: ObjectModel, link: &str) -> Result<Vec<Value>, Problem> {
    if !links(source).await?.iter().any(|name| name == link) {
        return Err(problem::mesh(
            "link-missing",
            format!(
                "cluster {}: links.multicluster.linkerd.io \"{link}\" not found",
                source.name
            ),
            Some("link the clusters first"),
        ));
    }
    let mut objects = controller(model, link);
    let namespace = Some(MULTICLUSTER_NAMESPACE);
    objects.push(reference("multicluster.linkerd.io/v1alpha3", "Link", namespace, link));
    objects.push(reference("v1", "Secret", namespace, &names::credentials(link)));
    let credentials = format!("{CREDENTIALS_CLUSTER}={link}");
    objects.extend(
        listed::<Secret>(
            source,
            Api::namespaced(source.client.clone(), CONTROL_NAMESPACE),
            &credentials,
        )
        .await?,
    );
    let mirrors = format!("{MIRRORED_SERVICE}=true,{CLUSTER_NAME}={link}");
    objects.extend(listed::<Service>(source, Api::all(source.client.clone()), &mirrors).await?);
    objects.push(reference(
        "coordination.k8s.io/v1",
        "Lease",
        namespace,
        &names::lease(link),
    ));
    Ok(objects)
}

/// A link's controller and what it needs.
fn controller(model: ObjectModel, link: &str) -> Vec<Value> {
    let namespace = Some(MULTICLUSTER_NAMESPACE);
    let mut objects = vec![
        reference("apps/v1", "Deployment", namespace, &model.controller(link)),
        reference("v1", "Service", namespace, &model.probe_service(link)),
        reference(RBAC, "ClusterRoleBinding", None, &model.local_access_binding(link)),
        reference(RBAC, "RoleBinding", namespace, &model.read_credentials_role(link)),
        reference(RBAC, "Role", namespace, &model.read_credentials_role(link)),
        reference("v1", "ServiceAccount", namespace, &model.controller(link)),
    ];
    if model == ObjectModel::Legacy {
        objects.push(reference(RBAC, "ClusterRole", None, &model.local_access_role(link)));
    }
    objects
}

/// Everything of the extension that no other deletion takes along.
///
/// # Errors
/// Code `uninstall-refused` while Links exist, in the words of `linkerd multicluster uninstall`.
pub(crate) async fn extension(cluster: &Cluster) -> Result<Vec<Value>, Problem> {
    let linked = links(cluster).await?;
    if !linked.is_empty() {
        let linked: Vec<String> = linked.iter().map(|name| format!("  * {name}")).collect();
        return Err(problem::mesh(
            "uninstall-refused",
            format!(
                "cluster {}: Please unlink the following clusters before uninstalling multicluster:\n{}",
                cluster.name,
                linked.join("\n")
            ),
            Some("unlink the clusters first"),
        ));
    }
    labelled(cluster, &format!("{EXTENSION}=multicluster")).await
}

/// Everything of the control plane that no other deletion takes along.
pub(crate) async fn control_plane(cluster: &Cluster) -> Result<Vec<Value>, Problem> {
    labelled(cluster, &format!("{CONTROL_PLANE_NS}={CONTROL_NAMESPACE}")).await
}

/// Names of all Links; none when the extension is not installed.
async fn links(cluster: &Cluster) -> Result<Vec<String>, Problem> {
    let Some(resource) = resources::of_mesh("Link", None) else {
        return Ok(Vec::new());
    };
    let api: Api<DynamicObject> = apply::dynamic(cluster, &resource, Some(MULTICLUSTER_NAMESPACE));
    match api.list(&ListParams::default()).await {
        Ok(links) => Ok(links.items.iter().map(ResourceExt::name_any).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(apply::refused(cluster, "list", &resource, "", &error)),
    }
}

/// Webhooks first, so that nothing is held up by one that no longer answers; then bindings before roles before definitions
/// before namespaces, so that nothing loses its rights half-way.
async fn labelled(cluster: &Cluster, selector: &str) -> Result<Vec<Value>, Problem> {
    let client = &cluster.client;
    let mut objects = listed::<MutatingWebhookConfiguration>(cluster, Api::all(client.clone()), selector).await?;
    objects.extend(listed::<ValidatingWebhookConfiguration>(cluster, Api::all(client.clone()), selector).await?);
    objects.extend(listed::<ClusterRoleBinding>(cluster, Api::all(client.clone()), selector).await?);
    objects.extend(listed::<ClusterRole>(cluster, Api::all(client.clone()), selector).await?);
    objects.extend(listed::<RoleBinding>(cluster, Api::all(client.clone()), selector).await?);
    objects.extend(listed::<Role>(cluster, Api::all(client.clone()), selector).await?);
    objects.extend(listed::<CustomResourceDefinition>(cluster, Api::all(client.clone()), selector).await?);
    objects.extend(listed::<Namespace>(cluster, Api::all(client.clone()), selector).await?);
    Ok(objects)
}

async fn listed<K>(cluster: &Cluster, api: Api<K>, selector: &str) -> Result<Vec<Value>, Problem>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = api.list(&ListParams::default().labels(selector)).await;
    match found {
        Ok(found) => Ok(found
            .items
            .iter()
            .map(|object| {
                let namespace = object.meta().namespace.as_deref();
                reference(&K::api_version(&()), &K::kind(&()), namespace, &object.name_any())
            })
            .collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => {
            let resource = kube::core::ApiResource::erase::<K>(&());
            Err(apply::refused(cluster, "list", &resource, selector, &error))
        }
    }
}

fn reference(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::controller;
    use crate::version::ObjectModel;

    #[test]
    fn only_the_legacy_model_has_a_role_per_link() {
        let kinds = |model| {
            let objects = controller(model, "east");
            let kinds: Vec<String> = objects
                .iter()
                .map(|object| object["kind"].as_str().unwrap().to_owned())
                .collect();
            kinds
        };
        assert!(kinds(ObjectModel::Legacy).contains(&"ClusterRole".to_owned()));
        assert!(!kinds(ObjectModel::Managed).contains(&"ClusterRole".to_owned()));
    }
}
