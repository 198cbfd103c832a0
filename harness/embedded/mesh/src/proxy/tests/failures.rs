//! What fails, how, and when it comes back.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::testbed::{Answer, Http1Client, gateway_slice, service, slice};
use super::{EAST_GATEWAY, ECHO, ECHO_EAST, Pair, SPLIT, echo_ports, route};
use crate::defect::Defect;

/// A failfast of 3 s at pace 10.
const FAILFAST: Duration = Duration::from_millis(300);

async fn timed(pair: &Pair, to: &str) -> (Answer, Duration) {
    let start = Instant::now();
    let answer = pair.client.get(to, &[]).await;
    (answer, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_mirror_without_endpoints_fails_slowly_once_then_fast_then_works_again() {
    let pair = Pair::new(&[]).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    pair.west
        .set(&gateway_slice("echo-east", "echo", &echo_ports(), &[], true));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (answer, elapsed) = timed(&pair, ECHO_EAST).await;
    assert_eq!(answer.status, 504);
    assert_eq!(
        answer.proxy_error(),
        "logical service 10.42.0.9:8080: route default.http: backend Service.lab.echo-east:8080: \
         Service.lab.echo-east:8080: service in fail-fast"
    );
    assert_eq!(
        (&answer.headers["l5d-proxy-connection"], &answer.headers["connection"]),
        (&"close".parse().unwrap(), &"close".parse().unwrap())
    );
    assert!(elapsed >= FAILFAST && elapsed < FAILFAST * 3, "{elapsed:?}");
    let (answer, elapsed) = timed(&pair, ECHO_EAST).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.proxy_error(),
        "logical service 10.42.0.9:8080: route default.http: service unavailable"
    );
    assert!(elapsed < FAILFAST, "{elapsed:?}");
    pair.west.set(&gateway_slice(
        "echo-east",
        "echo",
        &echo_ports(),
        &[EAST_GATEWAY],
        true,
    ));
    answered_by(&pair, ECHO_EAST, "east", Duration::from_secs(2)).await;
}

/// Asks until the cluster answers, at most for `limit`.
async fn answered_by(pair: &Pair, to: &str, cluster: &str, limit: Duration) {
    let start = Instant::now();
    loop {
        let answer = pair.client.get(to, &[]).await;
        if answer.status == 200 && answer.cluster() == cluster {
            return;
        }
        assert!(start.elapsed() < limit, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_together_fail_together() {
    let pair = Pair::new(&[]).await;
    pair.west
        .set(&gateway_slice("echo-east", "echo", &echo_ports(), &[], true));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    let mut ends = Vec::new();
    let mut requests = Vec::new();
    for _ in 0..10 {
        let client = pair.client.clone();
        requests.push(tokio::spawn(async move {
            let answer = client.get(ECHO_EAST, &[]).await;
            (answer.status.as_u16(), Instant::now())
        }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for request in requests {
        let (status, end) = request.await.unwrap();
        assert_eq!(status, 504);
        ends.push(end.duration_since(start));
    }
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(*first >= FAILFAST, "{ends:?}");
    assert!(*last - *first < Duration::from_millis(100), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_gateway_is_a_timeout_and_then_unavailable() {
    let pair = Pair::new(&[]).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    pair.gateway.die().await;
    let (answer, _) = timed(&pair, ECHO_EAST).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    let (answer, elapsed) = timed(&pair, ECHO_EAST).await;
    assert_eq!(answer.status, 503);
    assert!(elapsed < FAILFAST);
}

#[tokio::test(start_paused = true)]
async fn an_empty_target_behind_a_live_gateway_is_the_gateways_own_bare_error() {
    let pair = Pair::new(&[]).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    pair.east.set(&slice("echo", &echo_ports(), &[]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (answer, elapsed) = timed(&pair, ECHO_EAST).await;
    assert_eq!((answer.status.as_u16(), answer.proxy_error()), (504, ""));
    assert!(elapsed >= FAILFAST);
    let (answer, _) = timed(&pair, ECHO_EAST).await;
    assert_eq!((answer.status.as_u16(), answer.proxy_error()), (503, ""));
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_gone_is_a_bad_gateway_without_explanation() {
    let pair = Pair::new(&[]).await;
    let answer = pair.client.get("10.42.0.8:8081", &[]).await;
    assert_eq!(answer.status, 200);
    let ports = json!([{"name": "http", "port": 8099}]);
    pair.west.set(&super::service("gone", "10.42.0.33", &ports));
    pair.west.set(&slice("gone", &ports, &["10.22.0.20"]));
    let answer = pair.client.get("10.42.0.33:8099", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.proxy_error()), (502, ""));
}

#[tokio::test(start_paused = true)]
async fn failfast_never_hangs_a_service_without_endpoints() {
    let pair = Pair::new(&[Defect::FailfastNever]).await;
    pair.west
        .set(&gateway_slice("echo-east", "echo", &echo_ports(), &[], true));
    let hanging = pair.client.get(ECHO_EAST, &[]);
    assert!(tokio::time::timeout(FAILFAST * 4, hanging).await.is_err());
    assert_eq!(pair.client.get(ECHO, &[]).await.cluster(), "west");
}

/// Steady requests until `limit` or until `enough`; the answers in order: `w`, `e`, or the status' last digit.
async fn steady(client: &mut Option<Http1Client>, pair: &Pair, n: usize) -> String {
    let mut answers = String::new();
    for _ in 0..n {
        let mut connection = match client.take() {
            Some(connection) => connection,
            None => pair.client.http1(SPLIT, "split.lab:8080").await,
        };
        let answer = connection.get(&[]).await.unwrap();
        if !answer.headers.contains_key("l5d-proxy-connection") {
            *client = Some(connection);
        }
        answers.push(match answer.status.as_u16() {
            200 => answer.cluster().chars().next().unwrap(),
            status => char::from_digit(u32::from(status % 10), 10).unwrap(),
        });
    }
    answers
}

enum Outage {
    Local,
    RemoteEmpty,
    GatewayUnready,
    GatewayDead,
}

async fn take_down(pair: &Pair, outage: &Outage) {
    match outage {
        Outage::Local => pair.west.set(&slice("echo", &echo_ports(), &[])),
        Outage::RemoteEmpty => pair
            .west
            .set(&gateway_slice("echo-east", "echo", &echo_ports(), &[], true)),
        Outage::GatewayUnready => {
            pair.west.set(&gateway_slice(
                "echo-east",
                "echo",
                &echo_ports(),
                &[EAST_GATEWAY],
                false,
            ));
        }
        Outage::GatewayDead => pair.gateway.die().await,
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The surviving cluster of each outage must answer everything after the failfast, unless the defect keeps the dead share.
#[rstest]
#[case::local(&[], Outage::Local, true)]
#[case::remote(&[], Outage::RemoteEmpty, true)]
#[case::unready(&[], Outage::GatewayUnready, true)]
#[case::dead(&[], Outage::GatewayDead, true)]
#[case::dead_backend_kept(&[Defect::DeadBackendKept], Outage::Local, false)]
#[case::dead_backend_kept_elsewhere(&[Defect::DeadBackendKept], Outage::RemoteEmpty, true)]
#[case::remote_empty_keeps_share(&[Defect::RemoteEmptyKeepsShare], Outage::RemoteEmpty, false)]
#[case::remote_empty_keeps_share_elsewhere(&[Defect::RemoteEmptyKeepsShare], Outage::GatewayDead, true)]
#[case::dead_gateway_keeps_share(&[Defect::DeadGatewayKeepsShare], Outage::GatewayUnready, false)]
#[case::dead_gateway_keeps_share_unnoticed(&[Defect::DeadGatewayKeepsShare], Outage::GatewayDead, false)]
#[tokio::test(start_paused = true)]
async fn a_split_goes_on_with_the_surviving_backend(
    #[case] defects: &[Defect],
    #[case] outage: Outage,
    #[case] recovers: bool,
) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo", 50), ("echo-east", 50)]);
    let mut client = None;
    let before = steady(&mut client, &pair, 40).await;
    assert!(before.contains('w') && before.contains('e'), "{before}");
    take_down(&pair, &outage).await;
    // The first request to the dead backend waits for the failfast; afterwards nothing goes there.
    let during = steady(&mut client, &pair, 40).await;
    assert!(during.matches('4').count() == 1, "one waits: {during}");
    let survivor = if matches!(outage, Outage::Local) { 'e' } else { 'w' };
    let after = steady(&mut client, &pair, 60).await;
    assert_eq!(after.chars().all(|answer| answer == survivor), recovers, "{after}");
    assert!(after.contains(survivor));
}

#[rstest]
#[case::clean(&[], true)]
#[case::defect(&[Defect::FailbackMissing], false)]
#[tokio::test(start_paused = true)]
async fn a_backend_that_came_back_gets_its_share_again(#[case] defects: &[Defect], #[case] expected: bool) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo", 50), ("echo-east", 50)]);
    let mut client = None;
    steady(&mut client, &pair, 20).await;
    take_down(&pair, &Outage::Local).await;
    steady(&mut client, &pair, 40).await;
    pair.west.set(&slice("echo", &echo_ports(), &["10.22.0.20"]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = steady(&mut client, &pair, 60).await;
    assert_eq!(after.contains('w'), expected, "{after}");
    assert!(after.contains('e'));
}

#[rstest]
#[case::clean(&[], false)]
#[case::defect(&[Defect::ZeroWeightTakesOver], true)]
#[tokio::test(start_paused = true)]
async fn weight_zero_does_not_take_over(#[case] defects: &[Defect], #[case] takes_over: bool) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo", 1), ("echo-east", 0)]);
    let mut client = None;
    assert_eq!(steady(&mut client, &pair, 5).await, "wwwww");
    take_down(&pair, &Outage::Local).await;
    let answers = steady(&mut client, &pair, 5).await;
    assert_eq!(answers, if takes_over { "4eeee" } else { "43333" });
    pair.west.set(&slice("echo", &echo_ports(), &["10.22.0.20"]));
    answered_by(&pair, SPLIT, "west", Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_appears_later_keeps_the_service_alive() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(SPLIT, "split.lab:8080").await;
    assert_eq!(client.get(&[]).await.unwrap().cluster(), "west");
    pair.west.set(&route(&[("echo-east", 1)]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.get(&[]).await.unwrap().cluster(), "east");
    assert_eq!(client.get(&[]).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn without_discovery_known_destinations_go_on_and_unknown_ones_are_reset() {
    let pair = Pair::new(&[]).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    pair.west.discovery.lock().unwrap().take();
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    let mut client = pair.client.http1(ECHO, "echo.lab:8080").await;
    assert!(client.get(&[]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn without_the_identity_service_existing_proxies_go_on_and_new_ones_wait() {
    let pair = Pair::new(&[]).await;
    pair.west.identity.lock().unwrap().take();
    let object = super::echo_object("late", "10.22.0.40");
    let start = pair.testbed.meshed_pod(&pair.west, object.clone());
    assert!(tokio::time::timeout(FAILFAST, start).await.is_err());
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    *pair.west.identity.lock().unwrap() = Some(pair.west.model.authority.serve());
    let late = pair.testbed.meshed_pod(&pair.west, object).await;
    assert_eq!(
        late.metric("control_identity_cert_refreshes_total", &["result=\"ok\""]),
        1
    );
}

#[tokio::test]
async fn certificates_are_renewed_while_traffic_goes_on() {
    let pair = Pair::new(&[]).await;
    pair.west.model.authority.set_lifetime(Duration::from_secs(2));
    let object = super::pod_object("lab", "short", "client", "10.22.0.41", &json!({}), true);
    let short = pair.testbed.meshed_pod(&pair.west, object).await;
    let renewals = || short.metric("control_identity_cert_refreshes_total", &["result=\"ok\""]);
    let start = Instant::now();
    while renewals() < 3 {
        assert_eq!(short.get(ECHO_EAST, &[]).await.cluster(), "east");
        assert!(start.elapsed() < Duration::from_secs(10), "{} renewals", renewals());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        start.elapsed() >= Duration::from_millis(2600),
        "renewed at 70 % of the life"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_deleted_under_an_open_connection_has_no_endpoints_and_comes_back() {
    let pair = Pair::new(&[]).await;
    let mut client = pair.client.http1(ECHO_EAST, "echo-east.lab:8080").await;
    assert_eq!(client.get(&[]).await.unwrap().cluster(), "east");
    let mirror = super::mirror("echo-east", "east", "echo", "10.42.0.9", &echo_ports());
    pair.west.remove(&mirror);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.get(&[]).await.unwrap().status, 504);
    // To new connections the address means nothing.
    let mut stream = pair.client.dial(ECHO_EAST).await.unwrap();
    assert_eq!(
        tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await.unwrap(),
        0
    );
    pair.west.set(&mirror);
    answered_by(&pair, ECHO_EAST, "east", Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn services_that_are_gone_are_forgotten_and_later_their_metrics() {
    let pair = Pair::new(&[]).await;
    assert_eq!(pair.client.get(ECHO_EAST, &[]).await.cluster(), "east");
    let proxies = [pair.client.proxy(), pair.gateway.proxy()];
    let known = || proxies.each_ref().map(|proxy| proxy.logicals().len());
    assert_eq!(known(), [1, 1]);
    let ports = echo_ports();
    pair.west
        .remove(&super::mirror("echo-east", "east", "echo", "10.42.0.9", &ports));
    pair.east.remove(&service("echo", "10.43.0.8", &ports));
    let start = Instant::now();
    for change in 0.. {
        // The client's connection may have ended after the Service was gone; any change makes the proxies look again.
        for cluster in [&pair.west, &pair.east] {
            cluster.set(&service(&format!("other-{change}"), "10.42.0.99", &ports));
        }
        if known() == [0, 0] {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", known());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for pod in [&pair.client, &pair.gateway] {
        let requests = || pod.metric("request_total", &["direction=\"outbound\""]);
        assert_eq!(requests(), 1);
        let (proxy, idle) = (pod.proxy(), Duration::from_secs(60));
        proxy.metrics.forget_idle(std::time::Instant::now() + idle, idle);
        assert_eq!(requests(), 0);
    }
}
