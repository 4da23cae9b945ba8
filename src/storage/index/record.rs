//! One entry of an index, as a value. Its text form is `codec`'s.

/// A moment as file systems keep it: seconds since 1970, negative before, and 0 to 999,999,999 nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// `f`
    File,
    /// `d`
    Directory,
    /// `l`
    Symlink,
    /// `p`
    Fifo,
    /// `c`
    CharDevice,
    /// `b`
    BlockDevice,
}

/// What is special about an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `r`: its ctime is too near to the reading to prove later that it did not change.
    pub racy: bool,
    /// `c`: it changed while it was read.
    pub changed: bool,
    /// `s`: it could not be read; older content is kept.
    pub stale: bool,
    /// `e`: it could not be read, and there is no content.
    pub unreadable: bool,
    /// `z`: sparse; the stored payload is the data extents only.
    pub sparse: bool,
}

/// Where a member lies: `pack:part:coff:clen:foff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack in this index's `#pack` lines.
    pub pack: u32,
    /// Number of the part, from 0.
    pub part: u32,
    /// Offset of the first frame in the part's zstd bytes.
    pub frame_offset: u64,
    /// Zstd bytes from there to the end of the last frame needed, skippable frames included; may run into later parts.
    pub frames_length: u64,
    /// Offset of the member's first header in the first frame, decoded.
    pub member_offset: u64,
}

/// One entry of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file as `stat` says, holes included; of anything else 0.
    pub size: u64,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of the inode.
    pub ctime: FileTime,
    /// Inode number.
    pub inode: u64,
    /// `(device, inode)` of a file with more than one name: equal on all its names.
    pub link: Option<(u64, u64)>,
    /// What is special.
    pub flags: Flags,
    /// First 128 bits of the BLAKE3 of a file's stored payload.
    pub hash: Option<[u8; 16]>,
    /// Where it lies; `None` only for an unreadable one.
    pub place: Option<Place>,
    /// Extended attributes by full name (`user.color`), raw values; ACLs as `system.posix_acl_access` and `…_default`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `(major, minor)` of a device.
    pub device: Option<(u32, u32)>,
    /// Target of a symlink, raw.
    pub target: Vec<u8>,
    /// Path as in the tar: `./` the root, `./a/b`, directories end in `/`. Raw bytes.
    pub path: Vec<u8>,
}
