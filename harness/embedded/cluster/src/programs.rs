//! Programs that every cluster can run: the traffic agent, and one that does nothing.

use std::sync::Arc;

use async_trait::async_trait;
use meshproof_agent::arguments::{self, Command};
use meshproof_agent::{Server, ServerConfig};

use crate::program::{ContainerContext, Exit, Program};

/// Image of the traffic agent.
pub const AGENT_IMAGE: &str = "meshproof/agent";
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
