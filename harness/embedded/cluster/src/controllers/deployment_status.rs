//! The status of a Deployment: counts, and the conditions that tell how its rollout goes. Pure, apart from the clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::rollout::Limits;
use crate::object::{self, count, list, name, text};
use crate::pace::Pace;

const AVAILABLE: &str = "NewReplicaSetAvailable";
const UPDATED: &str = "ReplicaSetUpdated";

/// The status of a Deployment with these ReplicaSets, of which `new` has the present template, and after how much wall
/// time it may change by itself.
pub(crate) fn status(
    deployment: &Value,
    new: Option<&Value>,
    sets: &[Arc<Value>],
    pace: Pace,
) -> (Value, Option<Duration>) {
    let sum = |field: &str| sets.iter().map(|s| count(&s["status"][field])).sum::<i64>();
    let available = sum("availableReplicas");
    let wanted = sets.iter().map(|s| count(&s["spec"]["replicas"])).sum::<i64>();
    let mut status = json!({"observedGeneration": deployment["metadata"]["generation"]});
    for (field, number) in [
        ("replicas", sum("replicas")),
        ("updatedReplicas", new.map_or(0, |s| count(&s["status"]["replicas"]))),
        ("readyReplicas", sum("readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", (wanted - available).max(0)),
    ] {
        if number > 0 {
            status[field] = json!(number);
        }
    }
    let mut conditions = vec![availability(deployment, available)];
    let (progress, again) = progress(deployment, new, &status, pace);
    conditions.extend(progress);
    let failure = sets
        .iter()
        .flat_map(|s| list(&s["status"]["conditions"]))
        .find(|c| c["type"] == "ReplicaFailure");
    if let Some(failure) = failure {
        let (reason, message) = (text(&failure["reason"]), text(&failure["message"]));
        conditions.push(condition(deployment, "ReplicaFailure", "True", reason, message));
    }
    status["conditions"] = json!(conditions);
    (status, again)
}

fn availability(deployment: &Value, available: i64) -> Value {
    let replicas = count(&deployment["spec"]["replicas"]);
    let strategy = &deployment["spec"]["strategy"];
    let unavailable = match text(&strategy["type"]) {
        "Recreate" => 0,
        _ => Limits::of(strategy, replicas).unavailable,
    };
    let (value, reason, message) = if available >= replicas - unavailable {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    condition(deployment, "Available", value, reason, message)
}

/// The condition `Progressing` by the rules of the real controller: it is left alone while a rollout that has ended
/// stays ended, also when pods are lost later.
fn progress(deployment: &Value, new: Option<&Value>, status: &Value, pace: Pace) -> (Option<Value>, Option<Duration>) {
    let earlier = object::condition(deployment, "Progressing");
    let Some(new) = new else {
        return (earlier.cloned(), None);
    };
    let replicas = count(&deployment["spec"]["replicas"]);
    let [total, updated, available] = ["replicas", "updatedReplicas", "availableReplicas"].map(|f| count(&status[f]));
    let has_ended = earlier.is_some_and(|c| c["reason"] == AVAILABLE);
    if has_ended && total == updated {
        return (earlier.cloned(), None);
    }
    let is = |value: &str, reason: &str, what: &str| {
        let message = format!("ReplicaSet \"{}\" {what}", name(new));
        Some(condition(deployment, "Progressing", value, reason, &message))
    };
    if updated == replicas && total == replicas && available == replicas {
        return (is("True", AVAILABLE, "has successfully progressed."), None);
    }
    let seconds = deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(600);
    let deadline = pace.wall(Duration::from_secs(seconds));
    if earlier.is_none() || has_ended || has_progressed(&deployment["status"], status) {
        return (is("True", UPDATED, "is progressing."), Some(deadline));
    }
    let since = earlier.and_then(|c| object::time(&c["lastUpdateTime"]));
    let waited = since.map_or(Duration::ZERO, |since| {
        Duration::try_from(jiff::Timestamp::now().duration_since(since)).unwrap_or_default()
    });
    if waited <= deadline {
        // A little late, so that the deadline has passed then.
        return (earlier.cloned(), Some(deadline - waited + Duration::from_millis(10)));
    }
    if deployment["spec"]["paused"] == true {
        return (earlier.cloned(), None);
    }
    (
        is("False", "ProgressDeadlineExceeded", "has timed out progressing."),
        None,
    )
}

/// More new pods, fewer old ones, more ready or more available ones.
fn has_progressed(before: &Value, now: &Value) -> bool {
    let counts = |status: &Value| {
        let number = |field: &str| count(&status[field]);
        [
            number("updatedReplicas"),
            number("updatedReplicas") - number("replicas"),
            number("readyReplicas"),
            number("availableReplicas"),
        ]
    };
    counts(before)
        .iter()
        .zip(counts(now))
        .any(|(before, now)| now > *before)
}

/// A condition that keeps its times while nothing in it changes.
fn condition(deployment: &Value, kind: &str, value: &str, reason: &str, message: &str) -> Value {
    let earlier = object::condition(deployment, kind).filter(|c| c["status"] == value);
    let mut condition = json!({"type": kind, "status": value, "reason": reason, "message": message});
    // A rollout that goes on shows in the time of its last update.
    let same = earlier.filter(|c| c["reason"] == reason && c["message"] == message && reason != UPDATED);
    condition["lastUpdateTime"] = same.map_or_else(object::now, |c| c["lastUpdateTime"].clone());
    condition["lastTransitionTime"] = earlier.map_or_else(object::now, |c| c["lastTransitionTime"].clone());
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "demo", "generation": 3},
            "spec": {"replicas": 4, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}},
        })
    }

    fn set(name: &str, wanted: i64, ready: i64) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"name": name},
            "spec": {"replicas": wanted},
            "status": {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready},
        }))
    }

    #[test]
    fn the_status_says_what_kubectl_rollout_waits_for() {
        let sets = [set("web-1", 1, 1), set("web-2", 4, 2)];
        let now = deployment();
        let (found, _) = status(&now, Some(&sets[1]), &sets, Pace::NORMAL);
        let number = |field: &str| count(&found[field]);
        assert_eq!(number("replicas"), 5);
        assert_eq!(number("updatedReplicas"), 4);
        assert_eq!(number("availableReplicas"), 3);
        assert_eq!(number("unavailableReplicas"), 2);
        assert_eq!(number("observedGeneration"), 3);
        let reasons: Vec<_> = list(&found["conditions"]).map(|c| text(&c["reason"])).collect();
        assert_eq!(reasons, ["MinimumReplicasAvailable", "ReplicaSetUpdated"]);

        let sets = [set("web-2", 4, 4)];
        let (found, again) = status(&now, Some(&sets[0]), &sets, Pace::NORMAL);
        assert_eq!(found["conditions"][1]["reason"], "NewReplicaSetAvailable");
        assert_eq!(again, None, "a finished rollout needs no second look");
        let mut later = now.clone();
        later["status"] = found.clone();
        assert_eq!(
            status(&later, Some(&sets[0]), &sets, Pace::NORMAL).0,
            found,
            "and no second write"
        );
    }

    #[test]
    fn a_rollout_that_stands_still_exceeds_its_deadline() {
        let sets = [set("web-2", 4, 0)];
        let mut now = deployment();
        let (mut found, again) = status(&now, Some(&sets[0]), &sets, Pace::new(10.0));
        assert_eq!(again, Some(Duration::from_secs(60)));
        let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(61);
        found["conditions"][1]["lastUpdateTime"] = json!(past.to_string());
        now["status"] = found;
        let (found, _) = status(&now, Some(&sets[0]), &sets, Pace::new(10.0));
        assert_eq!(found["conditions"][1]["reason"], "ProgressDeadlineExceeded");
        assert_eq!(found["conditions"][1]["status"], "False");
    }

    #[test]
    fn a_finished_rollout_stays_finished_when_a_pod_is_lost() {
        let whole = [set("web-2", 4, 4)];
        let mut now = deployment();
        now["status"] = status(&now, Some(&whole[0]), &whole, Pace::NORMAL).0;
        let hurt = [set("web-2", 4, 1)];
        let (found, again) = status(&now, Some(&hurt[0]), &hurt, Pace::NORMAL);
        let reasons: Vec<_> = list(&found["conditions"]).map(|c| text(&c["reason"])).collect();
        assert_eq!(reasons, ["MinimumReplicasUnavailable", "NewReplicaSetAvailable"]);
        assert_eq!(again, None);
    }
}
