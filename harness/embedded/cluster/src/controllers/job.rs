//! The Job controller: pods until enough of them have succeeded, or too many have failed.
//!
//! A Job that can never end here fails at once, with a condition and an event that say why, so that whoever waits for it (helm
//! for a hook, for example) learns it: one whose image no program stands for, or that wants what is not modelled. Not modelled:
//! `completionMode: Indexed`, `podFailurePolicy`, `successPolicy`, and finalizers on pods (a finished pod counts as long as it
//! is there; what was counted stays counted).

use std::sync::Arc;
use std::time::Duration;

use meshproof_apiserver::store::{DeleteOptions, Subresource};
use meshproof_apiserver::{Gvr, Status, Store, gvr};
use serde_json::{Value, json};

use super::pod_set::{BURST, claim, pod_from_template};
use crate::events::{Recorder, Severity};
use crate::object::{self, Key, count, list, name, namespace, text};
use crate::pace::Pace;
use crate::registry::ProgramRegistry;
use crate::work_queue::Controller;

/// Pause before a failed pod is replaced, doubled each time (scenario time).
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);

/// Runs Jobs.
pub(crate) struct JobController {
    store: Store,
    events: Recorder,
    programs: ProgramRegistry,
    pace: Pace,
}

impl JobController {
    pub(crate) fn new(store: &Store, programs: &ProgramRegistry, pace: Pace) -> Self {
        Self {
            store: store.with_manager("job-controller"),
            events: Recorder::new(store, "job-controller", None),
            programs: programs.clone(),
            pace,
        }
    }

    /// Why the Job can never end here.
    fn unsupported(&self, job: &Value) -> Option<String> {
        let spec = &job["spec"];
        if spec["completionMode"] == "Indexed" {
            return Some("completionMode Indexed".into());
        }
        for field in ["podFailurePolicy", "successPolicy"] {
            if !spec[field].is_null() {
                return Some(field.to_owned());
            }
        }
        let pod = &spec["template"]["spec"];
        for container in list(&pod["initContainers"]).chain(list(&pod["containers"])) {
            let (name, image) = (text(&container["name"]), text(&container["image"]));
            if self.programs.find(image).is_none() {
                return Some(format!(
                    "image {image} of container {name} (no program of the embedded cluster stands for it)"
                ));
            }
            if list(&container["command"]).next().is_some() {
                return Some(format!(
                    "command of container {name} (what runs is chosen by the image; use args)"
                ));
            }
        }
        None
    }

    fn create(&self, job: &Value, reference: &Value) -> Result<(), Status> {
        let mut pod = pod_from_template(job, reference);
        pod["metadata"]["generateName"] = json!(format!("{}-", name(job)));
        match self.store.create(&gvr::PODS, Some(namespace(job)), pod) {
            Ok(pod) => {
                let message = format!("Created pod: {}", name(&pod));
                self.tell(job, Severity::Normal, "SuccessfulCreate", &message);
                Ok(())
            }
            Err(status) => {
                let message = format!("Error creating: {}", status.message);
                self.tell(job, Severity::Warning, "FailedCreate", &message);
                Err(status)
            }
        }
    }

    fn delete(&self, job: &Value, pod: &Value) -> Result<(), Status> {
        let options = DeleteOptions::default();
        match self.store.delete(&gvr::PODS, Some(namespace(job)), name(pod), &options) {
            Err(status) if !status.is_not_found() => Err(status),
            _ => {
                let message = format!("Deleted pod: {}", name(pod));
                self.tell(job, Severity::Normal, "SuccessfulDelete", &message);
                Ok(())
            }
        }
    }

    fn tell(&self, job: &Value, severity: Severity, reason: &str, message: &str) {
        self.events.event(job, None, severity, reason, message);
    }

    /// Removes a finished Job whose time is over; tells when that will be.
    fn expire(&self, job: &Value) -> Result<Option<Duration>, Status> {
        let Some(seconds) = job["spec"]["ttlSecondsAfterFinished"].as_u64() else {
            return Ok(None);
        };
        let ended = list(&job["status"]["conditions"])
            .filter(|condition| is_end(condition))
            .find_map(|condition| object::time(&condition["lastTransitionTime"]));
        let ttl = self.pace.wall(Duration::from_secs(seconds));
        if let Some(left) = ended.and_then(|ended| left_of(ttl, ended)) {
            return Ok(Some(left));
        }
        let options = DeleteOptions {
            uid: Some(object::uid(job).to_owned()),
            ..DeleteOptions::default()
        };
        match self.store.delete(&gvr::JOBS, Some(namespace(job)), name(job), &options) {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(None),
        }
    }

    /// Writes the status, with `end` as the Job's end.
    fn write(&self, job: &Value, tally: &Tally, end: Option<&End>) -> Result<(), Status> {
        let change = |job: &mut Value| {
            let status = status(job, tally, end);
            let changed = job["status"] != status;
            job["status"] = status;
            changed
        };
        let (namespace, part) = (Some(namespace(job)), Subresource::Status);
        match self.store.modify(&gvr::JOBS, namespace, name(job), part, change) {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
        match end {
            Some(End::Complete) => self.tell(job, Severity::Normal, "Completed", "Job completed"),
            Some(End::Failed { reason, message }) => self.tell(job, Severity::Warning, reason, message),
            None => {}
        }
        Ok(())
    }
}

impl Controller for JobController {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn watches(&self) -> Vec<Gvr> {
        vec![gvr::JOBS, gvr::PODS]
    }

    fn keys(&self, gvr: &Gvr, changed: &Value) -> Vec<Key> {
        if *gvr == gvr::JOBS {
            return vec![Key::of(changed)];
        }
        match object::controller_reference(changed) {
            Some(owner) if owner["kind"] == "Job" => vec![Key::new(namespace(changed), text(&owner["name"]))],
            _ => Vec::new(),
        }
    }

    fn reconcile(&mut self, key: &Key) -> Result<Option<Duration>, Status> {
        let job = match self.store.get(&gvr::JOBS, Some(&key.namespace), &key.name) {
            Ok(job) => job,
            Err(status) if status.is_not_found() => return Ok(None),
            Err(status) => return Err(status),
        };
        let Some(selector) = object::selector(&job) else {
            return Ok(None);
        };
        if object::is_being_deleted(&job) {
            return Ok(None);
        }
        if list(&job["status"]["conditions"]).any(is_end) {
            return self.expire(&job);
        }
        let reference = object::owner_reference("batch/v1", "Job", &job);
        let pods = claim(&self.store, &job, &reference, &selector)?;
        let tally = Tally::of(&job, &pods);
        if let Some(what) = self.unsupported(&job) {
            let end = End::Failed {
                reason: "Unsupported",
                message: format!("unsupported: {what}"),
            };
            self.write(&job, &tally, Some(&end))?;
            return self.expire_later(&job);
        }
        let (plan, again) = plan(&job, &pods, &tally, self.pace);
        match plan {
            Plan::End(end) => {
                for pod in pods.iter().filter(|pod| object::is_active_pod(pod)) {
                    self.delete(&job, pod)?;
                }
                self.write(&job, &tally, Some(&end))?;
                return self.expire_later(&job);
            }
            Plan::Pods { create, delete } => {
                // What failed is told in the status as well.
                let mut failed = Ok(());
                for _ in 0..create.min(BURST) {
                    failed = self.create(&job, &reference);
                    if failed.is_err() {
                        break;
                    }
                }
                let active = pods.iter().filter(|pod| object::is_active_pod(pod));
                for pod in active.take(delete.min(BURST)) {
                    self.delete(&job, pod)?;
                }
                let pods = claim(&self.store, &job, &reference, &selector)?;
                self.write(&job, &Tally::of(&job, &pods), None)?;
                failed?;
            }
        }
        Ok(again)
    }
}

impl JobController {
    fn expire_later(&self, job: &Value) -> Result<Option<Duration>, Status> {
        match self.store.get(&gvr::JOBS, Some(namespace(job)), name(job)) {
            Ok(job) => self.expire(&job),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }
}

/// Whether a condition says that the Job has ended.
fn is_end(condition: &Value) -> bool {
    matches!(text(&condition["type"]), "Complete" | "Failed") && condition["status"] == "True"
}

/// What is left of a time that began at `since`; `None` when it is over.
fn left_of(time: Duration, since: jiff::Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(jiff::Timestamp::now().duration_since(since)).unwrap_or_default();
    time.checked_sub(passed).filter(|left| !left.is_zero())
}

/// How many of a Job's pods are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    active: i64,
    ready: i64,
    terminating: i64,
    succeeded: i64,
    failed: i64,
    /// Failures within pods that are restarted in place.
    restarts: i64,
}

impl Tally {
    fn of(job: &Value, pods: &[Arc<Value>]) -> Self {
        let mut tally = Self::default();
        for pod in pods {
            match text(&pod["status"]["phase"]) {
                "Succeeded" => tally.succeeded += 1,
                "Failed" => tally.failed += 1,
                _ if object::is_being_deleted(pod) => tally.terminating += 1,
                _ => {
                    tally.active += 1;
                    tally.ready += i64::from(object::is_ready_pod(pod));
                    let containers = list(&pod["status"]["containerStatuses"]);
                    tally.restarts += containers.map(|c| count(&c["restartCount"])).sum::<i64>();
                }
            }
        }
        tally.succeeded = tally.succeeded.max(count(&job["status"]["succeeded"]));
        tally.failed = tally.failed.max(count(&job["status"]["failed"]));
        tally
    }
}

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Failed { reason: &'static str, message: String },
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    End(End),
    Pods { create: usize, delete: usize },
}

/// What to do, and after how much wall time to look again. Pure, apart from the clock.
fn plan(job: &Value, pods: &[Arc<Value>], tally: &Tally, pace: Pace) -> (Plan, Option<Duration>) {
    let spec = &job["spec"];
    let failed = |reason: &'static str, message: &str| {
        let end = End::Failed {
            reason,
            message: message.to_owned(),
        };
        (Plan::End(end), None)
    };
    let limit = spec["backoffLimit"].as_i64().unwrap_or(6);
    let in_place = spec["template"]["spec"]["restartPolicy"] == "OnFailure";
    if tally.failed > limit || (in_place && limit > 0 && tally.failed + tally.restarts >= limit) {
        return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    let started = object::time(&job["status"]["startTime"]);
    let mut again = None;
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_u64() {
        let deadline = pace.wall(Duration::from_secs(seconds));
        match started.map_or(Some(deadline), |since| left_of(deadline, since)) {
            Some(left) => again = Some(left),
            None => return failed("DeadlineExceeded", "Job was active longer than specified deadline"),
        }
    }
    let completions = spec["completions"].as_i64();
    let is_complete = match completions {
        Some(completions) => tally.succeeded >= completions,
        None => tally.succeeded > 0 && tally.active == 0,
    };
    if is_complete {
        return (Plan::End(End::Complete), None);
    }
    let wanted = match completions {
        _ if spec["suspend"] == true => 0,
        Some(completions) => completions.saturating_sub(tally.succeeded),
        // A work queue: once one has found it empty, no further pod is made.
        None if tally.succeeded > 0 => tally.active,
        None => i64::MAX,
    };
    let wanted = wanted.min(spec["parallelism"].as_i64().unwrap_or(1));
    let difference = |more: i64, less: i64| usize::try_from(more.saturating_sub(less)).unwrap_or(0);
    let mut create = difference(wanted, tally.active);
    if create > 0
        && let Some(left) = backoff(pods, tally.failed, pace)
    {
        create = 0;
        again = Some(again.map_or(left, |again: Duration| again.min(left)));
    }
    let delete = difference(tally.active, wanted);
    (Plan::Pods { create, delete }, again)
}

/// How much longer to wait after the last failure before another pod is made.
fn backoff(pods: &[Arc<Value>], failed: i64, pace: Pace) -> Option<Duration> {
    let last = pods
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Failed")
        .flat_map(|pod| list(&pod["status"]["containerStatuses"]))
        .filter_map(|container| object::time(&container["state"]["terminated"]["finishedAt"]))
        .max()?;
    let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(0).min(16);
    let pause = (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LAST_BACKOFF);
    left_of(pace.wall(pause), last)
}

fn status(job: &Value, tally: &Tally, end: Option<&End>) -> Value {
    let mut status = json!({"uncountedTerminatedPods": {}, "ready": tally.ready, "terminating": tally.terminating});
    status["startTime"] = match &job["status"]["startTime"] {
        Value::Null => object::now(),
        earlier => earlier.clone(),
    };
    // After its end the pods that were left are on their way out.
    let active = if end.is_some() { 0 } else { tally.active };
    for (field, number) in [
        ("active", active),
        ("succeeded", tally.succeeded),
        ("failed", tally.failed),
    ] {
        if number > 0 {
            status[field] = json!(number);
        }
    }
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastProbeTime": object::now(), "lastTransitionTime": object::now(),
        })
    };
    match end {
        None => {
            let is_suspended = job["spec"]["suspend"] == true;
            if is_suspended {
                let earlier = object::condition(job, "Suspended").cloned();
                status["conditions"] =
                    json!([earlier.unwrap_or_else(|| condition("Suspended", "JobSuspended", "Job suspended"))]);
            }
        }
        Some(End::Complete) => {
            status["completionTime"] = object::now();
            let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
            status["conditions"] = json!([
                condition("SuccessCriteriaMet", reason, message),
                condition("Complete", reason, message)
            ]);
        }
        Some(End::Failed { reason, message }) => {
            status["conditions"] = json!([
                condition("FailureTarget", reason, message),
                condition("Failed", reason, message)
            ]);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: Value) -> Value {
        let mut job = json!({
            "metadata": {"name": "j", "namespace": "demo", "uid": "u"},
            "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": {"spec": {"restartPolicy": "Never"}}},
        });
        for (field, value) in spec.as_object().into_iter().flatten() {
            job["spec"][field] = value.clone();
        }
        job
    }

    fn pods(phases: &[&str]) -> Vec<Arc<Value>> {
        let pod = |phase: &&str| {
            let finished = jiff::Timestamp::now().to_string();
            Arc::new(json!({"status": {"phase": phase, "containerStatuses": [
                {"restartCount": 2, "state": {"terminated": {"finishedAt": finished}}},
            ]}}))
        };
        phases.iter().map(pod).collect()
    }

    fn planned(job: &Value, phases: &[&str]) -> (Plan, Option<Duration>) {
        let pods = pods(phases);
        plan(job, &pods, &Tally::of(job, &pods), Pace::NORMAL)
    }

    fn pods_to(create: usize, delete: usize) -> (Plan, Option<Duration>) {
        (Plan::Pods { create, delete }, None)
    }

    #[test]
    fn pods_are_made_until_enough_have_succeeded() {
        let three = job(json!({"completions": 3, "parallelism": 2}));
        assert_eq!(planned(&three, &[]), pods_to(2, 0));
        assert_eq!(planned(&three, &["Running", "Running"]), pods_to(0, 0));
        assert_eq!(planned(&three, &["Succeeded", "Running"]), pods_to(1, 0));
        assert_eq!(
            planned(&three, &["Succeeded", "Succeeded", "Running", "Running"]),
            pods_to(0, 1)
        );
        assert_eq!(
            planned(&three, &["Succeeded", "Succeeded", "Succeeded"]).0,
            Plan::End(End::Complete)
        );
        let queue = job(json!({"completions": null, "parallelism": 2}));
        assert_eq!(planned(&queue, &["Succeeded", "Running"]), pods_to(0, 0));
        assert_eq!(planned(&queue, &["Succeeded"]).0, Plan::End(End::Complete));
        let suspended = job(json!({"suspend": true}));
        assert_eq!(planned(&suspended, &["Running"]), pods_to(0, 1));
    }

    #[test]
    fn a_number_without_end_is_no_more_than_a_number() {
        let endless = job(json!({"completions": i64::MAX, "parallelism": i64::MAX}));
        let (Plan::Pods { create, delete }, None) = planned(&endless, &["Running"]) else {
            panic!("it goes on");
        };
        assert!(create > BURST && delete == 0, "bursts bound it: {create}");
    }

    #[test]
    fn failures_are_waited_out_and_counted() {
        let (plan, again) = planned(&job(json!({})), &["Failed", "Failed"]);
        assert_eq!(plan, Plan::Pods { create: 0, delete: 0 });
        let again = again.unwrap();
        assert!(
            again > Duration::from_secs(15) && again <= Duration::from_secs(20),
            "{again:?}"
        );
        let reason = |planned: (Plan, Option<Duration>)| match planned.0 {
            Plan::End(End::Failed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            reason(planned(&job(json!({"backoffLimit": 0})), &["Failed"])),
            "BackoffLimitExceeded"
        );
        let mut in_place = job(json!({"backoffLimit": 2}));
        in_place["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
        assert_eq!(reason(planned(&in_place, &["Running"])), "BackoffLimitExceeded");
        let mut late = job(json!({"activeDeadlineSeconds": 5}));
        assert_eq!(planned(&late, &["Running"]).1, Some(Duration::from_secs(5)));
        late["status"] = json!({"startTime": "2026-01-01T00:00:00Z"});
        assert_eq!(reason(planned(&late, &["Running"])), "DeadlineExceeded");
    }

    #[test]
    fn what_was_counted_stays_counted() {
        let mut job = job(json!({"completions": 2}));
        job["status"] = json!({"succeeded": 1, "startTime": "2026-01-01T00:00:00Z"});
        let tally = Tally::of(&job, &[]);
        assert_eq!(tally.succeeded, 1);
        let status = status(&job, &tally, Some(&End::Complete));
        assert_eq!(status["startTime"], "2026-01-01T00:00:00Z");
        assert_eq!(status["conditions"][1]["type"], "Complete");
    }
}
