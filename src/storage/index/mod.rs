//! The index of a volume: one record an entry, in path order, saying what it is and where its bytes lie.
//!
//! ```text
//! Record → codec: a line → writer, objects: 4 MiB of lines, zstd → the store
//! the store → reader, objects: BLAKE3, zstd → parser: lines, order, the checksum of the whole → Record
//! ```

pub mod codec;
pub mod objects;
pub mod parser;
pub mod reader;
pub mod record;
pub mod writer;
