//! What Linkerd says of its own state, in words that fit any mesh: results of its checks, gateways, status of links,
//! events, credentials.

pub mod check;
pub mod credentials;
pub mod event;
pub mod gateways;
pub mod link;
