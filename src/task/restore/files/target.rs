//! The directory that is restored into: what is there, whether that may be touched, and our own corner in it.

use super::{
    compare,
    job::Existing,
    journal,
    metadata::set_directory_time,
    remove::{Mount, list_names, remove_tree},
    root::Root,
    spool::STATE,
};
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::index::record::FileTime,
};
use rustix::{
    fd::{AsFd, AsRawFd, OwnedFd},
    fs::{Mode, OFlags, fstat, fstatvfs, mkdirat, openat},
    io::Errno,
    process::geteuid,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Occupancy {
    /// Nothing; it is made.
    Missing,
    /// An empty directory (but for `lost+found`).
    Empty,
    /// A restore that was interrupted: which.
    Unfinished(String),
    /// Something else.
    Occupied,
}

/// Looks at a target without touching it.
///
/// # Errors
/// It cannot be read, or is no directory.
pub fn occupancy(directory: &Path) -> Result<Occupancy, Failure> {
    let root = match Root::open(directory) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(Occupancy::Missing),
        Err(errno) => return Err(wrong(directory, errno)),
    };
    if let Some(identity) = open_state(&root).ok().and_then(|state| journal::identity(&by_descriptor(&state)))
    {
        return Ok(Occupancy::Unfinished(identity));
    }
    Ok(if compare::is_empty(&root)? { Occupancy::Empty } else { Occupancy::Occupied })
}

/// Bytes free for whoever restores, on the target's file system.
///
/// # Errors
/// Neither it nor a directory above it can be looked at.
pub fn free_bytes(directory: &Path) -> Result<u64, Failure> {
    let mut at = directory;
    loop {
        match Root::open(at) {
            Ok(root) => {
                let stat = fstatvfs(&root).map_err(|e| wrong(at, e))?;
                return Ok(stat.f_bavail.saturating_mul(stat.f_frsize));
            }
            Err(Errno::NOENT) => at = at.parent().ok_or_else(|| wrong(directory, Errno::NOENT))?,
            Err(errno) => return Err(wrong(at, errno)),
        }
    }
}

/// Which restore this is: the same one goes on where it stopped.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Of one into an empty target.
    pub fresh: String,
    /// Of one over what is there.
    pub replacing: String,
}

/// A target that may be written to.
pub struct Target {
    /// The directory.
    pub root: Root,
    /// Our own directory in it.
    pub state: OwnedFd,
    /// What may be replaced.
    pub existing: Existing,
    /// What the journal is opened with.
    pub identity: String,
}

impl Target {
    /// Makes the directory if there is none, and our corner in it.
    ///
    /// # Errors
    /// It holds something, and `confirmed` is false; or it cannot be written.
    pub fn open(directory: &Path, identity: &Identity, confirmed: bool) -> Result<Self, Failure> {
        let found = occupancy(directory)?;
        let fresh = || identity.fresh.clone();
        let replacing = || identity.replacing.clone();
        let (existing, identity) = match found {
            Occupancy::Missing | Occupancy::Empty => (Existing::Refuse, fresh()),
            Occupancy::Unfinished(journal) if journal == identity.fresh => (Existing::Redo, fresh()),
            Occupancy::Unfinished(journal) if journal == identity.replacing => {
                (Existing::Replace, replacing())
            }
            _ if confirmed => (Existing::Replace, replacing()),
            Occupancy::Unfinished(journal) => return Err(not_empty(directory, Some(&journal))),
            Occupancy::Occupied => return Err(not_empty(directory, None)),
        };
        std::fs::create_dir_all(directory).map_err(|e| {
            let message = format!("{} could not be made: {e}", directory.display());
            Failure::permanent("TargetNotWritable", message)
        })?;
        let root = Root::open(directory).map_err(|e| wrong(directory, e))?;
        match mkdirat(&root, STATE, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(wrong(directory, errno)),
        }
        let state = open_state(&root).map_err(|e| wrong(&directory.join(STATE), e))?;
        clear_state(&state).map_err(|e| wrong(&directory.join(STATE), e))?;
        Ok(Self { root, state, existing, identity })
    }

    /// Path of our corner that nobody can lead elsewhere.
    pub fn state_path(&self) -> PathBuf {
        by_descriptor(&self.state)
    }

    /// Removes our corner: the restore is done. That touches the root's time, which is set again if it is given.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn close(self, root_time: Option<FileTime>) -> Result<(), Failure> {
        let failed = |e| wrong(Path::new(STATE), e);
        Mount::of(&self.root)
            .and_then(|mount| remove_tree(mount, self.root.as_fd(), STATE.as_bytes()))
            .map_err(failed)?;
        root_time.map_or(Ok(()), |time| set_directory_time(self.root.as_fd(), time)).map_err(failed)
    }
}

/// Our own directory: one that somebody else made, or can write to, is not ours.
fn open_state(root: &Root) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let state = openat(root, STATE, flags, Mode::empty())?;
    let stat = fstat(&state)?;
    if stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0 { Ok(state) } else { Err(Errno::PERM) }
}

/// Only the journal says anything about an earlier run: its other files may be those of another restore.
fn clear_state(state: &OwnedFd) -> Result<(), Errno> {
    let mount = Mount::of(state)?;
    let names = list_names(state)?;
    let rest = names.iter().filter(|name| *name != journal::NAME.as_bytes());
    rest.into_iter().try_for_each(|name| remove_tree(mount, state.as_fd(), name))
}

fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn not_empty(directory: &Path, unfinished: Option<&str>) -> Failure {
    let directory = directory.display();
    let message = match unfinished {
        Some(journal) => format!("{directory} holds another restore that was interrupted: {journal}"),
        None => format!("{directory} is not empty"),
    };
    Failure::new(Verdict::Guard, "TargetNotEmpty", message).fix(
        "restore into an empty directory, or look at the plan with --dry-run and confirm that what is there may be replaced",
    )
}

fn wrong(directory: &Path, errno: Errno) -> Failure {
    let why = std::io::Error::from(errno);
    Failure::permanent("TargetNotWritable", format!("{} cannot be used: {why}", directory.display()))
}
