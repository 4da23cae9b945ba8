//! Until when the newest complete snapshot is young enough, from the schedule itself.

use crate::{
    domain::{
        policy::Policy,
        status::{ScheduleStatus, SlotOutcome, Status},
    },
    plan::phase::after,
};
use jiff::Timestamp;
use std::time::Duration;

/// The least time that the run which repairs a missed slot is given.
const LEAST_RUN: Duration = Duration::from_secs(3600);

/// The freshness deadline: the second slot after the last success (or, before the first one, after slots began to
/// count), and the time of the longest recent run. One bad night is no alarm, two are.
///
/// `None` while the policy is suspended.
pub(super) fn fresh_until(policy: &Policy, schedule: &ScheduleStatus, status: &Status) -> Option<Timestamp> {
    if policy.suspend {
        return None;
    }
    let success = status.last_success.as_ref().map(|run| run.slot.time());
    let base = success.map_or(schedule.since, |time| time.max(schedule.since));
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
