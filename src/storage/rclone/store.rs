//! The calls of the store.

use super::{
    options::{Mode, RcloneOptions},
    supervisor::Supervisor,
    transfer,
};
use crate::{
    domain::verdict::Failure,
    storage::store::{HashKind, Listed, NativeHash, ObjectPath, ObjectStore, StoreError},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Largest object that [`ObjectStore::get`] reads.
const LARGEST_SMALL: u64 = 64 << 20;
/// Largest object that is sent twice to prove that names are never used twice.
const LARGEST_PROOF: usize = 1 << 20;

/// The store, and the daemon that serves it. Dropping the last clone ends the daemon.
#[derive(Clone)]
pub struct Rclone {
    supervisor: Arc<Supervisor>,
    /// The remote was seen to refuse a name that is taken.
    write_once: Arc<AtomicBool>,
}

impl Rclone {
    /// Starts rclone and proves that it can use the remote.
    ///
    /// # Errors
    /// A configuration without this remote, an rclone that is missing or too old, credentials that are refused, a
    /// remote that does not answer.
    pub async fn start(options: RcloneOptions) -> Result<Self, Failure> {
        let supervisor = Arc::new(Supervisor::start(options).await?);
        Ok(Self { supervisor, write_once: Arc::default() })
    }

    /// Process id of the daemon that runs now, or ran last.
    pub async fn process_id(&self) -> u32 {
        self.supervisor.daemon.lock().await.process_id()
    }

    /// Ends the daemon after letting it save its configuration. Later calls start a new one.
    pub async fn stop(&self) {
        self.supervisor.daemon.lock().await.stop().await;
    }
}

#[async_trait]
impl ObjectStore for Rclone {
    async fn put(&self, path: &ObjectPath, body: Vec<Bytes>) -> Result<(), StoreError> {
        let supervisor = &self.supervisor;
        supervisor.require(supervisor.options.mode != Mode::Read, "store anything")?;
        transfer::put(supervisor, path, &body).await?;
        let size: usize = body.iter().map(Bytes::len).sum();
        if size <= LARGEST_PROOF && !self.write_once.load(Ordering::Relaxed) {
            // The same bytes: should the remote accept them, which is what must not happen, nothing is spoilt.
            match transfer::put(supervisor, path, &body).await {
                Err(StoreError::Exists { .. }) => self.write_once.store(true, Ordering::Relaxed),
                Err(error) => tracing::debug!("write-once is not proven yet: {error}"),
                Ok(()) => {
                    return Err(StoreError::Unusable {
                        detail: format!("it took a second object under the name {path}"),
                    });
                }
            }
        }
        Ok(())
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes, StoreError> {
        let mut stream = transfer::read(Arc::clone(&self.supervisor), path, 0..LARGEST_SMALL + 1).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        if bytes.len() as u64 > LARGEST_SMALL {
            let detail = format!("{path} is larger than {LARGEST_SMALL} bytes, which none of its kind is");
            return Err(StoreError::Unusable { detail });
        }
        Ok(bytes.freeze())
    }

    async fn read(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        transfer::read(Arc::clone(&self.supervisor), path, range).await
    }

    async fn list(
        &self,
        directory: &ObjectPath,
        recursive: bool,
        hashes: bool,
    ) -> Result<Vec<Listed>, StoreError> {
        let kind = self.supervisor.hash.filter(|_| hashes);
        let options = json!({
            "recurse": recursive, "noModTime": true, "noMimeType": true,
            "showHash": kind.is_some(), "hashTypes": kind.map(HashKind::as_str).into_iter().collect::<Vec<_>>(),
        });
        let answer =
            self.supervisor.call("operations/list", json!({"remote": directory, "opt": options})).await;
        let answer = answer.map_err(|error| at(error, directory))?;
        let listing: Listing = serde_json::from_slice(&answer).map_err(|error| StoreError::Unavailable {
            operation: format!("listing {directory:?}"),
            detail: format!("rclone's answer cannot be read: {error}"),
        })?;
        Ok(listing.list.into_iter().map(|entry| entry.listed(kind)).collect())
    }

    async fn make_directory(&self, directory: &ObjectPath) -> Result<(), StoreError> {
        self.supervisor.require(self.supervisor.options.mode != Mode::Read, "make folders")?;
        let answer = self.supervisor.call("operations/mkdir", json!({"remote": directory})).await;
        answer.map(drop).map_err(|error| at(error, directory))
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.supervisor.require(self.supervisor.options.mode == Mode::Prune, "delete")?;
        match self.supervisor.call("operations/deletefile", json!({"remote": path})).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remove_directory(&self, directory: &ObjectPath) -> Result<(), StoreError> {
        self.supervisor.require(self.supervisor.options.mode == Mode::Prune, "delete")?;
        let Err(error) = self.supervisor.call("operations/rmdir", json!({"remote": directory})).await else {
            return Ok(());
        };
        // Every backend has its own words for "not empty" and "not there"; the listing has not.
        match self.list(directory, false, false).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            Ok(entries) if !entries.is_empty() => Ok(()),
            _ => Err(error),
        }
    }

    fn native_hash(&self) -> Option<HashKind> {
        self.supervisor.hash
    }
}

/// Puts the path into an error that does not know it.
fn at(error: StoreError, path: &str) -> StoreError {
    match error {
        StoreError::NotFound { .. } => StoreError::NotFound { path: path.to_owned() },
        other => other,
    }
}

#[derive(Deserialize)]
struct Listing {
    list: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    path: String,
    size: i64,
    is_dir: bool,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

impl Entry {
    fn listed(mut self, kind: Option<HashKind>) -> Listed {
        let hex = kind.and_then(|kind| self.hashes.remove(kind.as_str())).filter(|hex| !hex.is_empty());
        let hash = kind.zip(hex).map(|(kind, hex)| NativeHash { kind, hex: hex.to_ascii_lowercase() });
        // A size that the backend does not know is -1: it equals no expected one.
        let size = if self.is_dir { 0 } else { u64::try_from(self.size).unwrap_or(u64::MAX) };
        Listed { path: self.path, size, is_dir: self.is_dir, hash }
    }
}
