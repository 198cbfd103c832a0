//! A relay between a gateway and its clients: it carries TCP connections, reads along, and can disturb them.
//!
//! Everything is told to it over a control port ([`protocol`]). Faults live only as long as the harness renews them: when
//! it is silent for longer than [`RelayConfig::lifetime`], the relay heals everything by itself and goes on carrying.

pub mod arguments;
mod client;
mod connection;
mod control;
pub mod protocol;
mod state;
mod tap;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::server::{LogSink, StartError};
use protocol::Forward;
use state::State;

pub use client::{CallError, Client};

/// Pause after a failure to listen or to accept that is not a client's doing, e.g. "too many open files".
const PAUSE: Duration = Duration::from_millis(50);

/// How to run a relay.
#[derive(Clone)]
pub struct RelayConfig {
    /// What it forwards. Port 0 takes any free port; [`RunningRelay::ports`] tells which.
    pub forwards: Vec<Forward>,
    /// Port of the control API; 0 as above.
    pub control_port: u16,
    /// How long faults live without being renewed.
    pub lifetime: Duration,
    /// Takes the log: start, faults, heals, resets.
    pub log: LogSink,
}

/// A running relay. Dropping it ends it with all its connections.
#[must_use = "a relay ends when this is dropped"]
pub struct RunningRelay {
    ports: Vec<u16>,
    control_port: u16,
    _life: DropGuard,
}

impl RunningRelay {
    /// Listens on all ports and carries connections until the returned value is dropped. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError`] when a port cannot be listened on; nothing is left running then.
    pub async fn start(config: RelayConfig) -> Result<Self, StartError> {
        let mut forwards = config.forwards;
        let mut listeners = Vec::with_capacity(forwards.len());
        for forward in &mut forwards {
            let listener = listen_first(forward.port).await?;
            forward.port = port_of(&listener, forward.port)?;
            listeners.push(listener);
        }
        let control = listen_first(config.control_port).await?;
        let control_port = port_of(&control, config.control_port)?;

        let ports = forwards.iter().map(|forward| forward.port).collect();
        let state = State::new(forwards.clone(), config.lifetime);
        let life = CancellationToken::new();
        for (forward, listener) in forwards.iter().zip(listeners) {
            state.listens(forward.port, true);
            let door = Door {
                state: Arc::clone(&state),
                forward: Arc::new(forward.clone()),
                life: life.clone(),
                log: Arc::clone(&config.log),
            };
            spawn(&life, door.attend(listener));
        }
        let log = Arc::clone(&config.log);
        spawn(&life, {
            let (state, life, log) = (Arc::clone(&state), life.clone(), Arc::clone(&log));
            async move {
                loop {
                    let stream = accept(&control).await;
                    spawn(&life, control::serve(Arc::clone(&state), Arc::clone(&log), stream));
                }
            }
        });
        let targets: Vec<String> = forwards.iter().map(ToString::to_string).collect();
        log(&format!("relay carries {}; control {control_port}", targets.join(", ")));
        spawn(&life, async move { state.watch_over(|line| log(line)).await });
        Ok(Self {
            ports,
            control_port,
            _life: life.drop_guard(),
        })
    }

    /// The ports that it listens on, in the order of the forwards.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The port of the control API.
    #[must_use]
    pub fn control_port(&self) -> u16 {
        self.control_port
    }
}

/// Runs a task that ends with the relay.
fn spawn(life: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let life = life.clone();
    tokio::spawn(async move {
        life.run_until_cancelled_owned(task).await;
    });
}

/// All that a port needs to know.
struct Door {
    state: Arc<State>,
    forward: Arc<Forward>,
    life: CancellationToken,
    log: LogSink,
}

impl Door {
    /// Accepts connections, except while they are to be refused: then nobody listens. Never returns.
    async fn attend(self, first: TcpListener) {
        let mut effects = self.state.effects();
        let mut listener = Some(first);
        loop {
            if effects.borrow_and_update().refused {
                listener = None;
                self.state.listens(self.forward.port, false);
                // The sender lives as long as the state.
                let _ = effects.wait_for(|effects| !effects.refused).await;
                continue;
            }
            let open = match listener.take() {
                Some(listener) => listener,
                None => self.listen_again().await,
            };
            tokio::select! {
                biased;
                _ = effects.wait_for(|effects| effects.refused) => {}
                client = accept(&open) => {
                    let (state, forward) = (Arc::clone(&self.state), Arc::clone(&self.forward));
                    spawn(&self.life, async move { connection::carry(state, client, &forward).await });
                }
            }
            listener = Some(open);
        }
    }

    async fn listen_again(&self) -> TcpListener {
        let port = self.forward.port;
        let mut told = false;
        loop {
            match listen(port).await {
                Ok(listener) => {
                    self.state.listens(port, true);
                    return listener;
                }
                Err(error) => {
                    if !told {
                        (self.log)(&format!("cannot listen on port {port} again yet: {error}"));
                        told = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn listen_first(port: u16) -> Result<TcpListener, StartError> {
    listen(port).await.map_err(|source| StartError { port, source })
}

/// Listens on all IPv6 and IPv4 addresses with one socket; on IPv4 alone where there is no IPv6.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

fn port_of(listener: &TcpListener, asked: u16) -> Result<u16, StartError> {
    let address = listener.local_addr().map(|address: SocketAddr| address.port());
    address.map_err(|source| StartError { port: asked, source })
}

/// Waits for the next connection, however often it takes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // The connection may be gone already; whoever reads from it will find out.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
