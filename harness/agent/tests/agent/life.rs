//! Start, drain, end.

use std::time::Duration;

use futures::StreamExt;
use meshproof_agent::control::Error;
use meshproof_agent::protocol::{Behavior, FailureKind, HTTP_PORT, JobEvent, Protocol};
use rstest::rstest;
use tokio::time::Instant;

use crate::networks::World;
use crate::setup::{Finished, TestAgent, job, open, pair};

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn requests_in_progress_are_answered_before_the_end(#[case] protocol: Protocol) {
    let (client, server) = pair(&World::in_memory()).await;
    server
        .control()
        .await
        .set_behavior(&Behavior {
            delay_ms: 2_000,
            ..Behavior::default()
        })
        .await
        .unwrap();
    let stream = client.start_job(&job(protocol, 2)).await;
    let mut follower = server.control().await.follow_ledger(None, 0).await.unwrap();
    for _ in 0..2 {
        follower.next().await.unwrap().unwrap();
    }
    let before = Instant::now();
    server.running.shutdown().await;
    assert!(
        before.elapsed() >= Duration::from_millis(1_900),
        "did not wait: {:?}",
        before.elapsed()
    );
    assert!(follower.next().await.is_none(), "a follower comes to an orderly end");
    assert_eq!(Finished::read(stream).await.answered(200), 2);
    assert_eq!(server.log.lines().last().unwrap(), "stopped");
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn draining_is_bounded(#[case] protocol: Protocol) {
    let world = World::in_memory();
    let client = TestAgent::start(&world, "shopper").await;
    let server = TestAgent::start_with(&world, "store", |config| config.drain = Duration::from_secs(1)).await;
    server
        .control()
        .await
        .set_behavior(&Behavior {
            delay_ms: 60_000,
            ..Behavior::default()
        })
        .await
        .unwrap();
    let stream = client.start_job(&job(protocol, 2)).await;
    let mut follower = server.control().await.follow_ledger(None, 0).await.unwrap();
    for _ in 0..2 {
        follower.next().await.unwrap().unwrap();
    }
    let before = Instant::now();
    server.running.shutdown().await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let finished = Finished::read(stream).await;
    assert_eq!(finished.failed(FailureKind::Closed), 2, "{:?}", finished.rows);
    assert!(follower.next().await.is_none(), "a follower comes to an orderly end");
    assert!(
        server
            .log
            .lines()
            .iter()
            .any(|line| line.contains("the time to drain is over"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_shut_down_accounts_for_its_jobs() {
    let (client, _server) = pair(&World::in_memory()).await;
    let stream = client.start_job(&open(job(Protocol::Http1, 0), 100.0, None)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.running.shutdown().await;
    let finished = Finished::read(stream).await;
    assert_eq!(finished.answered(200) as u64, finished.sent);
    assert!(finished.sent >= 100);
}

#[rstest]
#[case(true)]
#[case(false)]
#[tokio::test]
async fn a_client_that_is_killed_or_dropped_breaks_its_streams_off(#[case] dropped: bool) {
    let (client, _server) = pair(&World::on_loopback()).await;
    let mut stream = client.start_job(&open(job(Protocol::Http1, 0), 100.0, None)).await;
    assert!(matches!(stream.next().await, Some(Ok(JobEvent::Started { .. }))));
    let log = client.log.clone();
    if dropped {
        drop(client);
        log.wait_for("killed").await;
    } else {
        client.running.kill().await;
    }
    let mut last = None;
    while let Some(item) = stream.next().await {
        last = Some(item);
    }
    assert!(
        matches!(last, Some(Err(Error::Connection(_) | Error::BrokenOff { .. }))),
        "{last:?}"
    );
}

#[tokio::test]
async fn an_agent_whose_port_is_taken_away_stops() {
    let world = World::in_memory();
    let agent = TestAgent::start(&world, "store").await;
    world.take_away("store", HTTP_PORT);
    agent.running.stopped().await;
    let log = agent.log.lines();
    assert!(log.iter().any(|line| line.starts_with("port 8080 is gone")), "{log:?}");
    assert_eq!(log.last().unwrap(), "stopped");
}

#[tokio::test]
async fn the_ports_are_free_again_afterwards() {
    let world = World::on_loopback();
    let server = TestAgent::start(&world, "store").await;
    server.running.shutdown().await;
    let error = server.network.connect("store", HTTP_PORT).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
