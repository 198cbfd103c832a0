//! What servers saw: their ledgers, fetched when a client's ledger is closed.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use meshproof_verdict::ledger::ServerRow;

use crate::agents::{self, AgentPod};
use crate::problem::Problem;
use crate::scene::{REQUEST_TIME, Scene};

/// Servers that there were at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServersBefore(BTreeSet<AgentPod>);

/// Rows of servers that were read already; a server that is about to go is read before.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerRows {
    rows: BTreeMap<AgentPod, Vec<meshproof_agent::protocol::ServerRow>>,
    /// Position up to which each ledger was read.
    next: BTreeMap<AgentPod, u64>,
}

impl Scene {
    /// Pods of all deployed services.
    ///
    /// # Errors
    /// When pods can't be seen.
    pub(crate) async fn servers_before(&self) -> Result<ServersBefore, Problem> {
        let mut servers = BTreeSet::new();
        let services: Vec<(String, String)> = self
            .workloads
            .iter()
            .filter(|workload| !workload.is_client)
            .map(|workload| (workload.cluster.clone(), workload.name.clone()))
            .collect();
        for (cluster, service) in services {
            servers.extend(self.pods(&cluster, &service).await?.into_iter().map(|(pod, _)| pod));
        }
        Ok(ServersBefore(servers))
    }

    /// Closes a ledger: compares it with what servers saw of its job. A server that can't be read is named, and stops
    /// nothing.
    pub(crate) async fn close_ledger(
        &mut self,
        ledger: &str,
        job: &str,
        before: &ServersBefore,
        max_late_us: u64,
    ) -> Result<(), Problem> {
        let (unread, read) = self.read_servers().await;
        let prefix = format!("{job}-");
        let mut rows = Vec::new();
        for (pod, known) in &self.server_rows.rows {
            let server = pod.to_string();
            rows.extend(known.iter().filter_map(|row| {
                let id = row.id.as_ref().filter(|id| belongs(id, &prefix))?;
                Some(ServerRow {
                    id: id.clone(),
                    server: server.clone(),
                    received_us: row.received_us,
                    status: row.status,
                })
            }));
        }
        let mut unread: BTreeSet<String> = unread.iter().map(ToString::to_string).collect();
        unread.extend(
            before
                .0
                .iter()
                .filter(|pod| !read.contains(*pod))
                .map(ToString::to_string),
        );
        self.ledgers
            .close(ledger, &rows, unread.into_iter().collect(), max_late_us)
            .await
    }

    /// Reads on in the ledgers of all servers. Returns those that could not be read, and those that could.
    pub(crate) async fn read_servers(&mut self) -> (BTreeSet<AgentPod>, BTreeSet<AgentPod>) {
        let Ok(ServersBefore(servers)) = self.servers_before().await else {
            return (BTreeSet::new(), BTreeSet::new());
        };
        let read = join_all(servers.into_iter().map(|pod| {
            let since = self.server_rows.next.get(&pod).copied().unwrap_or(0);
            let (scene, clock) = (&*self, self.clock());
            async move {
                let read = clock.within(REQUEST_TIME, read_server(scene, &pod, since)).await;
                (pod, read.ok().flatten())
            }
        }))
        .await;
        let (mut unread, mut done) = (BTreeSet::new(), BTreeSet::new());
        for (pod, rows) in read {
            let Some(rows) = rows else {
                unread.insert(pod);
                continue;
            };
            if let Some(last) = rows.last() {
                self.server_rows.next.insert(pod.clone(), last.index + 1);
            }
            self.server_rows.rows.entry(pod.clone()).or_default().extend(rows);
            done.insert(pod);
        }
        (unread, done)
    }
}

/// Whether an id is the prefix and a number: the names of other jobs may begin in the same way.
fn belongs(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The rows of a server from `since` on; nothing when it can't be reached or has given up rows that were never read.
async fn read_server(scene: &Scene, pod: &AgentPod, since: u64) -> Option<Vec<meshproof_agent::protocol::ServerRow>> {
    let cluster = scene.cluster(&pod.cluster).ok()?;
    let mut client = agents::connect(cluster, pod, &scene.run.requests).await.ok()?;
    let ledger = client.server_ledger(Some(&scene.run.nonce), since).await.ok()?;
    ledger.dropped.is_none().then_some(ledger.rows)
}
