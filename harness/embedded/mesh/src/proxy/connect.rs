//! Connections to endpoints: TLS with the expected identity, and the transport header.

use std::io;
use std::net::SocketAddr;

use meshproof_cluster::intercept::BoxedStream;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsConnector;

use super::Proxy;
use super::transport_header::{SessionProtocol, TransportHeader, UNENCRYPTED_PREFACE};
use crate::defect::Defect;
use crate::destination::{EndpointTarget, Transport};
use crate::identity::TRANSPORT_HEADER_ALPN;
use crate::metrics::Labels;
use crate::names::PROXY_INBOUND_PORT;

impl Proxy {
    /// Opens a connection to an endpoint, ready for `protocol`. An identity that the peer does not prove is an error; there
    /// is no falling back to plaintext. `unencrypted` is a defect's doing.
    pub(super) async fn connect(
        &self,
        target: &EndpointTarget,
        protocol: SessionProtocol,
        unencrypted: bool,
    ) -> io::Result<BoxedStream> {
        let header = |name, port| TransportHeader {
            name,
            port,
            protocol,
            client: unencrypted.then(|| self.identity.name().to_owned()),
            version: self
                .model
                .has(Defect::NewerProxiesRefused)
                .then(|| self.config.version.clone()),
        };
        let (address, header) = match &target.transport {
            Transport::Gateway { host, port, .. } => (target.address, Some(header(Some(host.clone()), *port))),
            Transport::Pod { .. } => {
                let address = SocketAddr::new(target.address.ip(), PROXY_INBOUND_PORT);
                (address, Some(header(None, target.address.port())))
            }
            Transport::Tls { .. } | Transport::Plain => (target.address, None),
        };
        let mut stream = self.sidecar.connect_unmeshed(address).await?;
        let Some(identity) = target.transport.identity() else {
            return Ok(stream);
        };
        if unencrypted {
            stream.write_all(UNENCRYPTED_PREFACE).await?;
        } else {
            stream = self.secure(stream, identity, header.is_some()).await?;
        }
        if let Some(header) = header {
            header.write(&mut stream).await?;
        }
        Ok(stream)
    }

    async fn secure(&self, stream: BoxedStream, identity: &str, with_header: bool) -> io::Result<BoxedStream> {
        let configs = self.identity.configs();
        let config = if with_header {
            &configs.client
        } else {
            &configs.plain_client
        };
        let name = ServerName::try_from(identity.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
        if with_header && stream.get_ref().1.alpn_protocol() != Some(TRANSPORT_HEADER_ALPN) {
            return Err(io::Error::other("the peer does not negotiate a transport header"));
        }
        Ok(Box::new(stream))
    }

    /// Counts a connection to an endpoint that was not made.
    pub(super) fn count_connect_failure(&self, target: &EndpointTarget) {
        let labels = Labels::from([("target_addr", target.address.to_string().as_str())]).and(&target.labels);
        self.metrics
            .counter(
                "outbound_tcp_errors_total",
                "The total number of TCP errors encountered by the outbound proxy.",
                &labels,
            )
            .increment();
    }
}
