//! Opaque TCP: a line of JSON there, a line of JSON back, as often as the client likes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt, BufStream};
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::lines::read_line;
use crate::network::BoxedStream;
use crate::protocol::{Answer, ProblemReport, Protocol, TcpRequest};

/// Longest request line in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Serves one connection until the peer or the agent ends it.
pub(crate) async fn serve(
    agent: Arc<Agent>,
    port: u16,
    stream: BoxedStream,
    peer: SocketAddr,
    drain: CancellationToken,
) {
    let mut stream = BufStream::new(stream);
    loop {
        let line = tokio::select! {
            biased;
            line = read_line(&mut stream, MAX_LINE) => line,
            // Between two requests is where a draining server may hang up.
            () = drain.cancelled() => break,
        };
        let request: TcpRequest = match line {
            Ok(None) => break,
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => break,
            Err(error) => {
                refuse(&mut stream, &error.to_string()).await;
                break;
            }
            Ok(Some(line)) => match serde_json::from_slice(&line) {
                Ok(request) => request,
                Err(error) => {
                    refuse(
                        &mut stream,
                        &format!("not a request line: {error}; expected {{\"id\": …, \"run\": …, \"headers\": {{…}}}}"),
                    )
                    .await;
                    break;
                }
            },
        };
        let treatment = agent.receive(Protocol::Tcp, port, request.id.as_deref(), request.run.as_deref());
        if !treatment.delay.is_zero() {
            tokio::time::sleep(treatment.delay).await;
        }
        if treatment.status.is_none() {
            return;
        }
        let answer = Answer {
            server: agent.identity.clone(),
            request: request.id,
            protocol: Protocol::Tcp,
            port,
            path: String::new(),
            host: String::new(),
            headers: request
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), vec![value]))
                .collect(),
            peer: peer.ip().to_canonical().to_string(),
        };
        if write_line(&mut stream, &answer).await.is_err() {
            return;
        }
    }
    // The peer may be gone; nobody waits for this.
    let _ = stream.shutdown().await;
}

async fn refuse(stream: &mut BufStream<BoxedStream>, problem: &str) {
    // The connection is closed next in any case.
    let _ = write_line(
        stream,
        &ProblemReport {
            problem: problem.to_owned(),
        },
    )
    .await;
}

async fn write_line(stream: &mut BufStream<BoxedStream>, value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}
