//! What happened, as a number that two runs of a seed must agree in; and as text when a person wants to read it.

use crate::clock::{Ms, stamp};
use std::fmt;

/// The trace of one simulation.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    pub lines: Option<Vec<String>>,
}

impl Trace {
    /// With `readable`, the lines are kept as well.
    pub fn new(readable: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: readable.then(Vec::new) }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Notes one event: numbers for the hash, words for the reader.
    pub fn note(&mut self, at: Ms, numbers: &[u64], words: fmt::Arguments<'_>) {
        for number in numbers.iter().chain([&at.cast_unsigned()]) {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{}  {words}", stamp(at)));
        }
    }
}
