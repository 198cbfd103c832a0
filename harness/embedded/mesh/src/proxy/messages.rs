//! HTTP messages on their way through a proxy: carriage of HTTP/1 over HTTP/2, and answers of the proxy's own.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

/// Body of a response: passed on, or the proxy's own.
pub(super) type Body = Either<Incoming, Full<Bytes>>;

/// Marks an HTTP/1 request that travels over HTTP/2.
pub(super) const ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");
/// Identity of the client that the server's proxy has verified.
pub(super) const CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
/// Name and port that a gateway has looked up.
pub(super) const DST_CANONICAL: HeaderName = HeaderName::from_static("l5d-dst-canonical");
/// What went wrong in the client's own proxy.
pub(super) const PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
/// The client's own proxy wants the connection closed.
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");
/// Carries a client-sent identity to a target that is made to trust it by a defect.
pub(super) const CLAIMED_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-model-claimed-client-id");

/// Headers that belong to one HTTP/1 connection.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Takes out what belongs to one HTTP/1 connection.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(CONNECTION).and_then(|value| value.to_str().ok()) {
        let named: Vec<HeaderName> = named.split(',').filter_map(|name| name.trim().parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

/// Whether the client asks to leave HTTP on this connection.
pub(super) fn wants_upgrade(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(UPGRADE) || request.method() == http::Method::CONNECT
}

/// The authority that a request is for.
pub(super) fn authority(request: &Request<Incoming>) -> Option<Authority> {
    let host = || request.headers().get(HOST)?.to_str().ok()?.parse().ok();
    request.uri().authority().cloned().or_else(host)
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Gives a request another authority, in the form that HTTP/2 wants.
pub(super) fn set_authority(request: &mut Request<Incoming>, authority: Authority) {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(request.uri()));
    // Scheme, authority and path together always make a valid address.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Makes any request fit for an HTTP/2 connection; HTTP/1 is marked. `fallback` is the authority of a request without any.
pub(super) fn onto_http2(request: &mut Request<Incoming>, fallback: &Authority) {
    let authority = authority(request).unwrap_or_else(|| fallback.clone());
    set_authority(request, authority);
    if request.version() != Version::HTTP_2 {
        let original = if request.version() == Version::HTTP_10 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        strip_hop_by_hop(request.headers_mut());
        request
            .headers_mut()
            .insert(ORIG_PROTO, HeaderValue::from_static(original));
        *request.version_mut() = Version::HTTP_2;
    }
    request.headers_mut().remove(HOST);
}

/// Makes an HTTP/1 request out of whatever carried it.
pub(super) fn onto_http1(request: &mut Request<Incoming>) {
    strip_hop_by_hop(request.headers_mut());
    request.headers_mut().remove(ORIG_PROTO);
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = Uri::from(path(request.uri()));
    *request.version_mut() = Version::HTTP_11;
}

/// Makes a response fit for the version that its client speaks.
pub(super) fn fit_response(response: &mut Response<Incoming>, version: Version) {
    strip_hop_by_hop(response.headers_mut());
    response.headers_mut().remove(ORIG_PROTO);
    *response.version_mut() = version;
}

/// An answer without content.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// An answer with a short text.
pub(super) fn text(status: StatusCode, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(content.into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Whether a request is gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer of a client's own proxy: it names the error, and for gRPC it is a status instead of an HTTP error.
pub(super) fn own_error(
    status: StatusCode,
    message: &str,
    close: bool,
    version: Version,
    grpc: bool,
) -> Response<Body> {
    let mut response = empty(status);
    let message = HeaderValue::from_str(message).unwrap_or_else(|_| HeaderValue::from_static("unexpected error"));
    let headers = response.headers_mut();
    headers.insert(PROXY_ERROR, message.clone());
    if close {
        headers.insert(PROXY_CONNECTION, HeaderValue::from_static("close"));
        if version != Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    if grpc {
        headers.insert("grpc-status", HeaderValue::from_static(grpc_status(status)));
        headers.insert("grpc-message", message);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.remove(CONTENT_LENGTH);
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// The gRPC status that stands for an HTTP error: permission denied, unavailable, internal.
fn grpc_status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "7",
        StatusCode::INTERNAL_SERVER_ERROR => "13",
        _ => "14",
    }
}

#[cfg(test)]
mod tests {
    use super::{own_error, strip_hop_by_hop};
    use http::{HeaderMap, HeaderName, StatusCode, Version};

    #[test]
    fn headers_of_one_connection_do_not_travel() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "5"),
            ("x-hop", "1"),
            ("x-end", "2"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
    }

    #[test]
    fn an_own_error_names_itself_and_closes_http1() {
        let response = own_error(
            StatusCode::GATEWAY_TIMEOUT,
            "service in fail-fast",
            true,
            Version::HTTP_11,
            false,
        );
        assert_eq!(response.headers()["l5d-proxy-error"], "service in fail-fast");
        assert_eq!(response.headers()["l5d-proxy-connection"], "close");
        assert_eq!(response.headers()["connection"], "close");
        let response = own_error(StatusCode::GATEWAY_TIMEOUT, "late", true, Version::HTTP_2, true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(!response.headers().contains_key("connection"));
    }
}
