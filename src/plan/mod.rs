//! Pure decisions: from a policy, what was observed and the time, to actions with their reasons.

pub mod action;
mod bootstrap;
mod claim;
mod conditions;
mod deadline;
pub mod decide;
pub mod effective;
mod freshness;
pub mod observed;
mod pass;
mod phase;
mod report;
pub mod restoring;
mod runs;
mod slots;
mod spec;
mod summary;
pub mod task_spec;
mod upkeep;
pub mod validate;
mod wishes;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
