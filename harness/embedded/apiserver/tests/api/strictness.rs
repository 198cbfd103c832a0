//! Objects as Kubernetes would take, complete and show them.

use crate::support::{Cluster, cluster, http, token};
use serde_json::{Value, json};

struct Answer {
    code: u16,
    warnings: Vec<String>,
    body: Value,
}

async fn send(cluster: &Cluster, method: &str, path: &str, media_type: &str, body: &Value) -> Answer {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let response = http(&cluster.server)
        .request(method, format!("{}/{path}", cluster.server.url()))
        .bearer_auth(token(&cluster.server))
        .header("content-type", media_type)
        .body(if body.is_null() {
            String::new()
        } else {
            body.to_string()
        })
        .send()
        .await
        .unwrap();
    let warnings = response.headers().get_all("warning").iter();
    Answer {
        code: response.status().as_u16(),
        warnings: warnings.map(|w| w.to_str().unwrap().to_owned()).collect(),
        body: response.json().await.unwrap_or_default(),
    }
}

async fn post(cluster: &Cluster, path: &str, body: &Value) -> Answer {
    send(cluster, "POST", path, "application/json", body).await
}

const DEPLOYMENTS: &str = "apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "api/v1/namespaces/default/services";

fn misspelt() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replica": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "i", "readynessProbe": {}}]}}}})
}

#[tokio::test]
async fn misspelt_fields_of_built_in_kinds_are_refused_told_or_dropped() {
    let cluster = cluster().await;
    let refused = post(&cluster, &format!("{DEPLOYMENTS}?fieldValidation=Strict"), &misspelt()).await;
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.body["message"],
        "strict decoding error: unknown field \"spec.replica\", unknown field \"spec.template.spec.containers[0].readynessProbe\""
    );
    // Kubernetes warns when the client says nothing.
    let warned = post(&cluster, DEPLOYMENTS, &misspelt()).await;
    assert_eq!((warned.code, warned.warnings.len()), (201, 2), "{:?}", warned.warnings);
    assert_eq!(warned.body["spec"].get("replica"), None);
    let container = &warned.body["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container.get("readynessProbe"), None);
    let quiet = send(
        &cluster,
        "PATCH",
        &format!("{DEPLOYMENTS}/web?fieldValidation=Ignore"),
        "application/merge-patch+json",
        &json!({"spec": {"replica": 3}}),
    )
    .await;
    assert_eq!((quiet.code, quiet.warnings.len()), (200, 0));
    assert_eq!(quiet.body["spec"].get("replica"), None);
}

#[tokio::test]
async fn every_kind_of_patch_is_strict() {
    let cluster = cluster().await;
    assert_eq!(post(&cluster, DEPLOYMENTS, &misspelt()).await.code, 201);
    let path = format!("{DEPLOYMENTS}/web?fieldValidation=Strict&fieldManager=test");
    let applied =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replica": 1}});
    for (media_type, patch, expected) in [
        (
            "application/merge-patch+json",
            json!({"spec": {"replica": 1}}),
            "unknown field \"spec.replica\"",
        ),
        (
            "application/strategic-merge-patch+json",
            json!({"spec": {"replica": 1}}),
            "unknown field \"spec.replica\"",
        ),
        (
            "application/json-patch+json",
            json!([{"op": "add", "path": "/spec/replica", "value": 1}]),
            "unknown field \"spec.replica\"",
        ),
        (
            "application/apply-patch+yaml",
            applied,
            ".spec.replica: field not declared in schema",
        ),
    ] {
        let answer = send(&cluster, "PATCH", &path, media_type, &patch).await;
        let message = answer.body["message"].as_str().unwrap();
        assert_eq!(answer.code, 400, "{media_type}: {message}");
        assert!(message.contains(expected), "{media_type}: {message}");
    }
}

#[tokio::test]
async fn values_that_kubernetes_refuses_are_refused() {
    let cluster = cluster().await;
    for (spec, code, expected) in [
        (
            json!({"ports": [{"port": 80, "appProtocol": "a b"}]}),
            422,
            "spec.ports[0].appProtocol: Invalid value",
        ),
        (
            json!({"ports": [{"port": 80}], "trafficDistribution": "Moon"}),
            422,
            "spec.trafficDistribution: Unsupported value",
        ),
        (
            json!({"ports": [{"port": 80}], "externalTrafficPolicy": "Local"}),
            422,
            "may only be set for externally-accessible services",
        ),
        (
            json!({"ports": [{"port": "http"}]}),
            400,
            "cannot unmarshal string into field spec.ports[0].port",
        ),
        (Value::Null, 422, "spec.ports: Required value"),
    ] {
        let mut service = json!({"metadata": {"name": "s"}});
        if !spec.is_null() {
            service["spec"] = spec;
        }
        let answer = post(&cluster, SERVICES, &service).await;
        let message = answer.body["message"].as_str().unwrap();
        assert_eq!(answer.code, code, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "abc"}}}]}});
    let answer = post(&cluster, "api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(answer.code, 400);
    assert!(
        answer.body["message"]
            .as_str()
            .unwrap()
            .contains("quantities must match")
    );
}

#[tokio::test]
async fn what_is_empty_reads_back_as_from_kubernetes() {
    let cluster = cluster().await;
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"type": "", "sessionAffinity": "", "ports": [{"port": 80}]}});
    let created = post(&cluster, SERVICES, &service).await;
    assert_eq!(created.code, 201);
    assert_eq!(created.body["spec"]["type"], "ClusterIP");
    assert_eq!(created.body["spec"]["sessionAffinity"], "None");
    for (name, subsets) in [("a", json!([])), ("b", Value::Null)] {
        let endpoints = json!({"metadata": {"name": name}, "subsets": subsets});
        let created = post(&cluster, "api/v1/namespaces/default/endpoints", &endpoints).await;
        assert_eq!(created.body.get("subsets"), None, "{}", created.body);
    }
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "R", "type": "Normal"});
    let created = post(&cluster, "api/v1/namespaces/default/events", &event).await;
    assert_eq!(created.body.get("eventTime"), Some(&Value::Null));
    assert_eq!(
        (&created.body["reportingComponent"], &created.body["source"]),
        (&json!(""), &json!({}))
    );
    let lease = json!({"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}});
    let created = post(
        &cluster,
        "apis/coordination.k8s.io/v1/namespaces/default/leases",
        &lease,
    )
    .await;
    assert_eq!(created.body["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
}

#[tokio::test]
async fn kinds_that_have_no_effect_say_so() {
    let cluster = cluster().await;
    let webhook = json!({"metadata": {"name": "w"}, "webhooks": [{"name": "a.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "default"}}}]});
    let path = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let created = post(&cluster, path, &webhook).await;
    assert_eq!(created.code, 201, "{}", created.body);
    assert!(created.warnings[0].contains("not called"), "{:?}", created.warnings);
    assert_eq!(created.body["webhooks"][0]["clientConfig"]["service"]["port"], 443);
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": 1}}});
    let created = post(&cluster, "api/v1/namespaces/default/resourcequotas", &quota).await;
    assert_eq!(
        (created.code, &created.body["spec"]["hard"]["pods"]),
        (201, &json!("1"))
    );
    assert!(created.warnings[0].contains("not enforced"), "{:?}", created.warnings);
}

#[tokio::test]
async fn booleans_of_queries_are_read_as_from_python() {
    let cluster = cluster().await;
    let config = json!({"metadata": {"name": "c"}, "data": {"a": "b"}});
    assert_eq!(
        post(&cluster, "api/v1/namespaces/default/configmaps", &config)
            .await
            .code,
        201
    );
    let watched = send(
        &cluster,
        "GET",
        "api/v1/namespaces/default/configmaps?watch=True&timeoutSeconds=1&fieldSelector=metadata.name%3Dc",
        "application/json",
        &Value::Null,
    )
    .await;
    assert_eq!(
        (&watched.body["type"], &watched.body["object"]["data"]["a"]),
        (&json!("ADDED"), &json!("b"))
    );
    let apply = |manager: &str, value: &str, force: &str| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": value}});
        let path = format!("api/v1/namespaces/default/configmaps/c?fieldManager={manager}&force={force}");
        (path, object)
    };
    let media_type = "application/apply-patch+yaml";
    for (manager, value, force, code) in [
        ("one", "1", "False", 200),
        ("two", "2", "False", 409),
        ("two", "2", "True", 200),
    ] {
        let (path, object) = apply(manager, value, force);
        assert_eq!(
            send(&cluster, "PATCH", &path, media_type, &object).await.code,
            code,
            "{manager} {force}"
        );
    }
}

#[tokio::test]
async fn lists_refuse_what_contradicts_itself() {
    let cluster = cluster().await;
    for query in [
        "resourceVersionMatch=Exact",
        "continue=abc&resourceVersion=1",
        "resourceVersionMatch=Exact&resourceVersion=0",
    ] {
        let answer = send(
            &cluster,
            "GET",
            &format!("api/v1/pods?{query}"),
            "application/json",
            &Value::Null,
        )
        .await;
        assert_eq!(answer.code, 400, "{query}");
    }
}
