//! The names of one directory, sorted, in bounded memory: what does not fit is read again when its turn comes.

use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{FileType, RawDir, SeekFrom},
    io::{Errno, Result},
};
use std::mem::MaybeUninit;

/// Most memory of one listing, bytes: about 100,000 names. When it is full, the larger half of the names is dropped.
const LISTING_BYTES: usize = 6 << 20;

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
            if self.used() + name.len() + size_of::<Name>() > self.limit && self.names.len() > 1 {
                ceiling = self.cut();
                if name >= &ceiling[..] {
                    continue;
                }
            }
            self.add(name, entry.file_type());
        }
        self.sort();
        Ok(())
    }

    fn add(&mut self, name: &[u8], kind: FileType) {
        // A listing is cut long before 4 GiB of text, and no file system has names of 64 KiB.
        let (offset, length) = (self.text.len() as u32, name.len() as u16);
        grow(&mut self.text, name.len(), self.limit);
        self.text.extend_from_slice(name);
        grow(&mut self.names, 1, self.limit / size_of::<Name>());
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

    /// Drops the larger half of the names, in place; gives the first that was dropped.
    fn cut(&mut self) -> Vec<u8> {
        self.sort();
        let half = self.names.len() / 2;
        let dropped = self.text_of(self.names[half]).to_vec();
        self.names.truncate(half);
        self.names.sort_unstable_by_key(|name| name.offset);
        let mut end = 0;
        for name in &mut self.names {
            let start = name.offset as usize;
            self.text.copy_within(start..start + usize::from(name.length), end);
            name.offset = end as u32;
            end += usize::from(name.length);
        }
        self.text.truncate(end);
        self.complete = false;
        dropped
    }
}

/// Makes room for `more`, doubling as a vector does, but not beyond `limit` unless that is needed.
fn grow<T>(vector: &mut Vec<T>, more: usize, limit: usize) {
    let (length, capacity) = (vector.len(), vector.capacity());
    if length + more > capacity {
        let wanted = (2 * capacity).clamp(1024, limit.max(1024)).max(length + more);
        vector.reserve_exact(wanted - length);
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
            prop_assert!(listing.used() <= limit.max(120));
            let found = all(&mut listing, fd.as_fd(), shed_each);
            prop_assert_eq!(found, names.into_iter().collect::<Vec<_>>());
        }
    }
}
