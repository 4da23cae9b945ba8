//! The port's implementations.

pub mod local;
