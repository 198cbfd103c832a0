//! Stand-ins for the commands `kind`, `docker`, `linkerd` and `helm`, backed by embedded clusters.
//!
//! # What it is responsible for
//! Letting the whole kind path run where no container engine and no vendor tool is: one process serves embedded clusters,
//! and one binary answers under the names of the commands as they would, with their output and exit codes; any command can
//! be told to fail, hang or print garbage.
//!
//! # What it must not know
//! The harness: neither its engine nor its environments. It knows only what the commands' documentation says.
