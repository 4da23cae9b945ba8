//! What is verified, and how deep.

use crate::{
    domain::verification::Level,
    storage::{manifest::Manifest, store::ObjectStore},
    task::{context::Meter, mongodb::tool::Tools},
};
use std::{path::PathBuf, sync::Arc};

/// A snapshot to verify.
pub struct Verify {
    /// The store, rooted at the instance's folder.
    pub store: Arc<dyn ObjectStore>,
    /// The snapshot.
    pub manifest: Manifest,
    /// How deep.
    pub level: Level,
    /// Memory for buffers, bytes.
    pub memory_bytes: u64,
    /// Where there is disk for an index.
    pub scratch: PathBuf,
    /// mongorestore and mongod, for a drill.
    pub tools: Tools,
    /// Who watches.
    pub meter: Arc<Meter>,
}
