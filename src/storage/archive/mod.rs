//! The archive that mongodump writes: checked and filtered while it streams by, in both directions.
//!
//! ```text
//! archive = 6D E2 99 81, prelude, block*          the end of input is good at a block's boundary only
//! prelude = header, metadata*, FF FF FF FF
//! block   = {db, collection, EOF, CRC}, document*, FF FF FF FF
//! ```
//!
//! 1. [`parser`] takes the bytes in any pieces, counts and sums every namespace and passes on what is kept.
//! 2. [`filter`] says what is kept and under which name; [`oplog`] does so for the entries of the oplog.
//! 3. [`metadata`] brings options and indexes into one form, so that they can be compared after a restore.
//! 4. [`listing`] is the list of namespaces as it is stored beside the archive.
//!
//! A clean archive does not prove a complete one: mongodump closes a namespace with a right checksum also after an
//! error in the middle. A dump is good when mongodump exited 0 as well, and the expected namespaces are there.

pub mod broken;
pub mod contents;
pub mod filter;
mod header;
mod item;
pub mod listing;
pub mod metadata;
pub mod namespace;
pub mod oplog;
pub mod parser;
pub mod scan;
#[cfg(test)]
mod tests;
