//! The gateway: connections of other clusters' proxies for Services of this cluster.

use std::sync::{Arc, PoisonError};

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use meshproof_cluster::intercept::BoxedStream;

use super::Proxy;
use super::access::Access;
use super::detect::{Protocol, detect};
use super::inbound::{Peer, count_tcp_error, serve_http, set_client_id};
use super::logical::{Logical, Side};
use super::messages::{Body, DST_CANONICAL, ORIG_PROTO, authority, empty, set_authority};
use super::outbound::serve_opaque;
use super::stream::put_back;
use super::transport_header::{SessionProtocol, TransportHeader};
use crate::defect::Defect;
use crate::names::PROXY_INBOUND_PORT;

/// A Service that a client of another cluster asks for.
#[derive(Clone, Debug)]
struct Target {
    namespace: String,
    name: String,
    port: u16,
}

impl Target {
    /// Splits a full name; `None` when it lies outside the cluster's domain, to which alone the gateway forwards.
    fn parse(full_name: &str, port: u16, cluster_domain: &str) -> Option<Self> {
        let suffix = format!(".svc.{cluster_domain}");
        let (name, namespace) = full_name.trim_end_matches('.').strip_suffix(&suffix)?.split_once('.')?;
        let plain = !name.is_empty() && !namespace.is_empty() && !namespace.contains('.');
        plain.then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        })
    }

    fn authority(&self, proxy: &Proxy) -> String {
        proxy.config.authority(&self.namespace, &self.name, self.port)
    }
}

impl Proxy {
    fn gateway_logical(self: &Arc<Self>, target: &Target) -> Option<Arc<Logical>> {
        let service = self.service(&target.namespace, &target.name)?;
        let key = (target.namespace.clone(), target.name.clone(), target.port);
        let mut known = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        let logical = known
            .entry(key)
            .or_insert_with(|| Logical::new(self, Side::Gateway, &service, target.port));
        Some(logical.clone())
    }
}

/// Serves a connection whose transport header names a Service.
pub(super) async fn serve(proxy: &Arc<Proxy>, stream: BoxedStream, header: TransportHeader, peer: Peer) {
    let name = header.name.as_deref().unwrap_or_default();
    let target = Target::parse(name, header.port, &proxy.config.cluster_domain);
    let access = Access::new(proxy.own_address(PROXY_INBOUND_PORT), peer);
    let stream = access.count_connection(proxy, stream);
    let protocol = match header.protocol {
        SessionProtocol::Opaque => return serve_connection(proxy, stream, &access, target).await,
        SessionProtocol::Http1 => Protocol::Http1,
        SessionProtocol::Http2 => Protocol::Http2,
    };
    let handler = proxy.clone();
    serve_http(proxy, stream, protocol, move |request| {
        let (proxy, access, target) = (handler.clone(), access.clone(), target.clone());
        async move { call(&proxy, &access, target.as_ref(), request).await }
    })
    .await;
}

async fn serve_connection(proxy: &Arc<Proxy>, stream: BoxedStream, access: &Access, target: Option<Target>) {
    if proxy.model.has(Defect::OpaqueTcpBroken) {
        return;
    }
    if !is_open(proxy) && !access.allow_connection(proxy) {
        return;
    }
    let service = target.and_then(|target| Some((proxy.service(&target.namespace, &target.name)?, target.port)));
    match service {
        Some((service, port)) => serve_opaque(proxy, stream, &service, port).await,
        None => count_tcp_error(proxy, "gateway domain invalid"),
    }
}

/// Whether a defect lets everybody through.
fn is_open(proxy: &Proxy) -> bool {
    proxy.model.has(Defect::GatewayAcceptsUnauthenticated)
}

/// Forwards one request. Errors are bare: only a client's own proxy explains itself.
async fn call(
    proxy: &Arc<Proxy>,
    access: &Access,
    target: Option<&Target>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    if access
        .authorize(proxy, request.method(), request.uri().path())
        .is_none()
        && !is_open(proxy)
    {
        return empty(StatusCode::FORBIDDEN);
    }
    let own = proxy.identity.name();
    let client = access.peer().identity.clone();
    if client.as_deref() == Some(own) || forwarded_by(&request, own) {
        access.count_error(proxy, "gateway loop");
        return empty(StatusCode::LOOP_DETECTED);
    }
    let Some(target) = target else {
        access.count_error(proxy, "gateway domain invalid");
        return empty(StatusCode::NOT_FOUND);
    };
    let Some(logical) = proxy.gateway_logical(target) else {
        return empty(StatusCode::NOT_FOUND);
    };
    let host = authority(&request).map_or_else(|| target.authority(proxy), |authority| authority.to_string());
    if !proxy.model.has(Defect::UpstreamForgedForwardedKept) {
        keep_hops_only(request.headers_mut());
    }
    if !proxy.model.has(Defect::ForwardedMissing) {
        let client = client.as_deref().unwrap_or("unknown");
        let forwarded = format!("by={own};for={client};host={host};proto=https");
        if let Ok(forwarded) = HeaderValue::from_str(&forwarded) {
            request.headers_mut().append(http::header::FORWARDED, forwarded);
        }
    }
    let canonical = target.authority(proxy);
    if let Ok(canonical) = HeaderValue::from_str(&canonical) {
        request.headers_mut().insert(DST_CANONICAL, canonical);
    }
    keep_claim(proxy, access.peer(), &mut request);
    let http1 = request.version() != Version::HTTP_2 || request.headers().contains_key(ORIG_PROTO);
    if http1
        && !proxy.model.has(Defect::HostNotRewritten)
        && let Ok(canonical) = canonical.parse::<Authority>()
    {
        set_authority(&mut request, canonical);
    }
    if !http1 && proxy.model.has(Defect::Http2Downgraded) {
        request
            .headers_mut()
            .insert(ORIG_PROTO, HeaderValue::from_static("HTTP/1.1"));
    }
    logical.call(proxy, request).await
}

/// Names the client; an unmeshed target behind the gateway will see this header, as it does in reality. A claimed identity
/// travels on under the defect that makes the target trust it.
fn keep_claim(proxy: &Proxy, peer: &Peer, request: &mut Request<Incoming>) {
    let claimed = request.headers().get(super::messages::CLAIMED_CLIENT_ID).cloned();
    set_client_id(proxy, peer, request);
    if let Some(claimed) = claimed {
        request
            .headers_mut()
            .insert(super::messages::CLAIMED_CLIENT_ID, claimed);
    }
}

/// Takes out of Forwarded headers everything but who forwarded (`by`), by which loops are cut: for whom is told by this gateway
/// alone, which has seen the client's certificate. The real gateway leaves what the application wrote.
fn keep_hops_only(headers: &mut HeaderMap) {
    let hops: Vec<String> = headers
        .get_all(http::header::FORWARDED)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .map(str::trim)
        .filter(|part| part.starts_with("by="))
        .map(str::to_owned)
        .collect();
    headers.remove(http::header::FORWARDED);
    for hop in hops {
        if let Ok(hop) = HeaderValue::from_str(&hop) {
            headers.append(http::header::FORWARDED, hop);
        }
    }
}

fn forwarded_by(request: &Request<Incoming>, own: &str) -> bool {
    let parts = request.headers().get_all(http::header::FORWARDED);
    parts.iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split([',', ';'])
            .filter_map(|part| part.trim().strip_prefix("by="))
            .any(|by| by.trim_matches('"') == own)
    })
}

/// Serves a client that shows no certificate; only a defective gateway does. The Service is taken from the request's host:
/// the name of a mirror stands for the Service that it mirrors.
pub(super) async fn serve_unauthenticated(proxy: &Arc<Proxy>, mut stream: BoxedStream, peer: Peer) {
    let Ok((outcome, read)) = detect(&mut stream, bytes::Bytes::new(), proxy.detect_timeout()).await else {
        return;
    };
    if outcome.protocol() == Protocol::Opaque {
        return;
    }
    let access = Access::new(proxy.own_address(PROXY_INBOUND_PORT), peer);
    let handler = proxy.clone();
    serve_http(proxy, put_back(read, stream), outcome.protocol(), move |request| {
        let (proxy, access) = (handler.clone(), access.clone());
        async move {
            let target = host_target(&proxy, &request);
            call(&proxy, &access, target.as_ref(), request).await
        }
    })
    .await;
}

fn host_target(proxy: &Proxy, request: &Request<Incoming>) -> Option<Target> {
    let authority = authority(request)?;
    let mut parts = authority.host().split('.');
    let (mirror, namespace) = (parts.next()?, parts.next());
    let original = mirror.strip_suffix(&format!("-{}", proxy.config.cluster));
    let view = proxy.destinations.view();
    // A name without a namespace is taken wherever it is found first.
    let find = |name: &str| {
        let named = view.services.values().filter(|service| service.name == name);
        let fitting = named.filter(|service| namespace.is_none_or(|namespace| service.namespace == namespace));
        fitting.min_by(|a, b| a.namespace.cmp(&b.namespace)).cloned()
    };
    let service = find(mirror).or_else(|| find(original?))?;
    let port = authority
        .port_u16()
        .or_else(|| service.ports.first().map(|port| port.port))?;
    Some(Target {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn only_names_of_the_clusters_own_services_are_targets() {
        let parse = |name| Target::parse(name, 8080, "east.example.com");
        let target = parse("echo.lab.svc.east.example.com.").unwrap();
        assert_eq!((&*target.namespace, &*target.name, target.port), ("lab", "echo", 8080));
        for outside in [
            "example.com",
            "echo.lab.svc.cluster.local",
            "echo.lab.svc.west.example.com",
            "lab.svc.east.example.com",
            "a.b.c.svc.east.example.com",
            "",
        ] {
            assert!(parse(outside).is_none(), "{outside}");
        }
    }
}
