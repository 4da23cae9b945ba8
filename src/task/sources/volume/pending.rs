//! Records that wait until the frames their members lie in are placed.

use crate::{
    domain::verdict::Failure,
    storage::{
        index::{
            record::{Place, Record},
            writer::IndexWriter,
        },
        pack::writer::FramePlace,
    },
};
use std::collections::VecDeque;

/// The frames that a member lies in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Ordinal of the first frame.
    pub first: u64,
    /// Offset of the member's first header in it, decoded.
    pub offset: u64,
    /// Ordinal of the last frame.
    pub last: u64,
}

/// Records in path order, and the places of the frames that they wait for.
#[derive(Debug, Default)]
pub(super) struct Pending {
    records: VecDeque<(Record, Option<Span>)>,
    /// Consecutive frames, from the first that a record still needs.
    places: VecDeque<FramePlace>,
}

impl Pending {
    /// Adds a record; one without a span has no place.
    pub fn push(&mut self, record: Record, span: Option<Span>) {
        self.records.push_back((record, span));
    }

    /// Records that wait.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes new places, and writes the records that are complete now.
    pub fn settle(&mut self, places: Vec<FramePlace>, index: &mut IndexWriter) -> Result<(), Failure> {
        self.places.extend(places);
        while let Some((record, span)) = self.records.front_mut() {
            if let Some(span) = span {
                let Some(place) = locate(&mut self.places, *span) else { return Ok(()) };
                record.place = Some(place);
            }
            if let Some((record, _)) = self.records.pop_front() {
                index.push(&record)?;
            }
        }
        Ok(())
    }
}

/// Where a span is, once its last frame is placed. Drops places before it: later spans do not begin there.
fn locate(places: &mut VecDeque<FramePlace>, span: Span) -> Option<Place> {
    while places.front().is_some_and(|place| place.frame < span.first) {
        places.pop_front();
    }
    let first = places.front()?;
    let distance = usize::try_from(span.last - span.first).ok()?;
    let last = places.get(distance)?;
    Some(Place {
        pack: 0,
        part: first.part,
        frame_offset: first.offset,
        frames_length: last.total_offset + last.length - first.total_offset,
        member_offset: span.offset,
    })
}
