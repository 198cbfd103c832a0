//! What stands on disk of an environment: one private folder with its record, written before the first cluster is created,
//! so that whatever happens to the process, it can be told what it left. Who uses the folder holds a lock in it, which ends
//! with the process.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use meshproof_engine::problem::{self, Problem};
use serde::{Deserialize, Serialize};

use super::answers::Node;
use super::contents::Note;
use crate::claim::{self, ClaimError, Holder};

const RECORD: &str = "record.json";
/// End of the name of the file that says that a docker network is of our making.
const NETWORK: &str = ".network";

/// What was made, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Name of the environment.
    pub(super) environment: String,
    /// Docker network.
    pub(super) network: String,
    /// What the clusters were made from.
    pub(super) digest: String,
    /// Whether all of it was finished.
    pub(super) complete: bool,
    /// Whether they are to stay up for the next run. In records of earlier versions nobody said that they are not.
    #[serde(default = "kept")]
    pub(super) kept: bool,
    /// The clusters.
    pub(super) clusters: Vec<RecordedCluster>,
}

impl Record {
    /// Whether these clusters stay up although no process uses them: a later run can take them over.
    pub(super) fn stays(&self) -> bool {
        self.kept && self.complete
    }
}

fn kept() -> bool {
    true
}

/// A cluster that was made, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedCluster {
    /// Name in kind.
    pub(super) kind_name: String,
    /// Its kubeconfig.
    pub(super) kubeconfig: PathBuf,
    /// Nodes with their addresses, once they were known.
    pub(super) nodes: Vec<(String, String)>,
    /// What was in it when it was new; absent while it is not ready, and in records of earlier versions.
    #[serde(default)]
    pub(super) contents: Option<Note>,
}

impl RecordedCluster {
    /// Remembers the nodes.
    pub(super) fn set_nodes(&mut self, nodes: &[Node]) {
        self.nodes = nodes
            .iter()
            .map(|node| (node.name.clone(), node.address.to_string()))
            .collect();
    }
}

/// The right to an environment's folder, while this lives.
#[derive(Debug)]
pub(super) struct Claim(claim::Claim);

impl Claim {
    /// Takes an environment's folder, making it when it is not there.
    ///
    /// # Errors
    /// `environment-in-use` when somebody has it, `state-folder` when it is not ours or can't be written.
    pub(super) fn take(folder: &Path) -> Result<Self, Problem> {
        let taken = claim::Claim::take(folder, is_own);
        taken.map(Self).map_err(|error| match error {
            ClaimError::InUse => in_use(folder),
            other => unusable(&other.to_string()),
        })
    }

    /// What the folder tells of earlier clusters; `None` when there were none. A record that can't be read is a problem:
    /// without it nobody would know what to remove.
    ///
    /// # Errors
    /// `state-folder`.
    pub(super) fn record(&self) -> Result<Option<Record>, Problem> {
        read_record(self.0.folder())
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// `state-folder`.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), Problem> {
        let text = serde_json::to_string_pretty(record).unwrap_or_default();
        write_private(&self.0.folder().join(RECORD), &text)
    }

    /// Removes the folder with everything of ours in it.
    ///
    /// # Errors
    /// `state-folder`, also when somebody else put something into it, which stays.
    pub(super) fn remove(self) -> Result<(), Problem> {
        self.0.remove(is_own).map_err(|error| unusable(&error.to_string()))
    }
}

/// Names of files in an environment's folder: its record, the clusters' configurations and kubeconfigs, and the locks that
/// kind puts beside those.
fn is_own(name: &str) -> bool {
    name == RECORD
        || [".yaml", ".kubeconfig", ".kubeconfig.lock"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// Writes a file that only the user may read.
///
/// # Errors
/// `state-folder`.
pub(super) fn write_private(path: &Path, content: &str) -> Result<(), Problem> {
    claim::write_private(path, content).map_err(|error| unusable(&format!("{}: {error}", path.display())))
}

/// Names of the environments in a state folder: folders that say that they are ours.
///
/// # Errors
/// `state-folder`.
pub(super) fn environments(state: &Path) -> Result<Vec<String>, Problem> {
    let entries = match std::fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(&format!("{}: {error}", state.display()))),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| !matches!(claim::holder(&entry.path()), Holder::Foreign(_)))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// What is in a state folder and is not of our making, with the reason: environments and marks of networks are.
pub(super) fn strangers(state: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let mut told: Vec<String> = entries
        .filter_map(|entry| {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let of_network = name
                .strip_suffix(NETWORK)
                .is_some_and(|network| network_is_ours(state, network))
                || is_unfinished_mark(&path);
            match claim::holder(&path) {
                Holder::Foreign(why) if !of_network => Some(format!("{}: {why}", path.display())),
                _ => None,
            }
        })
        .collect();
    told.sort();
    told
}

/// The record of an environment that somebody else may be using.
///
/// # Errors
/// `state-folder`.
pub(super) fn read_record(folder: &Path) -> Result<Option<Record>, Problem> {
    let path = folder.join(RECORD);
    let damaged = |what: &str| {
        problem::environment(
            "state-folder",
            format!("{} can't be used: {what}", path.display()),
            Some("remove the clusters that `kind get clusters` shows under this name, then the folder"),
        )
    };
    let Some(text) = claim::read_private(&path).map_err(|error| damaged(&error.to_string()))? else {
        return Ok(None);
    };
    let record: Record = serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?;
    // Clusters are removed because it says so: it has to be the one that was written here.
    let name = folder.file_name().unwrap_or_default();
    let elsewhere = |cluster: &&RecordedCluster| cluster.kubeconfig.parent().and_then(Path::file_name) != Some(name);
    if name != record.environment.as_str() {
        return Err(damaged(&format!("it tells of {}", record.environment)));
    }
    if let Some(cluster) = record.clusters.iter().find(elsewhere) {
        return Err(damaged(&format!(
            "the kubeconfig of {} is not beside it",
            cluster.kind_name
        )));
    }
    let own = format!("{}-", record.environment);
    if let Some(cluster) = record
        .clusters
        .iter()
        .find(|cluster| !cluster.kind_name.starts_with(&own))
    {
        return Err(damaged(&format!(
            "`{}` is no name of one of its clusters",
            cluster.kind_name
        )));
    }
    Ok(Some(record))
}

/// Remembers that this docker network is of our making.
///
/// # Errors
/// `state-folder`.
pub(super) fn mark_network(state: &Path, network: &str) -> Result<(), Problem> {
    write_private(&network_mark(state, network), &mark(network))
}

/// Whether this docker network is of our making.
pub(super) fn network_is_ours(state: &Path, network: &str) -> bool {
    matches!(claim::read_private(&network_mark(state, network)), Ok(Some(text)) if text == mark(network))
}

/// Docker networks of our making.
pub(super) fn own_networks(state: &Path) -> Vec<String> {
    let names = std::fs::read_dir(state).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(NETWORK).map(ToOwned::to_owned))
        .filter(|network| network_is_ours(state, network))
        .collect()
}

/// Removes marks that a process was killed over. While a process uses one of the environments they may be about to get their
/// right name.
pub(super) fn remove_unfinished_marks(state: &Path) {
    let entries: Vec<PathBuf> = std::fs::read_dir(state)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    if entries.iter().any(|path| claim::holder(path) == Holder::Alive) {
        return;
    }
    for path in entries.iter().filter(|path| is_unfinished_mark(path)) {
        // What stays is looked at again the next time.
        let _ = std::fs::remove_file(path);
    }
}

/// Whether this is the beginning of a mark, under the name that it is written to first.
fn is_unfinished_mark(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = claim::unfinished(NETWORK);
    name.strip_suffix(end.as_str())
        .is_some_and(|network| matches!(claim::read_private(path), Ok(Some(text)) if mark(network).starts_with(&text)))
}

/// Forgets a docker network of our making, because it is gone.
pub(super) fn forget_network(state: &Path, network: &str) {
    // It being gone already is as good.
    let _ = std::fs::remove_file(network_mark(state, network));
}

fn network_mark(state: &Path, network: &str) -> PathBuf {
    state.join(format!("{network}{NETWORK}"))
}

fn mark(network: &str) -> String {
    format!("meshproof: made docker network {network}\n")
}

fn unusable(what: &str) -> Problem {
    problem::environment(
        "state-folder",
        what,
        Some("give a folder for state that is meshproof's alone and that you may write, with --state"),
    )
}

fn in_use(folder: &Path) -> Problem {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    problem::environment(
        "environment-in-use",
        format!("the clusters of {name} are in use by another run"),
        Some("wait until it ends, or give this run another prefix for its clusters"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{
        Claim, Record, RecordedCluster, environments, mark_network, own_networks, remove_unfinished_marks, strangers,
    };

    #[test]
    fn an_environment_is_used_by_one_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("meshproof-pair");
        let claim = Claim::take(&folder).unwrap();
        assert_eq!(Claim::take(&folder).unwrap_err().code, "environment-in-use");
        assert_eq!(environments(state.path()).unwrap(), ["meshproof-pair"]);
        claim.remove().unwrap();
        assert!(environments(state.path()).unwrap().is_empty());
        Claim::take(&folder).unwrap();
    }

    #[test]
    fn records_outlive_their_maker_and_are_private() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("meshproof-pair");
        let record = Record {
            environment: "meshproof-pair".to_owned(),
            network: "kind".to_owned(),
            digest: "d".to_owned(),
            complete: false,
            kept: false,
            clusters: Vec::new(),
        };
        let claim = Claim::take(&folder).unwrap();
        assert_eq!(claim.record().unwrap(), None);
        claim.write_record(&record).unwrap();
        drop(claim);
        assert_eq!(Claim::take(&folder).unwrap().record().unwrap(), Some(record));
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("record.json")), 0o600);
        std::fs::write(folder.join("record.json"), "{").unwrap();
        assert_eq!(Claim::take(&folder).unwrap().record().unwrap_err().code, "state-folder");
    }

    #[test]
    fn a_record_that_was_not_written_there_removes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("meshproof-pair");
        let claim = Claim::take(&folder).unwrap();
        let record = |environment: &str, kubeconfig: &str| Record {
            environment: environment.to_owned(),
            network: "kind".to_owned(),
            digest: "d".to_owned(),
            complete: true,
            kept: true,
            clusters: vec![RecordedCluster {
                kind_name: "production".to_owned(),
                kubeconfig: kubeconfig.into(),
                nodes: Vec::new(),
                contents: None,
            }],
        };
        for forged in [
            record("other", "/x/other/a.kubeconfig"),
            record("meshproof-pair", "/home/ann/.kube/config"),
            record("meshproof-pair", "/x/meshproof-pair/a.kubeconfig"),
        ] {
            claim.write_record(&forged).unwrap();
            assert_eq!(claim.record().unwrap_err().code, "state-folder");
        }
    }

    #[test]
    fn marks_that_a_process_was_killed_over_go_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        mark_network(state.path(), "mesh").unwrap();
        let file = |name: &str| state.path().join(name);
        std::fs::write(file("mesh.network.new"), "").unwrap();
        std::fs::write(file("kind.network.new"), "meshproof: made docker").unwrap();
        std::fs::write(file("office.network.new"), "[Match]\nName=eth0\n").unwrap();
        std::os::unix::fs::symlink("/dev/zero", file("zero.network.new")).unwrap();
        remove_unfinished_marks(state.path());
        let left = strangers(state.path());
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[0].contains("office") && left[1].contains("zero"), "{left:?}");
        assert_eq!(own_networks(state.path()), ["mesh"]);
    }

    #[test]
    fn networks_are_ours_only_when_their_mark_says_so() {
        let state = tempfile::tempdir().unwrap();
        mark_network(state.path(), "mesh").unwrap();
        std::fs::write(state.path().join("office.network"), "[Match]\nName=eth0\n").unwrap();
        std::fs::write(state.path().join("empty.network"), "").unwrap();
        assert_eq!(own_networks(state.path()), ["mesh"]);
    }
}
