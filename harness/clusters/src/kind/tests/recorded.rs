//! What was recorded on real clusters of kind is what the names and patches of this room count on.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::kind::{load_balancer, names};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

fn recorded(file: &str) -> String {
    let path = folder().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Containers on the docker network, with their addresses.
fn containers() -> BTreeMap<String, Ipv4Addr> {
    let network: Value = serde_json::from_str(&recorded("kind/docker-network-kind.json")).unwrap();
    let containers = network[0]["Containers"].as_object().unwrap();
    let address = |container: &Value| {
        let text = container["IPv4Address"].as_str().unwrap();
        text.split('/').next().unwrap().parse().unwrap()
    };
    containers
        .values()
        .map(|container| (container["Name"].as_str().unwrap().to_owned(), address(container)))
        .collect()
}

#[test]
fn a_node_is_named_as_its_container_and_has_its_address() {
    let fresh = recorded("kind/cluster-west-initial.txt");
    let node: Vec<&str> = fresh
        .lines()
        .find(|line| line.starts_with("node/"))
        .unwrap()
        .split_whitespace()
        .collect();
    let [name] = names::nodes("west", 0).try_into().unwrap();
    assert_eq!((node[0], node[1]), (format!("node/{name}").as_str(), "Ready"));
    assert_eq!(node[5].parse::<Ipv4Addr>().unwrap(), containers()[&name]);
    // A fresh cluster has no load balancers, so that nobody else gives addresses away.
    assert!(!fresh.contains("LoadBalancer"));
}

#[test]
fn a_service_with_the_recorded_status_has_its_address() {
    let printed = recorded("install/lb-status-patch-west.txt");
    let (patched, status) = printed.split_once('\n').unwrap();
    assert_eq!(patched, "service/linkerd-gateway patched");
    let status: Value = serde_yaml::from_str(status).unwrap();
    let address = containers()["west-control-plane"];
    let service = |status: &Value| -> Service {
        let mut service = status.clone();
        service["spec"] = json!({"type": "LoadBalancer"});
        serde_json::from_value(service).unwrap()
    };
    assert_eq!(load_balancer::patch(&service(&status), address), None);
    // What the API server made of our patch is our patch, and the mode that it adds.
    let mut ours = load_balancer::patch(&service(&json!({})), address).unwrap();
    ours["status"]["loadBalancer"]["ingress"][0]["ipMode"] = "VIP".into();
    assert_eq!(ours, status);
}

#[test]
fn clusters_and_their_nodes_are_told_by_their_names() {
    for cluster in ["west", "east", "north"] {
        let made = recorded(&format!("kind/kind-create-{cluster}.txt"));
        assert!(made.contains(&format!("Creating cluster \"{cluster}\" ...")), "{made}");
        assert!(
            made.contains(&format!("Set kubectl context to \"kind-{cluster}\"")),
            "{made}"
        );
        let node = &names::nodes(cluster, 0)[0];
        let loaded = recorded(&format!("kind/kind-load-{cluster}.txt"));
        let images: Vec<&str> = loaded.lines().filter(|line| line.starts_with("Image: ")).collect();
        assert!(!images.is_empty());
        for image in images {
            assert!(
                image.ends_with(&format!("not yet present on node \"{node}\", loading...")),
                "{image}"
            );
        }
    }
}

/// Every file has a reader: this test knows them all, so that a new one is not forgotten.
#[test]
fn every_recorded_file_is_read() {
    let mut files: Vec<String> = ["kind", "install"]
        .iter()
        .flat_map(|inner| fs::read_dir(folder().join(inner)).unwrap().flatten())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    files.sort();
    let known = [
        "cluster-west-initial.txt",
        "docker-network-kind.json",
        "kind-create-east.txt",
        "kind-create-north.txt",
        "kind-create-west.txt",
        "kind-load-east.txt",
        "kind-load-north.txt",
        "kind-load-west.txt",
        "lb-status-patch-west.txt",
    ];
    assert_eq!(files, known);
}
