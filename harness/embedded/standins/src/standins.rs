//! The stand-ins of one folder, for tests: starting, asking, breaking, ending.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use crate::fault::{self, BadRule};
use crate::server::{Folder, LoggedCall, Server, write_private};
use crate::world::{AGENT_ENTRY_POINT, Image, Leftovers, World, tagged};

/// Commands that the stand-ins stand for. [`NEXT_LINKERD`] is a `linkerd` of the version that an upgrade goes to.
pub const TOOLS: [&str; 5] = ["kind", "docker", "linkerd", NEXT_LINKERD, "helm"];
/// Name by which the `linkerd` of the model's next version is called.
pub const NEXT_LINKERD: &str = "linkerd-next";

/// Why stand-ins did not start or could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum StandinsError {
    /// A file could not be read or written, or no loopback port was to be had.
    #[error("stand-ins in {folder}: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// Why.
        source: io::Error,
    },
    /// A rule of [`Standins::fault`] cannot be read.
    #[error(transparent)]
    Rule(#[from] BadRule),
    /// The serving thread ended before it served.
    #[error("stand-ins: the serving thread ended: {0}")]
    Thread(String),
}

/// Commands in a folder and what serves them. Dropping it ends the clusters, the containers and the serving thread.
#[derive(Debug)]
pub struct Standins {
    folder: Folder,
    serving: Option<Serving>,
}

struct Serving {
    world: Arc<World>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl Standins {
    /// Makes the commands in `folder` and serves them on a thread with a runtime of its own. The clusters run `pace` times
    /// as fast as real ones. Returns when the commands answer.
    ///
    /// # Errors
    /// [`StandinsError`].
    pub fn start(folder: &Path, pace: f64) -> Result<Self, StandinsError> {
        let failed = |source: io::Error| StandinsError::Folder {
            folder: folder.display().to_string(),
            source,
        };
        let files = Folder(folder.to_owned());
        fs::create_dir_all(files.commands()).map_err(failed)?;
        for tool in TOOLS {
            let link = files.commands().join(tool);
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => symlink(command(), link).map_err(failed)?,
            }
        }
        // A fresh start: what an earlier one was called with and told is not this one's.
        fs::write(files.calls(), "").map_err(failed)?;
        fs::write(files.faults(), "").map_err(failed)?;

        let world = Arc::new(World::new(pace));
        let stop = CancellationToken::new();
        let (ready, started) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("standins")
            .enable_all()
            .build()
            .map_err(failed)?;
        let (served_folder, served_world, stopped) = (files.clone(), Arc::clone(&world), stop.clone());
        let thread = std::thread::Builder::new()
            .name("standins".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    match Server::listen(served_folder, served_world).await {
                        Ok((server, listener)) => {
                            drop(ready.send(Ok(())));
                            server.serve(listener, stopped).await;
                        }
                        Err(error) => drop(ready.send(Err(error))),
                    }
                });
            })
            .map_err(failed)?;
        let serving = Serving { world, stop, thread };
        let standins = Self {
            folder: files,
            serving: Some(serving),
        };
        match started.recv() {
            Ok(Ok(())) => Ok(standins),
            Ok(Err(error)) => Err(failed(error)),
            Err(error) => Err(StandinsError::Thread(error.to_string())),
        }
    }

    /// Folder with the commands, to be put first on a `PATH`.
    #[must_use]
    pub fn path_dir(&self) -> PathBuf {
        self.folder.commands()
    }

    /// Folder with the state: the value of `MESHPROOF_STANDIN_DIR`. Commands find it by themselves when they are called by
    /// a path or found on the `PATH`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.folder.0
    }

    /// The commands by name.
    #[must_use]
    pub fn tools(&self) -> BTreeMap<String, PathBuf> {
        TOOLS.map(|tool| (tool.to_owned(), self.path_dir().join(tool))).into()
    }

    /// All calls that have ended, in the order in which they ended.
    #[must_use]
    pub fn calls(&self) -> Vec<LoggedCall> {
        let text = fs::read_to_string(self.folder.calls()).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Adds rules of faults (one a line, see [`crate`]) to those in force.
    ///
    /// # Errors
    /// When a rule cannot be read, or the file not written.
    pub fn fault(&self, rules: &str) -> Result<(), StandinsError> {
        fault::check(rules)?;
        let mut text = fs::read_to_string(self.folder.faults()).unwrap_or_default();
        text.push_str(rules);
        text.push('\n');
        self.write_faults(&text)
    }

    /// Takes all rules of faults back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn heal(&self) -> Result<(), StandinsError> {
        self.write_faults("")
    }

    fn write_faults(&self, text: &str) -> Result<(), StandinsError> {
        write_private(&self.folder.faults(), text).map_err(|source| StandinsError::Folder {
            folder: self.dir().display().to_string(),
            source,
        })
    }

    /// Takes a command away, so that whoever calls it finds nothing.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_command(&self, tool: &str) -> Result<(), StandinsError> {
        fs::remove_file(self.path_dir().join(tool)).map_err(|source| StandinsError::Folder {
            folder: self.dir().display().to_string(),
            source,
        })
    }

    /// Gives the container engine an image whose entry point is the traffic agent, as `docker build` would.
    pub fn add_agent_image(&self, name: &str) {
        self.add_image(name, AGENT_ENTRY_POINT);
    }

    /// Gives the container engine an image that runs this program, e.g. `registry`. Of others than that and the agent's,
    /// containers end as soon as they are started.
    pub fn add_image(&self, name: &str, entry_point: &str) {
        if let Some(serving) = &self.serving {
            let mut state = serving.world.state();
            let id = state.id(name);
            state.add_image(Image {
                id,
                name: tagged(name),
                entry_point: Some(entry_point.to_owned()),
                labels: BTreeMap::new(),
                created: jiff::Timestamp::now(),
            });
        }
    }

    /// A file that commands wrote on a node.
    #[must_use]
    pub fn node_file(&self, node: &str, path: &str) -> Option<String> {
        let state = self.serving.as_ref()?.world.state();
        let files = &state.containers.get(node)?.files;
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(path).cloned()
    }

    /// What still exists of all that the commands created.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        self.serving
            .as_ref()
            .map(|serving| serving.world.leftovers())
            .unwrap_or_default()
    }
}

impl Drop for Standins {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop.cancel();
            // A thread that panicked has said so already.
            let _ = serving.thread.join();
        }
    }
}

/// The program behind all the names.
fn command() -> PathBuf {
    // Beside an installed `meshproof-standin serve` there is no build folder any more; the build script's path is for
    // tests, which run where they were built.
    PathBuf::from(env!("MESHPROOF_STANDIN_COMMAND"))
}
