//! The commands as a harness meets them: through symbolic links, with real processes.

mod docker;
mod faults;
mod kind;
mod mesh;
mod support;
