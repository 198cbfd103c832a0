//! OpenAPI documents: as small as clients accept. They name paths and kinds; schemas say only "object", because the server
//! validates and clients need not. Newer kubectl reads from them that the server takes `fieldValidation`.

use super::body::{self, Body};
use crate::Status;
use crate::resource::Groups;
use crate::server::ServerState;
use http::header::ACCEPT;
use http::{HeaderMap, Response};
use serde_json::{Map, Value, json};

pub(super) fn answer(state: &ServerState, path: &[&str], headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    if !(accept.contains("json") || accept.contains('*')) {
        return Err(Status::not_acceptable("application/json"));
    }
    let groups = state.store.lock().registry.groups();
    let value = match path {
        ["v2"] => json!({
            "swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.33.0"}, "paths": {}, "definitions": {},
        }),
        ["v3"] => {
            let mut paths = Map::new();
            for (group, versions) in &groups {
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
        ["v3", "api", version] => document(&groups, "", version)?,
        ["v3", "apis", group, version] => document(&groups, group, version)?,
        _ => return Err(Status::no_such_resource()),
    };
    Ok(body::object(200, &value, false))
}

fn document(groups: &Groups, group: &str, version: &str) -> Result<Value, Status> {
    let types = groups
        .get(group)
        .and_then(|versions| versions.iter().find(|(v, _)| v == version))
        .map(|(_, types)| types)
        .ok_or_else(Status::no_such_resource)?;
    let base = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in types {
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
        let reference =
            json!({"$ref": format!("#/components/schemas/{}", schema_name(group, version, &resource.kind))});
        let responses = json!({"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}});
        let operation = |action: &str| json!({"parameters": parameters, "responses": responses, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk});
        paths.insert(
            format!("{base}{scope}/{}/{{name}}", resource.plural),
            json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}),
        );
        paths.insert(
            format!("{base}{scope}/{}", resource.plural),
            json!({"get": operation("list"), "post": operation("post")}),
        );
        schemas.insert(
            schema_name(group, version, &resource.kind),
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-group-version-kind": [gvk]}),
        );
    }
    Ok(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{group}.{version}.{kind}")
}
