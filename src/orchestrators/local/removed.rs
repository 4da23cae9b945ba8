//! What is left of policies that nobody declares any more: kept for a while, should they come back, then swept.

use crate::{
    domain::identity::PolicyId,
    orchestrators::local::{files, people::policy_of, state::StateDir},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, fs, io, path::Path};
use tracing::info;

/// Since when a policy is not declared is remembered, and its state is kept so long from then on.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Folders with one folder for a policy, with one file, and with files of people.
const TREES: [&str; 2] = ["runs", "preflight"];
const FILES: [&str; 2] = ["status", "drills"];
const NOTES: [&str; 3] = ["requests", "restores", "holds"];

/// Sweeps the state of every policy that has not been among `wanted` for [`KEPT`].
pub(super) fn sweep(state: &StateDir, wanted: &BTreeSet<&PolicyId>, now: Timestamp) -> io::Result<()> {
    for policy in remembered(state)? {
        let mark = state.root().join("removed").join(format!("{}.json", policy.file_name()));
        if wanted.contains(&policy) {
            files::remove(&mark)?;
            continue;
        }
        match files::read_json::<Timestamp>(&mark) {
            Ok(Some(since)) if now.duration_since(since) < KEPT => {}
            Ok(Some(_)) => {
                forget(state, &policy)?;
                files::remove(&mark)?;
            }
            // A mark that cannot be read begins anew.
            Ok(None) | Err(_) => files::write_json(&mark, &now)?,
        }
    }
    Ok(())
}

/// All policies of which anything is there.
fn remembered(state: &StateDir) -> io::Result<BTreeSet<PolicyId>> {
    let mut policies = BTreeSet::new();
    for folder in TREES {
        let names = files::entries(&state.root().join(folder))?;
        policies.extend(names.iter().filter_map(|(name, _)| PolicyId::from_file_name(name).ok()));
    }
    for folder in FILES.iter().chain(&NOTES).chain(&["removed"]) {
        let names = files::entries(&state.root().join(folder))?;
        policies.extend(names.iter().filter_map(|(name, _)| policy_of(name)));
    }
    Ok(policies)
}

/// Removes everything of a policy but its lock, which somebody may be waiting for.
fn forget(state: &StateDir, policy: &PolicyId) -> io::Result<()> {
    let _lock = state.lock_policy(policy)?;
    if state.is_restoring(policy)? {
        return Ok(());
    }
    info!(%policy, "declared no more for seven days: its state is removed");
    for folder in TREES {
        remove_tree(&state.root().join(folder).join(policy.file_name()))?;
    }
    for folder in NOTES {
        state.notes(folder, policy)?.iter().try_for_each(|(_, path)| files::remove(path))?;
    }
    for folder in FILES {
        files::remove(&state.root().join(folder).join(format!("{}.json", policy.file_name())))?;
    }
    Ok(())
}

/// Removes a folder with all that is in it; an absent one is fine.
pub(super) fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_policy_that_was_removed_goes_after_seven_days_and_that_of_others_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDir::create(&temporary.path().join("state")).unwrap();
        let (gone, kept): (PolicyId, PolicyId) = ("gone".parse().unwrap(), "gone-not".parse().unwrap());
        for policy in [&gone, &kept] {
            let name = policy.file_name();
            for folder in ["runs", "preflight"] {
                fs::create_dir_all(state.root().join(folder).join(&name).join("x/y")).unwrap();
            }
            let files =
                [format!("status/{name}.json"), format!("drills/{name}.json"), format!("holds/{name}~x")];
            files.iter().for_each(|file| fs::write(state.root().join(file), "{}").unwrap());
        }
        let left = || remembered(&state).unwrap().into_iter().collect::<Vec<_>>();
        let at = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(day * 24);
        let (both, one) = (BTreeSet::from([&gone, &kept]), BTreeSet::from([&kept]));
        // Coming back for a moment begins the seven days anew.
        for (day, wanted, expected) in
            [(0, &one, 2), (5, &both, 2), (6, &one, 2), (12, &one, 2), (13, &one, 1), (14, &one, 1)]
        {
            sweep(&state, wanted, at(day)).unwrap();
            assert_eq!(left().len(), expected, "on day {day}");
        }
        assert_eq!(left(), [kept]);
        for folder in TREES.iter().chain(&FILES).chain(&NOTES).chain(&["removed"]) {
            let names = files::entries(&state.root().join(folder)).unwrap();
            assert!(names.iter().all(|(name, _)| name.starts_with("gone-not")), "{folder}: {names:?}");
        }
    }
}
