//! What the server is told to do, the client sees.

use meshproof_agent::protocol::{Behavior, FailureKind, Job, Load, Outcome, Protocol};
use rstest::rstest;

use crate::networks::World;
use crate::setup::{Finished, TestAgent, identity, job, pair};

async fn with_behavior(world: &World, behavior: Behavior) -> (TestAgent, TestAgent) {
    let (client, server) = pair(world).await;
    server.control().await.set_behavior(&behavior).await.unwrap();
    (client, server)
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[tokio::test]
async fn a_status_is_answered_with_the_servers_name(#[case] protocol: Protocol) {
    let behavior = Behavior {
        status: Some(503),
        ..Behavior::default()
    };
    let (client, server) = with_behavior(&World::on_loopback(), behavior).await;
    let finished = client.run(&job(protocol, 20)).await;
    assert_eq!(finished.answered(503), 20);
    for row in &finished.rows {
        let Outcome::Answered {
            server, error_headers, ..
        } = &row.outcome
        else {
            panic!("{row:?}")
        };
        assert_eq!(*server, Some(identity("store")));
        assert!(error_headers.is_empty(), "{error_headers:?}");
    }
    assert!(server.ledger().await.rows.iter().all(|row| row.status == Some(503)));
    assert!(
        server
            .log
            .lines()
            .iter()
            .any(|line| line.starts_with("behavior:") && line.contains("503"))
    );
}

#[rstest]
#[case(Protocol::Http1, 0.25, 50)]
#[case(Protocol::Http2, 0.25, 50)]
#[case(Protocol::Http1, 0.1, 20)]
#[case(Protocol::Http1, 0.0, 0)]
#[case(Protocol::Http2, 1.0, 200)]
#[tokio::test]
async fn a_share_is_exact(#[case] protocol: Protocol, #[case] share: f64, #[case] expected: usize) {
    let behavior = Behavior {
        status: Some(500),
        status_share: Some(share),
        ..Behavior::default()
    };
    let (client, _server) = with_behavior(&World::on_loopback(), behavior).await;
    let finished = client.run(&job(protocol, 200)).await;
    assert_eq!(
        (finished.answered(500), finished.answered(200)),
        (expected, 200 - expected)
    );
}

#[rstest]
#[case(204)]
#[case(304)]
#[tokio::test]
async fn a_status_that_has_no_body_is_answered_without(#[case] status: u16) {
    let behavior = Behavior {
        status: Some(status),
        ..Behavior::default()
    };
    let (client, _server) = with_behavior(&World::on_loopback(), behavior).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        assert_eq!(client.run(&job(protocol, 5)).await.answered(status), 5);
    }
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test]
async fn a_closed_connection_is_told_from_a_refused_one(#[case] protocol: Protocol) {
    let behavior = Behavior {
        close: true,
        ..Behavior::default()
    };
    let (client, server) = with_behavior(&World::on_loopback(), behavior).await;
    let finished = client.run(&job(protocol, 20)).await;
    assert_eq!(finished.failed(FailureKind::Closed), 20, "{:?}", finished.rows);
    let ledger = server.ledger().await;
    assert_eq!(ledger.rows.len(), 20, "a request was repeated or left out");
    assert!(ledger.rows.iter().all(|row| row.status.is_none()));

    server.control().await.set_behavior(&Behavior::default()).await.unwrap();
    assert_eq!(
        client.run(&job(protocol, 20)).await.answered(200),
        20,
        "the client must connect again"
    );
}

/// The connection has carried answers before it is closed, which is when many clients silently send again.
#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn a_request_on_a_used_connection_is_not_repeated_when_it_is_closed(#[case] protocol: Protocol) {
    let (client, server) = pair(&World::in_memory()).await;
    let load = Load::Closed {
        requests: 20,
        gap_ms: 100,
    };
    let stream = client
        .start_job(&Job {
            load,
            ..job(protocol, 0)
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(450)).await;
    let behavior = Behavior {
        close: true,
        ..Behavior::default()
    };
    server.control().await.set_behavior(&behavior).await.unwrap();
    let finished = Finished::read(stream).await;
    assert_eq!((finished.answered(200), finished.failed(FailureKind::Closed)), (10, 10));
    let rows = server.ledger().await.rows;
    let mut received: Vec<&str> = rows.iter().map(|row| row.id.as_deref().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, finished.ids(), "a request was repeated or left out");
    assert_eq!(rows.iter().filter(|row| row.status.is_none()).count(), 10);
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_is_a_time_out(#[case] protocol: Protocol) {
    let behavior = Behavior {
        delay_ms: 2_000,
        ..Behavior::default()
    };
    let (client, server) = with_behavior(&World::in_memory(), behavior).await;
    let impatient = Job {
        timeout_ms: 500,
        ..job(protocol, 6)
    };
    let finished = client.run(&impatient).await;
    assert_eq!(finished.failed(FailureKind::Timeout), 6, "{:?}", finished.rows);
    for row in &finished.rows {
        assert!(
            (500_000..=502_000).contains(&(row.ended_us - row.started_us)),
            "{row:?}"
        );
    }
    assert_eq!(
        server.ledger().await.rows.len(),
        6,
        "the server knows of requests that the client gave up"
    );
    let patient = client.run(&job(protocol, 6)).await;
    assert_eq!(patient.answered(200), 6);
    assert!(
        patient
            .rows
            .iter()
            .all(|row| row.ended_us - row.started_us >= 2_000_000)
    );
}

#[tokio::test]
async fn unready_is_what_the_probe_sees_and_nothing_else() {
    let (client, server) = pair(&World::on_loopback()).await;
    let mut control = server.control().await;
    assert!(control.ready().await.unwrap());
    control
        .set_behavior(&Behavior {
            unready: true,
            ..Behavior::default()
        })
        .await
        .unwrap();
    assert!(!control.ready().await.unwrap());
    assert_eq!(client.run(&job(Protocol::Http1, 5)).await.answered(200), 5);
    control.set_behavior(&Behavior::default()).await.unwrap();
    assert!(control.ready().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_behavior_applies_from_the_next_request_on() {
    let behavior = Behavior {
        delay_ms: 1_000,
        ..Behavior::default()
    };
    let (client, server) = with_behavior(&World::in_memory(), behavior).await;
    let stream = client
        .start_job(&Job {
            connections: 1,
            ..job(Protocol::Http1, 2)
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    server
        .control()
        .await
        .set_behavior(&Behavior {
            status: Some(418),
            ..Behavior::default()
        })
        .await
        .unwrap();
    let finished = Finished::read(stream).await;
    assert_eq!((finished.answered(200), finished.answered(418)), (1, 1));
}
