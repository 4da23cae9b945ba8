//! The raw resources as people write them.
