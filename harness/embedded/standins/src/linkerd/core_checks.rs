//! The checks of the control plane that have something to look at here. The real command's checks of webhooks, heartbeat,
//! CNI, clock and proxies in the control plane are left out: the model has none of these.

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{Api, ResourceExt};
use meshproof_mesh::names::{CONTROL_PLANE_NAMESPACE, label};
use x509_parser::pem::Pem;

use super::checks::{Level, Outcome, Report, plain, until};
use super::cluster::Cluster;
use crate::exchange::Failure;

/// Custom resources of a control plane.
const DEFINITIONS: [&str; 4] = [
    "authorizationpolicies.policy.linkerd.io",
    "meshtlsauthentications.policy.linkerd.io",
    "networkauthentications.policy.linkerd.io",
    "servers.policy.linkerd.io",
];
const DEPLOYMENTS: [&str; 3] = ["linkerd-destination", "linkerd-identity", "linkerd-proxy-injector"];
const ACCOUNTS: [&str; 3] = ["linkerd-destination", "linkerd-identity", "linkerd-proxy-injector"];

fn said<T>(result: Result<T, Failure>) -> Result<T, String> {
    result.map_err(|failure| failure.message)
}

/// Runs them all.
pub(super) async fn run(cluster: &Cluster, report: &mut Report) {
    let fatal = |anchor, description| (anchor, description, Level::Fatal);
    let error = |anchor, description| (anchor, description, Level::Error);
    let warning = |anchor, description| (anchor, description, Level::Warning);

    let api = "kubernetes-api";
    report
        .check(api, fatal("k8s-api", "can initialize the client"), async {
            plain(Ok(()))
        })
        .await;
    let answers = async {
        plain(
            cluster
                .client
                .apiserver_version()
                .await
                .map(drop)
                .map_err(|error| error.to_string()),
        )
    };
    report
        .check(api, fatal("k8s-api", "can query the Kubernetes API"), answers)
        .await;

    let gateway_api = async {
        if said(cluster.has_definition("httproutes.gateway.networking.k8s.io").await)? {
            return plain(Ok(()));
        }
        Err("missing httproutes.gateway.networking.k8s.io".to_owned())
    };
    report
        .check(
            "gateway-api-crd",
            fatal("l5d-gateway-api-crd", "Gateway API CRDs are installed"),
            gateway_api,
        )
        .await;

    let existence = "linkerd-existence";
    let configured = async { plain(said(cluster.linkerd_values().await).map(drop)) };
    report
        .check(
            existence,
            fatal("l5d-existence-linkerd-config", "'linkerd-config' config map exists"),
            configured,
        )
        .await;
    let deadline = report.deadline();
    let ready = until(deadline, || control_plane_is_ready(cluster).boxed());
    report
        .check(
            existence,
            fatal("l5d-api-control-ready", "control plane pods are ready"),
            ready,
        )
        .await;

    let config = "linkerd-config";
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let namespace = async {
        if said(cluster.has(&namespaces, CONTROL_PLANE_NAMESPACE).await)? {
            return plain(Ok(()));
        }
        Err(format!("The \"{CONTROL_PLANE_NAMESPACE}\" namespace does not exist"))
    };
    report
        .check(
            config,
            fatal("l5d-existence-ns", "control plane Namespace exists"),
            namespace,
        )
        .await;
    let accounts = async {
        let api = Api::<ServiceAccount>::namespaced(cluster.client.clone(), CONTROL_PLANE_NAMESPACE);
        let mut missing = Vec::new();
        for name in ACCOUNTS {
            if !said(cluster.has(&api, name).await)? {
                missing.push(name);
            }
        }
        missing_objects("ServiceAccounts", &missing)
    };
    report
        .check(
            config,
            fatal("l5d-existence-sa", "control plane ServiceAccounts exist"),
            accounts,
        )
        .await;
    let definitions = async {
        let mut missing = Vec::new();
        for name in DEFINITIONS {
            if !said(cluster.has_definition(name).await)? {
                missing.push(name);
            }
        }
        missing_objects("CustomResourceDefinitions", &missing)
    };
    report
        .check(
            config,
            fatal("l5d-existence-crd", "control plane CustomResourceDefinitions exist"),
            definitions,
        )
        .await;

    let identity = "linkerd-identity";
    let valid = async {
        plain(anchors_are_valid(
            &said(cluster.linkerd_values().await)?["identityTrustAnchorsPEM"],
        ))
    };
    report
        .check(
            identity,
            fatal(
                "l5d-identity-trustAnchors-are-time-valid",
                "trust anchors are within their validity period",
            ),
            valid,
        )
        .await;

    let version = "linkerd-version";
    let latest = async {
        Err(format!(
            "failed to resolve version check server: https://versioncheck.linkerd.io/version.json?version={}&uuid=unknown&source=cli",
            cluster.version
        ))
    };
    report
        .check(
            version,
            warning("l5d-version-latest", "can determine the latest version"),
            latest,
        )
        .await;
    let control_plane = "control-plane-version";
    report
        .check(
            control_plane,
            error("l5d-existence-version", "can retrieve the control plane version"),
            async { plain(Ok(())) },
        )
        .await;
}

fn missing_objects(kind: &str, missing: &[&str]) -> Outcome {
    if missing.is_empty() {
        return plain(Ok(()));
    }
    Err(format!("missing {kind}: {}", missing.join(", ")))
}

async fn control_plane_is_ready(cluster: &Cluster) -> Outcome {
    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), CONTROL_PLANE_NAMESPACE);
    for name in DEPLOYMENTS {
        if !said(cluster.has(&deployments, name).await)? {
            return Err(format!("No running pods for \"{name}\""));
        }
    }
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), CONTROL_PLANE_NAMESPACE);
    let pods = said(cluster.list(&pods, label::CONTROL_PLANE_COMPONENT).await)?;
    if pods.is_empty() {
        return Err("No running pods for \"linkerd-destination\"".to_owned());
    }
    match pods.iter().find(|pod| !is_ready(pod)) {
        None => plain(Ok(())),
        Some(pod) => Err(format!("pod/{} container is not ready", pod.name_any())),
    }
}

/// Whether a pod's condition `Ready` is true.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

fn anchors_are_valid(anchors: &serde_json::Value) -> Result<(), String> {
    let text = anchors.as_str().unwrap_or_default();
    let mut found = 0;
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem = pem.map_err(|error| format!("cannot parse trust anchors: {error}"))?;
        let certificate = pem
            .parse_x509()
            .map_err(|error| format!("cannot parse trust anchors: {error}"))?;
        if !certificate.validity().is_valid() {
            return Err(format!(
                "Invalid anchors:\n\t* {} {}",
                certificate.serial,
                certificate.subject()
            ));
        }
        found += 1;
    }
    if found == 0 {
        Err("no trust anchors".to_owned())
    } else {
        Ok(())
    }
}
