//! `linkerd install` and `linkerd multicluster install`, with and without a cluster.

use meshproof_mesh::install;
use meshproof_mesh::names::{CONTROL_PLANE_NAMESPACE, LINKERD_CONFIG};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{Install, MulticlusterInstall, of_version, print, upgrade, version, with_values};
use crate::exchange::{Call, Failure, Terminal, not_modelled};
use crate::values;
use crate::world::World;

/// Looks whether the cluster takes an installation; prints the definitions when they are asked for, and tells that by `true`.
pub(super) async fn may_install(
    world: &World,
    terminal: &Terminal,
    cluster: &Cluster,
    options: &Install,
) -> Result<bool, Failure> {
    if cluster.linkerd_values().await.is_ok() {
        return Err(Failure::new(format!(
            "Can't install the Linkerd control plane in the '{CONTROL_PLANE_NAMESPACE}' namespace. Reason: \
             ConfigMap/{LINKERD_CONFIG} already exists.\nRun the command `linkerd upgrade`, if you are looking to upgrade Linkerd."
        )));
    }
    if options.crds {
        if !cluster.has_definition("httproutes.gateway.networking.k8s.io").await? {
            return Err(Failure::new(
                "The Gateway API CRDs must be installed prior to installing Linkerd.",
            ));
        }
        let objects = of_version(world, cluster.version, install::crds());
        print(terminal, &options.values.output, &objects)?;
        terminal.note(
            "Rendering Linkerd CRDs...\nNext, run `linkerd install | kubectl apply -f -` to install the control plane.\n",
        );
        return Ok(true);
    }
    if !cluster.has_definition("servers.policy.linkerd.io").await? {
        return Err(Failure::new(
            "Linkerd CRDs must be installed first. Run linkerd install with the --crds flag.",
        ));
    }
    Ok(false)
}

/// `linkerd install`.
pub(super) async fn control_plane(
    world: &World,
    call: &Call,
    terminal: &Terminal,
    options: Install,
) -> Result<(), Failure> {
    let mut given = options.certificates.values(call)?;
    let has = |pointer: &str| given.pointer(pointer).is_some();
    if has("/identityTrustAnchorsPEM") != has("/identity/issuer/tls") {
        return Err(Failure::new(
            "a trust anchors file must be specified if other credentials are provided",
        ));
    }
    for (key, value) in [
        ("identityTrustDomain", options.identity_trust_domain),
        ("clusterDomain", options.cluster_domain),
    ] {
        if let Some(value) = value {
            given[key] = value.into();
        }
    }
    let mut given = with_values(call, terminal, given, &options.values).await?;
    if given.get("identityTrustAnchorsPEM").is_none() && options.ignore_cluster {
        // Nobody can install this; the real one makes certificates here.
        let pem = "stand-in: made by the command";
        given["identityTrustAnchorsPEM"] = pem.into();
        given["identity"]["issuer"]["tls"] = json!({"crtPEM": pem, "keyPEM": pem});
    }
    if given.get("identityTrustAnchorsPEM").is_none() {
        return Err(not_modelled(
            "making trust anchors and issuer (give all three files); it",
        ));
    }
    let overrides = upgrade::overrides(&given);
    let mut objects = install::control_plane(&values::control_plane(given)?);
    objects.push(overrides);
    let objects = of_version(world, version(call), objects);
    print(terminal, &options.values.output, &objects)
}

/// `linkerd multicluster install`; `linkerd` are the values of the control plane in the cluster, when one is looked at.
pub(super) async fn multicluster(
    world: &World,
    call: &Call,
    terminal: &Terminal,
    linkerd: Option<Value>,
    options: MulticlusterInstall,
) -> Result<(), Failure> {
    let trust_domain = linkerd.and_then(|values| values["identityTrustDomain"].as_str().map(ToOwned::to_owned));
    let mut given = json!({"gateway": {"enabled": options.gateway}});
    if let Some(service_type) = options.gateway_service_type {
        given["gateway"]["serviceType"] = service_type.into();
    }
    if let Some(seconds) = options.gateway_probe_seconds {
        given["gateway"]["probe"] = json!({"seconds": seconds});
    }
    let given = with_values(call, terminal, given, &options.values).await?;
    let objects = install::multicluster(&world.model.defects(), &values::multicluster(given, trust_domain)?);
    let objects = of_version(world, version(call), objects);
    print(terminal, &options.values.output, &objects)
}
