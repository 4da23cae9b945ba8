//! Until when the newest complete snapshot is young enough, from the schedule itself.

use crate::{
    domain::{
        policy::Policy,
        status::{ScheduleStatus, SlotOutcome, Status},
    },
    plan::deadline::after,
};
use jiff::Timestamp;
use std::time::Duration;

/// The least time that the run which repairs a missed slot is given.
const LEAST_RUN: Duration = Duration::from_secs(3600);

/// Until when all is well.
pub(super) struct Freshness {
    /// From then on a missing success is an alarm: the deadline after the last success or, when slots began to count
    /// later, after that moment. `None` while the policy is suspended.
    pub fresh_until: Option<Timestamp>,
    /// Until then the last success itself is young enough, whatever became of the schedule since.
    pub young_until: Option<Timestamp>,
}

pub(super) fn freshness(policy: &Policy, schedule: &ScheduleStatus, status: &Status) -> Freshness {
    let success = status.last_success.as_ref().map(|run| run.slot.time());
    let base = match success {
        Some(success) if policy.fresh_within.is_some() => success,
        Some(success) => success.max(schedule.since),
        None => schedule.since,
    };
    let young_until = success.and_then(|success| deadline(policy, status, success));
    let fresh_until = match success {
        _ if policy.suspend => None,
        Some(success) if success == base => young_until,
        _ => deadline(policy, status, base),
    };
    Freshness { fresh_until, young_until }
}

/// The second slot after `base`, and the time of the longest recent run. One bad night is no alarm, two are.
fn deadline(policy: &Policy, status: &Status, base: Timestamp) -> Option<Timestamp> {
    if let Some(within) = policy.fresh_within {
        return Some(after(base, within));
    }
    let second = policy.schedule.next_after(base).and_then(|first| policy.schedule.next_after(first))?;
    let longest = status.history.iter().filter_map(seconds).max().unwrap_or(0);
    Some(after(second, Duration::from_secs(longest).max(LEAST_RUN)))
}

/// How long a run took; its end may be a failure as well.
fn seconds(slot: &SlotOutcome) -> Option<u64> {
    slot.seconds
}
