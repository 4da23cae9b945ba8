//! Whether a database holds what an archive, or another database, held.

use super::catalog::{self, Found};
use crate::storage::archive::{
    contents::{Entry, Kind},
    metadata::Metadata,
    namespace::Namespace,
    scan::DocumentSet,
};
use futures_util::StreamExt;
use mongodb::{
    Client,
    bson::{RawDocumentBuf, doc},
    error::Error,
};
use std::collections::HashMap;

/// How closely documents are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Their number, as the server keeps it.
    Counts,
    /// Every document is read and summed.
    Content,
}

/// What should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub namespace: Namespace,
    /// What it is.
    pub kind: Kind,
    /// Options and indexes.
    pub metadata: Metadata,
    /// Its documents (of a time series, its buckets); `None` when they may differ: writers went on, the oplog changed it.
    pub documents: Option<DocumentSet>,
}

impl Expected {
    /// What a restore of this entry should give; `None` when it is left out.
    pub fn from_entry(entry: &Entry) -> Option<Self> {
        let set = DocumentSet { documents: entry.documents, digest: entry.digest };
        Some(Self {
            namespace: entry.target.clone()?,
            kind: entry.kind,
            metadata: entry.metadata.clone(),
            documents: (!entry.touched && entry.kind != Kind::View).then_some(set),
        })
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub namespace: Namespace,
    /// What.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.namespace, self.what)
    }
}

/// What a whole deployment holds (but the server's own databases), to compare another one with.
///
/// # Errors
/// What the driver says.
pub async fn read(client: &Client, depth: Depth) -> Result<Vec<Expected>, Error> {
    let mut all = Vec::new();
    for found in catalog::list(client).await? {
        let documents = match found.kind {
            Kind::View => None,
            Kind::Collection | Kind::Timeseries => Some(documents(client, &found, depth).await?),
        };
        let metadata = catalog::metadata(client, &found).await?;
        let Found { namespace, kind, .. } = found;
        all.push(Expected { namespace, kind, metadata, documents });
    }
    Ok(all)
}

/// Everything in which the deployment differs from `expected`. Other namespaces in it do not matter.
///
/// # Errors
/// What the driver says.
pub async fn compare(client: &Client, expected: &[Expected], depth: Depth) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    let mut databases: HashMap<String, Vec<Found>> = HashMap::new();
    for expected in expected {
        let database = &expected.namespace.database;
        if !databases.contains_key(database) {
            let namespaces = catalog::database_namespaces(client, database).await?;
            databases.insert(database.clone(), namespaces);
        }
        let found = databases[database].iter().find(|f| f.namespace == expected.namespace);
        let wrong = one(client, expected, found, depth).await?;
        differences
            .extend(wrong.into_iter().map(|what| Difference { namespace: expected.namespace.clone(), what }));
    }
    Ok(differences)
}

async fn one(
    client: &Client,
    expected: &Expected,
    found: Option<&Found>,
    depth: Depth,
) -> Result<Vec<String>, Error> {
    let Some(found) = found else {
        // The oplog may have dropped it again.
        let gone = expected.documents.is_some() || expected.kind == Kind::View;
        let why = if expected.namespace.has_lines() {
            ": mongorestore leaves out names with a newline, give it another one with rename"
        } else {
            ""
        };
        return Ok(if gone {
            vec![format!("the {} is missing{why}", expected.kind.as_str())]
        } else {
            Vec::new()
        });
    };
    if found.kind != expected.kind {
        return Ok(vec![format!("is a {}, not a {}", found.kind.as_str(), expected.kind.as_str())]);
    }
    let mut wrong = Vec::new();
    if let Some(expected) = expected.documents {
        let set = documents(client, found, depth).await?;
        if set.documents != expected.documents {
            wrong.push(format!("{} documents instead of {}", set.documents, expected.documents));
        } else if depth == Depth::Content && set.digest != expected.digest {
            wrong.push("documents differ in content".to_owned());
        }
    }
    wrong.extend(of_metadata(&expected.metadata, &catalog::metadata(client, found).await?));
    Ok(wrong)
}

fn of_metadata(expected: &Metadata, found: &Metadata) -> Vec<String> {
    let mut wrong = Vec::new();
    if expected.options != found.options {
        wrong.push("options differ".to_owned());
    }
    for index in &expected.indexes {
        match found.indexes.iter().find(|f| f.name == index.name) {
            None => wrong.push(format!("the index {:?} is missing", index.name)),
            Some(found) if found.hash != index.hash => {
                wrong.push(format!("the index {:?} differs", index.name))
            }
            Some(_) => {}
        }
    }
    for index in &found.indexes {
        if !expected.indexes.iter().any(|e| e.name == index.name) {
            wrong.push(format!("the index {:?} is not in the backup", index.name));
        }
    }
    wrong
}

/// The documents of a collection, or the buckets of a time series.
async fn documents(client: &Client, found: &Found, depth: Depth) -> Result<DocumentSet, Error> {
    let namespace =
        if found.kind == Kind::Timeseries { found.namespace.buckets() } else { found.namespace.clone() };
    let collection = client.database(&namespace.database).collection::<RawDocumentBuf>(&namespace.collection);
    let mut set = DocumentSet::default();
    match depth {
        Depth::Counts => set.documents = collection.estimated_document_count().await?,
        Depth::Content => {
            let mut cursor = collection.find(doc! {}).batch_size(1000).await?;
            while let Some(document) = cursor.next().await {
                set.add(document?.as_bytes());
            }
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::archive::metadata::IndexSummary;

    fn metadata(options: &str, indexes: &[(&str, &str)]) -> Metadata {
        let index = |&(name, hash): &(&str, &str)| IndexSummary { name: name.into(), hash: hash.into() };
        Metadata {
            options: options.into(),
            indexes: indexes.iter().map(index).collect(),
            uuid: String::new(),
        }
    }

    #[test]
    fn every_difference_is_named() {
        let expected = metadata("o", &[("_id_", "1"), ("a_1", "2"), ("b_1", "3")]);
        assert_eq!(of_metadata(&expected, &expected), Vec::<String>::new());
        assert_eq!(
            of_metadata(&expected, &metadata("", &[("_id_", "1"), ("a_1", "9"), ("c_1", "3")])),
            [
                "options differ",
                "the index \"a_1\" differs",
                "the index \"b_1\" is missing",
                "the index \"c_1\" is not in the backup"
            ]
        );
    }
}
