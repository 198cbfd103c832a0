//! ServiceAccounts of links: replacing the credentials of one touches no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use kube::runtime::wait::await_condition;
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::ProblemClass;
use meshproof_engine::tool::Tools;
use meshproof_linkerd::{CliInstaller, CliOptions, Linkerd};
use serde_json::{Value, json};

use crate::world::{PACE, World, apply};

const EXTENSION: &str = "linkerd-multicluster";

async fn namespaces(cluster: &Cluster) {
    for name in ["linkerd", EXTENSION] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        apply(cluster, namespace).await;
    }
}

/// An account with a token, which the API server fills in.
async fn account(cluster: &Cluster, name: &str) -> String {
    let metadata = json!({"name": name, "namespace": EXTENSION});
    apply(
        cluster,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
    )
    .await;
    let secret = format!("{name}-token");
    apply(
        cluster,
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": {
            "name": secret, "namespace": EXTENSION, "annotations": {"kubernetes.io/service-account.name": name}}}),
    )
    .await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), EXTENSION);
    let filled = await_condition(secrets, &secret, |secret: Option<&Secret>| {
        secret.and_then(|secret| secret.data.as_ref()?.get("token")).is_some()
    });
    let secret = tokio::time::timeout(std::time::Duration::from_secs(30), filled).await;
    text(&secret.unwrap().unwrap().unwrap(), "token")
}

fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

/// Both Secrets of a link to east, as link-gen makes them for `account`.
async fn link(cluster: &Cluster, account: &str, token: &str) {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "east",
        "clusters": [{"name": "east", "cluster": {"server": "https://east"}}],
        "contexts": [{"name": "east", "context": {"cluster": "east", "user": account}}],
        "users": [{"name": account, "user": {"token": token}}],
    });
    for namespace in ["linkerd", EXTENSION] {
        apply(
            cluster,
            json!({"apiVersion": "v1", "kind": "Secret", "type": "mirror.linkerd.io/remote-kubeconfig",
                "metadata": {"name": "cluster-credentials-east", "namespace": namespace},
                "stringData": {"kubeconfig": kubeconfig.to_string()}}),
        )
        .await;
    }
}

/// The user and its token in the link's Secret of a namespace.
async fn linked(cluster: &Cluster, namespace: &str) -> (String, String) {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let secret = secrets.get("cluster-credentials-east").await.unwrap();
    let config: Value = serde_yaml::from_str(&text(&secret, "kubeconfig")).unwrap();
    let user = &config["users"][0];
    (
        user["name"].as_str().unwrap().to_owned(),
        user["user"]["token"].as_str().unwrap().to_owned(),
    )
}

/// Tokens by account, as far as they are filled in.
async fn tokens(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), EXTENSION);
    let of_accounts = ListParams::default().fields("type=kubernetes.io/service-account-token");
    let mut tokens: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for secret in secrets.list(&of_accounts).await.unwrap() {
        let account = secret.metadata.annotations.as_ref().unwrap()["kubernetes.io/service-account.name"].clone();
        tokens.entry(account).or_default().push(text(&secret, "token"));
    }
    tokens
}

fn driver() -> Linkerd {
    let installer = CliInstaller::new(CliOptions::default(), Tools::default());
    Linkerd::new(Arc::new(installer), PACE)
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_for_one_link_leave_the_other_links_alone() {
    let world = World::new(&["west", "north", "east"]).await;
    let (west, north, east) = (world.get("west"), world.get("north"), world.get("east"));
    for cluster in [west, north, east] {
        namespaces(cluster).await;
    }
    let (for_west, for_north) = (account(east, "for-west").await, account(east, "for-north").await);
    link(west, "for-west", &for_west).await;
    link(north, "for-north", &for_north).await;

    driver().rotate_credentials(west, east).await.unwrap();

    let tokens = tokens(east).await;
    assert_eq!(
        tokens["for-north"].as_slice(),
        std::slice::from_ref(&for_north),
        "the other link's account"
    );
    let [fresh] = tokens["for-west"].as_slice() else {
        panic!("one token: {}", tokens["for-west"].len());
    };
    assert!(*fresh != for_west, "the old token is still there");
    for namespace in ["linkerd", EXTENSION] {
        assert_eq!(linked(west, namespace).await, ("for-west".to_owned(), fresh.clone()));
        assert_eq!(
            linked(north, namespace).await,
            ("for-north".to_owned(), for_north.clone())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_without_a_user_are_a_problem_that_names_their_secret() {
    let world = World::new(&["west", "east"]).await;
    let (west, east) = (world.get("west"), world.get("east"));
    namespaces(west).await;
    namespaces(east).await;
    for namespace in ["linkerd", EXTENSION] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "cluster-credentials-east", "namespace": namespace},
            "stringData": {"kubeconfig": "users: []"}});
        apply(west, secret).await;
    }
    let problem = driver().rotate_credentials(west, east).await.unwrap_err();
    assert_eq!(
        (problem.class, problem.code.as_str()),
        (ProblemClass::Environment, "credentials-malformed")
    );
    assert!(
        problem
            .message
            .contains("linkerd-multicluster/cluster-credentials-east"),
        "{}",
        problem.message
    );
}
