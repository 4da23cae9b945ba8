//! What a deployment holds, as its own catalog says.

use crate::storage::archive::{contents::Kind, metadata::Metadata, namespace::Namespace};
use futures_util::TryStreamExt;
use mongodb::{
    Client,
    bson::{Bson, Document, doc, spec::BinarySubtype},
    error::Error,
};

/// A namespace of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its name.
    pub namespace: Namespace,
    /// What it is.
    pub kind: Kind,
    /// The collection's UUID, hex; empty for views and time series.
    pub uuid: String,
    /// Its options, as `listCollections` gives them.
    pub options: Document,
}

/// All namespaces that people use, of all databases but `admin`, `config` and `local`; of the `system` collections
/// only the stored functions. Of a time series its own name, not its buckets.
///
/// # Errors
/// What the driver says.
pub async fn list(client: &Client) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for database in client.list_database_names().await? {
        if !is_internal(&database) {
            found.extend(database_namespaces(client, &database).await?);
        }
    }
    Ok(found)
}

/// True for the server's own databases.
pub fn is_internal(database: &str) -> bool {
    matches!(database, "admin" | "config" | "local")
}

/// As [`list`], of one database, whichever it is.
///
/// # Errors
/// What the driver says.
pub async fn database_namespaces(client: &Client, database: &str) -> Result<Vec<Found>, Error> {
    let cursor = client.database(database).run_cursor_command(doc! {"listCollections": 1}).await?;
    let all: Vec<Document> = cursor.try_collect().await?;
    Ok(all.into_iter().filter_map(|document| found(database, &document)).collect())
}

fn found(database: &str, document: &Document) -> Option<Found> {
    let name = document.get_str("name").ok()?;
    if name.starts_with("system.") && name != "system.js" {
        return None;
    }
    let uuid = match document.get_document("info").ok().and_then(|info| info.get("uuid")) {
        Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid => {
            data_encoding::HEXLOWER.encode(&binary.bytes)
        }
        _ => String::new(),
    };
    Some(Found {
        namespace: Namespace::new(database, name),
        kind: Kind::parse(document.get_str("type").unwrap_or_default())?,
        uuid,
        options: document.get_document("options").cloned().unwrap_or_default(),
    })
}

/// Options and indexes of a namespace, in the form in which archives and servers can be compared.
///
/// # Errors
/// What the driver says.
pub async fn metadata(client: &Client, found: &Found) -> Result<Metadata, Error> {
    let indexes: Vec<Document> = if found.kind == Kind::View {
        Vec::new()
    } else {
        let Namespace { database, collection } = &found.namespace;
        let command = doc! {"listIndexes": collection};
        client.database(database).run_cursor_command(command).await?.try_collect().await?
    };
    Ok(Metadata::from_server(&found.options, &indexes, &found.uuid))
}
