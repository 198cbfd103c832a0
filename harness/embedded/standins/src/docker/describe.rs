//! What docker's `inspect` and `ps` tell of containers, networks and images.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::world::{Container, Image, Network, State};

/// Labels that kind gives its nodes.
fn labels(node: &Container) -> Value {
    json!({
        "io.x-k8s.kind.cluster": node.cluster,
        "io.x-k8s.kind.role": "control-plane",
    })
}

fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// An entry of `docker inspect`.
pub(super) async fn container(node: &Container, network: Option<&Network>) -> Value {
    let port = match node.served.lock().await.as_ref() {
        Some(cluster) => cluster.api().address().port().to_string(),
        None => "0".to_owned(),
    };
    let status = if node.paused { "paused" } else { "running" };
    let ports = json!({"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]});
    let mut networks = serde_json::Map::new();
    networks.insert(node.network.clone(), endpoint(node.address, network));
    json!({
        "Id": node.id,
        "Created": node.created.to_string(),
        "Name": format!("/{}", node.name),
        "RestartCount": 0,
        "State": {"Status": status, "Running": true, "Paused": node.paused, "ExitCode": 0, "StartedAt": node.created.to_string()},
        "Image": node.image,
        "Config": {"Hostname": node.name, "Image": node.image, "Labels": labels(node)},
        "HostConfig": {"NetworkMode": node.network, "Privileged": true},
        "NetworkSettings": {
            "Ports": ports,
            "Networks": networks,
        },
    })
}

/// A container's place on its network.
pub(super) fn endpoint(address: Ipv4Addr, network: Option<&Network>) -> Value {
    let (gateway, prefix, network_id) = network.map_or((None, 16, ""), |network| {
        (network.subnet.nth(1), network.subnet.prefix(), network.id.as_str())
    });
    json!({
        "NetworkID": network_id,
        "Gateway": gateway.map(|gateway| gateway.to_string()),
        "IPAddress": address.to_string(),
        "IPPrefixLen": prefix,
        "MacAddress": mac(address),
    })
}

/// A row of `docker ps`.
pub(super) fn row(node: &Container, full_id: bool) -> Value {
    let id = if full_id {
        Some(node.id.as_str())
    } else {
        node.id.get(..12)
    };
    json!({
        "ID": id,
        "Image": node.image,
        "Command": "\"/usr/local/bin/entr…\"",
        "RunningFor": "Less than a second ago",
        "Status": if node.paused { "Up 1 second (Paused)" } else { "Up 1 second" },
        "State": if node.paused { "paused" } else { "running" },
        "Ports": "127.0.0.1->6443/tcp",
        "Names": node.name,
        "Networks": node.network,
        "Labels": labels(node),
    })
}

/// An entry of `docker network inspect`.
pub(super) fn network(state: &State, name: &str, network: &Network) -> Value {
    let gateway = network.subnet.nth(1).map(|gateway| gateway.to_string());
    let attached = state.containers.values().filter(|node| node.network == name);
    let containers: serde_json::Map<String, Value> = attached
        .map(|node| {
            let entry = json!({
                "Name": node.name,
                "EndpointID": node.id,
                "MacAddress": mac(node.address),
                "IPv4Address": format!("{}/{}", node.address, network.subnet.prefix()),
                "IPv6Address": "",
            });
            (node.id.clone(), entry)
        })
        .collect();
    json!({
        "Name": name,
        "Id": network.id,
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [{"Subnet": network.subnet.to_string(), "Gateway": gateway}],
        },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers,
        "Options": {
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.driver.mtu": "1500",
        },
        "Labels": network.labels,
    })
}

/// An entry of `docker image inspect`.
pub(super) fn image(image: &Image) -> Value {
    json!({
        "Id": format!("sha256:{}", image.id),
        "RepoTags": [image.name],
        "RepoDigests": [],
        "Created": image.created.to_string(),
        "Architecture": "amd64",
        "Os": "linux",
        "Config": {"Entrypoint": image.entry_point.as_ref().map(|program| vec![program]), "Labels": image.labels},
    })
}
