//! What running processes leave on disk for other commands: one folder per served environment and one lock per run. A lock
//! is held as long as the process lives, however it ends, so that it can be told what a killed one left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Folder of what belongs to no process: it is nobody's name.
const KIND: &str = "kind";
/// Folder of downloads.
const CACHE: &str = "cache";

/// The folder of all state.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

/// What `up` tells other commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Served {
    /// Process that serves.
    pub process: u32,
    /// Topology.
    pub topology: String,
    /// Clusters with the URL of their API servers.
    pub clusters: Vec<(String, String)>,
    /// Kubeconfig with a context per cluster.
    pub kubeconfig: PathBuf,
    /// Where the process takes `POST /down`, with the token in `token`.
    pub control: String,
    /// Secret of the control endpoint.
    pub token: String,
}

/// The right to a name in the state folder, held while the process lives.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// The folder given, or `$XDG_STATE_HOME/meshproof`, or `~/.local/state/meshproof`.
    ///
    /// # Errors
    /// When there is none of them.
    pub fn at(given: Option<&Path>) -> Result<Self> {
        if let Some(given) = given {
            return Ok(Self(given.to_owned()));
        }
        let home = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let folder = home("XDG_STATE_HOME").or_else(|| home("HOME").map(|home| home.join(".local/state")));
        let folder =
            folder.context("no folder for state: neither HOME nor XDG_STATE_HOME is set; give one with --state")?;
        Ok(Self(folder.join("meshproof")))
    }

    /// Where records and kubeconfigs of clusters made with kind are kept.
    #[must_use]
    pub fn kind_folder(&self) -> PathBuf {
        self.0.join(KIND)
    }

    /// Where downloaded tools are kept.
    #[must_use]
    pub fn cache_folder(&self) -> PathBuf {
        self.0.join(CACHE)
    }

    /// Takes a name.
    ///
    /// # Errors
    /// When a living process has it, or the folder can't be written.
    pub fn hold(&self, name: &str) -> Result<Held> {
        check_name(name)?;
        let folder = self.0.join(name);
        private_folder(&folder).with_context(|| format!("can't make the state folder {}", folder.display()))?;
        let path = folder.join("lock");
        let lock = File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Held { folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("`{name}` is in use by another process; choose another --name, or `meshproof down --name {name}`")
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("can't lock {}", path.display())),
        }
    }

    /// What is served under a name, when its process lives.
    ///
    /// # Errors
    /// When the file is there but can't be read.
    pub fn served(&self, name: &str) -> Result<Option<Served>> {
        check_name(name)?;
        let path = self.0.join(name).join("served.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        if !self.alive(name) {
            return Ok(None);
        }
        let served =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged; remove it", path.display()))?;
        Ok(Some(served))
    }

    /// Names in the state folder.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name != KIND && name != CACHE)
            .collect();
        names.sort();
        Ok(names)
    }

    /// Whether the process that took a name lives.
    #[must_use]
    pub fn alive(&self, name: &str) -> bool {
        match File::open(self.0.join(name).join("lock")) {
            Ok(lock) => {
                let taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
                // Closing would not do: a command that is just being started has a copy of the file.
                let _ = lock.unlock();
                taken
            }
            Err(_) => false,
        }
    }

    /// The name that the process of a run takes.
    #[must_use]
    pub fn name_of_run(run: &str) -> String {
        format!("run-{run}")
    }

    /// The folder of the run that the process that took a name was busy with.
    #[must_use]
    pub fn run_folder(&self, name: &str) -> Option<PathBuf> {
        fs::read_to_string(self.0.join(name).join("run"))
            .ok()
            .map(PathBuf::from)
    }

    /// Removes what a dead process left under a name.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        fs::remove_dir_all(self.0.join(name))
    }
}

impl Held {
    /// Writes a private file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, file: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        write_private(&path, content).with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A leftover is no harm: `gc` removes it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn check_name(name: &str) -> Result<()> {
    let fine = name != KIND
        && name != CACHE
        && !name.is_empty()
        && name.len() <= 80
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fine {
        Ok(())
    } else {
        bail!("`{name}` is not a name: use letters, digits, `-` and `_`")
    }
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(unix)]
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())
}

#[cfg(not(unix))]
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    fs::write(path, content)
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn a_name_is_held_by_one_process_and_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(Some(folder.path())).unwrap();
        let held = state.hold("default").unwrap();
        assert!(state.hold("default").unwrap_err().to_string().contains("in use"));
        assert!(state.alive("default"));
        drop(held);
        assert!(!state.alive("default"));
        assert!(state.names().unwrap().is_empty());
        state.hold("default").unwrap();
    }

    #[test]
    fn names_stay_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(Some(folder.path())).unwrap();
        assert!(state.hold("../elsewhere").is_err());
        assert!(state.hold("").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn kubeconfigs_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let held = State::at(Some(folder.path())).unwrap().hold("default").unwrap();
        let path = held.write("kubeconfig", "secret").unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
