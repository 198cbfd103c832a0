//! Counters that prove a flow: each moves by exactly one a request (measured on real proxies).

use std::collections::BTreeMap;

use meshproof_engine::driver::{Counter, Flow};
use meshproof_spec::scenario::ExportMode;

use crate::names::{self, MULTICLUSTER_NAMESPACE, PROXY_ADMIN_PORT};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Counters of `flow`, from the client's proxy to the target's.
pub(crate) fn of(flow: &Flow) -> Vec<Counter> {
    match flow.export {
        None | Some(ExportMode::Flat) => vec![from_client_to_pod(flow), at_target(flow, &client(flow), "client")],
        // The other members of a federated Service answer, too, so that the target's counters move by an unknown part.
        Some(ExportMode::Federated) => vec![from_client_to_pod(flow)],
        Some(ExportMode::Gateway) => through_gateway(flow),
    }
}

fn client(flow: &Flow) -> String {
    names::identity(&flow.client, &flow.namespace)
}

fn target(flow: &Flow) -> String {
    names::identity(&flow.service, &flow.namespace)
}

/// A counter of a workload's proxies.
fn of_workload(flow: &Flow, name: String, cluster: &str, workload: &str, pairs: &[(&str, &str)]) -> Counter {
    Counter {
        name,
        cluster: cluster.to_owned(),
        namespace: flow.namespace.clone(),
        selector: format!("app={workload}"),
        port: PROXY_ADMIN_PORT,
        metric: "request_total".to_owned(),
        labels: labels(pairs),
    }
}

/// What the client's proxy sends to pods itself. Also in flat mode `dst_service` is the Service's name in its own cluster,
/// and no label names that cluster; the mirror's name is in `authority` only, behind a DNS domain that is not known here.
fn from_client_to_pod(flow: &Flow) -> Counter {
    of_workload(
        flow,
        "client: requests over TLS to the target".to_owned(),
        &flow.client_cluster,
        &flow.client,
        &[
            ("direction", "outbound"),
            ("tls", "true"),
            ("server_id", &target(flow)),
            ("dst_service", &flow.service),
        ],
    )
}

/// What the target's proxies take from `peer`.
fn at_target(flow: &Flow, peer: &str, word: &str) -> Counter {
    of_workload(
        flow,
        format!("target: requests over TLS from the {word}"),
        &flow.server_cluster,
        &flow.service,
        &[("direction", "inbound"), ("tls", "true"), ("client_id", peer)],
    )
}

fn through_gateway(flow: &Flow) -> Vec<Counter> {
    let gateway = names::gateway_identity();
    let of_gateway = |name: &str, metric: &str, pairs: &[(&str, &str)]| Counter {
        name: name.to_owned(),
        cluster: flow.server_cluster.clone(),
        namespace: MULTICLUSTER_NAMESPACE.to_owned(),
        selector: "app=linkerd-gateway".to_owned(),
        port: PROXY_ADMIN_PORT,
        metric: metric.to_owned(),
        labels: labels(pairs),
    };
    vec![
        of_workload(
            flow,
            "client: requests over TLS to the gateway".to_owned(),
            &flow.client_cluster,
            &flow.client,
            &[
                ("direction", "outbound"),
                ("tls", "true"),
                ("server_id", &gateway),
                ("dst_target_cluster", &flow.server_cluster),
                ("dst_target_service", &flow.service),
                ("dst_target_service_namespace", &flow.namespace),
            ],
        ),
        of_gateway(
            "gateway: requests admitted from the client",
            "inbound_http_authz_allow_total",
            &[
                ("target_port", "4143"),
                ("srv_name", "linkerd-gateway"),
                ("tls", "true"),
                ("client_id", &client(flow)),
            ],
        ),
        of_gateway(
            "gateway: requests over TLS to the target",
            "request_total",
            &[
                ("direction", "outbound"),
                ("tls", "true"),
                ("server_id", &target(flow)),
                ("dst_service", &flow.service),
                ("dst_namespace", &flow.namespace),
            ],
        ),
        at_target(flow, &gateway, "gateway"),
    ]
}

#[cfg(test)]
mod tests {
    use super::of;
    use meshproof_engine::driver::Flow;
    use meshproof_spec::scenario::ExportMode;

    fn flow(server_cluster: &str, export: Option<ExportMode>) -> Flow {
        Flow {
            namespace: "shop".into(),
            client_cluster: "west".into(),
            client: "shopper".into(),
            server_cluster: server_cluster.into(),
            service: "store".into(),
            port: 80,
            export,
        }
    }

    #[test]
    fn a_flow_through_a_gateway_is_counted_by_three_proxies() {
        let counters = of(&flow("east", Some(ExportMode::Gateway)));
        let places: Vec<_> = counters
            .iter()
            .map(|counter| (counter.cluster.as_str(), counter.selector.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                ("west", "app=shopper"),
                ("east", "app=linkerd-gateway"),
                ("east", "app=linkerd-gateway"),
                ("east", "app=store")
            ]
        );
        assert!(counters.iter().all(|counter| counter.labels["tls"] == "true"));
    }

    #[test]
    fn a_local_flow_names_both_workloads() {
        let counters = of(&flow("west", None));
        assert_eq!(
            counters[0].labels["server_id"],
            "store.shop.serviceaccount.identity.linkerd.cluster.local"
        );
        assert_eq!(
            counters[1].labels["client_id"],
            "shopper.shop.serviceaccount.identity.linkerd.cluster.local"
        );
    }
}
