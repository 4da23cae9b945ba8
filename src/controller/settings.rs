//! How the controller behaves.

use crate::plan::observed::Caps;
use std::time::Duration;

/// How the loop behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many runs may be active.
    pub caps: Caps,
    /// Each call to the orchestrator may take this long.
    pub call_deadline: Duration,
    /// Everything is looked at again after this time, should hints have been lost.
    pub resync: Duration,
    /// Passes that may be under way at once.
    pub passes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            call_deadline: Duration::from_secs(30),
            resync: Duration::from_secs(600),
            passes: 8,
        }
    }
}
