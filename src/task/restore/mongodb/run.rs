//! One restore from its first look to the comparison at its end.

use super::{
    feed,
    job::{Job, MongoReport, damaged},
    parts, plan, users,
};
use crate::{
    domain::{snapshot::Consistency, verdict::Failure},
    storage::{
        archive::{
            contents::{Contents, Entry, Kind},
            listing,
        },
        pack::reader::PackReader,
    },
    task::mongodb::{
        catalog,
        compare::{self, Expected},
        failure::{self, Needs},
    },
};

/// Differences that are named; all are counted.
const NAMED: usize = 50;

impl Job<'_> {
    pub(super) async fn run(&self) -> Result<MongoReport, Failure> {
        let replay = self.record.dump.as_ref().is_some_and(|dump| dump.class == Consistency::PointInTime);
        let filter = self.options.filter(replay);
        let entries = listing::load(&*self.store, self.record).await?;
        let plan = plan::make(self.connection, entries, &filter).await?;
        plan.refuse_to_replace(self.options.replace, self.connection)?;
        let pack = self.record.packs.first().ok_or_else(|| damaged("the record names no pack"))?;
        let reader = PackReader::open(self.store.clone(), pack).await?;
        parts::check(&*self.store, &reader, pack, self.meter).await?;
        self.meter.changes();
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
            changed_by_oplog: expected
                .iter()
                .filter(|e| e.documents.is_none() && e.kind != Kind::View)
                .count() as u64,
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
