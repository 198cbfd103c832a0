//! Fetching a pinned CLI from a server on loopback.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshproof_linkerd::download::fetch_cli;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BINARY: &[u8] = b"#!/bin/sh\necho edge-26.8.3\n";

/// Serves `/edge-…` files, nothing else; counts requests.
async fn server() -> (String, Arc<AtomicUsize>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/{{version}}/linkerd2-cli-{{os}}-{{arch}}",
        listener.local_addr().unwrap()
    );
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let found = request.starts_with("GET /edge-") && !request.contains('{');
            let (status, body) = if found {
                ("200 OK", BINARY)
            } else {
                ("404 Not Found", &b"no"[..])
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        }
    });
    (url, asked)
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn the_right_file_is_kept_and_not_fetched_again() {
    let (url, asked) = server().await;
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("tools");
    let path = fetch_cli("edge-26.8.3", &sum(BINARY), &folder, &url).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), BINARY);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(
        fetch_cli("edge-26.8.3", &sum(BINARY), &folder, &url).await.unwrap(),
        path
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // A file that somebody changed is not run.
    std::fs::write(&path, "something else").unwrap();
    fetch_cli("edge-26.8.3", &sum(BINARY), &folder, &url).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), BINARY);
    assert_eq!((asked.load(Ordering::SeqCst), files(&folder)), (2, 1));
}

#[tokio::test]
async fn a_wrong_file_leaves_nothing_and_names_both_sums() {
    let (url, _) = server().await;
    let cache = tempfile::tempdir().unwrap();
    let wanted = sum(b"what the release's page says");
    let problem = fetch_cli("edge-26.8.3", &wanted, cache.path(), &url).await.unwrap_err();
    assert_eq!(problem.code, "checksum-mismatch");
    assert!(problem.message.contains(&wanted), "{}", problem.message);
    assert!(problem.message.contains(&sum(BINARY)), "{}", problem.message);
    assert_eq!(files(cache.path()), 0);
}

#[tokio::test]
async fn what_can_not_be_fetched_is_a_problem() {
    let (url, asked) = server().await;
    let cache = tempfile::tempdir().unwrap();
    let problem = fetch_cli("stable-9", &sum(BINARY), cache.path(), &url)
        .await
        .unwrap_err();
    assert_eq!(problem.code, "download-failed");
    assert!(problem.message.contains("404"), "{}", problem.message);
    let problem = fetch_cli("edge-1", &sum(BINARY), cache.path(), "http://127.0.0.1:1/{version}")
        .await
        .unwrap_err();
    assert_eq!(problem.code, "download-failed");
    let requests = asked.load(Ordering::SeqCst);
    assert_eq!(
        fetch_cli("edge-1", "abc", cache.path(), &url).await.unwrap_err().code,
        "checksum-malformed"
    );
    let outside = fetch_cli("../edge-1", &sum(BINARY), cache.path(), &url)
        .await
        .unwrap_err();
    assert_eq!(outside.code, "version-malformed");
    assert_eq!((asked.load(Ordering::SeqCst), files(cache.path())), (requests, 0));
}
