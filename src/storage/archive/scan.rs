//! Documents told apart by their length, counted and summed, whole or in pieces.

use crc_fast::{CrcAlgorithm, Digest, checksum};

const CRC: CrcAlgorithm = CrcAlgorithm::Crc64Xz;

/// The sums of one namespace.
#[derive(Default)]
pub(super) struct Scan {
    /// Complete documents.
    pub(super) documents: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Sum of their checksums.
    pub(super) digest: u64,
    /// Over all their bytes; boxed because there is one for every namespace, and most wait.
    crc: Option<Box<Digest>>,
    partial: Option<Box<Partial>>,
}

/// A document of which only the beginning was there.
struct Partial {
    /// Its first bytes, until the length is known.
    prefix: Vec<u8>,
    /// Bytes still to come, once the length is known.
    missing: usize,
    /// Bytes taken from earlier chunks.
    taken: i64,
    digest: Digest,
}

/// Reads the four bytes that begin a document: its length, or `None` for the end of the block.
type Length = fn([u8; 4]) -> Result<Option<usize>, String>;

/// Where the document that is wrong begins, counted from the chunk's first byte (negative: in an earlier chunk), and
/// what is wrong.
type Problem = (i64, String);

impl Scan {
    /// CRC-64/XZ of all documents; 0 for none.
    pub(super) fn crc(&self) -> u64 {
        self.crc.as_ref().map_or(0, |crc| crc.finalize())
    }

    /// Counts a document that is there as a whole.
    pub(super) fn whole(&mut self, document: &[u8]) {
        self.sum(document);
        self.count(checksum(CRC, document));
    }

    /// Takes documents until the end of their block or of the chunk: bytes taken, and whether the block ended.
    pub(super) fn take(&mut self, rest: &[u8], length: Length) -> Result<(usize, bool), Problem> {
        match self.partial.take() {
            Some(partial) => self.go_on(*partial, rest, length),
            None => self.documents(rest, length),
        }
    }

    fn documents(&mut self, rest: &[u8], length: Length) -> Result<(usize, bool), Problem> {
        let mut at = 0;
        while let Some(prefix) = rest[at..].first_chunk() {
            let Some(size) = length(*prefix).map_err(|problem| (at as i64, problem))? else {
                self.sum(&rest[..at]);
                return Ok((at + 4, true));
            };
            let Some(document) = rest[at..].get(..size) else { break };
            if document.last() != Some(&0) {
                return Err((at as i64, NOT_CLOSED.to_owned()));
            }
            self.count(checksum(CRC, document));
            at += size;
        }
        self.sum(&rest[..at]);
        if at < rest.len() {
            let partial = Partial { prefix: Vec::new(), missing: 0, taken: 0, digest: Digest::new(CRC) };
            // Less than a document is left, and its length, if it is there, was read above.
            at += self.go_on(partial, &rest[at..], length)?.0;
        }
        Ok((at, false))
    }

    fn go_on(&mut self, mut partial: Partial, rest: &[u8], length: Length) -> Result<(usize, bool), Problem> {
        let begin = -partial.taken;
        let mut used = 0;
        if partial.missing == 0 {
            used = (4 - partial.prefix.len()).min(rest.len());
            partial.prefix.extend_from_slice(&rest[..used]);
            if let Some(prefix) = partial.prefix.first_chunk::<4>() {
                let Some(size) = length(*prefix).map_err(|problem| (begin, problem))? else {
                    return Ok((used, true));
                };
                self.sum(prefix);
                partial.digest.update(prefix);
                partial.missing = size - 4;
            }
        }
        let piece = &rest[used..][..partial.missing.min(rest.len() - used)];
        self.sum(piece);
        partial.digest.update(piece);
        used += piece.len();
        partial.missing -= piece.len();
        if partial.missing > 0 || partial.prefix.len() < 4 {
            partial.taken += used as i64;
            self.partial = Some(Box::new(partial));
        } else if piece.last() == Some(&0) {
            self.count(partial.digest.finalize());
        } else {
            return Err((begin, NOT_CLOSED.to_owned()));
        }
        Ok((used, false))
    }

    fn sum(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.crc.get_or_insert_with(|| Box::new(Digest::new(CRC))).update(bytes);
            self.bytes += bytes.len() as u64;
        }
    }

    fn count(&mut self, crc: u64) {
        self.documents += 1;
        self.digest = self.digest.wrapping_add(crc);
    }
}

const NOT_CLOSED: &str = "a document that does not end with a zero byte";

/// The digest of a set of documents, as [`super::contents::Entry::digest`], one document at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DocumentSet {
    /// Documents.
    pub documents: u64,
    /// Sum of their checksums.
    pub digest: u64,
}

impl DocumentSet {
    /// Adds a document's BSON.
    pub fn add(&mut self, document: &[u8]) {
        self.documents += 1;
        self.digest = self.digest.wrapping_add(checksum(CRC, document));
    }
}
