//! What a task is told when it runs in a container: the same as its specification, with the places that the container has.

use crate::{
    domain::{
        location::{RcloneConfig, SecretSource},
        policy::{MongoConnection, MongoUri, Source, VolumePlace},
    },
    plan::task_spec::{RestoreMode, TaskSpec, Work},
};
use std::path::{Path, PathBuf};

/// Longest specification, bytes: one variable of an environment holds little more.
const LONGEST_SPEC: usize = 100 << 10;
/// A task that is told to end has so long, seconds.
pub const GRACE_SECONDS: u64 = 30;
/// What a backup needs of root: files of all users are read, and nothing else is done.
const TO_READ: &[&str] = &["DAC_READ_SEARCH"];
/// What a restore needs: files of all users are made, with their owners, modes and attributes, and devices.
const TO_WRITE: &[&str] =
    &["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];

/// Where a container has what a task names; asking is needing.
pub trait Places {
    /// A volume, and whether it is written to; only an optional source needs it, where that is said.
    ///
    /// # Errors
    /// Why it cannot be had, for a person.
    fn volume(&mut self, place: &VolumePlace, writable: bool, optional: bool) -> Result<VolumePlace, String>;

    /// A secret.
    ///
    /// # Errors
    /// Why it cannot be had, for a person.
    fn secret(&mut self, secret: &mut SecretSource) -> Result<(), String>;

    /// The writable directory of an rclone configuration.
    ///
    /// # Errors
    /// Why it cannot be had, for a person.
    fn directory(&mut self, path: &Path) -> Result<PathBuf, String>;
}

/// The capabilities, without `CAP_`, with which root does this work.
pub fn capabilities(work: &Work) -> &'static [&'static str] {
    if writes(work) { TO_WRITE } else { TO_READ }
}

/// True for a task that changes what is mounted.
fn writes(work: &Work) -> bool {
    matches!(work, Work::Restore(restore) if restore.mode == RestoreMode::Execute)
}

/// What the container's task is told.
///
/// # Errors
/// Something that cannot be had, or more than can be told; for a person.
pub fn told(spec: &TaskSpec, places: &mut impl Places) -> Result<String, String> {
    let spec = placed(spec, places)?;
    let spec = serde_json::to_string(&spec).map_err(|error| error.to_string())?;
    if spec.len() > LONGEST_SPEC {
        return Err(format!(
            "what the task is to do takes {} bytes, and at most {LONGEST_SPEC} can be given to it; make include, exclude or the number of volumes smaller, or divide the policy",
            spec.len()
        ));
    }
    Ok(spec)
}

fn placed(spec: &TaskSpec, places: &mut impl Places) -> Result<TaskSpec, String> {
    let mut spec = spec.clone();
    let writable = writes(&spec.work);
    match &mut spec.work {
        Work::Backup(backup) => sources(&mut backup.sources, places)?,
        Work::Preflight { sources: all } => sources(all, places)?,
        Work::Restore(restore) => {
            let request = &mut restore.request;
            if let Some(target) = &mut request.mongodb {
                connection(&mut target.connection, places)?;
            }
            for target in &mut request.volumes {
                target.place = places.volume(&target.place, writable, false)?;
            }
        }
        Work::Finish(_) | Work::Verify(_) | Work::Prune(_) => {}
    }
    match &mut spec.destination.config {
        RcloneConfig::Secret(secret) => places.secret(secret)?,
        RcloneConfig::Directory(path) => *path = places.directory(path)?,
    }
    Ok(spec)
}

fn sources(sources: &mut [Source], places: &mut impl Places) -> Result<(), String> {
    sources.iter_mut().try_for_each(|source| match source {
        Source::Mongodb(mongodb) => connection(&mut mongodb.connection, places),
        Source::Volume(volume) => {
            places.volume(&volume.place, false, volume.optional).map(|place| volume.place = place)
        }
    })
}

fn connection(connection: &mut MongoConnection, places: &mut impl Places) -> Result<(), String> {
    let MongoConnection { uri, username: _, password, tls_ca, tls_certificate } = connection;
    if let MongoUri::From(secret) = uri {
        places.secret(secret)?;
    }
    [password, tls_ca, tls_certificate].into_iter().flatten().try_for_each(|secret| places.secret(secret))
}
