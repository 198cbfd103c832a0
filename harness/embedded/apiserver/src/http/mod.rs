//! HTTPS: connections, requests, responses.

pub(crate) mod body;
mod bounded;
pub(crate) mod connection;
pub(crate) mod counts;
pub(crate) mod discovery;
mod field_validation;
pub(crate) mod handler;
pub(crate) mod openapi;
pub(crate) mod resource_request;
pub(crate) mod route;
pub(crate) mod upgrade;
pub(crate) mod watch_response;
pub(crate) mod wire;
