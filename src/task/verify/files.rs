//! Opening a volume: every part, every member, every file's content.

use super::{
    bits,
    report::{Findings, Proof, VerifyReport},
    stored::Opened,
};
use crate::{
    domain::verdict::Failure,
    storage::{
        index::{
            reader::IndexReader,
            record::{EntryKind, Record},
        },
        layout,
        manifest::Manifest,
        store::ObjectStore,
    },
    task::{
        context::Meter,
        restore::files::{
            member::{Unreadable, explain, find, short},
            report::FilesReport,
            selection::Selection,
            spool::{Purpose, SpoolWriter, announced},
            stream::PackStream,
            work::{Handler, Packs, Work},
        },
        scratch::ScratchFolder,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Read at once.
const BUFFER: usize = 256 << 10;

/// A volume to open.
pub struct OpenFiles<'a> {
    /// The store.
    pub store: &'a Arc<dyn ObjectStore>,
    /// The snapshot.
    pub manifest: &'a Manifest,
    /// The volume.
    pub opened: &'a Opened<'a>,
    /// Memory for buffers, bytes.
    pub memory_bytes: u64,
    /// Where there is disk for the index.
    pub scratch: &'a Path,
    /// Who watches.
    pub meter: &'a Arc<Meter>,
}

/// What the workers find, by pack.
#[derive(Default)]
struct Shared {
    findings: Findings,
    verified: BTreeMap<u32, BTreeSet<usize>>,
    proof: (u64, u64, u64),
}

impl OpenFiles<'_> {
    /// Opens it. The index is known to be good.
    ///
    /// # Errors
    /// The store does not answer, or there is no disk for the index.
    pub async fn run(&self, report: &mut VerifyReport) -> Result<Proof, Failure> {
        let record = self.opened.record;
        self.meter.begin(&format!("{}: opening", record.source), Some(record.counts.bytes));
        let folder = ScratchFolder::make(self.scratch)?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let packs = Packs::new(self.opened.packs.clone(), tokio::runtime::Handle::current());
        let numbers: Vec<u32> = self.opened.packs.keys().copied().collect();
        let spool = folder.path().to_owned();
        self.spool(&spool).await?;
        let (to, meter, memory_bytes) = (Arc::clone(&shared), Arc::clone(self.meter), self.memory_bytes);
        let work = move || {
            let units = packs.units(&spool, false)?;
            let work = Work { spool: &spool, packs: &packs, journal: None, memory_bytes };
            work.run(&units, &|pack, stream, _| {
                Prover::new(pack, stream, Arc::clone(&to), Arc::clone(&meter))
            })
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(Failure::temporary("Internal", "the verification ended early")))?;
        let mut shared = std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
        for pack in record.packs.iter().filter(|pack| numbers.contains(&pack.n)) {
            // Parts in which no file begins, or of which little was wanted.
            let verified = shared.verified.remove(&pack.n).unwrap_or_default();
            let rest = |part: usize| !verified.contains(&part);
            let reader = &self.opened.packs[&pack.n];
            bits::parts(reader, pack.directory(), rest, self.meter, &mut shared.findings).await?;
        }
        report.add(shared.findings);
        let (files, entries, bytes) = shared.proof;
        Ok(Proof { files, entries, bytes, ..Proof::new(record.source.clone()) })
    }

    async fn spool(&self, folder: &Path) -> Result<(), Failure> {
        let selection = Selection::default();
        let mut writer = SpoolWriter::new(folder, &selection, Purpose::Verify);
        let directory = layout::directory(&self.manifest.snapshot);
        let index = &self.opened.record.index;
        let mut index = IndexReader::open(Arc::clone(self.store), &directory, index).await?;
        // What the backup could not read is in the manifest's counts, and no damage.
        let mut unreadable = FilesReport::default();
        while let Some(record) = index.next_record().await? {
            writer.push(record, &mut unreadable)?;
        }
        writer.finish().map(drop)
    }
}

/// Proves one member after the other.
struct Prover {
    pack: u32,
    stream: PackStream,
    buffer: Vec<u8>,
    shared: Arc<Mutex<Shared>>,
    meter: Arc<Meter>,
}

impl Prover {
    fn new(pack: u32, stream: PackStream, shared: Arc<Mutex<Shared>>, meter: Arc<Meter>) -> Self {
        Self { pack, stream, buffer: vec![0; BUFFER], shared, meter }
    }

    fn prove(&mut self, record: &Record) -> Result<(), String> {
        let mut found = find(&mut self.stream, record)?;
        let member = &found.member;
        if (member.mode, member.uid, member.gid) != (record.mode, record.uid, record.gid)
            || member.mtime != record.mtime
            // A further name's are those of the first, and not repeated.
            || !found.is_further_name() && *member.xattrs != *record.xattrs
        {
            return Err("has other metadata in the tar than in the index".to_owned());
        }
        if record.kind != EntryKind::File || found.is_further_name() {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        loop {
            match found.read(&mut self.buffer).map_err(|e| e.to_string())? {
                0 => break,
                n => hasher.update(&self.buffer[..n]),
            };
        }
        let same = Some(short(&hasher)) == record.hash;
        if same { Ok(()) } else { Err("has other content than was backed up".to_owned()) }
    }
}

impl Handler for Prover {
    fn stream(&mut self) -> &mut PackStream {
        &mut self.stream
    }

    fn is_done(&mut self, _record: &Record) -> bool {
        false
    }

    fn handle(&mut self, record: &Record) -> Result<(), Failure> {
        let result = match self.prove(record) {
            Ok(()) => Ok(()),
            Err(what) => Err(explain(&mut self.stream, &what)),
        };
        let object = self.stream.path();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for (object, what) in self.stream.take_damaged() {
            shared.findings.object(&object, &what);
        }
        shared.verified.entry(self.pack).or_default().extend(self.stream.take_verified());
        match result {
            Ok(()) if record.kind == EntryKind::File => {
                shared.proof.0 += 1;
                shared.proof.2 += record.size;
            }
            Ok(()) => shared.proof.1 += 1,
            Err(Unreadable::Damaged(what)) => {
                shared.findings.hit(&object, &what, String::from_utf8_lossy(&record.path).into_owned());
            }
            Err(Unreadable::Store(failure)) => return Err(failure),
        }
        self.meter.add(announced(record), 1);
        Ok(())
    }

    fn take_report(&mut self) -> FilesReport {
        FilesReport::default()
    }
}
