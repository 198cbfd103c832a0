//! Where a sidecar takes over a pod's connections.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
pub use meshproof_agent::network::BoxedStream;

/// A sidecar's side of the traffic redirection that `iptables` does in a real pod.
#[async_trait]
pub trait Interceptor: Send + Sync {
    /// The application opened a connection to the virtual address `destination` (already resolved, not translated).
    ///
    /// # Errors
    /// What the application's socket shall see.
    async fn outbound(&self, destination: SocketAddr) -> io::Result<BoxedStream>;

    /// A connection from `peer` (virtual) arrived for `port` of the pod. Returns when the connection is done.
    /// Sidecar ports (a proxy's own inbound and admin ports) arrive here too.
    async fn inbound(&self, stream: BoxedStream, port: u16, peer: SocketAddr);
}
