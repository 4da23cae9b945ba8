//! The workers: each takes the next unit, restores its files, and tells the journal.

use super::{
    journal::{Finished, Journal},
    report::FilesReport,
    spool::{Part, SpoolReader, Spooled},
    stream::{PackStream, RANGE_BYTES, part_starts},
    units::{Cut, Unit, plan},
};
use crate::{
    domain::verdict::Failure,
    storage::{index::record::Record, pack::reader::PackReader},
};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most workers: enough to fetch, decode and write at the same time.
const WORKERS: u64 = 4;
/// A worker's frame, its compressed bytes while they are decoded, and its buffers.
const WORKER_BYTES: u64 = 6 << 20;
/// Ranges that are this near to each other are fetched as one.
const GAP: u64 = 1 << 20;
/// Records that wait for their common range at most.
const BATCH: usize = 4096;

/// What is done with each file.
pub trait Handler {
    /// Where its bytes come from.
    fn stream(&mut self) -> &mut PackStream;

    /// True when nothing need be fetched for this one.
    fn is_done(&mut self, record: &Record) -> bool;

    /// Does it. What is wrong with this file alone goes into the report.
    ///
    /// # Errors
    /// What no further file can go well after.
    fn handle(&mut self, record: &Record) -> Result<(), Failure>;

    /// What was done since the last call.
    fn take_report(&mut self) -> FilesReport;
}

/// The packs that a restore reads, by their number in the index.
pub struct Packs {
    readers: BTreeMap<u32, Arc<PackReader>>,
    runtime: tokio::runtime::Handle,
}

impl Packs {
    /// These packs, to be read with the help of `runtime`.
    pub fn new(readers: BTreeMap<u32, Arc<PackReader>>, runtime: tokio::runtime::Handle) -> Self {
        Self { readers, runtime }
    }

    /// A stream over pack `n`.
    ///
    /// # Errors
    /// The index names a pack that the manifest does not have.
    pub fn stream(&self, n: u32) -> Result<PackStream, Failure> {
        PackStream::new(Arc::clone(self.reader(n)?), self.runtime.clone())
    }

    fn reader(&self, n: u32) -> Result<&Arc<PackReader>, Failure> {
        self.readers.get(&n).ok_or_else(|| {
            Failure::permanent(
                "IndexDamaged",
                format!("the index refers to pack {n}, which the manifest lacks"),
            )
        })
    }

    fn largest_part(&self) -> u64 {
        self.readers.values().map(|reader| reader.largest_part()).max().unwrap_or(0)
    }

    /// The units of all packs.
    ///
    /// # Errors
    /// Records that do not fit the packs.
    pub fn units(&self, spool: &Path, ranges_only: bool) -> Result<Vec<Unit>, Failure> {
        let mut units = Vec::new();
        for (&pack, reader) in &self.readers {
            let starts = part_starts(reader);
            let cut = Cut { pack, starts: &starts, ranges_only };
            units.extend(plan(&cut, SpoolReader::open(spool, Part::Pack(pack))?)?);
        }
        Ok(units)
    }
}

/// All the work, and what it is done with.
pub struct Work<'a> {
    /// The spool's directory.
    pub spool: &'a Path,
    /// The packs.
    pub packs: &'a Packs,
    /// What was done before, and is written down.
    pub journal: Option<&'a Journal>,
    /// Memory for buffers, bytes.
    pub memory_bytes: u64,
}

impl Work<'_> {
    /// Gives all records of `units` that the journal does not have to handlers, which `make` makes of a pack's number,
    /// a stream over it and the worker's number.
    ///
    /// # Errors
    /// The first failure that ends it all; the journal has what was finished before.
    pub fn run<H: Handler>(
        &self,
        units: &[Unit],
        make: &(dyn Fn(u32, PackStream, usize) -> H + Sync),
    ) -> Result<FilesReport, Failure> {
        let is_open = |unit: &&Unit| self.journal.is_none_or(|journal| !journal.is_done(unit));
        let open: Vec<&Unit> = units.iter().filter(is_open).collect();
        let most = (self.memory_bytes / (self.packs.largest_part() + WORKER_BYTES)).clamp(1, WORKERS);
        let count = usize::try_from(most).unwrap_or(1).min(open.len());
        let queue = Mutex::new(open.into_iter());
        let stop = AtomicBool::new(false);
        let next = || {
            let going_on = !stop.load(Ordering::Relaxed);
            going_on.then(|| queue.lock().unwrap_or_else(PoisonError::into_inner).next())?
        };
        let reports: Vec<Result<FilesReport, Failure>> = std::thread::scope(|scope| {
            let spawn = |number| {
                let worker = Worker { work: self, make, finished: self.journal.map(Journal::sender), number };
                let (next, stop) = (&next, &stop);
                scope.spawn(move || {
                    let result = worker.run(next);
                    stop.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            };
            let workers: Vec<_> = (0..count).map(spawn).collect();
            let ended = |_| Err(Failure::temporary("Internal", "a worker ended early"));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(ended)).collect()
        });
        let mut report = FilesReport::default();
        for part in reports {
            report.merge(part?);
        }
        Ok(report)
    }
}

struct Worker<'a, H> {
    work: &'a Work<'a>,
    make: &'a (dyn Fn(u32, PackStream, usize) -> H + Sync),
    finished: Option<Finished>,
    number: usize,
}

/// A handler for one pack.
struct Current<H> {
    pack: u32,
    starts: Arc<[u64]>,
    handler: H,
}

impl<'a, H: Handler> Worker<'a, H> {
    fn run(self, next: impl Fn() -> Option<&'a Unit>) -> Result<FilesReport, Failure> {
        let mut report = FilesReport::default();
        let mut current: Option<Current<H>> = None;
        while let Some(unit) = next() {
            let mut at = match current.take().filter(|current| current.pack == unit.pack) {
                Some(current) => current,
                None => self.open(unit.pack)?,
            };
            self.unit(&mut at, unit)?;
            let done = at.handler.take_report();
            // A unit with problems is done again by the next run, which then reports them, too.
            if let Some(finished) = self.finished.as_ref().filter(|_| done.problems.is_empty()) {
                finished.unit(unit);
            }
            report.merge(done);
            current = Some(at);
        }
        Ok(report)
    }

    fn open(&self, pack: u32) -> Result<Current<H>, Failure> {
        let starts = part_starts(self.work.packs.reader(pack)?);
        let handler = (self.make)(pack, self.work.packs.stream(pack)?, self.number);
        Ok(Current { pack, starts, handler })
    }

    fn unit(&self, at: &mut Current<H>, unit: &Unit) -> Result<(), Failure> {
        let Current { starts, handler, .. } = at;
        handler.stream().fetch_whole(unit.whole.clone());
        let mut batch = Batch::default();
        let part = Part::Pack(unit.pack);
        for spooled in SpoolReader::open_range(self.work.spool, part, unit.records.clone())? {
            let Spooled { record, .. } = spooled?;
            if handler.is_done(&record) {
                continue;
            }
            let offsets = offsets(starts, &record);
            if unit.whole.contains(&offsets.start) {
                handler.stream().expect(offsets);
                handler.handle(&record)?;
                continue;
            }
            if !batch.takes(&offsets) {
                batch.flush(handler)?;
            }
            batch.add(record, offsets);
        }
        batch.flush(handler)
    }
}

/// Records whose bytes are fetched as one range.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    offsets: Range<u64>,
}

impl Batch {
    fn takes(&self, next: &Range<u64>) -> bool {
        self.records.is_empty()
            || (next.start <= self.offsets.end.saturating_add(GAP)
                && next.end.saturating_sub(self.offsets.start) <= RANGE_BYTES
                && self.records.len() < BATCH)
    }

    fn add(&mut self, record: Record, offsets: Range<u64>) {
        if self.records.is_empty() {
            self.offsets = offsets;
        } else {
            self.offsets.end = self.offsets.end.max(offsets.end);
        }
        self.records.push(record);
    }

    fn flush(&mut self, handler: &mut impl Handler) -> Result<(), Failure> {
        handler.stream().expect(self.offsets.clone());
        self.records.drain(..).try_for_each(|record| handler.handle(&record))
    }
}

/// What a record needs of its pack; nothing where it does not fit, which reading it then says.
fn offsets(starts: &[u64], record: &Record) -> Range<u64> {
    let place = record.place.as_ref();
    let start = place.and_then(|place| PackStream::offset(starts, place)).unwrap_or_default();
    start..start.saturating_add(place.map_or(0, |place| place.frames_length))
}
