//! What keeps a restore into a policy's sources from beginning, and which ones can be forgotten: the same on every
//! orchestrator.

use crate::{
    domain::{identity::PolicyId, verdict::Failure},
    plan::observed::Restore,
};
use std::fmt::Display;

/// Nothing uses the policy's sources: neither the run `active`, if there is one, nor a restore but `own`.
///
/// # Errors
/// What does.
pub(super) fn free(
    policy: &PolicyId,
    active: Option<impl Display>,
    restores: &[Restore],
    own: Option<&str>,
) -> Result<(), Failure> {
    if let Some(slot) = active {
        let message = format!(
            "run {slot} of {policy} is active; a restore into its sources would be backed up half done"
        );
        let fix = format!("wait for it (backstay status {policy}), or stop it: backstay cancel {policy}");
        return Err(Failure::temporary("RunActive", message).fix(fix));
    }
    match restores.iter().find(|restore| restore.active && Some(restore.id.as_str()) != own) {
        Some(other) => {
            let message = format!("restore {} into the sources of {policy} is active", other.id);
            Err(Failure::temporary("RestoreActive", message).fix("wait for its end"))
        }
        None => Ok(()),
    }
}

/// Those of `restores` that are over, or the one with this `id`.
///
/// # Errors
/// There is no such restore, or it runs.
pub(super) fn forgettable(
    policy: &PolicyId,
    restores: Vec<Restore>,
    id: Option<&str>,
) -> Result<Vec<Restore>, Failure> {
    let meant = restores.into_iter().filter(|restore| id.is_none_or(|id| restore.id == id));
    let (active, over): (Vec<_>, Vec<_>) = meant.partition(|restore| restore.active);
    if let Some(restore) = active.first() {
        let message = format!("restore {} of {policy} is active", restore.id);
        return Err(Failure::permanent("RestoreActive", message).fix("wait for its end, or interrupt it"));
    }
    if over.is_empty() {
        let which = id.map_or("restore that ended badly".to_owned(), |id| format!("restore {id}"));
        return Err(Failure::permanent("NotFound", format!("{policy} has no {which}")));
    }
    Ok(over)
}
