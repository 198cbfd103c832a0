//! `pods/portforward` over WebSocket: two channels per port (data and error), each message led by its channel's number.

use crate::http::body::{self, Body};
use crate::http::resource_request::ResourceRequest;
use crate::{ByteStream, PodBackend, Status};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

/// Subprotocols that are spoken. They differ only in the close message of v5.
const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// v5: the next byte is a channel that the client closes.
const CLOSE_CHANNEL: u8 = 255;
/// Largest message that is taken from a client.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
/// Bytes read from a pod at once.
const CHUNK: usize = 32 * 1024;
/// How long a client may take to answer a close.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// More ports than the channel numbers have room for make no sense.
const PORTS_LIMIT: usize = 100;

pub(crate) fn answer(this: &mut ResourceRequest, request: &mut Request<Incoming>) -> Result<Response<Body>, Status> {
    let accept = handshake(request.headers())?;
    let ports = ports(this)?;
    let pod = this.store.get(this.gvr(), this.namespace(), this.name())?;
    if pod["status"]["phase"] != "Running" {
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown");
        return Err(Status::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let backend = this.state.pod_backend()?;
    let upgrade = hyper::upgrade::on(request);
    let (namespace, name) = (this.namespace().unwrap_or_default().to_owned(), this.name().to_owned());
    let mut stopped = this.state.stop.subscribe();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        tokio::select! {
            () = forward(socket, backend, &namespace, &name, &ports) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    });
    let mut response = body::full(101, "", Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(accept.protocol));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.key);
    Ok(response)
}

struct Accepted {
    protocol: &'static str,
    key: HeaderValue,
}

/// Checks the upgrade. What other clients try first gets an answer that says what works.
fn handshake(headers: &HeaderMap) -> Result<Accepted, Status> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
            .unwrap_or_default()
    };
    let upgrade = text(UPGRADE).to_lowercase();
    if upgrade.starts_with("spdy") {
        return Err(Status::bad_request(
            "port-forward over SPDY is unsupported by the embedded API server: use a client that speaks WebSocket (v4.channel.k8s.io or v5.channel.k8s.io)",
        ));
    }
    if upgrade != "websocket" {
        return Err(Status::bad_request(
            "Upgrade request required: port-forward needs a WebSocket upgrade over HTTP/1.1",
        ));
    }
    let offered: Vec<&str> = text(SEC_WEBSOCKET_PROTOCOL).split(',').map(str::trim).collect();
    let protocol = offered
        .iter()
        .find_map(|o| PROTOCOLS.iter().find(|p| *p == o))
        .ok_or_else(|| {
            Status::bad_request(format!(
                "unsupported WebSocket subprotocols {offered:?}: port-forward speaks {}",
                PROTOCOLS.join(" and ")
            ))
        })?;
    let key = derive_accept_key(text(SEC_WEBSOCKET_KEY).as_bytes());
    let key = HeaderValue::from_str(&key).map_err(Status::internal)?;
    Ok(Accepted { protocol, key })
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

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Serves a socket until both sides are done.
async fn forward(socket: Socket, backend: Arc<dyn PodBackend>, namespace: &str, pod: &str, ports: &[u16]) {
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
        let (backend, namespace, pod) = (backend.clone(), namespace.to_owned(), pod.to_owned());
        tasks.spawn(async move {
            pump.run(backend.as_ref(), &namespace, &pod, receiver).await;
        });
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
    close(sink, source).await;
}

/// Says goodbye on every layer, so that the client sees an end and no breakdown.
async fn close(sink: SplitSink<Socket, Message>, source: SplitStream<Socket>) {
    let Ok(mut socket) = sink.reunite(source) else { return };
    let goodbye = async {
        // Errors mean that the client is gone already.
        let _ = socket.close(None).await;
        while let Some(Ok(_)) = socket.next().await {}
        let _ = socket.get_mut().shutdown().await;
    };
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
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
    async fn run(&self, backend: &dyn PodBackend, namespace: &str, pod: &str, input: mpsc::Receiver<Bytes>) {
        for channel in [self.data, self.error] {
            let [low, high] = self.port.to_le_bytes();
            if !self.send(channel, &[low, high]).await {
                return;
            }
        }
        match backend.port_forward(namespace, pod, self.port).await {
            Ok(stream) => self.pump(stream, input).await,
            Err(status) => {
                let text = format!("an error occurred forwarding port {}: {}", self.port, status.message);
                self.send(self.error, text.as_bytes()).await;
            }
        }
    }

    /// Copies in both directions until the pod has said everything, or nobody listens any more.
    async fn pump(&self, stream: Box<dyn ByteStream>, mut input: mpsc::Receiver<Bytes>) {
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
                    Ok(0) => break,
                    Ok(n) => {
                        if !self.send(self.data, &buffer[..n]).await {
                            break;
                        }
                    }
                    Err(error) => {
                        let text = format!("an error occurred forwarding port {}: {error}", self.port);
                        self.send(self.error, text.as_bytes()).await;
                        break;
                    }
                }
            }
        };
        tokio::pin!(write);
        tokio::pin!(read);
        tokio::select! {
            () = &mut read => {}
            // The client is done; the pod may still answer, as long as someone is there to hear it.
            () = &mut write => tokio::select! {
                () = read => {}
                () = self.to_client.closed() => {}
            },
        }
    }

    async fn send(&self, channel: u8, data: &[u8]) -> bool {
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        self.to_client.send(Message::binary(message)).await.is_ok()
    }
}
