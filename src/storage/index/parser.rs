//! From lines to records: header, packs, records in order, and an end that vouches for everything before it.

use super::{
    codec::{self, path_order, unescape},
    record::{Record, parse_u64},
};
use crate::domain::names::{AttemptId, SnapshotName, SourceName};
use std::{cmp::Ordering, str::FromStr};

/// What the first line of an index says: whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHeader {
    /// The source it lists.
    pub source: SourceName,
    /// The snapshot it belongs to.
    pub snapshot: SnapshotName,
    /// The attempt that wrote it.
    pub attempt: AttemptId,
}

/// A line that is wrong, by its number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct IndexError {
    /// From 1, over all objects.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

/// Takes the lines of an index one by one. Memory: one path and the table of packs.
#[derive(Debug, Default)]
pub struct IndexParser {
    header: Option<IndexHeader>,
    packs: Vec<(u32, String)>,
    hasher: blake3::Hasher,
    lines: u64,
    records: u64,
    last_path: Vec<u8>,
    ended: bool,
}

/// Most packs of an index; the format allows 96.
const MAX_PACKS: usize = 1024;

impl IndexParser {
    /// Takes the next line, without its end; gives the record, if it is one.
    ///
    /// # Errors
    /// A line that is malformed, or not where it belongs: the text is no index, or damaged.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Record>, IndexError> {
        self.lines += 1;
        let record =
            if line.starts_with(b"#") { self.directive(line).map(|()| None) } else { self.record(line) };
        let record = record.map_err(|message| IndexError { line: self.lines, message })?;
        self.hasher.update(line);
        self.hasher.update(b"\n");
        Ok(record)
    }

    /// What the first line said, once it was read.
    pub fn header(&self) -> Option<&IndexHeader> {
        self.header.as_ref()
    }

    /// The packs that places refer to: number and id, `<YYYYMMDD>/<snapshot>/<source>-<attempt>`. All are there when
    /// the first record is.
    pub fn packs(&self) -> &[(u32, String)] {
        &self.packs
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// True once the last line was read.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn directive(&mut self, line: &[u8]) -> Result<(), String> {
        let fields: Vec<_> = line.split(|&c| c == b'\t').collect();
        match fields[..] {
            [codec::MAGIC, source, snapshot, attempt] if self.lines == 1 => {
                let (source, snapshot) = (name(source)?, name(snapshot)?);
                self.header = Some(IndexHeader { source, snapshot, attempt: name(attempt)? });
                Ok(())
            }
            [codec::PACK, n, id] if self.header.is_some() && self.records == 0 => {
                let n = parse_u64(n).and_then(|n| u32::try_from(n).ok()).ok_or("a pack without a number")?;
                let id =
                    unescape(id).and_then(|id| String::from_utf8(id).ok()).ok_or("a pack without a name")?;
                if self.packs.len() >= MAX_PACKS || self.packs.iter().any(|(other, _)| *other == n) {
                    return Err(format!("pack {n} comes twice, or there are too many"));
                }
                self.packs.push((n, id));
                Ok(())
            }
            [codec::END, records, _, hash] if self.header.is_some() && !self.ended => self.end(records, hash),
            _ => Err("not a line of an index of format 1, or not where it belongs".to_owned()),
        }
    }

    fn end(&mut self, records: &[u8], hash: &[u8]) -> Result<(), String> {
        if parse_u64(records) != Some(self.records) {
            return Err(format!("the index ends after {} records, which is not what it says", self.records));
        }
        if hash != self.hasher.finalize().to_hex().as_bytes() {
            return Err("the checksum of the whole index is wrong".to_owned());
        }
        self.ended = true;
        Ok(())
    }

    fn record(&mut self, line: &[u8]) -> Result<Option<Record>, String> {
        if self.header.is_none() || self.ended {
            return Err("a record before the first line of the index, or after its last".to_owned());
        }
        let record =
            codec::parse_record(line).map_err(|field| format!("the record's {field} is malformed"))?;
        if path_order(&self.last_path, &record.path) != Ordering::Less {
            return Err("the record is not in path order".to_owned());
        }
        if let Some(place) = record.place
            && !self.packs.iter().any(|(n, _)| *n == place.pack)
        {
            return Err(format!("the record lies in pack {}, which is not listed", place.pack));
        }
        self.last_path.clone_from(&record.path);
        self.records += 1;
        Ok(Some(record))
    }
}

fn name<T: FromStr>(field: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(field).map_err(|_| "a name that is no text")?;
    text.parse().map_err(|_| format!("{text:?} is not a name"))
}
