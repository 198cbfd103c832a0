//! The Gateway API's HTTPRoute, as far as it concerns routes of Services.

use serde_json::{Value, json};

use super::schema::{condition_properties, group, kind, name, namespace, string, with_default};
use crate::defect::{Defect, Defects};

/// CustomResourceDefinitions that have to exist before the control plane: `httproutes.gateway.networking.k8s.io` in its
/// versions v1 and v1beta1. Matches, filters, timeouts and retries have their full shape; Gateway and GatewayClass are
/// not defined, because nothing of the mesh uses them.
#[must_use]
pub fn gateway_api_crds(defects: &Defects) -> Vec<Value> {
    let version = |version: &str, storage: bool| {
        json!({
            "name": version,
            "served": true,
            "storage": storage,
            "subresources": {"status": {}},
            "additionalPrinterColumns": [
                {"name": "Hostnames", "type": "string", "jsonPath": ".spec.hostnames"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
            ],
            "schema": {"openAPIV3Schema": {
                "type": "object",
                "required": ["spec"],
                "properties": {"spec": route_spec(defects), "status": route_status()}
            }}
        })
    };
    vec![json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "httproutes.gateway.networking.k8s.io",
            "annotations": {
                "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/3328",
                "gateway.networking.k8s.io/bundle-version": "v1.2.1",
                "gateway.networking.k8s.io/channel": "standard"
            }
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": {
                "categories": ["gateway-api"],
                "kind": "HTTPRoute",
                "listKind": "HTTPRouteList",
                "plural": "httproutes",
                "singular": "httproute"
            },
            "versions": [version("v1", true), version("v1beta1", false)]
        }
    })]
}

fn route_spec(defects: &Defects) -> Value {
    json!({
        "type": "object",
        "properties": {
            "parentRefs": {"type": "array", "maxItems": 32, "items": parent_ref()},
            "hostnames": {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1, "maxLength": 253}},
            "rules": {
                "type": "array",
                "minItems": 1,
                "maxItems": 16,
                "default": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
                "items": {
                    "type": "object",
                    "properties": {
                        "matches": {
                            "type": "array",
                            "maxItems": 64,
                            "default": [{"path": {"type": "PathPrefix", "value": "/"}}],
                            "items": route_match()
                        },
                        "filters": {"type": "array", "maxItems": 16, "items": filter()},
                        "backendRefs": {"type": "array", "maxItems": 16, "items": backend_ref(defects)},
                        "timeouts": {
                            "type": "object",
                            "properties": {"request": go_duration(), "backendRequest": go_duration()}
                        }
                    }
                }
            }
        }
    })
}

fn port() -> Value {
    json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535})
}

fn go_duration() -> Value {
    json!({"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"})
}

fn parent_ref() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "group": with_default(group(), "gateway.networking.k8s.io"),
            "kind": with_default(kind(), "Gateway"),
            "namespace": namespace(),
            "name": name(),
            "sectionName": {"type": "string", "minLength": 1, "maxLength": 253},
            "port": port()
        }
    })
}

fn backend_ref(defects: &Defects) -> Value {
    let mut backend = reference();
    backend["properties"]["weight"] = if defects.has(Defect::QuantityWeightsAccepted) {
        json!({"x-kubernetes-int-or-string": true, "default": 1})
    } else {
        json!({"type": "integer", "format": "int32", "default": 1, "minimum": 0, "maximum": 1_000_000})
    };
    backend["properties"]["filters"] = json!({"type": "array", "maxItems": 16, "items": filter()});
    backend
}

fn reference() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "group": with_default(group(), ""),
            "kind": with_default(kind(), "Service"),
            "namespace": namespace(),
            "name": name(),
            "port": port()
        }
    })
}

fn header_name() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": "^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$"
    })
}

fn value_match(types: &[&str]) -> Value {
    json!({
        "type": "object",
        "required": ["name", "value"],
        "properties": {
            "type": {"type": "string", "enum": types, "default": types[0]},
            "name": header_name(),
            "value": {"type": "string", "minLength": 1, "maxLength": 4096}
        }
    })
}

fn route_match() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": {
                "type": "object",
                "default": {"type": "PathPrefix", "value": "/"},
                "properties": {
                    "type": {"type": "string", "enum": ["Exact", "PathPrefix", "RegularExpression"], "default": "PathPrefix"},
                    "value": {"type": "string", "maxLength": 1024, "default": "/"}
                }
            },
            "headers": {"type": "array", "maxItems": 16, "items": value_match(&["Exact", "RegularExpression"])},
            "queryParams": {"type": "array", "maxItems": 16, "items": value_match(&["Exact", "RegularExpression"])},
            "method": {
                "type": "string",
                "enum": ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
            }
        }
    })
}

fn header_modifier() -> Value {
    let values = || {
        json!({
            "type": "array",
            "maxItems": 16,
            "items": {
                "type": "object",
                "required": ["name", "value"],
                "properties": {
                    "name": header_name(),
                    "value": {"type": "string", "minLength": 1, "maxLength": 4096}
                }
            }
        })
    };
    json!({
        "type": "object",
        "properties": {
            "set": values(),
            "add": values(),
            "remove": {"type": "array", "maxItems": 16, "items": {"type": "string"}}
        }
    })
}

fn filter() -> Value {
    let path = || {
        json!({
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"type": "string", "enum": ["ReplaceFullPath", "ReplacePrefixMatch"]},
                "replaceFullPath": {"type": "string", "maxLength": 1024},
                "replacePrefixMatch": {"type": "string", "maxLength": 1024}
            }
        })
    };
    json!({
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {
                "type": "string",
                "enum": [
                    "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror",
                    "RequestRedirect", "URLRewrite", "ExtensionRef"
                ]
            },
            "requestHeaderModifier": header_modifier(),
            "responseHeaderModifier": header_modifier(),
            "requestMirror": {
                "type": "object",
                "required": ["backendRef"],
                "properties": {"backendRef": reference()}
            },
            "requestRedirect": {
                "type": "object",
                "properties": {
                    "scheme": {"type": "string", "enum": ["http", "https"]},
                    "hostname": {"type": "string", "minLength": 1, "maxLength": 253},
                    "path": path(),
                    "port": port(),
                    "statusCode": {"type": "integer", "enum": [301, 302], "default": 302}
                }
            },
            "urlRewrite": {
                "type": "object",
                "properties": {"hostname": {"type": "string", "minLength": 1, "maxLength": 253}, "path": path()}
            },
            "extensionRef": {
                "type": "object",
                "required": ["group", "kind", "name"],
                "properties": {"group": group(), "kind": kind(), "name": name()}
            }
        }
    })
}

fn route_status() -> Value {
    let mut condition = condition_properties();
    condition["observedGeneration"] = json!({"type": "integer", "format": "int64", "minimum": 0});
    json!({
        "type": "object",
        "required": ["parents"],
        "properties": {
            "parents": {
                "type": "array",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["controllerName", "parentRef"],
                    "properties": {
                        "parentRef": parent_ref(),
                        "controllerName": string("Controller that wrote this entry"),
                        "conditions": {
                            "type": "array",
                            "maxItems": 8,
                            "items": {
                                "type": "object",
                                "required": ["lastTransitionTime", "message", "reason", "status", "type"],
                                "properties": condition
                            }
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::gateway_api_crds;
    use crate::defect::{Defect, Defects};

    fn weight(defects: &Defects) -> serde_json::Value {
        gateway_api_crds(defects)[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            ["properties"]["spec"]["properties"]["rules"]["items"]["properties"]["backendRefs"]
            ["items"]["properties"]["weight"]
            .clone()
    }

    #[test]
    fn weights_are_integers_unless_the_defect_is_on() {
        let clean = weight(&Defects::default());
        assert_eq!(
            (clean["type"].as_str(), clean["format"].as_str()),
            (Some("integer"), Some("int32"))
        );
        let lax = weight(&[Defect::QuantityWeightsAccepted].into_iter().collect());
        assert!(lax.get("type").is_none());
        assert_eq!(lax["x-kubernetes-int-or-string"], true);
    }
}
