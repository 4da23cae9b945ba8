//! When runs are due.

/// A schedule in its zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {}
