//! Pruning: what retention drops goes, manifests first, bytes after a second reading.
//!
//! Survey (complete, or nothing is deleted) → doomed, by both evaluations → delete their manifests and confirm → read
//! all manifests again → delete what no manifest refers to and what is older than a grace period. Killed anywhere, the
//! next pass computes everything again from the store. Names that are not ours are never touched.

mod request;
mod sweep;
pub mod work;

pub use request::{Pruned, Request, decide, grace};
use sweep::Unneeded;

use crate::{
    domain::{names::SnapshotName, retention::Decision, verdict::Failure},
    storage::{
        catalog::Catalog,
        layout::{self, AttemptObject, ObjectName, PackId, Prefix},
        manifest::{Manifest, PackRef, SourceRecord},
        store::{Listed, ObjectStore, StoreError},
    },
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a pass would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Snapshots that nothing keeps, newest first.
    doomed: Vec<SnapshotName>,
    /// There may be objects that nothing refers to.
    debris: bool,
}

impl Pass {
    /// True when there is nothing to delete, and no need of a store that can.
    pub fn is_idle(&self) -> bool {
        self.doomed.is_empty() && !self.debris
    }

    /// Leaves what has been held since the decision.
    #[must_use]
    pub fn without(mut self, held: &BTreeSet<SnapshotName>) -> Self {
        self.doomed.retain(|name| !held.contains(name));
        self
    }
}

/// One pass over the policy's snapshots.
///
/// # Errors
/// As [`plan`] and [`carry_out`].
pub async fn prune(
    store: &dyn ObjectStore,
    request: &Request<'_>,
    now: Timestamp,
) -> Result<Pruned, Failure> {
    let pass = plan(store, request, now).await?;
    if pass.is_idle() { Ok(Pruned::default()) } else { carry_out(store, request, pass, now).await }
}

/// Reads everything that must be right before anything is deleted, and decides.
///
/// # Errors
/// Why nothing may be deleted.
pub async fn plan(store: &dyn ObjectStore, request: &Request<'_>, now: Timestamp) -> Result<Pass, Failure> {
    request.claimant.check(store).await?;
    let catalog = read(store, request, now).await?;
    let doomed: Vec<_> =
        request.decide(&catalog, now).into_iter().filter(Decision::is_doomed).map(|d| d.name).collect();
    let points = catalog.of(Some(request.claimant.policy)).count();
    if doomed.len() * 2 > points && !request.allow_many {
        return Err(stopped(format!(
            "retention would remove {} of {points} snapshots at once, more than half of them",
            doomed.len()
        ))
        .fix(format!(
            "if that is what you want: backstay prune {0} --confirm={0}; else raise retention",
            request.claimant.policy
        )));
    }
    let debris = survey(store, request, &catalog, now).await?;
    Ok(Pass { doomed, debris })
}

/// Deletes what [`plan`] found.
///
/// # Errors
/// Why no bytes were deleted after manifests were: the next pass goes on.
pub async fn carry_out(
    store: &dyn ObjectStore,
    request: &Request<'_>,
    pass: Pass,
    now: Timestamp,
) -> Result<Pruned, Failure> {
    let mut pruned = Pruned::default();
    for name in pass.doomed.iter().rev() {
        delete_manifest(store, name, &mut pruned).await;
    }
    let catalog = Catalog::load(store).await?;
    refuse_damage(&catalog)?;
    let gone = |name: &SnapshotName| !catalog.snapshots.iter().any(|manifest| manifest.snapshot == *name);
    pruned.removed = pass.doomed.into_iter().filter(gone).collect();
    sweep::sweep(store, request, &catalog, now, &mut pruned).await?;
    Ok(pruned)
}

/// A catalog that can be trusted.
async fn read(store: &dyn ObjectStore, request: &Request<'_>, now: Timestamp) -> Result<Catalog, Failure> {
    let catalog = Catalog::load(store).await?;
    refuse_damage(&catalog)?;
    if let Some(name) =
        request.known.iter().find(|name| !catalog.snapshots.iter().any(|m| m.snapshot == **name))
    {
        return Err(stopped(format!("{name} should be there, and the listing does not show it")));
    }
    if let Some(ahead) =
        catalog.of(Some(request.claimant.policy)).find(|manifest| manifest.committed_at > now)
    {
        return Err(stopped(format!(
            "{} was committed at {}, which is later than this machine's clock says",
            ahead.snapshot, ahead.committed_at
        )));
    }
    Ok(catalog)
}

/// Looks whether everything that the policy's snapshots refer to is there. True when there may be more than that.
async fn survey(
    store: &dyn ObjectStore,
    request: &Request<'_>,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<bool, Failure> {
    let unfinished = |name: &SnapshotName| name.policy() == request.claimant.policy;
    let mut debris = catalog.unfinished.iter().any(unfinished);
    let unneeded = Unneeded::of(catalog, request.before(now));
    let mut needed: BTreeMap<String, Vec<&SourceRecord>> = BTreeMap::new();
    for manifest in catalog.of(Some(request.claimant.policy)) {
        for record in &manifest.sources {
            for directory in directories(manifest, record) {
                needed.entry(directory).or_default().push(record);
            }
        }
    }
    for (directory, records) in needed {
        let listed = store.list(&directory, false, false).await?;
        debris |= listed.iter().any(|entry| unneeded.contains(&entry.path));
        let there = Objects::of(&directory, &listed);
        for record in records {
            there.hold(record).map_err(|object| {
                stopped(format!("{directory}/{object} is missing, and a snapshot refers to it"))
                    .fix(format!("backstay verify {} shows what is damaged", request.claimant.policy))
            })?;
        }
    }
    Ok(debris)
}

fn directories(manifest: &Manifest, record: &SourceRecord) -> BTreeSet<String> {
    let packs = record.packs.iter().filter_map(|pack| pack.id.parse::<PackId>().ok());
    packs.map(|id| id.directory()).chain([layout::directory(&manifest.snapshot)]).collect()
}

fn refuse_damage(catalog: &Catalog) -> Result<(), Failure> {
    match catalog.damaged.first() {
        Some(damaged) => Err(stopped(damaged.failure().message)),
        None => Ok(()),
    }
}

fn stopped(why: String) -> Failure {
    Failure::permanent("PruneStopped", why)
}

/// What one directory holds.
struct Objects<'a> {
    directory: &'a str,
    names: BTreeMap<&'a str, u64>,
    parts: BTreeSet<(Prefix, u32)>,
}

impl<'a> Objects<'a> {
    fn of(directory: &'a str, listed: &'a [Listed]) -> Self {
        let names: BTreeMap<_, _> =
            listed.iter().filter_map(|entry| Some((entry.path.rsplit('/').next()?, entry.size))).collect();
        let parts = names
            .keys()
            .filter_map(|name| match ObjectName::parse(name) {
                Some(ObjectName::OfAttempt(prefix, AttemptObject::Part(number))) => Some((prefix, number)),
                _ => None,
            })
            .collect();
        Self { directory, names, parts }
    }

    /// Everything that `record` has in this directory, by name and number; its lists tell sizes, and finishing proved
    /// them.
    fn hold(&self, record: &SourceRecord) -> Result<(), String> {
        for pack in &record.packs {
            self.hold_pack(pack)?;
        }
        let index_here = record.packs.is_empty()
            || record.packs.iter().any(|pack| pack.id == format!("{}/{}", self.directory, record.prefix()));
        match record
            .index
            .objects
            .iter()
            .find(|object| self.names.get(object.name.as_str()) != Some(&object.stored))
        {
            Some(object) if index_here => Err(object.name.clone()),
            _ => Ok(()),
        }
    }

    fn hold_pack(&self, pack: &PackRef) -> Result<(), String> {
        let Ok(id) = pack.id.parse::<PackId>() else { return Err(pack.id.clone()) };
        if id.directory() != self.directory {
            return Ok(());
        }
        if let Some(list) = pack.part_lists.iter().find(|list| !self.names.contains_key(list.name.as_str())) {
            return Err(list.name.clone());
        }
        let numbers = 0..u32::try_from(pack.parts).unwrap_or(u32::MAX);
        match numbers.into_iter().find(|number| !self.parts.contains(&(id.prefix.clone(), *number))) {
            Some(number) => Err(format!("part {number} of {}", id.prefix)),
            None => Ok(()),
        }
    }
}

/// Deletes a snapshot's manifests, the newest retry first: the first name is the one that readers believe.
async fn delete_manifest(store: &dyn ObjectStore, name: &SnapshotName, pruned: &mut Pruned) {
    if let Err(error) = try_delete_manifest(store, name).await {
        pruned.warnings.push(format!("{name} could not be removed: {error}"));
    }
}

async fn try_delete_manifest(store: &dyn ObjectStore, name: &SnapshotName) -> Result<(), StoreError> {
    let listed = store.list(&layout::directory(name), false, false).await?;
    let mut manifests: Vec<_> = listed
        .into_iter()
        .filter_map(|entry| match ObjectName::parse(entry.path.rsplit('/').next()?) {
            Some(ObjectName::Manifest(retry)) => Some((retry, entry.path)),
            _ => None,
        })
        .collect();
    manifests.sort_by_key(|(retry, _)| std::cmp::Reverse(*retry));
    for (_, path) in manifests {
        let deleted = store.delete(&path).await;
        match store.get(&path).await {
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                deleted?;
                return Err(StoreError::Unavailable {
                    operation: format!("deleting {path}"),
                    detail: "it is still there: locked".to_owned(),
                });
            }
        }
    }
    Ok(())
}
