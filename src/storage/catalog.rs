//! What is on the remote: the snapshots of one instance, found from the remote alone.
//!
//! One listing for the days, one a day, and one small GET a snapshot, several at a time. Complete or an error.

use crate::{
    domain::{
        names::{PolicyName, SnapshotName},
        snapshot::{AsOf, SnapshotSummary},
        verdict::Failure,
    },
    storage::{
        document::{self, DocumentError},
        layout::{self, ObjectName},
        manifest::Manifest,
        store::{Listed, ObjectStore, StoreError},
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Requests at once.
const AT_ONCE: usize = 8;

/// The snapshots of one instance.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// With a valid manifest, complete or not. Newest slot first.
    pub snapshots: Vec<Manifest>,
    /// Directories without a manifest: runs that are under way, or failed. Newest first.
    pub unfinished: Vec<SnapshotName>,
    /// Directories whose manifest is no manifest, or of a later format. Newest first.
    pub damaged: Vec<Damaged>,
    /// Archives of the scripts that came before Backstay (`*.tgz`).
    pub legacy: u64,
    /// Names that are not ours.
    pub unknown: u64,
}

/// A directory whose manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The directory's name.
    pub snapshot: SnapshotName,
    /// The manifest's path below the store's root.
    pub path: String,
    /// What is wrong with it.
    pub error: DocumentError,
}

/// What a snapshot's directory holds instead of, or as, a manifest.
enum Found {
    Valid(Box<Manifest>),
    Unfinished(SnapshotName),
    Damaged(Damaged),
}

impl Catalog {
    /// Reads the whole catalog of the instance at the store's root.
    ///
    /// # Errors
    /// Any listing or manifest that could not be read; `NothingThere` when the instance has no folder; `NoInstance`
    /// when it is the folder of several.
    pub async fn load(store: &dyn ObjectStore) -> Result<Self, Failure> {
        let mut catalog = Self::default();
        let root = store.list("", false, false).await.map_err(|error| match error {
            StoreError::NotFound { .. } => Failure::permanent(
                "NothingThere",
                "the remote has no folder of this instance: nothing was ever backed up there",
            )
            .fix("compare the instance's name and destination.path with `rclone lsd REMOTE:PATH`"),
            error => error.into(),
        })?;
        if !root.iter().any(is_instances) {
            refuse_several(store, &root).await?;
        }
        let mut days = Vec::new();
        for entry in root {
            if entry.is_dir && layout::is_day(&entry.path) {
                days.push(entry.path);
            } else if entry.path.parse::<layout::ClaimName>().is_err() {
                catalog.count_foreign(&entry.path);
            }
        }
        let listings: Vec<_> = stream::iter(days)
            .map(|day| async move { store.list(&day, false, false).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut names = Vec::new();
        for entry in listings.into_iter().flatten() {
            let name = entry.path.rsplit('/').next().and_then(|name| name.parse::<SnapshotName>().ok());
            match name.filter(|name| entry.is_dir && layout::directory(name) == entry.path) {
                Some(name) => names.push(name),
                None => catalog.count_foreign(&entry.path),
            }
        }
        names.sort_by_key(|name| std::cmp::Reverse((name.slot(), name.policy().clone())));
        let mut found = stream::iter(names).map(|name| find(store, name)).buffered(AT_ONCE);
        while let Some(found) = found.try_next().await? {
            match found {
                Found::Valid(manifest) => catalog.snapshots.push(*manifest),
                Found::Unfinished(name) => catalog.unfinished.push(name),
                Found::Damaged(damaged) => catalog.damaged.push(damaged),
            }
        }
        Ok(catalog)
    }

    fn count_foreign(&mut self, path: &str) {
        if path.ends_with(".tgz") { self.legacy += 1 } else { self.unknown += 1 }
    }

    /// The snapshots of one policy, or of all; newest first.
    pub fn of<'a, 'p>(
        &'a self,
        policy: Option<&'p PolicyName>,
    ) -> impl Iterator<Item = &'a Manifest> + use<'a, 'p> {
        self.snapshots.iter().filter(move |manifest| policy.is_none_or(|policy| *policy == manifest.policy))
    }

    /// The newest complete snapshot of one policy, or of all.
    pub fn latest(&self, policy: Option<&PolicyName>) -> Option<&Manifest> {
        self.of(policy).find(|manifest| manifest.complete)
    }

    /// The snapshot that is meant. An incomplete one is found only by name, and only when `allow_partial`.
    ///
    /// # Errors
    /// There is none; the message says what there is instead.
    pub fn find(
        &self,
        wanted: &AsOf,
        policy: Option<&PolicyName>,
        allow_partial: bool,
    ) -> Result<&Manifest, Failure> {
        match wanted {
            AsOf::Latest => self.latest(policy).ok_or_else(|| self.none("no complete snapshot", policy)),
            AsOf::Time(time) => self
                .of(policy)
                .find(|manifest| manifest.complete && manifest.slot.time() <= *time)
                .ok_or_else(|| self.none(&format!("no complete snapshot of {time} or before"), policy)),
            AsOf::Name(name) => self.named(name, allow_partial),
        }
    }

    fn named(&self, name: &SnapshotName, allow_partial: bool) -> Result<&Manifest, Failure> {
        if let Some(manifest) = self.snapshots.iter().find(|manifest| manifest.snapshot == *name) {
            if manifest.complete || allow_partial {
                return Ok(manifest);
            }
            return Err(Failure::permanent("SnapshotIncomplete", incomplete(manifest))
                .fix("--allow-partial restores what is there"));
        }
        if let Some(damaged) = self.damaged.iter().find(|damaged| damaged.snapshot == *name) {
            return Err(damaged.failure());
        }
        if self.unfinished.contains(name) {
            return Err(Failure::permanent(
                "SnapshotUnfinished",
                format!("{name} was begun but has no manifest: it was never finished, and is no backup"),
            ));
        }
        Err(self.none(&format!("no snapshot {name}"), None))
    }

    fn none(&self, what: &str, policy: Option<&PolicyName>) -> Failure {
        let there: Vec<_> = self.of(policy).map(|manifest| &manifest.snapshot).collect();
        let of = policy.map(|policy| format!(" of policy {policy}")).unwrap_or_default();
        let range = match (there.first(), there.last()) {
            (Some(newest), Some(oldest)) if there.len() > 1 => {
                format!("there are {}, from {oldest} to {newest}", there.len())
            }
            (Some(only), _) => format!("there is only {only}"),
            _ => "there are none at all".to_owned(),
        };
        let failure = Failure::permanent("SnapshotNotFound", format!("{what}{of}: {range}"));
        match there.first() {
            Some(newest) if self.of(policy).all(|manifest| !manifest.complete) => {
                failure.fix(format!("every one of them is incomplete; name one to use what it has: {newest}"))
            }
            _ => failure,
        }
    }
}

/// Folders that are looked into for instances.
const LOOKED_INTO: usize = 20;

/// True for what only an instance's folder holds.
fn is_instances(entry: &Listed) -> bool {
    let name = entry.path.rsplit('/').next().unwrap_or_default();
    if entry.is_dir { layout::is_day(name) } else { name.parse::<layout::ClaimName>().is_ok() }
}

/// The name of the instance is what people forget of a place.
async fn refuse_several(store: &dyn ObjectStore, root: &[Listed]) -> Result<(), Failure> {
    let mut instances = Vec::new();
    for folder in root.iter().filter(|entry| entry.is_dir).take(LOOKED_INTO) {
        if store.list(&folder.path, false, false).await?.iter().any(is_instances) {
            instances.push(folder.path.as_str());
        }
    }
    if instances.is_empty() {
        return Ok(());
    }
    let message = format!("this is the folder of instances, and of none: it holds {}", instances.join(", "));
    Err(Failure::permanent("NoInstance", message)
        .fix(format!("add an instance to the place: --from REMOTE:PATH/{}", instances[0])))
}

fn incomplete(manifest: &Manifest) -> String {
    let summary: SnapshotSummary = manifest.summary();
    let mut why: Vec<_> = summary.missing.iter().map(|source| format!("{source} is missing")).collect();
    why.extend(
        summary
            .sources
            .iter()
            .filter(|source| source.unreadable > 0)
            .map(|source| format!("{} of {} could not be read", source.unreadable, source.source)),
    );
    format!("{} is incomplete: {}", summary.name, why.join(", "))
}

impl Damaged {
    /// As a failure, with what to do about it.
    pub fn failure(&self) -> Failure {
        let failure = Failure::permanent("ManifestDamaged", format!("{}: {}", self.path, self.error));
        match self.error {
            DocumentError::Newer(_) => Failure { reason: "ManifestNewer".to_owned(), ..failure },
            _ => failure.fix(
                "its data may still be whole: follow the RESTORE.txt beside it; remove the manifest by hand once it is of no use",
            ),
        }
    }
}

/// Looks at the manifests of one directory. The first name nearly always answers; only where it holds something
/// damaged, or nothing, are the retries' names looked for.
async fn find(store: &dyn ObjectStore, name: SnapshotName) -> Result<Found, Failure> {
    match read(store, &name, 0).await? {
        Read::Valid(manifest) => return Ok(Found::Valid(manifest)),
        Read::Newer(damaged) => return Ok(Found::Damaged(damaged)),
        Read::Missing | Read::Broken(_) => {}
    }
    let directory = layout::directory(&name);
    let listed = match store.list(&directory, false, false).await {
        // A store without directories shows none that is empty.
        Err(StoreError::NotFound { .. }) => vec![],
        listed => listed?,
    };
    let mut retries: Vec<u32> = listed
        .iter()
        .filter_map(|entry| match ObjectName::parse(entry.path.rsplit('/').next()?) {
            Some(ObjectName::Manifest(retry)) => Some(retry),
            _ => None,
        })
        .collect();
    retries.sort_unstable();
    let mut broken = None;
    for retry in retries {
        match read(store, &name, retry).await? {
            Read::Valid(manifest) => return Ok(Found::Valid(manifest)),
            Read::Newer(damaged) => return Ok(Found::Damaged(damaged)),
            Read::Broken(damaged) => broken = broken.or(Some(damaged)),
            Read::Missing => {}
        }
    }
    Ok(broken.map_or(Found::Unfinished(name), Found::Damaged))
}

enum Read {
    Valid(Box<Manifest>),
    Missing,
    Broken(Damaged),
    Newer(Damaged),
}

async fn read(store: &dyn ObjectStore, name: &SnapshotName, retry: u32) -> Result<Read, Failure> {
    let path = format!("{}/{}", layout::directory(name), layout::manifest(retry));
    let text = match store.get(&path).await {
        Err(StoreError::NotFound { .. }) => return Ok(Read::Missing),
        text => text?,
    };
    let damaged = |error| Damaged { snapshot: name.clone(), path: path.clone(), error };
    Ok(match document::open::<Manifest>(&text) {
        Ok(manifest) if manifest.snapshot == *name => Read::Valid(Box::new(manifest)),
        Ok(manifest) => {
            Read::Broken(damaged(DocumentError::Damaged(format!("it is the one of {}", manifest.snapshot))))
        }
        Err(error @ DocumentError::Newer(_)) => Read::Newer(damaged(error)),
        Err(error) => Read::Broken(damaged(error)),
    })
}

/// The valid manifest in a snapshot's directory, if there is one.
///
/// # Errors
/// The store's failure, or a manifest of a later format.
pub async fn committed(
    store: &dyn ObjectStore,
    snapshot: &SnapshotName,
) -> Result<Option<Manifest>, Failure> {
    match find(store, snapshot.clone()).await? {
        Found::Valid(manifest) => Ok(Some(*manifest)),
        Found::Unfinished(_) => Ok(None),
        Found::Damaged(damaged) if matches!(damaged.error, DocumentError::Newer(_)) => Err(damaged.failure()),
        Found::Damaged(_) => Ok(None),
    }
}
