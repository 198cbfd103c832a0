//! A relay end to end on loopback: what goes through it, every fault, and its control port.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meshproof_agent::control::Error;
use meshproof_agent::relay::protocol::{ActiveFault, Fault, Forward, Seen, Status};
use meshproof_agent::relay::{CallError, Client, RelayConfig, RunningRelay};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// After it a test counts as hung.
const HUNG: Duration = Duration::from_secs(60);
/// How long nothing comes where nothing may come.
const SILENT: Duration = Duration::from_millis(300);

/// A relay in front of a target of the test's own.
struct World {
    target: TcpListener,
    relay: RunningRelay,
    control: Client,
    log: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn start(lifetime: Duration) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        let relay = RunningRelay::start(RelayConfig {
            forwards: vec![Forward {
                port: 0,
                host: "127.0.0.1".to_owned(),
                to_port: target.local_addr().unwrap().port(),
            }],
            control_port: 0,
            lifetime,
            log: Arc::new(move |line| sink.lock().unwrap().push(line.to_owned())),
        })
        .await
        .unwrap();
        let control = Client::new(([127, 0, 0, 1], relay.control_port()).into());
        Self {
            target,
            relay,
            control,
            log,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.relay.ports()[0])).await.unwrap()
    }

    /// Both ends of a connection through the relay.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.connect().await;
        let (target, _) = timeout(HUNG, self.target.accept()).await.unwrap().unwrap();
        (client, target)
    }

    async fn status(&self) -> Status {
        self.control.status().await.unwrap()
    }

    /// Waits until the relay says so.
    async fn wait_for(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(began.elapsed() < HUNG, "{status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn world() -> World {
    World::start(HUNG).await
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    timeout(HUNG, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

async fn expect_nothing(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(SILENT, stream.read(&mut byte)).await;
    assert!(read.is_err(), "{read:?}");
}

async fn expect_reset(stream: &mut TcpStream) {
    let read = timeout(HUNG, stream.read(&mut [0; 64])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn expect_end(stream: &mut TcpStream) {
    assert_eq!(timeout(HUNG, stream.read(&mut [0; 64])).await.unwrap().unwrap(), 0);
}

/// Bytes that no shift of theirs equals.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(byte).collect()
}

#[tokio::test]
async fn large_transfers_go_both_ways_unchanged_and_are_counted() {
    let world = world().await;
    let (there, back) = (noise(9_000_001, 1), noise(7_000_003, 2));
    let (client, target) = world.pair().await;
    let exchange = async |stream: TcpStream, sent: &[u8]| {
        let (mut read, mut write) = stream.into_split();
        let mut received = Vec::new();
        let sending = async {
            write.write_all(sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(sending, read.read_to_end(&mut received));
        read.unwrap();
        received
    };
    let exchanges = async { tokio::join!(exchange(client, &there), exchange(target, &back)) };
    let (at_client, at_target) = timeout(HUNG, exchanges).await.unwrap();
    assert!(at_client == back && at_target == there);

    let status = world.wait_for(|status| status.open == 0).await;
    assert_eq!((status.connections, status.unreachable), (1, 0));
    assert_eq!((status.bytes_to_target, status.bytes_to_client), (9_000_001, 7_000_003));
    let samples = world.control.samples().await.unwrap();
    assert_eq!(samples.len(), 1);
    assert!(samples[0].to_target == there[..64] && samples[0].to_client == back[..64]);
}

#[tokio::test]
async fn half_a_close_is_passed_on_and_the_other_half_stays_open() {
    let world = world().await;
    let (mut client, mut target) = world.pair().await;
    client.shutdown().await.unwrap();
    expect_end(&mut target).await;
    send(&mut target, "still here").await;
    expect(&mut client, "still here").await;
    drop(target);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_reset_by_one_end_reaches_the_other() {
    let world = world().await;
    let (client, mut target) = world.pair().await;
    client.set_zero_linger().unwrap();
    drop(client);
    expect_reset(&mut target).await;
}

#[tokio::test]
async fn patterns_are_found_across_writes_and_only_where_they_are() {
    let world = world().await;
    let (mut client, mut target) = world.pair().await;
    let canary = world.control.look_for(b"canary").await.unwrap();
    let absent = world.control.look_for(b"absent").await.unwrap();
    send(&mut client, "a can").await;
    expect(&mut target, "a can").await;
    assert_eq!(world.control.seen(canary).await.unwrap(), Seen::default());
    send(&mut client, "ary").await;
    expect(&mut target, "ary").await;
    let seen = Seen {
        to_target: true,
        to_client: false,
    };
    assert_eq!(world.control.seen(canary).await.unwrap(), seen);
    send(&mut target, "canary").await;
    expect(&mut client, "canary").await;
    assert!(world.control.seen(canary).await.unwrap().to_client);
    assert_eq!(world.control.seen(absent).await.unwrap(), Seen::default());

    assert!(world.control.forget(canary).await.unwrap());
    assert!(!world.control.forget(canary).await.unwrap());
    let error = world.control.seen(canary).await.unwrap_err();
    assert!(
        matches!(error, CallError::Call(Error::Refused { status: 404, .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_delay_costs_every_round_trip_twice_until_healed() {
    let world = world().await;
    let each_way = Duration::from_millis(100);
    let (mut client, mut target) = world.pair().await;
    let round_trip = async |client: &mut TcpStream, target: &mut TcpStream| {
        let began = Instant::now();
        send(client, "ping").await;
        expect(target, "ping").await;
        let there = began.elapsed();
        send(target, "pong").await;
        expect(client, "pong").await;
        (there, began.elapsed())
    };
    let fault = Fault::Delay {
        each_way_us: 100_000,
        jitter_us: 1000,
    };
    let id = world.control.impose(&fault).await.unwrap();
    assert_eq!(world.status().await.faults, [ActiveFault { id, fault }]);
    let (there, both) = round_trip(&mut client, &mut target).await;
    assert!(there >= each_way && both >= 2 * each_way, "{there:?} {both:?}");

    // A new connection pays for its handshake as well: three delays until the first byte is there.
    let began = Instant::now();
    let (mut fresh, mut fresh_target) = world.pair().await;
    send(&mut fresh, "hello").await;
    expect(&mut fresh_target, "hello").await;
    assert!(began.elapsed() >= 3 * each_way, "{:?}", began.elapsed());

    assert!(world.control.heal(id).await.unwrap());
    let mut fastest = HUNG;
    for _ in 0..20 {
        fastest = fastest.min(round_trip(&mut client, &mut target).await.1);
    }
    assert!(fastest < each_way, "{fastest:?}");
}

#[tokio::test]
async fn a_blackhole_holds_open_and_new_connections_and_loses_nothing() {
    let world = world().await;
    let (mut client, mut target) = world.pair().await;
    let id = world.control.impose(&Fault::Blackhole).await.unwrap();
    send(&mut client, "to the target").await;
    send(&mut target, "to the client").await;
    let mut fresh = world.connect().await;
    send(&mut fresh, "fresh").await;
    drop(fresh);
    expect_nothing(&mut target).await;
    expect_nothing(&mut client).await;
    assert!(timeout(SILENT, world.target.accept()).await.is_err());

    assert!(world.control.heal(id).await.unwrap());
    assert!(world.status().await.faults.is_empty());
    expect(&mut target, "to the target").await;
    expect(&mut client, "to the client").await;
    let (mut fresh_target, _) = timeout(HUNG, world.target.accept()).await.unwrap().unwrap();
    expect(&mut fresh_target, "fresh").await;
    expect_end(&mut fresh_target).await;
}

#[tokio::test]
async fn a_reset_ends_all_open_connections_at_both_ends_and_no_later_one() {
    let world = world().await;
    let (mut first, mut first_target) = world.pair().await;
    let (mut second, mut second_target) = world.pair().await;
    world.wait_for(|status| status.open == 2).await;
    assert_eq!(world.control.reset().await.unwrap(), 2);
    for stream in [&mut first, &mut first_target, &mut second, &mut second_target] {
        expect_reset(stream).await;
    }
    world.wait_for(|status| status.open == 0).await;
    assert_eq!(world.control.reset().await.unwrap(), 0);
    let (mut client, mut target) = world.pair().await;
    send(&mut client, "after").await;
    expect(&mut target, "after").await;
}

#[tokio::test]
async fn refused_are_new_connections_alone_and_nobody_once_healed() {
    let world = world().await;
    let (mut client, mut target) = world.pair().await;
    let id = world.control.impose(&Fault::Refuse).await.unwrap();
    world.wait_for(|status| status.listening.is_empty()).await;
    let refused = TcpStream::connect(("127.0.0.1", world.relay.ports()[0])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    send(&mut client, "open ones stay").await;
    expect(&mut target, "open ones stay").await;

    assert!(world.control.heal(id).await.unwrap());
    assert_eq!(world.status().await.listening, world.relay.ports());
    let (mut client, mut target) = world.pair().await;
    send(&mut client, "again").await;
    expect(&mut target, "again").await;
}

#[tokio::test]
async fn half_open_connections_are_silent_until_healed_and_then_reset() {
    let world = world().await;
    let (mut client, mut target) = world.pair().await;
    let id = world.control.impose(&Fault::HalfOpen).await.unwrap();
    expect_reset(&mut target).await;
    send(&mut client, "is anybody there?").await;
    expect_nothing(&mut client).await;
    let (mut fresh, mut fresh_target) = world.pair().await;
    send(&mut fresh, "yes").await;
    expect(&mut fresh_target, "yes").await;
    assert!(world.control.heal(id).await.unwrap());
    expect_reset(&mut client).await;
    send(&mut fresh_target, "here").await;
    expect(&mut fresh, "here").await;
}

#[tokio::test]
async fn a_silent_harness_heals_what_it_left_behind() {
    let lifetime = Duration::from_millis(500);
    let world = World::start(lifetime).await;
    let (mut client, mut target) = world.pair().await;
    let began = Instant::now();
    let id = world.control.impose(&Fault::Blackhole).await.unwrap();
    world.control.impose(&Fault::Refuse).await.unwrap();
    send(&mut client, "late").await;
    expect(&mut target, "late").await;
    assert!(began.elapsed() >= lifetime, "{:?}", began.elapsed());
    let status = world.wait_for(|status| status.listening == world.relay.ports()).await;
    assert!(status.faults.is_empty());
    assert_eq!(status.healed_unasked, 2);
    assert_eq!(status.lifetime_ms, 500);
    assert!(
        !world.control.heal(id).await.unwrap(),
        "the harness is told that it came too late"
    );
    let log = world.log.lock().unwrap().clone();
    assert!(
        log.contains(&"healed 2 faults: the harness was silent for 500 ms".to_owned()),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_target_that_refuses_shows_as_a_reset_and_is_counted() {
    let World {
        target,
        relay,
        control,
        log: _log,
    } = world().await;
    drop(target);
    let mut client = TcpStream::connect(("127.0.0.1", relay.ports()[0])).await.unwrap();
    expect_reset(&mut client).await;
    assert_eq!(control.status().await.unwrap().unreachable, 1);
}

#[tokio::test]
async fn a_relay_that_is_dropped_takes_its_connections_and_ports_with_it() {
    let world = world().await;
    let (mut client, _target) = world.pair().await;
    let port = world.relay.ports()[0];
    drop(world.relay);
    let ended = timeout(HUNG, client.read(&mut [0])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        assert!(began.elapsed() < HUNG);
    }
    let error = world.control.status().await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
}

#[rstest]
#[case("GET /nowhere", "", 404, "known are /status")]
#[case("PUT /faults", "", 405, "does not take PUT; use POST")]
#[case("POST /status", "", 405, "use GET")]
#[case("DELETE /faults/x", "", 400, "not a number")]
#[case("DELETE /faults/7", "", 404, "no /faults/7 (any more)")]
#[case("POST /faults", "{\"kind\":\"earthquake\"}", 400, "unknown variant `earthquake`")]
#[case("POST /faults", "{\"kind\":\"delay\"}", 400, "missing field `each_way_us`")]
#[case("POST /patterns", "{\"bytes\":[]}", 400, "has 0 bytes")]
#[tokio::test]
async fn wrong_calls_are_told_what_is_wrong(
    #[case] call: &str,
    #[case] body: &str,
    #[case] status: u16,
    #[case] problem: &str,
) {
    let world = world().await;
    let mut stream = TcpStream::connect(("127.0.0.1", world.relay.control_port()))
        .await
        .unwrap();
    let length = body.len();
    let request =
        format!("{call} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    send(&mut stream, &request).await;
    let mut answer = String::new();
    timeout(HUNG, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(problem), "{answer}");
    assert!(world.status().await.faults.is_empty());
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let world = world().await;
    let taken = world.relay.ports()[0];
    let config = RelayConfig {
        forwards: vec![Forward {
            port: taken,
            host: "127.0.0.1".to_owned(),
            to_port: 1,
        }],
        control_port: 0,
        lifetime: HUNG,
        log: Arc::new(|_| {}),
    };
    let problem = RunningRelay::start(config).await.err().unwrap();
    assert_eq!(problem.port, taken);
}
