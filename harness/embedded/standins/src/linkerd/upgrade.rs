//! `linkerd upgrade` and `linkerd prune`: what is left of an installation to be rendered again, and of what was rendered
//! before.
//!
//! Values come from the Secret that `linkerd install` printed, and trust from the cluster, but for the anchors and the issuer
//! that `upgrade` is given.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use meshproof_mesh::install;
use meshproof_mesh::names::{CONTROL_PLANE_NAMESPACE, IDENTITY_ISSUER, label};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{of_version, refused};
use crate::exchange::Failure;
use crate::values;
use crate::world::World;

/// Secret with the values that were given to `linkerd install`, and its only key.
const OVERRIDES: &str = "linkerd-config-overrides";

/// What `linkerd install` keeps of its values; the issuer's key is in a Secret of its own.
pub(super) fn overrides(given: &Value) -> Value {
    let mut kept = given.clone();
    if let Some(issuer) = kept.pointer_mut("/identity/issuer").and_then(Value::as_object_mut) {
        issuer.remove("tls");
    }
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": OVERRIDES,
            "namespace": CONTROL_PLANE_NAMESPACE,
            "labels": {label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE},
        },
        "stringData": {OVERRIDES: kept.to_string()},
    })
}

/// What `linkerd upgrade` prints.
pub(super) async fn control_plane(world: &World, cluster: &Cluster, more: &Value) -> Result<Vec<Value>, Failure> {
    let mut given = stored(cluster).await?;
    values::merge(&mut given, more.clone());
    let overrides = overrides(&given);
    if given.pointer("/identity/issuer/tls").is_none() {
        let issuer = secret(cluster, IDENTITY_ISSUER)
            .await?
            .ok_or_else(|| Failure::new("unable to fetch the existing issuer credentials from Kubernetes"))?;
        given["identity"]["issuer"]["tls"] = json!({"crtPEM": issuer("tls.crt"), "keyPEM": issuer("tls.key")});
    }
    let mut objects = install::control_plane(&values::control_plane(given)?);
    objects.push(overrides);
    Ok(of_version(world, cluster.version, objects))
}

/// What `linkerd prune` prints: what carries the control plane's label and is not rendered now.
pub(super) async fn pruned(world: &World, cluster: &Cluster) -> Result<Vec<Value>, Failure> {
    let mut rendered = control_plane(world, cluster, &json!({})).await?;
    rendered.extend(install::crds());
    let is = |object: &Value, other: &Value| {
        ["/kind", "/metadata/namespace", "/metadata/name"]
            .iter()
            .all(|field| object.pointer(field) == other.pointer(field))
    };
    let mut found = install::uninstall_control_plane(&cluster.client)
        .await
        .map_err(refused)?;
    found.retain(|object| !rendered.iter().any(|rendered| is(object, rendered)));
    Ok(found)
}

async fn stored(cluster: &Cluster) -> Result<Value, Failure> {
    let missing = || {
        Failure::new(format!(
            "Could not find the {OVERRIDES} secret.\nIf Linkerd was installed with Helm, please use Helm to perform upgrades"
        ))
    };
    let stored = secret(cluster, OVERRIDES).await?.ok_or_else(missing)?;
    values::read(&stored(OVERRIDES))
}

/// What a Secret of the control plane holds under a key; nothing when there is none.
async fn secret(cluster: &Cluster, name: &str) -> Result<Option<impl Fn(&str) -> String + use<>>, Failure> {
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), CONTROL_PLANE_NAMESPACE);
    let found = secrets.get_opt(name).await;
    let found = found.map_err(|error| Failure::new(super::words(&error.to_string())))?;
    Ok(found.map(|secret| {
        let data = secret.data.unwrap_or_default();
        move |key: &str| {
            let bytes = data.get(key).map(|bytes| bytes.0.clone()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }))
}
