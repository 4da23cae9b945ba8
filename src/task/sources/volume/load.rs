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
        if self.chunk.data.is_empty() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path, sync::Arc, sync::mpsc::sync_channel};

    /// Loads names that the directory called `kind`.
    fn load(root: &Path, names: &[(&str, FileType)]) -> Vec<Entry> {
        let fd = fs::File::open(root).unwrap().into();
        let directory = Arc::new(Directory { fd, path: b"./".to_vec() });
        let mut batch = Batch::new();
        for (name, kind) in names {
            let start = batch.names.len();
            batch.names.extend_from_slice(name.as_bytes());
            let name = start..batch.names.len();
            batch.items.push(Item::Load { directory: Arc::clone(&directory), name, kind: *kind });
        }
        let (jobs, job_receiver) = sync_channel(1);
        let (chunks, chunk_receiver) = sync_channel(100);
        jobs.send((batch, chunks)).unwrap();
        drop(jobs);
        run(&Mutex::new(job_receiver), &BufferPool::default());
        chunk_receiver.iter().flat_map(|chunk| chunk.entries).collect()
    }

    fn kind(entry: &Entry) -> Option<FileType> {
        match &entry.outcome {
            Outcome::Present(present) => Some(present.status.kind),
            Outcome::Vanished => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_took_the_place_of_what_was_listed_is_seen_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", root.path().join("link")).unwrap();
        fs::create_dir(root.path().join("directory")).unwrap();
        let entries = load(
            root.path(),
            &[
                ("link", FileType::RegularFile),
                ("file", FileType::Symlink),
                ("file", FileType::Unknown),
                ("directory", FileType::RegularFile),
                ("gone", FileType::RegularFile),
                ("gone", FileType::Fifo),
            ],
        );
        let kinds: Vec<_> = entries.iter().map(kind).collect();
        let file = Some(FileType::RegularFile);
        assert_eq!(kinds, [Some(FileType::Symlink), file, file, None, None, None]);
    }

    #[test]
    fn a_small_file_that_changed_is_read_once_more() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, b"content").unwrap();
        let mut input = Input::new(fs::File::open(&path).unwrap().into());
        let now = Status::of(&input.fd).unwrap();
        let (chunks, _receiver) = sync_channel(1);
        let mut xattrs = XattrReader::new();
        let buffers = BufferPool::default();
        let racy_after = RacyAfter::now();
        let mut loader =
            Loader { buffers: &buffers, chunks, racy_after, xattrs: &mut xattrs, chunk: Chunk::new() };
        for stale in [0, 3, 7, 20] {
            let before = Status { size: stale, mtime: Default::default(), ..now };
            let mut used = Used { bytes: 100, streams: 0 };
            let (status, content) = loader.small(&mut input, before, &mut used).unwrap();
            let Content::Buffered { range, hash, changed } = content else { panic!("{content:?}") };
            assert_eq!((status, changed, used.bytes), (now, false, 107), "{stale}");
            assert_eq!(&loader.chunk.data[range], b"content");
            assert_eq!(hash, content_hash(&blake3::hash(b"content")));
        }
    }

    #[test]
    fn chunks_stay_within_their_buffer_and_their_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..20).map(|i| format!("{i}")).collect();
        for name in &names {
            fs::write(root.path().join(name), vec![1; 200 << 10]).unwrap();
        }
        let listed: Vec<_> = names.iter().map(|name| (&name[..], FileType::RegularFile)).collect();
        let entries = load(root.path(), &listed);
        assert_eq!(entries.len(), 20);
        for (entry, name) in entries.iter().zip(&names) {
            assert_eq!(entry.path, format!("./{name}").into_bytes());
        }
    }
}
