//! Clusters are brought up and down with tools that stand in for `kind` and `docker`: nothing is left, whatever happens.

mod lab;
mod recorded;
mod reuse;
mod running;

use meshproof_engine::environment::Environment as _;

use self::lab::{Lab, SOON, pair, until};
use crate::kind::{Also, Swept, sweep};

#[tokio::test]
async fn one_cluster_that_can_not_be_made_takes_the_others_with_it() {
    let lab = Lab::without_servers();
    lab.write("fail.meshproof-pair-west", "");
    let problem = lab.kind(lab.options()).up(&pair()).await.err().unwrap();
    assert_eq!(problem.code, "tool-failed");
    assert!(problem.message.contains("no space left"), "{}", problem.message);
    assert_eq!(lab.ran("kind create cluster"), 2);
    assert!(lab.clusters().is_empty(), "{:?}", lab.clusters());
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[tokio::test]
async fn giving_up_half_way_leaves_nothing() {
    let lab = Lab::without_servers();
    lab.write("hang", "");
    let kind = lab.kind(lab.options());
    let request = pair();
    let up = kind.up(&request);
    let made = until(|| lab.clusters().len() == 2);
    tokio::select! {
        _ = up => panic!("a hanging tool can't end"),
        () = made => {}
    }
    assert_eq!(lab.left(), ["meshproof-pair"]);
    tokio::time::timeout(SOON, kind.finish()).await.unwrap();
    assert!(lab.clusters().is_empty(), "{:?}", lab.clusters());
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[tokio::test]
async fn what_a_tool_prints_is_not_trusted() {
    for (garbage, created) in [("garbage-version", 0), ("garbage-inspect", 2)] {
        let lab = Lab::without_servers();
        lab.write(garbage, "");
        let problem = lab.kind(lab.options()).up(&pair()).await.err().unwrap();
        assert_eq!(problem.code, "tool-output", "{}", problem.message);
        assert_eq!(lab.ran("kind create cluster"), created);
        assert!(lab.clusters().is_empty() && lab.left().is_empty());
    }
}

#[tokio::test]
async fn ranges_that_overlap_the_docker_network_are_told_before_anything_is_made() {
    let lab = Lab::without_servers();
    lab.write(
        "network.json",
        r#"[{"IPAM": {"Config": [{"Subnet": "10.11.128.0/20"}]}}]"#,
    );
    let problem = lab.kind(lab.options()).up(&pair()).await.err().unwrap();
    assert_eq!(problem.code, "cidr-overlap");
    assert_eq!(lab.ran("kind create cluster"), 0);
    assert!(lab.left().is_empty());
}

#[tokio::test]
async fn clusters_of_somebody_else_stay() {
    let lab = Lab::without_servers();
    lab.write("clusters/meshproof-pair-west", "");
    let problem = lab.kind(lab.options()).up(&pair()).await.err().unwrap();
    assert_eq!(problem.code, "cluster-exists");
    assert_eq!(lab.clusters(), ["meshproof-pair-west"]);
    assert_eq!(lab.ran("kind delete cluster"), 0);
    assert!(lab.left().is_empty());
}

#[tokio::test]
async fn a_network_of_our_making_goes_with_its_last_cluster() {
    let lab = Lab::without_servers();
    lab.remove("network.json");
    lab.write("garbage-inspect", "");
    let problem = lab.kind(lab.options()).up(&pair()).await.err().unwrap();
    assert_eq!(problem.code, "tool-output");
    assert!(!lab.exists("network.json"));
    assert!(lab.left().is_empty(), "{:?}", lab.left());
    // One that was there before stays.
    lab.write(
        "network.json",
        include_str!("../../../tests/recorded/kind/docker-network-kind.json"),
    );
    lab.kind(lab.options()).up(&pair()).await.err().unwrap();
    assert!(lab.exists("network.json"));
}

#[tokio::test]
async fn what_can_not_be_removed_is_named_and_swept_later() {
    let lab = Lab::without_servers();
    lab.write("garbage-inspect", "");
    lab.write("stubborn", "");
    let problem = lab.kind(lab.options()).up(&pair()).await.err().unwrap();
    assert_eq!(problem.code, "tool-output");
    assert!(
        problem.message.contains("meshproof-pair-west-control-plane"),
        "{}",
        problem.message
    );
    assert_eq!(lab.left(), ["meshproof-pair"]);
    let problem = sweep(&lab.tools(), &lab.options(), Also::default()).await.unwrap_err();
    assert_eq!(problem.code, "clusters-left");
    lab.remove("stubborn");
    let swept = sweep(&lab.tools(), &lab.options(), Also::default()).await.unwrap();
    assert_eq!(swept.removed, ["meshproof-pair"]);
    assert!(lab.clusters().is_empty() && lab.left().is_empty());
}

#[tokio::test]
async fn sweeping_touches_nothing_but_ours() {
    let lab = Lab::without_servers();
    for cluster in ["meshproof-old-west", "meshproofing", "west"] {
        lab.write(&format!("clusters/{cluster}"), "");
    }
    lab.write("labelled", "meshproof-old relay-1\nother-old relay-2\n");
    let swept = sweep(&lab.tools(), &lab.options(), Also::default()).await.unwrap();
    let unrecorded = ["kind cluster meshproof-old-west", "container relay-1"].map(ToOwned::to_owned);
    assert_eq!(
        swept,
        Swept {
            unrecorded: unrecorded.into(),
            ..Swept::default()
        },
        "somebody with another state folder may be using them"
    );
    let also = Also {
        caches: false,
        unrecorded: true,
    };
    let swept = sweep(&lab.tools(), &lab.options(), also).await.unwrap();
    assert_eq!(
        swept,
        Swept {
            removed: vec!["meshproof-old-west".to_owned(), "relay-1".to_owned()],
            ..Swept::default()
        }
    );
    assert_eq!(lab.clusters(), ["meshproofing", "west"]);
}

#[tokio::test]
async fn what_caches_pulled_goes_only_when_it_is_asked_for() {
    let lab = Lab::without_servers();
    lab.write(
        "volumes",
        "docker.io meshproof-cache-docker-io\ndocker.io other-cache-docker-io\n",
    );
    let swept = sweep(&lab.tools(), &lab.options(), Also::default()).await.unwrap();
    assert_eq!(swept.caches, ["meshproof-cache-docker-io"]);
    assert!(swept.removed.is_empty());
    let swept = sweep(
        &lab.tools(),
        &lab.options(),
        Also {
            caches: true,
            unrecorded: false,
        },
    )
    .await
    .unwrap();
    assert_eq!(swept.removed, ["meshproof-cache-docker-io"]);
    let left = std::fs::read_to_string(lab.path().join("state/volumes")).unwrap();
    assert_eq!(left, "docker.io other-cache-docker-io\n");
}

#[tokio::test]
async fn sweeping_without_tools_and_without_traces_finds_nothing() {
    let lab = Lab::without_servers();
    let nowhere = ["kind", "docker"].map(|tool| (tool.to_owned(), lab.path().join("nowhere")));
    let tools = meshproof_engine::tool::Tools::at(nowhere.into());
    assert_eq!(
        sweep(&tools, &lab.options(), Also::default()).await.unwrap(),
        Swept::default()
    );
}
