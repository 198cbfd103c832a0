//! Workload identities: who issues them, what proxies hold, and how a peer is verified.
//!
//! Every cluster has an issuer of its own under a root that linked clusters share. A proxy gets a leaf certificate for
//! `<service account>.<namespace>.serviceaccount.identity.<control plane namespace>.<trust domain>` and renews it when 70 %
//! of its life have passed. Certificates live in wall time; their lifetimes follow the environment's pace.

mod authority;
mod program;
mod tls;
mod workload;

#[cfg(test)]
pub(crate) use authority::tests as authority_tests;
pub use authority::{Authority, IssueError, Leaf, Serving};
pub use program::IdentityProgram;
pub use tls::{PeerTrust, TRANSPORT_HEADER_ALPN, TlsError, peer_identity};
pub use workload::{TlsConfigs, WorkloadIdentity};

/// Namespace of the control plane.
pub const CONTROL_PLANE_NAMESPACE: &str = "linkerd";
/// Trust domain of all identities: clusters that are linked share it, whatever their own DNS domains are.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// The identity of a workload that runs as `service_account` in `namespace`.
#[must_use]
pub fn workload_name(service_account: &str, namespace: &str) -> String {
    format!("{service_account}.{namespace}.serviceaccount.identity.{CONTROL_PLANE_NAMESPACE}.{TRUST_DOMAIN}")
}
