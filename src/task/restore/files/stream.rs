//! The plain bytes of a pack from any place on, fetched in whole verified parts or in ranges.
//!
//! Positions are offsets in the zstd bytes of all parts, one after the other. One window of them and one decoded frame
//! are held in memory.

use crate::{
    domain::verdict::{Failure, Verdict},
    storage::{index::record::Place, pack::reader::PackReader},
};
use bytes::{Bytes, BytesMut};
use std::{io, ops::Range, sync::Arc};
use zstd::{bulk::Decompressor, zstd_safe};

/// A frame holds at most this much, so nothing on the remote can make us take more memory.
const FRAME_BYTES: usize = 4 << 20;
/// Fetched at once when only ranges are read.
pub const RANGE_BYTES: u64 = 16 << 20;

/// A reader that can be put at any member of a pack.
pub struct PackStream {
    reader: Arc<PackReader>,
    runtime: tokio::runtime::Handle,
    /// Where each part begins; one more for the end.
    starts: Arc<[u64]>,
    whole: Range<u64>,
    expected: Range<u64>,
    window: Bytes,
    window_start: u64,
    frame: Vec<u8>,
    frame_range: Range<u64>,
    position: usize,
    decoder: Decompressor<'static>,
    failure: Option<Failure>,
    damaged: Vec<(String, String)>,
    verified: Vec<usize>,
}

/// Where each part of a pack begins in its zstd bytes, and where the last one ends.
pub fn part_starts(reader: &PackReader) -> Arc<[u64]> {
    let mut at = 0;
    std::iter::once(0)
        .chain(reader.parts().iter().map(|part| {
            at += part.zstd_bytes;
            at
        }))
        .collect()
}

impl PackStream {
    /// A stream over `reader`; it must be read from a thread that does not run async tasks of `runtime`.
    ///
    /// # Errors
    /// No memory for a decoder.
    pub fn new(reader: Arc<PackReader>, runtime: tokio::runtime::Handle) -> Result<Self, Failure> {
        let decoder = Decompressor::new()
            .map_err(|e| Failure::temporary("NoMemory", format!("no decompressor could be made: {e}")))?;
        Ok(Self {
            starts: part_starts(&reader),
            reader,
            runtime,
            whole: 0..0,
            expected: 0..0,
            window: Bytes::new(),
            window_start: 0,
            frame: Vec::with_capacity(FRAME_BYTES),
            frame_range: 0..0,
            position: 0,
            decoder,
            failure: None,
            damaged: Vec::new(),
            verified: Vec::new(),
        })
    }

    /// Between these offsets parts are fetched whole, and verified before a byte of them is used.
    pub fn fetch_whole(&mut self, offsets: Range<u64>) {
        self.whole = offsets;
    }

    /// Says what will be read next: elsewhere this is fetched as a range, in one piece up to [`RANGE_BYTES`]. The
    /// frames' own checksums and the files' hashes verify it.
    pub fn expect(&mut self, offsets: Range<u64>) {
        self.expected = offsets;
    }

    /// Offset of a place in the pack's zstd bytes; `None` when it lies outside.
    pub fn offset(starts: &[u64], place: &Place) -> Option<u64> {
        let part = usize::try_from(place.part).ok()?;
        let (start, end) = (*starts.get(part)?, *starts.get(part + 1)?);
        let offset = start.checked_add(place.frame_offset)?;
        (offset < end).then_some(offset)
    }

    /// Puts the reader at a member's first header.
    ///
    /// # Errors
    /// A place outside the pack, or bytes that are not what was stored. [`PackStream::take_failure`] tells whether
    /// the store was the reason.
    pub fn seek(&mut self, place: &Place) -> io::Result<()> {
        let offset = Self::offset(&self.starts, place).ok_or_else(|| damaged("a place outside its pack"))?;
        if self.frame_range.start != offset || self.frame_range.is_empty() {
            self.load_frame(offset)?;
        }
        self.position = usize::try_from(place.member_offset)
            .ok()
            .filter(|&at| at < self.frame.len())
            .ok_or_else(|| damaged("a place outside its frame"))?;
        Ok(())
    }

    /// Puts the reader at the pack's first byte.
    pub fn rewind(&mut self) {
        self.frame.clear();
        self.frame_range = 0..0;
        self.position = 0;
    }

    /// The failure of the store behind the last error, if it was that.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Objects that turned out to be damaged or missing since the last call: path, and what is wrong.
    pub fn take_damaged(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.damaged)
    }

    /// Parts that were fetched whole and are what was stored, since the last call.
    pub fn take_verified(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.verified)
    }

    /// Path of the object that holds the frame being read.
    pub fn path(&self) -> String {
        let part = self.part_at(self.frame_range.start).unwrap_or_default();
        self.reader.parts().get(part).map_or_else(String::new, |part| self.reader.path(&part.object))
    }

    fn part_at(&self, offset: u64) -> Option<usize> {
        (offset < *self.starts.last()?).then(|| self.starts.partition_point(|&start| start <= offset) - 1)
    }

    /// Decodes the frame at `offset`, or the first one after skippable ones there.
    fn load_frame(&mut self, mut offset: u64) -> io::Result<()> {
        self.frame.clear();
        self.frame_range = offset..offset;
        while offset < *self.starts.last().unwrap_or(&0) {
            let length = self.frame_length(offset)?;
            let at = usize::try_from(offset - self.window_start).unwrap_or(usize::MAX);
            let bytes = self.window.get(at..at + length).ok_or_else(|| damaged("a frame that is cut off"))?;
            let end = offset + length as u64;
            if is_skippable(bytes) {
                offset = end;
                continue;
            }
            self.decoder
                .decompress_to_buffer(bytes, &mut self.frame)
                .map_err(|e| damaged(&format!("a frame that cannot be decoded ({e})")))?;
            self.frame_range = offset..end;
            return Ok(());
        }
        // Nothing but skippable frames up to the end.
        self.frame_range = offset..offset;
        Ok(())
    }

    /// Length of the frame at `offset`, after making sure that the window holds all of it.
    fn frame_length(&mut self, offset: u64) -> io::Result<usize> {
        if let Some(length) = self.frame_in_window(offset) {
            return Ok(length);
        }
        let memory = std::mem::take(&mut self.window).try_into_mut().unwrap_or_default();
        let fetched = if self.whole.contains(&offset) {
            self.fetch_part(offset, memory)?
        } else {
            self.fetch_range(offset, RANGE_BYTES, memory)?
        };
        (self.window_start, self.window) = fetched;
        self.frame_in_window(offset).ok_or_else(|| damaged("a frame that cannot be decoded"))
    }

    fn frame_in_window(&self, offset: u64) -> Option<usize> {
        let at = usize::try_from(offset.checked_sub(self.window_start)?).ok()?;
        let bytes = self.window.get(at..).filter(|bytes| !bytes.is_empty())?;
        zstd_safe::find_frame_compressed_size(bytes).ok().filter(|&length| length <= bytes.len())
    }

    fn fetch_part(&mut self, offset: u64, memory: BytesMut) -> io::Result<(u64, Bytes)> {
        let part = self.part_at(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        let n = u32::try_from(part).map_err(|_| damaged("a part's number"))?;
        match self.runtime.block_on(self.reader.part_into(n, memory)) {
            Ok(bytes) => {
                self.verified.push(part);
                Ok((self.starts[part], bytes))
            }
            // What is wrong with a part is wrong with some of its frames: the others are still good, and say so
            // themselves.
            Err(failure) if failure.verdict == Verdict::Permanent => {
                self.damaged.push((self.reader.path(&self.reader.parts()[part].object), failure.message));
                self.fetch_range(offset, self.starts[part + 1] - offset, BytesMut::new())
            }
            Err(failure) => Err(self.fail(failure)),
        }
    }

    fn fetch_range(&mut self, offset: u64, most: u64, memory: BytesMut) -> io::Result<(u64, Bytes)> {
        let part = self.part_at(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        let end = *self.starts.last().unwrap_or(&0);
        let wanted = if self.expected.contains(&offset) { self.expected.end } else { offset + RANGE_BYTES };
        // What follows is fetched whole, as soon as it is reached.
        let whole = if offset < self.whole.start && !self.whole.is_empty() { self.whole.start } else { end };
        let length = wanted.min(end).min(whole).min(offset + most) - offset;
        let n = u32::try_from(part).map_err(|_| damaged("a part's number"))?;
        match self.runtime.block_on(self.reader.range(n, offset - self.starts[part], length, memory)) {
            Ok(bytes) => Ok((offset, bytes)),
            Err(failure) => Err(self.fail(failure)),
        }
    }

    fn fail(&mut self, failure: Failure) -> io::Error {
        let error = io::Error::other(failure.message.clone());
        self.failure = Some(failure);
        error
    }
}

impl io::Read for PackStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position >= self.frame.len() {
            let next = self.frame_range.end;
            if next >= *self.starts.last().unwrap_or(&0) {
                return Ok(0);
            }
            self.load_frame(next)?;
            self.position = 0;
        }
        let length = buffer.len().min(self.frame.len() - self.position);
        buffer[..length].copy_from_slice(&self.frame[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}

fn is_skippable(frame: &[u8]) -> bool {
    matches!(frame, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
