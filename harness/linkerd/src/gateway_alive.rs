//! Whether a link's gateway counts as alive: the controller's own metric, sampled over one kept connection.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use meshproof_engine::environment::Cluster;
use meshproof_engine::metrics;
use tokio::sync::mpsc;

use crate::names::{CONTROLLER_ADMIN_PORT, MULTICLUSTER_NAMESPACE};
use crate::version::ObjectModel;

/// Wall time between samples.
const SAMPLE: Duration = Duration::from_millis(50);

/// The value of `gateway_alive` for `to` in `from`, first the current one and then every change; nothing while no
/// controller publishes it.
pub(crate) fn watch(from: &Cluster, to: &str, model: ObjectModel) -> BoxStream<'static, Option<f64>> {
    let (sender, receiver) = mpsc::channel(16);
    let pods: Api<Pod> = Api::namespaced(from.client.clone(), MULTICLUSTER_NAMESPACE);
    tokio::spawn(follow(pods, model.controller_pods(to), to.to_owned(), sender));
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|value| (value, receiver))
    })
    .boxed()
}

async fn follow(pods: Api<Pod>, selector: String, to: String, sender: mpsc::Sender<Option<f64>>) {
    let mut last = None;
    if sender.send(None).await.is_err() {
        return;
    }
    let config = watcher::Config::default().labels(&selector);
    let mut changes = watcher(pods.clone(), config)
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        // The next pod that is ready; the watch ends only with the process.
        let pod = tokio::select! {
            () = sender.closed() => return,
            change = changes.try_next() => change,
        };
        let name = match pod {
            Ok(Some(pod)) if ready(&pod) => pod.metadata.name.unwrap_or_default(),
            Ok(None) => return,
            Ok(Some(_)) | Err(_) => continue,
        };
        if sample(&pods, &name, &to, &mut last, &sender).await.is_none() {
            return;
        }
        if last.is_some() {
            last = None;
            if sender.send(None).await.is_err() {
                return;
            }
        }
    }
}

/// Samples one pod until its connection ends (`Some`) or nobody listens any more (`None`).
async fn sample(
    pods: &Api<Pod>,
    name: &str,
    to: &str,
    last: &mut Option<f64>,
    sender: &mpsc::Sender<Option<f64>>,
) -> Option<()> {
    let Ok(mut forward) = pods.portforward(name, &[CONTROLLER_ADMIN_PORT]).await else {
        return Some(());
    };
    let Some(stream) = forward.take_stream(CONTROLLER_ADMIN_PORT) else {
        return Some(());
    };
    let Ok((mut requests, connection)) = http1::handshake(TokioIo::new(stream)).await else {
        return Some(());
    };
    let connection = tokio::spawn(connection);
    let ended = loop {
        let request = hyper::Request::get("/metrics")
            .header("host", "controller")
            .body(Empty::<Bytes>::new());
        let Ok(request) = request else { break Some(()) };
        let Ok(response) = requests.send_request(request).await else {
            break Some(());
        };
        let Ok(body) = response.into_body().collect().await else {
            break Some(());
        };
        let value = gateway_alive(&String::from_utf8_lossy(&body.to_bytes()), to);
        if value != *last {
            *last = value;
            if sender.send(value).await.is_err() {
                break None;
            }
        }
        tokio::select! {
            () = sender.closed() => break None,
            () = tokio::time::sleep(SAMPLE) => {}
        }
    };
    connection.abort();
    ended
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| {
            all.iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

/// The sample of `gateway_alive` for one target in a page of metrics.
fn gateway_alive(page: &str, to: &str) -> Option<f64> {
    // A page has hundreds of lines and is read every [`SAMPLE`]; one or two of them matter.
    page.lines()
        .filter(|line| line.starts_with("gateway_alive"))
        .flat_map(metrics::parse)
        .find(|sample| {
            sample.name == "gateway_alive"
                && sample
                    .labels
                    .get("target_cluster_name")
                    .is_some_and(|target| target == to)
        })
        .map(|sample| sample.value)
}

#[cfg(test)]
mod tests {
    use super::gateway_alive;

    #[test]
    fn the_sample_of_the_right_target_is_read() {
        let page = "# TYPE gateway_alive gauge\ngateway_alive{target_cluster_name=\"north\"} 0\ngateway_alive{target_cluster_name=\"east\"} 1\n";
        assert_eq!(gateway_alive(page, "east"), Some(1.0));
        assert_eq!(gateway_alive(page, "north"), Some(0.0));
        assert_eq!(gateway_alive(page, "south"), None);
        assert_eq!(gateway_alive("", "east"), None);
        // One name inside another is not it.
        let inside =
            "gateway_alive{target_cluster_name=\"northeast\"} 0\ngateway_alive_total{target_cluster_name=\"east\"} 5\n";
        assert_eq!(gateway_alive(inside, "east"), None);
    }
}
