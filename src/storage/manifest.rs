//! The documents that make a backup exist: the source record, a step's fragment, and the manifest, written last.

use crate::domain::{
    names::{AttemptId, InstanceName, PolicyName, Slot, SnapshotName, SourceName},
    snapshot::Consistency,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The value of `format` in a manifest and in a source record.
pub const FORMAT: &str = "backstay/1";

/// What one attempt of one source stored; the last object of a source, and part of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRecord {
    /// [`FORMAT`].
    pub format: String,
    /// Which source.
    pub source: SourceName,
    /// Files or a dump.
    pub kind: SourceKind,
    /// The attempt.
    pub attempt: AttemptId,
    /// The snapshot that unchanged files were taken from.
    pub base: Option<SnapshotName>,
    /// Whether everything was stored.
    pub mode: StoreMode,
    /// Why it was not incremental, for a person.
    pub mode_reason: String,
    /// When the source was read.
    pub window: Window,
    /// Totals.
    pub counts: Counts,
    /// The index objects, in order; empty for none.
    pub index: IndexObjects,
    /// The packs that hold the bytes; the first is this attempt's own, if it stored anything.
    pub packs: Vec<PackRef>,
    /// About the dump, of a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<DumpInfo>,
    /// BLAKE3 of this document with 64 zeros here.
    #[serde(rename = "self")]
    pub self_hash: String,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A tree of files as a tar.
    Files,
    /// A mongodump archive.
    Mongodb,
}

/// How much was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// Everything.
    Full,
    /// What changed since the base.
    Incremental,
}

/// First and last moment of reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// First.
    pub start: Timestamp,
    /// Last.
    pub end: Timestamp,
}

/// Totals of a source. Of a dump, `files` are collections and `new` the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Regular files, or collections.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Content bytes before compression.
    pub bytes: u64,
    /// Files, or documents, stored now.
    pub new: u64,
    /// Changed while they were read.
    pub changed_while_read: u64,
    /// Kept with older content.
    pub stale: u64,
    /// Not readable.
    pub unreadable: u64,
    /// Gone between listing and opening.
    pub vanished: u64,
    /// Sockets, which are skipped.
    #[serde(default)]
    pub sockets: u64,
}

/// The objects of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexObjects {
    /// In order.
    pub objects: Vec<StoredObject>,
    /// Records in all of them.
    pub records: u64,
}

/// A small object and its checksum. The name is relative to the snapshot's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredObject {
    /// Name in the snapshot's directory.
    pub name: String,
    /// Bytes.
    pub stored: u64,
    /// BLAKE3-256 of the stored bytes, hex.
    pub blake3: String,
}

/// A pack that a snapshot refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackRef {
    /// Its number in the index's `#pack` lines.
    pub n: u32,
    /// `<YYYYMMDD>/<snapshot>/<source>-<attempt>`, relative to the instance.
    pub id: String,
    /// When it was begun.
    pub created: Timestamp,
    /// Number of parts.
    pub parts: u64,
    /// The parts lists, in order; names relative to the pack's own directory.
    pub part_lists: Vec<PartListRef>,
    /// Stored bytes of all parts.
    pub stored: u64,
    /// Plain bytes of the stream.
    pub plain: u64,
    /// Plain bytes that this snapshot refers to.
    pub live: u64,
    /// BLAKE3 of the sorted set of recipients; of the empty set without encryption.
    pub recipients: String,
}

/// A parts list and its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartListRef {
    /// Object name.
    pub name: String,
    /// BLAKE3-256 of the object, hex.
    pub blake3: String,
}

/// What is recorded about a dump. The list of namespaces is in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpInfo {
    /// How consistent it is.
    pub class: Consistency,
    /// Why it is not better, for a person; empty for a point in time.
    #[serde(default)]
    pub class_reason: String,
    /// First and last oplog timestamp in the archive, `seconds.increment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oplog: Option<OplogWindow>,
    /// `standalone`, `replicaSet`, `sharded`.
    pub topology: String,
    /// Role of the member that was read: `primary` or `secondary`.
    pub member_role: String,
    /// Server version.
    pub server_version: String,
    /// mongodump's version.
    pub tool_version: String,
    /// Feature compatibility version.
    pub feature_compatibility_version: String,
}

/// First and last oplog entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OplogWindow {
    /// First.
    pub start: String,
    /// Last.
    pub end: String,
    /// Entries.
    pub entries: u64,
}

/// The document whose existence is the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Its name.
    pub snapshot: SnapshotName,
    /// The policy.
    pub policy: PolicyName,
    /// Whose data.
    pub instance: InstanceName,
    /// The slot.
    pub slot: Slot,
    /// When this document was written.
    pub committed_at: Timestamp,
    /// Every required source is there and readable.
    pub complete: bool,
    /// Required sources that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<SourceName>,
    /// The program and its version.
    pub tool: String,
    /// What each source stored.
    pub sources: Vec<SourceRecord>,
    /// BLAKE3 of this document with 64 zeros here.
    #[serde(rename = "self")]
    pub self_hash: String,
}
