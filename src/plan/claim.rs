//! What keeps a run from being claimed, and the record of one that is.

use crate::{
    domain::{
        identity::PolicyId,
        location::{Location, RcloneConfig},
        names::{Slot, SnapshotName},
        policy::{Placement, Policy},
        run::{RUN_VERSION, Run, RunPlan, RunState, TaskLimits, steps},
        status::{Status, Waiting, WaitingReason},
    },
    plan::{
        observed::{Load, Observed, Request, Wish, in_use},
        task_spec::TASK_SPEC_VERSION,
    },
};
use jiff::Timestamp;

/// A waiting reason and its words.
pub(super) fn waiting(reason: WaitingReason, message: impl Into<String>) -> Waiting {
    Waiting { reason, message: message.into() }
}

/// What keeps any run of the policy from starting now. `active` is its run that is not over.
pub(super) fn blocked(
    destination: &Location,
    active: Option<&Run>,
    observed: &Observed,
    load: &Load,
    now: Timestamp,
) -> Option<Waiting> {
    if let Some(run) = active {
        let message = format!("run {} is not over", run.slot);
        return Some(waiting(WaitingReason::RunActive, message));
    }
    held(observed).or_else(|| own_preflight(destination, observed, now)).or_else(|| load.full(destination))
}

/// A preflight of the policy itself that may renew the token its run needs.
fn own_preflight(destination: &Location, observed: &Observed, now: Timestamp) -> Option<Waiting> {
    match &destination.config {
        RcloneConfig::Directory(path) if observed.has_preflight(now) => Some(in_use(path)),
        _ => None,
    }
}

/// A restore that goes on.
pub(super) fn restoring(observed: &Observed) -> Option<Waiting> {
    let restore = observed.restores.iter().find(|restore| restore.active)?;
    let message = format!("restore {} writes into the policy's sources: {}", restore.id, restore.message);
    Some(waiting(WaitingReason::RestoreActive, message))
}

/// A restore that excludes runs.
pub(super) fn held(observed: &Observed) -> Option<Waiting> {
    if let Some(active) = restoring(observed) {
        return Some(active);
    }
    let restore = observed.restores.first()?;
    let message = format!(
        "restore {} did not finish, so the sources may be half restored: {}",
        restore.id, restore.message
    );
    Some(waiting(WaitingReason::RestoreIncomplete, message))
}

/// The step out of [`WaitingReason::RestoreIncomplete`].
pub(super) fn held_fix(policy: &PolicyId, observed: &Observed) -> Option<String> {
    observed.restores.first()?;
    Some(format!(
        "restore again, from an older snapshot where this one is damaged (--as-of); or, when the sources are good as they are: backstay restore {policy} --forget"
    ))
}

/// The step out of [`WaitingReason::BootstrapIncomplete`].
pub(super) fn bootstrap_fix(policy: &Policy) -> String {
    format!(
        "look at what is there; backstay restore {} --confirm=INSTANCE brings all of it back, and without restoreFrom in the policy its runs start again",
        policy.name
    )
}

/// The record that claims `slot`.
pub(super) fn new_run(
    policy: &Policy,
    generation: i64,
    slot: Slot,
    request: Option<&Request>,
    observed: &Observed,
    status: &Status,
    now: Timestamp,
) -> Run {
    let accept_shrink = request.is_some_and(|r| matches!(r.wish, Wish::Run { accept_shrink: true, .. }));
    Run {
        slot,
        plan: RunPlan {
            version: RUN_VERSION,
            task_version: TASK_SPEC_VERSION,
            generation,
            policy: policy.name.clone(),
            instance: policy.instance.clone(),
            destination: policy.destination.clone(),
            take_over: policy.takes_over(status.was_filled()),
            known_place: status.knows_place(),
            steps: steps(policy, |source| observed.node_of(source)),
            retention: policy.retention.clone(),
            guards: policy.guards,
            accept_shrink,
            last_good: status.last_success.as_ref().map(|run| run.sources.clone()).unwrap_or_default(),
            keep: keep(observed, &[]),
            limits: TaskLimits::from(&policy.task),
            placement: placement(policy, observed),
            claimed_at: now,
            request: request.map(|r| r.id.clone()),
        },
        state: RunState::default(),
    }
}

/// Where tasks run by the policy, as the image that is in use now.
pub(super) fn placement(policy: &Policy, observed: &Observed) -> Placement {
    Placement { image: observed.image.clone(), ..policy.task.placement.clone() }
}

/// Snapshots that pruning must leave: those that people hold, the newest one that was restored and compared, and those of
/// `before`.
pub(super) fn keep(observed: &Observed, before: &[SnapshotName]) -> Vec<SnapshotName> {
    let tested = observed.drill.as_ref().and_then(|d| d.last_passed.clone());
    let mut keep: Vec<SnapshotName> = observed.holds.iter().chain(before).cloned().chain(tested).collect();
    keep.sort();
    keep.dedup();
    keep
}
