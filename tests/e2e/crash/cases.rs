//! What is done to whom, and when.

use crate::support::proxy::Trouble;
use std::{fmt, str::FromStr};

/// One row of the matrix.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub kind: Kind,
    pub deed: Deed,
    /// Points in the whole matrix.
    pub points: usize,
    /// Points in the sample.
    pub sample: usize,
    /// A run that failed says one of these.
    pub says: &'static [&'static str],
}

/// What kind of site it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One member, a folder as the remote.
    Plain,
    /// Two members; the primary is read.
    Pair,
    /// An oplog of a few MiB.
    SmallOplog,
    /// The same, and a policy that takes no dump without it.
    Insists,
    /// A remote that can be full.
    Small,
    /// A WebDAV server behind a network that can fail.
    Network,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL.
    Kill(Whom),
    /// SIGSTOP, and SIGCONT a moment later.
    Pause(Whom),
    /// SIGSTOP, and no SIGCONT while the run is not over.
    Freeze(Whom),
    /// The primary steps down.
    StepDown,
    /// The database changes under these dumps of the run.
    Change(Change, Dumps),
    /// The remote is full.
    Fill,
    /// So many requests meet this.
    Network(Trouble, usize),
}

impl Deed {
    /// Who it is done to, if it is a process.
    pub fn whom(self) -> Option<Whom> {
        match self {
            Self::Kill(whom) | Self::Pause(whom) | Self::Freeze(whom) => Some(whom),
            _ => None,
        }
    }
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Controller,
    Task,
    Mongodump,
    Rclone,
    Mongod,
}

/// What a program does to its database at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Rename,
    Drop,
    Out,
    /// It writes so much that the oplog forgets when the dump began.
    RollOver,
}

/// One that the oplog would not carry is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dumps {
    First,
    Each,
}

/// From then on, for the rest of a run.
pub const ALL: usize = usize::MAX;

const fn case(name: &'static str, deed: Deed, points: usize, sample: usize) -> Case {
    let kind = match deed {
        Deed::StepDown => Kind::Pair,
        Deed::Change(Change::RollOver, _) => Kind::SmallOplog,
        Deed::Fill => Kind::Small,
        Deed::Network(..) => Kind::Network,
        _ => Kind::Plain,
    };
    Case { name, kind, deed, points, sample, says: &[] }
}

impl Case {
    const fn says(mut self, words: &'static [&'static str]) -> Self {
        self.says = words;
        self
    }

    const fn insists(mut self) -> Self {
        self.kind = Kind::Insists;
        self
    }
}

/// The matrix.
pub const CASES: &[Case] = &[
    case("kill-controller", Deed::Kill(Whom::Controller), 100, 1),
    case("kill-task", Deed::Kill(Whom::Task), 100, 1).says(&["ended without a report"]),
    case("kill-mongodump", Deed::Kill(Whom::Mongodump), 100, 1).says(&["mongodump"]),
    case("kill-rclone", Deed::Kill(Whom::Rclone), 100, 1).says(&["rclone"]),
    // mongodump looks for its member for 30 s, more than once: the deadline of a minute may come first.
    case("kill-mongod", Deed::Kill(Whom::Mongod), 100, 0).says(&["127.0.0.1", "mongodump", "timeoutSeconds"]),
    case("pause-controller", Deed::Pause(Whom::Controller), 20, 0),
    case("pause-rclone", Deed::Pause(Whom::Rclone), 20, 0),
    case("pause-mongod", Deed::Pause(Whom::Mongod), 20, 0),
    case("freeze-controller", Deed::Freeze(Whom::Controller), 20, 0),
    case("freeze-rclone", Deed::Freeze(Whom::Rclone), 5, 0).says(&["timeoutSeconds"]),
    case("freeze-mongod", Deed::Freeze(Whom::Mongod), 5, 0).says(&["timeoutSeconds", "127.0.0.1"]),
    case("step-down", Deed::StepDown, 30, 0).says(&["127.0.0.1"]),
    case("rename", Deed::Change(Change::Rename, Dumps::First), 20, 0),
    case("drop", Deed::Change(Change::Drop, Dumps::First), 20, 0),
    case("out", Deed::Change(Change::Out, Dumps::First), 20, 0),
    case("roll-over", Deed::Change(Change::RollOver, Dumps::First), 10, 0),
    // The third dump is one without the oplog, which a rename spoils as well.
    case("rename-each", Deed::Change(Change::Rename, Dumps::Each), 10, 0).says(&["was renamed to"]),
    case("out-each", Deed::Change(Change::Out, Dumps::Each), 10, 0).says(&["was renamed to"]),
    case("roll-over-each", Deed::Change(Change::RollOver, Dumps::Each), 10, 0),
    case("rename-insists", Deed::Change(Change::Rename, Dumps::Each), 10, 0)
        .insists()
        .says(&["mongodb.oplog: Auto"]),
    case("out-insists", Deed::Change(Change::Out, Dumps::Each), 10, 0)
        .insists()
        .says(&["mongodb.oplog: Auto"]),
    case("roll-over-insists", Deed::Change(Change::RollOver, Dumps::Each), 10, 0)
        .insists()
        .says(&["mongodb.oplog: Auto"]),
    case("roll-over-insists-once", Deed::Change(Change::RollOver, Dumps::First), 10, 0).insists(),
    case("full", Deed::Fill, 30, 1).says(&["full"]),
    case("quota", Deed::Network(Trouble::IsFull, ALL), 30, 0).says(&["full"]),
    case("truncates-once", Deed::Network(Trouble::Truncates, 1), 20, 1),
    case("truncates", Deed::Network(Trouble::Truncates, ALL), 4, 0).says(&["timeoutSeconds", "its health"]),
    case("discards-once", Deed::Network(Trouble::Discards, 1), 20, 0),
    case("discards", Deed::Network(Trouble::Discards, ALL), 4, 0).says(&["timeoutSeconds", "its health"]),
    case("flips-once", Deed::Network(Trouble::Flips, 1), 30, 0),
    case("hangs-up-once", Deed::Network(Trouble::HangsUp, 1), 20, 0),
    case("500-once", Deed::Network(Trouble::Answers(500), 1), 30, 1),
    case("500", Deed::Network(Trouble::Answers(500), ALL), 4, 0).says(&["500", "timeoutSeconds"]),
    case("429-once", Deed::Network(Trouble::Answers(429), 1), 30, 0),
    case("429", Deed::Network(Trouble::Answers(429), ALL), 4, 0).says(&["429", "timeoutSeconds"]),
    case("silent", Deed::Network(Trouble::Silent, ALL), 4, 0).says(&["timeoutSeconds"]),
];

/// The `number`-th of `of` points; both count from 1.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    number: usize,
    of: usize,
}

impl Point {
    /// All of `of`, at most `most`.
    pub fn spread(of: usize, most: usize) -> impl Iterator<Item = Self> {
        (1..=most.min(of)).map(move |number| Self { number, of })
    }

    /// What share of a stretch lies before it.
    pub fn share(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let share = (self.number as f64 - 0.5) / self.of as f64;
        share
    }

    /// One of `marks`, the moments that time alone would miss: every tenth point, where there are many.
    pub fn mark<T>(self, marks: &[T]) -> Option<&T> {
        (self.of >= 20 && self.number.is_multiple_of(10)).then(|| &marks[self.number / 10 % marks.len()])
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Point {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(format!("CRASH_POINT={text}: such as 17/100")),
        }
    }
}
