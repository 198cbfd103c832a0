//! `kind`.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use kube::api::PostParams;
use meshproof_standins::Leftovers;
use rstest::rstest;
use serde_json::json;

use crate::support::{World, until};

/// A file that was recorded on real clusters.
fn recorded(file: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clusters/tests/recorded/kind");
    std::fs::read_to_string(format!("{folder}/{file}")).unwrap()
}

/// Lines without what differs from run to run: the machine's warnings and debugging lines, times, the farewell.
fn lasting(printed: &str) -> Vec<&str> {
    let passing = [
        "cgroup v1",
        "DEBUG: ",
        "real\t",
        "user\t",
        "sys\t",
        "Have a nice",
        "Thanks for",
        "Not sure",
    ];
    printed
        .lines()
        .filter(|line| !line.is_empty() && !passing.iter().any(|start| line.starts_with(start)))
        .map(|line| line.strip_prefix(" • Ready after").map_or(line, |_| " • Ready after"))
        .collect()
}

#[rstest]
#[case("west", "180s")]
#[case("east", "180s")]
#[case("north", "240s")]
#[tokio::test(flavor = "multi_thread")]
async fn creating_prints_what_the_real_one_printed(#[case] cluster: &str, #[case] wait: &str) {
    let world = World::start();
    let line =
        format!("kind create cluster --name {cluster} --image lab/kindnode:v1.34.9 --kubeconfig k --wait {wait}");
    let output = world.run(&line).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{output:?}");
    let printed = output.stderr.replace(" --kubeconfig k\n", "\n");
    let real = recorded(&format!("kind-create-{cluster}.txt"));
    assert!(lasting(&real).len() > 15, "{real}");
    assert_eq!(lasting(&printed), lasting(&real));
}

/// The words around names and ids, which are others.
#[rstest]
#[case("west")]
#[case("east")]
#[case("north")]
#[tokio::test(flavor = "multi_thread")]
async fn loading_prints_what_the_real_one_printed(#[case] cluster: &str) {
    let world = World::start();
    assert_eq!(world.create(cluster, 10).await.code, Some(0));
    let real = recorded(&format!("kind-load-{cluster}.txt"));
    for line in lasting(&real) {
        let words: Vec<&str> = line.split('"').collect();
        let [_, image, _, id, ..] = words[..] else {
            panic!("{line}")
        };
        world.standins.add_agent_image(image);
        let loaded = world
            .run(&format!("kind load docker-image {image} --name {cluster}"))
            .await;
        let printed: Vec<&str> = loaded.stderr.trim_end().split('"').collect();
        assert_eq!(printed.len(), words.len(), "{loaded:?}");
        assert_eq!(printed[3].len(), id.len(), "{loaded:?}");
        let printed = loaded.stderr.trim_end().replace(printed[3], id);
        assert_eq!(printed, line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_there_is_not_created_again() {
    let world = World::start();
    let line = "kind create cluster --name east --kubeconfig k";
    assert_eq!(world.run(line).await.code, Some(0));
    let again = world.run(line).await;
    assert_eq!(again.code, Some(1));
    assert_eq!(
        again.stderr,
        "ERROR: failed to create cluster: node(s) already exist for a cluster with the name \"east\"\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_in_parallel_with_their_own_addresses_and_leave_nothing() {
    let world = World::start();
    let none = world.run("kind get clusters").await;
    assert_eq!(
        (none.stdout.as_str(), none.stderr.as_str()),
        ("", "No kind clusters found.\n")
    );

    let (west, east) = tokio::join!(world.create("west", 10), world.create("east", 20));
    assert_eq!((west.code, east.code), (Some(0), Some(0)), "{west:?} {east:?}");
    assert_eq!(world.ok("kind get clusters").await, "east\nwest\n");
    assert_eq!(world.ok("kind get nodes --name west").await, "west-control-plane\n");

    let client = world.client("west").await;
    let node = Api::<Node>::all(client.clone())
        .get("west-control-plane")
        .await
        .unwrap();
    assert_eq!(node.spec.unwrap().pod_cidr.as_deref(), Some("10.10.0.0/16"));
    let kubernetes = Api::<Service>::namespaced(client, "default")
        .get("kubernetes")
        .await
        .unwrap();
    let address = kubernetes.spec.unwrap().cluster_ip.unwrap();
    assert!(address.starts_with("10.110."), "{address}");

    let internal = world.ok("kind get kubeconfig --name west --internal").await;
    assert!(
        internal.contains("server: https://west-control-plane:6443"),
        "{internal}"
    );
    assert!(internal.contains("current-context: kind-west"), "{internal}");

    let deleted = world
        .run("kind delete cluster --name west --kubeconfig west.kubeconfig")
        .await;
    assert_eq!(
        deleted.stderr,
        "Deleting cluster \"west\" ...\nDeleted nodes: [\"west-control-plane\"]\n"
    );
    let kubeconfig = std::fs::read_to_string(world.path("west.kubeconfig")).unwrap();
    assert!(!kubeconfig.contains("kind-west"), "{kubeconfig}");
    world
        .ok("kind delete clusters --all --kubeconfig east.kubeconfig")
        .await;
    let again = world
        .run("kind delete cluster --name west --kubeconfig west.kubeconfig")
        .await;
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (Some(0), "Deleting cluster \"west\" ...\n")
    );

    let left = Leftovers {
        networks: vec!["kind".to_owned()],
        ..Leftovers::default()
    };
    assert_eq!(world.standins.leftovers(), left, "kind leaves its network");
    world.ok("docker network rm kind").await;
    assert!(world.standins.leftovers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_not_loaded_does_not_start() {
    let world = World::start();
    assert_eq!(world.create("west", 10).await.code, Some(0));
    let pods = Api::<Pod>::namespaced(world.client("west").await, "default");
    let pod = |name: &str| {
        let args = [
            "--cluster=west",
            "--namespace=default",
            "--workload=agent",
            "--pod=agent",
            "--nonce=1",
        ];
        let container = json!({"name": "agent", "image": "meshproof/agent:test", "args": args});
        serde_json::from_value::<Pod>(json!({"metadata": {"name": name}, "spec": {"containers": [container]}})).unwrap()
    };
    let state = async |name: &str| {
        let found = pods.get(name).await.unwrap();
        let state = found.status?.container_statuses?.first()?.state.clone()?;
        Some(
            state
                .waiting
                .map_or_else(|| "Running".to_owned(), |waiting| waiting.reason.unwrap_or_default()),
        )
    };
    pods.create(&PostParams::default(), &pod("early")).await.unwrap();
    until("ImagePullBackOff", async || {
        (state("early").await.as_deref() == Some("ImagePullBackOff")).then_some(())
    })
    .await;

    let absent = world
        .run("kind load docker-image meshproof/agent:test --name west")
        .await;
    assert_eq!(
        absent.stderr,
        "ERROR: image: \"meshproof/agent:test\" not present locally\n"
    );
    world.standins.add_agent_image("meshproof/agent:test");
    let loaded = world
        .run("kind load docker-image meshproof/agent:test --name west")
        .await;
    assert_eq!(loaded.code, Some(0));
    let words = "not yet present on node \"west-control-plane\", loading...\n";
    assert!(
        loaded
            .stderr
            .starts_with("Image: \"meshproof/agent:test\" with ID \"sha256:"),
        "{}",
        loaded.stderr
    );
    assert!(loaded.stderr.ends_with(words), "{}", loaded.stderr);
    let again = world
        .run("kind load docker-image meshproof/agent:test --name west")
        .await;
    assert!(
        again.stderr.contains("found to be already present on all nodes."),
        "{}",
        again.stderr
    );
    pods.create(&PostParams::default(), &pod("late")).await.unwrap();
    until("the loaded image runs", async || {
        (state("late").await.as_deref() == Some("Running")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kind_does_not_have_or_the_stand_in_does_not_model_is_refused() {
    let world = World::start();
    for (line, code, words) in [
        (
            "kind create cluster --config nosuch --kubeconfig k",
            1,
            "no such file or directory",
        ),
        ("kind create cluster --name west", 126, "~/.kube/config"),
        (
            "kind load docker-image x --name west",
            1,
            "image: \"x\" not present locally",
        ),
        (
            "kind get kubeconfig --name west",
            1,
            "could not locate any control plane nodes",
        ),
        ("kind export logs logs --name west", 1, "unknown cluster \"west\""),
        ("kind build node-image", 126, "stand-in:"),
    ] {
        let output = world.run(line).await;
        assert_eq!(output.code, Some(code), "{line}: {output:?}");
        assert!(output.stderr.contains(words), "{line}: {output:?}");
    }
    assert!(world.standins.leftovers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_ones_own_is_used() {
    let world = World::start();
    world.ok("docker network create --subnet 172.30.0.0/24 mine").await;
    std::fs::write(world.path("c.yaml"), crate::support::config(10)).unwrap();
    let child = tokio::process::Command::new(world.standins.path_dir().join("kind"))
        .args([
            "create",
            "cluster",
            "--name",
            "west",
            "--config",
            "c.yaml",
            "--kubeconfig",
            "k",
        ])
        .current_dir(world.folder.path())
        .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", "mine")
        .output();
    let output = child.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let address = world
        .ok("docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' west-control-plane")
        .await;
    assert_eq!(address, "172.30.0.2\n");
    assert_eq!(world.standins.leftovers().networks, ["mine"]);
    let refused = world.run("docker network rm mine").await;
    assert!(refused.stderr.contains("has active endpoints"), "{refused:?}");
}
