//! Validated values only: what cannot be wrong once it exists. No clock, no I/O, no orchestrator.

pub mod bootstrap;
pub mod error;
pub mod identity;
pub mod location;
pub mod names;
pub mod policy;
pub mod restore;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod shared;
pub mod size;
pub mod snapshot;
pub mod status;
pub mod verdict;
pub mod verification;
