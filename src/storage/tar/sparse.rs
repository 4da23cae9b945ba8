//! The map of a sparse file in GNU's format 1.0: decimal lines, the number of extents, then offset and length of each,
//! padded to whole blocks, in front of the data.

use super::{BLOCK, Extent, MAX_EXTENTS, padding};
use crate::storage::index::record::{parse_u64, write_u64};

/// Appends the padded map. A hole at the end is told by an empty extent at `size`, as GNU tar does.
pub(super) fn write_map(out: &mut Vec<u8>, extents: &[Extent], size: u64) {
    let start = out.len();
    let end = extents.last().map_or(0, |e| e.offset + e.length);
    let last = (end < size || extents.is_empty()).then_some(Extent { offset: size, length: 0 });
    line(out, (extents.len() + usize::from(last.is_some())) as u64);
    for extent in extents.iter().chain(&last) {
        line(out, extent.offset);
        line(out, extent.length);
    }
    let length = out.len() - start;
    out.resize(out.len() + padding(length as u64), 0);
}

fn line(out: &mut Vec<u8>, number: u64) {
    write_u64(out, number);
    out.push(b'\n');
}

/// Reads a map block by block, as many as it says it has.
#[derive(Debug, Default)]
pub(super) struct MapParser {
    count: Option<usize>,
    offset: Option<u64>,
    digits: Vec<u8>,
    read: usize,
    extents: Vec<Extent>,
}

impl MapParser {
    /// Takes the next block; true when the map is complete.
    pub(super) fn feed(&mut self, block: &[u8; BLOCK], size: u64) -> Result<bool, &'static str> {
        for &c in block {
            if self.is_complete() {
                break;
            }
            match c {
                b'\n' => self.end_line(size)?,
                c if self.digits.len() < 20 => self.digits.push(c),
                _ => return Err("the sparse map holds something that is no number"),
            }
        }
        Ok(self.is_complete())
    }

    /// The extents, empty ones left out.
    pub(super) fn finish(self) -> Vec<Extent> {
        self.extents
    }

    fn is_complete(&self) -> bool {
        self.count == Some(self.read)
    }

    fn end_line(&mut self, size: u64) -> Result<(), &'static str> {
        let number = parse_u64(&self.digits).ok_or("the sparse map holds something that is no number")?;
        self.digits.clear();
        if self.count.is_none() {
            // One more than the writer's limit, for the hole at the end.
            let count = usize::try_from(number).ok().filter(|n| *n <= MAX_EXTENTS + 1);
            self.count = Some(count.ok_or("the sparse map has too many extents")?);
            return Ok(());
        }
        let Some(offset) = self.offset.take() else {
            self.offset = Some(number);
            return Ok(());
        };
        let floor = self.extents.last().map_or(0, |e| e.offset + e.length);
        let end = offset.checked_add(number).filter(|end| *end <= size && offset >= floor);
        end.ok_or("the sparse map's extents overlap or lie outside the file")?;
        if number > 0 {
            self.extents.push(Extent { offset, length: number });
        }
        self.read += 1;
        Ok(())
    }
}
