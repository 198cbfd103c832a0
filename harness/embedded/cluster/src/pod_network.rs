//! A pod's network as the programs in it see it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_agent::network::{BoxedStream, Listener, Network};
use rand::seq::SliceRandom;

use crate::dns::Zone;
use crate::fabric::{Fabric, PodSocket, ScopeId, Source};
use crate::intercept::Interceptor;
use crate::program::SidecarAccess;

/// The network of one container's stay in a pod. All containers of a pod share its address and ports.
#[derive(Clone)]
pub(crate) struct PodNetwork {
    pub(crate) fabric: Fabric,
    pub(crate) zone: Arc<Zone>,
    pub(crate) pod: Arc<PodSocket>,
    pub(crate) namespace: String,
    /// Name by which the pod knows itself (`/etc/hosts`).
    pub(crate) hostname: String,
    pub(crate) scope: ScopeId,
}

impl PodNetwork {
    fn names(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if name == self.hostname {
            return Ok(vec![self.pod.address.into()]);
        }
        self.zone.resolve(&self.namespace, name)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<BoxedStream> {
        // The redirection of a real pod leaves the loopback interface alone.
        if address.ip().is_loopback() {
            return self
                .connect_application(address.port(), (Ipv4Addr::LOCALHOST, 0).into())
                .await;
        }
        match self.pod.interceptor()? {
            Some(interceptor) => interceptor.outbound(address).await,
            None => self.connect_unmeshed(address).await,
        }
    }
}

#[async_trait]
impl Network for PodNetwork {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedStream> {
        let mut addresses = self.names(host)?;
        // DNS servers rotate their answers; clients take the first one that works.
        addresses.shuffle(&mut rand::rng());
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in addresses {
            match self.connect_to(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn listen(&self, port: u16) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(self.pod.listen(port, self.scope)?))
    }
}

#[async_trait]
impl SidecarAccess for PodNetwork {
    fn intercept(&self, interceptor: Arc<dyn Interceptor>) {
        self.pod.intercept(interceptor, self.scope);
    }

    fn release(&self) {
        self.pod.release();
    }

    async fn connect_unmeshed(&self, address: SocketAddr) -> io::Result<BoxedStream> {
        let source = Source {
            cluster: &self.pod.cluster,
            address: self.pod.address,
            scope: Some(self.scope),
        };
        self.fabric.dial(source, address).await
    }

    async fn connect_application(&self, port: u16, peer: SocketAddr) -> io::Result<BoxedStream> {
        self.fabric
            .dial_inside(&self.pod, port, peer.ip(), Some(self.scope), true)
            .await
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.names(name)
    }

    fn address(&self) -> IpAddr {
        self.pod.address.into()
    }
}
