//! The Link CustomResourceDefinition with its three versions.

use serde_json::{Value, json};

use super::schema::{condition_properties, group, kind, label_selector, name, namespace, string, with_default};
use super::{created_by, strings};
use crate::defect::{Defect, Defects};
use crate::names::label;

/// `links.multicluster.linkerd.io`: v1alpha1 and v1alpha2 served, v1alpha3 stored.
pub(super) fn link_crd(defects: &Defects) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "links.multicluster.linkerd.io",
            "labels": {label::EXTENSION: "multicluster"},
            "annotations": strings([created_by()])
        },
        "spec": {
            "group": "multicluster.linkerd.io",
            "scope": "Namespaced",
            "names": {"plural": "links", "singular": "link", "kind": "Link", "listKind": "LinkList"},
            "conversion": {"strategy": "None"},
            "versions": [
                version(Generation::Alpha1, defects),
                version(Generation::Alpha2, defects),
                version(Generation::Alpha3, defects),
            ]
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Generation {
    Alpha1,
    Alpha2,
    Alpha3,
}

fn version(generation: Generation, defects: &Defects) -> Value {
    let mut properties = json!({"spec": spec(generation, defects)});
    if generation >= Generation::Alpha2 {
        properties["status"] = json!({
            "type": "object",
            "properties": {
                "mirrorServices": service_statuses(),
                "federatedServices": service_statuses()
            }
        });
    }
    let mut version = json!({
        "name": match generation {
            Generation::Alpha1 => "v1alpha1",
            Generation::Alpha2 => "v1alpha2",
            Generation::Alpha3 => "v1alpha3",
        },
        "served": true,
        "storage": generation == Generation::Alpha3,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}
    });
    if generation >= Generation::Alpha2 {
        version["subresources"] = json!({"status": {}});
    }
    version
}

fn spec(generation: Generation, defects: &Defects) -> Value {
    let mut period = string("Interval in between probe requests");
    if generation >= Generation::Alpha2 && !defects.has(Defect::LinkPeriodUnchecked) {
        period["format"] = "duration".into();
    }
    let mut timeout = with_default(string("Probe request timeout"), "30s");
    timeout["format"] = "duration".into();
    let mut properties = json!({
        "clusterCredentialsSecret": string("Kubernetes secret of target cluster"),
        "gatewayAddress": string("Gateway address of target cluster"),
        "gatewayIdentity": string("Gateway Identity FQDN"),
        "gatewayPort": string("Gateway Port"),
        "probeSpec": {
            "description": "Spec for gateway health probe",
            "type": "object",
            "properties": {
                "failureThreshold": with_default(
                    string("Minimum consecutive failures for the probe to be considered failed"),
                    "3",
                ),
                "path": string("Path of remote gateway health endpoint"),
                "period": period,
                "port": string("Port of remote gateway health endpoint"),
                "timeout": timeout
            }
        },
        "selector": label_selector("Kubernetes Label Selector"),
        "remoteDiscoverySelector":
            label_selector("Selector for Services to mirror in remote discovery mode"),
        "targetClusterName": string("Name of target cluster to link to"),
        "targetClusterDomain": string("Domain name of target cluster to link to"),
        "targetClusterLinkerdNamespace": string("Linkerd namespace of target cluster to link to")
    });
    if generation >= Generation::Alpha2 {
        properties["federatedServiceSelector"] =
            label_selector("Selector for Services which are members of a federated service");
    }
    if generation >= Generation::Alpha3 {
        let list = |description| json!({"type": "array", "description": description, "items": {"type": "string"}});
        properties["excludedAnnotations"] = list("List of annotations to exclude from mirrored services");
        properties["excludedLabels"] = list("List of labels to exclude from mirrored services");
    }
    json!({"type": "object", "properties": properties})
}

fn service_statuses() -> Value {
    let mut condition = condition_properties();
    condition["localRef"] = object_ref();
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["controllerName", "remoteRef"],
            "properties": {
                "controllerName": {"type": "string", "minLength": 1, "maxLength": 253},
                "remoteRef": object_ref(),
                "conditions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["lastTransitionTime", "message", "reason", "status", "type"],
                        "properties": condition
                    }
                }
            }
        }
    })
}

fn object_ref() -> Value {
    json!({
        "type": "object",
        "required": ["name", "namespace"],
        "properties": {
            "group": with_default(group(), "core"),
            "kind": with_default(kind(), "Service"),
            "name": name(),
            "namespace": namespace()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::link_crd;
    use crate::defect::{Defect, Defects};

    fn period(defects: &Defects, version: usize) -> serde_json::Value {
        link_crd(defects)["spec"]["versions"][version]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            ["probeSpec"]["properties"]["period"]
            .clone()
    }

    #[test]
    fn the_period_is_a_duration_from_the_second_version_on() {
        let clean = Defects::default();
        assert!(period(&clean, 0).get("format").is_none());
        assert_eq!(period(&clean, 1)["format"], "duration");
        assert_eq!(period(&clean, 2)["format"], "duration");
        let unchecked = [Defect::LinkPeriodUnchecked].into_iter().collect();
        assert!(period(&unchecked, 2).get("format").is_none());
    }

    #[test]
    fn only_the_newest_version_is_stored_and_has_exclusions() {
        let crd = link_crd(&Defects::default());
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let stored: Vec<_> = versions
            .iter()
            .filter(|version| version["storage"] == true)
            .map(|version| version["name"].as_str().unwrap())
            .collect();
        assert_eq!(stored, ["v1alpha3"]);
        let has = |version: usize, field: &str| {
            !versions[version]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][field].is_null()
        };
        assert!(!has(0, "federatedServiceSelector") && has(1, "federatedServiceSelector"));
        assert!(!has(1, "excludedLabels") && has(2, "excludedLabels"));
        assert!(versions[0].get("subresources").is_none());
        assert!(versions[2]["subresources"]["status"].is_object());
    }
}
