//! `pods/eviction` and `pods/binding`.

use crate::http::body::{self, Body};
use crate::http::resource_request::ResourceRequest;
use crate::store::{DeleteOptions, Subresource, now};
use crate::{LabelSelector, Selector, Status, gvr};
use http::Response;
use serde_json::{Value, json};

/// Deletes a pod unless a PodDisruptionBudget forbids it. Whoever keeps the budgets' status decides; a budget without status
/// allows nothing.
pub(crate) fn evict(request: &ResourceRequest, eviction: Value) -> Result<Response<Body>, Status> {
    let (namespace, name) = (request.namespace(), request.name());
    let pod = request.store.get(&gvr::PODS, namespace, name)?;
    let budgets = request
        .store
        .list(&gvr::POD_DISRUPTION_BUDGETS, namespace, &Selector::all())?;
    for budget in &budgets.items {
        let covers =
            LabelSelector::from_object(&budget["spec"]["selector"])?.matches_labels(&pod["metadata"]["labels"]);
        if covers && budget["status"]["disruptionsAllowed"].as_u64().unwrap_or(0) == 0 {
            return Err(Status::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                10,
            ));
        }
    }
    let options = &eviction["deleteOptions"];
    let options = DeleteOptions {
        uid: options["preconditions"]["uid"].as_str().map(str::to_owned),
        grace_period_seconds: options["gracePeriodSeconds"].as_u64(),
        ..DeleteOptions::default()
    };
    request.store.delete(&gvr::PODS, namespace, name, &options)?;
    Ok(success())
}

/// Binds a pod to a node.
pub(crate) fn bind(request: &ResourceRequest, binding: &Value) -> Result<Response<Body>, Status> {
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        let cause = crate::Cause::required("target.name", "");
        return Err(Status::invalid("", "Binding", request.name(), vec![cause]));
    }
    let (namespace, name) = (request.namespace(), request.name());
    let pod = request.store.get(&gvr::PODS, namespace, name)?;
    if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        let why = format!("pod {name} is already assigned to node \"{bound}\"");
        return Err(Status::conflict("", "pods/binding", name, &why));
    }
    request
        .store
        .modify(&gvr::PODS, namespace, name, Subresource::Internal, |pod| {
            pod["spec"]["nodeName"] = json!(node);
            let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now()});
            match pod["status"]["conditions"].as_array_mut() {
                Some(conditions) => {
                    conditions.retain(|c| c["type"] != "PodScheduled");
                    conditions.push(scheduled);
                }
                None => pod["status"]["conditions"] = json!([scheduled]),
            }
            true
        })?;
    Ok(success())
}

fn success() -> Response<Body> {
    body::object(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
        false,
    )
}
