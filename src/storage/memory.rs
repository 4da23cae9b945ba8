//! A store in memory that behaves as a remote does, with faults on demand: the model for tests of every kill point.

use crate::storage::store::{HashKind, Listed, ObjectPath, ObjectStore, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The calls of [`ObjectStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`ObjectStore::put`]
    Put,
    /// [`ObjectStore::get`]
    Get,
    /// [`ObjectStore::read`]
    Read,
    /// [`ObjectStore::list`]
    List,
    /// [`ObjectStore::make_directory`]
    MakeDirectory,
    /// [`ObjectStore::delete`]
    Delete,
    /// [`ObjectStore::remove_directory`]
    RemoveDirectory,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Nothing happens on the store, and the caller is told this.
    Refuse(StoreError),
    /// It happens, and the caller is told this: the answer was lost.
    DoneButLost(StoreError),
    /// A put leaves the first so many bytes under the name, a read breaks after so many; the caller is told this.
    CutAt(u64, StoreError),
    /// It takes this long, and then works.
    Slow(Duration),
    /// No answer, ever.
    Stall,
}

/// A planned fault: hits calls of `operation` whose path contains `path`.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which call.
    pub operation: Operation,
    /// A piece of the path; empty for all.
    pub path: String,
    /// Matching calls that go well first.
    pub skip: usize,
    /// Matching calls that are hit after that; `usize::MAX` for all.
    pub times: usize,
    /// What goes wrong.
    pub effect: Effect,
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    hash: Option<HashKind>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    directories: BTreeSet<String>,
    faults: Vec<Fault>,
    calls: Vec<(Operation, String)>,
    /// Bodies are dropped and only their sizes kept: for tests of more bytes than there is memory.
    forget_bodies: bool,
    received: u64,
}

impl MemoryStore {
    /// An empty store without hashes of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that lists hashes of this kind.
    pub fn with_hash(kind: HashKind) -> Self {
        Self { hash: Some(kind), ..Self::default() }
    }

    /// An empty store that keeps names and forgets what is in them.
    pub fn forgetful() -> Self {
        let store = Self::default();
        store.lock().forget_bodies = true;
        store
    }

    /// Plans a fault. The first planned one that matches a call is used.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Every call so far with its path, in order.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.lock().calls.clone()
    }

    /// Paths of all objects, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Bytes received by puts, whether they went well or not.
    pub fn received(&self) -> u64 {
        self.lock().received
    }

    /// The content of an object, past all faults.
    pub fn peek(&self, path: &str) -> Option<Bytes> {
        self.lock().objects.get(path).cloned()
    }

    /// Puts `content` where `path` is, past all rules and faults: damage, or a foreign writer.
    pub fn overwrite(&self, path: &str, content: impl Into<Bytes>) {
        let mut state = self.lock();
        state.note_parents(path);
        state.objects.insert(path.to_owned(), content.into());
    }

    /// Removes an object, past all rules and faults. True when it was there.
    pub fn lose(&self, path: &str) -> bool {
        self.lock().objects.remove(path).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call, and gives the effect planned for it once any delay is over.
    async fn enter(&self, operation: Operation, path: &str) -> Option<Effect> {
        let effect = self.lock().next_effect(operation, path);
        match effect {
            Some(Effect::Slow(time)) => {
                tokio::time::sleep(time).await;
                None
            }
            Some(Effect::Stall) => std::future::pending().await,
            other => other,
        }
    }

    /// A call without a body: refused, done, or done without an answer.
    async fn simple<T>(
        &self,
        operation: Operation,
        path: &str,
        act: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.enter(operation, path).await {
            Some(Effect::Refuse(error) | Effect::CutAt(_, error)) => Err(error),
            Some(Effect::DoneButLost(error)) => act(&mut self.lock()).and(Err(error)),
            _ => act(&mut self.lock()),
        }
    }
}

impl State {
    fn next_effect(&mut self, operation: Operation, path: &str) -> Option<Effect> {
        self.calls.push((operation, path.to_owned()));
        let hit = |f: &&mut Fault| f.operation == operation && f.times > 0 && path.contains(&f.path);
        let fault = self.faults.iter_mut().find(hit)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        if fault.times != usize::MAX {
            fault.times -= 1;
        }
        Some(fault.effect.clone())
    }

    fn note_parents(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at);
        self.directories.extend(ends.map(|at| path[..at].to_owned()));
    }

    fn store(&mut self, path: &str, body: Vec<Bytes>, limit: u64) -> Result<(), StoreError> {
        if self.objects.contains_key(path) {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let mut content = Vec::new();
        for chunk in body {
            self.received += chunk.len() as u64;
            if !self.forget_bodies {
                content.extend_from_slice(&chunk);
            }
        }
        content.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        self.note_parents(path);
        self.objects.insert(path.to_owned(), content.into());
        Ok(())
    }

    fn load(&self, path: &str) -> Result<Bytes, StoreError> {
        self.objects.get(path).cloned().ok_or_else(|| StoreError::NotFound { path: path.to_owned() })
    }

    fn list(
        &self,
        directory: &str,
        recursive: bool,
        hash: Option<HashKind>,
    ) -> Result<Vec<Listed>, StoreError> {
        if !directory.is_empty() && !self.directories.contains(directory) {
            return Err(StoreError::NotFound { path: directory.to_owned() });
        }
        let below = |path: &str| {
            let rest = if directory.is_empty() {
                Some(path)
            } else {
                path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'))
            };
            rest.is_some_and(|rest| recursive || !rest.contains('/'))
        };
        let directories = self.directories.iter().filter(|path| below(path));
        let directories =
            directories.map(|path| Listed { path: path.clone(), size: 0, is_dir: true, hash: None });
        let objects = self.objects.iter().filter(|(path, _)| below(path)).map(|(path, content)| Listed {
            path: path.clone(),
            size: content.len() as u64,
            is_dir: false,
            hash: hash.map(|kind| {
                let mut hasher = kind.hasher();
                hasher.update(content);
                hasher.finish()
            }),
        });
        Ok(directories.chain(objects).collect())
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, path: &ObjectPath, body: Vec<Bytes>) -> Result<(), StoreError> {
        match self.enter(Operation::Put, path).await {
            Some(Effect::Refuse(error)) => Err(error),
            Some(Effect::DoneButLost(error)) => self.lock().store(path, body, u64::MAX).and(Err(error)),
            Some(Effect::CutAt(limit, error)) => self.lock().store(path, body, limit).and(Err(error)),
            _ => self.lock().store(path, body, u64::MAX),
        }
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes, StoreError> {
        self.simple(Operation::Get, path, |state| state.load(path)).await
    }

    async fn read(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let effect = self.enter(Operation::Read, path).await;
        if let Some(Effect::Refuse(error) | Effect::DoneButLost(error)) = effect {
            return Err(error);
        }
        let content = self.lock().load(path)?;
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        let (start, end) = (clamp(range.start), clamp(range.end));
        let content = content.slice(start..end.max(start));
        let (good, broken) = match effect {
            Some(Effect::CutAt(limit, error)) => (
                content.slice(..content.len().min(usize::try_from(limit).unwrap_or(usize::MAX))),
                Some(error),
            ),
            _ => (content, None),
        };
        let chunk = |good: Bytes, at: usize| good.slice(at..good.len().min(at + READ_CHUNK));
        let starts = (0..good.len()).step_by(READ_CHUNK);
        let chunks: Vec<_> = starts.map(|at| Ok(chunk(good.clone(), at))).chain(broken.map(Err)).collect();
        Ok(stream::iter(chunks).boxed())
    }

    async fn list(
        &self,
        directory: &ObjectPath,
        recursive: bool,
        hashes: bool,
    ) -> Result<Vec<Listed>, StoreError> {
        let hash = if hashes { self.hash } else { None };
        self.simple(Operation::List, directory, |state| state.list(directory, recursive, hash)).await
    }

    async fn make_directory(&self, directory: &ObjectPath) -> Result<(), StoreError> {
        self.simple(Operation::MakeDirectory, directory, |state| {
            state.note_parents(&format!("{directory}/"));
            Ok(())
        })
        .await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.simple(Operation::Delete, path, |state| {
            state.objects.remove(path);
            Ok(())
        })
        .await
    }

    async fn remove_directory(&self, directory: &ObjectPath) -> Result<(), StoreError> {
        self.simple(Operation::RemoveDirectory, directory, |state| {
            if state.list(directory, false, None).is_ok_and(|entries| entries.is_empty()) {
                state.directories.remove(directory);
            }
            Ok(())
        })
        .await
    }

    fn native_hash(&self) -> Option<HashKind> {
        self.hash
    }
}

/// Bytes handed out at once by a read.
const READ_CHUNK: usize = 64 * 1024;
