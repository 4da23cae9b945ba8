//! Reads an index from the store, one object at a time.

use super::{
    objects,
    parser::{IndexHeader, IndexParser},
    record::Record,
};
use crate::{
    domain::verdict::Failure,
    storage::{
        manifest::{IndexObjects, StoredObject},
        store::ObjectStore,
    },
};
use std::sync::Arc;

/// A stream of records. Memory: one object, stored and as text, at most 8 MiB.
pub struct IndexReader {
    lines: Lines,
    header: IndexHeader,
    /// The first record, read while the header and packs were looked for.
    first: Option<Record>,
}

impl IndexReader {
    /// Opens the index whose objects lie in `directory` (of the snapshot, `<YYYYMMDD>/<snapshot>`) and reads its header
    /// and packs.
    ///
    /// # Errors
    /// An object that is missing or damaged, or text that is no index of this format; by name.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        directory: &str,
        index: &IndexObjects,
    ) -> Result<Self, Failure> {
        let mut lines = Lines {
            store,
            directory: directory.to_owned(),
            objects: index.objects.clone().into_iter(),
            records: index.records,
            object: String::new(),
            text: Vec::new(),
            at: 0,
            parser: IndexParser::default(),
        };
        let first = lines.next_record().await?;
        let header = lines.parser.header().cloned().ok_or_else(|| lines.damaged("it has no first line"))?;
        Ok(Self { lines, header, first })
    }

    /// Whose index it is.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The packs that places refer to: number and id.
    pub fn packs(&self) -> &[(u32, String)] {
        self.lines.parser.packs()
    }

    /// The next record, in path order; `None` after the last, once the checksum of the whole was compared.
    ///
    /// # Errors
    /// As [`IndexReader::open`].
    pub async fn next_record(&mut self) -> Result<Option<Record>, Failure> {
        match self.first.take() {
            Some(record) => Ok(Some(record)),
            None => self.lines.next_record().await,
        }
    }
}

/// The objects as lines, and their records.
struct Lines {
    store: Arc<dyn ObjectStore>,
    directory: String,
    objects: std::vec::IntoIter<StoredObject>,
    /// Records that the manifest tells of.
    records: u64,
    /// Name of the object that `text` came from.
    object: String,
    text: Vec<u8>,
    /// Start of the next line in `text`.
    at: usize,
    parser: IndexParser,
}

impl Lines {
    async fn next_record(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            if self.at == self.text.len() {
                let Some(object) = self.objects.next() else { return self.end() };
                self.text = Vec::new();
                self.text = objects::fetch(&*self.store, &self.directory, &object).await?;
                (self.at, self.object) = (0, object.name);
                continue;
            }
            let rest = &self.text[self.at..];
            let Some(length) = rest.iter().position(|&c| c == b'\n') else {
                return Err(self.damaged("it ends within a line"));
            };
            self.at += length + 1;
            let record = self.parser.line(&rest[..length]);
            if let Some(record) = record.map_err(|e| self.damaged(&e.to_string()))? {
                return Ok(Some(record));
            }
        }
    }

    fn end(&self) -> Result<Option<Record>, Failure> {
        if !self.parser.is_ended() {
            return Err(self.damaged("the index ends too early"));
        }
        if self.parser.records() != self.records {
            return Err(self.damaged("the index has not as many records as the manifest says"));
        }
        Ok(None)
    }

    fn damaged(&self, what: &str) -> Failure {
        let message = format!("{}/{} is damaged: {what}", self.directory, self.object);
        Failure::permanent("IndexDamaged", message)
    }
}

#[cfg(test)]
mod tests;
