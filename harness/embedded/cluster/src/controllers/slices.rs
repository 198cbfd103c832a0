//! EndpointSlices as both of their controllers keep them: wanted ones by set of ports, and the writes that lead there.

use meshproof_apiserver::store::{DeleteOptions, Subresource};
use meshproof_apiserver::{Selector, Status, Store, gvr};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::object::{self, Key, name, text};

/// Label that names the Service of a slice.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that names the controller of a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Label of what belongs to a headless Service.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Slices as they should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WantedSlices {
    /// Name of the Service (and first part of the slices' names).
    pub(crate) service: String,
    /// Value of [`MANAGED_BY`].
    pub(crate) managed_by: &'static str,
    pub(crate) labels: Map<String, Value>,
    pub(crate) annotations: Map<String, Value>,
    pub(crate) owner: Value,
    /// Most endpoints in one slice.
    pub(crate) limit: usize,
    /// Ports and the endpoints that have them; the ports differ.
    pub(crate) groups: Vec<(Value, Vec<Value>)>,
}

/// One write.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Value),
    Update(String, Value),
    Delete(String),
}

impl WantedSlices {
    /// Makes the slices in the store as wanted, with the fewest writes.
    pub(crate) fn apply(&self, store: &Store, namespace: &str) -> Result<(), Status> {
        let existing = managed_slices(store, namespace, &self.service, self.managed_by)?;
        for step in self.steps(&existing) {
            match step {
                Step::Create(slice) => {
                    store.create(&gvr::ENDPOINT_SLICES, Some(namespace), slice)?;
                }
                Step::Update(name, wanted) => {
                    let change = |slice: &mut Value| {
                        slice["endpoints"] = wanted["endpoints"].clone();
                        slice["ports"] = wanted["ports"].clone();
                        for field in ["labels", "annotations", "ownerReferences"] {
                            match &wanted["metadata"][field] {
                                Value::Null => {
                                    object_remove(&mut slice["metadata"], field);
                                }
                                value => slice["metadata"][field] = value.clone(),
                            }
                        }
                        true
                    };
                    let part = Subresource::Main;
                    store.modify(&gvr::ENDPOINT_SLICES, Some(namespace), &name, part, change)?;
                }
                Step::Delete(name) => delete_slice(store, namespace, &name)?,
            }
        }
        Ok(())
    }

    fn steps(&self, existing: &[Arc<Value>]) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut spare: Vec<&Arc<Value>> = existing.iter().collect();
        for (ports, endpoints) in &self.groups {
            let chunks: Vec<&[Value]> = if endpoints.is_empty() {
                vec![&[]]
            } else {
                endpoints.chunks(self.limit).collect()
            };
            for chunk in chunks {
                let wanted = self.slice(ports, chunk);
                let same_ports = |slice: &&Arc<Value>| same_list(&slice["ports"], ports);
                let reused = spare.iter().position(same_ports).map(|i| spare.remove(i));
                match reused {
                    None => steps.push(Step::Create(wanted)),
                    Some(slice) if !is_like(slice, &wanted) => {
                        steps.push(Step::Update(name(slice).to_owned(), wanted));
                    }
                    Some(_) => {}
                }
            }
        }
        steps.extend(spare.into_iter().map(|slice| Step::Delete(name(slice).to_owned())));
        steps
    }

    fn slice(&self, ports: &Value, endpoints: &[Value]) -> Value {
        let mut labels = self.labels.clone();
        labels.insert(MANAGED_BY.into(), json!(self.managed_by));
        labels.insert(SERVICE_NAME.into(), json!(self.service));
        let mut slice = json!({
            "metadata": {
                "generateName": format!("{}-", self.service),
                "labels": labels,
                "ownerReferences": [self.owner],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        });
        if !self.annotations.is_empty() {
            slice["metadata"]["annotations"] = json!(self.annotations);
        }
        slice
    }
}

/// The slices of a Service that a controller manages, oldest name first.
pub(crate) fn managed_slices(
    store: &Store,
    namespace: &str,
    service: &str,
    managed_by: &str,
) -> Result<Vec<Arc<Value>>, Status> {
    let selector = Selector::labels(&format!("{SERVICE_NAME}={service},{MANAGED_BY}={managed_by}"))?;
    Ok(store.list(&gvr::ENDPOINT_SLICES, Some(namespace), &selector)?.items)
}

/// Deletes the slices of a Service that a controller manages.
pub(crate) fn delete_managed(store: &Store, key: &Key, managed_by: &str) -> Result<(), Status> {
    for slice in managed_slices(store, &key.namespace, &key.name, managed_by)? {
        delete_slice(store, &key.namespace, name(&slice))?;
    }
    Ok(())
}

fn delete_slice(store: &Store, namespace: &str, name: &str) -> Result<(), Status> {
    let options = DeleteOptions::default();
    match store.delete(&gvr::ENDPOINT_SLICES, Some(namespace), name, &options) {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

fn object_remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// Whether an existing slice needs no write to be as wanted.
fn is_like(slice: &Value, wanted: &Value) -> bool {
    let same_map = |field: &str| object::map(&slice["metadata"][field]) == object::map(&wanted["metadata"][field]);
    same_list(&slice["endpoints"], &wanted["endpoints"])
        && same_map("labels")
        && same_map("annotations")
        && slice["metadata"]["ownerReferences"] == wanted["metadata"]["ownerReferences"]
}

fn same_list(a: &Value, b: &Value) -> bool {
    object::list(a).eq(object::list(b))
}

/// The Service that a slice belongs to.
pub(crate) fn service_of(slice: &Value) -> Option<Key> {
    let service = text(&slice["metadata"]["labels"][SERVICE_NAME]);
    (!service.is_empty()).then(|| Key::new(object::namespace(slice), service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    fn wanted(groups: &[(u16, usize)]) -> WantedSlices {
        let endpoints = |n: usize| -> Vec<Value> {
            (0..n)
                .map(|i| json!({"addresses": [format!("10.0.0.{i}")], "conditions": {"ready": true}}))
                .collect()
        };
        WantedSlices {
            service: "web".into(),
            managed_by: "test",
            labels: Map::new(),
            annotations: Map::new(),
            owner: json!({"kind": "Service", "name": "web", "uid": "1"}),
            limit: 3,
            groups: groups
                .iter()
                .map(|(port, n)| {
                    let ports = json!([{"name": "", "port": port, "protocol": "TCP"}]);
                    (ports, endpoints(*n))
                })
                .collect(),
        }
    }

    /// What the store would hold after the steps.
    fn after(existing: Vec<Arc<Value>>, steps: Vec<Step>) -> Vec<Arc<Value>> {
        let mut all = existing;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Create(mut slice) => {
                    slice["metadata"]["name"] = json!(format!("web-{}-{number}", all.len()));
                    all.push(Arc::new(slice));
                }
                Step::Update(old, mut slice) => {
                    slice["metadata"]["name"] = json!(old);
                    all.retain(|s| name(s) != old);
                    all.push(Arc::new(slice));
                }
                Step::Delete(old) => all.retain(|s| name(s) != old),
            }
        }
        all
    }

    #[test]
    fn a_slice_is_kept_while_its_ports_stay() {
        let slices = after(vec![], wanted(&[(80, 2)]).steps(&[]));
        assert_eq!(slices.len(), 1);
        let steps = wanted(&[(80, 1)]).steps(&slices);
        assert!(matches!(steps.as_slice(), [Step::Update(..)]), "{steps:?}");
        let steps = wanted(&[(81, 2)]).steps(&slices);
        assert!(matches!(steps.as_slice(), [Step::Create(_), Step::Delete(_)]));
        let mut relabelled = wanted(&[(80, 2)]);
        relabelled.labels.insert("app".into(), json!("web"));
        assert!(matches!(relabelled.steps(&slices).as_slice(), [Step::Update(..)]));
    }

    proptest! {
        #[test]
        fn steps_lead_to_what_is_wanted_and_then_there_is_nothing_to_do(
            before in prop::collection::btree_map(80u16..84, 0usize..8, 0..4),
            now in prop::collection::btree_map(80u16..84, 0usize..8, 0..4),
            _seed in any::<u8>(),
        ) {
            let before: Vec<_> = before.into_iter().collect();
            let now: Vec<_> = now.into_iter().collect();
            let slices = after(vec![], wanted(&before).steps(&[]));
            let target = wanted(&now);
            let slices = after(slices.clone(), target.steps(&slices));
            prop_assert!(target.steps(&slices).is_empty());
            for (port, endpoints) in &now {
                let of_port: Vec<_> = slices.iter().filter(|s| s["ports"][0]["port"] == *port).collect();
                let total: usize = of_port.iter().map(|s| object::list(&s["endpoints"]).count()).sum();
                prop_assert_eq!(total, *endpoints);
                prop_assert!(of_port.iter().all(|s| object::list(&s["endpoints"]).count() <= 3));
            }
            prop_assert_eq!(slices.iter().filter(|s| now.iter().all(|(p, _)| s["ports"][0]["port"] != *p)).count(), 0);
        }
    }
}
