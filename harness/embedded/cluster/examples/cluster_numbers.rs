//! Measures what an embedded cluster costs: `cargo run -p meshproof-cluster --example cluster_numbers`.

#![expect(clippy::print_stdout, reason = "the numbers are the output")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use meshproof_apiserver::{Selector, gvr};
use meshproof_cluster::fabric::{Fabric, FabricConfig, PathSelector, TapOptions};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::program::{ContainerContext, Exit, Program};
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PORT: u16 = 7;
const CONNECTIONS: u32 = 2000;
const ROUND_TRIPS: u32 = 20_000;
const MEGABYTES: usize = 256;

struct Echo;

#[async_trait]
impl Program for Echo {
    async fn run(&self, container: ContainerContext) -> Exit {
        let Ok(mut listener) = container.network.listen(PORT).await else {
            return Exit::Failed("the port is taken".into());
        };
        loop {
            let accepted = tokio::select! {
                () = container.shutdown.cancelled() => return Exit::Done,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                return Exit::Failed("the port is gone".into());
            };
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.ok();
                write.shutdown().await.ok();
            });
        }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let fabric = Fabric::new(FabricConfig::new(Pace::new(10.0)));
    let programs = ProgramRegistry::standard();
    programs.register("test/echo", Arc::new(Echo));
    let begin = Instant::now();
    let starting = ["west", "east", "north"]
        .iter()
        .zip(0..)
        .map(|(name, n)| EmbeddedCluster::start(ClusterConfig::numbered(name, n), &fabric, &programs));
    let mut clusters = Vec::new();
    for started in futures::future::join_all(starting).await {
        clusters.push(started?);
    }
    println!("3 clusters up                     {:>10.1?}", begin.elapsed());
    for replicas in [1, 50] {
        let begin = Instant::now();
        roll_out(&clusters[1], replicas).await?;
        println!(
            "{replicas:>2} replicas ready and in a slice   {:>10.1?}",
            begin.elapsed()
        );
    }
    let store = clusters[1].store();
    let address =
        store.get(&gvr::SERVICES, Some("default"), "echo1")?["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    println!(
        "load-balancer address             {:>10}",
        address.as_str().unwrap_or("none")
    );

    let target = (clusters[1].node_address(), PORT).into();
    let begin = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut stream = fabric.connect_from("west", target).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await?;
    }
    println!(
        "connect + 1 byte there and back   {:>10.1?}",
        begin.elapsed() / CONNECTIONS
    );
    let mut stream = fabric.connect_from("west", target).await?;
    let begin = Instant::now();
    for _ in 0..ROUND_TRIPS {
        stream.write_all(b"x").await?;
        stream.read_u8().await?;
    }
    println!(
        "round trip on an open connection  {:>10.1?}",
        begin.elapsed() / ROUND_TRIPS
    );
    println!(
        "throughput, no tap                {:>7.0} MB/s",
        throughput(&fabric, target).await?
    );
    let options = TapOptions {
        patterns: vec![b"a canary that never comes".to_vec()],
        sample_bytes: 0,
    };
    let tap = fabric.tap(PathSelector::between("west", "east"), &options);
    println!(
        "throughput, tap with a pattern    {:>7.0} MB/s",
        throughput(&fabric, target).await?
    );
    println!(
        "seen by the tap                   {:>7} MB",
        tap.report().forward_bytes >> 20
    );
    drop(stream);
    let begin = Instant::now();
    futures::future::join_all(clusters.into_iter().map(EmbeddedCluster::shutdown)).await;
    println!("3 clusters down                   {:>10.1?}", begin.elapsed());
    Ok(())
}

async fn roll_out(cluster: &EmbeddedCluster, replicas: usize) -> Outcome<()> {
    let name = format!("echo{replicas}");
    let labels = json!({"app": name});
    let store = cluster.store();
    let mut slices = store.informer(&gvr::ENDPOINT_SLICES, Some("default"), &Selector::all())?;
    let service = json!({
        "metadata": {"name": name},
        "spec": {"type": if replicas == 1 { "LoadBalancer" } else { "ClusterIP" }, "selector": labels, "ports": [{"port": PORT}]},
    });
    store.create(&gvr::SERVICES, Some("default"), service)?;
    let deployment = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "echo", "image": "test/echo", "readinessProbe": {"tcpSocket": {"port": PORT}}}]},
            },
        },
    });
    store.create(&gvr::DEPLOYMENTS, Some("default"), deployment)?;
    loop {
        let change = tokio::time::timeout(Duration::from_secs(30), slices.next()).await?;
        let Some(Ok(change)) = change else {
            return Err("the watch ended".into());
        };
        let endpoints = change.object["endpoints"].as_array().cloned().unwrap_or_default();
        let ready = endpoints.iter().filter(|e| e["conditions"]["ready"] == true).count();
        let own = change.object["metadata"]["labels"]["kubernetes.io/service-name"] == name.as_str();
        if own && ready == replicas {
            return Ok(());
        }
    }
}

/// Megabytes per second in each direction at once.
async fn throughput(fabric: &Fabric, target: std::net::SocketAddr) -> Outcome<f64> {
    let stream = fabric.connect_from("west", target).await?;
    let (mut read, mut write) = tokio::io::split(stream);
    let begin = Instant::now();
    let writing = tokio::spawn(async move {
        let piece = vec![7; 64 << 10];
        for _ in 0..MEGABYTES * 16 {
            write.write_all(&piece).await?;
        }
        write.shutdown().await
    });
    let mut buffer = vec![0; 64 << 10];
    while read.read(&mut buffer).await? > 0 {}
    writing.await??;
    Ok(f64::from(u32::try_from(MEGABYTES)?) / begin.elapsed().as_secs_f64())
}
