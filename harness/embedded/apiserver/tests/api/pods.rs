//! Logs and port-forwards through a backend.

use crate::objects::typed;
use crate::support::{Cluster, cluster, http, refusal, soon, token};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{LogParams, Patch, PatchParams, PostParams};
use meshproof_apiserver::{ByteStream, LogOptions, PodBackend, Status};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers every connection to port 80 with what it is told, in capitals; refuses others.
pub(crate) struct Echo;

#[async_trait]
impl PodBackend for Echo {
    async fn logs(&self, namespace: &str, pod: &str, options: LogOptions) -> Result<BoxStream<'static, Bytes>, Status> {
        let head = stream::once(futures::future::ready(Bytes::from(format!(
            "{namespace}/{pod} {options:?}\n"
        ))));
        if options.follow {
            return Ok(head.chain(stream::pending()).boxed());
        }
        Ok(head.boxed())
    }

    async fn port_forward(&self, _: &str, _: &str, port: u16) -> Result<Box<dyn ByteStream>, Status> {
        if port != 80 {
            return Err(Status::unavailable("connection refused"));
        }
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(n) = theirs.read(&mut buffer).await {
                if n == 0 || theirs.write_all(&buffer[..n].to_ascii_uppercase()).await.is_err() {
                    break;
                }
            }
        });
        Ok(Box::new(ours))
    }
}

async fn running_pod() -> (Cluster, Api<Pod>) {
    let cluster = cluster().await;
    cluster.server.set_pod_backend(Arc::new(Echo));
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &typed(pod)).await.unwrap();
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    pods.patch_status("p", &PatchParams::default(), &running).await.unwrap();
    (cluster, pods)
}

#[tokio::test]
async fn logs_come_from_the_backend() {
    let (_cluster, pods) = running_pod().await;
    let params = LogParams {
        tail_lines: Some(7),
        previous: true,
        ..LogParams::default()
    };
    let text = pods.logs("p", &params).await.unwrap();
    assert!(
        text.starts_with("default/p ") && text.contains("tail_lines: Some(7), previous: true"),
        "{text}"
    );
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream("p", &follow).await.unwrap().lines();
    assert!(soon(lines.try_next()).await.unwrap().unwrap().contains("follow: true"));
    let other = LogParams {
        container: Some("x".into()),
        ..LogParams::default()
    };
    assert_eq!(refusal(pods.logs("p", &other).await).0, 400);
    assert_eq!(refusal(pods.logs("missing", &params).await).0, 404);
}

#[tokio::test]
async fn ports_are_forwarded_in_both_directions() {
    let (_cluster, pods) = running_pod().await;
    let mut forward = pods.portforward("p", &[80]).await.unwrap();
    let mut stream = forward.take_stream(80).unwrap();
    let mut answer = [0; 5];
    for _ in 0..3 {
        stream.write_all(b"hello").await.unwrap();
        soon(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HELLO");
    }
    drop(stream);
    soon(forward.join()).await.unwrap();
}

#[tokio::test]
async fn a_large_transfer_arrives_whole() {
    let (_cluster, pods) = running_pod().await;
    let mut forward = pods.portforward("p", &[80]).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(forward.take_stream(80).unwrap());
    let sent = vec![b'x'; 1 << 20];
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
    };
    let mut received = vec![0; 1 << 20];
    let read = async { reader.read_exact(&mut received).await.map(|_| ()).unwrap() };
    soon(async { tokio::join!(write, read) }).await;
    assert!(received.iter().all(|&b| b == b'X'));
}

#[tokio::test]
async fn a_refused_port_says_so_on_its_error_channel() {
    let (_cluster, pods) = running_pod().await;
    let mut forward = pods.portforward("p", &[81]).await.unwrap();
    let error = soon(forward.take_error(81).unwrap()).await.unwrap();
    assert_eq!(error, "an error occurred forwarding port 81: connection refused");
}

#[tokio::test]
async fn upgrades_that_are_not_spoken_get_a_status() {
    let (cluster, _pods) = running_pod().await;
    let url = format!(
        "{}/api/v1/namespaces/default/pods/p/portforward?ports=80",
        cluster.server.url()
    );
    let ca = reqwest::Certificate::from_pem(cluster.server.ca_pem().as_bytes()).unwrap();
    let http1 = reqwest::Client::builder()
        .tls_certs_only([ca])
        .http1_only()
        .build()
        .unwrap();
    let response = http1
        .post(&url)
        .bearer_auth(token(&cluster.server))
        .header("connection", "upgrade")
        .header("upgrade", "SPDY/3.1")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    assert!(
        response
            .text()
            .await
            .unwrap()
            .contains("use a client that speaks WebSocket")
    );
    let exec = format!("{}/api/v1/namespaces/default/pods/p/exec", cluster.server.url());
    let response = http(&cluster.server)
        .post(exec)
        .bearer_auth(token(&cluster.server))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 501);
}
