//! The way back: from a snapshot on the remote to directories and a database.
//!
//! 1. `request`: what a person asks for;
//! 2. `plan`: what that would do, as data, with everything that may stand in the way;
//! 3. [`Restore::execute`]: `mongodb`, then `files`, volume by volume.

pub mod files;
pub mod mongodb;
pub mod plan;
pub mod request;

use crate::{
    domain::{
        names::{SnapshotName, SourceName},
        verdict::{Failure, Verdict},
    },
    storage::{
        manifest::{SourceKind, SourceRecord},
        store::ObjectStore,
    },
    task::{context::Meter, mongodb::tool::Tools},
};
use files::{job::FilesOptions, report::FilesReport, run::FilesRestore};
use mongodb::MongoReport;
use plan::RestorePlan;
use request::{MongodbTarget, RestoreRequest, VolumeTarget};
use serde::Serialize;
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// The database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<MongoReport>,
    /// The volumes.
    pub volumes: Vec<VolumeReport>,
}

/// What became of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// What would be done. Changes nothing.
    ///
    /// # Errors
    /// See [`plan::make`].
    pub async fn plan(&self) -> Result<RestorePlan, Failure> {
        plan::make(&self.store, &self.request, &self.meter).await
    }

    /// Carries the plan out: the database first, so that it never refers to a file that is not there yet for longer
    /// than it must. What was restored stays when something fails; the same restore goes on with the rest.
    ///
    /// # Errors
    /// Something exists that the person did not agree to replace (`TargetNotEmpty`), or what keeps it from being done.
    pub async fn execute(&self, plan: &RestorePlan) -> Result<RestoreReport, Failure> {
        let mut report =
            RestoreReport { snapshot: plan.manifest.snapshot.clone(), mongodb: None, volumes: vec![] };
        let occupied = plan.mongodb.as_ref().is_some_and(|plan| !plan.occupied.is_empty());
        let may_replace = self.request.mongodb.as_ref().is_some_and(|target| target.replace);
        if occupied && !(self.request.confirmed && may_replace) {
            return Err(Failure::new(Verdict::Guard, "TargetNotEmpty", plan.needs_confirmation().join("; "))
                .fix("look at the plan with --dry-run, then confirm it"));
        }
        if let Some(target) = &self.request.mongodb {
            let name = SourceName::mongodb();
            let record = plan::source(&plan.manifest, &name, SourceKind::Mongodb)?;
            report.mongodb = Some(self.database(record, target).await?);
        }
        for target in &self.request.volumes {
            let record = plan::source(&plan.manifest, &target.name, SourceKind::Files)?;
            let files = self.volume(plan, record, target).run().await?;
            report.volumes.push(VolumeReport { name: target.name.clone(), files });
        }
        Ok(report)
    }

    async fn database(&self, record: &SourceRecord, target: &MongodbTarget) -> Result<MongoReport, Failure> {
        let options = target.options(self.request.confirmed)?;
        let store = Arc::clone(&self.store);
        mongodb::restore(store, record, &target.connection, &options, &self.tools, &self.meter).await
    }

    fn volume(&self, plan: &RestorePlan, record: &SourceRecord, target: &VolumeTarget) -> FilesRestore {
        FilesRestore {
            store: Arc::clone(&self.store),
            snapshot: plan.manifest.snapshot.clone(),
            source: record.clone(),
            target: target.directory.clone(),
            options: FilesOptions {
                metadata: target.metadata.clone(),
                include: target.include.clone(),
                delete_extra: target.delete_extra,
            },
            confirmed: self.request.confirmed,
            memory_bytes: self.memory_bytes,
            meter: Arc::clone(&self.meter),
        }
    }
}
