//! The proof that a dump restores: into a server to throw away, with every document compared.

use super::job::{Job, MongoOptions, MongoReport};
use crate::{
    domain::verdict::Failure,
    storage::{manifest::SourceRecord, store::ObjectStore},
    task::{
        context::Meter,
        mongodb::{compare::Depth, scratch::ScratchServer, tool::Tools},
    },
};
use std::{path::Path, sync::Arc};

/// Restores the dump of `record` into a scratch server with its data below `folder`, compares every document, index and
/// option with what was dumped, and ends the server. The folder stays for the caller to remove.
///
/// # Errors
/// What kept the proof from being made; differences are in the report.
pub async fn drill(
    store: Arc<dyn ObjectStore>,
    record: &SourceRecord,
    folder: &Path,
    tools: &Tools,
    meter: &Meter,
) -> Result<MongoReport, Failure> {
    meter.begin("mongodb: starting a scratch server", None);
    let server = ScratchServer::start(&tools.mongod, folder).await?;
    let options = MongoOptions::default();
    let connection = server.connection();
    let job = Job { store, record, options: &options, connection, tools, meter, depth: Depth::Content };
    let outcome = job.run().await;
    server.stop().await;
    outcome
}
