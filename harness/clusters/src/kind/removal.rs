//! Removing clusters, and making sure that nothing is left of them.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Tools;

use super::answers;
use super::commands::Commands;
use super::record::{self, Claim, Record, RecordedCluster};

/// Between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Looks until what is still there counts as left.
const LOOKS: usize = 5;

/// How sure it is that nobody makes containers of these clusters any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// What made them has ended.
    Ended,
    /// It was killed: Docker may still be busy with its last request, so one clean look is not enough.
    Killed,
}

/// Removes what a record names, and its folder.
///
/// # Errors
/// `clusters-left` with what is left, or what a tool says; then the folder stays, so that it can be tried again.
pub(super) async fn remove(
    tools: &Tools,
    commands: &Commands,
    state: &Path,
    claim: Claim,
    certainty: Certainty,
) -> Result<(), Problem> {
    if let Some(record) = claim.record()? {
        clusters(tools, commands, &record, certainty).await?;
    }
    claim.remove()?;
    network(tools, commands, state).await
}

/// Removes the clusters and other containers of a record.
///
/// # Errors
/// As [`remove`].
pub(super) async fn clusters(
    tools: &Tools,
    commands: &Commands,
    record: &Record,
    certainty: Certainty,
) -> Result<(), Problem> {
    let refused: Vec<String> = join_all(record.clusters.iter().map(|cluster| delete(tools, commands, cluster)))
        .await
        .into_iter()
        .flatten()
        .collect();
    let needed = match certainty {
        Certainty::Ended => 1,
        Certainty::Killed => 2,
    };
    let mut clean = 0;
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        left = containers(tools, commands, record).await?;
        if left.is_empty() {
            clean += 1;
            if clean == needed {
                break;
            }
        } else {
            clean = 0;
            tools.try_run(&commands.remove_containers(&left)).await?;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let asked = commands.clusters();
    let listed = answers::names(&asked, &tools.run(&asked).await?.stdout)?;
    left.extend(
        record
            .clusters
            .iter()
            .filter(|cluster| listed.contains(&cluster.kind_name))
            .map(|cluster| format!("cluster {}", cluster.kind_name)),
    );
    if left.is_empty() {
        return Ok(());
    }
    Err(problem::environment(
        "clusters-left",
        format!(
            "of {} these are left: {}; {}",
            record.environment,
            left.join(", "),
            if refused.is_empty() {
                "all commands for removing them succeeded".to_owned()
            } else {
                refused.join("; ")
            }
        ),
        Some(
            "`meshproof gc` tries again; by hand: `kind delete cluster --name <cluster>`, `docker rm --force --volumes <container>`",
        ),
    ))
}

/// Deletes a cluster; what went wrong, if anything did.
async fn delete(tools: &Tools, commands: &Commands, cluster: &RecordedCluster) -> Option<String> {
    // A killed kind leaves its lock of the kubeconfig, and the next one would wait for it in vain.
    let mut lock = cluster.kubeconfig.clone().into_os_string();
    lock.push(".lock");
    let _ = std::fs::remove_file(lock);
    // Whether it worked is told by what is left afterwards, not by its exit.
    let deleted = tools
        .run(&commands.delete(&cluster.kind_name, &cluster.kubeconfig))
        .await;
    deleted.err().map(|problem| problem.message)
}

async fn containers(tools: &Tools, commands: &Commands, record: &Record) -> Result<Vec<String>, Problem> {
    let mut asked: Vec<_> = record
        .clusters
        .iter()
        .map(|cluster| commands.containers_of(&cluster.kind_name))
        .collect();
    asked.push(commands.labelled_containers_of(&record.environment));
    let mut found = Vec::new();
    for asked in asked {
        found.extend(answers::names(&asked, &tools.run(&asked).await?.stdout)?);
    }
    Ok(found)
}

/// Removes the docker network when it is of our making and nobody needs it any more.
pub(super) async fn network(tools: &Tools, commands: &Commands, state: &Path) -> Result<(), Problem> {
    let name = commands.network();
    if !record::network_is_ours(state, name) || !record::environments(state)?.is_empty() {
        return Ok(());
    }
    let removed = tools.try_run(&commands.remove_network()).await?;
    // Somebody else may have put containers into it; then it is theirs to remove.
    if removed.success() || is_absent(&removed.stderr) {
        record::forget_network(state, name);
    } else {
        tracing::info!(network = name, said = removed.stderr.trim(), "the docker network stays");
    }
    Ok(())
}

/// Whether Docker says that there is no such thing.
pub(super) fn is_absent(complaint: &str) -> bool {
    let complaint = complaint.to_lowercase();
    complaint.contains("not found") || complaint.contains("no such network")
}
