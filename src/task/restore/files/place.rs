//! A name in the target: taken for a new object without ever writing through what is there.

use super::{
    job::Job,
    remove::{Mount, absent_is_fine, remove_tree},
    report::describe,
};
use crate::domain::verdict::Failure;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};
use std::{
    fs::File,
    io::{BufRead, BufReader},
};

/// What keeps an entry from being restored.
#[derive(Debug)]
pub enum Trouble {
    /// This entry alone: it is named, and the others go on.
    Entry(String),
    /// All of it.
    Fatal(Failure),
}

impl Trouble {
    /// Trouble with one entry.
    pub fn entry(what: &str) -> Self {
        Self::Entry(what.to_owned())
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        let fatal = |reason: &str, message: &str, fix: &str| {
            Self::Fatal(Failure::permanent(reason, message).fix(fix))
        };
        match errno {
            Errno::NOSPC | Errno::DQUOT => fatal(
                "TargetFull",
                "no space is left on the target",
                "make room and start the same restore again: it goes on where it stopped",
            ),
            Errno::ROFS => fatal("TargetNotWritable", "the target is mounted read-only", "mount it writable"),
            Errno::IO => fatal("TargetBroken", "the target reports an input/output error", "check the disk"),
            Errno::MFILE | Errno::NFILE => {
                fatal("TooManyFiles", "no more files can be opened", "raise the limit: ulimit -n")
            }
            Errno::EXIST => Self::entry(
                "is there already: something else writes into the target, or the names differ in a way that the file system ignores",
            ),
            Errno::LOOP | Errno::NOTDIR => {
                Self::entry("lies below something that is no directory (a symlink is never followed)")
            }
            _ => Self::Entry(format!("could not be written: {}", describe(errno))),
        }
    }
}

/// A new file on its way to its name.
pub struct Slot<'a> {
    parent: BorrowedFd<'a>,
    name: &'a [u8],
    fd: OwnedFd,
    /// Its present name in our own directory, when something else has the final one.
    scratch: Option<(BorrowedFd<'a>, &'a str)>,
}

const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

impl<'a> Slot<'a> {
    /// Creates the file: under its name if that is free, else in our own directory until it is complete.
    pub fn create(
        job: &'a Job<'a>,
        parent: BorrowedFd<'a>,
        name: &'a [u8],
        scratch: &'a str,
    ) -> Result<Self, Trouble> {
        match openat(parent, name, NEW, OWNER_ONLY) {
            Ok(fd) => Ok(Self { parent, name, fd, scratch: None }),
            Err(Errno::EXIST) if job.existing.may_replace() => {
                let state = job.state.as_fd();
                absent_is_fine(unlinkat(state, scratch, AtFlags::empty()))?;
                let fd = openat(state, scratch, NEW, OWNER_ONLY)?;
                Ok(Self { parent, name, fd, scratch: Some((state, scratch)) })
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// The file, open for writing.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Removes it again. What was under the name before stays.
    pub fn abandon(self) {
        // Nothing more can be done where even that fails; the report says that the file is damaged.
        let _ = match self.scratch {
            Some((state, scratch)) => unlinkat(state, scratch, AtFlags::empty()),
            None => unlinkat(self.parent, self.name, AtFlags::empty()),
        };
    }

    /// Leaves it under its name, in one step where something else had it.
    pub fn keep(self, job: &Job<'_>) -> Result<(), Trouble> {
        let Some((state, scratch)) = self.scratch else { return Ok(()) };
        put(job, state, scratch.as_bytes(), self.parent, self.name)
    }
}

/// Moves an object from our own directory to its name, over what is there unless that is a directory with something in
/// it that nobody agreed to delete.
pub fn put(
    job: &Job<'_>,
    state: BorrowedFd<'_>,
    scratch: &[u8],
    parent: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Trouble> {
    let answer = match renameat(state, scratch, parent, name) {
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
            clear(job, parent, name)?;
            renameat(state, scratch, parent, name)
        }
        answer => answer,
    };
    answer.map_err(|errno| {
        let _ = unlinkat(state, scratch, AtFlags::empty());
        match errno {
            Errno::XDEV => Trouble::entry(
                "lies on another file system that is mounted below the target: restore that place by itself",
            ),
            errno => errno.into(),
        }
    })
}

/// Makes `name` free: an empty directory, or anything that is none, goes; a full directory only with `deleteExtra`.
pub fn clear(job: &Job<'_>, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Trouble> {
    let removed = match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(parent, name, AtFlags::REMOVEDIR),
        answer => answer,
    };
    match absent_is_fine(removed) {
        Err(Errno::NOTEMPTY | Errno::EXIST) if job.options.delete_extra => {
            Ok(remove_tree(Mount::of(job.root)?, parent, name)?)
        }
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Trouble::entry(
            "a directory with files in it has this name: move it away, or use --delete-extra",
        )),
        other => Ok(other?),
    }
}

/// True when two names are regular files of the same bytes.
pub fn is_same_content(a: BorrowedFd<'_>, a_name: &[u8], b: BorrowedFd<'_>, b_name: &[u8]) -> bool {
    let compare = || -> std::io::Result<bool> {
        let (mut a, mut b) = (open_content(a, a_name)?, open_content(b, b_name)?);
        loop {
            let (left, right) = (a.fill_buf()?, b.fill_buf()?);
            let length = left.len().min(right.len());
            if length == 0 || left[..length] != right[..length] {
                return Ok(left.is_empty() && right.is_empty());
            }
            a.consume(length);
            b.consume(length);
        }
    };
    compare().unwrap_or(false)
}

fn open_content(directory: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<BufReader<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let regular = file.metadata()?.is_file();
    regular.then(|| BufReader::with_capacity(64 << 10, file)).ok_or(std::io::ErrorKind::InvalidInput.into())
}
