//! Backstay: backups of MongoDB and home directories that are proven to restore.
//!
//! The crate is two columns that never import each other, on a pure common ground:
//!
//! ```text
//! cli                                      people and probes; only it sees both columns
//! orchestrators → controller               task → storage
//!        decides and launches                     moves the bytes
//! plan → api → domain                      pure: no clock, no I/O
//! ```
//!
//! `tests/contract/architecture.rs` enforces the arrows.
#![deny(unsafe_code, missing_docs)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod api;
pub mod cli;
pub mod controller;
pub mod domain;
pub mod orchestrators;
pub mod plan;
pub mod storage;
pub mod task;
