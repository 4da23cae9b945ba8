//! The workers: each takes the next unit, restores its files, and tells the journal.

use super::{
    extract::Extractor,
    job::Job,
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
        self.readers.values().flat_map(|r| r.parts()).map(|part| part.zstd_bytes).max().unwrap_or(0)
    }

    /// The units of all packs.
    ///
    /// # Errors
    /// Records that do not fit the packs.
    pub fn units(&self, job: &Job<'_>, ranges_only: bool) -> Result<Vec<Unit>, Failure> {
        let mut units = Vec::new();
        for (&pack, reader) in &self.readers {
            let starts = part_starts(reader);
            let cut = Cut { pack, starts: &starts, ranges_only };
            units.extend(plan(&cut, SpoolReader::open(&job.spool, Part::Pack(pack))?)?);
        }
        Ok(units)
    }
}

/// Restores all units that the journal does not have.
///
/// # Errors
/// The first failure of the store or the target; the journal has what was finished before.
pub fn run(
    job: &Job<'_>,
    packs: &Packs,
    journal: &Journal,
    units: &[Unit],
    memory_bytes: u64,
) -> Result<FilesReport, Failure> {
    let open: Vec<&Unit> = units.iter().filter(|unit| !journal.is_done(unit)).collect();
    let most = (memory_bytes / (packs.largest_part() + WORKER_BYTES)).clamp(1, WORKERS);
    let count = usize::try_from(most).unwrap_or(1).min(open.len());
    let queue = Mutex::new(open.into_iter());
    let stop = AtomicBool::new(false);
    let reports: Vec<Result<FilesReport, Failure>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|number| {
                let worker = Worker { job, packs, finished: journal.sender(), number };
                let (queue, stop) = (&queue, &stop);
                scope.spawn(move || {
                    let result = worker.run(|| {
                        let going_on = !stop.load(Ordering::Relaxed);
                        going_on.then(|| queue.lock().unwrap_or_else(PoisonError::into_inner).next())?
                    });
                    stop.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        let ended = |_| Err(Failure::temporary("Internal", "a restore worker ended early"));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(ended)).collect()
    });
    let mut report = FilesReport::default();
    for part in reports {
        report.merge(part?);
    }
    Ok(report)
}

struct Worker<'a> {
    job: &'a Job<'a>,
    packs: &'a Packs,
    finished: Finished,
    number: usize,
}

impl<'a> Worker<'a> {
    fn run(self, mut next: impl FnMut() -> Option<&'a Unit>) -> Result<FilesReport, Failure> {
        let mut report = FilesReport::default();
        let mut current: Option<(u32, Extractor<'_>, Arc<[u64]>)> = None;
        while let Some(unit) = next() {
            let (extractor, starts) = match &mut current {
                Some((pack, extractor, starts)) if *pack == unit.pack => (extractor, starts),
                other => {
                    let starts = part_starts(self.packs.reader(unit.pack)?);
                    let extractor = Extractor::new(self.job, self.packs.stream(unit.pack)?, self.number);
                    let (_, extractor, starts) = other.insert((unit.pack, extractor, starts));
                    (extractor, starts)
                }
            };
            self.unit(extractor, starts, unit)?;
            let done = std::mem::take(&mut extractor.report);
            // A unit with problems is done again by the next run, which then reports them, too.
            if done.problems.is_empty() {
                self.finished.unit(unit);
            }
            report.merge(done);
        }
        Ok(report)
    }

    fn unit(&self, extractor: &mut Extractor<'_>, starts: &[u64], unit: &Unit) -> Result<(), Failure> {
        extractor.fetch_whole(unit.whole.clone());
        let mut batch = Batch::default();
        let records = SpoolReader::open_range(&self.job.spool, Part::Pack(unit.pack), unit.records.clone())?;
        for spooled in records {
            let Spooled { record, .. } = spooled?;
            if extractor.is_unchanged(&record) {
                continue;
            }
            let offsets = offsets(starts, &record);
            if unit.whole.contains(&offsets.start) {
                extractor.expect(offsets);
                extractor.file(&record, &record.path)?;
                continue;
            }
            if !batch.takes(&offsets) {
                batch.flush(extractor)?;
            }
            batch.add(record, offsets);
        }
        batch.flush(extractor)
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

    fn flush(&mut self, extractor: &mut Extractor<'_>) -> Result<(), Failure> {
        extractor.expect(self.offsets.clone());
        self.records.drain(..).try_for_each(|record| extractor.file(&record, &record.path))
    }
}

/// What a record needs of its pack; nothing where it does not fit, which reading it then says.
fn offsets(starts: &[u64], record: &Record) -> Range<u64> {
    let place = record.place.as_ref();
    let start = place.and_then(|place| PackStream::offset(starts, place)).unwrap_or_default();
    start..start.saturating_add(place.map_or(0, |place| place.frames_length))
}
