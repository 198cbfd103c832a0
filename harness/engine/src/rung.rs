//! The first broken rung on the way of a request: name, mirror, endpoints, gateway, identity, policy, application.

use std::fmt;

use meshproof_verdict::ledger::{RequestResult, Row};
use meshproof_verdict::question::Question;
use serde_json::Value;

/// Rows at the end of a ledger that tell how requests fail at present.
const LATEST: usize = 200;

/// A rung, in the order in which a request passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// The name does not resolve.
    Dns,
    /// The mirrored service is not there.
    Mirror,
    /// It has no ready endpoints.
    Endpoints,
    /// The gateway does not answer, or counts as dead.
    Gateway,
    /// The peers do not accept each other's identity.
    Identity,
    /// A policy forbids it.
    Policy,
    /// The server itself answers wrongly.
    Application,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "dns",
            Self::Mirror => "mirror",
            Self::Endpoints => "endpoints",
            Self::Gateway => "gateway",
            Self::Identity => "identity",
            Self::Policy => "policy",
            Self::Application => "application",
        })
    }
}

/// Something that speaks for a rung being broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clue(pub(crate) Rung);

/// The earliest rung that anything speaks against. Nothing when nothing does.
#[must_use]
pub(crate) fn first_broken(clues: &[Clue]) -> Option<Rung> {
    clues.iter().map(|clue| clue.0).min()
}

/// The ledger that a question is about.
#[must_use]
pub(crate) fn ledger_of(question: &Question) -> Option<&str> {
    match question {
        Question::Requests(question) => Some(&question.ledger),
        Question::Serving(question) => Some(&question.ledger),
        Question::Split(question) => Some(&question.ledger),
        Question::Mtls(question) => Some(&question.ledger),
        Question::Objects(_)
        | Question::Number(_)
        | Question::Access(_)
        | Question::Rejected(_)
        | Question::Inventory(_) => None,
    }
}

/// What a question is about tells the rung when its subject is one.
#[must_use]
pub(crate) fn of_question(question: &Question) -> Vec<Clue> {
    match question {
        Question::Objects(question) => match question.subject.split_whitespace().nth(1) {
            Some("Service") => vec![Clue(Rung::Mirror)],
            Some("Endpoints" | "EndpointSlice") => vec![Clue(Rung::Endpoints)],
            _ => Vec::new(),
        },
        Question::Number(_) => vec![Clue(Rung::Gateway)],
        Question::Access(_) => vec![Clue(Rung::Policy)],
        Question::Mtls(_) => vec![Clue(Rung::Identity)],
        Question::Requests(_)
        | Question::Serving(_)
        | Question::Split(_)
        | Question::Rejected(_)
        | Question::Inventory(_) => Vec::new(),
    }
}

/// How the latest requests failed.
#[must_use]
pub(crate) fn of_rows(rows: &[Row]) -> Vec<Clue> {
    rows.iter()
        .rev()
        .take(LATEST)
        .filter_map(|row| rung_of(&row.result))
        .map(Clue)
        .collect()
}

fn rung_of(result: &RequestResult) -> Option<Rung> {
    match result {
        RequestResult::Failed { kind, .. } if kind == "name" => Some(Rung::Dns),
        RequestResult::Failed { .. } => None,
        RequestResult::Answered(answered) if answered.status == 403 => Some(Rung::Policy),
        RequestResult::Answered(answered) if answered.status >= 400 && answered.cluster.is_some() => {
            Some(Rung::Application)
        }
        // An error of a gateway or proxy on the way: no server of ours answered.
        RequestResult::Answered(answered) if answered.status >= 500 && answered.error_headers.is_empty() => {
            Some(Rung::Gateway)
        }
        RequestResult::Answered(_) => None,
    }
}

/// What a mirrored service and its endpoints look like in the client's cluster.
#[must_use]
pub(crate) fn of_mirror(service: Option<&Value>, endpoints: Option<&Value>) -> Vec<Clue> {
    if service.is_none() {
        return vec![Clue(Rung::Mirror)];
    }
    let subsets = endpoints
        .and_then(|endpoints| endpoints.get("subsets"))
        .and_then(Value::as_array);
    let has = |field: &str| {
        subsets.is_some_and(|subsets| {
            subsets.iter().any(|subset| {
                subset
                    .get(field)
                    .and_then(Value::as_array)
                    .is_some_and(|list| !list.is_empty())
            })
        })
    };
    match (has("addresses"), has("notReadyAddresses")) {
        (true, _) => Vec::new(),
        // Known, but its gateway counts as dead.
        (false, true) => vec![Clue(Rung::Gateway)],
        (false, false) => vec![Clue(Rung::Endpoints)],
    }
}

#[cfg(test)]
mod tests {
    use super::{Clue, Rung, first_broken, of_mirror, of_rows};
    use meshproof_verdict::ledger::{Answered, RequestResult, Row};
    use serde_json::json;

    fn row(result: RequestResult) -> Row {
        Row {
            id: "a".to_owned(),
            intended_us: 0,
            started_us: 0,
            ended_us: 1,
            client: "c".to_owned(),
            connection: 0,
            result,
        }
    }

    #[test]
    fn the_earliest_broken_rung_is_named() {
        assert_eq!(first_broken(&[]), None);
        assert_eq!(
            first_broken(&[Clue(Rung::Application), Clue(Rung::Mirror)]),
            Some(Rung::Mirror)
        );
    }

    #[test]
    fn rows_tell_names_policies_and_servers_apart() {
        let name = RequestResult::Failed {
            kind: "name".to_owned(),
            detail: String::new(),
        };
        assert_eq!(of_rows(&[row(name)]), [Clue(Rung::Dns)]);
        let forbidden = RequestResult::Answered(Answered {
            status: 403,
            ..Answered::default()
        });
        assert_eq!(of_rows(&[row(forbidden)]), [Clue(Rung::Policy)]);
        let own = Answered {
            status: 500,
            cluster: Some("east".to_owned()),
            ..Answered::default()
        };
        assert_eq!(of_rows(&[row(RequestResult::Answered(own))]), [Clue(Rung::Application)]);
        let good = Answered {
            status: 200,
            cluster: Some("east".to_owned()),
            ..Answered::default()
        };
        assert_eq!(of_rows(&[row(RequestResult::Answered(good))]), []);
    }

    #[test]
    fn a_mirror_may_be_absent_empty_or_dead() {
        assert_eq!(of_mirror(None, None), [Clue(Rung::Mirror)]);
        let service = json!({});
        assert_eq!(of_mirror(Some(&service), None), [Clue(Rung::Endpoints)]);
        let dead = json!({"subsets": [{"notReadyAddresses": [{"ip": "1.2.3.4"}]}]});
        assert_eq!(of_mirror(Some(&service), Some(&dead)), [Clue(Rung::Gateway)]);
        let alive = json!({"subsets": [{"addresses": [{"ip": "1.2.3.4"}]}]});
        assert_eq!(of_mirror(Some(&service), Some(&alive)), []);
    }
}
