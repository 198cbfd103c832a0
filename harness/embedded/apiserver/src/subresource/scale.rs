//! `scale`: the number of replicas of anything that has one.

use crate::http::body::{self, Body};
use crate::http::resource_request::ResourceRequest;
use crate::resource::{ResourceType, ScalePaths};
use crate::store::{Patch, Subresource};
use crate::table::find_path;
use crate::{Cause, LabelSelector, Status, patch};
use http::{Method, Response};
use serde_json::{Value, json};

pub(crate) fn answer(
    request: &ResourceRequest,
    method: &Method,
    media_type: &str,
    bytes: &[u8],
) -> Result<Response<Body>, Status> {
    let gvr = request.gvr();
    let resource = request.store.lock().registry.lookup(gvr)?;
    let paths = resource
        .served(&gvr.version)
        .and_then(|v| v.scale.clone())
        .ok_or_else(Status::no_such_resource)?;
    let object = request.store.get(gvr, request.namespace(), request.name())?;
    let current = scale_of(&object, &paths);
    let wanted = match *method {
        Method::GET | Method::HEAD => return request.one(200, &current),
        Method::PUT => body::decode(bytes, media_type)?,
        Method::PATCH => {
            let mut scale = current;
            match request.read_patch(media_type, bytes)? {
                Patch::Merge(changes) | Patch::Strategic(changes) => patch::merge::merge(&mut scale, &changes),
                Patch::Json(operations) => patch::json::apply(&mut scale, &operations)?,
                Patch::Apply { .. } => return Err(Status::unsupported("server-side apply of the scale subresource")),
            }
            scale
        }
        _ => return Err(Status::method_not_allowed()),
    };
    let replicas = replicas_of(&resource, request.name(), &wanted)?;
    // The version stands for the object that was read above, so a change in between is a conflict, as it must be.
    let version = wanted["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !version.is_empty() && object["metadata"]["resourceVersion"] != version.as_str() {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Status::conflict(&gvr.group, &gvr.resource, request.name(), why));
    }
    let updated = request
        .store
        .modify(gvr, request.namespace(), request.name(), Subresource::Main, |object| {
            set_path(object, &paths.spec_replicas, json!(replicas))
        })?;
    request.one(200, &scale_of(&updated, &paths))
}

fn replicas_of(resource: &ResourceType, name: &str, scale: &Value) -> Result<u64, Status> {
    let value = &scale["spec"]["replicas"];
    // A Scale without replicas means none, as in Kubernetes.
    let invalid = |why: &str| {
        let cause = Cause::invalid("spec.replicas", value, why);
        Status::invalid("autoscaling", "Scale", name, vec![cause])
    };
    match value {
        Value::Null if scale["spec"].is_object() || scale["spec"].is_null() => Ok(0),
        Value::Number(n) => n.as_u64().ok_or_else(|| invalid("must be greater than or equal to 0")),
        _ => Err(Status::bad_request(format!(
            "Scale of {} \"{name}\": spec.replicas must be an integer",
            resource.plural
        ))),
    }
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let at = |path: &str| find_path(object, path).first().copied().cloned();
    let metadata = &object["metadata"];
    let mut kept = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !metadata[field].is_null() {
            kept[field] = metadata[field].clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": {"replicas": at(&paths.spec_replicas).unwrap_or(json!(0))},
        "status": {"replicas": at(&paths.status_replicas).unwrap_or(json!(0))},
    });
    let selector = paths.selector.as_deref().and_then(at);
    match selector {
        Some(Value::String(text)) => scale["status"]["selector"] = json!(text),
        Some(object @ Value::Object(_)) => {
            if let Ok(selector) = LabelSelector::from_object(&object) {
                scale["status"]["selector"] = json!(selector.to_text());
            }
        }
        _ => {}
    }
    scale
}

/// Sets the value at a plain path (`.spec.replicas`). Whether there was anything to change.
fn set_path(object: &mut Value, path: &str, value: Value) -> bool {
    let mut at = object;
    for field in path.split('.').filter(|f| !f.is_empty()) {
        if at.is_null() {
            *at = json!({});
        }
        let Some(fields) = at.as_object_mut() else { return false };
        at = fields.entry(field).or_insert(Value::Null);
    }
    let changed = *at != value;
    *at = value;
    changed
}
