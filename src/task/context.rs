//! What every verb of a task is given: the store, the attempt, limits, and where to report progress.

use crate::{
    domain::{
        names::{AttemptId, SnapshotName},
        snapshot::SnapshotSummary,
    },
    plan::task_spec::Progress,
    storage::store::ObjectStore,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// What a source needs while it stores itself.
#[derive(Clone)]
pub struct SourceContext {
    /// The store, rooted at the instance's folder.
    pub store: Arc<dyn ObjectStore>,
    /// The snapshot that the run makes.
    pub snapshot: SnapshotName,
    /// This attempt.
    pub attempt: AttemptId,
    /// Target size of a part, bytes.
    pub part_bytes: u64,
    /// Memory for buffers, bytes.
    pub memory_bytes: u64,
    /// Parallel transfers.
    pub transfers: usize,
    /// What is going on.
    pub meter: Arc<Meter>,
}

impl SourceContext {
    /// The snapshot's directory below the store's root: `<YYYYMMDD>/<snapshot>`.
    pub fn directory(&self) -> String {
        format!("{}/{}", self.snapshot.slot().day(), self.snapshot)
    }
}

/// Counters of the current phase and remarks, written by the workers, read by whoever shows them.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    items: AtomicU64,
    /// 0: unknown.
    total: AtomicU64,
    phase: Mutex<String>,
    changing: AtomicBool,
    committed: Mutex<Option<(SnapshotSummary, Vec<String>)>>,
    remarks: Mutex<Vec<String>>,
}

impl Meter {
    /// Begins a phase and sets the counters to zero.
    pub fn begin(&self, phase: &str, total_bytes: Option<u64>) {
        let mut current = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.clone_into(&mut current);
        self.bytes.store(0, Ordering::Relaxed);
        self.items.store(0, Ordering::Relaxed);
        self.total.store(total_bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts source bytes and files or documents.
    pub fn add(&self, bytes: u64, items: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.items.fetch_add(items, Ordering::Relaxed);
    }

    /// The snapshot exists, with these remarks: whatever ends the task from now on does not change that.
    pub fn commit(&self, snapshot: SnapshotSummary, remarks: Vec<String>) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = Some((snapshot, remarks));
    }

    /// The snapshot that exists, once.
    pub fn take_committed(&self) -> Option<(SnapshotSummary, Vec<String>)> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// From now on what is restored into may be changed.
    pub fn changes(&self) {
        self.changing.store(true, Ordering::Relaxed);
    }

    /// What is restored into may have been changed.
    pub fn has_changed(&self) -> bool {
        self.changing.load(Ordering::Relaxed)
    }

    /// Says something that a person should know when it is over; once, however often it comes up.
    pub fn remark(&self, text: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if !remarks.contains(&text) {
            tracing::warn!("{text}");
            remarks.push(text);
        }
    }

    /// What was remarked since it was last asked for.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows what another process counts.
    pub fn show(&self, progress: &Progress) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        progress.phase.clone_into(&mut phase);
        self.bytes.store(progress.bytes, Ordering::Relaxed);
        self.items.store(progress.items, Ordering::Relaxed);
        self.total.store(progress.total_bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// The counters now.
    pub fn read(&self) -> Progress {
        let total = self.total.load(Ordering::Relaxed);
        Progress {
            phase: self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes: self.bytes.load(Ordering::Relaxed),
            total_bytes: (total > 0).then_some(total),
            items: self.items.load(Ordering::Relaxed),
        }
    }
}
