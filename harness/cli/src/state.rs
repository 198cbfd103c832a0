//! What running processes leave on disk for other commands: one folder per served environment and one per run. Each is locked
//! as long as its process lives, however it ends, so that it can be told what a killed one left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use meshproof_clusters::claim::{self, Claim, ClaimError, Holder, LOCK};
use serde::{Deserialize, Serialize};

/// Folder of what belongs to no process: it is nobody's name.
const KIND: &str = "kind";
/// Folder of downloads.
const CACHE: &str = "cache";
/// Folder of what undoes changes in existing clusters: see [`crate::aftermath`].
const UNDO: &str = "undo";
/// Begin of the names that runs take.
const OF_RUN: &str = "run-";

/// A file in the folder of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateFile {
    /// Path of the folder of the run that the process is busy with.
    Run,
    /// What `up` tells other commands.
    Served,
    /// Kubeconfig of everything that is served.
    Kubeconfig,
    /// Kubeconfig of a cluster that a run left up.
    Kept {
        /// Key of the set of clusters.
        environment: String,
        /// The cluster.
        cluster: String,
    },
}

impl StateFile {
    fn name(&self) -> String {
        match self {
            Self::Run => "run".to_owned(),
            Self::Served => "served.json".to_owned(),
            Self::Kubeconfig => "kubeconfig".to_owned(),
            Self::Kept { environment, cluster } => format!("kubeconfig-{environment}-{cluster}").replace('/', "-"),
        }
    }

    /// Whether a file of this name can be one of these.
    fn is(name: &str) -> bool {
        [Self::Run, Self::Served, Self::Kubeconfig]
            .iter()
            .any(|file| file.name() == name)
            || name.starts_with("kubeconfig-")
    }
}

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
pub struct Held(Option<Claim>);

/// What is in the state folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Names that processes took, also such that are gone.
    pub names: Vec<String>,
    /// What is not of our making, with the reason.
    pub strangers: Vec<String>,
}

impl State {
    /// The folder given, or `$XDG_STATE_HOME/meshproof`, or `~/.local/state/meshproof`. As the specification of these
    /// variables has it, an empty one is as good as none.
    ///
    /// # Errors
    /// When there is none of them.
    pub fn at(given: Option<&Path>) -> Result<Self> {
        if let Some(given) = given.filter(|given| !given.as_os_str().is_empty()) {
            return Ok(Self(given.to_owned()));
        }
        let home = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let folder = home("XDG_STATE_HOME").or_else(|| home("HOME").map(|home| home.join(".local/state")));
        let folder = folder.context(
            "no folder for state: neither HOME nor XDG_STATE_HOME is set; give one with --state or MESHPROOF_STATE",
        )?;
        Ok(Self(folder.join("meshproof")))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Where records and kubeconfigs of clusters made with kind are kept.
    #[must_use]
    pub fn kind_folder(&self) -> PathBuf {
        self.0.join(KIND)
    }

    /// Where each run has a folder for what undoes its changes in existing clusters.
    #[must_use]
    pub fn undo_folder(&self) -> PathBuf {
        self.0.join(UNDO)
    }

    /// Where downloaded tools are kept.
    #[must_use]
    pub fn cache_folder(&self) -> PathBuf {
        self.0.join(CACHE)
    }

    /// Takes a name.
    ///
    /// # Errors
    /// When a living process has it, when what has this name in the folder is not of our making, or when the folder can't be
    /// written.
    pub fn hold(&self, name: &str) -> Result<Held> {
        check_name(name)?;
        match Claim::take(&self.0.join(name), StateFile::is) {
            Ok(claim) => Ok(Held(Some(claim))),
            Err(ClaimError::InUse) => {
                bail!("`{name}` is in use by another process; choose another --name, or `meshproof down --name {name}`")
            }
            Err(other) => {
                bail!("can't use the state folder: {other}; choose another --name, or another folder with --state")
            }
        }
    }

    /// What is served under a name, when its process lives.
    ///
    /// # Errors
    /// When the file is there but can't be read.
    pub fn served(&self, name: &str) -> Result<Option<Served>> {
        check_name(name)?;
        if !self.alive(name) {
            return Ok(None);
        }
        let path = self.0.join(name).join(StateFile::Served.name());
        let text = claim::read_private(&path).with_context(|| format!("can't read {}", path.display()))?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .with_context(|| {
                format!(
                    "{} is damaged; end the process that wrote it, then `meshproof gc`",
                    path.display()
                )
            })
    }

    /// What is in the folder.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn contents(&self) -> Result<Contents> {
        let unreadable = || format!("can't read the state folder {}", self.0.display());
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::default()),
            Err(error) => return Err(error).with_context(unreadable),
        };
        let mut contents = Contents::default();
        for entry in entries {
            let path = entry.with_context(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == KIND || name == CACHE || name == UNDO {
                continue;
            }
            match claim::holder(&path) {
                Holder::Foreign(why) => contents.strangers.push(format!("{}: {why}", path.display())),
                Holder::Alive | Holder::Dead => contents.names.push(name),
            }
        }
        contents.names.sort();
        contents.strangers.sort();
        Ok(contents)
    }

    /// Whether the process that took a name lives.
    #[must_use]
    pub fn alive(&self, name: &str) -> bool {
        claim::holder(&self.0.join(name)) == Holder::Alive
    }

    /// The name that the process of a run takes.
    #[must_use]
    pub fn name_of_run(run: &str) -> String {
        format!("{OF_RUN}{run}")
    }

    /// The folder of the run that the process that took a name was busy with; `None` when it was busy with none.
    ///
    /// # Errors
    /// When what tells it can't be read, or tells of another run.
    pub fn run_folder(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.0.join(name).join(StateFile::Run.name());
        let text = claim::read_private(&path).with_context(|| format!("can't read {}", path.display()))?;
        let Some(folder) = text.map(PathBuf::from) else {
            return Ok(None);
        };
        let run = folder.file_name().unwrap_or_default().to_string_lossy();
        if !folder.is_absolute() || Self::name_of_run(&run) != name {
            bail!("{} names a folder that is not of this run", path.display());
        }
        Ok(Some(folder))
    }

    /// Removes what a dead process left under a name.
    ///
    /// # Errors
    /// When it can't be removed, or when there is more than we made, which stays.
    pub fn forget(&self, name: &str) -> Result<()> {
        let claim = Claim::take(&self.0.join(name), StateFile::is)?;
        Ok(claim.remove(StateFile::is)?)
    }
}

impl Held {
    /// Writes a private file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, file: &StateFile, content: &str) -> Result<PathBuf> {
        let claim = self.0.as_ref().context("the state folder is given up already")?;
        let name = file.name();
        claim
            .write(&name, content)
            .with_context(|| format!("can't write {}", claim.folder().join(&name).display()))
    }
}

impl Held {
    /// Gives the name up and leaves the files: what this process could not do, `gc` does when it is gone.
    pub fn leave(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(claim) = self.0.take() {
            // A leftover is no harm: `gc` removes it.
            let _ = claim.remove(StateFile::is);
        }
    }
}

/// Whether a name can be taken.
///
/// # Errors
/// Says what a name is.
pub fn check_name(name: &str) -> Result<()> {
    let fine = name != KIND
        && name != CACHE
        && name != LOCK
        && name != UNDO
        && !name.is_empty()
        && name.len() <= 80
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fine {
        Ok(())
    } else {
        bail!(
            "`{name}` is not a name: use up to 80 letters, digits, `-` and `_`; `{KIND}`, `{CACHE}` and `{LOCK}` are taken"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{State, StateFile};

    #[test]
    fn a_name_is_held_by_one_process_and_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(Some(folder.path())).unwrap();
        let held = state.hold("default").unwrap();
        assert!(state.hold("default").unwrap_err().to_string().contains("in use"));
        assert!(state.alive("default"));
        drop(held);
        assert!(!state.alive("default"));
        assert!(state.contents().unwrap().names.is_empty());
        state.hold("default").unwrap();
    }

    #[test]
    fn names_stay_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(Some(folder.path())).unwrap();
        for name in ["../elsewhere", "", "kind", "cache", "lock", "a/b", "."] {
            assert!(state.hold(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(Some(folder.path())).unwrap();
        fs::create_dir_all(folder.path().join("Documents/sub")).unwrap();
        fs::create_dir(folder.path().join("kind")).unwrap();
        fs::write(folder.path().join("stray"), "").unwrap();
        let held = state.hold("default").unwrap();
        held.write(&StateFile::Kubeconfig, "secret").unwrap();
        let contents = state.contents().unwrap();
        assert_eq!(contents.names, ["default"]);
        assert_eq!(contents.strangers.len(), 2, "{contents:?}");
        assert!(state.forget("Documents").is_err());
        assert!(folder.path().join("Documents/sub").exists());
    }

    #[test]
    fn a_run_is_known_only_by_a_folder_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(Some(folder.path())).unwrap();
        let held = state.hold("run-7").unwrap();
        assert_eq!(state.run_folder("run-7").unwrap(), None);
        held.write(&StateFile::Run, "/runs/7").unwrap();
        assert!(state.run_folder("run-7").unwrap().unwrap().ends_with("7"));
        for other in ["/runs/8", "7", "/home/ann", ""] {
            held.write(&StateFile::Run, other).unwrap();
            assert!(state.run_folder("run-7").is_err(), "{other}");
        }
    }
}
