//! Cutting the files of a pack into units of work: up to four consecutive parts, or one large file.

use super::{spool::Spooled, stream::PackStream};
use crate::{domain::verdict::Failure, storage::index::record::Record};
use std::ops::Range;

/// Parts in a unit.
const PARTS: u32 = 4;
/// A file of more bytes is a unit of its own.
const LARGE: u64 = 64 << 20;

/// Files that one worker restores, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Which pack, by its number in the index.
    pub pack: u32,
    /// Where the records are in the pack's spool.
    pub records: Range<u64>,
    /// Offsets in the pack's zstd bytes between which parts are fetched whole; the rest is fetched as ranges.
    pub whole: Range<u64>,
    /// Content bytes.
    pub bytes: u64,
}

/// How the units of a pack are cut.
pub struct Cut<'a> {
    /// The pack's number in the index.
    pub pack: u32,
    /// Where its parts begin.
    pub starts: &'a [u64],
    /// Fetch ranges only: much of what is selected may turn out not to be needed.
    pub ranges_only: bool,
}

/// What the records of one part, or one large file, want of the pack.
struct Piece {
    part: u32,
    records: Range<u64>,
    wanted: Range<u64>,
    wanted_bytes: u64,
    bytes: u64,
    large: bool,
}

/// The units of the records, which are in the order of the pack.
///
/// # Errors
/// A record that does not fit the pack.
pub fn plan(
    cut: &Cut<'_>,
    records: impl Iterator<Item = Result<Spooled, Failure>>,
) -> Result<Vec<Unit>, Failure> {
    let mut units = Units { cut, done: Vec::new(), first_part: 0, open: false };
    let mut piece: Option<Piece> = None;
    for spooled in records {
        let next = cut.piece(&spooled?)?;
        match &mut piece {
            Some(current) if current.takes(&next) => current.add(&next),
            _ => piece.replace(next).into_iter().for_each(|p| units.push(&p)),
        }
    }
    piece.into_iter().for_each(|p| units.push(&p));
    Ok(units.done)
}

impl Cut<'_> {
    fn piece(&self, spooled: &Spooled) -> Result<Piece, Failure> {
        let Spooled { record, at } = spooled;
        let place = record.place.ok_or_else(|| outside(record))?;
        let start = PackStream::offset(self.starts, &place).ok_or_else(|| outside(record))?;
        let end = start.checked_add(place.frames_length).ok_or_else(|| outside(record))?;
        if end > *self.starts.last().unwrap_or(&0) {
            return Err(outside(record));
        }
        Ok(Piece {
            part: place.part,
            records: at.clone(),
            wanted: start..end,
            wanted_bytes: end - start,
            bytes: record.size,
            large: record.size > LARGE,
        })
    }

    /// The parts that are fetched whole: those of which more than 60 % are wanted.
    fn whole(&self, piece: &Piece) -> Range<u64> {
        let part = piece.part as usize;
        let (start, end) = (self.starts[part], self.starts[part + 1]);
        if self.ranges_only {
            start..start
        } else if piece.large {
            // Parts that lie in the file from end to end; the first and last are shared with others.
            let inner = self.starts.partition_point(|&s| s < piece.wanted.start);
            let last = self.starts.partition_point(|&s| s <= piece.wanted.end).saturating_sub(1);
            self.starts[inner.min(last)]..self.starts[last]
        } else if piece.wanted_bytes * 10 >= (end - start) * 6 {
            start..end
        } else {
            start..start
        }
    }
}

impl Piece {
    fn takes(&self, next: &Self) -> bool {
        !self.large && !next.large && self.part == next.part
    }

    fn add(&mut self, next: &Self) {
        self.records.end = next.records.end;
        self.wanted_bytes += next.wanted.end.saturating_sub(next.wanted.start.max(self.wanted.end));
        self.wanted.end = self.wanted.end.max(next.wanted.end);
        self.bytes += next.bytes;
    }
}

struct Units<'a> {
    cut: &'a Cut<'a>,
    done: Vec<Unit>,
    first_part: u32,
    open: bool,
}

impl Units<'_> {
    fn push(&mut self, piece: &Piece) {
        let whole = self.cut.whole(piece);
        let joins = |unit: &Unit| {
            let near = self.open && !piece.large && piece.part < self.first_part.saturating_add(PARTS);
            let alike = match (unit.whole.is_empty(), whole.is_empty()) {
                (true, true) => true,
                (false, false) => unit.whole.end == whole.start,
                _ => false,
            };
            near && alike
        };
        match self.done.last_mut() {
            Some(unit) if joins(unit) => {
                unit.records.end = piece.records.end;
                unit.whole.end = whole.end;
                unit.bytes += piece.bytes;
            }
            _ => {
                self.first_part = piece.part;
                // Nothing joins a large file.
                self.open = !piece.large;
                self.done.push(Unit {
                    pack: self.cut.pack,
                    records: piece.records.clone(),
                    whole,
                    bytes: piece.bytes,
                });
            }
        }
    }
}

fn outside(record: &Record) -> Failure {
    Failure::permanent(
        "IndexDamaged",
        format!("the index puts {} outside its pack", String::from_utf8_lossy(&record.path)),
    )
}
