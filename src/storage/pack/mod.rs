//! A pack: the stream that one attempt of one source stores, as zstd frames in parts.
//!
//! ```text
//! bytes → frames (≤ 4 MiB, compressed in parallel, in order) → parts (≈ 24 MiB) → objects, sent in parallel
//! writer   compress                                             assemble           upload
//! ```
//!
//! Memory is planned once ([`budget`]): a fixed number of frame buffers and of slabs, each taken in stream order, so
//! that whoever waits for one waits only for something that is already on its way out.

mod assemble;
mod budget;
mod compress;
mod list;
pub mod reader;
mod slab;
#[cfg(test)]
mod tests;
mod upload;
pub mod writer;

/// Plain bytes of the largest frame.
pub const FRAME_BYTES: usize = 4 << 20;

/// Compression level of every frame: the sweet spot (level 9 saves 6 % for 3.6 times the time).
const LEVEL: i32 = 3;

/// The skippable frame at the start of part `number`, whose first plain byte is at `plain_offset` of the stream:
/// found alone, a part tells where it belongs.
fn part_header(pack: &str, number: u32, plain_offset: u64) -> Vec<u8> {
    const SKIPPABLE: u32 = 0x184D_2A50;
    let text = format!("backstay1\t{pack}\t{number}\t{plain_offset}\n");
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&SKIPPABLE.to_le_bytes()[..], &length.to_le_bytes()[..], text.as_bytes()].concat()
}
