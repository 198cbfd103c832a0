//! Who is asking (bearer tokens) and what they may do (RBAC).

pub(crate) mod rbac;
pub(crate) mod review;
pub(crate) mod token;
