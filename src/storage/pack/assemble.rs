//! Frames → parts, in order, on one thread: the only place that knows where things lie.

use super::{
    compress::Frame,
    list::PartRecord,
    part_header,
    slab::{Slab, SlabPool},
    upload::{Part, Uploads},
};
use crate::{
    domain::verdict::Failure,
    storage::{
        manifest::PartListRef,
        store::{HashKind, NativeHasher},
    },
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
};

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

/// What the assembler works with.
pub(super) struct Assembler {
    /// Pack id, for the parts' headers.
    pub pack: String,
    /// Name of a part before its number: `<source>-<attempt>.tar.zst`.
    pub part_name: String,
    /// Target size of a part.
    pub part_bytes: u64,
    pub native: Option<HashKind>,
    pub pool: Arc<SlabPool>,
    pub uploads: Uploads,
    /// Where buffers go when their frame is in a part.
    pub free: Sender<Frame>,
    pub places: Sender<FramePlace>,
    pub sums: Sums,
    pub open: Option<OpenPart>,
}

/// Totals of what is in parts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub frames: u64,
    pub parts: u32,
    pub plain: u64,
    pub stored: u64,
}

/// The part that grows.
pub(super) struct OpenPart {
    number: u32,
    full: Vec<Bytes>,
    slab: Slab,
    bytes: u64,
    /// True until it has a frame.
    fresh: bool,
    blake3: blake3::Hasher,
    native: Option<NativeHasher>,
}

impl OpenPart {
    fn append(&mut self, mut bytes: &[u8], pool: &Arc<SlabPool>) -> Result<(), Failure> {
        self.bytes += bytes.len() as u64;
        self.blake3.update(bytes);
        if let Some(native) = &mut self.native {
            native.update(bytes);
        }
        loop {
            bytes = &bytes[self.slab.fill(bytes)..];
            if bytes.is_empty() {
                return Ok(());
            }
            let next = pool.take().ok_or_else(stopped)?;
            self.full.push(std::mem::replace(&mut self.slab, next).freeze());
        }
    }
}

fn stopped() -> Failure {
    Failure::temporary("Interrupted", "the backup was stopped before its end")
}

impl Assembler {
    /// Puts all frames into parts and waits until those are stored. `finishing` tells, once no more frames come,
    /// whether the producer came to its end.
    ///
    /// # Errors
    /// The first failure of a worker or an upload; all else is stopped then.
    pub fn run(
        mut self,
        frames: Receiver<Result<Frame, Failure>>,
        finishing: impl Fn() -> bool,
    ) -> Result<(Sums, Vec<PartListRef>), Failure> {
        let mut early = BTreeMap::new();
        while let Ok(frame) = frames.recv() {
            let frame = frame?;
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&self.sums.frames) {
                self.append(&frame)?;
                // The producer may have stopped listening; the end of the frames tells.
                let _ = self.free.send(frame);
            }
        }
        if !finishing() || !early.is_empty() {
            return Err(stopped());
        }
        self.close_part()?;
        let lists = self.uploads.finish()?;
        Ok((self.sums, lists))
    }

    fn append(&mut self, frame: &Frame) -> Result<(), Failure> {
        let length = frame.packed().len() as u64;
        if self.open.as_ref().is_some_and(|part| !part.fresh && part.bytes + length > self.part_bytes) {
            self.close_part()?;
        }
        let mut part = match self.open.take() {
            Some(part) => part,
            None => self.open_part()?,
        };
        let place = FramePlace {
            frame: self.sums.frames,
            part: part.number,
            offset: part.bytes,
            length,
            total_offset: self.sums.stored,
        };
        part.append(frame.packed(), &self.pool)?;
        part.fresh = false;
        self.open = Some(part);
        self.sums.frames += 1;
        self.sums.plain += frame.plain.len() as u64;
        self.sums.stored += length;
        let _ = self.places.send(place);
        Ok(())
    }

    fn open_part(&mut self) -> Result<OpenPart, Failure> {
        let mut part = OpenPart {
            number: self.sums.parts,
            full: Vec::new(),
            slab: self.pool.take().ok_or_else(stopped)?,
            bytes: 0,
            fresh: true,
            blake3: blake3::Hasher::new(),
            native: self.native.map(HashKind::hasher),
        };
        part.append(&part_header(&self.pack, part.number, self.sums.plain), &self.pool)?;
        self.sums.parts += 1;
        self.sums.stored += part.bytes;
        Ok(part)
    }

    fn close_part(&mut self) -> Result<(), Failure> {
        let Some(mut part) = self.open.take() else { return Ok(()) };
        part.full.push(part.slab.freeze());
        let record = PartRecord {
            object: format!("{}.{:05}", self.part_name, part.number),
            zstd_bytes: part.bytes,
            stored_bytes: part.bytes,
            age_header_bytes: 0,
            blake3: part.blake3.finalize().to_hex().to_string(),
            native: part.native.map(|hasher| hasher.finish().to_string()).unwrap_or_default(),
        };
        self.uploads.begin(Part { number: part.number, body: part.full, record })
    }
}
