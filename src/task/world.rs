//! What a task touches outside of itself: the clock, the remote and the sources. Models of it drive the tests.

use crate::{
    domain::{policy::Source, verdict::Failure},
    storage::{manifest::SourceRecord, store::ObjectStore},
    task::context::SourceContext,
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// What a store may be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and list.
    Read,
    /// Create, read and list; no object is rewritten or deleted.
    Append,
    /// Delete as well.
    Prune,
}

/// The outside.
#[async_trait]
pub trait World: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// The store, rooted at the instance's folder.
    ///
    /// # Errors
    /// Why the remote cannot be used.
    async fn open(&self, access: Access) -> Result<Arc<dyn ObjectStore>, Failure>;

    /// Ends what [`World::open`] started, after it has saved what it must. Gives remarks for a person.
    async fn close(&self) -> Vec<String> {
        vec![]
    }

    /// Reads a source to its end and stores it, everything but its source record.
    ///
    /// # Errors
    /// Why it could not be read, or not stored.
    async fn store(&self, source: &Source, context: &SourceContext) -> Result<SourceRecord, Failure>;

    /// Looks whether a source can be reached and read. Gives remarks for a person.
    ///
    /// # Errors
    /// Why not.
    async fn look(&self, source: &Source) -> Result<Vec<String>, Failure>;

    /// How long a new claim waits for others to become visible, and a listing that lacks something is given to catch
    /// up.
    fn settle(&self) -> Duration;

    /// Wait before the second try to store a document.
    fn pause(&self) -> Duration;
}
