//! Clusters that are up, each with an API server that answers.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::PostParams;
use meshproof_engine::environment::Environment as _;
use meshproof_spec::topology::Network;
use serde_json::json;

use super::lab::{Lab, SOON, pair, until};
use crate::kind::commands::Commands;
use crate::kind::dead_man::DeadMan;
use crate::kind::{Also, sweep};

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_up_and_go() {
    let lab = Lab::start().await;
    let kind = lab.kind(lab.options());
    let running = kind.up(&pair()).await.unwrap();
    let clusters: Vec<(&str, &str, &str)> = running
        .clusters()
        .iter()
        .map(|cluster| {
            (
                cluster.name.as_str(),
                cluster.api_from_peers.as_str(),
                cluster.node_address.as_str(),
            )
        })
        .collect();
    assert_eq!(
        clusters,
        [
            ("east", "https://172.18.0.2:6443", "172.18.0.2"),
            ("west", "https://172.18.0.3:6443", "172.18.0.3"),
        ]
    );
    assert_eq!(lab.ran("ip route"), 0, "pods reach each other only on flat networks");
    // Nobody else takes them meanwhile.
    assert_eq!(kind.up(&pair()).await.err().unwrap().code, "environment-in-use");
    assert_eq!(
        sweep(&lab.tools(), &lab.options(), Also::default())
            .await
            .unwrap()
            .in_use,
        ["meshproof-pair"]
    );
    assert_eq!(lab.clusters().len(), 2);
    running.down().await.unwrap();
    running.down().await.unwrap();
    assert!(lab.clusters().is_empty() && lab.left().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_flat_networks_are_led_to_each_other() {
    let lab = Lab::start().await;
    let mut request = pair();
    request.topology.network = Network::Flat;
    let running = lab.kind(lab.options()).up(&request).await.unwrap();
    assert_eq!(
        lab.ran("exec meshproof-pair-west-control-plane ip route replace 10.10.0.0/"),
        1,
        "{}",
        lab.log()
    );
    assert_eq!(
        lab.ran("exec meshproof-pair-east-control-plane ip route replace 10.11.0.0/"),
        1
    );
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_get_their_nodes_address() {
    let lab = Lab::start().await;
    let running = lab.kind(lab.options()).up(&pair()).await.unwrap();
    let services: Api<Service> = Api::namespaced(running.clusters()[1].client.clone(), "default");
    let service = serde_json::from_value(json!({
        "metadata": {"name": "gateway"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 4143}]},
    }))
    .unwrap();
    services.create(&PostParams::default(), &service).await.unwrap();
    let address = async {
        loop {
            let found = serde_json::to_value(services.get("gateway").await.unwrap()).unwrap();
            if let Some(address) = found["status"]["loadBalancer"]["ingress"][0]["ip"].as_str() {
                break address.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tokio::time::timeout(SOON, address).await.unwrap(), "172.18.0.3");
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_put_in_and_verified_to_be_gone() {
    let lab = Lab::start().await;
    let running = lab.kind(lab.options()).up(&pair()).await.unwrap();
    let rules = |place: &str| std::fs::read_to_string(lab.path().join("state").join(place)).unwrap_or_default();
    let (west, east) = (
        "rules.meshproof-pair-west-control-plane",
        "rules.meshproof-pair-east-control-plane",
    );

    let fault = running.partition("west", "east").await.unwrap();
    assert!(
        rules(&format!("{west}.raw.PREROUTING"))
            .contains("-s 172.18.0.2 -m comment --comment meshproof-partition-1 -j DROP")
    );
    assert!(rules(&format!("{east}.raw.PREROUTING")).contains("-s 172.18.0.3 "));
    fault.heal().await.unwrap();
    assert_eq!(rules(&format!("{west}.raw.PREROUTING")), "");

    let fault = running.pause_api("west").await.unwrap();
    assert!(rules(&format!("{west}.filter.INPUT")).contains("! -i lo -p tcp --dport 6443"));
    fault.heal().await.unwrap();
    assert_eq!(rules(&format!("{west}.filter.INPUT")), "");

    let queues = || rules("queues.meshproof-pair-west-control-plane");
    let first = running.delay("west", "east", Duration::from_millis(150)).await.unwrap();
    let second = running.delay("west", "east", Duration::from_millis(50)).await.unwrap();
    assert!(
        queues().contains("netem 20:") && queues().contains("netem 30:"),
        "{}",
        queues()
    );
    first.heal().await.unwrap();
    assert!(
        !queues().contains("netem 20:") && queues().contains("netem 30:"),
        "{}",
        queues()
    );
    second.heal().await.unwrap();
    assert_eq!(queues(), "");

    assert_eq!(
        running.partition("west", "north").await.err().unwrap().code,
        "cluster-unknown"
    );
    assert_eq!(running.tap("west", "east").await.err().unwrap().code, "relay-missing");
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_stays_is_told_and_a_dropped_one_heals() {
    let lab = Lab::start().await;
    let kind = lab.kind(lab.options());
    let running = kind.up(&pair()).await.unwrap();
    let rules = lab
        .path()
        .join("state/rules.meshproof-pair-west-control-plane.raw.PREROUTING");
    let fault = running.partition("west", "east").await.unwrap();
    lab.write("stuck", "");
    assert_eq!(fault.heal().await.unwrap_err().code, "fault-not-healed");
    lab.remove("stuck");
    assert!(!std::fs::read_to_string(&rules).unwrap().is_empty());
    drop(fault);
    until(|| std::fs::read_to_string(&rules).unwrap().is_empty()).await;
    running.down().await.unwrap();
}

/// A process that is killed closes what it holds open, as dropping it does, and undoes nothing itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_a_dead_harness_is_removed_in_its_node() {
    let lab = Lab::start().await;
    let running = lab.kind(lab.options()).up(&pair()).await.unwrap();
    let rules = lab
        .path()
        .join("state/rules.meshproof-pair-west-control-plane.raw.PREROUTING");
    let rules = || std::fs::read_to_string(&rules).unwrap_or_default();
    let (tools, commands) = (lab.tools(), Commands::new(&lab.options()));
    let rule = |verb| {
        let words = [
            "iptables",
            "-w",
            "10",
            "-t",
            "raw",
            verb,
            "PREROUTING",
            "-s",
            "172.18.0.9",
            "-j",
            "DROP",
        ];
        commands.exec("meshproof-pair-west-control-plane", words)
    };
    let dead_man = DeadMan::arm(&tools, &commands, &[rule("-D")]).await.unwrap();
    tools.run(&rule("-I")).await.unwrap();
    assert!(rules().contains("172.18.0.9"));
    drop(dead_man);
    until(|| rules().is_empty()).await;
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_running_clusters_removes_them() {
    let lab = Lab::start().await;
    let kind = lab.kind(lab.options());
    drop(kind.up(&pair()).await.unwrap());
    tokio::time::timeout(SOON, kind.finish()).await.unwrap();
    assert!(lab.clusters().is_empty() && lab.left().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_clusters_are_taken_over_while_nothing_has_changed() {
    let lab = Lab::start().await;
    let mut options = lab.options();
    (options.keep, options.reuse) = (true, true);
    let up = async |options: &crate::kind::KindOptions| {
        let running = lab.kind(options.clone()).up(&pair()).await.unwrap();
        running.down().await.unwrap();
        lab.ran("kind create cluster")
    };
    assert_eq!(up(&options).await, 2);
    assert_eq!(lab.clusters().len(), 2);
    assert_eq!(up(&options).await, 2, "they are taken over");
    options.node_image = Some("kindest/node:v1.33.7".to_owned());
    assert_eq!(up(&options).await, 4, "another image needs other clusters");
    assert_eq!(lab.ran("kind delete cluster"), 2);
    assert_eq!(up(&options).await, 4);
    lab.write(
        "rules.meshproof-pair-west-control-plane.raw.PREROUTING",
        "-A PREROUTING -s 172.18.0.2/32 -m comment --comment meshproof-partition-1 -j DROP\n",
    );
    assert_eq!(
        up(&options).await,
        6,
        "a fault that a killed run left is not taken over"
    );
    options.reuse = false;
    assert_eq!(up(&options).await, 8, "it was not asked for");
    assert_eq!(
        sweep(&lab.tools(), &options, Also::default()).await.unwrap().removed,
        ["meshproof-pair"]
    );
    assert!(lab.clusters().is_empty() && lab.left().is_empty());
}

/// The record of the only environment, changed as a run that was killed, or another version, would have left it.
fn change_record(lab: &Lab, change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = lab.state().join("meshproof-pair/record.json");
    let mut record = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_a_killed_run_go_before_others_are_made() {
    let lab = Lab::start().await;
    let mut options = lab.options();
    (options.keep, options.reuse) = (true, true);
    let next = lab.kind(lab.options());
    let kept = async || {
        let running = lab.kind(options.clone()).up(&pair()).await.unwrap();
        assert_eq!(next.remove_killed().await.unwrap(), [""; 0], "somebody uses them");
        running.down().await.unwrap();
    };

    kept().await;
    assert_eq!(next.remove_killed().await.unwrap(), [""; 0], "they were to stay");
    change_record(&lab, |record| {
        record.remove("kept").unwrap();
    });
    assert_eq!(next.remove_killed().await.unwrap(), [""; 0], "nobody knows");
    assert_eq!(lab.clusters().len(), 2);

    change_record(&lab, |record| {
        record.insert("kept".to_owned(), false.into());
    });
    assert_eq!(next.remove_killed().await.unwrap(), ["meshproof-pair"]);
    assert!(lab.clusters().is_empty() && lab.left().is_empty());

    // Nobody can take over what was never finished.
    kept().await;
    change_record(&lab, |record| {
        record.insert("complete".to_owned(), false.into());
    });
    assert_eq!(next.remove_killed().await.unwrap(), ["meshproof-pair"]);
    assert!(lab.clusters().is_empty() && lab.left().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_anything_is_touched_leaves_kept_clusters_alone() {
    let lab = Lab::start().await;
    let mut options = lab.options();
    options.keep = true;
    options.reuse = true;
    lab.kind(options.clone())
        .up(&pair())
        .await
        .unwrap()
        .down()
        .await
        .unwrap();
    lab.write("garbage-version", "");
    let problem = lab.kind(options).up(&pair()).await.err().unwrap();
    assert_eq!(problem.code, "tool-output");
    assert_eq!(lab.clusters().len(), 2);
    assert_eq!(lab.left(), ["meshproof-pair"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubeconfigs_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::start().await;
    let running = lab.kind(lab.options()).up(&pair()).await.unwrap();
    let path = lab.state().join("meshproof-pair/west.kubeconfig");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    running.down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_are_taken_over_get_caches_for_those_that_ended() {
    let lab = Lab::start().await;
    let mut options = lab.options();
    (options.keep, options.reuse) = (true, true);
    options.registry_caches = vec!["docker.io".to_owned(), "quay.io".to_owned()];
    let up = async || {
        let running = lab.kind(options.clone()).up(&pair()).await.unwrap();
        running.down().await.unwrap();
    };
    up().await;
    assert_eq!(lab.ran("docker run"), 2, "{}", lab.log());
    std::fs::remove_file(lab.path().join("state/cache.meshproof-pair-cache-quay-io")).unwrap();
    up().await;
    assert_eq!(lab.ran("kind create cluster"), 2, "they were taken over");
    assert_eq!(lab.ran("docker run --detach --name meshproof-pair-cache-docker-io"), 1);
    assert_eq!(lab.ran("docker run --detach --name meshproof-pair-cache-quay-io"), 2);
    // Nodes of other clusters would not know these caches.
    options.registry_caches.clear();
    let running = lab.kind(options.clone()).up(&pair()).await.unwrap();
    assert_eq!(lab.ran("kind create cluster"), 4, "made anew");
    running.down().await.unwrap();
}
