//! What is known of one committed backup: the summary that status, lists and reports carry; and how people name it.

use crate::domain::{
    error::Invalid,
    names::{InstanceName, Slot, SnapshotName, SourceName},
};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How well the parts of a source agree with each other in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Consistency {
    /// A database at one moment: one member, one stream, its oplog in it.
    PointInTime,
    /// A database read over a while, without an oplog.
    Fuzzy,
    /// Files read while others may write them.
    BestEffort,
}

/// Totals of one source in one snapshot, also what the guards of the next run compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceSummary {
    /// Which source.
    pub source: SourceName,
    /// File contents or documents, bytes before compression.
    pub source_bytes: u64,
    /// Bytes stored for it.
    pub stored_bytes: u64,
    /// Regular files (volumes).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub files: u64,
    /// Collections (databases).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub collections: u64,
    /// Documents (databases).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub documents: u64,
    /// Entries that changed while they were read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changed_while_read: u64,
    /// Entries that could not be read. More than zero: the snapshot is incomplete.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
    /// How well its parts agree.
    pub consistency: Consistency,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSummary {
    /// Its name.
    pub name: SnapshotName,
    /// Whose data.
    pub instance: InstanceName,
    /// When the manifest was written.
    pub committed_at: Timestamp,
    /// Every required source is there and readable.
    pub complete: bool,
    /// Totals by source, database first.
    pub sources: Vec<SourceSummary>,
    /// Required sources that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<SourceName>,
}

impl SnapshotSummary {
    /// Bytes of all sources before compression.
    pub fn source_bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.source_bytes).sum()
    }

    /// Bytes stored for all sources.
    pub fn stored_bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.stored_bytes).sum()
    }

    /// Files of all volumes.
    pub fn files(&self) -> u64 {
        self.sources.iter().map(|s| s.files).sum()
    }

    /// Documents of the database.
    pub fn documents(&self) -> u64 {
        self.sources.iter().map(|s| s.documents).sum()
    }

    /// The weakest consistency of its sources.
    pub fn consistency(&self) -> Option<Consistency> {
        self.sources.iter().map(|s| s.consistency).max()
    }
}

/// Which snapshot is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AsOf {
    /// The newest complete one.
    Latest,
    /// The newest complete one whose slot is not later.
    Time(Timestamp),
    /// This one.
    Name(SnapshotName),
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => time.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl AsOf {
    /// As a person writes it at `now`: `latest`, `yesterday`, a day, a time or a name. A day means its end, UTC.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, Invalid> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Ok(name) = text.parse() {
            return Ok(Self::Name(name));
        }
        let day = match text {
            "yesterday" => Some(now.to_zoned(TimeZone::UTC).date().saturating_sub(1.day())),
            text => text.parse().ok().filter(|day: &Date| day.to_string() == text),
        };
        let time = text.parse::<Timestamp>().ok().or_else(|| Some(text.parse::<Slot>().ok()?.time()));
        time.or_else(|| end_of(day?)).map(Self::Time).ok_or_else(|| {
            Invalid::new(format!(
                "{text:?} is no snapshot: write latest, yesterday, a day such as 2026-11-25, a time such as 2026-11-25T02:00:00Z, or a name such as nightly-20261125T020000Z"
            ))
        })
    }
}

/// A day's last second, UTC.
fn end_of(day: Date) -> Option<Timestamp> {
    Some(day.at(23, 59, 59, 0).to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_name_a_snapshot_by_its_time_too() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let time = |text: &str| Ok(AsOf::Time(text.parse().unwrap()));
        assert_eq!(AsOf::parse("latest", now), Ok(AsOf::Latest));
        assert_eq!(AsOf::parse("yesterday", now), time("2026-11-24T23:59:59Z"));
        assert_eq!(AsOf::parse("2026-11-20", now), time("2026-11-20T23:59:59Z"));
        assert_eq!(AsOf::parse("2026-11-20T02:00:00Z", now), time("2026-11-20T02:00:00Z"));
        assert_eq!(AsOf::parse("20261120T020000Z", now), time("2026-11-20T02:00:00Z"));
        assert!(matches!(AsOf::parse("nightly-20261120T020000Z", now), Ok(AsOf::Name(_))));
        for bad in ["", "tomorrow", "2026-13-01", "20261120"] {
            assert!(AsOf::parse(bad, now).is_err(), "{bad}");
        }
    }
}
