//! What may come between a process and its store: death, a long wait, listings of another time.

use crate::storage::store::{HashKind, Listed, ObjectStore, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

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
