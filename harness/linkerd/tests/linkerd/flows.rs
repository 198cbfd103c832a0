//! The counters and identities that prove a flow, held against what proxies of real clusters counted and targets saw, in
//! each way of exporting.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use meshproof_engine::driver::{Counter, Flow, MeshDriver};
use meshproof_engine::metrics;
use meshproof_engine::tool::Tools;
use meshproof_linkerd::names;
use meshproof_linkerd::{CliInstaller, CliOptions, Linkerd};
use meshproof_spec::scenario::ExportMode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{recorded, recorded_json};

fn driver() -> Linkerd {
    Linkerd::new(
        Arc::new(CliInstaller::new(CliOptions::default(), Tools::default())),
        1.0,
    )
}

/// How much a counter moved while exactly 100 requests were made.
fn moved(deltas: &Value, counter: &Counter, at: &str) -> f64 {
    let mut lines = String::new();
    for group in ["exactly_n", "other"] {
        for (series, delta) in deltas[at][group].as_object().unwrap() {
            writeln!(lines, "{series} {delta}").unwrap();
        }
    }
    let samples = metrics::parse(&lines);
    assert!(samples.len() > 10, "{at}");
    metrics::sum(&samples, &counter.metric, &counter.labels)
}

fn flow(client_cluster: &str, server_cluster: &str, service: &str, export: Option<ExportMode>) -> Flow {
    Flow {
        namespace: "lab".into(),
        client_cluster: client_cluster.into(),
        client: "client".into(),
        server_cluster: server_cluster.into(),
        service: service.into(),
        port: 8080,
        export,
    }
}

/// Where a counter of a flow was recorded.
fn place(counter: &Counter) -> &'static str {
    let places = ["client", "gateway", "target"];
    places
        .into_iter()
        .find(|place| counter.name.starts_with(place))
        .unwrap()
}

/// Where they were recorded, Services had a workload `echo` behind them; in scenarios both have one name.
fn behind_the_service(counter: &mut Counter, service: &str) {
    if let Some(server) = counter.labels.get_mut("server_id")
        && *server == names::identity(service, "lab")
    {
        *server = names::identity("echo", "lab");
    }
}

#[test]
fn the_counters_that_prove_a_flow_moved_once_a_request() {
    let deltas = recorded_json("lab/metric-deltas/gateway-mode-100.json");
    assert_eq!(
        (&deltas["n"], &deltas["url"]),
        (&json!(100), &json!("http://mgw-west.lab:8080/"))
    );
    let counters = driver().counters(&flow("east", "west", "mgw", Some(ExportMode::Gateway)));
    assert_eq!(
        counters.iter().map(place).collect::<Vec<_>>(),
        ["client", "gateway", "gateway", "target"]
    );
    for mut counter in counters {
        behind_the_service(&mut counter, "mgw");
        assert_eq!(moved(&deltas, &counter, place(&counter)), 100.0, "{}", counter.name);
    }
}

#[test]
fn without_a_gateway_the_requests_to_all_pods_of_the_target_add_up() {
    let deltas = recorded_json("lab/metric-deltas/local-mode-100-east-echo.json");
    let counters = driver().counters(&flow("east", "east", "echo", None));
    assert_eq!(counters.iter().map(place).collect::<Vec<_>>(), ["client", "target"]);
    // 86 to one pod and 14 to the other. The page of the target there is another cluster's, which saw nothing.
    assert_eq!(moved(&deltas, &counters[0], "client"), 100.0);
    assert_eq!(moved(&deltas, &counters[1], "target"), 0.0);
}

#[test]
fn in_flat_mode_client_and_target_count_and_the_gateway_sees_nothing() {
    let deltas = recorded_json("lab/metric-deltas/flat-mode-100.json");
    assert_eq!(
        (&deltas["n"], &deltas["url"]),
        (&json!(100), &json!("http://mflat-west.lab:8080/"))
    );
    let counters = driver().counters(&flow("east", "west", "mflat", Some(ExportMode::Flat)));
    assert_eq!(counters.iter().map(place).collect::<Vec<_>>(), ["client", "target"]);
    for mut counter in counters {
        behind_the_service(&mut counter, "mflat");
        assert_eq!(moved(&deltas, &counter, place(&counter)), 100.0, "{}", counter.name);
    }
    // Those of gateway mode would have been wrong: neither the client's nor the gateway's moved.
    for mut counter in driver().counters(&flow("east", "west", "mflat", Some(ExportMode::Gateway))) {
        behind_the_service(&mut counter, "mflat");
        assert_eq!(moved(&deltas, &counter, place(&counter)), 0.0, "{}", counter.name);
    }
}

#[test]
fn through_a_federated_service_only_the_client_counts_all_requests() {
    // One member's part of a federated Service is discovered as a flat mirror is.
    let deltas = recorded_json("lab/metric-deltas/flat-mode-100.json");
    let counters = driver().counters(&flow("east", "west", "mflat", Some(ExportMode::Federated)));
    assert_eq!(counters.iter().map(place).collect::<Vec<_>>(), ["client"]);
    for mut counter in counters {
        behind_the_service(&mut counter, "mflat");
        assert_eq!(moved(&deltas, &counter, "client"), 100.0);
    }
}

#[rstest]
#[case::local("local-plain", None)]
#[case::gateway("gateway-plain", Some(ExportMode::Gateway))]
#[case::flat("flat-plain", Some(ExportMode::Flat))]
#[case::flat_although_the_client_lied("flat-spoofed", Some(ExportMode::Flat))]
fn a_target_names_the_peer_that_is_expected(#[case] recording: &str, #[case] export: Option<ExportMode>) {
    let answer = recorded(&format!("lab/headers/{recording}.txt"));
    let body: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    let seen: BTreeMap<String, Vec<String>> = body["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, values)| {
            (
                name.to_ascii_lowercase(),
                serde_json::from_value(values.clone()).unwrap(),
            )
        })
        .collect();
    let (header, peer) = driver().peer_identity(&flow("west", "east", "echo", export)).unwrap();
    assert_eq!(seen[&header], [peer]);
}

#[test]
fn a_federated_service_has_one_name_for_all_its_members() {
    let name = |mode| driver().mirror_name("echo", "east", mode);
    assert_eq!(name(ExportMode::Gateway), "echo-east");
    assert_eq!(name(ExportMode::Flat), "echo-east");
    assert_eq!(name(ExportMode::Federated), "echo-federated");
}
