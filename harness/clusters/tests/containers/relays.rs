//! Relays between this process as a client and this process as a gateway.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshproof_clusters::relay::{Relay, RelaySpec, Relays, sweep};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::controller;
use crate::world::World;

/// After it a test counts as hung.
const HUNG: Duration = Duration::from_secs(120);
/// How long nothing comes where nothing may come.
const SILENT: Duration = Duration::from_secs(1);

/// A gateway that this process is, and a relay in front of it, from a cluster that no other test uses.
struct Path {
    gateway: TcpListener,
    relays: Relays,
    from: &'static str,
}

impl Path {
    async fn start(world: &World, from: &'static str) -> Self {
        let gateway = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let spec = world.spec(from, gateway.local_addr().unwrap().port()).await;
        let relays = Relays::start(&world.tools, &[spec]).await.unwrap();
        Self { gateway, relays, from }
    }

    fn relay(&self) -> &Relay {
        self.relays.relay(self.from, "east").unwrap()
    }

    /// Both ends of a new connection: the client's and the gateway's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let address = SocketAddr::new(self.relays.gateway(self.from, "east").unwrap(), 4143);
        let client = timeout(HUNG, TcpStream::connect(address)).await.unwrap().unwrap();
        let (gateway, _) = timeout(HUNG, self.gateway.accept()).await.unwrap().unwrap();
        (client, gateway)
    }

    /// Removes the relay, and nobody answers any more.
    async fn stop(self) {
        let client = self.relay().client();
        self.relays.stop().await.unwrap();
        client.status().await.unwrap_err();
    }
}

async fn pass<A, B>(text: &str, from: &mut A, to: &mut B) -> Duration
where
    A: AsyncWrite + Unpin,
    B: AsyncRead + Unpin,
{
    let began = Instant::now();
    from.write_all(text.as_bytes()).await.unwrap();
    from.flush().await.unwrap();
    arrives(text, to).await;
    began.elapsed()
}

async fn arrives<B: AsyncRead + Unpin>(text: &str, to: &mut B) {
    let mut bytes = vec![0; text.len()];
    timeout(HUNG, to.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

async fn nothing_arrives(to: &mut TcpStream, time: Duration) {
    let read = timeout(time, to.read(&mut [0])).await;
    assert!(read.is_err(), "{read:?}");
}

async fn is_reset(stream: &mut TcpStream) {
    let read = timeout(HUNG, stream.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

pub(crate) async fn delays(world: &World) -> Result<(), String> {
    let path = Path::start(world, "delayed").await;
    let by = Duration::from_millis(300);
    let (mut client, mut gateway) = path.connect().await;
    let fault = path.relays.delay("delayed", "east", by).await.unwrap();
    for _ in 0..3 {
        let there = pass("ping", &mut client, &mut gateway).await;
        let back = pass("pong", &mut gateway, &mut client).await;
        assert!(there >= by && back >= by, "{there:?} {back:?}");
    }
    fault.heal().await.unwrap();
    fault.heal().await.unwrap();
    let mut fastest = HUNG;
    for _ in 0..20 {
        fastest = fastest.min(pass("ping", &mut client, &mut gateway).await);
    }
    assert!(fastest < by, "{fastest:?}");
    path.stop().await;
    Ok(())
}

pub(crate) async fn partitions(world: &World) -> Result<(), String> {
    let path = Path::start(world, "parted").await;
    let (mut client, mut gateway) = path.connect().await;
    pass("before", &mut client, &mut gateway).await;
    // Either order names the link.
    let fault = path.relays.partition("east", "parted").await.unwrap();
    client.write_all(b"there").await.unwrap();
    gateway.write_all(b"back").await.unwrap();
    nothing_arrives(&mut gateway, SILENT).await;
    nothing_arrives(&mut client, SILENT).await;
    fault.heal().await.unwrap();
    arrives("there", &mut gateway).await;
    arrives("back", &mut client).await;

    // Dropped without being healed: it ends all the same, long before it is forgotten.
    let dropped = path.relays.partition("parted", "east").await.unwrap();
    client.write_all(b"again").await.unwrap();
    nothing_arrives(&mut gateway, SILENT).await;
    drop(dropped);
    arrives("again", &mut gateway).await;
    assert_eq!(path.relay().status().await.unwrap().healed_unasked, 0);

    let problem = path.relays.partition("parted", "north").await.err().unwrap();
    assert_eq!(problem.code, "relay-unknown");
    path.stop().await;
    Ok(())
}

pub(crate) async fn resets(world: &World) -> Result<(), String> {
    let path = Path::start(world, "reset").await;
    let (mut client, mut gateway) = path.connect().await;
    pass("before", &mut client, &mut gateway).await;
    path.relays.reset("reset", "east").await.unwrap();
    is_reset(&mut client).await;
    is_reset(&mut gateway).await;
    let (mut client, mut gateway) = path.connect().await;
    pass("after", &mut client, &mut gateway).await;
    path.stop().await;
    Ok(())
}

pub(crate) async fn canaries(world: &World) -> Result<(), String> {
    let path = Path::start(world, "watched").await;
    let (canary, control) = ("canary-in-tls-7Q", "canary-in-plaintext-9Z");
    let tap = path.relays.tap("watched", "east").await.unwrap();
    assert_eq!(tap.bytes().await, 0);
    for pattern in [canary, control] {
        tap.look_for(pattern.as_bytes()).await;
    }

    let (acceptor, connector) = tls();
    let (client, gateway) = path.connect().await;
    let name = ServerName::try_from("gateway").unwrap();
    let handshakes = async { tokio::join!(connector.connect(name, client), acceptor.accept(gateway)) };
    let (client, gateway) = timeout(HUNG, handshakes).await.unwrap();
    let (mut client, mut gateway) = (client.unwrap(), gateway.unwrap());
    pass(canary, &mut client, &mut gateway).await;
    pass(canary, &mut gateway, &mut client).await;
    let encrypted = tap.bytes().await;
    assert!(encrypted > 2 * canary.len() as u64, "{encrypted}");

    let (mut client, mut gateway) = path.connect().await;
    let (first, second) = control.split_at(7);
    pass(first, &mut client, &mut gateway).await;
    assert!(!tap.saw(control.as_bytes()).await, "half of it is not it");
    pass(second, &mut client, &mut gateway).await;
    assert!(tap.saw(control.as_bytes()).await);
    assert!(!tap.saw(canary.as_bytes()).await);
    assert!(!tap.saw(b"never looked for").await);
    assert_eq!(tap.bytes().await, encrypted + control.len() as u64);

    // A tap of its own counts from its beginning.
    let later = path.relays.tap("watched", "east").await.unwrap();
    later.look_for(control.as_bytes()).await;
    assert!(!later.saw(control.as_bytes()).await);
    assert_eq!(later.bytes().await, 0);

    // A relay that can't be asked has seen nothing, not even the control.
    path.stop().await;
    assert!(!tap.saw(canary.as_bytes()).await);
    assert!(!tap.saw(control.as_bytes()).await);
    Ok(())
}

/// Both sides of TLS, with a certificate made for it.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        TlsAcceptor::from(Arc::new(server)),
        TlsConnector::from(Arc::new(client)),
    )
}

pub(crate) async fn killed_harness(world: &World) -> Result<(), String> {
    let gateway = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let lifetime = Duration::from_secs(4);
    let spec = RelaySpec {
        lifetime,
        ..world.spec("orphaned", gateway.local_addr().unwrap().port()).await
    };
    let relays = Relays::start(&world.tools, std::slice::from_ref(&spec)).await.unwrap();
    let path = Path {
        gateway,
        relays,
        from: "orphaned",
    };
    let (mut client, mut gateway) = path.connect().await;
    let mut harness = controller::hold(&spec).await;
    client.write_all(b"late").await.unwrap();
    // For longer than the lifetime: it renews.
    nothing_arrives(&mut gateway, lifetime + lifetime / 2).await;
    let status = path.relay().status().await.unwrap();
    assert_eq!((status.faults.len(), status.healed_unasked), (1, 0), "{status:?}");

    harness.kill().await.unwrap();
    arrives("late", &mut gateway).await;
    let status = path.relay().status().await.unwrap();
    assert_eq!((status.faults.len(), status.healed_unasked), (0, 1), "{status:?}");
    path.stop().await;
    Ok(())
}

pub(crate) async fn found_again(world: &World) -> Result<(), String> {
    let spec = world.spec("kept", 4143).await;
    let first = Relay::start(&world.tools, &spec).await.unwrap();
    let pattern = first.client().look_for(b"mark").await.unwrap();
    let address = first.address();
    drop(first);
    let again = Relay::start(&world.tools, &spec).await.unwrap();
    assert_eq!(again.address(), address);
    // It knows its pattern: it is the very same.
    again.client().seen(pattern).await.unwrap();

    // What carries something else is no longer the relay that is wanted.
    let mut other = spec.clone();
    other.forwards[0].to_port = 4144;
    let replaced = Relay::start(&world.tools, &other).await.unwrap();
    assert_eq!(replaced.status().await.unwrap().forwards, other.forwards);
    replaced.client().seen(pattern).await.unwrap_err();

    let sibling = world.agent("sibling", &[]).await;
    let label = format!("{}={}-other", crate::world::RUN_LABEL, world.run);
    assert!(sweep(&world.tools, &label).await.unwrap().is_empty());
    // Other tests have relays of the same run at the same time: a label of this test's own is looked for.
    let own = format!("{}=kept-to-east", meshproof_clusters::relay::LINK_LABEL);
    assert_eq!(sweep(&world.tools, &own).await.unwrap(), [spec.name]);
    replaced.client().status().await.unwrap_err();
    // What is no relay is left alone.
    sibling.control().await.unwrap();
    world.docker(&["rm", "--force", &sibling.name]).await;
    Ok(())
}

pub(crate) async fn needs(world: &World) -> Result<(), String> {
    let spec = world.spec("nowhere", 4143).await;
    let networks = async || world.docker(&["network", "ls", "--format", "{{.Name}}"]).await;
    let absent = world.name("absent");
    let elsewhere = RelaySpec {
        network: absent.clone(),
        ..spec.clone()
    };
    let problem = Relay::start(&world.tools, &elsewhere).await.err().unwrap();
    assert_eq!(problem.code, "relay-network-missing");
    assert!(!networks().await.contains(&absent), "it was not made");

    let imageless = RelaySpec {
        image: "meshproof-agent-test:never".to_owned(),
        ..spec.clone()
    };
    let problem = Relay::start(&world.tools, &imageless).await.err().unwrap();
    assert_eq!(problem.code, "agent-image-missing");

    // The program refuses its arguments and ends.
    let mut broken = spec;
    broken.forwards[0].port = meshproof_agent::protocol::CONTROL_PORT;
    let problem = Relay::start(&world.tools, &broken).await.err().unwrap();
    assert_eq!(problem.code, "relay-not-started");
    let left = world
        .docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", broken.name)])
        .await;
    assert_eq!(left, "", "it was removed again");
    Ok(())
}
