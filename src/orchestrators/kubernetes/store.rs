//! What is known of one kind of object, kept up to date by a watch and by what we write ourselves.

use crate::{
    domain::identity::PolicyId,
    orchestrators::kubernetes::objects::{Meta, Seen},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// So long it is remembered that an object is gone.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Objects of one kind by policy and identity.
#[derive(Debug)]
pub struct Store<T> {
    inner: RwLock<Inner<T>>,
    /// Watches that have not told everything yet.
    awaited: AtomicUsize,
}

#[derive(Debug)]
struct Inner<T> {
    by_policy: HashMap<PolicyId, BTreeMap<String, Kept<T>>>,
    policies: HashMap<String, PolicyId>,
    /// Objects that are gone for good, for a while: what is told of them comes too late.
    gone: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    /// When we wrote it ourselves: a list that was begun before may lack it.
    written_at: Option<Instant>,
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// It was not known.
    New(T),
    /// It is another than before.
    Other { before: T, now: T },
    /// It is gone.
    Gone(T),
}

impl<T> Store<T> {
    /// Nothing is known until so many watches have told everything.
    pub fn new(watches: usize) -> Self {
        let inner = Inner { by_policy: HashMap::new(), policies: HashMap::new(), gone: HashMap::new() };
        Self { inner: RwLock::new(inner), awaited: AtomicUsize::new(watches) }
    }

    /// True once everything is known.
    pub fn is_complete(&self) -> bool {
        self.awaited.load(Ordering::Acquire) == 0
    }

    /// One more watch has told everything.
    pub fn told_everything(&self) {
        let less = |n: usize| Some(n.saturating_sub(1));
        let _ = self.awaited.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Seen + Clone + PartialEq> Store<T> {
    /// What there is of a policy.
    pub fn of(&self, policy: &PolicyId) -> Vec<T> {
        let inner = self.read();
        let found = inner.by_policy.get(policy).into_iter().flat_map(BTreeMap::values);
        found.map(|kept| kept.value.clone()).collect()
    }

    /// What there is in a namespace; for what is rare.
    pub fn of_namespace(&self, namespace: &str) -> Vec<T> {
        let mut found = Vec::new();
        self.each(|value| {
            if value.meta().namespace == namespace {
                found.push(value.clone());
            }
        });
        found
    }

    /// Goes through everything.
    pub fn each(&self, mut visit: impl FnMut(&T)) {
        let inner = self.read();
        inner.by_policy.values().flat_map(BTreeMap::values).for_each(|kept| visit(&kept.value));
    }

    /// Notes an object that was written or read just now.
    pub fn note(&self, value: T) {
        let written_at = Some(Instant::now());
        self.write().put(Kept { value, written_at });
    }

    /// Notes an object that a watch tells of; what came of it, if anything.
    pub fn apply(&self, value: T) -> Option<Change<T>> {
        self.write().put(Kept { value, written_at: None })
    }

    /// Forgets an object.
    pub fn remove(&self, uid: &str) -> Option<Change<T>> {
        self.write().remove(uid).map(Change::Gone)
    }

    /// Takes a list of everything, of one namespace or all, that was begun at a time.
    pub fn replace(&self, all: Vec<T>, namespace: Option<&str>, begun: Instant) -> Vec<Change<T>> {
        let mut inner = self.write();
        let listed: std::collections::HashSet<String> =
            all.iter().map(|value| value.meta().uid.clone()).collect();
        let is_gone = |kept: &Kept<T>| {
            let meta = kept.value.meta();
            let is_told = namespace.is_none_or(|namespace| meta.namespace == namespace);
            is_told && !listed.contains(&meta.uid) && kept.written_at.is_none_or(|at| at < begun)
        };
        let known = inner.by_policy.values().flat_map(BTreeMap::values);
        let gone: Vec<String> =
            known.filter(|kept| is_gone(kept)).map(|kept| kept.value.meta().uid.clone()).collect();
        let mut changes: Vec<Change<T>> =
            gone.iter().filter_map(|uid| inner.remove(uid)).map(Change::Gone).collect();
        // What is listed is so, whatever its version: a server that was restored counts from an earlier one.
        for value in all {
            let kept = inner.kept(value.meta());
            let is_older = kept.is_some_and(|kept| kept.written_at.is_none_or(|at| at < begun));
            changes.extend(inner.take(Kept { value, written_at: None }, is_older));
        }
        changes
    }
}

impl<T: Seen + Clone + PartialEq> Inner<T> {
    fn kept(&self, meta: &Meta) -> Option<&Kept<T>> {
        self.by_policy.get(self.policies.get(&meta.uid)?)?.get(&meta.uid)
    }

    /// What is older than what is known says nothing.
    fn put(&mut self, kept: Kept<T>) -> Option<Change<T>> {
        self.take(kept, false)
    }

    /// Takes an object; also an older state of it, where that is known to be the last one.
    fn take(&mut self, kept: Kept<T>, also_older: bool) -> Option<Change<T>> {
        if self.gone.contains_key(&kept.value.meta().uid) {
            return None;
        }
        let (uid, policy) = (kept.value.meta().uid.clone(), kept.value.policy().clone());
        let before = self.policies.insert(uid.clone(), policy.clone());
        if let Some(before) = before.filter(|before| *before != policy)
            && let Some(objects) = self.by_policy.get_mut(&before)
        {
            objects.remove(&uid);
        }
        let objects = self.by_policy.entry(policy).or_default();
        match objects.get_mut(&uid) {
            Some(known) if known.value == kept.value => None,
            Some(known) if known.value.meta().version >= kept.value.meta().version && !also_older => None,
            Some(known) => {
                let now = kept.value.clone();
                let before = std::mem::replace(known, kept).value;
                Some(Change::Other { before, now })
            }
            None => {
                let now = kept.value.clone();
                objects.insert(uid, kept);
                Some(Change::New(now))
            }
        }
    }

    fn remove(&mut self, uid: &str) -> Option<T> {
        self.gone.retain(|_, at| at.elapsed() < REMEMBERED);
        self.gone.insert(uid.to_owned(), Instant::now());
        let policy = self.policies.remove(uid)?;
        let objects = self.by_policy.get_mut(&policy)?;
        let gone = objects.remove(uid).map(|kept| kept.value);
        if objects.is_empty() {
            self.by_policy.remove(&policy);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Thing(Meta, PolicyId);

    impl Seen for Thing {
        fn meta(&self) -> &Meta {
            &self.0
        }
        fn policy(&self) -> &PolicyId {
            &self.1
        }
    }

    fn thing(namespace: &str, uid: &str, version: u64) -> Thing {
        let meta = Meta {
            namespace: namespace.into(),
            name: uid.into(),
            uid: uid.into(),
            version,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            deleting: false,
            owner: None,
        };
        Thing(meta, format!("{namespace}/nightly").parse().unwrap())
    }

    #[test]
    fn what_is_older_says_nothing_and_our_own_writes_are_no_news() {
        let store = Store::new(1);
        assert!(!store.is_complete());
        assert_eq!(store.apply(thing("a", "x", 5)), Some(Change::New(thing("a", "x", 5))));
        assert_eq!(store.apply(thing("a", "x", 4)), None);
        store.note(thing("a", "x", 7));
        assert_eq!(store.apply(thing("a", "x", 7)), None, "the echo of what we wrote");
        let other = Change::Other { before: thing("a", "x", 7), now: thing("a", "x", 8) };
        assert_eq!(store.apply(thing("a", "x", 8)), Some(other));
        assert_eq!(store.of(&"a/nightly".parse().unwrap()), [thing("a", "x", 8)]);
        assert_eq!(store.remove("x"), Some(Change::Gone(thing("a", "x", 8))));
        assert_eq!(store.remove("x"), None);
        store.note(thing("a", "x", 9));
        assert_eq!(store.of(&"a/nightly".parse().unwrap()), [], "it is gone for good");
        store.told_everything();
        assert!(store.is_complete());
    }

    #[test]
    fn a_list_removes_what_it_lacks_but_not_what_was_written_since_nor_what_is_elsewhere() {
        let store = Store::new(1);
        store.apply(thing("a", "old", 1));
        store.apply(thing("b", "elsewhere", 1));
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        store.note(thing("a", "fresh", 3));
        let changes = store.replace(vec![thing("a", "new", 2)], Some("a"), begun);
        assert_eq!(changes, [Change::Gone(thing("a", "old", 1)), Change::New(thing("a", "new", 2))]);
        let names = |policy: &str| {
            let mut names: Vec<_> =
                store.of(&policy.parse().unwrap()).into_iter().map(|thing| thing.0.name).collect();
            names.sort();
            names
        };
        assert_eq!(names("a/nightly"), ["fresh", "new"]);
        assert_eq!(names("b/nightly"), ["elsewhere"]);
        let restored = store.replace(vec![thing("a", "new", 1), thing("a", "fresh", 1)], Some("a"), begun);
        let other = Change::Other { before: thing("a", "new", 2), now: thing("a", "new", 1) };
        assert_eq!(restored, [other], "the server was restored; what we wrote since is newer than the list");
    }
}
