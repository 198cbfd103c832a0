//! `pods/portforward`: connections to ports of a pod, over WebSocket (two channels per port, data and error, each message led by its
//! channel's number) or over SPDY (two streams per connection).

use crate::http::body::Body;
use crate::http::resource_request::ResourceRequest;
use crate::http::upgrade::{self, Carrier, GOODBYE_TIMEOUT, Offer, Socket};
use crate::spdy::{self, Opened, Output};
use crate::{ByteStream, PodBackend, Status};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::Message;

const OFFER: Offer = Offer {
    what: "port-forward",
    // They differ only in the close message of v5.
    channels: &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    streams: &["portforward.k8s.io"],
    tunnel: Some("SPDY/3.1+portforward.k8s.io"),
};
/// v5: the next byte is a channel that the client closes.
const CLOSE_CHANNEL: u8 = 255;
/// Bytes read from a pod at once.
const CHUNK: usize = 32 * 1024;
/// More ports than the channel numbers have room for make no sense.
const PORTS_LIMIT: usize = 100;
/// Streams of SPDY that wait for the other one of their connection.
const WAITING_LIMIT: usize = 64;

pub(crate) fn answer(this: &ResourceRequest, request: &mut Request<Incoming>) -> Result<Response<Body>, Status> {
    let agreed = OFFER.agree(request.headers())?;
    // Over SPDY each stream names its port.
    let ports = match agreed.carrier {
        Carrier::Channels => ports(this)?,
        Carrier::Spdy | Carrier::Tunnel => Vec::new(),
    };
    let pod = this.store.get(this.gvr(), this.namespace(), this.name())?;
    if pod["status"]["phase"] != "Running" {
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown");
        return Err(Status::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let target = Target {
        backend: this.state.pod_backend()?,
        namespace: this.namespace().unwrap_or_default().to_owned(),
        pod: this.name().to_owned(),
    };
    let upgrade = hyper::upgrade::on(request);
    let mut stopped = this.state.stop.subscribe();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let serve = async {
            match agreed.carrier {
                Carrier::Channels => forward(upgrade::socket(upgraded).await, &target, &ports).await,
                Carrier::Spdy => spdy::serve(TokioIo::new(upgraded), |streams| target.forward_streams(streams)).await,
                Carrier::Tunnel => upgrade::tunnelled(upgraded, |streams| target.forward_streams(streams)).await,
            }
        };
        tokio::select! {
            () = serve => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    });
    Ok(agreed.response)
}

/// The pod whose ports are forwarded.
#[derive(Clone)]
struct Target {
    backend: Arc<dyn PodBackend>,
    namespace: String,
    pod: String,
}

impl Target {
    async fn open(&self, port: u16) -> Result<Box<dyn ByteStream>, String> {
        let opened = self.backend.port_forward(&self.namespace, &self.pod, port).await;
        opened.map_err(|status| cannot_forward(port, &status.message))
    }

    /// Serves streams that come in pairs, one for data and one for an error, until the client is done.
    async fn forward_streams(&self, mut streams: mpsc::Receiver<Opened>) {
        let mut waiting: HashMap<String, Opened> = HashMap::new();
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = streams.recv() => stream,
                Some(_) = connections.join_next() => continue,
            };
            let Some(stream) = stream else { break };
            let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
            let (kind, port, request) = (header("streamtype"), header("port"), header("requestid"));
            let is_known = matches!(kind.as_str(), "data" | "error");
            let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0 && is_known) else {
                stream.output.refuse().await;
                continue;
            };
            // Clients that name no request open the pairs of a port one after the other.
            let pair = format!("{port} {request}");
            match waiting.remove(&pair) {
                None if waiting.len() >= WAITING_LIMIT => stream.output.refuse().await,
                None => {
                    waiting.insert(pair, stream);
                }
                Some(other) if other.headers.get("streamtype") == Some(&kind) => {
                    stream.output.refuse().await;
                    waiting.insert(pair, other);
                }
                Some(other) => {
                    let (data, error) = if kind == "data" {
                        (stream, other)
                    } else {
                        (other, stream)
                    };
                    let target = self.clone();
                    connections.spawn(async move { target.forward_pair(port, data, &error.output).await });
                }
            }
        }
        // What the client sent before it went must still reach the pod.
        let finish = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, finish).await;
    }

    async fn forward_pair(&self, port: u16, data: Opened, error: &Output) {
        let output = data.output;
        let told = match self.open(port).await {
            Ok(stream) => copy(stream, data.input, &output)
                .await
                .map_err(|why| cannot_forward(port, &why)),
            Err(told) => Err(told),
        };
        if let Err(told) = told {
            error.send(told.as_bytes()).await;
        }
        output.finish().await;
        error.finish().await;
    }
}

fn cannot_forward(port: u16, why: &str) -> String {
    format!("an error occurred forwarding port {port}: {why}")
}

/// The client's end of a forwarded connection.
trait Client: Sync {
    /// Sends bytes from the pod; `false` when the client is gone.
    fn take(&self, bytes: &[u8]) -> impl Future<Output = bool> + Send;
    /// Returns when the client is gone.
    fn gone(&self) -> impl Future<Output = ()> + Send;
}

impl Client for Output {
    async fn take(&self, bytes: &[u8]) -> bool {
        self.send(bytes).await
    }

    async fn gone(&self) {
        Self::gone(self).await;
    }
}

impl Client for Pump {
    async fn take(&self, bytes: &[u8]) -> bool {
        self.send(self.data, bytes).await
    }

    async fn gone(&self) {
        self.to_client.closed().await;
    }
}

/// Copies in both directions until the pod has said everything, or nobody listens any more.
///
/// # Errors
/// Why nothing more can be read from the pod.
async fn copy(
    stream: Box<dyn ByteStream>,
    mut input: mpsc::Receiver<Bytes>,
    client: &impl Client,
) -> Result<(), String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        while let Some(bytes) = input.recv().await {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        // The other end may be closed already, which is what is wanted.
        let _ = writer.shutdown().await;
    };
    let read = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(n) if !client.take(&buffer[..n]).await => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    tokio::pin!(write);
    tokio::pin!(read);
    tokio::select! {
        ended = &mut read => ended,
        // The client is done; the pod may still answer, as long as someone is there to hear it.
        () = &mut write => tokio::select! {
            ended = read => ended,
            () = client.gone() => Ok(()),
        },
    }
}

fn ports(request: &ResourceRequest) -> Result<Vec<u16>, Status> {
    let texts = request.query.all("ports").chain(request.query.all("port"));
    let texts: Vec<&str> = texts.flat_map(|t| t.split(',')).filter(|t| !t.is_empty()).collect();
    if texts.is_empty() {
        return Err(Status::bad_request("query parameter \"port\" is required"));
    }
    if texts.len() > PORTS_LIMIT {
        return Err(Status::bad_request(format!(
            "at most {PORTS_LIMIT} ports can be forwarded at once"
        )));
    }
    let parse = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Status::bad_request(format!("unable to parse \"{text}\" as a port"))),
    };
    texts.into_iter().map(parse).collect()
}

/// Serves a socket until both sides are done.
async fn forward(socket: Socket, target: &Target, ports: &[u16]) {
    let (mut sink, mut source) = socket.split();
    let (to_client, mut messages) = mpsc::channel::<Message>(16);
    let mut to_ports = Vec::new();
    let mut tasks = JoinSet::new();
    for (&port, index) in ports.iter().zip(0_u8..) {
        let (sender, receiver) = mpsc::channel(16);
        to_ports.push(Some(sender));
        let pump = Pump {
            data: index * 2,
            error: index * 2 + 1,
            port,
            to_client: to_client.clone(),
        };
        let target = target.clone();
        tasks.spawn(async move { pump.run(&target, receiver).await });
    }
    drop(to_client);
    let write = async {
        // Ends when every port is done.
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => deliver(&mut to_ports, &bytes).await,
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    // The first side that is done ends the connection: without a client nothing can be sent, without ports nothing is left.
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    // What the client sent before it went must still reach the pod.
    drop(to_ports);
    drop(messages);
    let finish = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, finish).await;
    tasks.abort_all();
    upgrade::close(sink, source).await;
}

async fn deliver(to_ports: &mut [Option<mpsc::Sender<Bytes>>], message: &Bytes) {
    let Some((&channel, data)) = message.split_first() else {
        return;
    };
    if channel == CLOSE_CHANNEL {
        if let Some(closed) = data
            .first()
            .map(|c| usize::from(c / 2))
            .and_then(|i| to_ports.get_mut(i))
        {
            *closed = None;
        }
        return;
    }
    let target = to_ports.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
    if let Some(port) = target
        && let Some(sender) = port
        && !data.is_empty()
        && sender.send(message.slice(1..)).await.is_err()
    {
        *port = None;
    }
}

/// One forwarded port.
struct Pump {
    data: u8,
    error: u8,
    port: u16,
    to_client: mpsc::Sender<Message>,
}

impl Pump {
    async fn run(&self, target: &Target, input: mpsc::Receiver<Bytes>) {
        for channel in [self.data, self.error] {
            let [low, high] = self.port.to_le_bytes();
            if !self.send(channel, &[low, high]).await {
                return;
            }
        }
        let told = match target.open(self.port).await {
            Ok(stream) => copy(stream, input, self)
                .await
                .map_err(|why| cannot_forward(self.port, &why)),
            Err(told) => Err(told),
        };
        if let Err(told) = told {
            self.send(self.error, told.as_bytes()).await;
        }
    }

    async fn send(&self, channel: u8, data: &[u8]) -> bool {
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        self.to_client.send(Message::binary(message)).await.is_ok()
    }
}
