//! One volume, restored from beginning to end.

use super::{
    compare::{check_extra, delete_extra},
    entries::{finish_directories, make_directories, make_others},
    extract::Extractor,
    job::{Existing, FilesOptions, Job},
    journal::Journal,
    links::Linker,
    metadata::has_default_acl,
    report::{FilesReport, describe},
    selection::Selection,
    spool::{Contents, Part, Purpose, SpoolReader, SpoolWriter},
    target::{Identity, Target, free_bytes},
    work::{Packs, Work},
};
use crate::{
    domain::{names::SnapshotName, verdict::Failure},
    storage::{
        index::reader::IndexReader, layout, manifest::SourceRecord, pack::reader::PackReader,
        store::ObjectStore,
    },
    task::context::Meter,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// A volume in a snapshot, and where it goes.
#[derive(Clone)]
pub struct FilesRestore {
    /// The store, rooted at the instance's folder.
    pub store: Arc<dyn ObjectStore>,
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// The volume in it.
    pub source: SourceRecord,
    /// The directory.
    pub target: PathBuf,
    /// How.
    pub options: FilesOptions,
    /// What is there may be replaced.
    pub confirmed: bool,
    /// Memory for buffers, bytes.
    pub memory_bytes: u64,
    /// Where progress is told.
    pub meter: Arc<Meter>,
}

impl FilesRestore {
    /// Restores it. What is wrong with single entries is in the report; an error leaves a journal in the target, and
    /// the same restore goes on from there.
    ///
    /// # Errors
    /// A target that is not empty (`TargetNotEmpty`) or cannot be written, a store that does not answer, an index that
    /// is damaged, no space.
    pub async fn run(self) -> Result<FilesReport, Failure> {
        let runtime = tokio::runtime::Handle::current();
        let name = self.source.source.clone();
        tokio::task::spawn_blocking(move || Run::start(&self, &runtime))
            .await
            .unwrap_or_else(|_| Err(Failure::temporary("Internal", "the restore ended early")))
            .map_err(|failure| failure.within(&format!("volume {name}")))
    }

    /// What makes a restore the same: snapshot, attempt, index and what is selected.
    fn identity(&self) -> Identity {
        let mut hasher = blake3::Hasher::new();
        for object in &self.source.index.objects {
            hasher.update(object.blake3.as_bytes());
        }
        for path in &self.options.include {
            hasher.update(path.as_bytes()).update(b"\0");
        }
        let hash = &hasher.finalize().to_hex()[..16];
        let (snapshot, name) = (&self.snapshot, &self.source.source);
        let text = |how: &str| format!("{name} of {snapshot} ({how}, {hash})");
        Identity { fresh: text("new"), replacing: text("replacing") }
    }
}

/// A restore with everything opened.
struct Run<'a> {
    from: &'a FilesRestore,
    runtime: &'a tokio::runtime::Handle,
    job: Job<'a>,
    selection: &'a Selection,
    report: FilesReport,
    /// The target may have been changed.
    begun: bool,
}

impl Run<'_> {
    fn start(from: &FilesRestore, runtime: &tokio::runtime::Handle) -> Result<FilesReport, Failure> {
        if from.options.delete_extra {
            check_extra(&from.source)?;
        }
        let selection = Selection::new(&from.options.include)
            .map_err(|e| Failure::permanent("InvalidPath", e.to_string()))?;
        let target = Target::open(&from.target, &from.identity(), from.confirmed)?;
        let state = target.state.try_clone().map_err(|e| no_descriptor(&e))?;
        let journal_directory = target.state.try_clone().map_err(|e| no_descriptor(&e))?;
        let job = Job {
            root: &target.root,
            state,
            spool: target.state_path(),
            options: &from.options,
            existing: target.existing,
            inherits: target.existing.may_replace() || has_default_acl(&target.root),
            meter: &from.meter,
        };
        let journal = Journal::open(&target.state_path(), &target.identity, journal_directory)?;
        let mut run =
            Run { from, runtime, job, selection: &selection, report: FilesReport::default(), begun: false };
        let is_new = journal.is_new();
        let contents = run.all(journal);
        let (report, begun) = (std::mem::take(&mut run.report), run.begun);
        drop(run);
        match contents {
            Ok(contents) => target.close(contents.root_time).map(|()| report),
            Err(failure) => {
                // Where nothing was begun nothing is to be gone on with. The failure is what matters.
                if is_new && !begun {
                    let _ = target.close(None);
                }
                Err(failure)
            }
        }
    }

    fn all(&mut self, journal: Journal) -> Result<Contents, Failure> {
        let name = &self.from.source.source;
        self.job.meter.begin(&format!("{name}: reading the index"), None);
        let contents = self.spool()?;
        self.check_space(&contents)?;
        let packs = self.packs(&contents)?;
        self.job.meter.begin(&format!("{name}: restoring"), Some(contents.bytes));
        self.job.meter.changes();
        self.begun = true;
        make_directories(&self.job, &mut self.report)?;
        let units = packs.units(&self.job.spool, self.job.existing == Existing::Replace)?;
        let work = Work {
            spool: &self.job.spool,
            packs: &packs,
            journal: Some(&journal),
            memory_bytes: self.from.memory_bytes,
        };
        let job = &self.job;
        let done = work.run(&units, &|_, stream, number| Extractor::new(job, stream, number));
        let done = match done {
            Ok(done) => done,
            Err(failure) => {
                // What was finished need not be done again. The failure is what matters.
                let _ = journal.close();
                return Err(failure);
            }
        };
        self.report.merge(done);
        self.link(&packs, &contents)?;
        make_others(&self.job, &mut self.report)?;
        self.delete_extra()?;
        finish_directories(&self.job, &mut self.report)?;
        self.job.meter.begin(&format!("{name}: waiting for the disk"), None);
        journal.close()?;
        Ok(contents)
    }

    /// Reads the index onto the target's disk.
    fn spool(&mut self) -> Result<Contents, Failure> {
        let from = self.from;
        let purpose = if from.options.delete_extra { Purpose::Replace } else { Purpose::Restore };
        let mut writer = SpoolWriter::new(&self.job.spool, self.selection, purpose);
        let directory = layout::directory(&from.snapshot);
        let store = Arc::clone(&from.store);
        let mut index = self.runtime.block_on(IndexReader::open(store, &directory, &from.source.index))?;
        while let Some(record) = self.runtime.block_on(index.next_record())? {
            writer.push(record, &mut self.report)?;
        }
        writer.finish()
    }

    fn check_space(&self, contents: &Contents) -> Result<(), Failure> {
        // Over what is there nobody can say how much more is needed.
        if self.job.existing.may_replace() {
            return Ok(());
        }
        let (need, have) = (contents.bytes, free_bytes(&self.from.target)?);
        if need <= have {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!("{} MiB are needed, and {} MiB are free", mib(need), mib(have));
        Err(Failure::permanent("TargetFull", message).fix("make room, or restore a part with --path"))
    }

    fn packs(&self, contents: &Contents) -> Result<Packs, Failure> {
        let mut readers = BTreeMap::new();
        for pack in self.from.source.packs.iter().filter(|pack| contents.packs.contains(&pack.n)) {
            let reader = self.runtime.block_on(PackReader::open(Arc::clone(&self.from.store), pack))?;
            readers.insert(pack.n, Arc::new(reader));
        }
        match contents.packs.iter().find(|n| !readers.contains_key(n)) {
            Some(n) => Err(Failure::permanent(
                "IndexDamaged",
                format!("the index refers to pack {n}, which the manifest lacks"),
            )),
            None => Ok(Packs::new(readers, self.runtime.clone())),
        }
    }

    fn link(&mut self, packs: &Packs, contents: &Contents) -> Result<(), Failure> {
        let job = &self.job;
        let mut extractor = |pack| Ok(Extractor::new(job, packs.stream(pack)?, 0));
        Linker::new(job, self.selection, &mut extractor).run(contents, &mut self.report)
    }

    fn delete_extra(&mut self) -> Result<(), Failure> {
        if !self.job.options.delete_extra || !self.job.existing.may_replace() {
            return Ok(());
        }
        let records = SpoolReader::open(&self.job.spool, Part::All)?;
        let records = records.map(|spooled| spooled.map(|s| s.record));
        let within = |path: &[u8]| self.selection.selects(path);
        let deleted = delete_extra(self.job.root, records, &within)?;
        self.report.deleted = deleted.entries;
        for (path, errno) in deleted.failed {
            self.report.fail(&path, format!("could not be removed: {}", describe(errno)));
        }
        Ok(())
    }
}

fn no_descriptor(error: &std::io::Error) -> Failure {
    Failure::temporary("TooManyFiles", format!("no more files can be opened: {error}"))
}
