//! A MongoDB deployment as a source: one stream of mongodump, checked while it is stored.
//!
//! 1. Secrets and connection string become a [`Connection`]; one member is chosen ([`member`]).
//! 2. The catalog is read; [`dump`] runs mongodump on that member, its archive goes through the parser and filter of
//!    [`crate::storage::archive`] into a pack.
//! 3. The catalog is read again; what was there all the time must be in the archive ([`expect`]).
//! 4. Only then the pack is finished, and the list of namespaces stored.
//!
//! A dump that the oplog would not carry (a rename, `$out`, a roll-over) is made again, as an attempt of its own with
//! new object names, and then, where the policy allows it, without the oplog.

mod dump;
mod expect;
mod oplog;
mod preflight;

pub use preflight::preflight;

use crate::{
    domain::{
        names::{AttemptId, SourceName},
        policy::{Mongodb, OplogMode},
        snapshot::Consistency,
        verdict::Failure,
    },
    storage::{
        archive::{
            contents::{Contents, Entry, Kind, Oplog},
            filter::Filter,
            listing,
        },
        document::FORMAT,
        layout::{PackId, Prefix},
        manifest::{Counts, DumpInfo, OplogWindow, SourceKind, SourceRecord, StoreMode, Window},
        pack::writer::{PackOptions, PackWriter},
    },
    task::{
        clock,
        context::SourceContext,
        mongodb::{
            catalog,
            connection::Connection,
            failure::OPLOG_INTERRUPTED,
            member::{self, Member, Topology},
            tool::Tools,
        },
    },
};
use jiff::Timestamp;
use mongodb::{Client, bson::doc};
use oplog::why_no_oplog;
use std::time::Duration;

/// Stores a deployment with the tools of `PATH`. The record's `self` is still empty.
///
/// # Errors
/// What a person or a later attempt can do about it; nothing that was stored is referred to then.
pub async fn store(context: &SourceContext, mongodb: &Mongodb) -> Result<SourceRecord, Failure> {
    store_with(context, mongodb, &Tools::default()).await
}

/// As [`store`], with these tools and limits.
///
/// # Errors
/// As [`store`].
pub async fn store_with(
    context: &SourceContext,
    mongodb: &Mongodb,
    tools: &Tools,
) -> Result<SourceRecord, Failure> {
    let connection = Connection::resolve(&mongodb.connection, "mongodb").await?;
    let mut attempt = context.attempt.clone();
    let mut fallback = None;
    let mut again = true;
    loop {
        let work = Attempt { context, mongodb, tools, connection: &connection, attempt: &attempt };
        let failure = match work.run(fallback.as_deref()).await {
            Err(failure) if failure.reason == OPLOG_INTERRUPTED && fallback.is_none() => failure,
            done => return done,
        };
        if again {
            again = false;
            tracing::warn!("{}; trying again in {} s", failure.message, tools.pause.as_secs());
            tokio::time::sleep(tools.pause).await;
        } else if mongodb.oplog == OplogMode::Auto {
            tracing::warn!("{}; dumping without the oplog", failure.message);
            fallback = Some(format!("twice the oplog could not carry the dump ({})", failure.message));
        } else {
            return Err(failure.fix(
                "end what renames collections or writes with $out during the dump, enlarge the oplog if it rolled over (replSetResizeOplog), or allow a dump without it: mongodb.oplog: Auto",
            ));
        }
        attempt = another(&attempt);
    }
}

/// An attempt with other object names than `attempt`: no name is ever used twice.
fn another(attempt: &AttemptId) -> AttemptId {
    loop {
        let random = getrandom::u32().unwrap_or_else(|_| std::process::id());
        let new = AttemptId::new(clock::now(), random as u16);
        if new != *attempt {
            return new;
        }
    }
}

/// One attempt to dump.
struct Attempt<'a> {
    context: &'a SourceContext,
    mongodb: &'a Mongodb,
    tools: &'a Tools,
    connection: &'a Connection,
    attempt: &'a AttemptId,
}

/// What is known of the server before the dump.
struct Server {
    member: Member,
    client: Client,
    version: String,
    feature_version: String,
    /// How far back the oplog goes, seconds.
    oplog_seconds: Option<u32>,
}

impl Attempt<'_> {
    /// `fallback`: why the oplog is not used although it could be.
    async fn run(&self, fallback: Option<&str>) -> Result<SourceRecord, Failure> {
        let server = self.server().await?;
        let reason = match fallback {
            Some(reason) => Some(reason.to_owned()),
            None => why_no_oplog(server.member.topology, self.mongodb.oplog)?,
        };
        let start = clock::now();
        let filter = self.filter();
        self.context.store.make_directory(&self.context.directory()).await?;
        let before = member::timely(self.connection, catalog::list(&server.client)).await?;
        let dump = dump::Dump {
            connection: self.connection,
            member: &server.member.address,
            tools: self.tools,
            oplog: reason.is_none(),
            parallel: self.mongodb.parallel_collections,
        };
        let (contents, writer) = dump.run(filter.clone(), self.writer(), self.context.meter.clone()).await?;
        let after = member::timely(self.connection, catalog::list(&server.client)).await?;
        expect::check(&before, &after, &filter, &contents, reason.is_none())?;
        let end = clock::now();
        self.warn_of_lines(&contents);
        warn_of_a_short_oplog(start, end, server.oplog_seconds);
        let finish = tokio::task::spawn_blocking(move || writer.finish());
        let finished = finish.await.map_err(|_| Failure::temporary("Interrupted", "storing was stopped"))?;
        let (pack, _) = finished?;
        let index = listing::store(self.context.store.clone(), &self.pack(), &contents.namespaces).await?;
        Ok(SourceRecord {
            format: FORMAT.to_owned(),
            source: SourceName::mongodb(),
            kind: SourceKind::Mongodb,
            attempt: self.attempt.clone(),
            base: None,
            mode: StoreMode::Full,
            mode_reason: "a dump is always whole".to_owned(),
            window: Window { start, end },
            counts: counts(&contents),
            index,
            packs: vec![pack],
            dump: Some(info(&server, &contents, reason)),
            self_hash: String::new(),
        })
    }

    async fn server(&self) -> Result<Server, Failure> {
        let (member, refused) = member::choose(self.connection, self.mongodb.member).await?;
        refused.into_iter().for_each(|remark| self.context.meter.remark(remark));
        tracing::info!("reading {} ({})", member.address, member.role());
        let client = self.connection.member(&member.address)?;
        let build = member::command(self.connection, &client, doc! {"buildInfo": 1}).await?;
        let oplog_seconds = match member.topology {
            Topology::ReplicaSet if self.mongodb.oplog != OplogMode::Never => {
                let window = member::oplog_window(self.connection, &client).await?;
                window.map(|(first, last)| last.time.saturating_sub(first.time))
            }
            _ => None,
        };
        Ok(Server {
            version: build.get_str("version").unwrap_or_default().to_owned(),
            feature_version: member::feature_version(self.connection, &client).await?,
            member,
            client,
            oplog_seconds,
        })
    }

    /// mongodump takes names of several lines; mongorestore leaves them out and says nothing.
    fn warn_of_lines(&self, contents: &Contents) {
        let names = kept(contents).filter_map(|entry| entry.target.as_ref()).filter(|name| name.has_lines());
        let names: Vec<_> = names.map(|name| format!("{:?}", name.to_string())).collect();
        if !names.is_empty() {
            self.context.meter.remark(format!(
                "{} is in the backup, but mongorestore leaves out names with a newline: rename it, or rename it when it is restored",
                names.join(", ")
            ));
        }
    }

    fn filter(&self) -> Filter {
        let Mongodb { include, exclude, .. } = self.mongodb;
        Filter { include: include.clone(), exclude: exclude.clone(), ..Filter::everything() }
    }

    fn pack(&self) -> PackId {
        let prefix = Prefix { source: SourceName::mongodb(), attempt: self.attempt.clone() };
        PackId { snapshot: self.context.snapshot.clone(), prefix }
    }

    fn writer(&self) -> PackWriter {
        let SourceContext { store, part_bytes, memory_bytes, transfers, .. } = self.context;
        let options = PackOptions {
            directory: self.context.directory(),
            prefix: self.pack().prefix.to_string(),
            stream: "archive",
            part_bytes: *part_bytes,
            memory_bytes: *memory_bytes,
            transfers: *transfers,
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(4),
        };
        PackWriter::start(options, store.clone())
    }
}

fn warn_of_a_short_oplog(start: Timestamp, end: Timestamp, oplog_seconds: Option<u32>) {
    let took = Duration::try_from(end.duration_since(start)).unwrap_or_default();
    if let Some(seconds) = oplog_seconds
        && took.as_secs() > u64::from(seconds) / 2
        // The oplog of a young deployment is short because nothing happened before.
        && took > Duration::from_secs(60)
    {
        tracing::warn!(
            "the dump took {} s and the oplog covers only {seconds} s: enlarge it (replSetResizeOplog)",
            took.as_secs()
        );
    }
}

fn kept(contents: &Contents) -> impl Iterator<Item = &Entry> {
    contents.namespaces.iter().filter(|entry| entry.target.is_some())
}

/// Of a dump, `files` are the collections that people made, and `new` all documents.
fn counts(contents: &Contents) -> Counts {
    let people = |e: &&Entry| e.kind != Kind::View && !catalog::is_internal(&e.namespace.database);
    Counts {
        files: kept(contents).filter(people).count() as u64,
        bytes: kept(contents).map(|e| e.bytes).sum(),
        new: kept(contents).map(|e| e.documents).sum(),
        ..Counts::default()
    }
}

fn info(server: &Server, contents: &Contents, reason: Option<String>) -> DumpInfo {
    let text = |(seconds, increment): (u32, u32)| format!("{seconds}.{increment}");
    let window = |oplog: &Oplog| OplogWindow {
        start: text(oplog.first),
        end: text(oplog.last),
        entries: oplog.entries,
    };
    DumpInfo {
        class: if reason.is_none() { Consistency::PointInTime } else { Consistency::Fuzzy },
        class_reason: reason.unwrap_or_default(),
        oplog: contents.oplog.as_ref().map(window),
        topology: server.member.topology.as_str().to_owned(),
        member_role: server.member.role().to_owned(),
        server_version: server.version.clone(),
        tool_version: contents.tool_version.clone(),
        feature_compatibility_version: server.feature_version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::Verdict;

    #[test]
    fn the_class_is_honest() {
        let reason = |topology, mode| why_no_oplog(topology, mode).unwrap();
        assert_eq!(reason(Topology::ReplicaSet, OplogMode::Auto), None);
        assert_eq!(reason(Topology::ReplicaSet, OplogMode::Required), None);
        for (topology, mode, word) in [
            (Topology::ReplicaSet, OplogMode::Never, "Never"),
            (Topology::Standalone, OplogMode::Auto, "no oplog"),
            (Topology::Sharded, OplogMode::Auto, "sharded"),
        ] {
            assert!(reason(topology, mode).unwrap().contains(word));
        }
        let failure = why_no_oplog(Topology::Standalone, OplogMode::Required).unwrap_err();
        assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Permanent, "NoOplog"));
    }

    #[test]
    fn another_attempt_has_another_name() {
        let first = AttemptId::new(clock::now(), 7);
        assert!((0..100).all(|_| another(&first) != first));
    }
}
