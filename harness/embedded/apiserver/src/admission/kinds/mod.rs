//! The rules of the built-in kinds, one file per family. Each offers `default`, `validate` and, where something is immutable,
//! `validate_change`.

mod fields;
mod network;
mod pods;
mod rbac;
mod services;
mod simple;
pub(crate) mod stored;
mod workloads;

use super::typed;
use crate::resource::ResourceType;
use crate::{Cause, Status, crd};
use meshproof_kinds::Kind;
use serde_json::{Value, json};

/// Labels of namespaces that the server keeps itself.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn prepare_create(resource: &ResourceType, object: &mut Value) {
    match resource.plural.as_str() {
        "namespaces" => {
            object["status"] = json!({"phase": "Active"});
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            label_namespace(object);
        }
        "pods" => object["status"] = json!({"phase": "Pending", "qosClass": pods::qos_class(object)}),
        "services" | "ingresses" => object["status"] = json!({"loadBalancer": {}}),
        "persistentvolumes" | "persistentvolumeclaims" => object["status"] = json!({"phase": "Pending"}),
        _ => {}
    }
}

pub(super) fn prepare_update(resource: &ResourceType, new: &mut Value, old: &Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => {
            new["spec"] = old["spec"].clone();
            label_namespace(new);
        }
        ("", "services") => services::drop_fields_of_old_type(new, old),
        _ => {}
    }
}

fn label_namespace(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if !namespace["metadata"]["labels"].is_object() {
        namespace["metadata"]["labels"] = json!({});
    }
    namespace["metadata"]["labels"][NAME_LABEL] = name;
}

pub(super) fn default(resource: &ResourceType, object: &mut Value) -> Result<(), Status> {
    // Events are kept in the core group's form, whichever group they came in.
    let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    if let Some(kind) = Kind::find(api_version.unwrap_or_default(), kind.unwrap_or_default()) {
        typed::read(kind, object)?;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pods::default(object),
        ("", "services") => services::default(object),
        ("", "endpoints") => network::default_endpoints(object),
        ("discovery.k8s.io", "endpointslices") => network::default_endpoint_slice(object),
        ("", "secrets") => simple::default_secret(object),
        ("apps", "deployments") => workloads::default_deployment(object),
        ("apps", "replicasets") => workloads::default_replica_set(object),
        ("apps", "statefulsets") => workloads::default_stateful_set(object),
        ("apps", "daemonsets") => workloads::default_daemon_set(object),
        ("batch", "jobs") => workloads::default_job(object),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => rbac::default_binding(object),
        ("apiextensions.k8s.io", "customresourcedefinitions") => crd::default(object),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => stored::default_webhooks(object, true),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => stored::default_webhooks(object, false),
        ("batch", "cronjobs") => workloads::default_cron_job(object),
        ("", "persistentvolumeclaims") => stored::default_claim(object),
        ("", "persistentvolumes") => stored::default_volume(object),
        ("storage.k8s.io", "storageclasses") => stored::default_storage_class(object),
        ("autoscaling", "horizontalpodautoscalers") => stored::default_autoscaler(object),
        ("scheduling.k8s.io", "priorityclasses") => stored::default_priority_class(object),
        _ => {}
    }
    Ok(())
}

pub(super) fn validate(resource: &ResourceType, object: &Value) -> Vec<Cause> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pods::validate(&object["spec"], "spec"),
        ("", "services") => services::validate(object),
        ("", "endpoints") => network::validate_endpoints(object),
        ("discovery.k8s.io", "endpointslices") => network::validate_endpoint_slice(object),
        ("", "configmaps") => simple::validate_config_map(object),
        ("", "secrets") => simple::validate_secret(object),
        ("", "events") | ("events.k8s.io", "events") => simple::validate_event(object),
        ("coordination.k8s.io", "leases") => simple::validate_lease(object),
        ("apps", "controllerrevisions") => Vec::new(),
        ("apps", _) | ("batch", "jobs") => workloads::validate(resource, object),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => rbac::validate_role(resource, object),
        ("rbac.authorization.k8s.io", _) => rbac::validate_binding(object),
        ("apiextensions.k8s.io", _) => crd::validate(object),
        _ => Vec::new(),
    }
}

pub(super) fn validate_change(resource: &ResourceType, new: &Value, old: &Value) -> Vec<Cause> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pods::validate_change(new, old),
        ("", "services") => services::validate_change(new, old),
        ("", "configmaps" | "secrets") => simple::validate_immutable_data(new, old),
        ("discovery.k8s.io", "endpointslices") => fields::immutable(new, old, &["addressType"]),
        ("apps", "statefulsets") => workloads::validate_stateful_set_change(new, old),
        ("apps", "controllerrevisions") => fields::immutable(new, old, &["data"]),
        ("apps", _) => fields::immutable(new, old, &["spec.selector"]),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            rbac::validate_binding_change(new, old)
        }
        ("apiextensions.k8s.io", _) => crd::validate_change(new, old),
        _ => Vec::new(),
    }
}
