//! Splits as Gateway API HTTPRoutes attached to a Service.

use meshproof_engine::driver::{MARKER_HEADER, RouteRequest};
use serde_json::{Value, json};

/// The route of a split. Its rule adds the marker header, which local and mirrored backends both receive: that is how a
/// client can tell when exactly this route is live.
pub(crate) fn http_route(route: &RouteRequest) -> Value {
    let backends: Vec<Value> = route
        .backends
        .iter()
        .map(|(service, weight)| json!({"group": "", "kind": "Service", "name": service, "port": route.port, "weight": weight}))
        .collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": route.service, "namespace": route.namespace},
        "spec": {
            // `kind: Service` and the core group must be spelt out: the CRD's defaults name a Gateway.
            "parentRefs": [{"group": "", "kind": "Service", "name": route.service, "port": route.port}],
            "rules": [{
                "filters": [{
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": MARKER_HEADER, "value": route.marker}]},
                }],
                "backendRefs": backends,
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::http_route;
    use meshproof_engine::driver::RouteRequest;

    #[test]
    fn a_split_names_its_service_its_backends_and_its_marker() {
        let route = http_route(&RouteRequest {
            namespace: "shop".into(),
            service: "store".into(),
            port: 80,
            backends: vec![("store".into(), 70), ("store-east".into(), 30)],
            marker: "m1".into(),
        });
        assert_eq!(route["spec"]["parentRefs"][0]["kind"], "Service");
        assert_eq!(route["spec"]["rules"][0]["backendRefs"][1]["name"], "store-east");
        assert_eq!(route["spec"]["rules"][0]["backendRefs"][1]["weight"], 30);
        assert_eq!(
            route["spec"]["rules"][0]["filters"][0]["requestHeaderModifier"]["set"][0]["value"],
            "m1"
        );
    }
}
