//! Metrics of proxies and controllers: fetched over a port-forward, read as Prometheus text.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use crate::agents::forward;
use crate::api::Requests;
use crate::environment::Cluster;
use crate::problem::{self, Problem};

/// Time for one fetch (scenario time).
const FETCH_TIME: Duration = Duration::from_secs(60);
/// Largest page that is read, bytes. A proxy drops what was idle for ten minutes, so that its page follows what is in use.
const LARGEST_PAGE: usize = 16 * 1024 * 1024;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Metric.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// The metrics page of a pod.
///
/// # Errors
/// When the pod can't be reached or does not answer with a page.
pub async fn fetch(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    port: u16,
    requests: &Requests,
) -> Result<String, Problem> {
    let broken = |message: String| {
        problem::environment(
            "metrics-unreadable",
            format!(
                "{}: metrics of Pod {namespace}/{pod} on port {port}: {message}",
                cluster.name
            ),
            Some("see whether the pod is ready, and its log"),
        )
    };
    let fetched = requests.clock.within(FETCH_TIME, async {
        let stream = forward(cluster, namespace, pod, port, requests).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // How the connection ends is told to the request on it.
            let _ = connection.await;
        }));
        let request = http::Request::get("/metrics")
            .header(http::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(error.to_string()))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_PAGE)
            .collect()
            .await
            .map_err(|error| {
                broken(if error.is::<LengthLimitError>() {
                    format!("the page is longer than {} MiB", LARGEST_PAGE >> 20)
                } else {
                    error.to_string()
                })
            })?
            .to_bytes();
        if !status.is_success() {
            return Err(broken(format!("status {status}")));
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    });
    fetched.await.unwrap_or_else(|_| Err(broken("no answer".to_owned())))
}

/// Reads Prometheus' text format. Lines that are no samples are passed over, as a scraper of several versions must.
#[must_use]
pub fn parse(page: &str) -> Vec<Sample> {
    page.lines().filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, after) = rest.split_once('=')?;
        let mut value = String::new();
        let mut characters = after.trim_start().strip_prefix('"')?.char_indices();
        let quoted = after.trim_start().strip_prefix('"')?;
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim().to_owned(), value);
        rest = quoted[end + 1..].trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
}

/// Sum of all values of a metric whose labels include these.
#[must_use]
pub fn sum(samples: &[Sample], metric: &str, labels: &BTreeMap<String, String>) -> f64 {
    samples
        .iter()
        .filter(|sample| {
            sample.name == metric && labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value))
        })
        .map(|sample| sample.value)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{Sample, parse, sum};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const PAGE: &str = r#"
# HELP request_total Total count of HTTP requests.
# TYPE request_total counter
request_total{direction="outbound",tls="true",authority="store-east.shop.svc.cluster.local:80"} 100
request_total{direction="outbound",tls="no_identity"} 7
request_total{direction="inbound",tls="true",} 3 1700000000000
process_start_time_seconds 1.7e9
weird{path="a\"b\\c\nd, e}"} +Inf
nonsense
broken{a="b 3
"#;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn samples_are_read_and_the_rest_is_passed_over() {
        let samples = parse(PAGE);
        assert_eq!(samples.len(), 5);
        assert_eq!(samples[4].labels["path"], "a\"b\\c\nd, e}");
        assert!(samples[4].value.is_infinite());
        assert_eq!(
            sum(&samples, "request_total", &labels(&[("direction", "outbound")])),
            107.0
        );
        assert_eq!(sum(&samples, "request_total", &labels(&[("tls", "true")])), 103.0);
        assert_eq!(sum(&samples, "request_total", &labels(&[("tls", "loopback")])), 0.0);
        assert_eq!(sum(&samples, "process_start_time_seconds", &labels(&[])), 1.7e9);
    }

    fn written(sample: &Sample) -> String {
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(key, value)| {
                format!(
                    "{key}=\"{}\"",
                    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
                )
            })
            .collect();
        format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            name in "[a-z_][a-z0-9_]{0,12}",
            labels in prop::collection::btree_map("[a-z_]{1,6}", "[ -~\n]{0,12}", 0..4),
            value in -1e12..1e12_f64,
        ) {
            let sample = Sample { name, labels, value };
            prop_assert_eq!(parse(&written(&sample)), vec![sample]);
        }

        #[test]
        fn no_page_makes_it_fail(page in "[ -~\n\"{}=,\\\\]{0,200}") {
            let _ = parse(&page);
        }
    }
}
