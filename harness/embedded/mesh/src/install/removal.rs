//! What has to be deleted to take a link, the extension or the control plane away again.

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::defect::{Defect, Defects};
use crate::names::{
    CONTROL_PLANE_NAMESPACE, MULTICLUSTER_NAMESPACE, REMOTE_ACCESS, controller, controller_cluster_role_binding,
    credentials_role, credentials_secret, label, lease, probe_service,
};

/// Why nothing is to be deleted.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// `linkerd multicluster uninstall` while clusters are linked; the real command's text.
    #[error("Please unlink the following clusters before uninstalling multicluster:\n{}", bullets(.0))]
    StillLinked(Vec<String>),
    /// The API server refused, or the Link does not exist.
    #[error("{0}")]
    Api(#[from] kube::Error),
}

fn bullets(clusters: &[String]) -> String {
    let lines: Vec<String> = clusters.iter().map(|cluster| format!("  * {cluster}")).collect();
    lines.join("\n")
}

/// What the documented procedure of 2.18 and later removes for `link`, in order: the entry of `controllers` (that is: its
/// Deployment, probe Service and rights), the Link, the credentials in both namespaces, and then what the controller left:
/// mirrors and lease. Only `apiVersion`, `kind`, name and namespace are filled in; objects may be gone already.
///
/// # Errors
/// The API server's own when there is no such Link.
pub async fn unlink(source: &Client, defects: &Defects, link: &str) -> Result<Vec<Value>, RemovalError> {
    links(source).get(link).await?;
    let namespace = Some(MULTICLUSTER_NAMESPACE);
    let rbac = "rbac.authorization.k8s.io/v1";
    let mut objects = vec![
        reference("apps/v1", "Deployment", namespace, &controller(link)),
        reference("v1", "Service", namespace, &probe_service(link)),
        reference(rbac, "ClusterRoleBinding", None, &controller_cluster_role_binding(link)),
        reference(rbac, "RoleBinding", namespace, &credentials_role(link)),
        reference(rbac, "Role", namespace, &credentials_role(link)),
        reference("v1", "ServiceAccount", namespace, &controller(link)),
        reference("multicluster.linkerd.io/v1alpha3", "Link", namespace, link),
        reference("v1", "Secret", namespace, &credentials_secret(link)),
    ];
    if !defects.has(Defect::UnlinkLeavesCredentials) {
        let credentials = Api::<Secret>::namespaced(source.clone(), CONTROL_PLANE_NAMESPACE)
            .list(&ListParams::default().labels(&format!("{}={link}", label::CREDENTIALS_CLUSTER)))
            .await?;
        objects.extend(credentials.items.iter().map(reference_to));
    }
    let mut selector = format!("{}=true", label::MIRRORED_SERVICE);
    if !defects.has(Defect::UnlinkTakesBystander) {
        selector = format!("{selector},{}={link}", label::CLUSTER_NAME);
    }
    let mirrors = Api::<Service>::all(source.clone())
        .list(&ListParams::default().labels(&selector))
        .await?;
    objects.extend(mirrors.items.iter().map(reference_to));
    objects.push(reference("coordination.k8s.io/v1", "Lease", namespace, &lease(link)));
    Ok(objects)
}

/// What `linkerd multicluster uninstall` prints: everything with the extension's label that no other deletion takes
/// along.
///
/// # Errors
/// [`RemovalError::StillLinked`] while Links exist.
pub async fn uninstall(client: &Client, defects: &Defects) -> Result<Vec<Value>, RemovalError> {
    let linked = linked_clusters(client, defects).await?;
    if !linked.is_empty() && !defects.has(Defect::UninstallIgnoresLinks) {
        return Err(RemovalError::StillLinked(linked));
    }
    let mut objects = labelled(
        client,
        &format!("{}=multicluster", label::EXTENSION),
        MULTICLUSTER_NAMESPACE,
    )
    .await?;
    if defects.has(Defect::UninstallLeavesClusterRoleBinding) {
        objects.retain(|object| object["kind"] != "ClusterRoleBinding" || object["metadata"]["name"] != REMOTE_ACCESS);
    }
    Ok(objects)
}

/// What `linkerd uninstall` prints: everything of the control plane that no other deletion takes along. The Gateway API's
/// definitions are not Linkerd's and stay.
///
/// # Errors
/// The API server's.
pub async fn uninstall_control_plane(client: &Client) -> Result<Vec<Value>, RemovalError> {
    labelled(
        client,
        &format!("{}={CONTROL_PLANE_NAMESPACE}", label::CONTROL_PLANE_NS),
        CONTROL_PLANE_NAMESPACE,
    )
    .await
}

fn links(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "multicluster.linkerd.io".to_owned(),
        version: "v1alpha3".to_owned(),
        api_version: "multicluster.linkerd.io/v1alpha3".to_owned(),
        kind: "Link".to_owned(),
        plural: "links".to_owned(),
    };
    Api::namespaced_with(client.clone(), MULTICLUSTER_NAMESPACE, &resource)
}

/// Names of the linked clusters; none when the extension was never installed.
async fn linked_clusters(client: &Client, defects: &Defects) -> Result<Vec<String>, RemovalError> {
    let links = match links(client).list(&ListParams::default()).await {
        Ok(links) => links.items,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut clusters = Vec::new();
    for link in links {
        // A Link that linking put into the wrong cluster is no link of this one: unlinking cannot remove it.
        if defects.has(Defect::LinkWritesToTarget)
            && Api::<Secret>::namespaced(client.clone(), MULTICLUSTER_NAMESPACE)
                .get_opt(&credentials_secret(&link.name_any()))
                .await?
                .is_none()
        {
            continue;
        }
        let cluster = link.data["spec"]["targetClusterName"].as_str();
        clusters.push(cluster.map_or_else(|| link.name_any(), str::to_owned));
    }
    Ok(clusters)
}

/// Bindings before roles before definitions before namespaces, so that nothing loses its rights half-way.
async fn labelled(client: &Client, selector: &str, namespace: &str) -> Result<Vec<Value>, RemovalError> {
    let mut objects = list::<ClusterRoleBinding>(Api::all(client.clone()), selector).await?;
    objects.extend(list::<ClusterRole>(Api::all(client.clone()), selector).await?);
    objects.extend(list::<RoleBinding>(Api::namespaced(client.clone(), namespace), selector).await?);
    objects.extend(list::<Role>(Api::namespaced(client.clone(), namespace), selector).await?);
    objects.extend(list::<CustomResourceDefinition>(Api::all(client.clone()), selector).await?);
    objects.extend(list::<Namespace>(Api::all(client.clone()), selector).await?);
    Ok(objects)
}

async fn list<K>(api: Api<K>, selector: &str) -> Result<Vec<Value>, RemovalError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = api.list(&ListParams::default().labels(selector)).await?;
    Ok(found.items.iter().map(reference_to).collect())
}

fn reference_to<K: Resource<DynamicType = ()>>(object: &K) -> Value {
    reference(
        &K::api_version(&()),
        &K::kind(&()),
        object.meta().namespace.as_deref(),
        object.meta().name.as_deref().unwrap_or_default(),
    )
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
    use super::RemovalError;

    #[test]
    fn the_refusal_has_the_recorded_text() {
        let error = RemovalError::StillLinked(vec!["east".into(), "north".into()]);
        assert_eq!(
            error.to_string(),
            "Please unlink the following clusters before uninstalling multicluster:\n  * east\n  * north"
        );
    }
}
