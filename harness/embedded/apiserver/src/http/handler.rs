//! The way of every request: pause, authentication, impersonation, authorization, answer.

use super::body::{self, Body};
use super::counts::RequestKey;
use super::route::{Query, ResourceTarget, Target, target};
use super::{discovery, openapi, resource_request};
use crate::auth::rbac::{self, Attributes};
use crate::auth::token::UserInfo;
use crate::server::ServerState;
use crate::{FieldSelector, Status};
use futures::FutureExt;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Answers a request. Every failure becomes a `Status`.
pub(crate) async fn handle(state: Arc<ServerState>, request: Request<Incoming>) -> Response<Body> {
    state.wait_while_paused().await;
    // A panic would be a bug, and it would cost every other request on the connection: the client gets a Status instead.
    let answer = AssertUnwindSafe(Box::pin(answer(state, request))).catch_unwind();
    match answer.await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => body::failure(&status),
        Err(_) => body::failure(&Status::internal("the request could not be handled")),
    }
}

async fn answer(state: Arc<ServerState>, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let target = target(request.uri().path());
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let attributes = attributes(&target, request.method(), &query, request.uri().path());
    state.counts.add(RequestKey {
        verb: attributes.verb.clone(),
        resource: match (&attributes.resource, &attributes.subresource) {
            (resource, _) if resource.is_empty() => attributes.path.clone(),
            (resource, part) if part.is_empty() => resource.clone(),
            (resource, part) => format!("{resource}/{part}"),
        },
        user_agent: user_agent(request.headers()).unwrap_or("unknown").to_owned(),
    });

    let user = authenticate(&state, request.headers())?;
    let user = impersonate(&state, user, request.headers())?;
    if !rbac::allowed(&state.store, &user, &attributes) {
        return Err(attributes.refusal(&user));
    }
    match target {
        Target::Path(path) => answer_path(&state, &path, request.method(), request.headers()),
        Target::Resource(target) => resource_request::answer(state, user, target, query, request).await,
    }
}

fn attributes(target: &Target, method: &Method, query: &Query, path: &str) -> Attributes {
    match target {
        Target::Path(_) => Attributes {
            verb: method.as_str().to_lowercase(),
            path: path.to_owned(),
            ..Attributes::default()
        },
        Target::Resource(target) => resource_attributes(target, method, query),
    }
}

fn resource_attributes(target: &ResourceTarget, method: &Method, query: &Query) -> Attributes {
    let is_namespace = target.gvr.group.is_empty() && target.gvr.resource == "namespaces";
    // As in Kubernetes, a namespace is in itself, so that rules of a Role can cover it.
    let namespace = if is_namespace {
        target.name.clone()
    } else {
        target.namespace.clone()
    };
    let verb = target.verb(method, query);
    // A list of one name is authorized like a get of it, so that rules with resourceNames allow to watch a single object.
    let selected = || {
        let fields = FieldSelector::parse(query.get("fieldSelector")?).ok()?;
        fields.required("metadata.name").map(str::to_owned)
    };
    let name = target.name.clone().or_else(|| {
        if matches!(verb, "list" | "watch" | "deletecollection") {
            selected()
        } else {
            None
        }
    });
    Attributes {
        verb: verb.to_owned(),
        group: target.gvr.group.to_string(),
        resource: target.gvr.resource.to_string(),
        subresource: target.subresource.clone().unwrap_or_default(),
        namespace: namespace.unwrap_or_default(),
        name: name.unwrap_or_default(),
        path: String::new(),
    }
}

/// First word of the user agent, up to a slash: also the default field manager.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<&str> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    agent.split(['/', ' ']).next().filter(|a| !a.is_empty())
}

fn authenticate(state: &ServerState, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = header
        .and_then(|h| h.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        // Browsers and WebSocket clients cannot set the header; Kubernetes lets them send it as a subprotocol, which kube-rs
        // does not need. Only the header counts here.
        .ok_or_else(Status::unauthorized)?;
    state.store.authenticate(token).ok_or_else(Status::unauthorized)
}

/// The user that the request wants to be, if the authenticated one may be it.
fn impersonate(state: &ServerState, user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok().map(str::to_owned))
        .collect();
    let uid = text("impersonate-uid");
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let key = name.as_str().strip_prefix("impersonate-extra-")?;
            Some((key.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let Some(name) = text("impersonate-user") else {
        if groups.is_empty() && uid.is_none() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request(
            "requested impersonation without impersonating a user",
        ));
    };
    let demand = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            path: String::new(),
        };
        if rbac::allowed(&state.store, &user, &attributes) {
            Ok(())
        } else {
            Err(attributes.refusal(&user))
        }
    };
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let mut assumed = match account {
        Some((namespace, account)) => {
            demand("", "serviceaccounts", "", namespace, account)?;
            if groups.is_empty() {
                UserInfo::service_account(namespace, account, "")
            } else {
                UserInfo::new(&name, &[])
            }
        }
        None => {
            demand("", "users", "", "", &name)?;
            UserInfo::new(&name, &[])
        }
    };
    for group in groups {
        demand("", "groups", "", "", &group)?;
        if !assumed.groups.contains(&group) {
            assumed.groups.push(group);
        }
    }
    if let Some(uid) = uid {
        demand("authentication.k8s.io", "uids", "", "", &uid)?;
        assumed.uid = uid;
    }
    for (key, value) in extra {
        demand("authentication.k8s.io", "userextras", &key, "", &value)?;
        assumed.extra.entry(key).or_default().push(value);
    }
    Ok(assumed)
}

fn answer_path(
    state: &ServerState,
    path: &[String],
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok(body::full(200, "text/plain; charset=utf-8", "ok")),
        ["version"] => Ok(body::object(200, &version(), false)),
        ["api" | "apis", ..] => discovery::answer(state, &segments, headers),
        ["openapi", rest @ ..] => openapi::answer(state, rest, headers),
        [] => Ok(body::object(
            200,
            &json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]}),
            false,
        )),
        _ => Err(Status::no_such_resource()),
    }
}

/// The version of Kubernetes whose behaviour is followed.
fn version() -> serde_json::Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0+meshproof.embedded", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2025-04-23T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}
