//! Removing what is in the way, never through a symlink, and never what is mounted there.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx, unlinkat},
    io::Errno,
};

/// Where an entry is mounted: two places on one file system differ in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    device: (u32, u32),
    /// 0 before Linux 5.8.
    id: u64,
}

impl Mount {
    /// That of what is open.
    ///
    /// # Errors
    /// As the call says.
    pub fn of(open: impl AsFd) -> Result<Self, Errno> {
        look(open.as_fd(), b"").map(|(mount, _)| mount)
    }

    /// That of an entry of a directory.
    ///
    /// # Errors
    /// As the call says.
    pub fn at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Errno> {
        look(parent, name).map(|(mount, _)| mount)
    }
}

fn look(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(Mount, Statx), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let stat = statx(parent, name, flags, StatxFlags::TYPE | StatxFlags::MNT_ID)?;
    Ok((Mount { device: (stat.stx_dev_major, stat.stx_dev_minor), id: stat.stx_mnt_id }, stat))
}

/// Removes an entry on `mount` and all below it, never through a symlink. Where something else is mounted on it or
/// below it, all of it stays (`EBUSY`).
///
/// # Errors
/// As the calls say; a part may be gone then.
pub fn remove_tree(mount: Mount, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    absent_is_fine(is_all_on(mount, parent, name))?;
    remove(mount, parent, name)
}

fn is_all_on(mount: Mount, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let (found, stat) = look(parent, name)?;
    if found != mount {
        return Err(Errno::BUSY);
    }
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory {
        return Ok(());
    }
    let directory = open(parent, name)?;
    list_names(&directory)?.iter().try_for_each(|child| is_all_on(mount, directory.as_fd(), child))
}

fn remove(mount: Mount, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match absent_is_fine(unlinkat(parent, name, AtFlags::empty())) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        answer => return answer,
    }
    let directory = open(parent, name)?;
    // Something may have been mounted since we looked.
    if Mount::of(&directory)? != mount {
        return Err(Errno::BUSY);
    }
    list_names(&directory)?.iter().try_for_each(|child| remove(mount, directory.as_fd(), child))?;
    absent_is_fine(unlinkat(parent, name, AtFlags::REMOVEDIR))
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Takes "there is none" for done.
pub fn absent_is_fine(answer: Result<(), Errno>) -> Result<(), Errno> {
    match answer {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// The names in a directory that is open for reading.
///
/// # Errors
/// As reading says.
pub fn list_names(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
