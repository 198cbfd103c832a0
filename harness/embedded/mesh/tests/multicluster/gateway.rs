//! What the probes see, and what mirrors make of it.

use std::time::Instant;

use meshproof_apiserver::gvr;
use meshproof_mesh::install::{GatewayServiceType, GatewayValues, MulticlusterValues};
use serde_json::Value;

use crate::support::{MC, Mesh, NS, Plan, State, pair, since};

const ALIVE: &str = "gateway_alive{target_cluster_name=\"east\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_gateway_is_noticed_and_its_return_too() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
    let probe = west.get(&gvr::ENDPOINTS, MC, "probe-east").unwrap();
    assert_eq!(probe["subsets"][0]["ports"][0]["port"], 4191);

    let start = Instant::now();
    east.stop("linkerd-gateway").await;
    west.endpoints("store-east", State::NotReady).await;
    let noticed = since(start);
    assert!(noticed >= 5.0, "took {noticed} s");
    west.until_metric("east", ALIVE, |alive| alive == 0.0).await;
    // The probe's own Endpoints stay ready: it has to get through.
    let probe = west.get(&gvr::ENDPOINTS, MC, "probe-east").unwrap();
    assert_eq!(State::of(&probe), State::Ready);

    east.start("linkerd-gateway").await;
    west.endpoints("store-east", State::Ready).await;
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_dead_at_start_stays_not_ready() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    east.stop("linkerd-gateway").await;
    west.endpoints("store-east", State::NotReady).await;
    west.stop("controller-east").await;
    west.start("controller-east").await;
    let not_ready =
        |endpoints: Option<&Value>| endpoints.is_some_and(|endpoints| State::of(endpoints) == State::NotReady);
    west.holds(&gvr::ENDPOINTS, NS, "store-east", 25.0, not_ready).await;
    // One that is exported only now is ready for no longer than it takes to find out.
    east.export("depot");
    west.endpoints("depot-east", State::NotReady).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_controller_does_not_doubt_a_live_gateway() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
    let ready = |endpoints: Option<&Value>| endpoints.is_some_and(|endpoints| State::of(endpoints) == State::Ready);
    let restarted = async {
        west.stop("controller-east").await;
        west.start("controller-east").await;
    };
    let held = async { west.holds(&gvr::ENDPOINTS, NS, "store-east", 30.0, ready).await };
    tokio::join!(restarted, held);
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_behind_a_node_port_is_alive() {
    let node_port = |values: MulticlusterValues| MulticlusterValues {
        gateway: Some(GatewayValues {
            service_type: GatewayServiceType::NodePort {
                gateway: Some(30143),
                probe: Some(30191),
            },
            ..GatewayValues::default()
        }),
        ..values
    };
    let mesh = Mesh::start(Plan {
        values: node_port,
        ..Plan::default()
    })
    .await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    let endpoints = west.endpoints("store-east", State::Ready).await;
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 30143);
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
}
