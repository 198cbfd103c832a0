//! How many requests the proxies carry. A measurement, not a check: run it with `--ignored --nocapture`.

use std::time::Instant;

use super::{ECHO, ECHO_EAST, Pair};

async fn requests_per_second(pair: &Pair, to: &str, connections: usize, n: usize) -> f64 {
    let start = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..connections {
        let mut client = pair.client.http1(to, "echo.lab:8080").await;
        workers.push(tokio::spawn(async move {
            for _ in 0..n / connections {
                assert_eq!(client.get(&[]).await.unwrap().status, 200);
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    n as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    let pair = Pair::new(&[]).await;
    for (name, to) in [
        ("client proxy to target proxy", ECHO),
        ("through the gateway", ECHO_EAST),
    ] {
        for connections in [1, 8, 64] {
            let rate = requests_per_second(&pair, to, connections, 8000).await;
            println!("{name}, {connections} connections: {rate:.0} requests/s");
        }
    }
}
