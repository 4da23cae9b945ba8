//! Reading a pack: whole parts, verified before a byte is handed on, or ranges of frames.

use super::list;
pub use super::list::PartRecord;
use crate::{
    domain::verdict::Failure,
    storage::{
        manifest::{PackRef, PartListRef},
        store::{ObjectStore, StoreError},
    },
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::{ops::Range, sync::Arc};

/// A pack whose parts lists have been read and checked.
pub struct PackReader {
    store: Arc<dyn ObjectStore>,
    directory: String,
    parts: Vec<PartRecord>,
    largest_part: u64,
}

impl PackReader {
    /// Reads and checks the parts lists of a pack.
    ///
    /// # Errors
    /// A list that is missing, damaged or does not add up to what the manifest says; the message names the object.
    pub async fn open(store: Arc<dyn ObjectStore>, pack: &PackRef) -> Result<Self, Failure> {
        let directory = pack.id.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
        let mut reader = Self { store, directory, parts: Vec::new(), largest_part: 0 };
        for list in &pack.part_lists {
            let mut parts = reader.list(list).await?;
            reader.parts.append(&mut parts);
        }
        let stored: u64 = reader.parts.iter().map(|part| part.stored_bytes).sum();
        if (reader.parts.len() as u64, stored) != (pack.parts, pack.stored) {
            return Err(damaged(format!(
                "pack {} has {} parts and {stored} bytes by its lists, {} parts and {} bytes by the manifest",
                pack.id,
                reader.parts.len(),
                pack.parts,
                pack.stored
            )));
        }
        reader.largest_part = reader.parts.iter().map(|part| part.stored_bytes).max().unwrap_or(0);
        Ok(reader)
    }

    async fn list(&self, list: &PartListRef) -> Result<Vec<PartRecord>, Failure> {
        let path = self.path(&list.name);
        let text = self.store.get(&path).await.map_err(|error| failed(&path, error))?;
        if blake3::hash(&text).to_hex().as_str() != list.blake3 {
            return Err(damaged(format!("{path} is damaged: it is not the parts list that was written")));
        }
        list::parse(&text).map_err(|wrong| damaged(format!("{path} is damaged: {wrong}")))
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[PartRecord] {
        &self.parts
    }

    /// Bytes of the largest part.
    pub fn largest_part(&self) -> u64 {
        self.largest_part
    }

    /// The zstd bytes of a part, after its BLAKE3 was compared.
    ///
    /// # Errors
    /// A part that is missing or damaged, by name.
    pub async fn part(&self, n: u32) -> Result<Bytes, Failure> {
        self.part_into(n, BytesMut::new()).await
    }

    /// The same in the memory of `bytes`, which then is enough for any part: taking and giving back such pieces for
    /// each part leaves holes, and a restore took half as much memory again.
    ///
    /// # Errors
    /// As [`PackReader::part`].
    pub async fn part_into(&self, n: u32, mut bytes: BytesMut) -> Result<Bytes, Failure> {
        let part = self.record(n)?;
        let path = self.path(&part.object);
        self.make_room(&mut bytes);
        // One byte more than there should be: an object that grew is damaged too.
        self.fetch(&path, 0..part.stored_bytes.saturating_add(1), &mut bytes).await?;
        if bytes.len() as u64 != part.stored_bytes {
            let (found, size) = (bytes.len(), part.stored_bytes);
            return Err(damaged(format!("{path} is damaged: it should have {size} bytes and has {found}")));
        }
        if blake3::hash(&bytes).to_hex().as_str() != part.blake3 {
            return Err(damaged(format!("{path} is damaged: its bytes are not those that were stored")));
        }
        Ok(bytes.freeze())
    }

    /// `length` zstd bytes from `offset` in part `n`, running into later parts. Not verified: the frames' own
    /// checksums and the files' hashes do that. For `bytes` see [`PackReader::part_into`].
    ///
    /// # Errors
    /// A part that is missing, or a range outside the pack.
    pub async fn range(
        &self,
        n: u32,
        offset: u64,
        length: u64,
        mut bytes: BytesMut,
    ) -> Result<Bytes, Failure> {
        self.make_room(&mut bytes);
        let (mut n, mut offset) = (n, offset);
        while (bytes.len() as u64) < length {
            let part = self.record(n)?;
            let rest = length - bytes.len() as u64;
            let end = offset.saturating_add(rest).min(part.zstd_bytes);
            if offset < end {
                let before = bytes.len() as u64;
                let path = self.path(&part.object);
                self.fetch(&path, offset..end, &mut bytes).await?;
                if bytes.len() as u64 - before != end - offset {
                    return Err(damaged(format!("{path} is damaged: it ends before byte {end}")));
                }
            }
            offset = offset.saturating_sub(part.zstd_bytes);
            n += 1;
        }
        Ok(bytes.freeze())
    }

    fn make_room(&self, bytes: &mut BytesMut) {
        bytes.clear();
        bytes.reserve(usize::try_from(self.largest_part).unwrap_or(0));
    }

    fn record(&self, n: u32) -> Result<&PartRecord, Failure> {
        self.parts.get(n as usize).ok_or_else(|| {
            damaged(format!(
                "{}: there are {} parts, and part {n} was asked for",
                self.directory,
                self.parts.len()
            ))
        })
    }

    async fn fetch(&self, path: &str, range: Range<u64>, into: &mut BytesMut) -> Result<(), Failure> {
        let mut stream = self.store.read(path, range).await.map_err(|error| failed(path, error))?;
        while let Some(chunk) = stream.next().await {
            into.extend_from_slice(&chunk.map_err(|error| failed(path, error))?);
        }
        Ok(())
    }

    /// Path of one of the pack's objects below the store's root.
    pub fn path(&self, object: &str) -> String {
        if self.directory.is_empty() { object.to_owned() } else { format!("{}/{object}", self.directory) }
    }
}

fn damaged(message: String) -> Failure {
    Failure::permanent("BackupDamaged", message)
}

fn failed(path: &str, error: StoreError) -> Failure {
    match error {
        StoreError::NotFound { .. } => damaged(format!("{path} is missing on the remote")),
        other => Failure::from(other).within(&format!("reading {path}")),
    }
}
