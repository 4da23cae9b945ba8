//! How a snapshot is proven to be restorable.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How deep a verification looks. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// What listings tell.
    Listing,
    /// Reads share `n` of `of` of the parts.
    Scrub {
        /// Which share, from 0.
        n: u64,
        /// How many shares there are, at least 1.
        of: u64,
    },
    /// Reads, decodes and hashes everything.
    Open,
    /// Restores everything into a scratch folder and a scratch server, and compares.
    Drill,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listing => f.write_str("listing"),
            Self::Scrub { of: 1, .. } => f.write_str("scrub"),
            Self::Scrub { n, of } => write!(f, "scrub {}/{of}", n + 1),
            Self::Open => f.write_str("open"),
            Self::Drill => f.write_str("drill"),
        }
    }
}
