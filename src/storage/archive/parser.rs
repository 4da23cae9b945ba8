//! The push parser: bytes in any pieces go in, what the filter keeps comes out, and every namespace is counted and
//! summed on the way.
//!
//! Documents are told apart by their length alone and never decoded, but for the oplog's. Memory is one document and a
//! few hundred bytes a namespace.

use crate::storage::archive::{
    broken::{Broken, FeedError, Sink},
    contents::{Contents, Entry, Kind, Oplog},
    filter::Filter,
    header::{self, BlockHeader},
    item::{self, Gather, TERMINATOR},
    metadata::Metadata,
    namespace::Namespace,
    oplog::{self, Outcome},
    scan::Scan,
};
use mongodb::bson::RawDocument;
use std::collections::{HashMap, HashSet};

const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    Header,
    Metadata,
    BlockHeader,
    Documents,
    Oplog,
}

/// One namespace while its blocks come.
struct Space {
    /// The name that its blocks have.
    blocks: Namespace,
    /// The name that its blocks get.
    target: Option<Namespace>,
    entry: Entry,
    scan: Scan,
    opened: bool,
    closed: bool,
}

/// The parser and filter. After an error it must not be fed again.
pub struct Parser {
    filter: Filter,
    /// All is kept: whole chunks are passed on.
    verbatim: bool,
    /// Bytes taken.
    offset: u64,
    /// Documents taken, of all namespaces.
    documents: u64,
    state: State,
    /// What must be seen whole.
    gather: Gather,
    spaces: Vec<Space>,
    by_name: HashMap<Namespace, usize>,
    targets: HashSet<Namespace>,
    /// The namespace of the current block, and where the block began.
    block: usize,
    last_block: bool,
    oplog: Option<Oplog>,
    /// Sum of the oplog entries that were passed on.
    oplog_kept: Scan,
    versions: (String, String),
}

impl Parser {
    /// A parser that passes on what `filter` keeps.
    pub fn new(filter: Filter) -> Self {
        Self {
            verbatim: filter.is_everything(),
            filter,
            offset: 0,
            documents: 0,
            state: State::Magic,
            gather: Gather::default(),
            spaces: Vec::new(),
            by_name: HashMap::new(),
            targets: HashSet::new(),
            block: 0,
            last_block: false,
            oplog: None,
            oplog_kept: Scan::default(),
            versions: Default::default(),
        }
    }

    /// Takes the next bytes of the archive and gives the kept ones to `sink`.
    ///
    /// # Errors
    /// The first thing that is wrong with the archive, or what the sink said.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut Sink) -> Result<(), FeedError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = match self.state {
                State::Documents => self.stream(rest, sink)?,
                _ => self.item(rest, sink)?,
            };
            self.offset += used as u64;
            rest = &rest[used..];
        }
        if self.verbatim { sink(chunk).map_err(FeedError::Sink) } else { Ok(()) }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Documents taken so far, those of the oplog included.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Says whether the archive ended where it may.
    ///
    /// # Errors
    /// An end within something, or namespaces that were never closed.
    pub fn finish(self) -> Result<Contents, Broken> {
        if self.state != State::BlockHeader || !self.gather.is_empty() {
            return Err(self.broken(self.offset, "the input ends in the middle"));
        }
        let done = |s: &Space| s.closed || (s.entry.kind == Kind::View && !s.opened);
        let open: Vec<_> =
            self.spaces.iter().filter(|s| !done(s)).map(|s| s.entry.namespace.to_string()).collect();
        if !open.is_empty() {
            let named = open.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            let problem = format!("the input ends and {} namespaces were never closed: {named}", open.len());
            return Err(Broken { offset: self.offset, namespace: None, problem });
        }
        let entries = self.spaces.into_iter().filter(|s| !s.blocks.is_oplog()).map(|space| Entry {
            documents: space.scan.documents,
            bytes: space.scan.bytes,
            crc: space.scan.crc(),
            digest: space.scan.digest,
            ..space.entry
        });
        let (server_version, tool_version) = self.versions;
        Ok(Contents {
            server_version,
            tool_version,
            namespaces: entries.collect(),
            oplog: self.oplog,
            bytes: self.offset,
        })
    }

    /// Takes bytes until an item is whole, and acts on it. Gives the number of bytes taken.
    fn item(&mut self, rest: &[u8], sink: &mut Sink) -> Result<usize, FeedError> {
        let begin = self.offset - self.gather.len() as u64;
        let (used, item) = self
            .gather
            .take(rest, self.state == State::Magic)
            .map_err(|problem| self.broken(begin, problem))?;
        let Some(item) = item else { return Ok(used) };
        self.act(&item, begin, sink)?;
        Ok(used)
    }

    fn act(&mut self, item: &[u8], at: u64, sink: &mut Sink) -> Result<(), FeedError> {
        match (self.state, item == TERMINATOR) {
            (State::Magic, _) if item == MAGIC => {
                self.state = State::Header;
                self.emit(item, sink)
            }
            (State::Magic, _) => Err(self.broken(at, "this is no archive of mongodump").into()),
            (State::Header, false) => {
                let document = self.document(item, at)?;
                self.versions = header::prelude(document).map_err(|p| self.broken(at, p))?;
                self.state = State::Metadata;
                self.emit(item, sink)
            }
            (State::Metadata, false) => self.metadata(item, at, sink),
            (State::Metadata, true) => {
                self.state = State::BlockHeader;
                self.emit(item, sink)
            }
            (State::BlockHeader, false) => self.open_block(item, at, sink),
            (State::Oplog, false) => self.oplog_entry(item, at, sink),
            (State::Oplog, true) => {
                self.close_block();
                self.emit_if_kept(item, sink)
            }
            (State::Header | State::BlockHeader | State::Documents, _) => {
                Err(self.broken(at, "a block or the prelude begins with its end").into())
            }
        }
    }

    fn metadata(&mut self, item: &[u8], at: u64, sink: &mut Sink) -> Result<(), FeedError> {
        let document = self.document(item, at)?;
        let collection = header::collection(document).map_err(|p| self.broken(at, p))?;
        let namespace = collection.namespace.clone();
        let broken = |problem| Broken { offset: at, namespace: Some(namespace.to_string()), problem };
        let target = self.filter.target(&namespace);
        let renamed = match &target {
            Some(target) if *target != namespace => {
                let source = |view_on: &str| {
                    let source = Namespace::new(&namespace.database, view_on);
                    self.filter.target(&source).map(|target| target.collection)
                };
                Some(header::rename(document, target, source).map_err(broken)?)
            }
            _ => None,
        };
        // A view on something that has a new name has other options: those that it will have.
        let metadata = match &renamed {
            Some(renamed) => header::collection(renamed).map_err(broken)?.metadata,
            None => collection.metadata,
        };
        let metadata = Metadata::from_archive(metadata).map_err(broken)?;
        self.register(&namespace, target.clone(), collection.kind, metadata).map_err(broken)?;
        match (target, renamed) {
            (None, _) => Ok(()),
            (Some(_), None) => self.emit(item, sink),
            (Some(_), Some(renamed)) => self.emit(renamed.as_bytes(), sink),
        }
    }

    /// Notes a namespace of the prelude.
    fn register(
        &mut self,
        namespace: &Namespace,
        target: Option<Namespace>,
        kind: Kind,
        metadata: Metadata,
    ) -> Result<(), String> {
        let blocks = if kind == Kind::Timeseries { namespace.buckets() } else { namespace.clone() };
        if self.by_name.contains_key(&blocks) {
            return Err("it is listed twice".to_owned());
        }
        if let Some(target) = &target
            && !self.targets.insert(target.clone())
        {
            return Err(format!("two namespaces would be {target}"));
        }
        self.add(blocks, Entry { kind, metadata, ..Entry::new(namespace.clone(), target) });
        Ok(())
    }

    fn add(&mut self, blocks: Namespace, entry: Entry) {
        self.by_name.insert(blocks.clone(), self.spaces.len());
        let target = self.filter.target(&blocks);
        let scan = Scan::default();
        self.spaces.push(Space { blocks, target, entry, scan, opened: false, closed: false });
    }

    fn open_block(&mut self, item: &[u8], at: u64, sink: &mut Sink) -> Result<(), FeedError> {
        let header = BlockHeader::parse(self.document(item, at)?).map_err(|p| self.broken(at, p))?;
        let broken = |problem: &str| Broken {
            offset: at,
            namespace: Some(header.namespace.to_string()),
            problem: problem.to_owned(),
        };
        if header.namespace.is_oplog() && !self.by_name.contains_key(&header.namespace) {
            // Newer tools do not list it in the prelude.
            self.add(header.namespace.clone(), Entry::new(header.namespace.clone(), None));
        }
        let Some(&index) = self.by_name.get(&header.namespace) else {
            return Err(broken("a block of a namespace that the prelude does not list").into());
        };
        let space = &mut self.spaces[index];
        if space.closed {
            return Err(broken("a block of a namespace that was closed").into());
        }
        if header.eof && header.crc != space.scan.crc() {
            return Err(broken("its checksum is not that of its documents").into());
        }
        if !header.eof && header.crc != 0 {
            return Err(broken("a block in the middle with a checksum").into());
        }
        space.opened = true;
        self.block = index;
        self.last_block = header.eof;
        let oplog = space.blocks.is_oplog();
        self.state = if oplog { State::Oplog } else { State::Documents };
        let Some(target) = space.target.clone() else { return Ok(()) };
        if target == header.namespace && !oplog {
            return self.emit(item, sink);
        }
        let crc = if header.eof && oplog { self.oplog_kept.crc() } else { header.crc };
        let header = BlockHeader { namespace: target, eof: header.eof, crc };
        self.emit(header.to_document().as_bytes(), sink)
    }

    fn close_block(&mut self) {
        self.spaces[self.block].closed = self.last_block;
        self.state = State::BlockHeader;
    }

    /// Takes documents, or pieces of one, as they lie in the chunk.
    fn stream(&mut self, rest: &[u8], sink: &mut Sink) -> Result<usize, FeedError> {
        let length = if self.last_block { no_length } else { item::length };
        let scan = &mut self.spaces[self.block].scan;
        let before = scan.documents;
        let taken = scan.take(rest, length);
        self.documents += scan.documents - before;
        let (used, ended) =
            taken.map_err(|(at, problem)| self.broken(self.offset.saturating_add_signed(at), problem))?;
        self.emit_if_kept(&rest[..used], sink)?;
        if ended {
            self.close_block();
        }
        Ok(used)
    }

    fn oplog_entry(&mut self, item: &[u8], at: u64, sink: &mut Sink) -> Result<(), FeedError> {
        if self.last_block {
            return Err(self.broken(at, IN_LAST_BLOCK).into());
        }
        let entry = self.document(item, at)?;
        self.spaces[self.block].scan.whole(item);
        self.documents += 1;
        let ts = oplog::timestamp(entry).map_err(|p| self.broken(at, p))?;
        let now = (ts.time, ts.increment);
        let seen = self.oplog.get_or_insert(Oplog { first: now, last: now, entries: 0 });
        seen.last = now;
        seen.entries += 1;
        let mut touched = Vec::new();
        let outcome = oplog::apply(entry, &self.filter, &mut |n| touched.push(n));
        let outcome = outcome.map_err(|p| self.broken(at, p))?;
        touched.iter().for_each(|namespace| self.touch(namespace));
        let kept = match &outcome {
            _ if !self.filter.oplog => return Ok(()),
            Outcome::Drop => return Ok(()),
            Outcome::Keep => item,
            Outcome::Replace(new) => new.as_bytes(),
        };
        self.oplog_kept.whole(kept);
        self.emit(kept, sink)
    }

    /// Marks a collection of the prelude; one that was made during the dump is not in it.
    fn touch(&mut self, namespace: &Namespace) {
        let known = self.by_name.get(namespace).or_else(|| self.by_name.get(&namespace.buckets()));
        if let Some(&index) = known {
            self.spaces[index].entry.touched = true;
        }
    }

    fn emit_if_kept(&self, bytes: &[u8], sink: &mut Sink) -> Result<(), FeedError> {
        if self.spaces[self.block].target.is_some() { self.emit(bytes, sink) } else { Ok(()) }
    }

    fn emit(&self, bytes: &[u8], sink: &mut Sink) -> Result<(), FeedError> {
        if self.verbatim { Ok(()) } else { sink(bytes).map_err(FeedError::Sink) }
    }

    fn document<'d>(&self, item: &'d [u8], at: u64) -> Result<&'d RawDocument, Broken> {
        RawDocument::from_bytes(item).map_err(|e| self.broken(at, format!("malformed BSON: {e}")))
    }

    fn broken(&self, offset: u64, problem: impl Into<String>) -> Broken {
        let in_block = matches!(self.state, State::Documents | State::Oplog);
        let namespace = in_block.then(|| self.spaces[self.block].blocks.to_string());
        Broken { offset, namespace, problem: problem.into() }
    }
}

const IN_LAST_BLOCK: &str = "a document in a block that ends its namespace";

/// As [`item::length`], in a block that has no documents.
fn no_length(prefix: [u8; 4]) -> Result<Option<usize>, String> {
    if prefix == TERMINATOR { Ok(None) } else { Err(IN_LAST_BLOCK.to_owned()) }
}
