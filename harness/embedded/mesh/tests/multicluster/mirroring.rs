//! From export to mirror and back.

use meshproof_apiserver::gvr;
use serde_json::{Value, json};

use crate::support::{LINKS, Mesh, NS, Plan, State, exported, pair, subsets};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_service_is_mirrored_and_unexported_again() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    let mirror = west.mirror("store-east").await;
    assert_eq!(mirror["metadata"]["labels"]["mirror.linkerd.io/cluster-name"], "east");
    assert_eq!(mirror["metadata"]["labels"]["app"], "store");
    assert_eq!(mirror["spec"]["type"], "ClusterIP");
    assert!(mirror["spec"].get("selector").is_none());
    let endpoints = west.endpoints("store-east", State::Ready).await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "198.18.101.1");
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 4143);
    let message = west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    assert_eq!(message, "");
    west.until_all(
        &gvr::ENDPOINT_SLICES,
        NS,
        "a slice with the gateway's identity",
        |slices| {
            slices.iter().any(|slice| {
                let metadata = &slice["metadata"];
                metadata["labels"]["kubernetes.io/service-name"] == "store-east"
                    && metadata["annotations"]["mirror.linkerd.io/remote-gateway-identity"].is_string()
                    && slice["endpoints"][0]["conditions"]["ready"] == true
            })
        },
    )
    .await;

    unexport(&mesh);
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    west.until_gone(&gvr::ENDPOINTS, NS, "store-east").await;
    west.until_condition("east", "store", None).await;
    west.holds(&gvr::SERVICES, NS, "store-east", 20.0, |mirror| mirror.is_none())
        .await;
}

fn unexport(mesh: &Mesh) {
    let labels = json!({"metadata": {"labels": {"mirror.linkerd.io/exported": null}}});
    mesh["east"].patch(&gvr::SERVICES, NS, "store", labels);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_at_the_target_changes_at_the_mirror() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;

    let changes = json!({
        "metadata": {"annotations": {"note": "new"}, "labels": {"tier": "a", "mirror.linkerd.io/extra": "x"}},
        "spec": {"ports": [{"name": "http", "port": 8090, "targetPort": 8080, "protocol": "TCP"}]}
    });
    east.patch(&gvr::SERVICES, NS, "store", changes);
    let mirror = west
        .until(&gvr::SERVICES, NS, "store-east", "the new port", |mirror| {
            mirror["spec"]["ports"][0]["port"] == 8090
        })
        .await;
    assert_eq!(mirror["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(mirror["metadata"]["annotations"]["note"], "new");
    assert_eq!(mirror["metadata"]["labels"]["tier"], "a");
    assert!(mirror["metadata"]["labels"].get("mirror.linkerd.io/extra").is_none());
    let remote = east.get(&gvr::SERVICES, NS, "store").unwrap();
    assert_eq!(
        mirror["metadata"]["annotations"]["mirror.linkerd.io/remote-resource-version"],
        remote["metadata"]["resourceVersion"]
    );
    west.until(&gvr::ENDPOINTS, NS, "store-east", "one port", |endpoints| {
        endpoints["subsets"][0]["ports"]
            .as_array()
            .is_some_and(|ports| ports.len() == 1)
    })
    .await;

    // Deleted and created again, with other ports and without the annotation.
    east.remove(&gvr::SERVICES, NS, "store");
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    east.until_gone(&gvr::ENDPOINTS, NS, "store").await;
    east.export("store");
    let mirror = west.mirror("store-east").await;
    assert_eq!(mirror["spec"]["ports"].as_array().unwrap().len(), 2);
    assert!(mirror["metadata"]["annotations"].get("note").is_none());
    west.endpoints("store-east", State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_remote_pods() {
    // No repair makes up for what was missed.
    let mesh = Mesh::start(Plan {
        mirror_arguments: &["-endpoint-refresh-period=10h"],
        ..Plan::default()
    })
    .await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.service("store", exported(), Some(false));
    west.endpoints("store-east", State::Empty).await;
    east.set_subsets("store", subsets(true));
    west.endpoints("store-east", State::Ready).await;
    east.set_subsets("store", subsets(false));
    west.endpoints("store-east", State::Empty).await;
    east.set_subsets("store", subsets(true));
    west.endpoints("store-east", State::Ready).await;
    east.set_subsets("store", json!([]));
    west.endpoints("store-east", State::Empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_mirror_endpoints_are_repaired() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    west.set_subsets("store-east", json!([]));
    west.endpoints("store-east", State::Ready).await;
    west.remove(&gvr::ENDPOINTS, NS, "store-east");
    west.endpoints("store-east", State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_namespace_is_reported_and_a_late_one_noticed() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.create(&gvr::NAMESPACES, "", json!({"metadata": {"name": "late"}}));
    east.create(
        &gvr::SERVICES,
        "late",
        json!({"metadata": {"name": "tool", "labels": exported()}, "spec": {"ports": [{"port": 80}]}}),
    );
    let message = west
        .until_condition("east", "tool", Some(("False", "MissingNamespace")))
        .await;
    assert_eq!(message, "Namespace does not exist");
    let events = east
        .until_all(&gvr::EVENTS, "late", "an event", |events| !events.is_empty())
        .await;
    assert_eq!(events[0]["reason"], "ServiceMirroringSkipped");
    assert_eq!(
        events[0]["message"],
        "Skipped mirroring service: namespace does not exist"
    );
    assert_eq!(events[0]["type"], "Normal");
    assert_eq!(events[0]["source"]["component"], "linkerd-service-mirror-east");
    assert_eq!(events[0]["involvedObject"]["name"], "tool");
    assert!(west.get(&gvr::NAMESPACES, "", "late").is_none());

    // Others are mirrored meanwhile.
    east.export("store");
    west.mirror("store-east").await;

    west.create(&gvr::NAMESPACES, "", json!({"metadata": {"name": "late"}}));
    west.until(&gvr::SERVICES, "late", "tool-east", "the late mirror", |_| true)
        .await;
    west.until_condition("east", "tool", Some(("True", "Mirrored"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_too_long_is_an_error_of_its_own() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let long = "a".repeat(60);
    east.export(&long);
    east.export("store");
    west.mirror("store-east").await;
    let message = west.until_condition("east", &long, Some(("False", "Error"))).await;
    assert!(message.starts_with("Failed to create mirror service: "), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_service_of_that_name_is_left_alone() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let own = west.create(
        &gvr::SERVICES,
        NS,
        json!({
            "metadata": {"name": "store-east", "labels": {"owner": "human"}},
            "spec": {"selector": {"app": "mine"}, "ports": [{"port": 7777}]}
        }),
    );
    let untouched = |service: Option<&Value>| {
        service.is_some_and(|service| service["metadata"]["resourceVersion"] == own["metadata"]["resourceVersion"])
    };
    east.export("store");
    west.holds(&gvr::SERVICES, NS, "store-east", 15.0, untouched).await;
    assert_eq!(west.condition("east", "store"), None);
    east.remove(&gvr::SERVICES, NS, "store");
    west.holds(&gvr::SERVICES, NS, "store-east", 15.0, untouched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_modelled_is_refused_visibly() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.service(
        "flat",
        json!({"mirror.linkerd.io/exported": "remote-discovery"}),
        Some(true),
    );
    let message = west
        .until_condition("east", "flat", Some(("False", "InvalidService")))
        .await;
    assert!(message.contains("not modelled"), "{message}");
    east.service("member", json!({"mirror.linkerd.io/federated": "member"}), Some(true));
    west.until(&LINKS, crate::support::MC, "east", "a refused member", |link| {
        let condition = &link["status"]["federatedServices"][0]["conditions"][0];
        condition["status"] == "False"
            && condition["message"]
                .as_str()
                .is_some_and(|message| message.contains("not modelled"))
    })
    .await;
    for name in ["flat-east", "member-federated"] {
        west.holds(&gvr::SERVICES, NS, name, 3.0, |mirror| mirror.is_none())
            .await;
    }
    east.remove(&gvr::SERVICES, NS, "flat");
    east.remove(&gvr::SERVICES, NS, "member");
    west.until_condition("east", "flat", None).await;
    west.until(&LINKS, crate::support::MC, "east", "no member", |link| {
        link["status"]["federatedServices"].as_array().is_none_or(Vec::is_empty)
    })
    .await;
}
