//! The direction of dependencies between the rooms, held over what cargo itself says.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

/// Room → rooms that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("meshproof-kinds", &[]),
    ("meshproof-terms", &[]),
    ("meshproof-spec", &["meshproof-kinds", "meshproof-terms"]),
    ("meshproof-verdict", &["meshproof-kinds", "meshproof-terms"]),
    ("meshproof-agent", &[]),
    ("meshproof-kubeconfig", &[]),
    ("meshproof-apiserver", &["meshproof-kinds"]),
    ("meshproof-cluster", &["meshproof-agent", "meshproof-apiserver"]),
    (
        "meshproof-mesh",
        &["meshproof-kubeconfig", "meshproof-apiserver", "meshproof-cluster"],
    ),
    (
        "meshproof-engine",
        &[
            "meshproof-agent",
            "meshproof-spec",
            "meshproof-terms",
            "meshproof-verdict",
        ],
    ),
    (
        "meshproof-clusters",
        &[
            "meshproof-kubeconfig",
            "meshproof-agent",
            "meshproof-engine",
            "meshproof-spec",
        ],
    ),
    (
        "meshproof-linkerd",
        &["meshproof-engine", "meshproof-spec", "meshproof-terms"],
    ),
    (
        "meshproof-standins",
        &[
            "meshproof-kubeconfig",
            "meshproof-agent",
            "meshproof-apiserver",
            "meshproof-cluster",
            "meshproof-mesh",
        ],
    ),
    (
        "meshproof-embedded",
        &[
            "meshproof-kubeconfig",
            "meshproof-agent",
            "meshproof-apiserver",
            "meshproof-cluster",
            "meshproof-engine",
            "meshproof-linkerd",
            "meshproof-mesh",
            "meshproof-spec",
        ],
    ),
    ("meshproof-report", &["meshproof-verdict"]),
];

/// Crates that a room may not have, because they are what the room must not know.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("meshproof-kinds", &["tokio", "kube"]),
    ("meshproof-spec", &["tokio", "kube", "k8s-openapi"]),
    ("meshproof-verdict", &["tokio", "kube", "k8s-openapi"]),
    ("meshproof-report", &["tokio", "kube", "k8s-openapi"]),
    ("meshproof-agent", &["kube", "k8s-openapi", "clap"]),
];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let text = duct::cmd!(cargo, "metadata", "--no-deps", "--format-version", "1", "--offline")
        .read()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let used = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"] != "dev");
            let names = used
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let dependencies = dependencies();
    for (room, allowed) in ALLOWED {
        let used = dependencies[*room].iter().filter(|name| name.starts_with("meshproof"));
        let wrong: Vec<_> = used.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{room} must not use {wrong:?}");
    }
}

#[test]
fn every_room_is_held() {
    let held: BTreeSet<&str> = ALLOWED.iter().map(|(room, _)| *room).collect();
    let all = dependencies();
    let unheld: Vec<_> = all
        .keys()
        .filter(|name| *name != "meshproof" && !held.contains(name.as_str()))
        .collect();
    assert!(unheld.is_empty(), "add {unheld:?} to the table");
}

#[test]
fn rooms_do_not_know_what_they_must_not_know() {
    let dependencies = dependencies();
    for (room, forbidden) in FORBIDDEN {
        let wrong: Vec<_> = forbidden
            .iter()
            .filter(|name| dependencies[*room].contains(**name))
            .collect();
        assert!(wrong.is_empty(), "{room} must not use {wrong:?}");
    }
}
