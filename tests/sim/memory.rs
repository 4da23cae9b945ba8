//! Memory for simulations: what a thread frees it takes again, size by size, and gives nothing back. A third of a
//! simulation's time went into the general allocator.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, UnsafeCell},
    ptr,
};

/// Sizes are rounded up to multiples of this, which every block is aligned to.
const UNIT: usize = 16;
/// Larger blocks are the system's.
const LARGEST: usize = 2048;
/// What is taken from the system at once.
const CHUNK: usize = 256 * 1024;

struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

/// The free blocks of one thread: each begins with the address of the next of its size.
struct Free {
    blocks: UnsafeCell<[*mut u8; LARGEST / UNIT + 1]>,
    chunk: Cell<*mut u8>,
    left: Cell<usize>,
}

thread_local! {
    static FREE: Free = const {
        Free {
            blocks: UnsafeCell::new([ptr::null_mut(); LARGEST / UNIT + 1]),
            chunk: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
        }
    };
}

/// The number of units of a block, none for what is left to the system.
fn units(layout: Layout) -> Option<usize> {
    let ours = layout.size() <= LARGEST && layout.size() > 0 && layout.align() <= UNIT;
    ours.then(|| layout.size().div_ceil(UNIT))
}

impl Free {
    fn take(&self, units: usize) -> *mut u8 {
        // SAFETY: only this thread comes here, and nothing below calls the allocator. A block of the list is free, and
        // holds at least one address.
        unsafe {
            let head = &mut (*self.blocks.get())[units];
            if !head.is_null() {
                let block = *head;
                *head = block.cast::<*mut u8>().read();
                return block;
            }
        }
        self.cut(units * UNIT)
    }

    fn cut(&self, size: usize) -> *mut u8 {
        if self.left.get() < size {
            let Ok(layout) = Layout::from_size_align(CHUNK, UNIT) else { return ptr::null_mut() };
            // SAFETY: the size is not zero.
            let chunk = unsafe { System.alloc(layout) };
            if chunk.is_null() {
                return chunk;
            }
            self.chunk.set(chunk);
            self.left.set(CHUNK);
        }
        let block = self.chunk.get();
        // SAFETY: so much is left of the chunk.
        self.chunk.set(unsafe { block.add(size) });
        self.left.set(self.left.get() - size);
        block
    }

    fn give(&self, block: *mut u8, units: usize) {
        // SAFETY: as above; the block was cut for this size and belongs to nobody now.
        unsafe {
            let head = &mut (*self.blocks.get())[units];
            block.cast::<*mut u8>().write(*head);
            *head = block;
        }
    }
}

// SAFETY: blocks are aligned to a unit, as large as asked for, and never given out twice; the rest is the system's.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match units(layout) {
            Some(units) => FREE.with(|free| free.take(units)),
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match units(layout) {
            Some(units) => FREE.with(|free| free.give(block, units)),
            // SAFETY: the caller's promise.
            None => unsafe { System.dealloc(block, layout) },
        }
    }
}
