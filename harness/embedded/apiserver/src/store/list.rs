//! Lists: selection, and pages over one consistent snapshot.

use super::State;
use super::state::shown;
use crate::{Gvr, Selector, Status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A list of objects at one resource version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectList {
    /// The objects, ordered by namespace and name.
    pub items: Vec<Arc<Value>>,
    /// A watch from here misses nothing.
    pub resource_version: u64,
    /// Where the next page starts, if there is one.
    pub continue_token: Option<String>,
    /// How many objects come after this page; unknown with a selector.
    pub remaining: Option<usize>,
}

/// How much of a list to return, and of which moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOptions {
    /// At most so many objects; `None` for all.
    pub limit: Option<usize>,
    /// Token of the previous page.
    pub continue_token: Option<String>,
    /// The state at exactly this version (`resourceVersionMatch=Exact`).
    pub exact_version: Option<u64>,
}

pub(super) fn list(
    state: &State,
    gvr: &Gvr,
    namespace: Option<&str>,
    selector: &Selector,
    options: &ListOptions,
) -> Result<ObjectList, Status> {
    let resource = state.registry.lookup(gvr)?;
    let position = options.continue_token.as_deref().map(Position::decode).transpose()?;
    let revision = match (&position, options.exact_version) {
        (Some(position), _) => position.revision,
        (None, Some(exact)) => exact,
        (None, None) => state.revision(),
    };
    if revision > state.revision() {
        return Err(Status::too_large_resource_version(revision, state.revision()));
    }
    let Some(table) = state.table(&resource.storage) else {
        return Ok(ObjectList {
            resource_version: revision,
            ..ObjectList::default()
        });
    };
    let namespace = namespace.filter(|n| !n.is_empty() && resource.namespaced);
    let in_scope = |key: &(String, String)| {
        namespace.is_none_or(|n| n == key.0)
            && position
                .as_ref()
                .is_none_or(|p| (&key.0, &key.1) > (&p.namespace, &p.name))
    };

    // The state at an earlier revision is the present one with the later changes undone.
    let mut undone: BTreeMap<(String, String), Option<Arc<Value>>> = BTreeMap::new();
    if revision < state.revision() {
        let changes = table.history.since(revision).map_err(|_| {
            Status::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
            )
        })?;
        for change in changes.rev() {
            if let Some(object) = change.before.as_ref().or(change.after.as_ref()) {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                undone.insert((text("namespace"), text("name")), change.before.clone());
            }
        }
    }
    let mut snapshot: BTreeMap<&(String, String), &Arc<Value>> =
        table.objects.iter().filter(|(key, _)| in_scope(key)).collect();
    for (key, before) in &undone {
        match before {
            Some(object) if in_scope(key) => {
                snapshot.insert(key, object);
            }
            _ => {
                snapshot.remove(key);
            }
        }
    }

    let mut chosen = snapshot
        .into_iter()
        .map(|(key, object)| (key, shown(&resource, &gvr.version, object)));
    let mut chosen = chosen.by_ref().filter(|(_, object)| selector.matches(object));
    let limit = options.limit.filter(|&l| l > 0).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let mut last = None;
    for (key, object) in chosen.by_ref().take(limit) {
        items.push(object);
        last = Some(key);
    }
    let rest = chosen.count();
    let continue_token = last.filter(|_| rest > 0).map(|(namespace, name)| {
        Position {
            revision,
            namespace: namespace.clone(),
            name: name.clone(),
        }
        .encode()
    });
    let remaining = (continue_token.is_some() && selector.is_all()).then_some(rest);
    Ok(ObjectList {
        items,
        resource_version: revision,
        continue_token,
        remaining,
    })
}

/// What a continue token says.
struct Position {
    revision: u64,
    namespace: String,
    name: String,
}

impl Position {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"rv": self.revision, "start": [self.namespace, self.name]}).to_string())
    }

    fn decode(token: &str) -> Result<Self, Status> {
        let read = || {
            let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            Some(Self {
                revision: value["rv"].as_u64()?,
                namespace: value["start"][0].as_str()?.to_owned(),
                name: value["start"][1].as_str()?.to_owned(),
            })
        };
        read().ok_or_else(|| Status::bad_request("continue key is not valid: start a new list without it"))
    }
}
