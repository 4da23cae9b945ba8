//! Pure decisions: from a policy, what was observed and the time, to actions with their reasons.

pub mod task_spec;
