//! TLS between proxies: TLS 1.3 only, both sides named by workload identities.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Leaf;
use crate::defect::Defect;
use crate::model::Model;

/// Protocol name with which a proxy announces that a transport header follows the handshake.
pub const TRANSPORT_HEADER_ALPN: &[u8] = b"transport.l5d.io/v1";

/// Why no TLS configuration can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The trust roots cannot be used.
    #[error("the trust roots cannot be used: {0}")]
    TrustRoots(String),
    /// The proxy's own certificate cannot be used.
    #[error("the workload certificate cannot be used: {0}")]
    Certificate(String),
}

/// Whom a proxy trusts. Decides at each handshake, so that defects can be switched while it lives.
pub struct PeerTrust {
    model: Model,
    provider: Arc<CryptoProvider>,
    shared_root: Verifiers,
    /// What is trusted instead when the model is told to be wrong.
    wrong: Vec<(Defect, Verifiers)>,
}

struct Verifiers {
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Verifiers {
    fn new(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store
                .add(root)
                .map_err(|error| TlsError::TrustRoots(error.to_string()))?;
        }
        let store = Arc::new(store);
        let unusable = |error: rustls::server::VerifierBuilderError| TlsError::TrustRoots(error.to_string());
        Ok(Self {
            servers: WebPkiServerVerifier::builder_with_provider(store.clone(), provider.clone())
                .build()
                .map_err(unusable)?,
            // A client without a certificate is let through the handshake, as the real proxy does; who may go on is a
            // matter of policy.
            clients: WebPkiClientVerifier::builder_with_provider(store, provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(unusable)?,
        })
    }
}

impl std::fmt::Debug for PeerTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTrust").finish_non_exhaustive()
    }
}

impl PeerTrust {
    /// Trust in `roots`, the newest first; `former` were trusted once, and `own_issuer` is the certificate that signed the
    /// proxy's own, for proxies that a defect may lead to trust nothing else.
    ///
    /// # Errors
    /// When there is no usable root.
    pub fn new(
        model: Model,
        roots: &[CertificateDer<'static>],
        former: &[CertificateDer<'static>],
        own_issuer: Option<&CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let of = |trusted: Vec<&CertificateDer<'static>>| Verifiers::new(trusted.into_iter().cloned(), &provider);
        let own_issuer = own_issuer.map_or_else(|| roots.iter().collect(), |issuer| vec![issuer]);
        let wrong = vec![
            (Defect::OnlyOwnIssuerTrusted, of(own_issuer)?),
            (Defect::OnlyNewestRootTrusted, of(roots.first().into_iter().collect())?),
            (Defect::NewRootNotTrusted, of(roots.last().into_iter().collect())?),
            (Defect::OldRootKept, of(roots.iter().chain(former).collect())?),
        ];
        Ok(Self {
            shared_root: of(roots.iter().collect())?,
            wrong,
            provider,
            model,
        })
    }

    fn verifiers(&self) -> &Verifiers {
        let wrong = self.wrong.iter().find(|(defect, _)| self.model.has(*defect));
        wrong.map_or(&self.shared_root, |(_, verifiers)| verifiers)
    }
}

impl ServerCertVerifier for PeerTrust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.model.has(Defect::ForeignRootAccepted) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let servers = &self.verifiers().servers;
        servers.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between proxies".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerTrust {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.shared_root.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.model.has(Defect::ForeignRootAccepted) {
            return Ok(ClientCertVerified::assertion());
        }
        let clients = &self.verifiers().clients;
        clients.verify_client_cert(certificate, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between proxies".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a proxy presents as a client; with `transport_header` it negotiates that one follows.
pub(super) fn client_config(
    trust: &Arc<PeerTrust>,
    leaf: &Leaf,
    transport_header: bool,
) -> Result<ClientConfig, TlsError> {
    let unusable = |error: Error| TlsError::Certificate(error.to_string());
    let mut config = ClientConfig::builder_with_provider(trust.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(trust.clone())
        .with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key())
        .map_err(unusable)?;
    // A resumed session would skip the verification of the peer.
    config.resumption = Resumption::disabled();
    if transport_header {
        config.alpn_protocols = vec![TRANSPORT_HEADER_ALPN.to_vec()];
    }
    Ok(config)
}

/// What a proxy presents as a server.
pub(super) fn server_config(trust: &Arc<PeerTrust>, leaf: &Leaf) -> Result<ServerConfig, TlsError> {
    let unusable = |error: Error| TlsError::Certificate(error.to_string());
    let mut config = ServerConfig::builder_with_provider(trust.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(trust.clone())
        .with_single_cert(leaf.chain.clone(), leaf.key.clone_key())
        .map_err(unusable)?;
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![TRANSPORT_HEADER_ALPN.to_vec()];
    Ok(config)
}

/// The identity in a verified peer's certificate: its first DNS name.
#[must_use]
pub fn peer_identity(chain: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(chain?.first()?).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    })
}
