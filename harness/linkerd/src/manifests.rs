//! Manifests that tools print: reading them, and which images they need.

use std::collections::BTreeSet;

use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::Invocation;
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of a file with manifests.
pub const LARGEST_FILE: u64 = 64 << 20;

/// Reads the YAML documents that a command printed.
///
/// # Errors
/// Code `tool-output` with the place, never with the text: among manifests are Secrets.
pub(crate) fn printed_by(invocation: &Invocation, stdout: &str) -> Result<Vec<Value>, Problem> {
    parse(stdout).map_err(|wrong| {
        problem::environment(
            "tool-output",
            format!("`{invocation}` printed no manifests: {wrong}"),
            Some("run the command by hand; check the tool's version with `meshproof doctor`"),
        )
    })
}

/// Reads YAML documents, each a Kubernetes object; empty documents are passed over, Lists are taken apart.
///
/// # Errors
/// Which document is wrong, and how, without its text.
pub fn parse(text: &str) -> Result<Vec<Value>, String> {
    let mut manifests = Vec::new();
    for (number, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let number = number + 1;
        let value = Value::deserialize(document).map_err(|error| match error.location() {
            Some(place) => format!(
                "document {number} is not YAML (line {}, column {})",
                place.line(),
                place.column()
            ),
            None => format!("document {number} is not YAML"),
        })?;
        match value {
            Value::Null => {}
            Value::Object(mut object) if object.get("kind").is_some_and(|kind| kind == "List") => {
                let Some(Value::Array(items)) = object.remove("items") else {
                    return Err(format!("document {number} is a List without items"));
                };
                manifests.extend(items);
            }
            value => manifests.push(value),
        }
    }
    for (number, manifest) in manifests.iter().enumerate() {
        for field in ["/apiVersion", "/kind", "/metadata/name"] {
            if !manifest.pointer(field).is_some_and(Value::is_string) {
                return Err(format!(
                    "object {} has no {}",
                    number + 1,
                    &field[1..].replace('/', ".")
                ));
            }
        }
    }
    if manifests.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(manifests)
}

/// Those of `earlier` that are not among `present`: same kind, whatever version of its API, same namespace and name.
pub(crate) fn without(earlier: &[Value], present: &[Value]) -> Vec<Value> {
    let identity = |manifest: &Value| {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        let group = text("/apiVersion").and_then(|api| api.split_once('/').map(|(group, _)| group.to_owned()));
        (
            group,
            text("/kind"),
            text("/metadata/namespace"),
            text("/metadata/name"),
        )
    };
    let present: BTreeSet<_> = present.iter().map(identity).collect();
    let gone = earlier.iter().filter(|manifest| !present.contains(&identity(manifest)));
    gone.cloned().collect()
}

/// All images that applying these manifests makes nodes pull: those of containers and init containers, and those that the
/// proxy injector adds to other pods (from the configuration that the manifests carry and from pods' annotations).
#[must_use]
pub fn images(manifests: &[Value]) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for manifest in manifests {
        if manifest["kind"] == "ConfigMap" && manifest["metadata"]["name"] == "linkerd-config" {
            images.extend(injected(manifest["data"]["values"].as_str().unwrap_or_default()));
        }
        of_pods(manifest, &mut images);
    }
    images
}

fn of_pods(value: &Value, images: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                if ["containers", "initContainers"].contains(&key.as_str()) {
                    let containers = inner.as_array().into_iter().flatten();
                    images.extend(containers.filter_map(|one| one["image"].as_str().map(ToOwned::to_owned)));
                }
                if key == "annotations" {
                    images.extend(annotated(inner));
                }
                of_pods(inner, images);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| of_pods(item, images)),
        _ => {}
    }
}

/// A pod's own choice of proxy.
fn annotated(annotations: &Value) -> Option<String> {
    let name = annotations["config.linkerd.io/proxy-image"].as_str()?;
    let version = annotations["config.linkerd.io/proxy-version"].as_str()?;
    Some(format!("{name}:{version}"))
}

/// The proxy and its init container, from the injector's values.
fn injected(values: &str) -> Vec<String> {
    let values: Value = serde_yaml::from_str(values).unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let default = text(&values["linkerdVersion"]);
    let mut images = Vec::new();
    let mut add = |image: &Value, default: Option<String>| {
        if let (Some(name), Some(version)) = (text(&image["name"]), text(&image["version"]).or(default)) {
            images.push(format!("{name}:{version}"));
        }
    };
    add(&values["proxy"]["image"], default);
    // Since 2.20 the init container is the proxy's image; a value of its own exists only before.
    add(&values["proxyInit"]["image"], None);
    images
}

#[cfg(test)]
mod tests {
    use super::{images, parse, without};
    use proptest::prelude::*;
    use serde_json::json;

    const TWO: &str = "---\n# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: linkerd\n---\n{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"s\"}}]}\n---\n";

    #[test]
    fn documents_are_read_and_empty_ones_passed_over() {
        let manifests = parse(TWO).unwrap();
        assert_eq!(manifests.len(), 2);
        assert_eq!(manifests[0]["metadata"]["name"], "linkerd");
        assert_eq!(manifests[1]["kind"], "Secret");
    }

    #[test]
    fn garbage_is_told_by_its_place_and_not_repeated() {
        let error = parse("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: [topsecret\n").unwrap_err();
        assert!(error.contains("document 1"), "{error}");
        assert!(error.contains("line"), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
        assert_eq!(parse("Error: no").unwrap_err(), "object 1 has no apiVersion");
        assert_eq!(parse("").unwrap_err(), "it is empty");
        assert_eq!(parse("just words\n").unwrap_err(), "object 1 has no apiVersion");
    }

    #[test]
    fn what_a_later_version_does_not_have_is_what_is_left_of_an_earlier_one() {
        let object = |api: &str, kind: &str, name: &str| json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "n"}});
        let earlier = [
            object("policy.linkerd.io/v1beta2", "Server", "kept"),
            object("v1", "Service", "kept"),
            object("v1", "Service", "gone"),
        ];
        let present = [
            object("policy.linkerd.io/v1beta3", "Server", "kept"),
            object("v1", "Service", "kept"),
            object("v1", "Secret", "gone"),
        ];
        assert_eq!(without(&earlier, &present), [earlier[2].clone()]);
    }

    #[test]
    fn images_are_those_of_containers_and_of_what_is_injected() {
        let values = "linkerdVersion: edge-26.8.3\nproxy:\n  image:\n    name: cr.l5d.io/linkerd/proxy\n    version: ''\nproxyInit:\n  image:\n    name: cr.l5d.io/linkerd/proxy-init\n    version: v2.4.1\n";
        let manifests = [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "linkerd-config"}, "data": {"values": values}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {
                "metadata": {"annotations": {"config.linkerd.io/proxy-image": "mine/proxy", "config.linkerd.io/proxy-version": "x"}},
                "spec": {"containers": [{"image": "a:1"}], "initContainers": [{"image": "b:2"}]}}}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
                "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"image": "a:1"}, {"image": "c:3"}]}}}}}}),
        ];
        let found: Vec<String> = images(&manifests).into_iter().collect();
        assert_eq!(
            found,
            [
                "a:1",
                "b:2",
                "c:3",
                "cr.l5d.io/linkerd/proxy-init:v2.4.1",
                "cr.l5d.io/linkerd/proxy:edge-26.8.3",
                "mine/proxy:x"
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a-z0-9:{}\\[\\]&*!|>'\"\n ]{0,200}") {
            let _ = parse(&text).map(|manifests| images(&manifests));
        }
    }
}
