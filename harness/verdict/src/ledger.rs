//! The ledger: one row for every single request, as newline-delimited JSON in a file of its own per call or traffic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Unique in the run.
    pub id: String,
    /// When it should have started (scenario µs since the start of the run).
    pub intended_us: u64,
    /// When it did start.
    pub started_us: u64,
    /// When its outcome was known.
    pub ended_us: u64,
    /// Pod of the client, `cluster/namespace/pod`.
    pub client: String,
    /// Connection index within the client.
    pub connection: u32,
    /// What became of it.
    pub result: RequestResult,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestResult {
    /// A complete answer arrived.
    Answered(Answered),
    /// No complete answer.
    Failed {
        /// Class: `name`, `refused`, `closed`, `timeout`, `protocol`, `stopped`.
        kind: String,
        /// For people.
        detail: String,
    },
}

/// A complete answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answered {
    /// HTTP status; 200 for opaque TCP.
    pub status: u16,
    /// Cluster of the server; absent when the answer came from no server of ours (a proxy's own error).
    pub cluster: Option<String>,
    /// Pod of the server.
    pub pod: Option<String>,
    /// Whether the server belongs to this run (its nonce was right).
    pub nonce_matches: bool,
    /// `Host` as the server saw it.
    pub host: Option<String>,
    /// Protocol as the server saw it: `http1`, `http2`, `tcp`.
    pub protocol: Option<String>,
    /// Container port on which the request arrived.
    pub port: Option<u16>,
    /// Recorded request headers as the server saw them.
    pub seen: BTreeMap<String, Vec<String>>,
    /// Response headers that explain an error.
    pub error_headers: BTreeMap<String, String>,
}

impl Row {
    /// A server of ours answered with a status below 400.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(&self.result, RequestResult::Answered(answered) if answered.status < 400 && answered.cluster.is_some())
    }

    /// Cluster that served the request, whatever the status.
    #[must_use]
    pub fn served_by(&self) -> Option<&str> {
        match &self.result {
            RequestResult::Answered(answered) => answered.cluster.as_deref(),
            RequestResult::Failed { .. } => None,
        }
    }
}

/// One request as a server saw it (reconciliation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerRow {
    /// Request id.
    pub id: String,
    /// Pod of the server, `cluster/namespace/pod`.
    pub server: String,
    /// When it was received (scenario µs since the start of the run; clocks of two clusters may differ).
    pub received_us: u64,
    /// Status that was answered; absent when the connection was closed on purpose.
    pub status: Option<u16>,
}
