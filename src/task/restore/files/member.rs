//! One member of a pack: found by its place, and proven to be what the index says.

use super::stream::PackStream;
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::{
        index::record::{EntryKind, Record},
        tar::{
            Member, MemberKind,
            reader::{TarError, TarReader},
        },
    },
};

/// Why a member could not be read.
#[derive(Debug)]
pub enum Unreadable {
    /// Its bytes, or those that lead to it, are not what was stored: what is wrong with them.
    Damaged(String),
    /// The store does not give them now.
    Store(Failure),
}

/// A member whose headers are proven; its content comes next.
pub struct Found<'s> {
    /// The headers.
    pub member: Member<'static>,
    tar: TarReader<&'s mut PackStream>,
}

/// Finds the member of `record`.
///
/// # Errors
/// It is not there, or is not what the record says; [`explain`] tells why.
pub fn find<'s>(stream: &'s mut PackStream, record: &Record) -> Result<Found<'s>, String> {
    let place = record.place.ok_or("has no place in the backup")?;
    stream.seek(&place).map_err(|e| format!("cannot be read: {e}"))?;
    let mut tar = TarReader::new(stream);
    let member = tar.next_member().map_err(|e| format!("cannot be read: {e}"))?;
    let member = member.filter(|m| *m.path == *record.path).ok_or("is not where the index says")?;
    if fits(&member, record) {
        Ok(Found { member, tar })
    } else {
        Err("is not what the index says".to_owned())
    }
}

fn fits(member: &Member<'_>, record: &Record) -> bool {
    match (member.kind, record.kind) {
        (MemberKind::File, EntryKind::File) => member.size == record.size,
        (MemberKind::HardLink, EntryKind::File) => record.link.is_some(),
        (MemberKind::Symlink, EntryKind::Symlink) => *member.target == *record.target,
        (MemberKind::Directory, EntryKind::Directory) | (MemberKind::Fifo, EntryKind::Fifo) => true,
        (MemberKind::CharDevice, EntryKind::CharDevice)
        | (MemberKind::BlockDevice, EntryKind::BlockDevice) => member.device == record.device,
        _ => false,
    }
}

impl Found<'_> {
    /// Another name of a file that carries the content.
    pub fn is_further_name(&self) -> bool {
        self.member.kind == MemberKind::HardLink
    }

    /// Content into `buffer`; 0 at its end.
    ///
    /// # Errors
    /// The bytes are damaged or not to be had; [`explain`] tells which.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        self.tar.read(buffer)
    }
}

/// What is behind a member that was not found, or could not be read to its end.
pub fn explain(stream: &mut PackStream, what: &str) -> Unreadable {
    match stream.take_failure() {
        Some(failure) if failure.verdict == Verdict::Permanent => Unreadable::Damaged(failure.message),
        Some(failure) => Unreadable::Store(failure),
        None => Unreadable::Damaged(format!("is damaged in {}: {what}", stream.path())),
    }
}

/// The first 128 bits of a hash, as the index has them.
pub fn short(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}
