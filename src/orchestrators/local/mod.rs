//! One host, no orchestrator: policies are files in a directory that is only read, state is a directory, tasks are
//! child processes that outlive the controller.
//!
//! - [`state`]: the state directory, one file or folder a fact; [`files`] writes each whole or not at all.
//! - [`policies`]: reads the policies; [`lookup`] finds one for the command line.
//! - [`process`]: a process that is told from a later one of the same number.
//! - [`tasks`]: launches tasks, sees how they are, stops them.
//! - [`people`]: requests, answers, restores, holds, drills: what the command line leaves for the controller.
//! - [`port`]: all of it as the controller's port; [`watch`] its hints; [`notice`] what it tells about itself;
//!   [`removed`] sweeps what is left of policies that are declared no more.

pub mod files;
pub mod lookup;
mod notice;
pub mod people;
pub mod policies;
pub mod port;
pub mod process;
mod removed;
pub mod restores;
mod secrets;
mod site;
pub mod state;
pub mod tasks;
mod watch;
