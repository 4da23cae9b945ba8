//! One file: found in its pack, written, proven, given its metadata, and only then left under its name.

use super::{
    job::Job,
    metadata::{Made, apply, drop_other_xattrs},
    place::{Slot, Trouble},
    report::FilesReport,
    root::Directories,
    spool::relative,
    stream::PackStream,
};
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::{
        index::record::Record,
        tar::{
            Member, MemberKind,
            reader::{TarError, TarReader},
        },
    },
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{FileType, Mode, OFlags, ftruncate, openat},
    io::Errno,
};
use std::ops::Range;

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

    /// Parts between these offsets of the pack are fetched whole.
    pub fn fetch_whole(&mut self, offsets: Range<u64>) {
        self.stream.fetch_whole(offsets);
    }

    /// Outside of them, this is fetched next.
    pub fn expect(&mut self, offsets: Range<u64>) {
        self.stream.expect(offsets);
    }

    /// Restores one file under `path` (of the index), which is the record's own but for a further name of it.
    ///
    /// # Errors
    /// What no further file can go well after: the store or the target gives out. What is wrong with this file alone is
    /// in the report.
    pub fn file(&mut self, record: &Record, path: &[u8]) -> Result<(), Failure> {
        let outcome = self.place(record, path);
        for object in self.stream.take_damaged() {
            self.report.damaged(object);
        }
        match outcome {
            Ok(Outcome::Written) => {
                self.report.files += 1;
                self.report.bytes += record.size;
            }
            Ok(Outcome::Later) => {}
            Err(Trouble::Entry(what)) => self.report.fail(path, what),
            Err(Trouble::Fatal(failure)) => return Err(failure),
        }
        self.job.meter.add(record.size, 1);
        Ok(())
    }

    /// True when the file is there already with the recorded content, so that nothing need be fetched for it. Its
    /// metadata is set then.
    pub fn is_unchanged(&mut self, record: &Record) -> bool {
        // Whatever is wrong with what is there shows again when it is replaced.
        let unchanged = self.job.existing.may_replace() && self.is_there(record).unwrap_or(false);
        if unchanged {
            self.report.unchanged += 1;
            self.job.meter.add(record.size, 1);
        }
        unchanged
    }

    fn place(&mut self, record: &Record, path: &[u8]) -> Result<Outcome, Trouble> {
        let Some(place) = record.place else { return Err(Trouble::entry("has no content in the backup")) };
        self.stream.seek(&place).map_err(|e| content(&mut self.stream, &e.to_string()))?;
        let mut tar = TarReader::new(&mut self.stream);
        let member = match tar.next_member() {
            Ok(Some(member)) => member,
            Ok(None) => return Err(Trouble::entry("is not where the index says: damaged")),
            Err(e) => return Err(damage(&mut self.stream, &e)),
        };
        if *member.path != *record.path {
            return Err(Trouble::entry("is not where the index says: damaged"));
        }
        match member.kind {
            MemberKind::HardLink if record.link.is_some() => return Ok(Outcome::Later),
            MemberKind::File if member.size == record.size => {}
            _ => return Err(Trouble::entry("is not what the index says: damaged")),
        }
        let (parent, name) = self.directories.parent(relative(path))?;
        let slot = Slot::create(self.job, parent, name, &self.scratch)?;
        let written = write(&mut tar, &member, slot.fd(), &mut self.buffer);
        match written {
            Ok(hash) if Some(hash) == record.hash => {}
            Ok(_) => {
                slot.abandon();
                return Err(Trouble::entry("has other content than was backed up: damaged, removed"));
            }
            Err(Copy::Read(e)) => {
                slot.abandon();
                return Err(damage(&mut self.stream, &e));
            }
            Err(Copy::Write(errno)) => {
                slot.abandon();
                return Err(errno.into());
            }
        }
        apply(&Made::Open(slot.fd()), record, path, &self.job.options.metadata, &mut self.report);
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
        drop_other_xattrs(fd.as_fd(), record, &record.path, &mut self.report);
        let made = Made::Open(fd.as_fd());
        apply(&made, record, &record.path, &self.job.options.metadata, &mut self.report);
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

fn short(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
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
fn write(
    tar: &mut TarReader<&mut PackStream>,
    member: &Member<'_>,
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<[u8; 16], Copy> {
    let mut hasher = blake3::Hasher::new();
    let Some(extents) = &member.extents else {
        copy(tar, fd, member.size, 0, buffer, &mut hasher)?;
        return Ok(short(&hasher));
    };
    for extent in extents.iter() {
        copy(tar, fd, extent.length, extent.offset, buffer, &mut hasher)?;
    }
    ftruncate(fd, member.size)?;
    Ok(short(&hasher))
}

fn copy(
    tar: &mut TarReader<&mut PackStream>,
    fd: BorrowedFd<'_>,
    mut length: u64,
    mut offset: u64,
    buffer: &mut [u8],
    hasher: &mut blake3::Hasher,
) -> Result<(), Copy> {
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let read = tar.read(&mut buffer[..most]).map_err(Copy::Read)?;
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

/// The trouble behind an error of the stream: the store's own failure, or damage.
fn damage(stream: &mut PackStream, error: &TarError) -> Trouble {
    content(stream, &error.to_string())
}

fn content(stream: &mut PackStream, error: &str) -> Trouble {
    match stream.take_failure() {
        Some(failure) if failure.verdict != Verdict::Permanent => Trouble::Fatal(failure),
        Some(failure) => Trouble::Entry(failure.message),
        None => Trouble::Entry(format!("is damaged in {}: {error}", stream.object())),
    }
}
