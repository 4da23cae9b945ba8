//! Reading the tar of a pack as a stream, without trust in what it says: every length is bounded before it is used,
//! and an error names the byte and the member.

use super::{BLOCK, Extent, MAX_PAX_BYTES, Member, MemberKind, block, padding, pax, sparse::MapParser};
use crate::storage::index::record::FileTime;
use std::{borrow::Cow, io::Read};

/// What is wrong with an archive, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tar at byte {offset}{}: {message}", In(member))]
pub struct TarError {
    /// Bytes of the archive that were read when the trouble was seen.
    pub offset: u64,
    /// Name of the member, as far as it is known; odd bytes are escaped.
    pub member: String,
    /// What is wrong.
    pub message: String,
}

struct In<'a>(&'a str);

impl std::fmt::Display for In<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", in {}", self.0) }
    }
}

/// A streaming reader. Memory: one member's headers, at most [`MAX_PAX_BYTES`] and a sparse file's extents.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    offset: u64,
    member: Vec<u8>,
    payload: u64,
    padding: u64,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads from `input`, which begins at a member's first header.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, member: Vec::new(), payload: 0, padding: 0, ended: false }
    }

    /// Headers of the next member, after what is left of the current one was skipped; `None` after the two zero blocks
    /// that end an archive.
    ///
    /// # Errors
    /// Input that ends early or cannot be read, and headers that are damaged or not of this format.
    pub fn next_member(&mut self) -> Result<Option<Member<'static>>, TarError> {
        self.skip_rest()?;
        self.member.clear();
        if self.ended {
            return Ok(None);
        }
        let mut header = self.block()?;
        if header.iter().all(|&c| c == 0) {
            return self.end();
        }
        let mut pax = pax::Values::default();
        let fields = self.fields(&header)?;
        if fields.kind == b'x' {
            pax = self.pax(fields.size)?;
            header = self.block()?;
        }
        self.member = pax.path.clone().unwrap_or_default();
        let (mut member, stored) = self.build(&header, pax)?;
        (self.payload, self.padding) = (stored, padding(stored) as u64);
        if member.extents.is_some() {
            member.extents = Some(Cow::Owned(self.map(member.size)?));
            if member.payload() != self.payload {
                return Err(self.error("the sparse map does not add up to the member's size"));
            }
        }
        Ok(Some(member))
    }

    /// Content bytes of the current member that have not been read.
    pub fn remaining(&self) -> u64 {
        self.payload
    }

    /// Reads content of the current member; of a sparse file the bytes of its extents, one after the other. 0 at its
    /// end, or for an empty `buffer`.
    ///
    /// # Errors
    /// Input that ends early or cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let most = buffer.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.some(&mut buffer[..most])?;
        self.payload -= n as u64;
        Ok(n)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut scratch = [0; 4096];
        let mut left = self.payload + self.padding;
        (self.payload, self.padding) = (0, 0);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(scratch.len());
            left -= self.some(&mut scratch[..most])? as u64;
        }
        Ok(())
    }

    /// Reads at least one byte.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.input.read(buffer) {
                Ok(0) => return Err(self.error("the archive ends here, before its end mark")),
                Ok(n) => {
                    self.offset += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error(e.to_string())),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let mut done = 0;
        while done < buffer.len() {
            done += self.some(&mut buffer[done..])?;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn end(&mut self) -> Result<Option<Member<'static>>, TarError> {
        if self.block()?.iter().any(|&c| c != 0) {
            return Err(self.error("a single zero block, where two end an archive"));
        }
        self.ended = true;
        Ok(None)
    }

    fn fields<'a>(&self, header: &'a [u8; BLOCK]) -> Result<block::Fields<'a>, TarError> {
        block::parse(header).map_err(|message| self.error(message))
    }

    fn pax(&mut self, size: u64) -> Result<pax::Values, TarError> {
        let length = usize::try_from(size).ok().filter(|n| *n <= MAX_PAX_BYTES);
        let length = length.ok_or_else(|| self.error(format!("a pax header of {size} bytes")))?;
        // Grows with what is really there, not with what a header claims.
        let mut records = Vec::new();
        let padded = length + padding(size);
        let mut chunk = [0; 4096];
        while records.len() < padded {
            let most = chunk.len().min(padded - records.len());
            self.fill(&mut chunk[..most])?;
            records.extend_from_slice(&chunk[..most]);
        }
        pax::Values::parse(&records[..length]).map_err(|message| self.error(message))
    }

    /// The member as its headers tell it, a sparse one with no extents yet; and its stored bytes.
    fn build(&mut self, header: &[u8; BLOCK], pax: pax::Values) -> Result<(Member<'static>, u64), TarError> {
        let fields = self.fields(header)?;
        let path = pax.path.unwrap_or_else(|| fields.name.to_vec());
        self.member.clone_from(&path);
        let wrong = |message: &str| self.error(message);
        let kind = kind(fields.kind).ok_or_else(|| wrong("a member of a kind that is not of this format"))?;
        let id = |pax: Option<u64>, field: u64| u32::try_from(pax.unwrap_or(field));
        let target = pax.target.unwrap_or_else(|| fields.link.to_vec());
        if path.is_empty() || path.contains(&0) || target.contains(&0) {
            return Err(wrong("an empty name, or a zero byte in a name"));
        }
        let stored = pax.size.unwrap_or(fields.size);
        if kind != MemberKind::File && (stored != 0 || pax.real_size.is_some()) {
            return Err(wrong("content after something that is no file"));
        }
        let device = matches!(kind, MemberKind::CharDevice | MemberKind::BlockDevice);
        let seconds = i64::try_from(fields.mtime).map_err(|_| wrong("the time is out of range"))?;
        let member = Member {
            kind,
            path: Cow::Owned(path),
            target: Cow::Owned(target),
            mode: fields.mode,
            uid: id(pax.uid, fields.uid).map_err(|_| wrong("the owner is out of range"))?,
            gid: id(pax.gid, fields.gid).map_err(|_| wrong("the group is out of range"))?,
            size: pax.real_size.unwrap_or(stored),
            mtime: pax.mtime.unwrap_or(FileTime { seconds, nanos: 0 }),
            device: device.then_some(fields.device),
            xattrs: Cow::Owned(pax.xattrs),
            extents: pax.real_size.map(|_| Cow::Owned(Vec::new())),
        };
        Ok((member, stored))
    }

    /// The map in front of a sparse file's data, taken off the member's stored bytes.
    fn map(&mut self, size: u64) -> Result<Vec<Extent>, TarError> {
        let mut parser = MapParser::default();
        loop {
            self.payload = self
                .payload
                .checked_sub(BLOCK as u64)
                .ok_or_else(|| self.error("the sparse map is longer than the member"))?;
            let block = self.block()?;
            if parser.feed(&block, size).map_err(|message| self.error(message))? {
                return Ok(parser.finish());
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> TarError {
        let member = self.member.escape_ascii().to_string();
        TarError { offset: self.offset, member, message: message.into() }
    }
}

fn kind(flag: u8) -> Option<MemberKind> {
    Some(match flag {
        b'0' => MemberKind::File,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => MemberKind::CharDevice,
        b'4' => MemberKind::BlockDevice,
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        _ => return None,
    })
}
