//! Restarts, leases, credentials, rights and edits of the Link.

use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use meshproof_apiserver::gvr;
use meshproof_cluster::fabric::{Effect, PathSelector};
use serde_json::{Value, json};

use crate::support::{LINKS, MC, Mesh, NS, Plan, State, exported, pair, since};

const ROLE: &str = "linkerd-multicluster-controller-access-local-resources";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_the_controller_was_down_is_made_up_for() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    for name in ["kept", "changed", "unexported", "deleted"] {
        east.export(name);
    }
    for name in ["kept", "changed", "unexported", "deleted"] {
        west.until_condition("east", name, Some(("True", "Mirrored"))).await;
    }
    let kept = west.get(&gvr::SERVICES, NS, "kept-east").unwrap();

    west.stop("controller-east").await;
    let lease = west.get(&gvr::LEASES, MC, "service-mirror-write-east").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "", "released on shutdown");
    east.patch(
        &gvr::SERVICES,
        NS,
        "changed",
        json!({"metadata": {"annotations": {"note": "new"}}}),
    );
    east.patch(
        &gvr::SERVICES,
        NS,
        "unexported",
        json!({"metadata": {"labels": {"mirror.linkerd.io/exported": null}}}),
    );
    east.remove(&gvr::SERVICES, NS, "deleted");
    east.export("fresh");

    west.start("controller-east").await;
    west.mirror("fresh-east").await;
    west.until_gone(&gvr::SERVICES, NS, "unexported-east").await;
    west.until_gone(&gvr::SERVICES, NS, "deleted-east").await;
    west.until(&gvr::SERVICES, NS, "changed-east", "the note", |mirror| {
        mirror["metadata"]["annotations"]["note"] == "new"
    })
    .await;
    west.until_condition("east", "deleted", None).await;
    west.until_condition("east", "unexported", None).await;
    let now = west.get(&gvr::SERVICES, NS, "kept-east").unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], kept["metadata"]["resourceVersion"]);
}

pub(crate) fn steal_lease(mesh: &Mesh) {
    let theft = json!({"spec": {"holderIdentity": "thief", "renewTime": Timestamp::now().to_string()}});
    mesh["west"].patch(&gvr::LEASES, MC, "service-mirror-write-east", theft);
}

fn restarts(mesh: &Mesh) -> u64 {
    let pods = mesh["west"].list(&gvr::PODS, MC);
    pods.iter()
        .filter(|pod| pod["metadata"]["labels"]["component"] == "controller")
        .flat_map(|pod| pod["status"]["containerStatuses"].as_array().into_iter().flatten())
        .filter(|status| status["name"] == "controller")
        .map(|status| status["restartCount"].as_u64().unwrap_or(0))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_is_survived() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    let start = Instant::now();
    steal_lease(&mesh);
    // The holder tries to renew for ten seconds before it steps down.
    tokio::time::sleep(Mesh::wall(15.0)).await;
    east.export("depot");
    west.mirror("depot-east").await;
    let took = since(start);
    // Then it respects the thief for thirty.
    assert!(took >= 38.0, "took {took} s");
    let lease = west.get(&gvr::LEASES, MC, "service-mirror-write-east").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], json!(west.controller_pod("east")));
    assert_eq!(restarts(&mesh), 0);
    west.until_metric("east", "gateway_alive{target_cluster_name=\"east\"}", |alive| {
        alive == 1.0
    })
    .await;
}

/// Takes verbs on Services from the controllers, or gives them back.
pub(crate) fn allow_service_verbs(mesh: &Mesh, verbs: &[&str]) {
    allow_verbs(mesh, &["list", "get", "watch", "create", "delete", "update"], verbs);
}

/// Leaves the controllers these verbs on Endpoints and on Services.
pub(crate) fn allow_verbs(mesh: &Mesh, endpoints: &[&str], services: &[&str]) {
    let rules = json!({"rules": [
        {"apiGroups": [""], "resources": ["endpoints"], "verbs": endpoints},
        {"apiGroups": [""], "resources": ["services"], "verbs": services},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "get", "watch"]}
    ]});
    mesh["west"].patch(&gvr::CLUSTER_ROLES, "", ROLE, rules);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_writes_are_made_up_for_once_they_are_allowed() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    allow_service_verbs(&mesh, &["list", "get", "watch"]);
    let port = json!({"spec": {"ports": [{"name": "http", "port": 8090, "targetPort": 8080, "protocol": "TCP"}]}});
    east.patch(&gvr::SERVICES, NS, "store", port);
    east.export("depot");
    let message = west.until_condition("east", "store", Some(("False", "Error"))).await;
    assert!(
        message.starts_with("Failed to update mirror service: services \"store-east\" is forbidden"),
        "{message}"
    );
    let message = west.until_condition("east", "depot", Some(("False", "Error"))).await;
    assert!(
        message.starts_with("Failed to create mirror service: services"),
        "{message}"
    );

    allow_service_verbs(&mesh, &["list", "get", "watch", "create", "delete", "update"]);
    west.until(&gvr::SERVICES, NS, "store-east", "the new port", |mirror| {
        mirror["spec"]["ports"][0]["port"] == 8090
    })
    .await;
    west.mirror("depot-east").await;
    west.until_condition("east", "store", Some(("True", "Mirrored"))).await;
    west.until_condition("east", "depot", Some(("True", "Mirrored"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_come_late_are_found() {
    let mesh = Mesh::start(Plan {
        links: &[],
        ..Plan::default()
    })
    .await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    mesh.install_controllers("west", &["east"]).await;
    west.deployments_available(MC).await;
    let manifests = mesh.link_manifests("east").await;
    west.apply(&manifests[2..]).await;
    west.holds(&gvr::SERVICES, NS, "store-east", 25.0, |mirror| mirror.is_none())
        .await;
    west.apply(&manifests[..2]).await;
    west.mirror("store-east").await;
}

/// New credentials in the Secret, the old token gone, and open connections to the target's API cut.
pub(crate) fn rotate_credentials(mesh: &Mesh) {
    let (west, east) = (&mesh["west"], &mesh["east"]);
    let account = "linkerd-service-mirror-remote-access-default";
    let secret = east.create(
        &gvr::SECRETS,
        MC,
        json!({
            "metadata": {"name": "rotated", "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token"
        }),
    );
    let token = BASE64_STANDARD
        .decode(secret["data"]["token"].as_str().unwrap())
        .unwrap();
    let old = west.get(&gvr::SECRETS, MC, "cluster-credentials-east").unwrap();
    let kubeconfig = BASE64_STANDARD
        .decode(old["data"]["kubeconfig"].as_str().unwrap())
        .unwrap();
    let mut kubeconfig: Value = serde_json::from_slice(&kubeconfig).unwrap();
    kubeconfig["users"][0]["user"]["token"] = String::from_utf8(token).unwrap().into();
    let kubeconfig = BASE64_STANDARD.encode(kubeconfig.to_string());
    west.patch(
        &gvr::SECRETS,
        MC,
        "cluster-credentials-east",
        json!({"data": {"kubeconfig": kubeconfig}}),
    );
    east.remove(&gvr::SECRETS, MC, &format!("{account}-token"));
    mesh.fabric.reset(&PathSelector::between("west", "east").port(6443));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_credentials_are_used() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    rotate_credentials(&mesh);
    east.export("depot");
    west.endpoints("depot-east", State::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn editing_the_link_selects_anew() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    east.service("special", json!({"tier": "special"}), Some(true));
    west.mirror("store-east").await;
    let special =
        json!({"spec": {"selector": {"matchLabels": {"mirror.linkerd.io/exported": null, "tier": "special"}}}});
    west.patch(&LINKS, MC, "east", special);
    west.mirror("special-east").await;
    west.until_gone(&gvr::SERVICES, NS, "store-east").await;
    let nothing = json!({"spec": {"selector": {"matchLabels": {"tier": null}}}});
    west.patch(&LINKS, MC, "east", nothing);
    west.until_gone(&gvr::SERVICES, NS, "special-east").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_addresses_that_do_not_resolve_are_left_out() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    let address = |addresses: &str| {
        west.patch(&LINKS, MC, "east", json!({"spec": {"gatewayAddress": addresses}}));
    };
    let addresses = |endpoints: &Value| -> Vec<String> {
        let list = endpoints["subsets"][0]["addresses"].as_array();
        list.into_iter()
            .flatten()
            .map(|address| address["ip"].as_str().unwrap().to_owned())
            .collect()
    };
    address("198.18.101.1,198.18.0.3,east-control-plane");
    west.until(
        &gvr::ENDPOINTS,
        NS,
        "store-east",
        "all addresses, sorted",
        |endpoints| addresses(endpoints) == ["198.18.0.3", "198.18.0.3", "198.18.101.1"],
    )
    .await;
    address("198.18.0.3,nosuch.example,198.18.0.4:4143,198.18.101.1");
    west.until(&gvr::ENDPOINTS, NS, "store-east", "what is an address", |endpoints| {
        addresses(endpoints) == ["198.18.0.3", "198.18.101.1"]
    })
    .await;
    for broken in ["198.18.101.1:4143", "nosuch.example"] {
        address(broken);
        let depot = format!("depot-{}", broken.len());
        east.export(&depot);
        let expected = format!(
            "Failed to create mirror endpoints: Inner errors:\n\tError resolving '{broken}': lookup {broken}: no such host"
        );
        // The watcher for the former address may have had a go first.
        west.until_message("east", &depot, &expected).await;
        let mirror = format!("{depot}-east");
        west.holds(&gvr::ENDPOINTS, NS, &mirror, 5.0, |endpoints| endpoints.is_none())
            .await;
    }
    // What was there stays.
    let endpoints = west.get(&gvr::ENDPOINTS, NS, "store-east").unwrap();
    assert_eq!(addresses(&endpoints), ["198.18.0.3", "198.18.101.1"]);
    east.patch(
        &gvr::SERVICES,
        NS,
        "store",
        json!({"metadata": {"annotations": {"touched": "yes"}}}),
    );
    let expected = "Failed to get gateway address: Inner errors:\n\tError resolving 'nosuch.example': \
                    lookup nosuch.example: no such host";
    west.until_message("east", "store", expected).await;
    address("198.18.101.1");
    for depot in ["depot-17", "depot-14"] {
        west.endpoints(&format!("{depot}-east"), State::Ready).await;
        west.until_condition("east", depot, Some(("True", "Mirrored"))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_out_of_reach_freezes_mirrors_and_no_more() {
    let mesh = pair(&[]).await;
    let (west, east) = (&mesh["west"], &mesh["east"]);
    east.export("store");
    west.endpoints("store-east", State::Ready).await;
    let api = PathSelector::between("west", "east").port(6443);
    let partition = mesh.fabric.impose(api, Effect::Blackhole);
    east.service("depot", exported(), Some(true));
    east.set_subsets("store", json!([]));
    west.holds(&gvr::SERVICES, NS, "store-east", 60.0, |mirror| mirror.is_some())
        .await;
    assert!(west.get(&gvr::SERVICES, NS, "depot-east").is_none());
    drop(partition);
    west.endpoints("depot-east", State::Ready).await;
    west.endpoints("store-east", State::Empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_starts_at_the_first_try() {
    let mesh = pair(&[]).await;
    let west = &mesh["west"];
    west.until_metric("east", "gateway_alive{target_cluster_name=\"east\"}", |alive| {
        alive == 1.0
    })
    .await;
    assert_eq!(restarts(&mesh), 0, "{}", west.story().await);
}
