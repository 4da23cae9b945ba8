//! One file: found in its pack, written, proven, given its metadata, and only then left under its name.

use super::{
    job::Job,
    member::{Found, Unreadable, explain, find, short},
    metadata::Made,
    place::{Slot, Trouble},
    report::FilesReport,
    root::Directories,
    spool::{announced, relative},
    stream::PackStream,
    work::Handler,
};
use crate::{
    domain::verdict::Failure,
    storage::{
        index::record::Record,
        tar::{Extent, reader::TarError},
    },
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{FileType, Mode, OFlags, ftruncate, openat},
    io::Errno,
};

/// Copied at once.
const BUFFER: usize = 256 << 10;

/// Restores files of one pack, one after the other.
pub struct Extractor<'a> {
    job: &'a Job<'a>,
    directories: Directories<'a>,
    stream: PackStream,
    buffer: Vec<u8>,
    /// Name of this worker's file in our own directory.
    scratch: String,
    /// What was done so far.
    pub report: FilesReport,
}

impl Handler for Extractor<'_> {
    fn stream(&mut self) -> &mut PackStream {
        &mut self.stream
    }

    /// True when the file is there already with the recorded content. Its metadata is set then.
    fn is_done(&mut self, record: &Record) -> bool {
        // Whatever is wrong with what is there shows again when it is replaced.
        let unchanged = self.job.existing.may_replace() && self.is_there(record).unwrap_or(false);
        if unchanged {
            self.report.unchanged += 1;
            self.job.meter.add(announced(record), 1);
        }
        unchanged
    }

    fn handle(&mut self, record: &Record) -> Result<(), Failure> {
        self.file(record, &record.path)
    }

    fn take_report(&mut self) -> FilesReport {
        std::mem::take(&mut self.report)
    }
}

/// How a file ended up in place.
enum Outcome {
    Written,
    /// Another name of a file that carries the content: joined later.
    Later,
}

impl<'a> Extractor<'a> {
    /// A worker; `number` is its own among all.
    pub fn new(job: &'a Job<'a>, stream: PackStream, number: usize) -> Self {
        Self {
            job,
            directories: Directories::new(job.root),
            stream,
            buffer: vec![0; BUFFER],
            scratch: format!("new-{number}"),
            report: FilesReport::default(),
        }
    }

    /// Restores one file under `path` (of the index), which is the record's own but for a further name of it.
    ///
    /// # Errors
    /// What no further file can go well after: the store or the target gives out. What is wrong with this file alone is
    /// in the report.
    pub fn file(&mut self, record: &Record, path: &[u8]) -> Result<(), Failure> {
        let outcome = self.place(record, path);
        for (object, _) in self.stream.take_damaged() {
            self.report.damaged(object);
        }
        match outcome {
            Ok(Outcome::Written) => {
                self.report.files += 1;
                self.report.bytes += record.size;
            }
            Ok(Outcome::Later) => {}
            Err(Trouble::Entry(what)) => {
                self.report.fail(path, what);
                if record.link.is_some() {
                    self.job.lose(path)?;
                }
            }
            Err(Trouble::Fatal(failure)) => return Err(failure),
        }
        self.job.meter.add(announced(record), 1);
        Ok(())
    }

    fn place(&mut self, record: &Record, path: &[u8]) -> Result<Outcome, Trouble> {
        let mut found = match find(&mut self.stream, record) {
            Ok(found) => found,
            Err(what) => return Err(explain(&mut self.stream, &what).into()),
        };
        if found.is_further_name() {
            return Ok(Outcome::Later);
        }
        let (parent, name) = self.directories.parent(relative(path))?;
        let slot = Slot::create(self.job, parent, name, &self.scratch)?;
        match write(&mut found, slot.fd(), &mut self.buffer) {
            Ok(hash) if Some(hash) == record.hash => {}
            Ok(_) => {
                slot.abandon();
                let what = "has other content than was backed up";
                return Err(explain(&mut self.stream, what).into());
            }
            Err(Copy::Read(error)) => {
                slot.abandon();
                return Err(explain(&mut self.stream, &error.to_string()).into());
            }
            Err(Copy::Write(errno)) => {
                slot.abandon();
                return Err(errno.into());
            }
        }
        self.job.set_metadata(&Made::Open(slot.fd()), record, path, &mut self.report);
        slot.keep(self.job)?;
        Ok(Outcome::Written)
    }

    fn is_there(&mut self, record: &Record) -> Result<bool, Errno> {
        if record.flags.sparse || record.link.is_some() {
            return Ok(false);
        }
        let (parent, name) = self.directories.parent(relative(&record.path))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        // A file with another name somewhere is replaced: what is set on it would be set there, too.
        let alike = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && u64::try_from(stat.st_size) == Ok(record.size)
            && stat.st_nlink == 1;
        if !alike || Some(hash_file(&fd, &mut self.buffer)?) != record.hash {
            return Ok(false);
        }
        self.job.set_metadata_of_unchanged(fd.as_fd(), &stat, record, &mut self.report);
        Ok(true)
    }
}

fn hash_file(fd: &impl AsFd, buffer: &mut [u8]) -> Result<[u8; 16], Errno> {
    let mut hasher = blake3::Hasher::new();
    loop {
        match rustix::io::read(fd, &mut *buffer)? {
            0 => return Ok(short(&hasher)),
            n => hasher.update(&buffer[..n]),
        };
    }
}

enum Copy {
    Read(TarError),
    Write(Errno),
}

impl From<Errno> for Copy {
    fn from(errno: Errno) -> Self {
        Self::Write(errno)
    }
}

/// Copies the content of a member, holes left out, and gives the hash of what was stored.
fn write(found: &mut Found<'_>, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<[u8; 16], Copy> {
    let mut hasher = blake3::Hasher::new();
    let size = found.member.size;
    match found.member.extents.take() {
        None => copy(found, fd, Extent { offset: 0, length: size }, buffer, &mut hasher)?,
        Some(extents) => {
            for &extent in extents.iter() {
                copy(found, fd, extent, buffer, &mut hasher)?;
            }
            ftruncate(fd, size)?;
        }
    }
    Ok(short(&hasher))
}

fn copy(
    found: &mut Found<'_>,
    fd: BorrowedFd<'_>,
    extent: Extent,
    buffer: &mut [u8],
    hasher: &mut blake3::Hasher,
) -> Result<(), Copy> {
    let (mut length, mut offset) = (extent.length, extent.offset);
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let read = found.read(&mut buffer[..most]).map_err(Copy::Read)?;
        hasher.update(&buffer[..read]);
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let n = rustix::io::pwrite(fd, rest, offset)?;
            rest = &rest[n..];
            offset += n as u64;
        }
        length -= read as u64;
    }
    Ok(())
}

impl From<Unreadable> for Trouble {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Damaged(what) => Self::Entry(what),
            Unreadable::Store(failure) => Self::Fatal(failure),
        }
    }
}
