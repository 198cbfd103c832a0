//! Every fault of embedded clusters proves itself where it has to be felt, and so does its end.

use std::collections::BTreeMap;
use std::time::Duration;

use meshproof_embedded::environment::Embedded;
use meshproof_engine::environment::{Environment, EnvironmentRequest};
use meshproof_mesh::defect::Defects;
use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::Setup;
use meshproof_spec::topology::{ClusterSpec, Network, Topology, TopologyTrust};

/// Two clusters that have nothing to do with each other.
fn apart() -> EnvironmentRequest {
    let cluster = |number: u8| ClusterSpec {
        pod_cidr: format!("10.{number}.0.0/16"),
        service_cidr: format!("10.{}.0.0/16", 100 + number),
        domain: None,
        gateway: None,
        nodes: None,
        node_image: None,
    };
    EnvironmentRequest {
        key: "apart".into(),
        topology: Topology {
            topology: Name("apart".into()),
            summary: String::new(),
            clusters: BTreeMap::from([(Name("west".into()), cluster(10)), (Name("east".into()), cluster(20))]),
            links: Vec::new(),
            network: Network::default(),
            trust: TopologyTrust::default(),
        },
        setup: Setup::default(),
        seed: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_prove_themselves_and_their_end() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let running = Embedded::new(20.0, Defects::default()).up(&apart()).await.unwrap();

    let cut = running.partition("west", "east").await.unwrap();
    cut.heal().await.unwrap();

    let slow = running.delay("west", "east", Duration::from_secs(2)).await.unwrap();
    slow.heal().await.unwrap();

    let paused = running.pause_api("east").await.unwrap();
    paused.heal().await.unwrap();

    // Nothing is open between them: there is nothing that a reset could show itself by.
    let problem = running.reset("west", "east").await.unwrap_err();
    assert_eq!(problem.code, "fault-without-effect");

    // One that is given up ends as well.
    drop(running.pause_api("east").await.unwrap());
    assert!(running.clusters()[0].client.apiserver_version().await.is_ok());
    running.down().await.unwrap();
}
