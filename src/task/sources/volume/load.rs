//! The readers: each takes a batch, looks at its entries and reads the small files, ahead of whoever stores them.

use super::{
    entry::{BUFFERED_BYTES, BufferPool, Chunk, Content, Entry, Outcome, Present, RacyAfter},
    input::{self, Input, Status, XattrReader},
    walk::{Batch, Directory, Item, Job},
};
use rustix::{
    fd::AsFd,
    fs::{FileType, OFlags},
    io::{Errno, Result},
};
use std::sync::{
    Mutex, PoisonError,
    mpsc::{Receiver, SyncSender},
};

/// Large files of one chunk: each keeps a file descriptor open until it is streamed.
const CHUNK_STREAMS: usize = 4;

/// Reads batches until there are no more.
pub(super) fn run(jobs: &Mutex<Receiver<Job>>, buffers: &BufferPool) {
    let mut xattrs = XattrReader::new();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((batch, chunks)) = job else { return };
        let loader = Loader {
            buffers,
            chunks,
            racy_after: batch.racy_after,
            xattrs: &mut xattrs,
            chunk: Chunk::new(),
        };
        loader.batch(batch);
    }
}

impl Chunk {
    fn new() -> Self {
        Self { entries: Vec::new(), data: Vec::new(), last: false }
    }
}

/// The work on one batch.
struct Loader<'a> {
    buffers: &'a BufferPool,
    chunks: SyncSender<Chunk>,
    racy_after: RacyAfter,
    xattrs: &'a mut XattrReader,
    chunk: Chunk,
}

/// What was used of the chunk being filled.
#[derive(Default)]
struct Used {
    bytes: usize,
    streams: usize,
}

impl Loader<'_> {
    fn batch(mut self, batch: Batch) {
        let mut used = Used::default();
        for item in batch.items {
            let entry = match item {
                Item::Ready(entry) => entry,
                Item::Load { directory, name, kind } => {
                    let Ok(entry) = self.load(&directory, &batch.names[name], kind, &mut used) else {
                        return;
                    };
                    entry
                }
            };
            if let Outcome::Present(Present { content: Content::Stream { .. }, .. }) = entry.outcome {
                used.streams += 1;
            }
            self.chunk.entries.push(entry);
            if used.streams >= CHUNK_STREAMS && self.send(&mut used, false).is_err() {
                return;
            }
        }
        let _ = self.send(&mut used, true);
    }

    fn send(&mut self, used: &mut Used, last: bool) -> std::result::Result<(), Stopped> {
        *used = Used::default();
        let mut chunk = std::mem::replace(&mut self.chunk, Chunk::new());
        chunk.last = last;
        self.chunks.send(chunk).map_err(|_| Stopped)
    }

    /// Looks at one name.
    fn load(
        &mut self,
        directory: &Directory,
        name: &[u8],
        kind: FileType,
        used: &mut Used,
    ) -> std::result::Result<Entry, Stopped> {
        let path = [&directory.path[..], name].concat();
        let outcome = match self.look(directory, name, kind, used) {
            Ok(Some(present)) => Outcome::Present(present),
            Ok(None) => Outcome::Socket,
            Err(Trouble::Stopped) => return Err(Stopped),
            Err(Trouble::Errno(Errno::NOENT)) => Outcome::Vanished,
            Err(Trouble::Errno(error)) => match Status::at(directory.fd(), name) {
                Err(Errno::NOENT) => Outcome::Vanished,
                status => Outcome::Unreadable { status: status.ok(), reason: error.to_string() },
            },
        };
        Ok(Entry { path, outcome })
    }

    fn look(&mut self, directory: &Directory, name: &[u8], kind: FileType, used: &mut Used) -> Looked {
        if kind == FileType::RegularFile {
            match input::open(directory.fd(), name, OFlags::empty()) {
                Ok(fd) => return self.file(fd, used),
                // Something else took its place.
                Err(Errno::LOOP | Errno::NXIO) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let status = Status::at(directory.fd(), name)?;
        let target = match status.kind {
            FileType::RegularFile => {
                let fd = input::open(directory.fd(), name, OFlags::empty())?;
                return self.file(fd, used);
            }
            // Made after its directory was listed.
            FileType::Directory => return Err(Errno::NOENT.into()),
            FileType::Symlink => rustix::fs::readlinkat(directory.fd(), name, Vec::new())?.into_bytes(),
            _ if status.entry_kind().is_none() => return Ok(None),
            _ => Vec::new(),
        };
        let xattrs = self.xattrs.at(directory.fd(), name)?;
        let racy = self.racy_after.is_racy(&status);
        Ok(Some(Present { status, xattrs, target, racy, content: Content::None }))
    }

    fn file(&mut self, fd: rustix::fd::OwnedFd, used: &mut Used) -> Looked {
        let mut input = Input::new(fd);
        let status = Status::of(&input.fd)?;
        if status.kind != FileType::RegularFile {
            // Replaced between listing and opening.
            return Err(Errno::NOENT.into());
        }
        let xattrs = self.xattrs.of(input.fd.as_fd())?;
        let racy = self.racy_after.is_racy(&status);
        let extents = input.extents(&status);
        if extents.is_some() || status.size > BUFFERED_BYTES as u64 {
            let content = Content::Stream { input, extents };
            return Ok(Some(Present { status, xattrs, target: Vec::new(), racy, content }));
        }
        // Fits, as it is at most BUFFERED_BYTES.
        if used.bytes + status.size as usize > BUFFERED_BYTES {
            self.send(used, false).map_err(|_| Trouble::Stopped)?;
        }
        let (status, content) = self.small(&mut input, status, used)?;
        Ok(Some(Present { status, xattrs, target: Vec::new(), racy, content }))
    }

    /// Reads a small file into the chunk, once more if it changed meanwhile.
    fn small(&mut self, input: &mut Input, mut status: Status, used: &mut Used) -> Result<(Status, Content)> {
        if self.chunk.data.is_empty() && status.size > 0 {
            self.chunk.data = self.buffers.take();
        }
        let mut again = true;
        let (range, changed) = loop {
            let range = used.bytes..used.bytes + status.size as usize;
            let buffer = &mut self.chunk.data[range.clone()];
            let read = input.read_at(buffer, 0)?;
            buffer[read..].fill(0);
            let after = Status::of(&input.fd)?;
            let same = read == buffer.len() && status.same_content(&after);
            let fits = used.bytes as u64 + after.size <= self.chunk.data.len() as u64;
            if same || !again || !fits {
                break (range, !same);
            }
            (status, again) = (after, false);
        };
        used.bytes = range.end;
        let hash = content_hash(&blake3::hash(&self.chunk.data[range.clone()]));
        Ok((status, Content::Buffered { range, hash, changed }))
    }
}

/// The part of a hash that an index keeps.
pub(super) fn content_hash(hash: &blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

/// Whoever stores the entries has stopped.
struct Stopped;

/// Why there is nothing to store.
enum Trouble {
    Stopped,
    Errno(Errno),
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Errno(error)
    }
}

/// `None`: a socket.
type Looked = std::result::Result<Option<Present>, Trouble>;
