//! The index of a volume: one record an entry, in path order, saying what it is and where its bytes lie.

pub mod record;
