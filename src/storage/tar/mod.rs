//! The tar of a volume's pack: the subset of ustar and pax that GNU tar and bsdtar restore exactly.
//!
//! A member is an optional pax `x` header, a ustar header and the payload, padded to whole blocks:
//!
//! - names and link targets are raw bytes: in the ustar header up to 100 bytes, else as pax records, which are read by
//!   their length, so that a newline is a character like any other, and declared binary unless they are ASCII;
//! - `mtime` to the nanosecond, sizes without a limit, extended attributes as `SCHILY.xattr.*`, ACLs also as
//!   `SCHILY.acl.*` text for the hands;
//! - a sparse file is GNU's format 1.0: the payload is the map of the extents, then their bytes;
//! - the archive ends with two zero blocks.
//!
//! [`writer`] makes headers, [`reader`] reads what it made and refuses everything else: foreign archives are not its
//! business.

mod acl;
mod block;
mod pax;
pub mod reader;
mod sparse;
pub mod writer;

use crate::storage::index::record::FileTime;
use std::borrow::Cow;

/// The unit of a tar: headers are one, payloads are padded to whole ones.
pub const BLOCK: usize = 512;

/// Most data extents of a sparse file; with more it is stored dense.
pub const MAX_EXTENTS: usize = 100_000;

/// Most bytes of a member's pax records: names and extended attributes.
pub const MAX_PAX_BYTES: usize = 4 << 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file with its content.
    File,
    /// Another name of an earlier member, which is [`Member::target`].
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A run of data in a sparse file; between runs are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length, not 0.
    pub length: u64,
}

/// The headers of a member, as a value. Written from borrowed parts, read into owned ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// What it is.
    pub kind: MemberKind,
    /// `./` the root, `./a/b`; directories end in `/`. Raw bytes without NUL.
    pub path: Cow<'a, [u8]>,
    /// Target of a symbolic link, or the name a hard link repeats; else empty.
    pub target: Cow<'a, [u8]>,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, holes included; of anything else 0.
    pub size: u64,
    /// Last change of the content.
    pub mtime: FileTime,
    /// `(major, minor)` of a device.
    pub device: Option<(u32, u32)>,
    /// Extended attributes: full name, raw value.
    pub xattrs: Cow<'a, [(Vec<u8>, Vec<u8>)]>,
    /// The data of a sparse file: ascending, not touching, within `size`, at most [`MAX_EXTENTS`]. `None`: dense.
    pub extents: Option<Cow<'a, [Extent]>>,
}

impl Member<'_> {
    /// Content bytes that follow the headers, without padding and without a sparse file's map.
    pub fn payload(&self) -> u64 {
        match &self.extents {
            Some(extents) => extents.iter().map(|e| e.length).sum(),
            None => self.size,
        }
    }
}

/// Bytes of padding after `length` bytes of payload.
pub fn padding(length: u64) -> usize {
    // Less than a block.
    (length.wrapping_neg() % BLOCK as u64) as usize
}

#[cfg(test)]
mod tests;
