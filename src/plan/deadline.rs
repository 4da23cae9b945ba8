//! When something is waited for no longer.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A task whose node does not answer is given up after this time.
pub(super) const NODE_LOST: Duration = Duration::from_secs(300);

/// `time + duration`, at most the end of time.
pub(super) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
