//! Owner, mode, extended attributes and times, in the order in which none undoes another.
//!
//! chown clears setuid and file capabilities, chmod rewrites the mask of an ACL, and anything touches times: so owner,
//! mode, attributes, times. What cannot be set is counted and named, never a reason to stop.

use super::report::FilesReport;
use crate::{
    domain::restore::{MetadataOptions, Ownership},
    storage::index::record::{EntryKind, FileTime, Record},
};
use rustix::{
    fs::{
        AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod, fchown,
        fsetxattr, futimens, getxattr, listxattr, removexattr, setxattr, utimensat,
    },
    io::Errno,
    process::geteuid,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// An object that was made and still has to get its metadata.
pub enum Made<'a> {
    /// A file or directory, open for real.
    Open(BorrowedFd<'a>),
    /// A fifo or device, open as a place only (`O_PATH`).
    Place(BorrowedFd<'a>),
    /// A symlink: its directory, its name, and itself as a place.
    Symlink(BorrowedFd<'a>, &'a [u8], BorrowedFd<'a>),
}

/// Sets everything that `options` ask for.
pub fn apply(
    made: &Made<'_>,
    record: &Record,
    path: &[u8],
    options: &MetadataOptions,
    report: &mut FilesReport,
) {
    match owner(record, &options.ownership) {
        Some((owner, group)) => note(report, path, "owner", set_owner(made, owner, group)),
        None if record.uid != geteuid().as_raw() => report.other_owner += 1,
        None => {}
    }
    let mode = mode(record, options, report);
    note(report, path, "mode", set_mode(made, mode));
    apply_rest(made, record, path, options, report);
}

/// The same for an unchanged file: one that belongs to whom it should and has its mode keeps them. Setting them anew would
/// take the setuid bits and file capabilities away that it has.
pub fn apply_to_unchanged(
    fd: BorrowedFd<'_>,
    stat: &Stat,
    record: &Record,
    path: &[u8],
    options: &MetadataOptions,
    report: &mut FilesReport,
) {
    let owner = owner(record, &options.ownership);
    let is_owner =
        owner.is_some_and(|(user, group)| (user.as_raw(), group.as_raw()) == (stat.st_uid, stat.st_gid));
    if is_owner && stat.st_mode & 0o7777 == record.mode & 0o7777 {
        apply_rest(&Made::Open(fd), record, path, options, report);
    } else {
        apply(&Made::Open(fd), record, path, options, report);
    }
}

fn apply_rest(
    made: &Made<'_>,
    record: &Record,
    path: &[u8],
    options: &MetadataOptions,
    report: &mut FilesReport,
) {
    for (name, value) in &record.xattrs {
        if name == b"security.capability" && !options.preserve_setuid {
            report.skipped_setuid += 1;
            continue;
        }
        note(report, path, &String::from_utf8_lossy(name), set_xattr(made, name, value));
    }
    note(report, path, "times", set_times(made, record.mtime));
}

fn note(report: &mut FilesReport, path: &[u8], what: &str, result: Result<(), Errno>) {
    if let Err(errno) = result {
        report.unset(path, what, errno);
    }
}

fn owner(record: &Record, ownership: &Ownership) -> Option<(Uid, Gid)> {
    let (user, group) = match ownership {
        Ownership::Me => return None,
        Ownership::Keep => (record.uid, record.gid),
        Ownership::Map { users, groups } => (
            users.get(&record.uid).copied().unwrap_or(record.uid),
            groups.get(&record.gid).copied().unwrap_or(record.gid),
        ),
    };
    Some((Uid::from_raw(user), Gid::from_raw(group)))
}

fn mode(record: &Record, options: &MetadataOptions, report: &mut FilesReport) -> Mode {
    let dangerous = 0o6000;
    let bits = record.mode & 0o7777;
    if record.kind == EntryKind::Directory || options.preserve_setuid || bits & dangerous == 0 {
        return Mode::from_raw_mode(bits);
    }
    report.skipped_setuid += 1;
    Mode::from_raw_mode(bits & !dangerous)
}

fn set_owner(made: &Made<'_>, owner: Uid, group: Gid) -> Result<(), Errno> {
    match made {
        Made::Open(fd) => fchown(fd, Some(owner), Some(group)),
        Made::Place(fd) => chownat(fd, "", Some(owner), Some(group), AtFlags::EMPTY_PATH),
        Made::Symlink(directory, name, _) => {
            chownat(directory, *name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

fn set_mode(made: &Made<'_>, mode: Mode) -> Result<(), Errno> {
    match made {
        Made::Open(fd) => fchmod(fd, mode),
        Made::Place(fd) => chmod(by_descriptor(fd), mode),
        // A symlink has no mode of its own on Linux.
        Made::Symlink(..) => Ok(()),
    }
}

fn set_xattr(made: &Made<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match made {
        Made::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
        Made::Place(fd) | Made::Symlink(_, _, fd) => {
            setxattr(by_descriptor(fd), name, value, XattrFlags::empty())
        }
    }
}

/// Sets the time of a directory that is open as a place only.
///
/// # Errors
/// As the call says.
pub fn set_directory_time(directory: BorrowedFd<'_>, time: FileTime) -> Result<(), Errno> {
    utimensat(directory, ".", &timestamps(time), AtFlags::empty())
}

/// Lets the owner into a directory that was left closed to them.
///
/// # Errors
/// As the call says.
pub fn open_to_owner(directory: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    chmod(by_descriptor(&directory), Mode::from_raw_mode(mode & 0o7777 | 0o700))
}

/// True when what is made in a directory gets more than it is given; also when that is not known.
pub fn has_default_acl(directory: impl AsFd) -> bool {
    let answer = getxattr(by_descriptor(&directory), "system.posix_acl_default", &mut [0_u8; 0]);
    !matches!(answer, Err(Errno::NODATA | Errno::OPNOTSUPP))
}

/// Removes attributes that the backup does not have, of an object that was there before or got them from its
/// directory: a foreign ACL would let people in.
pub fn drop_other_xattrs(made: &Made<'_>, record: &Record, path: &[u8], report: &mut FilesReport) {
    let (Made::Open(fd) | Made::Place(fd) | Made::Symlink(_, _, fd)) = made;
    let place = by_descriptor(fd);
    let mut names = vec![0; 64 << 10];
    let length = listxattr(&place, names.as_mut_slice()).unwrap_or(0);
    for name in names[..length].split(|&c| c == 0).filter(|name| !name.is_empty()) {
        let ours = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
        if ours && !record.xattrs.iter().any(|(wanted, _)| wanted == name) {
            note(report, path, &String::from_utf8_lossy(name), removexattr(&place, name));
        }
    }
}

fn timestamps(time: FileTime) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    Timestamps { last_access: time, last_modification: time }
}

fn set_times(made: &Made<'_>, time: FileTime) -> Result<(), Errno> {
    let times = timestamps(time);
    match made {
        Made::Open(fd) => futimens(fd, &times),
        Made::Place(fd) => utimensat(rustix::fs::CWD, by_descriptor(fd), &times, AtFlags::empty()),
        Made::Symlink(directory, name, _) => utimensat(directory, *name, &times, AtFlags::SYMLINK_NOFOLLOW),
    }
}

/// The name under which the kernel knows a place that is open, whatever its path leads to by now.
fn by_descriptor(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
