//! `pods/exec`: a command in a running container, over WebSocket (a channel for each stream) or over SPDY (a stream for each).
//!
//! What the client sends to the command is read and dropped: no program of an embedded cluster reads its standard input.

use crate::http::body::Body;
use crate::http::resource_request::ResourceRequest;
use crate::http::upgrade::{self, Carrier, Offer, Socket};
use crate::spdy::{self, Opened, Output};
use crate::{Cause, ExecOptions, ExecOutput, PodBackend, Status, StatusDetails};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;

const OFFER: Offer = Offer {
    what: "exec",
    // They differ only in the close message of v5, by which a client ends the command's input.
    channels: &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    // v4 tells the exit code; older clients take the text for an error.
    streams: &["v4.channel.k8s.io"],
    tunnel: None,
};
/// Channels, as Kubernetes numbers them.
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// Chunks of output that wait for the client.
const OUTPUT_WAITING: usize = 16;
/// A client that opens no streams in this time is dropped: `DefaultStreamCreationTimeout` of the kubelet.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn answer(this: &ResourceRequest, request: &mut Request<Incoming>) -> Result<Response<Body>, Status> {
    let options = ExecOptions {
        container: this.query.get("container").map(str::to_owned),
        command: this.query.all("command").map(str::to_owned).collect(),
    };
    if options.command.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least 1 command for the container",
        ));
    }
    let wanted = ["stdin", "stdout", "stderr"].map(|stream| (stream, this.query.flag(stream)));
    if wanted.iter().all(|(_, wanted)| !wanted) {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    let agreed = OFFER.agree(request.headers())?;
    let pod = this.store.get(this.gvr(), this.namespace(), this.name())?;
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let command = Command {
        backend: this.state.pod_backend()?,
        namespace: this.namespace().unwrap_or_default().to_owned(),
        pod: this.name().to_owned(),
        options,
        // With a terminal there is one output.
        merged: this.query.flag("tty"),
        // Over SPDY the client opens these, and one for the error.
        streams: 1 + wanted.iter().filter(|(_, wanted)| *wanted).count(),
    };
    let upgrade = hyper::upgrade::on(request);
    let mut stopped = this.state.stop.subscribe();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let serve = async {
            match agreed.carrier {
                Carrier::Channels => command.over_channels(upgrade::socket(upgraded).await).await,
                Carrier::Spdy => spdy::serve(TokioIo::new(upgraded), |streams| command.over_streams(streams)).await,
                Carrier::Tunnel => upgrade::tunnelled(upgraded, |streams| command.over_streams(streams)).await,
            }
        };
        tokio::select! {
            () = serve => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    });
    Ok(agreed.response)
}

/// A command that somebody wants to run.
struct Command {
    backend: Arc<dyn PodBackend>,
    namespace: String,
    pod: String,
    options: ExecOptions,
    merged: bool,
    streams: usize,
}

impl Command {
    /// Runs it and hands its output over. Returns how it ended, as the client is told.
    async fn run(&self, output: mpsc::Sender<ExecOutput>) -> Value {
        let ended = self
            .backend
            .exec(&self.namespace, &self.pod, self.options.clone(), output)
            .await;
        match ended {
            Ok(0) => json!({"metadata": {}, "status": "Success"}),
            Ok(code) => non_zero(code).to_json(),
            Err(status) => status.to_json(),
        }
    }

    fn channel(&self, output: &ExecOutput) -> u8 {
        match output {
            ExecOutput::Stderr(_) if !self.merged => STDERR,
            ExecOutput::Stderr(_) | ExecOutput::Stdout(_) => STDOUT,
        }
    }

    async fn over_channels(&self, socket: Socket) {
        let (mut sink, mut source) = socket.split();
        let (sender, mut outputs) = mpsc::channel(OUTPUT_WAITING);
        let run = async {
            let write = async {
                let mut there = true;
                while let Some(output) = outputs.recv().await {
                    there = there && sink.send(message(self.channel(&output), output.bytes())).await.is_ok();
                }
            };
            let (ended, ()) = tokio::join!(self.run(sender), write);
            // Without a client there is nobody to tell.
            let _ = sink.send(message(ERROR, ended.to_string().as_bytes())).await;
        };
        let gone = async {
            while let Some(Ok(message)) = source.next().await
                && !matches!(message, Message::Close(_))
            {}
        };
        // Without a client the command ends.
        tokio::select! {
            () = run => {}
            () = gone => {}
        }
        upgrade::close(sink, source).await;
    }

    async fn over_streams(&self, mut opened: mpsc::Receiver<Opened>) {
        let collect = async {
            let mut outputs: HashMap<String, Output> = HashMap::new();
            let mut inputs = Vec::new();
            while outputs.len() < self.streams {
                let stream = opened.recv().await?;
                let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
                // A terminal's size, too: nothing here has one.
                if !matches!(kind.as_str(), "stdin" | "stdout" | "stderr" | "error" | "resize") {
                    stream.output.refuse().await;
                    continue;
                }
                if kind != "resize" {
                    outputs.insert(kind, stream.output);
                }
                inputs.push(stream.input);
            }
            Some((outputs, inputs))
        };
        let Ok(Some((outputs, inputs))) = tokio::time::timeout(STREAMS_TIMEOUT, collect).await else {
            return;
        };
        // The client's connection ends when it is done: then no stream is opened any more, and the command ends.
        let gone = async {
            let drain = futures::future::join_all(inputs.into_iter().map(drain));
            let opened = async {
                while let Some(late) = opened.recv().await {
                    late.output.refuse().await;
                }
            };
            tokio::join!(drain, opened)
        };
        let run = async {
            let (sender, mut produced) = mpsc::channel(OUTPUT_WAITING);
            let write = async {
                while let Some(output) = produced.recv().await {
                    let kind = if self.channel(&output) == STDERR {
                        "stderr"
                    } else {
                        "stdout"
                    };
                    if let Some(stream) = outputs.get(kind) {
                        stream.send(output.bytes()).await;
                    }
                }
            };
            let (ended, ()) = tokio::join!(self.run(sender), write);
            for kind in ["stdout", "stderr"] {
                if let Some(stream) = outputs.get(kind) {
                    stream.finish().await;
                }
            }
            if let Some(stream) = outputs.get("error") {
                stream.send(ended.to_string().as_bytes()).await;
                stream.finish().await;
            }
        };
        tokio::select! {
            () = run => {}
            _ = gone => {}
        }
    }
}

async fn drain(mut input: mpsc::Receiver<Bytes>) {
    while input.recv().await.is_some() {}
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::binary([&[channel], bytes].concat())
}

/// How a command is told to have failed.
fn non_zero(code: i32) -> Status {
    let mut status = Status::internal("");
    status.message = format!("command terminated with non-zero exit code: exit status {code}");
    status.reason = "NonZeroExitCode";
    status.details = Some(Box::new(StatusDetails {
        causes: vec![Cause {
            reason: "ExitCode",
            message: code.to_string(),
            field: String::new(),
        }],
        ..StatusDetails::default()
    }));
    status
}
