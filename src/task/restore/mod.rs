//! The way back: from a snapshot on the remote to directories and a database.

pub mod files;
pub mod mongodb;
