//! The live answer and the final one: once progress says *decided*, nothing that follows changes the outcome.

use proptest::prelude::*;

use super::*;
use crate::question::{Comparison, FailsPattern, NumberQuestion, ServingPattern, ServingQuestion};

fn timings() -> impl Strategy<Value = Timing> {
    let some_ms = || prop_oneof![Just(None), (0_u64..30).prop_map(Some)];
    prop_oneof![
        (some_ms(), some_ms()).prop_map(|(within, hold)| timing(within, hold, None)),
        (0_u64..30).prop_map(|never| timing(None, None, Some(never))),
    ]
}

fn outcome(check: &CheckHistory, known: &LedgerSet, at_us: u64) -> (Outcome, u64) {
    let mut check = closed(check.clone(), 0);
    check.closed.as_mut().unwrap().at_us = at_us;
    let judgement = judge(&check, &proven(), known);
    (judgement.outcome, judgement.at_us)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Observations come at random moments; the engine asks after each, and when it was told to look again.
    #[test]
    fn observations(
        timing in timings(),
        steps in prop::collection::vec((0_u64..12, 0_u8..5), 0..12),
        beyond_ms in 0_u64..100_000,
    ) {
        let question = Question::Number(NumberQuestion {
            subject: "n".to_owned(),
            holds: Comparison::Equals(json!(1)),
            timing,
        });
        let mut at_us = OPENED_MS * MS;
        let all: Vec<(u64, Observation)> = steps
            .into_iter()
            .map(|(after_ms, state)| {
                at_us += after_ms * MS;
                let observation = match state {
                    0 | 1 => Observation::Number(Some(1.0)),
                    2 | 3 => Observation::Number(Some(0.0)),
                    _ => blind(),
                };
                (at_us, observation)
            })
            .collect();
        let mut everything = check(question.clone());
        everything.observations.clone_from(&all);
        let mut running = check(question);
        let mut decided: Option<(u64, (Outcome, u64))> = None;
        let mut now_us = OPENED_MS * MS;
        let mut looks = 0;
        let mut left = all.into_iter().peekable();
        while decided.is_none() {
            looks += 1;
            prop_assert!(looks < 100, "it never decides");
            match progress(&running, &no_ledgers(), now_us) {
                Progress::Decided => decided = Some((now_us, outcome(&running, &no_ledgers(), now_us))),
                Progress::Undecided { look_again_at_us } => {
                    let again_us = look_again_at_us.expect("time alone decides in the end");
                    prop_assert!(again_us > now_us, "it asks for the past");
                    match left.next_if(|(at_us, _)| *at_us <= again_us) {
                        Some((at_us, observation)) => {
                            running.observations.push((at_us, observation));
                            now_us = at_us;
                        }
                        None => now_us = again_us,
                    }
                }
            }
        }
        let (decided_us, then) = decided.expect("the loop ends with it");
        // Observations of the very moment in which it was decided may still be written down.
        prop_assert_eq!(then, outcome(&everything, &no_ledgers(), decided_us + beyond_ms * MS));
    }

}

proptest! {
    #![proptest_config(cases(80))]

    /// Requests at a fixed rate with random outcomes and delays; rows come when they end.
    #[test]
    fn background_traffic(
        pattern in 0_u8..6,
        timing in (prop_oneof![Just(None), (0_u64..2000).prop_map(Some)], prop_oneof![Just(None), (0_u64..2000).prop_map(Some)]),
        never in prop_oneof![3 => Just(None), 1 => (0_u64..2000).prop_map(Some)],
        lost_at_most in prop_oneof![Just(None), (0_u64..50).prop_map(Some)],
        phases in prop::collection::vec((1_usize..120, 0_u8..5, prop_oneof![4 => Just(5_u64), 1 => 5_u64..3000]), 1..6),
        stop_ms in prop_oneof![Just(None), (1000_u64..6000).prop_map(Some)],
    ) {
        let names = |clusters: &[&str]| clusters.iter().map(|cluster| (*cluster).to_owned()).collect();
        let timing = match never {
            Some(never) => super::timing(None, None, Some(never)),
            None => super::timing(timing.0, timing.1, None),
        };
        let question = Question::Serving(ServingQuestion {
            ledger: "steady".to_owned(),
            since_us: 900 * MS,
            pattern: match pattern {
                0 => ServingPattern::Only(names(&["east"])),
                1 => ServingPattern::Each(names(&["east", "west"])),
                2 => ServingPattern::Lossless,
                3 => ServingPattern::Fails(FailsPattern::default()),
                4 => ServingPattern::Refused,
                _ => ServingPattern::Fails(FailsPattern { share: Some(0.5), ..FailsPattern::default() }),
            },
            lost_at_most,
            timing,
        });
        let mut sent = Vec::new();
        for (count, kind, slow_ms) in phases {
            for _ in 0..count {
                let i = sent.len() as u64;
                let result = match kind {
                    0 => served("east"),
                    1 => served(if i.is_multiple_of(3) { "east" } else { "west" }),
                    2 => failed("timeout"),
                    3 => proxy_error(504),
                    _ if i.is_multiple_of(2) => served("east"),
                    _ => failed("closed"),
                };
                let took_ms = if i.is_multiple_of(7) { slow_ms } else { 5 };
                sent.push(Row { ended_us: (i * 10 + took_ms) * MS, ..row(i, i * 10, result) });
            }
        }
        // The rhythm has to be known before anything can be told: the first requests are quick.
        for row in sent.iter_mut().take(30) {
            row.ended_us = row.started_us + 5 * MS;
        }
        sent.sort_by_key(|row| row.ended_us);
        let end_us = sent.last().map_or(0, |row| row.ended_us).max(stop_ms.unwrap_or(0) * MS);
        let known_at = |now_us: u64| {
            let rows: Vec<Row> = sent.iter().filter(|row| row.ended_us <= now_us).cloned().collect();
            let closed = (stop_ms.is_some() && now_us >= end_us).then(|| end_of_ledger(end_us, &rows));
            ledgers([("steady", KnownLedger { rows, closed })])
        };
        let running = check(question);
        let give_up_us = OPENED_MS * MS + 4000 * MS + OUTCOME_GRACE_US + MS;
        let looks = (OPENED_MS..6000).step_by(67).map(|ms| ms * MS).chain([end_us, give_up_us]);
        let mut decided: Option<(Outcome, u64)> = None;
        for now_us in looks {
            let known = known_at(now_us);
            let live = progress(&running, &known, now_us);
            if let Some(then) = decided {
                prop_assert_eq!(live, Progress::Decided, "it was decided before");
                let (outcome, at_us) = outcome(&running, &known, now_us);
                prop_assert_eq!(outcome, then.0);
                if outcome != Outcome::Inconclusive {
                    prop_assert_eq!(at_us, then.1);
                }
            } else if live == Progress::Decided {
                decided = Some(outcome(&running, &known, now_us));
            }
        }
        prop_assert!(decided.is_some(), "it never decides");
        // What the run decided, a recheck with the whole ledger decides too.
        let whole = known_at(u64::MAX);
        prop_assert_eq!(outcome(&running, &whole, give_up_us).0, decided.expect("checked before").0);
    }
}
