//! Volumes made by hand, in a store in memory: also such as no packer would write.

use crate::{
    domain::names::{AttemptId, SnapshotName},
    storage::{
        index::{
            parser::IndexHeader,
            record::{EntryKind, FileTime, Flags, Place, Record},
            writer::IndexWriter,
        },
        layout,
        manifest::{Counts, FORMAT, SourceKind, SourceRecord, StoreMode, Window},
        memory::MemoryStore,
        pack::writer::{FramePlace, PackOptions, PackWriter},
        tar::{Extent, Member, MemberKind, padding, writer::HeaderWriter},
    },
    task::{
        context::Meter,
        restore::files::{job::FilesOptions, report::FilesReport, run::FilesRestore},
    },
};
use std::{borrow::Cow, path::Path, sync::Arc};

/// One entry: its record, and what the tar says about it.
#[derive(Clone)]
pub struct Entry {
    pub record: Record,
    /// Name in the tar, when the index and the tar differ.
    pub member_path: Option<Vec<u8>>,
    pub member_kind: Option<MemberKind>,
    pub content: Vec<u8>,
    pub extents: Option<Vec<Extent>>,
    /// Target of a hard link.
    pub member_target: Vec<u8>,
}

pub const TIME: FileTime = FileTime { seconds: 1_700_000_000, nanos: 123_456_789 };

pub fn entry(kind: EntryKind, path: impl AsRef<[u8]>) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let record = Record {
        kind,
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        size: 0,
        mtime: TIME,
        ctime: TIME,
        inode: 1,
        link: None,
        flags: Flags::default(),
        hash: None,
        place: None,
        xattrs: vec![],
        device: None,
        target: vec![],
        path: path.as_ref().to_vec(),
    };
    Entry {
        record,
        member_path: None,
        member_kind: None,
        content: vec![],
        extents: None,
        member_target: vec![],
    }
}

pub fn directory(path: impl AsRef<[u8]>) -> Entry {
    entry(EntryKind::Directory, path)
}

pub fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Entry {
    let mut entry = entry(EntryKind::File, path);
    entry.content = content.as_ref().to_vec();
    entry.record.size = entry.content.len() as u64;
    entry.record.hash = Some(short_hash(&entry.content));
    entry
}

/// A file with holes: its bytes are `extents` of `content`, one after the other.
pub fn sparse(path: &str, size: u64, extents: &[Extent], content: &[u8]) -> Entry {
    let mut entry = file(path, content);
    entry.record.size = size;
    entry.record.flags.sparse = true;
    entry.extents = Some(extents.to_vec());
    entry
}

pub fn symlink(path: &str, target: &str) -> Entry {
    let mut entry = entry(EntryKind::Symlink, path);
    entry.record.target = target.as_bytes().to_vec();
    entry
}

/// All names of one file, the first of them with the content.
pub fn names(inode: u64, content: &str, paths: &[&str]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = paths.iter().map(|path| file(path, content)).collect();
    for (i, entry) in entries.iter_mut().enumerate() {
        entry.record.link = Some((7, inode));
        entry.record.inode = inode;
        if i > 0 {
            entry.member_kind = Some(MemberKind::HardLink);
            entry.member_target = paths[0].as_bytes().to_vec();
        }
    }
    entries
}

pub fn short_hash(content: &[u8]) -> [u8; 16] {
    blake3::hash(content).as_bytes()[..16].try_into().unwrap()
}

/// A stored volume.
pub struct Fixture {
    pub store: Arc<MemoryStore>,
    pub snapshot: SnapshotName,
    pub source: SourceRecord,
}

/// How a fixture is stored.
pub struct Stored {
    pub part_bytes: u64,
    /// Close a frame after every so many entries.
    pub frame_every: usize,
    /// Keep the order as given.
    pub as_given: bool,
}

impl Default for Stored {
    fn default() -> Self {
        Self { part_bytes: 1 << 20, frame_every: 3, as_given: false }
    }
}

impl Fixture {
    /// Stores `entries` as the volume `homes`, sorted; the root is added.
    pub async fn new(entries: Vec<Entry>) -> Self {
        Self::stored(entries, Stored::default()).await
    }

    pub async fn stored(mut entries: Vec<Entry>, how: Stored) -> Self {
        if !entries.iter().any(|entry| entry.record.path == b"./") {
            entries.insert(0, directory("./"));
        }
        if !how.as_given {
            entries.sort_by(|a, b| crate::storage::index::codec::path_order(&a.record.path, &b.record.path));
        }
        let store = Arc::new(MemoryStore::new());
        let snapshot: SnapshotName = "nightly-20261125T020000Z".parse().unwrap();
        let (to, name) = (Arc::clone(&store), snapshot.clone());
        let runtime = tokio::runtime::Handle::current();
        let source = tokio::task::spawn_blocking(move || {
            let _inside = runtime.enter();
            write(to, name, entries, &how)
        })
        .await
        .unwrap();
        Self { store, snapshot, source }
    }

    pub fn restore(&self, target: &Path) -> FilesRestore {
        FilesRestore {
            store: Arc::<MemoryStore>::clone(&self.store),
            snapshot: self.snapshot.clone(),
            source: self.source.clone(),
            target: target.to_owned(),
            options: FilesOptions::default(),
            confirmed: false,
            memory_bytes: 64 << 20,
            meter: Arc::new(Meter::default()),
        }
    }

    pub async fn restore_well(&self, target: &Path) -> FilesReport {
        let report = self.restore(target).run().await.unwrap();
        assert!(report.is_whole(), "{report:?}");
        report
    }
}

fn write(
    store: Arc<MemoryStore>,
    snapshot: SnapshotName,
    mut entries: Vec<Entry>,
    how: &Stored,
) -> SourceRecord {
    let attempt: AttemptId = "0qrst1abc".parse().unwrap();
    let directory = layout::directory(&snapshot);
    let options = PackOptions {
        directory: directory.clone(),
        prefix: format!("homes-{attempt}"),
        stream: "tar",
        part_bytes: how.part_bytes,
        memory_bytes: 32 << 20,
        transfers: 1,
        workers: 1,
    };
    let mut pack = PackWriter::start(options, Arc::<MemoryStore>::clone(&store));
    let mut headers = HeaderWriter::default();
    let mut positions = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        if how.frame_every > 0 && i % how.frame_every == 0 {
            pack.end_frame().unwrap();
        }
        let start = pack.position();
        let mut bytes = Vec::new();
        let linked = entry.member_kind == Some(MemberKind::HardLink);
        headers.append(&mut bytes, &member(entry));
        if !linked {
            bytes.extend_from_slice(&entry.content);
            bytes.resize(bytes.len() + padding(entry.content.len() as u64), 0);
        }
        pack.write(&bytes).unwrap();
        let end = pack.position();
        positions.push((start, end));
    }
    pack.write(&crate::storage::tar::writer::END).unwrap();
    let mut frames = pack.placed();
    let (pack, rest) = pack.finish().unwrap();
    frames.extend(rest);
    for (entry, (start, end)) in entries.iter_mut().zip(positions) {
        if !entry.record.flags.unreadable {
            entry.record.place = Some(place(&frames, start, end));
        }
    }
    let header = IndexHeader {
        source: "homes".parse().unwrap(),
        snapshot: snapshot.clone(),
        attempt: attempt.clone(),
    };
    let packs = [(0, pack.id.clone())];
    let mut index = IndexWriter::start(store, &directory, &header, &packs).unwrap();
    let mut counts = Counts::default();
    for entry in &entries {
        index.push(&entry.record).unwrap();
        match entry.record.kind {
            EntryKind::File => counts.files += 1,
            EntryKind::Directory => counts.dirs += 1,
            _ => {}
        }
        counts.bytes += entry.record.size;
    }
    let time = snapshot.slot().time();
    SourceRecord {
        format: FORMAT.to_owned(),
        source: header.source,
        kind: SourceKind::Files,
        attempt,
        base: None,
        mode: StoreMode::Full,
        mode_reason: String::new(),
        window: Window { start: time, end: time },
        index: index.finish(counts.bytes).unwrap(),
        counts,
        packs: vec![pack],
        dump: None,
        self_hash: String::new(),
    }
}

fn member(entry: &Entry) -> Member<'_> {
    let record = &entry.record;
    let kind = entry.member_kind.unwrap_or(match record.kind {
        EntryKind::File => MemberKind::File,
        EntryKind::Directory => MemberKind::Directory,
        EntryKind::Symlink => MemberKind::Symlink,
        EntryKind::Fifo => MemberKind::Fifo,
        EntryKind::CharDevice => MemberKind::CharDevice,
        EntryKind::BlockDevice => MemberKind::BlockDevice,
    });
    let linked = kind == MemberKind::HardLink;
    Member {
        kind,
        path: Cow::Borrowed(entry.member_path.as_deref().unwrap_or(&record.path)),
        target: Cow::Borrowed(if linked { &entry.member_target } else { &record.target }),
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        size: if linked { 0 } else { record.size },
        mtime: record.mtime,
        device: record.device,
        xattrs: Cow::Borrowed(if linked { &[] } else { &record.xattrs }),
        extents: entry.extents.as_deref().map(Cow::Borrowed),
    }
}

fn place(frames: &[FramePlace], start: (u64, u64), end: (u64, u64)) -> Place {
    let first = frames[usize::try_from(start.0).unwrap()];
    let last = if end.1 == 0 { end.0 - 1 } else { end.0 };
    let last = frames[usize::try_from(last).unwrap()];
    Place {
        pack: 0,
        part: first.part,
        frame_offset: first.offset,
        frames_length: last.total_offset + last.length - first.total_offset,
        member_offset: start.1,
    }
}
