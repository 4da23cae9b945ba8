//! What a restore of files did, and what it could not do: counted, and the first of each named.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// How many problems are named; all are counted.
const NAMED: usize = 50;

/// What became of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesReport {
    /// Regular files written.
    pub files: u64,
    /// Their bytes, holes included.
    pub bytes: u64,
    /// Regular files that were there already with the same content.
    pub unchanged: u64,
    /// Directories.
    pub directories: u64,
    /// Further names of files with several.
    pub hard_links: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Fifos and devices.
    pub special: u64,
    /// Entries removed because the backup does not have them.
    pub deleted: u64,
    /// Devices that were not made, because that was not asked for.
    pub skipped_devices: u64,
    /// setuid bits and file capabilities that were not set, because that was not asked for.
    pub skipped_setuid: u64,
    /// Entries that belong to whoever restores, because only root can give them to their owner in the backup.
    pub other_owner: u64,
    /// Entries that the backup itself could not read.
    pub unreadable: u64,
    /// Owners, modes, attributes and times that could not be set.
    pub unset: u64,
    /// Entries that are not restored, or were removed again because their content is damaged.
    pub failed: u64,
    /// The first of what is counted in `failed`, `unset` and `unreadable`: path and what happened.
    pub problems: Vec<Problem>,
    /// Objects on the remote that are missing or damaged.
    pub damaged_objects: Vec<String>,
}

/// One entry and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Path in the backup, readable: what is not UTF-8 is replaced.
    pub path: String,
    /// What happened.
    pub what: String,
}

impl FilesReport {
    /// Everything that the backup has is in place.
    pub fn is_whole(&self) -> bool {
        self.failed == 0 && self.unreadable == 0
    }

    pub(super) fn fail(&mut self, path: &[u8], what: impl Into<String>) {
        self.failed += 1;
        self.name(path, what.into());
    }

    pub(super) fn unset(&mut self, path: &[u8], what: &str, errno: Errno) {
        self.unset += 1;
        self.name(path, format!("{what} could not be set: {}", describe(errno)));
    }

    pub(super) fn not_in_backup(&mut self, path: &[u8]) {
        self.unreadable += 1;
        self.name(path, "could not be read when the backup was made".to_owned());
    }

    pub(super) fn damaged(&mut self, object: String) {
        if !self.damaged_objects.contains(&object) && self.damaged_objects.len() < NAMED {
            self.damaged_objects.push(object);
        }
    }

    fn name(&mut self, path: &[u8], what: String) {
        if self.problems.len() < NAMED {
            self.problems.push(Problem { path: String::from_utf8_lossy(path).into_owned(), what });
        }
    }

    /// Adds what another worker did.
    pub(super) fn merge(&mut self, other: Self) {
        let Self {
            files,
            bytes,
            unchanged,
            directories,
            hard_links,
            symlinks,
            special,
            deleted,
            skipped_devices,
            skipped_setuid,
            other_owner,
            unreadable,
            unset,
            failed,
            problems,
            damaged_objects,
        } = other;
        self.files += files;
        self.bytes += bytes;
        self.unchanged += unchanged;
        self.directories += directories;
        self.hard_links += hard_links;
        self.symlinks += symlinks;
        self.special += special;
        self.deleted += deleted;
        self.skipped_devices += skipped_devices;
        self.skipped_setuid += skipped_setuid;
        self.other_owner += other_owner;
        self.unreadable += unreadable;
        self.unset += unset;
        self.failed += failed;
        self.problems.extend(problems.into_iter().take(NAMED.saturating_sub(self.problems.len())));
        damaged_objects.into_iter().for_each(|object| self.damaged(object));
    }
}

/// An error of the system in words: `Permission denied`.
pub(super) fn describe(errno: Errno) -> String {
    if errno == Errno::BUSY {
        return "something is mounted there: unmount it, or leave this as it is".to_owned();
    }
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
