//! What a restore will do, before it does anything.

use super::{
    files::{
        compare::{Difference, check_extra, difference},
        root::Root,
        selection::Selection,
        spool::relative,
        target::{Occupancy, free_bytes, occupancy},
    },
    mongodb::{self, MongoOptions},
};
use crate::{
    domain::{
        names::SourceName,
        policy::VolumePlace,
        restore::{MongodbTarget, RestoreRequest, VolumeTarget},
        snapshot::SnapshotSummary,
        verdict::{Failure, Verdict},
    },
    storage::{
        catalog::Catalog,
        index::{
            reader::IndexReader,
            record::{EntryKind, Record},
        },
        layout,
        manifest::{Manifest, SourceKind, SourceRecord},
        store::ObjectStore,
    },
    task::{
        context::Meter,
        verify::{
            report::{Damage, VerifyReport},
            stored,
        },
    },
};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A plan: data, nothing is left to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// The snapshot.
    pub snapshot: SnapshotSummary,
    /// Objects whose presence and size were compared.
    pub objects: u64,
    /// Those that are missing or damaged.
    pub damage: Vec<Damage>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<MongodbPlan>,
    /// The volumes.
    pub volumes: Vec<VolumePlan>,
    /// What the snapshot has and nobody asked for.
    pub left_out: Vec<SourceName>,
}

/// What happens to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MongodbPlan {
    /// Collections, views and time series that are restored.
    pub namespaces: u64,
    /// Their documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that exist and are replaced: name and documents.
    pub occupied: Vec<(String, u64)>,
}

/// What happens to a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumePlan {
    /// The volume.
    pub name: SourceName,
    /// The directory, or the volume of an orchestrator, as people call it.
    pub directory: String,
    /// Regular files that are restored.
    pub files: u64,
    /// Their bytes; of sparse files with their holes.
    pub bytes: u64,
    /// Bytes free there.
    pub free_bytes: u64,
    /// What is there.
    pub occupancy: Occupancy,
    /// How it differs from the backup, when there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// What only the target has is removed.
    pub delete_extra: bool,
}

impl RestorePlan {
    /// Why this needs a person's confirmation; empty when nothing that exists is touched.
    pub fn needs_confirmation(&self) -> Vec<String> {
        let database = self.mongodb.iter().filter(|plan| !plan.occupied.is_empty()).map(|plan| {
            format!("{} of the {} collections exist already", plan.occupied.len(), plan.namespaces)
        });
        let volumes = self.volumes.iter().filter_map(|plan| {
            let directory = &plan.directory;
            match &plan.occupancy {
                Occupancy::Missing | Occupancy::Empty => None,
                Occupancy::Occupied => Some(format!("{directory} is not empty")),
                // The same restore goes on by itself; another one does not.
                Occupancy::Unfinished(which) => {
                    Some(format!("{directory} holds an interrupted restore: {which}"))
                }
            }
        });
        database.chain(volumes).collect()
    }
}

/// Makes the plan, of the snapshot with the manifest that is given, too. Nothing is changed anywhere.
///
/// # Errors
/// No such snapshot or source in it, a store or target that does not answer.
pub async fn make(
    store: &Arc<dyn ObjectStore>,
    request: &RestoreRequest,
    meter: &Meter,
) -> Result<(RestorePlan, Manifest), Failure> {
    meter.begin("looking at the backups", None);
    let catalog = Catalog::load(&**store).await?;
    let manifest = catalog.find(&request.as_of, request.policy.as_ref(), request.allow_partial)?.clone();
    let mut listed = VerifyReport::new(manifest.snapshot.clone(), "listing".to_owned());
    // What is restored is compared with its hash as it is read.
    stored::check(store, &manifest, false, &mut listed).await?;
    let mut mongodb = None;
    if let Some(target) = &request.mongodb {
        let record = source(&manifest, &SourceName::mongodb(), SourceKind::Mongodb)?;
        mongodb = Some(database(store, record, target, request.confirmed).await?);
    }
    let mut volumes = Vec::new();
    for target in &request.volumes {
        let record = source(&manifest, &target.name, SourceKind::Files)?;
        meter.begin(&format!("{}: comparing", target.name), None);
        volumes.push(volume(store, &manifest, record, target).await?);
    }
    let wanted =
        |name: &SourceName| volumes.iter().any(|v| v.name == *name) || mongodb.is_some() && name.is_mongodb();
    let left_out = manifest.sources.iter().map(|s| s.source.clone()).filter(|name| !wanted(name)).collect();
    let (snapshot, objects, damage) = (manifest.summary(), listed.objects, listed.damage);
    Ok((RestorePlan { snapshot, objects, damage, mongodb, volumes, left_out }, manifest))
}

/// The directory that is filled.
///
/// # Errors
/// A volume that only its orchestrator can open; one that was mounted for this task and leads through a symlink, which
/// whoever may write there could have made: to whatever else is mounted.
pub(super) fn directory(target: &VolumeTarget) -> Result<&Path, Failure> {
    let Some(directory) = target.place.directory() else {
        let message = format!("{} is no directory of this host", target.place);
        return Err(Failure::permanent("VolumeNotSupported", message)
            .fix("name a directory: --volume NAME=DIRECTORY"));
    };
    let is_mounted = matches!(target.place, VolumePlace::Mounted { .. });
    if is_mounted && directory.ancestors().any(Path::is_symlink) {
        let message = format!("{} leads through a symlink, which could lead anywhere", target.place);
        return Err(Failure::permanent("TargetIsALink", message).fix("name the directory that it leads to"));
    }
    Ok(directory)
}

/// A source of the snapshot.
///
/// # Errors
/// It has none of that name and kind; the message says which there are.
pub fn source<'m>(
    manifest: &'m Manifest,
    name: &SourceName,
    kind: SourceKind,
) -> Result<&'m SourceRecord, Failure> {
    let found = manifest.sources.iter().find(|record| record.source == *name && record.kind == kind);
    found.ok_or_else(|| {
        let there: Vec<_> = manifest.sources.iter().map(|record| record.source.as_str()).collect();
        let message = format!("{} has no source {name}; it has {}", manifest.snapshot, there.join(", "));
        Failure::new(Verdict::Permanent, "SourceNotInSnapshot", message)
    })
}

async fn database(
    store: &Arc<dyn ObjectStore>,
    record: &SourceRecord,
    target: &MongodbTarget,
    confirmed: bool,
) -> Result<MongodbPlan, Failure> {
    let options = MongoOptions::of(target, confirmed)?;
    let plan = mongodb::plan(Arc::clone(store), record, &target.connection, &options).await?;
    let wanted = || plan.entries.iter().filter(|entry| entry.target.is_some());
    Ok(MongodbPlan {
        namespaces: wanted().count() as u64,
        documents: wanted().map(|entry| entry.documents).sum(),
        bytes: wanted().map(|entry| entry.bytes).sum(),
        occupied: plan.occupied.iter().map(|(name, documents)| (name.to_string(), *documents)).collect(),
    })
}

async fn volume(
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    record: &SourceRecord,
    target: &VolumeTarget,
) -> Result<VolumePlan, Failure> {
    if target.delete_extra {
        check_extra(record)?;
    }
    let selection =
        Selection::new(&target.include).map_err(|e| Failure::permanent("InvalidPath", e.to_string()))?;
    let directory = directory(target)?;
    let occupancy = occupancy(directory)?;
    let occupied = !matches!(occupancy, Occupancy::Missing | Occupancy::Empty);
    let mut plan = VolumePlan {
        name: target.name.clone(),
        directory: target.place.to_string(),
        files: record.counts.files,
        bytes: record.counts.bytes,
        free_bytes: free_bytes(directory)?,
        occupancy,
        difference: None,
        delete_extra: target.delete_extra,
    };
    if occupied || !selection.is_everything() {
        let folder = layout::directory(&manifest.snapshot);
        let index = IndexReader::open(Arc::clone(store), &folder, &record.index).await?;
        let (directory, runtime) = (directory.to_owned(), tokio::runtime::Handle::current());
        let look = Look { index, selection, directory, runtime };
        plan = tokio::task::spawn_blocking(move || look.at(plan, occupied))
            .await
            .unwrap_or_else(|_| Err(Failure::temporary("Internal", "the comparison ended early")))?;
    }
    Ok(plan)
}

/// The index, beside a target.
struct Look {
    index: IndexReader,
    selection: Selection,
    directory: PathBuf,
    runtime: tokio::runtime::Handle,
}

impl Look {
    fn at(self, mut plan: VolumePlan, occupied: bool) -> Result<VolumePlan, Failure> {
        let Self { mut index, selection, directory, runtime } = self;
        (plan.files, plan.bytes) = (0, 0);
        let next = || runtime.block_on(index.next_record()).transpose();
        let wanted = |record: &Record| {
            let path = relative(&record.path);
            selection.selects(path) || record.kind == EntryKind::Directory && selection.is_everything()
        };
        let mut counted =
            std::iter::from_fn(next).filter(|record| record.as_ref().map_or(true, wanted)).inspect(|r| {
                if let Ok(record) = r
                    && record.kind == EntryKind::File
                {
                    plan.files += 1;
                    plan.bytes += record.size;
                }
            });
        if occupied {
            let root = Root::open(&directory)
                .map_err(|e| Failure::permanent("TargetUnreadable", format!("{}: {e}", plan.directory)))?;
            plan.difference = Some(difference(&root, counted, &|path| selection.selects(path))?);
        } else {
            counted.try_for_each(|record| record.map(drop))?;
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_persons_own_path_may_lead_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let reason = |place| {
            let (include, metadata) = (Vec::new(), Default::default());
            let name = "homes".parse().unwrap();
            let target = VolumeTarget { name, place, include, delete_extra: false, metadata };
            directory(&target).err().map(|failure| failure.reason)
        };
        let mounted = |at: &Path| VolumePlace::Mounted { at: at.to_owned(), name: "/mnt/homes".to_owned() };
        let table = [
            (VolumePlace::HostPath(link.clone()), None),
            (mounted(&link), Some("TargetIsALink")),
            (mounted(&link.join("below")), Some("TargetIsALink")),
            (mounted(&folder.path().join("real/missing")), None),
            (VolumePlace::Named("homes".to_owned()), Some("VolumeNotSupported")),
        ];
        for (place, expected) in table {
            assert_eq!(reason(place.clone()).as_deref(), expected, "{place:?}");
        }
    }
}
