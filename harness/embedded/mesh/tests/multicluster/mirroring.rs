//! From export to mirror and back.

use std::time::Instant;

use meshproof_apiserver::gvr;
use serde_json::json;

use crate::support::{NS, State, pair, since};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_service_is_mirrored_and_unexported_again() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let start = Instant::now();
    east.export("store");
    let mirror = west.mirror("store-east").await;
    assert!(since(start) < 30.0, "took {} s", since(start));
    assert_eq!(mirror["metadata"]["labels"]["mirror.linkerd.io/cluster-name"], "east");
    assert_eq!(mirror["spec"]["type"], "ClusterIP");
    assert!(mirror["spec"].get("selector").is_none());
    let endpoints = west.endpoints("store-east", State::Ready).await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "172.18.0.3");
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 4143);
    let message = west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    assert_eq!(message, "");

    east.patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"metadata": {"labels": {"mirror.linkerd.io/exported": null}}}),
    );
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    west.until_gone(&gvr::ENDPOINTS, NS, "store-east").await;
    west.until_condition("east", "store", None).await;
}
