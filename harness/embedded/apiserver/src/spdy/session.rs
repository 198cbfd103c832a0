//! One connection: streams that the client opens, until either side is done.

use super::frame::{Frame, HEAD, REFUSED_STREAM, payload_size};
use super::headers::{EmptyBlocks, Headers, Reader};
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Streams that are open at once. A forwarded connection takes two.
const MAX_STREAMS: usize = 256;
/// Chunks of a stream that wait to be read.
const CHUNKS_WAITING: usize = 2;
/// Frames that wait to be written.
const FRAMES_WAITING: usize = 16;
/// Largest payload that is sent at once.
const CHUNK: usize = 32 * 1024;
/// How long the client may take to end the connection after everything was said.
const GOODBYE: Duration = Duration::from_secs(2);

/// A stream that the client has opened.
pub(crate) struct Opened {
    /// What it is for.
    pub(crate) headers: Headers,
    /// What the client sends. Ends when the client has ended its side.
    pub(crate) input: mpsc::Receiver<Bytes>,
    /// What the client gets.
    pub(crate) output: Output,
}

/// This side of a stream.
#[derive(Clone)]
pub(crate) struct Output {
    id: u32,
    frames: mpsc::Sender<Vec<u8>>,
}

impl Output {
    /// Sends bytes; `false` when the client is gone.
    pub(crate) async fn send(&self, bytes: &[u8]) -> bool {
        for chunk in bytes.chunks(CHUNK) {
            let frame = Frame::Data {
                id: self.id,
                fin: false,
                bytes: Bytes::copy_from_slice(chunk),
            };
            if self.frames.send(frame.write()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Ends this side.
    pub(crate) async fn finish(&self) {
        let frame = Frame::Data {
            id: self.id,
            fin: true,
            bytes: Bytes::new(),
        };
        // Without a client there is nobody to tell.
        let _ = self.frames.send(frame.write()).await;
    }

    /// Ends the stream at once.
    pub(crate) async fn refuse(&self) {
        let frame = Frame::Reset {
            id: self.id,
            status: REFUSED_STREAM,
        };
        let _ = self.frames.send(frame.write()).await;
    }

    /// Returns when the client is gone.
    pub(crate) async fn gone(&self) {
        self.frames.closed().await;
    }
}

/// Speaks SPDY on a connection until `user`, who is given the streams, is done. When the client ends the connection, the
/// streams come to their end, and `user` is to end as well.
pub(crate) async fn serve<S, F>(connection: S, user: impl FnOnce(mpsc::Receiver<Opened>) -> F)
where
    S: AsyncRead + AsyncWrite,
    F: Future<Output = ()>,
{
    let (from_client, to_client) = tokio::io::split(connection);
    let (opened, streams) = mpsc::channel(1);
    let (frames, to_write) = mpsc::channel(FRAMES_WAITING);
    let done = CancellationToken::new();
    let mut reading = pin!(read(from_client, opened, frames));
    let mut writing = pin!(write(to_client, to_write, done.clone()));
    let mut user = pin!(user(streams));
    let (mut is_reading, mut is_writing) = (true, true);
    loop {
        tokio::select! {
            () = &mut user => break,
            () = &mut reading, if is_reading => is_reading = false,
            () = &mut writing, if is_writing => is_writing = false,
        }
        if !is_writing {
            break;
        }
    }
    done.cancel();
    let goodbye = async {
        if is_writing {
            writing.await;
        }
        if is_reading {
            reading.await;
        }
    };
    // A client that does not end the connection loses it.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}

async fn write(mut to_client: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Vec<u8>>, done: CancellationToken) {
    loop {
        let frame = tokio::select! {
            biased;
            Some(frame) = frames.recv() => frame,
            () = done.cancelled() => break,
            else => break,
        };
        if to_client.write_all(&frame).await.is_err() || to_client.flush().await.is_err() {
            return;
        }
    }
    // The client may be gone already, which is what is wanted.
    let _ = to_client.write_all(&Frame::GoAway.write()).await;
    let _ = to_client.shutdown().await;
}

/// Reads frames until the connection ends or can't be understood.
async fn read(mut from_client: impl AsyncRead + Unpin, opened: mpsc::Sender<Opened>, frames: mpsc::Sender<Vec<u8>>) {
    let (mut headers, mut replies) = (Reader::new(), EmptyBlocks::default());
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut newest = 0;
    loop {
        let frame = match next_frame(&mut from_client).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(why) => {
                tracing::debug!(why, "a SPDY connection is ended");
                return;
            }
        };
        let answer = match frame {
            Frame::Open {
                id,
                fin,
                headers: block,
            } => {
                // Blocks must be read in any case: each continues the one before.
                let headers = match headers.read(&block) {
                    Ok(headers) => headers,
                    Err(why) => {
                        tracing::debug!(%why, "a SPDY connection is ended");
                        return;
                    }
                };
                streams.retain(|_, stream| !stream.is_closed());
                // Clients number their streams oddly and upwards.
                if id <= newest || id % 2 == 0 || streams.len() >= MAX_STREAMS {
                    Some(Frame::Reset {
                        id,
                        status: REFUSED_STREAM,
                    })
                } else {
                    newest = id;
                    let (sender, input) = mpsc::channel(CHUNKS_WAITING);
                    if !fin {
                        streams.insert(id, sender);
                    }
                    let output = Output {
                        id,
                        frames: frames.clone(),
                    };
                    let reply = Frame::Reply {
                        id,
                        headers: replies.next(),
                    };
                    // The reply comes before anything that is said on the stream.
                    if frames.send(reply.write()).await.is_err() {
                        return;
                    }
                    let stream = Opened { headers, input, output };
                    if opened.send(stream).await.is_err() {
                        streams.remove(&id);
                    }
                    None
                }
            }
            Frame::Data { id, fin, bytes } => {
                if let Some(stream) = streams.get(&id) {
                    let taken = bytes.is_empty() || stream.send(bytes).await.is_ok();
                    if fin || !taken {
                        streams.remove(&id);
                    }
                }
                None
            }
            Frame::Reset { id, .. } => {
                streams.remove(&id);
                None
            }
            Frame::Ping { id } => Some(Frame::Ping { id }),
            Frame::Reply { .. } | Frame::GoAway | Frame::Other => None,
        };
        if let Some(answer) = answer
            && frames.send(answer.write()).await.is_err()
        {
            return;
        }
    }
}

/// The next frame; `None` at the end of the connection.
async fn next_frame(from_client: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, String> {
    let mut head = [0; HEAD];
    match from_client.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let size = payload_size(head).map_err(|error| error.to_string())?;
    let mut payload = vec![0; size];
    from_client
        .read_exact(&mut payload)
        .await
        .map_err(|error| error.to_string())?;
    let frame = Frame::read(head, &Bytes::from(payload)).map_err(|error| error.to_string())?;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each stream with its headers and what came in.
    async fn echo(mut streams: mpsc::Receiver<Opened>) {
        while let Some(mut stream) = streams.recv().await {
            let mut all = format!("{:?} ", stream.headers.keys()).into_bytes();
            while let Some(bytes) = stream.input.recv().await {
                all.extend_from_slice(&bytes);
            }
            stream.output.send(&all).await;
            stream.output.finish().await;
        }
    }

    async fn answer(client: &mut (impl AsyncRead + Unpin)) -> Frame {
        next_frame(client).await.unwrap().expect("the connection goes on")
    }

    #[tokio::test]
    async fn streams_are_taken_fed_and_ended() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let served = tokio::spawn(serve(server, echo));
        let mut blocks = EmptyBlocks::default();
        let mut open = |id| Frame::Open {
            id,
            fin: false,
            headers: blocks.next(),
        };
        let data = |id, fin, text: &'static str| Frame::Data {
            id,
            fin,
            bytes: Bytes::from_static(text.as_bytes()),
        };
        for frame in [
            open(1),
            data(1, false, "a"),
            data(1, true, "b"),
            Frame::Ping { id: 7 },
            open(2),
        ] {
            client.write_all(&frame.write()).await.unwrap();
        }
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(answer(&mut client).await);
        }
        assert!(matches!(seen[0], Frame::Reply { id: 1, .. }), "{seen:?}");
        assert!(seen.contains(&data(1, false, "[] ab")), "{seen:?}");
        assert!(seen.contains(&data(1, true, "")), "{seen:?}");
        assert!(seen.contains(&Frame::Ping { id: 7 }), "{seen:?}");
        let refused = Frame::Reset {
            id: 2,
            status: REFUSED_STREAM,
        };
        assert!(seen.contains(&refused), "even numbers are the server's: {seen:?}");
        drop(client);
        tokio::time::timeout(Duration::from_secs(20), served)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_user_ends_the_connection() {
        let (mut client, server) = tokio::io::duplex(1024);
        let served = tokio::spawn(serve(server, |_| async {}));
        assert_eq!(answer(&mut client).await, Frame::GoAway);
        assert_eq!(next_frame(&mut client).await, Ok(None));
        drop(client);
        tokio::time::timeout(Duration::from_secs(20), served)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        let (mut client, server) = tokio::io::duplex(1024);
        let served = tokio::spawn(serve(server, echo));
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        tokio::time::timeout(Duration::from_secs(20), served)
            .await
            .unwrap()
            .unwrap();
    }
}
