//! Services.

use super::fields::{check_port, set_default};
use crate::Cause;
use crate::admission::items_mut;
use crate::admission::names;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Defaults. Cluster IP and node ports come later, from the allocation.
pub(super) fn default(service: &mut Value) {
    if service["spec"].is_null() {
        service["spec"] = json!({});
    }
    let spec = &mut service["spec"];
    set_default(spec, "type", json!("ClusterIP"));
    set_default(spec, "sessionAffinity", json!("None"));
    for port in items_mut(spec, "ports") {
        set_default(port, "protocol", json!("TCP"));
        if port["targetPort"].is_null() || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = port["port"].clone();
        }
        if port["nodePort"] == 0 {
            crate::store::remove_field(port, "nodePort");
        }
    }
    if spec["sessionAffinity"] == "ClientIP" && spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return;
    }
    set_default(spec, "internalTrafficPolicy", json!("Cluster"));
    set_default(spec, "ipFamilies", json!(["IPv4"]));
    set_default(spec, "ipFamilyPolicy", json!("SingleStack"));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set_default(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

/// Field errors.
pub(super) fn validate(service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &service["spec"];
    let kind = spec["type"].as_str().unwrap_or_default();
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        let supported = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        causes.push(Cause::not_supported("spec.type", &spec["type"], &supported));
    }
    if kind == "ExternalName" {
        let target = spec["externalName"].as_str().unwrap_or_default();
        if let Err(why) = names::dns_1123_subdomain(target.trim_end_matches('.')) {
            causes.push(Cause::invalid("spec.externalName", &json!(target), &why));
        }
    }
    let ports = spec["ports"].as_array().cloned().unwrap_or_default();
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && kind != "ExternalName" && !headless {
        causes.push(Cause::required("spec.ports", ""));
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let why = format!("may not be set to 'None' for {kind} services");
        causes.push(Cause::invalid("spec.clusterIPs[0]", &json!("None"), &why));
    }
    let mut port_names = HashSet::new();
    let mut port_numbers = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            if ports.len() > 1 {
                causes.push(Cause::required(format!("{at}.name"), ""));
            }
        } else if let Err(why) = names::dns_1123_label(name) {
            causes.push(Cause::invalid(format!("{at}.name"), &json!(name), &why));
        } else if !port_names.insert(name) {
            causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
        }
        causes.extend(check_port(&port["port"], &format!("{at}.port")));
        if !["TCP", "UDP", "SCTP"].iter().any(|p| port["protocol"] == *p) {
            causes.push(Cause::not_supported(
                format!("{at}.protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
        if let Some(protocol) = port["appProtocol"].as_str()
            && let Err(why) = names::label_key(protocol)
        {
            causes.push(Cause::invalid(format!("{at}.appProtocol"), &json!(protocol), &why));
        }
        match &port["targetPort"] {
            Value::String(name) => {
                if let Err(why) = names::port_name(name) {
                    causes.push(Cause::invalid(format!("{at}.targetPort"), &json!(name), &why));
                }
            }
            number => causes.extend(check_port(number, &format!("{at}.targetPort"))),
        }
        if !port["nodePort"].is_null() && kind == "ClusterIP" {
            causes.push(Cause::forbidden(
                format!("{at}.nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            ));
        }
        if !port_numbers.insert((port["port"].to_string(), port["protocol"].to_string())) {
            causes.push(Cause::duplicate(
                at,
                &json!({"port": port["port"], "protocol": port["protocol"]}),
            ));
        }
    }
    for (key, value) in spec["selector"].as_object().into_iter().flatten() {
        if let Err(why) = names::label_key(key) {
            causes.push(Cause::invalid("spec.selector", &json!(key), &why));
        }
        if let Err(why) = names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("spec.selector", value, &why));
        }
    }
    for (field, allowed) in [
        ("sessionAffinity", &["ClientIP", "None"][..]),
        ("internalTrafficPolicy", &["Cluster", "Local"]),
        ("externalTrafficPolicy", &["Cluster", "Local"]),
        ("trafficDistribution", &["PreferClose"]),
        (
            "ipFamilyPolicy",
            &["PreferDualStack", "RequireDualStack", "SingleStack"],
        ),
    ] {
        if !spec[field].is_null() && !allowed.iter().any(|a| spec[field] == *a) {
            causes.push(Cause::not_supported(format!("spec.{field}"), &spec[field], allowed));
        }
    }
    let from_outside = matches!(kind, "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && spec["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty());
    if !spec["externalTrafficPolicy"].is_null() && !from_outside {
        causes.push(Cause::invalid(
            "spec.externalTrafficPolicy",
            &spec["externalTrafficPolicy"],
            "may only be set for externally-accessible services",
        ));
    }
    for (i, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
        if family != "IPv4" && family != "IPv6" {
            causes.push(Cause::not_supported(
                format!("spec.ipFamilies[{i}]"),
                family,
                &["IPv4", "IPv6"],
            ));
        }
    }
    if !spec["loadBalancerClass"].is_null() && kind != "LoadBalancer" {
        causes.push(Cause::forbidden(
            "spec.loadBalancerClass",
            "may only be used when `type` is 'LoadBalancer'",
        ));
    }
    causes
}

/// A changed type takes along the fields that only the old one had, unless the client changed them too.
pub(super) fn drop_fields_of_old_type(new: &mut Value, old: &Value) {
    let kind = |service: &Value| service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let (was, is) = (kind(old), kind(new));
    if was == is || !new["spec"].is_object() {
        return;
    }
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let spec = &mut new["spec"];
    let mut dropped = Vec::new();
    if is == "ExternalName" {
        dropped.extend([
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ]);
    }
    if was == "LoadBalancer" {
        dropped.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if has_node_ports(&was) && !has_node_ports(&is) {
        dropped.extend(["externalTrafficPolicy", "healthCheckNodePort"]);
        let old_ports: Vec<&Value> = old["spec"]["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| &p["nodePort"])
            .collect();
        for port in items_mut(spec, "ports") {
            if old_ports.contains(&&port["nodePort"]) {
                crate::store::remove_field(port, "nodePort");
            }
        }
    }
    for field in dropped {
        if spec[field] == old["spec"][field] {
            crate::store::remove_field(spec, field);
        }
    }
}

/// The cluster IP cannot change while the Service has one.
pub(super) fn validate_change(new: &Value, old: &Value) -> Vec<Cause> {
    let external = |service: &Value| service["spec"]["type"] == "ExternalName";
    let (was, is) = (&old["spec"]["clusterIP"], &new["spec"]["clusterIP"]);
    if external(old) || external(new) || was.is_null() || is.is_null() || was == is {
        return Vec::new();
    }
    vec![Cause::invalid(
        "spec.clusterIPs[0]",
        &json!([is]),
        "may not change once set",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let mut service = json!({"spec": {"ports": [{"port": 80}]}});
        default(&mut service);
        assert_eq!(
            service,
            json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}})
        );
        assert!(validate(&service).is_empty());
    }

    #[test]
    fn mistakes() {
        let mut service = json!({"spec": {"type": "ClusterIp", "ports": [{"port": 0}, {"port": 80, "name": "a"}, {"port": 80, "name": "a"}]}});
        default(&mut service);
        let causes = validate(&service);
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.type",
                "spec.ports[0].name",
                "spec.ports[0].port",
                "spec.ports[0].targetPort",
                "spec.ports[2].name",
                "spec.ports[2]"
            ]
        );
    }

    #[test]
    fn a_change_of_type_takes_its_fields_along() {
        let old = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "allocateLoadBalancerNodePorts": true,
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30000}]}});
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        drop_fields_of_old_type(&mut new, &old);
        assert_eq!(
            new,
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]}})
        );
        let mut new = old.clone();
        new["spec"]["type"] = json!("ExternalName");
        drop_fields_of_old_type(&mut new, &old);
        assert_eq!(new, json!({"spec": {"type": "ExternalName", "ports": [{"port": 80}]}}));
    }

    #[test]
    fn the_cluster_ip_stays() {
        let service = |ip: &str| json!({"spec": {"type": "ClusterIP", "clusterIP": ip}});
        assert_eq!(
            validate_change(&service("10.0.0.2"), &service("10.0.0.1"))[0].field,
            "spec.clusterIPs[0]"
        );
        assert!(validate_change(&service("10.0.0.1"), &service("10.0.0.1")).is_empty());
    }
}
