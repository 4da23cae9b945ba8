//! What all parts of one restore of files share.

use super::{metadata::MetadataOptions, root::Root};
use crate::task::context::Meter;
use rustix::fd::OwnedFd;
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
    /// Who watches.
    pub meter: &'a Meter,
}
