//! Logs, port-forwards and commands for the API server.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use meshproof_apiserver::{ByteStream, ExecOptions, ExecOutput, LogOptions, PodBackend, Status, gvr};
use tokio::sync::mpsc;

use super::Node;
use super::pod::PodRun;
use super::status::{Container, Run};
use crate::object::uid;
use crate::program::ExecEnd;

/// Exit code of a command whose container was stopped.
const KILLED: i32 = 137;

/// Serves what the API server asks of the node. Ends to work when the node is gone.
pub(crate) struct NodeBackend {
    pub(crate) node: Weak<Node>,
}

impl NodeBackend {
    fn pod(&self, namespace: &str, name: &str) -> Result<(Arc<Node>, Arc<PodRun>), Status> {
        let node = self
            .node
            .upgrade()
            .ok_or_else(|| Status::unavailable("the node is down"))?;
        let object = node.store.get(&gvr::PODS, Some(namespace), name)?;
        let run = node.pods().get(uid(&object)).cloned();
        let run = run.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?;
        Ok((node, run))
    }
}

#[async_trait]
impl PodBackend for NodeBackend {
    async fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> Result<BoxStream<'static, Bytes>, Status> {
        let (_, run) = self.pod(namespace, pod)?;
        let state = run.state();
        let container = chosen(&state.containers, pod, options.container.as_deref())?;
        let name = container.name();
        let log = if options.previous {
            let missing = || format!("previous terminated container \"{name}\" in pod \"{pod}\" not found");
            container
                .previous_log
                .as_ref()
                .ok_or_else(|| Status::bad_request(missing()))?
        } else {
            container.log.as_ref().ok_or_else(|| {
                let reason = match &container.run {
                    Run::Waiting { reason, .. } => reason,
                    Run::Running { .. } | Run::Ended(_) => "ContainerCreating",
                };
                let verb = match reason {
                    "ImagePullBackOff" | "ErrImagePull" => {
                        format!("trying and failing to pull image ({reason})")
                    }
                    reason => reason.to_owned(),
                };
                Status::bad_request(format!(
                    "container \"{name}\" in pod \"{pod}\" is waiting to start: {verb}"
                ))
            })?
        };
        Ok(log.stream(&options))
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn ByteStream>, Status> {
        let (node, run) = self.pod(namespace, pod)?;
        let socket = run
            .socket()
            .ok_or_else(|| Status::bad_request(format!("pod {pod} has no network yet")))?;
        // Straight to the application. A port that only the sidecar serves is reached through it.
        let past_sidecar = socket.listens(port);
        let localhost = std::net::Ipv4Addr::LOCALHOST.into();
        let opened = node
            .fabric
            .dial_inside(socket, port, localhost, None, past_sidecar)
            .await;
        match opened {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Status::internal(format!(
                "failed to connect to localhost:{port} inside namespace of pod {pod}: {error}"
            ))),
        }
    }

    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        options: ExecOptions,
        output: mpsc::Sender<ExecOutput>,
    ) -> Result<i32, Status> {
        let (_, run) = self.pod(namespace, pod)?;
        let running = {
            let state = run.state();
            let container = chosen(&state.containers, pod, options.container.as_deref())?;
            let missing = || Status::not_found("", "containers", container.name());
            container.running.clone().ok_or_else(missing)?
        };
        let command = &options.command;
        let context = &running.context;
        let ended = tokio::select! {
            ended = running.program.exec(context, command, output) => ended,
            // As with every process of a container that is stopped.
            () = context.shutdown.cancelled() => return Ok(KILLED),
        };
        match ended {
            ExecEnd::Exited(code) => Ok(code),
            ExecEnd::NoSuchCommand => {
                let name = command.first().map_or("", String::as_str);
                Err(Status::internal(format!(
                    "error executing command in container: exec: \"{name}\": executable file not found in \
                     $PATH: a container of an embedded cluster is a program in process and has only that program's own commands \
                     (the traffic agent's: meshproof-agent call …)"
                )))
            }
        }
    }
}

fn chosen<'a>(containers: &'a [Container], pod: &str, wanted: Option<&str>) -> Result<&'a Container, Status> {
    match wanted {
        Some(name) => containers
            .iter()
            .find(|c| c.name() == name)
            .ok_or_else(|| Status::bad_request(format!("container {name} is not valid for pod {pod}"))),
        None => match containers {
            [only] => Ok(only),
            many => {
                let names: Vec<&str> = many.iter().map(Container::name).collect();
                Err(Status::bad_request(format!(
                    "a container name must be specified for pod {pod}, choose one of: [{}]",
                    names.join(" ")
                )))
            }
        },
    }
}
