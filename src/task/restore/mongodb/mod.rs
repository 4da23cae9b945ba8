//! Restoring a dump: from a source record into a deployment.
//!
//! 1. [`plan`]: the list of namespaces, through the filter, says what will be there; a target that holds documents of
//!    one of them is refused unless it may be replaced.
//! 2. [`parts`]: all parts are compared with the remote's listing (or read once), before the database is touched.
//! 3. [`feed`]: part by part, each verified before a byte goes on, through the filter into mongorestore.
//! 4. [`users`]: merged, when they were asked for; none that is there is ever lost.
//! 5. What is in the deployment is compared with the list.

mod drill;
mod feed;
mod parts;
mod plan;
mod users;

pub use drill::drill;

use crate::{
    domain::{
        policy::{MongoConnection, NamespacePattern},
        snapshot::Consistency,
        verdict::Failure,
    },
    storage::{
        archive::{
            contents::{Contents, Entry},
            filter::{Filter, Internal, Rename},
            listing,
        },
        manifest::SourceRecord,
        pack::reader::PackReader,
        store::ObjectStore,
    },
    task::{
        context::Meter,
        mongodb::{
            catalog,
            compare::{self, Depth, Expected},
            connection::Connection,
            failure::{self, Needs},
            tool::Tools,
        },
    },
};
use serde::Serialize;
use std::sync::Arc;

/// Differences that are named; all are counted.
const NAMED: usize = 50;

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
    fn filter(&self, oplog: bool) -> Filter {
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
struct Job<'a> {
    store: Arc<dyn ObjectStore>,
    record: &'a SourceRecord,
    options: &'a MongoOptions,
    connection: &'a Connection,
    tools: &'a Tools,
    meter: &'a Meter,
    depth: Depth,
}

/// Restores the dump of `record` into a deployment. May run again after any end: into an empty target after what was
/// half restored was dropped, or with `replace`.
///
/// # Errors
/// What a person or a later attempt can do about it. Before the first byte of it the database was not touched; the
/// message says so when it was.
pub async fn restore(
    store: Arc<dyn ObjectStore>,
    record: &SourceRecord,
    target: &MongoConnection,
    options: &MongoOptions,
    tools: &Tools,
    meter: &Meter,
) -> Result<MongoReport, Failure> {
    let connection = Connection::resolve(target, "mongodb").await?;
    let job = Job { store, record, options, connection: &connection, tools, meter, depth: Depth::Counts };
    job.run().await
}

/// What a restore would do, and whether it may: the target's namespaces that would be replaced.
///
/// # Errors
/// As [`restore`], before the database is touched.
pub async fn plan(
    store: Arc<dyn ObjectStore>,
    record: &SourceRecord,
    target: &MongoConnection,
    options: &MongoOptions,
) -> Result<plan::Plan, Failure> {
    let connection = Connection::resolve(target, "mongodb").await?;
    let entries = listing::load(&*store, record).await?;
    plan::make(&connection, entries, &options.filter(true)).await
}

impl Job<'_> {
    async fn run(&self) -> Result<MongoReport, Failure> {
        let replay = self.record.dump.as_ref().is_some_and(|dump| dump.class == Consistency::PointInTime);
        let filter = self.options.filter(replay);
        let entries = listing::load(&*self.store, self.record).await?;
        let plan = plan::make(self.connection, entries, &filter).await?;
        plan.refuse_to_replace(self.options.replace, self.connection)?;
        let pack = self.record.packs.first().ok_or_else(|| damaged("the record names no pack"))?;
        let reader = PackReader::open(self.store.clone(), pack).await?;
        parts::check(&*self.store, &reader, pack, self.meter).await?;
        if self.options.users {
            users::clear(self.connection).await?;
        }
        let contents = feed::feed(self, reader, pack.plain, filter, replay).await?;
        same_as_listed(&plan.entries, &contents)?;
        let users = if self.options.users {
            users::merge(self.connection, self.options.replace).await?
        } else {
            users::Merged::default()
        };
        self.report(&contents, users).await
    }

    async fn report(&self, contents: &Contents, users: users::Merged) -> Result<MongoReport, Failure> {
        self.meter.begin("mongodb: comparing", None);
        let kept = || contents.namespaces.iter().filter(|e| e.target.is_some());
        // Users went through collections of their own; what the server keeps in `config` it also changes.
        let public = |e: &&Entry| e.target.as_ref().is_some_and(|t| !catalog::is_internal(&t.database));
        let expected: Vec<_> = kept().filter(public).filter_map(Expected::from_entry).collect();
        let client = self.connection.client()?;
        let differences = compare::compare(&client, &expected, self.depth)
            .await
            .map_err(|e| failure::from_driver_for(&e, self.connection, Needs::Restore))?;
        Ok(MongoReport {
            namespaces: expected.len() as u64,
            documents: kept().map(|e| e.documents).sum(),
            bytes: kept().map(|e| e.bytes).sum(),
            oplog_entries: contents.oplog.map_or(0, |oplog| oplog.entries),
            users: users.restored,
            users_kept: users.kept,
            difference_count: differences.len() as u64,
            differences: differences.iter().take(NAMED).map(ToString::to_string).collect(),
        })
    }
}

/// The archive holds what the list beside it says.
fn same_as_listed(listed: &[Entry], contents: &Contents) -> Result<(), Failure> {
    let sums = |e: &Entry| (e.namespace.clone(), e.documents, e.bytes, e.crc);
    let differs = listed.len() != contents.namespaces.len()
        || listed.iter().zip(&contents.namespaces).any(|(a, b)| sums(a) != sums(b));
    if differs {
        return Err(damaged("the archive does not hold what its list of namespaces says"));
    }
    Ok(())
}

fn damaged(message: &str) -> Failure {
    Failure::permanent("BackupDamaged", message)
}
