//! Making commands fail.

use std::time::Duration;

use crate::support::{PATIENCE, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_fault_is_what_it_says() {
    let world = World::start();
    world
        .standins
        .fault("kind get clusters = exit 3 the engine is away")
        .unwrap();
    let output = world.run("kind get clusters").await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(3), "the engine is away\n"));

    world.standins.heal().unwrap();
    world.standins.fault("linkerd version = garbage").unwrap();
    let output = world.run("linkerd version --client --short").await;
    assert_eq!(output.code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&output.stdout).is_err());
    assert!(serde_yaml::from_str::<serde_yaml::Value>(&output.stdout).is_err());

    world.standins.fault("helm = missing").unwrap();
    let output = world.run("helm version").await;
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (Some(127), "sh: helm: not found\n")
    );

    world.standins.fault("docker ps = hang").unwrap();
    let mut child = world.spawn("docker ps");
    let waited = tokio::time::timeout(Duration::from_millis(500), child.wait()).await;
    assert!(waited.is_err(), "it does not end by itself");
    child.kill().await.unwrap();
    let logged = until("the killed call in the log", async || {
        world.standins.calls().into_iter().find(|call| call.tool == "docker")
    })
    .await;
    assert_eq!((logged.line().as_str(), logged.exit), ("docker ps", None));

    world.standins.remove_command("kind").unwrap();
    let gone = tokio::process::Command::new(world.standins.path_dir().join("kind")).spawn();
    assert_eq!(gone.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_in_the_environment_wins_and_bad_rules_are_told() {
    let world = World::start();
    let with = async |rule: &str| {
        let mut command = tokio::process::Command::new(world.standins.path_dir().join("kind"));
        command.arg("version").env("MESHPROOF_STANDIN_FAULT", rule);
        tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    };
    assert_eq!(with("kind version = exit 9").await.status.code(), Some(9));
    let bad = with("kind version = explode").await;
    assert_eq!(bad.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("none of exit, hang, garbage, missing"));
    assert!(world.standins.fault("kind version").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_call_alone_can_fail_and_every_call_is_logged() {
    let world = World::start();
    world.standins.fault("kind version @2 = exit 1 boom").unwrap();
    for _ in 0..3 {
        world.run("kind version").await;
    }
    let calls = world.standins.calls();
    let exits: Vec<_> = calls.iter().map(|call| call.exit).collect();
    assert_eq!(exits, [Some(0), Some(1), Some(0)]);
    assert_eq!(calls[0].line(), "kind version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_create_leaves_a_node_that_delete_removes() {
    let world = World::start();
    world.standins.fault("kind create cluster --name west = hang").unwrap();
    std::fs::write(world.path("west.yaml"), crate::support::config(10)).unwrap();
    let line = "kind create cluster --name west --config west.yaml --kubeconfig west.kubeconfig";
    let mut child = world.spawn(line);
    until("the node's container", async || {
        (world.standins.leftovers().containers == ["west-control-plane"]).then_some(())
    })
    .await;
    child.kill().await.unwrap();

    world.standins.heal().unwrap();
    assert_eq!(world.ok("kind get clusters").await, "west\n");
    let kubeconfig = world.run("kind get kubeconfig --name west").await;
    assert!(
        kubeconfig.stderr.contains("failed to get cluster internal kubeconfig"),
        "{kubeconfig:?}"
    );
    let again = world.run(line).await;
    assert!(again.stderr.contains("node(s) already exist"), "{again:?}");
    world
        .ok("kind delete cluster --name west --kubeconfig west.kubeconfig")
        .await;
    assert!(world.standins.leftovers().containers.is_empty());
    assert_eq!(
        world.create("west", 10).await.code,
        Some(0),
        "nothing is in the way any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_fails_leaves_no_node() {
    let world = World::start();
    assert_eq!(world.create("west", 10).await.code, Some(0));
    // The same ranges again: the stand-ins' network cannot have them twice.
    let output = world.create("east", 10).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("overlap"), "{output:?}");
    assert_eq!(world.standins.leftovers().containers, ["west-control-plane"]);
    assert!(!world.path("east.kubeconfig").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_a_serving_process_say_so() {
    let world = World::start();
    let (tool, folder) = (world.standins.path_dir().join("kind"), world.folder);
    drop(world.standins);
    let output = std::process::Command::new(tool).arg("version").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("MESHPROOF_STANDIN_DIR"), "{said}");
    drop(folder);
}
