//! Restoring a dump: from a source record into a deployment.
//!
//! 1. [`plan`]: the list of namespaces, through the filter, says what will be there; a target that holds documents of
//!    one of them is refused unless it may be replaced, and so is a user who may not restore.
//! 2. [`parts`]: all parts are compared with the remote's listing (or read once), before the database is touched.
//! 3. [`feed`]: part by part, each verified before a byte goes on, through the filter into mongorestore.
//! 4. [`users`]: merged, when they were asked for; none that is there is ever lost.
//! 5. What is in the deployment is compared with the list.

mod drill;
mod feed;
mod job;
mod parts;
mod plan;
mod rights;
mod run;
mod users;

pub use drill::drill;
pub use job::{MongoOptions, MongoReport};

use crate::{
    domain::{policy::MongoConnection, verdict::Failure},
    storage::{archive::listing, manifest::SourceRecord, store::ObjectStore},
    task::{
        context::Meter,
        mongodb::{compare::Depth, connection::Connection, tool::Tools},
    },
};
use job::Job;
use std::sync::Arc;

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
