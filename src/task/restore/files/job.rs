//! What all parts of one restore of files share.

use super::{
    metadata::{Made, apply, apply_to_unchanged, drop_other_xattrs},
    report::FilesReport,
    root::Root,
    spool::STATE,
};
use crate::{
    domain::{restore::MetadataOptions, verdict::Failure},
    storage::index::record::Record,
    task::context::Meter,
};
use rustix::{
    fd::{BorrowedFd, OwnedFd},
    fs::{Access, AtFlags, Mode, OFlags, Stat, accessat, openat},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How files are restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilesOptions {
    /// What of the metadata is set.
    pub metadata: MetadataOptions,
    /// Only these paths, or globs, and what is below them; empty for everything.
    pub include: Vec<String>,
    /// Remove what the backup does not have, once everything is in place.
    pub delete_extra: bool,
}

/// What may happen to something that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The target was empty: what appears there meanwhile is left alone.
    Refuse,
    /// An earlier run of this very restore left it.
    Redo,
    /// The person said so.
    Replace,
}

impl Existing {
    /// What is in the way may be replaced.
    pub fn may_replace(self) -> bool {
        self != Self::Refuse
    }
}

/// One restore of files under way.
pub struct Job<'a> {
    /// The target.
    pub root: &'a Root,
    /// Our own directory in it, for objects that are not complete.
    pub state: OwnedFd,
    /// The spool's directory.
    pub spool: PathBuf,
    /// How.
    pub options: &'a FilesOptions,
    /// What may be replaced.
    pub existing: Existing,
    /// Entries may begin with attributes that the backup does not have.
    pub inherits: bool,
    /// Who watches.
    pub meter: &'a Meter,
}

impl Job<'_> {
    /// Gives an entry the recorded metadata.
    pub fn set_metadata(&self, made: &Made<'_>, record: &Record, path: &[u8], report: &mut FilesReport) {
        if self.inherits {
            drop_other_xattrs(made, record, path, report);
        }
        apply(made, record, path, &self.options.metadata, report);
    }

    /// The same for a file that is there with its content.
    pub fn set_metadata_of_unchanged(
        &self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        record: &Record,
        report: &mut FilesReport,
    ) {
        drop_other_xattrs(&Made::Open(fd), record, &record.path, report);
        apply_to_unchanged(fd, stat, record, &record.path, &self.options.metadata, report);
    }

    /// Remembers, on the disk, that a file with several names is not restored under `path`.
    ///
    /// # Errors
    /// The target cannot be written.
    pub fn lose(&self, path: &[u8]) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&self.state, lost(path), flags, Mode::RUSR).map(drop).map_err(|e| {
            Failure::permanent("TargetNotWritable", format!("{STATE} could not be written: {e}"))
        })
    }

    /// True when that was said of `path`.
    pub fn is_lost(&self, path: &[u8]) -> bool {
        accessat(&self.state, lost(path), Access::EXISTS, AtFlags::empty()).is_ok()
    }
}

fn lost(path: &[u8]) -> String {
    format!("lost-{}", blake3::hash(path).to_hex())
}
