//! The four patches of Kubernetes, as pure functions over JSON, and the bookkeeping of field managers.

mod field_set;
pub(crate) mod json;
pub(crate) mod lists;
pub(crate) mod managed;
pub(crate) mod merge;
pub(crate) mod strategic;
