//! SPDY/3.1 as far as Kubernetes' clients use it to carry the streams of `exec` and `port-forward`: the server's side.
//!
//! Streams are opened by the client, named by headers, and carry bytes both ways until each side ends its own. There is no
//! flow control (the clients' implementation has none): a stream that nobody reads holds up the others. Everything that a
//! client can make grow is bounded: frames, headers, streams, and what waits to be read.
//!
//! Source: "SPDY Protocol - Draft 3.1", sections 2.2 (framing) and 2.6.10 (name/value blocks).

mod frame;
mod headers;
mod session;

pub(crate) use session::{Opened, Output, serve};
