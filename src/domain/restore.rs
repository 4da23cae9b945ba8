//! A restore after validation: every value in range, wrong combinations impossible. Targets that are not named are those
//! of the policy that made the backups.

use crate::domain::{
    location::Location,
    names::{InstanceName, PolicyName, SourceName},
    policy::{MongoConnection, NamespacePattern, VolumePlace},
    snapshot::AsOf,
};
use std::fmt;

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
