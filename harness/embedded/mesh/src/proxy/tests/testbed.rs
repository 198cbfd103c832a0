//! Proxies of several clusters on a network in memory, without API server and kubelet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshproof_apiserver::Store;
use meshproof_apiserver::store::StoreConfig;
use meshproof_cluster::intercept::{BoxedStream, Interceptor};
use meshproof_cluster::pace::Pace;
use meshproof_cluster::program::SidecarAccess;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::defect::{Defect, Defects};
use crate::destination::{self, index::Index};
use crate::identity::{self, authority_tests::TestRoot};
use crate::model::{ClusterModel, Model, ModelConfig};
use crate::proxy::{Config, ControlPlane, Proxy, ProxyInterceptor};

/// Ten times faster than real: a failfast takes 0.3 s.
const PACE: f64 = 10.0;

pub(super) const GATEWAY_ID: &str =
    "linkerd-gateway.linkerd-multicluster.serviceaccount.identity.linkerd.cluster.local";
pub(super) const CLIENT_ID: &str = "client.lab.serviceaccount.identity.linkerd.cluster.local";
pub(super) const ECHO_ID: &str = "echo.lab.serviceaccount.identity.linkerd.cluster.local";

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// All pods by address, and which addresses lead to which pods (a load balancer's).
#[derive(Default)]
pub(super) struct Net {
    pods: Mutex<HashMap<IpAddr, Arc<Pod>>>,
    aliases: Mutex<HashMap<IpAddr, IpAddr>>,
    /// First bytes that the gateways' data ports got from other clusters.
    pub(super) wire: Mutex<Vec<u8>>,
}

pub(super) struct Pod {
    net: Arc<Net>,
    name: String,
    pub(super) ip: IpAddr,
    interceptor: Mutex<Option<Arc<dyn Interceptor>>>,
    applications: Mutex<HashMap<u16, Application>>,
    proxy: Mutex<Option<Arc<Proxy>>>,
}

#[derive(Clone)]
enum Application {
    /// Answers what it saw.
    Http { cluster: String, port: u16 },
    /// Says hello first, then repeats everything in capitals after the client has finished.
    Tcp { cluster: String },
}

/// A connection in memory: with nothing outside of the runtime, a test can stop the clock, and a busy machine makes nothing late.
fn connection() -> (BoxedStream, BoxedStream) {
    let (client, server) = tokio::io::duplex(1 << 16);
    (Box::new(client), Box::new(server))
}

/// Copies what passes from the client to the server.
async fn tapped(net: Arc<Net>, server: BoxedStream) -> BoxedStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut read, mut write) = tokio::io::split(server);
    let (mut near_read, mut near_write) = tokio::io::split(near);
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 14];
        while let Ok(length) = read.read(&mut buffer).await {
            if length == 0 {
                break;
            }
            net.wire.lock().unwrap().extend_from_slice(&buffer[..length]);
            if near_write.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
        let _ = near_write.shutdown().await;
    });
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut near_read, &mut write).await;
        let _ = write.shutdown().await;
    });
    Box::new(far)
}

impl Net {
    async fn dial(self: &Arc<Self>, from: IpAddr, to: SocketAddr) -> io::Result<BoxedStream> {
        let alias = self.aliases.lock().unwrap().get(&to.ip()).copied();
        let ip = alias.unwrap_or(to.ip());
        let Some(pod) = self.pods.lock().unwrap().get(&ip).cloned() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let peer = SocketAddr::new(from, 50_000);
        let interceptor = pod.interceptor.lock().unwrap().clone();
        let Some(interceptor) = interceptor else {
            return pod.connect_application(to.port(), peer).await;
        };
        let (client, mut server) = connection();
        if alias.is_some() {
            server = tapped(self.clone(), server).await;
        }
        tokio::spawn(async move { interceptor.inbound(server, to.port(), peer).await });
        Ok(client)
    }
}

#[async_trait]
impl SidecarAccess for Pod {
    fn intercept(&self, interceptor: Arc<dyn Interceptor>) {
        *self.interceptor.lock().unwrap() = Some(interceptor);
    }

    fn release(&self) {
        *self.interceptor.lock().unwrap() = None;
    }

    async fn connect_unmeshed(&self, address: SocketAddr) -> io::Result<BoxedStream> {
        self.net.dial(self.ip, address).await
    }

    async fn connect_application(&self, port: u16, peer: SocketAddr) -> io::Result<BoxedStream> {
        let application = self.applications.lock().unwrap().get(&port).cloned();
        let application = application.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (client, server) = connection();
        let pod = self.name.clone();
        tokio::spawn(async move {
            match application {
                Application::Http { cluster, port } => serve_http(server, cluster, pod, port, peer).await,
                Application::Tcp { cluster } => serve_tcp(server, cluster).await,
            }
        });
        Ok(client)
    }

    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn address(&self) -> IpAddr {
        self.ip
    }
}

async fn serve_http(stream: BoxedStream, cluster: String, pod: String, port: u16, peer: SocketAddr) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (cluster, pod) = (cluster.clone(), pod.clone());
        async move {
            let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (name, value) in request.headers() {
                let value = value.to_str().unwrap_or_default().to_owned();
                headers.entry(name.to_string()).or_default().push(value);
            }
            let host = request.uri().authority().map(ToString::to_string);
            let seen = json!({
                "cluster": cluster, "pod": pod, "port": port, "headers": headers,
                "host": host.unwrap_or_else(|| headers.get("host").map(|all| all[0].clone()).unwrap_or_default()),
                "version": if request.version() == Version::HTTP_2 { "2" } else { "1" },
                "path": request.uri().path(), "peer": peer.ip().to_string(),
            });
            let body = request
                .into_body()
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let mut response = Response::new(Full::new(Bytes::from(seen.to_string())));
            response.headers_mut().insert("x-body-length", body.len().into());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve_tcp(mut stream: BoxedStream, cluster: String) {
    let _ = stream.write_all(format!("HELLO {cluster}\n").as_bytes()).await;
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
    let _ = stream.write_all(&received.to_ascii_uppercase()).await;
    let _ = stream.shutdown().await;
}

/// A cluster of the testbed: what the destination program would keep, kept by hand.
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) model: Arc<ClusterModel>,
    index: Mutex<Index>,
    defects: Model,
    pub(super) identity: Mutex<Option<identity::Serving>>,
    pub(super) discovery: Mutex<Option<destination::Serving>>,
}

impl Cluster {
    /// Applies an object as if the API had told of it.
    pub(super) fn set(&self, object: &Value) {
        let kind = crate::destination::index::tests::kind_of(object);
        let mut index = self.index.lock().unwrap();
        index.set(kind, &Arc::new(object.clone()), &self.defects.defects());
        self.model.destinations.publish(index.view(BTreeSet::new()));
    }

    pub(super) fn remove(&self, object: &Value) {
        let kind = crate::destination::index::tests::kind_of(object);
        let mut index = self.index.lock().unwrap();
        index.remove(kind, object, &self.defects.defects());
        self.model.destinations.publish(index.view(BTreeSet::new()));
    }
}

pub(super) struct Testbed {
    pub(super) model: Model,
    pub(super) net: Arc<Net>,
}

impl Testbed {
    pub(super) fn new(defects: &[Defect]) -> Self {
        let model = Model::new(ModelConfig {
            defects: defects.iter().copied().collect::<Defects>(),
            pace: Some(Pace::new(PACE)),
            seed: 42,
        });
        Self {
            model,
            net: Arc::default(),
        }
    }

    pub(super) fn cluster(&self, name: &str, root: &TestRoot) -> Cluster {
        self.cluster_that_trusts(name, root, &root.pem())
    }

    /// A cluster whose issuer is under `root` and whose proxies trust the roots in `bundle`.
    pub(super) fn cluster_that_trusts(&self, name: &str, root: &TestRoot, bundle: &str) -> Cluster {
        let model = self.model.add_cluster(name, Store::new(StoreConfig::default()));
        let (certificate, key) = root.issuer();
        model.authority.set_issuer(&certificate, &key).unwrap();
        model.authority.set_trust_roots(bundle).unwrap();
        Cluster {
            identity: Mutex::new(Some(model.authority.serve())),
            discovery: Mutex::new(Some(model.destinations.serve())),
            name: name.to_owned(),
            model,
            index: Mutex::default(),
            defects: self.model.clone(),
        }
    }

    fn pod(&self, name: &str, ip: &str) -> Arc<Pod> {
        let ip = ip.parse().unwrap();
        let pod = Arc::new(Pod {
            net: self.net.clone(),
            name: name.to_owned(),
            ip,
            interceptor: Mutex::default(),
            applications: Mutex::default(),
            proxy: Mutex::default(),
        });
        self.net.pods.lock().unwrap().insert(ip, pod.clone());
        pod
    }

    /// A pod without a proxy.
    pub(super) fn unmeshed_pod(&self, cluster: &Cluster, name: &str, service_account: &str, ip: &str) -> Arc<Pod> {
        cluster.set(&pod_object("lab", name, service_account, ip, &json!({}), false));
        self.pod(name, ip)
    }

    /// A pod with a proxy.
    pub(super) async fn meshed_pod(&self, cluster: &Cluster, object: Value) -> Arc<Pod> {
        cluster.set(&object);
        let ip = object["status"]["podIP"].as_str().unwrap();
        let pod = self.pod(object["metadata"]["name"].as_str().unwrap(), ip);
        let config = Config::from_pod(&cluster.name, Arc::new(object), &BTreeMap::new());
        let control_plane = ControlPlane {
            authority: cluster.model.authority.clone(),
            destinations: cluster.model.destinations.clone(),
        };
        let proxy = Proxy::start(
            self.model.clone(),
            control_plane,
            config,
            pod.clone(),
            self.model.pace(),
        );
        let proxy = proxy.await.unwrap();
        pod.intercept(Arc::new(ProxyInterceptor(proxy.clone())));
        *pod.proxy.lock().unwrap() = Some(proxy);
        pod
    }
}

/// A pod's object.
pub(super) fn pod_object(
    namespace: &str,
    name: &str,
    service_account: &str,
    ip: &str,
    annotations: &Value,
    meshed: bool,
) -> Value {
    let labels = if meshed {
        json!({"linkerd.io/control-plane-ns": "linkerd", "app": service_account, "pod-template-hash": "5f94"})
    } else {
        json!({"app": service_account})
    };
    let sidecars = if meshed {
        json!([{"name": "linkerd-proxy", "ports": [
            {"name": "linkerd-proxy", "containerPort": 4143}, {"name": "linkerd-admin", "containerPort": 4191}]}])
    } else {
        json!([])
    };
    json!({
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": annotations,
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{service_account}-5f94")}]},
        "spec": {"serviceAccountName": service_account, "initContainers": sidecars, "containers": [
            {"name": "app", "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}}}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// What an application or the proxy answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: String,
}

impl Answer {
    /// What the application saw.
    pub(super) fn seen(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no answer of the application: {self:?}"))
    }

    pub(super) fn cluster(&self) -> String {
        self.seen()["cluster"].as_str().unwrap().to_owned()
    }

    /// The values of a header that the application saw.
    pub(super) fn header(&self, name: &str) -> Vec<String> {
        let values = self.seen()["headers"][name].as_array().cloned().unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn proxy_error(&self) -> &str {
        self.headers
            .get("l5d-proxy-error")
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A kept HTTP/1 connection.
pub(super) struct Http1Client {
    host: String,
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Http1Client {
    pub(super) async fn get(&mut self, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        self.get_path("/headers", headers).await
    }

    pub(super) async fn get_path(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder().uri(path).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::default()).unwrap()).await?;
        read(response).await
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

impl Pod {
    pub(super) fn serve_http(&self, cluster: &str, port: u16) {
        let application = Application::Http {
            cluster: cluster.to_owned(),
            port,
        };
        self.applications.lock().unwrap().insert(port, application);
    }

    pub(super) fn serve_tcp(&self, cluster: &str, port: u16) {
        self.applications.lock().unwrap().insert(
            port,
            Application::Tcp {
                cluster: cluster.to_owned(),
            },
        );
    }

    /// Opens a connection as the pod's application does.
    pub(super) async fn dial(&self, to: &str) -> io::Result<BoxedStream> {
        let interceptor = self.interceptor.lock().unwrap().clone();
        match interceptor {
            Some(interceptor) => interceptor.outbound(address(to)).await,
            None => self.net.dial(self.ip, address(to)).await,
        }
    }

    pub(super) async fn http1(&self, to: &str, host: &str) -> Http1Client {
        let stream = self.dial(to).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Http1Client {
            host: host.to_owned(),
            sender,
        }
    }

    /// One HTTP/1 request on a connection of its own.
    pub(super) async fn get(&self, to: &str, headers: &[(&str, &str)]) -> Answer {
        self.http1(to, "echo.lab:8080").await.get(headers).await.unwrap()
    }

    /// One HTTP/2 request.
    pub(super) async fn get_http2(&self, to: &str) -> Answer {
        let stream = TokioIo::new(self.dial(to).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .uri("http://echo.lab:8080/headers")
            .body(Full::<Bytes>::default())
            .unwrap();
        read(sender.send_request(request).await.unwrap()).await.unwrap()
    }

    /// The sum of the series of a metric of the pod's proxy whose labels contain all of `labels`.
    pub(super) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let page = self.proxy().metrics();
        let series = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let matching = series.filter(|line| labels.iter().all(|label| line.contains(label)));
        matching
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }

    pub(super) fn proxy(&self) -> Arc<Proxy> {
        self.proxy.lock().unwrap().clone().expect("a pod with a proxy")
    }

    /// Takes the pod off the network, as when it dies.
    pub(super) async fn die(&self) {
        self.net.pods.lock().unwrap().remove(&self.ip);
        let proxy = self.proxy.lock().unwrap().take();
        if let Some(proxy) = proxy {
            proxy.stop().await;
        }
    }

    /// Lets an address lead to this pod, as a load balancer does.
    pub(super) fn expose_at(&self, ip: &str) {
        self.net.aliases.lock().unwrap().insert(ip.parse().unwrap(), self.ip);
    }
}

/// A Service and its slice.
pub(super) fn service(name: &str, cluster_ip: &str, ports: &Value) -> Value {
    json!({"kind": "Service", "metadata": {"namespace": "lab", "name": name, "uid": name},
        "spec": {"clusterIP": cluster_ip, "ports": ports}})
}

pub(super) fn slice(service: &str, ports: &Value, ips: &[&str]) -> Value {
    json!({"kind": "EndpointSlice", "metadata": {"namespace": "lab", "name": format!("{service}-1"),
        "labels": {"kubernetes.io/service-name": service}}, "ports": ports, "endpoints": endpoints(ips, true)})
}

fn endpoints(ips: &[&str], ready: bool) -> Value {
    ips.iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": ready}}))
        .collect()
}

/// A mirror of `remote`.
pub(super) fn mirror(name: &str, cluster: &str, remote: &str, cluster_ip: &str, ports: &Value) -> Value {
    let mut mirror = service(name, cluster_ip, ports);
    mirror["metadata"]["labels"] =
        json!({"mirror.linkerd.io/mirrored-service": "true", "mirror.linkerd.io/cluster-name": cluster});
    mirror["metadata"]["annotations"] =
        json!({"mirror.linkerd.io/remote-svc-fq-name": format!("{remote}.lab.svc.cluster.local")});
    mirror
}

pub(super) fn gateway_slice(service: &str, remote: &str, ports: &Value, ips: &[&str], ready: bool) -> Value {
    let ports: Value = ports
        .as_array()
        .unwrap()
        .iter()
        .map(|port| json!({"name": port["name"], "port": 4143}))
        .collect();
    let mut object = slice(service, &ports, &[]);
    object["endpoints"] = endpoints(ips, ready);
    object["metadata"]["annotations"] = json!({
        "mirror.linkerd.io/remote-gateway-identity": GATEWAY_ID,
        "mirror.linkerd.io/remote-svc-fq-name": format!("{remote}.lab.svc.cluster.local"),
    });
    object
}

/// Ports of the echo Service on the virtual address and on the pods.
pub(super) fn echo_ports() -> Value {
    json!([{"name": "http", "port": 8080}, {"name": "tcp", "port": 9000}, {"name": "second", "port": 8081}])
}

/// The policies of the gateway as the chart installs them.
pub(super) fn gateway_policies() -> Vec<Value> {
    let meta = |name: &str| json!({"namespace": "linkerd-multicluster", "name": name});
    let own = |kind: &str, name: &str| json!({"kind": kind, "name": name, "namespace": "linkerd-multicluster"});
    let server = |name: &str, port: &str| {
        json!({"kind": "Server", "metadata": meta(name), "spec": {
            "podSelector": {"matchLabels": {"app": "linkerd-gateway"}}, "port": port, "accessPolicy": "deny"}})
    };
    vec![
        server("linkerd-gateway", "linkerd-proxy"),
        server("linkerd-admin", "linkerd-admin"),
        json!({"kind": "AuthorizationPolicy", "metadata": meta("linkerd-gateway"), "spec": {
            "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "linkerd-gateway"},
            "requiredAuthenticationRefs": [
                own("MeshTLSAuthentication", "any-meshed"), own("NetworkAuthentication", "source-cluster")]}}),
        json!({"kind": "MeshTLSAuthentication", "metadata": meta("any-meshed"), "spec": {"identities": ["*"]}}),
        json!({"kind": "NetworkAuthentication", "metadata": meta("source-cluster"), "spec": {
            "networks": [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]}}),
    ]
}
