//! The issuer of one cluster.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

/// How far apart clocks may be: certificates are valid from so long before their issue.
const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// The identity service of one cluster, as proxies reach it. Cheap to clone; all clones are the same service.
///
/// It issues only while its program runs: without a running identity Deployment nobody gets a new certificate.
#[derive(Clone, Default)]
pub struct Authority {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// How many pods of the service answer.
    serving: usize,
    signer: Option<Arc<Signer>>,
    problem: Option<String>,
    /// What stands behind leaves instead of the signer's own chain; only when the model is told to be wrong.
    presented: Option<Vec<CertificateDer<'static>>>,
    trust_roots: Arc<Vec<CertificateDer<'static>>>,
    /// Roots that were in the bundle once and are no more.
    former_roots: Arc<Vec<CertificateDer<'static>>>,
    lifetime: Option<Duration>,
}

struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// The issuer's certificate and those above it, without the root.
    chain: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
}

/// A certificate with its key.
pub struct Leaf {
    /// Name in the certificate.
    pub identity: String,
    /// The leaf first, then the issuer.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// When it was issued.
    pub issued: SystemTime,
    /// When it ceases to be valid.
    pub expires: SystemTime,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The identity Deployment has no running pod.
    #[error("the identity service is not running")]
    NotServing,
    /// The issuer given to the cluster cannot be used.
    #[error("the identity issuer cannot be used: {0}")]
    NoIssuer(String),
    /// The name is none that a certificate can carry.
    #[error("no certificate can be issued for `{name}`: {reason}")]
    BadName {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One pod of the identity service that answers; it ceases when this is dropped.
#[must_use]
pub struct Serving(Authority);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.change(|state| state.serving = state.serving.saturating_sub(1));
    }
}

impl Authority {
    /// An authority that has no issuer yet and is not running.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.write().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.send_modify(|version| *version += 1);
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers until the returned guard is dropped; several pods may answer at once.
    pub fn serve(&self) -> Serving {
        self.change(|state| state.serving += 1);
        Serving(self.clone())
    }

    /// Whether anybody answers.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.read(|state| state.serving > 0)
    }

    /// Takes the issuer from PEM text as it stands in the issuer's Secret. After an error nothing is issued any more.
    ///
    /// # Errors
    /// What is wrong with the certificate or the key, without any of the key's content.
    pub fn set_issuer(&self, certificates: &str, key: &str) -> Result<(), String> {
        let outcome = Signer::from_pem(certificates, key);
        let problem = outcome.as_ref().err().cloned();
        self.change(|state| {
            state.problem.clone_from(&problem);
            state.signer = outcome.ok().map(Arc::new);
            state.presented = None;
        });
        problem.map_or(Ok(()), Err)
    }

    /// Puts these certificates behind all leaves instead of the issuer's own. Only for being wrong.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn present(&self, certificates: &str) -> Result<(), String> {
        let chain = read_certificates(certificates)?;
        self.change(|state| state.presented = Some(chain));
        Ok(())
    }

    /// There is no issuer (any more), for this reason.
    pub fn clear_issuer(&self, problem: &str) {
        self.change(|state| {
            state.signer = None;
            state.problem = Some(problem.to_owned());
        });
    }

    /// Takes the trust roots from PEM text; there may be several.
    ///
    /// # Errors
    /// When there is no certificate in the text or one cannot be read; the roots stay as they were.
    pub fn set_trust_roots(&self, pem: &str) -> Result<(), String> {
        let roots = read_certificates(pem)?;
        self.change(|state| {
            let mut former: Vec<_> = state.former_roots.to_vec();
            former.extend(state.trust_roots.iter().cloned());
            former.retain(|root| !roots.contains(root));
            former.dedup();
            state.former_roots = Arc::new(former);
            state.trust_roots = Arc::new(roots);
        });
        Ok(())
    }

    /// How long certificates are valid, in wall time.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.change(|state| state.lifetime = Some(lifetime));
    }

    /// The trust roots that new proxies are given.
    #[must_use]
    pub fn trust_roots(&self) -> Arc<Vec<CertificateDer<'static>>> {
        self.read(|state| state.trust_roots.clone())
    }

    /// Roots that were in the bundle once and are no more.
    #[must_use]
    pub fn former_roots(&self) -> Arc<Vec<CertificateDer<'static>>> {
        self.read(|state| state.former_roots.clone())
    }

    /// Issues a certificate for `identity`.
    ///
    /// # Errors
    /// When the service is not running, has no usable issuer, or the name cannot stand in a certificate.
    pub fn issue(&self, identity: &str) -> Result<Leaf, IssueError> {
        let (serving, signer, presented, problem, lifetime) = self.read(|state| {
            (
                state.serving > 0,
                state.signer.clone(),
                state.presented.clone(),
                state.problem.clone(),
                state.lifetime,
            )
        });
        if !serving {
            return Err(IssueError::NotServing);
        }
        let signer = signer.ok_or_else(|| {
            IssueError::NoIssuer(problem.unwrap_or_else(|| "the Secret linkerd-identity-issuer is missing".into()))
        })?;
        let mut leaf = signer.issue(identity, lifetime.unwrap_or(Duration::from_secs(24 * 3600)))?;
        if let Some(presented) = presented {
            leaf.chain.truncate(1);
            leaf.chain.extend(presented);
        }
        Ok(leaf)
    }

    /// Issues a certificate for `identity` as soon as that is possible.
    pub async fn issue_when_possible(&self, identity: &str) -> Result<Leaf, IssueError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            match self.issue(identity) {
                Err(IssueError::NotServing | IssueError::NoIssuer(_)) => {}
                outcome => return outcome,
            }
            // The sender lives in `self`, so waiting ends only with a change.
            if changed.changed().await.is_err() {
                return self.issue(identity);
            }
        }
    }
}

impl Signer {
    fn from_pem(certificates: &str, key: &str) -> Result<Self, String> {
        let chain = read_certificates(certificates)?;
        let issuer_der = chain.first().ok_or("the issuer's certificate is missing")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| "the issuer's key is no private key in PEM".to_owned())?;
        let key = KeyPair::try_from(&key).map_err(|error| {
            format!("the issuer's key cannot be used ({error}); expected an ECDSA P-256 key in PKCS#8")
        })?;
        let (_, certificate) = X509Certificate::from_der(issuer_der)
            .map_err(|error| format!("the issuer's certificate cannot be read: {error}"))?;
        if !certificate.is_ca() {
            return Err("the issuer's certificate is not a CA certificate".to_owned());
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("the issuer's key does not belong to its certificate".to_owned());
        }
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&certificate)?;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if let Some(id) = subject_key_id(&certificate) {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id);
        }
        Ok(Self {
            issuer: Issuer::new(params, key),
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(not_after),
            chain,
        })
    }

    fn issue(&self, identity: &str, lifetime: Duration) -> Result<Leaf, IssueError> {
        let bad_name = |error: rcgen::Error| IssueError::BadName {
            name: identity.to_owned(),
            reason: error.to_string(),
        };
        let issued = SystemTime::now();
        if self.not_after <= issued {
            return Err(IssueError::NoIssuer("the issuer's certificate has expired".to_owned()));
        }
        let expires = (issued + lifetime).min(self.not_after);
        let key = KeyPair::generate().map_err(bad_name)?;
        let mut params = CertificateParams::new(vec![identity.to_owned()]).map_err(bad_name)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity);
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = (issued - CLOCK_SKEW).into();
        params.not_after = expires.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(bad_name)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Ok(Leaf {
            identity: identity.to_owned(),
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            issued,
            expires,
        })
    }
}

fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("a certificate cannot be read: {error}"))?;
    if certificates.is_empty() {
        return Err("expected certificates in PEM, found none".to_owned());
    }
    Ok(certificates)
}

/// The issuer's name with its own string encodings: a verifier compares names byte by byte.
fn subject(certificate: &X509Certificate<'_>) -> Result<DistinguishedName, String> {
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid: Vec<u64> = attribute
            .attr_type()
            .iter()
            .ok_or("the issuer's name has an unreadable attribute")?
            .collect();
        let text = attribute
            .as_str()
            .map_err(|error| format!("the issuer's name cannot be read: {error}"))?;
        let unreadable = |error: rcgen::Error| format!("the issuer's name cannot be read: {error}");
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(unreadable)?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(unreadable)?),
            _ => DnValue::Utf8String(text.to_owned()),
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Ok(name)
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Authority, IssueError};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

    /// A root of trust for tests.
    pub(crate) struct TestRoot(CertifiedIssuer<'static, KeyPair>);

    fn ca(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    impl TestRoot {
        pub(crate) fn new() -> Self {
            Self::named("root.linkerd.cluster.local")
        }

        pub(crate) fn named(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            Self(CertifiedIssuer::self_signed(ca(name), key).unwrap())
        }

        pub(crate) fn pem(&self) -> String {
            self.0.pem()
        }

        /// An issuer under this root: certificate and key in PEM.
        pub(crate) fn issuer(&self) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let certificate = ca("identity.linkerd.cluster.local").signed_by(&key, &self.0).unwrap();
            (certificate.pem(), key.serialize_pem())
        }
    }

    #[test]
    fn nothing_is_issued_while_the_service_is_down_or_has_no_issuer() {
        let authority = Authority::new();
        assert_eq!(authority.issue("a.b").err(), Some(IssueError::NotServing));
        let serving = authority.serve();
        assert!(matches!(authority.issue("a.b").err(), Some(IssueError::NoIssuer(_))));
        let (certificate, key) = TestRoot::new().issuer();
        authority.set_issuer(&certificate, &key).unwrap();
        assert_eq!(authority.issue("a.b").unwrap().chain.len(), 2);
        let second = authority.serve();
        drop(serving);
        assert!(authority.issue("a.b").is_ok(), "another pod still answers");
        drop(second);
        assert_eq!(authority.issue("a.b").err(), Some(IssueError::NotServing));
    }

    #[test]
    fn a_key_that_does_not_belong_to_the_certificate_is_refused_without_showing_it() {
        let root = TestRoot::new();
        let (certificate, _) = root.issuer();
        let (_, key) = root.issuer();
        let authority = Authority::new();
        let problem = authority.set_issuer(&certificate, &key).unwrap_err();
        assert!(problem.contains("does not belong"), "{problem}");
        let problem = authority.set_issuer(&certificate, "garbage").unwrap_err();
        assert!(!problem.contains("garbage"), "{problem}");
    }
}
