//! A pod from its first container to its last.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use meshproof_apiserver::gvr;
use meshproof_apiserver::store::{DeleteOptions, Subresource};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::status::{Container, PodState, Role, Run};
use super::{Node, container, write_pod};
use crate::events::Severity;
use crate::fabric::PodSocket;
use crate::object::{self, list, name, namespace, text, uid};

/// How long programs may take to end when the whole node goes down, wall time.
const NODE_SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// A pod on its node.
pub(crate) struct PodRun {
    pub(super) node: Arc<Node>,
    /// The object as it was when the pod came to the node.
    pub(super) object: Arc<Value>,
    state: Mutex<PodState>,
    socket: OnceLock<Arc<PodSocket>>,
    /// Scenario seconds that the pod has got to end, once it must.
    ending: watch::Sender<Option<u64>>,
    /// Ends everything at once.
    killed: CancellationToken,
}

impl PodRun {
    pub(super) fn new(node: &Arc<Node>, pod: &Arc<Value>) -> Arc<Self> {
        let spec = &pod["spec"];
        let init = list(&spec["initContainers"]).map(|c| {
            let sidecar = c["restartPolicy"] == "Always";
            (c, if sidecar { Role::Sidecar } else { Role::Init })
        });
        let main = list(&spec["containers"]).map(|c| (c, Role::Main));
        let has_init = list(&spec["initContainers"]).next().is_some();
        let reason = if has_init {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        let containers = init
            .chain(main)
            .map(|(spec, role)| Container {
                spec: spec.clone(),
                role,
                run: Run::Waiting {
                    reason,
                    message: String::new(),
                },
                last: None,
                id: String::new(),
                restarts: 0,
                started: false,
                ready: false,
                running: None,
                log: None,
                previous_log: None,
            })
            .collect();
        let state = PodState {
            containers,
            restart_policy: spec["restartPolicy"].as_str().unwrap_or("Always").to_owned(),
            address: None,
            host: node.address.to_string(),
            start_time: object::now(),
        };
        Arc::new(Self {
            node: Arc::clone(node),
            object: Arc::clone(pod),
            state: Mutex::new(state),
            socket: OnceLock::new(),
            ending: watch::channel(None).0,
            killed: CancellationToken::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn socket(&self) -> Option<&Arc<PodSocket>> {
        self.socket.get()
    }

    /// The object changed: it may have to end, or somebody may have changed its status.
    pub(super) fn changed(&self, pod: &Value) {
        if object::is_being_deleted(pod) {
            let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
            self.ending.send_modify(|ending| {
                *ending = Some(ending.map_or(grace, |earlier| earlier.min(grace)));
            });
        } else if self.socket().is_some() {
            self.publish();
        }
    }

    /// Ends everything without grace.
    pub(super) fn kill(&self) {
        self.killed.cancel();
    }

    /// Changes a container's state and tells the API.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut Container)) {
        {
            let mut state = self.state();
            if let Some(container) = state.containers.get_mut(index) {
                change(container);
            }
        }
        self.publish();
    }

    /// Brings the object's status up to date. The state is read while the store is locked, so that of two writers the
    /// later one always writes the later state.
    fn publish(&self) {
        let written = write_pod(&self.node, &self.object, Subresource::Status, |pod| {
            if uid(pod) != uid(&self.object) {
                return false;
            }
            let before = pod["status"].clone();
            self.state().write(pod);
            pod["status"] != before
        });
        if let Err(status) = written
            && !status.is_not_found()
        {
            tracing::warn!(pod = name(&self.object), %status, "cannot write the pod's status");
        }
    }

    /// Tells something about the pod or one of its containers.
    pub(super) fn event(&self, index: Option<usize>, severity: Severity, reason: &str, message: &str) {
        let field = index.and_then(|i| {
            let state = self.state();
            let container = state.containers.get(i)?;
            let list = match container.role {
                Role::Main => "containers",
                Role::Init | Role::Sidecar => "initContainers",
            };
            Some(format!("spec.{list}{{{}}}", container.name()))
        });
        self.node
            .events
            .event(&self.object, field.as_deref(), severity, reason, message);
    }

    /// Runs the pod until it ends or must go.
    pub(super) async fn run(self: Arc<Self>) {
        match self.join_network().await {
            Ok(()) => {
                self.publish();
                self.run_containers().await;
            }
            Err(why) => {
                self.event(None, Severity::Warning, "FailedCreatePodSandBox", &why);
                let mut ending = self.ending.subscribe();
                tokio::select! {
                    _ = ending.wait_for(Option::is_some) => {}
                    () = self.killed.cancelled() => {}
                    () = self.node.shutdown.cancelled() => {}
                }
            }
        }
        self.leave_network();
        if self.node.shutdown.is_cancelled() {
            return;
        }
        self.publish();
        if self.ending.borrow().is_none() {
            // It ended by itself; its object and its logs stay until somebody deletes it.
            let mut ending = self.ending.subscribe();
            tokio::select! {
                _ = ending.wait_for(Option::is_some) => {}
                () = self.killed.cancelled() => {}
                () = self.node.shutdown.cancelled() => return,
            }
        }
        let options = DeleteOptions {
            uid: Some(uid(&self.object).to_owned()),
            ..DeleteOptions::now()
        };
        let (namespace, name) = (namespace(&self.object), name(&self.object));
        // Gone already, or a successor of the same name: both are fine.
        self.node.store.delete(&gvr::PODS, Some(namespace), name, &options).ok();
    }

    async fn join_network(&self) -> Result<(), String> {
        if self.object["spec"]["hostNetwork"] == true {
            return Err(
                "unsupported: hostNetwork (every pod of the embedded cluster has an address of its own)".into(),
            );
        }
        let address = self
            .node
            .pool()
            .allocate()
            .ok_or("no address is free in the pod range; give the cluster a larger one")?;
        let joined = self.node.fabric.add_pod(&self.node.cluster, address).await;
        match joined {
            Ok(socket) => {
                self.state().address = Some(address.to_string());
                self.socket.set(socket).ok();
                Ok(())
            }
            Err(error) => {
                self.node.pool().release(address);
                Err(format!("cannot open the pod's listener on loopback: {error}"))
            }
        }
    }

    fn leave_network(&self) {
        if let Some(socket) = self.socket() {
            self.node.fabric.remove_pod(socket);
            self.node.pool().release(socket.address);
        }
    }

    /// The pod's object with its present address, as its programs see it.
    pub(super) fn described(&self) -> Arc<Value> {
        let mut pod = (*self.object).clone();
        self.state().write(&mut pod);
        Arc::new(pod)
    }

    async fn run_containers(self: &Arc<Self>) {
        let roles: Vec<Role> = self.state().containers.iter().map(|c| c.role).collect();
        let mut group = Group::new(self);
        let begin = async {
            for (index, role) in roles.iter().enumerate() {
                match role {
                    Role::Init => {
                        group.start(index);
                        group.main_ended().await;
                        if !self.init_succeeded(index) {
                            return false;
                        }
                    }
                    Role::Sidecar => {
                        let started = group.start_sidecar(index);
                        started.cancelled().await;
                    }
                    Role::Main => group.start(index),
                }
            }
            true
        };
        let begun = tokio::select! {
            begun = begin => begun,
            () = self.must_end() => false,
        };
        if begun {
            tokio::select! {
                () = group.main_ended() => {}
                () = self.must_end() => {}
            }
        }
        self.end(group).await;
    }

    fn init_succeeded(&self, index: usize) -> bool {
        let state = self.state();
        let run = state.containers.get(index).map(|c| &c.run);
        matches!(run, Some(Run::Ended(e)) if e.exit_code == 0)
    }

    /// Returns when the pod is to be deleted, killed, or the node goes down.
    async fn must_end(&self) {
        let mut ending = self.ending.subscribe();
        tokio::select! {
            _ = ending.wait_for(Option::is_some) => {}
            () = self.killed.cancelled() => {}
            () = self.node.shutdown.cancelled() => {}
        }
    }

    /// Stops what runs: the application first, then its sidecars from the last to the first, all within the grace period.
    async fn end(self: &Arc<Self>, mut group: Group) {
        let down = self.node.shutdown.is_cancelled();
        if !down && self.ending.borrow().is_some() {
            let running: Vec<(usize, String)> = {
                let state = self.state();
                let all = state.containers.iter().enumerate();
                all.filter(|(_, c)| matches!(c.run, Run::Running { .. }))
                    .map(|(i, c)| (i, c.name().to_owned()))
                    .collect()
            };
            for (index, name) in running {
                let message = format!("Stopping container {name}");
                self.event(Some(index), Severity::Normal, "Killing", &message);
            }
        }
        let stopping = async {
            group.stop.cancel();
            group.main_ended().await;
            group.stop_sidecars().await;
        };
        let grace = async {
            if down {
                tokio::time::sleep(NODE_SHUTDOWN_GRACE).await;
                return;
            }
            let mut ending = self.ending.subscribe();
            let mut seconds = ending.borrow_and_update().unwrap_or_else(|| self.own_grace());
            let begin = tokio::time::Instant::now();
            loop {
                let end = begin + self.node.pace.wall(Duration::from_secs(seconds));
                tokio::select! {
                    () = tokio::time::sleep_until(end) => return,
                    // A second deletion may shorten it.
                    changed = ending.changed() => match changed {
                        Ok(()) => seconds = ending.borrow_and_update().unwrap_or(seconds),
                        Err(_) => return,
                    },
                }
            }
        };
        tokio::select! {
            () = stopping => return,
            () = grace => {}
            () = self.killed.cancelled() => {}
            () = self.node.shutdown.cancelled(), if !down => {}
        }
        group.kill.cancel();
        group.all_ended().await;
    }

    fn own_grace(&self) -> u64 {
        self.object["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30)
    }

    /// The host name by which the pod knows itself.
    pub(super) fn hostname(&self) -> String {
        match text(&self.object["spec"]["hostname"]) {
            "" => name(&self.object).to_owned(),
            hostname => hostname.to_owned(),
        }
    }

    /// The pod as a kubelet names it in messages.
    pub(super) fn label(&self) -> String {
        let (name, namespace) = (name(&self.object), namespace(&self.object));
        format!("{name}_{namespace}({})", uid(&self.object))
    }
}

/// The supervisors of a pod's containers.
struct Group {
    pod: Arc<PodRun>,
    /// Application containers and init containers are to stop.
    stop: CancellationToken,
    /// Everything ends now.
    kill: CancellationToken,
    main: JoinSet<()>,
    sidecars: Vec<(CancellationToken, JoinSet<()>)>,
}

impl Group {
    fn new(pod: &Arc<PodRun>) -> Self {
        Self {
            pod: Arc::clone(pod),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            main: JoinSet::new(),
            sidecars: Vec::new(),
        }
    }

    fn start(&mut self, index: usize) {
        let pod = Arc::clone(&self.pod);
        let supervisor = container::supervise(pod, index, self.stop.clone(), self.kill.clone());
        self.main.spawn(supervisor);
    }

    /// Starts a sidecar and returns what is cancelled once it has started.
    fn start_sidecar(&mut self, index: usize) -> CancellationToken {
        let (started, stop) = (CancellationToken::new(), CancellationToken::new());
        let pod = Arc::clone(&self.pod);
        let supervisor = container::supervise_sidecar(pod, index, stop.clone(), self.kill.clone(), started.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(supervisor);
        self.sidecars.push((stop, tasks));
        started
    }

    async fn main_ended(&mut self) {
        while self.main.join_next().await.is_some() {}
    }

    async fn stop_sidecars(&mut self) {
        for (stop, tasks) in self.sidecars.iter_mut().rev() {
            stop.cancel();
            while tasks.join_next().await.is_some() {}
        }
    }

    async fn all_ended(&mut self) {
        self.main_ended().await;
        self.stop_sidecars().await;
    }
}
