//! What stands on disk of an environment: one private folder with its record, written before the first cluster is created,
//! so that whatever happens to the process, it can be told what it left. Who uses the folder holds a lock in it, which ends
//! with the process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use meshproof_engine::problem::{self, Problem};
use serde::{Deserialize, Serialize};

use super::answers::Node;
use super::contents::Note;

const RECORD: &str = "record.json";
const LOCK: &str = "lock";
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
    /// The clusters.
    pub(super) clusters: Vec<RecordedCluster>,
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
pub(super) struct Claim {
    folder: PathBuf,
    lock: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Closing would not do: a command that another thread starts just now has a copy of the file until it is replaced by
        // its program, and the lock stays as long as any copy does.
        let _ = self.lock.unlock();
    }
}

impl Claim {
    /// Takes an environment's folder, making it when it is not there.
    ///
    /// # Errors
    /// `environment-in-use` when somebody has it, `state-folder` when it can't be written.
    pub(super) fn take(folder: &Path) -> Result<Self, Problem> {
        // Whoever had it may remove it between our opening its lock and taking it; then it is made again.
        for _ in 0..10 {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| unusable(folder, &error))?;
            let path = folder.join(LOCK);
            let lock = match private(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(|error| unusable(&path, &error))?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(folder)),
                Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
            }
            if same_file(&lock, &path) {
                return Ok(Self {
                    folder: folder.to_owned(),
                    lock,
                });
            }
        }
        Err(in_use(folder))
    }

    /// What the folder tells of earlier clusters; `None` when there were none. A record that can't be read is a problem:
    /// without it nobody would know what to remove.
    ///
    /// # Errors
    /// `state-folder`.
    pub(super) fn record(&self) -> Result<Option<Record>, Problem> {
        read_record(&self.folder)
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// `state-folder`.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), Problem> {
        let text = serde_json::to_string_pretty(record).unwrap_or_default();
        let (new, path) = (self.folder.join("record.new"), self.folder.join(RECORD));
        write_private(&new, &text)?;
        fs::rename(&new, &path).map_err(|error| unusable(&path, &error))
    }

    /// Removes the folder with everything in it.
    ///
    /// # Errors
    /// `state-folder`.
    pub(super) fn remove(self) -> Result<(), Problem> {
        fs::remove_dir_all(&self.folder).map_err(|error| unusable(&self.folder, &error))
    }
}

/// Writes a file that only the user may read.
///
/// # Errors
/// `state-folder`.
pub(super) fn write_private(path: &Path, content: &str) -> Result<(), Problem> {
    let write = || -> io::Result<()> {
        let mut file = private(path)?;
        file.set_len(0)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| unusable(path, &error))
}

/// Names of the environments in a state folder.
///
/// # Errors
/// `state-folder`.
pub(super) fn environments(state: &Path) -> Result<Vec<String>, Problem> {
    let entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(state, &error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join(LOCK).exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// The record of an environment that somebody else may be using.
///
/// # Errors
/// `state-folder`.
pub(super) fn read_record(folder: &Path) -> Result<Option<Record>, Problem> {
    let path = folder.join(RECORD);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        problem::environment(
            "state-folder",
            format!("{} can't be read: {error}", path.display()),
            Some("remove the clusters that `kind get clusters` shows under this name, then the folder"),
        )
    })
}

/// Remembers that this docker network is of our making.
///
/// # Errors
/// `state-folder`.
pub(super) fn mark_network(state: &Path, network: &str) -> Result<(), Problem> {
    write_private(&state.join(format!("{network}{NETWORK}")), "")
}

/// Whether this docker network is of our making.
pub(super) fn network_is_ours(state: &Path, network: &str) -> bool {
    state.join(format!("{network}{NETWORK}")).exists()
}

/// Docker networks of our making.
pub(super) fn own_networks(state: &Path) -> Vec<String> {
    let names = fs::read_dir(state).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(NETWORK).map(ToOwned::to_owned))
        .collect()
}

/// Forgets a docker network of our making, because it is gone.
pub(super) fn forget_network(state: &Path, network: &str) {
    // It being gone already is as good.
    let _ = fs::remove_file(state.join(format!("{network}{NETWORK}")));
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn same_file(open: &File, path: &Path) -> bool {
    match (open.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    problem::environment(
        "state-folder",
        format!("{}: {error}", path.display()),
        Some("give a folder for state that you may write, with --state"),
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

    use super::{Claim, Record, environments, mark_network, own_networks, write_private};

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
    fn an_environment_is_free_though_a_command_that_starts_still_has_a_copy_of_its_lock() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("meshproof-pair");
        let claim = Claim::take(&folder).unwrap();
        let copy = claim.lock.try_clone().unwrap();
        drop(claim);
        Claim::take(&folder).unwrap();
        drop(copy);
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
    fn rewriting_leaves_nothing_of_the_old() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("file");
        write_private(&path, "long content").unwrap();
        write_private(&path, "short").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
        mark_network(state.path(), "mesh").unwrap();
        assert_eq!(own_networks(state.path()), ["mesh"]);
    }
}
