//! Writing a pack: the blocking half that producers see.

use crate::{
    domain::verdict::Failure,
    storage::{manifest::PackRef, store::ObjectStore},
};
use std::sync::Arc;

/// How a pack is written.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// Directory of the snapshot, relative to the store's root: `<YYYYMMDD>/<snapshot>`.
    pub directory: String,
    /// `<source>-<attempt>`: begins every object's name.
    pub prefix: String,
    /// `tar` or `archive`: what the decompressed stream is.
    pub stream: &'static str,
    /// Target size of a part, bytes.
    pub part_bytes: u64,
    /// Memory for everything in flight, bytes.
    pub memory_bytes: u64,
    /// Parts sent at once.
    pub transfers: usize,
    /// Compression threads, 1 to 4.
    pub workers: usize,
}

/// Where a finished frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// Ordinal of the frame in the pack, from 0.
    pub frame: u64,
    /// The part it is in, from 0.
    pub part: u32,
    /// Offset of the frame in the part's zstd bytes.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Zstd bytes of this pack before this frame, over all parts, skippable frames included: the difference of two
    /// frames' values is the distance that a reader must fetch.
    pub total_offset: u64,
}

/// The writer: bytes in, objects on the store. Used by one producer thread; blocks while the memory is in use or the
/// store is slow.
pub struct PackWriter {
    _private: (),
}

impl PackWriter {
    /// Starts the workers and uploads. Must be called within a tokio runtime, whose tasks send the parts.
    pub fn start(_options: PackOptions, _store: Arc<dyn ObjectStore>) -> Self {
        todo!()
    }

    /// Appends plain bytes; a frame that reaches 4 MiB closes by itself.
    ///
    /// # Errors
    /// The failure of an upload, as soon as it is final.
    pub fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        todo!()
    }

    /// Closes the current frame, if it has any bytes.
    ///
    /// # Errors
    /// As [`PackWriter::write`].
    pub fn end_frame(&mut self) -> Result<(), Failure> {
        todo!()
    }

    /// Where the next byte will go: ordinal of the frame, and offset in it.
    pub fn position(&self) -> (u64, u64) {
        todo!()
    }

    /// Frames whose place became known since the last call, in order. Never blocks.
    pub fn placed(&mut self) -> Vec<FramePlace> {
        todo!()
    }

    /// Closes the last frame and part, waits for all uploads, writes the parts lists. Gives the pack (`n` 0, `live` =
    /// `plain`) and the places of the remaining frames.
    ///
    /// # Errors
    /// The failure of an upload. Nothing that was stored is of use then.
    pub fn finish(self) -> Result<(PackRef, Vec<FramePlace>), Failure> {
        todo!()
    }
}
