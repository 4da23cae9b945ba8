//! The answers that a schedule gave last: its slots are searched by the calendar and the zone, and the same few questions
//! are asked at every decision.

use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};

/// Answers that are kept: those about now, and about the last success.
const KEPT: usize = 4;

/// No part of what a schedule is: a copy begins anew, and any two are equal.
#[derive(Debug, Default)]
pub(super) struct Memo(Mutex<Vec<(Timestamp, Timestamp)>>);

impl Memo {
    /// The first slot after `time`, by `search` where it is not known.
    pub(super) fn next_after(
        &self,
        time: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first slot after a time is that after any later time before it.
        if let Some((_, slot)) = known.iter().find(|(from, slot)| (*from..*slot).contains(&time)) {
            return Some(*slot);
        }
        let slot = search()?;
        if known.len() == KEPT {
            known.remove(0);
        }
        known.push((time, slot));
        Some(slot)
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
