//! What the client sends is what the server receives, and each request is accounted for.

use std::collections::BTreeSet;

use meshproof_agent::protocol::{FailureKind, Job, Load, Outcome, Protocol, UntilSeen};
use rstest::rstest;

use crate::networks::World;
use crate::setup::{Finished, RUN, identity, job, number, open, pair};

#[rstest]
#[case(Protocol::Http1, "store:8080")]
#[case(Protocol::Http2, "store:8080")]
#[case(Protocol::Tcp, "")]
#[tokio::test]
async fn every_answer_says_who_answered_and_what_was_seen(#[case] protocol: Protocol, #[case] host: &str) {
    let (client, server) = pair(&World::on_loopback()).await;
    let finished = client.run(&job(protocol, 40)).await;
    assert_eq!(finished.sent, 40);
    for row in &finished.rows {
        let expected = Outcome::Answered {
            status: 200,
            server: Some(identity("store")),
            host: Some(host.to_owned()),
            protocol: Some(protocol),
            port: Some(job(protocol, 1).port),
            seen: [("x-extra".to_owned(), vec!["1".to_owned()])].into(),
            error_headers: [].into(),
        };
        assert_eq!(row.outcome, expected);
    }
    let connections: BTreeSet<u32> = finished.rows.iter().map(|row| row.connection).collect();
    assert_eq!(connections, [0, 1].into());
    for row in server.ledger().await.rows {
        assert_eq!(
            (row.protocol, row.run.as_deref(), row.status),
            (protocol, Some(RUN), Some(200))
        );
    }
}

/// The harness's most important sum: nothing lost, nothing twice, nothing invented.
#[rstest]
#[case(job(Protocol::Http1, 2000))]
#[case(job(Protocol::Http2, 2000))]
#[case(job(Protocol::Tcp, 2000))]
#[case(Job { fresh_connections: true, ..job(Protocol::Http1, 200) })]
#[case(Job { fresh_connections: true, ..job(Protocol::Http2, 200) })]
#[case(Job { fresh_connections: true, ..job(Protocol::Tcp, 200) })]
#[case(open(job(Protocol::Http1, 0), 4000.0, Some(2000)))]
#[case(open(job(Protocol::Http2, 0), 4000.0, Some(2000)))]
#[case(open(job(Protocol::Tcp, 0), 4000.0, Some(2000)))]
#[tokio::test]
async fn the_ledgers_of_client_and_server_agree(#[case] job: Job) {
    let (client, server) = pair(&World::on_loopback()).await;
    let finished = client.run(&job).await;
    assert_eq!(finished.answered(200) as u64, finished.sent);
    let ledger = server.ledger().await;
    assert_eq!(ledger.dropped, None);
    let mut received: Vec<&str> = ledger.rows.iter().map(|row| row.id.as_deref().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, finished.ids());
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn fresh_connections_are_not_used_twice(#[case] protocol: Protocol) {
    let (client, _server) = pair(&World::in_memory()).await;
    let finished = client
        .run(&Job {
            fresh_connections: true,
            ..job(protocol, 20)
        })
        .await;
    let connections: BTreeSet<u32> = finished.rows.iter().map(|row| row.connection).collect();
    assert_eq!(connections, (0..20).collect());
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn requests_are_dealt_to_the_connections_in_turn(#[case] protocol: Protocol) {
    let (client, _server) = pair(&World::in_memory()).await;
    // Slow enough that each request ends before the next one starts.
    let mut finished = client
        .run(&open(
            Job {
                connections: 4,
                ..job(protocol, 0)
            },
            10.0,
            Some(20),
        ))
        .await;
    finished.rows.sort_by_key(number);
    for row in &finished.rows {
        assert_eq!(u64::from(row.connection), number(row) % 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_loop_pauses_after_each_answer() {
    let (client, _server) = pair(&World::in_memory()).await;
    let load = Load::Closed {
        requests: 10,
        gap_ms: 100,
    };
    let mut finished = client
        .run(&Job {
            load,
            connections: 1,
            ..job(Protocol::Http1, 0)
        })
        .await;
    finished.rows.sort_by_key(number);
    for (earlier, later) in finished.rows.iter().zip(&finished.rows[1..]) {
        assert_eq!(later.intended_us, earlier.ended_us + 100_000);
        assert!(later.started_us - later.intended_us <= 1_000, "{later:?}");
    }
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn an_open_loop_keeps_its_times_while_the_server_stalls(#[case] protocol: Protocol) {
    let (client, server) = pair(&World::in_memory()).await;
    let stall = meshproof_agent::protocol::Behavior {
        delay_ms: 3_000,
        ..Default::default()
    };
    server.control().await.set_behavior(&stall).await.unwrap();
    let mut finished = client.run(&open(job(protocol, 0), 200.0, Some(400))).await;
    assert_eq!(finished.answered(200), 400);
    finished.rows.sort_by_key(number);
    for row in &finished.rows {
        assert_eq!(row.intended_us, number(row) * 5_000);
        // The paused clock is exact but for the timer's granularity of one millisecond.
        assert!(row.started_us - row.intended_us <= 1_000, "{row:?}");
        let latency = row.ended_us - row.intended_us;
        assert!((3_000_000..=3_004_000).contains(&latency), "{row:?}");
    }
    assert!(finished.max_late_us <= 1_000);
    let started_during_the_stall = finished.rows.iter().filter(|row| row.started_us < 2_500_000).count();
    assert_eq!(started_during_the_stall, 400);
}

/// With 100 requests per second of 95 ms each, ten are outstanding at a time: two on the job's connections, eight on extra ones.
#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn extra_connections_are_used_again_while_needed(#[case] protocol: Protocol) {
    let (client, server) = pair(&World::in_memory()).await;
    let slow = meshproof_agent::protocol::Behavior {
        delay_ms: 95,
        ..Default::default()
    };
    server.control().await.set_behavior(&slow).await.unwrap();
    let finished = client.run(&open(job(protocol, 0), 100.0, Some(1000))).await;
    let connections: BTreeSet<u32> = finished.rows.iter().map(|row| row.connection).collect();
    assert!(
        (9..=11).contains(&connections.len()),
        "{} connections",
        connections.len()
    );
}

/// 1024 requests can be outstanding over HTTP/1.1. The next ones start late, and say so; none is left out.
#[tokio::test(start_paused = true)]
async fn beyond_the_bound_requests_start_late_and_say_so() {
    let (client, server) = pair(&World::in_memory()).await;
    let stall = meshproof_agent::protocol::Behavior {
        delay_ms: 5_000,
        ..Default::default()
    };
    server.control().await.set_behavior(&stall).await.unwrap();
    let mut finished = client.run(&open(job(Protocol::Http1, 0), 1000.0, Some(1100))).await;
    assert_eq!(finished.answered(200), 1100);
    finished.rows.sort_by_key(number);
    let (in_time, late) = finished.rows.split_at(1024);
    assert!(in_time.iter().all(|row| row.started_us - row.intended_us <= 1_000));
    assert!(
        late.iter()
            .all(|row| row.started_us >= 5_000_000 && row.ended_us - row.intended_us > 8_000_000)
    );
    assert!(finished.max_late_us > 3_000_000);
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn a_job_ends_once_its_condition_held(#[case] protocol: Protocol) {
    let (client, _server) = pair(&World::in_memory()).await;
    let until = UntilSeen {
        header: "x-extra".to_owned(),
        value: "1".to_owned(),
        consecutive: 5,
    };
    let job = open(
        Job {
            until_seen: Some(until),
            connections: 1,
            ..job(protocol, 0)
        },
        10.0,
        None,
    );
    let finished = client.run(&job).await;
    assert!(finished.seen);
    assert_eq!(finished.sent, 5);
}

#[tokio::test(start_paused = true)]
async fn answers_in_between_without_the_marker_start_the_count_again() {
    let (client, server) = pair(&World::in_memory()).await;
    // Every third answer is an error of a kind that carries no body, so the marker is not seen on it.
    let behavior = meshproof_agent::protocol::Behavior {
        status: Some(204),
        status_share: Some(1.0 / 3.0),
        ..Default::default()
    };
    server.control().await.set_behavior(&behavior).await.unwrap();
    let until = |consecutive| UntilSeen {
        header: "x-extra".to_owned(),
        value: "1".to_owned(),
        consecutive,
    };
    let base = Job {
        connections: 1,
        ..job(Protocol::Http1, 30)
    };
    let never = client
        .run(&Job {
            until_seen: Some(until(4)),
            ..base.clone()
        })
        .await;
    assert_eq!((never.seen, never.sent), (false, 30));
    let soon = client
        .run(&Job {
            until_seen: Some(until(2)),
            ..base
        })
        .await;
    assert!(soon.seen && soon.sent < 30, "{} sent", soon.sent);
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn a_job_that_is_stopped_lets_outstanding_requests_end(#[case] protocol: Protocol) {
    let (client, server) = pair(&World::in_memory()).await;
    let slow = meshproof_agent::protocol::Behavior {
        delay_ms: 100,
        ..Default::default()
    };
    server.control().await.set_behavior(&slow).await.unwrap();
    let stream = client.start_job(&open(job(protocol, 0), 100.0, None)).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(client.control().await.stop_job("steady").await.unwrap());
    let after_stop = server.ledger().await.rows.len();
    let finished = Finished::read(stream).await;
    assert_eq!(finished.answered(200) as u64, finished.sent);
    assert!((95..=102).contains(&finished.sent), "{} sent", finished.sent);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(
        server.ledger().await.rows.len(),
        after_stop,
        "requests were sent after the job had been stopped"
    );
    assert!(!client.control().await.stop_job("steady").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_outstanding_for_too_long_when_stopped_says_so() {
    let (client, server) = pair(&World::in_memory()).await;
    let slow = meshproof_agent::protocol::Behavior {
        delay_ms: 5_000,
        ..Default::default()
    };
    server.control().await.set_behavior(&slow).await.unwrap();
    let stream = client.start_job(&open(job(Protocol::Http1, 0), 100.0, None)).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(client.control().await.stop_job("steady").await.unwrap());
    let finished = Finished::read(stream).await;
    assert_eq!(finished.failed(FailureKind::Stopped) as u64, finished.sent);
    assert!(finished.sent >= 95, "{} sent", finished.sent);
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test]
async fn a_job_whose_reader_has_gone_stops(#[case] protocol: Protocol) {
    let (client, server) = pair(&World::on_loopback()).await;
    let stream = client.start_job(&open(job(protocol, 0), 500.0, None)).await;
    let mut follower = server.control().await.follow_ledger(Some(RUN), 0).await.unwrap();
    for _ in 0..20 {
        futures::StreamExt::next(&mut follower).await.unwrap().unwrap();
    }
    drop(stream);
    client.log.wait_for("job steady ended").await;
    // Its name is free again.
    assert_eq!(client.run(&job(protocol, 3)).await.answered(200), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_free_as_soon_as_the_job_has_said_its_end() {
    let (client, _server) = pair(&World::on_loopback()).await;
    for _ in 0..100 {
        assert_eq!(client.run(&job(Protocol::Http1, 1)).await.answered(200), 1);
    }
}
