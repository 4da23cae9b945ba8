//! Everything but the content of files: directories before, further names, symlinks and special files after, and the
//! directories' own metadata at the very end, each after all that is below it.

use super::{
    job::Job,
    metadata::{Made, open_to_owner},
    place::{Trouble, clear, put},
    report::FilesReport,
    root::Directories,
    spool::{Part, SpoolReader, relative},
};
use crate::{
    domain::verdict::Failure,
    storage::index::record::{EntryKind, Record},
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{AtFlags, Dev, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, statat, symlinkat},
    io::Errno,
};

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const SCRATCH: &str = "new-entry";

/// Makes all directories, closed to everyone else until they are complete.
///
/// # Errors
/// The target gives out.
pub fn make_directories(job: &Job<'_>, report: &mut FilesReport) -> Result<(), Failure> {
    let mut directories = Directories::new(job.root);
    for spooled in SpoolReader::open(&job.spool, Part::Directories)? {
        let record = spooled?.record;
        let path = relative(&record.path);
        if path.is_empty() {
            continue;
        }
        settle(make_directory(job, &mut directories, path), &record, report)?;
    }
    Ok(())
}

fn make_directory(job: &Job<'_>, directories: &mut Directories<'_>, path: &[u8]) -> Result<(), Trouble> {
    let (parent, name) = directories.parent(path)?;
    match mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) if job.existing.may_replace() => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let place = openat(parent, name, PLACE | OFlags::DIRECTORY, Mode::empty())?;
                return Ok(open_to_owner(place.as_fd(), stat.st_mode)?);
            }
            clear(job, parent, name)?;
            Ok(mkdirat(parent, name, Mode::RWXU)?)
        }
        answer => Ok(answer?),
    }
}

/// Makes symlinks, fifos and devices.
///
/// # Errors
/// The target gives out.
pub fn make_others(job: &Job<'_>, report: &mut FilesReport) -> Result<(), Failure> {
    let mut directories = Directories::new(job.root);
    for spooled in SpoolReader::open(&job.spool, Part::Others)? {
        let record = spooled?.record;
        let device = matches!(record.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        if device && !job.options.metadata.devices {
            report.skipped_devices += 1;
            continue;
        }
        let done = make_other(job, &mut directories, &record, report);
        settle(done, &record, report)?;
    }
    Ok(())
}

fn make_other(
    job: &Job<'_>,
    directories: &mut Directories<'_>,
    record: &Record,
    report: &mut FilesReport,
) -> Result<(), Trouble> {
    let (parent, name) = directories.parent(relative(&record.path))?;
    let (at, made_name) = match make(parent, name, record) {
        Ok(()) => (parent, name),
        Err(Errno::EXIST) if job.existing.may_replace() => {
            clear(job, job.state.as_fd(), SCRATCH.as_bytes())?;
            make(job.state.as_fd(), SCRATCH.as_bytes(), record)?;
            (job.state.as_fd(), SCRATCH.as_bytes())
        }
        Err(errno) => return Err(errno.into()),
    };
    let place = openat(at, made_name, PLACE, Mode::empty())?;
    let made = match record.kind {
        EntryKind::Symlink => Made::Symlink(at, made_name, place.as_fd()),
        _ => Made::Place(place.as_fd()),
    };
    job.set_metadata(&made, record, &record.path, report);
    if made_name == SCRATCH.as_bytes() {
        put(job, at, made_name, parent, name)?;
    }
    match record.kind {
        EntryKind::Symlink => report.symlinks += 1,
        _ => report.special += 1,
    }
    Ok(())
}

fn make(parent: BorrowedFd<'_>, name: &[u8], record: &Record) -> Result<(), Errno> {
    let device = |kind| {
        let (major, minor) = record.device.ok_or(Errno::INVAL)?;
        node(parent, name, kind, makedev(major, minor))
    };
    match record.kind {
        EntryKind::Symlink => symlinkat(record.target.as_slice(), parent, name),
        EntryKind::Fifo => node(parent, name, FileType::Fifo, 0),
        EntryKind::CharDevice => device(FileType::CharacterDevice),
        EntryKind::BlockDevice => device(FileType::BlockDevice),
        EntryKind::File | EntryKind::Directory => Err(Errno::INVAL),
    }
}

fn node(parent: BorrowedFd<'_>, name: &[u8], kind: FileType, device: Dev) -> Result<(), Errno> {
    mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
}

/// Sets the metadata of all directories, those below before those above.
///
/// # Errors
/// The target gives out.
pub fn finish_directories(job: &Job<'_>, report: &mut FilesReport) -> Result<(), Failure> {
    // Records come in path order, so what is not above the next one is complete.
    let mut open: Vec<Record> = Vec::new();
    for spooled in SpoolReader::open(&job.spool, Part::Directories)? {
        let record = spooled?.record;
        while open.last().is_some_and(|above| !record.path.starts_with(&above.path)) {
            open.pop().map_or(Ok(()), |done| finish_directory(job, &done, report))?;
        }
        open.push(record);
    }
    open.iter().rev().try_for_each(|done| finish_directory(job, done, report))
}

fn finish_directory(job: &Job<'_>, record: &Record, report: &mut FilesReport) -> Result<(), Failure> {
    let done = set_directory(job, record, report);
    if done.is_ok() {
        report.directories += 1;
    }
    settle(done, record, report)
}

fn set_directory(job: &Job<'_>, record: &Record, report: &mut FilesReport) -> Result<(), Trouble> {
    let place = job.root.directory(job.root.as_fd(), relative(&record.path))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(&place, ".", flags, Mode::empty())?;
    job.set_metadata(&Made::Open(directory.as_fd()), record, &record.path, report);
    Ok(())
}

/// Notes trouble with one entry; trouble with the target ends it all.
pub fn settle(done: Result<(), Trouble>, record: &Record, report: &mut FilesReport) -> Result<(), Failure> {
    match done {
        Ok(()) => Ok(()),
        Err(Trouble::Entry(what)) => {
            report.fail(&record.path, what);
            Ok(())
        }
        Err(Trouble::Fatal(failure)) => Err(failure),
    }
}
