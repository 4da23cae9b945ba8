//! What an archive was found to hold.

use crate::storage::archive::{metadata::Metadata, namespace::Namespace};

/// What a namespace is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Documents.
    #[default]
    Collection,
    /// A query under a name; no documents of its own.
    View,
    /// Measurements, stored in buckets.
    Timeseries,
}

impl Kind {
    /// The word that servers and archives use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::View => "view",
            Self::Timeseries => "timeseries",
        }
    }

    /// Reads that word; old archives leave it empty for a collection.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "collection" => Some(Self::Collection),
            "view" => Some(Self::View),
            "timeseries" => Some(Self::Timeseries),
            _ => None,
        }
    }
}

/// One namespace of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the archive; of a time series, the series' own.
    pub namespace: Namespace,
    /// The name under which it was passed on; `None` when it was left out.
    pub target: Option<Namespace>,
    /// What it is.
    pub kind: Kind,
    /// Documents; of a time series, buckets.
    pub documents: u64,
    /// Bytes of all documents.
    pub bytes: u64,
    /// CRC-64/XZ of all documents, in the archive's order.
    pub crc: u64,
    /// Sum of every document's CRC-64/XZ: equal for equal sets of documents in any order.
    pub digest: u64,
    /// Options and indexes.
    pub metadata: Metadata,
    /// The oplog changes it: after a replay its documents are not those counted here.
    pub touched: bool,
}

impl Entry {
    /// A collection of which nothing was seen yet.
    pub fn new(namespace: Namespace, target: Option<Namespace>) -> Self {
        Self {
            namespace,
            target,
            kind: Kind::Collection,
            documents: 0,
            bytes: 0,
            crc: 0,
            digest: 0,
            metadata: Metadata::default(),
            touched: false,
        }
    }
}

/// First and last entry of the oplog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oplog {
    /// First entry: seconds and increment.
    pub first: (u32, u32),
    /// Last entry.
    pub last: (u32, u32),
    /// Entries.
    pub entries: u64,
}

/// What an archive was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Version of the server that was dumped.
    pub server_version: String,
    /// Version of mongodump.
    pub tool_version: String,
    /// The namespaces but the oplog, in the order of the prelude.
    pub namespaces: Vec<Entry>,
    /// The oplog; `None` when there is none, or no entry in it.
    pub oplog: Option<Oplog>,
    /// Length of the archive.
    pub bytes: u64,
}
