//! One root of trust for all clusters and an issuer for each, made in process. Keys stay in memory and in Secrets.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// What a cluster's control plane is given.
#[derive(Clone)]
pub struct ClusterTrust {
    /// Trust anchors, PEM; several during a rotation.
    pub anchors_pem: String,
    /// Issuer certificate, PEM.
    pub issuer_certificate_pem: String,
    /// Issuer key, PEM (PKCS #8). A secret.
    pub issuer_key_pem: String,
}

impl std::fmt::Debug for ClusterTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterTrust")
            .field("anchors_pem", &self.anchors_pem)
            .finish_non_exhaustive()
    }
}

/// A root from which issuers are made.
pub struct Root {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Root {
    /// A fresh root named as Linkerd's documentation names it.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let issuer = CertifiedIssuer::self_signed(authority("root.linkerd.cluster.local"), key)?;
        Ok(Self { issuer })
    }

    /// An issuer under this root.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn issue(&self) -> Result<ClusterTrust, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = authority("identity.linkerd.cluster.local");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ClusterTrust {
            anchors_pem: self.issuer.pem(),
            issuer_certificate_pem: certificate.pem(),
            issuer_key_pem: key.serialize_pem(),
        })
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use super::Root;

    #[test]
    fn issuers_of_one_root_share_its_anchor_and_nothing_else() {
        let root = Root::generate().unwrap();
        let (west, east) = (root.issue().unwrap(), root.issue().unwrap());
        assert_eq!(west.anchors_pem, east.anchors_pem);
        assert_ne!(west.issuer_certificate_pem, east.issuer_certificate_pem);
        assert_ne!(west.issuer_key_pem, east.issuer_key_pem);
    }

    #[test]
    fn keys_are_not_printed() {
        let trust = Root::generate().unwrap().issue().unwrap();
        assert!(!format!("{trust:?}").contains("PRIVATE"));
    }
}
