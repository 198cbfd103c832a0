//! What a proxy holds: its certificate, renewed in time, as ready-made TLS configurations.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tls::{client_config, server_config};
use super::{Authority, IssueError, Leaf, PeerTrust, TlsError};
use crate::defect::Defect;
use crate::metrics::{Labels, Registry};
use crate::model::Model;
use crate::names::MULTICLUSTER_NAMESPACE;

/// Part of a certificate's life after which it is renewed.
const RENEW_AFTER: f64 = 0.7;

/// TLS configurations made from one certificate.
pub struct TlsConfigs {
    /// For connections to another proxy's inbound port, where a transport header follows.
    pub client: Arc<ClientConfig>,
    /// For connections to any other port.
    pub plain_client: Arc<ClientConfig>,
    /// For accepted connections.
    pub server: Arc<ServerConfig>,
}

/// The identity of a running proxy.
pub struct WorkloadIdentity {
    name: String,
    model: Model,
    authority: Authority,
    roots: Arc<Vec<CertificateDer<'static>>>,
    configs: watch::Sender<Arc<TlsConfigs>>,
    expires: watch::Sender<(SystemTime, SystemTime)>,
    metrics: Registry,
}

/// Why a proxy has no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadIdentityError {
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A certificate that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl WorkloadIdentity {
    /// Waits for a first certificate for `name`; `roots` are the trust roots that the proxy was
    /// started with; without them the cluster's present ones are taken.
    ///
    /// # Errors
    /// When the name or the roots cannot be used; waiting would not help then.
    pub async fn obtain(
        name: &str,
        model: Model,
        authority: Authority,
        roots: Option<Arc<Vec<CertificateDer<'static>>>>,
        metrics: Registry,
    ) -> Result<Self, WorkloadIdentityError> {
        let leaf = authority.issue_when_possible(name).await?;
        let roots = roots.unwrap_or_else(|| authority.trust_roots());
        let configs = make_configs(&model, &roots, &authority.former_roots(), &leaf)?;
        let identity = Self {
            name: name.to_owned(),
            model,
            authority,
            roots,
            configs: watch::Sender::new(Arc::new(configs)),
            expires: watch::Sender::new((leaf.issued, leaf.expires)),
            metrics,
        };
        identity.report(&leaf);
        Ok(identity)
    }

    /// Name in the certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configurations to be used for the next handshake.
    #[must_use]
    pub fn configs(&self) -> Arc<TlsConfigs> {
        self.configs.borrow().clone()
    }

    /// Renews the certificate in time until `shutdown`. While the authority is down the present one stays in use.
    pub async fn keep_renewed(&self, shutdown: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            let (issued, expires) = *self.expires.borrow();
            let life = expires.duration_since(issued).unwrap_or_default();
            let renew_at = issued + life.mul_f64(RENEW_AFTER);
            let wait = renew_at.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait.max(pause)) => {}
            }
            if self.model.has(Defect::CertificatesNotRenewed) {
                pause = self.model.pace().wall(Duration::from_secs(10));
                continue;
            }
            match self.renew() {
                Ok(()) => pause = Duration::ZERO,
                Err(error) => {
                    tracing::warn!(identity = self.name, %error, "certificate not renewed");
                    self.refreshes("error").increment();
                    pause = self.model.pace().wall(Duration::from_secs(10));
                }
            }
        }
    }

    fn renew(&self) -> Result<(), WorkloadIdentityError> {
        let leaf = self.authority.issue(&self.name)?;
        let configs = make_configs(&self.model, &self.roots, &self.authority.former_roots(), &leaf)?;
        self.configs.send_replace(Arc::new(configs));
        self.expires.send_replace((leaf.issued, leaf.expires));
        self.report(&leaf);
        Ok(())
    }

    fn refreshes(&self, result: &str) -> crate::metrics::Counter {
        self.metrics.counter(
            "control_identity_cert_refreshes_total",
            "The total number of times this proxy's mTLS identity certificate has been refreshed by the Identity provider.",
            &Labels::from([("result", result)]),
        )
    }

    fn report(&self, leaf: &Leaf) {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.refreshes("ok").increment();
        self.metrics
            .gauge(
                "control_identity_cert_expiration_timestamp_seconds",
                "Time when the this proxy's current mTLS identity certificate will expire (in seconds since the UNIX epoch).",
                &Labels::new(),
            )
            .set(seconds(leaf.expires));
        self.metrics
            .gauge(
                "control_identity_cert_refresh_timestamp_seconds",
                "Time when the this proxy's current mTLS identity certificate were last updated.",
                &Labels::new(),
            )
            .set(seconds(leaf.issued));
    }
}

fn make_configs(
    model: &Model,
    roots: &[CertificateDer<'static>],
    former: &[CertificateDer<'static>],
    leaf: &Leaf,
) -> Result<TlsConfigs, TlsError> {
    let issuer = leaf
        .chain
        .get(1)
        .ok_or_else(|| TlsError::Certificate("the issuer's certificate is missing from the chain".to_owned()))?;
    // The extension's own proxies trust the root under every defect: a link whose gateway is never seen alive is refused
    // before anything can be checked.
    let workload = !leaf.identity.contains(MULTICLUSTER_NAMESPACE);
    let trust = Arc::new(PeerTrust::new(
        model.clone(),
        roots,
        former,
        workload.then_some(issuer),
    )?);
    Ok(TlsConfigs {
        client: Arc::new(client_config(&trust, leaf, true)?),
        plain_client: Arc::new(client_config(&trust, leaf, false)?),
        server: Arc::new(server_config(&trust, leaf)?),
    })
}
