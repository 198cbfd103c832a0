//! Parts of objects with a request of their own.

pub(crate) mod exec;
pub(crate) mod log;
pub(crate) mod pod_actions;
pub(crate) mod port_forward;
pub(crate) mod scale;
pub(crate) mod token;
