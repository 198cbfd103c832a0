//! The language of meshproof: scenario, topology and catalogue files.
//!
//! # What it is responsible for
//! Reading those files into typed values, with a source span for every value; telling *all* that is wrong with a file at
//! once, with place, what was found, what was expected and what to do; expanding fragments, variables and matrix rows
//! purely; and the JSON Schemas that editors use. The rules of the language are enforced here and nowhere else.
//!
//! # The way of a file
//! [`source`] text → [`yaml`] tree with places → [`expand`] (fragments, variables, rows) → [`structure`] (every field that is
//! unknown, missing or mistyped) → the types ([`scenario`], [`topology`], [`catalogue`], [`scalar`]) → `lint` (one function
//! per rule). [`load`] does this for one file, [`suite`] for a folder of them. Mistakes are [`diagnostic`]s with a
//! [`code`]; `tests/mistakes/` shows what each looks like.
//!
//! # What it must not know
//! Clusters, meshes, time, the network. No async. A file that passed `lint` may still be refused by a plan, because only
//! the plan knows which environment and mesh it meets.

pub mod catalogue;
pub mod code;
pub mod crds;
pub mod diagnostic;
pub mod expand;
pub mod fact;
mod lint;
pub mod load;
pub mod manifests;
pub mod scalar;
pub mod scenario;
pub mod scenario_files;
pub mod schema;
pub mod source;
pub mod structure;
pub mod suite;
pub mod topology;
pub mod yaml;
