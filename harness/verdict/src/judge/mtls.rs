//! Mutual TLS, proven by up to four independent legs:
//!
//! | leg | proven when | contradicted when |
//! |---|---|---|
//! | identity | every request of the meshed client succeeded and its target names the expected peer | a target names another peer, or none |
//! | counters | every named counter moved by exactly the number of requests | one moved by another number |
//! | stranger | no request of the client without the mesh reached any server | one did |
//! | wire | the tap saw bytes and the control canary, but not the canary | the canary was seen |
//!
//! The stranger is always asked for; the others when the question has them. One contradicted leg fails the check, and one
//! that is neither proven nor contradicted leaves it inconclusive. Without identity and counters there is nothing to
//! prove that the meshed client's requests were protected: inconclusive.

use super::refusal::refusal;
use super::request_pattern::{header, outcome, served_well};
use super::wording::{counted, list, number};
use super::{Assessment, Context, Finding};
use crate::ledger::{RequestResult, Row};
use crate::question::{MtlsQuestion, Observation, SecurityEvidence};
use crate::record::Outcome;

pub(crate) fn expectation(question: &MtlsQuestion) -> String {
    let mut legs = Vec::new();
    if let Some((header, identity)) = &question.peer_header {
        legs.push(format!("the target names its peer in {header} as {identity}"));
    }
    if !question.counters.is_empty() {
        legs.push(format!(
            "{} moved by exactly {}",
            counted(question.counters.len() as u64, "counter"),
            question.requests
        ));
    }
    legs.push("a client without the mesh is refused".to_owned());
    if question.tapped {
        legs.push("a canary is not to be seen on the wire".to_owned());
    }
    format!("mutual TLS: {}", legs.join("; "))
}

pub(crate) fn assess(question: &MtlsQuestion, context: &Context<'_>) -> Assessment {
    let meshed = context.ledger(&question.ledger);
    let stranger = context.ledger(&question.stranger_ledger);
    let evidence = context
        .observations()
        .filter_map(|(at_us, observation)| match observation {
            Observation::Security(evidence) => Some((at_us, evidence)),
            _ => None,
        });
    let evidence = evidence.last();
    let rows = meshed.as_ref().map_or(&[][..], |ledger| ledger.rows.as_slice());

    let mut legs = Vec::new();
    if let Some((name, identity)) = &question.peer_header {
        legs.push(("identity", identity_leg(question, name, identity, rows)));
    }
    if !question.counters.is_empty() {
        legs.push((
            "counters",
            counters_leg(question, evidence.map(|(_, evidence)| evidence)),
        ));
    }
    let named_protection = !legs.is_empty();
    let stranger_leg = match &stranger {
        Some(ledger) if ledger.rows.len() as u64 >= question.requests.max(1) => {
            let found = refusal(ledger);
            match found.outcome {
                Outcome::Pass => Leg::proven(found.happened),
                Outcome::Fail => Leg {
                    ids: found.requests,
                    ..Leg::contradicted(found.happened)
                },
                _ => Leg::missing(found.happened),
            }
        }
        known => {
            let sent = known.as_ref().map_or(0, |ledger| ledger.rows.len());
            Leg::missing(format!("{sent} of {} requests were sent", question.requests))
        }
    };
    legs.push(("stranger", stranger_leg));
    if question.tapped {
        legs.push(("wire", wire_leg(evidence.map(|(_, evidence)| evidence))));
    }

    let told: Vec<String> = legs
        .iter()
        .map(|(name, leg)| format!("{name}: {} ({})", leg.state.word(), leg.text))
        .collect();
    let times = rows
        .iter()
        .map(|row| row.ended_us)
        .chain(
            stranger
                .iter()
                .flat_map(|ledger| ledger.rows.iter().map(|row| row.ended_us)),
        )
        .chain(evidence.map(|(at_us, _)| at_us));
    let at_us = times.max().unwrap_or(context.check.opened.at_us);
    let of = |state: State| legs.iter().filter(move |(_, leg)| leg.state == state);
    let finding = |outcome: Outcome, happened: String| {
        Finding::new(outcome, at_us, happened)
            .observed(told.join("; "))
            .measure("legs", legs.len() as f64)
            .measure("legs_proven", of(State::Proven).count() as f64)
            .measure("requests", rows.len() as f64)
    };
    let name = |(name, leg): &(&str, Leg)| format!("{name} ({})", leg.text);
    let contradicted: Vec<String> = of(State::Contradicted).map(name).collect();
    if !contradicted.is_empty() {
        let ids: Vec<&str> = of(State::Contradicted)
            .flat_map(|(_, leg)| &leg.ids)
            .map(String::as_str)
            .collect();
        let found = finding(
            Outcome::Fail,
            format!("contradicted by {}", contradicted.join(" and by ")),
        );
        return Assessment::settled(found.requests(ids));
    }
    let missing: Vec<String> = of(State::Missing).map(name).collect();
    if missing.is_empty() && named_protection {
        let proven: Vec<&str> = legs.iter().map(|(name, _)| *name).collect();
        return Assessment::settled(finding(Outcome::Pass, format!("proven by {}", proven.join(", "))));
    }
    let happened = if missing.is_empty() {
        "nothing shows how the meshed client's requests were protected".to_owned()
    } else {
        format!("not proven: {}", missing.join(", "))
    };
    let complete =
        |ledger: &Option<super::SeenLedger<'_>>| ledger.as_ref().is_some_and(|ledger| ledger.closed.is_some());
    if complete(&meshed) && complete(&stranger) && evidence.is_some() {
        return Assessment::settled(finding(Outcome::Inconclusive, happened));
    }
    Assessment::open(happened)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Proven,
    Contradicted,
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Contradicted => "contradicted",
            Self::Missing => "not proven",
        }
    }
}

struct Leg {
    state: State,
    text: String,
    ids: Vec<String>,
}

impl Leg {
    fn proven(text: String) -> Self {
        Self {
            state: State::Proven,
            text,
            ids: Vec::new(),
        }
    }

    fn contradicted(text: String) -> Self {
        Self {
            state: State::Contradicted,
            text,
            ids: Vec::new(),
        }
    }

    fn missing(text: String) -> Self {
        Self {
            state: State::Missing,
            text,
            ids: Vec::new(),
        }
    }
}

fn identity_leg(question: &MtlsQuestion, name: &str, identity: &str, rows: &[&Row]) -> Leg {
    // Only an answer of the target can contradict: what is not answered says nothing about protection.
    for row in rows.iter().filter(|row| served_well(row)) {
        let RequestResult::Answered(answered) = &row.result else {
            continue;
        };
        let values = header(&answered.seen, name);
        // All values: a client's own header in front of the proxy's must not pass for it.
        let right = values.is_some_and(|values| !values.is_empty() && values.iter().all(|value| value == identity));
        if !right {
            let text = values.map_or("no peer is named".to_owned(), |values| {
                format!("the peer is {}", values.join(", "))
            });
            return Leg {
                ids: vec![row.id.clone()],
                ..Leg::contradicted(format!("request {}: {text}", row.id))
            };
        }
    }
    if let Some(row) = rows.iter().find(|row| !served_well(row)) {
        return Leg::missing(format!("request {} was {}", row.id, outcome(row)));
    }
    if rows.len() as u64 != question.requests || rows.is_empty() {
        return Leg::missing(format!("{} of {} requests were made", rows.len(), question.requests));
    }
    Leg::proven(format!("{} name {identity}", counted(rows.len() as u64, "request")))
}

fn counters_leg(question: &MtlsQuestion, evidence: Option<&SecurityEvidence>) -> Leg {
    let Some(evidence) = evidence else {
        return Leg::missing("they were not read".to_owned());
    };
    let expected = question.requests as f64;
    let wrong = question.counters.iter().find_map(|name| {
        let moved = evidence.counters.get(name)?;
        // Counters count whole requests.
        ((moved - expected).abs() > 0.5)
            .then(|| format!("{name} moved by {}, expected {}", number(*moved), question.requests))
    });
    if let Some(wrong) = wrong {
        return Leg::contradicted(wrong);
    }
    let unread: Vec<&str> = question
        .counters
        .iter()
        .filter(|name| !evidence.counters.contains_key(*name))
        .map(String::as_str)
        .collect();
    if !unread.is_empty() {
        return Leg::missing(format!("not read: {}", list(unread)));
    }
    if question.requests == 0 {
        return Leg::missing("no request was made".to_owned());
    }
    Leg::proven(format!(
        "{} moved by exactly {}",
        counted(question.counters.len() as u64, "counter"),
        question.requests
    ))
}

fn wire_leg(evidence: Option<&SecurityEvidence>) -> Leg {
    let Some(evidence) = evidence else {
        return Leg::missing("the tap was not read".to_owned());
    };
    if evidence.canary_on_wire == Some(true) {
        return Leg::contradicted("the canary was seen in plaintext".to_owned());
    }
    match (
        evidence.canary_on_wire,
        evidence.control_canary_on_wire,
        evidence.tapped_bytes,
    ) {
        (None, _, _) => Leg::missing("nobody looked for the canary".to_owned()),
        (_, Some(true), Some(bytes)) if bytes > 0 => Leg::proven(format!(
            "{bytes} bytes without the canary, and the control canary was seen"
        )),
        (_, Some(true), _) => Leg::missing("the tap saw no byte of the requests".to_owned()),
        (_, _, _) => Leg::missing("the control canary was not seen, so that the tap proves nothing".to_owned()),
    }
}
