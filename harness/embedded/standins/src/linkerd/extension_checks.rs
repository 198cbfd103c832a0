//! The fourteen checks of `linkerd multicluster check`, in the order and with the words of the real command.

use std::net::Ipv4Addr;

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::{Api, ResourceExt};
use meshproof_mesh::names::{
    CONTROLLER_CLUSTER_ROLE, KUBECONFIG_KEY, MULTICLUSTER_NAMESPACE, annotation, controller,
    controller_cluster_role_binding, credentials_role, label,
};
use serde_json::Value;

use super::checks::{Level, Outcome, Report, of_links, plain, until};
use super::cluster::Cluster;
use super::core_checks::is_ready;
use super::gateways;
use crate::exchange::{Failure, Terminal};
use crate::world::World;

const CATEGORY: &str = "linkerd-multicluster";
/// What the command's Kubernetes client warns of whenever it reads Endpoints, since Kubernetes 1.33.
const DEPRECATED: &str = "\"Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";

/// Two spaces deeper for each of Go's tabs: lines of a check's error.
fn indented(problems: &[String], depth: usize) -> Vec<String> {
    problems
        .iter()
        .map(|problem| format!("{}{problem}", "    ".repeat(depth)))
        .collect()
}

fn said<T>(result: Result<T, Failure>) -> Result<T, String> {
    result.map_err(|failure| failure.message)
}

/// Everything that a check needs.
struct Context<'a> {
    world: &'a World,
    cluster: &'a Cluster,
    terminal: &'a Terminal,
    links: Vec<Value>,
}

/// Runs them all.
pub(super) async fn run(world: &World, cluster: &Cluster, terminal: &Terminal, report: &mut Report) {
    let (fatal, error, warning) = (Level::Fatal, Level::Error, Level::Warning);
    let links = cluster.links().await;
    let crd = async { plain(said(links.as_ref().map(drop).map_err(Clone::clone)).map_err(missing_crd)) };
    report
        .check(
            CATEGORY,
            ("l5d-multicluster-link-crd-exists", "Link CRD exists", fatal),
            crd,
        )
        .await;
    let context = Context {
        world,
        cluster,
        terminal,
        links: links.unwrap_or_default(),
    };
    let deadline = report.deadline();
    let names = async { of_links(context.names(), &[]) };
    report
        .check(
            CATEGORY,
            ("l5d-multicluster-links-are-valid", "Link resources are valid", fatal),
            names,
        )
        .await;
    let versions = async { context.versions() };
    report
        .check(
            CATEGORY,
            ("l5d-multicluster-links-version", "Link and CLI versions match", warning),
            versions,
        )
        .await;
    let access = (
        "l5d-smc-target-clusters-access",
        "remote cluster access credentials are valid",
        error,
    );
    report.check(CATEGORY, access, context.credentials()).await;
    let anchors = (
        "l5d-multicluster-clusters-share-anchors",
        "clusters share trust anchors",
        error,
    );
    report.check(CATEGORY, anchors, context.anchors()).await;
    let rights = (
        "l5d-multicluster-source-rbac-correct",
        "service mirror controller has required permissions",
        error,
    );
    report.check(CATEGORY, rights, context.rights()).await;
    let running = (
        "l5d-multicluster-service-mirror-running",
        "service mirror controllers are running",
        error,
    );
    report
        .check(CATEGORY, running, until(deadline, || context.controllers().boxed()))
        .await;
    let managed = (
        "l5d-multicluster-managed-controllers",
        "extension is managing controllers",
        warning,
    );
    report.check(CATEGORY, managed, context.managed()).await;
    let alive = (
        "l5d-multicluster-gateways-endpoints",
        "probe services able to communicate with all gateway mirrors",
        error,
    );
    report.check(CATEGORY, alive, context.gateways()).await;
    let endpoints = (
        "l5d-multicluster-services-endpoints",
        "all mirror services have endpoints",
        error,
    );
    report
        .check(CATEGORY, endpoints, context.mirrors_have_endpoints())
        .await;
    let orphans = (
        "l5d-multicluster-orphaned-services",
        "all mirror services are part of a Link",
        warning,
    );
    report.check(CATEGORY, orphans, context.orphans()).await;
    let healthy = (
        "l5d-multicluster-proxy-healthy",
        "multicluster extension proxies are healthy",
        warning,
    );
    report
        .check(
            CATEGORY,
            healthy,
            until(deadline, || context.proxies_are_ready().boxed()),
        )
        .await;
    let latest = async {
        Err(format!(
            "failed to resolve version check server: https://versioncheck.linkerd.io/version.json?version={}&uuid=unknown&source=cli",
            cluster.version
        ))
    };
    let up_to_date = (
        "l5d-multicluster-proxy-cp-version",
        "multicluster extension proxies are up-to-date",
        warning,
    );
    report.check(CATEGORY, up_to_date, latest).await;
    let match_cli = (
        "l5d-multicluster-proxy-cli-version",
        "multicluster extension proxies and cli versions match",
        warning,
    );
    report.check(CATEGORY, match_cli, context.proxy_versions()).await;
}

fn missing_crd(error: String) -> String {
    format!("multicluster.linkerd.io/Link CRD is missing: {error}")
}

fn target(link: &Value) -> String {
    link["spec"]["targetClusterName"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

impl Context<'_> {
    fn names(&self) -> Vec<String> {
        self.links.iter().map(target).collect()
    }

    fn versions(&self) -> Outcome {
        let (mut fine, mut problems) = (Vec::new(), Vec::new());
        for link in &self.links {
            let name = target(link);
            let created_by = link["metadata"]["annotations"][annotation::CREATED_BY]
                .as_str()
                .unwrap_or_default();
            match created_by.strip_prefix("linkerd/cli ") {
                Some(version) if version == self.cluster.version => fine.push(name),
                Some(other) => problems.push(format!(
                    "* {name}: CLI version is {} but Link version is {other}",
                    self.cluster.version
                )),
                None => problems.push(format!("* {name}: unable to determine version")),
            }
        }
        of_links(fine, &indented(&problems, 2))
    }

    /// The target cluster by the credentials of a Link. What they say of its address is looked up among the nodes: the
    /// command runs outside of the clusters' network, from where a container engine's addresses are reachable.
    async fn remote(&self, link: &Value) -> Result<Cluster, String> {
        let secret = link["spec"]["clusterCredentialsSecret"].as_str().unwrap_or_default();
        let place = format!("{MULTICLUSTER_NAMESPACE}/{secret}");
        let secrets = Api::<Secret>::namespaced(self.cluster.client.clone(), MULTICLUSTER_NAMESPACE);
        let found = secrets
            .get(secret)
            .await
            .map_err(|error| format!("* secret: [{place}]: {}", super::words(&error.to_string())))?;
        let kubeconfig = found
            .data
            .and_then(|mut data| data.remove(KUBECONFIG_KEY))
            .and_then(|bytes| String::from_utf8(bytes.0).ok())
            .ok_or_else(|| format!("* secret: [{place}]: could not parse config secret: secret should contain target cluster name as annotation"))?;
        let mut value: Value = serde_yaml::from_str(&kubeconfig)
            .map_err(|error| format!("* secret: [{place}]: could not parse config secret: {error}"))?;
        let server = value["clusters"][0]["cluster"]["server"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let real = self.real_address(&server).await.ok_or_else(|| {
            format!(
                "* failed to connect to API for cluster: [{}]: Get \"{server}/version?timeout=30s\": no route to host",
                target(link)
            )
        })?;
        value["clusters"][0]["cluster"]["server"] = real.into();
        Cluster::from_text(&value.to_string(), None, self.cluster.version)
            .await
            .map_err(|error| {
                format!(
                    "* secret: [{place}] cluster: [{}]: unable to parse api config: {error}",
                    target(link)
                )
            })
    }

    async fn real_address(&self, server: &str) -> Option<String> {
        let host = server.strip_prefix("https://")?.split(':').next()?;
        let node = {
            let state = self.world.state();
            let address: Option<Ipv4Addr> = host.parse().ok();
            state
                .containers
                .values()
                .find(|node| Some(node.address) == address || node.name == host)?
                .clone()
        };
        let served = node.served.lock().await;
        served.as_ref().map(|cluster| cluster.api().url())
    }

    async fn credentials(&self) -> Outcome {
        let (mut fine, mut problems) = (Vec::new(), Vec::new());
        for link in &self.links {
            let name = target(link);
            match self.remote(link).await {
                Err(problem) => problems.push(problem),
                Ok(remote) => {
                    if let Err(error) = remote.client.apiserver_version().await {
                        problems.push(format!("* failed to connect to API for cluster: [{name}]: {error}"));
                    } else if let Err(failure) = remote.list(&Api::<Service>::all(remote.client.clone()), "").await {
                        problems.push(format!(
                            "* missing service permission [list] for cluster [{name}]: {}",
                            failure.message
                        ));
                    } else {
                        fine.push(name);
                    }
                }
            }
        }
        of_links(fine, &indented(&problems, 2))
    }

    async fn anchors(&self) -> Outcome {
        let anchors = |values: &Value| {
            values["identityTrustAnchorsPEM"]
                .as_str()
                .map(|text| text.trim().to_owned())
        };
        let own = anchors(&said(self.cluster.linkerd_values().await)?);
        let (mut fine, mut problems) = (Vec::new(), Vec::new());
        for link in &self.links {
            let name = target(link);
            let remote = match self.remote(link).await {
                Ok(remote) => remote,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            match remote.linkerd_values().await {
                Err(failure) => problems.push(format!("* {name}: unable to fetch anchors: {}", failure.message)),
                Ok(values) if anchors(&values) == own => fine.push(name),
                Ok(_) => problems.push(format!("* {name}")),
            }
        }
        of_links(fine, &indented(&problems, 1)).map_err(|lines| format!("Problematic clusters:\n{lines}"))
    }

    async fn rights(&self) -> Outcome {
        let client = &self.cluster.client;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), MULTICLUSTER_NAMESPACE);
        let roles = Api::<Role>::namespaced(client.clone(), MULTICLUSTER_NAMESPACE);
        let bindings = Api::<RoleBinding>::namespaced(client.clone(), MULTICLUSTER_NAMESPACE);
        let cluster_roles = Api::<ClusterRole>::all(client.clone());
        let cluster_bindings = Api::<ClusterRoleBinding>::all(client.clone());
        let mut problems = Vec::new();
        for name in self.names() {
            let (account, role, binding) = (
                controller(&name),
                credentials_role(&name),
                controller_cluster_role_binding(&name),
            );
            let found = [
                ("ServiceAccounts", &account, self.cluster.has(&accounts, &account).await),
                (
                    "ClusterRoles",
                    &CONTROLLER_CLUSTER_ROLE.to_owned(),
                    self.cluster.has(&cluster_roles, CONTROLLER_CLUSTER_ROLE).await,
                ),
                (
                    "ClusterRoleBindings",
                    &binding,
                    self.cluster.has(&cluster_bindings, &binding).await,
                ),
                ("Roles", &role, self.cluster.has(&roles, &role).await),
                ("RoleBindings", &role, self.cluster.has(&bindings, &role).await),
            ];
            for (kind, name, found) in found {
                if !said(found)? {
                    problems.push(format!("missing {kind}: {name}"));
                }
            }
        }
        of_links(self.names(), &problems)
    }

    async fn deployments(&self, link: &str) -> Result<Vec<Deployment>, String> {
        let selector = format!(
            "component in (service-mirror, linkerd-service-mirror, controller),{}={link}",
            label::CLUSTER_NAME
        );
        said(
            self.cluster
                .list(&Api::<Deployment>::all(self.cluster.client.clone()), &selector)
                .await,
        )
    }

    async fn controllers(&self) -> Outcome {
        let (mut fine, mut problems) = (Vec::new(), Vec::new());
        for name in self.names() {
            match self.deployments(&name).await?.as_slice() {
                [] => problems.push(format!("* no service mirror controller deployment for Link {name}")),
                [one] => {
                    let available = one.status.as_ref().and_then(|status| status.available_replicas);
                    if available.unwrap_or_default() < 1 {
                        let place = format!("{MULTICLUSTER_NAMESPACE}/{}", one.name_any());
                        problems.push(format!("* service mirror controller is not available: {place}"));
                    } else {
                        fine.push(name);
                    }
                }
                _ => problems.push(format!(
                    "* too many service mirror controller deployments for Link {name}"
                )),
            }
        }
        of_links(fine, &indented(&problems, 2))
    }

    async fn managed(&self) -> Outcome {
        let (mut fine, mut problems) = (Vec::new(), Vec::new());
        for name in self.names() {
            let found = self.deployments(&name).await?;
            match found
                .first()
                .map(|deployment| deployment.labels().get(label::COMPONENT))
            {
                None => {}
                Some(Some(component)) if component == "service-mirror" => {
                    problems.push(format!("* using legacy service mirror controller for Link: {name}"));
                }
                Some(_) => fine.push(name),
            }
        }
        of_links(fine, &indented(&problems, 2))
    }

    async fn endpoints(&self, service: &Service) -> Result<bool, String> {
        self.terminal.note(&format!("W {DEPRECATED}"));
        let api = Api::<Endpoints>::namespaced(self.cluster.client.clone(), &service.namespace().unwrap_or_default());
        let found = api
            .get_opt(&service.name_any())
            .await
            .map_err(|error| error.to_string())?;
        Ok(found
            .and_then(|endpoints| endpoints.subsets)
            .is_some_and(|subsets| !subsets.is_empty()))
    }

    async fn gateways(&self) -> Outcome {
        let (mut fine, mut problems) = (Vec::new(), Vec::new());
        for link in &self.links {
            // Linked without a gateway: nothing is probed.
            if !link["spec"]["gatewayAddress"].is_string() || !link["spec"]["probeSpec"]["path"].is_string() {
                continue;
            }
            let name = target(link);
            match self.gateway(&name).await {
                Ok(()) => fine.push(name),
                Err(problem) => problems.push(problem),
            }
        }
        of_links(fine, &indented(&problems, 1))
    }

    async fn gateway(&self, name: &str) -> Result<(), String> {
        let selector = format!("{},{}={name}", label::MIRRORED_GATEWAY, label::CLUSTER_NAME);
        let probes = said(
            self.cluster
                .list(&Api::<Service>::all(self.cluster.client.clone()), &selector)
                .await,
        )?;
        let [probe] = probes.as_slice() else {
            return Err(format!(
                "wrong number ({}) of probe gateways for target cluster {name}",
                probes.len()
            ));
        };
        if !self.endpoints(probe).await? {
            let place = format!("{}.{}", probe.name_any(), MULTICLUSTER_NAMESPACE);
            return Err(format!("{place} mirrored from cluster [{name}] has no endpoints"));
        }
        let read = said(gateways::metrics(self.cluster, Some(name)).await)
            .map_err(|error| format!("failed to get gateway metrics for target cluster {name}: {error}"))?;
        let [(_, metrics)] = read.as_slice() else {
            return Err(format!(
                "expected exactly one gateway metric for target cluster {name}; got {}",
                read.len()
            ));
        };
        let metrics = metrics
            .as_ref()
            .map_err(|error| format!("Failed to get gateway status for {name}: {error}\n"))?;
        if gateways::gauge(metrics, "gateway_alive", name).is_some_and(|alive| alive < 1.0) {
            return Err(format!("liveness checks failed for {name}"));
        }
        Ok(())
    }

    /// Services that controllers made, without those for probes.
    async fn mirrors(&self, also: &str) -> Result<Vec<Service>, String> {
        let selector = format!("{},!{}{also}", label::MIRRORED_SERVICE, label::MIRRORED_GATEWAY);
        said(
            self.cluster
                .list(&Api::<Service>::all(self.cluster.client.clone()), &selector)
                .await,
        )
    }

    async fn mirrors_have_endpoints(&self) -> Outcome {
        let mirrors = self.mirrors(",!multicluster.linkerd.io/remote-discovery").await?;
        if mirrors.is_empty() {
            return Ok(None);
        }
        let federated = |service: &&Service| {
            ["remote-discovery", "local-discovery"].iter().any(|key| {
                let value = service.annotations().get(&format!("multicluster.linkerd.io/{key}"));
                value.is_some_and(|value| !value.is_empty())
            })
        };
        let mut problems = Vec::new();
        for service in mirrors.iter().filter(|service| !federated(service)) {
            if !self.endpoints(service).await? {
                problems.push(format!(
                    "    {}.{} mirrored from cluster [{}]",
                    service.name_any(),
                    service.namespace().unwrap_or_default(),
                    service.labels().get(label::CLUSTER_NAME).map_or("", |name| name)
                ));
            }
        }
        if problems.is_empty() {
            return plain(Ok(()));
        }
        Err(format!(
            "Some mirror services do not have endpoints:\n{}",
            problems.join("\n")
        ))
    }

    async fn orphans(&self) -> Outcome {
        let mirrors = self.mirrors(&format!(",{}", label::CLUSTER_NAME)).await?;
        if mirrors.is_empty() {
            return Ok(None);
        }
        let names = self.names();
        let linked = |service: &&Service| {
            service
                .labels()
                .get(label::CLUSTER_NAME)
                .is_some_and(|name| names.contains(name))
        };
        let problems: Vec<String> = mirrors
            .iter()
            .filter(|service| !linked(service))
            .map(|service| {
                let namespace = service.namespace().unwrap_or_default();
                format!(
                    "mirror service {}.{namespace} is not part of any Link",
                    service.name_any()
                )
            })
            .collect();
        if problems.is_empty() {
            return plain(Ok(()));
        }
        Err(indented(&problems, 1).join("\n"))
    }

    /// Pods of the extension that have a proxy.
    async fn proxies(&self) -> Result<Vec<Pod>, String> {
        let pods = Api::<Pod>::namespaced(self.cluster.client.clone(), MULTICLUSTER_NAMESPACE);
        said(self.cluster.list(&pods, label::CONTROL_PLANE_NS).await)
    }

    async fn proxies_are_ready(&self) -> Outcome {
        if self.links.is_empty() {
            return plain(Ok(()));
        }
        match self.proxies().await?.iter().find(|pod| !is_ready(pod)) {
            None => plain(Ok(())),
            Some(pod) => Err(format!(
                "Some pods are not running:\n\t* The \"{}\" pod is not running",
                pod.name_any()
            )),
        }
    }

    async fn proxy_versions(&self) -> Outcome {
        let pods = self.proxies().await?;
        let other: Vec<String> = pods
            .iter()
            .filter_map(|pod| Some((pod, pod.annotations().get(annotation::PROXY_VERSION)?)))
            .filter(|(_, version)| *version != self.cluster.version)
            .map(|(pod, version)| format!("\t* {} ({version})", pod.name_any()))
            .collect();
        if other.is_empty() {
            return plain(Ok(()));
        }
        Err(format!(
            "some proxies are not running the current version:\n{}",
            other.join("\n")
        ))
    }
}
