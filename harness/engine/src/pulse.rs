//! Whether the clusters' APIs answer in time, as the harness sees it: each is asked for one object again and again, and what
//! is without an answer counts from the time at which it was asked.
//!
//! That tells a mesh that breaks a promise from one whose API server stood still, also where another process serves it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use meshproof_verdict::wakefulness::STALLED_US;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{ErrorClass, classify};
use crate::clock::Clock;
use crate::environment::Cluster;
use crate::lateness::Lateness;
use crate::watch::Watches;

/// Most and least often that an API is asked (wall time); in between, twice in the time that counts as a stall.
const PERIODS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Pause before an API is asked again that did not answer (wall time).
const AGAIN: Duration = Duration::from_millis(50);
/// A request is given up after this (wall time); the time without an answer goes on.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// Every cluster has this namespace, and facts about a cluster are read from it anyway.
const ASKED_FOR: &str = "kube-system";

/// Asks the APIs of some clusters, as long as it lives.
#[derive(Default)]
pub(crate) struct Pulses(Vec<(String, Arc<Lateness>, AbortOnDropHandle<()>)>);

impl Pulses {
    /// Asks from now on. While `watches` know that a cluster can't be seen, its API is not asked.
    pub(crate) fn feel(clusters: &[Cluster], watches: &Watches, clock: Clock) -> Self {
        let feel = |cluster: &Cluster| {
            let lateness = Arc::new(Lateness::new(clock));
            let blindfold = watches.blindfold(&cluster.name)?;
            let feeling = feel(cluster.client.clone(), blindfold, Arc::clone(&lateness), clock);
            let task = AbortOnDropHandle::new(tokio::spawn(feeling));
            Some((cluster.name.clone(), lateness, task))
        };
        Self(clusters.iter().filter_map(feel).collect())
    }

    /// The longest time without an answer since a scenario time, by cluster, µs of scenario time; clusters whose API was in
    /// time are left out.
    pub(crate) fn longest_since(&self, since_us: u64) -> BTreeMap<String, u64> {
        let longest = |(name, lateness, _): &(String, Arc<Lateness>, _)| {
            let us = lateness.longest_since(since_us);
            (us > 0).then(|| (name.clone(), us))
        };
        self.0.iter().filter_map(longest).collect()
    }
}

async fn feel(client: Client, mut blindfold: watch::Receiver<Option<String>>, lateness: Arc<Lateness>, clock: Clock) {
    let period = clock
        .wall(Duration::from_micros(STALLED_US / 2))
        .clamp(PERIODS.0, PERIODS.1);
    let namespaces: Api<Namespace> = Api::all(client);
    loop {
        lateness.forget();
        if blindfold.wait_for(Option::is_none).await.is_err() {
            return;
        }
        lateness.expect(Instant::now());
        tokio::select! {
            biased;
            // A scenario stopped this API: it is to be silent.
            blinded = blindfold.wait_for(Option::is_some) => {
                if blinded.is_err() {
                    return;
                }
                continue;
            }
            () = answered(&namespaces) => lateness.came(),
        }
        tokio::time::sleep(period).await;
    }
}

/// Asks until there is an answer; that credentials lack a right is one.
async fn answered(namespaces: &Api<Namespace>) {
    loop {
        match tokio::time::timeout(GIVEN_UP, namespaces.get(ASKED_FOR)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) if classify(&error) != ErrorClass::Transient => return,
            Ok(Err(_)) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use kube::Client;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::Pulses;
    use crate::clock::Clock;
    use crate::environment::Cluster;
    use crate::watch::Watches;

    const PACE: f64 = 100.0;

    /// An API server that answers everything with the same Namespace, unless it is silent.
    async fn cluster(silent: Arc<AtomicBool>) -> Cluster {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&silent)));
            }
        });
        Cluster {
            name: "east".to_owned(),
            client: Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap(),
            kubeconfig: String::new(),
            api_from_peers: String::new(),
            node_address: String::new(),
            gateway_from: std::collections::BTreeMap::new(),
            domain: String::new(),
        }
    }

    async fn serve(mut stream: TcpStream, silent: Arc<AtomicBool>) {
        let body = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system"}}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut request = [0; 4096];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            while silent.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn until(what: &str, reached: impl Fn() -> bool) {
        let coming = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), coming).await.is_ok(),
            "not within 20 s: {what}"
        );
    }

    #[tokio::test]
    async fn an_api_that_stands_still_is_told_from_one_that_a_scenario_stopped() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let silent = Arc::new(AtomicBool::new(false));
        let clusters = [cluster(Arc::clone(&silent)).await];
        let clock = Clock::start(PACE);
        let watches = Watches::new(&clusters);
        let pulses = Pulses::feel(&clusters, &watches, clock);

        watches.set_blind("east", Some("a fault".to_owned()));
        silent.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        // The answer that was due when it became blind may have been late; that is not 200 s.
        assert!(
            pulses.longest_since(0).get("east").is_none_or(|us| *us < 150_000_000),
            "that was asked for"
        );
        silent.store(false, Ordering::SeqCst);
        watches.set_blind("east", None);
        until("it answers", || pulses.longest_since(clock.now_us() + 1).is_empty()).await;

        silent.store(true, Ordering::SeqCst);
        let silent_since = clock.now_us();
        let overdue = || pulses.longest_since(silent_since).get("east").copied().unwrap_or(0);
        until("its silence is noticed", || overdue() >= 30_000_000).await;
        silent.store(false, Ordering::SeqCst);
        until("it answers again", || {
            pulses.longest_since(clock.now_us() + 1).is_empty()
        })
        .await;
        assert!(overdue() >= 30_000_000, "it was silent");
    }
}
