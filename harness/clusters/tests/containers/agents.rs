//! The image, and agents made from it.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use meshproof_agent::protocol::{ClientRow, HTTP_PORT, Job, JobEvent, Load, Outcome, Protocol};
use meshproof_clusters::agent_image;
use tokio::time::timeout;

use crate::dns::NameServer;
use crate::world::{Agent, World};

/// After it a test counts as hung.
const HUNG: Duration = Duration::from_secs(120);

pub(crate) async fn image_runs(world: &World) -> Result<(), String> {
    let image = world.image().await;
    let label = world.label();
    let said = world
        .docker(&["run", "--rm", "--label", &label, "--read-only", image, "--version"])
        .await;
    assert_eq!(said, format!("meshproof-agent {}", env!("CARGO_PKG_VERSION")));

    // It is there: nothing is needed to make sure of it.
    let builds = || {
        world
            .tools
            .ran()
            .iter()
            .filter(|ran| ran.line.starts_with("docker build"))
            .count()
    };
    let before = builds();
    agent_image::ensure(&world.tools, image, None).await.unwrap();
    assert_eq!(builds(), before);

    let problem = agent_image::ensure(&world.tools, "meshproof-agent-test:never", None)
        .await
        .unwrap_err();
    assert_eq!(problem.code, "agent-image-missing");
    assert!(
        problem
            .remedy
            .unwrap()
            .contains("docker build --file harness/agent/Dockerfile")
    );

    let dynamic = std::env::current_exe().unwrap();
    let problem = agent_image::ensure(&world.tools, image, Some(dynamic))
        .await
        .unwrap_err();
    assert_eq!(problem.code, "agent-binary-dynamic");
    Ok(())
}

pub(crate) async fn call_by_name(world: &World) -> Result<(), String> {
    let store = world.agent("store", &[]).await;
    let shopper = world.agent("shopper", &[]).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let rows = run(world, &shopper, protocol, &store.name, 20).await;
        assert_eq!(servers(&rows), vec![store.name.as_str(); 20], "{rows:?}");
    }
    world.docker(&["rm", "--force", &store.name, &shopper.name]).await;
    Ok(())
}

/// The search list and `ndots` that the kubelet writes into pods (Kubernetes: DNS for Services and Pods).
const RESOLV_CONF: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";

pub(crate) async fn resolve_as_in_a_pod(world: &World) -> Result<(), String> {
    const NAME: &str = "checkout.shop.svc.cluster.local";
    let gateway = world.gateway().await;
    let checkout = world.agent("checkout", &[]).await;
    let IpAddr::V4(address) = checkout.address else {
        panic!("the engine gave {} an address of no use here", checkout.name)
    };
    let server = match NameServer::start(gateway, NAME, address).await {
        Ok(server) => server,
        Err(error) => {
            world.docker(&["rm", "--force", &checkout.name]).await;
            return Err(format!("a name server can't listen on {gateway}:53: {error}"));
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {gateway}\n{RESOLV_CONF}")).unwrap();
    let mount = format!("{}:/etc/resolv.conf:ro", file.display());
    let client = world.agent("buyer", &["--volume", &mount]).await;

    // Fewer than five dots: the search list comes first, in order, as far as it is needed.
    for (host, asked) in [
        ("checkout", vec![NAME]),
        ("checkout.shop", vec!["checkout.shop.shop.svc.cluster.local", NAME]),
        (
            NAME,
            vec![
                "checkout.shop.svc.cluster.local.shop.svc.cluster.local",
                "checkout.shop.svc.cluster.local.svc.cluster.local",
                "checkout.shop.svc.cluster.local.cluster.local",
                NAME,
            ],
        ),
        ("checkout.shop.svc.cluster.local.", vec![NAME]),
    ] {
        server.asked();
        let rows = run(world, &client, Protocol::Http1, host, 1).await;
        assert_eq!(servers(&rows), [checkout.name.as_str()], "{host}: {rows:?}");
        assert_eq!(server.asked(), asked, "{host}");
    }
    let rows = run(world, &client, Protocol::Http1, "nobody", 1).await;
    assert!(servers(&rows).is_empty(), "{rows:?}");
    assert_eq!(
        server.asked(),
        [
            "nobody.shop.svc.cluster.local",
            "nobody.svc.cluster.local",
            "nobody.cluster.local",
            "nobody"
        ]
    );
    world.docker(&["rm", "--force", &checkout.name, &client.name]).await;
    Ok(())
}

/// Sends requests from one agent to a host and returns their rows.
async fn run(world: &World, client: &Agent, protocol: Protocol, host: &str, requests: u64) -> Vec<ClientRow> {
    let job = Job {
        name: "calls".to_owned(),
        run: world.run.clone(),
        host: host.to_owned(),
        port: HTTP_PORT,
        protocol,
        load: Load::Closed { requests, gap_ms: 0 },
        connections: 1,
        timeout_ms: 30_000,
        path: "/".to_owned(),
        headers: std::collections::BTreeMap::new(),
        record: Vec::new(),
        until_seen: None,
        fresh_connections: false,
    };
    let stream = client.control().await.unwrap().start_job(&job).await.unwrap();
    let events: Vec<_> = timeout(HUNG, stream.collect()).await.unwrap();
    let rows = events.into_iter().filter_map(|event| match event.unwrap() {
        JobEvent::Row(row) => Some(row),
        JobEvent::Started { .. } | JobEvent::Ended { .. } => None,
    });
    rows.collect()
}

/// Who answered with 200.
fn servers(rows: &[ClientRow]) -> Vec<&str> {
    let pods = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Answered {
            status: 200,
            server: Some(server),
            ..
        } => Some(server.pod.as_str()),
        _ => None,
    });
    pods.collect()
}
