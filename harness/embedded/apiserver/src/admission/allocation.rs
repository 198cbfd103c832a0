//! Cluster IPs and node ports of Services. What is in use is read from the Services themselves, so there is nothing that could
//! disagree with them.

use super::items_mut;
use crate::resource::{ResourceType, StorageKey};
use crate::store::State;
use crate::{Cause, Status};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// Gives a Service the addresses and ports that it needs and does not name, and checks those that it names.
///
/// # Errors
/// 422 when an address or port is out of range or taken, 500 when none is left.
pub(crate) fn allocate(
    state: &mut State,
    resource: &ResourceType,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !(resource.group.is_empty() && resource.plural == "services") {
        return Ok(());
    }
    let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let in_use = InUse::of(state, service);
    if service["spec"]["type"] == "ExternalName" {
        crate::store::remove_field(&mut service["spec"], "clusterIP");
        crate::store::remove_field(&mut service["spec"], "clusterIPs");
        return Ok(());
    }
    if let Some(old) = old {
        keep_allocated(service, old);
    }
    let wanted = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let address = if wanted.is_empty() {
        next_address(state, &in_use)?
    } else {
        if wanted != "None" {
            check_address(state, &in_use, &wanted).map_err(|cause| resource.invalid(&name, vec![cause]))?;
        }
        wanted
    };
    service["spec"]["clusterIP"] = json!(address);
    service["spec"]["clusterIPs"] = json!([address]);

    let needs_node_ports = match service["spec"]["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    };
    let mut taken = in_use.node_ports.clone();
    let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    for i in 0..count {
        let port = &mut service["spec"]["ports"][i];
        match port["nodePort"].as_u64().filter(|&p| p != 0) {
            Some(wanted) => {
                let range = &state.config.node_ports;
                let at = format!("spec.ports[{i}].nodePort");
                let inside = u16::try_from(wanted).is_ok_and(|p| range.contains(&p));
                if !inside {
                    let why = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        range.start(),
                        range.end()
                    );
                    return Err(resource.invalid(&name, vec![Cause::invalid(at, &json!(wanted), &why)]));
                }
                if !taken.insert(wanted) {
                    let cause = Cause::invalid(at, &json!(wanted), "provided port is already allocated");
                    return Err(resource.invalid(&name, vec![cause]));
                }
            }
            None if needs_node_ports => {
                let free = next_node_port(state, &taken)?;
                taken.insert(free);
                service["spec"]["ports"][i]["nodePort"] = json!(free);
            }
            None => {}
        }
    }
    Ok(())
}

/// An update that leaves the allocated fields out keeps them, as Kubernetes does for clients that do not know them.
fn keep_allocated(service: &mut Value, old: &Value) {
    if old["spec"]["type"] == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs"] {
        if service["spec"][field].is_null() && !old["spec"][field].is_null() {
            service["spec"][field] = old["spec"][field].clone();
        }
    }
    if service["spec"]["type"] == "ClusterIP" {
        if old["spec"]["type"] != "ClusterIP" {
            for port in items_mut(&mut service["spec"], "ports") {
                crate::store::remove_field(port, "nodePort");
            }
        }
        return;
    }
    let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in items_mut(&mut service["spec"], "ports") {
        let same = old_ports
            .iter()
            .find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        if let Some(same) = same.filter(|s| port["nodePort"].is_null() && !s["nodePort"].is_null()) {
            port["nodePort"] = same["nodePort"].clone();
        }
    }
}

/// What all other Services hold.
struct InUse {
    addresses: HashSet<String>,
    node_ports: HashSet<u64>,
}

impl InUse {
    fn of(state: &State, except: &Value) -> Self {
        let mut in_use = Self {
            addresses: HashSet::new(),
            node_ports: HashSet::new(),
        };
        let id = |service: &Value| {
            (
                service["metadata"]["namespace"].clone(),
                service["metadata"]["name"].clone(),
            )
        };
        let services = state.table(&StorageKey::new("", "services"));
        for service in services.into_iter().flat_map(|t| t.objects.values()) {
            if id(service) == id(except) {
                continue;
            }
            if let Some(address) = service["spec"]["clusterIP"].as_str().filter(|a| *a != "None") {
                in_use.addresses.insert(address.to_owned());
            }
            for port in service["spec"]["ports"].as_array().into_iter().flatten() {
                in_use.node_ports.extend(port["nodePort"].as_u64());
            }
        }
        in_use
    }
}

fn next_address(state: &mut State, in_use: &InUse) -> Result<String, Status> {
    let (network, prefix) = state.config.service_cidr;
    let size = 1_u64 << (32 - u32::from(prefix.min(30)));
    for _ in 0..size {
        let offset = state.next_cluster_ip;
        // The first address is the network's, the last its broadcast address.
        state.next_cluster_ip = if u64::from(offset) + 2 >= size { 1 } else { offset + 1 };
        let address = Ipv4Addr::from(u32::from(network).wrapping_add(offset)).to_string();
        if !in_use.addresses.contains(&address) {
            return Ok(address);
        }
    }
    Err(Status::internal("failed to allocate IP: range is full"))
}

fn check_address(state: &State, in_use: &InUse, wanted: &str) -> Result<(), Cause> {
    let (network, prefix) = state.config.service_cidr;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let invalid = |why: &str| Cause::invalid("spec.clusterIPs", &json!([wanted]), why);
    let Ok(address) = wanted.parse::<Ipv4Addr>() else {
        return Err(invalid("must be a valid IPv4 address"));
    };
    if u32::from(address) & mask != u32::from(network) & mask {
        return Err(invalid(&format!(
            "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {network}/{prefix}"
        )));
    }
    if in_use.addresses.contains(wanted) {
        return Err(invalid(&format!(
            "failed to allocate IP {wanted}: provided IP is already allocated"
        )));
    }
    Ok(())
}

fn next_node_port(state: &mut State, taken: &HashSet<u64>) -> Result<u64, Status> {
    let range = state.config.node_ports.clone();
    for _ in range.clone() {
        let port = state.next_node_port;
        state.next_node_port = if port == *range.end() { *range.start() } else { port + 1 };
        if !taken.contains(&u64::from(port)) {
            return Ok(u64::from(port));
        }
    }
    Err(Status::internal("failed to allocate a nodePort: range is full"))
}
