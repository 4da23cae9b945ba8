//! The second half of a pass: objects that no manifest refers to, once they are older than a grace period.

use super::request::{Pruned, Request};
use crate::{
    domain::{names::SnapshotName, verdict::Failure},
    storage::{
        catalog::Catalog,
        layout::{self, AttemptObject, ObjectName, PackId, Prefix},
        store::ObjectStore,
    },
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Deletions at once.
const AT_ONCE: usize = 8;

/// Failures after which a directory is left for the next pass.
const ENOUGH: usize = 20;

/// Deletes what `catalog`, the second reading, refers to no more.
pub(super) async fn sweep(
    store: &dyn ObjectStore,
    request: &Request<'_>,
    catalog: &Catalog,
    now: Timestamp,
    pruned: &mut Pruned,
) -> Result<(), Failure> {
    let before = request.before(now);
    let unneeded = Unneeded::of(catalog, before);
    let live: BTreeSet<_> = catalog.snapshots.iter().map(|manifest| &manifest.snapshot).collect();
    let ours = live
        .iter()
        .copied()
        .chain(&catalog.unfinished)
        .filter(|name| name.policy() == request.claimant.policy);
    let mut days = BTreeSet::new();
    for name in ours {
        let directory = Directory { name, before, live: live.contains(name), unneeded: &unneeded };
        if directory.sweep(store, pruned).await? {
            days.insert(name.slot().day());
        }
    }
    for day in days {
        let _ = store.remove_directory(&day).await;
    }
    sweep_probes(store, request, before, pruned).await
}

/// What no manifest of any policy needs, once it is old enough.
pub(super) struct Unneeded {
    referenced: BTreeSet<PackId>,
    before: Timestamp,
}

impl Unneeded {
    /// Nothing that began after `before` is among it.
    pub(super) fn of(catalog: &Catalog, before: Timestamp) -> Self {
        let mut referenced = BTreeSet::new();
        for manifest in &catalog.snapshots {
            for record in &manifest.sources {
                referenced.insert(PackId { snapshot: manifest.snapshot.clone(), prefix: record.prefix() });
                referenced.extend(record.packs.iter().filter_map(|pack| pack.id.parse().ok()));
            }
        }
        Self { referenced, before }
    }

    /// Whether the object with this path is.
    pub(super) fn contains(&self, path: &str) -> bool {
        let mut pieces = path.rsplit('/');
        let (Some(name), Some(snapshot)) = (pieces.next(), pieces.next()) else { return false };
        match (ObjectName::parse(name), snapshot.parse()) {
            (Some(ObjectName::OfAttempt(prefix, _)), Ok(snapshot)) => self.attempt(&snapshot, &prefix),
            _ => false,
        }
    }

    fn attempt(&self, snapshot: &SnapshotName, prefix: &Prefix) -> bool {
        let id = PackId { snapshot: snapshot.clone(), prefix: prefix.clone() };
        !self.referenced.contains(&id) && prefix.attempt.started() < self.before
    }
}

struct Directory<'a> {
    name: &'a SnapshotName,
    /// What began later than this is left alone.
    before: Timestamp,
    /// It has a manifest.
    live: bool,
    unneeded: &'a Unneeded,
}

impl Directory<'_> {
    /// True when the directory was removed.
    async fn sweep(&self, store: &dyn ObjectStore, pruned: &mut Pruned) -> Result<bool, Failure> {
        let directory = layout::directory(self.name);
        let listed = store.list(&directory, false, false).await?;
        let (mut debris, mut texts, mut kept, mut foreign) = (Vec::new(), Vec::new(), 0, 0);
        for entry in listed {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            match ObjectName::parse(name).filter(|_| !entry.is_dir) {
                Some(ObjectName::OfAttempt(prefix, object)) if self.unneeded.attempt(self.name, &prefix) => {
                    debris.push((rank(object), entry.path));
                }
                Some(ObjectName::RestoreText(_)) => texts.push((Rank::RestoreText, entry.path)),
                Some(ObjectName::Manifest(_)) if !self.live => {
                    // It was asked for and not found: one of the two answers is wrong or late.
                    pruned.warnings.push(format!("{} is listed but cannot be read: left alone", entry.path));
                    return Ok(false);
                }
                Some(_) => kept += 1,
                None => foreign += 1,
            }
        }
        let over = !self.live && kept == 0 && self.name.slot().time() < self.before;
        if over {
            debris.append(&mut texts);
        }
        let failed = delete(store, &directory, debris, pruned).await;
        if failed || foreign > 0 || !over {
            return Ok(false);
        }
        store.remove_directory(&directory).await?;
        Ok(true)
    }
}

/// The order of deletion: what refers to something goes after what it refers to, so that a half-deleted attempt still
/// tells what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Part,
    List,
    Record,
    RestoreText,
}

fn rank(object: AttemptObject) -> Rank {
    match object {
        AttemptObject::Part(_) => Rank::Part,
        AttemptObject::PartsList | AttemptObject::Index => Rank::List,
        AttemptObject::SourceRecord(_) => Rank::Record,
    }
}

/// Deletes rank by rank; a rank that failed keeps the later ones. True when something is left.
async fn delete(
    store: &dyn ObjectStore,
    directory: &str,
    mut debris: Vec<(Rank, String)>,
    pruned: &mut Pruned,
) -> bool {
    for rank in [Rank::Part, Rank::List, Rank::Record, Rank::RestoreText] {
        let paths: Vec<_> = debris.extract_if(.., |(of, _)| *of == rank).map(|(_, path)| path).collect();
        let mut answers = stream::iter(paths)
            .map(|path| async move { store.delete(&path).await })
            .buffer_unordered(AT_ONCE);
        let mut failures = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => pruned.objects += 1,
                Err(error) => failures.push(error),
            }
            if failures.len() >= ENOUGH {
                break;
            }
        }
        if let Some(first) = failures.first() {
            pruned
                .warnings
                .push(format!("{directory}: {} objects could not be deleted: {first}", failures.len()));
            return true;
        }
    }
    false
}

/// Probes whose preflight could not delete them.
async fn sweep_probes(
    store: &dyn ObjectStore,
    request: &Request<'_>,
    before: Timestamp,
    pruned: &mut Pruned,
) -> Result<(), Failure> {
    let policy = request.claimant.policy;
    let old = |path: &str| layout::probe_time(path, policy).is_some_and(|time| time < before);
    for entry in
        store.list("", false, false).await?.into_iter().filter(|entry| !entry.is_dir && old(&entry.path))
    {
        match store.delete(&entry.path).await {
            Ok(()) => pruned.objects += 1,
            Err(error) => pruned.warnings.push(format!("{} could not be deleted: {error}", entry.path)),
        }
    }
    Ok(())
}
