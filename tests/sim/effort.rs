//! What the controller asks of the orchestrator, and whether something asked for it.

use std::ops::{AddAssign, Sub};

/// Calls by kind, and the causes that may explain them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    pub lists: u64,
    pub observes: u64,
    pub creates: u64,
    pub run_writes: u64,
    pub status_writes: u64,
    pub answers: u64,
    pub deletes: u64,
    /// What happened outside: tasks that moved, people, faults, hints, times that came.
    pub causes: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Attempts that were recorded.
    pub attempts: u64,
    /// Slots whose outcome was told.
    pub told: u64,
}

impl Effort {
    /// Calls that change something.
    pub fn effects(&self) -> u64 {
        self.creates + self.run_writes + self.status_writes + self.answers + self.deletes
    }
}

impl AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.lists += other.lists;
        self.observes += other.observes;
        self.creates += other.creates;
        self.run_writes += other.run_writes;
        self.status_writes += other.status_writes;
        self.answers += other.answers;
        self.deletes += other.deletes;
        self.causes += other.causes;
        self.runs += other.runs;
        self.attempts += other.attempts;
        self.told += other.told;
    }
}

impl Sub for Effort {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            lists: self.lists - other.lists,
            observes: self.observes - other.observes,
            creates: self.creates - other.creates,
            run_writes: self.run_writes - other.run_writes,
            status_writes: self.status_writes - other.status_writes,
            answers: self.answers - other.answers,
            deletes: self.deletes - other.deletes,
            causes: self.causes - other.causes,
            runs: self.runs - other.runs,
            attempts: self.attempts - other.attempts,
            told: self.told - other.told,
        }
    }
}
