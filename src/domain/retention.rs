//! Which snapshots are kept, and why.

use serde::{Deserialize, Serialize};

/// What is kept. At least one rule is more than zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Everything at most this many days older than the newest good snapshot.
    pub keep_within_days: u32,
    /// The newest N.
    pub keep_last: u32,
    /// The newest of each of the last N days that have one.
    pub keep_daily: u32,
    /// The newest of each of the last N ISO weeks that have one.
    pub keep_weekly: u32,
    /// The newest of each of the last N months that have one.
    pub keep_monthly: u32,
    /// The newest of each of the last N years that have one.
    pub keep_yearly: u32,
}

impl Default for Retention {
    /// Everything for a week.
    fn default() -> Self {
        Self {
            keep_within_days: 7,
            keep_last: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
        }
    }
}
