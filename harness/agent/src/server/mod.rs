//! The server: its ports, its life from start to the last answer, and what its parts share.

mod behavior;
mod http;
mod ledger;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Jobs;
use crate::control;
use crate::network::{BoxedStream, Listener, Network};
use crate::protocol::{Behavior, CONTROL_PORT, HTTP_PORT, Identity, Protocol, TCP_PORT};

pub(crate) use behavior::{BehaviorSwitch, Treatment};
pub(crate) use ledger::{Ledger, Reader, Received};

/// Rows that a server keeps unless told otherwise (about 20 MB when full).
pub const LEDGER_CAPACITY: usize = 131_072;
/// How long a stopping server waits for outstanding requests unless told otherwise.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long a stopping server waits for readers of the control port, after all requests have ended.
const CONTROL_DRAIN_TIME: Duration = Duration::from_secs(1);

/// Where an agent writes the lines of its log, without line feed. Called from several tasks; must not block.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// How to run an agent.
#[derive(Clone)]
pub struct ServerConfig {
    /// Who the agent is; repeated in every answer.
    pub identity: Identity,
    /// Ports for HTTP/1.1 and HTTP/2. May be empty: a client pod serves nothing but its control port.
    pub http_ports: Vec<u16>,
    /// Ports for opaque TCP. May be empty.
    pub tcp_ports: Vec<u16>,
    /// Port of the control API.
    pub control_port: u16,
    /// Takes the log: start, stop, changes of behaviour, start and end of jobs.
    pub log: LogSink,
    /// Also log a line for every request received.
    pub log_requests: bool,
    /// How long a stopping server waits for outstanding requests.
    pub drain: Duration,
    /// Rows that the ledger of received requests keeps; beyond it the oldest are given up.
    pub ledger_capacity: usize,
}

impl ServerConfig {
    /// The default ports and limits, and a log that goes nowhere.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            http_ports: vec![HTTP_PORT],
            tcp_ports: vec![TCP_PORT],
            control_port: CONTROL_PORT,
            log: Arc::new(|_| {}),
            log_requests: false,
            drain: DRAIN_TIME,
            ledger_capacity: LEDGER_CAPACITY,
        }
    }
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port}: {source}")]
pub struct StartError {
    /// The port.
    pub port: u16,
    /// What the network said.
    pub source: io::Error,
}

/// What the parts of a running agent share.
pub(crate) struct Agent {
    pub(crate) identity: Identity,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) behavior: BehaviorSwitch,
    pub(crate) ledger: Ledger,
    pub(crate) jobs: Jobs,
    log: LogSink,
    log_requests: bool,
    started: Instant,
}

impl Agent {
    pub(crate) fn log(&self, line: &str) {
        (self.log)(line);
    }

    /// Changes the behaviour and says so in the log.
    pub(crate) fn set_behavior(&self, behavior: Behavior) -> Result<(), String> {
        let line = format!("behavior: {behavior:?}");
        self.behavior.set(behavior)?;
        self.log(&line);
        Ok(())
    }

    /// Decides what to do with a request that has arrived completely, and writes its row.
    fn receive(&self, protocol: Protocol, port: u16, id: Option<&str>, run: Option<&str>) -> Treatment {
        let treatment = self.behavior.treat(protocol);
        let received_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.ledger.write(&Received {
            id,
            run,
            received_us,
            status: treatment.status,
            protocol,
            port,
        });
        if self.log_requests {
            let id = id.unwrap_or("-");
            match treatment.status {
                Some(status) => self.log(&format!("request {id} on port {port} ({protocol:?}): {status}")),
                None => self.log(&format!("request {id} on port {port} ({protocol:?}): close")),
            }
        }
        treatment
    }
}

/// Entry point: see [`Server::start`].
#[derive(Clone, Copy, Debug)]
pub struct Server;

impl Server {
    /// Listens on all ports of `config` and serves them until [`RunningAgent::shutdown`]. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError`] when a port cannot be listened on; nothing is left running then.
    pub async fn start(network: Arc<dyn Network>, config: ServerConfig) -> Result<RunningAgent, StartError> {
        let listen = async |port: u16| network.listen(port).await.map_err(|source| StartError { port, source });
        let mut http_listeners = Vec::with_capacity(config.http_ports.len());
        for port in &config.http_ports {
            http_listeners.push((*port, listen(*port).await?));
        }
        let mut tcp_listeners = Vec::with_capacity(config.tcp_ports.len());
        for port in &config.tcp_ports {
            tcp_listeners.push((*port, listen(*port).await?));
        }
        let control_listener = listen(config.control_port).await?;

        let agent = Arc::new(Agent {
            identity: config.identity,
            network: Arc::clone(&network),
            behavior: BehaviorSwitch::default(),
            ledger: Ledger::new(config.ledger_capacity),
            jobs: Jobs::default(),
            log: config.log,
            log_requests: config.log_requests,
            started: Instant::now(),
        });
        let life = Life::new();
        let data = Door {
            drain: life.drain.clone(),
            kill: life.kill_data.clone(),
            tasks: life.data.clone(),
        };
        for (port, listener) in http_listeners {
            let agent = Arc::clone(&agent);
            let drain = life.drain.clone();
            data.open(Arc::clone(&agent), port, listener, move |stream, peer| {
                http::serve(Arc::clone(&agent), port, stream, peer, drain.clone())
            });
        }
        for (port, listener) in tcp_listeners {
            let agent = Arc::clone(&agent);
            let drain = life.drain.clone();
            data.open(Arc::clone(&agent), port, listener, move |stream, peer| {
                tcp::serve(Arc::clone(&agent), port, stream, peer, drain.clone())
            });
        }
        // The control port stays open while requests are drained, so that the rest of the ledger can be read.
        let control = Door {
            drain: life.drain_control.clone(),
            kill: life.kill.clone(),
            tasks: life.control.clone(),
        };
        control.open(Arc::clone(&agent), config.control_port, control_listener, {
            let (agent, life) = (Arc::clone(&agent), life.clone());
            move |stream, _| control::server::serve(Arc::clone(&agent), life.clone(), stream)
        });

        agent.log(&format!(
            "agent {}/{}/{} of run {} listens: http {:?}, tcp {:?}, control {}",
            agent.identity.cluster,
            agent.identity.namespace,
            agent.identity.pod,
            agent.identity.nonce,
            config.http_ports,
            config.tcp_ports,
            config.control_port
        ));
        tokio::spawn(supervise(agent, life.clone(), config.drain));
        Ok(RunningAgent { life })
    }
}

/// A running agent. Dropping it ends the agent at once, as a killed process would end: without draining.
#[must_use = "an agent ends when this is dropped"]
pub struct RunningAgent {
    life: Life,
}

impl RunningAgent {
    /// Stops: accepts no further connection, stops all jobs, lets outstanding requests end within
    /// [`ServerConfig::drain`], then closes whatever is left. Returns when nothing runs any more.
    pub async fn shutdown(&self) {
        self.life.drain.cancel();
        self.stopped().await;
    }

    /// Ends at once and returns when nothing runs any more.
    pub async fn kill(&self) {
        self.life.kill.cancel();
        self.stopped().await;
    }

    /// Waits until the agent has stopped, for whatever reason: shut down, killed, or a port of it is gone.
    pub async fn stopped(&self) {
        self.life.stopped.cancelled().await;
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.life.kill.cancel();
    }
}

/// The stages of an agent's end, and the tasks that take part in each.
#[derive(Clone)]
pub(crate) struct Life {
    /// Data ports: no further connection or request.
    drain: CancellationToken,
    /// Control port: the same, after the data ports have drained.
    pub(crate) drain_control: CancellationToken,
    /// Everything ends at its next await.
    kill: CancellationToken,
    /// The same for data connections and jobs alone.
    kill_data: CancellationToken,
    stopped: CancellationToken,
    /// Data connections and jobs.
    data: TaskTracker,
    /// Control connections.
    control: TaskTracker,
}

impl Life {
    fn new() -> Self {
        let kill = CancellationToken::new();
        Self {
            drain: CancellationToken::new(),
            drain_control: CancellationToken::new(),
            kill_data: kill.child_token(),
            kill,
            stopped: CancellationToken::new(),
            data: TaskTracker::new(),
            control: TaskTracker::new(),
        }
    }

    /// Runs a task that is part of the agent's work: it is waited for at the end, and ends when the agent is killed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill_data.clone();
        self.data.spawn(async move {
            kill.run_until_cancelled_owned(task).await;
        });
    }

    /// Whether the agent has begun to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}

/// Sees the agent through its end.
async fn supervise(agent: Arc<Agent>, life: Life, drain_time: Duration) {
    let orderly = life.kill.run_until_cancelled(life.drain.cancelled()).await.is_some();
    if orderly {
        agent.log("stopping: no new connections, waiting for outstanding requests");
        agent.jobs.stop_all();
        life.data.close();
        if timeout(drain_time, life.data.wait()).await.is_err() {
            agent.log("closing connections with outstanding requests: the time to drain is over");
            life.kill_data.cancel();
            life.data.wait().await;
        }
        // Whoever reads the ledger or a job's rows gets the rest of them.
        agent.ledger.close();
        life.drain_control.cancel();
        life.control.close();
        let _ = timeout(CONTROL_DRAIN_TIME, life.control.wait()).await;
    }
    life.drain.cancel();
    life.drain_control.cancel();
    life.kill.cancel();
    life.data.close();
    life.data.wait().await;
    life.control.close();
    life.control.wait().await;
    agent.log(if orderly { "stopped" } else { "killed" });
    life.stopped.cancel();
}

/// What accepting connections on a port needs to know.
struct Door {
    drain: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    /// Accepts connections until the agent drains, one task each.
    fn open<F>(
        &self,
        agent: Arc<Agent>,
        port: u16,
        mut listener: Box<dyn Listener>,
        mut serve: impl FnMut(BoxedStream, SocketAddr) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (drain, kill, tasks) = (self.drain.clone(), self.kill.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = kill.cancelled() => return,
                    () = drain.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        let connection = serve(stream, peer);
                        let kill = kill.clone();
                        tasks.spawn(async move {
                            kill.run_until_cancelled_owned(connection).await;
                        });
                    }
                    Err(error) => {
                        agent.log(&format!("port {port} is gone: {error}"));
                        drain.cancel();
                        return;
                    }
                }
            }
        });
    }
}
