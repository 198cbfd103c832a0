//! What of an object has no effect in the model although the real mesh, or a real cluster, acts on it. Nothing that rests on it
//! can be judged here.
//!
//! Kinds that the model would ignore as a whole are not served, see [`crate::install`]. What is left are parts of kinds that it
//! knows: of annotations that the mesh acts on, those that the model acts on are listed, and all others have no effect.

use serde_json::Value;

use crate::destination::route::Route;
use crate::names::{annotation, label};

/// Annotations with which the model does what the real mesh does.
const MODELLED: [&str; 7] = [
    annotation::DEFAULT_INBOUND_POLICY,
    annotation::ENABLE_GATEWAY,
    annotation::WAIT_BEFORE_EXIT,
    annotation::OPAQUE_PORTS,
    annotation::REQUIRE_IDENTITY_PORTS,
    annotation::SKIP_INBOUND_PORTS,
    annotation::SKIP_OUTBOUND_PORTS,
];

/// Domains of annotations that only describe, or that only the multicluster extension reads, all of which is modelled.
const DESCRIBING: [&str; 3] = ["linkerd.io", "mirror.linkerd.io", "multicluster.linkerd.io"];

/// Kinds of policy targets and of authentications that the model's policies know.
const TARGETS: [&str; 2] = ["Server", "Namespace"];
const AUTHENTICATIONS: [&str; 3] = ["MeshTLSAuthentication", "NetworkAuthentication", "ServiceAccount"];

/// Protocols of a Server that change nothing about how a model's proxy handles a connection: it finds out by itself.
const PROTOCOLS: [&str; 4] = ["", "unknown", "HTTP/1", "HTTP/2"];

/// Names what of an object has no effect in the model, each with its place in the object.
#[must_use]
pub fn unmodelled(object: &Value) -> Vec<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    let annotated = match kind {
        "Service" | "Namespace" | "Pod" | "HTTPRoute" => object.get("metadata"),
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => object.pointer("/spec/template/metadata"),
        _ => None,
    };
    let mut found: Vec<String> = annotated.into_iter().flat_map(annotations).collect();
    match kind {
        "Service" => {
            for (name, value) in [(label::EXPORTED, "remote-discovery"), (label::FEDERATED, "member")] {
                if object["metadata"]["labels"][name] == value {
                    found.push(format!("label `{name}: {value}`"));
                }
            }
            if text("/spec/sessionAffinity") == "ClientIP" {
                found.push("spec.sessionAffinity `ClientIP`".to_owned());
            }
        }
        "HTTPRoute" => {
            let route = Route::read(object);
            found.extend(route.unsupported.filter(|_| !route.parents.is_empty()));
        }
        "Server" => {
            if object["spec"]["podSelector"].is_null() {
                found.push("a Server without spec.podSelector".to_owned());
            }
            let protocol = text("/spec/proxyProtocol");
            if !PROTOCOLS.contains(&protocol) {
                found.push(format!("spec.proxyProtocol `{protocol}`"));
            }
        }
        "AuthorizationPolicy" => {
            let kind = text("/spec/targetRef/kind");
            if !TARGETS.contains(&kind) {
                found.push(format!("spec.targetRef of kind `{kind}`"));
            }
            let required = object["spec"]["requiredAuthenticationRefs"].as_array();
            let kinds = required.into_iter().flatten().filter_map(|one| one["kind"].as_str());
            let others = kinds.filter(|kind| !AUTHENTICATIONS.contains(kind));
            found.extend(others.map(|kind| format!("spec.requiredAuthenticationRefs of kind `{kind}`")));
        }
        "NetworkPolicy" => found.push("a NetworkPolicy".to_owned()),
        // What a controller of the embedded cluster refuses, it says in an event.
        "Event" => found.extend(text("/message").strip_prefix("unsupported: ").map(|what| {
            let (kind, name) = (text("/involvedObject/kind"), text("/involvedObject/name"));
            format!("{kind} {name}: {what}")
        })),
        _ => {}
    }
    found
}

fn annotations(metadata: &Value) -> impl Iterator<Item = String> {
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    annotations.filter_map(|(name, value)| {
        let (domain, _) = name.split_once('/')?;
        if name == annotation::INJECT {
            return (value == "ingress").then(|| format!("annotation `{name}: ingress`"));
        }
        let acted_on = domain.ends_with(".linkerd.io") && !DESCRIBING.contains(&domain);
        (acted_on && !MODELLED.contains(&name.as_str())).then(|| format!("annotation `{name}`"))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::unmodelled;

    fn service(metadata: Value, spec: Value) -> Value {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec})
    }

    fn annotated(name: &str) -> Value {
        service(json!({"annotations": {name: "x"}}), json!({}))
    }

    fn route(rule: Value) -> Value {
        json!({"kind": "HTTPRoute", "apiVersion": "gateway.networking.k8s.io/v1", "metadata": {"namespace": "shop", "name": "split"},
            "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "store"}], "rules": [rule]}})
    }

    #[rstest]
    #[case::retry(annotated("retry.linkerd.io/http"), &["annotation `retry.linkerd.io/http`"])]
    #[case::timeout(annotated("timeout.linkerd.io/request"), &["annotation `timeout.linkerd.io/request`"])]
    #[case::breaker(annotated("balancer.linkerd.io/failure-accrual"), &["annotation `balancer.linkerd.io/failure-accrual`"])]
    #[case::alpha(annotated("balancer.alpha.linkerd.io/load-biaser"), &["annotation `balancer.alpha.linkerd.io/load-biaser`"])]
    #[case::of_the_proxy(annotated("config.linkerd.io/proxy-outbound-connect-timeout"), &["annotation `config.linkerd.io/proxy-outbound-connect-timeout`"])]
    #[case::opaque_ports(annotated("config.linkerd.io/opaque-ports"), &[])]
    #[case::describing(annotated("linkerd.io/created-by"), &[])]
    #[case::gateways(annotated("mirror.linkerd.io/probe-period"), &[])]
    #[case::of_others(annotated("example.com/retry"), &[])]
    #[case::that_looks_like_it(annotated("notlinkerd.io/retry"), &[])]
    #[case::flat(service(json!({"labels": {"mirror.linkerd.io/exported": "remote-discovery"}}), json!({})), &["label `mirror.linkerd.io/exported: remote-discovery`"])]
    #[case::exported(service(json!({"labels": {"mirror.linkerd.io/exported": "true"}}), json!({})), &[])]
    #[case::federated(service(json!({"labels": {"mirror.linkerd.io/federated": "member"}}), json!({})), &["label `mirror.linkerd.io/federated: member`"])]
    #[case::affinity(service(json!({}), json!({"sessionAffinity": "ClientIP"})), &["spec.sessionAffinity `ClientIP`"])]
    #[case::no_affinity(service(json!({}), json!({"sessionAffinity": "None"})), &[])]
    #[case::pods(json!({"kind": "Deployment", "spec": {"template": {"metadata": {"annotations": {"config.linkerd.io/proxy-cpu-limit": "1", "linkerd.io/inject": "ingress"}}}}}),
        &["annotation `config.linkerd.io/proxy-cpu-limit`", "annotation `linkerd.io/inject: ingress`"])]
    #[case::injected(json!({"kind": "Namespace", "metadata": {"annotations": {"linkerd.io/inject": "enabled"}}}), &[])]
    #[case::timeouts(route(json!({"timeouts": {"request": "1s"}})), &["rules[].timeouts is not modelled"])]
    #[case::weights(route(json!({"backendRefs": [{"name": "store", "port": 80, "weight": 1}]})), &[])]
    #[case::opaque_server(json!({"kind": "Server", "spec": {"podSelector": {}, "port": 80, "proxyProtocol": "opaque"}}), &["spec.proxyProtocol `opaque`"])]
    #[case::server(json!({"kind": "Server", "spec": {"podSelector": {}, "port": 80, "proxyProtocol": "HTTP/1"}}), &[])]
    #[case::policy_of_a_route(json!({"kind": "AuthorizationPolicy", "spec": {"targetRef": {"kind": "HTTPRoute"}}}), &["spec.targetRef of kind `HTTPRoute`"])]
    #[case::policy(json!({"kind": "AuthorizationPolicy", "spec": {"targetRef": {"kind": "Server"}, "requiredAuthenticationRefs": [{"kind": "MeshTLSAuthentication"}]}}), &[])]
    #[case::network(json!({"kind": "NetworkPolicy"}), &["a NetworkPolicy"])]
    #[case::refused(json!({"kind": "Event", "message": "unsupported: hostNetwork", "involvedObject": {"kind": "Pod", "name": "a"}}), &["Pod a: hostNetwork"])]
    #[case::event(json!({"kind": "Event", "message": "Created container"}), &[])]
    #[case::not_an_object(json!([1, 2]), &[])]
    fn what_has_no_effect_is_named(#[case] object: Value, #[case] expected: &[&str]) {
        assert_eq!(unmodelled(&object), expected);
    }
}
