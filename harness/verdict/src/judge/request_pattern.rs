//! Whether one request is as a pattern says, and what to say if it is not.

use std::collections::BTreeMap;

use super::wording::{cut, seconds};
use crate::ledger::{Answered, RequestResult, Row};
use crate::question::{AnsweredPattern, FailsPattern, HeaderPattern};

/// No server of another run answered. (What no server answered is nobody's.)
pub(crate) fn is_of_this_run(row: &Row) -> bool {
    match &row.result {
        RequestResult::Answered(answered) => answered.cluster.is_none() || answered.nonce_matches,
        RequestResult::Failed { .. } => true,
    }
}

/// A server of this run answered with success.
pub(crate) fn served_well(row: &Row) -> bool {
    row.succeeded() && is_of_this_run(row)
}

/// The harness cut the request off, so that its outcome is not known.
pub(crate) fn is_stopped(row: &Row) -> bool {
    failure_kind(row) == Some("stopped")
}

/// Class of a failure without an answer.
pub(crate) fn failure_kind(row: &Row) -> Option<&str> {
    match &row.result {
        RequestResult::Failed { kind, .. } => Some(kind),
        RequestResult::Answered(_) => None,
    }
}

/// What became of a request, for people.
pub(crate) fn outcome(row: &Row) -> String {
    match &row.result {
        RequestResult::Failed { kind, detail } => {
            let after = seconds(row.ended_us.saturating_sub(row.started_us));
            format!("{kind} after {after} ({})", cut(detail))
        }
        RequestResult::Answered(answered) => match (&answered.cluster, &answered.pod) {
            (Some(cluster), pod) => {
                let pod = pod.as_deref().map(|pod| format!(" ({pod})")).unwrap_or_default();
                let stale = if answered.nonce_matches {
                    ""
                } else {
                    ", a stale pod of another run"
                };
                format!("answered {} by {cluster}{pod}{stale}", answered.status)
            }
            (None, _) => {
                let headers: Vec<String> = answered
                    .error_headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", cut(value)))
                    .collect();
                let headers = if headers.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", headers.join(", "))
                };
                format!("answered {} by no server of this run{headers}", answered.status)
            }
        },
    }
}

/// What a pattern of answers asks for.
pub(crate) fn expected_answer(pattern: &AnsweredPattern) -> String {
    let mut text = "answered".to_owned();
    if !pattern.status.is_empty() {
        text = format!("{text} {}", statuses(&pattern.status));
    }
    if !pattern.by.is_empty() {
        text = format!("{text} by {}", pattern.by.join(" and "));
    }
    if pattern.by_mesh {
        text = format!("{text} by no server of this run");
    }
    let mut rest = Vec::new();
    rest.extend(pattern.host.as_ref().map(|host| format!("host {host}")));
    rest.extend(pattern.protocol.as_ref().map(|protocol| format!("protocol {protocol}")));
    rest.extend(pattern.port.map(|port| format!("port {port}")));
    rest.extend(pattern.seen.iter().map(|(name, holds)| expected_header(name, holds)));
    if rest.is_empty() {
        text
    } else {
        format!("{text} with {}", rest.join(", "))
    }
}

/// What a pattern of failures asks for.
pub(crate) fn expected_failure(pattern: &FailsPattern) -> String {
    let mut text = match pattern.share {
        Some(share) => format!("a share of {share} fails"),
        None => "fails".to_owned(),
    };
    if !pattern.status.is_empty() {
        text = format!("{text} with status {}", statuses(&pattern.status));
    }
    if let Some(header) = &pattern.header {
        text = format!("{text} with header {header}");
    }
    if let Some(us) = pattern.faster_than_us {
        text = format!("{text} within {}", seconds(us));
    }
    text
}

fn statuses(statuses: &[u16]) -> String {
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}

fn expected_header(name: &str, holds: &HeaderPattern) -> String {
    match holds {
        HeaderPattern::Equals(value) => format!("{name} = {value:?}"),
        HeaderPattern::Contains(value) => format!("{name} containing {value:?}"),
        HeaderPattern::Excludes(value) => format!("{name} without {value:?}"),
        HeaderPattern::Exists(true) => format!("{name} there"),
        HeaderPattern::Exists(false) => format!("{name} not there"),
    }
}

/// Whether a request was answered as the pattern says, or what is wrong. Whether *each* of the clusters of `by` served
/// is not a matter of one request.
pub(crate) fn answered_as(pattern: &AnsweredPattern, row: &Row) -> Result<(), String> {
    let RequestResult::Answered(answered) = &row.result else {
        return Err(outcome(row));
    };
    let status_fits = if pattern.status.is_empty() {
        answered.status < 400
    } else {
        pattern.status.contains(&answered.status)
    };
    if pattern.by_mesh {
        let fits = status_fits && answered.cluster.is_none();
        return if fits { Ok(()) } else { Err(outcome(row)) };
    }
    let Some(cluster) = &answered.cluster else {
        return Err(outcome(row));
    };
    if !answered.nonce_matches || !status_fits || !(pattern.by.is_empty() || pattern.by.contains(cluster)) {
        return Err(outcome(row));
    }
    seen_as(pattern, answered)
}

fn seen_as(pattern: &AnsweredPattern, answered: &Answered) -> Result<(), String> {
    let told = |value: &Option<String>| value.as_deref().map_or("nothing".to_owned(), cut);
    if pattern.host.is_some() && pattern.host != answered.host {
        return Err(format!("the server saw host {}", told(&answered.host)));
    }
    if pattern.protocol.is_some() && pattern.protocol != answered.protocol {
        return Err(format!("the server saw protocol {}", told(&answered.protocol)));
    }
    if pattern.port.is_some() && pattern.port != answered.port {
        let port = answered.port.map_or("nothing".to_owned(), |port| port.to_string());
        return Err(format!("the server saw port {port}"));
    }
    for (name, holds) in &pattern.seen {
        let values = header(&answered.seen, name);
        if !header_is(holds, values) {
            let values = values.map_or("not there".to_owned(), |values| cut(&format!("{values:?}")));
            return Err(format!("the server saw header {name}: {values}"));
        }
    }
    Ok(())
}

/// Values of a header; names don't depend on case.
pub(crate) fn header<'a>(seen: &'a BTreeMap<String, Vec<String>>, name: &str) -> Option<&'a Vec<String>> {
    seen.iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, values)| values)
}

fn header_is(holds: &HeaderPattern, values: Option<&Vec<String>>) -> bool {
    let values = values.map_or(&[][..], Vec::as_slice);
    match holds {
        HeaderPattern::Equals(wanted) => values.iter().any(|value| value == wanted),
        HeaderPattern::Contains(wanted) => values.iter().any(|value| value.contains(wanted)),
        // What is hidden may contain it all the same.
        HeaderPattern::Excludes(unwanted) => !values
            .iter()
            .any(|value| value.contains(unwanted) || value.contains(crate::question::HIDDEN)),
        HeaderPattern::Exists(wanted) => values.is_empty() != *wanted,
    }
}

/// Whether a request failed as the pattern says, or what is wrong. `share` is not a matter of one request.
///
/// With a status or a header in the pattern, only an error answer can fit: a connection that breaks has neither.
pub(crate) fn failed_as(pattern: &FailsPattern, row: &Row) -> Result<(), String> {
    let wrong = || Err(outcome(row));
    match &row.result {
        RequestResult::Answered(answered) => {
            if answered.status < 400 || !(pattern.status.is_empty() || pattern.status.contains(&answered.status)) {
                return wrong();
            }
            let named = |wanted: &String| {
                answered
                    .error_headers
                    .keys()
                    .any(|name| name.eq_ignore_ascii_case(wanted))
            };
            if let Some(missing) = pattern.header.as_ref().filter(|wanted| !named(wanted)) {
                return Err(format!("{}, without header {missing}", outcome(row)));
            }
        }
        RequestResult::Failed { .. } => {
            if !pattern.status.is_empty() || pattern.header.is_some() {
                return wrong();
            }
        }
    }
    let took_us = row.ended_us.saturating_sub(row.started_us);
    match pattern.faster_than_us {
        Some(limit_us) if took_us > limit_us => Err(format!("{}, after {}", outcome(row), seconds(took_us))),
        _ => Ok(()),
    }
}
