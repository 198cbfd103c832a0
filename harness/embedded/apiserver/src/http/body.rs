//! Bodies: reading them with a limit, decoding JSON and YAML, and the bodies of responses.

use super::{bounded, wire};
use crate::Status;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the API server answers with.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The limit that Kubernetes sets to request bodies.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A client that does not finish a body in this time is refused.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// KiB of bodies that are being read at once, in the whole process. Others wait.
static ROOM: Semaphore = Semaphore::const_new(64 * 1024);

/// Reads a whole body.
///
/// # Errors
/// 413 when it is too large, 400 when the client did not finish it, 408 when it did not do so in time.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, Status> {
    let announced = body.size_hint().upper().and_then(|n| usize::try_from(n).ok());
    if announced == Some(0) {
        return Ok(Bytes::new());
    }
    let kibibytes = u32::try_from(announced.unwrap_or(LIMIT).min(LIMIT) / 1024 + 1).unwrap_or(u32::MAX);
    let _room = ROOM.acquire_many(kibibytes).await.map_err(Status::internal)?;
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, LIMIT).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(LIMIT)),
        Ok(Err(error)) => Err(Status::bad_request(format!(
            "the body of the request could not be read: {error}"
        ))),
        Err(_) => Err(Status::request_timeout(format!(
            "the body of the request did not arrive within {} s",
            READ_TIMEOUT.as_secs()
        ))),
    }
}

/// The media type of a request, without parameters, in lower case. Missing means JSON.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or(JSON);
    let media_type = header.split(';').next().unwrap_or_default().trim().to_lowercase();
    if media_type.is_empty() {
        JSON.to_owned()
    } else {
        media_type
    }
}

/// Decodes an object that was sent as JSON, YAML or protobuf.
///
/// # Errors
/// 415 for other media types, 400 with the place for malformed text.
pub(crate) fn decode(bytes: &[u8], media_type: &str) -> Result<Value, Status> {
    match media_type {
        JSON | "text/json" | "application/x-www-form-urlencoded" => json(bytes),
        YAML | "application/x-yaml" | "text/yaml" | "application/vnd.yaml" => yaml(bytes),
        PROTOBUF => crate::protobuf::decode(bytes),
        other => Err(Status::unsupported_media_type(
            other,
            "application/json, application/yaml",
        )),
    }
}

pub(crate) fn json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|e| Status::bad_request(format!("the object provided is unrecognized (must be valid JSON): {e}")))
}

/// YAML, which includes JSON: what the media type of server-side apply promises.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let document = serde_yaml::Deserializer::from_slice(bytes);
    bounded::value(document, LIMIT).map_err(|e| Status::bad_request(format!("error converting YAML to JSON: {e}")))
}

/// A response of one piece.
pub(crate) fn full(code: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let body: Bytes = body.into();
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
        .headers_mut()
        .insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

/// A response with an object, as JSON or YAML.
pub(crate) fn object(code: u16, value: &Value, as_yaml: bool) -> Response<Body> {
    let encoded = wire::json(value).and_then(|text| {
        if !as_yaml {
            return Ok((JSON, text));
        }
        let value: Value = serde_json::from_str(&text).map_err(Status::internal)?;
        Ok((YAML, serde_yaml::to_string(&value).map_err(Status::internal)?))
    });
    match encoded {
        Ok((content_type, text)) => full(code, content_type, text),
        Err(status) => full(status.code, JSON, status.to_json().to_string()),
    }
}

/// A response with an error.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let mut response = object(status.code, &status.to_json(), false);
    let retry = status.details.as_ref().and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = retry {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    if status.code == 401 {
        response
            .headers_mut()
            .insert("www-authenticate", HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_and_yaml() {
        assert_eq!(decode(b"{\"a\": 1}", JSON).unwrap()["a"], 1);
        assert_eq!(decode(b"a: 1", YAML).unwrap()["a"], 1);
        assert_eq!(decode(b"a: 1", JSON).unwrap_err().code, 400);
        assert_eq!(decode(b"a: [", YAML).unwrap_err().code, 400);
        let bomb = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(100));
        let refused = yaml(bomb.as_bytes()).unwrap_err();
        assert!(refused.message.contains("more than"), "{}", refused.message);
        let aliases = yaml(b"a: &a {x: 1.5}\nb: *a\nc: [true, -3, ~]").unwrap();
        assert_eq!(
            aliases,
            serde_json::json!({"a": {"x": 1.5}, "b": {"x": 1.5}, "c": [true, -3, null]})
        );
        assert_eq!(decode(b"", PROTOBUF).unwrap_err().code, 400);
        assert_eq!(decode(b"", "text/html").unwrap_err().code, 415);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes, JSON);
            let _ = decode(&bytes, YAML);
        }
    }
}
