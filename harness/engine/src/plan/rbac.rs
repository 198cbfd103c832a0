//! What a plan asks of the clusters' APIs: the least rights with which it runs. Pure.
//!
//! The engine makes its own namespaces, whose names are known only when a run begins; RBAC knows no patterns of names, so
//! rights in them are rights in all namespaces. What a step does elsewhere is narrowed to the namespace, and to the object
//! where the verb allows that. Reading Secrets is asked for only when a step is about one; without it they are missing in
//! the evidence, and nothing else.

use std::collections::BTreeSet;

use kube::core::{ApiResource, GroupVersionKind};
use meshproof_spec::scenario::{Component, Expect, Fault, ObjectRef, Step};
use meshproof_spec::topology::Topology;
use serde_json::Value;

use super::permission::{Permission, manifests, without_covered};
use super::{Plan, ScenarioPlan};
use crate::api::text_at;
use crate::driver::{DriverCall, MeshDriver, RouteRequest};
use crate::kinds::{Kind, own};
use crate::plan::locks::is_cluster_scoped;
use crate::references;

/// Name of the ServiceAccount, roles and bindings, and of the account's namespace.
pub const ACCOUNT: &str = "meshproof";
/// What stands for the scenario's namespace in a step whose references are replaced.
const OWN_NAMESPACE: &str = "${namespace}";
/// Verbs of a server-side apply: Kubernetes asks for `create` as well when there is no such object yet.
const APPLY: [&str; 2] = ["create", "patch"];
/// Verbs of a watch.
const WATCH: [&str; 2] = ["list", "watch"];
/// Verbs of deleting what the run made: look at it, delete it, see it gone.
const REMOVE: [&str; 4] = ["get", "delete", "list", "watch"];
/// Kinds that are looked at in the scenario's namespace when a check does not pass.
const EVIDENCE: [&str; 7] = [
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Deployment",
    "ReplicaSet",
    "ServiceAccount",
    "ConfigMap",
];
/// Kinds whose objects give rights: to write them, one must have these rights or `escalate` and `bind`.
const GIVES_RIGHTS: [&str; 4] = ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"];

/// What a plan needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Permissions in each cluster, none of which another covers.
    pub permissions: BTreeSet<Permission>,
    /// Steps of which it can't be told what they need, each with place and reason.
    pub unknown: Vec<String>,
}

/// The objects with which a ServiceAccount has exactly the rights that a plan needs, to be applied to each of its
/// clusters. Steps that apply files are not covered: see [`needed`].
#[must_use]
pub fn rbac(plan: &Plan, driver: &dyn MeshDriver, installs: bool) -> Vec<Value> {
    manifests(&needed(plan, driver, installs).permissions, ACCOUNT, ACCOUNT)
}

/// What a plan needs in each cluster. `installs`: whether the harness installs the mesh itself, which takes every right:
/// it makes roles and webhooks.
#[must_use]
pub fn needed(plan: &Plan, driver: &dyn MeshDriver, installs: bool) -> Needed {
    let mut needed = Needed::default();
    let installs = installs || plan.environments.values().any(|environment| environment.own);
    if installs && !plan.environments.is_empty() {
        needed.permissions.insert(Permission::new("*", "*", "*"));
        return needed;
    }
    let mut collector = Collector {
        driver,
        needed,
        place: String::new(),
    };
    for environment in plan.environments.values() {
        collector.always(&environment.topology);
    }
    for scenario in plan.scenarios.iter().filter(|scenario| scenario.skip.is_none()) {
        collector.scenario(scenario);
    }
    let mut needed = collector.needed;
    needed.permissions = without_covered(needed.permissions);
    needed
}

struct Collector<'a> {
    driver: &'a dyn MeshDriver,
    needed: Needed,
    /// File and line of the present step.
    place: String,
}

impl Collector<'_> {
    fn add(&mut self, permission: Permission) {
        self.needed.permissions.insert(permission);
    }

    fn core(&mut self, resource: &str, verbs: &[&str]) {
        for verb in verbs {
            self.add(Permission::new("", resource, verb));
        }
    }

    fn own_kind(&mut self, kind: &str, verbs: &[&str]) {
        if let Some(kind) = own(kind) {
            self.kind(&kind, None, None, verbs);
        }
    }

    /// Verbs on a kind, in a namespace (everywhere when it is not known), on one object where the verb allows that.
    fn kind(&mut self, kind: &Kind, namespace: Option<&str>, name: Option<&str>, verbs: &[&str]) {
        let known = |text: &&str| !text.contains("${") && *text != "*";
        let namespace = namespace.filter(known).and_then(|namespace| kind.namespace(namespace));
        for verb in verbs {
            let mut permission = Permission::of(&kind.resource, verb);
            if let Some(namespace) = namespace {
                permission = permission.within(namespace);
            }
            let nameable = !matches!(*verb, "list" | "watch" | "create");
            // Objects of the scenario's own namespaces have names that others have as well; that narrows nothing.
            let foreign = namespace.is_some() || !kind.namespaced;
            if let Some(name) = name.filter(known).filter(|_| nameable && foreign) {
                permission = permission.named(name);
            }
            self.add(permission);
        }
    }

    fn driver(&mut self, call: DriverCall) {
        self.needed.permissions.extend(self.driver.permissions(call));
    }

    /// What bringing the clusters up, every scenario, its cleanup and its evidence need.
    fn always(&mut self, topology: &Topology) {
        // Facts of the clusters; the scenarios' namespaces.
        self.core("namespaces", &["get", "list", "watch", "create", "delete"]);
        self.core("serviceaccounts", &WATCH);
        self.driver(DriverCall::Facts);
        if !topology.links.is_empty() {
            self.driver(DriverCall::AwaitLink);
        }
        // What is left in a scenario's namespace, and the mesh's state as evidence.
        for resource in self.driver.kinds() {
            if resource.kind != "Secret" {
                self.add(Permission::of(&resource, "list"));
            }
        }
        for kind in EVIDENCE {
            self.own_kind(kind, &["list"]);
        }
        self.core("pods", &["list"]);
        self.core("pods/log", &["get"]);
        self.core("events", &["list"]);
        // A tunnel over a WebSocket is a GET; newer servers want `create` as well, as for the older protocol.
        self.core("pods/portforward", &["get", "create"]);
    }

    fn scenario(&mut self, scenario: &ScenarioPlan) {
        for (index, step) in scenario.scenario.scenario.steps.iter().enumerate() {
            self.place = format!("{}:{}", scenario.scenario.file, scenario.scenario.line(index));
            // An address of a node is no name of anything: such a step is taken as it stands.
            let resolved = references::resolve(step, OWN_NAMESPACE, &[], self.driver);
            self.step(resolved.as_ref().unwrap_or(step));
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Deploy(deploy) => {
                self.own_kind("ServiceAccount", &APPLY);
                self.own_kind("Deployment", &APPLY);
                self.own_kind("Deployment", &WATCH);
                self.own_kind("Pod", &WATCH);
                if deploy.service.is_some() {
                    self.own_kind("Service", &APPLY);
                    self.own_kind("EndpointSlice", &WATCH);
                }
            }
            Step::Export(_) | Step::Unexport(_) => self.own_kind("Service", &["patch"]),
            Step::Route(route) => self.route(&route.service.0),
            Step::Unroute(unroute) => {
                for kind in self.route_kinds(&unroute.service.0) {
                    self.kind(&kind, None, None, &["delete", "list", "watch"]);
                }
            }
            Step::Scale(scale) => self.workload(scale.component, scale.of.as_ref().map(|of| of.0.as_str())),
            Step::Restart(restart) => self.workload(restart.component, restart.of.as_ref().map(|of| of.0.as_str())),
            Step::Fault(fault) => self.fault(fault),
            Step::Rotate(rotate) if rotate.credentials.is_some() => self.driver(DriverCall::RotateCredentials),
            Step::Inventory(_) => self.everything(),
            Step::Apply(apply) => match &apply.manifest {
                Some(manifest) => self.apply(manifest),
                None => {
                    let file = apply.file.as_deref().unwrap_or_default();
                    self.unknown(&format!("the objects in {file} are known only when it is read"));
                }
            },
            Step::Patch(patch) => {
                let verbs: &[&str] = &["get", "patch"];
                self.object(&patch.object, verbs);
                self.own_rights(&patch.object.kind);
            }
            Step::Delete(delete) => {
                self.object(&delete.object, &REMOVE);
                // It is made again when the scenario is over.
                self.object(&delete.object, &["create"]);
                if delete.object.kind == "ServiceAccount" {
                    // Its tokens are seen to be refused.
                    let secrets = Permission::new("", "secrets", "list");
                    let namespace = delete.object.namespace.as_deref().unwrap_or(OWN_NAMESPACE);
                    self.add(secrets.within(namespace));
                }
            }
            Step::Expect(expect) => self.expect(expect),
            // These take every right, and only scenarios with clusters of their own have them.
            Step::Rotate(_)
            | Step::Link(_)
            | Step::Unlink(_)
            | Step::Install(_)
            | Step::Upgrade(_)
            | Step::Uninstall(_) => {}
            // What agents do is asked of them through their pods.
            Step::Behave(_)
            | Step::Call(_)
            | Step::Traffic(_)
            | Step::Stop(_)
            | Step::Heal(_)
            | Step::Namespace(_)
            | Step::Use(_) => {}
        }
    }

    fn unknown(&mut self, reason: &str) {
        let told = format!("{}: {reason}", self.place);
        self.needed.unknown.push(told);
    }

    /// The kind of a name, as the API most likely serves it.
    fn resource(&mut self, kind: &str, api: Option<&str>) -> Option<Kind> {
        if let Some(found) = own(kind).filter(|own| api.is_none_or(|api| api == own.resource.api_version)) {
            return Some(found);
        }
        let resource = self.driver.resource(kind, api).or_else(|| {
            let (group, version) = api?.split_once('/').unwrap_or(("", api?));
            // The plural is guessed as Kubernetes' own generators do.
            Some(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
        });
        if resource.is_none() {
            self.unknown(&format!("the kind `{kind}` is not known"));
        }
        Some(Kind {
            resource: resource?,
            namespaced: !is_cluster_scoped(kind),
        })
    }

    fn object(&mut self, object: &ObjectRef, verbs: &[&str]) {
        if let Some(kind) = self.resource(&object.kind, object.api.as_deref()) {
            self.kind(&kind, object.namespace.as_deref(), Some(&object.name), verbs);
        }
    }

    fn apply(&mut self, manifest: &Value) {
        let (kind, api) = (text_at(manifest, "/kind"), text_at(manifest, "/apiVersion"));
        let Some(found) = self.resource(kind, Some(api)) else {
            return;
        };
        let namespace = manifest.pointer("/metadata/namespace").and_then(Value::as_str);
        let name = Some(text_at(manifest, "/metadata/name"));
        self.kind(&found, namespace, name, &APPLY);
        let outside = !found.namespaced || namespace.is_some_and(|namespace| namespace != OWN_NAMESPACE);
        if outside {
            self.kind(&found, namespace, name, &REMOVE);
        }
        self.own_rights(kind);
    }

    /// Whoever gives rights must have them, or be told that it may.
    fn own_rights(&mut self, kind: &str) {
        if GIVES_RIGHTS.contains(&kind) {
            let verb = if kind.ends_with("Binding") { "bind" } else { "escalate" };
            // Binding is asked of the role that is bound.
            for role in ["Role", "ClusterRole"] {
                if verb == "bind" || role == kind {
                    self.own_kind(role, &[verb]);
                }
            }
        }
    }

    fn route_kinds(&mut self, service: &str) -> Vec<Kind> {
        let sample = RouteRequest {
            namespace: OWN_NAMESPACE.to_owned(),
            service: service.to_owned(),
            port: crate::scene::DEFAULT_PORT,
            backends: vec![(service.to_owned(), 1)],
            marker: String::new(),
        };
        // A mesh without routes refuses the step when it runs.
        let objects = self.driver.route(&sample).unwrap_or_default();
        objects
            .iter()
            .filter_map(|object| self.resource(text_at(object, "/kind"), Some(text_at(object, "/apiVersion"))))
            .collect()
    }

    fn route(&mut self, service: &str) {
        for kind in self.route_kinds(service) {
            self.kind(&kind, None, None, &APPLY);
        }
    }

    /// Scaling and restarting, of what was deployed or of a part of the mesh.
    fn workload(&mut self, component: Option<Component>, of: Option<&str>) {
        let place = component.map(|component| self.driver.component(component, of));
        let (namespace, name) = place.as_ref().map_or((None, None), |place| {
            (Some(place.namespace.as_str()), Some(place.name.as_str()))
        });
        for (kind, verbs) in [("Deployment", ["get", "patch"]), ("Deployment", WATCH), ("Pod", WATCH)] {
            if let Some(kind) = own(kind) {
                self.kind(&kind, namespace, name, &verbs);
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        if let Some(link) = &fault.steal_lease {
            let lease = self.driver.lease(&link.to.0);
            if let Some(kind) = own("Lease") {
                self.kind(&kind, Some(&lease.namespace), Some(&lease.name), &["get", "patch"]);
            }
        }
        if fault.deny_writes.is_some() {
            self.driver(DriverCall::DenyWrites);
        }
    }

    fn expect(&mut self, expect: &Expect) {
        if let Some(object) = &expect.object {
            self.look(&object.kind, object.api.as_deref(), object.namespace.as_deref());
        }
        if let Some(objects) = &expect.objects {
            self.look(&objects.kind, objects.api.as_deref(), objects.namespace.as_deref());
        }
        if expect.link.is_some() {
            self.driver(DriverCall::AwaitLink);
        }
        if expect.access.is_some() {
            self.add(Permission::new(
                "authorization.k8s.io",
                "subjectaccessreviews",
                "create",
            ));
        }
        if let Some(rejected) = &expect.rejected {
            match (&rejected.manifest, &rejected.file) {
                (Some(manifest), _) => {
                    let (kind, api) = (text_at(manifest, "/kind"), text_at(manifest, "/apiVersion"));
                    if let Some(kind) = self.resource(kind, Some(api)) {
                        let namespace = manifest.pointer("/metadata/namespace").and_then(Value::as_str);
                        self.kind(&kind, namespace, None, &["create"]);
                    }
                }
                (None, Some(file)) => self.unknown(&format!("the objects in {file} are known only when it is read")),
                (None, None) => {}
            }
        }
        if expect.unchanged.is_some() || expect.residue.is_some() {
            self.everything();
        }
    }

    fn look(&mut self, kind: &str, api: Option<&str>, namespace: Option<&str>) {
        if let Some(kind) = self.resource(kind, api) {
            self.kind(&kind, namespace, None, &WATCH);
        }
    }

    /// An inventory lists and watches whatever there is.
    fn everything(&mut self) {
        for verb in WATCH {
            self.add(Permission::new("*", "*", verb));
        }
    }
}
