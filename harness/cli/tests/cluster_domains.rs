//! Clusters whose DNS domain is not the usual one: mirroring, calls, splits and the proof of mutual TLS work as ever.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;

/// Everything in which a name of the other cluster travels.
const SCENARIO: &str = r#"# yaml-language-server: $schema=scenario.json
scenario: domains
summary: Calls over a link between clusters with DNS domains of their own.
topology: domains
checks: [MC-EP-001, MC-DATA-001, MC-DATA-002, MC-SEC-001, MC-SPLIT-001]
steps:
  - deploy: {client: shopper, in: west}
  - deploy: {client: stranger, in: west, meshed: false}
  - deploy: {service: store, in: [west, east]}
  - export: {service: store, from: east}
  - expect:
      id: MC-EP-001
      object: {in: west, kind: Endpoints, name: "${mirror.store.east}"}
      where:
        - {path: "subsets[*].addresses[*].ip", length: 1}
        - {path: metadata.annotations."mirror.linkerd.io/remote-gateway-identity", equals: "${identity.gateway.east}"}
        - {path: metadata.annotations."mirror.linkerd.io/remote-svc-fq-name", equals: "store.${namespace}.svc.EAST"}
      within: 30s
  - call: {name: plain, from: shopper, to: store@east, count: 5}
  - expect: {id: MC-DATA-001, call: plain, answered: {by: east}}
  - expect:
      id: MC-DATA-002
      call: plain
      answered: {by: east, host: "store.${namespace}.svc.EAST:80"}
  - expect: {id: MC-SEC-001, mtls: {from: shopper, to: store@east, stranger: stranger}}
  - route: {service: store, in: west, backends: [{to: store, weight: 50}, {to: store@east, weight: 50}]}
  - expect: {id: MC-SPLIT-001, split: {from: shopper, to: store, weights: {west: 50, east: 50}, detect_points: 10}}
"#;

const TOPOLOGY: &str = "\
# yaml-language-server: $schema=topology.json
topology: domains
summary: Clusters with DNS domains of their own.
clusters:
  west: {pod_cidr: 10.10.0.0/16, service_cidr: 10.110.0.0/16, domain: WEST}
  east: {pod_cidr: 10.20.0.0/16, service_cidr: 10.120.0.0/16, domain: EAST}
links:
  - {from: west, to: east}
";

#[rstest]
#[case::different("west.example.com", "east.example.com")]
#[case::shared("mesh.internal", "mesh.internal")]
#[case::one_usual("cluster.local", "east.example.com")]
fn calls_cross_clusters_with_domains_of_their_own(#[case] west: &str, #[case] east: &str) {
    let place = tempfile::tempdir().unwrap();
    let topologies = place.path().join("topologies");
    fs::create_dir_all(topologies.join("domains")).unwrap();
    let topology = TOPOLOGY.replace("WEST", west).replace("EAST", east);
    fs::write(topologies.join("domains/topology.yaml"), topology).unwrap();
    let scenario = place.path().join("domains.yaml");
    fs::write(&scenario, SCENARIO.replace("EAST", east)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_meshproof"))
        .arg("run")
        .arg(&scenario)
        .arg("--topologies")
        .arg(&topologies)
        .arg("--out")
        .arg(place.path().join("runs"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("XDG_STATE_HOME", place.path().join("state"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
