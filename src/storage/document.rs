//! A small document on the remote that proves by itself that it is whole, and how it is stored under names that are
//! never used twice.

use crate::{
    domain::error::Invalid,
    storage::{
        layout::MAX_DOCUMENT_RETRY,
        store::{ObjectStore, StoreError},
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The value of `format` in every document.
pub const FORMAT: &str = "backstay/1";

/// A document on the remote that proves by itself that it is whole: its `self` field, the last one, is the BLAKE3 of
/// the text with 64 zeros in that place.
pub trait Document: Serialize + serde::de::DeserializeOwned {
    /// The `self` field.
    fn self_hash(&mut self) -> &mut String;

    /// What serde cannot check: names and references.
    ///
    /// # Errors
    /// What is wrong, for a person.
    fn check(&self) -> Result<(), Invalid>;
}

/// Why a document is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It ends too early: its upload was interrupted.
    #[error("it ends in the middle: an interrupted upload")]
    Truncated,
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is whole, but a later program wrote it.
    #[error("it has the format {0:?}, newer than {FORMAT:?}: use a newer backstay")]
    Newer(String),
}

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Fills in `self` and gives the document with its text.
pub fn seal<D: Document>(mut document: D) -> (D, Bytes) {
    ZEROS.clone_into(document.self_hash());
    let text = print(&document);
    let hash = blake3::hash(&text).to_hex().to_string();
    document.self_hash().clone_from(&hash);
    let text = print(&document);
    (document, text)
}

/// The line that ends a text for people: what comes before it, it proves.
const TEXT_END: &str = "\nBLAKE3 of everything above this line: ";

/// Ends a text for people so that [`is_whole_text`] can tell whether it is what was written.
pub fn seal_text(mut text: String) -> String {
    let hash = blake3::hash(text.as_bytes()).to_hex();
    text.push_str(TEXT_END);
    text.push_str(&hash);
    text.push('\n');
    text
}

/// True for what [`seal_text`] gave.
pub fn is_whole_text(text: &[u8]) -> bool {
    let hash_begins = text.len().checked_sub(blake3::OUT_LEN * 2 + 1);
    let Some((before, hash)) = hash_begins.map(|at| text.split_at(at)) else { return false };
    let Some(body) = before.strip_suffix(TEXT_END.as_bytes()) else { return false };
    hash.strip_suffix(b"\n") == Some(blake3::hash(body).to_hex().as_bytes())
}

#[expect(clippy::expect_used, reason = "plain structs with string keys always serialize to memory")]
fn print(document: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec_pretty(document).expect("a document serializes");
    text.push(b'\n');
    text.into()
}

/// Reads a document and proves that it is whole.
///
/// # Errors
/// See [`DocumentError`]. A later format keeps the rule of the `self` field, so that damage is told from novelty.
pub fn open<D: Document>(text: &[u8]) -> Result<D, DocumentError> {
    #[derive(Deserialize)]
    struct Frame {
        format: String,
        #[serde(rename = "self")]
        self_hash: String,
    }
    if !text.ends_with(b"}\n") {
        return Err(DocumentError::Truncated);
    }
    let damaged = |error: serde_json::Error| {
        if error.is_eof() { DocumentError::Truncated } else { DocumentError::Damaged(error.to_string()) }
    };
    let frame: Frame = serde_json::from_slice(text).map_err(damaged)?;
    if !proves(text, &frame.self_hash) {
        return Err(DocumentError::Damaged("its checksum does not match".to_owned()));
    }
    if frame.format != FORMAT {
        return Err(DocumentError::Newer(frame.format));
    }
    let document: D = serde_json::from_slice(text).map_err(damaged)?;
    document.check().map_err(|e| DocumentError::Damaged(e.to_string()))?;
    Ok(document)
}

/// `self` is the last field, so its value is the last place where the hash is written.
fn proves(text: &[u8], hash: &str) -> bool {
    let Some(at) = text.windows(ZEROS.len()).rposition(|window| window == hash.as_bytes()) else {
        return false;
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&text[..at]).update(ZEROS.as_bytes()).update(&text[at + ZEROS.len()..]);
    hasher.finalize().to_hex().as_str() == hash
}

/// A document as it lies on the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name, without the directory.
    pub name: String,
    /// Its text.
    pub text: Bytes,
}

/// Stores documents in one directory under names that are never used twice.
#[derive(Clone, Copy)]
pub struct DocumentWriter<'a> {
    /// Where.
    pub store: &'a dyn ObjectStore,
    /// The directory below the store's root; `""`: the root.
    pub directory: &'a str,
    /// The wait before the second try; four times as long before each further one, at most 64 times.
    pub pause: Duration,
    /// Asked before each try: false once the writer's time is over, when others take it for dead and clean up after it.
    pub in_time: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> DocumentWriter<'a> {
    /// Writes to `directory`, with a second before the second try.
    pub fn new(store: &'a dyn ObjectStore, directory: &'a str) -> Self {
        Self { store, directory, pause: Duration::from_secs(1), in_time: &|| true }
    }

    /// Stores `text` under the first of `name(0)`, `name(1)`… that is free, reads it back and compares. A text that
    /// is there already and that `adopt` accepts is taken instead: another attempt's, or our own whose reply was lost.
    ///
    /// # Errors
    /// The last failure of the store. Whatever it left behind is not accepted by a reader, or is `text`.
    pub async fn put(
        &self,
        name: impl Fn(u32) -> String,
        text: &Bytes,
        adopt: impl Fn(&[u8]) -> bool,
    ) -> Result<Stored, StoreError> {
        let mut last = None;
        for retry in 0..=MAX_DOCUMENT_RETRY {
            let name = name(retry);
            if !(self.in_time)() {
                return Err(StoreError::Unavailable {
                    operation: format!("storing {}/{name}", self.directory),
                    detail: "the task's time is over".to_owned(),
                });
            }
            match self.try_put(&name, text).await {
                Ok(found) if found == *text || adopt(&found) => return Ok(Stored { name, text: found }),
                Ok(_) => {}
                Err(error @ (StoreError::Unavailable { .. } | StoreError::NotFound { .. })) => {
                    last = Some(error);
                    tokio::time::sleep(self.pause * (1 << (2 * retry.min(3)))).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Unavailable {
            operation: format!("storing {}/{}", self.directory, name(0)),
            detail: "the remote keeps something else than it is sent, whatever the name: look at its health, its space, and what lies between"
                .to_owned(),
        }))
    }

    /// What lies under `name` after trying to store `text` there: an upload that failed may have been whole.
    async fn try_put(&self, name: &str, text: &Bytes) -> Result<Bytes, StoreError> {
        let path =
            if self.directory.is_empty() { name.to_owned() } else { format!("{}/{name}", self.directory) };
        match self.store.put(&path, vec![text.clone()]).await {
            Ok(()) | Err(StoreError::Exists { .. }) => self.store.get(&path).await,
            Err(failed) => self.store.get(&path).await.map_err(|_| failed),
        }
    }
}
