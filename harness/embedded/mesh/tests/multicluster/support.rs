//! Linked clusters for tests, and waiting for objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, LogParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use meshproof_apiserver::store::{Patch as StorePatch, Subresource};
use meshproof_apiserver::{Gvr, Selector, gvr};
use meshproof_cluster::fabric::{Fabric, FabricConfig};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::{ClusterConfig, EmbeddedCluster, ProgramRegistry};
use meshproof_mesh::defect::Defect;
use meshproof_mesh::install::{
    ControlPlaneValues, ControllerValues, LinkGenOptions, MulticlusterValues, Trust, control_plane, crds,
    gateway_api_crds, link_gen, multicluster, unlink,
};
use meshproof_mesh::model::{Model, ModelConfig};
use serde_json::{Value, json};

/// Scenario seconds per wall second.
pub(crate) const PACE: f64 = 10.0;
/// No test waits longer for anything, wall time; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Namespace of the tests' Services.
pub(crate) const NS: &str = "shop";
pub(crate) const MC: &str = "linkerd-multicluster";
pub(crate) const LINKS: Gvr = Gvr::constant("multicluster.linkerd.io", "v1alpha3", "links");

/// Clusters with the mesh installed.
pub(crate) struct Mesh {
    pub(crate) model: Model,
    pub(crate) fabric: Fabric,
    pub(crate) clusters: BTreeMap<String, Site>,
}

/// One of them.
pub(crate) struct Site {
    pub(crate) cluster: EmbeddedCluster,
    pub(crate) client: Client,
}

/// How a mesh is installed.
pub(crate) struct Plan<'a> {
    pub(crate) clusters: &'a [&'a str],
    /// Source and target of each link.
    pub(crate) links: &'a [(&'a str, &'a str)],
    pub(crate) defects: &'a [Defect],
    pub(crate) values: fn(MulticlusterValues) -> MulticlusterValues,
    /// More arguments of the service mirrors, as somebody adds them who edits the Deployment.
    pub(crate) mirror_arguments: &'a [&'a str],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            clusters: &["west", "east"],
            links: &[("west", "east")],
            defects: &[],
            values: |values| values,
            mirror_arguments: &[],
        }
    }
}

/// Three clusters, west linked to both others.
pub(crate) async fn triangle(defects: &[Defect]) -> Mesh {
    Mesh::start(Plan {
        clusters: &["west", "east", "north"],
        links: &[("west", "east"), ("west", "north")],
        defects,
        ..Plan::default()
    })
    .await
}

/// Two clusters, west linked to east.
pub(crate) async fn pair(defects: &[Defect]) -> Mesh {
    Mesh::start(Plan {
        defects,
        ..Plan::default()
    })
    .await
}

impl Mesh {
    pub(crate) async fn start(plan: Plan<'_>) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let pace = Pace::new(PACE);
        let fabric = Fabric::new(FabricConfig::new(pace));
        let programs = ProgramRegistry::standard();
        let model = Model::new(ModelConfig {
            defects: plan.defects.iter().copied().collect(),
            pace: Some(pace),
            seed: 7,
        });
        model.register(&programs);
        let starting =
            plan.clusters.iter().zip(0..).map(|(name, number)| {
                EmbeddedCluster::start(ClusterConfig::numbered(name, number), &fabric, &programs)
            });
        let mut clusters = BTreeMap::new();
        for cluster in join_all(starting).await {
            let cluster = cluster.unwrap();
            model.attach(&cluster);
            let client = client(&cluster.api().admin_kubeconfig(None)).await;
            clusters.insert(cluster.name().to_owned(), Site { cluster, client });
        }
        let mesh = Self {
            model,
            fabric,
            clusters,
        };
        mesh.install(&plan).await;
        for (source, target) in plan.links {
            mesh.link(source, target).await;
        }
        mesh
    }

    /// Inventory of a cluster `west` in which nothing is installed, apart from the tests' namespace.
    pub(crate) async fn bare() -> BTreeSet<String> {
        let fabric = Fabric::new(FabricConfig::new(Pace::new(PACE)));
        let config = ClusterConfig::numbered("west", 0);
        let cluster = EmbeddedCluster::start(config, &fabric, &ProgramRegistry::standard())
            .await
            .unwrap();
        let client = client(&cluster.api().admin_kubeconfig(None)).await;
        let site = Site { cluster, client };
        site.create(&gvr::NAMESPACES, "", json!({"metadata": {"name": NS}}));
        site.until_all(&gvr::SERVICE_ACCOUNTS, NS, "default account", |all| !all.is_empty())
            .await;
        site.inventory().await
    }

    async fn install(&self, plan: &Plan<'_>) {
        let root = authority("root.linkerd.cluster.local", None);
        let installing = self.clusters.iter().map(|(name, site)| {
            let issuer = authority("identity.linkerd.cluster.local", Some(&root));
            let trust = Trust {
                anchors: root.certificate.clone(),
                issuer_certificate: issuer.certificate,
                issuer_key: issuer.key.serialize_pem(),
            };
            let linked = plan.links.iter().filter(|(source, _)| source == name);
            let values = (plan.values)(MulticlusterValues {
                controllers: linked.map(|(_, target)| ControllerValues::new(*target)).collect(),
                ..MulticlusterValues::default()
            });
            async move {
                let defects = self.model.defects();
                let mut manifests = gateway_api_crds(&defects);
                manifests.extend(crds());
                manifests.extend(control_plane(&ControlPlaneValues::new(trust)));
                site.apply(&manifests).await;
                site.deployments_available("linkerd").await;
                let mut manifests = multicluster(&defects, &values);
                for manifest in &mut manifests {
                    let arguments = manifest.pointer_mut("/spec/template/spec/containers/0/args");
                    if let Some(arguments) = arguments.and_then(Value::as_array_mut)
                        && arguments[0] == "service-mirror"
                    {
                        let target = arguments.pop();
                        arguments.extend(plan.mirror_arguments.iter().map(|&argument| argument.into()));
                        arguments.extend(target);
                    }
                }
                site.apply(&manifests).await;
                site.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})])
                    .await;
                site.deployments_available(MC).await;
            }
        });
        join_all(installing).await;
    }

    /// Installs the extension again, with controllers for these targets.
    pub(crate) async fn install_controllers(&self, source: &str, targets: &[&str]) {
        let values = MulticlusterValues {
            controllers: targets.iter().map(|target| ControllerValues::new(*target)).collect(),
            ..MulticlusterValues::default()
        };
        self[source].apply(&multicluster(&self.model.defects(), &values)).await;
    }

    /// Link-gen against the target, applied to the source.
    pub(crate) async fn link(&self, source: &str, target: &str) {
        let manifests = self.link_manifests(target).await;
        self[source].apply(&manifests).await;
    }

    pub(crate) async fn link_manifests(&self, target: &str) -> Vec<Value> {
        let site = &self[target];
        // The load balancer's address appears a moment after the Service.
        site.until(&gvr::SERVICES, MC, "linkerd-gateway", "gateway address", |service| {
            service["spec"]["type"] != "LoadBalancer"
                || service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
        })
        .await;
        let balanced = site.get(&gvr::SERVICES, MC, "linkerd-gateway").and_then(|service| {
            let address = service.pointer("/status/loadBalancer/ingress/0/ip")?;
            address.as_str().map(str::to_owned)
        });
        let options = LinkGenOptions {
            gateway_addresses: Some(balanced.unwrap_or_else(|| site.cluster.node_address().to_string())),
            ..LinkGenOptions::new(target, site.cluster.virtual_api_url())
        };
        link_gen(&site.client, &self.model.defects(), &options).await.unwrap()
    }

    /// Deletes what unlinking prints.
    pub(crate) async fn unlink(&self, source: &str, target: &str) {
        let site = &self[source];
        let objects = unlink(&site.client, &self.model.defects(), target).await.unwrap();
        site.delete(&objects).await;
    }

    /// Wall time of so many scenario seconds.
    pub(crate) fn wall(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / PACE)
    }
}

impl std::ops::Index<&str> for Mesh {
    type Output = Site;

    fn index(&self, name: &str) -> &Site {
        &self.clusters[name]
    }
}

async fn client(kubeconfig: &str) -> Client {
    let parsed = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

struct Authority {
    certificate: String,
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
}

fn authority(name: &str, issuer: Option<&Authority>) -> Authority {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = match issuer {
        None => params.self_signed(&key).unwrap(),
        Some(issuer) => {
            let issuer = rcgen::Issuer::from_params(&issuer.params, &issuer.key);
            params.signed_by(&key, &issuer).unwrap()
        }
    };
    Authority {
        certificate: certificate.pem(),
        key,
        params,
    }
}

/// Plural names of the kinds that manifests use; custom ones are regular.
fn resource(object: &Value) -> ApiResource {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let lower = kind.to_lowercase();
    let plural = match kind {
        "Endpoints" => lower,
        _ if lower.ends_with('y') => format!("{}ies", &lower[..lower.len() - 1]),
        _ => format!("{lower}s"),
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural,
    }
}

impl Site {
    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let resource = resource(object);
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Server-side apply, one after the other.
    pub(crate) async fn apply(&self, objects: &[Value]) {
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let params = PatchParams::apply("test").force();
            self.api(object)
                .patch(name, &params, &Patch::Apply(object))
                .await
                .unwrap_or_else(|error| panic!("apply {} {name}: {error}", object["kind"]));
        }
    }

    /// Everything in the cluster but events and what Kubernetes' own controllers name at random, as `kind namespace/name`.
    pub(crate) async fn inventory(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let discovery = kube::discovery::Discovery::new(self.client.clone())
            .exclude(&["events.k8s.io", "metrics.k8s.io"])
            .run()
            .await
            .unwrap();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let skipped = ["Event", "Pod", "ReplicaSet", "EndpointSlice"].contains(&resource.kind.as_str());
                if skipped || !capabilities.supports_operation("list") {
                    continue;
                }
                let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                for object in all.list(&Default::default()).await.unwrap() {
                    let metadata = object.metadata;
                    found.insert(format!(
                        "{} {}/{}",
                        resource.kind,
                        metadata.namespace.unwrap_or_default(),
                        metadata.name.unwrap_or_default()
                    ));
                }
            }
        }
        found
    }

    /// Waits until the inventory is `wanted`.
    pub(crate) async fn until_inventory(&self, wanted: &BTreeSet<String>) {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.inventory().await;
            if found == *wanted {
                return;
            }
            let more: Vec<_> = found.difference(wanted).collect();
            let missing: Vec<_> = wanted.difference(&found).collect();
            assert!(Instant::now() < end, "too much: {more:#?}\nmissing: {missing:#?}");
            tokio::time::sleep(Mesh::wall(1.0)).await;
        }
    }

    /// What `kubectl delete --ignore-not-found` does.
    pub(crate) async fn delete(&self, objects: &[Value]) {
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            match self.api(object).delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => panic!("delete {} {name}: {error}", object["kind"]),
            }
        }
    }

    pub(crate) async fn deployments_available(&self, namespace: &str) {
        self.until_all(&gvr::DEPLOYMENTS, namespace, "deployments available", |all| {
            !all.is_empty()
                && all.iter().all(|deployment| {
                    deployment["status"]["availableReplicas"] == deployment["spec"]["replicas"]
                        && deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
                })
        })
        .await;
    }

    pub(crate) fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Arc<Value>> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.cluster
            .store()
            .list(gvr, namespace, &Selector::all())
            .map(|list| list.items)
            .unwrap_or_default()
    }

    pub(crate) fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.cluster.store().get(gvr, namespace, name).ok()
    }

    pub(crate) fn create(&self, gvr: &Gvr, namespace: &str, object: Value) -> Arc<Value> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.cluster.store().create(gvr, namespace, object).unwrap()
    }

    pub(crate) fn patch(&self, gvr: &Gvr, namespace: &str, name: &str, patch: Value) {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.cluster
            .store()
            .patch(gvr, namespace, name, &StorePatch::Merge(patch))
            .unwrap();
    }

    pub(crate) fn scale(&self, namespace: &str, deployment: &str, replicas: u32) {
        self.patch(
            &gvr::DEPLOYMENTS,
            namespace,
            deployment,
            json!({"spec": {"replicas": replicas}}),
        );
    }

    /// Scales to nothing and waits until no pod is left.
    pub(crate) async fn stop(&self, deployment: &str) {
        self.scale(MC, deployment, 0);
        self.until_all(&gvr::PODS, MC, "pods gone", |pods| {
            !pods.iter().any(|pod| {
                pod["metadata"]["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with(deployment))
            })
        })
        .await;
    }

    /// Scales to one and waits until it is available.
    pub(crate) async fn start(&self, deployment: &str) {
        self.scale(MC, deployment, 1);
        self.deployments_available(MC).await;
    }

    pub(crate) fn remove(&self, gvr: &Gvr, namespace: &str, name: &str) {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.cluster
            .store()
            .delete(gvr, namespace, name, &Default::default())
            .unwrap();
    }

    /// A Service with these labels and, unless `ready` is `None`, hand-made Endpoints with one address.
    pub(crate) fn service(&self, name: &str, labels: Value, ready: Option<bool>) {
        self.create(
            &gvr::SERVICES,
            NS,
            json!({
                "metadata": {"name": name, "labels": labels},
                "spec": {"ports": [
                    {"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"},
                    {"name": "raw", "port": 9090, "targetPort": 9090, "protocol": "TCP"}
                ]}
            }),
        );
        if let Some(ready) = ready {
            self.create(
                &gvr::ENDPOINTS,
                NS,
                json!({"metadata": {"name": name, "labels": labels}, "subsets": subsets(ready)}),
            );
        }
    }

    /// An exported Service with a ready address.
    pub(crate) fn export(&self, name: &str) {
        self.service(name, exported(), Some(true));
    }

    /// Replaces the hand-made Endpoints of a Service.
    pub(crate) fn set_subsets(&self, name: &str, subsets: Value) {
        self.cluster
            .store()
            .modify(&gvr::ENDPOINTS, Some(NS), name, Subresource::Main, |endpoints| {
                endpoints["subsets"] = subsets;
                true
            })
            .unwrap();
    }

    pub(crate) async fn until_all(
        &self,
        gvr: &Gvr,
        namespace: &str,
        what: &str,
        fits: impl Fn(&[Arc<Value>]) -> bool,
    ) -> Vec<Arc<Value>> {
        let mut changes = self.cluster.store().informer(gvr, None, &Selector::all()).unwrap();
        let waiting = async {
            loop {
                let now = self.list(gvr, namespace);
                if fits(&now) {
                    return now;
                }
                changes.next().await.unwrap().unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!(
                "not seen in time: {what} in {}; there is {:#?}\n{}",
                self.cluster.name(),
                self.list(gvr, namespace),
                self.story().await
            ),
        }
    }

    /// Waits until the named object satisfies `fits`.
    pub(crate) async fn until(
        &self,
        gvr: &Gvr,
        namespace: &str,
        name: &str,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Arc<Value> {
        let named = |all: &[Arc<Value>]| {
            all.iter()
                .any(|object| object["metadata"]["name"] == name && fits(object))
        };
        let all = self.until_all(gvr, namespace, what, named).await;
        all.into_iter()
            .find(|object| object["metadata"]["name"] == name)
            .unwrap()
    }

    pub(crate) async fn until_gone(&self, gvr: &Gvr, namespace: &str, name: &str) {
        self.until_all(gvr, namespace, &format!("{name} gone"), |all| {
            !all.iter().any(|object| object["metadata"]["name"] == name)
        })
        .await;
    }

    /// Checks for `seconds` of scenario time that the named object satisfies `holds` all along.
    pub(crate) async fn holds(
        &self,
        gvr: &Gvr,
        namespace: &str,
        name: &str,
        seconds: f64,
        holds: impl Fn(Option<&Value>) -> bool,
    ) {
        let mut changes = self.cluster.store().informer(gvr, None, &Selector::all()).unwrap();
        let end = tokio::time::Instant::now() + Mesh::wall(seconds);
        loop {
            let now = self.get(gvr, namespace, name);
            if !holds(now.as_deref()) {
                panic!("{gvr} {name} became {now:#?}\n{}", self.story().await);
            }
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                _ = changes.next() => {}
            }
        }
    }

    /// Waits for a mirror Service.
    pub(crate) async fn mirror(&self, name: &str) -> Arc<Value> {
        self.until(&gvr::SERVICES, NS, name, &format!("mirror {name}"), |_| true)
            .await
    }

    /// Waits until mirror Endpoints are in this state.
    pub(crate) async fn endpoints(&self, name: &str, state: State) -> Arc<Value> {
        self.until(&gvr::ENDPOINTS, NS, name, &format!("{name} {state:?}"), |endpoints| {
            State::of(endpoints) == state
        })
        .await
    }

    /// The condition in `Link.status` about a remote Service: status, reason and message.
    pub(crate) fn condition(&self, link: &str, service: &str) -> Option<(String, String, String)> {
        condition(&*self.get(&LINKS, MC, link)?, service)
    }

    /// Waits until the condition about a remote Service carries `message`.
    pub(crate) async fn until_message(&self, link: &str, service: &str, message: &str) {
        let fits = |link: &Value| condition(link, service).is_some_and(|found| found.2 == message);
        self.until(&LINKS, MC, link, &format!("{service}: {message}"), fits)
            .await;
    }

    pub(crate) async fn until_condition(&self, link: &str, service: &str, wanted: Option<(&str, &str)>) -> String {
        let fits = |link: &Value| {
            let found = condition(link, service);
            match (&found, wanted) {
                (Some((status, reason, _)), Some(wanted)) => (status.as_str(), reason.as_str()) == wanted,
                (None, None) => true,
                _ => false,
            }
        };
        self.until(&LINKS, MC, link, &format!("{service}: {wanted:?}"), fits)
            .await;
        self.condition(link, service).map(|found| found.2).unwrap_or_default()
    }

    /// The page that a pod's `/metrics` on `port` serves, read through a port-forward.
    pub(crate) async fn metrics(&self, pod: &str, port: u16) -> Option<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), MC);
        let mut forward = pods.portforward(pod, &[port]).await.ok()?;
        let stream = forward.take_stream(port)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .ok()?;
        tokio::spawn(connection);
        let request = http::Request::get("/metrics")
            .header("host", "localhost")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.ok()?;
        String::from_utf8(body.to_bytes().to_vec()).ok()
    }

    /// A metric of the controller for `link`.
    pub(crate) async fn controller_metric(&self, link: &str, series: &str) -> Option<f64> {
        let pod = self.controller_pod(link)?;
        let page = self.metrics(&pod, 9999).await?;
        page.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a metric of the controller has a value that fits.
    pub(crate) async fn until_metric(&self, link: &str, series: &str, fits: impl Fn(f64) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.controller_metric(link, series).await;
            if value.is_some_and(&fits) {
                return;
            }
            assert!(Instant::now() < end, "{series} is {value:?}\n{}", self.story().await);
            tokio::time::sleep(Mesh::wall(0.5)).await;
        }
    }

    /// Name of the newest pod of the controller for `link`.
    pub(crate) fn controller_pod(&self, link: &str) -> Option<String> {
        let pods = self.list(&gvr::PODS, MC);
        pods.iter()
            .filter(|pod| {
                pod["metadata"]["labels"]["mirror.linkerd.io/cluster-name"] == link
                    && pod["metadata"]["deletionTimestamp"].is_null()
            })
            .max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().map(str::to_owned))
            .and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
    }

    pub(crate) async fn log(&self, pod: &str, container: &str) -> String {
        let params = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        Api::<Pod>::namespaced(self.client.clone(), MC)
            .logs(pod, &params)
            .await
            .unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// Logs and states of the extension's pods, for a failure's message.
    pub(crate) async fn story(&self) -> String {
        let mut story: Vec<String> = self
            .list(&gvr::EVENTS, "")
            .iter()
            .map(|event| {
                let object = &event["involvedObject"];
                format!(
                    "event {} {}: {} {}",
                    object["kind"], object["name"], event["reason"], event["message"]
                )
            })
            .collect();
        for pod in self.list(&gvr::PODS, MC) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            story.push(format!("pod {name}: {}", pod["status"]["containerStatuses"]));
            if name.starts_with("controller-") {
                let previous = LogParams {
                    container: Some("controller".to_owned()),
                    previous: true,
                    ..LogParams::default()
                };
                let pods = Api::<Pod>::namespaced(self.client.clone(), MC);
                story.push(pods.logs(name, &previous).await.unwrap_or_default());
                story.push(self.log(name, "controller").await);
            }
        }
        story.join("\n")
    }
}

fn condition(link: &Value, service: &str) -> Option<(String, String, String)> {
    let entry = link["status"]["mirrorServices"]
        .as_array()?
        .iter()
        .find(|entry| entry["remoteRef"]["name"] == service)?;
    let condition = &entry["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// What mirror Endpoints say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    NotReady,
    Empty,
}

impl State {
    pub(crate) fn of(endpoints: &Value) -> Self {
        let has = |field: &str| {
            endpoints["subsets"]
                .as_array()
                .is_some_and(|subsets| subsets.iter().any(|subset| subset[field][0].is_object()))
        };
        if has("addresses") {
            Self::Ready
        } else if has("notReadyAddresses") {
            Self::NotReady
        } else {
            Self::Empty
        }
    }
}

pub(crate) fn exported() -> Value {
    json!({"app": "store", "mirror.linkerd.io/exported": "true"})
}

/// Subsets with one address that is ready or not.
pub(crate) fn subsets(ready: bool) -> Value {
    let field = if ready { "addresses" } else { "notReadyAddresses" };
    json!([{field: [{"ip": "198.19.2.77"}], "ports": [
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "raw", "port": 9090, "protocol": "TCP"}
    ]}])
}

/// Scenario seconds since `start`.
pub(crate) fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * PACE
}
