//! What the real service mirror was seen to leave behind: the clean model makes up for it, each defect does as the real one.

use meshproof_apiserver::gvr;
use meshproof_mesh::defect::Defect;
use rstest::rstest;
use serde_json::{Value, json};

use crate::lifecycle::allow_verbs;
use crate::support::{LINKS, MC, Mesh, NS, Plan, State, exported, pair, subsets};

const ALL_VERBS: [&str; 6] = ["list", "get", "watch", "create", "delete", "update"];

async fn with(defect: Option<Defect>) -> Mesh {
    pair(defect.as_slice()).await
}

fn unexport(mesh: &Mesh, service: &str) {
    let label = json!({"metadata": {"labels": {"mirror.linkerd.io/exported": null}}});
    mesh["east"].patch(&gvr::SERVICES, NS, service, label);
}

fn touch(mesh: &Mesh, service: &str) {
    let annotation = json!({"metadata": {"annotations": {"touched": "yes"}}});
    mesh["east"].patch(&gvr::SERVICES, NS, service, annotation);
}

/// A mesh whose service mirror repairs nothing any more while a test lasts, with an exported Service `plain`.
async fn without_repairs(defect: Option<Defect>) -> Mesh {
    let mesh = Mesh::start(Plan {
        defects: defect.as_slice(),
        mirror_arguments: &["-endpoint-refresh-period=10h"],
        ..Plan::default()
    })
    .await;
    // One at the start, one for what the first probes say.
    mesh["west"]
        .until_metric(
            "east",
            "service_mirror_endpoint_repairs{target_cluster_name=\"east\"}",
            |repairs| repairs == 2.0,
        )
        .await;
    mesh["east"].export("plain");
    mesh["west"].endpoints("plain-east", State::Ready).await;
    mesh
}

fn is_listed(link: Option<&Value>, service: &str) -> bool {
    let listed = link.and_then(|link| link["status"]["mirrorServices"].as_array());
    listed.is_some_and(|entries| entries.iter().any(|entry| entry["remoteRef"]["name"] == service))
}

async fn lists(mesh: &Mesh, service: &str, listed: bool) {
    mesh["west"]
        .until(&LINKS, MC, "east", &format!("{service} listed: {listed}"), |link| {
            is_listed(Some(link), service) == listed
        })
        .await;
    mesh["west"]
        .holds(&LINKS, MC, "east", 10.0, |link| is_listed(link, service) == listed)
        .await;
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamLastStatusEntryStays))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_entry_of_the_status(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    for service in ["store", "depot"] {
        mesh["east"].export(service);
        mesh["west"]
            .until_condition("east", service, Some(("True", "Mirrored")))
            .await;
    }
    unexport(&mesh, "depot");
    lists(&mesh, "depot", false).await;
    unexport(&mesh, "store");
    mesh["west"].until_gone(&gvr::SERVICES, NS, "store-east").await;
    lists(&mesh, "store", defect.is_some()).await;
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamOrphansStatusEntryStays))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entry_of_what_went_while_nobody_watched(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    for service in ["store", "depot"] {
        mesh["east"].export(service);
        mesh["west"]
            .until_condition("east", service, Some(("True", "Mirrored")))
            .await;
    }
    mesh["west"].stop("controller-east").await;
    mesh["east"].remove(&gvr::SERVICES, NS, "depot");
    mesh["west"].start("controller-east").await;
    mesh["west"].until_gone(&gvr::SERVICES, NS, "depot-east").await;
    lists(&mesh, "depot", defect.is_some()).await;
    assert!(mesh["west"].condition("east", "store").is_some());
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamAdoptedMirrorNotListed))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_a_new_link_finds(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    let west = &mesh["west"];
    mesh["east"].export("store");
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    let link = west.get(&LINKS, MC, "east").unwrap();
    west.remove(&LINKS, MC, "east");
    west.until_gone(&LINKS, MC, "east").await;
    west.create(
        &LINKS,
        MC,
        json!({"metadata": {"name": "east"}, "spec": link["spec"].clone()}),
    );
    // Its controller is at work again.
    mesh["east"].export("control");
    west.until_condition("east", "control", Some(("True", "Mirrored")))
        .await;
    lists(&mesh, "store", defect.is_none()).await;
    touch(&mesh, "store");
    lists(&mesh, "store", true).await;
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamUnfinishedExportForgotten))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_made_while_the_gateway_had_no_address(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    let west = &mesh["west"];
    let address = |address: &str| west.patch(&LINKS, MC, "east", json!({"spec": {"gatewayAddress": address}}));
    address("nosuch.example");
    mesh["east"].export("store");
    west.until_condition("east", "store", Some(("False", "Error"))).await;
    address("198.18.101.1");
    if defect.is_none() {
        west.endpoints("store-east", State::Ready).await;
        west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    } else {
        mesh["east"].export("control");
        west.endpoints("control-east", State::Ready).await;
        west.holds(&gvr::ENDPOINTS, NS, "store-east", 65.0, |endpoints| endpoints.is_none())
            .await;
        touch(&mesh, "store");
        west.endpoints("store-east", State::Ready).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirror_endpoints_that_somebody_deleted_stay_away() {
    let mesh = with(Some(Defect::UpstreamDeletedEndpointsStay)).await;
    let west = &mesh["west"];
    for service in ["store", "depot"] {
        mesh["east"].export(service);
        west.endpoints(&format!("{service}-east"), State::Ready).await;
    }
    west.remove(&gvr::ENDPOINTS, NS, "store-east");
    west.set_subsets("depot-east", json!([]));
    west.endpoints("depot-east", State::Ready).await;
    west.holds(&gvr::ENDPOINTS, NS, "store-east", 5.0, |endpoints| endpoints.is_none())
        .await;
    touch(&mesh, "store");
    west.endpoints("store-east", State::Ready).await;
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamRemoteEndpointsMissed))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_headless_services_and_such_as_go_as_a_whole(#[case] defect: Option<Defect>) {
    let mesh = without_repairs(defect).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let mut labels = exported();
    labels["service.kubernetes.io/headless"] = "".into();
    for service in ["store", "depot"] {
        let labels = if service == "store" { labels.clone() } else { exported() };
        east.service(service, labels, Some(true));
        west.endpoints(&format!("{service}-east"), State::Ready).await;
    }
    east.set_subsets("store", json!([]));
    east.remove(&gvr::ENDPOINTS, NS, "depot");
    east.set_subsets("plain", json!([]));
    // One worker does all in order: what was to be done about the others has been done.
    west.endpoints("plain-east", State::Empty).await;
    let expected = if defect.is_some() { State::Ready } else { State::Empty };
    for mirror in ["store-east", "depot-east"] {
        let endpoints = west.get(&gvr::ENDPOINTS, NS, mirror).unwrap();
        assert_eq!(State::of(&endpoints), expected, "{mirror}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_whose_end_was_missed_go_with_the_next_repair() {
    let mesh = with(Some(Defect::UpstreamRemoteEndpointsMissed)).await;
    mesh["east"].export("store");
    mesh["west"].endpoints("store-east", State::Ready).await;
    mesh["east"].remove(&gvr::ENDPOINTS, NS, "store");
    mesh["west"].endpoints("store-east", State::Empty).await;
}

#[rstest]
#[case(None, State::Empty)]
#[case(Some(Defect::UpstreamUpdateFillsEmptyEndpoints), State::Ready)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_service_without_pods(#[case] defect: Option<Defect>, #[case] expected: State) {
    let mesh = without_repairs(defect).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.set_subsets("plain", json!([]));
    west.endpoints("plain-east", State::Empty).await;
    touch(&mesh, "plain");
    west.until(&gvr::SERVICES, NS, "plain-east", "the touch", |mirror| {
        mirror["metadata"]["annotations"]["touched"] == "yes"
    })
    .await;
    // Endpoints are written before the Service.
    let endpoints = west.get(&gvr::ENDPOINTS, NS, "plain-east").unwrap();
    assert_eq!(State::of(&endpoints), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_a_change_of_the_service_filled_are_emptied_by_the_next_repair() {
    let mesh = with(Some(Defect::UpstreamUpdateFillsEmptyEndpoints)).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    east.set_subsets("store", json!([]));
    west.endpoints("store-east", State::Empty).await;
    touch(&mesh, "store");
    west.until(&gvr::SERVICES, NS, "store-east", "the touch", |mirror| {
        mirror["metadata"]["annotations"]["touched"] == "yes"
    })
    .await;
    west.endpoints("store-east", State::Empty).await;
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamQueuedExportsCollide))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_changes_while_its_export_waits(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("control");
    west.until_condition("east", "control", Some(("True", "Mirrored")))
        .await;
    // So many that the controller has to wait for its client's rate.
    for number in 0..8 {
        east.service(&format!("busy-{number}"), exported(), None);
    }
    east.service("store", exported(), None);
    for port in [8090, 8099] {
        let ports = json!({"spec": {"ports": [{"name": "http", "port": port, "protocol": "TCP"}]}});
        east.patch(&gvr::SERVICES, NS, "store", ports);
    }
    let first = west.mirror("store-east").await;
    if defect.is_some() {
        west.until_gone(&gvr::SERVICES, NS, "store-east").await;
        return;
    }
    let kept = |mirror: Option<&Value>| {
        mirror.is_some_and(|mirror| {
            mirror["metadata"]["uid"] == first["metadata"]["uid"] && mirror["spec"]["ports"][0]["port"] == 8099
        })
    };
    west.until(&gvr::SERVICES, NS, "store-east", "the last port", |mirror| {
        kept(Some(mirror))
    })
    .await;
    west.holds(&gvr::SERVICES, NS, "store-east", 10.0, kept).await;
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamDeniedDeleteGivenUp))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_could_not_be_deleted(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    for service in ["store", "depot"] {
        east.export(service);
        west.endpoints(&format!("{service}-east"), State::Ready).await;
    }
    allow_verbs(&mesh, &ALL_VERBS, &["list", "get", "watch", "create", "update"]);
    unexport(&mesh, "store");
    east.remove(&gvr::SERVICES, NS, "depot");
    for service in ["store", "depot"] {
        west.until_condition("east", service, None).await;
    }
    west.holds(&gvr::SERVICES, NS, "store-east", 5.0, |mirror| mirror.is_some())
        .await;
    allow_verbs(&mesh, &ALL_VERBS, &ALL_VERBS);
    for mirror in ["store-east", "depot-east"] {
        if defect.is_some() {
            west.holds(&gvr::SERVICES, NS, mirror, 35.0, |mirror| mirror.is_some())
                .await;
        } else {
            west.until_gone(&gvr::SERVICES, NS, mirror).await;
        }
    }
}

#[rstest]
#[case(None)]
#[case(Some(Defect::UpstreamDeniedEndpointsUndoMirror))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_whose_endpoints_could_not_be_created(#[case] defect: Option<Defect>) {
    let mesh = with(defect).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    allow_verbs(&mesh, &["list", "get", "watch", "update", "delete"], &ALL_VERBS);
    east.export("store");
    let message = west.until_condition("east", "store", Some(("False", "Error"))).await;
    let start = "Failed to create mirror endpoints: Inner errors:\n\tfailed to create mirror endpoints for shop/store-east: \
                 endpoints is forbidden: ";
    assert!(message.starts_with(start), "{message}");
    // All tries are over.
    west.holds(&gvr::ENDPOINTS, NS, "store-east", 5.0, |endpoints| endpoints.is_none())
        .await;
    assert_eq!(west.get(&gvr::SERVICES, NS, "store-east").is_none(), defect.is_some());
    allow_verbs(&mesh, &ALL_VERBS, &ALL_VERBS);
    if defect.is_some() {
        west.holds(&gvr::SERVICES, NS, "store-east", 35.0, |mirror| mirror.is_none())
            .await;
        east.set_subsets("store", subsets(true));
        touch(&mesh, "store");
    }
    west.endpoints("store-east", State::Ready).await;
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
}
