//! Restores after validation: every value in range, wrong combinations impossible.
//!
//! A [`Restore`] is what a document says; its targets that are not named are those of the policy that made the backups. In a
//! [`RestoreRequest`] they are all named.

use crate::domain::{
    location::Location,
    names::{InstanceName, PolicyName, SourceName},
    policy::{MongoConnection, NamespacePattern, VolumePlace},
    snapshot::AsOf,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::Path};

/// One snapshot back into a database and into directories.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// Its name.
    pub name: String,
    /// The backups.
    pub from: RestoreSource,
    /// Which of them.
    pub as_of: AsOf,
    /// Also one that lacks a source.
    pub allow_partial: bool,
    /// The database to fill.
    pub mongodb: Option<RestoreMongodb>,
    /// The directories to fill. Without them and without a database: everything, to where it came from.
    pub volumes: Vec<RestoreVolume>,
    /// Change nothing.
    pub dry_run: bool,
    /// What exists may be replaced: permitted by a person, for now.
    pub confirmed: bool,
}

/// Where the backups are.
#[derive(Debug, Clone, PartialEq)]
pub enum RestoreSource {
    /// Where a policy that is declared here keeps them.
    Policy(PolicyName),
    /// Named in full.
    Place {
        /// The place.
        location: Box<Location>,
        /// Whose data.
        instance: InstanceName,
        /// Only snapshots of this policy.
        policy: Option<PolicyName>,
    },
}

impl RestoreSource {
    /// The policy that is named.
    pub fn policy(&self) -> Option<&PolicyName> {
        match self {
            Self::Policy(name) => Some(name),
            Self::Place { policy, .. } => policy.as_ref(),
        }
    }
}

/// The database to fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreMongodb {
    /// Where; nothing: where the policy reads.
    pub connection: Option<MongoConnection>,
    /// Namespaces; empty: all.
    pub include: Vec<NamespacePattern>,
    /// New names, from and to.
    pub rename: Vec<(String, String)>,
    /// Users and roles too.
    pub users: bool,
    /// Collections that exist may be replaced, once the restore is confirmed.
    pub replace: bool,
}

/// A directory to fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreVolume {
    /// The volume's name in the backup.
    pub name: SourceName,
    /// Where; nothing: where the policy reads.
    pub place: Option<VolumePlace>,
    /// Paths or globs; empty: everything.
    pub include: Vec<String>,
    /// Remove what the backup does not have.
    pub delete_extra: bool,
}

impl fmt::Display for RestoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::Place { location, instance, .. } => {
                write!(f, "{}:{}", location.remote, location.instance_path(instance))
            }
        }
    }
}

/// One restore: from a snapshot of the instance at the store's root, into directories and a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRequest {
    /// Snapshots of this policy; `None`: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// Which of them.
    pub as_of: AsOf,
    /// Also one that lacks something.
    pub allow_partial: bool,
    /// The database, if it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<MongodbTarget>,
    /// The volumes that are wanted.
    pub volumes: Vec<VolumeTarget>,
    /// What is at the targets may be replaced.
    pub confirmed: bool,
}

/// Where a dump goes, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// Where a volume goes, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeTarget {
    /// Its name in the backup.
    pub name: SourceName,
    /// Where it goes.
    pub place: VolumePlace,
    /// Paths or globs in the volume; empty: everything.
    pub include: Vec<String>,
    /// Remove what the backup does not have.
    pub delete_extra: bool,
    /// Owners, setuid bits, devices.
    pub metadata: MetadataOptions,
}

impl VolumeTarget {
    /// The directory that is filled, where it is one that can be opened here.
    pub fn directory(&self) -> Option<&Path> {
        self.place.directory()
    }
}

/// What of an entry's metadata is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataOptions {
    /// Owner and group.
    pub ownership: Ownership,
    /// setuid, setgid and file capabilities of files too: they make a file run with its owner's rights.
    pub preserve_setuid: bool,
    /// Create device nodes.
    pub devices: bool,
}

/// Who owns what is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ownership {
    /// The recorded numbers; only root can set them all.
    #[default]
    Keep,
    /// The recorded numbers, replaced where a table says so.
    Map {
        /// User ids.
        users: BTreeMap<u32, u32>,
        /// Group ids.
        groups: BTreeMap<u32, u32>,
    },
    /// Whoever runs the restore.
    Me,
}
