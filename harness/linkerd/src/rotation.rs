//! Replacing a cluster's certificates as the documentation does: the control plane is applied again with the new ones, and
//! the identity service is seen to have taken a new issuer.
//!
//! Proxies take trust anchors only when they start, and a new certificate only when the old one nears its end, so that
//! everything with a sidecar is to be restarted after it. Gateways, controllers and workloads are the scenario's to restart,
//! when it wants; what is left of the extension is restarted here.
//!
//! Source: "Manually Rotating Control Plane TLS Credentials" in Linkerd's documentation.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scenario::TrustStep;

use crate::installer::Installer;
use crate::names::{CLUSTER_NAME, CONTROL_NAMESPACE, GATEWAY, MULTICLUSTER_NAMESPACE};
use crate::trust::ClusterTrust;
use crate::{apply, webhooks};

const IDENTITY_PODS: &str = "linkerd.io/control-plane-component=identity";
/// Reasons of the Events that the identity service leaves when its issuer's Secret has changed.
const TAKEN: &str = "IssuerUpdated";
const REFUSED: &str = "IssuerUpdateSkipped";

/// Gives the control plane of `cluster` these certificates.
pub(crate) async fn rotate(
    installer: &dyn Installer,
    cluster: &Cluster,
    trust: &ClusterTrust,
    step: TrustStep,
    deadline: Duration,
    pace: f64,
) -> Result<(), Problem> {
    let manifests = installer.rotated_control_plane(cluster, trust, step).await?;
    let before = Identity::look(cluster).await?;
    apply::apply(cluster, &manifests, deadline).await?;
    let deployments = apply::deployments(&manifests, CONTROL_NAMESPACE);
    apply::rolled_out(cluster, CONTROL_NAMESPACE, &deployments, deadline).await?;
    webhooks::await_acting(cluster, &manifests, deadline, pace).await?;
    if matches!(step, TrustStep::Issuer | TrustStep::UseRoot) {
        let what = "the identity service to take its new issuer";
        apply::within(deadline, cluster, what, before.issuer_taken(cluster)).await??;
    }
    let others = unnamed(cluster).await?;
    apply::restart(cluster, MULTICLUSTER_NAMESPACE, &others, deadline).await
}

/// Deployments of the extension that no component of a scenario stands for: neither the gateway nor the controller of a link.
async fn unnamed(cluster: &Cluster) -> Result<Vec<String>, Problem> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), MULTICLUSTER_NAMESPACE);
    let found = deployments.list(&ListParams::default()).await.map_err(|error| {
        problem::environment(
            "api-refused",
            format!("cluster {}: list the extension's Deployments: {error}", cluster.name),
            None,
        )
    })?;
    let others = found.iter().filter(|deployment| {
        let of_link = deployment.labels().contains_key(CLUSTER_NAME);
        !of_link && deployment.name_any() != GATEWAY
    });
    Ok(others.map(ResourceExt::name_any).collect())
}

/// The identity service at one moment.
struct Identity {
    /// Its pods by uid.
    pods: BTreeSet<String>,
    /// What it had told about issuers, by uid and version of the Event.
    told: BTreeSet<(String, String)>,
}

impl Identity {
    async fn look(cluster: &Cluster) -> Result<Self, Problem> {
        let told = events(cluster).list(&ListParams::default()).await;
        let told = told.map_err(|error| unreadable(cluster, "its Events", &error))?;
        Ok(Self {
            pods: pods(cluster).await?,
            told: told.iter().filter(|event| is_news(event)).map(version).collect(),
        })
    }

    /// Waits until every pod that was there has told that it took an issuer, or is gone: a pod reads the issuer when it
    /// starts, too.
    async fn issuer_taken(&self, cluster: &Cluster) -> Result<Result<(), Problem>, watcher::Error> {
        let mut missing = match pods(cluster).await {
            Ok(now) => now.intersection(&self.pods).count(),
            Err(problem) => return Ok(Err(problem)),
        };
        let mut told = self.told.clone();
        let changes = watcher(events(cluster), watcher::Config::default()).applied_objects();
        let mut changes = std::pin::pin!(changes);
        while missing > 0
            && let Some(event) = changes.try_next().await?
        {
            if !is_news(&event) || !told.insert(version(&event)) {
                continue;
            }
            if event.reason.as_deref() == Some(REFUSED) {
                return Ok(Err(problem::mesh(
                    "issuer-refused",
                    format!(
                        "cluster {}: the identity service refused its new issuer: {}",
                        cluster.name,
                        event.message.unwrap_or_default()
                    ),
                    Some("the issuer has to be under a root that the cluster trusts already"),
                )));
            }
            missing -= 1;
        }
        Ok(Ok(()))
    }
}

fn events(cluster: &Cluster) -> Api<Event> {
    Api::namespaced(cluster.client.clone(), CONTROL_NAMESPACE)
}

fn is_news(event: &Event) -> bool {
    event
        .reason
        .as_deref()
        .is_some_and(|reason| reason == TAKEN || reason == REFUSED)
}

fn version(event: &Event) -> (String, String) {
    let metadata = &event.metadata;
    (
        metadata.uid.clone().unwrap_or_default(),
        metadata.resource_version.clone().unwrap_or_default(),
    )
}

async fn pods(cluster: &Cluster) -> Result<BTreeSet<String>, Problem> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), CONTROL_NAMESPACE);
    let found = pods.list(&ListParams::default().labels(IDENTITY_PODS)).await;
    let found = found.map_err(|error| unreadable(cluster, "its pods", &error))?;
    Ok(found.into_iter().filter_map(|pod| pod.metadata.uid).collect())
}

fn unreadable(cluster: &Cluster, what: &str, error: &kube::Error) -> Problem {
    problem::environment(
        "api-refused",
        format!("cluster {}: the identity service: read {what}: {error}", cluster.name),
        None,
    )
}
