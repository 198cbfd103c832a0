//! Each way in which there can be no answer is told from the others, and no request goes missing over it.

use std::time::Duration;

use meshproof_agent::protocol::{FailureKind, HTTP_PORT, Job, Outcome, Protocol, TCP_PORT};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::networks::{BLACKHOLE, World};
use crate::setup::{Finished, TestAgent, job, open, pair};

#[rstest]
#[case("nowhere", FailureKind::Name)]
#[case("shopper", FailureKind::Refused)]
#[case(BLACKHOLE, FailureKind::Timeout)]
#[tokio::test(start_paused = true)]
async fn connections_that_do_not_come_about(
    #[case] host: &str,
    #[case] expected: FailureKind,
    #[values(Protocol::Http1, Protocol::Http2, Protocol::Tcp)] protocol: Protocol,
    #[values(false, true)] fresh_connections: bool,
) {
    // This client serves nothing, so its own data ports refuse.
    let client = TestAgent::start_with(&World::in_memory(), "shopper", |config| {
        config.http_ports.clear();
        config.tcp_ports.clear();
    })
    .await;
    let finished = client
        .run(&Job {
            host: host.to_owned(),
            timeout_ms: 300,
            fresh_connections,
            ..job(protocol, 8)
        })
        .await;
    assert_eq!(finished.failed(expected), 8, "{:?}", finished.rows);
}

#[rstest]
// Protocols that begin with the client's word …
#[case(Protocol::Http1, "this is not HTTP\r\n\r\n", FailureKind::Protocol)]
#[case(
    Protocol::Http2,
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    FailureKind::Protocol
)]
#[case(Protocol::Tcp, "this is not an answer\n", FailureKind::Protocol)]
#[case(Protocol::Tcp, "{\"problem\":\"no\"}\n", FailureKind::Protocol)]
// … answers that break off …
#[case(
    Protocol::Http1,
    "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
    FailureKind::Closed
)]
#[case(Protocol::Http1, "HTTP/1.1 200", FailureKind::Closed)]
#[case(Protocol::Tcp, "{\"server\":", FailureKind::Closed)]
// … and none at all.
#[case(Protocol::Http1, "", FailureKind::Closed)]
#[case(Protocol::Http2, "", FailureKind::Closed)]
#[case(Protocol::Tcp, "", FailureKind::Closed)]
#[tokio::test]
async fn answers_that_are_none(
    #[case] protocol: Protocol,
    #[case] answer: &'static str,
    #[case] expected: FailureKind,
) {
    let world = World::on_loopback();
    let client = TestAgent::start(&world, "shopper").await;
    let port = if protocol == Protocol::Tcp { TCP_PORT } else { HTTP_PORT };
    let mut listener = world.pod("store").listen(port).await.unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // One read takes the whole request: it is far smaller than a socket's buffer.
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                // Unread bytes would turn the orderly end into a reset.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let finished = client.run(&job(protocol, 6)).await;
    server.abort();
    assert_eq!(finished.failed(expected), 6, "{:?}", finished.rows);
}

#[tokio::test]
async fn an_answer_of_a_proxy_has_no_server_but_its_headers() {
    let world = World::on_loopback();
    let client = TestAgent::start(&world, "shopper").await;
    let mut listener = world.pod("store").listen(HTTP_PORT).await.unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = "HTTP/1.1 504 Gateway Timeout\r\nx-proxy-error: no endpoints\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let finished = client.run(&job(Protocol::Http1, 4)).await;
    server.abort();
    for row in &finished.rows {
        let expected = Outcome::Answered {
            status: 504,
            server: None,
            host: None,
            protocol: None,
            port: None,
            seen: [].into(),
            error_headers: [("x-proxy-error".to_owned(), "no endpoints".to_owned())].into(),
        };
        assert_eq!(row.outcome, expected);
    }
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test]
async fn a_server_that_is_killed_costs_answers_but_no_rows(#[case] protocol: Protocol) {
    let world = World::on_loopback();
    let (client, server) = pair(&world).await;
    let mut follower = server.control().await.follow_ledger(None, 0).await.unwrap();
    let stream = client.start_job(&open(job(protocol, 0), 1000.0, Some(1000))).await;
    for _ in 0..300 {
        futures::StreamExt::next(&mut follower).await.unwrap().unwrap();
    }
    server.running.kill().await;
    let finished = Finished::read(stream).await;
    assert_eq!(finished.sent, 1000);
    let lost = finished.failed(FailureKind::Closed) + finished.failed(FailureKind::Refused);
    assert_eq!(finished.answered(200) + lost, 1000, "{:?}", finished.rows);
    // Answers may be on their way when the server dies: at most as many as are outstanding at a time.
    assert!(
        finished.answered(200) >= 250 && finished.failed(FailureKind::Refused) > 0,
        "{} answered",
        finished.answered(200)
    );
}

#[rstest]
#[case(Protocol::Http1)]
#[case(Protocol::Http2)]
#[case(Protocol::Tcp)]
#[tokio::test(start_paused = true)]
async fn a_server_that_drains_and_comes_back_loses_nothing_in_between(#[case] protocol: Protocol) {
    let world = World::in_memory();
    let (client, server) = pair(&world).await;
    // One request each 100 ms: the server goes and comes between two of them.
    let stream = client.start_job(&open(job(protocol, 0), 10.0, Some(20))).await;
    tokio::time::sleep(Duration::from_millis(1050)).await;
    server.running.shutdown().await;
    for port in [HTTP_PORT, TCP_PORT, meshproof_agent::protocol::CONTROL_PORT] {
        world.take_away("store", port);
    }
    let _server = TestAgent::start(&world, "store").await;
    let finished = Finished::read(stream).await;
    assert_eq!(finished.answered(200), 20, "{:?}", finished.rows);
}
