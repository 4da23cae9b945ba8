//! A pack: the stream that one attempt of one source stores, as zstd frames in parts.
//!
//! ```text
//! bytes → frames (≤ 4 MiB, compressed in parallel, in order) → parts (≈ 24 MiB) → objects, sent in parallel
//! ```

pub mod reader;
pub mod writer;
