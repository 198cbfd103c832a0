//! Comparison of what clients sent with what servers saw. By ids alone: clocks of different clusters need not agree.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ledger::{RequestResult, Row, ServerRow};

/// Ids that one [`IdList`] spells out; the rest is only counted.
pub const LISTED_IDS: usize = 100;

/// Some ids of requests: how many, and the first [`LISTED_IDS`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdList {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub ids: Vec<String>,
}

impl IdList {
    /// Adds an id.
    pub fn add(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < LISTED_IDS {
            self.ids.push(id.to_owned());
        }
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What the servers' ledgers say about the requests of one client ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reconciliation {
    /// Rows of servers that were compared.
    pub server_rows: u64,
    /// The client got no answer of a server, and no server saw the request.
    pub lost: IdList,
    /// The client got no answer of a server, but a server saw the request.
    pub reached: IdList,
    /// Servers saw the request more than once (something on the way sent it again).
    pub duplicated: IdList,
    /// The client was answered by one server, but only others saw the request.
    pub misrouted: IdList,
    /// The client was answered by a server whose ledger does not have the request.
    pub unseen: IdList,
    /// A server saw the request, but the client has no row of it.
    pub unaccounted: IdList,
    /// Servers whose ledgers could not be read, `cluster/namespace/pod`. While there is one, `lost` and `unseen` prove
    /// nothing.
    pub unread: Vec<String>,
}

impl Reconciliation {
    /// Ids that servers saw and that no answered row of the client accounts for: for the journal's
    /// [`LedgerClosed`](crate::record::Event::LedgerClosed).
    #[must_use]
    pub fn unaccounted_ids(&self) -> Vec<String> {
        let lists = [&self.unaccounted, &self.reached, &self.duplicated, &self.misrouted];
        let ids: BTreeSet<&String> = lists.iter().flat_map(|list| &list.ids).collect();
        ids.into_iter().cloned().collect()
    }

    /// Whether servers can be said not to have seen any request of the ledger.
    #[must_use]
    pub fn nothing_arrived(&self) -> bool {
        self.unread.is_empty() && self.reached.is_empty() && self.unaccounted.is_empty() && self.misrouted.is_empty()
    }
}

/// Compares all rows of a client's ledger with the rows of servers that may belong to it: the caller selects those of the
/// same run and the same job by the prefix of their ids. `unread` names servers whose ledgers are not among `servers`.
#[must_use]
pub fn reconcile(clients: &[Row], servers: &[ServerRow], unread: Vec<String>) -> Reconciliation {
    let mut seen: BTreeMap<&str, Vec<&ServerRow>> = BTreeMap::new();
    for row in servers {
        seen.entry(&row.id).or_default().push(row);
    }
    let mut result = Reconciliation {
        server_rows: servers.len() as u64,
        unread,
        ..Reconciliation::default()
    };
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for row in clients {
        known.insert(&row.id);
        let sightings = seen.get(row.id.as_str()).map_or(&[][..], Vec::as_slice);
        if sightings.len() > 1 {
            result.duplicated.add(&row.id);
        }
        match (answering_server(row), sightings) {
            (None, []) => result.lost.add(&row.id),
            (None, _) => result.reached.add(&row.id),
            (Some(_), []) => result.unseen.add(&row.id),
            (Some(server), _) => {
                if !sightings.iter().any(|sighting| server.is(&sighting.server)) {
                    result.misrouted.add(&row.id);
                }
            }
        }
    }
    for (id, sightings) in &seen {
        if !known.contains(id) {
            result.unaccounted.add(id);
            if sightings.len() > 1 {
                result.duplicated.add(id);
            }
        }
    }
    result
}

/// Who answered, as far as the client was told.
struct AnsweringServer<'a> {
    cluster: &'a str,
    pod: Option<&'a str>,
}

impl AnsweringServer<'_> {
    /// Whether it is the server with this full name, `cluster/namespace/pod`. The client may know the pod by its bare or
    /// by its full name.
    fn is(&self, full: &str) -> bool {
        let mut parts = full.split('/');
        let same_cluster = parts.next() == Some(self.cluster);
        let bare = full.rsplit('/').next();
        same_cluster && self.pod.is_none_or(|pod| pod == full || pod.rsplit('/').next() == bare)
    }
}

fn answering_server(row: &Row) -> Option<AnsweringServer<'_>> {
    match &row.result {
        RequestResult::Answered(answered) => answered.cluster.as_deref().map(|cluster| AnsweringServer {
            cluster,
            pod: answered.pod.as_deref(),
        }),
        RequestResult::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Answered;

    fn client(id: &str, answer: Option<(&str, &str)>) -> Row {
        let result = match answer {
            Some((cluster, pod)) => RequestResult::Answered(Answered {
                status: 200,
                cluster: Some(cluster.to_owned()),
                pod: Some(pod.to_owned()),
                nonce_matches: true,
                ..Answered::default()
            }),
            None => RequestResult::Failed {
                kind: "timeout".to_owned(),
                detail: String::new(),
            },
        };
        Row {
            id: id.to_owned(),
            intended_us: 0,
            started_us: 0,
            ended_us: 1,
            client: "west/shop/c".to_owned(),
            connection: 0,
            result,
        }
    }

    fn server(id: &str, server: &str) -> ServerRow {
        ServerRow {
            id: id.to_owned(),
            server: server.to_owned(),
            received_us: 0,
            status: Some(200),
        }
    }

    fn ids(list: &IdList) -> Vec<&str> {
        assert_eq!(list.count, list.ids.len() as u64);
        list.ids.iter().map(String::as_str).collect()
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let clients = [
            client("fine", Some(("east", "p1"))),
            client("full-name", Some(("east", "east/shop/p1"))),
            client("lost", None),
            client("reached", None),
            client("twice", Some(("east", "p1"))),
            client("misrouted", Some(("east", "p1"))),
            client("other-cluster", Some(("east", "p1"))),
            client("unseen", Some(("east", "p1"))),
        ];
        let servers = [
            server("fine", "east/shop/p1"),
            server("full-name", "east/shop/p1"),
            server("reached", "east/shop/p1"),
            server("twice", "east/shop/p2"),
            server("twice", "east/shop/p1"),
            server("misrouted", "east/shop/p2"),
            server("other-cluster", "west/shop/p1"),
            server("nobody's", "east/shop/p1"),
        ];
        let result = reconcile(&clients, &servers, vec![]);
        assert_eq!(result.server_rows, 8);
        assert_eq!(ids(&result.lost), ["lost"]);
        assert_eq!(ids(&result.reached), ["reached"]);
        assert_eq!(ids(&result.duplicated), ["twice"]);
        assert_eq!(ids(&result.misrouted), ["misrouted", "other-cluster"]);
        assert_eq!(ids(&result.unseen), ["unseen"]);
        assert_eq!(ids(&result.unaccounted), ["nobody's"]);
        assert_eq!(
            result.unaccounted_ids(),
            ["misrouted", "nobody's", "other-cluster", "reached", "twice"]
        );
        assert!(!result.nothing_arrived());
    }

    #[test]
    fn nothing_arrived_only_when_every_server_was_asked() {
        let clients = [client("a", None)];
        assert!(reconcile(&clients, &[], vec![]).nothing_arrived());
        assert!(!reconcile(&clients, &[], vec!["east/shop/p1".to_owned()]).nothing_arrived());
        assert!(!reconcile(&clients, &[server("a", "east/shop/p1")], vec![]).nothing_arrived());
        assert!(!reconcile(&clients, &[server("b", "east/shop/p1")], vec![]).nothing_arrived());
    }

    #[test]
    fn long_lists_are_counted_to_the_end() {
        let clients: Vec<Row> = (0..250).map(|i| client(&format!("r{i:03}"), None)).collect();
        let result = reconcile(&clients, &[], vec![]);
        assert_eq!((result.lost.count, result.lost.ids.len()), (250, LISTED_IDS));
    }
}
