//! Nothing that a client sends may end a connection task or the server.

use crate::support::{cluster, http, token};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

#[tokio::test]
async fn bad_bodies_get_a_status_with_the_reason() {
    let cluster = cluster().await;
    let (http, token) = (http(&cluster.server), token(&cluster.server));
    let url = format!("{}/api/v1/namespaces/default/configmaps", cluster.server.url());
    let post = |media_type: &'static str, body: Vec<u8>| {
        let request = http
            .post(&url)
            .bearer_auth(&token)
            .header("content-type", media_type)
            .body(body);
        async move {
            let response = request.send().await.unwrap();
            let code = response.status().as_u16();
            let status: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(code)));
            (code, status["message"].as_str().unwrap().to_owned())
        }
    };
    let (code, message) = post("application/json", b"{\"a\": ".to_vec()).await;
    assert_eq!(code, 400);
    assert!(message.contains("line 1"), "{message}");
    assert_eq!(post("application/yaml", b"a: [".to_vec()).await.0, 400);
    assert_eq!(post("application/json", b"[]".to_vec()).await.0, 400);
    assert_eq!(post("text/html", b"x".to_vec()).await.0, 415);
    assert_eq!(post("application/json", vec![b' '; 3 * 1024 * 1024 + 1]).await.0, 413);
    let wrong_kind = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}).to_string();
    assert_eq!(post("application/json", wrong_kind.into_bytes()).await.0, 400);
    let deep = "[".repeat(10_000);
    assert_eq!(post("application/json", deep.into_bytes()).await.0, 400);
}

#[tokio::test]
async fn paths_must_fit_the_scope_of_the_type() {
    let cluster = cluster().await;
    let (http, token) = (http(&cluster.server), token(&cluster.server));
    for (method, path, expected) in [
        ("GET", "api/v1/namespaces/default/nodes", 404),
        ("GET", "api/v1/pods/web", 404),
        ("POST", "api/v1/pods", 405),
        ("DELETE", "api/v1/pods", 405),
        ("GET", "api/v1/pods", 200),
        ("PUT", "api/v1/namespaces/default/pods", 405),
        ("GET", "api/v1/namespaces/default/gadgets", 404),
        ("GET", "api/v2/pods", 404),
        ("GET", "apis/nowhere.io/v1", 404),
        ("GET", "nowhere", 404),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = http
            .request(method.clone(), format!("{}/{path}", cluster.server.url()))
            .bearer_auth(&token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), expected, "{method} {path}");
    }
}

/// Objects in which any field of a real one may have any value.
fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just("web"), Just("v1"), Just("None"), Just("NodePort"), Just("")].prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let names = [
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
        "spec",
        "status",
        "selector",
        "matchLabels",
        "matchExpressions",
        "template",
        "containers",
        "ports",
        "port",
        "env",
        "strategy",
        "rollingUpdate",
        "type",
        "clusterIP",
        "data",
        "stringData",
        "subsets",
        "addresses",
        "endpoints",
        "rules",
        "roleRef",
        "subjects",
        "versions",
        "schema",
        "openAPIV3Schema",
        "names",
        "properties",
        "items",
        "default",
        "readinessProbe",
        "httpGet",
        "valueFrom",
        "fieldRef",
        "conditions",
        "replicas",
        "kind",
        "apiVersion",
        "uid",
        "resourceVersion",
        "deletionTimestamp",
        "initContainers",
        "volumes",
        "conversion",
        "subresources",
        "scale",
    ];
    let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
    leaf.prop_recursive(6, 40, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            4 => prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

#[test]
fn arbitrary_objects_and_paths_get_an_answer() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(cluster());
    let (http, token, base) = (http(&cluster.server), token(&cluster.server), cluster.server.url());
    let resources = [
        "api/v1/namespaces/default/pods",
        "api/v1/namespaces/default/services",
        "api/v1/namespaces/default/endpoints",
        "api/v1/namespaces/default/secrets",
        "api/v1/namespaces/default/configmaps",
        "api/v1/namespaces/default/serviceaccounts/default/token",
        "api/v1/namespaces/default/events",
        "api/v1/namespaces",
        "api/v1/nodes",
        "apis/apps/v1/namespaces/default/deployments",
        "apis/apps/v1/namespaces/default/statefulsets",
        "apis/apps/v1/namespaces/default/daemonsets",
        "apis/batch/v1/namespaces/default/jobs",
        "apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        "apis/coordination.k8s.io/v1/namespaces/default/leases",
        "apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        "apis/rbac.authorization.k8s.io/v1/clusterroles",
        "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "apis/policy/v1/namespaces/default/poddisruptionbudgets",
        "apis/events.k8s.io/v1/namespaces/default/events",
        "apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "apis/authentication.k8s.io/v1/tokenreviews",
    ];
    let methods = prop::sample::select(vec!["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"]);
    let suffix = prop_oneof![4 => Just(String::new()), 2 => Just("/web".into()), 1 => Just("/web/status".into()),
        1 => Just("/web/scale".into()), 1 => "/[a-z%./]{0,12}", 1 => "[?][a-zA-Z=&%]{0,20}"];
    let media = prop::sample::select(vec![
        "application/json",
        "application/yaml",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/json-patch+json",
        "application/apply-patch+yaml",
        "application/vnd.kubernetes.protobuf",
    ]);
    let input = (
        prop::sample::select(resources.to_vec()),
        suffix,
        methods,
        media,
        object(),
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Config {
        cases: 1500,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&input, |(resource, suffix, method, media, mut object, named)| {
        if named && object.is_object() {
            object["metadata"] = json!({"name": "web", "labels": {"app": "web"}});
        }
        let url = format!("{base}/{resource}{suffix}");
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = http
            .request(method, &url)
            .bearer_auth(&token)
            .header("content-type", media)
            .body(object.to_string());
        let sent = object.to_string();
        let status = runtime.block_on(async { request.send().await.map(|r| r.status().as_u16()) });
        match status {
            Ok(500) | Err(_) => Err(TestCaseError::fail(format!("{url} {media} {sent}: {status:?}"))),
            Ok(_) => Ok(()),
        }
    });
    result.unwrap();
    // What survived in the store can still be listed in every form.
    for resource in resources
        .iter()
        .filter(|r| !r.ends_with("reviews") && !r.ends_with("token"))
    {
        let url = format!("{base}/{resource}");
        for accept in [
            "application/json",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "application/yaml",
        ] {
            let request = http.get(&url).bearer_auth(&token).header("accept", accept);
            assert_eq!(
                runtime.block_on(request.send()).unwrap().status(),
                200,
                "{url} {accept}"
            );
        }
    }
}
