//! Inventories: everything that is in some clusters, by discovery.
//!
//! Left out, because it changes by itself and says nothing about what anybody made:
//! * Events, Leases (except where residue of a link or of the mesh is looked for), Nodes, ComponentStatuses, and kinds of the groups `metrics.k8s.io` and `authentication.k8s.io`;
//! * ReplicaSets without replicas, which a Deployment keeps of earlier templates;
//! * ConfigMaps `kube-root-ca.crt`, and in kube-system those of leader election and the API server;
//! * of each object: status, managedFields, resourceVersion, generation, annotations by which controllers count
//!   (`deployment.kubernetes.io/revision`, `endpoints.kubernetes.io/last-change-trigger-time`), and labels by which the API
//!   server notes the use of token Secrets (`kubernetes.io/legacy-token-last-used`).
//!
//! Names that controllers draw at random (pods, replica sets, slices, controller revisions) are replaced by their owner's,
//! so that a restart is no change while an additional pod is one. Contents of Secrets are compared by digest only.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use kube::api::ListParams;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope};
use meshproof_spec::scenario::InventoryStep;
use meshproof_verdict::question::Observation;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::{ErrorClass, Requests, dynamic, text_at, to_json};
use crate::environment::Cluster;
use crate::plan::hex;
use crate::problem::Problem;
use crate::scene::Scene;
use crate::testbed::Testbed;

/// Time for taking an inventory of one cluster (scenario time).
const INVENTORY_TIME: Duration = Duration::from_secs(120);
/// Objects per page of a list.
const PAGE: u32 = 500;

/// Kinds that change by themselves.
const NOISE: [&str; 3] = ["Event", "Node", "ComponentStatus"];
/// Groups whose objects are computed, not stored.
const COMPUTED_GROUPS: [&str; 3] = ["metrics.k8s.io", "authentication.k8s.io", "authorization.k8s.io"];
/// Kinds whose objects controllers name at random.
const RANDOM_NAMES: [&str; 4] = ["Pod", "ReplicaSet", "EndpointSlice", "ControllerRevision"];
/// Annotations by which controllers count.
const COUNTING: [&str; 3] = [
    "deployment.kubernetes.io/revision",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/restartedAt",
];

/// Labels that the API server and its controllers write on token Secrets when somebody uses them, or has not for a year
/// (`LegacyServiceAccountTokenTracking`, since Kubernetes 1.28).
const TRACKING: [&str; 2] = [
    "kubernetes.io/legacy-token-last-used",
    "kubernetes.io/legacy-token-invalid-since",
];

/// An object: where it is and what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Cluster.
    pub cluster: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster scope.
    pub namespace: String,
    /// Name, or the owner's for names that are drawn at random.
    pub name: String,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cluster,
            kind,
            namespace,
            name,
        } = self;
        match namespace.as_str() {
            "" => write!(f, "{cluster} {kind} {name}"),
            _ => write!(f, "{cluster} {kind} {namespace}/{name}"),
        }
    }
}

/// Everything in some clusters at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Digests of the objects of each entry, sorted.
    pub entries: BTreeMap<Entry, Vec<String>>,
    /// Resource of each kind, to be watched.
    pub resources: BTreeMap<String, ApiResource>,
}

/// `inventory`
pub(crate) async fn remember(scene: &mut Scene, step: &InventoryStep) -> Result<(), Problem> {
    let clusters: Vec<String> = step.r#in.0.iter().map(|name| name.0.clone()).collect();
    let inventory = take(&scene.testbed, &scene.run.requests, &clusters, |_, object| {
        !is_lease(object)
    })
    .await?;
    scene.inventories.insert(step.name.0.clone(), inventory);
    Ok(())
}

/// Lists everything in some clusters that `wanted` wants (called with the cluster's name and the object).
pub(crate) async fn take(
    testbed: &Testbed,
    requests: &Requests,
    clusters: &[String],
    wanted: impl Fn(&str, &Value) -> bool + Sync,
) -> Result<Inventory, Problem> {
    let wanted = &wanted;
    let taken = try_join_all(
        clusters
            .iter()
            .map(|name| async move { take_one(requests, testbed.cluster(name)?, wanted).await }),
    )
    .await?;
    let mut all = Inventory::default();
    for one in taken {
        all.entries.extend(one.entries);
        all.resources.extend(one.resources);
    }
    Ok(all)
}

async fn take_one(
    requests: &Requests,
    cluster: &Cluster,
    wanted: &(impl Fn(&str, &Value) -> bool + Sync),
) -> Result<Inventory, Problem> {
    let mut inventory = Inventory::default();
    for (resource, objects) in listed(requests, cluster).await? {
        inventory.resources.insert(resource.kind.clone(), resource);
        for object in objects {
            if wanted(&cluster.name, &object) {
                inventory
                    .entries
                    .entry(entry(&cluster.name, &object))
                    .or_default()
                    .push(digest(&object));
            }
        }
    }
    for digests in inventory.entries.values_mut() {
        digests.sort_unstable();
    }
    Ok(inventory)
}

/// All objects of a cluster by resource, as the head of this module says but with Leases: each has its `apiVersion` and
/// `kind`. Resources without objects are there, too.
///
/// # Errors
/// A [`Problem`] when the API server does not tell everything in time.
pub async fn listed(requests: &Requests, cluster: &Cluster) -> Result<Vec<(ApiResource, Vec<Value>)>, Problem> {
    let what = format!("{}: discover all kinds", cluster.name);
    // Two requests where the server knows aggregated discovery (Kubernetes 1.27 and newer), else one for each group.
    let aggregated = requests.send(&what, INVENTORY_TIME, || {
        Discovery::new(cluster.client.clone()).run_aggregated()
    });
    let discovery = match aggregated.await {
        Ok(discovery) => discovery,
        Err(_) => {
            let each = requests.send(&what, INVENTORY_TIME, || Discovery::new(cluster.client.clone()).run());
            each.await?
        }
    };
    let kinds: Vec<ApiResource> = discovery
        .groups()
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
        .filter(|(resource, capabilities)| {
            let listed = capabilities.supports_operation("list");
            let stored =
                !COMPUTED_GROUPS.contains(&resource.group.as_str()) && !NOISE.contains(&resource.kind.as_str());
            let scoped = matches!(capabilities.scope, Scope::Cluster | Scope::Namespaced);
            listed && stored && scoped
        })
        .map(|(resource, _)| resource)
        .collect();
    let lists = try_join_all(kinds.iter().map(|resource| list(requests, cluster, resource))).await?;
    let mut all = Vec::with_capacity(kinds.len());
    for (resource, mut objects) in kinds.into_iter().zip(lists) {
        objects.retain(|object| !is_noise(object));
        all.push((resource, objects));
    }
    Ok(all)
}

async fn list(requests: &Requests, cluster: &Cluster, resource: &ApiResource) -> Result<Vec<Value>, Problem> {
    let api = dynamic(&cluster.client, resource, None);
    let what = format!("{}: list {}", cluster.name, resource.plural);
    let mut objects = Vec::new();
    let mut parameters = ListParams {
        limit: Some(PAGE),
        ..ListParams::default()
    };
    loop {
        let page = match requests.send(&what, INVENTORY_TIME, || api.list(&parameters)).await {
            Ok(page) => page,
            // The kind was removed meanwhile, and its objects with it.
            Err(error) if error.class == ErrorClass::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        objects.extend(page.items.into_iter().map(|object| to_json(object, resource)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(objects),
        }
    }
}

fn is_noise(object: &Value) -> bool {
    // A Deployment keeps the empty sets of its earlier templates.
    if text_at(object, "/kind") == "ReplicaSet" && object.pointer("/spec/replicas") == Some(&Value::from(0)) {
        return true;
    }
    if text_at(object, "/kind") != "ConfigMap" {
        return false;
    }
    let name = text_at(object, "/metadata/name");
    name == "kube-root-ca.crt"
        || (text_at(object, "/metadata/namespace") == "kube-system"
            && (name.starts_with("extension-apiserver") || name.starts_with("kube-apiserver")))
}

/// Leases are renewed all the time. They count only where it is asked whose they are.
pub(crate) fn is_lease(object: &Value) -> bool {
    text_at(object, "/kind") == "Lease"
}

/// Where an object is, with the owner's name instead of one that was drawn at random.
fn entry(cluster: &str, object: &Value) -> Entry {
    let kind = text_at(object, "/kind");
    let own = text_at(object, "/metadata/name");
    let label = |name: &str| {
        object
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(name))
            .and_then(Value::as_str)
    };
    let name = if RANDOM_NAMES.contains(&kind) {
        let generated = text_at(object, "/metadata/generateName").trim_end_matches('-');
        match (label("kubernetes.io/service-name"), label("pod-template-hash")) {
            (Some(service), _) => format!("{service}-*"),
            (None, Some(hash)) => {
                let base = if generated.is_empty() { own } else { generated };
                format!("{}-*", base.trim_end_matches(hash).trim_end_matches('-'))
            }
            (None, None) if !generated.is_empty() => format!("{generated}-*"),
            (None, None) => own.to_owned(),
        }
    } else {
        own.to_owned()
    };
    Entry {
        cluster: cluster.to_owned(),
        kind: kind.to_owned(),
        namespace: text_at(object, "/metadata/namespace").to_owned(),
        name,
    }
}

/// Digest of what somebody wanted an object to be. Objects that controllers make anew are all alike.
#[must_use]
pub fn digest(object: &Value) -> String {
    if RANDOM_NAMES.contains(&text_at(object, "/kind")) {
        return String::new();
    }
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| {
                matches!(
                    key.as_str(),
                    "labels" | "annotations" | "finalizers" | "ownerReferences" | "deletionTimestamp"
                )
            });
            for (field, noise) in [("annotations", &COUNTING[..]), ("labels", &TRACKING)] {
                if let Some(texts) = metadata.get_mut(field).and_then(Value::as_object_mut) {
                    texts.retain(|key, _| !noise.contains(&key.as_str()));
                    if texts.is_empty() {
                        metadata.remove(field);
                    }
                }
            }
        }
        // The template's annotations tell when it was restarted.
        if let Some(annotations) = map
            .get_mut("spec")
            .and_then(|spec| spec.pointer_mut("/template/metadata/annotations"))
            .and_then(Value::as_object_mut)
        {
            annotations.retain(|key, _| !COUNTING.contains(&key.as_str()));
        }
    }
    hex(&Sha256::digest(object.to_string().as_bytes()))
}

/// What differs between what should be there and what is there. A changed object is both missing (as it was) and
/// unexpected (as it is).
#[must_use]
pub fn difference(expected: &Inventory, found: &Inventory) -> Observation {
    let mut unexpected = Vec::new();
    let mut missing = Vec::new();
    for (entry, digests) in &found.entries {
        match expected.entries.get(entry) {
            None => unexpected.push(entry.to_string()),
            Some(before) if before.len() < digests.len() => {
                unexpected.push(format!("{entry} ({} instead of {})", digests.len(), before.len()));
            }
            Some(before) if before.len() == digests.len() && before != digests => {
                unexpected.push(format!("{entry} (changed)"));
            }
            Some(_) => {}
        }
    }
    for (entry, before) in &expected.entries {
        match found.entries.get(entry) {
            None => missing.push(entry.to_string()),
            Some(digests) if digests.len() < before.len() => {
                missing.push(format!("{entry} ({} instead of {})", digests.len(), before.len()));
            }
            Some(_) => {}
        }
    }
    Observation::Inventory { unexpected, missing }
}

/// Kinds and clusters of the entries that differ.
#[must_use]
pub fn differing(expected: &Inventory, found: &Inventory) -> std::collections::BTreeSet<(String, String)> {
    let differs = |entry: &&Entry| expected.entries.get(*entry) != found.entries.get(*entry);
    expected
        .entries
        .keys()
        .chain(found.entries.keys())
        .filter(differs)
        .map(|entry| (entry.cluster.clone(), entry.kind.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Inventory, difference, digest, entry};
    use meshproof_verdict::question::Observation;
    use serde_json::{Value, json};

    fn inventory(objects: &[Value]) -> Inventory {
        let mut inventory = Inventory::default();
        for object in objects {
            inventory
                .entries
                .entry(entry("west", object))
                .or_default()
                .push(digest(object));
        }
        for digests in inventory.entries.values_mut() {
            digests.sort_unstable();
        }
        inventory
    }

    fn service(name: &str, port: u16) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "resourceVersion": "7", "uid": "u"},
            "spec": {"ports": [{"port": port}]},
        })
    }

    fn pod(name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "generateName": "store-7f9c-",
                "labels": {"pod-template-hash": "7f9c"},
            },
        })
    }

    fn told(expected: &[Value], found: &[Value]) -> (Vec<String>, Vec<String>) {
        match difference(&inventory(expected), &inventory(found)) {
            Observation::Inventory { unexpected, missing } => (unexpected, missing),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_differs_when_only_bookkeeping_changed() {
        let mut later = service("store", 80);
        later["metadata"]["resourceVersion"] = json!("8");
        later["status"] = json!({"loadBalancer": {}});
        assert_eq!(told(&[service("store", 80)], &[later]), (vec![], vec![]));
    }

    #[test]
    fn the_use_of_a_token_changes_nothing_and_another_label_does() {
        let secret = |labels: Value| json!({"kind": "Secret", "metadata": {"name": "token", "labels": labels}, "data": {"token": "dA=="}});
        let used = secret(json!({"kubernetes.io/legacy-token-last-used": "2026-11-29"}));
        let told_off = secret(json!({"kubernetes.io/legacy-token-invalid-since": "2026-11-29"}));
        let mut bare = secret(json!({}));
        assert_eq!(
            told(std::slice::from_ref(&bare), std::slice::from_ref(&used)),
            (vec![], vec![])
        );
        assert_eq!(told(&[used], &[told_off]), (vec![], vec![]));
        if let Some(metadata) = bare["metadata"].as_object_mut() {
            metadata.remove("labels");
        }
        assert_eq!(
            told(std::slice::from_ref(&bare), &[secret(json!({}))]),
            (vec![], vec![])
        );
        let (unexpected, _) = told(&[bare], &[secret(json!({"team": "a"}))]);
        assert_eq!(unexpected, ["west Secret token (changed)"]);
    }

    #[test]
    fn additional_missing_and_changed_objects_are_named() {
        let (unexpected, missing) = told(
            &[service("a", 80), service("b", 80)],
            &[service("b", 81), service("c", 80)],
        );
        assert_eq!(unexpected, ["west Service shop/b (changed)", "west Service shop/c"]);
        assert_eq!(missing, ["west Service shop/a"]);
    }

    #[test]
    fn a_restarted_pod_is_the_same_and_an_additional_one_is_not() {
        assert_eq!(told(&[pod("store-7f9c-a")], &[pod("store-7f9c-b")]), (vec![], vec![]));
        let (unexpected, _) = told(&[pod("store-7f9c-a")], &[pod("store-7f9c-b"), pod("store-7f9c-c")]);
        assert_eq!(unexpected, ["west Pod shop/store-* (2 instead of 1)"]);
    }
}
