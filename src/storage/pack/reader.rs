//! Reading a pack: whole parts, verified before a byte is handed on, or ranges of frames.

use crate::{
    domain::verdict::Failure,
    storage::{manifest::PackRef, store::ObjectStore},
};
use bytes::Bytes;
use std::sync::Arc;

/// One line of a parts list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// Object name in the pack's directory.
    pub object: String,
    /// Bytes of zstd.
    pub zstd_bytes: u64,
    /// Bytes of the object.
    pub stored_bytes: u64,
    /// Bytes of the age header; 0 without encryption.
    pub age_header_bytes: u64,
    /// BLAKE3-256 of the object, hex.
    pub blake3: String,
    /// `md5:<hex>`, `sha1:<hex>`, `sha256:<hex>`, or empty where the backend has none.
    pub native: String,
}

/// A pack whose parts lists have been read and checked.
pub struct PackReader {
    _private: (),
}

impl PackReader {
    /// Reads and checks the parts lists of a pack.
    ///
    /// # Errors
    /// A list that is missing, damaged or does not add up to what the manifest says; the message names the object.
    pub async fn open(_store: Arc<dyn ObjectStore>, _pack: &PackRef) -> Result<Self, Failure> {
        todo!()
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[PartRecord] {
        todo!()
    }

    /// The zstd bytes of a part, after its BLAKE3 was compared.
    ///
    /// # Errors
    /// A part that is missing or damaged, by name.
    pub async fn part(&self, _n: u32) -> Result<Bytes, Failure> {
        todo!()
    }

    /// `length` zstd bytes from `offset` in part `n`, running into later parts. Not verified: the frames' own
    /// checksums and the files' hashes do that.
    ///
    /// # Errors
    /// A part that is missing, or a range outside the pack.
    pub async fn range(&self, _n: u32, _offset: u64, _length: u64) -> Result<Bytes, Failure> {
        todo!()
    }
}
