//! What a pod's containers are doing, and how that reads as a pod's status. Pure, apart from the clock.

use std::sync::Arc;

use serde_json::{Value, json};

use super::logs::Log;
use crate::object::{self, list, text};
use crate::program::{ContainerContext, Program};

/// State of a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Run {
    Waiting { reason: &'static str, message: String },
    Running { since: Value },
    Ended(Ended),
}

/// An ended run of a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) exit_code: i64,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) started: Value,
    pub(crate) finished: Value,
    pub(crate) id: String,
}

/// Place of a container in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the others.
    Sidecar,
    Main,
}

/// A program in its container.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) program: Arc<dyn Program>,
    pub(crate) context: ContainerContext,
}

/// A container of a pod.
pub(crate) struct Container {
    pub(crate) spec: Value,
    pub(crate) role: Role,
    pub(crate) run: Run,
    pub(crate) last: Option<Ended>,
    pub(crate) id: String,
    pub(crate) restarts: u32,
    pub(crate) started: bool,
    /// What the readiness probe says; without one, whether it runs.
    pub(crate) ready: bool,
    /// What runs in it now.
    pub(crate) running: Option<Running>,
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) previous_log: Option<Arc<Log>>,
}

impl Container {
    pub(crate) fn name(&self) -> &str {
        text(&self.spec["name"])
    }

    /// Moves on to another state; an ended run is remembered as the last one.
    pub(crate) fn enter(&mut self, run: Run) {
        if let Run::Ended(ended) = std::mem::replace(&mut self.run, run) {
            self.last = Some(ended);
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.run, Run::Running { .. })
    }

    fn ended(&self) -> Option<&Ended> {
        match &self.run {
            Run::Ended(ended) => Some(ended),
            Run::Waiting { .. } | Run::Running { .. } => None,
        }
    }

    /// Whether it counts as done in the sense of the pod's initialization.
    fn is_initialized(&self) -> bool {
        match self.role {
            Role::Init => self.ended().is_some_and(|e| e.exit_code == 0),
            Role::Sidecar => self.started,
            Role::Main => true,
        }
    }

    fn status(&self) -> Value {
        let mut status = json!({
            "name": self.name(),
            "image": self.spec["image"],
            "imageID": if self.id.is_empty() { json!("") } else { self.spec["image"].clone() },
            "restartCount": self.restarts,
            "ready": match self.role {
                Role::Init => self.is_initialized(),
                Role::Sidecar | Role::Main => self.ready && self.is_running(),
            },
            "started": self.started && self.is_running(),
            "state": state(&self.run),
            "lastState": self.last.as_ref().map_or_else(|| json!({}), |e| json!({"terminated": ended(e)})),
        });
        if !self.id.is_empty() {
            status["containerID"] = json!(self.id);
        }
        status
    }
}

fn state(run: &Run) -> Value {
    match run {
        Run::Waiting { reason, message } if message.is_empty() => {
            json!({"waiting": {"reason": reason}})
        }
        Run::Waiting { reason, message } => {
            json!({"waiting": {"reason": reason, "message": message}})
        }
        Run::Running { since } => json!({"running": {"startedAt": since}}),
        Run::Ended(e) => json!({"terminated": ended(e)}),
    }
}

fn ended(ended: &Ended) -> Value {
    let mut state = json!({
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": ended.started,
        "finishedAt": ended.finished,
        "containerID": ended.id,
    });
    if !ended.message.is_empty() {
        state["message"] = json!(ended.message);
    }
    state
}

/// All of a pod that its status tells.
pub(crate) struct PodState {
    pub(crate) containers: Vec<Container>,
    pub(crate) restart_policy: String,
    pub(crate) address: Option<String>,
    pub(crate) host: String,
    pub(crate) start_time: Value,
}

impl PodState {
    fn of_role(&self, role: Role) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(move |c| c.role == role)
    }

    /// Whether a container that ended like this is started again.
    pub(crate) fn restarts(&self, role: Role, exit_code: i64) -> bool {
        match (role, self.restart_policy.as_str()) {
            (Role::Sidecar, _) => true,
            (Role::Init, "Never") => false,
            (Role::Init, _) => exit_code != 0,
            (Role::Main, "Never") => false,
            (Role::Main, "OnFailure") => exit_code != 0,
            (Role::Main, _) => true,
        }
    }

    fn is_initialized(&self) -> bool {
        self.containers.iter().all(Container::is_initialized)
    }

    pub(crate) fn phase(&self, terminating: bool) -> &'static str {
        let final_end = |c: &Container| {
            c.ended()
                .filter(|e| terminating || !self.restarts(c.role, e.exit_code))
                .map(|e| e.exit_code)
        };
        let init_failed = self
            .of_role(Role::Init)
            .any(|c| final_end(c).is_some_and(|code| code != 0));
        if init_failed {
            return "Failed";
        }
        let ends: Vec<_> = self.of_role(Role::Main).map(final_end).collect();
        if ends.iter().all(Option::is_some) && !ends.is_empty() {
            return if ends.iter().all(|code| *code == Some(0)) {
                "Succeeded"
            } else {
                "Failed"
            };
        }
        let has_started = |c: &Container| !matches!(c.run, Run::Waiting { .. }) || c.last.is_some();
        if self.is_initialized() && self.of_role(Role::Main).all(has_started) {
            "Running"
        } else {
            "Pending"
        }
    }

    /// Brings a pod's status up to date. Conditions of others are kept.
    pub(crate) fn write(&self, pod: &mut Value) {
        let terminating = object::is_being_deleted(pod);
        let phase = self.phase(terminating);
        let initialized = self.is_initialized();
        let counted = self
            .containers
            .iter()
            .filter(|c| c.role != Role::Init || !c.is_initialized());
        let unready: Vec<&str> = counted
            .filter(|c| !(c.ready && c.is_running()))
            .map(Container::name)
            .collect();
        let containers_ready = initialized && unready.is_empty();
        let gates_open =
            list(&pod["spec"]["readinessGates"]).all(|g| object::condition_is_true(pod, text(&g["conditionType"])));
        let done = matches!(phase, "Succeeded" | "Failed");
        let why = |ready: bool| {
            if ready {
                (None, None)
            } else if done {
                (Some("PodCompleted".to_owned()), None)
            } else {
                let list = unready.join(" ");
                (
                    Some("ContainersNotReady".to_owned()),
                    Some(format!("containers with unready status: [{list}]")),
                )
            }
        };
        let ready = containers_ready && gates_open;
        let (ready_reason, ready_message) = if containers_ready && !gates_open {
            (
                Some("ReadinessGatesNotReady".to_owned()),
                Some("the status of a readiness gate is not \"True\"".to_owned()),
            )
        } else {
            why(ready)
        };
        let waiting: Vec<&str> = self
            .containers
            .iter()
            .filter(|c| !c.is_initialized())
            .map(Container::name)
            .collect();
        let (init_reason, init_message) = if initialized {
            (None, None)
        } else {
            let list = waiting.join(" ");
            (
                Some("ContainersNotInitialized".to_owned()),
                Some(format!("containers with incomplete status: [{list}]")),
            )
        };
        let (containers_reason, containers_message) = why(containers_ready);
        let has_network = self.address.is_some() && !done;
        for (kind, value, reason, message) in [
            ("PodReadyToStartContainers", has_network, None, None),
            ("Initialized", initialized, init_reason, init_message),
            ("Ready", ready, ready_reason, ready_message),
            (
                "ContainersReady",
                containers_ready,
                containers_reason,
                containers_message,
            ),
        ] {
            set_condition(pod, kind, value, reason, message);
        }
        let statuses = |init: bool| -> Vec<Value> {
            let chosen = self.containers.iter().filter(|c| (c.role != Role::Main) == init);
            chosen.map(Container::status).collect()
        };
        let status = &mut pod["status"];
        status["phase"] = json!(phase);
        status["hostIP"] = json!(self.host);
        status["hostIPs"] = json!([{"ip": self.host}]);
        status["startTime"] = self.start_time.clone();
        if let Some(address) = &self.address {
            status["podIP"] = json!(address);
            status["podIPs"] = json!([{"ip": address}]);
        }
        if status["qosClass"].is_null() {
            status["qosClass"] = json!("BestEffort");
        }
        let init = statuses(true);
        if !init.is_empty() {
            status["initContainerStatuses"] = json!(init);
        }
        status["containerStatuses"] = json!(statuses(false));
    }
}

/// Sets a condition; its transition time changes only with its value.
pub(crate) fn set_condition(pod: &mut Value, kind: &str, value: bool, reason: Option<String>, message: Option<String>) {
    let value = if value { "True" } else { "False" };
    let earlier = object::condition(pod, kind);
    let since = earlier
        .filter(|c| c["status"] == value)
        .map_or_else(object::now, |c| c["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": kind, "status": value, "lastProbeTime": null, "lastTransitionTime": since,
    });
    if let Some(reason) = reason {
        condition["reason"] = json!(reason);
    }
    if let Some(message) = message {
        condition["message"] = json!(message);
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(present) => *present = condition,
            None => conditions.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, role: Role, run: Run) -> Container {
        let running = matches!(run, Run::Running { .. });
        Container {
            spec: json!({"name": name, "image": "a/b:1"}),
            role,
            run,
            last: None,
            id: String::new(),
            restarts: 0,
            started: running,
            ready: running,
            running: None,
            log: None,
            previous_log: None,
        }
    }

    fn waiting() -> Run {
        Run::Waiting {
            reason: "PodInitializing",
            message: String::new(),
        }
    }

    fn running() -> Run {
        Run::Running {
            since: json!("2026-11-21T02:14:06Z"),
        }
    }

    fn exit(exit_code: i64) -> Run {
        Run::Ended(Ended {
            exit_code,
            reason: if exit_code == 0 { "Completed" } else { "Error" },
            message: String::new(),
            started: Value::Null,
            finished: Value::Null,
            id: String::new(),
        })
    }

    fn pod(containers: Vec<Container>, restart_policy: &str) -> PodState {
        PodState {
            containers,
            restart_policy: restart_policy.into(),
            address: Some("10.0.0.7".into()),
            host: "172.18.0.2".into(),
            start_time: json!("2026-11-21T02:14:06Z"),
        }
    }

    fn written(state: &PodState) -> Value {
        let mut pod = json!({"metadata": {}, "spec": {}, "status": {}});
        state.write(&mut pod);
        pod
    }

    #[test]
    fn phases_follow_the_containers() {
        let phase = |init: Run, sidecar: Run, main: Run, policy: &str| {
            let containers = vec![
                container("init", Role::Init, init),
                container("proxy", Role::Sidecar, sidecar),
                container("app", Role::Main, main),
            ];
            pod(containers, policy).phase(false)
        };
        assert_eq!(phase(running(), waiting(), waiting(), "Always"), "Pending");
        assert_eq!(phase(exit(0), running(), waiting(), "Always"), "Pending");
        assert_eq!(phase(exit(0), running(), running(), "Always"), "Running");
        assert_eq!(phase(exit(1), waiting(), waiting(), "Never"), "Failed");
        assert_eq!(phase(exit(1), waiting(), waiting(), "Always"), "Pending");
        assert_eq!(phase(exit(0), running(), exit(0), "Never"), "Succeeded");
        assert_eq!(phase(exit(0), running(), exit(1), "Never"), "Failed");
        assert_eq!(phase(exit(0), running(), exit(1), "OnFailure"), "Running");
        assert_eq!(phase(exit(0), running(), exit(0), "OnFailure"), "Succeeded");
    }

    #[test]
    fn a_pod_is_ready_when_every_running_container_is() {
        let mut state = pod(
            vec![
                container("proxy", Role::Sidecar, running()),
                container("app", Role::Main, running()),
            ],
            "Always",
        );
        assert!(object::is_ready_pod(&written(&state)));
        state.containers[0].ready = false;
        let found = written(&state);
        assert!(!object::is_ready_pod(&found));
        let condition = object::condition(&found, "Ready").unwrap();
        assert_eq!(condition["message"], "containers with unready status: [proxy]");
        assert_eq!(found["status"]["initContainerStatuses"][0]["ready"], false);
    }

    #[test]
    fn a_readiness_gate_is_waited_for_and_kept() {
        let state = pod(vec![container("app", Role::Main, running())], "Always");
        let mut gated = json!({
            "spec": {"readinessGates": [{"conditionType": "example/gate"}]},
            "status": {"conditions": [{"type": "example/gate", "status": "False"}]},
        });
        state.write(&mut gated);
        assert!(!object::is_ready_pod(&gated));
        gated["status"]["conditions"][0]["status"] = json!("True");
        state.write(&mut gated);
        assert!(object::is_ready_pod(&gated));
        assert!(object::condition_is_true(&gated, "example/gate"));
    }

    #[test]
    fn writing_twice_changes_nothing() {
        let state = pod(
            vec![
                container("init", Role::Init, exit(0)),
                container("app", Role::Main, running()),
            ],
            "Always",
        );
        let mut first = written(&state);
        let conditions = first["status"]["conditions"].as_array_mut().unwrap();
        for condition in conditions {
            condition["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
        }
        let mut second = first.clone();
        state.write(&mut second);
        assert_eq!(first, second);
    }
}
