//! The pieces of an archive that must be seen whole: its headers, ends of blocks, and the oplog's documents.

use std::borrow::Cow;

/// Ends the prelude and every block.
pub(super) const TERMINATOR: [u8; 4] = [0xff; 4];
/// 16 MiB, and the 16 KiB by which the server's own documents may pass that.
const MAX_DOCUMENT: u32 = 16 * 1024 * 1024 + 16 * 1024;

/// A document or a terminator, once it is whole.
pub(super) type Item<'c> = Option<Cow<'c, [u8]>>;

/// Holds the beginning of an item whose end is in a later chunk.
#[derive(Default)]
pub(super) struct Gather {
    held: Vec<u8>,
}

impl Gather {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes from `rest` until an item is whole; gives the number of bytes taken. `magic`: the item is four bytes.
    pub(super) fn take<'c>(&mut self, rest: &'c [u8], magic: bool) -> Result<(usize, Item<'c>), String> {
        if self.held.is_empty()
            && let Some(prefix) = rest.first_chunk()
            && let Some(item) = rest.get(..size(*prefix, magic)?)
        {
            return Ok((item.len(), Some(Cow::Borrowed(item))));
        }
        let mut used = self.hold(rest, 4);
        let Some(prefix) = self.held.first_chunk() else { return Ok((used, None)) };
        let size = size(*prefix, magic)?;
        used += self.hold(&rest[used..], size);
        let whole = self.held.len() >= size;
        Ok((used, whole.then(|| Cow::Owned(std::mem::take(&mut self.held)))))
    }

    /// Adds to the held bytes until they are `size`; gives the number of bytes added.
    fn hold(&mut self, rest: &[u8], size: usize) -> usize {
        let take = size.saturating_sub(self.held.len()).min(rest.len());
        self.held.extend_from_slice(&rest[..take]);
        take
    }
}

/// Bytes of the item that begins with `prefix`.
fn size(prefix: [u8; 4], magic: bool) -> Result<usize, String> {
    if magic { Ok(4) } else { length(prefix).map(|length| length.unwrap_or(4)) }
}

/// The length of the document that begins with `prefix`; `None` when it is the end of a block.
pub(super) fn length(prefix: [u8; 4]) -> Result<Option<usize>, String> {
    if prefix == TERMINATOR {
        return Ok(None);
    }
    match u32::from_le_bytes(prefix) {
        length @ 5..=MAX_DOCUMENT => Ok(Some(length as usize)),
        length => Err(format!("{length} is not the length of a document")),
    }
}
