//! What pruning must leave at this moment: a run may have begun long before a person held a snapshot.

use crate::{
    domain::{names::SnapshotName, verdict::Failure},
    plan::{
        observed::Drill,
        task_spec::{FinishWork, KeepFiles},
    },
};
use std::{collections::BTreeSet, fs, io, path::Path};

/// The snapshots that the plan of the run keeps, and those that are held or tested by now.
///
/// # Errors
/// Files that cannot be read: nothing may be pruned then.
pub fn kept(work: &FinishWork) -> Result<BTreeSet<SnapshotName>, Failure> {
    let mut kept: BTreeSet<SnapshotName> = work.keep.iter().cloned().collect();
    if let Some(files) = &work.keep_files {
        kept.extend(held(files).map_err(|error| unknown(&files.holds, &error))?);
        kept.extend(tested(files).map_err(|error| unknown(&files.drill, &error))?);
    }
    Ok(kept)
}

fn unknown(path: &Path, error: &io::Error) -> Failure {
    let message = format!("what is held is not known: {}: {error}", path.display());
    Failure::permanent("HoldsUnreadable", message)
}

fn held(files: &KeepFiles) -> io::Result<Vec<SnapshotName>> {
    let mut held = Vec::new();
    for entry in fs::read_dir(&files.holds)? {
        let name = entry?.file_name();
        let snapshot = name.to_str().and_then(|name| name.rsplit_once('~'));
        held.extend(snapshot.and_then(|(_, snapshot)| snapshot.parse().ok()));
    }
    Ok(held)
}

fn tested(files: &KeepFiles) -> io::Result<Option<SnapshotName>> {
    let text = match fs::read(&files.drill) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Ok(serde_json::from_slice::<Drill>(&text)?.last_passed)
}
