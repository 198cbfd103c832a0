//! What killed runs left in existing clusters.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use meshproof_engine::ownership::{MANAGED_BY, MANAGED_LABEL, RUN_LABEL};
use meshproof_engine::problem::{self, Problem};

use super::connect;
use super::options::ContextRef;

/// Wall time for all namespaces of a cluster to be gone.
const GONE_TIME: Duration = Duration::from_secs(300);

/// Whether somebody still works on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Its process lives.
    Alive,
    /// Its process is gone.
    Dead,
    /// It was started elsewhere: nothing is known of its process.
    Unknown,
}

/// What was found of earlier runs in one cluster. Namespaces by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Cluster of the topology.
    pub cluster: String,
    /// Namespaces that were removed, with the run that made them.
    pub removed: BTreeMap<String, String>,
    /// Namespaces that were left because their run is alive, or may be.
    pub spared: BTreeMap<String, String>,
}

/// Removes the namespaces that runs made which nobody works on any more, and waits until they are gone. Only namespaces with
/// both labels of the harness are looked at. Runs of which nothing is known are taken for alive until their namespace is
/// older than `unknown_after`.
///
/// Objects outside of a scenario's namespace, which only runs with consent touch, are not swept: those that a run made
/// carry its labels (`kubectl get <kind> -A -l app.kubernetes.io/managed-by=meshproof`).
///
/// # Errors
/// When a cluster can't be reached, or a namespace is not gone in time.
pub async fn sweep(
    contexts: &BTreeMap<String, ContextRef>,
    liveness: &(dyn Fn(&str) -> Liveness + Sync),
    unknown_after: Duration,
) -> Result<Vec<Swept>, Problem> {
    let mut all = Vec::new();
    for (name, given) in contexts {
        let client = connect::client(name, given, &connect::load(name, given)?).await?;
        let about = connect::place(name, given);
        all.push(sweep_one(name, &about, &client, liveness, unknown_after).await?);
    }
    Ok(all)
}

async fn sweep_one(
    cluster: &str,
    about: &str,
    client: &Client,
    liveness: &(dyn Fn(&str) -> Liveness + Sync),
    unknown_after: Duration,
) -> Result<Swept, Problem> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let refused = |error: kube::Error| connect::meaning(about, &error);
    let ours = format!("{MANAGED_LABEL}={MANAGED_BY},{RUN_LABEL}");
    let listed = namespaces
        .list(&ListParams::default().labels(&ours))
        .await
        .map_err(refused)?;
    let now = k8s_openapi::jiff::Timestamp::now();
    let mut swept = Swept {
        cluster: cluster.to_owned(),
        ..Swept::default()
    };
    for namespace in listed {
        let run = run_of(&namespace);
        let age = namespace
            .metadata
            .creation_timestamp
            .as_ref()
            .and_then(|time| Duration::try_from(now.duration_since(time.0)).ok())
            .unwrap_or_default();
        let name = namespace.metadata.name.unwrap_or_default();
        let left = match liveness(&run) {
            Liveness::Alive => false,
            Liveness::Dead => true,
            Liveness::Unknown => age >= unknown_after,
        };
        if !left {
            swept.spared.insert(name, run);
            continue;
        }
        // Exactly the one that was looked at.
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: namespace.metadata.uid,
            resource_version: None,
        });
        match namespaces.delete(&name, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(refused(error)),
        }
        swept.removed.insert(name, run);
    }
    await_gone(cluster, &namespaces, &ours, &swept).await?;
    Ok(swept)
}

fn run_of(namespace: &Namespace) -> String {
    let labels = namespace.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(RUN_LABEL))
        .cloned()
        .unwrap_or_default()
}

async fn await_gone(cluster: &str, namespaces: &Api<Namespace>, ours: &str, swept: &Swept) -> Result<(), Problem> {
    let mut left: Vec<String> = swept.removed.keys().cloned().collect();
    if left.is_empty() {
        return Ok(());
    }
    let mut present: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    let mut listed = false;
    let mut changes = watcher(namespaces.clone(), watcher::Config::default().labels(ours))
        .default_backoff()
        .boxed();
    let waiting = async {
        while let Some(change) = changes.next().await {
            match change {
                Ok(watcher::Event::Init) => present.clear(),
                Ok(watcher::Event::InitApply(namespace) | watcher::Event::Apply(namespace)) => {
                    present.extend(namespace.metadata.name);
                }
                Ok(watcher::Event::InitDone) => listed = true,
                Ok(watcher::Event::Delete(namespace)) => {
                    present.remove(namespace.metadata.name.as_deref().unwrap_or_default());
                }
                Err(error) => tracing::debug!(cluster, error = %error, "watching namespaces"),
            }
            left.retain(|name| !listed || present.contains(name));
            if left.is_empty() {
                return;
            }
        }
    };
    if tokio::time::timeout(GONE_TIME, waiting).await.is_ok() && left.is_empty() {
        return Ok(());
    }
    Err(problem::environment(
        "namespace-stuck",
        format!(
            "{cluster}: not gone {} s after their deletion: {}",
            GONE_TIME.as_secs(),
            left.join(", ")
        ),
        Some("see which objects in them have finalizers whose controller does not answer"),
    ))
}
