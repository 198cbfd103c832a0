//! The network as the agent sees it: names, outgoing connections and listening ports.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A bidirectional byte stream, whatever carries it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An owned [`ByteStream`].
pub type BoxedStream = Box<dyn ByteStream>;

/// A listening port.
#[async_trait]
pub trait Listener: Send + Sync {
    /// Waits for the next connection and returns it with the peer's address as the application sees it.
    ///
    /// # Errors
    /// An [`io::Error`] when the port is gone; the server then stops.
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)>;
}

/// What a pod's network offers to the program in it.
#[async_trait]
pub trait Network: Send + Sync {
    /// Opens a connection to `host` (a DNS name, resolved as a pod would resolve it, or an IP address) and `port`.
    ///
    /// # Errors
    /// `NotFound` when the name does not exist, `ConnectionRefused`, `TimedOut`, `ConnectionReset` … as sockets do.
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedStream>;

    /// Listens on `port` of all the pod's addresses. Port 0 is not allowed.
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken.
    async fn listen(&self, port: u16) -> io::Result<Box<dyn Listener>>;
}
