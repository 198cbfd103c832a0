//! Kinds that are stored and that nothing here acts on: their defaults, and what is to be said about it.

use super::fields::set_default;
use crate::admission::items_mut;
use serde_json::{Value, json};

/// What a client is told when it creates an object of a kind that has no effect here. Kinds of workloads are not among them: the
/// cluster says at the object what it does with it.
pub(crate) fn note(group: &str, plural: &str) -> Option<&'static str> {
    Some(match (group, plural) {
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            "admission webhooks are stored but not called by the embedded API server"
        }
        ("admissionregistration.k8s.io", _) => {
            "admission policies are stored but not evaluated by the embedded API server"
        }
        ("apiregistration.k8s.io", _) => "APIServices are stored but not served by the embedded API server",
        ("autoscaling", _) => "HorizontalPodAutoscalers are stored but do not scale anything in embedded clusters",
        ("networking.k8s.io", "ingresses" | "ingressclasses") => {
            "Ingresses are stored but there is no ingress controller in embedded clusters"
        }
        ("networking.k8s.io", "networkpolicies") => "NetworkPolicies are stored but not enforced in embedded clusters",
        ("", "persistentvolumes" | "persistentvolumeclaims") | ("storage.k8s.io", _) => {
            "storage is stored as objects only: embedded clusters have no volumes to bind"
        }
        ("", "limitranges" | "resourcequotas") => {
            "limits and quotas are stored but not enforced by the embedded API server"
        }
        ("", "replicationcontrollers") => "ReplicationControllers are stored but make no pods in embedded clusters",
        ("certificates.k8s.io", _) => "certificate requests are stored but not signed in embedded clusters",
        ("flowcontrol.apiserver.k8s.io", _) => "flow control is stored but not applied by the embedded API server",
        _ => return None,
    })
}

/// Defaults of a webhook configuration.
pub(super) fn default_webhooks(object: &mut Value, mutating: bool) {
    for webhook in items_mut(object, "webhooks") {
        set_default(webhook, "failurePolicy", json!("Fail"));
        set_default(webhook, "matchPolicy", json!("Equivalent"));
        set_default(webhook, "namespaceSelector", json!({}));
        set_default(webhook, "objectSelector", json!({}));
        set_default(webhook, "timeoutSeconds", json!(10));
        if mutating {
            set_default(webhook, "reinvocationPolicy", json!("Never"));
        }
        if webhook["clientConfig"]["service"].is_object() {
            set_default(&mut webhook["clientConfig"]["service"], "port", json!(443));
        }
        for rule in items_mut(webhook, "rules") {
            set_default(rule, "scope", json!("*"));
        }
    }
}

/// Defaults of a claim for a volume.
pub(super) fn default_claim(object: &mut Value) {
    if object["spec"].is_object() {
        set_default(&mut object["spec"], "volumeMode", json!("Filesystem"));
    }
}

/// Defaults of a volume.
pub(super) fn default_volume(object: &mut Value) {
    if object["spec"].is_object() {
        set_default(&mut object["spec"], "volumeMode", json!("Filesystem"));
        set_default(&mut object["spec"], "persistentVolumeReclaimPolicy", json!("Retain"));
    }
}

/// Defaults of a class of storage.
pub(super) fn default_storage_class(object: &mut Value) {
    set_default(object, "reclaimPolicy", json!("Delete"));
    set_default(object, "volumeBindingMode", json!("Immediate"));
}

/// Defaults of an autoscaler.
pub(super) fn default_autoscaler(object: &mut Value) {
    if object["spec"].is_object() {
        set_default(&mut object["spec"], "minReplicas", json!(1));
    }
}

/// Defaults of a class of priority.
pub(super) fn default_priority_class(object: &mut Value) {
    set_default(object, "preemptionPolicy", json!("PreemptLowerPriority"));
}
