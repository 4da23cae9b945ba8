//! Virtual time and what is to happen in it.

use jiff::Timestamp;
use std::{cmp::Reverse, collections::BinaryHeap};

/// Milliseconds since 1970: the time of the world. Controllers may believe in another.
pub type Ms = i64;

pub const SECOND: Ms = 1000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;
pub const YEAR: Ms = 365 * DAY;

pub fn stamp(at: Ms) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap()
}

/// The first millisecond at which a clock that shows milliseconds is not before `at`.
pub fn ms(at: Timestamp) -> Ms {
    at.as_millisecond() + Ms::from(at.subsec_nanosecond() % 1_000_000 > 0)
}

/// What will happen, by time; at one time in the order in which it was planned.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Reverse<(Ms, u64, Item<E>)>>,
    serial: u64,
}

/// An event, which has no order of its own.
#[derive(Debug)]
struct Item<E>(E);

impl<E> PartialEq for Item<E> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<E> Eq for Item<E> {}
impl<E> PartialOrd for Item<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Item<E> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), serial: 0 }
    }
}

impl<E> Agenda<E> {
    pub fn plan(&mut self, at: Ms, event: E) {
        self.serial += 1;
        self.heap.push(Reverse((at, self.serial, Item(event))));
    }

    /// The next event, if it is not after `end`.
    pub fn next(&mut self, end: Ms) -> Option<(Ms, E)> {
        if self.heap.peek()?.0.0 > end {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, Item(event)))| (at, event))
    }
}
