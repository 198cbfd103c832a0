//! `serviceaccounts/token`: a token that expires.

use crate::Status;
use crate::http::body::{self, Body};
use crate::http::resource_request::ResourceRequest;
use crate::store::time_text;
use http::Response;
use serde_json::{Value, json};

/// What Kubernetes gives when the client does not say, and the shortest it allows (seconds).
const DEFAULT_SECONDS: i64 = 3600;
const SHORTEST_SECONDS: i64 = 600;

pub(crate) fn answer(request: &ResourceRequest, asked: Value) -> Result<Response<Body>, Status> {
    let seconds = asked["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    if !(SHORTEST_SECONDS..=1 << 32).contains(&seconds) {
        let why = if seconds < SHORTEST_SECONDS {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let cause = crate::Cause::invalid("spec.expirationSeconds", &json!(seconds), why);
        return Err(Status::invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            vec![cause],
        ));
    }
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let namespace = request.namespace().unwrap_or_default();
    let token = request.store.issue_token_until(namespace, request.name(), expires)?;
    let answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": request.name(), "namespace": namespace, "creationTimestamp": crate::store::now()},
        "spec": {"audiences": asked["spec"]["audiences"].as_array().cloned().unwrap_or_default(), "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": time_text(expires)},
    });
    Ok(body::object(201, &answer, false))
}
