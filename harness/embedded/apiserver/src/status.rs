//! `Status`: the one error type of the server, with the reasons, codes and wording that Kubernetes clients know.

use serde_json::{Map, Value, json};
use std::fmt;

/// A refused request, as Kubernetes reports it (`kind: Status`, `status: Failure`).
///
/// Clients decide by `code` and `reason` (kube-rs: `kube::Error::Api`, client-go: `apierrors.IsNotFound` and friends), so the
/// pairs made by the constructors below are the ones of `k8s.io/apimachinery/pkg/api/errors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, for example `NotFound`.
    pub reason: &'static str,
    /// Message for people.
    pub message: String,
    /// Which object was concerned and why.
    pub details: Option<Box<StatusDetails>>,
}

/// The object that a [`Status`] speaks of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusDetails {
    /// Name of the object.
    pub name: String,
    /// API group.
    pub group: String,
    /// Resource (plural) or kind, as Kubernetes fills it in for the same error.
    pub kind: String,
    /// Field errors of an `Invalid` status.
    pub causes: Vec<Cause>,
    /// Seconds after which a client should try again.
    pub retry_after_seconds: Option<u32>,
}

/// One field error.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Reason, for example `FieldValueRequired`.
    pub reason: &'static str,
    /// Message without the field's path.
    pub message: String,
    /// Path of the field, for example `spec.ports[0].port`.
    pub field: String,
}

impl Cause {
    /// A required field is missing.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    /// A field's value is malformed.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {}: {detail}", shown(value)),
            field: field.into(),
        }
    }

    /// A field's value is not one of the possible ones.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("\"{s}\""))
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {}: supported values: {list}", shown(value)),
            field: field.into(),
        }
    }

    /// A value occurs twice where it must be unique.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {}", shown(value)),
            field: field.into(),
        }
    }

    /// A field may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {detail}"),
            field: field.into(),
        }
    }

    /// A value is longer than allowed.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {limit} bytes"),
            field: field.into(),
        }
    }

    /// A value has the wrong type.
    pub fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            message: format!("Invalid value: {}: {detail}", shown(&json!(type_name(value)))),
            field: field.into(),
        }
    }
}

/// A value as Kubernetes prints it in messages: strings quoted, long ones cut.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 300 {
        let cut = (0..=300).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// The JSON type of a value in the words of OpenAPI.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `pods` in the core group, `deployments.apps` elsewhere.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl Status {
    fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details = Some(Box::new(StatusDetails {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..StatusDetails::default()
        }));
        self
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::plain(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", qualified(group, resource)),
        )
        .about(group, resource, name)
    }

    /// 404 for a path that the server does not serve.
    pub fn no_such_resource() -> Self {
        Self::plain(404, "NotFound", "the server could not find the requested resource").about("", "", "")
    }

    /// 409 for a name that is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::plain(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", qualified(group, resource)),
        )
        .about(group, resource, name)
    }

    /// 409 for a write on a stale or otherwise incompatible state.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::plain(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} \"{name}\": {why}",
                qualified(group, resource)
            ),
        )
        .about(group, resource, name)
    }

    /// 409 with a cause per conflicting field, from a server-side apply.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        let mut status = Self::plain(409, "Conflict", message);
        status.details = Some(Box::new(StatusDetails {
            causes,
            ..StatusDetails::default()
        }));
        status
    }

    /// 422 with a cause per field.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let list = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect::<Vec<_>>();
        let text = match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Self::plain(
            422,
            "Invalid",
            format!("{} \"{name}\" is invalid: {text}", qualified(group, kind)),
        )
        .about(group, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = causes;
        }
        status
    }

    /// 422 without field causes.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::plain(422, "Invalid", message)
    }

    /// 403 for an object, with a reason.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let object = if name.is_empty() {
            format!("{} is forbidden: {why}", qualified(group, resource))
        } else {
            format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource))
        };
        Self::plain(403, "Forbidden", object).about(group, resource, name)
    }

    /// 403 because the namespace is going away.
    pub fn namespace_terminating(group: &str, resource: &str, name: &str, namespace: &str) -> Self {
        let mut status = Self::forbidden(
            group,
            resource,
            name,
            &format!("unable to create new content in namespace {namespace} because it is being terminated"),
        );
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating",
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".into(),
            });
        }
        status
    }

    /// 403 for a path that is no resource.
    pub fn forbidden_path(message: impl Into<String>) -> Self {
        Self::plain(403, "Forbidden", message).about("", "", "")
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::plain(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .about("", "", "")
    }

    /// 406.
    pub fn not_acceptable(supported: &str) -> Self {
        Self::plain(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {supported}"),
        )
    }

    /// 410 for a resource version that is no longer in the history: list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::plain(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::plain(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 413 with what is too large.
    pub fn too_large_for(why: impl fmt::Display) -> Self {
        Self::plain(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 408: the client was too slow.
    pub fn request_timeout(message: impl Into<String>) -> Self {
        Self::plain(408, "Timeout", message)
    }

    /// 415.
    pub fn unsupported_media_type(found: &str, accepted: &str) -> Self {
        Self::plain(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format ({found}) - accepted media types include: {accepted}"
            ),
        )
    }

    /// 429, used by the eviction subresource.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::plain(429, "TooManyRequests", message);
        status.details = Some(Box::new(StatusDetails {
            retry_after_seconds: Some(retry_after_seconds),
            ..StatusDetails::default()
        }));
        status
    }

    /// 500.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::plain(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 501 for what a real API server can do and this one cannot.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::plain(
            501,
            "NotImplemented",
            format!("unsupported by the embedded API server: {what}"),
        )
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::plain(503, "ServiceUnavailable", message)
    }

    /// 504 for a resource version that lies in the future.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let mut status = Self::plain(
            504,
            "Timeout",
            format!("Too large resource version: {requested}, current: {current}"),
        );
        status.details = Some(Box::new(StatusDetails {
            causes: vec![Cause {
                reason: "ResourceVersionTooLarge",
                message: "Too large resource version".into(),
                field: String::new(),
            }],
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        }));
        status
    }

    /// Whether this is a 404.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// Whether this is a 409 on a stale resource version or a field conflict (not `AlreadyExists`).
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// Whether this is a 409 for a name that is taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// The object that goes over the wire.
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            out["details"] = details.to_json();
        }
        out
    }

    /// The `Success` status that a completed deletion answers with.
    pub fn success(group: &str, resource: &str, name: &str, uid: &str) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": name, "group": group, "kind": resource, "uid": uid},
        })
    }
}

impl StatusDetails {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                out.insert(key.into(), json!(value));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|c| {
                if c.field.is_empty() {
                    json!({"reason": c.reason, "message": c.message})
                } else {
                    json!({"reason": c.reason, "message": c.message, "field": c.field})
                }
            });
            out.insert("causes".into(), causes.collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            out.insert("retryAfterSeconds".into(), json!(seconds));
        }
        Value::Object(out)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.code, self.reason)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_lists_every_cause() {
        let status = Status::invalid(
            "apps",
            "Deployment",
            "web",
            vec![
                Cause::required("spec.selector", ""),
                Cause::invalid("spec.replicas", &json!(-1), "must be non-negative"),
            ],
        );
        assert_eq!(status.code, 422);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: [spec.selector: Required value, spec.replicas: Invalid value: -1: must be non-negative]"
        );
        assert_eq!(status.to_json()["details"]["causes"][1]["reason"], "FieldValueInvalid");
    }

    #[test]
    fn not_found_names_group_and_resource() {
        assert_eq!(Status::not_found("", "pods", "a").message, "pods \"a\" not found");
        assert_eq!(
            Status::not_found("apps", "deployments", "a").message,
            "deployments.apps \"a\" not found"
        );
    }
}
