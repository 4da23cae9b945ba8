//! The way back: from a snapshot on the remote to directories and a database.
//!
//! 1. `plan`: what a request would do, as data, with everything that may stand in the way;
//! 2. [`Restore::execute`]: `mongodb`, then `files`, volume by volume;
//! 3. `work`: both as a task does them.

pub mod files;
pub mod mongodb;
pub mod plan;
pub mod work;

use crate::{
    domain::{
        names::{SnapshotName, SourceName},
        restore::{MongodbTarget, RestoreRequest, VolumeTarget},
        verdict::{Failure, Verdict},
    },
    storage::{
        manifest::{Manifest, SourceKind, SourceRecord},
        store::ObjectStore,
    },
    task::{context::Meter, mongodb::tool::Tools},
};
use files::{job::FilesOptions, report::FilesReport, run::FilesRestore};
use mongodb::{MongoOptions, MongoReport};
use plan::RestorePlan;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A restore, and what it is done with.
pub struct Restore {
    /// The store, rooted at the instance's folder.
    pub store: Arc<dyn ObjectStore>,
    /// What is wanted.
    pub request: RestoreRequest,
    /// mongorestore.
    pub tools: Tools,
    /// Memory for buffers, bytes.
    pub memory_bytes: u64,
    /// Who watches.
    pub meter: Arc<Meter>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<MongoReport>,
    /// The volumes.
    pub volumes: Vec<VolumeReport>,
}

/// What became of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeReport {
    /// Which.
    pub name: SourceName,
    /// What was done, and what could not be.
    #[serde(flatten)]
    pub files: FilesReport,
}

impl RestoreReport {
    /// Everything that was asked for is in place.
    pub fn is_whole(&self) -> bool {
        self.mongodb.as_ref().is_none_or(MongoReport::is_whole)
            && self.volumes.iter().all(|volume| volume.files.is_whole())
    }
}

impl Restore {
    /// What would be done, and the manifest of the snapshot. Changes nothing.
    ///
    /// # Errors
    /// See [`plan::make`].
    pub async fn plan(&self) -> Result<(RestorePlan, Manifest), Failure> {
        plan::make(&self.store, &self.request, &self.meter).await
    }

    /// Carries the plan out: the database first, so that it never refers to a file that is not there yet for longer
    /// than it must. What was restored stays when something fails; the same restore goes on with the rest.
    ///
    /// # Errors
    /// Something exists that the person did not agree to replace (`TargetNotEmpty`), or what keeps it from being done.
    pub async fn execute(&self, plan: &RestorePlan, manifest: &Manifest) -> Result<RestoreReport, Failure> {
        let mut report =
            RestoreReport { snapshot: manifest.snapshot.clone(), mongodb: None, volumes: vec![] };
        let occupied = plan.mongodb.as_ref().is_some_and(|plan| !plan.occupied.is_empty());
        let may_replace = self.request.mongodb.as_ref().is_some_and(|target| target.replace);
        if occupied && !(self.request.confirmed && may_replace) {
            return Err(Failure::new(Verdict::Guard, "TargetNotEmpty", plan.needs_confirmation().join("; "))
                .fix("look at the plan with --dry-run, then confirm it"));
        }
        if let Some(target) = &self.request.mongodb {
            let name = SourceName::mongodb();
            let record = plan::source(manifest, &name, SourceKind::Mongodb)?;
            report.mongodb = Some(self.database(record, target).await?);
        }
        for target in &self.request.volumes {
            let record = plan::source(manifest, &target.name, SourceKind::Files)?;
            let files = self.volume(manifest, record, target)?.run().await?;
            report.volumes.push(VolumeReport { name: target.name.clone(), files });
        }
        Ok(report)
    }

    async fn database(&self, record: &SourceRecord, target: &MongodbTarget) -> Result<MongoReport, Failure> {
        let options = MongoOptions::of(target, self.request.confirmed)?;
        let store = Arc::clone(&self.store);
        mongodb::restore(store, record, &target.connection, &options, &self.tools, &self.meter).await
    }

    fn volume(
        &self,
        manifest: &Manifest,
        record: &SourceRecord,
        target: &VolumeTarget,
    ) -> Result<FilesRestore, Failure> {
        Ok(FilesRestore {
            store: Arc::clone(&self.store),
            snapshot: manifest.snapshot.clone(),
            source: record.clone(),
            target: plan::directory(target)?.to_owned(),
            options: FilesOptions {
                metadata: target.metadata.clone(),
                include: target.include.clone(),
                delete_extra: target.delete_extra,
            },
            confirmed: self.request.confirmed,
            memory_bytes: self.memory_bytes,
            meter: Arc::clone(&self.meter),
        })
    }
}
