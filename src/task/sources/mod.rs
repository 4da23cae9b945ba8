//! What can be backed up: each source turns itself into a pack and a source record.

pub mod mongodb;
pub mod volume;
