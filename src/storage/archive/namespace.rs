//! A collection's full name, and the names that mean the same collection.

use std::fmt;

/// Where a time series' documents are: `system.buckets.<name>`.
const BUCKETS: &str = "system.buckets.";

/// A database and a collection in it. The oplog of an archive is the collection `oplog` of the database `""`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// The database.
    pub database: String,
    /// The collection; may contain dots.
    pub collection: String,
}

impl Namespace {
    /// The collection `collection` of `database`.
    pub fn new(database: &str, collection: &str) -> Self {
        Self { database: database.to_owned(), collection: collection.to_owned() }
    }

    /// Reads `database.collection`: a database's name holds no dot. `None` without one.
    pub fn split(text: &str) -> Option<Self> {
        text.split_once('.').map(|(database, collection)| Self::new(database, collection))
    }

    /// True for the oplog of an archive.
    pub fn is_oplog(&self) -> bool {
        self.database.is_empty() && self.collection == "oplog"
    }

    /// True for a name of several lines, which mongorestore leaves out and says nothing (measured, 100.7).
    pub fn has_lines(&self) -> bool {
        self.database.contains('\n') || self.collection.contains('\n')
    }

    /// True when the documents of a time series are in it.
    pub fn is_buckets(&self) -> bool {
        self.collection.starts_with(BUCKETS)
    }

    /// The name that people use: of a time series' buckets, the time series.
    #[must_use]
    pub fn logical(&self) -> Self {
        let collection = self.collection.strip_prefix(BUCKETS).unwrap_or(&self.collection);
        Self::new(&self.database, collection)
    }

    /// Where the documents of the time series of this name are.
    #[must_use]
    pub fn buckets(&self) -> Self {
        Self { database: self.database.clone(), collection: format!("{BUCKETS}{}", self.collection) }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}
