//! What is restored, how, and what came of it.

use crate::{
    domain::{policy::NamespacePattern, restore::MongodbTarget, verdict::Failure},
    storage::{
        archive::filter::{Filter, Internal, Rename},
        manifest::SourceRecord,
        store::ObjectStore,
    },
    task::{
        context::Meter,
        mongodb::{compare::Depth, connection::Connection, tool::Tools},
    },
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What of a dump is restored, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MongoOptions {
    /// Namespaces to restore; empty: all.
    pub include: Vec<NamespacePattern>,
    /// Namespaces to leave out.
    pub exclude: Vec<NamespacePattern>,
    /// New names.
    pub renames: Vec<Rename>,
    /// Collections that exist are dropped first. Those that the backup does not have stay.
    pub replace: bool,
    /// Users and roles too. Those that exist stay as they are; with `replace` they become those of the backup, but for
    /// the user that restores.
    pub users: bool,
    /// `config.*` too: only into a deployment that is to become the one that was dumped.
    pub config: bool,
}

impl MongoOptions {
    /// What `target` asks for; `confirmed`: a person agreed to what it replaces.
    ///
    /// # Errors
    /// Names that cannot be renamed so.
    pub fn of(target: &MongodbTarget, confirmed: bool) -> Result<Self, Failure> {
        let renames =
            target.rename.iter().map(|(from, to)| Rename::parse(from, to)).collect::<Result<_, _>>();
        Ok(Self {
            include: target.include.clone(),
            renames: renames.map_err(|e| Failure::permanent("InvalidRename", e.to_string()))?,
            replace: confirmed && target.replace,
            users: target.users,
            ..Self::default()
        })
    }

    pub(super) fn filter(&self, oplog: bool) -> Filter {
        let Self { include, exclude, renames, users, config, replace: _ } = self;
        Filter {
            include: include.clone(),
            exclude: exclude.clone(),
            renames: renames.clone(),
            internal: Internal::OnRequest { users: *users, config: *config },
            oplog,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MongoReport {
    /// Collections, views and time series.
    pub namespaces: u64,
    /// Documents of the archive that were inserted (of time series: buckets).
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Oplog entries of the archive; they were replayed when the backup is a point in time.
    pub oplog_entries: u64,
    /// Namespaces that the oplog of the archive changes: their documents are not compared.
    pub changed_by_oplog: u64,
    /// Users and roles that were restored.
    pub users: u64,
    /// Users and roles of the backup that were there already and stayed as they are.
    pub users_kept: Vec<String>,
    /// Everything in which the deployment now differs from the backup, at most 50.
    pub differences: Vec<String>,
    /// All of them.
    pub difference_count: u64,
}

impl MongoReport {
    /// The deployment holds what the backup held.
    pub fn is_whole(&self) -> bool {
        self.difference_count == 0
    }
}

/// A restore under way.
pub(super) struct Job<'a> {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) record: &'a SourceRecord,
    pub(super) options: &'a MongoOptions,
    pub(super) connection: &'a Connection,
    pub(super) tools: &'a Tools,
    pub(super) meter: &'a Meter,
    pub(super) depth: Depth,
}

pub(super) fn damaged(message: &str) -> Failure {
    Failure::permanent("BackupDamaged", message)
}
