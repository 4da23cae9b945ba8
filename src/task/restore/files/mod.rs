//! Restoring a volume: from a source record to a directory, without ever leaving it.
//!
//! 1. `target`: the directory must be empty, or hold this very restore, or the person said that it may be replaced;
//! 2. `spool`: the index, once, onto the target's disk;
//! 3. `entries`: directories;
//! 4. `units`, `work`, `extract`: files, four parts at a time and worker; `journal` remembers them;
//! 5. `links`, `entries`: further names, symlinks, fifos, devices;
//! 6. `compare`: what the backup does not have, if it is to go;
//! 7. `entries`: metadata of directories, deepest first.

pub mod compare;
pub mod entries;
pub mod extract;
pub mod job;
pub mod journal;
pub mod links;
pub mod member;
pub mod metadata;
pub mod place;
pub mod remove;
pub mod report;
pub mod root;
pub mod run;
pub mod selection;
pub mod spool;
pub mod stream;
pub mod target;
pub mod units;
pub mod work;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
