//! Calls that succeed: what the target sees and what is counted.

use rstest::rstest;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testbed::{CLIENT_ID, ECHO_ID, GATEWAY_ID, service, slice};
use super::{ECHO, ECHO_EAST, ECHO_EAST_SECOND, Pair};
use crate::defect::Defect;

#[tokio::test(start_paused = true)]
async fn a_local_call_is_authenticated_and_counted() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(ECHO, "echo.lab:8080").await;
    for _ in 0..100 {
        let answer = client.get(&[]).await.unwrap();
        assert_eq!(answer.cluster(), "west");
        assert_eq!(answer.seen()["host"], "echo.lab:8080");
        assert_eq!(answer.header("l5d-client-id"), [CLIENT_ID]);
        assert!(answer.header("forwarded").is_empty() && answer.header("l5d-dst-canonical").is_empty());
        assert_eq!(
            answer.seen()["peer"],
            "10.22.0.20",
            "the source is the pod's own address"
        );
        assert!(answer.header("l5d-orig-proto").is_empty());
    }
    let outbound = [
        "direction=\"outbound\"",
        "authority=\"echo.lab.svc.cluster.local:8080\"",
        "tls=\"true\"",
    ];
    let server = format!("server_id=\"{ECHO_ID}\"");
    let labels: Vec<_> = outbound
        .iter()
        .copied()
        .chain([server.as_str(), "dst_pod=\"echo-w\""])
        .collect();
    assert_eq!(pair.client.metric("request_total", &labels), 100);
    assert_eq!(pair.client.metric("response_total", &labels), 100);
    assert_eq!(pair.client.metric("tcp_open_total", &labels), 1);
    let route = [
        "parent_name=\"echo\"",
        "backend_name=\"echo\"",
        "route_kind=\"default\",route_namespace=\"\",route_name=\"http\"",
    ];
    assert_eq!(
        pair.client.metric("outbound_http_route_backend_requests_total", &route),
        100
    );
    let inbound = format!("client_id=\"{CLIENT_ID}\"");
    let inbound = [
        "target_addr=\"10.22.0.20:8080\"",
        "srv_name=\"all-unauthenticated\"",
        inbound.as_str(),
    ];
    assert_eq!(pair.west_echo.metric("request_total", &inbound), 100);
    assert_eq!(pair.west_echo.metric("inbound_http_authz_allow_total", &inbound), 100);
    assert_eq!(
        pair.west_echo
            .metric("inbound_http_statuses_total", &["status=\"200\""]),
        100
    );
}

#[tokio::test(start_paused = true)]
async fn a_mirror_leads_through_the_gateway() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(ECHO_EAST, "echo-east.lab:8080").await;
    for _ in 0..100 {
        let answer = client.get(&[]).await.unwrap();
        assert_eq!(answer.cluster(), "east");
        assert_eq!(answer.seen()["host"], "echo.lab.svc.cluster.local:8080");
        assert_eq!(answer.header("l5d-client-id"), [GATEWAY_ID]);
        assert_eq!(answer.header("l5d-dst-canonical"), ["echo.lab.svc.cluster.local:8080"]);
        let forwarded = format!("by={GATEWAY_ID};for={CLIENT_ID};host=echo.lab.svc.cluster.local:8080;proto=https");
        assert_eq!(answer.header("forwarded"), [forwarded]);
    }
    let gateway_id = format!("server_id=\"{GATEWAY_ID}\"");
    let outbound = [
        "direction=\"outbound\"",
        "authority=\"echo-east.lab.svc.cluster.local:8080\"",
        "target_addr=\"172.18.0.3:4143\"",
        "tls=\"true\"",
        gateway_id.as_str(),
        "dst_service=\"echo-east\",dst_target_cluster=\"east\",dst_target_service=\"echo\",dst_target_service_namespace=\"lab\"",
    ];
    assert_eq!(pair.client.metric("request_total", &outbound), 100);
    assert_eq!(pair.client.metric("response_total", &outbound), 100);
    assert_eq!(pair.client.metric("response_latency_ms_count", &outbound), 100);
    assert_eq!(
        pair.client.metric("tcp_open_total", &outbound),
        1,
        "one connection for all"
    );
    let statuses = ["parent_name=\"echo-east\"", "http_status=\"200\",error=\"\""];
    assert_eq!(
        pair.client
            .metric("outbound_http_route_backend_response_statuses_total", &statuses),
        100
    );
    assert_eq!(
        pair.client
            .metric("outbound_http_route_request_statuses_total", &statuses),
        100
    );
    let allowed = format!("tls=\"true\",client_id=\"{CLIENT_ID}\"");
    let allowed = [
        "target_port=\"4143\"",
        "srv_name=\"linkerd-gateway\"",
        "authz_name=\"linkerd-gateway\"",
        allowed.as_str(),
    ];
    assert_eq!(pair.gateway.metric("inbound_http_authz_allow_total", &allowed), 100);
    assert_eq!(pair.gateway.metric("request_total", &["direction=\"inbound\""]), 0);
    let onward = format!("server_id=\"{ECHO_ID}\"");
    assert_eq!(
        pair.gateway.metric(
            "request_total",
            &["direction=\"outbound\"", &onward, "dst_service=\"echo\""]
        ),
        100
    );
    let dst = "dst=\"echo.lab.svc.cluster.local:8080\"";
    for name in [
        "route_request_total",
        "route_response_total",
        "route_actual_request_total",
    ] {
        assert_eq!(pair.gateway.metric(name, &[dst]), 100, "{name}");
    }
    assert_eq!(
        pair.gateway.metric("outbound_http_route_backend_requests_total", &[]),
        0
    );
    let by_gateway = format!("client_id=\"{GATEWAY_ID}\"");
    assert_eq!(
        pair.east_echo
            .metric("request_total", &["direction=\"inbound\"", &by_gateway]),
        100
    );
}

#[rstest]
#[case::clean(&[], "8081")]
#[case::defect(&[Defect::EveryPortToTheFirst], "8080")]
#[tokio::test(start_paused = true)]
async fn every_port_of_a_mirror_leads_to_its_own(#[case] defects: &[Defect], #[case] expected: &str) {
    let pair = Pair::new(defects).await;
    let answer = pair.client.get(ECHO_EAST_SECOND, &[]).await;
    assert_eq!(answer.seen()["port"].to_string(), expected);
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.seen()["port"], 8080);
}

#[rstest]
#[case::clean(&[], "east", "echo.lab.svc.cluster.local:8080")]
#[case::local(&[Defect::MirrorAnswersLocally], "west", "echo.lab:8080")]
#[case::host(&[Defect::HostNotRewritten], "east", "echo.lab:8080")]
#[tokio::test(start_paused = true)]
async fn a_mirror_is_answered_by_its_cluster_under_its_remote_name(
    #[case] defects: &[Defect],
    #[case] cluster: &str,
    #[case] host: &str,
) {
    let pair = Pair::new(defects).await;
    let answer = pair.client.get(ECHO_EAST, &[]).await;
    assert_eq!(answer.cluster(), cluster);
    assert_eq!(answer.seen()["host"], host);
    assert_eq!(pair.client.get(ECHO, &[]).await.cluster(), "west");
}

#[rstest]
#[case::clean(&[], "2")]
#[case::defect(&[Defect::Http2Downgraded], "1")]
#[tokio::test(start_paused = true)]
async fn http2_arrives_as_http2(#[case] defects: &[Defect], #[case] version: &str) {
    let pair = Pair::new(defects).await;
    let answer = pair.client.get_http2(ECHO_EAST).await;
    assert_eq!(
        (answer.cluster().as_str(), answer.seen()["version"].as_str()),
        ("east", Some(version))
    );
    assert_eq!(pair.client.get_http2(ECHO).await.seen()["version"], "2");
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.seen()["version"], "1");
}

async fn tcp(pair: &Pair, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut stream = pair.client.dial(to).await.unwrap();
    let mut hello = [0; 11];
    if stream.read_exact(&mut hello).await.is_err() {
        return Vec::new();
    }
    assert!(hello.starts_with(b"HELLO "));
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = payload.to_vec();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        // Half-close: the answer comes only after it.
        write.shutdown().await.unwrap();
        write
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    drop(writer.await);
    received
}

#[rstest]
#[case::local("10.42.0.8:9000")]
#[case::gateway("10.42.0.9:9000")]
#[tokio::test(start_paused = true)]
async fn opaque_tcp_is_byte_exact_both_ways_with_the_server_first_and_half_close(#[case] to: &str) {
    let pair = Pair::new(&[]).await;
    let payload: Vec<u8> = (0..4_000_000_u32).map(|i| b'a' + (i % 23) as u8).collect();
    assert!(tcp(&pair, to, &payload).await == payload.to_ascii_uppercase());
    let opened = ["direction=\"outbound\",peer=\"dst\"", "tls=\"true\""];
    assert_eq!(pair.client.metric("tcp_open_total", &opened), 1);
    if to.starts_with("10.42.0.9") {
        assert_eq!(
            pair.gateway
                .metric("inbound_tcp_authz_allow_total", &["authz_name=\"linkerd-gateway\""]),
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn broken_opaque_tcp_ends_at_the_gateway_alone() {
    let pair = Pair::new(&[Defect::OpaqueTcpBroken]).await;
    assert_eq!(tcp(&pair, "10.42.0.9:9000", b"abc").await, b"");
    assert_eq!(tcp(&pair, "10.42.0.8:9000", b"abc").await, b"ABC");
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_first_on_an_unmarked_port_is_opaque_after_the_detect_timeout() {
    let pair = Pair::new(&[]).await;
    pair.west_echo.serve_tcp("west", 9001);
    let ports = json!([{"name": "bad", "port": 9001}]);
    pair.west.set(&service("echotcpbad", "10.42.0.30", &ports));
    pair.west.set(&slice("echotcpbad", &ports, &["10.22.0.20"]));
    let start = tokio::time::Instant::now();
    assert_eq!(tcp(&pair, "10.42.0.30:9001", b"abc").await, b"ABC");
    assert!(start.elapsed() >= std::time::Duration::from_secs(1), "10 s at pace 10");
}

#[rstest]
#[case("10.42.0.8:7")]
#[case("10.42.0.9:7")]
#[tokio::test(start_paused = true)]
async fn a_port_that_the_service_does_not_define_is_reset(#[case] to: &str) {
    let pair = Pair::new(&[]).await;
    let mut stream = pair.client.dial(to).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn unmeshed_targets_get_plaintext_and_behind_the_gateway_the_clients_identity() {
    let pair = Pair::new(&[]).await;
    let raw = pair.testbed.unmeshed_pod(&pair.east, "raw-e", "default", "10.23.0.19");
    raw.serve_http("east", 8080);
    pair.east.set(&slice("echo", &super::echo_ports(), &["10.23.0.19"]));
    let answer = pair.client.get(ECHO_EAST, &[]).await;
    assert_eq!(answer.seen()["pod"], "raw-e");
    assert_eq!(answer.header("l5d-client-id"), [CLIENT_ID]);
    let plain = [
        "dst_pod=\"raw-e\"",
        "tls=\"no_identity\",no_tls_reason=\"not_provided_by_service_discovery\"",
    ];
    assert_eq!(pair.gateway.metric("request_total", &plain), 1);
    let raw = pair.testbed.unmeshed_pod(&pair.west, "raw-w", "default", "10.22.0.19");
    raw.serve_http("west", 8080);
    pair.west.set(&slice("echo", &super::echo_ports(), &["10.22.0.19"]));
    let answer = pair.client.get(ECHO, &[]).await;
    assert_eq!(answer.seen()["pod"], "raw-w");
    assert!(answer.header("l5d-client-id").is_empty());
    assert_eq!(pair.client.get_http2(ECHO).await.seen()["version"], "2");
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_endpoints_and_follow_their_changes() {
    let pair = Pair::new(&[]).await;
    let second = pair
        .testbed
        .meshed_pod(&pair.west, super::echo_object("echo-w2", "10.22.0.21"))
        .await;
    second.serve_http("west", 8080);
    pair.west
        .set(&slice("echo", &super::echo_ports(), &["10.22.0.20", "10.22.0.21"]));
    let mut client = pair.client.http1(ECHO, "echo.lab:8080").await;
    let mut hits = 0;
    for _ in 0..400 {
        hits += usize::from(client.get(&[]).await.unwrap().seen()["pod"] == "echo-w2");
    }
    assert!((100..300).contains(&hits), "{hits} of 400");
    pair.west.set(&slice("echo", &super::echo_ports(), &["10.22.0.21"]));
    tokio::task::yield_now().await;
    let mut client = pair.client.http1(ECHO, "echo.lab:8080").await;
    // The change is told at once; a request that was drawn before may still arrive.
    let answers = [
        client.get(&[]).await.unwrap(),
        client.get(&[]).await.unwrap(),
        client.get(&[]).await.unwrap(),
    ];
    assert_eq!(answers[2].seen()["pod"], "echo-w2");
}
