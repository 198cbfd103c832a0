//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.

use super::body::{self, Body};
use crate::Status;
use crate::resource::{Groups, ResourceType, VersionInfo};
use crate::server::ServerState;
use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, Response};
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Plural, kind, and whether it is in a namespace.
type Reviews = &'static [(&'static str, &'static str, bool)];

/// A group that has only review resources, which are not stored.
const REVIEWS: &[(&str, Reviews)] = &[
    (
        "authorization.k8s.io",
        &[
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview", false),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview", false),
            ("subjectaccessreviews", "SubjectAccessReview", false),
            ("localsubjectaccessreviews", "LocalSubjectAccessReview", true),
        ],
    ),
    (
        "authentication.k8s.io",
        &[
            ("tokenreviews", "TokenReview", false),
            ("selfsubjectreviews", "SelfSubjectReview", false),
        ],
    ),
];

pub(super) fn answer(state: &ServerState, path: &[&str], headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let groups = state.store.lock().registry.groups();
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let aggregated = accept.split(',').any(|range| {
        let range: String = range.chars().filter(|c| !c.is_whitespace()).collect();
        range.contains("as=APIGroupDiscoveryList")
            && range.contains("g=apidiscovery.k8s.io")
            && range.contains("v=v2")
            && !range.contains("v=v2beta1")
    });
    let value = match path {
        ["api"] if aggregated => return Ok(aggregated_list(&groups, true)),
        ["apis"] if aggregated => return Ok(aggregated_list(&groups, false)),
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
        }),
        ["apis"] => {
            let names = group_names(&groups);
            let list: Vec<Value> = names.iter().map(|name| group(&groups, name)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
        }
        ["api", version] => resource_list(&groups, "", version)?,
        ["apis", name] if group_names(&groups).contains(&(*name).to_owned()) => {
            let mut group = group(&groups, name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }
        ["apis", group, version] => resource_list(&groups, group, version)?,
        _ => return Err(Status::no_such_resource()),
    };
    Ok(body::object(200, &value, false))
}

fn group_names(groups: &Groups) -> Vec<String> {
    let mut names: Vec<String> = groups.keys().filter(|g| !g.is_empty()).cloned().collect();
    names.extend(REVIEWS.iter().map(|(name, _)| (*name).to_owned()));
    names.sort();
    names.dedup();
    names
}

fn group(groups: &Groups, name: &str) -> Value {
    let versions: Vec<String> = match groups.get(name) {
        Some(versions) => versions.iter().map(|(v, _)| v.clone()).collect(),
        None => vec!["v1".into()],
    };
    let entry = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    json!({"name": name, "versions": versions.iter().map(entry).collect::<Vec<_>>(), "preferredVersion": versions.first().map(entry)})
}

fn resource_list(groups: &Groups, group: &str, version: &str) -> Result<Value, Status> {
    let mut resources = Vec::new();
    if let Some((_, reviews)) = REVIEWS
        .iter()
        .find(|(name, _)| *name == group)
        .filter(|_| version == "v1")
    {
        for (plural, kind, namespaced) in *reviews {
            resources.push(json!({
                "name": plural, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind, "verbs": ["create"],
            }));
        }
    }
    let types = groups
        .get(group)
        .and_then(|versions| versions.iter().find(|(v, _)| v == version))
        .map(|(_, types)| types);
    for resource in types.into_iter().flatten() {
        let Some(info) = resource.served(version) else { continue };
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs(),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        resources.push(entry);
        for part in subresources(resource, info) {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, part.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": part.kind, "verbs": part.verbs,
            });
            if let Some((group, version)) = part.group_version {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return Err(Status::no_such_resource());
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}))
}

/// A subresource as discovery lists it.
struct Part {
    name: &'static str,
    kind: String,
    verbs: &'static [&'static str],
    group_version: Option<(&'static str, &'static str)>,
}

fn subresources(resource: &ResourceType, version: &VersionInfo) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |name, kind: &str, verbs, group_version| {
        parts.push(Part {
            name,
            kind: kind.to_owned(),
            verbs,
            group_version,
        });
    };
    const CHANGE: &[&str] = &["get", "patch", "update"];
    if version.status {
        add("status", &resource.kind, CHANGE, None);
    }
    if version.scale.is_some() {
        add("scale", "Scale", CHANGE, Some(("autoscaling", "v1")));
    }
    if resource.group.is_empty() {
        match resource.plural.as_str() {
            "pods" => {
                add("log", "Pod", &["get"], None);
                add("exec", "PodExecOptions", &["create", "get"], None);
                add("portforward", "PodPortForwardOptions", &["create", "get"], None);
                add("eviction", "Eviction", &["create"], Some(("policy", "v1")));
                add("binding", "Binding", &["create"], None);
            }
            "namespaces" => add("finalize", "Namespace", &["update"], None),
            "serviceaccounts" => add(
                "token",
                "TokenRequest",
                &["create"],
                Some(("authentication.k8s.io", "v1")),
            ),
            _ => {}
        }
    }
    parts
}

fn aggregated_list(groups: &Groups, core: bool) -> Response<Body> {
    let names = if core { vec![String::new()] } else { group_names(groups) };
    let items: Vec<Value> = names.iter().map(|name| aggregated_group(groups, name)).collect();
    let value = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let mut response = body::object(200, &value, false);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(AGGREGATED));
    response
}

fn aggregated_group(groups: &Groups, name: &str) -> Value {
    let kind_of = |kind: &str, group: &str, version: &str| json!({"group": group, "version": version, "kind": kind});
    let mut versions = Vec::new();
    for (version, types) in groups.get(name).into_iter().flatten() {
        let mut resources = Vec::new();
        for resource in types {
            let Some(info) = resource.served(version) else { continue };
            let parts: Vec<Value> = subresources(resource, info)
                .into_iter()
                .map(|part| {
                    let (group, version) = part.group_version.unwrap_or((&resource.group, version));
                    json!({"subresource": part.name, "responseKind": kind_of(&part.kind, group, version), "verbs": part.verbs})
                })
                .collect();
            let mut entry = json!({
                "resource": resource.plural, "responseKind": kind_of(&resource.kind, name, version),
                "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": resource.singular, "verbs": resource.verbs(),
                "shortNames": resource.short_names, "categories": resource.categories,
            });
            if !parts.is_empty() {
                entry["subresources"] = json!(parts);
            }
            resources.push(entry);
        }
        versions.push(json!({"version": version, "resources": resources, "freshness": "Current"}));
    }
    if let Some((_, reviews)) = REVIEWS.iter().find(|(group, _)| *group == name) {
        let resources: Vec<Value> = reviews
            .iter()
            .map(|(plural, kind, namespaced)| {
                json!({
                    "resource": plural, "responseKind": kind_of(kind, name, "v1"), "singularResource": kind.to_lowercase(),
                    "scope": if *namespaced { "Namespaced" } else { "Cluster" }, "verbs": ["create"],
                })
            })
            .collect();
        versions.push(json!({"version": "v1", "resources": resources, "freshness": "Current"}));
    }
    let metadata = if name.is_empty() {
        json!({})
    } else {
        json!({"name": name})
    };
    json!({"metadata": metadata, "versions": versions})
}
