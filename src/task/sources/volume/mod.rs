//! A tree of files as a source.
//!
//! ```text
//! walk   one thread: directories in path order, cut into batches        listing, filter
//! load   eight threads: look at a batch's entries, read small files     input, entry
//! emit   one thread: members into the pack, records into the index      links, pending, tally
//! ```
//!
//! Batches are worked on in parallel and stored in the order of the walk. Memory does not depend on the number of
//! files, nor on their sizes: each queue is bounded, and a directory too large to be sorted at once is read again.

mod emit;
mod entry;
pub mod filter;
mod input;
mod links;
mod listing;
mod load;
mod pending;
mod preflight;
mod root;
mod tally;
mod walk;

use crate::{
    domain::{policy::Volume, verdict::Failure},
    storage::{
        index::{parser::IndexHeader, writer::IndexWriter},
        layout::{PackId, Prefix},
        manifest::{FORMAT, SourceKind, SourceRecord, StoreMode, Window},
        pack::writer::{PackOptions, PackWriter},
    },
    task::{clock, context::SourceContext},
};
use emit::Emitter;
use entry::{BufferPool, Chunk};
use filter::Filter;
use jiff::Timestamp;
use root::open_root;
use rustix::fd::OwnedFd;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
};
use walk::{Outlet, Walk};

pub use preflight::preflight;

/// Threads that read ahead: a disk that has to seek, or a network, is used best by many at once.
const READERS: usize = 8;

/// Batches between the walk and the pack.
const BATCHES_AHEAD: usize = 16;

/// Memory of the walk, the readers and the index, bytes: listings 12 MiB, read-ahead 8 MiB, index 12 MiB. The rest
/// is the pack's.
const OWN_MEMORY: u64 = 32 << 20;

/// Stores a volume: a pack of everything, and its index. The record is complete but for its own hash.
///
/// Files that cannot be read, changed or vanished are counted, and the first few named in the log: whether that is
/// good enough is not decided here, nor whether an empty tree is.
///
/// # Errors
/// A root that is missing or no directory, patterns that are no globs, and whatever keeps bytes from being stored.
pub async fn store(context: &SourceContext, volume: &Volume) -> Result<SourceRecord, Failure> {
    let within = |failure: Failure| failure.within(&format!("volume {}", volume.name));
    let filter =
        Filter::new(volume).map_err(|e| within(Failure::permanent("InvalidPattern", e.to_string())))?;
    let root = open_root(&volume.place).map_err(within)?;
    context.meter.begin(&format!("{}: storing", volume.name), None);
    // When this future is dropped, nobody waits for the threads: they must notice.
    let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
    let work = Work { context: context.clone(), volume: volume.clone(), filter, stop: Arc::clone(&stop.0) };
    let done = tokio::task::spawn_blocking(move || work.run(root)).await;
    drop(stop);
    done.unwrap_or_else(|_| Err(broken())).map_err(within)
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn broken() -> Failure {
    Failure::temporary("InternalError", "a thread ended unexpectedly").fix("report this with the task's log")
}

/// One storing of one volume.
struct Work {
    context: SourceContext,
    volume: Volume,
    filter: Filter,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(&self, root: OwnedFd) -> Result<SourceRecord, Failure> {
        let start = clock::now();
        let emitter = self.pump(root, self.begin()?)?;
        self.record(start, emitter)
    }

    fn id(&self) -> PackId {
        let SourceContext { snapshot, attempt, .. } = &self.context;
        let prefix = Prefix { source: self.volume.name.clone(), attempt: attempt.clone() };
        PackId { snapshot: snapshot.clone(), prefix }
    }

    /// Begins the pack and the index.
    fn begin(&self) -> Result<Emitter<'_>, Failure> {
        let id = self.id();
        let store = &self.context.store;
        let header = IndexHeader {
            source: id.prefix.source.clone(),
            snapshot: id.snapshot.clone(),
            attempt: id.prefix.attempt.clone(),
        };
        let index = IndexWriter::start(Arc::clone(store), &id.directory(), &header, &[(0, id.to_string())])?;
        let pack = PackWriter::start(self.pack_options(&id), Arc::clone(store));
        Ok(Emitter::new(pack, index, &self.context.meter, &self.stop))
    }

    /// Ends pack and index, and says what they hold.
    fn record(&self, start: Timestamp, emitter: Emitter<'_>) -> Result<SourceRecord, Failure> {
        let (pack, index, counts) = emitter.finish()?;
        Ok(SourceRecord {
            format: FORMAT.to_owned(),
            source: self.volume.name.clone(),
            kind: SourceKind::Files,
            attempt: self.context.attempt.clone(),
            base: None,
            mode: StoreMode::Full,
            mode_reason: "every file is stored each time".to_owned(),
            window: Window { start, end: clock::now() },
            counts,
            index,
            packs: vec![pack],
            dump: None,
            self_hash: "0".repeat(64),
        })
    }

    fn pack_options(&self, id: &PackId) -> PackOptions {
        let SourceContext { part_bytes, memory_bytes, transfers, .. } = self.context;
        PackOptions {
            directory: id.directory(),
            prefix: id.prefix.to_string(),
            stream: "tar",
            part_bytes,
            memory_bytes: memory_bytes.saturating_sub(OWN_MEMORY),
            transfers,
            workers: thread::available_parallelism().map_or(1, usize::from).min(4),
        }
    }

    /// Runs the threads until every entry is in the pack.
    fn pump<'a>(&self, root: OwnedFd, mut emitter: Emitter<'a>) -> Result<Emitter<'a>, Failure> {
        let (jobs, job_receiver) = sync_channel(BATCHES_AHEAD);
        let (order, in_order) = sync_channel(BATCHES_AHEAD);
        let job_receiver = Mutex::new(job_receiver);
        let buffers = BufferPool::default();
        let outlet = Outlet { jobs, order };
        let walk = Walk::new(root, &self.filter, self.volume.one_file_system, outlet)
            .map_err(|e| Failure::temporary("SourceUnreadable", format!("the root cannot be read: {e}")))?;
        thread::scope(|scope| {
            let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
            let no_thread = |e| Failure::temporary("NoThreads", format!("no thread could be started: {e}"));
            for _ in 0..READERS {
                spawn("read-files")
                    .spawn_scoped(scope, || load::run(&job_receiver, &buffers))
                    .map_err(no_thread)?;
            }
            let walker = spawn("walk").spawn_scoped(scope, || walk.run()).map_err(no_thread)?;
            for chunks in in_order {
                self.batch(&chunks, &mut emitter, &buffers)?;
            }
            walker.join().map_err(|_| broken())?;
            Ok(emitter)
        })
    }

    /// Stores the chunks of one batch.
    fn batch(
        &self,
        chunks: &Receiver<Chunk>,
        emitter: &mut Emitter<'_>,
        buffers: &BufferPool,
    ) -> Result<(), Failure> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(emit::stopped());
            }
            let chunk = chunks.recv().map_err(|_| broken())?;
            let last = chunk.last;
            buffers.give(emitter.chunk(chunk)?);
            if last {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
