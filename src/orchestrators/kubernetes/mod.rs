//! Kubernetes: policies, runs and requests are resources of our own; each task is a Job.
//!
//! - [`client`]: the cluster and what its refusals mean; [`names`]: what our objects are called.
//! - [`objects`]: what is kept of what is watched; [`store`] keeps it; [`watch`] fills the stores and gives hints.
//! - [`records`]: a `Backup` as a run's record and as a request; [`facts`]: claims, their nodes, namespaces.
//! - [`job`]: the Job of a task; [`state`]: how a task is. Both are pure. [`launch`] makes the Job.
//! - [`restores`]: restores, each carried out once; [`hand`] does it.
//! - [`port`]: all of it as the controller's port, with [`runs`] and [`tasks`] as its parts; [`events`] tells of transitions; [`lease`]: who leads.
//! - [`site`]: all of it as people ask it.

pub mod client;
mod events;
mod facts;
mod hand;
mod job;
mod launch;
pub mod lease;
mod names;
mod objects;
pub mod port;
mod records;
mod restores;
mod runs;
pub mod site;
mod state;
mod store;
mod tasks;
mod watch;
