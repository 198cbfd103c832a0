//! Environment variables and arguments of a container.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshproof_apiserver::{Gvr, Store, gvr};
use serde_json::Value;

use crate::object::{list, namespace, text};

/// Resolves `envFrom` and `env` of a container in `pod` (with its status).
///
/// # Errors
/// What a kubelet says in the container's `CreateContainerConfigError`.
pub(crate) fn variables(store: &Store, pod: &Value, container: &Value) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for source in list(&container["envFrom"]) {
        let prefix = text(&source["prefix"]);
        for (kind, gvr) in [("configMapRef", gvr::CONFIG_MAPS), ("secretRef", gvr::SECRETS)] {
            let reference = &source[kind];
            if reference.is_null() {
                continue;
            }
            let Some(data) = data(store, &gvr, pod, reference)? else {
                continue;
            };
            for (key, value) in data {
                variables.insert(format!("{prefix}{key}"), value);
            }
        }
    }
    for variable in list(&container["env"]) {
        let value = match &variable["valueFrom"] {
            Value::Null => Some(expand(text(&variable["value"]), &variables)),
            source => from_source(store, pod, source)?,
        };
        if let Some(value) = value {
            variables.insert(text(&variable["name"]).to_owned(), value);
        }
    }
    Ok(variables)
}

fn from_source(store: &Store, pod: &Value, source: &Value) -> Result<Option<String>, String> {
    if let Some(path) = source["fieldRef"]["fieldPath"].as_str() {
        return field(pod, path).map(Some);
    }
    for (kind, gvr) in [("configMapKeyRef", gvr::CONFIG_MAPS), ("secretKeyRef", gvr::SECRETS)] {
        let reference = &source[kind];
        if reference.is_null() {
            continue;
        }
        let key = text(&reference["key"]);
        let data = data(store, &gvr, pod, reference)?;
        let value = data.and_then(|mut d| d.remove(key));
        if value.is_none() && reference["optional"] != true {
            let resource = gvr.resource.trim_end_matches('s');
            let name = text(&reference["name"]);
            return Err(format!("couldn't find key {key} in {resource} {name}"));
        }
        return Ok(value);
    }
    if !source["resourceFieldRef"].is_null() {
        return Err("unsupported: resourceFieldRef (the embedded node has no resources)".into());
    }
    Err(format!("unknown valueFrom: {source}"))
}

/// The data of a ConfigMap or Secret; `None` when it is missing and optional.
fn data(store: &Store, gvr: &Gvr, pod: &Value, reference: &Value) -> Result<Option<BTreeMap<String, String>>, String> {
    let name = text(&reference["name"]);
    let object = match store.get(gvr, Some(namespace(pod)), name) {
        Ok(object) => object,
        Err(status) if status.is_not_found() && reference["optional"] == true => return Ok(None),
        Err(status) => return Err(status.message),
    };
    let decoded = |value: &Value| -> Option<String> {
        let text = value.as_str()?;
        if *gvr == gvr::SECRETS {
            return String::from_utf8(STANDARD.decode(text).ok()?).ok();
        }
        Some(text.to_owned())
    };
    let entries = object["data"].as_object().into_iter().flatten();
    let data = entries.filter_map(|(k, v)| Some((k.clone(), decoded(v)?)));
    Ok(Some(data.collect()))
}

/// A field of the pod as `fieldRef` names it.
fn field(pod: &Value, path: &str) -> Result<String, String> {
    let in_map = |what: &str| {
        let key = path.strip_prefix(what)?.strip_suffix("']")?;
        Some(key.to_owned())
    };
    if let Some(key) = in_map("metadata.labels['") {
        return Ok(text(&pod["metadata"]["labels"][key]).to_owned());
    }
    if let Some(key) = in_map("metadata.annotations['") {
        return Ok(text(&pod["metadata"]["annotations"][key]).to_owned());
    }
    let value = match path {
        "metadata.name" => &pod["metadata"]["name"],
        "metadata.namespace" => &pod["metadata"]["namespace"],
        "metadata.uid" => &pod["metadata"]["uid"],
        "spec.nodeName" => &pod["spec"]["nodeName"],
        "spec.serviceAccountName" => &pod["spec"]["serviceAccountName"],
        "status.podIP" | "status.podIPs" => &pod["status"]["podIP"],
        "status.hostIP" | "status.hostIPs" => &pod["status"]["hostIP"],
        _ => return Err(format!("unsupported fieldPath: {path}")),
    };
    Ok(text(value).to_owned())
}

/// Replaces `$(NAME)` by the variable of that name; `$$` stands for `$`, and unknown names stay as they are.
pub(crate) fn expand(input: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let reference = after.strip_prefix('(').and_then(|r| r.split_once(')'));
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = reference {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_apiserver::store::StoreConfig;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web-0", "namespace": "default", "annotations": {"a/b": "note"}, "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "serviceAccountName": "sa"},
            "status": {"podIP": "10.0.0.7", "hostIP": "172.18.0.2"},
        })
    }

    #[test]
    fn fields_maps_and_references_are_resolved_in_order() {
        let store = Store::new(StoreConfig::default());
        store
            .create(
                &gvr::SECRETS,
                Some("default"),
                json!({"metadata": {"name": "keys"}, "data": {"token": "c2VjcmV0"}}),
            )
            .unwrap();
        store
            .create(
                &gvr::CONFIG_MAPS,
                Some("default"),
                json!({"metadata": {"name": "conf"}, "data": {"LEVEL": "info"}}),
            )
            .unwrap();
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let container = json!({
            "envFrom": [{"prefix": "C_", "configMapRef": {"name": "conf"}}, {"secretRef": {"name": "nosuch", "optional": true}}],
            "env": [
                field("NAME", "metadata.name"), field("IP", "status.podIP"),
                field("NOTE", "metadata.annotations['a/b']"), field("APP", "metadata.labels['app']"),
                {"name": "FULL", "value": "$(NAME).$(APP) $$(NAME) $(NOSUCH) $"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "x", "optional": true}}},
            ],
        });
        let found = variables(&store, &pod(), &container).unwrap();
        assert_eq!(
            json!(found),
            json!({
                "C_LEVEL": "info", "NAME": "web-0", "IP": "10.0.0.7", "NOTE": "note", "APP": "web",
                "FULL": "web-0.web $(NAME) $(NOSUCH) $", "TOKEN": "secret",
            })
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let store = Store::new(StoreConfig::default());
        let error = |source: Value| {
            let container = json!({"env": [{"name": "A", "valueFrom": source}]});
            variables(&store, &pod(), &container).unwrap_err()
        };
        let missing = error(json!({"configMapKeyRef": {"name": "nosuch", "key": "k"}}));
        assert_eq!(missing, "configmaps \"nosuch\" not found");
        assert!(error(json!({"fieldRef": {"fieldPath": "spec.x"}})).contains("unsupported fieldPath"));
        assert!(error(json!({"resourceFieldRef": {}})).contains("unsupported"));
    }
}
