//! The server as its clients see it: kube-rs, kubectl and anything that sends bytes.

mod access;
mod clients;
mod kubectl;
mod objects;
mod pods;
mod robustness;
mod support;
