//! The arithmetic of a rolling update: how many replicas each ReplicaSet of a Deployment should have now. Pure.

use serde_json::Value;

/// Limits of a rolling update, as numbers of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Pods above the wanted number.
    pub(crate) surge: i64,
    /// Pods below the wanted number.
    pub(crate) unavailable: i64,
}

impl Limits {
    /// From `maxSurge` and `maxUnavailable`, numbers or percentages of `replicas`. Surge is rounded up, unavailability
    /// down; when both come out as 0, one pod may be unavailable, or nothing would ever move.
    pub(crate) fn of(strategy: &Value, replicas: i64) -> Self {
        let rolling = &strategy["rollingUpdate"];
        let surge = amount(&rolling["maxSurge"], replicas, Rounding::Up);
        let unavailable = amount(&rolling["maxUnavailable"], replicas, Rounding::Down);
        if surge == 0 && unavailable == 0 {
            return Self { surge, unavailable: 1 };
        }
        Self { surge, unavailable }
    }
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// A number, or a percentage of `replicas`; 25 % when absent, as the API server defaults it.
fn amount(value: &Value, replicas: i64, rounding: Rounding) -> i64 {
    if let Some(number) = value.as_i64() {
        return number.max(0);
    }
    let percent: i64 = value
        .as_str()
        .and_then(|t| t.strip_suffix('%'))
        .and_then(|t| t.parse().ok())
        .unwrap_or(25);
    match rounding {
        Rounding::Up => replicas.saturating_mul(percent).saturating_add(99) / 100,
        Rounding::Down => replicas.saturating_mul(percent) / 100,
    }
}

/// A ReplicaSet during an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetState {
    /// `spec.replicas`.
    pub(crate) wanted: i64,
    /// `status.availableReplicas`.
    pub(crate) available: i64,
}

/// Replicas that the new set should have now.
pub(crate) fn new_set(replicas: i64, limits: Limits, new: SetState, old: &[SetState]) -> i64 {
    if new.wanted >= replicas {
        return replicas;
    }
    let total = new.wanted + old.iter().map(|s| s.wanted).sum::<i64>();
    let room = replicas + limits.surge - total;
    new.wanted + room.clamp(0, replicas - new.wanted)
}

/// Replicas that the old sets should have now, in the given order (oldest first). Unavailable pods go first.
pub(crate) fn old_sets(replicas: i64, limits: Limits, new: SetState, old: &[SetState]) -> Vec<i64> {
    let mut wanted: Vec<i64> = old.iter().map(|s| s.wanted).collect();
    let total = new.wanted + wanted.iter().sum::<i64>();
    let least_available = replicas - limits.unavailable;
    let new_unavailable = (new.wanted - new.available).max(0);
    let mut may_go = (total - least_available - new_unavailable).max(0);
    for (set, wanted) in old.iter().zip(&mut wanted) {
        let unavailable = (set.wanted - set.available).max(0);
        let goes = unavailable.min(may_go);
        *wanted -= goes;
        may_go -= goes;
    }
    let available = new.available + old.iter().map(|s| s.available.min(s.wanted)).sum::<i64>();
    let mut may_go = (available - least_available).max(0);
    for wanted in &mut wanted {
        let goes = (*wanted).min(may_go);
        *wanted -= goes;
        may_go -= goes;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
    use serde_json::json;

    fn limits(surge: Value, unavailable: Value, replicas: i64) -> (i64, i64) {
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let limits = Limits::of(&strategy, replicas);
        (limits.surge, limits.unavailable)
    }

    #[test]
    fn limits_are_rounded_as_kubernetes_does() {
        assert_eq!(limits(json!("25%"), json!("25%"), 10), (3, 2));
        assert_eq!(limits(json!("25%"), json!("25%"), 1), (1, 0));
        assert_eq!(limits(json!(0), json!(0), 3), (0, 1));
        assert_eq!(limits(json!(2), json!("50%"), 5), (2, 2));
        assert_eq!(limits(Value::Null, Value::Null, 4), (1, 1));
    }

    #[test]
    fn one_replica_is_replaced_without_a_gap() {
        let limits = Limits {
            surge: 1,
            unavailable: 0,
        };
        let old = SetState {
            wanted: 1,
            available: 1,
        };
        let new = SetState {
            wanted: 0,
            available: 0,
        };
        assert_eq!(new_set(1, limits, new, &[old]), 1);
        let new = SetState {
            wanted: 1,
            available: 0,
        };
        assert_eq!(
            old_sets(1, limits, new, &[old]),
            [1],
            "the old pod stays until the new one is available"
        );
        let new = SetState {
            wanted: 1,
            available: 1,
        };
        assert_eq!(old_sets(1, limits, new, &[old]), [0]);
    }

    #[test]
    fn pods_that_do_not_serve_make_room_first() {
        let limits = Limits {
            surge: 0,
            unavailable: 1,
        };
        let broken = SetState {
            wanted: 2,
            available: 0,
        };
        let healthy = SetState {
            wanted: 1,
            available: 1,
        };
        let new = SetState {
            wanted: 0,
            available: 0,
        };
        assert_eq!(old_sets(3, limits, new, &[healthy, broken]), [1, 1]);
    }

    proptest! {
        #[test]
        fn an_update_keeps_its_limits_and_ends(
            replicas in 0i64..12,
            surge in 0i64..4,
            unavailable in 0i64..4,
            old in prop::collection::vec(0i64..8, 0..3),
            lag in any::<bool>(),
        ) {
            let limits = Limits { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } };
            let mut old: Vec<SetState> = old.into_iter().map(|n| SetState { wanted: n, available: n }).collect();
            let mut new = SetState { wanted: 0, available: 0 };
            let start: i64 = old.iter().map(|s| s.wanted).sum();
            for round in 0..200 {
                let wanted = new_set(replicas, limits, new, &old);
                let grown = wanted > new.wanted;
                new.wanted = wanted;
                let total = new.wanted + old.iter().map(|s| s.wanted).sum::<i64>();
                prop_assert!(!grown || total <= replicas + limits.surge, "surge kept");
                let targets = old_sets(replicas, limits, new, &old);
                for (set, wanted) in old.iter_mut().zip(targets) {
                    prop_assert!(wanted >= 0 && wanted <= set.wanted);
                    set.wanted = wanted;
                    set.available = set.available.min(wanted);
                }
                let available = new.available + old.iter().map(|s| s.available).sum::<i64>();
                prop_assert!(available >= (replicas - limits.unavailable).min(start), "availability kept: {} of {}", available, replicas);
                // New pods come up, one by one or all at once.
                new.available = if lag && round % 2 == 0 { new.available } else if lag { (new.available + 1).min(new.wanted) } else { new.wanted };
            }
            prop_assert_eq!(new.wanted, replicas);
            prop_assert!(old.iter().all(|s| s.wanted == 0));
        }
    }
}
