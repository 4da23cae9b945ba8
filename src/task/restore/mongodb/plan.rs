//! What would be restored, and what of it is there already.

use super::rights;
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::archive::{
        contents::{Entry, Kind},
        filter::Filter,
        namespace::Namespace,
    },
    task::mongodb::{
        catalog::{self, Found},
        connection::Connection,
        failure::{self, Needs},
    },
};
use mongodb::{Client, bson::Document};
use std::collections::BTreeSet;

/// What a restore would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All of the backup; `target` is the name under which an entry is restored, `None` when it is not.
    pub entries: Vec<Entry>,
    /// Namespaces that exist in the target and hold something, with their number of documents.
    pub occupied: Vec<(Namespace, u64)>,
}

/// Applies the filter to the list of namespaces and looks at the target.
///
/// # Errors
/// Nothing that fits, two namespaces that would be one, a target that cannot be read, or not be written by this user.
pub(super) async fn make(
    connection: &Connection,
    mut entries: Vec<Entry>,
    filter: &Filter,
) -> Result<Plan, Failure> {
    let mut targets = BTreeSet::new();
    for entry in &mut entries {
        entry.target = filter.target(&entry.namespace);
        if let Some(target) = &entry.target
            && !targets.insert(target.clone())
        {
            return Err(Failure::permanent(
                "RenameCollides",
                format!("two namespaces would be restored as {target}"),
            )
            .fix("correct rename"));
        }
    }
    if targets.is_empty() {
        let message =
            format!("none of the backup's {} namespaces fits what is to be restored", entries.len());
        return Err(Failure::new(Verdict::Permanent, "NothingSelected", message).fix("correct include"));
    }
    targets.retain(|target| !catalog::is_internal(&target.database));
    let client = connection.client()?;
    let occupied = occupied(&client, &targets)
        .await
        .map_err(|e| failure::from_driver_for(&e, connection, Needs::Restore))?;
    let databases = targets.iter().map(|target| target.database.as_str()).collect();
    rights::check(&client, connection, &databases, !occupied.is_empty()).await?;
    Ok(Plan { entries, occupied })
}

impl Plan {
    /// # Errors
    /// A target that holds something, unless it may be replaced.
    pub(super) fn refuse_to_replace(&self, replace: bool, connection: &Connection) -> Result<(), Failure> {
        if replace || self.occupied.is_empty() {
            return Ok(());
        }
        let named: Vec<_> = self
            .occupied
            .iter()
            .take(5)
            .map(|(n, documents)| format!("{n} ({documents} documents)"))
            .collect();
        Err(Failure::permanent(
            "TargetNotEmpty",
            format!(
                "{} of the namespaces to be restored exist at {}: {}; nothing was changed",
                self.occupied.len(),
                connection.hosts(),
                named.join(", ")
            ),
        )
        .fix("restore into another database with rename, or confirm that they may be replaced"))
    }
}

/// Views and time series count as occupied also when they are empty: they cannot be restored into.
async fn occupied(
    client: &Client,
    targets: &BTreeSet<Namespace>,
) -> Result<Vec<(Namespace, u64)>, mongodb::error::Error> {
    let databases: BTreeSet<&str> = targets.iter().map(|t| t.database.as_str()).collect();
    let mut occupied = Vec::new();
    for database in databases {
        for Found { namespace, kind, .. } in catalog::database_namespaces(client, database).await? {
            if !targets.contains(&namespace) {
                continue;
            }
            let documents = if kind == Kind::Collection {
                let collection = client.database(database).collection::<Document>(&namespace.collection);
                collection.estimated_document_count().await?
            } else {
                0
            };
            if documents > 0 || kind != Kind::Collection {
                occupied.push((namespace, documents));
            }
        }
    }
    Ok(occupied)
}
