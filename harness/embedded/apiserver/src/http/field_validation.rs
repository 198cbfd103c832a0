//! Fields that a type does not have, and the warnings of an answer.

use super::body::Body;
use super::resource_request::ResourceRequest;
use crate::Status;
use crate::admission::kinds::stored;
use crate::admission::typed;
use http::Response;
use http::header::HeaderValue;
use meshproof_kinds::Kind;
use serde_json::Value;

/// Bytes of all warnings of an answer, as in Kubernetes; what is beyond is left out.
const WARNINGS_LIMIT: usize = 4096;

/// What a client sent, for the search for fields that are not known.
#[derive(Clone, Copy)]
pub(super) enum Sent<'a> {
    /// An object or a part of one.
    Object(&'a Value),
    /// The operations of a JSON patch.
    Operations(&'a Value),
}

impl ResourceRequest {
    /// Fields that the type does not have, as `fieldValidation` asks for them; without it, clients are warned.
    ///
    /// # Errors
    /// 400 when the client wants strictness and there are some.
    pub(super) fn field_validation(&self, sent: Sent<'_>) -> Result<Vec<String>, Status> {
        let strict = match self.query.get("fieldValidation") {
            Some("Ignore") => return Ok(Vec::new()),
            None | Some("Warn") => false,
            Some("Strict") => true,
            Some(other) => {
                let text = format!(
                    "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(Status::bad_request(text));
            }
        };
        let resource = self.store.lock().registry.lookup(self.gvr())?;
        let schema = resource.served(&self.gvr().version).and_then(|v| v.schema.clone());
        let built_in = || Kind::of_resource(&self.gvr().group, &self.gvr().version, &self.gvr().resource);
        let unknown = match (schema, sent) {
            (Some(schema), Sent::Object(object)) => crate::crd::schema::unknown_fields(&schema, object),
            // Operations name the fields of a custom resource one by one; what its schema does not know is pruned.
            (Some(_), Sent::Operations(_)) => Vec::new(),
            (None, Sent::Object(object)) => {
                built_in().map_or_else(Vec::new, |kind| typed::unknown_fields(kind, object))
            }
            (None, Sent::Operations(operations)) => {
                built_in().map_or_else(Vec::new, |kind| typed::unknown_in_operations(kind, operations))
            }
        };
        let unknown: Vec<String> = unknown
            .into_iter()
            .map(|field| format!("unknown field \"{field}\""))
            .collect();
        if strict && !unknown.is_empty() {
            return Err(Status::bad_request(format!(
                "strict decoding error: {}",
                unknown.join(", ")
            )));
        }
        Ok(unknown)
    }

    /// Server-side apply takes no field of a built-in type that is not declared, whatever `fieldValidation` says.
    ///
    /// # Errors
    /// 400 with the first such field.
    pub(super) fn only_declared_fields(&self, object: &Value) -> Result<(), Status> {
        let gvr = self.gvr();
        let Some(kind) = Kind::of_resource(&gvr.group, &gvr.version, &gvr.resource) else {
            return Ok(());
        };
        let unknown = typed::unknown_fields(kind, object);
        let Some(first) = unknown.first() else { return Ok(()) };
        let place = match self.namespace() {
            Some(namespace) => format!("{namespace}/{}", self.name()),
            None => format!("/{}", self.name()),
        };
        Err(Status::bad_request(format!(
            "failed to create typed patch object ({place}; {}, Kind={}): .{first}: field not declared in schema",
            kind.api_version, kind.kind
        )))
    }

    /// Warnings that clients print: unknown fields, and parts of definitions that are not evaluated.
    pub(super) fn warn(&self, response: &mut Response<Body>, warnings: &[String], object: &Value) {
        let mut warnings = warnings.to_vec();
        if self.gvr().resource == "customresourcedefinitions" && crate::crd::has_rules(object) {
            warnings.push("x-kubernetes-validations are stored but not evaluated by the embedded API server".into());
        }
        // `object` is there when one was created.
        if !object.is_null() {
            warnings.extend(stored::note(&self.gvr().group, &self.gvr().resource).map(str::to_owned));
        }
        let mut length = 0;
        for warning in warnings {
            length += warning.len();
            if length > WARNINGS_LIMIT {
                break;
            }
            let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                response.headers_mut().append("warning", value);
            }
        }
    }
}
