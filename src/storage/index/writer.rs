//! Writes an index as records come in.

use super::{
    codec::{self, escape},
    objects::LineWriter,
    parser::IndexHeader,
    record::Record,
};
use crate::{
    domain::verdict::Failure,
    storage::{manifest::IndexObjects, store::ObjectStore},
};
use std::sync::Arc;

/// The writer of one index: `<directory>/<source>-<attempt>.index.zst.<NNN>`. Memory: see [`LineWriter`].
pub struct IndexWriter {
    lines: LineWriter,
    line: Vec<u8>,
    records: u64,
}

impl IndexWriter {
    /// Begins an index over these packs, by number and id. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`IndexWriter::push`].
    pub fn start(
        store: Arc<dyn ObjectStore>,
        directory: &str,
        header: &IndexHeader,
        packs: &[(u32, String)],
    ) -> Result<Self, Failure> {
        let IndexHeader { source, snapshot, attempt } = header;
        let name = format!("{source}-{attempt}.index.zst");
        let mut lines = LineWriter::start(store, directory, &name);
        let mut line = codec::MAGIC.to_vec();
        line.extend_from_slice(format!("\t{source}\t{snapshot}\t{attempt}\n").as_bytes());
        lines.append(&line)?;
        for (n, id) in packs {
            line.clear();
            line.extend_from_slice(codec::PACK);
            line.extend_from_slice(format!("\t{n}\t").as_bytes());
            escape(&mut line, id.as_bytes());
            line.push(b'\n');
            lines.append(&line)?;
        }
        Ok(Self { lines, line, records: 0 })
    }

    /// Appends a record; they must come in the order of [`codec::path_order`]. May block: not for a thread that drives
    /// the runtime.
    ///
    /// # Errors
    /// The failure of an upload, and a record of more than 4 MiB.
    pub fn push(&mut self, record: &Record) -> Result<(), Failure> {
        self.line.clear();
        codec::write_record(&mut self.line, record);
        self.records += 1;
        self.lines.append(&self.line)
    }

    /// Writes the end and waits until everything is stored. `content_bytes`: all content that was read for the
    /// records, before compression. Blocks.
    ///
    /// # Errors
    /// The failure of an upload.
    pub fn finish(mut self, content_bytes: u64) -> Result<IndexObjects, Failure> {
        self.line.clear();
        self.line.extend_from_slice(codec::END);
        let hash = self.lines.hash();
        self.line.extend_from_slice(format!("\t{}\t{content_bytes}\t{hash}\n", self.records).as_bytes());
        self.lines.append(&self.line)?;
        Ok(IndexObjects { objects: self.lines.finish()?, records: self.records })
    }
}
