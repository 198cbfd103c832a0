//! Logs and port-forwards through a backend.

use crate::support::{Cluster, cluster, http, refusal, soon, token};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, LogParams};
use meshproof_apiserver::store::Patch as StorePatch;
use meshproof_apiserver::{ApiServer, ByteStream, ExecOptions, ExecOutput, LogOptions, PodBackend, Status, gvr};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

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

    /// `echo` prints its arguments, `fail` complains with them and exits with 7.
    async fn exec(
        &self,
        _: &str,
        _: &str,
        options: ExecOptions,
        output: mpsc::Sender<ExecOutput>,
    ) -> Result<i32, Status> {
        let (name, rest) = options.command.split_first().unwrap();
        let text = Bytes::from(format!("{}\n", rest.join(" ")));
        match name.as_str() {
            "echo" => {
                output.send(ExecOutput::Stdout(text)).await.unwrap();
                Ok(0)
            }
            "fail" => {
                output.send(ExecOutput::Stderr(text)).await.unwrap();
                Ok(7)
            }
            other => Err(Status::internal(format!("{other}: not found"))),
        }
    }
}

/// Makes a pod `p` that runs, with [`Echo`] in it.
pub(crate) fn run_pod(server: &ApiServer) {
    server.set_pod_backend(Arc::new(Echo));
    let store = server.store();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    store.create(&gvr::PODS, Some("default"), pod).unwrap();
    let running = StorePatch::Merge(json!({"status": {"phase": "Running"}}));
    store.patch_status(&gvr::PODS, Some("default"), "p", &running).unwrap();
}

async fn running_pod() -> (Cluster, Api<Pod>) {
    let cluster = cluster().await;
    run_pod(&cluster.server);
    let pods = Api::default_namespaced(cluster.client.clone());
    (cluster, pods)
}

#[tokio::test]
async fn commands_are_run_and_their_end_is_told() {
    let (_cluster, pods) = running_pod().await;
    let params = AttachParams::default().stdout(true).stderr(true);
    let mut process = pods.exec("p", ["echo", "a", "b"], &params).await.unwrap();
    let (mut stdout, status) = (process.stdout().unwrap(), process.take_status().unwrap());
    let mut text = String::new();
    soon(stdout.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "a b\n");
    assert_eq!(soon(status).await.unwrap().status.as_deref(), Some("Success"));
    let mut process = pods.exec("p", ["fail", "c"], &params).await.unwrap();
    let (mut stderr, status) = (process.stderr().unwrap(), process.take_status().unwrap());
    text.clear();
    soon(stderr.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "c\n");
    let told = soon(status).await.unwrap();
    assert_eq!(told.reason.as_deref(), Some("NonZeroExitCode"));
    assert_eq!(told.details.unwrap().causes.unwrap()[0].message.as_deref(), Some("7"));
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
            .contains("port-forward speaks portforward.k8s.io")
    );
    let exec = format!("{}/api/v1/namespaces/default/pods/p/exec", cluster.server.url());
    let response = http(&cluster.server)
        .post(exec)
        .bearer_auth(token(&cluster.server))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    assert!(
        response
            .text()
            .await
            .unwrap()
            .contains("you must specify at least 1 command")
    );
}
