//! Entries to members and records: the one thread that writes the pack.

use super::{
    entry::{Chunk, Content, Entry, Outcome, Present},
    input::{Input, Status, Xattrs},
    links::{FirstName, LinkTable, State},
    load::content_hash,
    pending::{Pending, Span},
    tally::Tally,
};
use crate::{
    domain::verdict::Failure,
    storage::{
        index::{
            record::{EntryKind, Flags, Record},
            writer::IndexWriter,
        },
        manifest::{Counts, IndexObjects, PackRef},
        pack::writer::PackWriter,
        tar::{BLOCK, Extent, Member, MemberKind, padding, writer},
    },
    task::context::Meter,
};
use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

/// Members of at least this payload begin and end with a frame, so that one of them can be read without its neighbours.
const OWN_FRAMES: u64 = 1 << 20;

/// Records that may wait on one frame.
const RECORDS_PER_FRAME: usize = 16_384;

/// Records that may wait in all.
const MAX_WAITING: usize = 4 * RECORDS_PER_FRAME;

/// Large files are read in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes the members of a pack and the records of its index.
pub(super) struct Emitter<'a> {
    pack: PackWriter,
    index: IndexWriter,
    meter: &'a Meter,
    stop: &'a AtomicBool,
    headers: writer::HeaderWriter,
    header: Vec<u8>,
    piece: Vec<u8>,
    links: LinkTable,
    pending: Pending,
    tally: Tally,
    /// The frame that is open, and the records since it began.
    waiting: (u64, usize),
}

impl<'a> Emitter<'a> {
    pub fn new(pack: PackWriter, index: IndexWriter, meter: &'a Meter, stop: &'a AtomicBool) -> Self {
        Self {
            pack,
            index,
            meter,
            stop,
            headers: writer::HeaderWriter::default(),
            header: Vec::new(),
            piece: vec![0; PIECE_BYTES],
            links: LinkTable::default(),
            pending: Pending::default(),
            tally: Tally::default(),
            waiting: (0, 0),
        }
    }

    /// Stores the entries of a chunk; gives its data buffer back.
    pub fn chunk(&mut self, chunk: Chunk) -> Result<Vec<u8>, Failure> {
        for entry in chunk.entries {
            self.entry(entry, &chunk.data)?;
        }
        self.pending.settle(self.pack.placed(), &mut self.index)?;
        while self.pending.len() > MAX_WAITING {
            self.pack.end_frame()?;
            std::thread::sleep(std::time::Duration::from_millis(1));
            self.pending.settle(self.pack.placed(), &mut self.index)?;
        }
        Ok(chunk.data)
    }

    /// Ends the archive, waits until all is stored.
    pub fn finish(mut self) -> Result<(PackRef, IndexObjects, Counts), Failure> {
        self.pack.write(&writer::END)?;
        let (pack, places) = self.pack.finish()?;
        self.pending.settle(places, &mut self.index)?;
        let counts = self.tally.finish();
        let index = self.index.finish(counts.bytes)?;
        Ok((pack, index, counts))
    }

    fn entry(&mut self, Entry { path, outcome }: Entry, data: &[u8]) -> Result<(), Failure> {
        match outcome {
            Outcome::Present(present) => self.present(path, present, data),
            Outcome::Unreadable { status, reason } => self.unreadable(path, status, &reason),
            Outcome::Vanished => {
                self.tally.counts.vanished += 1;
                Ok(())
            }
            Outcome::Socket => {
                self.tally.counts.sockets += 1;
                Ok(())
            }
        }
    }

    fn unreadable(&mut self, path: Vec<u8>, status: Option<Status>, reason: &str) -> Result<(), Failure> {
        let known = status.and_then(|status| Some((status.entry_kind()?, status)));
        if known.is_some_and(|(kind, _)| (kind == EntryKind::Directory) != path.ends_with(b"/")) {
            // Something else has its name since the directory was listed; a path must be that of its kind.
            self.tally.changed(&path);
            return Ok(());
        }
        self.tally.unreadable(&path, reason);
        let Some((kind, status)) = known else { return Ok(()) };
        let flags = Flags { unreadable: true, ..Flags::default() };
        self.push(Record { flags, ..record(kind, &status, path, Vec::new(), Vec::new()) }, None)
    }

    fn present(&mut self, path: Vec<u8>, present: Present, data: &[u8]) -> Result<(), Failure> {
        let Present { status, xattrs, target, racy, content } = present;
        let Some(kind) = status.entry_kind() else { return Ok(()) };
        let mut record = record(kind, &status, path, target, xattrs);
        record.flags.racy = racy;
        self.tally.counts.dirs += u64::from(kind == EntryKind::Directory);
        self.tally.counts.files += u64::from(kind == EntryKind::File);
        if let Some(key) = record.link
            && let Some(first) = self.links.next_name(key, state(&record))
        {
            return self.hard_link(record, first);
        }
        let span = match content {
            Content::None => Some(self.member(&member(&record, None), &[])?),
            Content::Buffered { range, hash, changed } => {
                record.hash = Some(hash);
                record.flags.changed = changed;
                let span = self.member(&member(&record, None), &data[range])?;
                self.meter.add(record.size, 1);
                self.tally.counts.bytes += record.size;
                Some(span)
            }
            Content::Stream { input, extents } => {
                self.stream(&mut record, &status, input, extents.as_deref())?
            }
        };
        self.stored(&record, &status);
        self.push(record, span)
    }

    /// Counts a file and remembers its name, if others are to come.
    fn stored(&mut self, record: &Record, status: &Status) {
        let Some(hash) = record.hash else { return };
        self.tally.counts.new += 1;
        if record.flags.changed {
            self.tally.changed(&record.path);
        }
        if let Some(key) = record.link {
            let first = FirstName { path: record.path.clone(), state: state(record), hash };
            self.links.remember(key, status.links, first);
        }
    }

    /// Stores a later name of a file whose content is in this pack.
    fn hard_link(&mut self, mut record: Record, first: FirstName) -> Result<(), Failure> {
        record.hash = Some(first.hash);
        let target = Cow::Borrowed(&first.path[..]);
        let link = Member { kind: MemberKind::HardLink, size: 0, target, ..member(&record, None) };
        let link = Member { xattrs: Cow::Borrowed(&[]), ..link };
        let span = self.member(&link, &[])?;
        self.meter.add(0, 1);
        self.push(record, Some(span))
    }

    /// Writes a member that is in memory.
    fn member(&mut self, member: &Member<'_>, payload: &[u8]) -> Result<Span, Failure> {
        let begin = self.begin(member)?;
        self.pack.write(payload)?;
        self.end(begin, member)
    }

    /// Writes a member whose content is read now. Its size is what the header says: what is missing is made up by
    /// zeros, what is too much is left out. `None` when it cannot be read: nothing refers to the member then.
    fn stream(
        &mut self,
        record: &mut Record,
        status: &Status,
        mut input: Input,
        extents: Option<&[Extent]>,
    ) -> Result<Option<Span>, Failure> {
        record.flags.sparse = extents.is_some();
        let member = member(record, extents);
        let begin = self.begin(&member)?;
        let whole = [Extent { offset: 0, length: member.size }];
        let mut copy = Copy { hasher: blake3::Hasher::new(), short: false, error: None };
        for extent in extents.unwrap_or(&whole) {
            self.extent(&mut input, *extent, &mut copy)?;
        }
        let span = self.end(begin, &member)?;
        self.tally.counts.bytes += member.payload();
        self.meter.add(0, 1);
        if let Some(error) = copy.error {
            record.flags = Flags { unreadable: true, ..Flags::default() };
            self.tally.unreadable(&record.path, &error.to_string());
            return Ok(None);
        }
        let after = Status::of(&input.fd);
        record.flags.changed = copy.short || !after.is_ok_and(|after| after.same_content(status));
        record.hash = Some(content_hash(&copy.hasher.finalize()));
        Ok(Some(span))
    }

    fn extent(&mut self, input: &mut Input, extent: Extent, copy: &mut Copy) -> Result<(), Failure> {
        let mut done = 0;
        while done < extent.length {
            if self.stop.load(Ordering::Relaxed) {
                return Err(stopped());
            }
            let most =
                usize::try_from(extent.length - done).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let piece = &mut self.piece[..most];
            let read = match copy.error {
                Some(_) => 0,
                None => input.read_at(piece, extent.offset + done).unwrap_or_else(|error| {
                    copy.error = Some(error);
                    0
                }),
            };
            copy.short |= read < most;
            piece[read..].fill(0);
            copy.hasher.update(piece);
            self.pack.write(piece)?;
            self.meter.add(most as u64, 0);
            done += most as u64;
        }
        Ok(())
    }

    fn begin(&mut self, member: &Member<'_>) -> Result<(u64, u64), Failure> {
        if member.payload() >= OWN_FRAMES {
            self.pack.end_frame()?;
        }
        let position = self.pack.position();
        self.header.clear();
        self.headers.append(&mut self.header, member);
        self.pack.write(&self.header)?;
        Ok(position)
    }

    fn end(&mut self, (first, offset): (u64, u64), member: &Member<'_>) -> Result<Span, Failure> {
        self.pack.write(&ZEROS[..padding(member.payload())])?;
        if member.payload() >= OWN_FRAMES {
            self.pack.end_frame()?;
        }
        // At the start of a frame the member ended with the one before.
        let (frame, next) = self.pack.position();
        Ok(Span { first, offset, last: if next == 0 { frame.saturating_sub(1) } else { frame } })
    }

    fn push(&mut self, record: Record, span: Option<Span>) -> Result<(), Failure> {
        self.pending.push(record, span);
        let frame = self.pack.position().0;
        let records = if self.waiting.0 == frame { self.waiting.1 + 1 } else { 1 };
        self.waiting = (frame, records);
        if records >= RECORDS_PER_FRAME {
            self.pack.end_frame()?;
        }
        Ok(())
    }
}

/// The state of copying one file.
struct Copy {
    hasher: blake3::Hasher,
    short: bool,
    error: Option<rustix::io::Errno>,
}

fn record(kind: EntryKind, status: &Status, path: Vec<u8>, target: Vec<u8>, xattrs: Xattrs) -> Record {
    let several = kind == EntryKind::File && status.links > 1;
    Record {
        kind,
        mode: status.mode,
        uid: status.uid,
        gid: status.gid,
        size: status.size,
        mtime: status.mtime,
        ctime: status.ctime,
        inode: status.inode,
        link: several.then_some((status.device, status.inode)),
        flags: Flags::default(),
        hash: None,
        place: None,
        xattrs,
        device: status.special,
        target,
        path,
    }
}

fn state(record: &Record) -> State {
    (record.size, record.mtime, record.ctime)
}

fn member<'a>(record: &'a Record, extents: Option<&'a [Extent]>) -> Member<'a> {
    Member {
        kind: match record.kind {
            EntryKind::File => MemberKind::File,
            EntryKind::Directory => MemberKind::Directory,
            EntryKind::Symlink => MemberKind::Symlink,
            EntryKind::Fifo => MemberKind::Fifo,
            EntryKind::CharDevice => MemberKind::CharDevice,
            EntryKind::BlockDevice => MemberKind::BlockDevice,
        },
        path: Cow::Borrowed(&record.path),
        target: Cow::Borrowed(&record.target),
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        mtime: record.mtime,
        device: record.device,
        xattrs: Cow::Borrowed(&record.xattrs),
        extents: extents.map(Cow::Borrowed),
    }
}

/// What a backup that nobody waits for any more ends with.
pub(super) fn stopped() -> Failure {
    Failure::temporary("Interrupted", "the backup was stopped")
}
