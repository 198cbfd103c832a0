//! The serving process: takes calls over loopback, applies faults, logs, and hands each call to its command.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exchange::{Call, Failure, Frame, Terminal, frame, read_call, read_frame};
use crate::fault::{Effect, Faults};
use crate::standins::NEXT_LINKERD;
use crate::world::World;
use crate::{docker, helm, kind, linkerd};

/// What stands where a tool's output is expected, by the fault `garbage`.
const GARBAGE: &str = "\u{1b}[31m%!garbage{{{ [: not what was asked for\u{0}\n- : :\n";

/// One call of a command, as `calls.log` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedCall {
    /// Name that the command was called by.
    pub tool: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its exit code; `None` when it was killed.
    pub exit: Option<u8>,
}

impl LoggedCall {
    /// The call as one line, words separated by spaces.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.tool.clone();
        for argument in &self.args {
            line.push(' ');
            line.push_str(argument);
        }
        line
    }
}

/// Files of a folder of stand-ins.
#[derive(Clone, Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Address and token of the serving process.
    pub(crate) fn serving(&self) -> PathBuf {
        self.0.join("serving")
    }

    /// Rules of faults.
    pub(crate) fn faults(&self) -> PathBuf {
        self.0.join("faults")
    }

    /// One line a call.
    pub(crate) fn calls(&self) -> PathBuf {
        self.0.join("calls.log")
    }

    /// The commands, by the names that they are called by.
    pub(crate) fn commands(&self) -> PathBuf {
        self.0.join("bin")
    }
}

/// Creates or replaces a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    fs::rename(temporary, path)
}

/// Everything that a connection needs.
pub(crate) struct Server {
    pub(crate) world: Arc<World>,
    folder: Folder,
    token: String,
    faults: Faults,
    log: Mutex<fs::File>,
}

impl Server {
    /// Listens, and tells the commands where.
    pub(crate) async fn listen(folder: Folder, world: Arc<World>) -> io::Result<(Arc<Self>, TcpListener)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let token: String = rand::rng()
            .sample_iter(rand::distr::Alphanumeric)
            .take(32)
            .map(char::from)
            .collect();
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.calls())?;
        write_private(&folder.serving(), &format!("{}\n{token}\n", listener.local_addr()?))?;
        let server = Self {
            world,
            folder,
            token,
            faults: Faults::default(),
            log: Mutex::new(log),
        };
        Ok((Arc::new(server), listener))
    }

    /// Takes calls until it is told to stop; then ends all of them and everything that was created.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let calls = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            if let Ok((connection, _)) = accepted {
                let (server, stop) = (Arc::clone(&self), stop.clone());
                calls.spawn(async move {
                    let answered = server.answer(connection);
                    tokio::select! {
                        () = stop.cancelled() => (),
                        _ = answered => (),
                    }
                });
            }
        }
        calls.close();
        calls.wait().await;
        self.world.end().await;
        // A command that is called now is told that nothing serves.
        let _ = fs::remove_file(self.folder.serving());
    }

    async fn answer(&self, connection: TcpStream) -> io::Result<()> {
        let (mut from, mut to) = connection.into_split();
        let Some(call) = read_call(&mut from, &self.token).await? else {
            return Ok(());
        };
        let (output, mut frames) = mpsc::unbounded_channel::<Frame>();
        let (typed, input) = mpsc::unbounded_channel();
        let terminal = Terminal::new(output, input);

        let listening = async {
            loop {
                match read_frame(&mut from).await {
                    Ok((b'I', bytes)) => drop(typed.send(Some(bytes))),
                    Ok((b'i', _)) => drop(typed.send(None)),
                    // The command was killed.
                    Ok(_) | Err(_) => break,
                }
            }
        };
        let answering = async {
            let exit = self.run(&call, &terminal).await;
            self.log(&call, Some(exit));
            terminal.exit(exit);
        };
        let printing = async {
            while let Some(next) = frames.recv().await {
                to.write_all(&frame(&next)).await?;
                if next.0 == b'X' {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let answered = async { tokio::join!(answering, printing).1 };
        tokio::select! {
            printed = answered => printed,
            () = listening => {
                self.log(&call, None);
                Ok(())
            }
        }
    }

    async fn run(&self, call: &Call, terminal: &Terminal) -> u8 {
        let file = fs::read_to_string(self.folder.faults()).unwrap_or_default();
        let variable = call.variables.get("MESHPROOF_STANDIN_FAULT").map_or("", String::as_str);
        let mut hang = false;
        match self.faults.effect(&[variable, &file], call) {
            Err(bad) => {
                terminal.note(&bad.to_string());
                return 125;
            }
            Ok(None) => {}
            Ok(Some(Effect::Hang)) => hang = true,
            Ok(Some(Effect::Garbage)) => {
                terminal.out(GARBAGE);
                return 0;
            }
            Ok(Some(Effect::Missing)) => {
                terminal.note(&format!("sh: {}: not found", call.tool));
                return 127;
            }
            Ok(Some(Effect::Exit { code, message })) => {
                if let Some(message) = message {
                    terminal.note(&message);
                }
                return code;
            }
        }
        if hang {
            if call.tool == "kind" {
                kind::run_half(&self.world, call, terminal).await;
            }
            std::future::pending::<()>().await;
        }
        match call.tool.as_str() {
            "kind" => kind::run(&self.world, call, terminal).await,
            "docker" => docker::run(&self.world, call, terminal).await,
            "linkerd" | NEXT_LINKERD => linkerd::run(&self.world, call, terminal).await,
            "helm" => helm::run(&self.world, call, terminal).await,
            other => {
                terminal.note(&format!(
                    "stand-in: called as `{other}`; it stands for kind, docker, linkerd and helm"
                ));
                126
            }
        }
    }

    fn log(&self, call: &Call, exit: Option<u8>) {
        let entry = LoggedCall {
            tool: call.tool.clone(),
            args: call.arguments.clone(),
            exit,
        };
        if let Ok(mut line) = serde_json::to_string(&entry) {
            line.push('\n');
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            // One write, so that a reader never sees half a line. A log that cannot be written is missed by its reader.
            let _ = log.write_all(line.as_bytes());
        }
    }
}

/// How a command ends: `Err` prints the message as `tool` does.
pub(crate) fn ended(result: Result<(), Failure>, terminal: &Terminal, prefix: &str) -> u8 {
    match result {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.message.is_empty() {
                terminal.note(&format!("{prefix}{}", failure.message));
            }
            failure.code
        }
    }
}
