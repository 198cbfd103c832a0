//! Reports: projections of a journal and its ledgers.
//!
//! # What it is responsible for
//! Reading a run's folder ([`run_folder`]), folding it into one [`model::Report`], and printing that as `report.json`,
//! JUnit, Markdown, a single HTML page and a table for the terminal. All of it can be made again from the folder at any
//! time, also from the folder of a run that was killed.
//!
//! # What it must not know
//! Anything that is not in the journal or a ledger. A report decides nothing: outcomes come from the journal's judgements.

pub mod encode;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod model;
mod plain_file;
mod projection;
pub mod run_folder;
pub mod schema;
pub mod table;
pub mod text;
pub mod traffic;
