//! The shell of the controller, the same for every orchestrator. [`run_loop`] does the steps; each is small:
//!
//! 1. *observe*: the [`port`] tells everything about one policy, or an error;
//! 2. *decide*: [`crate::plan::decide`], pure;
//! 3. *act* and *record*: the decision's actions, in order, through the port.
//!
//! Only [`clock`] reads the time.

pub mod clock;
pub mod port;
mod queue;
pub mod run_loop;
