//! Totals of a volume, and what a person should hear about single files.

use crate::storage::{index::codec::escape, manifest::Counts};

/// Names of each kind that are told; more are counted only.
const TOLD: u64 = 10;

/// Totals, and the warnings that go with them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The totals so far.
    pub counts: Counts,
}

impl Tally {
    /// Counts an entry that cannot be read.
    pub fn unreadable(&mut self, path: &[u8], reason: &str) {
        self.counts.unreadable += 1;
        if self.counts.unreadable <= TOLD {
            tracing::warn!("{} cannot be read: {reason}", shown(path));
        }
    }

    /// Counts a file that changed while it was read.
    pub fn changed(&mut self, path: &[u8]) {
        self.counts.changed_while_read += 1;
        if self.counts.changed_while_read <= TOLD {
            tracing::warn!("{} changed while it was read", shown(path));
        }
    }

    /// Says how many were not told by name, and gives the totals.
    pub fn finish(self) -> Counts {
        let Counts { unreadable, changed_while_read, vanished, sockets, .. } = self.counts;
        for (count, what) in
            [(unreadable, "could not be read"), (changed_while_read, "changed while they were read")]
        {
            if count > TOLD {
                tracing::warn!("{count} files {what}, {} of them not named here", count - TOLD);
            }
        }
        if vanished + sockets > 0 {
            tracing::info!("{vanished} files vanished meanwhile; {sockets} sockets were left out");
        }
        self.counts
    }
}

/// A path as it can be printed: control bytes escaped as in an index, and what is no text replaced.
fn shown(path: &[u8]) -> String {
    let mut text = Vec::new();
    escape(&mut text, path);
    String::from_utf8_lossy(&text).into_owned()
}
