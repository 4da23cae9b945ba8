//! Users and roles: restored into collections of their own, with what the oplog changed in them, then merged.
//!
//! mongorestore itself would delete every user that is not in the archive, the one that restores included.

use crate::{
    domain::verdict::Failure,
    storage::archive::filter::{RESTORED_ROLES, RESTORED_USERS},
    task::mongodb::{
        connection::Connection,
        failure::{self, Needs},
    },
};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection,
    bson::{Document, RawDocumentBuf, doc},
    error::Error,
};

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Users and roles that are now as in the backup.
    pub(super) restored: u64,
    /// Those that stayed as they were.
    pub(super) kept: Vec<String>,
}

/// A collection of the backup, and the server's own.
const PAIRS: [(&str, &str); 2] = [(RESTORED_USERS, "system.users"), (RESTORED_ROLES, "system.roles")];

/// Removes what an earlier restore may have left.
///
/// # Errors
/// What the driver says.
pub(super) async fn clear(connection: &Connection) -> Result<(), Failure> {
    let client = connection.client()?;
    drop_restored(&client).await.map_err(|e| failure::from_driver_for(&e, connection, Needs::Restore))
}

/// Merges the restored users and roles into the server's. Those that are there stay; with `replace` they become the
/// backup's, but for the user that restores.
///
/// # Errors
/// What the driver says.
pub(super) async fn merge(connection: &Connection, replace: bool) -> Result<Merged, Failure> {
    let client = connection.client()?;
    let merged = try_merge(&client, connection.user(), replace).await;
    // Password hashes do not stay behind, however it went.
    let cleared = drop_restored(&client).await;
    let merged = merged.map_err(|e| failure::from_driver_for(&e, connection, Needs::Restore))?;
    cleared.map_err(|e| failure::from_driver_for(&e, connection, Needs::Restore))?;
    Ok(merged)
}

async fn drop_restored(client: &Client) -> Result<(), Error> {
    for (restored, _) in PAIRS {
        client.database("admin").collection::<Document>(restored).drop().await?;
    }
    Ok(())
}

async fn try_merge(client: &Client, own: Option<&str>, replace: bool) -> Result<Merged, Error> {
    let admin = client.database("admin");
    let names = admin.list_collection_names().await?;
    let mut command = doc! {"_mergeAuthzCollections": 1, "db": "", "drop": replace};
    let mut merged = Merged::default();
    for (restored, system) in PAIRS {
        let key = if system == "system.users" { "tempUsersCollection" } else { "tempRolesCollection" };
        if !names.iter().any(|name| name == restored) {
            continue;
        }
        command.insert(key, format!("admin.{restored}"));
        let restored = admin.collection::<RawDocumentBuf>(restored);
        let before = restored.count_documents(doc! {}).await?;
        let stay = keep(&restored, &admin.collection(system), own, replace).await?;
        merged.restored += before - stay.len() as u64;
        merged.kept.extend(stay);
    }
    if command.len() > 3 {
        command.insert("writeConcern", doc! {"w": "majority"});
        admin.run_command(command).await?;
    }
    Ok(merged)
}

/// Decides about those that are in both, and gives the names of those that stay. When the server will drop what is not
/// in `restored`, everything else that it has is added there first.
async fn keep(
    restored: &Collection<RawDocumentBuf>,
    system: &Collection<RawDocumentBuf>,
    own: Option<&str>,
    replace: bool,
) -> Result<Vec<String>, Error> {
    let mut kept = Vec::new();
    let mut existing = system.find(doc! {}).await?;
    while let Some(document) = existing.try_next().await? {
        let id = document.get_str("_id").unwrap_or_default().to_owned();
        let filter = doc! {"_id": &id};
        let in_both = restored.find_one(filter.clone()).await?.is_some();
        let is_own = own.is_some() && document.get_str("user").ok() == own;
        if in_both && (!replace || is_own) {
            kept.push(id);
        }
        if !replace && in_both {
            restored.delete_one(filter).await?;
        } else if replace && (is_own || !in_both) {
            restored.replace_one(filter, &document).upsert(true).await?;
        }
    }
    Ok(kept)
}
