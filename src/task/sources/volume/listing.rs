//! The names of one directory, sorted, in bounded memory: what does not fit is read again when its turn comes.

use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{FileType, RawDir, SeekFrom},
    io::{Errno, Result},
};
use std::mem::MaybeUninit;

/// Most memory of one listing, bytes: about 100,000 names.
const LISTING_BYTES: usize = 4 << 20;

/// Sorted names, as many as fit.
#[derive(Debug, Default)]
pub(super) struct Listing {
    text: Vec<u8>,
    names: Vec<Name>,
    /// The next of `names`.
    at: usize,
    /// Names that came out, and those before them, are not read again.
    last: Vec<u8>,
    /// The directory has no names after those in `names`.
    complete: bool,
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    offset: u32,
    length: u16,
    kind: FileType,
}

impl Listing {
    /// A directory whose names are not asked for.
    pub fn empty() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// Reads the directory behind `fd`.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(fd: BorrowedFd<'_>) -> Result<Self> {
        Self::read_within(fd, LISTING_BYTES)
    }

    fn read_within(fd: BorrowedFd<'_>, limit: usize) -> Result<Self> {
        let mut listing = Self { limit, ..Self::default() };
        listing.fill(fd)?;
        Ok(listing)
    }

    /// The next name in byte order, into `name`, with its kind as the directory tells it.
    ///
    /// # Errors
    /// What the system says when the directory is read again.
    pub fn next(&mut self, fd: BorrowedFd<'_>, name: &mut Vec<u8>) -> Result<Option<FileType>> {
        if self.at == self.names.len() {
            if self.complete {
                return Ok(None);
            }
            self.fill(fd)?;
        }
        let Some(entry) = self.names.get(self.at).copied() else { return Ok(None) };
        self.at += 1;
        name.clear();
        name.extend_from_slice(self.text_of(entry));
        if self.at == self.names.len() && !self.complete {
            self.last.clone_from(name);
        }
        Ok(Some(entry.kind))
    }

    /// Memory in use, bytes.
    pub fn weight(&self) -> usize {
        self.text.capacity() + self.names.capacity() * size_of::<Name>()
    }

    /// Gives the memory back; the rest of the names are read again when they are asked for.
    pub fn shed(&mut self) {
        if self.at == self.names.len() {
            return;
        }
        if let Some(entry) = self.at.checked_sub(1).and_then(|at| self.names.get(at)).copied() {
            self.last = self.text_of(entry).to_vec();
        }
        (self.text, self.names, self.at, self.complete) = (Vec::new(), Vec::new(), 0, false);
    }

    fn text_of(&self, name: Name) -> &[u8] {
        let start = name.offset as usize;
        &self.text[start..start + usize::from(name.length)]
    }

    /// Keeps the smallest names after `last` that fit.
    fn fill(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        rustix::fs::seek(fd, SeekFrom::Start(0))?;
        (self.at, self.complete) = (0, true);
        self.text.clear();
        self.names.clear();
        let mut ceiling = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(fd.as_fd(), &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || name <= &self.last[..] {
                continue;
            }
            if !ceiling.is_empty() && name >= &ceiling[..] {
                continue;
            }
            self.add(name, entry.file_type());
            if self.used() > 2 * self.limit {
                ceiling = self.cut();
            }
        }
        self.sort();
        if self.used() > self.limit {
            self.cut();
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], kind: FileType) {
        // A listing is cut long before 4 GiB of text, and no file system has names of 64 KiB.
        let (offset, length) = (self.text.len() as u32, name.len() as u16);
        self.text.extend_from_slice(name);
        self.names.push(Name { offset, length, kind });
    }

    fn used(&self) -> usize {
        self.text.len() + self.names.len() * size_of::<Name>()
    }

    fn sort(&mut self) {
        let text = &self.text;
        let key = |name: &Name| &text[name.offset as usize..name.offset as usize + usize::from(name.length)];
        self.names.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    }

    /// Drops the largest names beyond the limit; gives the first that was dropped.
    fn cut(&mut self) -> Vec<u8> {
        self.sort();
        let (mut text, mut kept) = (Vec::with_capacity(self.limit), Vec::new());
        let mut rest = self.names.iter();
        let mut dropped = Vec::new();
        for &name in rest.by_ref() {
            let bytes = self.text_of(name);
            if text.len() + bytes.len() + (kept.len() + 1) * size_of::<Name>() > self.limit
                && !kept.is_empty()
            {
                dropped = bytes.to_vec();
                break;
            }
            kept.push(Name { offset: text.len() as u32, ..name });
            text.extend_from_slice(bytes);
        }
        self.complete &= dropped.is_empty();
        (self.text, self.names) = (text, kept);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, fs::File, os::unix::ffi::OsStrExt};

    fn all(listing: &mut Listing, fd: BorrowedFd<'_>, shed_each: usize) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut name = Vec::new();
        while listing.next(fd, &mut name).unwrap().is_some() {
            names.push(name.clone());
            if shed_each > 0 && names.len() % shed_each == 0 {
                listing.shed();
                assert!(listing.weight() < 1 << 20);
            }
        }
        names
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_name_comes_out_once_and_in_order_however_little_memory_there_is(
            names in prop::collection::btree_set("[ -.0-~é]{1,20}", 0..60), limit in 1_usize..2000, shed_each in 0_usize..5,
        ) {
            let names: BTreeSet<Vec<u8>> =
                names.into_iter().filter(|n| n != "." && n != "..").map(String::into_bytes).collect();
            let directory = tempfile::tempdir().unwrap();
            for name in &names {
                File::create(directory.path().join(std::ffi::OsStr::from_bytes(name))).unwrap();
            }
            let fd = File::open(directory.path()).unwrap();
            let mut listing = Listing::read_within(fd.as_fd(), limit).unwrap();
            prop_assert!(listing.used() <= limit.max(60));
            let found = all(&mut listing, fd.as_fd(), shed_each);
            prop_assert_eq!(found, names.into_iter().collect::<Vec<_>>());
        }
    }
}
