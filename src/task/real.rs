//! The outside as it is: the system's clock, rclone, volumes and MongoDB.

use crate::{
    domain::{
        location::{Location, RcloneConfig},
        names::InstanceName,
        policy::Source,
        verdict::Failure,
    },
    plan::task_spec::TaskSpec,
    storage::{
        manifest::SourceRecord,
        owner,
        rclone::{Mode, Rclone, RcloneOptions},
        store::ObjectStore,
    },
    task::{
        clock,
        context::SourceContext,
        secret,
        sources::{mongodb, volume},
        world::{Access, World},
    },
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The real outside of one task.
pub struct Real {
    /// For every daemon: a token that one renewed is the next one's.
    options: Result<RcloneOptions, Failure>,
    /// The daemon that runs now: one at a time, since a token that rotates must have one user.
    open: Mutex<Option<Rclone>>,
}

impl Real {
    /// For the place that `spec` names.
    pub fn new(spec: &TaskSpec) -> Self {
        Self {
            options: store_options(&spec.destination, &spec.instance, Mode::Append),
            open: Mutex::default(),
        }
    }
}

/// How rclone reaches the instance's folder of a destination.
///
/// # Errors
/// A configuration that is no file here.
pub fn store_options(
    destination: &Location,
    instance: &InstanceName,
    mode: Mode,
) -> Result<RcloneOptions, Failure> {
    let config: PathBuf = match &destination.config {
        RcloneConfig::Directory(path) => path.clone(),
        RcloneConfig::Secret(source) => secret::file(source, "destination.configFrom")?.to_owned(),
    };
    let path = destination.instance_path(instance);
    let options = RcloneOptions::new(config, destination.remote.clone(), path, mode);
    Ok(RcloneOptions { bandwidth_limit: destination.bandwidth_limit.clone(), ..options })
}

#[async_trait]
impl World for Real {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn open(&self, access: Access) -> Result<Arc<dyn ObjectStore>, Failure> {
        let mut open = self.open.lock().await;
        if let Some(earlier) = open.take() {
            earlier.stop().await;
        }
        let mode = match access {
            Access::Read => Mode::Read,
            Access::Append => Mode::Append,
            Access::Prune => Mode::Prune,
        };
        let store = Rclone::start(RcloneOptions { mode, ..self.options.clone()? }).await?;
        *open = Some(store.clone());
        Ok(Arc::new(store))
    }

    async fn close(&self) -> Vec<String> {
        if let Some(store) = self.open.lock().await.take() {
            store.stop().await;
        }
        let saved = self.options.as_ref().map_or(Ok(()), |options| options.config.save());
        saved.err().into_iter().collect()
    }

    async fn store(&self, source: &Source, context: &SourceContext) -> Result<SourceRecord, Failure> {
        match source {
            Source::Mongodb(mongodb) => mongodb::store(context, mongodb).await,
            Source::Volume(volume) => volume::store(context, volume).await,
        }
    }

    async fn look(&self, source: &Source) -> Result<Vec<String>, Failure> {
        match source {
            Source::Mongodb(mongodb) => mongodb::preflight(mongodb).await,
            Source::Volume(volume) => volume::preflight(volume).map(|()| vec![]),
        }
    }

    fn settle(&self) -> Duration {
        owner::SETTLE
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(1)
    }
}
