//! What a person asks to be restored.

use super::{files::metadata::MetadataOptions, mongodb::MongoOptions};
use crate::{
    domain::{
        names::{PolicyName, SourceName},
        policy::{MongoConnection, NamespacePattern},
        snapshot::AsOf,
        verdict::Failure,
    },
    storage::archive::filter::Rename,
};
use std::path::PathBuf;

/// One restore: from a snapshot of the instance at the store's root, into directories and a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// Snapshots of this policy; `None`: of all.
    pub policy: Option<PolicyName>,
    /// Which of them.
    pub as_of: AsOf,
    /// Also one that lacks something.
    pub allow_partial: bool,
    /// The database, if it is wanted.
    pub mongodb: Option<MongodbTarget>,
    /// The volumes that are wanted.
    pub volumes: Vec<VolumeTarget>,
    /// What is at the targets may be replaced.
    pub confirmed: bool,
}

/// Where a dump goes, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongodbTarget {
    /// The deployment.
    pub connection: MongoConnection,
    /// Namespaces; empty: all.
    pub include: Vec<NamespacePattern>,
    /// New names, from and to.
    pub rename: Vec<(String, String)>,
    /// Users and roles too.
    pub users: bool,
    /// Collections that exist may be replaced, once the restore is confirmed.
    pub replace: bool,
}

impl MongodbTarget {
    /// As the restore of a dump takes them.
    ///
    /// # Errors
    /// Names that cannot be renamed so.
    pub fn options(&self, confirmed: bool) -> Result<MongoOptions, Failure> {
        let renames = self.rename.iter().map(|(from, to)| Rename::parse(from, to)).collect::<Result<_, _>>();
        Ok(MongoOptions {
            include: self.include.clone(),
            renames: renames.map_err(|e| Failure::permanent("InvalidRename", e.to_string()))?,
            replace: confirmed && self.replace,
            users: self.users,
            ..MongoOptions::default()
        })
    }
}

/// Where a volume goes, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeTarget {
    /// Its name in the backup.
    pub name: SourceName,
    /// An absolute path.
    pub directory: PathBuf,
    /// Paths or globs in the volume; empty: everything.
    pub include: Vec<String>,
    /// Remove what the backup does not have.
    pub delete_extra: bool,
    /// Owners, setuid bits, devices.
    pub metadata: MetadataOptions,
}
