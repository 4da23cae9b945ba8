//! Looking at entries and reading files with few system calls, leaving no trace: neither access times nor cached pages.

use crate::storage::{
    index::record::{EntryKind, FileTime},
    tar::{Extent, MAX_EXTENTS},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{Advice, AtFlags, FileType, Mode, OFlags, SeekFrom, Stat},
    io::{Errno, ReadWriteFlags, Result},
};
use std::{io::IoSliceMut, num::NonZeroU64};

/// Holes smaller than this are stored as zeros.
const LEAST_HOLE: u64 = 64 << 10;

/// Most bytes of extended attributes of one entry.
const MAX_XATTRS: usize = 1 << 20;

/// What a later look at an entry is compared with, and its record is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub kind: FileType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file; of anything else 0.
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    /// `(major, minor)` of a device.
    pub special: Option<(u32, u32)>,
    /// Fewer blocks are allocated than its size needs.
    pub maybe_sparse: bool,
}

impl Status {
    fn new(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let size = if kind == FileType::RegularFile { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let special = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        // Some file systems and kernels give times out of range.
        let time =
            |seconds, nanos| FileTime { seconds, nanos: u32::try_from(nanos).unwrap_or(0).min(999_999_999) };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            device: stat.st_dev,
            inode: stat.st_ino,
            links: wide(stat.st_nlink),
            special: special.then(|| (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))),
            maybe_sparse: size >= LEAST_HOLE && (stat.st_blocks as u64).saturating_mul(512) < size,
        }
    }

    /// Of an open file.
    pub fn of(fd: impl AsFd) -> Result<Self> {
        rustix::fs::fstat(fd).map(|stat| Self::new(&stat))
    }

    /// Of a name, links not followed.
    pub fn at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Self> {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::new(&stat))
    }

    /// The kind as an index has it; `None` for a socket and what no Linux has.
    pub fn entry_kind(&self) -> Option<EntryKind> {
        Some(match self.kind {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            _ => return None,
        })
    }

    /// Whether content that was read between two looks is the content of one moment.
    pub fn same_content(&self, other: &Self) -> bool {
        (self.size, self.mtime, self.ctime) == (other.size, other.mtime, other.ctime)
    }
}

/// A field whose width depends on the processor.
fn wide(n: impl Into<u64>) -> u64 {
    n.into()
}

/// Opens for reading below a directory, following no link, without touching the access time where that is allowed.
pub(super) fn open(directory: BorrowedFd<'_>, name: &[u8], more: OFlags) -> Result<OwnedFd> {
    // Without NONBLOCK a pipe that took a file's place would be waited on for ever.
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    match rustix::fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(directory, name, flags, Mode::empty()),
        result => result,
    }
}

/// An open file whose pages go back to the state they were in: pages that were cached stay, others do not.
#[derive(Debug)]
pub(super) struct Input {
    pub fd: OwnedFd,
    cold: bool,
}

impl Input {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, cold: false }
    }

    /// Reads into `buffer` until it is full or the file ends; tells how much.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.some(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn some(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if !self.cold {
            let cached = &mut [IoSliceMut::new(buffer)];
            match rustix::io::preadv2(&self.fd, cached, offset, ReadWriteFlags::NOWAIT) {
                // Not in the cache, or a file system or kernel that cannot say.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.cold = true,
                result => return result,
            }
        }
        let n = rustix::io::pread(&self.fd, buffer, offset)?;
        if let Some(length) = NonZeroU64::new(n as u64) {
            // Only advice.
            let _ = rustix::fs::fadvise(&self.fd, offset, Some(length), Advice::DontNeed);
        }
        Ok(n)
    }

    /// The data of a file with holes worth leaving out; `None` to store it dense.
    pub fn extents(&self, status: &Status) -> Option<Vec<Extent>> {
        if !status.maybe_sparse {
            return None;
        }
        let mut extents: Vec<Extent> = Vec::new();
        let (mut at, mut holes) = (0, 0);
        while at < status.size {
            let data = match rustix::fs::seek(&self.fd, SeekFrom::Data(at)) {
                Ok(data) => data.min(status.size),
                // No data to the end.
                Err(Errno::NXIO) => status.size,
                Err(_) => return None,
            };
            let end = if data < status.size {
                let hole = rustix::fs::seek(&self.fd, SeekFrom::Hole(data)).ok()?;
                // A file that changes meanwhile must not keep us here.
                hole.clamp(data + 1, status.size)
            } else {
                data
            };
            match extents.last_mut() {
                Some(last) if data - at < LEAST_HOLE => last.length = end - last.offset,
                None if data - at < LEAST_HOLE => extents.push(Extent { offset: 0, length: end }),
                _ => {
                    holes += 1;
                    extents.push(Extent { offset: data, length: end - data });
                }
            }
            at = end.max(data);
        }
        extents.retain(|extent| extent.length > 0);
        (holes > 0 && extents.len() <= MAX_EXTENTS).then_some(extents)
    }
}

/// Attributes by full name, raw values.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads extended attributes into buffers that are used again.
pub(super) struct XattrReader {
    names: Vec<u8>,
    value: Vec<u8>,
}

/// Linux's limit on a list of names and on a value.
const XATTR_BYTES: usize = 64 << 10;

impl XattrReader {
    pub fn new() -> Self {
        Self { names: vec![0; XATTR_BYTES], value: vec![0; XATTR_BYTES] }
    }

    /// Of an open file or directory.
    pub fn of(&mut self, fd: BorrowedFd<'_>) -> Result<Xattrs> {
        let length = rustix::fs::flistxattr(fd, &mut self.names[..]);
        self.collect(length, |name, value| rustix::fs::fgetxattr(fd, name, value))
    }

    /// Of a name that cannot be opened: a link, a pipe, a device.
    pub fn at(&mut self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs> {
        use std::os::fd::AsRawFd;
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let length = match rustix::fs::llistxattr(&path[..], &mut self.names[..]) {
            // No /proc here, or the entry is gone: there is no other way to ask.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Xattrs::new()),
            length => length,
        };
        self.collect(length, |name, value| rustix::fs::lgetxattr(&path[..], name, value))
    }

    fn collect(
        &mut self,
        length: Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> Result<usize>,
    ) -> Result<Xattrs> {
        let length = match length {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
            Err(error) => return Err(error),
        };
        let mut xattrs = Xattrs::new();
        let mut total = 0;
        for name in self.names[..length].split(|&c| c == 0).filter(|name| !name.is_empty()) {
            // Labels belong to the system that gave them, not to the data.
            if name == b"security.selinux" {
                continue;
            }
            match get(name, &mut self.value[..]) {
                Ok(n) => {
                    total += name.len() + n;
                    xattrs.push((name.to_vec(), self.value[..n].to_vec()));
                }
                // Removed meanwhile, or a name that cannot be read as a value.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
            if total > MAX_XATTRS {
                return Err(Errno::TOOBIG);
            }
        }
        Ok(xattrs)
    }
}
