//! What the server asks of whoever runs the pods: their logs and connections to their ports.

use crate::Status;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// A byte stream in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What a client asked of `GET …/pods/{name}/log`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// The container; `None` lets the backend choose when the pod has only one.
    pub container: Option<String>,
    /// Keep the stream open and send new lines as they come.
    pub follow: bool,
    /// At most this many lines from the end.
    pub tail_lines: Option<u64>,
    /// The log of the previous instance of the container.
    pub previous: bool,
    /// Put an RFC 3339 time before each line.
    pub timestamps: bool,
    /// Only lines that are newer than this (from `sinceSeconds` or `sinceTime`).
    pub since: Option<jiff::Timestamp>,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
}

/// A command that a client wants to run in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecOptions {
    /// The container; `None` lets the backend choose when the pod has only one.
    pub container: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// What a command writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// To its standard output.
    Stdout(Bytes),
    /// To its standard error.
    Stderr(Bytes),
}

impl ExecOutput {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) => bytes,
        }
    }
}

/// Runs the pods of the cluster. Without one, logs, port-forward and exec answer 503.
#[async_trait]
pub trait PodBackend: Send + Sync {
    /// The log of a container, in chunks of any size. The pod exists in the store when this is called.
    ///
    /// # Errors
    /// A [`Status`] that goes to the client as it is (400 for an unknown container, for example).
    async fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> Result<BoxStream<'static, Bytes>, Status>;

    /// A new connection to a port of the pod, as a process inside the pod's network would see it from localhost.
    ///
    /// # Errors
    /// A [`Status`]; its message is sent on the error channel of the forwarded port.
    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn ByteStream>, Status>;

    /// Runs a command in a container and returns its exit code. When the future is dropped, nobody wants the rest.
    ///
    /// # Errors
    /// A [`Status`] that is sent to the client in place of an exit code.
    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        options: ExecOptions,
        output: mpsc::Sender<ExecOutput>,
    ) -> Result<i32, Status> {
        let _ = (namespace, pod, options, output);
        Err(Status::unsupported("pods/exec"))
    }
}
