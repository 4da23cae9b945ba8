//! What the attempts of a run left in the snapshot's directory: their source records, and whether everything that a
//! record names is there.

use crate::{
    domain::{
        names::{SnapshotName, SourceName},
        verdict::{Failure, Verdict},
    },
    storage::{
        document::{self, DocumentError},
        layout::{self, AttemptObject, ObjectName, PackId},
        manifest::{PackRef, SourceRecord, StoredObject},
        pack::reader::{PackReader, PartRecord},
        store::{Listed, ObjectStore, StoreError},
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Objects of some directories, by path.
#[derive(Debug, Default)]
pub struct Listing(BTreeMap<String, Listed>);

impl Listing {
    /// Lists `directories`, with native hashes. One that does not exist has no objects.
    ///
    /// # Errors
    /// Any listing that failed.
    pub async fn of(
        store: &dyn ObjectStore,
        directories: impl IntoIterator<Item = &str>,
    ) -> Result<Self, StoreError> {
        let mut objects = BTreeMap::new();
        for directory in directories {
            match store.list(directory, false, true).await {
                Err(StoreError::NotFound { .. }) => {}
                listed => objects.extend(listed?.into_iter().map(|entry| (entry.path.clone(), entry))),
            }
        }
        Ok(Self(objects))
    }

    fn find(&self, directory: &str, name: &str) -> Option<&Listed> {
        self.0.get(&format!("{directory}/{name}"))
    }
}

/// The valid source records of `source` in the directory of `snapshot`, best first: a complete one before one with
/// unreadable files, then the earliest attempt, so that a twin that ends later changes nothing.
///
/// # Errors
/// A record that cannot be read, or is of a later format.
pub async fn records(
    store: &dyn ObjectStore,
    snapshot: &SnapshotName,
    source: &SourceName,
    listing: &Listing,
) -> Result<Vec<SourceRecord>, Failure> {
    let directory = layout::directory(snapshot);
    let mut records: Vec<SourceRecord> = Vec::new();
    for path in listing.0.keys() {
        let Some(name) = path.strip_prefix(&directory).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let Some(ObjectName::OfAttempt(prefix, AttemptObject::SourceRecord(_))) = ObjectName::parse(name)
        else {
            continue;
        };
        if prefix.source != *source || records.iter().any(|record| record.attempt == prefix.attempt) {
            continue;
        }
        match document::open::<SourceRecord>(&store.get(path).await?) {
            Ok(record) if record.prefix() == prefix => records.push(record),
            Ok(_) => tracing::warn!("{path} is the record of another attempt; it is left out"),
            Err(error @ DocumentError::Newer(_)) => {
                return Err(Failure::permanent("RecordNewer", format!("{path}: {error}")));
            }
            Err(error) => tracing::warn!("{path} is left out: {error}"),
        }
    }
    records.sort_by_key(|record| (!record.is_complete(), record.attempt.clone()));
    Ok(records)
}

/// Proves that everything that `record` names is stored: each parts list and index object by its BLAKE3, each part by
/// its size and, where the store knows one, its native hash.
///
/// # Errors
/// `StoredBytesMissing`, by object, or the store's failure.
pub async fn prove(
    store: &Arc<dyn ObjectStore>,
    snapshot: &SnapshotName,
    record: &SourceRecord,
    listing: &Listing,
) -> Result<(), Failure> {
    let directory = layout::directory(snapshot);
    // The index is up to 4 MiB an object: two at once bound the memory.
    stream::iter(record.index.objects.clone())
        .map(|object| prove_object(&**store, format!("{directory}/{}", object.name), object))
        .buffer_unordered(2)
        .try_collect::<Vec<()>>()
        .await?;
    for pack in &record.packs {
        prove_pack(store, pack, listing).await?;
    }
    Ok(())
}

async fn prove_object(store: &dyn ObjectStore, path: String, object: StoredObject) -> Result<(), Failure> {
    let text = store.get(&path).await.map_err(|error| missing(&path, error))?;
    if text.len() as u64 != object.stored || blake3::hash(&text).to_hex().as_str() != object.blake3 {
        return Err(lost(format!("{path} is not what was stored")));
    }
    Ok(())
}

async fn prove_pack(store: &Arc<dyn ObjectStore>, pack: &PackRef, listing: &Listing) -> Result<(), Failure> {
    let id: PackId = pack
        .id
        .parse()
        .map_err(|e: crate::domain::error::Invalid| Failure::permanent("RecordInvalid", e.to_string()))?;
    let reader =
        PackReader::open(Arc::clone(store), pack).await.map_err(|failure| match failure.verdict {
            Verdict::Permanent => lost(failure.message),
            _ => failure,
        })?;
    let directory = id.directory();
    for part in reader.parts() {
        compare(part, listing.find(&directory, &part.object))
            .map_err(|why| lost(format!("{directory}/{}: {why}", part.object)))?;
    }
    Ok(())
}

fn compare(part: &PartRecord, listed: Option<&Listed>) -> Result<(), String> {
    let listed = listed.ok_or("it is not there")?;
    if listed.size != part.stored_bytes {
        return Err(format!("it has {} bytes instead of {}", listed.size, part.stored_bytes));
    }
    match &listed.hash {
        // A part sent before the remote had this hash has none to compare.
        Some(hash) if !part.native.is_empty() && hash.to_string() != part.native => {
            Err(format!("its {} is not the one that was computed on the way", hash.kind))
        }
        _ => Ok(()),
    }
}

fn lost(message: String) -> Failure {
    Failure::temporary("StoredBytesMissing", message)
}

fn missing(path: &str, error: StoreError) -> Failure {
    match error {
        StoreError::NotFound { .. } => lost(format!("{path} is not there")),
        error => error.into(),
    }
}

/// The directories that hold what `records` name, the snapshot's own among them.
pub fn directories<'a>(
    snapshot: &SnapshotName,
    records: impl IntoIterator<Item = &'a SourceRecord>,
) -> BTreeSet<String> {
    let packs = records.into_iter().flat_map(|record| &record.packs);
    let of_packs =
        packs.filter_map(|pack| pack.id.rsplit_once('/')).map(|(directory, _)| directory.to_owned());
    of_packs.chain([layout::directory(snapshot)]).collect()
}
