//! Roots of trust and an issuer for each cluster, made in process. Keys stay in memory and in Secrets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshproof_engine::problem::{self, Problem};
use meshproof_spec::scalar::TimeSpan;
use meshproof_spec::scenario::TrustStep;
use meshproof_spec::topology::TopologyTrust;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// How far apart clocks may be: certificates are valid from so long before they are made (Linkerd's own allowance).
const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// Longest that a certificate is made for, 100 years: as good as for ever, and far from the year 9999, with which the dates of
/// certificates end. Topologies that ask for more are refused; a slow pace makes long lives longer.
const LONGEST: Duration = Duration::from_secs(876_000 * 3600);

/// What a cluster's control plane is given.
#[derive(Clone)]
pub struct ClusterTrust {
    /// Trust anchors, PEM; several during a rotation, the newest first.
    pub anchors_pem: String,
    /// Issuer certificate, PEM.
    pub issuer_certificate_pem: String,
    /// Issuer key, PEM (PKCS #8). A secret.
    pub issuer_key_pem: String,
    /// How long certificates of workloads are valid (scenario time); the vendor's default when absent.
    pub workload_lifetime: Option<TimeSpan>,
}

impl std::fmt::Debug for ClusterTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterTrust")
            .field("anchors_pem", &self.anchors_pem)
            .finish_non_exhaustive()
    }
}

/// How long certificates are valid, in wall time; as good as for ever when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of roots.
    pub root: Option<Duration>,
    /// Of issuers.
    pub issuer: Option<Duration>,
    /// Of workloads' certificates, in scenario time: who issues them knows the pace.
    pub workload: Option<TimeSpan>,
}

impl Lifetimes {
    /// What a topology says, in an environment of this `pace`.
    #[must_use]
    pub fn of(trust: &TopologyTrust, pace: f64) -> Self {
        let wall = |span: Option<TimeSpan>| {
            let seconds = span?.0.as_secs_f64() / pace;
            Some(Duration::try_from_secs_f64(seconds).map_or(LONGEST, |life| life.min(LONGEST)))
        };
        Self {
            root: wall(trust.root_lifetime),
            issuer: wall(trust.issuer_lifetime),
            workload: trust.workload_lifetime,
        }
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
    pub fn generate(lifetimes: &Lifetimes) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let issuer = CertifiedIssuer::self_signed(authority("root.linkerd.cluster.local", lifetimes.root), key)?;
        Ok(Self { issuer })
    }

    /// Certificate and key of an issuer under this root, PEM.
    fn issue(&self, lifetimes: &Lifetimes) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = authority("identity.linkerd.cluster.local", lifetimes.issuer);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn authority(name: &str, lifetime: Option<Duration>) -> CertificateParams {
    let mut params = CertificateParams::default();
    if let Some(lifetime) = lifetime {
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + lifetime).into();
    }
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Why certificates can't be replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The cluster trusts one root only, and issues under it.
    #[error("the cluster has no new root")]
    NoNewRoot,
    /// The mesh was not installed by this harness.
    #[error("the mesh is not installed")]
    NotInstalled,
    /// The system's random generator failed.
    #[error(transparent)]
    NotMade(#[from] rcgen::Error),
}

impl RotationError {
    /// As a problem of `cluster`.
    pub(crate) fn problem(&self, cluster: &str) -> Problem {
        let (code, remedy) = match self {
            Self::NoNewRoot => ("no-new-root", Some("put a step `rotate: {trust: add-root, …}` first")),
            Self::NotInstalled => ("mesh-not-installed", Some("put an `install` step first")),
            Self::NotMade(_) => ("trust-not-made", None),
        };
        problem::harness(code, format!("cluster {cluster}: {self}"), remedy)
    }
}

/// What one cluster trusts and issues with.
#[derive(Clone)]
pub struct ClusterRoots {
    /// The newest first, as the documentation bundles them.
    trusted: Vec<Arc<Root>>,
    /// The one above the issuer.
    issuing: Arc<Root>,
    issuer: (String, String),
    lifetimes: Lifetimes,
}

impl ClusterRoots {
    /// One root, and an issuer under it.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn under(root: Arc<Root>, lifetimes: Lifetimes) -> Result<Self, rcgen::Error> {
        Ok(Self {
            issuer: root.issue(&lifetimes)?,
            trusted: vec![Arc::clone(&root)],
            issuing: root,
            lifetimes,
        })
    }

    /// What the control plane is given.
    #[must_use]
    pub fn given(&self) -> ClusterTrust {
        let (certificate, key) = &self.issuer;
        ClusterTrust {
            anchors_pem: self.trusted.iter().map(|root| root.issuer.pem()).collect(),
            issuer_certificate_pem: certificate.clone(),
            issuer_key_pem: key.clone(),
            workload_lifetime: self.lifetimes.workload,
        }
    }

    /// The same after one step of a rotation. `newest` is the root that other clusters were given in theirs; a new one is
    /// made when this cluster trusts that already.
    ///
    /// # Errors
    /// See [`RotationError`].
    pub fn rotated(&self, step: TrustStep, newest: &mut Option<Arc<Root>>) -> Result<Self, RotationError> {
        let mut next = self.clone();
        match step {
            TrustStep::Issuer => next.issuer = self.issuing.issue(&self.lifetimes)?,
            TrustStep::AddRoot => {
                let known = newest.as_ref().filter(|root| !self.trusts(root));
                let root = match known {
                    Some(root) => Arc::clone(root),
                    None => Arc::clone(newest.insert(Arc::new(Root::generate(&self.lifetimes)?))),
                };
                next.trusted.insert(0, root);
            }
            TrustStep::UseRoot => {
                let root = self.newest().filter(|root| !Arc::ptr_eq(root, &self.issuing));
                let root = root.ok_or(RotationError::NoNewRoot)?;
                next.issuer = root.issue(&self.lifetimes)?;
                next.issuing = Arc::clone(root);
            }
            TrustStep::DropRoot => {
                if self.trusted.len() < 2 {
                    return Err(RotationError::NoNewRoot);
                }
                next.trusted.truncate(1);
            }
        }
        Ok(next)
    }

    fn newest(&self) -> Option<&Arc<Root>> {
        self.trusted.first()
    }

    fn trusts(&self, root: &Arc<Root>) -> bool {
        self.trusted.iter().any(|trusted| Arc::ptr_eq(trusted, root))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshproof_spec::scenario::TrustStep;
    use meshproof_spec::topology::TopologyTrust;

    use super::{ClusterRoots, Lifetimes, Root, RotationError};

    fn pair() -> [ClusterRoots; 2] {
        let lifetimes = Lifetimes::default();
        let root = Arc::new(Root::generate(&lifetimes).unwrap());
        [
            ClusterRoots::under(Arc::clone(&root), lifetimes).unwrap(),
            ClusterRoots::under(root, lifetimes).unwrap(),
        ]
    }

    /// Days from now at which a certificate in PEM ends.
    fn days_left(pem: &str) -> i64 {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let left = pem.parse_x509().unwrap().validity().not_after.timestamp() - jiff::Timestamp::now().as_second();
        (left + 60) / 86400
    }

    #[test]
    fn certificates_end_when_the_topology_says_at_the_pace_of_the_environment() {
        let trust: TopologyTrust = serde_json::from_value(serde_json::json!({
            "root_lifetime": "87600h", "issuer_lifetime": "8760h", "workload_lifetime": "2h"
        }))
        .unwrap();
        for (pace, root_days, issuer_days) in [(1.0, 3650, 365), (10.0, 365, 36)] {
            let lifetimes = Lifetimes::of(&trust, pace);
            let root = Arc::new(Root::generate(&lifetimes).unwrap());
            let given = ClusterRoots::under(root, lifetimes).unwrap().given();
            assert_eq!(days_left(&given.anchors_pem), root_days);
            assert_eq!(days_left(&given.issuer_certificate_pem), issuer_days);
            assert_eq!(given.workload_lifetime.unwrap().to_string(), "7200s");
        }
        // A slow pace makes lives longer than dates can tell.
        let slow = Lifetimes::of(&trust, 1e-6);
        let root = Arc::new(Root::generate(&slow).unwrap());
        let given = ClusterRoots::under(root, slow).unwrap().given();
        assert_eq!(days_left(&given.anchors_pem), 36_500);
        let [endless, _] = pair();
        assert!(days_left(&endless.given().issuer_certificate_pem) > 100 * 365);
    }

    #[test]
    fn issuers_of_one_root_share_its_anchor_and_nothing_else() {
        let [west, east] = pair().map(|roots| roots.given());
        assert_eq!(west.anchors_pem, east.anchors_pem);
        assert_ne!(west.issuer_certificate_pem, east.issuer_certificate_pem);
        assert_ne!(west.issuer_key_pem, east.issuer_key_pem);
    }

    #[test]
    fn keys_are_not_printed() {
        let [west, _] = pair();
        assert!(!format!("{:?}", west.given()).contains("PRIVATE"));
    }

    #[test]
    fn a_new_issuer_changes_no_anchor() {
        let [west, _] = pair();
        let rotated = west.rotated(TrustStep::Issuer, &mut None).unwrap();
        assert_eq!(rotated.given().anchors_pem, west.given().anchors_pem);
        assert_ne!(
            rotated.given().issuer_certificate_pem,
            west.given().issuer_certificate_pem
        );
    }

    #[test]
    fn a_root_is_replaced_in_three_steps_by_the_same_one_everywhere() {
        let mut newest = None;
        let [west, east] = pair();
        let old = west.given().anchors_pem;
        let step = |roots: &ClusterRoots, step, newest: &mut Option<Arc<Root>>| roots.rotated(step, newest).unwrap();

        let west = step(&west, TrustStep::AddRoot, &mut newest);
        let east = step(&east, TrustStep::AddRoot, &mut newest);
        let bundle = west.given().anchors_pem;
        assert_eq!(bundle, east.given().anchors_pem);
        let new = bundle.strip_suffix(&old).unwrap().to_owned();
        assert_eq!(
            new.matches("BEGIN").count(),
            1,
            "the new root stands before the old one"
        );

        let used = step(&west, TrustStep::UseRoot, &mut newest);
        assert_eq!(used.given().anchors_pem, bundle);
        assert_ne!(used.given().issuer_certificate_pem, west.given().issuer_certificate_pem);
        assert!(Arc::ptr_eq(&used.issuing, &used.trusted[0]));

        let dropped = step(&used, TrustStep::DropRoot, &mut newest);
        assert_eq!(dropped.given().anchors_pem, new);
        // The next rotation makes another root.
        let again = step(&dropped, TrustStep::AddRoot, &mut newest);
        assert!(again.given().anchors_pem.ends_with(&new) && again.given().anchors_pem != new);
    }

    #[test]
    fn what_is_not_there_is_neither_used_nor_kept() {
        let [west, _] = pair();
        for step in [TrustStep::UseRoot, TrustStep::DropRoot] {
            let refused = west.rotated(step, &mut None);
            assert!(matches!(refused, Err(RotationError::NoNewRoot)), "{step:?}");
        }
    }
}
