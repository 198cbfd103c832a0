//! Changes to new objects from outside the server, as a mutating admission webhook makes them.

use super::{ObjectKey, State, object_key};
use crate::resource::ResourceType;
use crate::{Gvr, Status};
use serde_json::Value;
use std::sync::Arc;

/// Finds an object by resource, namespace and name.
pub type Lookup<'a> = dyn Fn(&Gvr, Option<&str>, &str) -> Option<Arc<Value>> + 'a;

/// Changes objects of one resource as they are created, before defaults and validation.
pub trait Mutator: Send + Sync {
    /// Runs under the store's lock: everything it needs of the cluster comes from `lookup`, never from the store.
    ///
    /// # Errors
    /// Why the object is refused; the client gets it with status 403.
    fn mutate(&self, lookup: &Lookup<'_>, namespace: &str, object: &mut Value) -> Result<(), String>;
}

/// Lets the mutators of a resource change a new object.
pub(super) fn run(
    state: &State,
    resource: &ResourceType,
    gvr: &Gvr,
    key: &ObjectKey,
    object: &mut Value,
) -> Result<(), Status> {
    let lookup = |gvr: &Gvr, namespace: Option<&str>, name: &str| {
        let resource = state.registry.lookup(gvr).ok()?;
        let key = object_key(&resource, namespace, name).ok()?;
        state.object(&key).cloned()
    };
    for (_, mutator) in state.mutators.iter().filter(|(of, _)| of == gvr) {
        mutator.mutate(&lookup, &key.namespace, object).map_err(|reason| {
            Status::forbidden(
                &resource.group,
                &resource.plural,
                &key.name,
                &format!("admission denied the request: {reason}"),
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Lookup, Mutator};
    use crate::store::StoreConfig;
    use crate::{Store, gvr};
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// Copies a label of the namespace, and refuses objects that are called `bad`.
    struct FromNamespace;

    impl Mutator for FromNamespace {
        fn mutate(&self, lookup: &Lookup<'_>, namespace: &str, object: &mut Value) -> Result<(), String> {
            if object["metadata"]["name"] == "bad" {
                return Err("that name is bad".into());
            }
            let namespace = lookup(&gvr::NAMESPACES, None, namespace).ok_or("no namespace")?;
            object["metadata"]["labels"]["team"] = namespace["metadata"]["labels"]["team"].clone();
            Ok(())
        }
    }

    #[test]
    fn new_objects_of_the_resource_are_changed_or_refused() {
        let store = Store::new(StoreConfig::default());
        store.add_mutator(gvr::CONFIG_MAPS, Arc::new(FromNamespace));
        let namespace = json!({"metadata": {"name": "shop", "labels": {"team": "a"}}});
        store.create(&gvr::NAMESPACES, None, namespace).unwrap();
        let create =
            |gvr: &crate::Gvr, name: &str| store.create(gvr, Some("shop"), json!({"metadata": {"name": name}}));
        assert_eq!(
            create(&gvr::CONFIG_MAPS, "good").unwrap()["metadata"]["labels"]["team"],
            "a"
        );
        assert!(create(&gvr::SERVICE_ACCOUNTS, "other").unwrap()["metadata"]["labels"].is_null());
        let refused = create(&gvr::CONFIG_MAPS, "bad").unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(refused.message.contains("that name is bad"), "{}", refused.message);
    }
}
