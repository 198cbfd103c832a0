//! A pod on the fabric: one real loopback listener, and the ports that programs in the pod listen on.
//!
//! Every connection to the pod arrives at that listener with a token as its first bytes. The token leads to what the
//! dialling side left for it: the virtual port and the connection's shared state. A stranger on the machine who finds
//! the port has no token and is turned away.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_agent::network::{BoxedStream, Listener};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::connection::{LiveConnection, Registry, ScopeId};
use super::stream::AcceptedStream;
use crate::intercept::Interceptor;

/// Connections that wait to be accepted by a program.
const BACKLOG: usize = 1024;
/// How long a real connection may take to show its token, wall time.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);

/// Pause after a failure to accept, wall time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// First bytes of a real connection.
pub(crate) type Token = [u8; 16];

/// A connection that was opened and has not arrived yet.
pub(crate) struct Arrival {
    /// Address of the pod at which it is to arrive.
    pub(crate) pod: Ipv4Addr,
    pub(crate) live: Arc<LiveConnection>,
    pub(crate) port: u16,
    pub(crate) peer: SocketAddr,
    /// Straight to the application, past a sidecar.
    pub(crate) past_sidecar: bool,
}

/// Arrivals by token, of all pods.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<HashMap<Token, Arrival>>);

impl Arrivals {
    pub(crate) fn expect(&self, arrival: Arrival) -> Token {
        let token = rand::random();
        lock(&self.0).insert(token, arrival);
        token
    }

    pub(crate) fn take(&self, token: &Token) -> Option<Arrival> {
        lock(&self.0).remove(token)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Forgets what can no longer arrive. The connections are dropped after the lock.
    fn forget(&self, pod: Ipv4Addr) {
        let gone: Vec<_> = lock(&self.0).extract_if(|_, arrival| arrival.pod == pod).collect();
        drop(gone);
    }
}

/// Who takes the pod's connections.
enum Interception {
    None,
    By(Arc<dyn Interceptor>, ScopeId),
    /// The sidecar that took them is gone, the redirection to it is not.
    Orphaned,
}

pub(crate) struct PodSocket {
    pub(crate) cluster: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) real: SocketAddr,
    registry: Arc<Registry>,
    arrivals: Arc<Arrivals>,
    inside: Mutex<Inside>,
    changed: watch::Sender<()>,
    gone: CancellationToken,
}

struct Inside {
    ports: HashMap<u16, OpenPort>,
    interception: Interception,
}

struct OpenPort {
    scope: ScopeId,
    arrivals: mpsc::Sender<(BoxedStream, SocketAddr)>,
}

impl PodSocket {
    pub(crate) async fn open(
        cluster: &str,
        address: Ipv4Addr,
        registry: Arc<Registry>,
        arrivals: Arc<Arrivals>,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let pod = Arc::new(Self {
            cluster: cluster.to_owned(),
            address,
            real: listener.local_addr()?,
            registry,
            arrivals: Arc::clone(&arrivals),
            inside: Mutex::new(Inside {
                ports: HashMap::new(),
                interception: Interception::None,
            }),
            changed: watch::channel(()).0,
            gone: CancellationToken::new(),
        });
        let accepting = accept(listener, Arc::downgrade(&pod), arrivals, pod.gone.child_token());
        tokio::spawn(accepting);
        Ok(pod)
    }

    /// Tells when a port was opened or a sidecar took over: when a probe that failed may succeed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Closes the pod's listener and breaks all its connections.
    pub(crate) fn close(&self) {
        self.gone.cancel();
        self.arrivals.forget(self.address);
        self.registry.reset_address(self.address);
        let mut inside = lock(&self.inside);
        inside.ports.clear();
        let taken = std::mem::replace(&mut inside.interception, Interception::Orphaned);
        drop(inside);
        drop(taken);
    }

    /// Whether a connection to `port` would be taken.
    pub(crate) fn takes(&self, port: u16, past_sidecar: bool) -> bool {
        let inside = lock(&self.inside);
        match &inside.interception {
            Interception::By(..) if !past_sidecar => true,
            Interception::Orphaned if !past_sidecar => false,
            _ => inside.listens(port),
        }
    }

    /// Whether a program in the pod listens on `port` itself.
    pub(crate) fn listens(&self, port: u16) -> bool {
        lock(&self.inside).listens(port)
    }

    pub(crate) fn listen(self: &Arc<Self>, port: u16, scope: ScopeId) -> io::Result<PodListener> {
        if port == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "port 0 is not allowed; name the port",
            ));
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut inside = lock(&self.inside);
        if inside.listens(port) {
            let text = format!("port {port} of pod {} is taken", self.address);
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let arrivals = sender.clone();
        inside.ports.insert(port, OpenPort { scope, arrivals });
        drop(inside);
        self.changed.send_replace(());
        Ok(PodListener {
            pod: Arc::downgrade(self),
            port,
            own: sender.downgrade(),
            arrivals: receiver,
        })
    }

    pub(crate) fn intercept(&self, interceptor: Arc<dyn Interceptor>, scope: ScopeId) {
        self.set_interception(Interception::By(interceptor, scope));
    }

    pub(crate) fn release(&self) {
        self.set_interception(Interception::None);
    }

    /// Drops the old interceptor after the lock, since that may drop connections.
    fn set_interception(&self, new: Interception) {
        let old = std::mem::replace(&mut lock(&self.inside).interception, new);
        drop(old);
        self.changed.send_replace(());
    }

    /// The sidecar for an outgoing connection; `Ok(None)` when there is none.
    pub(crate) fn interceptor(&self) -> io::Result<Option<Arc<dyn Interceptor>>> {
        match &lock(&self.inside).interception {
            Interception::None => Ok(None),
            Interception::By(interceptor, _) => Ok(Some(Arc::clone(interceptor))),
            Interception::Orphaned => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "connection refused: the sidecar that takes the pod's traffic does not run",
            )),
        }
    }

    /// Ends everything that a program opened, accepted or listened on.
    pub(crate) fn end_scope(&self, scope: ScopeId) {
        let mut inside = lock(&self.inside);
        inside.ports.retain(|_, p| p.scope != scope);
        let mut old = Interception::None;
        if matches!(inside.interception, Interception::By(_, by) if by == scope) {
            old = std::mem::replace(&mut inside.interception, Interception::Orphaned);
        }
        drop(inside);
        drop(old);
        self.registry.reset_scope(scope);
    }

    async fn arrived(&self, tcp: TcpStream, arrival: Arrival) {
        let Arrival {
            live,
            port,
            peer,
            past_sidecar,
            ..
        } = arrival;
        let taker = {
            let inside = lock(&self.inside);
            match &inside.interception {
                Interception::By(interceptor, scope) if !past_sidecar => {
                    live.accepted_by(Some(*scope));
                    Ok(Arc::clone(interceptor))
                }
                Interception::Orphaned if !past_sidecar => Err(None),
                _ => Err(inside.ports.get(&port).map(|open| {
                    live.accepted_by(Some(open.scope));
                    open.arrivals.clone()
                })),
            }
        };
        let stream: BoxedStream = Box::new(AcceptedStream::new(tcp, Arc::clone(&live)));
        let refused = match taker {
            Ok(interceptor) => {
                tokio::select! {
                    () = interceptor.inbound(stream, port, peer) => {}
                    () = live.was_reset() => {}
                }
                false
            }
            Err(Some(port)) => port.send((stream, peer)).await.is_err(),
            Err(None) => true,
        };
        if refused {
            live.reset();
        }
    }
}

impl Drop for PodSocket {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Inside {
    fn listens(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|p| !p.arrivals.is_closed())
    }
}

async fn accept(listener: TcpListener, pod: Weak<PodSocket>, arrivals: Arc<Arrivals>, gone: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = gone.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut tcp, _)) = accepted else {
            // An aborted handshake, or no descriptor is free: the next one may fare better.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (pod, arrivals, gone) = (Weak::clone(&pod), Arc::clone(&arrivals), gone.clone());
        tokio::spawn(async move {
            let mut token = Token::default();
            let read = tokio::time::timeout(TOKEN_PATIENCE, tcp.read_exact(&mut token));
            let shown = tokio::select! {
                () = gone.cancelled() => return,
                read = read => matches!(read, Ok(Ok(_))),
            };
            if !shown {
                return;
            }
            if let (Some(arrival), Some(pod)) = (arrivals.take(&token), pod.upgrade()) {
                tcp.set_nodelay(true).ok();
                pod.arrived(tcp, arrival).await;
            }
        });
    }
}

/// A port that a program listens on. The port closes when this is dropped.
pub(crate) struct PodListener {
    pod: Weak<PodSocket>,
    port: u16,
    own: mpsc::WeakSender<(BoxedStream, SocketAddr)>,
    arrivals: mpsc::Receiver<(BoxedStream, SocketAddr)>,
}

#[async_trait]
impl Listener for PodListener {
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        self.arrivals.recv().await.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotConnected,
                format!("port {} of the pod is closed", self.port),
            )
        })
    }
}

impl Drop for PodListener {
    fn drop(&mut self) {
        let Some(pod) = self.pod.upgrade() else {
            return;
        };
        let mut inside = lock(&pod.inside);
        // Another program may have opened the port after this one lost it.
        let own = self.own.upgrade();
        if let (Some(open), Some(own)) = (inside.ports.get(&self.port), own)
            && open.arrivals.same_channel(&own)
        {
            inside.ports.remove(&self.port);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
