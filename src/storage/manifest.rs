//! The documents that make a backup exist: the source record, a step's fragment, and the manifest, written last.

use crate::{
    domain::{
        error::Invalid,
        names::{AttemptId, InstanceName, PolicyName, Slot, SnapshotName, SourceName},
        snapshot::{Consistency, SnapshotSummary, SourceSummary},
    },
    storage::{
        document::Document,
        layout::{AttemptObject, ObjectName, PackId, Prefix},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::storage::document::FORMAT;

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

impl Document for SourceRecord {
    fn self_hash(&mut self) -> &mut String {
        &mut self.self_hash
    }

    fn check(&self) -> Result<(), Invalid> {
        let index = self.index.objects.iter().map(|object| object.name.as_str());
        for name in index {
            let expected = ObjectName::OfAttempt(self.prefix(), AttemptObject::Index);
            if ObjectName::parse(name).as_ref() != Some(&expected) {
                return Err(Invalid::new(format!("{name:?} is not an index object of {}", self.prefix())));
            }
        }
        for pack in &self.packs {
            let id: PackId = pack.id.parse()?;
            let expected = ObjectName::OfAttempt(id.prefix.clone(), AttemptObject::PartsList);
            if id.prefix.source != self.source {
                return Err(Invalid::new(format!("pack {} is not of source {}", pack.id, self.source)));
            }
            if let Some(list) =
                pack.part_lists.iter().find(|list| ObjectName::parse(&list.name).as_ref() != Some(&expected))
            {
                return Err(Invalid::new(format!("{:?} is not a parts list of {}", list.name, pack.id)));
            }
        }
        Ok(())
    }
}

impl Document for Manifest {
    fn self_hash(&mut self) -> &mut String {
        &mut self.self_hash
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.snapshot.policy() != &self.policy || self.snapshot.slot() != self.slot {
            return Err(Invalid::new(format!(
                "snapshot {} is not of policy {} and slot {}",
                self.snapshot, self.policy, self.slot
            )));
        }
        self.sources.iter().try_for_each(Document::check)
    }
}

impl PackRef {
    /// The directory of its objects, relative to the instance.
    pub fn directory(&self) -> &str {
        self.id.rsplit_once('/').map_or("", |(directory, _)| directory)
    }
}

impl SourceRecord {
    /// What the attempt's objects' names begin with.
    pub fn prefix(&self) -> Prefix {
        Prefix { source: self.source.clone(), attempt: self.attempt.clone() }
    }

    /// Totals, as status and guards know them.
    pub fn summary(&self) -> SourceSummary {
        let dump = self.kind == SourceKind::Mongodb;
        let Counts { files, bytes, new, changed_while_read, unreadable, stale, .. } = self.counts;
        SourceSummary {
            source: self.source.clone(),
            source_bytes: bytes,
            stored_bytes: self.packs.iter().filter(|p| self.is_own(p)).map(|p| p.stored).sum::<u64>()
                + self.index.objects.iter().map(|o| o.stored).sum::<u64>(),
            files: if dump { 0 } else { files },
            collections: if dump { files } else { 0 },
            documents: if dump { new } else { 0 },
            changed_while_read,
            // Older content in place of what could not be read is not what was asked for either.
            unreadable: unreadable + stale,
            consistency: self.dump.as_ref().map_or(Consistency::BestEffort, |dump| dump.class),
        }
    }

    /// True when everything that was asked for could be read.
    pub fn is_complete(&self) -> bool {
        self.counts.unreadable == 0 && self.counts.stale == 0
    }

    fn is_own(&self, pack: &PackRef) -> bool {
        pack.id.ends_with(&format!("/{}", self.prefix()))
    }
}

impl Manifest {
    /// What status, lists and reports say about it.
    pub fn summary(&self) -> SnapshotSummary {
        SnapshotSummary {
            name: self.snapshot.clone(),
            instance: self.instance.clone(),
            committed_at: self.committed_at,
            complete: self.complete,
            sources: self.sources.iter().map(SourceRecord::summary).collect(),
            missing: self.missing.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::storage::document::{DocumentError, open, seal};
    use bytes::Bytes;
    use proptest::prelude::*;

    const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// A source record of a volume with one pack in `snapshot`'s directory.
    pub fn record(snapshot: &SnapshotName, source: &str, attempt: &AttemptId) -> SourceRecord {
        let at = attempt.started();
        let source: SourceName = source.parse().unwrap();
        let prefix = format!("{source}-{attempt}");
        SourceRecord {
            format: FORMAT.to_owned(),
            source,
            kind: SourceKind::Files,
            attempt: attempt.clone(),
            base: None,
            mode: StoreMode::Full,
            mode_reason: "first backup".to_owned(),
            window: Window { start: at, end: at },
            counts: Counts { files: 3, dirs: 1, bytes: 300, new: 3, ..Counts::default() },
            index: IndexObjects {
                objects: vec![StoredObject {
                    name: format!("{prefix}.index.zst.000"),
                    stored: 10,
                    blake3: NO_HASH.to_owned(),
                }],
                records: 4,
            },
            packs: vec![PackRef {
                n: 0,
                id: format!("{}/{snapshot}/{prefix}", snapshot.slot().day()),
                created: at,
                parts: 1,
                part_lists: vec![PartListRef {
                    name: format!("{prefix}.parts.000"),
                    blake3: NO_HASH.to_owned(),
                }],
                stored: 100,
                plain: 400,
                live: 400,
                recipients: NO_HASH.to_owned(),
            }],
            dump: None,
            self_hash: String::new(),
        }
    }

    /// A manifest of one volume.
    pub fn manifest(snapshot: &str, committed_at: Timestamp) -> Manifest {
        let snapshot: SnapshotName = snapshot.parse().unwrap();
        let attempt = AttemptId::new(committed_at, 7);
        let (source, _) = seal(record(&snapshot, "homes", &attempt));
        Manifest {
            format: FORMAT.to_owned(),
            policy: snapshot.policy().clone(),
            slot: snapshot.slot(),
            snapshot,
            instance: "production".parse().unwrap(),
            committed_at,
            complete: true,
            missing: vec![],
            tool: "backstay 0.1.0".to_owned(),
            sources: vec![source],
            self_hash: String::new(),
        }
    }

    fn sealed() -> (Manifest, Bytes) {
        seal(manifest("nightly-20261125T020000Z", Timestamp::from_second(1_795_572_300).unwrap()))
    }

    #[test]
    fn a_sealed_manifest_opens_and_reads_well() {
        let (written, text) = sealed();
        assert_eq!(open::<Manifest>(&text), Ok(written));
        insta::assert_snapshot!(String::from_utf8(text.to_vec()).unwrap());
    }

    #[test]
    fn a_later_format_is_not_damage() {
        let (mut later, _) = sealed();
        later.format = "backstay/2".to_owned();
        assert_eq!(open::<Manifest>(&seal(later).1), Err(DocumentError::Newer("backstay/2".to_owned())));
    }

    #[test]
    fn references_out_of_the_directory_are_refused() {
        for (from, to) in [("homes-", "../homes-"), ("/homes-", "/mail-"), ("20261125/", "20261124/")] {
            let (good, _) = sealed();
            let mut bad = good.clone();
            bad.sources[0].packs[0].id = bad.sources[0].packs[0].id.replacen(from, to, 1);
            let error = open::<Manifest>(&seal(bad).1).unwrap_err();
            assert!(matches!(error, DocumentError::Damaged(_)), "{error}");
            let mut bad = good;
            bad.sources[0].index.objects[0].name.insert_str(0, "x/");
            assert!(open::<Manifest>(&seal(bad).1).is_err());
        }
    }

    #[test]
    fn every_cut_is_found() {
        let (_, text) = sealed();
        for length in 0..text.len() {
            assert_eq!(open::<Manifest>(&text[..length]), Err(DocumentError::Truncated), "{length}");
        }
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_found(place in 0usize..100_000, bit in 0u8..8) {
            let (_, text) = sealed();
            let mut text = text.to_vec();
            let at = place % text.len();
            text[at] ^= 1 << bit;
            prop_assert!(open::<Manifest>(&text).is_err());
        }
    }
}
