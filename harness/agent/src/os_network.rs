//! [`Network`] over the operating system's sockets and resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::network::{BoxedStream, Listener, Network};

/// The network of the machine or container that the agent runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNetwork;

#[async_trait]
impl Network for OsNetwork {
    /// Resolves `host` and tries its addresses in the resolver's order until one accepts.
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedStream> {
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => lookup_host((host, port))
                .await
                .map_err(|error| io::Error::new(io::ErrorKind::NotFound, format!("{host}: {error}")))?
                .collect(),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host}: the name has no address"));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Box::new(stream));
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    /// Listens on all IPv6 and IPv4 addresses with one socket; on IPv4 alone where there is no IPv6.
    async fn listen(&self, port: u16) -> io::Result<Box<dyn Listener>> {
        if port == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "port 0 cannot be listened on",
            ));
        }
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            other => other,
        }?;
        Ok(Box::new(OsListener { listener }))
    }
}

/// Failures to accept in a row after which the port counts as gone.
const MAX_ACCEPT_FAILURES: u32 = 100;
/// Pause after a failure to accept that is not the peer's doing, typically "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct OsListener {
    listener: TcpListener,
}

#[async_trait]
impl Listener for OsListener {
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        let mut failures = 0;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // The connection may be gone already; whoever reads from it will find out.
                    let _ = stream.set_nodelay(true);
                    // A socket for both families shows IPv4 peers as ::ffff:a.b.c.d.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return Ok((Box::new(stream), peer));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    ) => {}
                Err(error) => {
                    failures += 1;
                    if failures == MAX_ACCEPT_FAILURES {
                        return Err(error);
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Listens on a port outside of the range from which the system hands out ports by itself.
    async fn listen_somewhere() -> (u16, Box<dyn Listener>) {
        for port in 21_000..22_000 {
            match OsNetwork.listen(port).await {
                Ok(listener) => return (port, listener),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
            }
        }
        panic!("no free port between 21000 and 22000");
    }

    #[tokio::test]
    async fn names_and_addresses_reach_the_listener() {
        let (port, mut listener) = listen_somewhere().await;
        for host in ["127.0.0.1", "localhost"] {
            let client = async {
                let mut stream = OsNetwork.connect(host, port).await.unwrap();
                stream.write_all(b"ping").await.unwrap();
            };
            let server = async {
                let (mut stream, peer) = listener.accept().await.unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                (received, peer)
            };
            let ((), (received, peer)) = tokio::join!(client, server);
            assert_eq!(received, b"ping");
            assert!(peer.ip().is_loopback(), "{peer}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_reported() {
        let (port, _listener) = listen_somewhere().await;
        let error = OsNetwork.listen(port).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_closed_port_refuses_and_an_unknown_name_is_not_found() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        drop(held);
        let error = OsNetwork.connect("127.0.0.1", port).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        // RFC 2606 reserves .invalid; the label is also too long for any resolver to ask the network about.
        let error = OsNetwork
            .connect(&format!("{}.invalid", "x".repeat(64)), 80)
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
