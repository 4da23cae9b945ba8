//! Removing what is in the way, never through a symlink.

use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

/// Removes an entry and all below it, never through a symlink. A mount point below is an error (`EBUSY`).
///
/// # Errors
/// As the calls say; a part may be gone then.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match absent_is_fine(unlinkat(parent, name, AtFlags::empty())) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        answer => return answer,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for child in list_names(&directory)? {
        remove_tree(directory.as_fd(), &child)?;
    }
    absent_is_fine(unlinkat(parent, name, AtFlags::REMOVEDIR))
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
