//! Who gets in and what for: tokens, RBAC, impersonation, reviews.

use crate::objects::typed;
use crate::support::{client, cluster, cluster_with, http, refusal, token};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use meshproof_apiserver::{ApiServer, ServerConfig, gvr};
use serde_json::{Value, json};
use std::time::Duration;

fn grant(server: &ApiServer, namespace: &str, subject: Value, rules: Value) {
    let store = server.store();
    store
        .create(
            &gvr::ROLES,
            Some(namespace),
            json!({"metadata": {"name": "some"}, "rules": rules}),
        )
        .unwrap();
    let binding =
        json!({"metadata": {"name": "some"}, "roleRef": {"kind": "Role", "name": "some"}, "subjects": [subject]});
    store.create(&gvr::ROLE_BINDINGS, Some(namespace), binding).unwrap();
}

async fn as_user(server: &ApiServer, name: &str) -> Client {
    let token = format!("token-of-{name}");
    server.accept_token(&token, name, &[]);
    client(&server.kubeconfig_for(name, &token, None)).await
}

#[tokio::test]
async fn without_a_valid_token_there_is_nothing() {
    let cluster = cluster().await;
    let wrong = client(&cluster.server.kubeconfig_for("x", "wrong", None)).await;
    let pods: Api<Pod> = Api::default_namespaced(wrong);
    let (code, reason, message) = refusal(pods.list(&Default::default()).await);
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (401, "Unauthorized", "Unauthorized")
    );
    let bare = http(&cluster.server)
        .get(format!("{}/version", cluster.server.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(bare.status(), 401);
}

#[tokio::test]
async fn roles_allow_and_everything_else_is_forbidden() {
    let cluster = cluster().await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
    grant(
        &cluster.server,
        "default",
        json!({"kind": "User", "name": "ann"}),
        rules,
    );
    let ann = as_user(&cluster.server, "ann").await;
    let pods: Api<Pod> = Api::default_namespaced(ann.clone());
    pods.list(&Default::default()).await.unwrap();
    let (code, reason, message) = refusal(pods.delete("p", &DeleteParams::default()).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "pods \"p\" is forbidden: User \"ann\" cannot delete resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let everywhere: Api<Pod> = Api::all(ann.clone());
    let (_, _, message) = refusal(everywhere.list(&Default::default()).await);
    assert_eq!(
        message,
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    ann.apiserver_version().await.unwrap();
    let reviews: Api<SelfSubjectAccessReview> = Api::all(ann);
    let ask = |verb: &str| {
        typed(json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "default"}}}))
    };
    let answer = |review: SelfSubjectAccessReview| review.status.unwrap().allowed;
    assert!(answer(
        reviews.create(&PostParams::default(), &ask("list")).await.unwrap()
    ));
    assert!(!answer(
        reviews.create(&PostParams::default(), &ask("delete")).await.unwrap()
    ));
}

#[tokio::test]
async fn an_accepted_token_is_remembered_and_its_use_is_noted() {
    let cluster = cluster_with(ServerConfig {
        token_success_cache_ttl: Duration::from_secs(3600),
        ..ServerConfig::default()
    })
    .await;
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client.clone());
    for name in ["used", "unused", "invalid"] {
        let mut secret = json!({"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": "default"}},
            "type": "kubernetes.io/service-account-token"});
        if name == "invalid" {
            secret["metadata"]["labels"] = json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"});
        }
        secrets.create(&PostParams::default(), &typed(secret)).await.unwrap();
    }
    let token = async |name: &str| {
        String::from_utf8(secrets.get(name).await.unwrap().data.unwrap()["token"].0.clone()).unwrap()
    };
    let (used, unused, invalid) = (token("used").await, token("unused").await, token("invalid").await);
    let version = async |token: &str| {
        let kubeconfig = cluster.server.kubeconfig_for("robot", token, None);
        client(&kubeconfig).await.apiserver_version().await
    };
    version(&used).await.unwrap();
    let labels = secrets.get("used").await.unwrap().metadata.labels.unwrap_or_default();
    let noted: Vec<_> = labels.iter().map(|(key, day)| (key.as_str(), day.len())).collect();
    assert_eq!(noted, [("kubernetes.io/legacy-token-last-used", "2026-11-29".len())]);
    assert_eq!(secrets.get("unused").await.unwrap().metadata.labels, None);
    assert_eq!(refusal(version(&invalid).await).0, 401);
    for name in ["used", "unused"] {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
    }
    version(&used).await.unwrap();
    assert_eq!(refusal(version(&unused).await).0, 401, "it had not been used");
}

#[tokio::test]
async fn service_account_tokens_work_until_revoked() {
    let cluster = cluster_with(ServerConfig {
        token_success_cache_ttl: Duration::ZERO,
        ..ServerConfig::default()
    })
    .await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client.clone());
    accounts
        .create(&PostParams::default(), &typed(json!({"metadata": {"name": "robot"}})))
        .await
        .unwrap();
    let secret = json!({"metadata": {"name": "robot", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token"});
    secrets.create(&PostParams::default(), &typed(secret)).await.unwrap();
    let filled = secrets.get("robot").await.unwrap().data.unwrap();
    assert_eq!(filled["ca.crt"].0, cluster.server.ca_pem().as_bytes());
    assert_eq!(filled["namespace"].0, b"default");
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]);
    grant(
        &cluster.server,
        "default",
        json!({"kind": "ServiceAccount", "name": "robot", "namespace": "default"}),
        rules,
    );
    let from_secret = String::from_utf8(filled["token"].0.clone()).unwrap();
    let list = |token: String| {
        let kubeconfig = cluster.server.kubeconfig_for("robot", &token, None);
        async move {
            Api::<ConfigMap>::default_namespaced(client(&kubeconfig).await)
                .list(&Default::default())
                .await
        }
    };
    list(from_secret.clone()).await.unwrap();
    let asked = TokenRequest {
        spec: Default::default(),
        ..Default::default()
    };
    let short = accounts
        .create_token_request("robot", &PostParams::default(), &asked)
        .await
        .unwrap();
    list(short.status.unwrap().token).await.unwrap();
    let issued = cluster.server.issue_service_account_token("default", "robot").unwrap();
    list(issued.clone()).await.unwrap();
    secrets.delete("robot", &DeleteParams::default()).await.unwrap();
    assert_eq!(refusal(list(from_secret).await).0, 401);
    list(issued.clone()).await.unwrap();
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    assert_eq!(refusal(list(issued).await).0, 401);
}

#[tokio::test]
async fn one_named_object_can_be_watched() {
    let cluster = cluster().await;
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get", "list", "watch"]}]);
    grant(
        &cluster.server,
        "default",
        json!({"kind": "User", "name": "ann"}),
        rules,
    );
    let secrets: Api<Secret> = Api::default_namespaced(as_user(&cluster.server, "ann").await);
    let only = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));
    secrets.list(&only("mine")).await.unwrap();
    assert_eq!(refusal(secrets.list(&only("yours")).await).0, 403);
    assert_eq!(refusal(secrets.list(&ListParams::default()).await).0, 403);
}

#[tokio::test]
async fn impersonation_needs_permission() {
    let cluster = cluster().await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    grant(
        &cluster.server,
        "default",
        json!({"kind": "Group", "name": "readers"}),
        rules,
    );
    let url = format!("{}/api/v1/namespaces/default/pods", cluster.server.url());
    let list = |token: String, headers: &[(&str, &str)]| {
        let mut request = http(&cluster.server).get(&url).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let admin = token(&cluster.server);
    assert_eq!(list(admin.clone(), &[("impersonate-user", "bob")]).await, 403);
    assert_eq!(
        list(
            admin.clone(),
            &[("impersonate-user", "bob"), ("impersonate-group", "readers")]
        )
        .await,
        200
    );
    assert_eq!(list(admin, &[("impersonate-group", "readers")]).await, 400);
    cluster.server.accept_token("t", "ann", &["readers"]);
    assert_eq!(list("t".into(), &[]).await, 200);
    assert_eq!(list("t".into(), &[("impersonate-user", "bob")]).await, 403);
}
