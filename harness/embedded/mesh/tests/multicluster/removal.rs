//! Unlinking, linking again and uninstalling.

use meshproof_apiserver::gvr;
use meshproof_mesh::install::{gateway_api_crds, uninstall, uninstall_control_plane};
use serde_json::json;

use crate::support::{MC, Mesh, NS, Plan, State, pair, triangle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlinking_leaves_nothing_and_linking_again_works() {
    let mesh = Mesh::start(Plan {
        links: &[],
        ..Plan::default()
    })
    .await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let (west_before, east_before) = (west.inventory().await, east.inventory().await);

    for round in 0..2 {
        mesh.install_controllers("west", &["east"]).await;
        mesh.link("west", "east").await;
        east.export("store");
        west.endpoints("store-east", State::Ready).await;
        if round == 1 {
            west.until(&gvr::SERVICES, NS, "store-east", "the content of today", |mirror| {
                mirror["metadata"]["annotations"]["round"].is_null()
            })
            .await;
        }
        let during = west.inventory().await;
        assert!(during.contains("Link linkerd-multicluster/east"));
        assert!(during.contains("Lease linkerd-multicluster/service-mirror-write-east"));

        mesh.unlink("west", "east").await;
        west.until_inventory(&west_before).await;
        west.holds(&gvr::SERVICES, NS, "store-east", 20.0, |mirror| mirror.is_none())
            .await;
        east.remove(&gvr::SERVICES, NS, "store");
        east.until_inventory(&east_before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlinking_one_cluster_leaves_the_other_alone() {
    let mesh = triangle(&[]).await;
    let west = &mesh["west"];
    for target in ["east", "north"] {
        mesh[target].export("store");
        west.endpoints(&format!("store-{target}"), State::Ready).await;
    }
    let bystander = west.get(&gvr::SERVICES, NS, "store-north").unwrap();
    mesh.unlink("west", "east").await;
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    west.holds(&gvr::SERVICES, NS, "store-north", 20.0, |mirror| {
        mirror.is_some_and(|mirror| mirror["metadata"]["uid"] == bystander["metadata"]["uid"])
    })
    .await;
    // And it is still looked after.
    mesh["north"].patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"metadata": {"annotations": {"note": "new"}}}),
    );
    west.until(&gvr::SERVICES, NS, "store-north", "the note", |mirror| {
        mirror["metadata"]["annotations"]["note"] == "new"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_link_cannot_be_removed() {
    let mesh = pair(&[]).await;
    let error = meshproof_mesh::install::unlink(&mesh["west"].client, &mesh.model.defects(), "nosuch")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("links.multicluster.linkerd.io \"nosuch\" not found"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_waits_for_unlinking_and_then_leaves_nothing() {
    let mesh = pair(&[]).await;
    let west = &mesh["west"];
    let defects = mesh.model.defects();
    let error = uninstall(&west.client, &defects).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Please unlink the following clusters before uninstalling multicluster:\n  * east"
    );
    mesh.unlink("west", "east").await;
    let mut objects = uninstall(&west.client, &defects).await.unwrap();
    objects.extend(uninstall_control_plane(&west.client).await.unwrap());
    objects.extend(gateway_api_crds(&defects));
    west.delete(&objects).await;

    let bare = Mesh::bare().await;
    west.until_inventory(&bare).await;
    assert!(west.list(&gvr::PODS, MC).is_empty());
}
