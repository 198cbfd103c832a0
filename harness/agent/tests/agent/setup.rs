//! Agents to test with, and what a job came to.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use meshproof_agent::control::{Client, JobStream, ServerLedger};
use meshproof_agent::network::Network;
use meshproof_agent::protocol::{
    CONTROL_PORT, ClientRow, FailureKind, HTTP_PORT, Identity, Job, JobEvent, Load, Outcome, Protocol, TCP_PORT,
};
use meshproof_agent::{RunningAgent, Server, ServerConfig};
use tokio::sync::Notify;

use crate::networks::World;

pub(crate) const RUN: &str = "run-1";

pub(crate) fn identity(pod: &str) -> Identity {
    Identity {
        cluster: "west".to_owned(),
        namespace: "shop".to_owned(),
        workload: pod.to_owned(),
        pod: format!("{pod}-0"),
        nonce: RUN.to_owned(),
    }
}

/// The lines that an agent logged.
#[derive(Clone, Default)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: Arc<Notify>,
}

impl Log {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that contains `text`. That it never comes is noticed after a minute.
    pub(crate) async fn wait_for(&self, text: &str) -> String {
        let found = self.find(text);
        match tokio::time::timeout(std::time::Duration::from_secs(60), found).await {
            Ok(line) => line,
            Err(_) => panic!("no line with {text:?} in {:#?}", self.lines()),
        }
    }

    async fn find(&self, text: &str) -> String {
        loop {
            let grown = self.grown.notified();
            if let Some(line) = self.lines().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            grown.await;
        }
    }
}

/// An agent in a pod of its own.
pub(crate) struct TestAgent {
    pub(crate) running: RunningAgent,
    pub(crate) log: Log,
    pub(crate) network: Arc<dyn Network>,
    name: String,
}

impl TestAgent {
    pub(crate) async fn start(world: &World, name: &str) -> Self {
        Self::start_with(world, name, |_| {}).await
    }

    pub(crate) async fn start_with(world: &World, name: &str, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let log = Log::default();
        let sink = log.clone();
        let mut config = ServerConfig::new(identity(name));
        config.log = Arc::new(move |line| {
            sink.lines.lock().unwrap().push(line.to_owned());
            sink.grown.notify_waiters();
        });
        change(&mut config);
        let network = world.pod(name);
        let running = Server::start(Arc::clone(&network), config).await.unwrap();
        Self {
            running,
            log,
            network,
            name: name.to_owned(),
        }
    }

    /// A new control connection.
    pub(crate) async fn control(&self) -> Client {
        Client::connect(self.network.connect(&self.name, CONTROL_PORT).await.unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn start_job(&self, job: &Job) -> JobStream {
        self.control().await.start_job(job).await.unwrap()
    }

    /// Runs a job to its end.
    pub(crate) async fn run(&self, job: &Job) -> Finished {
        Finished::read(self.start_job(job).await).await
    }

    pub(crate) async fn ledger(&self) -> ServerLedger {
        self.control().await.server_ledger(Some(RUN), 0).await.unwrap()
    }
}

/// A client and a server.
pub(crate) async fn pair(world: &World) -> (TestAgent, TestAgent) {
    (
        TestAgent::start(world, "shopper").await,
        TestAgent::start(world, "store").await,
    )
}

/// A closed loop of `requests` to the server over two connections.
pub(crate) fn job(protocol: Protocol, requests: u64) -> Job {
    Job {
        name: "steady".to_owned(),
        run: RUN.to_owned(),
        host: "store".to_owned(),
        port: match protocol {
            Protocol::Http1 | Protocol::Http2 => HTTP_PORT,
            Protocol::Tcp => TCP_PORT,
        },
        protocol,
        load: Load::Closed { requests, gap_ms: 0 },
        connections: 2,
        timeout_ms: 10_000,
        path: "/cart?x=1".to_owned(),
        headers: [("x-extra".to_owned(), "1".to_owned())].into(),
        record: vec!["x-extra".to_owned(), "x-absent".to_owned()],
        until_seen: None,
        fresh_connections: false,
    }
}

/// Makes an open loop of it.
pub(crate) fn open(job: Job, per_second: f64, requests: Option<u64>) -> Job {
    Job {
        load: Load::Open { per_second, requests },
        ..job
    }
}

/// Everything that a job said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) rows: Vec<ClientRow>,
    pub(crate) sent: u64,
    pub(crate) seen: bool,
    pub(crate) max_late_us: u64,
}

impl Finished {
    /// Reads a stream to its end and checks what must hold of any job: it begins with its start, ends with its end, and
    /// each request sent has exactly one row.
    pub(crate) async fn read(mut stream: JobStream) -> Self {
        let first = stream.next().await.unwrap().unwrap();
        assert!(
            matches!(first, JobEvent::Started { epoch_us } if epoch_us > 0),
            "{first:?}"
        );
        Self::read_rest(stream, Vec::new()).await
    }

    /// The same for a stream of which `rows` have been read already.
    pub(crate) async fn read_rest(mut stream: JobStream, mut rows: Vec<ClientRow>) -> Self {
        let finished = loop {
            match stream.next().await.unwrap().unwrap() {
                JobEvent::Started { .. } => panic!("a job started twice"),
                JobEvent::Row(row) => rows.push(row),
                JobEvent::Ended {
                    sent,
                    seen,
                    max_late_us,
                } => {
                    break Self {
                        rows,
                        sent,
                        seen,
                        max_late_us,
                    };
                }
            }
        };
        assert!(stream.next().await.is_none(), "something follows the end");
        assert_eq!(finished.rows.len() as u64, finished.sent);
        let mut numbers: Vec<u64> = finished.rows.iter().map(number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..finished.sent).collect::<Vec<u64>>());
        for row in &finished.rows {
            assert!(
                row.intended_us <= row.started_us && row.started_us <= row.ended_us,
                "{row:?}"
            );
        }
        finished
    }

    pub(crate) fn answered(&self, wanted: u16) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Answered { status, .. } if *status == wanted))
    }

    pub(crate) fn failed(&self, wanted: FailureKind) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed { kind, .. } if *kind == wanted))
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| wanted(&row.outcome)).count()
    }

    pub(crate) fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }
}

/// The `<n>` of `<job>-<n>`.
pub(crate) fn number(row: &ClientRow) -> u64 {
    row.id.rsplit_once('-').unwrap().1.parse().unwrap()
}
