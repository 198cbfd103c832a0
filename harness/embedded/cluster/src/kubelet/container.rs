//! One container: its image, its runs, its probes, and the pauses between its restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::environment;
use super::logs::Log;
use super::pod::PodRun;
use super::probe::Probe;
use super::status::{Ended, Role, Run, Running};
use crate::events::Severity;
use crate::object::{self, list, namespace, text};
use crate::pod_network::PodNetwork;
use crate::program::{ContainerContext, Exit, Program};

/// Pauses between restarts, and between attempts to get an image: 10 s, doubled up to 5 min (scenario time).
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// A run of this length makes the pauses start over.
const GOOD_RUN: Duration = Duration::from_secs(600);
/// Exit codes of programs that were killed, and of those that panicked.
const KILLED: i64 = 137;
const PANICKED: i64 = 2;

/// Runs a container, and again as the pod's restart policy says, until it has ended for good or `stop` is cancelled.
pub(super) async fn supervise(pod: Arc<PodRun>, index: usize, stop: CancellationToken, kill: CancellationToken) {
    // A token that nobody waits for.
    supervise_sidecar(pod, index, stop, kill, CancellationToken::new()).await;
}

/// [`supervise`], and cancels `started` when the container has started for the first time.
pub(super) async fn supervise_sidecar(
    pod: Arc<PodRun>,
    index: usize,
    stop: CancellationToken,
    kill: CancellationToken,
    started: CancellationToken,
) {
    let container = Supervised {
        pod,
        index,
        stop,
        kill,
        started,
    };
    let mut pauses = Pauses::default();
    loop {
        let Some(program) = container.image().await else {
            return;
        };
        let Some(variables) = container.variables().await else {
            return;
        };
        let begin = Instant::now();
        let exit_code = container.run(program, variables).await;
        let role = container.role();
        if container.stop.is_cancelled() || !container.pod.state().restarts(role, exit_code) {
            return;
        }
        let pace = container.pod.node.pace;
        let pause = pauses.after_run(pace.scenario(begin.elapsed()));
        if !pause.is_zero() && !container.back_off(pause).await {
            return;
        }
    }
}

/// The pauses between the runs of a container. The first restart is immediate.
#[derive(Debug, Default)]
struct Pauses {
    next: Option<Duration>,
}

impl Pauses {
    fn after_run(&mut self, length: Duration) -> Duration {
        if length >= GOOD_RUN {
            self.next = None;
        }
        let pause = self.next.unwrap_or(Duration::ZERO);
        self.next = Some(match self.next {
            None => FIRST_PAUSE,
            Some(pause) => (pause * 2).min(LAST_PAUSE),
        });
        pause
    }
}

struct Supervised {
    pod: Arc<PodRun>,
    index: usize,
    stop: CancellationToken,
    kill: CancellationToken,
    started: CancellationToken,
}

impl Supervised {
    fn spec(&self) -> Value {
        let state = self.pod.state();
        state.containers.get(self.index).map_or(Value::Null, |c| c.spec.clone())
    }

    fn role(&self) -> Role {
        let state = self.pod.state();
        state.containers.get(self.index).map_or(Role::Main, |c| c.role)
    }

    fn event(&self, severity: Severity, reason: &str, message: &str) {
        self.pod.event(Some(self.index), severity, reason, message);
    }

    fn wait(&self, reason: &'static str, message: String) {
        self.pod.update(self.index, |container| {
            container.enter(Run::Waiting { reason, message });
            container.ready = false;
            container.started = false;
        });
    }

    /// Waits for so much scenario time; `false` when the container is to stop instead.
    async fn sleep(&self, scenario: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.kill.cancelled() => false,
            () = tokio::time::sleep(self.pod.node.pace.wall(scenario)) => true,
        }
    }

    /// The program of the container's image; waits as long as the image is unknown. `None` when the container is to stop.
    async fn image(&self) -> Option<Arc<dyn Program>> {
        let spec = self.spec();
        let image = text(&spec["image"]);
        let mut pause = FIRST_PAUSE;
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            if let Some(program) = self.pod.node.registry.find(image) {
                return Some(program);
            }
            let message = format!(
                "Failed to pull image \"{image}\": no program is registered under this name in the embedded cluster"
            );
            self.event(Severity::Normal, "Pulling", &format!("Pulling image \"{image}\""));
            self.event(Severity::Warning, "Failed", &message);
            self.event(Severity::Warning, "Failed", "Error: ErrImagePull");
            self.wait("ErrImagePull", message);
            // The kubelet looks again after its next sync and finds itself in back-off.
            if !self.sleep(Duration::from_secs(2)).await {
                return None;
            }
            self.event(
                Severity::Normal,
                "BackOff",
                &format!("Back-off pulling image \"{image}\""),
            );
            self.event(Severity::Warning, "Failed", "Error: ImagePullBackOff");
            self.wait("ImagePullBackOff", format!("Back-off pulling image \"{image}\""));
            if !self.sleep(pause).await {
                return None;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The container's environment; waits as long as something it names is missing.
    async fn variables(&self) -> Option<BTreeMap<String, String>> {
        let spec = self.spec();
        loop {
            let pod = self.pod.described();
            let variables = match list(&spec["command"]).next() {
                None => environment::variables(&self.pod.node.store, &pod, &spec),
                Some(_) => Err("unsupported: command (what runs is chosen by the image; use args)".to_owned()),
            };
            match variables {
                Ok(variables) => return Some(variables),
                Err(why) => {
                    self.event(Severity::Warning, "Failed", &format!("Error: {why}"));
                    self.wait("CreateContainerConfigError", why);
                }
            }
            if !self.sleep(FIRST_PAUSE).await {
                return None;
            }
        }
    }

    /// Waits before the next run; `false` when the container is to stop instead.
    async fn back_off(&self, pause: Duration) -> bool {
        let spec = self.spec();
        let name = text(&spec["name"]);
        let message = format!(
            "back-off {}s restarting failed container={name} pod={}",
            pause.as_secs(),
            self.pod.label()
        );
        self.event(
            Severity::Warning,
            "BackOff",
            &format!(
                "Back-off restarting failed container {name} in pod {}",
                self.pod.label()
            ),
        );
        self.wait("CrashLoopBackOff", message);
        self.sleep(pause).await
    }

    /// Runs the program once and returns its exit code.
    async fn run(&self, program: Arc<dyn Program>, variables: BTreeMap<String, String>) -> i64 {
        let (pod, node) = (&self.pod, &self.pod.node);
        let Some(socket) = pod.socket() else {
            return KILLED;
        };
        let spec = self.spec();
        let name = text(&spec["name"]).to_owned();
        let scope = node.fabric.new_scope();
        let namespace = namespace(&pod.object).to_owned();
        let network = Arc::new(PodNetwork {
            fabric: node.fabric.clone(),
            zone: Arc::clone(&node.zone),
            pod: Arc::clone(socket),
            namespace: namespace.clone(),
            hostname: pod.hostname(),
            scope,
        });
        let log = Log::new();
        let (shutdown, started) = (CancellationToken::new(), CancellationToken::new());
        let account = text(&pod.object["spec"]["serviceAccountName"]);
        let sink = Arc::clone(&log);
        let context = ContainerContext {
            cluster: node.cluster.clone(),
            pod: pod.described(),
            container: name.clone(),
            args: list(&spec["args"])
                .map(|a| environment::expand(text(a), &variables))
                .collect(),
            env: variables,
            network: network.clone(),
            sidecar: network,
            log: Arc::new(move |line| sink.write(line)),
            shutdown: shutdown.clone(),
            started: started.clone(),
            pace: node.pace,
            kubeconfig: node.kubeconfig(&namespace, account),
        };
        let id = format!("embedded://{:032x}", rand::random::<u128>());
        let begin = object::now();
        self.tell_start(&spec, &name);
        self.begin(&spec, &id, &begin, &log);
        let running = Running {
            program: Arc::clone(&program),
            context: context.clone(),
        };
        self.set_running(Some(running));
        let task = tokio::spawn(async move { program.run(context).await });
        let mut task = AbortOnDropHandle::new(task);
        let _readiness = self.watch_readiness(&spec);
        let exit = tokio::select! {
            exit = &mut task => Some(exit),
            () = self.until_stopped(&spec, &shutdown, &started) => None,
        };
        let exit = match exit {
            Some(exit) => exit,
            None => {
                task.abort();
                task.await
            }
        };
        self.set_running(None);
        socket.end_scope(scope);
        log.close();
        let (exit_code, reason, message) = match exit {
            Ok(Exit::Done) => (0, "Completed", String::new()),
            Ok(Exit::Failed(message)) => (1, "Error", message),
            Err(error) if error.is_panic() => (PANICKED, "Error", "the program panicked".to_owned()),
            Err(_) => (KILLED, "Error", String::new()),
        };
        let ended = Ended {
            exit_code,
            reason,
            message,
            started: begin,
            finished: object::now(),
            id,
        };
        pod.update(self.index, |container| {
            container.enter(Run::Ended(ended));
            container.ready = false;
            container.started = false;
        });
        exit_code
    }

    /// Notes what runs, for those who want to run something beside it.
    fn set_running(&self, running: Option<Running>) {
        if let Some(container) = self.pod.state().containers.get_mut(self.index) {
            container.running = running;
        }
    }

    fn tell_start(&self, spec: &Value, name: &str) {
        let image = text(&spec["image"]);
        let normal = Severity::Normal;
        let present = format!("Container image \"{image}\" already present on machine");
        self.event(normal, "Pulled", &present);
        self.event(normal, "Created", &format!("Created container: {name}"));
        self.event(normal, "Started", &format!("Started container {name}"));
    }

    fn begin(&self, spec: &Value, id: &str, since: &Value, log: &Arc<Log>) {
        let role = self.role();
        let probed = !spec["readinessProbe"].is_null();
        self.pod.update(self.index, |container| {
            if !container.id.is_empty() {
                container.restarts += 1;
            }
            container.id = id.to_owned();
            container.enter(Run::Running { since: since.clone() });
            container.started = role != Role::Sidecar;
            container.ready = role == Role::Main && !probed;
            container.previous_log = container.log.replace(Arc::clone(log));
        });
    }

    /// Follows the readiness probe for as long as the handle lives.
    fn watch_readiness(&self, spec: &Value) -> Option<AbortOnDropHandle<()>> {
        let probe = Probe::of(spec, "readinessProbe", self.pod.node.pace)?;
        let (pod, index) = (Arc::clone(&self.pod), self.index);
        Some(AbortOnDropHandle::new(tokio::spawn(follow_readiness(
            pod, index, probe,
        ))))
    }

    /// Returns when the program must be killed: it did not end after it was asked to.
    async fn until_stopped(&self, spec: &Value, shutdown: &CancellationToken, started: &CancellationToken) {
        let sidecar = self.role() == Role::Sidecar;
        let dead = async {
            match Probe::of(spec, "livenessProbe", self.pod.node.pace) {
                Some(probe) => until_dead(&self.pod, self.index, &probe).await,
                None => std::future::pending().await,
            }
        };
        let mark_started = async {
            if sidecar {
                started.cancelled().await;
                let probed = !spec["readinessProbe"].is_null();
                self.pod.update(self.index, |container| {
                    container.started = true;
                    container.ready |= !probed;
                });
                self.started.cancel();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.stop.cancelled() => {
                self.pre_stop(spec).await;
                shutdown.cancel();
                self.kill.cancelled().await;
            }
            () = self.kill.cancelled() => {}
            () = mark_started => {}
            () = dead => {
                let name = text(&spec["name"]);
                let message = format!("Container {name} failed liveness probe, will be restarted");
                self.event(Severity::Normal, "Killing", &message);
                shutdown.cancel();
                let grace = self.pod.object["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
                tokio::select! {
                    () = self.kill.cancelled() => {}
                    () = tokio::time::sleep(self.pod.node.pace.wall(Duration::from_secs(grace))) => {}
                }
            }
        }
    }

    async fn pre_stop(&self, spec: &Value) {
        let hook = &spec["lifecycle"]["preStop"];
        if hook.is_null() {
            return;
        }
        match hook["sleep"]["seconds"].as_u64() {
            Some(seconds) => {
                let sleep = self.pod.node.pace.wall(Duration::from_secs(seconds));
                tokio::select! {
                    () = tokio::time::sleep(sleep) => {}
                    () = self.kill.cancelled() => {}
                }
            }
            None => {
                let message = "unsupported: preStop hooks other than sleep";
                self.event(Severity::Warning, "FailedPreStopHook", message);
            }
        }
    }
}

async fn follow_readiness(pod: Arc<PodRun>, index: usize, probe: Probe) {
    let (node, Some(socket)) = (&pod.node, pod.socket()) else {
        return;
    };
    let mut changes = socket.changes();
    let (mut successes, mut failures) = (0, 0);
    let mut ready = false;
    loop {
        changes.borrow_and_update();
        match probe.ask(&node.fabric, socket, node.address).await {
            Ok(()) => {
                (successes, failures) = (successes + 1, 0);
                if !ready && successes >= probe.success_threshold {
                    ready = true;
                    pod.update(index, |container| container.ready = true);
                }
            }
            Err(why) => {
                (successes, failures) = (0, failures + 1);
                if ready || failures >= probe.failure_threshold {
                    let message = format!("Readiness probe failed: {why}");
                    pod.event(Some(index), Severity::Warning, "Unhealthy", &message);
                }
                if ready && failures >= probe.failure_threshold {
                    ready = false;
                    pod.update(index, |container| container.ready = false);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(probe.period) => {}
            // A program that has just opened its port need not wait for the next period.
            _ = changes.changed(), if !ready => {}
        }
    }
}

/// Returns when a liveness probe has failed too often.
async fn until_dead(pod: &Arc<PodRun>, index: usize, probe: &Probe) {
    let Some(socket) = pod.socket() else { return };
    let mut failures = 0;
    loop {
        // Liveness counts from the first period on: a program that is starting is not dead.
        tokio::time::sleep(probe.period).await;
        match probe.ask(&pod.node.fabric, socket, pod.node.address).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                let message = format!("Liveness probe failed: {why}");
                pod.event(Some(index), Severity::Warning, "Unhealthy", &message);
            }
        }
        if failures >= probe.failure_threshold {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_restarts_grow_and_start_over_after_a_good_run() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let seconds: Vec<u64> = (0..8).map(|_| pauses.after_run(short).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(pauses.after_run(GOOD_RUN).as_secs(), 0);
        assert_eq!(pauses.after_run(short).as_secs(), 10);
    }
}
