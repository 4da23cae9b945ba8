//! The target beside the backup, in path order: what is missing, what differs, what only the target has.

use super::{
    place::Trouble,
    remove::{Mount, list_names, remove_tree},
    root::{Directories, Root},
    spool::{STATE, relative},
};
use crate::{
    domain::verdict::Failure,
    storage::{
        index::{
            codec::path_order,
            record::{EntryKind, Record},
        },
        manifest::SourceRecord,
    },
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Names that are not looked at in the target's root.
const IGNORED: [&[u8]; 2] = [STATE.as_bytes(), b"lost+found"];
const NAMED: usize = 20;

/// How a target differs from the backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Entries that are not there.
    pub missing: u64,
    /// Entries of another type, size, time or link target.
    pub differing: u64,
    /// Entries that look the same (their content is compared when they are restored).
    pub same: u64,
    /// Entries that the backup does not have; a directory of them counts as one.
    pub extra: u64,
    /// The first of the extra ones.
    pub extra_paths: Vec<String>,
}

/// One step of the comparison.
enum Step<'a> {
    Missing,
    Both(&'a Record, &'a Stat, BorrowedFd<'a>, &'a [u8]),
    Extra(&'a [u8], BorrowedFd<'a>, &'a [u8]),
}

/// Compares the target with the selected `records`, in order. `within` tells what of the target counts.
///
/// # Errors
/// A target that cannot be read, or what reading the records gave.
pub fn difference(
    root: &Root,
    records: impl Iterator<Item = Result<Record, Failure>>,
    within: &dyn Fn(&[u8]) -> bool,
) -> Result<Difference, Failure> {
    let mut difference = Difference::default();
    walk(root, records, within, &mut |step| {
        match step {
            Step::Missing => difference.missing += 1,
            Step::Both(record, stat, parent, name) if is_same(record, stat, parent, name) => {
                difference.same += 1;
            }
            Step::Both(..) => difference.differing += 1,
            Step::Extra(path, ..) => {
                difference.extra += 1;
                if difference.extra_paths.len() < NAMED {
                    difference.extra_paths.push(String::from_utf8_lossy(path).into_owned());
                }
            }
        }
        Ok(())
    })?;
    Ok(difference)
}

/// Says that nothing can be told to be extra, if that is so.
///
/// # Errors
/// The backup could not read everything: the only copy of that may be in the target.
pub fn check_extra(source: &SourceRecord) -> Result<(), Failure> {
    match source.counts.unreadable {
        0 => Ok(()),
        n => {
            let what = if n == 1 { "1 entry".to_owned() } else { format!("{n} entries") };
            let message = format!(
                "{what} of {} could not be read when this backup was made: the only copy may be in the target, \
                 and nothing there can be told to be extra",
                source.source
            );
            Err(Failure::permanent("BackupLacksEntries", message)
                .fix("restore without --delete-extra and remove by hand what is too much, or restore another snapshot"))
        }
    }
}

/// What was removed from a target.
#[derive(Debug, Default)]
pub struct Deleted {
    /// Entries that are gone, a directory of them counting as one.
    pub entries: u64,
    /// Paths that could not be removed, and why.
    pub failed: Vec<(Vec<u8>, Errno)>,
}

/// Removes what the backup does not have.
///
/// # Errors
/// As [`difference`].
pub fn delete_extra(
    root: &Root,
    records: impl Iterator<Item = Result<Record, Failure>>,
    within: &dyn Fn(&[u8]) -> bool,
) -> Result<Deleted, Failure> {
    let mut deleted = Deleted::default();
    let mount = mount_of(root)?;
    walk(root, records, within, &mut |step| {
        if let Step::Extra(path, parent, name) = step {
            match remove_tree(mount, parent, name) {
                Ok(()) => deleted.entries += 1,
                Err(errno) => deleted.failed.push((path.to_vec(), errno)),
            }
        }
        Ok(())
    })?;
    Ok(deleted)
}

/// A directory of the target whose entries are being visited, smallest name last.
struct Level {
    path: Vec<u8>,
    names: Vec<Vec<u8>>,
}

fn walk(
    root: &Root,
    records: impl Iterator<Item = Result<Record, Failure>>,
    within: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut records = records.peekable();
    let mut directories = Directories::new(root);
    let mount = mount_of(root)?;
    let mut levels = vec![Level { path: Vec::new(), names: names(root, b"")? }];
    while let Some(path) = next_path(&mut levels) {
        let record = advance(&mut records, &path, visit)?;
        let (parent, name) = directories.parent(&path).map_err(|e| unreadable(&path, e))?;
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed by somebody since the directory was read.
            Err(_) => continue,
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match &record {
            Some(record) => {
                visit(Step::Both(record, &stat, parent, name))?;
                if is_directory && record.kind == EntryKind::Directory {
                    levels.push(Level { names: names(root, &path)?, path });
                }
            }
            // What is mounted there is not the volume's.
            None if within(&path) && Mount::at(parent, name) == Ok(mount) => {
                visit(Step::Extra(&path, parent, name))?
            }
            None => {}
        }
    }
    for record in records {
        record?;
        visit(Step::Missing)?;
    }
    Ok(())
}

fn next_path(levels: &mut Vec<Level>) -> Option<Vec<u8>> {
    loop {
        let level = levels.last_mut()?;
        match level.names.pop() {
            Some(name) if level.path.is_empty() => return Some(name),
            Some(name) => return Some([level.path.as_slice(), b"/", &name].concat()),
            None => levels.pop(),
        };
    }
}

/// Passes over records before `path`, which the target lacks, and gives the one at `path`.
fn advance<I: Iterator<Item = Result<Record, Failure>>>(
    records: &mut std::iter::Peekable<I>,
    path: &[u8],
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<Option<Record>, Failure> {
    loop {
        let order = match records.peek() {
            Some(Ok(record)) => path_order(relative(&record.path), path),
            Some(Err(_)) => Ordering::Less,
            None => return Ok(None),
        };
        match order {
            Ordering::Greater => return Ok(None),
            Ordering::Equal => return records.next().transpose(),
            Ordering::Less => {
                if let Some(record) = records.next().transpose()?
                    && !relative(&record.path).is_empty()
                {
                    visit(Step::Missing)?;
                }
            }
        }
    }
}

fn is_same(record: &Record, stat: &Stat, parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => return record.kind == EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        _ => return false,
    };
    let time = record.mtime.seconds == stat.st_mtime && u64::from(record.mtime.nanos) == stat.st_mtime_nsec;
    kind == record.kind
        && match kind {
            EntryKind::File => time && u64::try_from(stat.st_size) == Ok(record.size),
            EntryKind::Symlink => {
                readlinkat(parent, name, Vec::new()).is_ok_and(|target| target.as_bytes() == record.target)
            }
            _ => true,
        }
}

/// Names in a directory below the root, the smallest last.
fn names(root: &Root, path: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let list = || -> Result<Vec<Vec<u8>>, Errno> {
        let place = root.directory(root.as_fd(), path)?;
        list_names(openat(place, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    };
    let mut names = list().map_err(|e| unreadable(path, e))?;
    names.retain(|name| !path.is_empty() || !IGNORED.contains(&name.as_slice()));
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// True when the target holds nothing but what every new file system has, and what `is_ours` accepts.
///
/// # Errors
/// It cannot be read.
pub fn is_empty(root: &Root) -> Result<bool, Failure> {
    names(root, b"").map(|names| names.is_empty())
}

fn mount_of(root: &Root) -> Result<Mount, Failure> {
    Mount::of(root).map_err(|e| unreadable(b"", e))
}

fn unreadable(path: &[u8], errno: Errno) -> Failure {
    let path = if path.is_empty() { "the target".into() } else { String::from_utf8_lossy(path) };
    let why = match Trouble::from(errno) {
        Trouble::Entry(what) => what,
        Trouble::Fatal(failure) => return failure,
    };
    Failure::permanent("TargetUnreadable", format!("{path} {}", why.replace("written", "read")))
}
