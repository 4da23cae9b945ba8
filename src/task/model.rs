//! A model of the outside for tests: a store in memory, a clock that is set, sources of a few bytes.

mod between;

pub use between::{Dying, Meanwhile, Stale};

use crate::{
    domain::{
        location::{Location, RcloneConfig},
        names::{Slot, SnapshotName},
        policy::{Guards, Source, Volume, VolumePlace},
        retention::Retention,
        snapshot::SnapshotSummary,
        verdict::Failure,
    },
    plan::task_spec::{BackupWork, FinishWork, TASK_SPEC_VERSION, TaskSpec, Work},
    storage::{
        manifest::{self, SourceRecord, StoredObject},
        memory::MemoryStore,
        pack::writer::{PackOptions, PackWriter},
        store::{HashKind, ObjectStore},
    },
    task::{
        context::SourceContext,
        world::{Access, World},
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// 25 November 2026, 02:00 UTC.
pub const NIGHT: i64 = 1_795_572_000;
pub const DAY: i64 = 86_400;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn slot(second: i64) -> Slot {
    Slot::scheduled(at(second))
}

pub fn snapshot(second: i64) -> SnapshotName {
    SnapshotName::new("nightly".parse().unwrap(), slot(second))
}

pub fn volume(name: &str) -> Source {
    Source::Volume(Volume {
        name: name.parse().unwrap(),
        place: VolumePlace::HostPath("/srv".into()),
        include: vec![],
        exclude: vec![],
        optional: name.starts_with("optional"),
        allow_empty: false,
        node_selector: BTreeMap::new(),
        one_file_system: true,
    })
}

pub fn location() -> Location {
    Location {
        remote: "box".parse().unwrap(),
        path: "WT".parse().unwrap(),
        config: RcloneConfig::Directory("/config".into()),
        bandwidth_limit: None,
        transfers: 2,
        part_size_mib: 1,
    }
}

/// What each source holds: its files, or why it cannot be read.
type Contents = BTreeMap<String, Result<Vec<Vec<u8>>, Failure>>;

pub struct Model {
    pub memory: Arc<MemoryStore>,
    /// What tasks see of the store.
    pub store: Mutex<Arc<dyn ObjectStore>>,
    pub now: Mutex<Timestamp>,
    pub contents: Mutex<Contents>,
    /// Sources that were read so far.
    pub reads: AtomicUsize,
    /// Entries of each source that cannot be read.
    pub unreadable: AtomicU64,
    /// What each source remarks.
    pub remarks: Mutex<Vec<String>>,
    /// How the store was opened, each time.
    pub opened: Mutex<Vec<Access>>,
}

impl Model {
    /// Two volumes, `homes` and `mail`.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::empty())
    }

    fn empty() -> Self {
        let memory = Arc::new(MemoryStore::with_hash(HashKind::Sha1));
        let contents = [("homes", 3u8), ("mail", 2)];
        Self {
            store: Mutex::new(memory.clone()),
            memory,
            now: Mutex::new(at(NIGHT)),
            contents: Mutex::new(
                contents
                    .map(|(name, count)| (name.to_owned(), Ok((0..count).map(|n| vec![n; 50]).collect())))
                    .into(),
            ),
            reads: AtomicUsize::new(0),
            unreadable: AtomicU64::new(0),
            remarks: Mutex::default(),
            opened: Mutex::default(),
        }
    }

    /// Another process at the same store, with a clock of its own.
    pub fn beside(&self) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::new(self.memory.clone()),
            memory: self.memory.clone(),
            ..Self::empty()
        })
    }

    pub fn set(&self, source: &str, contents: Result<Vec<Vec<u8>>, Failure>) {
        self.contents.lock().unwrap().insert(source.to_owned(), contents);
    }

    pub fn set_now(&self, second: i64) {
        *self.now.lock().unwrap() = at(second);
    }

    /// From now on, tasks see the store through `make`.
    pub fn through(&self, make: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) {
        *self.store.lock().unwrap() = make(self.memory.clone());
    }

    pub fn spec(&self, work: Work) -> TaskSpec {
        TaskSpec {
            version: TASK_SPEC_VERSION,
            policy: "nightly".parse().unwrap(),
            instance: "production".parse().unwrap(),
            destination: location(),
            site: "here".to_owned(),
            take_over: false,
            known_place: false,
            not_after: at(NIGHT + 4000 * DAY),
            memory_mib: 64,
            work,
        }
    }
}

pub fn finish_work(slot_second: i64, required: &[&str]) -> FinishWork {
    FinishWork {
        slot: slot(slot_second),
        required: required.iter().map(|name| name.parse().unwrap()).collect(),
        optional: vec![],
        retention: Retention::default(),
        run_deadline_seconds: 3600,
        keep: vec![],
        keep_files: None,
    }
}

pub fn backup_work(slot_second: i64) -> BackupWork {
    BackupWork {
        slot: slot(slot_second),
        attempt: 1,
        sources: vec![volume("homes"), volume("mail")],
        guards: Guards { minimum_source_percent: 50 },
        last_good: vec![],
        accept_shrink: false,
        finish: Some(finish_work(slot_second, &["homes", "mail"])),
    }
}

/// Totals of a source with so many bytes and files.
pub fn totals(summary: &SnapshotSummary) -> Vec<(String, u64, u64)> {
    summary.sources.iter().map(|s| (s.source.to_string(), s.source_bytes, s.files)).collect()
}

#[async_trait]
impl World for Model {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    async fn open(&self, access: Access) -> Result<Arc<dyn ObjectStore>, Failure> {
        self.opened.lock().unwrap().push(access);
        Ok(self.store.lock().unwrap().clone())
    }

    async fn store(&self, source: &Source, context: &SourceContext) -> Result<SourceRecord, Failure> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let name = source.name().to_string();
        self.remarks.lock().unwrap().iter().for_each(|remark| context.meter.remark(remark.clone()));
        let files = self.contents.lock().unwrap()[&name].clone()?;
        let prefix = format!("{name}-{}", context.attempt);
        let mut record = manifest::tests::record(&context.snapshot, &name, &context.attempt);
        let index = Bytes::from(format!("index of {name}"));
        record.index.objects[0].stored = index.len() as u64;
        record.index.objects[0].blake3 = blake3::hash(&index).to_hex().to_string();
        let StoredObject { name: object, .. } = &record.index.objects[0];
        context.store.put(&format!("{}/{object}", context.directory()), vec![index]).await?;
        record.counts.files = files.len() as u64;
        record.counts.dirs = 1;
        record.counts.unreadable = self.unreadable.load(Ordering::Relaxed);
        record.counts.bytes = files.iter().map(|file| file.len() as u64).sum();
        record.index.records = record.counts.files + 1;
        let options = PackOptions {
            directory: context.directory(),
            prefix,
            stream: "tar",
            part_bytes: context.part_bytes,
            memory_bytes: context.memory_bytes,
            transfers: 1,
            workers: 1,
        };
        let mut writer = PackWriter::start_with_backoff(options, context.store.clone(), &[Duration::ZERO; 2]);
        let written = tokio::task::spawn_blocking(move || {
            files.iter().try_for_each(|file| writer.write(file))?;
            writer.finish()
        });
        let (pack, _) = written.await.unwrap()?;
        record.packs = vec![pack];
        Ok(record)
    }

    async fn look(&self, source: &Source) -> Result<Vec<String>, Failure> {
        self.contents.lock().unwrap()[source.name().as_str()].clone().map(|_| vec![])
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}
