//! Programs that every cluster can run: the traffic agent, and one that does nothing.

use std::sync::Arc;

use async_trait::async_trait;
use meshproof_agent::arguments::{self, Command};
use meshproof_agent::call::{self, LINES_WAITING};
use meshproof_agent::{Server, ServerConfig};
use meshproof_apiserver::ExecOutput;
use tokio::sync::mpsc;

use crate::program::{ContainerContext, ExecEnd, Exit, Program};

/// Image of the traffic agent.
pub const AGENT_IMAGE: &str = "meshproof/agent";
/// Name of the agent's binary in its image.
const AGENT_BINARY: &str = "meshproof-agent";
/// Image of a container that only keeps its pod alive (`registry.k8s.io/pause`).
pub const PAUSE_IMAGE: &str = "pause";

/// The traffic agent, with the command line and the environment of its binary.
pub struct AgentProgram;

#[async_trait]
impl Program for AgentProgram {
    async fn run(&self, container: ContainerContext) -> Exit {
        let variable = |name: &str| container.env.get(name).cloned();
        let options = match arguments::parse(container.args.iter().cloned(), variable) {
            Ok(Command::Run(options)) => options,
            Ok(Command::Help(text)) => {
                (container.log)(text);
                return Exit::Done;
            }
            Ok(Command::Relay(_)) => {
                let problem = "a relay needs real sockets; the network model does what it would do".to_owned();
                (container.log)(&format!("meshproof-agent: {problem}"));
                return Exit::Failed(problem);
            }
            Ok(Command::Call(job)) => {
                container.started.cancel();
                let (lines, mut printed) = mpsc::channel::<String>(LINES_WAITING);
                let network = Arc::clone(&container.network);
                let calling = call::run(network, *job, container.shutdown.clone(), lines);
                let print = async {
                    while let Some(line) = printed.recv().await {
                        (container.log)(&line);
                    }
                };
                let (called, ()) = tokio::join!(calling, print);
                return match called {
                    Ok(true) => Exit::Done,
                    Ok(false) => Exit::Failed("not every request was answered well".into()),
                    Err(problem) => Exit::Failed(problem),
                };
            }
            Ok(Command::Version) => return Exit::Done,
            Err(problem) => {
                (container.log)(&format!("meshproof-agent: {problem}; see --help"));
                return Exit::Failed(problem);
            }
        };
        let config = ServerConfig {
            http_ports: options.http_ports,
            tcp_ports: options.tcp_ports,
            control_port: options.control_port,
            log: container.log.clone(),
            log_requests: options.log_requests,
            // It has to end within the pod's grace period, which is paced.
            drain: container.pace.wall(options.drain),
            ledger_capacity: options.ledger_capacity,
            ..ServerConfig::new(options.identity)
        };
        let agent = match Server::start(Arc::clone(&container.network), config).await {
            Ok(agent) => agent,
            Err(error) => {
                (container.log)(&format!("meshproof-agent: {error}"));
                return Exit::Failed(error.to_string());
            }
        };
        container.started.cancel();
        tokio::select! {
            () = container.shutdown.cancelled() => {
                agent.shutdown().await;
                Exit::Done
            }
            () = agent.stopped() => Exit::Failed("a port of the agent is gone".into()),
        }
    }

    /// The agent's one-shot commands, under the name of its binary.
    async fn exec(
        &self,
        container: &ContainerContext,
        command: &[String],
        output: mpsc::Sender<ExecOutput>,
    ) -> ExecEnd {
        let Some((program, args)) = command.split_first() else {
            return ExecEnd::NoSuchCommand;
        };
        if program.rsplit('/').next() != Some(AGENT_BINARY) {
            return ExecEnd::NoSuchCommand;
        }
        let told = |text: String| ExecOutput::Stdout(format!("{}\n", text.trim_end()).into());
        let problem = |text: &str| ExecOutput::Stderr(format!("{AGENT_BINARY}: {text}\n").into());
        // Who does not read the output does not need it.
        match arguments::parse(args.iter().cloned(), |_| None) {
            Ok(Command::Help(text)) => {
                output.send(told(text.to_owned())).await.ok();
                ExecEnd::Exited(0)
            }
            Ok(Command::Version) => {
                let version = format!("{AGENT_BINARY} {}", env!("CARGO_PKG_VERSION"));
                output.send(told(version)).await.ok();
                ExecEnd::Exited(0)
            }
            Ok(Command::Call(job)) => {
                let (lines, mut printed) = mpsc::channel::<String>(LINES_WAITING);
                let network = Arc::clone(&container.network);
                let calling = call::run(network, *job, container.shutdown.clone(), lines);
                let print = async {
                    while let Some(line) = printed.recv().await {
                        if output.send(told(line)).await.is_err() {
                            return;
                        }
                    }
                };
                match tokio::join!(calling, print).0 {
                    Ok(true) => ExecEnd::Exited(0),
                    Ok(false) => ExecEnd::Exited(1),
                    Err(why) => {
                        output.send(problem(&why)).await.ok();
                        ExecEnd::Exited(2)
                    }
                }
            }
            Ok(Command::Run(_) | Command::Relay(_)) => {
                let why = "only `call`, --help and --version can be run beside an agent in an embedded cluster";
                output.send(problem(why)).await.ok();
                ExecEnd::Exited(2)
            }
            Err(why) => {
                output.send(problem(&format!("{why}; see --help"))).await.ok();
                ExecEnd::Exited(2)
            }
        }
    }
}

/// Waits until it is told to stop.
pub struct PauseProgram;

#[async_trait]
impl Program for PauseProgram {
    async fn run(&self, container: ContainerContext) -> Exit {
        container.started.cancel();
        container.shutdown.cancelled().await;
        Exit::Done
    }
}
