//! How a pack's memory is divided, once, before the first byte.

use super::{FRAME_BYTES, slab::SLAB_BYTES};

/// How a pack is written.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// Directory of the snapshot, relative to the store's root: `<YYYYMMDD>/<snapshot>`.
    pub directory: String,
    /// `<source>-<attempt>`: begins every object's name.
    pub prefix: String,
    /// `tar` or `archive`: what the decompressed stream is.
    pub stream: &'static str,
    /// Target size of a part, bytes. Made smaller where two parts would not fit into the memory.
    pub part_bytes: u64,
    /// Memory for everything in flight, bytes; less than 34 MiB is taken as 34 MiB.
    pub memory_bytes: u64,
    /// Parts sent at once.
    pub transfers: usize,
    /// Compression threads, 1 to 4; fewer where they would take more than half of the memory.
    pub workers: usize,
}

/// What one compression context takes besides its buffers (level 3, 4 MiB at once: measured 1.3 MiB, rounded up).
const CONTEXT_BYTES: u64 = 2 << 20;
/// A frame's plain buffer and the buffer it is compressed into.
const FRAME_COST: u64 = 2 * (FRAME_BYTES as u64) + (64 << 10);
/// Slabs for a part that is one incompressible frame.
const LEAST_SLABS: u64 = FRAME_BYTES as u64 / SLAB_BYTES as u64 + 2;

/// The division of one pack's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Compression threads.
    pub workers: usize,
    /// Frame buffers: one is filled, one a worker, one waits for its turn.
    pub frames: usize,
    /// Slabs that hold compressed bytes until they are stored.
    pub slabs: usize,
    /// Target size of a part, bytes: at most half of the slabs, so that the next part can grow while one is sent.
    pub part_bytes: u64,
}

impl Budget {
    /// Divides `memory_bytes`: at most half for frames, the rest for slabs. Less than about 34 MiB cannot work and is
    /// taken as that.
    pub fn new(options: &PackOptions) -> Self {
        let frames = |workers: u64| workers + 2;
        let fixed = |workers: u64| frames(workers) * FRAME_COST + workers * CONTEXT_BYTES;
        let wanted = options.workers.clamp(1, 4) as u64;
        let workers = (1..=wanted).rev().find(|&w| fixed(w) <= options.memory_bytes / 2).unwrap_or(1);
        let left = options.memory_bytes.saturating_sub(fixed(workers));
        let slabs = (left / SLAB_BYTES as u64).max(LEAST_SLABS);
        Self {
            workers: usize::try_from(workers).unwrap_or(1),
            frames: usize::try_from(frames(workers)).unwrap_or(3),
            slabs: usize::try_from(slabs).unwrap_or(usize::MAX),
            part_bytes: options.part_bytes.min(slabs / 2 * SLAB_BYTES as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(memory_mib: u64, part_mib: u64, workers: usize) -> (usize, usize, u64) {
        let options = PackOptions {
            directory: String::new(),
            prefix: String::new(),
            stream: "tar",
            part_bytes: part_mib << 20,
            memory_bytes: memory_mib << 20,
            transfers: 2,
            workers,
        };
        let budget = Budget::new(&options);
        assert_eq!(budget.frames, budget.workers + 2);
        (budget.workers, budget.slabs, budget.part_bytes >> 20)
    }

    #[test]
    fn memory_is_divided_and_a_part_always_fits_twice() {
        assert_eq!(budget(96, 24, 2), (2, 59, 24));
        assert_eq!(budget(128, 24, 4), (4, 71, 24));
        assert_eq!(budget(64, 24, 4), (1, 37, 18));
        assert_eq!(budget(0, 24, 4), (1, 6, 3));
    }
}
