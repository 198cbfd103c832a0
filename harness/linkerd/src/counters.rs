//! Counters that prove a flow: each moves by exactly one a request (measured on real proxies).

use std::collections::BTreeMap;

use meshproof_engine::driver::{Counter, Flow};

use crate::names::{self, MULTICLUSTER_NAMESPACE, PROXY_ADMIN_PORT};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Counters of `flow`, from the client's proxy to the target's.
pub(crate) fn of(flow: &Flow) -> Vec<Counter> {
    let client = names::identity(&flow.client, &flow.namespace);
    let target = names::identity(&flow.service, &flow.namespace);
    let gateway = names::gateway_identity();
    let counter = |name: &str, cluster: &str, namespace: &str, selector: String, metric: &str, labels| Counter {
        name: name.to_owned(),
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        selector,
        port: PROXY_ADMIN_PORT,
        metric: metric.to_owned(),
        labels,
    };
    let workload = |name: &str| format!("app={name}");
    if flow.client_cluster == flow.server_cluster {
        return vec![
            counter(
                "client: requests over TLS to the target",
                &flow.client_cluster,
                &flow.namespace,
                workload(&flow.client),
                "request_total",
                labels(&[
                    ("direction", "outbound"),
                    ("tls", "true"),
                    ("server_id", &target),
                    ("dst_service", &flow.service),
                ]),
            ),
            counter(
                "target: requests over TLS from the client",
                &flow.server_cluster,
                &flow.namespace,
                workload(&flow.service),
                "request_total",
                labels(&[("direction", "inbound"), ("tls", "true"), ("client_id", &client)]),
            ),
        ];
    }
    vec![
        counter(
            "client: requests over TLS to the gateway",
            &flow.client_cluster,
            &flow.namespace,
            workload(&flow.client),
            "request_total",
            labels(&[
                ("direction", "outbound"),
                ("tls", "true"),
                ("server_id", &gateway),
                ("dst_target_cluster", &flow.server_cluster),
                ("dst_target_service", &flow.service),
                ("dst_target_service_namespace", &flow.namespace),
            ]),
        ),
        counter(
            "gateway: requests admitted from the client",
            &flow.server_cluster,
            MULTICLUSTER_NAMESPACE,
            "app=linkerd-gateway".to_owned(),
            "inbound_http_authz_allow_total",
            labels(&[
                ("target_port", "4143"),
                ("srv_name", "linkerd-gateway"),
                ("tls", "true"),
                ("client_id", &client),
            ]),
        ),
        counter(
            "gateway: requests over TLS to the target",
            &flow.server_cluster,
            MULTICLUSTER_NAMESPACE,
            "app=linkerd-gateway".to_owned(),
            "request_total",
            labels(&[
                ("direction", "outbound"),
                ("tls", "true"),
                ("server_id", &target),
                ("dst_service", &flow.service),
                ("dst_namespace", &flow.namespace),
            ]),
        ),
        counter(
            "target: requests over TLS from the gateway",
            &flow.server_cluster,
            &flow.namespace,
            workload(&flow.service),
            "request_total",
            labels(&[("direction", "inbound"), ("tls", "true"), ("client_id", &gateway)]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::of;
    use meshproof_engine::driver::Flow;

    fn flow(server_cluster: &str) -> Flow {
        Flow {
            namespace: "shop".into(),
            client_cluster: "west".into(),
            client: "shopper".into(),
            server_cluster: server_cluster.into(),
            service: "store".into(),
            port: 80,
        }
    }

    #[test]
    fn a_flow_through_a_gateway_is_counted_by_three_proxies() {
        let counters = of(&flow("east"));
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
        let counters = of(&flow("west"));
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
