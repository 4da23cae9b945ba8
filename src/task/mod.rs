//! What runs inside a task: the sources that are read, and the verbs.
//!
//! ```text
//! run ─ backup (sources, guard, fragments) ─ finish (fragments, by_hand, manifest) ─ prune
//!     └ finish alone                       └ preflight
//! ```

pub mod backup;
pub mod by_hand;
pub mod clock;
pub mod context;
pub mod finish;
pub mod fragments;
pub mod guard;
mod kept;
pub mod mongodb;
pub mod preflight;
pub mod prune;
pub mod real;
pub mod report;
pub mod restore;
pub mod run;
pub mod scratch;
pub mod secret;
pub mod sources;
pub mod verify;
pub mod world;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
