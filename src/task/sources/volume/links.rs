//! Files with more than one name: which name carries the content.

use crate::storage::index::record::FileTime;
use std::collections::HashMap;

/// Most memory of the table, bytes.
const TABLE_BYTES: usize = 16 << 20;

/// What a table entry takes besides its name.
const ENTRY_BYTES: usize = 160;

/// Size, mtime and ctime: what moves when a file changes. The ctime cannot be set.
pub(super) type State = (u64, FileTime, FileTime);

/// The first name of a file, and what was stored under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstName {
    pub path: Vec<u8>,
    pub state: State,
    pub hash: [u8; 16],
}

/// First names of the files of which more names are to come. A file leaves the table with its last name.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    names: HashMap<(u64, u64), (FirstName, u64)>,
    bytes: usize,
    overflowed: bool,
}

impl LinkTable {
    /// The first name of `(device, inode)`, if another was stored; counts this one. `None`, and to be stored anew, when
    /// it changed since: it may be another file, with the number of one that was deleted.
    pub fn next_name(&mut self, key: (u64, u64), state: State) -> Option<FirstName> {
        let (first, left) = self.names.get_mut(&key)?;
        let same = first.state == state;
        *left -= 1;
        if same && *left > 0 {
            return Some(first.clone());
        }
        let (first, _) = self.names.remove(&key)?;
        self.bytes -= first.path.len() + ENTRY_BYTES;
        same.then_some(first)
    }

    /// Remembers the name under which content was stored, of `links`, at least 2.
    pub fn remember(&mut self, key: (u64, u64), links: u64, first: FirstName) {
        let cost = first.path.len() + ENTRY_BYTES;
        if self.bytes + cost > TABLE_BYTES {
            if !self.overflowed {
                self.overflowed = true;
                tracing::warn!("too many files with several names: some are stored once for each name");
            }
            return;
        }
        self.bytes += cost;
        self.names.insert(key, (first, links - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(path: &[u8]) -> FirstName {
        FirstName { path: path.to_vec(), state: NEW, hash: [1; 16] }
    }

    const NEW: State = (1, FileTime { seconds: 1, nanos: 0 }, FileTime { seconds: 2, nanos: 0 });

    #[test]
    fn a_file_that_is_not_as_it_was_is_no_further_name() {
        let (size, mtime, ctime) = NEW;
        let later = FileTime { seconds: 3, nanos: 0 };
        for other in [(2, mtime, ctime), (size, later, ctime), (size, mtime, later)] {
            let mut table = LinkTable::default();
            table.remember((1, 2), 5, first(b"./a"));
            assert_eq!((table.next_name((1, 2), other), table.bytes), (None, 0));
            table.remember((1, 2), 5, FirstName { state: other, ..first(b"./b") });
            assert_eq!(table.next_name((1, 2), other).unwrap().path, b"./b");
        }
    }

    #[test]
    fn a_file_leaves_with_its_last_name() {
        let mut table = LinkTable::default();
        assert_eq!(table.next_name((1, 2), NEW), None);
        table.remember((1, 2), 3, first(b"./a"));
        assert_eq!(table.next_name((1, 2), NEW), Some(first(b"./a")));
        assert_eq!(table.next_name((1, 2), NEW), Some(first(b"./a")));
        assert_eq!((table.next_name((1, 2), NEW), table.bytes, table.names.len()), (None, 0, 0));
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut table = LinkTable::default();
        for inode in 0..100 {
            table.remember((1, inode), 2, first(&vec![b'x'; 1 << 20]));
        }
        assert!(table.bytes <= TABLE_BYTES && table.overflowed);
        assert!(table.next_name((1, 0), NEW).is_some());
        assert!(table.next_name((1, 99), NEW).is_none());
        table.remember((1, 99), 2, first(b"./b"));
        assert!(table.next_name((1, 99), NEW).is_some());
    }
}
