//! CustomResourceDefinitions of the control plane.

use serde_json::{Value, json};

use super::schema::{group, kind, label_selector, name, string, with_default};
use super::{created_by, strings};
use crate::names::{CONTROL_PLANE_NAMESPACE, label};

/// What `linkerd install --crds` prints, as far as the model honours it: Server v1beta3, AuthorizationPolicy,
/// MeshTLSAuthentication and NetworkAuthentication v1alpha1. Kinds that the model would ignore (ServiceProfile,
/// EgressNetwork, HTTPLocalRateLimitPolicy, ServerAuthorization, ExternalWorkload, the policy group's HTTPRoute) are not
/// defined, so that using one is refused by the API server.
#[must_use]
pub fn crds() -> Vec<Value> {
    vec![
        server(),
        definition(
            Names {
                kind: "AuthorizationPolicy",
                plural: "authorizationpolicies",
                short: &["authzpolicy"],
            },
            "v1alpha1",
            authorization_policy(),
            json!([]),
        ),
        definition(
            Names {
                kind: "MeshTLSAuthentication",
                plural: "meshtlsauthentications",
                short: &["meshtlsauthn"],
            },
            "v1alpha1",
            mesh_tls_authentication(),
            json!([]),
        ),
        definition(
            Names {
                kind: "NetworkAuthentication",
                plural: "networkauthentications",
                short: &["netauthn", "networkauthn"],
            },
            "v1alpha1",
            network_authentication(),
            json!([]),
        ),
    ]
}

struct Names {
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
}

fn definition(names: Names, version: &str, spec: Value, columns: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.policy.linkerd.io", names.plural),
            "annotations": strings([created_by()]),
            "labels": {label::CONTROL_PLANE_NS: CONTROL_PLANE_NAMESPACE}
        },
        "spec": {
            "group": "policy.linkerd.io",
            "scope": "Namespaced",
            "names": {
                "kind": names.kind,
                "listKind": format!("{}List", names.kind),
                "plural": names.plural,
                "singular": names.kind.to_lowercase(),
                "shortNames": names.short
            },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {"spec": spec}
                }},
                "additionalPrinterColumns": columns
            }]
        }
    })
}

fn server() -> Value {
    definition(
        Names {
            kind: "Server",
            plural: "servers",
            short: &["srv"],
        },
        "v1beta3",
        json!({
            "type": "object",
            "required": ["podSelector", "port"],
            "properties": {
                "accessPolicy": with_default(
                    string("Access policy for traffic that no policy rule matches"),
                    "deny",
                ),
                "podSelector": label_selector("Selects pods in the same namespace"),
                "port": {"description": "A port name or number", "x-kubernetes-int-or-string": true},
                "proxyProtocol": with_default(string("Protocol of inbound connections"), "unknown")
            }
        }),
        json!([
            {"name": "Port", "type": "string", "jsonPath": ".spec.port"},
            {"name": "Protocol", "type": "string", "jsonPath": ".spec.proxyProtocol"},
            {"name": "Access Policy", "type": "string", "jsonPath": ".spec.accessPolicy"}
        ]),
    )
}

fn authorization_policy() -> Value {
    json!({
        "type": "object",
        "required": ["targetRef", "requiredAuthenticationRefs"],
        "properties": {
            "targetRef": {
                "type": "object",
                "required": ["kind", "name"],
                "properties": {"group": group(), "kind": kind(), "name": name()}
            },
            "requiredAuthenticationRefs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kind", "name"],
                    "properties": {
                        "group": group(),
                        "kind": kind(),
                        "name": name(),
                        "namespace": {"type": "string", "maxLength": 253}
                    }
                }
            }
        }
    })
}

fn mesh_tls_authentication() -> Value {
    json!({
        "type": "object",
        "oneOf": [{"required": ["identities"]}, {"required": ["identityRefs"]}],
        "properties": {
            "identities": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "identityRefs": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["kind"],
                    "properties": {
                        "group": group(),
                        "kind": kind(),
                        "name": name(),
                        "namespace": {"type": "string", "maxLength": 253}
                    }
                }
            }
        }
    })
}

fn network_authentication() -> Value {
    json!({
        "type": "object",
        "required": ["networks"],
        "properties": {
            "networks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["cidr"],
                    "properties": {
                        "cidr": string("The CIDR of the network to be authorized"),
                        "except": {"type": "array", "items": {"type": "string"}}
                    }
                }
            }
        }
    })
}
