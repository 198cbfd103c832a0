//! Evidence: what all clusters looked like when a check did not pass, a step failed or an environment did not get ready, frozen
//! before anything changes.
//!
//! Collected per cluster: the events of the scenario's namespace and of the mesh, the objects of the scenario's namespace,
//! the mesh's own objects everywhere, the logs of the scenario's pods and of the mesh's gateway and controllers (current and
//! previous container), and the metrics of their proxies; and what the mesh's own tools and the environment say. Bounded in
//! size and time; what could not be had is named in `missing.txt`. What Secrets hold, and tokens in texts, are replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, LogParams};
use kube::core::ApiResource;
use meshproof_spec::scenario::Component;
use meshproof_spec::topology::Topology;
use meshproof_verdict::journal::hex;
use meshproof_verdict::recheck::LARGEST_EVIDENCE;
use meshproof_verdict::record::{EnvironmentEvidence, Event, EvidenceFrozen, Problem};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::api::{Requests, describe, dynamic, text_at, to_json};
use crate::driver::{Flow, MeshDriver, WorkloadRef};
use crate::environment::{Cluster, RunningEnvironment};
use crate::kinds::known;
use crate::ledgers::file_name;
use crate::metrics;
use crate::plan::EnvironmentPlan;
use crate::private_files;
use crate::redaction::{Redacted, Redactor};
use crate::rung::{self, Clue};
use crate::scene::{RunContext, Scene, Workload, mesh_namespaces};

/// Folder of evidence in a run's folder.
pub(crate) const EVIDENCE_FOLDER: &str = meshproof_verdict::recheck::EVIDENCE_FOLDER;
/// Folder of the evidence of environments in a run's folder.
pub(crate) const ENVIRONMENTS_FOLDER: &str = "evidence/environments";
/// Time for all of it (wall time): the scenario waits, and traffic goes on.
const TIME: Duration = Duration::from_secs(10);
/// Largest file of free text, bytes; what is longer is cut at its start. Lists of objects are bounded by their number and,
/// as all evidence is, by [`LARGEST_EVIDENCE`].
const LARGEST_FILE: usize = 1024 * 1024;
/// Lines of each log.
const LOG_LINES: i64 = 2000;
/// Objects of each kind, at most.
const MOST_OBJECTS: u32 = 500;
/// Requests to a cluster at a time.
const AT_A_TIME: usize = 8;
/// Kinds of the scenario's namespace.
const KINDS: [&str; 9] = [
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Pod",
    "Deployment",
    "ReplicaSet",
    "ServiceAccount",
    "ConfigMap",
    "Secret",
];

/// Freezes evidence for the present step and writes down where it lies. Trouble in collecting it is noted, and hides
/// nothing.
pub(crate) async fn freeze(scene: &Scene, problem: Option<&Problem>) {
    let folder = format!("{EVIDENCE_FOLDER}/{}/{}", file_name(scene.key()), scene.step);
    let path = scene.run.journal.run_dir().join(&folder);
    let (files, objects) = collect(&Sight::of_scene(scene), scene.run.journal.redactor()).await;
    let clues = clues(scene, &objects);
    let rung = rung::first_broken(&clues);
    let note = match problem {
        Some(problem) => problem.message.clone(),
        None if rung.is_none() => "the first broken rung can't be told".to_owned(),
        None => "see the objects, logs and metrics of all clusters".to_owned(),
    };
    let written = tokio::task::spawn_blocking(move || write(&path, &files)).await;
    let (digests, note) = match written {
        Ok((digests, None)) => {
            let count = digests.len();
            (digests, format!("{note}; {count} files"))
        }
        Ok((digests, Some(error))) => (digests, format!("{note}; the evidence could not be written: {error}")),
        Err(error) => (
            BTreeMap::new(),
            format!("{note}; the evidence could not be written: {error}"),
        ),
    };
    scene.run.journal.note(Event::EvidenceFrozen(EvidenceFrozen {
        scenario: scene.key().to_owned(),
        check: scene.step,
        folder,
        rung: rung.map(|rung| rung.to_string()),
        note,
        files: Some(digests),
    }));
}

/// What evidence is collected of: the clusters of a scenario, or of an environment that did not get ready.
pub(crate) struct Sight<'a> {
    clusters: &'a [Cluster],
    running: &'a dyn RunningEnvironment,
    driver: &'a dyn MeshDriver,
    topology: &'a Topology,
    requests: &'a Requests,
    /// Namespaces of which objects, events and the logs of all pods are kept.
    namespaces: BTreeSet<String>,
    /// What a scenario deployed there; absent without a scenario.
    workloads: Option<&'a [Workload]>,
}

impl<'a> Sight<'a> {
    fn of_scene(scene: &'a Scene) -> Self {
        Self {
            clusters: scene.testbed.clusters(),
            running: scene.testbed.running.as_ref(),
            driver: scene.testbed.driver.as_ref(),
            topology: &scene.testbed.plan.topology,
            requests: &scene.run.requests,
            namespaces: [scene.namespace().to_owned()].into(),
            workloads: Some(&scene.workloads),
        }
    }

    /// Of an environment that has no scenario yet, all of the mesh is of interest.
    pub(crate) fn of_environment(
        plan: &'a EnvironmentPlan,
        running: &'a dyn RunningEnvironment,
        driver: &'a dyn MeshDriver,
        requests: &'a Requests,
    ) -> Self {
        Self {
            clusters: running.clusters(),
            running,
            driver,
            topology: &plan.topology,
            requests,
            namespaces: mesh_namespaces(driver),
            workloads: None,
        }
    }

    /// Kinds of which objects are kept. What Secrets of a mesh are called says nothing, and who may list them may read them.
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let with_secrets = self.workloads.is_some();
        KINDS.into_iter().filter(move |kind| with_secrets || *kind != "Secret")
    }
}

/// Freezes evidence of an environment that did not get ready, in this folder of the run. Nothing when there was none to write.
pub(crate) async fn freeze_environment(
    sight: &Sight<'_>,
    run: &RunContext,
    folder: &str,
) -> Option<EnvironmentEvidence> {
    let (files, _) = collect(sight, run.journal.redactor()).await;
    written(run, folder, files).await
}

/// Writes what an environment itself knew of clusters that it could not make.
pub(crate) async fn write_diagnosis(
    run: &RunContext,
    folder: &str,
    said: Vec<(String, String)>,
) -> Option<EnvironmentEvidence> {
    let files = said
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| {
            let file = Path::new("environment").join(relative(&name));
            (file, free_text(run.journal.redactor(), text))
        });
    written(run, folder, files.collect()).await
}

async fn written(run: &RunContext, folder: &str, files: Files) -> Option<EnvironmentEvidence> {
    if files.is_empty() {
        return None;
    }
    let path = run.journal.run_dir().join(folder);
    let (digests, note) = match tokio::task::spawn_blocking(move || write(&path, &files)).await {
        Ok((digests, None)) => {
            let count = digests.len();
            (digests, format!("{count} files"))
        }
        Ok((digests, Some(error))) => (digests, format!("the evidence could not be written: {error}")),
        Err(error) => (BTreeMap::new(), format!("the evidence could not be written: {error}")),
    };
    Some(EnvironmentEvidence {
        folder: folder.to_owned(),
        note,
        files: Some(digests),
    })
}

/// Files by path relative to the evidence's folder.
type Files = BTreeMap<PathBuf, Redacted<String>>;
/// Objects of the clusters by the path of their file.
type Objects = BTreeMap<PathBuf, Vec<Value>>;

async fn collect(sight: &Sight<'_>, redactor: &Redactor) -> (Files, Objects) {
    let deadline = tokio::time::Instant::now() + TIME;
    let clusters = sight.clusters.iter();
    let of_clusters = join_all(clusters.map(|cluster| collect_cluster(sight, redactor, cluster, deadline)));
    // At the same time: tools may take as long as everything else.
    let (collected, diagnoses) = tokio::join!(of_clusters, diagnoses(sight, redactor, deadline));
    let (mut files, mut objects) = (diagnoses, Objects::new());
    for (of_cluster, found) in collected {
        files.extend(of_cluster);
        objects.extend(found);
    }
    (files, objects)
}

/// What the mesh's tools and the environment say, below `<cluster>/mesh` and `environment`.
async fn diagnoses(sight: &Sight<'_>, redactor: &Redactor, deadline: tokio::time::Instant) -> Files {
    let late = || vec![("missing.txt".to_owned(), "not in time\n".to_owned())];
    let of_clusters = sight.clusters.iter().map(|cluster| async move {
        let said = tokio::time::timeout_at(deadline, sight.driver.diagnose(cluster)).await;
        (
            Path::new(&file_name(&cluster.name)).join("mesh"),
            said.unwrap_or_else(|_| late()),
        )
    });
    let of_environment = async {
        let said = tokio::time::timeout_at(deadline, sight.running.diagnose()).await;
        (PathBuf::from("environment"), said.unwrap_or_else(|_| late()))
    };
    let (mut said, environment) = tokio::join!(join_all(of_clusters), of_environment);
    said.push(environment);
    said.into_iter()
        .flat_map(|(folder, files)| {
            let named = files.into_iter().filter(|(_, text)| !text.is_empty());
            named.map(move |(name, text)| (folder.join(relative(&name)), free_text(redactor, text)))
        })
        .collect()
}

/// A name that may have folders in it as a path that leads nowhere else.
fn relative(name: &str) -> PathBuf {
    name.split('/').map(file_name).filter(|part| !part.is_empty()).collect()
}

/// One thing to fetch.
enum Fetch {
    Objects {
        resource: ApiResource,
        namespace: Option<String>,
    },
    Log {
        namespace: String,
        pod: String,
        container: String,
        previous: bool,
    },
    Metrics {
        namespace: String,
        pod: String,
        port: u16,
    },
}

impl Fetch {
    fn file(&self) -> PathBuf {
        match self {
            Self::Objects { resource, namespace } => {
                let place = namespace.as_deref().unwrap_or("all");
                Path::new("objects")
                    .join(place)
                    .join(format!("{}.json", resource.plural))
            }
            Self::Log {
                namespace,
                pod,
                container,
                previous,
            } => {
                let suffix = if *previous { ".previous" } else { "" };
                Path::new("logs")
                    .join(namespace)
                    .join(format!("{pod}.{container}{suffix}.log"))
            }
            Self::Metrics { namespace, pod, port } => {
                Path::new("metrics").join(namespace).join(format!("{pod}.{port}.txt"))
            }
        }
    }
}

/// What was fetched.
enum Fetched {
    Objects(Vec<Value>),
    Text(String),
}

async fn collect_cluster(
    sight: &Sight<'_>,
    redactor: &Redactor,
    cluster: &Cluster,
    deadline: tokio::time::Instant,
) -> (Files, Objects) {
    let mut fetches = object_fetches(sight);
    let mut missing = Vec::new();
    match tokio::time::timeout_at(deadline, pod_fetches(sight, cluster)).await {
        Ok(Ok(pods)) => fetches.extend(pods),
        Ok(Err(error)) => missing.push(format!("pods: {error}")),
        Err(_) => missing.push("pods: not in time".to_owned()),
    }
    let fetched: Vec<(PathBuf, Result<Fetched, String>)> = stream::iter(fetches)
        .map(|wanted| async move {
            let text = tokio::time::timeout_at(deadline, fetch(sight, cluster, &wanted)).await;
            (wanted.file(), text.unwrap_or_else(|_| Err("not in time".to_owned())))
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let folder = Path::new(&file_name(&cluster.name)).to_path_buf();
    let (mut files, mut objects) = (Files::new(), Objects::new());
    // Objects first: what Secrets hold is looked for in everything else.
    let (lists, texts): (Vec<_>, Vec<_>) = fetched
        .into_iter()
        .partition(|(_, found)| matches!(found, Ok(Fetched::Objects(_))));
    for (file, found) in lists.into_iter().chain(texts) {
        match found {
            Ok(Fetched::Objects(list)) if list.is_empty() => {}
            Ok(Fetched::Objects(list)) => {
                match at_most(LARGEST_EVIDENCE, redactor.objects(&list)) {
                    Ok(shown) => {
                        files.insert(folder.join(&file), shown);
                    }
                    Err(reason) => missing.push(format!("{}: {reason}", file.display())),
                }
                objects.insert(folder.join(file), list);
            }
            Ok(Fetched::Text(text)) if text.is_empty() => {}
            Ok(Fetched::Text(text)) => {
                files.insert(folder.join(file), free_text(redactor, text));
            }
            Err(error) => missing.push(format!("{}: {error}", file.display())),
        }
    }
    if !missing.is_empty() {
        missing.sort_unstable();
        files.insert(folder.join("missing.txt"), redactor.text(&(missing.join("\n") + "\n")));
    }
    (files, objects)
}

fn object_fetches(sight: &Sight<'_>) -> Vec<Fetch> {
    let mut fetches = Vec::new();
    for namespace in &sight.namespaces {
        fetches.extend(sight.kinds().map(|kind| Fetch::Objects {
            resource: known(kind).resource,
            namespace: Some(namespace.clone()),
        }));
    }
    let mut event_places: BTreeSet<String> = mesh_workloads(sight)
        .into_iter()
        .map(|workload| workload.namespace)
        .collect();
    event_places.extend(sight.namespaces.iter().cloned());
    for place in event_places {
        fetches.push(Fetch::Objects {
            resource: known("Event").resource,
            namespace: Some(place),
        });
    }
    fetches.extend(sight.driver.kinds().into_iter().map(|resource| Fetch::Objects {
        resource,
        namespace: None,
    }));
    fetches
}

/// Parts of the mesh that links consist of.
fn mesh_workloads(sight: &Sight<'_>) -> Vec<WorkloadRef> {
    let driver = sight.driver;
    let mut workloads = vec![driver.component(Component::Gateway, None)];
    for link in &sight.topology.links {
        let controller = driver.component(Component::Controller, Some(&link.to.0));
        if !workloads.contains(&controller) {
            workloads.push(controller);
        }
    }
    workloads
}

/// Logs and metrics of the scenario's pods and of the mesh's.
async fn pod_fetches(sight: &Sight<'_>, cluster: &Cluster) -> Result<Vec<Fetch>, String> {
    let mesh = mesh_workloads(sight);
    let mut places: BTreeSet<&str> = mesh.iter().map(|workload| workload.namespace.as_str()).collect();
    places.extend(sight.namespaces.iter().map(String::as_str));
    let port = metrics_port(sight);
    let mut fetches = Vec::new();
    for place in places {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), place);
        let list = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| describe(&error))?;
        for pod in list {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let of_mesh = mesh
                .iter()
                .any(|workload| workload.namespace == place && name.starts_with(&workload.name));
            if !sight.namespaces.contains(place) && !of_mesh {
                continue;
            }
            let spec = pod.spec.unwrap_or_default();
            let statuses = pod
                .status
                .and_then(|status| status.container_statuses)
                .unwrap_or_default();
            for container in spec.init_containers.unwrap_or_default().iter().chain(&spec.containers) {
                let restarted = statuses
                    .iter()
                    .any(|status| status.name == container.name && status.restart_count > 0);
                for previous in if restarted { vec![false, true] } else { vec![false] } {
                    fetches.push(Fetch::Log {
                        namespace: place.to_owned(),
                        pod: name.clone(),
                        container: container.name.clone(),
                        previous,
                    });
                }
            }
            if let Some(port) = port.filter(|_| is_meshed(sight, &name) || of_mesh) {
                fetches.push(Fetch::Metrics {
                    namespace: place.to_owned(),
                    pod: name,
                    port,
                });
            }
        }
    }
    Ok(fetches)
}

fn is_meshed(sight: &Sight<'_>, pod: &str) -> bool {
    let workloads = sight.workloads.unwrap_or_default();
    workloads
        .iter()
        .any(|workload| workload.meshed && pod.starts_with(&format!("{}-", workload.name)))
}

/// Port on which proxies show their metrics, as the mesh's counters tell.
fn metrics_port(sight: &Sight<'_>) -> Option<u16> {
    let workloads = sight.workloads.unwrap_or_default();
    let (client, server) = (
        workloads.iter().find(|workload| workload.is_client)?,
        workloads.iter().find(|workload| !workload.is_client)?,
    );
    let flow = Flow {
        namespace: sight.namespaces.first()?.clone(),
        client_cluster: client.cluster.clone(),
        client: client.name.clone(),
        server_cluster: server.cluster.clone(),
        service: server.name.clone(),
        port: server.ports.first()?.port,
        export: None,
    };
    sight.driver.counters(&flow).first().map(|counter| counter.port)
}

async fn fetch(sight: &Sight<'_>, cluster: &Cluster, wanted: &Fetch) -> Result<Fetched, String> {
    match wanted {
        Fetch::Objects { resource, namespace } => {
            let api = dynamic(&cluster.client, resource, namespace.as_deref());
            let parameters = ListParams {
                limit: Some(MOST_OBJECTS),
                ..ListParams::default()
            };
            let list = api.list(&parameters).await.map_err(|error| describe(&error))?;
            let objects = list.items.into_iter().map(|object| to_json(object, resource));
            Ok(Fetched::Objects(objects.collect()))
        }
        Fetch::Log {
            namespace,
            pod,
            container,
            previous,
        } => {
            let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
            let parameters = LogParams {
                container: Some(container.clone()),
                previous: *previous,
                tail_lines: Some(LOG_LINES),
                timestamps: true,
                ..LogParams::default()
            };
            let log = pods.logs(pod, &parameters).await;
            log.map(Fetched::Text).map_err(|error| describe(&error))
        }
        Fetch::Metrics { namespace, pod, port } => metrics::fetch(cluster, namespace, pod, *port, sight.requests)
            .await
            .map(Fetched::Text)
            .map_err(|problem| problem.message),
    }
}

/// A file that `recheck` would not refuse to read for its size, bytes.
fn at_most(most: u64, shown: Redacted<String>) -> Result<Redacted<String>, String> {
    let bytes = shown.get().len() as u64;
    if bytes > most {
        return Err(format!("{bytes} bytes, more than the {most} of a file of evidence"));
    }
    Ok(shown)
}

/// A log, metrics or what a tool said, without secrets and cut to size at its start.
fn free_text(redactor: &Redactor, text: String) -> Redacted<String> {
    // Secrets first: a cut may leave the end of one without the beginning that tells it.
    let shown = redactor.file(&text);
    if shown.get().len() <= LARGEST_FILE {
        return shown;
    }
    let text = shown.get();
    let start = text.len() - LARGEST_FILE;
    let start = (start..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    redactor.cut(&shown, start)
}

/// Writes files; the digests of those that were written, and why it ended early.
fn write(folder: &Path, files: &Files) -> (BTreeMap<String, String>, Option<std::io::Error>) {
    let mut digests = BTreeMap::new();
    for (file, text) in files {
        let path = folder.join(file);
        let written = path
            .parent()
            .map_or(Ok(()), private_files::create_folder)
            .and_then(|()| {
                let mut made = private_files::create_file(&path)?;
                // In the list before its content: half a file must be told from one that was added.
                let digest = hex(&Sha256::digest(text.get().as_bytes()));
                digests.insert(file.to_string_lossy().into_owned(), digest);
                made.write_all(text.get().as_bytes())
            });
        if let Err(error) = written {
            return (digests, Some(error));
        }
    }
    (digests, None)
}

/// What the frozen objects and the rows of the check's ledger tell about the way of its requests.
fn clues(scene: &Scene, objects: &Objects) -> Vec<Clue> {
    let history = scene.history();
    let Some(check) = history.checks.last().filter(|check| check.opened.check == scene.step) else {
        return Vec::new();
    };
    let mut clues = rung::of_question(&check.opened.question);
    let Some(ledger) = rung::ledger_of(&check.opened.question) else {
        return clues;
    };
    if let Some(known) = scene.ledgers.set().0.get(ledger) {
        clues.extend(rung::of_rows(&known.rows));
    }
    let Some(flow) = scene.flows.get(ledger) else {
        return clues;
    };
    if flow
        .target
        .cluster
        .as_ref()
        .is_some_and(|cluster| cluster.0 != flow.cluster)
    {
        let mirror = scene.host_of(&flow.cluster, &flow.target);
        let list = |plural: &str| -> Vec<Value> {
            let file = Path::new(&flow.cluster)
                .join("objects")
                .join(scene.namespace())
                .join(format!("{plural}.json"));
            objects.get(&file).cloned().unwrap_or_default()
        };
        let named = |objects: Vec<Value>| {
            objects
                .into_iter()
                .find(|object| text_at(object, "/metadata/name") == mirror)
        };
        clues.extend(rung::of_mirror(
            named(list("services")).as_ref(),
            named(list("endpoints")).as_ref(),
        ));
    }
    clues
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{at_most, free_text, relative};
    use crate::redaction::Redactor;

    #[test]
    fn files_of_tools_stay_below_their_folder() {
        assert_eq!(
            relative("kind/west/node-1/kubelet.log"),
            Path::new("kind/west/node-1/kubelet.log")
        );
        assert_eq!(relative("/etc/../..//a b"), Path::new("etc/a_b"));
    }

    #[test]
    fn what_is_too_long_loses_its_start_and_no_part_of_a_secret_is_left() {
        let redactor = Redactor::new();
        let text = free_text(&redactor, "ä".repeat(super::LARGEST_FILE)).into_inner();
        assert!(text.len() <= super::LARGEST_FILE + 64);
        assert!(text.starts_with("… cut"));
        let key = format!(
            "-----BEGIN PRIVATE KEY-----\n{}",
            "MHcC\n".repeat(super::LARGEST_FILE / 4)
        );
        assert!(!free_text(&redactor, key).get().contains("MHcC"));
    }

    #[test]
    fn what_nobody_would_read_again_is_left_out() {
        let redactor = Redactor::new();
        assert!(at_most(3, redactor.text("abc")).is_ok());
        let refused = at_most(3, redactor.text("abcd")).unwrap_err();
        assert_eq!(refused, "4 bytes, more than the 3 of a file of evidence");
    }

    #[test]
    fn a_long_list_of_objects_stays_json() {
        let object = serde_json::json!({"kind": "ConfigMap", "data": {"a": "x".repeat(100_000)}});
        let list = vec![object; 30];
        let text = Redactor::new().objects(&list);
        let read: Vec<serde_json::Value> = serde_json::from_str(text.get()).unwrap();
        assert_eq!(read, list);
    }

    #[test]
    fn files_are_written_with_their_digests() {
        let place = tempfile::tempdir().unwrap();
        let redactor = Redactor::new();
        let files: super::Files = [("west/a.log".into(), redactor.text("hello"))].into();
        let (digests, error) = super::write(&place.path().join("evidence/x/1"), &files);
        assert!(error.is_none());
        assert_eq!(
            digests["west/a.log"],
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        let (_, error) = super::write(&place.path().join("evidence/x/1"), &files);
        assert!(error.is_some(), "nothing is overwritten");
    }
}
