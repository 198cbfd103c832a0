//! Removing everything from a cluster that was not in it when it was new, whatever mesh or scenario put it there.
//!
//! 1. What may stand in the way of removing: webhooks and policies that no longer have anybody to ask, and APIServices whose
//!    Service does not answer, which hold up discovery and with it the end of every namespace.
//! 2. Objects of kinds that go, as far as they have finalizers: whoever has to take these off is still there.
//! 3. The rest. What is in a namespace goes with it, and objects of a kind with its CustomResourceDefinition.
//!
//! Controllers that end may make something once more, and what they owned goes a little later: so it is looked again until
//! nothing is left. What pods wrote on nodes is not seen, nor are labels and taints of nodes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures::future::join_all;
use kube::api::ListParams;
use kube::core::ApiResource;
use meshproof_engine::api::{ErrorClass, Requests, Retries, dynamic, full_name, text_at, to_json};
use meshproof_engine::clock::Clock;
use meshproof_engine::environment::Cluster;
use meshproof_engine::kinds;
use meshproof_engine::watch::{WatchKey, Watches};
use serde_json::Value;
use tokio::time::Instant;

use super::contents::{Contents, Note, Object};

/// Kinds whose objects may stand in the way of removing others.
const IN_THE_WAY: [&str; 5] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "APIService",
];
/// Looks until what is there again and again counts as made by somebody who stays.
const LOOKS: usize = 6;
/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Objects that are told of many.
const TOLD: usize = 5;

/// How requests to a new or kept cluster are made.
pub(super) fn requests() -> Requests {
    Requests {
        clock: Clock::start(1.0),
        retries: Retries::default(),
    }
}

/// Removes everything that this note does not have, and looks that nothing of it is left.
///
/// # Errors
/// Why not, for people: what is left, or what is not as it was and can't be put back.
pub(super) async fn clear(cluster: &Cluster, note: &Note, within: Duration) -> Result<(), String> {
    let clearing = Clearing {
        cluster,
        requests: requests(),
        watches: Watches::new(std::slice::from_ref(cluster)),
        deadline: Instant::now() + within,
        within,
    };
    let cleared = clearing.all(note).await;
    cleared.map_err(|why| format!("cluster {}: {why}", cluster.name))
}

struct Clearing<'a> {
    cluster: &'a Cluster,
    requests: Requests,
    watches: Watches,
    deadline: Instant,
    within: Duration,
}

impl Clearing<'_> {
    async fn all(&self, note: &Note) -> Result<(), String> {
        // By itself, for discovery is among what these hold up.
        let in_the_way = self.in_the_way().await?;
        self.remove(&in_the_way.added(note)).await?;
        let mut left = Vec::new();
        for _ in 0..LOOKS {
            let contents = self.contents().await?;
            let altered = contents.altered(note);
            if !altered.is_empty() {
                return Err(few(&altered));
            }
            let added = contents.added(note);
            if added.is_empty() {
                return Ok(());
            }
            let (held, rest) = order(&added);
            self.remove(&held).await?;
            self.remove(&rest).await?;
            left = added.into_iter().map(Object::name).collect();
        }
        Err(format!("made again whenever it was removed: {}", few(&left)))
    }

    async fn contents(&self) -> Result<Contents, String> {
        match tokio::time::timeout_at(self.deadline, Contents::of(&self.requests, self.cluster)).await {
            Ok(contents) => contents.map_err(|problem| problem.message),
            Err(_) => Err(format!(
                "what is in it could not be told within {} s",
                self.within.as_secs()
            )),
        }
    }

    async fn in_the_way(&self) -> Result<Contents, String> {
        let (kinds, all) = (IN_THE_WAY.into_iter().filter_map(kinds::own), ListParams::default());
        let lists = join_all(kinds.map(|kind| async {
            let resource = kind.resource;
            let api = dynamic(&self.cluster.client, &resource, None);
            let what = format!("list {}", resource.plural);
            match self.requests.send(&what, self.left(), || api.list(&all)).await {
                Ok(list) => {
                    let values: Vec<Value> = list.items.into_iter().map(|one| to_json(one, &resource)).collect();
                    Ok((resource, values))
                }
                Err(error) if error.class == ErrorClass::NotFound => Ok((resource, Vec::new())),
                Err(error) => Err(error.to_string()),
            }
        }))
        .await;
        Ok(Contents::counted(lists.into_iter().collect::<Result<_, String>>()?))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Removes objects and waits until they are gone; others of the same names may come.
    async fn remove(&self, objects: &[&Object]) -> Result<(), String> {
        for some in objects.chunks(AT_ONCE) {
            let asked = join_all(some.iter().map(|object| self.delete(object))).await;
            asked.into_iter().collect::<Result<(), String>>()?;
        }
        self.gone(objects).await
    }

    async fn delete(&self, object: &Object) -> Result<(), String> {
        let (namespace, name) = (object.namespace(), text_at(&object.value, "/metadata/name"));
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let api = dynamic(&self.cluster.client, &object.resource, namespace);
        let what = format!("remove {}", object.name());
        match self.requests.delete(&what, self.left(), &api, name).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn gone(&self, objects: &[&Object]) -> Result<(), String> {
        let mut kinds: BTreeMap<String, (&ApiResource, BTreeSet<&str>)> = BTreeMap::new();
        for object in objects {
            let resource = &object.resource;
            let kind = format!("{}/{}", resource.api_version, resource.plural);
            let (_, uids) = kinds.entry(kind).or_insert_with(|| (resource, BTreeSet::new()));
            uids.insert(text_at(&object.value, "/metadata/uid"));
        }
        let waits = kinds.values().map(|(resource, uids)| self.left_of(resource, uids));
        let left = join_all(waits).await.concat();
        if left.is_empty() {
            return Ok(());
        }
        Err(format!(
            "could not be removed within {} s: {}",
            self.within.as_secs(),
            few(&left)
        ))
    }

    /// Waits until objects of a kind are gone; what is left of them in the end.
    async fn left_of(&self, resource: &ApiResource, uids: &BTreeSet<&str>) -> Vec<String> {
        let mut seen = self.watches.subscribe(WatchKey {
            cluster: self.cluster.name.clone(),
            resource: resource.clone(),
            namespace: None,
            labels: None,
        });
        let mut left = vec![format!("{} (not seen any more)", resource.plural)];
        let gone = seen.until(|objects| {
            left = objects
                .iter()
                .filter(|object| uids.contains(text_at(object, "/metadata/uid")))
                .map(|object| held(resource, object))
                .collect();
            left.is_empty().then_some(())
        });
        match tokio::time::timeout_at(self.deadline, gone).await {
            Ok(Ok(())) => Vec::new(),
            Ok(Err(error)) => vec![error.to_string()],
            Err(_) => left,
        }
    }
}

/// What is to be removed by itself: first what needs somebody who is removed later, then the rest.
fn order<'a>(added: &[&'a Object]) -> (Vec<&'a Object>, Vec<&'a Object>) {
    let namespaces: HashSet<&str> = added
        .iter()
        .filter(|object| object.is("", "Namespace"))
        .map(|object| text_at(&object.value, "/metadata/name"))
        .collect();
    let kinds: HashSet<(&str, &str)> = added
        .iter()
        .filter(|object| object.is("apiextensions.k8s.io", "CustomResourceDefinition"))
        .map(|object| {
            (
                text_at(&object.value, "/spec/group"),
                text_at(&object.value, "/spec/names/kind"),
            )
        })
        .collect();
    let of_kind = |object: &&Object| kinds.contains(&(object.resource.group.as_str(), object.resource.kind.as_str()));
    let held = added
        .iter()
        .filter(|object| of_kind(object) && !finalizers(&object.value).is_empty());
    let rest = added
        .iter()
        .filter(|object| !of_kind(object) && !namespaces.contains(object.namespace()));
    (held.copied().collect(), rest.copied().collect())
}

fn finalizers(object: &Value) -> Vec<&str> {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// An object that stays, with what it waits for.
fn held(resource: &ApiResource, object: &Value) -> String {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    // Of a namespace and of a CustomResourceDefinition.
    let waits = conditions.into_iter().flatten().filter(|condition| {
        let kind = text_at(condition, "/type");
        text_at(condition, "/status") == "True" && (kind.starts_with("Namespace") || kind == "Terminating")
    });
    let mut why: Vec<String> = waits
        .map(|condition| text_at(condition, "/message").to_owned())
        .collect();
    let finalizers = finalizers(object);
    if !finalizers.is_empty() {
        why.push(format!("finalizers {}", finalizers.join(", ")));
    }
    let name = format!("{} {}", resource.kind, full_name(object));
    if why.is_empty() {
        name
    } else {
        format!("{name} ({})", why.join("; "))
    }
}

fn few(all: &[String]) -> String {
    let told = all[..all.len().min(TOLD)].join(", ");
    match all.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}, and {more} more"),
    }
}
