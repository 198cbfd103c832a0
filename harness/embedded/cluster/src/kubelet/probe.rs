//! Probes: does the application answer?

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fabric::{Fabric, PodSocket};
use crate::object::{count, list, text};
use crate::pace::Pace;

/// A probe is never given up sooner than this in wall time: at a high pace its own time-out would be shorter than the
/// delays of a busy machine, which no pace scales.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// What is asked of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Question {
    HttpGet {
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    TcpSocket {
        port: u16,
    },
    /// A kind of probe that cannot be carried out; it always fails, with this text.
    Unsupported(String),
}

/// A probe of a container. Times are wall time.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    question: Question,
    pub(crate) period: Duration,
    timeout: Duration,
    pub(crate) failure_threshold: i64,
    pub(crate) success_threshold: i64,
}

impl Probe {
    /// Reads a probe; `None` when the container has none. `initialDelaySeconds` is not waited for: a first answer that
    /// comes early is as good, and one that fails is not counted before the first success.
    pub(crate) fn of(container: &Value, kind: &str, pace: Pace) -> Option<Self> {
        let probe = &container[kind];
        if probe.is_null() {
            return None;
        }
        let seconds = |field: &str, default: u64| {
            pace.wall(Duration::from_secs(
                probe[field].as_u64().filter(|s| *s > 0).unwrap_or(default),
            ))
        };
        let threshold = |field: &str, default: i64| match count(&probe[field]) {
            0 => default,
            number => number,
        };
        Some(Self {
            question: question(container, probe),
            period: seconds("periodSeconds", 10),
            timeout: seconds("timeoutSeconds", 1).max(LEAST_TIMEOUT),
            failure_threshold: threshold("failureThreshold", 3),
            success_threshold: threshold("successThreshold", 1),
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why the answer counts as a failure, in the words of a kubelet.
    pub(crate) async fn ask(&self, fabric: &Fabric, pod: &Arc<PodSocket>, node: Ipv4Addr) -> Result<(), String> {
        let asking = self.ask_in_time(fabric, pod, node);
        tokio::time::timeout(self.timeout, asking).await.unwrap_or_else(|_| {
            Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into())
        })
    }

    async fn ask_in_time(&self, fabric: &Fabric, pod: &Arc<PodSocket>, node: Ipv4Addr) -> Result<(), String> {
        let (port, request) = match &self.question {
            Question::Unsupported(why) => return Err(why.clone()),
            Question::TcpSocket { port } => (*port, None),
            Question::HttpGet { port, path, headers } => (*port, Some(request(pod.address, *port, path, headers))),
        };
        // Sidecars let probes pass to the application; ports of the sidecar itself answer through it.
        let past_sidecar = pod.listens(port);
        let opened = fabric
            .dial_inside(pod, port, IpAddr::V4(node), None, past_sidecar)
            .await;
        let mut stream = opened.map_err(|e| {
            format!(
                "dial tcp {}:{port}: connect: {}",
                pod.address,
                match e.kind() {
                    std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    _ => e.to_string(),
                }
            )
        })?;
        let Some(request) = request else {
            return Ok(());
        };
        let failed = |e: std::io::Error| format!("HTTP probe failed: {e}");
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut head = Vec::new();
        let mut buffer = [0; 512];
        while !head.contains(&b'\n') && head.len() < 4096 {
            let count = stream.read(&mut buffer).await.map_err(failed)?;
            if count == 0 {
                break;
            }
            head.extend_from_slice(&buffer[..count]);
        }
        match status_code(&head) {
            Some(200..=399) => Ok(()),
            Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
            None => Err("HTTP probe failed: malformed HTTP response".into()),
        }
    }
}

fn question(container: &Value, probe: &Value) -> Question {
    let http = &probe["httpGet"];
    let tcp = &probe["tcpSocket"];
    let handler = if http.is_null() { tcp } else { http };
    if handler.is_null() {
        let kinds = ["exec", "grpc"];
        let kind = kinds.iter().find(|k| !probe[**k].is_null());
        let kind = kind.unwrap_or(&"unknown");
        return Question::Unsupported(format!(
            "unsupported: {kind} probes (the embedded kubelet knows httpGet and tcpSocket)"
        ));
    }
    let Some(port) = port(container, &handler["port"]) else {
        return Question::Unsupported(format!(
            "the container has no port {}; name one of its ports or give a number",
            handler["port"]
        ));
    };
    if http.is_null() {
        return Question::TcpSocket { port };
    }
    if http["scheme"] == "HTTPS" {
        return Question::Unsupported("unsupported: httpGet probes with scheme HTTPS".into());
    }
    let headers = list(&http["httpHeaders"])
        .map(|h| (text(&h["name"]).to_owned(), text(&h["value"]).to_owned()))
        .collect();
    let path = match text(&http["path"]) {
        "" => "/",
        path => path,
    };
    Question::HttpGet {
        port,
        path: path.to_owned(),
        headers,
    }
}

fn port(container: &Value, wanted: &Value) -> Option<u16> {
    let number = match wanted {
        Value::String(name) => list(&container["ports"])
            .find(|p| text(&p["name"]) == name)
            .map(|p| &p["containerPort"])?
            .as_u64()?,
        other => other.as_u64()?,
    };
    number.try_into().ok().filter(|port| *port > 0)
}

fn request(address: Ipv4Addr, port: u16, path: &str, headers: &[(String, String)]) -> String {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\nConnection: close\r\n"
    );
    for (name, value) in headers {
        request.push_str(name);
        request.push_str(": ");
        request.push_str(value);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

fn status_code(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_are_read_with_kubernetes_defaults() {
        let container = json!({
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 3},
            "livenessProbe": {"tcpSocket": {"port": 9090}, "failureThreshold": 5},
        });
        let probe = Probe::of(&container, "readinessProbe", Pace::new(10.0)).unwrap();
        assert_eq!(
            probe.question,
            Question::HttpGet {
                port: 8080,
                path: "/".into(),
                headers: vec![]
            }
        );
        assert_eq!(probe.period, Duration::from_millis(300));
        assert_eq!((probe.failure_threshold, probe.success_threshold), (3, 1));
        let probe = Probe::of(&container, "livenessProbe", Pace::NORMAL).unwrap();
        assert_eq!(probe.question, Question::TcpSocket { port: 9090 });
        assert_eq!(probe.failure_threshold, 5);
        assert!(Probe::of(&container, "startupProbe", Pace::NORMAL).is_none());
    }

    #[test]
    fn what_cannot_be_probed_says_so() {
        let question = |probe: Value| question(&json!({}), &probe);
        for probe in [
            json!({"exec": {"command": ["true"]}}),
            json!({"grpc": {"port": 1}}),
            json!({"httpGet": {"port": 80, "scheme": "HTTPS"}}),
            json!({"httpGet": {"port": "nosuch"}}),
            json!({}),
        ] {
            assert!(matches!(question(probe.clone()), Question::Unsupported(_)), "{probe}");
        }
    }

    #[test]
    fn status_lines_are_read() {
        assert_eq!(status_code(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status_code(b"HTTP/1.0 503 no\r\n"), Some(503));
        assert_eq!(status_code(b"SSH-2.0\r\n"), None);
        assert_eq!(status_code(b""), None);
    }
}
