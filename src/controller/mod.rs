//! The controller around its decisions, the same for every orchestrator. [`machine`] says which call comes next, and
//! [`run_loop`] makes it:
//!
//! 1. *observe*: the [`port`] tells everything about one policy, or an error;
//! 2. *decide*: [`crate::plan::decide`], pure;
//! 3. *act* and *record*: the decision's actions, in order, through the port.
//!
//! Only [`clock`] reads the time.

pub mod clock;
pub mod machine;
pub mod port;
mod queue;
pub mod run_loop;
pub mod settings;
