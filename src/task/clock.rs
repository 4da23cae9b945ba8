//! The task's clock: the one place below it where the time is read.

use jiff::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "a task's own edge: what it records is when it really read")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
