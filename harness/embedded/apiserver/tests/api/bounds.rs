//! What one client can make grow, and how long it can hold something.

use crate::support::{cluster, cluster_with, http, soon, token};
use meshproof_apiserver::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn copies_of_a_json_patch_are_bounded() {
    let cluster = cluster().await;
    let (http, token) = (http(&cluster.server), token(&cluster.server));
    let url = format!("{}/api/v1/namespaces/default/configmaps", cluster.server.url());
    let config = json!({"metadata": {"name": "c"}, "data": {"a": "x".repeat(1000)}}).to_string();
    let created = http.post(&url).bearer_auth(&token).body(config).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let copies: Vec<Value> = (0..40)
        .map(|i| json!({"op": "copy", "from": "/data", "path": format!("/data/b{i}")}))
        .collect();
    let answer = http
        .patch(format!("{url}/c"))
        .bearer_auth(&token)
        .header("content-type", "application/json-patch+json")
        .body(Value::Array(copies).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 413);
    let status: Value = answer.json().await.unwrap();
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn objects_are_as_large_as_kubernetes_takes_them() {
    let cluster = cluster().await;
    let (http, token) = (http(&cluster.server), token(&cluster.server));
    let url = format!("{}/api/v1/namespaces/default/events", cluster.server.url());
    for (length, code) in [(1_400_000, 201), (1_700_000, 413)] {
        let event = json!({"metadata": {"generateName": "e-"}, "involvedObject": {"namespace": "default"}, "message": "x".repeat(length)});
        let answer = http
            .post(&url)
            .bearer_auth(&token)
            .body(event.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), code, "{length}");
    }
}

#[tokio::test]
async fn watches_and_graces_of_any_length_are_taken() {
    let cluster = cluster().await;
    let (http, token) = (http(&cluster.server), token(&cluster.server));
    for seconds in [u64::MAX, i64::MAX.unsigned_abs()] {
        let url = format!("{}/api/v1/pods?watch=1&timeoutSeconds={seconds}", cluster.server.url());
        assert_eq!(http.get(url).bearer_auth(&token).send().await.unwrap().status(), 200);
    }
    let pods = format!("{}/api/v1/namespaces/default/pods", cluster.server.url());
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let created = http
        .post(&pods)
        .bearer_auth(&token)
        .body(pod.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), 201);
    let url = format!("{pods}/p?gracePeriodSeconds=9223372036854775807");
    assert_eq!(http.delete(url).bearer_auth(&token).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn namespaces_of_the_system_stay() {
    let cluster = cluster().await;
    let (http, token) = (http(&cluster.server), token(&cluster.server));
    for (name, code) in [
        ("kube-system", 403),
        ("default", 403),
        ("kube-public", 403),
        ("kube-node-lease", 200),
    ] {
        let url = format!("{}/api/v1/namespaces/{name}", cluster.server.url());
        assert_eq!(
            http.delete(url).bearer_auth(&token).send().await.unwrap().status(),
            code,
            "{name}"
        );
    }
}

#[tokio::test]
async fn heads_of_requests_that_never_end_are_cut_off() {
    let cluster = cluster_with(ServerConfig {
        header_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(cluster.server.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = cluster.server.url().trim_start_matches("https://").to_owned();
    for head in ["", "GET /version HTTP/1.1\r\nHost: a\r\n"] {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Ends well or badly, but ends.
        let _ = soon(stream.read_to_end(&mut answer)).await;
    }
    let version = http(&cluster.server)
        .get(format!("{}/version", cluster.server.url()))
        .bearer_auth(token(&cluster.server));
    assert_eq!(soon(version.send()).await.unwrap().status(), 200);
}
