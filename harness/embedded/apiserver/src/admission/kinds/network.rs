//! Endpoints and EndpointSlices.

use super::fields::{check_port, set_default};
use crate::Cause;
use crate::admission::items_mut;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Defaults of Endpoints.
pub(super) fn default_endpoints(object: &mut Value) {
    for subset in items_mut(object, "subsets") {
        for port in items_mut(subset, "ports") {
            set_default(port, "protocol", json!("TCP"));
        }
    }
}

/// Defaults of an EndpointSlice.
pub(super) fn default_endpoint_slice(object: &mut Value) {
    for port in items_mut(object, "ports") {
        set_default(port, "protocol", json!("TCP"));
        set_default(port, "name", json!(""));
    }
}

/// Field errors of Endpoints.
pub(super) fn validate_endpoints(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (i, subset) in object["subsets"].as_array().into_iter().flatten().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset[list].as_array().into_iter().flatten().enumerate() {
                let at = format!("subsets[{i}].{list}[{j}].ip");
                causes.extend(check_endpoint_address(&address["ip"], at));
            }
        }
        for (j, port) in subset["ports"].as_array().into_iter().flatten().enumerate() {
            causes.extend(check_port(&port["port"], &format!("subsets[{i}].ports[{j}].port")));
        }
    }
    causes
}

fn check_endpoint_address(value: &Value, at: String) -> Option<Cause> {
    let Some(address) = value.as_str().and_then(|t| t.parse::<IpAddr>().ok()) else {
        return Some(Cause::invalid(
            at,
            value,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    };
    if address.is_unspecified() {
        return Some(Cause::invalid(at, value, "may not be unspecified (0.0.0.0 or ::)"));
    }
    if address.is_loopback() {
        return Some(Cause::invalid(
            at,
            value,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ));
    }
    None
}

/// Field errors of an EndpointSlice.
pub(super) fn validate_endpoint_slice(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = object["addressType"].as_str().unwrap_or_default();
    if kind.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !matches!(kind, "IPv4" | "IPv6" | "FQDN") {
        causes.push(Cause::not_supported(
            "addressType",
            &object["addressType"],
            &["FQDN", "IPv4", "IPv6"],
        ));
    }
    let endpoints = object["endpoints"].as_array().cloned().unwrap_or_default();
    if endpoints.len() > 1000 {
        causes.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {}: must have at most 1000 items", endpoints.len()),
            field: "endpoints".into(),
        });
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let addresses = endpoint["addresses"].as_array().cloned().unwrap_or_default();
        if addresses.is_empty() {
            causes.push(Cause::required(
                format!("endpoints[{i}].addresses"),
                "must contain at least 1 address",
            ));
        }
        for (j, address) in addresses.iter().enumerate() {
            let text = address.as_str().unwrap_or_default();
            let fits = match kind {
                "IPv4" => text.parse::<Ipv4Addr>().is_ok(),
                "IPv6" => text.parse::<Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !fits {
                let why = format!("must be a valid {kind} address");
                causes.push(Cause::invalid(format!("endpoints[{i}].addresses[{j}]"), address, &why));
            }
        }
    }
    for (i, port) in object["ports"].as_array().into_iter().flatten().enumerate() {
        if !port["port"].is_null() {
            causes.extend(check_port(&port["port"], &format!("ports[{i}].port")));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices() {
        let good = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
        assert!(validate_endpoint_slice(&good).is_empty());
        let bad = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["web"]}, {"addresses": []}], "ports": [{"port": 0}]});
        let causes = validate_endpoint_slice(&bad);
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            ["endpoints[0].addresses[0]", "endpoints[1].addresses", "ports[0].port"]
        );
    }

    #[test]
    fn endpoints() {
        let subset = |ip: &str| json!({"subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]});
        assert!(validate_endpoints(&subset("10.1.2.3")).is_empty());
        assert_eq!(validate_endpoints(&subset("127.0.0.1")).len(), 1);
        assert_eq!(validate_endpoints(&subset("gateway:4143")).len(), 1);
    }
}
