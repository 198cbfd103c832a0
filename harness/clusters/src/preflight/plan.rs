//! What a plan needs of clusters that are reached already. Asking changes nothing in them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::api::ListParams;
use meshproof_engine::api::describe;
use meshproof_engine::environment::Cluster;
use meshproof_engine::plan::permission::Permission;

use super::finding::Finding;
use super::{access, cidr};

/// Wall time within which a cluster must answer each question.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Rights of the plan, see `meshproof_engine::plan::rbac::needed`.
    pub permissions: BTreeSet<Permission>,
    /// Whether pods reach each other across clusters by their own addresses.
    pub flat: bool,
}

/// Looks at all clusters.
pub async fn of_plan(clusters: &[Cluster], needs: &Needs) -> Vec<Finding> {
    let rights = join_all(clusters.iter().map(|cluster| rights(cluster, &needs.permissions)));
    let mut findings = rights.await;
    findings.push(addresses(clusters, needs.flat).await);
    findings.extend(
        clusters
            .iter()
            .map(|cluster| reachability(&cluster.name, &cluster.api_from_peers)),
    );
    findings
}

/// An answer in time, or the reason why there is none.
async fn answer<T>(asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_TIME, asking).await {
        Ok(answer) => answer.map_err(|error| describe(&error)),
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIME.as_secs())),
    }
}

async fn rights(cluster: &Cluster, wanted: &BTreeSet<Permission>) -> Finding {
    let all: Vec<Permission> = wanted.iter().cloned().collect();
    let name = &cluster.name;
    match answer(access::refused(&cluster.client, all)).await {
        Ok(refused) if refused.is_empty() => Finding::ok(
            "DOC023",
            format!("{name}: the credentials have all {} rights needed", wanted.len()),
        ),
        Ok(refused) => {
            let missing: Vec<String> = refused.iter().map(ToString::to_string).collect();
            Finding::error(
                "DOC023",
                format!("{name}: the credentials lack: {}", missing.join("; ")),
                "apply what `meshproof plan --rbac` prints, and use its ServiceAccount",
            )
        }
        Err(error) => Finding::error(
            "DOC023",
            format!("{name}: whether the credentials have the rights needed can't be found out: {error}"),
            "see whether the credentials are valid",
        ),
    }
}

async fn addresses(clusters: &[Cluster], flat: bool) -> Finding {
    let mut networks = Vec::new();
    let mut unknown = BTreeSet::new();
    for (cluster, found) in clusters.iter().zip(join_all(clusters.iter().map(networks_of)).await) {
        if found.is_empty() {
            unknown.insert(cluster.name.as_str());
        }
        networks.extend(found.into_iter().map(|network| (cluster.name.clone(), network)));
    }
    let overlapping = cidr::overlaps(&networks);
    if !overlapping.is_empty() {
        let found = format!("addresses overlap: {}", overlapping.join("; "));
        let fix = "give the clusters disjoint networks for pods and services";
        return if flat {
            Finding::error("DOC024", found, fix)
        } else {
            Finding::warning("DOC024", found, fix)
        };
    }
    if unknown.is_empty() {
        return Finding::ok("DOC024", "no addresses of pods and services that are known overlap");
    }
    let unknown: Vec<&str> = unknown.into_iter().collect();
    Finding::warning(
        "DOC024",
        format!("not checked: the networks of {} can't be seen", unknown.join(", ")),
        "let the credentials list nodes, or see for yourself that networks are disjoint",
    )
}

/// Networks of a cluster's pods as its nodes tell, and the address of the API server's Service, which lies in the network
/// of services. Not every network plugin tells the nodes.
async fn networks_of(cluster: &Cluster) -> Vec<String> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let all = ListParams::default();
    let (listed, service) = tokio::join!(answer(nodes.list(&all)), answer(services.get("kubernetes")));
    let mut networks: BTreeSet<String> = BTreeSet::new();
    for node in listed.map(|list| list.items).unwrap_or_default() {
        let spec = node.spec.unwrap_or_default();
        networks.extend(spec.pod_cidrs.unwrap_or_default());
        networks.extend(spec.pod_cidr);
    }
    let spec = service.ok().and_then(|service| service.spec).unwrap_or_default();
    networks.extend(
        spec.cluster_ips
            .unwrap_or_default()
            .into_iter()
            .filter(|ip| ip != "None"),
    );
    networks.into_iter().collect()
}

/// Whether pods of one cluster reach the API server of another can only be found out from such a pod, and none is made here.
/// What certainly is wrong is told.
fn reachability(cluster: &str, url: &str) -> Finding {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let own = host == "localhost" || address.is_some_and(|address| address.is_loopback() || address.is_unspecified());
    if own {
        return Finding::warning(
            "DOC025",
            format!("{cluster}: {url} is this machine's own address: pods of other clusters can't reach it there"),
            "say how they do with --api; it matters only where the harness makes the links",
        );
    }
    Finding::warning(
        "DOC025",
        format!("{cluster}: not checked whether pods of other clusters reach {url}"),
        "a link that never gets ready is the sign: see whether a pod there can connect",
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::reachability;

    #[rstest]
    #[case("https://127.0.0.1:6443", "own address")]
    #[case("https://localhost:6443", "own address")]
    #[case("https://[::1]:6443", "own address")]
    #[case("https://172.18.0.2:6443", "not checked")]
    #[case("https://api.example:6443", "not checked")]
    fn nobody_else_reaches_loopback(#[case] url: &str, #[case] expected: &str) {
        let finding = reachability("west", url);
        assert!(finding.found.contains(expected), "{}", finding.found);
    }
}
