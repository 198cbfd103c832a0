//! What the service-mirror controllers that lead say of the gateways: read from their metrics through the API server.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, ResourceExt};
use meshproof_mesh::names::{CONTROLLER_ADMIN_PORT, MULTICLUSTER_NAMESPACE, label};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cluster::Cluster;
use crate::exchange::{Failure, Terminal};

/// Pods of controllers, of managed and of legacy links.
const CONTROLLERS: &str = "component in (linkerd-service-mirror, controller)";

/// One gateway, as `gateways -o json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    cluster_name: String,
    alive: bool,
    number_of_services: usize,
    latency: u64,
}

/// Metrics of the controllers that hold a Lease: name of the target, and what was read or why not.
pub(super) async fn metrics(
    cluster: &Cluster,
    target: Option<&str>,
) -> Result<Vec<(String, Result<String, String>)>, Failure> {
    let mut selector = CONTROLLERS.to_owned();
    if let Some(target) = target {
        selector = format!("{selector},{}={target}", label::CLUSTER_NAME);
    }
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), MULTICLUSTER_NAMESPACE);
    let leases = Api::<Lease>::namespaced(cluster.client.clone(), MULTICLUSTER_NAMESPACE);
    let leases = cluster.list(&leases, "").await?;
    let leaders: Vec<String> = leases
        .into_iter()
        .filter(|lease| lease.name_any().contains("service-mirror-write"))
        .filter_map(|lease| lease.spec?.holder_identity)
        .collect();
    let mut read = Vec::new();
    for pod in cluster.list(&pods, &selector).await? {
        let name = pod.name_any();
        if !leaders.contains(&name) {
            continue;
        }
        let of = pod.labels().get(label::CLUSTER_NAME).cloned().unwrap_or_default();
        read.push((of, scrape(&pods, &name).await));
    }
    Ok(read)
}

async fn scrape(pods: &Api<Pod>, name: &str) -> Result<String, String> {
    let mut forward = pods
        .portforward(name, &[CONTROLLER_ADMIN_PORT])
        .await
        .map_err(|error| error.to_string())?;
    let mut stream = forward
        .take_stream(CONTROLLER_ADMIN_PORT)
        .ok_or_else(|| "the port-forward has no stream".to_owned())?;
    // Version 1.0, so that the answer is not chunked and ends with the connection.
    let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    if head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        Ok(body.to_owned())
    } else {
        Err(format!(
            "unexpected answer: {}",
            head.lines().next().unwrap_or_default()
        ))
    }
}

/// A gauge about a target cluster in Prometheus' text format.
pub(super) fn gauge(metrics: &str, name: &str, target: &str) -> Option<f64> {
    let wanted = format!("target_cluster_name=\"{target}\"");
    metrics.lines().find_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once('}')?;
        labels
            .split(',')
            .any(|label| label == wanted)
            .then(|| value.trim().parse().ok())?
    })
}

/// Every gateway that is probed.
pub(super) async fn statuses(
    cluster: &Cluster,
    terminal: &Terminal,
    target: Option<&str>,
) -> Result<Vec<Status>, Failure> {
    if !cluster.has_extension().await? {
        return Err(Failure::new(
            "make sure the linkerd-multicluster extension is installed, using 'linkerd multicluster install'",
        ));
    }
    let mut statuses = Vec::new();
    for (name, read) in metrics(cluster, target).await? {
        let metrics = match read {
            Ok(metrics) => metrics,
            Err(error) => {
                terminal.note(&format!("Failed to get gateway status for {name}: {error}"));
                continue;
            }
        };
        if gauge(&metrics, "gateway_enabled", &name).is_some_and(|enabled| enabled < 1.0) {
            continue;
        }
        let selector = format!("{}=true,{}={name}", label::MIRRORED_SERVICE, label::CLUSTER_NAME);
        let services = cluster
            .list(&Api::<Service>::all(cluster.client.clone()), &selector)
            .await?;
        let latency = gauge(&metrics, "gateway_latency", &name).unwrap_or_default();
        statuses.push(Status {
            alive: gauge(&metrics, "gateway_alive", &name).is_some_and(|alive| alive >= 1.0),
            number_of_services: services.len(),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole milliseconds, as the command prints"
            )]
            latency: latency.max(0.0) as u64,
            cluster_name: name,
        });
    }
    Ok(statuses)
}

/// As a table, or as JSON.
pub(super) fn print(statuses: &[Status], output: Option<&str>) -> String {
    if output == Some("json") {
        // A list without entries is `null` in the real command's output.
        return match statuses {
            [] => "null\n".to_owned(),
            _ => serde_json::to_string_pretty(statuses).map_or_else(|_| String::new(), |text| format!("{text}\n")),
        };
    }
    let mut text = "CLUSTER  ALIVE    NUM_SVC      LATENCY  \n".to_owned();
    let mut sorted: Vec<&Status> = statuses.iter().collect();
    sorted.sort_by_key(|status| &status.cluster_name);
    for status in sorted {
        let (alive, latency) = if status.alive {
            ("True", format!("{}ms", status.latency))
        } else {
            ("False", "-".to_owned())
        };
        let line = format!(
            "{:7}  {alive:5}  {:>9}  {latency:>11}  \n",
            status.cluster_name, status.number_of_services
        );
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Status, gauge, print};

    fn status(name: &str, alive: bool, services: usize, latency: u64) -> Status {
        Status {
            cluster_name: name.to_owned(),
            alive,
            number_of_services: services,
            latency,
        }
    }

    /// Recorded from a real cluster whose gateway in `east` was down.
    const TABLE: &str = "\
CLUSTER  ALIVE    NUM_SVC      LATENCY  
east     False          8            -  
north    True           1         54ms  
";

    #[test]
    fn the_table_is_as_recorded() {
        let statuses = [status("north", true, 1, 54), status("east", false, 8, 5)];
        assert_eq!(print(&statuses, None), TABLE);
    }

    #[test]
    fn json_is_as_recorded() {
        let recorded = "[\n  {\n    \"clusterName\": \"east\",\n    \"alive\": false,\n    \"numberOfServices\": 8,\n    \"latency\": 5\n  }\n]\n";
        assert_eq!(print(&[status("east", false, 8, 5)], Some("json")), recorded);
        assert_eq!(print(&[], Some("json")), "null\n");
    }

    #[test]
    fn gauges_are_read_by_target() {
        let metrics = "# HELP gateway_alive x\ngateway_alive{gateway_name=\"g\",target_cluster_name=\"north\"} 0\n\
                       gateway_alive{gateway_name=\"g\",target_cluster_name=\"east\"} 1\n";
        assert_eq!(gauge(metrics, "gateway_alive", "east"), Some(1.0));
        assert_eq!(gauge(metrics, "gateway_alive", "west"), None);
    }
}
