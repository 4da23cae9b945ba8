//! The counted memory that holds compressed bytes from compression until they are stored.

use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of one slab.
pub(super) const SLAB_BYTES: usize = 1 << 20;

/// A fixed number of slabs, used again and again.
///
/// They are pieces of one allocation: as large as that is, the system gets it back whole once the pack is done. Slabs
/// of their own would fragment the heap, and the next pack of the task would take as much again (measured).
#[derive(Debug)]
pub(super) struct SlabPool {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: Vec<BytesMut>,
    closed: bool,
}

/// One slab, given back to its pool when dropped.
#[derive(Debug)]
pub(super) struct Slab {
    bytes: BytesMut,
    pool: Arc<SlabPool>,
}

/// Buffers of `size` bytes, of one allocation.
pub(super) fn pieces(number: usize, size: usize) -> Vec<BytesMut> {
    let mut rest = BytesMut::with_capacity(number * size);
    let mut cut = || {
        let next = rest.split_off(size);
        std::mem::replace(&mut rest, next)
    };
    (0..number).map(|_| cut()).collect()
}

impl SlabPool {
    pub fn new(slabs: usize) -> Arc<Self> {
        let state = State { free: pieces(slabs, SLAB_BYTES), closed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// An empty slab; waits until one is free. `None` once the pool is closed.
    pub fn take(self: &Arc<Self>) -> Option<Slab> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            // The last one that came back: memory that was never needed stays untouched.
            if let Some(bytes) = state.free.pop() {
                return Some(Slab { bytes, pool: Arc::clone(self) });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes whoever waits, with nothing, and lets the memory go.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.free = Vec::new();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, mut bytes: BytesMut) {
        let mut state = self.lock();
        if !state.closed {
            bytes.clear();
            state.free.push(bytes);
            self.changed.notify_one();
        }
    }
}

impl Slab {
    /// Takes in as much of `bytes` as there is room for; tells how much.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(SLAB_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The filled part; the slab goes back to its pool when the last clone is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_comes_back_with_its_last_clone_and_closing_wakes_the_waiting() {
        let pool = SlabPool::new(1);
        let mut slab = pool.take().unwrap();
        assert_eq!(slab.fill(&vec![7; SLAB_BYTES + 1]), SLAB_BYTES);
        assert_eq!(slab.fill(&[7]), 0);
        let bytes = slab.freeze();
        let clone = bytes.slice(..10);
        drop(bytes);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| pool.take());
            drop(clone);
            let second = second.join().unwrap();
            assert!(second.is_some());
            let third = scope.spawn(|| pool.take());
            pool.close();
            assert!(third.join().unwrap().is_none());
        });
    }
}
