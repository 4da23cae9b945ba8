//! The object store as this crate sees it: a flat set of write-once objects below one instance's folder.
//!
//! [`ObjectStore`] is implemented by the rclone daemon and, for tests of every kill point, by a model in memory.

use crate::domain::verdict::{Failure, Verdict};
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::stream::BoxStream;
use sha2::Digest;
use std::{fmt, ops::Range, str::FromStr};

/// Path of an object below the store's root: names of `[A-Za-z0-9._-]` joined by `/`.
pub type ObjectPath = str;

/// One object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Path below the store's root.
    pub path: String,
    /// Size in bytes; 0 for a directory.
    pub size: u64,
    /// True for a directory.
    pub is_dir: bool,
    /// The backend's own hash of the stored bytes, lower-case hex, where it has one.
    pub hash: Option<NativeHash>,
}

/// A hash that a backend computes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeHash {
    /// Which.
    pub kind: HashKind,
    /// Lower-case hex.
    pub hex: String,
}

impl fmt::Display for NativeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.hex)
    }
}

/// Native hashes that can be computed while sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashKind {
    /// `md5`
    Md5,
    /// `sha1`
    Sha1,
    /// `sha256`
    Sha256,
}

impl HashKind {
    /// All kinds, the one that is cheapest to compute first.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Md5, Self::Sha256];

    /// rclone's name of it, also the word in a parts list.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Begins to hash a stream.
    pub fn hasher(self) -> NativeHasher {
        NativeHasher(match self {
            Self::Md5 => Hasher::Md5(md5::Md5::default()),
            Self::Sha1 => Hasher::Sha1(sha1::Sha1::default()),
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::default()),
        })
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HashKind {
    type Err = UnknownHash;
    fn from_str(text: &str) -> Result<Self, UnknownHash> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownHash)
    }
}

/// A hash that this crate does not compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of sha1, md5, sha256")]
pub struct UnknownHash;

/// A native hash in the making.
#[derive(Debug, Clone)]
pub struct NativeHasher(Hasher);

#[derive(Debug, Clone)]
enum Hasher {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

impl NativeHasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Hasher::Md5(h) => h.update(bytes),
            Hasher::Sha1(h) => h.update(bytes),
            Hasher::Sha256(h) => h.update(bytes),
        }
    }

    /// The hash of everything taken in.
    pub fn finish(self) -> NativeHash {
        let (kind, hex) = match self.0 {
            Hasher::Md5(h) => (HashKind::Md5, HEXLOWER.encode(&h.finalize())),
            Hasher::Sha1(h) => (HashKind::Sha1, HEXLOWER.encode(&h.finalize())),
            Hasher::Sha256(h) => (HashKind::Sha256, HEXLOWER.encode(&h.finalize())),
        };
        NativeHash { kind, hex }
    }
}

/// Why an operation on the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object or directory.
    #[error("{path} does not exist on the remote")]
    NotFound {
        /// Path below the store's root.
        path: String,
    },
    /// The name is taken, and objects are never rewritten.
    #[error("{path} exists already")]
    Exists {
        /// Path below the store's root.
        path: String,
    },
    /// Credentials were refused.
    #[error("the remote refused the credentials: {detail}")]
    Credentials {
        /// What the remote said.
        detail: String,
    },
    /// No space or quota is left.
    #[error("the remote is full: {detail}")]
    Full {
        /// What the remote said.
        detail: String,
    },
    /// The configuration names no such remote, or rclone cannot use it.
    #[error("the remote cannot be used: {detail}")]
    Unusable {
        /// What rclone said.
        detail: String,
    },
    /// Anything that may go better next time: no answer, a reset, a 500.
    #[error("{operation} failed: {detail}")]
    Unavailable {
        /// What was tried, with the path.
        operation: String,
        /// What came back.
        detail: String,
    },
}

impl StoreError {
    /// True when the same call, under another name for an upload, may go better: no person has to change anything.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Exists { .. } | Self::NotFound { .. })
    }
}

/// An object store. All calls are safe to repeat; nothing inside retries a whole call.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Stores `body` (its chunks in order) as a new object.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken. After any other error the name may be taken by a part of the
    /// body: try again under another name.
    async fn put(&self, path: &ObjectPath, body: Vec<Bytes>) -> Result<(), StoreError>;

    /// The whole of a small object (manifests, lists, records: at most 64 MiB).
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or what kept it from being read to its end.
    async fn get(&self, path: &ObjectPath) -> Result<Bytes, StoreError>;

    /// The bytes of an object in `range` as a stream, resumed at the last good byte when the connection breaks; an
    /// open end is `u64::MAX`. Ends early only with an error.
    ///
    /// # Errors
    /// As [`ObjectStore::get`].
    async fn read(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError>;

    /// Everything directly below `directory` (`""`: the root), or below it at any depth; native hashes when `hashes`.
    /// Complete or an error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such directory.
    async fn list(
        &self,
        directory: &ObjectPath,
        recursive: bool,
        hashes: bool,
    ) -> Result<Vec<Listed>, StoreError>;

    /// Makes a directory and its parents, so that parallel uploads do not each make their own on stores that allow
    /// twins. No error when it is there, or where the store has none.
    ///
    /// # Errors
    /// As the kind tells.
    async fn make_directory(&self, directory: &ObjectPath) -> Result<(), StoreError>;

    /// Deletes an object; no error when it is absent. Only a store opened for pruning can.
    ///
    /// # Errors
    /// As the kind tells.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError>;

    /// Removes an empty directory; no error when it is absent or not empty.
    ///
    /// # Errors
    /// As the kind tells.
    async fn remove_directory(&self, directory: &ObjectPath) -> Result<(), StoreError>;

    /// The hash that this store can list, if any of the kinds.
    fn native_hash(&self) -> Option<HashKind>;
}

/// What to change, by what rclone said, in lower case.
fn way_out(detail: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    match () {
        () if says(&["permission denied", "operation not permitted", "read-only file system"]) => {
            "let the user that Backstay runs as read and write there: owner and mode of the folder, or how it is mounted"
        }
        () if says(&["section in config file", "backend called"]) => {
            "compare destination.remote with `rclone listremotes` on the same configuration"
        }
        () => "look at destination.path, and at the remote in the rclone configuration",
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound { .. } => Self::permanent("ObjectMissing", message),
            StoreError::Exists { .. } => Self::temporary("NameTaken", message),
            StoreError::Credentials { .. } => {
                Self::new(Verdict::Credentials, "RemoteCredentialsRefused", message).fix(
                    "renew the remote's login in the rclone configuration: rclone config reconnect REMOTE:",
                )
            }
            StoreError::Full { .. } => Self::permanent("RemoteFull", message)
                .fix("free space on the remote or raise its quota; with lower retention, `backstay prune` frees what is older than two days and the longest run"),
            StoreError::Unusable { detail } => {
                Self::permanent("RemoteUnusable", message).fix(way_out(&detail.to_ascii_lowercase()))
            }
            StoreError::Unavailable { .. } => Self::temporary("RemoteUnavailable", message),
        }
    }
}
