//! A Kubernetes-compatible API server, in process, on loopback HTTPS.
//!
//! **Responsible for** what clients see of a cluster's API: storing objects with resource versions, watches with history,
//! admission (defaults, validation, allocation of cluster IPs and node ports), patches including server-side apply, custom
//! resources, garbage collection by owner, namespace life cycle, authentication by bearer token, RBAC, discovery and tables.
//!
//! **Must not know** of meshes, of pods' networks, of scenarios. Nothing here runs a pod or decides how many there should be:
//! controllers are clients, and pods are run by whoever implements [`PodBackend`].
//!
//! # Way of a request
//! `http::connection` (TLS) → `http::route` (path → request) → `auth` (token → user, RBAC) → [`Store`] (one lock: admission, write,
//! garbage collection, events) → `table` or plain JSON → response. In-process callers enter at [`Store`], without authorization
//! but through the same admission.
//!
//! # What it does not do
//! Answered with a clear error: `attach`, `proxy`, apply of `scale`, conversion webhooks, `namespaces/finalize`, kinds that are not
//! in the table of `resource`. What `exec` runs is up to whoever runs the pods; it gets no input.
//!
//! Simpler than Kubernetes, without an error:
//! - Quantities keep the form in which they were written. Strict decoding does not look for fields that are there twice.
//! - `x-kubernetes-validations` (CEL) is stored and not evaluated; a warning header says so.
//! - Kinds that nothing acts on are stored, and a warning header says so at creation (`admission::kinds::stored`): among them
//!   admission webhooks and policies, which are not called, and APIServices, which are not asked.
//! - Protobuf is read for the kinds in `protobuf/kubernetes.txt`; others must come as JSON or YAML (415).
//! - RBAC has no aggregation and no escalation check. Requests without a token are refused everywhere.
//! - Garbage collection and token secrets happen together with the write that causes them, not later. A token secret without its
//!   account waits for it, where Kubernetes would delete the secret.
//! - A cluster has at most 500 pods and 128 MiB of objects; of its Events the newest 5,000 are kept (`store::quota`). Lists that are
//!   merged by key hold 2000 items.
//! - A pod may name a service account that does not exist. Nothing survives the process.
//! - Ownership in `managedFields` follows structured-merge-diff with two simplifications, named in `patch::managed`.
//!
//! # Use
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use meshproof_apiserver::{ApiServer, Selector, ServerConfig, gvr};
//!
//! let server = ApiServer::start(ServerConfig { cluster_name: "west".into(), ..ServerConfig::default() }).await?;
//! let store = server.store();
//! store.create(&gvr::NAMESPACES, None, serde_json::json!({"metadata": {"name": "shop"}}))?;
//! let pods = store.list(&gvr::PODS, Some("shop"), &Selector::all())?;
//! println!("{} pods at version {}, reach me at {}", pods.items.len(), pods.resource_version, server.url());
//! # Ok(()) }
//! ```

pub(crate) mod admission;
pub(crate) mod auth;
pub(crate) mod crd;
pub mod gvr;
pub(crate) mod http;
mod kubeconfig;
pub(crate) mod patch;
mod pki;
mod pod_backend;
pub(crate) mod protobuf;
pub(crate) mod resource;
mod selector;
pub(crate) mod server;
pub(crate) mod size;
pub(crate) mod spdy;
mod status;
pub mod store;
pub(crate) mod subresource;
pub(crate) mod table;

pub use crate::http::counts::RequestKey;
pub use gvr::Gvr;
pub use pki::PkiError;
pub use pod_backend::{ByteStream, ExecOptions, ExecOutput, LogOptions, PodBackend};
pub use selector::{FieldSelector, LabelSelector, Selector};
pub use server::{ApiServer, ServerConfig, StartError};
pub use status::{Cause, Status, StatusDetails};
pub use store::Store;
