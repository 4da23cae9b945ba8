//! What a pass is asked for, and what it came to.

use crate::{
    domain::{
        names::{PolicyName, SnapshotName},
        retention::{self, Decision, Point, Retention},
    },
    storage::{catalog::Catalog, owner::Claimant},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// What to prune.
pub struct Request<'a> {
    /// Policy and site; the place must be theirs.
    pub claimant: &'a Claimant<'a>,
    /// What to keep.
    pub rules: &'a Retention,
    /// Kept whatever the rules say.
    pub held: BTreeSet<SnapshotName>,
    /// Snapshots that must be seen: when one is not, the listing is not to be trusted.
    pub known: BTreeSet<SnapshotName>,
    /// Longest time a run may take.
    pub run_deadline_seconds: u64,
    /// A pass may remove more than half of the snapshots.
    pub allow_many: bool,
}

/// What a pass removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Snapshots that are gone.
    pub removed: Vec<SnapshotName>,
    /// Objects that were deleted beside manifests.
    pub objects: u64,
    /// What did not work; the next pass tries again.
    pub warnings: Vec<String>,
}

impl Request<'_> {
    /// What began later than this is left alone.
    pub(super) fn before(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(grace(self.run_deadline_seconds)).unwrap_or(Timestamp::MIN)
    }

    /// What becomes of each snapshot of the policy.
    pub fn decide(&self, catalog: &Catalog, now: Timestamp) -> Vec<Decision> {
        decide(self.claimant.policy, self.rules, &self.held, self.run_deadline_seconds, catalog, now)
    }
}

/// Two days, and the longest run: by then whatever was under way is committed or dead.
pub fn grace(run_deadline_seconds: u64) -> SignedDuration {
    let deadline = i64::try_from(run_deadline_seconds.min(100 * 365 * 86_400)).unwrap_or(i64::MAX);
    SignedDuration::from_hours(48) + SignedDuration::from_secs(deadline)
}

/// What becomes of each snapshot of `policy`, newest first.
pub fn decide(
    policy: &PolicyName,
    rules: &Retention,
    held: &BTreeSet<SnapshotName>,
    run_deadline_seconds: u64,
    catalog: &Catalog,
    now: Timestamp,
) -> Vec<Decision> {
    let points: Vec<_> = catalog
        .of(Some(policy))
        .map(|manifest| Point {
            name: manifest.snapshot.clone(),
            committed_at: manifest.committed_at,
            complete: manifest.complete,
        })
        .collect();
    retention::decide(&points, rules, held, grace(run_deadline_seconds), now)
}
