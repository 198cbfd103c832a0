//! The probe worker: asks the gateway through the probe Service whether it is ready.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use meshproof_cluster::pace::Pace;
use meshproof_cluster::program::Network;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::informer::Informer;
use super::link::Probe;
use super::log::Logger;
use super::probe_metrics::ProbeMetrics;
use crate::defect::Defect;
use crate::model::Model;
use crate::names::label;

/// A worker for one Link; runs until dropped by its owner.
pub(super) struct ProbeWorker {
    pub(super) model: Model,
    pub(super) network: Arc<dyn Network>,
    /// Name of the probe Service, resolved in the controller's namespace.
    pub(super) host: String,
    pub(super) probe: Probe,
    /// Port of the probe Service.
    pub(super) port: u16,
    pub(super) metrics: ProbeMetrics,
    pub(super) log: Logger,
    pub(super) rng: StdRng,
    /// Where the mirrors are, in which nothing but a defect is interested.
    pub(super) services: Informer<Service>,
    /// The Link's target cluster.
    pub(super) target: String,
    /// Told of every change of the gateway's state.
    pub(super) liveness: mpsc::UnboundedSender<bool>,
}

impl ProbeWorker {
    /// Probes for ever, the first time after one period.
    pub(super) async fn run(mut self) {
        let pace = self.model.pace();
        // Nothing is known at first, and either answer is news. The real worker starts as if the gateway had been dead,
        // so that a gateway that is dead from the start never is.
        let mut alive = self.model.has(Defect::UpstreamDeadGatewayTurnsReady).then_some(false);
        let mut failures = 0;
        loop {
            tokio::time::sleep(pace.wall(self.next_delay())).await;
            let start = Instant::now();
            match self.probe_once(pace).await {
                Err(error) => {
                    self.log.warn(error);
                    failures += 1;
                    let threshold = if self.model.has(Defect::FirstFailedProbeFlips) {
                        1
                    } else {
                        self.probe.failure_threshold
                    };
                    if failures < threshold {
                        continue;
                    }
                    self.log.warn(format!(
                        "Failure threshold ({threshold}) reached - Marking as unhealthy"
                    ));
                    self.metrics.failed();
                    if alive != Some(false) && !self.model.has(Defect::GatewayOutageUndetected) {
                        alive = Some(false);
                        // The watcher is gone when nobody listens; then this worker is stopped too.
                        let _ = self.liveness.send(false);
                    }
                }
                Ok(()) => {
                    failures = 0;
                    if alive == Some(false) && self.model.has(Defect::GatewayRecoveryUnnoticed) {
                        continue;
                    }
                    self.metrics.succeeded(
                        pace.scenario(start.elapsed()),
                        !(self.model.has(Defect::GatewayAliveLostWithMirrors) && self.has_mirrors()),
                    );
                    if alive != Some(true) {
                        alive = Some(true);
                        let _ = self.liveness.send(true);
                    }
                }
            }
        }
    }

    fn has_mirrors(&self) -> bool {
        let is_mirror = |service: &Service| {
            let labels = service.labels();
            labels.contains_key(label::MIRRORED_SERVICE) && labels.get(label::CLUSTER_NAME) == Some(&self.target)
        };
        !self.services.filter(is_mirror).is_empty()
    }

    /// The period and up to a tenth of it more, scenario time.
    fn next_delay(&mut self) -> Duration {
        self.probe.period.mul_f64(self.rng.random_range(1.0..1.1))
    }

    async fn probe_once(&self, pace: Pace) -> Result<(), String> {
        let url = format!("http://{}:{}{}", self.host, self.port, self.probe.path);
        let connecting =
            |error: &dyn std::fmt::Display| format!("problem connecting with gateway: Get \"{url}\": {error}");
        let answer = tokio::time::timeout(pace.wall(self.probe.timeout), self.get()).await;
        match answer {
            Err(_) => Err(connecting(
                &"context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            )),
            Ok(Err(error)) => Err(connecting(&error)),
            Ok(Ok(200)) => Ok(()),
            Ok(Ok(status)) => Err(format!("gateway returned unexpected status {status}")),
        }
    }

    /// One request on a connection of its own; the status of its answer.
    async fn get(&self) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
        let stream = self.network.connect(&self.host, self.port).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::get(&self.probe.path)
            .header("host", format!("{}:{}", self.host, self.port))
            .header("user-agent", "Go-http-client/1.1")
            .body(Empty::<Bytes>::new())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            Ok::<u16, hyper::Error>(response.status().as_u16())
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer?),
            ended = connection => match ended {
                Ok(()) => Err("EOF".into()),
                Err(error) => Err(error.into()),
            },
        }
    }
}
