//! The controller's life: caches, leadership, and a watcher for its Link while it leads.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use meshproof_cluster::program::{ContainerContext, Exit};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::admin;
use super::arguments::{Arguments, Watched};
use super::client;
use super::election::Elector;
use super::failure::text;
use super::informer::{Change, Informer};
use super::link::Link;
use super::log::Logger;
use super::probe_metrics::ProbeMetrics;
use super::unasked;
use super::watcher::{self, Local, Place, SYNC_TIMEOUT};
use crate::defect::Defect;
use crate::metrics::Registry;
use crate::model::Model;
use crate::names::{KUBECONFIG_KEY, REMOTE_KUBECONFIG_TYPE, credentials_secret, lease};
use crate::version;

/// Pause before a Link that could not be served is tried again, scenario time.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// Runs a service mirror until its pod stops or it fails as the real one would.
pub(super) async fn run(model: Model, container: ContainerContext) -> Exit {
    let log = Logger::new(container.log.clone());
    let arguments = match Arguments::parse(&container.args) {
        Ok(arguments) => Arc::new(arguments),
        Err(error) => return fatal(&log, error),
    };
    let version = version::of_container(&container.pod, &container.container).to_owned();
    log.info(format!("running version {version}"));
    container.started.cancel();

    let registry = Registry::new();
    let ready = Arc::new(AtomicBool::new(false));
    log.info("starting admin server on :9999");
    let admin = admin::serve(container.network.clone(), registry.clone(), ready.clone());
    let place = Place {
        model,
        version,
        cluster: container.cluster.clone(),
        arguments,
        network: container.network.clone(),
        sidecar: container.sidecar.clone(),
        registry,
        log: log.clone(),
    };
    let controlled = async {
        tokio::select! {
            exit = control(&place, &container, &ready) => exit,
            failed = admin => {
                // The real controller goes on without its admin server.
                if let Err(error) = failed {
                    log.error(format!("failed to start service mirror admin server: {error}"));
                }
                std::future::pending().await
            }
        }
    };
    // Boxed: the future holds the whole state of a watcher.
    Box::pin(controlled).await
}

fn fatal(log: &Logger, message: impl Into<String>) -> Exit {
    let message = message.into();
    log.fatal(&message);
    Exit::Failed(message)
}

async fn control(place: &Place, container: &ContainerContext, ready: &AtomicBool) -> Exit {
    let log = &place.log;
    let shutdown = &container.shutdown;
    let local = tokio::select! {
        local = Local::connect(place, &container.kubeconfig) => match local {
            Ok(local) => local,
            Err(error) => return fatal(log, error),
        },
        () = shutdown.cancelled() => return Exit::Done,
    };
    ready.store(true, Ordering::Relaxed);

    let lease_name = match &place.arguments.watched {
        Watched::Link(link) => lease(link),
        Watched::Local => "local-service-mirror-write".to_owned(),
    };
    let namespace = place.arguments.namespace.as_str();
    let identity = container.pod["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut elector = Elector::new(
        Api::<Lease>::namespaced(local.client.clone(), namespace),
        (namespace, &lease_name),
        &identity,
        place.model.pace(),
        log,
        place.model.rng(&format!("{}/{identity}/election", place.cluster)),
    );
    if let Watched::Link(link) = &place.arguments.watched
        && place.model.has(Defect::UnlinkedMirrorReturns)
    {
        let link = (namespace, link.as_str());
        unasked::resurrect_after_unlinking(&place.model, &place.cluster, link, shutdown.clone());
    }
    let mut lost_before = false;
    loop {
        tokio::select! {
            () = elector.acquire() => {}
            () = shutdown.cancelled() => break,
        }
        log.info(format!("{identity} acquired lease"));
        log.info("Starting controller loop");
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ended::Shutdown,
            () = elector.renew_until_lost() => Ended::LeaseLost,
            error = lead(place, &local, lost_before) => Ended::Failed(error),
        };
        log.info(format!("{identity} released lease"));
        match ended {
            Ended::Shutdown => {
                log.info("Received shutdown signal");
                elector.release().await;
                break;
            }
            Ended::LeaseLost => {
                log.info("Received: Stop");
                log.info("Shutting down events processor");
                lost_before = true;
            }
            Ended::Failed(error) => return fatal(log, error),
        }
    }
    log.info("Shutting down");
    Exit::Done
}

enum Ended {
    Shutdown,
    LeaseLost,
    Failed(String),
}

impl Local {
    async fn connect(place: &Place, kubeconfig: &str) -> Result<Arc<Self>, String> {
        let pace = place.model.pace();
        let log = &place.log;
        let connect = || client::connect(kubeconfig, &place.sidecar, pace);
        let failed = |error| format!("Failed to initialize K8s API: {error}");
        let api: Client = connect().await.map_err(failed)?;
        let link_client = connect().await.map_err(failed)?;
        log.info("waiting for caches to sync");
        let services = Informer::start(Api::all(api.clone()), None, pace, log.clone());
        let endpoints = Informer::start(Api::all(api.clone()), None, pace, log.clone());
        let namespaces = Informer::start(Api::all(api.clone()), None, pace, log.clone());
        let links = Informer::start(
            Api::namespaced(link_client.clone(), &place.arguments.namespace),
            None,
            pace,
            log.clone(),
        );
        let all = async {
            join_all([services.synced()]).await;
            endpoints.synced().await;
            namespaces.synced().await;
            log.info("caches synced");
            log.info("Starting Link informer");
            links.synced().await;
        };
        tokio::time::timeout(pace.wall(SYNC_TIMEOUT), all)
            .await
            .map_err(|_| "failed to sync caches".to_owned())?;
        Ok(Arc::new(Self {
            client: api,
            link_client,
            services,
            endpoints,
            namespaces,
            links,
        }))
    }
}

/// Serves the Link until dropped. Returns only to fail.
async fn lead(place: &Place, local: &Arc<Local>, lost_before: bool) -> String {
    match &place.arguments.watched {
        Watched::Local => {
            place
                .log
                .warn("federated services are not modelled: the local service mirror only holds its lease");
            std::future::pending().await
        }
        Watched::Link(link) => {
            if lost_before && place.model.has(Defect::UpstreamLostLeaseCrashesController) {
                return crash_slowly(place, link).await;
            }
            serve_link(place, local, link).await
        }
    }
}

/// What the real controller does after it regains a lost lease: the loop of the first term is still there and stops
/// whatever the second one starts, until the second one gives up waiting for its caches.
async fn crash_slowly(place: &Place, link: &str) -> String {
    let probe_log = place.log.with("probe-key", link);
    let metrics = ProbeMetrics::register(&place.registry, link, true);
    probe_log.info("Starting probe worker");
    metrics.unregister();
    probe_log.info("Stopping probe worker");
    place.log.info("waiting for caches to sync");
    tokio::time::sleep(place.model.pace().wall(SYNC_TIMEOUT)).await;
    "failed to sync caches".to_owned()
}

/// The task that watches the target, ended when dropped.
struct Running(JoinHandle<Result<Infallible, String>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What one Link is served with, and how that goes.
struct Served {
    link: Arc<Link>,
    /// The kubeconfig in use.
    kubeconfig: Option<String>,
    running: Option<Running>,
    /// When to try again.
    retry: Option<Instant>,
}

async fn serve_link(place: &Place, local: &Arc<Local>, name: &str) -> String {
    let pace = place.model.pace();
    let mut links = local.links.subscribe();
    let mut secrets = watch_credentials(place, local, name);
    let mut served: Option<Served> = None;
    loop {
        let wake = Wake::next(&mut links, &mut secrets, served.as_mut());
        match wake.await {
            Wake::Link(Change::Added(link) | Change::Updated(link)) => {
                if link.name_any() != name {
                    continue;
                }
                if let Some(served) = &served {
                    // Only another spec, or another Link of the same name, is news.
                    let same = served.link.spec == link.spec && served.link.uid() == link.uid();
                    if same || place.model.has(Defect::LinkEditsIgnored) {
                        continue;
                    }
                }
                place.log.info(format!("Got updated link {name}: {:?}", link.spec));
                served = Some(start(place, local, link).await);
            }
            Wake::Link(Change::Deleted(link)) => {
                if link.name_any() == name {
                    place.log.info(format!("Link {name} deleted"));
                    served = None;
                }
            }
            Wake::Secret(secret) => {
                let Some(current) = &served else { continue };
                let fresh = kubeconfig_of(&secret).ok();
                let rotated = current.kubeconfig.is_some()
                    && fresh.is_some()
                    && fresh != current.kubeconfig
                    && !place.model.has(Defect::UpstreamRotatedCredentialsIgnored);
                let arrived = current.kubeconfig.is_none()
                    && fresh.is_some()
                    && !place.model.has(Defect::MissingCredentialsNeverRetried);
                if rotated || arrived {
                    let link = current.link.clone();
                    // The old watcher ends before the new one starts.
                    drop(served.take());
                    served = Some(start(place, local, link).await);
                }
            }
            Wake::Retry => {
                if let Some(current) = served.take() {
                    let link = current.link.clone();
                    drop(current);
                    served = Some(start(place, local, link).await);
                }
            }
            Wake::Stopped(error) => {
                place.log.error(error);
                if let Some(served) = &mut served {
                    served.running = None;
                    served.retry = Some(Instant::now() + pace.wall(RESTART_AFTER));
                }
            }
        }
    }
}

/// What the leader's loop wakes up for.
enum Wake {
    Link(Change<Link>),
    Secret(Arc<Secret>),
    Retry,
    Stopped(String),
}

impl Wake {
    async fn next(
        links: &mut mpsc::UnboundedReceiver<Change<Link>>,
        secrets: &mut Credentials,
        served: Option<&mut Served>,
    ) -> Self {
        let (running, retry) = match served {
            Some(served) => (served.running.as_mut(), served.retry),
            None => (None, None),
        };
        let stopped = async {
            match running {
                Some(Running(task)) => match task.await {
                    Ok(Ok(never)) => match never {},
                    Ok(Err(error)) => error,
                    Err(error) => format!("the cluster watcher ended: {error}"),
                },
                None => std::future::pending().await,
            }
        };
        let retry = async {
            match retry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(change) = links.recv() => Self::Link(change),
            secret = secrets.next() => Self::Secret(secret),
            error = stopped => Self::Stopped(error),
            () = retry => Self::Retry,
        }
    }
}

/// The watch on the Secret with the credentials. Dropping it ends the watch.
struct Credentials {
    _informer: Informer<Secret>,
    changes: mpsc::UnboundedReceiver<Change<Secret>>,
}

impl Credentials {
    async fn next(&mut self) -> Arc<Secret> {
        loop {
            match self.changes.recv().await {
                Some(Change::Added(secret) | Change::Updated(secret)) => return secret,
                Some(Change::Deleted(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// The Role of a controller lets it watch the Secret of that very name.
fn watch_credentials(place: &Place, local: &Local, link: &str) -> Credentials {
    let informer = Informer::start(
        Api::<Secret>::namespaced(local.client.clone(), &place.arguments.namespace),
        Some(&format!("metadata.name={}", credentials_secret(link))),
        place.model.pace(),
        place.log.clone(),
    );
    Credentials {
        changes: informer.subscribe(),
        _informer: informer,
    }
}

/// Loads the credentials and starts the watcher, or plans to try again.
async fn start(place: &Place, local: &Arc<Local>, link: Arc<Link>) -> Served {
    let mut served = Served {
        link: link.clone(),
        kubeconfig: None,
        running: None,
        retry: None,
    };
    match load_credentials(place, local, &link).await {
        Ok(kubeconfig) => {
            served.kubeconfig = Some(kubeconfig.clone());
            let watcher = watcher::run(place.clone(), link, local.clone(), kubeconfig);
            served.running = Some(Running(tokio::spawn(Box::pin(watcher))));
        }
        Err(error) => {
            place
                .log
                .error(format!("Failed to load remote cluster credentials: {error}"));
            if !place.model.has(Defect::MissingCredentialsNeverRetried) {
                served.retry = Some(Instant::now() + place.model.pace().wall(RESTART_AFTER));
            }
        }
    }
    served
}

async fn load_credentials(place: &Place, local: &Local, link: &Link) -> Result<String, String> {
    let name = &link.spec.cluster_credentials_secret;
    let secret = Api::<Secret>::namespaced(local.client.clone(), &place.arguments.namespace)
        .get(name)
        .await
        .map_err(|error| format!("failed to load credentials secret {name}: {}", text(&error)))?;
    kubeconfig_of(&secret)
}

/// Never says what is in the Secret.
fn kubeconfig_of(secret: &Secret) -> Result<String, String> {
    if secret.type_.as_deref() != Some(REMOTE_KUBECONFIG_TYPE) {
        return Err(format!(
            "secret {} is not of type {REMOTE_KUBECONFIG_TYPE}",
            secret.name_any()
        ));
    }
    secret
        .data
        .as_ref()
        .and_then(|data| data.get(KUBECONFIG_KEY))
        .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        .ok_or_else(|| "secret should contain target cluster name as annotation and kubeconfig".to_owned())
}
