//! `docker`.

use serde_json::{Value, json};

use crate::support::World;

const RULE: &str =
    "iptables -w 10 -t raw -I PREROUTING -s 172.18.0.3 -m comment --comment meshproof-partition-1 -j DROP";

#[tokio::test(flavor = "multi_thread")]
async fn containers_and_networks_are_described_as_docker_does() {
    let world = World::start();
    let missing = world.run("docker network inspect kind").await;
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), "[]\n"));
    assert_eq!(missing.stderr, "Error response from daemon: network kind not found\n");
    assert_eq!(world.create("west", 10).await.code, Some(0));

    let network: Value = serde_json::from_str(&world.ok("docker network inspect kind").await).unwrap();
    assert_eq!(
        network[0]["IPAM"]["Config"],
        json!([{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}])
    );
    let attached: Vec<&Value> = network[0]["Containers"].as_object().unwrap().values().collect();
    assert_eq!(attached[0]["Name"], "west-control-plane");
    assert_eq!(attached[0]["IPv4Address"], "172.18.0.2/16");
    assert_eq!(
        attached[0]["MacAddress"], "02:42:ac:12:00:02",
        "as recorded of the first node of a network"
    );
    // The fields of an entry recorded from a real engine.
    let recorded = [
        "Attachable",
        "ConfigFrom",
        "ConfigOnly",
        "Containers",
        "Created",
        "Driver",
        "EnableIPv6",
        "IPAM",
        "Id",
        "Ingress",
        "Internal",
        "Labels",
        "Name",
        "Options",
        "Scope",
    ];
    let mut fields: Vec<&String> = network[0].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, recorded);

    let text = world
        .run("docker inspect --type container west-control-plane nosuch")
        .await;
    assert_eq!(text.code, Some(1));
    assert_eq!(text.stderr, "Error response from daemon: No such container: nosuch\n");
    let inspected: Value = serde_json::from_str(&text.stdout).unwrap();
    assert_eq!(inspected[0]["Name"], "/west-control-plane");
    assert_eq!(inspected[0]["State"]["Status"], "running");
    assert_eq!(inspected[0]["Config"]["Labels"]["io.x-k8s.kind.role"], "control-plane");
    assert_eq!(
        inspected[0]["NetworkSettings"]["Networks"]["kind"]["IPAddress"],
        "172.18.0.2"
    );

    let listed = "docker ps --all --filter label=io.x-k8s.kind.cluster=west --format {{.Names}}";
    assert_eq!(world.ok(listed).await, "west-control-plane\n");
    let of_others = "docker ps --all --filter label=dev.meshproof.environment --format '{{.Label \"dev.meshproof.environment\"}} {{.Names}}'";
    assert_eq!(world.ok(of_others).await, "");
    let status = "docker container inspect west-control-plane --format {{.State.Status}}";
    assert_eq!(world.ok(status).await, "running\n");
    world.ok("docker rm --force --volumes west-control-plane").await;
    assert_eq!(
        world.run(status).await.stderr,
        "Error response from daemon: No such container: west-control-plane\n"
    );
    assert_eq!(world.ok("docker ps --all --quiet").await, "");
    assert_eq!(world.ok("kind get clusters").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_queues_on_a_node_come_and_go() {
    let world = World::start();
    let (west, east) = (world.create("west", 10).await, world.create("east", 20).await);
    assert_eq!((west.code, east.code), (Some(0), Some(0)));
    let exec = async |command: &str| world.run(&format!("docker exec west-control-plane {command}")).await;

    assert_eq!(exec(RULE).await.code, Some(0));
    let listed = exec("iptables -w 10 -t raw -S PREROUTING").await.stdout;
    assert_eq!(listed.matches("meshproof-partition-1").count(), 1);
    assert!(exec("iptables-save").await.stdout.contains("meshproof-partition-1"));
    assert_eq!(exec(&RULE.replace("-I", "-D")).await.code, Some(0));
    let gone = exec(&RULE.replace("-I", "-D")).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");

    assert_eq!(exec("ip route replace 10.20.0.0/16 via 172.18.0.3").await.code, Some(0));
    assert_eq!(
        exec("ip route replace 10.20.0.0/16 via 172.18.0.9").await.code,
        Some(2),
        "no such node"
    );
    assert_eq!(
        exec("mkdir -p /etc/containerd/certs.d/registry.test").await.code,
        Some(0)
    );
    let hosts =
        "docker exec --interactive west-control-plane cp /dev/stdin /etc/containerd/certs.d/registry.test/hosts.toml";
    assert_eq!(world.run_with_input(hosts, "server = \"x\"\n").await.code, Some(0));
    for refused in ["sh -c true", "ip link set eth0 down", "iptables -F"] {
        let output = exec(refused).await;
        assert_eq!(output.code, Some(126), "{refused}: {output:?}");
        assert!(output.stderr.starts_with("stand-in: "), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_api_server_does_not_answer_until_it_goes_on() {
    let world = World::start();
    assert_eq!(world.create("west", 10).await.code, Some(0));
    let client = world.client("west").await;
    let answers = async || {
        let asked = tokio::time::timeout(std::time::Duration::from_millis(400), client.apiserver_version()).await;
        asked.is_ok_and(|answer| answer.is_ok())
    };
    assert!(answers().await);
    let block = "iptables -w 10 -t filter -I INPUT ! -i lo -p tcp --dport 6443 -m comment --comment meshproof-pause-api-1 -j DROP";
    for (on, off) in [
        (
            format!("docker exec west-control-plane {block}"),
            format!(
                "docker exec west-control-plane {}",
                block.replace("-I INPUT", "-D INPUT")
            ),
        ),
        (
            "docker exec west-control-plane pkill -STOP kube-apiserver".into(),
            "docker exec west-control-plane pkill -CONT kube-apiserver".into(),
        ),
        (
            "docker pause west-control-plane".into(),
            "docker unpause west-control-plane".into(),
        ),
    ] {
        world.ok(&on).await;
        assert!(!answers().await, "{on}");
        world.ok(&off).await;
        assert!(answers().await, "{off}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_built_by_their_entry_point_and_travel_in_archives() {
    let world = World::start();
    assert_eq!(world.create("west", 10).await.code, Some(0));
    std::fs::write(
        world.path("Dockerfile"),
        "FROM scratch\nENTRYPOINT [\"/meshproof-agent\"]\n",
    )
    .unwrap();
    let built = world
        .ok("docker build --quiet --tag meshproof/agent:test --label digest=7 .")
        .await;
    assert!(built.starts_with("sha256:"), "{built}");
    let label = "docker image inspect meshproof/agent:test --format '{{index .Config.Labels \"digest\"}}'";
    assert_eq!(world.ok(label).await, "7\n");
    let entry = world
        .ok("docker image inspect --format '{{json .Config.Entrypoint}}' meshproof/agent:test")
        .await;
    assert_eq!(entry, "[\"meshproof-agent\"]\n");
    world.ok("docker save --output images.tar meshproof/agent:test").await;
    world.ok("kind load image-archive images.tar --name west").await;
    let foreign = world.run("kind load image-archive Dockerfile --name west").await;
    assert_eq!(foreign.code, Some(126), "{foreign:?}");
    let missing = world.run("docker image inspect nosuch").await;
    assert_eq!(
        missing.stderr,
        "Error response from daemon: No such image: nosuch:latest\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_runs_beside_the_nodes_and_keeps_its_volume() {
    let world = World::start();
    assert_eq!(world.create("west", 10).await.code, Some(0));
    let run = "docker run --detach --name cache --network kind --label dev.meshproof.environment=e \
               --env REGISTRY_PROXY_REMOTEURL=https://registry.example --mount type=volume,source=kept,target=/var/lib/registry registry:3";
    let missing = world.run(run).await;
    assert_eq!(missing.code, Some(125), "{missing:?}");
    assert!(
        missing
            .stderr
            .starts_with("Unable to find image 'registry:3' locally\n"),
        "{missing:?}"
    );

    world.standins.add_image("registry:3", "registry");
    world
        .ok("docker volume create --label dev.meshproof.cache=registry.example kept")
        .await;
    world.ok(run).await;
    assert_eq!(world.run(run).await.code, Some(125), "the name is taken");
    let status = "docker inspect --type container --format {{.State.Status}} cache";
    assert_eq!(world.ok(status).await, "running\n");
    let logged = world.run("docker logs --tail 50 cache").await;
    assert!(logged.stderr.contains("listening on"), "{logged:?}");
    let listed = "docker ps --all --filter label=dev.meshproof.environment=e --format {{.Names}}";
    assert_eq!(world.ok(listed).await, "cache\n");
    assert_eq!(world.run("docker volume rm kept").await.code, Some(1), "in use");
    assert_eq!(world.ok("docker rm --force --volumes cache").await, "cache\n");
    let volumes =
        "docker volume ls --filter label=dev.meshproof.cache --format '{{.Label \"dev.meshproof.cache\"}} {{.Name}}'";
    assert_eq!(
        world.ok(volumes).await,
        "registry.example kept\n",
        "a named volume stays"
    );
    assert_eq!(world.ok("docker volume rm kept").await, "kept\n");

    // An image that runs something else ends at once.
    world.standins.add_image("registry:3", "other");
    world.ok(run).await;
    assert_eq!(world.ok(status).await, "exited\n");
}
