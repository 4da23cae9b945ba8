//! Writing a pack: the blocking half that producers see.

use super::{
    assemble::{Assembler, Sums},
    budget::Budget,
    compress::{self, Frame},
    list::PARTS_PER_LIST,
    slab::SlabPool,
    upload::{Target, Uploads},
};
use crate::{
    domain::{names::AttemptId, verdict::Failure},
    storage::{
        manifest::{PackRef, PartListRef},
        store::ObjectStore,
    },
};
use jiff::Timestamp;
use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};
use tokio::{runtime::Handle, sync::Semaphore};

pub use super::{assemble::FramePlace, budget::PackOptions, upload::BACKOFF};

/// The writer: bytes in, objects on the store. Used by one producer thread; blocks while the memory is in use or the
/// store is slow. Dropped before [`PackWriter::finish`], it stops everything without waiting.
pub struct PackWriter {
    pack: PackRef,
    /// Plain bytes go to the workers; gone once finished.
    jobs: Option<Sender<Frame>>,
    free: Receiver<Frame>,
    places: Receiver<FramePlace>,
    outcome: Receiver<Result<(Sums, Vec<PartListRef>), Failure>>,
    current: Option<Frame>,
    /// Frames handed to the workers.
    frames: u64,
    shared: Arc<Shared>,
}

/// What the writer, its threads and its uploads tell each other besides bytes.
struct Shared {
    failure: OnceLock<Failure>,
    finishing: AtomicBool,
    pool: Arc<SlabPool>,
}

impl Shared {
    /// Notes the first failure and wakes whoever waits for memory.
    fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
        self.pool.close();
    }
}

impl PackWriter {
    /// Starts the workers and uploads. Must be called within a tokio runtime, whose tasks send the parts.
    pub fn start(options: PackOptions, store: Arc<dyn ObjectStore>) -> Self {
        Self::start_with_backoff(options, store, &BACKOFF)
    }

    /// As [`PackWriter::start`], with other waits between the tries of an upload: one try more than there are waits.
    pub fn start_with_backoff(
        options: PackOptions,
        store: Arc<dyn ObjectStore>,
        backoff: &[Duration],
    ) -> Self {
        Self::launch(&options, store, backoff, PARTS_PER_LIST)
    }

    pub(super) fn launch(
        options: &PackOptions,
        store: Arc<dyn ObjectStore>,
        backoff: &[Duration],
        parts_per_list: usize,
    ) -> Self {
        let budget = Budget::new(options);
        let pool = SlabPool::new(budget.slabs);
        let shared = Arc::new(Shared {
            failure: OnceLock::new(),
            finishing: AtomicBool::new(false),
            pool: Arc::clone(&pool),
        });
        let pack = describe(options);
        let (free_sender, free) = mpsc::channel();
        for frame in Frame::some(budget.frames) {
            let _ = free_sender.send(frame);
        }
        let (place_sender, places) = mpsc::channel();
        let native = store.native_hash();
        let target = Target {
            store,
            directory: options.directory.clone(),
            backoff: backoff.into(),
            permits: Arc::new(Semaphore::new(options.transfers.max(1))),
            on_failure: Arc::new({
                let shared = Arc::clone(&shared);
                move |failure: &Failure| shared.fail(failure.clone())
            }),
        };
        let assembler = Assembler {
            pack: pack.id.clone(),
            part_name: format!("{}.{}.zst", options.prefix, options.stream),
            part_bytes: budget.part_bytes,
            native,
            pool,
            uploads: Uploads::new(
                target,
                Handle::current(),
                format!("{}.parts", options.prefix),
                parts_per_list,
            ),
            free: free_sender,
            places: place_sender,
            sums: Sums::default(),
            open: None,
        };
        let (jobs, job_receiver) = mpsc::channel();
        let (outcome_sender, outcome) = mpsc::channel();
        if let Err(error) = spawn_threads(budget.workers, job_receiver, assembler, outcome_sender, &shared) {
            shared.fail(Failure::temporary("NoThreads", format!("no thread could be started: {error}")));
        }
        Self { pack, jobs: Some(jobs), free, places, outcome, current: None, frames: 0, shared }
    }

    /// Appends plain bytes; a frame that reaches 4 MiB closes by itself.
    ///
    /// # Errors
    /// The failure of an upload, as soon as it is final.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        self.check()?;
        while !bytes.is_empty() {
            let mut frame = match self.current.take() {
                Some(frame) => frame,
                None => self.next_frame()?,
            };
            bytes = &bytes[frame.fill(bytes)..];
            let full = frame.is_full();
            self.current = Some(frame);
            if full {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    /// Closes the current frame, if it has any bytes.
    ///
    /// # Errors
    /// As [`PackWriter::write`].
    pub fn end_frame(&mut self) -> Result<(), Failure> {
        self.check()?;
        let Some(frame) = self.current.take() else { return Ok(()) };
        self.frames += 1;
        match &self.jobs {
            Some(jobs) => jobs.send(frame).map_err(|_| self.failure()),
            None => Err(self.failure()),
        }
    }

    /// Where the next byte will go: ordinal of the frame, and offset in it.
    pub fn position(&self) -> (u64, u64) {
        (self.frames, self.current.as_ref().map_or(0, |frame| frame.plain.len() as u64))
    }

    /// Frames whose place became known since the last call, in order. Never blocks. Call it now and then: places
    /// wait here, 48 bytes each.
    pub fn placed(&mut self) -> Vec<FramePlace> {
        self.places.try_iter().collect()
    }

    /// Closes the last frame and part, waits for all uploads, writes the parts lists. Gives the pack (`n` 0, `live` =
    /// `plain`) and the places of the remaining frames.
    ///
    /// # Errors
    /// The failure of an upload. Nothing that was stored is of use then.
    pub fn finish(mut self) -> Result<(PackRef, Vec<FramePlace>), Failure> {
        self.end_frame()?;
        self.shared.finishing.store(true, Ordering::Release);
        self.jobs = None;
        let (sums, part_lists) = match self.outcome.recv() {
            Ok(outcome) => outcome.map_err(|failure| self.first_failure(failure))?,
            Err(_) => return Err(self.failure()),
        };
        let places = self.placed();
        let pack = PackRef {
            parts: u64::from(sums.parts),
            part_lists,
            stored: sums.stored,
            plain: sums.plain,
            live: sums.plain,
            ..self.pack.clone()
        };
        Ok((pack, places))
    }

    fn next_frame(&mut self) -> Result<Frame, Failure> {
        // All senders are gone once the assembler gave up.
        let mut frame = self.free.recv().map_err(|_| self.failure())?;
        frame.begin(self.frames);
        Ok(frame)
    }

    fn check(&self) -> Result<(), Failure> {
        self.shared.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Why the assembler is gone.
    fn failure(&self) -> Failure {
        let told = self.outcome.try_recv().ok().and_then(Result::err);
        self.first_failure(told.unwrap_or_else(|| {
            Failure::temporary("PackWriterFailed", "the thread that assembles parts ended without a word")
        }))
    }

    /// The failure that caused the others: uploads that are stopped because one failed have nothing to say.
    fn first_failure(&self, later: Failure) -> Failure {
        self.shared.failure.get().cloned().unwrap_or(later)
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        // Without jobs the workers end, then the assembler, which stops its uploads; unless it waits for memory.
        self.jobs = None;
        self.shared.pool.close();
    }
}

fn spawn_threads(
    workers: usize,
    jobs: Receiver<Frame>,
    assembler: Assembler,
    outcome: Sender<Result<(Sums, Vec<PartListRef>), Failure>>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let (done_sender, done) = mpsc::channel();
    compress::spawn(workers, jobs, &done_sender)?;
    let shared = Arc::clone(shared);
    thread::Builder::new().name("assemble".to_owned()).spawn(move || {
        let finishing = || shared.finishing.load(Ordering::Acquire);
        let _ = outcome.send(assembler.run(done, finishing));
    })?;
    Ok(())
}

/// The pack as far as it is known before its first byte.
fn describe(options: &PackOptions) -> PackRef {
    let attempt = options.prefix.rsplit_once('-').and_then(|(_, attempt)| attempt.parse::<AttemptId>().ok());
    PackRef {
        n: 0,
        id: format!("{}/{}", options.directory, options.prefix),
        created: attempt.map_or(Timestamp::UNIX_EPOCH, |attempt| attempt.started()),
        parts: 0,
        part_lists: Vec::new(),
        stored: 0,
        plain: 0,
        live: 0,
        recipients: blake3::hash(b"").to_hex().to_string(),
    }
}
