//! Every defect of the control side does what its sentence says.

use meshproof_apiserver::gvr;
use meshproof_cluster::fabric::PathSelector;
use meshproof_mesh::defect::Defect;
use meshproof_mesh::install::{GatewayServiceType, GatewayValues, MulticlusterValues, uninstall};
use rstest::rstest;
use serde_json::{Value, json};

use crate::lifecycle::{allow_service_verbs, rotate_credentials, steal_lease};
use crate::support::{LINKS, MC, Mesh, NS, Plan, State, exported, pair, subsets, triangle};

const ALL_VERBS: [&str; 6] = ["list", "get", "watch", "create", "delete", "update"];

fn absent(object: Option<&Value>) -> bool {
    object.is_none()
}

fn present(object: Option<&Value>) -> bool {
    object.is_some()
}

#[rstest]
#[case(
    Defect::MirrorMetadataMissing,
    "/metadata/annotations/mirror.linkerd.io~1remote-svc-fq-name",
    false
)]
#[case(Defect::SelectorCopied, "/spec/selector/app", true)]
#[case(Defect::SecondPortDropped, "/spec/ports/1", false)]
#[case(Defect::ReservedLabelsCopied, "/metadata/labels/mirror.linkerd.io~1note", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_wrong(#[case] defect: Defect, #[case] pointer: &str, #[case] wrongly_there: bool) {
    let mesh = pair(&[defect]).await;
    mesh["east"].create(
        &gvr::SERVICES,
        NS,
        json!({
            "metadata": {"name": "store", "labels": {"mirror.linkerd.io/exported": "true", "mirror.linkerd.io/note": "x"}},
            "spec": {"selector": {"app": "store"}, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}
        }),
    );
    let mirror = mesh["west"].mirror("store-east").await;
    assert_eq!(mirror.pointer(pointer).is_some(), wrongly_there, "{mirror:#?}");
}

#[rstest]
#[case(
    Defect::GatewayIdentityMissingOnEndpoints,
    "/metadata/annotations/mirror.linkerd.io~1remote-gateway-identity",
    false
)]
#[case(
    Defect::SlicesNotMirrored,
    "/metadata/labels/endpointslice.kubernetes.io~1skip-mirror",
    true
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirror_endpoints_are_wrong(#[case] defect: Defect, #[case] pointer: &str, #[case] wrongly_there: bool) {
    let mesh = pair(&[defect]).await;
    mesh["east"].export("store");
    let endpoints = mesh["west"].endpoints("store-east", State::Ready).await;
    assert_eq!(endpoints.pointer(pointer).is_some(), wrongly_there);
    if defect == Defect::SlicesNotMirrored {
        let slices = mesh["west"].list(&gvr::ENDPOINT_SLICES, NS);
        assert!(slices.is_empty(), "{slices:#?}");
    }
}

#[rstest]
#[case(Defect::AnnotationExports, json!({"annotations": {"mirror.linkerd.io/exported": "true"}}))]
#[case(Defect::AnyLabelValueExports, json!({"labels": {"mirror.linkerd.io/exported": "no"}}))]
#[case(Defect::UnlabelledExports, json!({"labels": {"app": "store"}}))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_exported_that_should_not_be(#[case] defect: Defect, #[case] mut metadata: Value) {
    let mesh = pair(&[]).await;
    metadata["name"] = "store".into();
    mesh["east"].create(
        &gvr::SERVICES,
        NS,
        json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}}),
    );
    mesh["east"].export("control");
    mesh["west"].mirror("control-east").await;
    mesh["west"].holds(&gvr::SERVICES, NS, "store-east", 5.0, absent).await;
    mesh.model.set_defects([defect].into_iter().collect());
    mesh["east"].patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"metadata": {"annotations": {"touched": "yes"}}}),
    );
    mesh["west"].mirror("store-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_ignored() {
    let mesh = pair(&[Defect::ExportsIgnored]).await;
    mesh["east"].export("store");
    mesh["west"].holds(&gvr::SERVICES, NS, "store-east", 20.0, absent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_selector_selects_all() {
    let mesh = pair(&[Defect::EmptySelectorSelectsAll]).await;
    mesh["east"].service("plain", json!({}), Some(true));
    mesh["west"].holds(&gvr::SERVICES, NS, "plain-east", 5.0, absent).await;
    mesh["west"].patch(&LINKS, MC, "east", json!({"spec": {"selector": null}}));
    mesh["west"].mirror("plain-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_edits_ignored() {
    let mesh = pair(&[Defect::LinkEditsIgnored]).await;
    mesh["east"].export("store");
    mesh["west"].mirror("store-east").await;
    let nothing = json!({"spec": {"selector": {"matchLabels": {"mirror.linkerd.io/exported": "nothing"}}}});
    mesh["west"].patch(&LINKS, MC, "east", nothing);
    mesh["west"]
        .holds(&gvr::SERVICES, NS, "store-east", 20.0, present)
        .await;
}

#[rstest]
#[case(Defect::OnlyFirstGatewayAddress, "198.18.101.1,198.18.101.9")]
#[case(Defect::GatewayAddressPortStripped, "198.18.101.1:4143")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_addresses_are_misread(#[case] defect: Defect, #[case] addresses: &str) {
    let mesh = pair(&[defect]).await;
    mesh["west"].patch(&LINKS, MC, "east", json!({"spec": {"gatewayAddress": addresses}}));
    mesh["east"].export("store");
    let endpoints = mesh["west"].endpoints("store-east", State::Ready).await;
    assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "198.18.101.1"}]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_period_unchecked() {
    for (defects, admitted) in [(&[][..], false), (&[Defect::LinkPeriodUnchecked][..], true)] {
        let mesh = pair(defects).await;
        let patch = meshproof_apiserver::store::Patch::Merge(json!({"spec": {"probeSpec": {"period": "often"}}}));
        let result = mesh["west"].cluster.store().patch(&LINKS, Some(MC), "east", &patch);
        assert_eq!(result.is_ok(), admitted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_credentials_never_retried() {
    let mesh = Mesh::start(Plan {
        links: &[],
        defects: &[Defect::MissingCredentialsNeverRetried],
        ..Plan::default()
    })
    .await;
    mesh["east"].export("store");
    mesh.install_controllers("west", &["east"]).await;
    mesh["west"].deployments_available(MC).await;
    let manifests = mesh.link_manifests("east").await;
    mesh["west"].apply(&manifests[2..]).await;
    tokio::time::sleep(Mesh::wall(10.0)).await;
    mesh["west"].apply(&manifests[..2]).await;
    mesh["west"].holds(&gvr::SERVICES, NS, "store-east", 25.0, absent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespace_created_silently() {
    let mesh = pair(&[Defect::NamespaceCreatedSilently]).await;
    mesh["east"].create(&gvr::NAMESPACES, "", json!({"metadata": {"name": "late"}}));
    mesh["east"].create(
        &gvr::SERVICES,
        "late",
        json!({"metadata": {"name": "tool", "labels": exported()}, "spec": {"ports": [{"port": 80}]}}),
    );
    mesh["west"]
        .until(&gvr::SERVICES, "late", "tool-east", "a mirror", |_| true)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_namespace_ignored() {
    let mesh = pair(&[Defect::LateNamespaceIgnored]).await;
    mesh["east"].create(&gvr::NAMESPACES, "", json!({"metadata": {"name": "late"}}));
    mesh["east"].create(
        &gvr::SERVICES,
        "late",
        json!({"metadata": {"name": "tool", "labels": exported()}, "spec": {"ports": [{"port": 80}]}}),
    );
    mesh["west"]
        .until_condition("east", "tool", Some(("False", "MissingNamespace")))
        .await;
    mesh["west"].create(&gvr::NAMESPACES, "", json!({"metadata": {"name": "late"}}));
    mesh["west"]
        .holds(&gvr::SERVICES, "late", "tool-east", 20.0, absent)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_of_mirrors() {
    for (defects, chained) in [(&[][..], false), (&[Defect::MirrorsOfMirrors][..], true)] {
        let mesh = Mesh::start(Plan {
            clusters: &["west", "east", "north"],
            links: &[("west", "east"), ("north", "west")],
            defects,
            ..Plan::default()
        })
        .await;
        mesh["east"].export("store");
        mesh["west"].mirror("store-east").await;
        if chained {
            mesh["north"].mirror("store-east-west").await;
            // The chain ends there.
            mesh["west"]
                .holds(&gvr::SERVICES, NS, "store-east-west-north", 3.0, absent)
                .await;
        } else {
            mesh["north"]
                .holds(&gvr::SERVICES, NS, "store-east-west", 15.0, absent)
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_target_overwrites_first() {
    let mesh = triangle(&[Defect::SecondTargetOverwritesFirst]).await;
    mesh["east"].export("store");
    mesh["west"].mirror("store-east").await;
    mesh["north"].export("store");
    mesh["west"]
        .until(&gvr::SERVICES, NS, "store-east", "taken over", |mirror| {
            mirror["metadata"]["labels"]["mirror.linkerd.io/cluster-name"] == "north"
        })
        .await;
    mesh["west"]
        .until(&gvr::ENDPOINTS, NS, "store-east", "the other gateway", |endpoints| {
            endpoints["subsets"][0]["addresses"][0]["ip"] == "198.18.102.1"
        })
        .await;
    assert!(mesh["west"].get(&gvr::SERVICES, NS, "store-north").is_none());
}

fn own_service(mesh: &Mesh) {
    mesh["west"].create(
        &gvr::SERVICES,
        NS,
        json!({"metadata": {"name": "store-east", "labels": {"owner": "human"}}, "spec": {"ports": [{"port": 7777}]}}),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_service_adopted() {
    let mesh = pair(&[Defect::UserServiceAdopted]).await;
    own_service(&mesh);
    mesh["east"].export("store");
    mesh["west"]
        .until(&gvr::SERVICES, NS, "store-east", "taken over", |service| {
            service["metadata"]["labels"]["mirror.linkerd.io/mirrored-service"] == "true"
                && service["spec"]["ports"][0]["port"] == 8080
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_user_service_deleted() {
    let mesh = pair(&[Defect::UpstreamUserServiceDeleted]).await;
    own_service(&mesh);
    mesh["east"].export("store");
    // Unexporting spares it, as on the real mesh; deleting does not.
    let label = |value: Value| {
        mesh["east"].patch(
            &gvr::SERVICES,
            NS,
            "store",
            json!({"metadata": {"labels": {"mirror.linkerd.io/exported": value}}}),
        );
    };
    label(Value::Null);
    mesh["west"].holds(&gvr::SERVICES, NS, "store-east", 5.0, present).await;
    label("true".into());
    mesh["east"].remove(&gvr::SERVICES, NS, "store");
    mesh["west"].until_gone(&gvr::SERVICES, NS, "store-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_name_wedges_queue() {
    let mesh = pair(&[Defect::LongNameWedgesQueue]).await;
    mesh["east"].export("before");
    mesh["west"].mirror("before-east").await;
    mesh["east"].export(&"a".repeat(60));
    tokio::time::sleep(Mesh::wall(3.0)).await;
    mesh["east"].export("after");
    mesh["west"].holds(&gvr::SERVICES, NS, "after-east", 15.0, absent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_status_stale() {
    let mesh = pair(&[Defect::LinkStatusStale]).await;
    mesh["east"].export("store");
    mesh["west"]
        .until_condition("east", "store", Some(("True", "Mirrored")))
        .await;
    mesh["east"].remove(&gvr::SERVICES, NS, "store");
    mesh["west"].until_gone(&gvr::SERVICES, NS, "store-east").await;
    mesh["west"]
        .holds(&LINKS, MC, "east", 10.0, |link| {
            link.is_some_and(|link| {
                link["status"]["mirrorServices"]
                    .as_array()
                    .is_some_and(|all| all.len() == 1)
            })
        })
        .await;
}

#[rstest]
#[case(
    Defect::PortUpdatesIgnored,
    json!({"spec": {"ports": [{"name": "http", "port": 8090, "protocol": "TCP"}]}}),
    "/spec/ports/0/port",
    json!(8080)
)]
#[case(
    Defect::AnnotationUpdatesIgnored,
    json!({"metadata": {"annotations": {"note": "new"}}}),
    "/metadata/annotations/note",
    Value::Null
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_ignored(#[case] defect: Defect, #[case] change: Value, #[case] pointer: &str, #[case] old: Value) {
    let mesh = pair(&[defect]).await;
    mesh["east"].export("store");
    mesh["west"]
        .until_condition("east", "store", Some(("True", "Mirrored")))
        .await;
    mesh["east"].patch(&gvr::SERVICES, NS, "store", change);
    mesh["west"]
        .holds(&gvr::SERVICES, NS, "store-east", 15.0, |mirror| {
            mirror.is_some_and(|mirror| *mirror.pointer(pointer).unwrap_or(&Value::Null) == old)
        })
        .await;
    // Something was written all the same: only this part is missing.
    let remote = mesh["east"].get(&gvr::SERVICES, NS, "store").unwrap();
    mesh["west"]
        .until(&gvr::SERVICES, NS, "store-east", "the remote version", |mirror| {
            mirror["metadata"]["annotations"]["mirror.linkerd.io/remote-resource-version"]
                == remote["metadata"]["resourceVersion"]
        })
        .await;
}

fn unexport(mesh: &Mesh) {
    mesh["east"].patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"metadata": {"labels": {"mirror.linkerd.io/exported": null}}}),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unexport_ignored() {
    let mesh = pair(&[Defect::UnexportIgnored]).await;
    mesh["east"].export("store");
    mesh["west"].mirror("store-east").await;
    unexport(&mesh);
    mesh["west"]
        .holds(&gvr::SERVICES, NS, "store-east", 20.0, present)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unexported_mirror_returns() {
    let mesh = pair(&[Defect::UnexportedMirrorReturns]).await;
    mesh["east"].export("store");
    mesh["west"].mirror("store-east").await;
    unexport(&mesh);
    mesh["west"].until_gone(&gvr::SERVICES, NS, "store-east").await;
    mesh["west"].mirror("store-east").await;
    // It does not outlive the remote Service.
    mesh["east"].remove(&gvr::SERVICES, NS, "store");
    mesh["west"].until_gone(&gvr::SERVICES, NS, "store-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_deletion_ignored() {
    let mesh = pair(&[Defect::RemoteDeletionIgnored]).await;
    mesh["east"].export("store");
    mesh["west"].mirror("store-east").await;
    mesh["east"].remove(&gvr::SERVICES, NS, "store");
    mesh["west"]
        .holds(&gvr::SERVICES, NS, "store-east", 20.0, present)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_while_down_missed() {
    let mesh = pair(&[Defect::ChangesWhileDownMissed]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    west.stop("controller-east").await;
    let note = |text: &str| {
        east.patch(
            &gvr::SERVICES,
            NS,
            "store",
            json!({"metadata": {"annotations": {"note": text}}}),
        );
    };
    note("missed");
    west.start("controller-east").await;
    west.holds(&gvr::SERVICES, NS, "store-east", 20.0, |mirror| {
        mirror.is_some_and(|mirror| mirror["metadata"]["annotations"]["note"].is_null())
    })
    .await;
    note("seen");
    west.until(&gvr::SERVICES, NS, "store-east", "the next change", |mirror| {
        mirror["metadata"]["annotations"]["note"] == "seen"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_orphan_collection_at_start() {
    let mesh = pair(&[Defect::NoOrphanCollectionAtStart]).await;
    mesh["east"].export("store");
    mesh["west"].mirror("store-east").await;
    mesh["west"].stop("controller-east").await;
    mesh["east"].remove(&gvr::SERVICES, NS, "store");
    mesh["west"].start("controller-east").await;
    mesh["west"]
        .holds(&gvr::SERVICES, NS, "store-east", 20.0, present)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_service_stuck() {
    let mesh = pair(&[Defect::RecreatedServiceStuck]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.mirror("store-east").await;
    east.remove(&gvr::SERVICES, NS, "store");
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    east.create(
        &gvr::SERVICES,
        NS,
        json!({"metadata": {"name": "store", "labels": exported()}, "spec": {"ports": [{"name": "http", "port": 9999}]}}),
    );
    let mirror = west.mirror("store-east").await;
    assert_eq!(mirror["spec"]["ports"][0]["port"], 8080);
    west.holds(&gvr::SERVICES, NS, "store-east", 10.0, |mirror| {
        mirror.is_some_and(|mirror| mirror["spec"]["ports"][0]["port"] == 8080)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relink_keeps_stale_mirror() {
    let mesh = pair(&[Defect::RelinkKeepsStaleMirror]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.mirror("store-east").await;
    mesh.unlink("west", "east").await;
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    east.patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"spec": {"ports": [{"name": "http", "port": 9999, "protocol": "TCP"}]}}),
    );
    mesh.install_controllers("west", &["east"]).await;
    mesh.link("west", "east").await;
    west.mirror("store-east").await;
    west.holds(&gvr::SERVICES, NS, "store-east", 10.0, |mirror| {
        mirror.is_some_and(|mirror| mirror["spec"]["ports"][0]["port"] == 8080)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_kept_when_remote_empty() {
    let mesh = pair(&[Defect::EndpointsKeptWhenRemoteEmpty]).await;
    mesh["east"].export("store");
    mesh["west"].endpoints("store-east", State::Ready).await;
    mesh["east"].set_subsets("store", json!([]));
    let ready = |endpoints: Option<&Value>| endpoints.is_some_and(|e| State::of(e) == State::Ready);
    mesh["west"].holds(&gvr::ENDPOINTS, NS, "store-east", 65.0, ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unready_pods_counted() {
    let mesh = pair(&[Defect::UnreadyPodsCounted]).await;
    mesh["east"].export("store");
    mesh["west"].endpoints("store-east", State::Ready).await;
    mesh["east"].set_subsets("store", subsets(false));
    let ready = |endpoints: Option<&Value>| endpoints.is_some_and(|e| State::of(e) == State::Ready);
    mesh["west"].holds(&gvr::ENDPOINTS, NS, "store-east", 20.0, ready).await;
    mesh["east"].set_subsets("store", json!([]));
    mesh["west"].endpoints("store-east", State::Empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_repair_off() {
    let mesh = pair(&[Defect::EndpointsRepairOff]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    west.until_metric("east", "gateway_alive{target_cluster_name=\"east\"}", |alive| {
        alive == 1.0
    })
    .await;
    west.set_subsets("store-east", json!([]));
    let empty = |endpoints: Option<&Value>| endpoints.is_some_and(|e| State::of(e) == State::Empty);
    west.holds(&gvr::ENDPOINTS, NS, "store-east", 65.0, empty).await;
    // A gateway's end is still followed.
    east.stop("linkerd-gateway").await;
    west.endpoints("store-east", State::NotReady).await;
}

const ALIVE: &str = "gateway_alive{target_cluster_name=\"east\"}";
const PROBES: &str = "gateway_probes{probe_successful=\"true\",target_cluster_name=\"east\"}";
const FAILED: &str = "gateway_probes{probe_successful=\"false\",target_cluster_name=\"east\"}";

fn is(state: State) -> impl Fn(Option<&Value>) -> bool {
    move |endpoints| endpoints.is_some_and(|endpoints| State::of(endpoints) == state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_alive_lost_with_mirrors() {
    let mesh = pair(&[Defect::GatewayAliveLostWithMirrors]).await;
    mesh["west"].until_metric("east", PROBES, |probes| probes >= 3.0).await;
    assert_eq!(mesh["west"].controller_metric("east", ALIVE).await, Some(1.0));
    mesh["east"].export("store");
    mesh["west"].until_metric("east", ALIVE, |alive| alive == 0.0).await;
    // Mirrors are not concerned.
    mesh["west"].endpoints("store-east", State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_outage_undetected() {
    let mesh = pair(&[Defect::GatewayOutageUndetected]).await;
    mesh["east"].export("store");
    mesh["west"].endpoints("store-east", State::Ready).await;
    mesh["west"].until_metric("east", ALIVE, |alive| alive == 1.0).await;
    mesh["east"].stop("linkerd-gateway").await;
    mesh["west"].until_metric("east", FAILED, |failed| failed >= 3.0).await;
    mesh["west"]
        .holds(&gvr::ENDPOINTS, NS, "store-east", 30.0, is(State::Ready))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_recovery_unnoticed() {
    let mesh = pair(&[Defect::GatewayRecoveryUnnoticed]).await;
    mesh["east"].export("store");
    mesh["west"].until_metric("east", ALIVE, |alive| alive == 1.0).await;
    mesh["east"].stop("linkerd-gateway").await;
    mesh["west"].endpoints("store-east", State::NotReady).await;
    mesh["east"].start("linkerd-gateway").await;
    mesh["west"]
        .holds(&gvr::ENDPOINTS, NS, "store-east", 25.0, is(State::NotReady))
        .await;
    assert_eq!(mesh["west"].controller_metric("east", ALIVE).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_failed_probe_flips() {
    for (defects, flips) in [(&[][..], false), (&[Defect::FirstFailedProbeFlips][..], true)] {
        let mesh = pair(defects).await;
        // Slow probes leave time to fail just one of them: the gateway is back before the next.
        mesh["west"].patch(&LINKS, MC, "east", json!({"spec": {"probeSpec": {"period": "20s"}}}));
        mesh["east"].export("store");
        mesh["west"].until_metric("east", PROBES, |probes| probes >= 1.0).await;
        mesh["west"].endpoints("store-east", State::Ready).await;
        mesh["east"].stop("linkerd-gateway").await;
        if flips {
            mesh["west"].endpoints("store-east", State::NotReady).await;
        } else {
            mesh["west"]
                .holds(&gvr::ENDPOINTS, NS, "store-east", 30.0, is(State::Ready))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_dead_gateway_turns_ready() {
    let mesh = pair(&[Defect::UpstreamDeadGatewayTurnsReady]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    // A true outage is noticed, as on the real mesh.
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
    east.stop("linkerd-gateway").await;
    west.endpoints("store-east", State::NotReady).await;
    west.stop("controller-east").await;
    west.start("controller-east").await;
    west.endpoints("store-east", State::Ready).await;
    west.until_metric("east", FAILED, |failed| failed >= 2.0).await;
    assert_eq!(west.controller_metric("east", ALIVE).await, Some(0.0));
    west.holds(&gvr::ENDPOINTS, NS, "store-east", 30.0, is(State::Ready))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_blips_unready() {
    let mesh = pair(&[Defect::RestartBlipsUnready]).await;
    let west = &mesh["west"];
    mesh["east"].export("store");
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
    west.endpoints("store-east", State::Ready).await;
    west.stop("controller-east").await;
    west.start("controller-east").await;
    west.endpoints("store-east", State::NotReady).await;
    west.endpoints("store-east", State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_nodeport_probe_dead() {
    let mesh = Mesh::start(Plan {
        defects: &[Defect::UpstreamNodeportProbeDead],
        values: |values| MulticlusterValues {
            gateway: Some(GatewayValues {
                service_type: GatewayServiceType::NodePort {
                    gateway: None,
                    probe: None,
                },
                ..GatewayValues::default()
            }),
            ..values
        },
        ..Plan::default()
    })
    .await;
    mesh["west"].until_metric("east", FAILED, |failed| failed >= 3.0).await;
    assert_eq!(mesh["west"].controller_metric("east", PROBES).await, None);
    assert_eq!(mesh["west"].controller_metric("east", ALIVE).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_lost_lease_crashes_controller() {
    let mesh = pair(&[Defect::UpstreamLostLeaseCrashesController]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    west.until_metric("east", ALIVE, |alive| alive == 1.0).await;
    let pod = west.controller_pod("east").unwrap();
    steal_lease(&mesh);
    tokio::time::sleep(Mesh::wall(15.0)).await;
    east.export("store");
    west.until(&gvr::LEASES, MC, "service-mirror-write-east", "regained", |lease| {
        lease["spec"]["holderIdentity"] == pod.as_str()
    })
    .await;
    // Regained, and yet nothing happens for a minute.
    west.holds(&gvr::SERVICES, NS, "store-east", 50.0, absent).await;
    assert_eq!(west.controller_metric("east", ALIVE).await, None);
    west.until(&gvr::PODS, MC, &pod, "a restart", |pod| {
        pod["status"]["containerStatuses"].as_array().is_some_and(|statuses| {
            statuses
                .iter()
                .any(|status| status["name"] == "controller" && status["restartCount"] == 1)
        })
    })
    .await;
    west.mirror("store-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_update_lost_after_denied_write() {
    let mesh = pair(&[Defect::UpstreamUpdateLostAfterDeniedWrite]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    allow_service_verbs(&mesh, &["list", "get", "watch", "create", "delete"]);
    let port = json!({"spec": {"ports": [{"name": "http", "port": 8090, "targetPort": 8080, "protocol": "TCP"}]}});
    east.patch(&gvr::SERVICES, NS, "store", port);
    west.until_condition("east", "store", Some(("False", "Error"))).await;
    tokio::time::sleep(Mesh::wall(5.0)).await;
    allow_service_verbs(&mesh, &ALL_VERBS);
    west.holds(&gvr::SERVICES, NS, "store-east", 45.0, |mirror| {
        mirror.is_some_and(|mirror| mirror["spec"]["ports"][0]["port"] == 8080)
    })
    .await;
    // Touching the remote Service helps.
    east.patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"metadata": {"annotations": {"touched": "yes"}}}),
    );
    west.until(&gvr::SERVICES, NS, "store-east", "the port", |mirror| {
        mirror["spec"]["ports"][0]["port"] == 8090
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_create_never_retried() {
    let mesh = pair(&[Defect::DeniedCreateNeverRetried]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    allow_service_verbs(&mesh, &["list", "get", "watch", "delete", "update"]);
    east.export("store");
    west.until_condition("east", "store", Some(("False", "Error"))).await;
    allow_service_verbs(&mesh, &ALL_VERBS);
    west.holds(&gvr::SERVICES, NS, "store-east", 45.0, absent).await;
    east.export("depot");
    west.mirror("depot-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_rotated_credentials_ignored() {
    let mesh = pair(&[Defect::UpstreamRotatedCredentialsIgnored]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    rotate_credentials(&mesh);
    // The API server remembers for 10 s that it accepted the old token.
    tokio::time::sleep(Mesh::wall(11.0)).await;
    mesh.fabric.reset(&PathSelector::between("west", "east").port(6443));
    east.export("depot");
    west.holds(&gvr::SERVICES, NS, "depot-east", 30.0, absent).await;
    let pod = west.controller_pod("east").unwrap();
    assert!(west.log(&pod, "controller").await.contains("Unauthorized"));
    // A restart helps.
    west.stop("controller-east").await;
    west.start("controller-east").await;
    west.mirror("depot-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlink_leaves_credentials() {
    let mesh = pair(&[Defect::UnlinkLeavesCredentials]).await;
    mesh.unlink("west", "east").await;
    let left = |namespace: &str| {
        mesh["west"]
            .get(&gvr::SECRETS, namespace, "cluster-credentials-east")
            .is_some()
    };
    assert!(left("linkerd"));
    assert!(!left(MC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlinked_mirror_returns() {
    let mesh = pair(&[Defect::UnlinkedMirrorReturns]).await;
    mesh["east"].export("store");
    mesh["west"]
        .until_condition("east", "store", Some(("True", "Mirrored")))
        .await;
    mesh.unlink("west", "east").await;
    mesh["west"].mirror("store-east").await;
    mesh["west"]
        .holds(&gvr::SERVICES, NS, "store-east", 20.0, present)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlink_takes_bystander() {
    let mesh = triangle(&[Defect::UnlinkTakesBystander]).await;
    for target in ["east", "north"] {
        mesh[target].export("store");
        mesh["west"].mirror(&format!("store-{target}")).await;
    }
    mesh.unlink("west", "east").await;
    mesh["west"].until_gone(&gvr::SERVICES, NS, "store-north").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_is_wrong() {
    let mesh = pair(&[Defect::UninstallIgnoresLinks, Defect::UninstallLeavesClusterRoleBinding]).await;
    let west = &mesh["west"];
    let objects = uninstall(&west.client, &mesh.model.defects()).await.unwrap();
    west.delete(&objects).await;
    west.until_gone(&gvr::NAMESPACES, "", MC).await;
    let left = west.list(&gvr::CLUSTER_ROLE_BINDINGS, "");
    let left: Vec<&str> = left
        .iter()
        .filter_map(|binding| binding["metadata"]["name"].as_str())
        .filter(|name| name.contains("mirror") || name.contains("multicluster"))
        .collect();
    assert_eq!(left, ["linkerd-service-mirror-remote-access-default"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_writes_to_target() {
    let mesh = pair(&[Defect::LinkWritesToTarget]).await;
    let linked = mesh.link_manifests("east").await;
    let side_effects = meshproof_mesh::install::link_side_effects(&mesh.model.defects(), &linked);
    mesh["east"].apply(&side_effects).await;
    assert!(mesh["east"].get(&LINKS, MC, "east").is_some());
    // Uninstalling the target does not stumble over it.
    assert!(uninstall(&mesh["east"].client, &mesh.model.defects()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controller_not_injected() {
    for (defects, injected) in [(&[][..], true), (&[Defect::ControllerNotInjected][..], false)] {
        let mesh = pair(defects).await;
        for pod in mesh["west"].list(&gvr::PODS, MC) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let has_proxy = pod["spec"]["initContainers"]
                .as_array()
                .is_some_and(|list| list.iter().any(|container| container["name"] == "linkerd-proxy"));
            assert_eq!(has_proxy, injected || !name.starts_with("controller-"), "{name}");
        }
        mesh["east"].export("store");
        mesh["west"].endpoints("store-east", State::Ready).await;
    }
}
