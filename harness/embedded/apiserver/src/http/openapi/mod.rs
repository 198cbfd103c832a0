//! OpenAPI documents, from which clients learn what they may send: `explain` shows them, `apply` and `diff` ask them whether a
//! kind takes `fieldValidation`, older clients validate with them.
//!
//! Built-in kinds have Kubernetes' own schemas, custom ones those of their definitions. Paths say no more than clients read
//! there. Patches name no media types, so that clients merge built-in kinds by the rules that they bring along.

mod protobuf;
mod v2;

use super::body::{self, Body};
use crate::Status;
use crate::resource::{Groups, ResourceType, StorageKey};
use crate::server::ServerState;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Response};
use meshproof_kinds::Kind;
use meshproof_kinds::openapi::{self as kinds, V3_PREFIX};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What every object has, beside what its definition says.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

pub(super) fn answer(state: &ServerState, path: &[&str], headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let takes_json = accept.contains("json") || accept.contains('*');
    let groups = state.store.lock().registry.groups();
    let value = match path {
        ["v2"] if accept.contains(protobuf::ASKED_FOR) => {
            let document = protobuf::document(&custom_definitions(state, &groups));
            return Ok(body::full(200, protobuf::MEDIA_TYPE, document));
        }
        _ if !takes_json => return Err(Status::not_acceptable("application/json")),
        ["v2"] => v2::document(&custom_definitions(state, &groups)),
        ["v3"] => index(&groups),
        ["v3", "api", version] => return document(state, &groups, "", version),
        ["v3", "apis", group, version] => return document(state, &groups, group, version),
        _ => return Err(Status::no_such_resource()),
    };
    Ok(body::object(200, &value, false))
}

fn index(groups: &Groups) -> Value {
    let mut paths = Map::new();
    for (group, versions) in groups {
        for (version, _) in versions {
            let key = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let url = format!("/openapi/v3/{key}");
            paths.insert(key, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// Documents of groups in which all kinds are built in: they are the same for all servers of the process, and large.
static BUILT_IN: LazyLock<Mutex<HashMap<(String, String), Bytes>>> = LazyLock::new(Mutex::default);

fn document(state: &ServerState, groups: &Groups, group: &str, version: &str) -> Result<Response<Body>, Status> {
    let types = groups
        .get(group)
        .and_then(|versions| versions.iter().find(|(v, _)| v == version))
        .map(|(_, types)| types)
        .ok_or_else(Status::no_such_resource)?;
    let built_in = types.iter().all(|t| !t.custom);
    let known = || BUILT_IN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (group.to_owned(), version.to_owned());
    if built_in && let Some(text) = known().get(&key).cloned() {
        return Ok(body::full(200, body::JSON, text));
    }
    let base = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let mut schemas = built_in_definitions(types.iter().filter_map(|t| built_in_kind(t, version)));
    let custom = types.iter().filter(|t| t.custom);
    schemas.extend(custom.map(|t| custom_definition(state, t, version)));
    if types.iter().any(|t| t.custom) {
        schemas.extend(metadata_definitions());
    }
    let mut paths = Map::new();
    for resource in types {
        paths.extend(paths_of(resource, &base, group, version));
    }
    let value = json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths, "components": {"schemas": schemas},
    });
    let text = Bytes::from(value.to_string());
    if built_in {
        known().insert(key, text.clone());
    }
    Ok(body::full(200, body::JSON, text))
}

fn paths_of(resource: &ResourceType, base: &str, group: &str, version: &str) -> [(String, Value); 2] {
    let gvk = json!({"group": group, "version": version, "kind": resource.kind});
    let scope = if resource.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .map(parameter)
        .to_vec();
    let reference = json!({"$ref": format!("{V3_PREFIX}{}", type_name(resource, version))});
    let responses = json!({"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}});
    let operation = |action: &str| json!({"parameters": parameters, "responses": responses, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk});
    [
        (
            format!("{base}{scope}/{}/{{name}}", resource.plural),
            json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}),
        ),
        (
            format!("{base}{scope}/{}", resource.plural),
            json!({"get": operation("list"), "post": operation("post")}),
        ),
    ]
}

fn built_in_kind(resource: &ResourceType, version: &str) -> Option<&'static Kind> {
    let kind = || Kind::of_resource(&resource.group, version, &resource.plural);
    if resource.custom { None } else { kind() }
}

/// The schemas of built-in kinds and of what they consist of, with the kinds named in them.
fn built_in_definitions(kinds: impl Iterator<Item = &'static Kind>) -> Map<String, Value> {
    let kinds: Vec<&Kind> = kinds.collect();
    let generated = kinds::generate(kinds.iter().copied());
    let names: Vec<Option<String>> = (0..kinds.len())
        .map(|i| generated.root_name(i).map(str::to_owned))
        .collect();
    let mut definitions = generated.definitions;
    for (kind, name) in kinds.iter().zip(names) {
        if let Some(definition) = name.and_then(|name| definitions.get_mut(&name)) {
            definition["x-kubernetes-group-version-kind"] =
                json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        }
    }
    definitions
}

/// The schemas of `metadata`, which custom kinds refer to.
fn metadata_definitions() -> Map<String, Value> {
    let mut definitions = kinds::generate(Kind::find("v1", "ConfigMap")).definitions;
    definitions.retain(|name, _| name.contains(".meta.v1."));
    definitions
}

/// The schemas of all served custom kinds.
fn custom_definitions(state: &ServerState, groups: &Groups) -> Map<String, Value> {
    let mut out = Map::new();
    for (version, types) in groups.values().flatten() {
        out.extend(
            types
                .iter()
                .filter(|t| t.custom)
                .map(|t| custom_definition(state, t, version)),
        );
    }
    out
}

/// The schema of a custom kind, as its definition has it, with what every object has.
fn custom_definition(state: &ServerState, resource: &Arc<ResourceType>, version: &str) -> (String, Value) {
    let stored = state
        .store
        .lock()
        .object(&crate::store::ObjectKey {
            storage: StorageKey::new("apiextensions.k8s.io", "customresourcedefinitions"),
            namespace: String::new(),
            name: format!("{}.{}", resource.plural, resource.group),
        })
        .cloned();
    let versions = stored.as_ref().and_then(|crd| crd["spec"]["versions"].as_array());
    let declared = versions.and_then(|all| all.iter().find(|v| v["name"] == version));
    let mut schema = declared.map_or(Value::Null, |v| v["schema"]["openAPIV3Schema"].clone());
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."});
    properties["kind"] = json!({"type": "string", "description": "Kind is a string value representing the REST resource this object represents."});
    properties["metadata"] =
        json!({"description": "Standard object's metadata.", "allOf": [{"$ref": format!("{V3_PREFIX}{OBJECT_META}")}]});
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": resource.group, "version": version, "kind": resource.kind}]);
    (type_name(resource, version), schema)
}

/// Kubernetes' name of a kind in OpenAPI.
fn type_name(resource: &ResourceType, version: &str) -> String {
    if let Some(kind) = built_in_kind(resource, version) {
        return kind.type_name().to_owned();
    }
    let mut parts: Vec<&str> = resource.group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{}", parts.join("."), resource.kind)
}
