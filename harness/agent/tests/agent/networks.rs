//! Two networks to test on: real sockets on loopback, and memory. In memory with tokio's clock paused, time is exact.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use meshproof_agent::network::{BoxedStream, Listener, Network};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

type Arrival = (BoxedStream, SocketAddr);

/// What stands behind the names and ports of a network.
#[derive(Clone)]
enum Door {
    Socket(SocketAddr),
    Memory(mpsc::UnboundedSender<Arrival>),
}

/// All names and ports of a test, shared by its pods.
#[derive(Clone, Default)]
pub(crate) struct World {
    doors: Arc<Mutex<HashMap<String, HashMap<u16, Door>>>>,
    in_memory: bool,
}

/// A name under which connections are never established and never refused.
pub(crate) const BLACKHOLE: &str = "blackhole";

impl World {
    pub(crate) fn on_loopback() -> Self {
        Self::default()
    }

    pub(crate) fn in_memory() -> Self {
        Self {
            in_memory: true,
            ..Self::default()
        }
    }

    /// The network as the pod of this name sees it.
    pub(crate) fn pod(&self, name: &str) -> Arc<dyn Network> {
        self.doors.lock().unwrap().entry(name.to_owned()).or_default();
        Arc::new(Pod {
            world: self.clone(),
            name: name.to_owned(),
        })
    }

    /// Makes a listening port go away under its program.
    pub(crate) fn take_away(&self, name: &str, port: u16) {
        self.doors.lock().unwrap().get_mut(name).unwrap().remove(&port);
    }
}

struct Pod {
    world: World,
    name: String,
}

#[async_trait]
impl Network for Pod {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedStream> {
        if host == BLACKHOLE {
            return std::future::pending().await;
        }
        let door = {
            let doors = self.world.doors.lock().unwrap();
            let ports = doors
                .get(host)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))?;
            ports.get(&port).cloned().ok_or(io::ErrorKind::ConnectionRefused)?
        };
        match door {
            Door::Socket(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Door::Memory(sender) => {
                let (near, far) = tokio::io::duplex(64 * 1024);
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
                sender
                    .send((Box::new(far), peer))
                    .map_err(|_| io::ErrorKind::ConnectionRefused)?;
                Ok(Box::new(near))
            }
        }
    }

    async fn listen(&self, port: u16) -> io::Result<Box<dyn Listener>> {
        let (door, listener): (Door, Box<dyn Listener>) = if self.world.in_memory {
            let (sender, arrivals) = mpsc::unbounded_channel();
            (Door::Memory(sender), Box::new(MemoryListener(arrivals)))
        } else {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            (Door::Socket(listener.local_addr()?), Box::new(SocketListener(listener)))
        };
        let mut doors = self.world.doors.lock().unwrap();
        let ports = doors.get_mut(&self.name).unwrap();
        if ports.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        ports.insert(port, door);
        Ok(listener)
    }
}

struct SocketListener(TcpListener);

#[async_trait]
impl Listener for SocketListener {
    async fn accept(&mut self) -> io::Result<Arrival> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }
}

struct MemoryListener(mpsc::UnboundedReceiver<Arrival>);

#[async_trait]
impl Listener for MemoryListener {
    async fn accept(&mut self) -> io::Result<Arrival> {
        self.0
            .recv()
            .await
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the port was taken away"))
    }
}
