//! What the walk and the readers hand on: entries in path order, in chunks of bounded size.

use super::input::{Input, Status, Xattrs};
use crate::{
    storage::{index::record::FileTime, tar::Extent},
    task::clock,
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Files up to this size are read ahead; larger ones are streamed when their turn comes.
pub(super) const BUFFERED_BYTES: usize = 256 << 10;

/// One name of the tree, looked at.
#[derive(Debug)]
pub(super) struct Entry {
    /// As in the tar: `./a/b`, directories end in `/`.
    pub path: Vec<u8>,
    pub outcome: Outcome,
}

/// What became of looking at it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// To be stored.
    Present(Present),
    /// There, and not readable; without a status not even to be looked at.
    Unreadable { status: Option<Status>, reason: String },
    /// Gone since its directory was listed.
    Vanished,
    /// Not stored.
    Socket,
}

/// An entry to be stored.
#[derive(Debug)]
pub(super) struct Present {
    pub status: Status,
    pub xattrs: Xattrs,
    /// Of a symbolic link.
    pub target: Vec<u8>,
    /// Its ctime is too near to now to prove later that nothing changed.
    pub racy: bool,
    pub content: Content,
}

/// Content of a file.
#[derive(Debug)]
pub(super) enum Content {
    /// Not a file.
    None,
    /// Bytes in the chunk, as many as the status says.
    Buffered { range: Range<usize>, hash: [u8; 16], changed: bool },
    /// Still to be read.
    Stream { input: Input, extents: Option<Vec<Extent>> },
}

/// Entries in path order, and the content of the small ones.
#[derive(Debug)]
pub(super) struct Chunk {
    pub entries: Vec<Entry>,
    pub data: Vec<u8>,
    /// The last of its batch.
    pub last: bool,
}

/// Data buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    /// A buffer of [`BUFFERED_BYTES`] with anything in it.
    pub fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; BUFFERED_BYTES])
    }

    /// Gives one back; an empty one is dropped.
    pub fn give(&self, buffer: Vec<u8>) {
        if !buffer.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// A ctime after this moment does not prove that content stayed as it was: one-second and coarse ticks, clocks that
/// differ, writes through mmap that are stamped late.
#[derive(Debug, Clone, Copy)]
pub(super) struct RacyAfter(FileTime);

impl RacyAfter {
    /// For entries that are opened from now on.
    pub fn now() -> Self {
        let now = clock::now();
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Self(FileTime { seconds: now.as_second() - 60, nanos })
    }

    pub fn is_racy(self, status: &Status) -> bool {
        status.ctime > self.0
    }
}
