//! Undoing what runs changed in existing clusters outside of their namespaces, and were killed before they undid it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use meshproof_engine::api::{Requests, Retries};
use meshproof_engine::clock::Clock;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::restoring::{OpenDisturbance, restore};

use super::connect;
use super::options::ContextRef;

/// Wall time for undoing one change.
const TIME: Duration = Duration::from_secs(30);

/// Undoes changes of a dead run, in the order given, as far as their clusters are the ones that they were made in. Returns for
/// each change what became of it.
pub async fn restore_all(
    contexts: &BTreeMap<String, ContextRef>,
    run: &str,
    open: &[OpenDisturbance],
    private_dir: &Path,
) -> Vec<(u64, Result<String, Problem>)> {
    let requests = Requests {
        clock: Clock::start(1.0),
        retries: Retries::default(),
    };
    let mut clients: BTreeMap<&str, Result<Client, Problem>> = BTreeMap::new();
    let mut restored = Vec::new();
    for change in open {
        let cluster = change.cluster.as_str();
        if !clients.contains_key(cluster) {
            clients.insert(cluster, reach(contexts, change, &requests).await);
        }
        let done = match clients.get(cluster) {
            Some(Ok(client)) => {
                let (object, undo) = (&change.object, &change.undo);
                restore(&requests, client, object, undo, run, Some(private_dir), TIME).await
            }
            Some(Err(problem)) => Err(problem.clone()),
            None => continue,
        };
        let what = format!("{cluster}: {} {}", change.undo, change.object);
        let done = done.map(|()| what.clone()).map_err(|mut problem| {
            problem.message = format!("{what}: {}", problem.message);
            problem
        });
        restored.push((change.id, done));
    }
    restored
}

/// A client for the cluster in which a change was made.
async fn reach(
    contexts: &BTreeMap<String, ContextRef>,
    change: &OpenDisturbance,
    requests: &Requests,
) -> Result<Client, Problem> {
    let cluster = change.cluster.as_str();
    let context = contexts.get(cluster).ok_or_else(|| {
        problem::environment(
            "context-unknown",
            format!("it is not known how {cluster} is reached"),
            Some("undo the change by hand"),
        )
    })?;
    let client = connect::client(cluster, context, &connect::load(cluster, context)?).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let what = format!("{}: get Namespace kube-system", connect::place(cluster, context));
    let system = requests.send(&what, TIME, || namespaces.get("kube-system")).await?;
    let uid = system.metadata.uid.unwrap_or_default();
    match &change.cluster_uid {
        Some(expected) if *expected == uid => Ok(client),
        expected => Err(problem::environment(
            "another-cluster",
            format!(
                "{} is another cluster by now: its kube-system has the uid {uid}, and the run's had {}",
                connect::place(cluster, context),
                expected.as_deref().unwrap_or("one that it did not find out")
            ),
            Some("undo the change by hand if that cluster is still there"),
        )),
    }
}
