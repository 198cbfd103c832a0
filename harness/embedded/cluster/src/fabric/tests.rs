use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meshproof_agent::network::{BoxedStream, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::intercept::Interceptor;

/// West and east, 100 times faster than real.
fn fabric() -> Fabric {
    let fabric = Fabric::new(FabricConfig::new(Pace::new(100.0)));
    for (name, pods, services, node) in [
        ("west", "10.10.0.0/16", "10.20.0.0/16", [172, 18, 0, 2]),
        ("east", "10.11.0.0/16", "10.21.0.0/16", [172, 18, 0, 3]),
    ] {
        let addresses = ClusterAddresses {
            pod_cidr: pods.parse().unwrap(),
            service_cidr: services.parse().unwrap(),
            node: node.into(),
            load_balancers: None,
        };
        fabric.add_cluster(name, addresses).unwrap();
    }
    fabric
}

struct Pod {
    fabric: Fabric,
    socket: Arc<PodSocket>,
    scope: ScopeId,
}

impl Pod {
    async fn new(fabric: &Fabric, cluster: &str, address: &str) -> Self {
        let socket = fabric.add_pod(cluster, address.parse().unwrap()).await.unwrap();
        Self {
            fabric: fabric.clone(),
            socket,
            scope: fabric.new_scope(),
        }
    }

    /// Answers every connection on `port` with what it gets.
    fn echo(&self, port: u16) {
        let mut listener = self.socket.listen(port, self.scope).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(stream);
                    tokio::io::copy(&mut read, &mut write).await.ok();
                    write.shutdown().await.ok();
                });
            }
        });
    }

    async fn dial(&self, to: &str) -> io::Result<BoxedStream> {
        let source = Source {
            cluster: &self.socket.cluster,
            address: self.socket.address,
            scope: Some(self.scope),
        };
        self.fabric.dial(source, to.parse().unwrap()).await
    }
}

fn gateway(node: [u8; 4], endpoint: &str) -> ServiceEntry {
    ServiceEntry {
        cluster_ip: None,
        load_balancer: vec![node.into()],
        ports: vec![PortEntry {
            port: 4143,
            node_port: Some(30143),
            endpoints: vec![endpoint.parse().unwrap()],
        }],
    }
}

fn service(cluster: &str, name: &str) -> ServiceRef {
    ServiceRef {
        cluster: cluster.into(),
        namespace: "demo".into(),
        name: name.into(),
    }
}

async fn say(stream: &mut BoxedStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn error_of(result: io::Result<BoxedStream>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the connection was opened"),
        Err(error) => error.kind(),
    }
}

/// A west client, and an echo in east behind its node's address.
async fn pair(fabric: &Fabric) -> (Pod, Pod) {
    let client = Pod::new(fabric, "west", "10.10.0.7").await;
    let server = Pod::new(fabric, "east", "10.11.0.4").await;
    server.echo(4143);
    fabric.set_service(
        &service("east", "gateway"),
        Some(gateway([172, 18, 0, 3], "10.11.0.4:4143")),
    );
    (client, server)
}

const GATEWAY: &str = "172.18.0.3:4143";

#[tokio::test]
async fn bytes_cross_clusters_by_the_load_balancer_address() {
    let fabric = fabric();
    let (client, _server) = pair(&fabric).await;
    for to in [GATEWAY, "172.18.0.3:30143"] {
        let mut stream = client.dial(to).await.unwrap();
        assert_eq!(say(&mut stream, b"hello").await.unwrap(), b"hello");
        stream.shutdown().await.unwrap();
        assert_eq!(
            stream.read(&mut [0; 8]).await.unwrap(),
            0,
            "the end of the stream crosses too"
        );
    }
    let mut outside = fabric.connect_from("west", GATEWAY.parse().unwrap()).await.unwrap();
    assert_eq!(say(&mut outside, b"attack").await.unwrap(), b"attack");
    let open = fabric.connections(&PathSelector::between("west", "east"));
    assert_eq!(open.len(), 1, "closed connections are not listed: {open:?}");
    assert_eq!(open[0].services, [service("east", "gateway")]);
}

#[tokio::test]
async fn the_source_address_is_the_pods_inside_and_the_nodes_outside() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let mut listener = server.socket.listen(80, server.scope).unwrap();
    fabric.set_service(
        &service("east", "web"),
        Some(ServiceEntry {
            ports: vec![PortEntry {
                port: 80,
                node_port: Some(30080),
                endpoints: vec!["10.11.0.4:80".parse().unwrap()],
            }],
            ..gateway([172, 18, 0, 3], "10.11.0.4:80")
        }),
    );
    let other = Pod::new(&fabric, "east", "10.11.0.9").await;
    let _inside = other.dial("10.11.0.4:80").await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1.ip(), IpAddr::from([10, 11, 0, 9]));
    let _outside = client.dial("172.18.0.3:30080").await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1.ip(), IpAddr::from([172, 18, 0, 2]));
}

#[tokio::test]
async fn what_is_not_there_fails_as_on_a_real_network() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let neighbour = Pod::new(&fabric, "west", "10.10.0.8").await;
    assert_eq!(
        error_of(client.dial("10.10.0.8:80").await),
        ErrorKind::ConnectionRefused
    );
    let begin = Instant::now();
    assert_eq!(error_of(client.dial("10.10.0.99:80").await), ErrorKind::HostUnreachable);
    assert!(begin.elapsed() >= Duration::from_millis(30), "3 s at pace 100");
    let begin = Instant::now();
    assert_eq!(error_of(client.dial("10.11.0.4:4143").await), ErrorKind::TimedOut);
    assert!(begin.elapsed() >= Duration::from_millis(1270), "127 s at pace 100");
    fabric.remove_pod(&server.socket);
    assert_eq!(error_of(client.dial(GATEWAY).await), ErrorKind::HostUnreachable);
    drop(neighbour);
}

#[tokio::test]
async fn a_stranger_on_the_machine_is_turned_away() {
    let fabric = fabric();
    let (_client, server) = pair(&fabric).await;
    let mut stranger = TcpStream::connect(server.socket.real).await.unwrap();
    stranger.write_all(b"0123456789abcdef and more").await.unwrap();
    let mut answer = Vec::new();
    // A reset or an orderly end, but never an answer.
    stranger.read_to_end(&mut answer).await.ok();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_blackhole_stalls_open_connections_loses_nothing_and_blocks_new_ones() {
    let fabric = fabric();
    let (client, _server) = pair(&fabric).await;
    let mut stream = client.dial(GATEWAY).await.unwrap();
    say(&mut stream, b"before").await.unwrap();
    let hole = fabric.impose(PathSelector::between("west", "east"), Effect::Blackhole);
    stream.write_all(b"into the dark").await.unwrap();
    let mut answer = [0; 13];
    let waiting = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer));
    assert!(waiting.await.is_err(), "nothing comes back");
    assert_eq!(error_of(client.dial(GATEWAY).await), ErrorKind::TimedOut);
    drop(hole);
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"into the dark");
    assert_eq!(say(&mut stream, b"after").await.unwrap(), b"after");
    assert!(fabric.active().is_empty());
}

#[tokio::test]
async fn a_connection_that_is_being_opened_comes_through_after_healing() {
    let fabric = fabric();
    let (client, _server) = pair(&fabric).await;
    let hole = fabric.impose(PathSelector::default(), Effect::Blackhole);
    let mut dialling = std::pin::pin!(client.dial(GATEWAY));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut dialling).await;
    assert!(early.is_err());
    drop(hole);
    let mut stream = dialling.await.unwrap();
    assert_eq!(say(&mut stream, b"late").await.unwrap(), b"late");
}

#[tokio::test]
async fn the_other_direction_and_other_ports_are_not_touched() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    client.echo(8080);
    fabric.set_service(
        &service("west", "web"),
        Some(ServiceEntry {
            ports: vec![PortEntry {
                port: 80,
                node_port: None,
                endpoints: vec!["10.10.0.7:8080".parse().unwrap()],
            }],
            ..gateway([172, 18, 0, 2], "10.10.0.7:8080")
        }),
    );
    let _hole = fabric.impose(PathSelector::between("west", "east"), Effect::Blackhole);
    let _refusal = fabric.impose(PathSelector::default().port(9999), Effect::Refuse);
    let mut back = server.dial("172.18.0.2:80").await.unwrap();
    assert_eq!(say(&mut back, b"still here").await.unwrap(), b"still here");
    assert_eq!(fabric.active().len(), 2);
}

#[tokio::test]
async fn a_refusal_meets_new_connections_only() {
    let fabric = fabric();
    let (client, _server) = pair(&fabric).await;
    let mut stream = client.dial(GATEWAY).await.unwrap();
    let path = PathSelector::between("west", "east").service("demo", "gateway");
    let id = fabric.impose(path, Effect::Refuse).keep();
    assert_eq!(error_of(client.dial(GATEWAY).await), ErrorKind::ConnectionRefused);
    assert_eq!(say(&mut stream, b"open").await.unwrap(), b"open");
    assert!(fabric.remove(id));
    assert!(!fabric.remove(id), "it is gone");
    client.dial(GATEWAY).await.unwrap();
}

#[tokio::test]
async fn a_reset_reaches_both_ends_at_once() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let mut listener = server.socket.listen(4144, server.scope).unwrap();
    fabric.set_service(
        &service("east", "raw"),
        Some(ServiceEntry {
            ports: vec![PortEntry {
                port: 4144,
                node_port: None,
                endpoints: vec!["10.11.0.4:4144".parse().unwrap()],
            }],
            ..gateway([172, 18, 0, 3], "10.11.0.4:4144")
        }),
    );
    let mut there = client.dial("172.18.0.3:4144").await.unwrap();
    let (mut here, _) = listener.accept().await.unwrap();
    let mut spared = client.dial(GATEWAY).await.unwrap();
    let reads = (
        tokio::spawn(async move { there.read(&mut [0; 1]).await.unwrap_err().kind() }),
        tokio::spawn(async move { here.read(&mut [0; 1]).await.unwrap_err().kind() }),
    );
    tokio::task::yield_now().await;
    assert_eq!(fabric.reset(&PathSelector::between("west", "east").port(4144)), 1);
    assert_eq!(reads.0.await.unwrap(), ErrorKind::ConnectionReset);
    assert_eq!(reads.1.await.unwrap(), ErrorKind::ConnectionReset);
    assert_eq!(say(&mut spared, b"spared").await.unwrap(), b"spared");
}

#[tokio::test]
async fn a_delay_slows_both_directions_of_live_connections_and_keeps_the_order() {
    let fabric = fabric();
    let (client, _server) = pair(&fabric).await;
    let mut stream = client.dial(GATEWAY).await.unwrap();
    // 2 s each way, up to 1 s more: 40..60 ms round trip at pace 100.
    let effect = Effect::Delay {
        each_way: Duration::from_secs(2),
        jitter: Duration::from_secs(1),
    };
    let guard = fabric.impose(PathSelector::between("west", "east"), effect);
    let begin = Instant::now();
    say(&mut stream, b"slow").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(40), "{:?}", begin.elapsed());
    let begin = Instant::now();
    client.dial(GATEWAY).await.unwrap();
    assert!(
        begin.elapsed() >= Duration::from_millis(40),
        "the handshake takes a round trip"
    );
    // Many pieces in flight at once arrive complete, in order, and much sooner than one after the other.
    let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        for piece in sent.chunks(7_000) {
            write.write_all(piece).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    writer.await.unwrap();
    assert!(got == expected, "{} bytes arrived", got.len());
    drop(guard);
}

#[tokio::test]
async fn data_written_under_a_delay_arrives_after_the_writer_has_gone() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let mut listener = server.socket.listen(4144, server.scope).unwrap();
    fabric.set_service(
        &service("east", "gateway"),
        Some(gateway([172, 18, 0, 3], "10.11.0.4:4144")),
    );
    let mut stream = client.dial(GATEWAY).await.unwrap();
    let (mut here, _) = listener.accept().await.unwrap();
    let hole = fabric.impose(PathSelector::default(), Effect::Blackhole);
    stream.write_all(b"last words").await.unwrap();
    drop(stream);
    let mut heard = Vec::new();
    let early = tokio::time::timeout(Duration::from_millis(50), here.read(&mut [0; 1])).await;
    assert!(early.is_err(), "neither the words nor the end have arrived");
    drop(hole);
    here.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"last words");
}

#[tokio::test]
async fn a_tap_finds_a_canary_and_its_absence() {
    let fabric = fabric();
    let (client, _server) = pair(&fabric).await;
    let mut before = client.dial(GATEWAY).await.unwrap();
    let options = TapOptions {
        patterns: vec![b"canary-7".to_vec(), b"absent".to_vec()],
        sample_bytes: 64,
    };
    let tap = fabric.tap(PathSelector::between("west", "east"), &options);
    let elsewhere = fabric.tap(PathSelector::between("east", "west"), &options);
    for piece in [b"xxcan".as_slice(), b"ary-7", b"canary-7"] {
        say(&mut before, piece).await.unwrap();
    }
    let mut after = client.dial(GATEWAY).await.unwrap();
    say(&mut after, b"canary-7").await.unwrap();
    let report = tap.report();
    assert_eq!(report.connections, 2, "one that was open and one opened since");
    assert_eq!((report.forward_bytes, report.backward_bytes), (26, 26));
    assert_eq!((report.hits[0].forward, report.hits[0].backward), (3, 3));
    assert_eq!(report.count(b"absent"), 0);
    assert!(report.samples.iter().any(|s| s.bytes == b"xxcanary-7canary-7"));
    assert_eq!(elsewhere.report().connections, 0);
    drop(tap);
    assert_eq!(fabric.active().len(), 1);
}

struct Uppercase {
    fabric: Fabric,
    socket: Arc<PodSocket>,
}

#[async_trait]
impl Interceptor for Uppercase {
    async fn outbound(&self, _: SocketAddr) -> io::Result<BoxedStream> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    async fn inbound(&self, mut stream: BoxedStream, port: u16, peer: SocketAddr) {
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        let mut inner = self
            .fabric
            .dial_inside(&self.socket, port, peer.ip(), None, true)
            .await
            .unwrap();
        let answer = say(&mut inner, &word.to_ascii_uppercase()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_takes_over_and_the_pod_is_closed_while_it_is_gone() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let sidecar = fabric.new_scope();
    let interceptor = Uppercase {
        fabric: fabric.clone(),
        socket: Arc::clone(&server.socket),
    };
    server.socket.intercept(Arc::new(interceptor), sidecar);
    let mut stream = client.dial(GATEWAY).await.unwrap();
    assert_eq!(say(&mut stream, b"hello").await.unwrap(), b"HELLO");
    let probe = fabric
        .dial_inside(&server.socket, 4143, [172, 18, 0, 3].into(), None, true)
        .await;
    assert_eq!(say(&mut probe.unwrap(), b"plain").await.unwrap(), b"plain");
    assert!(server.socket.interceptor().unwrap().is_some());

    server.socket.end_scope(sidecar);
    assert_eq!(error_of(client.dial(GATEWAY).await), ErrorKind::ConnectionRefused);
    assert!(server.socket.interceptor().is_err());
    server.socket.release();
    let mut stream = client.dial(GATEWAY).await.unwrap();
    assert_eq!(say(&mut stream, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn the_end_of_a_program_closes_its_ports_and_connections() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    assert_eq!(
        server.socket.listen(4143, server.scope).err().map(|e| e.kind()),
        Some(ErrorKind::AddrInUse)
    );
    let mut stream = client.dial(GATEWAY).await.unwrap();
    say(&mut stream, b"up").await.unwrap();
    server.socket.end_scope(server.scope);
    assert_eq!(
        stream.read(&mut [0; 1]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(error_of(client.dial(GATEWAY).await), ErrorKind::ConnectionRefused);
    let restarted = fabric.new_scope();
    server.socket.listen(4143, restarted).unwrap();
}

#[tokio::test]
async fn what_a_server_said_before_it_left_still_arrives() {
    let fabric = fabric();
    let client = Pod::new(&fabric, "east", "10.11.0.8").await;
    let server = Pod::new(&fabric, "east", "10.11.0.9").await;
    let mut listener = server.socket.listen(80, server.scope).unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let dialled = client.dial("10.11.0.9:80").await;
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.write_all(b"bye").await.unwrap();
        accepted.shutdown().await.unwrap();
        drop(accepted);
        streams.push(dialled.unwrap());
    }
    // Its program ends, and then its pod goes.
    server.socket.end_scope(server.scope);
    let mut heard = Vec::new();
    streams[0].read_to_end(&mut heard).await.unwrap();
    fabric.remove_pod(&server.socket);
    streams[1].read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"byebye");
}

#[tokio::test]
async fn a_cluster_that_leaves_takes_everything_with_it() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let mut stream = client.dial(GATEWAY).await.unwrap();
    say(&mut stream, b"up").await.unwrap();
    let real = server.socket.real;
    fabric.remove_cluster("east");
    assert_eq!(
        stream.read(&mut [0; 1]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    drop(stream);
    assert!(fabric.connections(&PathSelector::default()).is_empty());
    // The listener closes as soon as its task has been scheduled.
    while TcpStream::connect(real).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!fabric.read().routes.contains_key("east"));
}

#[test]
fn clusters_with_common_addresses_do_not_start() {
    let fabric = fabric();
    let addresses = ClusterAddresses {
        pod_cidr: "10.21.128.0/17".parse().unwrap(),
        service_cidr: "10.30.0.0/16".parse().unwrap(),
        node: [172, 18, 0, 9].into(),
        load_balancers: None,
    };
    let error = fabric.add_cluster("north", addresses).unwrap_err().to_string();
    assert!(error.contains("service range 10.21.0.0/16 of east"), "{error}");
    assert!(error.contains("pod range 10.21.128.0/17 of north"), "{error}");
    assert!(fabric.add_cluster("west", addresses).is_err());
}

#[tokio::test]
async fn what_a_client_said_before_it_left_still_arrives() {
    let fabric = fabric();
    let (client, server) = pair(&fabric).await;
    let mut listener = server.socket.listen(80, server.scope).unwrap();
    let other = Pod::new(&fabric, "east", "10.11.0.9").await;
    let mut stream = other.dial("10.11.0.4:80").await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    drop(stream);
    let (mut here, _) = listener.accept().await.unwrap();
    let mut heard = Vec::new();
    here.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"bye");

    // Whereas nobody waits for a connection to a pod that has gone.
    let stream = client.dial(GATEWAY).await.unwrap();
    fabric.remove_pod(&server.socket);
    drop((stream, here));
    assert!(fabric.shared.arrivals.is_empty());
    assert!(fabric.connections(&PathSelector::default()).is_empty());
}
