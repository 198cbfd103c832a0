//! Routes: shares, filters, matches, and the defects that spoil them.

use rstest::rstest;
use serde_json::json;

use super::{Pair, SPLIT, route};
use crate::defect::Defect;

const BACKEND_REQUESTS: &str = "outbound_http_route_backend_requests_total";

/// Sends `n` requests over four connections and counts those that west and east answered, and those that neither did.
async fn shares(pair: &Pair, n: usize) -> [usize; 3] {
    let mut workers = Vec::new();
    for _ in 0..4 {
        let mut client = pair.client.http1(SPLIT, "split.lab:8080").await;
        workers.push(tokio::spawn(async move {
            let mut counts = [0; 3];
            for _ in 0..n / 4 {
                let answer = client.get(&[]).await.unwrap();
                let place = match answer.status.as_u16() {
                    200 => usize::from(answer.cluster() == "east"),
                    _ => 2,
                };
                counts[place] += 1;
            }
            counts
        }));
    }
    let mut counts = [0; 3];
    for worker in workers {
        for (total, part) in counts.iter_mut().zip(worker.await.unwrap()) {
            *total += part;
        }
    }
    counts
}

/// Chi square with one degree of freedom; below 19.5 with a probability of 99.999 % when the share is right.
fn chi_square(hits: usize, n: usize, share: f64) -> f64 {
    let (hits, n) = (hits as f64, n as f64);
    let expected = n * share;
    (hits - expected).powi(2) / expected + (hits - expected).powi(2) / (n - expected)
}

const CRITICAL: f64 = 19.5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_requests_follow_the_weights_and_every_one_is_counted() {
    let pair = Pair::new(&[]).await;
    pair.route(&[("echo", 70), ("echo-east", 30)]);
    let [west, east, failed] = shares(&pair, 5000).await;
    assert_eq!((west + east, failed), (5000, 0));
    assert!(chi_square(west, 5000, 0.7) < CRITICAL, "{west} of 5000");
    let route = "route_group=\"gateway.networking.k8s.io\",route_kind=\"HTTPRoute\",route_namespace=\"lab\",route_name=\"split\"";
    let parent = "parent_name=\"split\"";
    assert_eq!(
        pair.client
            .metric(BACKEND_REQUESTS, &[parent, route, "backend_name=\"echo\""]),
        west as u64
    );
    assert_eq!(
        pair.client
            .metric(BACKEND_REQUESTS, &[parent, route, "backend_name=\"echo-east\""]),
        east as u64
    );
    assert_eq!(
        pair.west_echo.metric("request_total", &["direction=\"inbound\""]),
        west as u64
    );
    assert_eq!(
        pair.east_echo.metric("request_total", &["direction=\"inbound\""]),
        east as u64
    );
}

#[rstest]
#[case::off_by_five(Defect::WeightsOffByFive, 0.65)]
#[case::ignored(Defect::WeightsIgnored, 0.5)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_split_fails_the_test_of_the_right_one(#[case] defect: Defect, #[case] actual: f64) {
    let pair = Pair::new(&[defect]).await;
    pair.route(&[("echo", 70), ("echo-east", 30)]);
    let [west, _, failed] = shares(&pair, 5000).await;
    assert_eq!(failed, 0);
    assert!(chi_square(west, 5000, 0.7) > CRITICAL, "{west} of 5000");
    assert!(chi_square(west, 5000, actual) < CRITICAL, "{west} of 5000");
}

#[rstest]
#[case::clean(&[], true)]
#[case::defect(&[Defect::ZeroWeightReceives], false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weight_zero_receives_nothing(#[case] defects: &[Defect], #[case] nothing: bool) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo", 100), ("echo-east", 0)]);
    let [west, east, failed] = shares(&pair, 1000).await;
    assert_eq!((west + east, failed), (1000, 0));
    assert_eq!(east == 0, nothing, "{east} of 1000");
    assert!(east < 100, "a few, not many: {east}");
}

#[rstest]
#[case::clean(&[], [0, 40, 0])]
#[case::defect(&[Defect::WeightChangesIgnored], [40, 0, 0])]
#[tokio::test(start_paused = true)]
async fn a_changed_weight_takes_effect(#[case] defects: &[Defect], #[case] expected: [usize; 3]) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo", 1), ("echo-east", 0)]);
    assert_eq!(shares(&pair, 40).await, [40, 0, 0]);
    // The marker changes in any case, so that it tells when the route is live.
    let mut changed = route(&[("echo", 0), ("echo-east", 1)]);
    changed["spec"]["rules"][0]["filters"] = json!([{"type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": "x-mark", "value": "m1"}]}}]);
    pair.west.set(&changed);
    let mut client = pair.client.http1(SPLIT, "split.lab:8080").await;
    while client.get(&[]).await.unwrap().header("x-mark") != ["m1"] {}
    assert_eq!(shares(&pair, 40).await, expected);
}

#[rstest]
#[case::clean(&[], [40, 0, 0])]
#[case::defect(&[Defect::RouteRemovalIgnored], [0, 40, 0])]
#[tokio::test(start_paused = true)]
async fn a_removed_route_leaves_the_default(#[case] defects: &[Defect], #[case] expected: [usize; 3]) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo-east", 1)]);
    assert_eq!(shares(&pair, 40).await, [0, 40, 0]);
    pair.west.remove(&route(&[("echo-east", 1)]));
    // Discovery is told at once, the proxy follows in a task of its own.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(shares(&pair, 40).await, expected);
}

#[rstest]
#[case::clean(&[], 0.5)]
#[case::defect(&[Defect::MissingBackendFailsOthers], 0.75)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_backend_fails_its_share_alone(#[case] defects: &[Defect], #[case] share: f64) {
    let pair = Pair::new(defects).await;
    pair.route(&[("echo", 50), ("nosuch", 50)]);
    let [west, east, failed] = shares(&pair, 400).await;
    assert_eq!((east, west + failed), (0, 400));
    assert!(chi_square(failed, 400, share) < CRITICAL, "{failed} of 400");
    let mut client = pair.client.http1(SPLIT, "split.lab:8080").await;
    let failed = loop {
        let answer = client.get(&[]).await.unwrap();
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(failed.status, 500);
    assert_eq!(failed.proxy_error(), "Service not found nosuch");
    assert!(!failed.headers.contains_key("l5d-proxy-connection"));
}

#[tokio::test(start_paused = true)]
async fn filters_of_rules_and_backends_mark_requests_and_responses_in_both_clusters() {
    let pair = Pair::new(&[]).await;
    let set = |name: &str, value: &str| json!({"set": [{"name": name, "value": value}]});
    let request =
        |name: &str, value: &str| json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": set(name, value)}]);
    let mut object = route(&[("echo", 1), ("echo-east", 1)]);
    let rule = &mut object["spec"]["rules"][0];
    rule["filters"] = request("x-mark", "m1");
    rule["filters"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": set("x-resp-mark", "r1")}));
    for backend in 0..2 {
        rule["backendRefs"][backend]["filters"] = request("x-backend-mark", ["echo", "echo-east"][backend]);
    }
    pair.west.set(&object);
    let mut client = pair.client.http1(SPLIT, "split.lab:8080").await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let answer = client.get(&[]).await.unwrap();
        let backend = if answer.cluster() == "west" {
            "echo"
        } else {
            "echo-east"
        };
        assert_eq!(answer.header("x-mark"), ["m1"]);
        assert_eq!(answer.header("x-backend-mark"), [backend]);
        assert_eq!(answer.headers["x-resp-mark"], "r1");
        seen.insert(backend);
    }
}

#[tokio::test(start_paused = true)]
async fn matches_route_only_what_they_match() {
    let pair = Pair::new(&[]).await;
    let mut object = route(&[("echo", 1)]);
    let rule = |name: &str, matches: serde_json::Value| json!({"matches": [matches], "backendRefs": [{"name": name, "port": 8080}]});
    object["spec"]["rules"] = json!([
        rule("echo", json!({"path": {"type": "PathPrefix", "value": "/"}})),
        rule("echo-east", json!({"path": {"type": "PathPrefix", "value": "/api"}})),
        rule("echo-east", json!({"headers": [{"name": "x-canary", "value": "yes"}]})),
    ]);
    pair.west.set(&object);
    let mut client = pair.client.http1(SPLIT, "split.lab:8080").await;
    assert_eq!(client.get(&[]).await.unwrap().cluster(), "west");
    assert_eq!(client.get_path("/api/v1", &[]).await.unwrap().cluster(), "east");
    object["spec"]["rules"].as_array_mut().unwrap().remove(0);
    pair.west.set(&object);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let answer = client.get(&[("x-canary", "yes")]).await.unwrap();
    assert_eq!(answer.cluster(), "east");
    assert_eq!(client.get(&[]).await.unwrap().status, 404);
}
