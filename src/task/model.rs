//! A model of the outside for tests: a store in memory, a clock that is set, sources of a few bytes.

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
        store::{HashKind, Listed, ObjectStore, StoreError},
    },
    task::{
        context::SourceContext,
        world::{Access, World},
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
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

/// A store seen through something that may come between each call and its answer.
#[async_trait]
pub trait Between: Send + Sync {
    /// Where calls go.
    fn inner(&self) -> &Arc<dyn ObjectStore>;

    /// Where a listing goes.
    fn lister(&self) -> &Arc<dyn ObjectStore> {
        self.inner()
    }

    /// Before a call: an error is its answer, and it is not done.
    async fn before(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// After a call that was done: an error is its answer.
    async fn after(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl<T: Between> ObjectStore for T {
    async fn put(&self, path: &str, body: Vec<Bytes>) -> Result<(), StoreError> {
        self.before().await?;
        let done = self.inner().put(path, body).await;
        self.after().await.and(done)
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.before().await?;
        let done = self.inner().get(path).await;
        self.after().await.and(done)
    }

    async fn read(
        &self,
        path: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        self.before().await?;
        let done = self.inner().read(path, range).await;
        self.after().await.and(done)
    }

    async fn list(&self, directory: &str, recursive: bool, hashes: bool) -> Result<Vec<Listed>, StoreError> {
        self.before().await?;
        let done = self.lister().list(directory, recursive, hashes).await;
        self.after().await.and(done)
    }

    async fn make_directory(&self, directory: &str) -> Result<(), StoreError> {
        self.before().await?;
        let done = self.inner().make_directory(directory).await;
        self.after().await.and(done)
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.before().await?;
        let done = self.inner().delete(path).await;
        self.after().await.and(done)
    }

    async fn remove_directory(&self, directory: &str) -> Result<(), StoreError> {
        self.before().await?;
        let done = self.inner().remove_directory(directory).await;
        self.after().await.and(done)
    }

    fn native_hash(&self) -> Option<HashKind> {
        self.inner().native_hash()
    }
}

/// A process that dies: after so many calls nothing is done any more and every answer is an error.
pub struct Dying {
    pub inner: Arc<dyn ObjectStore>,
    pub left: AtomicUsize,
    /// The last call is done, and its answer lost.
    pub done_but_lost: bool,
}

/// Counts down; what was left before. `None` from zero on.
fn count_down(left: &AtomicUsize) -> Option<usize> {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).ok()
}

fn died() -> StoreError {
    StoreError::Unavailable { operation: "anything".to_owned(), detail: "the process died".to_owned() }
}

#[async_trait]
impl Between for Dying {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    async fn before(&self) -> Result<(), StoreError> {
        count_down(&self.left).map(drop).ok_or_else(died)
    }

    async fn after(&self) -> Result<(), StoreError> {
        let last = self.left.load(Ordering::SeqCst) == 0;
        if self.done_but_lost && last { Err(died()) } else { Ok(()) }
    }
}

/// A process that waits for one of its answers while something else happens.
pub struct Meanwhile {
    inner: Arc<dyn ObjectStore>,
    left: AtomicUsize,
    act: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Meanwhile {
    /// `act` happens while call number `calls`, from zero, waits for its answer.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        calls: usize,
        act: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { inner, left: AtomicUsize::new(calls + 1), act: Mutex::new(Some(Box::pin(act))) }
    }

    pub fn happened(&self) -> bool {
        self.act.lock().unwrap().is_none()
    }
}

#[async_trait]
impl Between for Meanwhile {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    async fn after(&self) -> Result<(), StoreError> {
        if count_down(&self.left) == Some(1) {
            let act = self.act.lock().unwrap().take();
            act.unwrap().await;
        }
        Ok(())
    }
}

/// A store whose listings show another time.
pub struct Stale {
    inner: Arc<dyn ObjectStore>,
    other: Arc<dyn ObjectStore>,
    right: AtomicUsize,
    wrong: AtomicUsize,
    shown: AtomicBool,
}

impl Stale {
    /// After `right` good listings, the next `wrong` ones are those of `other`.
    pub fn new(inner: Arc<dyn ObjectStore>, other: Arc<dyn ObjectStore>, right: usize, wrong: usize) -> Self {
        let (right, wrong) = (AtomicUsize::new(right), AtomicUsize::new(wrong));
        Self { inner, other, right, wrong, shown: AtomicBool::new(false) }
    }

    /// Whether any wrong listing was given.
    pub fn was_shown(&self) -> bool {
        self.shown.load(Ordering::SeqCst)
    }
}

impl Between for Stale {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    fn lister(&self) -> &Arc<dyn ObjectStore> {
        if count_down(&self.right).is_some() || count_down(&self.wrong).is_none() {
            return &self.inner;
        }
        self.shown.store(true, Ordering::SeqCst);
        &self.other
    }
}
