//! Mutual TLS: each leg proven, contradicted and missing.

use rstest::rstest;

use super::*;
use crate::question::{MtlsQuestion, SecurityEvidence};
use crate::reconcile::IdList;

const IDENTITY: &str = "gateway.mesh.serviceaccount.identity";

fn question() -> MtlsQuestion {
    MtlsQuestion {
        ledger: "meshed".to_owned(),
        stranger_ledger: "stranger".to_owned(),
        requests: 10,
        peer_header: Some(("l5d-client-id".to_owned(), IDENTITY.to_owned())),
        counters: vec!["client outbound".to_owned(), "gateway inbound".to_owned()],
        tapped: true,
    }
}

fn evidence() -> SecurityEvidence {
    SecurityEvidence {
        counters: BTreeMap::from([
            ("client outbound".to_owned(), 10.0),
            ("gateway inbound".to_owned(), 10.0),
        ]),
        tapped_bytes: Some(12_345),
        canary_on_wire: Some(false),
        control_canary_on_wire: Some(true),
    }
}

fn named(identities: &[&str]) -> RequestResult {
    match served("east") {
        RequestResult::Answered(mut answered) => {
            if !identities.is_empty() {
                let values = identities.iter().map(|identity| (*identity).to_owned()).collect();
                answered.seen.insert("l5d-client-id".to_owned(), values);
            }
            RequestResult::Answered(answered)
        }
        failed @ RequestResult::Failed { .. } => failed,
    }
}

fn meshed() -> KnownLedger {
    closed_ledger(rows(times(10, &named(&[IDENTITY]))))
}

fn stranger() -> KnownLedger {
    closed_ledger(rows(times(10, &failed("closed"))))
}

struct Situation {
    question: MtlsQuestion,
    evidence: Option<SecurityEvidence>,
    meshed: KnownLedger,
    stranger: KnownLedger,
}

fn situation() -> Situation {
    Situation {
        question: question(),
        evidence: Some(evidence()),
        meshed: meshed(),
        stranger: stranger(),
    }
}

impl Situation {
    fn judged(self) -> Judgement {
        let observations = self.evidence.map(|evidence| (1, Observation::Security(evidence)));
        let check = seen(check(Question::Mtls(self.question)), observations);
        judge(
            &closed(check, 100_000),
            &[],
            &ledgers([("meshed", self.meshed), ("stranger", self.stranger)]),
        )
    }
}

#[test]
fn four_legs_prove_it() {
    let judgement = situation().judged();
    assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.observed);
    assert_eq!(
        (judgement.measures["legs"], judgement.measures["legs_proven"]),
        (4.0, 4.0)
    );
    insta::assert_snapshot!(judgement.summary, @"west → east: mutual TLS: the target names its peer in l5d-client-id as gateway.mesh.serviceaccount.identity; 2 counters moved by exactly 10; a client without the mesh is refused; a canary is not to be seen on the wire: proven by identity, counters, stranger, wire");
}

#[test]
fn without_a_tap_three_legs_do() {
    let mut situation = situation();
    situation.question.tapped = false;
    situation.evidence = Some(SecurityEvidence {
        tapped_bytes: None,
        canary_on_wire: None,
        control_canary_on_wire: None,
        ..evidence()
    });
    assert_eq!(situation.judged().outcome, Outcome::Pass);
}

type Change = fn(&mut Situation);

#[rstest]
// contradicted
#[case::another_peer(|s: &mut Situation| s.meshed.rows[3].result = named(&["mallory"]), Outcome::Fail, "identity (request t-3: the peer is mallory")]
#[case::no_peer(|s: &mut Situation| s.meshed.rows[3].result = named(&[]), Outcome::Fail, "no peer is named")]
#[case::two_peers(|s: &mut Situation| s.meshed.rows[3].result = named(&["mallory", IDENTITY]), Outcome::Fail, "the peer is mallory, ")]
#[case::counter_too_low(|s: &mut Situation| { s.evidence.as_mut().unwrap().counters.insert("gateway inbound".to_owned(), 9.0); }, Outcome::Fail, "gateway inbound moved by 9, expected 10")]
#[case::counter_too_high(|s: &mut Situation| { s.evidence.as_mut().unwrap().counters.insert("client outbound".to_owned(), 11.0); }, Outcome::Fail, "client outbound moved by 11")]
#[case::stranger_served(|s: &mut Situation| s.stranger.rows[4].result = served("east"), Outcome::Fail, "stranger (1 of 10 requests served")]
#[case::stranger_arrived(|s: &mut Situation| s.stranger.closed.as_mut().unwrap().reconciliation.as_mut().unwrap().reached = IdList { count: 1, ids: vec!["t-1".to_owned()] }, Outcome::Fail, "servers saw 1 request")]
#[case::canary_seen(|s: &mut Situation| s.evidence.as_mut().unwrap().canary_on_wire = Some(true), Outcome::Fail, "the canary was seen in plaintext")]
#[case::contradiction_beats_a_missing_leg(|s: &mut Situation| { s.meshed.rows[3].result = named(&[]); s.stranger.rows.clear(); }, Outcome::Fail, "no peer is named")]
// missing
#[case::not_answered(|s: &mut Situation| s.meshed.rows[3].result = failed("timeout"), Outcome::Inconclusive, "request t-3 was timeout")]
#[case::too_few_requests(|s: &mut Situation| { s.meshed.rows.pop(); }, Outcome::Inconclusive, "9 of 10 requests")]
#[case::no_request(|s: &mut Situation| s.meshed.rows.clear(), Outcome::Inconclusive, "0 of 10 requests")]
#[case::no_evidence(|s: &mut Situation| s.evidence = None, Outcome::Inconclusive, "counters (they were not read)")]
#[case::counter_not_read(|s: &mut Situation| { s.evidence.as_mut().unwrap().counters.remove("gateway inbound"); }, Outcome::Inconclusive, "not read: gateway inbound")]
#[case::stranger_did_not_try(|s: &mut Situation| s.stranger.rows.clear(), Outcome::Inconclusive, "stranger (0 of 10 requests were sent)")]
#[case::stranger_knew_no_name(|s: &mut Situation| s.stranger.rows[0].result = failed("name"), Outcome::Inconclusive, "was not sent to its end")]
#[case::servers_not_asked(|s: &mut Situation| s.stranger.closed.as_mut().unwrap().reconciliation = None, Outcome::Inconclusive, "ledgers of the servers were not read")]
#[case::stranger_ledger_open(|s: &mut Situation| s.stranger.closed = None, Outcome::Inconclusive, "not complete")]
#[case::no_look_for_the_canary(|s: &mut Situation| s.evidence.as_mut().unwrap().canary_on_wire = None, Outcome::Inconclusive, "nobody looked")]
#[case::control_canary_not_seen(|s: &mut Situation| s.evidence.as_mut().unwrap().control_canary_on_wire = Some(false), Outcome::Inconclusive, "the tap proves nothing")]
#[case::control_canary_unknown(|s: &mut Situation| s.evidence.as_mut().unwrap().control_canary_on_wire = None, Outcome::Inconclusive, "the tap proves nothing")]
#[case::tap_saw_nothing(|s: &mut Situation| s.evidence.as_mut().unwrap().tapped_bytes = Some(0), Outcome::Inconclusive, "no byte")]
#[case::nothing_asked(|s: &mut Situation| { s.question.peer_header = None; s.question.counters.clear(); }, Outcome::Inconclusive, "nothing shows how")]
fn one_leg_changed(#[case] change: Change, #[case] expected: Outcome, #[case] says: &str) {
    let mut situation = situation();
    change(&mut situation);
    let judgement = situation.judged();
    assert_eq!(judgement.outcome, expected, "{}", judgement.summary);
    assert!(
        judgement.summary.contains(says) || judgement.observed.contains(says),
        "{}",
        judgement.summary
    );
}
