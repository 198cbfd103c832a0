//! Clusters that exist already, by kubeconfig context. Nothing is made, changed or removed here: coming up means to look
//! whether they are there, and going down means to let go of them.

mod environment;
mod options;

pub use environment::Contexts;
pub use options::{ContextRef, ContextsOptions};
