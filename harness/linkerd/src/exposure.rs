//! Waiting until a gateway can be reached from outside.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::runtime::wait::await_condition;
use meshproof_engine::environment::Cluster;
use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scenario::GatewayExposure;

use crate::installer::{LinkValues, NodePorts};
use crate::names::{GATEWAY, MULTICLUSTER_NAMESPACE};

/// Time for a load balancer to get an address; cloud providers need minutes. Vendors' CLIs only look once.
const ADDRESS_TIME: Duration = Duration::from_secs(300);

/// Whether a link learns the gateway's address from the status of its Service.
pub(crate) fn from_status(values: &LinkValues, node_ports: Option<NodePorts>) -> bool {
    values.gateway && values.exposure == GatewayExposure::Loadbalancer && node_ports.is_none()
}

/// Waits until the gateway of `target` has an address, if the link is going to read it.
pub(crate) async fn gateway_has_address(
    target: &Cluster,
    values: &LinkValues,
    node_ports: Option<NodePorts>,
) -> Result<(), Problem> {
    if !from_status(values, node_ports) {
        return Ok(());
    }
    let services: Api<Service> = Api::namespaced(target.client.clone(), MULTICLUSTER_NAMESPACE);
    let addressed = await_condition(services, GATEWAY, |service: Option<&Service>| {
        service.is_some_and(has_address)
    });
    match tokio::time::timeout(ADDRESS_TIME, addressed).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(problem::environment(
            "api-watch-failed",
            format!("cluster {}: waiting for the gateway's address: {error}", target.name),
            Some("check that the cluster's API server answers"),
        )),
        Err(_) => Err(problem::environment(
            "gateway-without-address",
            format!(
                "cluster {}: Service {MULTICLUSTER_NAMESPACE}/{GATEWAY} has type LoadBalancer and got no address within \
                 {} s",
                target.name,
                ADDRESS_TIME.as_secs()
            ),
            Some("install a load-balancer controller, or expose gateways on node ports"),
        )),
    }
}

fn has_address(service: &Service) -> bool {
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().any(|one| {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        filled(&one.ip) || filled(&one.hostname)
    })
}

#[cfg(test)]
mod tests {
    use super::has_address;
    use serde_json::json;

    #[test]
    fn an_ip_or_a_name_is_an_address() {
        let service = |status| serde_json::from_value(json!({"status": status})).unwrap();
        assert!(has_address(&service(
            json!({"loadBalancer": {"ingress": [{"ip": "172.18.0.2", "ipMode": "VIP"}]}})
        )));
        assert!(has_address(&service(
            json!({"loadBalancer": {"ingress": [{"hostname": "gw.example"}]}})
        )));
        assert!(!has_address(&service(
            json!({"loadBalancer": {"ingress": [{"ip": ""}]}})
        )));
        assert!(!has_address(&service(json!({"loadBalancer": {}}))));
    }
}
