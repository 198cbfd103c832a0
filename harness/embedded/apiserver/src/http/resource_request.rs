//! Requests on resources: what the client wants in which form, and the calls to the store.

use super::body::{self, Body};
use super::field_validation::Sent;
use super::handler::user_agent;
use super::route::{Query, ResourceTarget};
use super::{watch_response, wire};
use crate::auth::review;
use crate::auth::token::UserInfo;
use crate::server::ServerState;
use crate::store::{DeleteOptions, Deleted, ListOptions, ObjectList, Patch, Propagation, Subresource};
use crate::table::{self, IncludeObject};
use crate::{FieldSelector, Gvr, LabelSelector, Selector, Status, Store, subresource};
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;

/// How a client wants objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) yaml: bool,
}

/// In what shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    #[default]
    Whole,
    /// As rows for people.
    Table(IncludeObject),
    /// Only their metadata.
    Metadata,
}

impl Form {
    /// The first form of the `Accept` header that can be served.
    ///
    /// # Errors
    /// 406 when none can.
    fn read(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_lowercase();
            let mut representation = None;
            let mut group_fits = true;
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("as", value)) => representation = Some(value),
                    Some(("g", group)) => group_fits = group == "meta.k8s.io",
                    _ => {}
                }
            }
            let yaml = match media_type.as_str() {
                "" | "*/*" | "application/*" | "application/json" => false,
                "application/yaml" | "text/yaml" => true,
                _ => continue,
            };
            let shape = match representation {
                None => Shape::Whole,
                Some("Table") if group_fits => Shape::Table(IncludeObject::read(query.get("includeObject"))),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if group_fits => Shape::Metadata,
                Some(_) => continue,
            };
            return Ok(Self { shape, yaml });
        }
        Err(Status::not_acceptable("application/json, application/yaml"))
    }
}

/// A request with everything that its answer needs.
pub(crate) struct ResourceRequest {
    pub(crate) state: Arc<ServerState>,
    pub(crate) target: ResourceTarget,
    pub(crate) query: Query,
    pub(crate) store: Store,
    pub(crate) form: Form,
}

pub(super) async fn answer(
    state: Arc<ServerState>,
    user: UserInfo,
    target: ResourceTarget,
    query: Query,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let (group, resource) = (target.gvr.group.clone(), target.gvr.resource.clone());
    if matches!(&*group, "authorization.k8s.io" | "authentication.k8s.io") {
        if request.method() != Method::POST || target.gvr.version != "v1" {
            return Err(Status::method_not_allowed());
        }
        let review = read_object(request).await?;
        let answer = review::answer(&state.store, &user, &group, &resource, review);
        return answer
            .unwrap_or_else(|| Err(Status::no_such_resource()))
            .map(|review| body::object(201, &review, false));
    }

    let dry_run = match query
        .all("dryRun")
        .filter(|v| !v.is_empty())
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => false,
        ["All"] => true,
        other => {
            let text = format!(
                "dryRun: Unsupported value: \"{}\": supported values: \"All\"",
                other.join(",")
            );
            return Err(Status::bad_request(text));
        }
    };
    let manager = query
        .get("fieldManager")
        .or_else(|| user_agent(request.headers()))
        .unwrap_or("unknown")
        .to_owned();
    if manager.len() > 128 {
        return Err(Status::bad_request(
            "fieldManager: Invalid value: may not be longer than 128 bytes",
        ));
    }
    let store = state.store.with_manager(&manager).dry_run(dry_run);
    let form = Form::read(request.headers(), &query)?;
    let resource_type = state.store.lock().registry.lookup(&target.gvr)?;
    check_scope(&target, resource_type.namespaced, request.method())?;
    let this = ResourceRequest {
        state,
        target,
        query,
        store,
        form,
    };
    match this.target.subresource.clone().as_deref() {
        None => this.answer_main(request).await,
        Some("status") => this.answer_part(request, Subresource::Status).await,
        Some("scale") => {
            let method = request.method().clone();
            let (media_type, bytes) = read_bytes(request).await?;
            subresource::scale::answer(&this, &method, &media_type, &bytes)
        }
        Some(part) if group.is_empty() => match (&*resource, part) {
            ("pods", "log") => subresource::log::answer(&this, request.method()).await,
            ("pods", "portforward") => subresource::port_forward::answer(&this, &mut request),
            ("pods", "exec") => subresource::exec::answer(&this, &mut request),
            ("pods", "attach" | "proxy") | ("services" | "nodes", "proxy") => {
                Err(Status::unsupported(format!("{resource}/{part}")))
            }
            ("pods", "eviction") => subresource::pod_actions::evict(&this, read_posted(request).await?),
            ("pods", "binding") => subresource::pod_actions::bind(&this, &read_posted(request).await?),
            ("serviceaccounts", "token") => subresource::token::answer(&this, read_posted(request).await?),
            ("namespaces", "finalize") => Err(Status::unsupported("namespaces/finalize")),
            _ => Err(Status::no_such_resource()),
        },
        Some(_) => Err(Status::no_such_resource()),
    }
}

/// Paths name a namespace exactly for types that live in one; across all namespaces one can only list and watch.
fn check_scope(target: &ResourceTarget, namespaced: bool, method: &Method) -> Result<(), Status> {
    match (namespaced, &target.namespace, &target.name) {
        (false, Some(_), _) | (true, None, Some(_)) => Err(Status::no_such_resource()),
        (true, None, None) if !matches!(*method, Method::GET | Method::HEAD) => Err(Status::method_not_allowed()),
        _ => Ok(()),
    }
}

async fn read_bytes(request: Request<Incoming>) -> Result<(String, bytes::Bytes), Status> {
    let media_type = body::media_type(request.headers());
    Ok((media_type, body::read(request.into_body()).await?))
}

async fn read_object(request: Request<Incoming>) -> Result<Value, Status> {
    let (media_type, bytes) = read_bytes(request).await?;
    body::decode(&bytes, &media_type)
}

async fn read_posted(request: Request<Incoming>) -> Result<Value, Status> {
    if request.method() != Method::POST {
        return Err(Status::method_not_allowed());
    }
    read_object(request).await
}

impl ResourceRequest {
    pub(crate) fn gvr(&self) -> &Gvr {
        &self.target.gvr
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref()
    }

    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    async fn answer_main(&self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let verb = self.target.verb(request.method(), &self.query);
        match verb {
            "get" => self.one(200, &*self.store.get(self.gvr(), self.namespace(), self.name())?),
            "list" => self.list(),
            "watch" => watch_response::answer(self, self.selector()?),
            "create" if self.target.name.is_none() => {
                let object = read_object(request).await?;
                let warnings = self.field_validation(Sent::Object(&object))?;
                let created = self.store.create(self.gvr(), self.namespace(), object)?;
                let mut response = self.one(201, &created)?;
                self.warn(&mut response, &warnings, &created);
                Ok(response)
            }
            "update" if self.target.name.is_some() => {
                let object = read_object(request).await?;
                let warnings = self.field_validation(Sent::Object(&object))?;
                let mut response = self.update(object)?;
                self.warn(&mut response, &warnings, &Value::Null);
                Ok(response)
            }
            "patch" if self.target.name.is_some() => self.answer_part(request, Subresource::Main).await,
            "delete" | "deletecollection" => {
                let (media_type, bytes) = read_bytes(request).await?;
                let options = self.delete_options(&media_type, &bytes)?;
                if verb == "delete" {
                    self.delete(&options)
                } else {
                    self.delete_collection(&options)
                }
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// GET, PUT and PATCH of the object or of its status.
    async fn answer_part(&self, request: Request<Incoming>, part: Subresource) -> Result<Response<Body>, Status> {
        let (gvr, namespace, name) = (self.gvr(), self.namespace(), self.name());
        let method = request.method().clone();
        if part == Subresource::Status {
            let resource = self.store.lock().registry.lookup(gvr)?;
            if !resource.served(&gvr.version).is_some_and(|v| v.status) {
                return Err(Status::no_such_resource());
            }
        }
        match method {
            Method::GET | Method::HEAD => self.one(200, &*self.store.get(gvr, namespace, name)?),
            Method::PUT => {
                let object = self.named(read_object(request).await?)?;
                let warnings = self.field_validation(Sent::Object(&object))?;
                let mut response = self.one(200, &*self.store.update_part(gvr, namespace, object, part)?)?;
                self.warn(&mut response, &warnings, &Value::Null);
                Ok(response)
            }
            Method::PATCH => {
                let (media_type, bytes) = read_bytes(request).await?;
                let patch = self.read_patch(&media_type, &bytes)?;
                let warnings = match &patch {
                    Patch::Apply { object, .. } => {
                        self.only_declared_fields(object)?;
                        self.field_validation(Sent::Object(object))?
                    }
                    Patch::Merge(object) | Patch::Strategic(object) => self.field_validation(Sent::Object(object))?,
                    Patch::Json(operations) => self.field_validation(Sent::Operations(operations))?,
                };
                let (object, created) = self.store.patch_part(gvr, namespace, name, &patch, part)?;
                let mut response = self.one(if created { 201 } else { 200 }, &object)?;
                let is_definition = gvr.resource == "customresourcedefinitions";
                let shown = if created || is_definition {
                    &*object
                } else {
                    &Value::Null
                };
                self.warn(&mut response, &warnings, shown);
                Ok(response)
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    pub(crate) fn read_patch(&self, media_type: &str, bytes: &[u8]) -> Result<Patch, Status> {
        match media_type {
            "application/merge-patch+json" => Ok(Patch::Merge(body::json(bytes)?)),
            "application/json-patch+json" => Ok(Patch::Json(body::json(bytes)?)),
            "application/strategic-merge-patch+json" => Ok(Patch::Strategic(body::json(bytes)?)),
            "application/apply-patch+yaml" => {
                let manager = self.query.get("fieldManager").ok_or_else(|| {
                    let cause = crate::Cause::required("fieldManager", "is required for apply patch");
                    Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause])
                })?;
                Ok(Patch::Apply {
                    object: body::yaml(bytes)?,
                    manager: manager.to_owned(),
                    force: self.query.flag("force"),
                })
            }
            other => Err(Status::unsupported_media_type(
                other,
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    /// The name in the object must be the one in the path; it may be left out.
    fn named(&self, mut object: Value) -> Result<Value, Status> {
        if !object.is_object() || !(object["metadata"].is_object() || object["metadata"].is_null()) {
            return Err(Status::bad_request(
                "the object provided must be a JSON object with a metadata object",
            ));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            object["metadata"]["name"] = json!(self.name());
        } else if name != self.name() {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        Ok(object)
    }

    fn update(&self, object: Value) -> Result<Response<Body>, Status> {
        let object = self.named(object)?;
        let creates = matches!(
            (&*self.gvr().group, &*self.gvr().resource),
            ("coordination.k8s.io", "leases") | ("", "endpoints" | "events") | ("rbac.authorization.k8s.io", _)
        );
        let without_version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .is_empty();
        match self.store.update(self.gvr(), self.namespace(), object.clone()) {
            Err(status) if creates && without_version && status.is_not_found() => {
                self.one(201, &*self.store.create(self.gvr(), self.namespace(), object)?)
            }
            result => self.one(200, &*result?),
        }
    }

    fn selector(&self) -> Result<Selector, Status> {
        let labels = LabelSelector::parse(self.query.get("labelSelector").unwrap_or_default())?;
        let mut fields = self.query.get("fieldSelector").unwrap_or_default().to_owned();
        if let Some(name) = &self.target.name {
            let escaped = name.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let separator = if fields.is_empty() { "" } else { "," };
            fields = format!("{fields}{separator}metadata.name={escaped}");
        }
        let fields = FieldSelector::parse(&fields)?;
        let allowed = selectable_fields(self.gvr());
        if let Some(path) = fields
            .paths()
            .find(|path| !matches!(*path, "metadata.name" | "metadata.namespace") && !allowed.contains(path))
        {
            return Err(Status::bad_request(format!(
                "Unable to find \"{}\" that match label selector \"\", field selector \"{path}\": field label not supported: {path}",
                self.gvr()
            )));
        }
        Ok(Selector { labels, fields })
    }

    fn list(&self) -> Result<Response<Body>, Status> {
        let version = self
            .query
            .get("resourceVersion")
            .map(|v| parse_number(v, "resourceVersion"))
            .transpose()?;
        let limit = self.query.get("limit").map(|v| parse_number(v, "limit")).transpose()?;
        let exact = match self.query.get("resourceVersionMatch") {
            None | Some("NotOlderThan") => false,
            Some("Exact") => true,
            Some(other) => {
                let text = format!(
                    "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
                );
                return Err(Status::bad_request(text));
            }
        };
        if self.query.get("resourceVersionMatch").is_some() && version.is_none() {
            return Err(Status::bad_request(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if self.query.get("resourceVersionMatch").is_some() && self.query.get("continue").is_some() {
            return Err(Status::bad_request(
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if exact && version == Some(0) {
            return Err(Status::bad_request(
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        if self.query.get("continue").is_some() && version.is_some_and(|v| v != 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let options = ListOptions {
            limit: limit.and_then(|l| usize::try_from(l).ok()),
            continue_token: self.query.get("continue").map(str::to_owned),
            exact_version: version.filter(|_| exact),
        };
        let current = self.store.resource_version();
        if let Some(version) = version.filter(|v| *v > current) {
            return Err(Status::too_large_resource_version(version, current));
        }
        let list = self
            .store
            .list_page(self.gvr(), self.namespace(), &self.selector()?, &options)?;
        self.many(&list)
    }

    /// A response with one object.
    pub(crate) fn one(&self, code: u16, object: &Value) -> Result<Response<Body>, Status> {
        let value = match self.form.shape {
            Shape::Whole => return Ok(body::object(code, object, self.form.yaml)),
            Shape::Metadata => metadata_only(object),
            Shape::Table(include) => {
                let resource = self.store.lock().registry.lookup(self.gvr())?;
                let list = ObjectList {
                    items: vec![Arc::new(object.clone())],
                    ..ObjectList::default()
                };
                table::render(&resource, &self.gvr().version, &list, include)
            }
        };
        Ok(body::object(code, &value, self.form.yaml))
    }

    fn many(&self, list: &ObjectList) -> Result<Response<Body>, Status> {
        let resource = self.store.lock().registry.lookup(self.gvr())?;
        let mut value = match self.form.shape {
            Shape::Table(include) => table::render(&resource, &self.gvr().version, list, include),
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "items": list.items.iter().map(|o| metadata_only(o)).collect::<Vec<_>>(),
            }),
            Shape::Whole => {
                // Written by hand so that the objects need not be copied.
                let mut text = format!(
                    "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
                    json!(resource.list_kind),
                    json!(self.gvr().api_version()),
                    list_metadata(list)
                );
                for (i, object) in list.items.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    text.push_str(&wire::json(object)?);
                }
                text.push_str("]}");
                if self.form.yaml {
                    let value: Value = serde_json::from_str(&text).map_err(Status::internal)?;
                    return Ok(body::object(200, &value, true));
                }
                return Ok(body::full(200, body::JSON, text));
            }
        };
        value["metadata"] = list_metadata(list);
        Ok(body::object(200, &value, self.form.yaml))
    }

    fn delete_options(&self, media_type: &str, bytes: &[u8]) -> Result<DeleteOptions, Status> {
        let given = if bytes.is_empty() {
            json!({})
        } else {
            body::decode(bytes, media_type)?
        };
        if !given.is_object() {
            return Err(Status::bad_request("DeleteOptions must be a JSON object"));
        }
        let policy = given["propagationPolicy"]
            .as_str()
            .or_else(|| self.query.get("propagationPolicy"));
        let orphan = given["orphanDependents"]
            .as_bool()
            .unwrap_or_else(|| self.query.flag("orphanDependents"));
        let propagation = match policy {
            None if orphan => Propagation::Orphan,
            None | Some("Background") => Propagation::Background,
            Some("Foreground") => Propagation::Foreground,
            Some("Orphan") => Propagation::Orphan,
            Some(other) => {
                let cause = crate::Cause::not_supported(
                    "propagationPolicy",
                    &json!(other),
                    &["Background", "Foreground", "Orphan"],
                );
                return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![cause]));
            }
        };
        let grace = match (&given["gracePeriodSeconds"], self.query.get("gracePeriodSeconds")) {
            (Value::Null, None) => None,
            (Value::Null, Some(text)) => Some(parse_number(text, "gracePeriodSeconds")?),
            (number, _) => Some(number.as_u64().ok_or_else(|| {
                Status::bad_request(format!(
                    "gracePeriodSeconds: Invalid value: {number}: must be greater than or equal to 0"
                ))
            })?),
        };
        if given["dryRun"].as_array().is_some_and(|d| !d.is_empty()) && self.query.get("dryRun").is_none() {
            return Err(Status::bad_request("dryRun must be given as a query parameter"));
        }
        Ok(DeleteOptions {
            uid: given["preconditions"]["uid"].as_str().map(str::to_owned),
            resource_version: given["preconditions"]["resourceVersion"].as_str().map(str::to_owned),
            propagation,
            grace_period_seconds: grace,
        })
    }

    fn delete(&self, options: &DeleteOptions) -> Result<Response<Body>, Status> {
        match self.store.delete(self.gvr(), self.namespace(), self.name(), options)? {
            Deleted::Waiting(object) => self.one(200, &object),
            Deleted::Gone(object) if self.gvr().group.is_empty() && self.gvr().resource == "pods" => {
                self.one(200, &object)
            }
            Deleted::Gone(object) => {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                let status = Status::success(&self.gvr().group, &self.gvr().resource, self.name(), uid);
                Ok(body::object(200, &status, self.form.yaml))
            }
        }
    }

    fn delete_collection(&self, options: &DeleteOptions) -> Result<Response<Body>, Status> {
        let deleted = self
            .store
            .delete_collection(self.gvr(), self.namespace(), &self.selector()?, options)?;
        self.many(&deleted)
    }
}

/// Fields by which objects of a type can be selected, besides name and namespace.
fn selectable_fields(gvr: &Gvr) -> &'static [&'static str] {
    match (&*gvr.group, &*gvr.resource) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}

fn parse_number(text: &str, name: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        Status::bad_request(format!(
            "{name}: Invalid value: \"{text}\": must be a non-negative integer"
        ))
    })
}

fn list_metadata(list: &ObjectList) -> Value {
    let mut metadata = json!({"resourceVersion": list.resource_version.to_string()});
    if let Some(token) = &list.continue_token {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

/// An object as `PartialObjectMetadata`.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
