//! What a control port answers: JSON, streams of lines, and problems in words.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::ProblemReport;

/// Longest request body in bytes.
const MAX_BODY: usize = 1024 * 1024;

pub(crate) type ControlBody = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Reply = Result<Response<ControlBody>, Problem>;

/// An error answer.
pub(crate) struct Problem {
    status: StatusCode,
    text: String,
    allow: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, text: String) -> Self {
        Self {
            status,
            text,
            allow: None,
        }
    }

    pub(crate) fn bad_request(text: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) fn method(method: &Method, path: &str, allowed: &'static str) -> Self {
        let text = format!("{path} does not take {method}; use {allowed}");
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            text,
            allow: Some(allowed),
        }
    }

    pub(crate) fn into_response(self) -> Response<ControlBody> {
        let body = serde_json::to_vec(&ProblemReport { problem: self.text }).unwrap_or_default();
        let mut response = with_body(self.status, "application/json", Full::from(body).boxed_unsync());
        if let Some(allow) = self.allow {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// Reads a body of at most [`MAX_BODY`] bytes.
pub(crate) async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Problem> {
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {MAX_BODY} bytes"),
            ));
        }
        Err(error) => {
            return Err(Problem::bad_request(format!(
                "the body did not arrive completely: {error}"
            )));
        }
    };
    serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body is not understood: {error}")))
}

/// A body of lines, as they come.
pub(crate) fn streamed(
    status: StatusCode,
    lines: impl futures::Stream<Item = Bytes> + Send + 'static,
) -> Response<ControlBody> {
    let frames = futures::StreamExt::map(lines, |bytes| Ok(Frame::data(bytes)));
    with_body(status, "application/x-ndjson", StreamBody::new(frames).boxed_unsync())
}

/// A value as the body.
pub(crate) fn json<T: Serialize>(value: &T) -> Reply {
    json_with(StatusCode::OK, value)
}

/// The same for something that was made.
pub(crate) fn created<T: Serialize>(value: &T) -> Reply {
    json_with(StatusCode::CREATED, value)
}

fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let body = serde_json::to_vec(value)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(with_body(status, "application/json", Full::from(body).boxed_unsync()))
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Response<ControlBody> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

fn with_body(status: StatusCode, content_type: &'static str, body: ControlBody) -> Response<ControlBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
