//! Ports and tools in isolation, each against its real counterpart; and the rules of this code base.

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod child;
mod commit;
mod harness;
mod local;
mod mongodb;
mod pack;
mod prune;
mod rclone;
mod restore;
