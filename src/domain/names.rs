//! Names of things: short, safe on every remote, never differing in case alone.

use crate::domain::error::Invalid;
use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Declares a newtype over `String` that is checked at construction and when deserialized.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Name of a policy: lower case letters, digits and inner dashes, 1 to 50 characters.
    PolicyName,
    check_label_50
);
name!(
    /// Name of a namespace, a stack or a service: letters, digits, inner `_` and `-`, 1 to 63 characters.
    ScopeName,
    check_scope
);
name!(
    /// Whose data it is (`production`): letters, digits, inner `.`, `_` and `-`, 1 to 63 characters; a folder on the remote.
    InstanceName,
    check_instance
);
name!(
    /// Name of one source of a policy: `mongodb` for the deployment, else the volume's name. As [`PolicyName`], at most 40.
    SourceName,
    check_source
);

/// The source name that stands for the policy's MongoDB deployment.
pub const MONGODB_SOURCE: &str = "mongodb";

impl SourceName {
    /// The MongoDB deployment of a policy.
    pub fn mongodb() -> Self {
        Self(MONGODB_SOURCE.to_owned())
    }

    /// True for [`SourceName::mongodb`].
    pub fn is_mongodb(&self) -> bool {
        self.0 == MONGODB_SOURCE
    }
}

fn check_label(text: &str, max: usize) -> Result<(), Invalid> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let good = (1..=max).contains(&bytes.len())
        && bytes.iter().all(|&c| inner(c) || c == b'-')
        && bytes.first().is_some_and(|&c| inner(c))
        && bytes.last().is_some_and(|&c| inner(c));
    if good {
        return Ok(());
    }
    Err(Invalid::new(format!(
        "{text:?} is not a name: use 1 to {max} of a-z, 0-9 and '-', beginning and ending with a letter or digit"
    )))
}

fn check_label_50(text: &str) -> Result<(), Invalid> {
    check_label(text, 50)
}

fn check_source(text: &str) -> Result<(), Invalid> {
    check_label(text, 40)
}

fn check_scope(text: &str) -> Result<(), Invalid> {
    let edge = |c: u8| c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    let good = (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&c| edge(c) || matches!(c, b'-' | b'_'))
        && bytes.first().is_some_and(|&c| edge(c))
        && bytes.last().is_some_and(|&c| edge(c));
    if good {
        return Ok(());
    }
    Err(Invalid::new(format!(
        "{text:?} is not the name of a namespace or stack: use 1 to 63 of A-Z, a-z, 0-9, '-' and '_', beginning and ending with a letter or digit"
    )))
}

fn check_instance(text: &str) -> Result<(), Invalid> {
    let edge = |c: u8| c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    let good = (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&c| edge(c) || matches!(c, b'-' | b'.' | b'_'))
        && bytes.first().is_some_and(|&c| edge(c))
        && bytes.last().is_some_and(|&c| edge(c));
    // `data` would be rewritten by the restic protocol through which objects are sent.
    if good && text != "data" {
        return Ok(());
    }
    Err(Invalid::new(format!(
        "{text:?} is not an instance name: use 1 to 63 of A-Z, a-z, 0-9, '-', '.' and '_', beginning and ending with a letter or digit, and not \"data\""
    )))
}

/// The moment a run is for: whole seconds UTC, and whether a person asked for it (`…Z-m`).
///
/// Ordered by time, a scheduled slot before a manual one of the same second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot {
    time: Timestamp,
    manual: bool,
}

const SLOT_FORMAT: &str = "%Y%m%dT%H%M%SZ";

impl Slot {
    /// The scheduled slot at `time`, cut to whole seconds.
    pub fn scheduled(time: Timestamp) -> Self {
        Self { time: whole_seconds(time), manual: false }
    }

    /// The slot of a run that a person asked for at `time`, cut to whole seconds.
    pub fn manual(time: Timestamp) -> Self {
        Self { time: whole_seconds(time), manual: true }
    }

    /// The moment, whole seconds.
    pub fn time(self) -> Timestamp {
        self.time
    }

    /// True when a person asked for the run.
    pub fn is_manual(self) -> bool {
        self.manual
    }

    /// The UTC day, `20261125`: the folder of the slot's snapshot.
    pub fn day(self) -> String {
        self.time.to_zoned(TimeZone::UTC).strftime("%Y%m%d").to_string()
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    // A second that came out of a valid timestamp is in range.
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As SLOT_FORMAT says; every message of a decision names a slot.
        let time = Offset::UTC.to_datetime(self.time);
        if time.year() < 0 {
            f.write_str("-")?;
        }
        // The calendar ends with the year 9999.
        let year = time.year().unsigned_abs();
        let pair = |number: u16| u8::try_from(number).unwrap_or(0);
        let pairs = [
            (0, pair(year / 100)),
            (2, pair(year % 100)),
            (4, time.month().unsigned_abs()),
            (6, time.day().unsigned_abs()),
            (9, time.hour().unsigned_abs()),
            (11, time.minute().unsigned_abs()),
            (13, time.second().unsigned_abs()),
        ];
        let mut text = *b"00000000T000000Z-m";
        for (place, number) in pairs {
            text[place] += number / 10;
            text[place + 1] += number % 10;
        }
        let text = if self.manual { &text[..] } else { &text[..16] };
        f.write_str(str::from_utf8(text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Slot {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (stem, manual) = match text.strip_suffix("-m") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let wrong = || {
            Invalid::new(format!(
                "{text:?} is not a slot: expected a UTC time such as 20261125T020000Z, or …Z-m"
            ))
        };
        let time = jiff::civil::DateTime::strptime(SLOT_FORMAT, stem)
            .and_then(|civil| civil.to_zoned(TimeZone::UTC))
            .map_err(|_| wrong())?
            .timestamp();
        let slot = Self { time, manual };
        // Only the canonical spelling is a slot, so that a name round-trips.
        if slot.to_string() == text { Ok(slot) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Slot {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

/// `<policy>-<slot>`: the name of a run and of the snapshot it commits, the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName {
    policy: PolicyName,
    slot: Slot,
}

impl SnapshotName {
    /// The snapshot of `policy` for `slot`.
    pub fn new(policy: PolicyName, slot: Slot) -> Self {
        Self { policy, slot }
    }

    /// The policy that made it.
    pub fn policy(&self) -> &PolicyName {
        &self.policy
    }

    /// The slot it is for.
    pub fn slot(&self) -> Slot {
        self.slot
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.policy, self.slot)
    }
}

impl FromStr for SnapshotName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "{text:?} is not a snapshot name: expected <policy>-<slot>, such as nightly-20261125T020000Z"
            ))
        };
        let stem = text.strip_suffix("-m").unwrap_or(text);
        let (policy, _) = stem.rsplit_once('-').ok_or_else(wrong)?;
        let slot = text.get(policy.len() + 1..).ok_or_else(wrong)?;
        Ok(Self { policy: policy.parse().map_err(|_| wrong())?, slot: slot.parse().map_err(|_| wrong())? })
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.to_string()
    }
}

/// One attempt's own prefix on the remote: six base32hex characters of its start in UTC minutes, then three random ones.
///
/// Text order is time order, and the age of debris can be read from its name, without the store's own times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId(String);

const BASE32HEX: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

impl AttemptId {
    /// The attempt that began at `start` (any time after 1970), made unique by 15 bits of `random`.
    pub fn new(start: Timestamp, random: u16) -> Self {
        let minutes = u64::try_from(start.as_second() / 60).unwrap_or(0) & 0x3fff_ffff;
        let bits = (minutes << 15) | u64::from(random & 0x7fff);
        let text = (0..9).rev().map(|i| char::from(BASE32HEX[(bits >> (5 * i)) as usize & 31])).collect();
        Self(text)
    }

    /// The minute in which the attempt began.
    pub fn started(&self) -> Timestamp {
        let minutes = self.0.bytes().take(6).fold(0i64, |sum, c| sum * 32 + digit(c).unwrap_or(0));
        // At most 2^30 minutes after 1970, the year 4011.
        Timestamp::from_second(minutes * 60).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The nine characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn digit(c: u8) -> Option<i64> {
    BASE32HEX.iter().position(|&d| d == c).and_then(|i| i64::try_from(i).ok())
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AttemptId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() == 9 && text.bytes().all(|c| digit(c).is_some()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(format!("{text:?} is not an attempt id: expected nine of 0-9 and a-v")))
    }
}

impl TryFrom<String> for AttemptId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<AttemptId> for String {
    fn from(id: AttemptId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_say_what_is_allowed() {
        for bad in ["", "-a", "a-", "A", "a_b", &"a".repeat(51), "ä"] {
            let error = bad.parse::<PolicyName>().unwrap_err().to_string();
            assert!(error.contains("1 to 50 of a-z"), "{bad}: {error}");
        }
        assert!("data".parse::<InstanceName>().is_err());
        assert!("Prod_1.eu".parse::<InstanceName>().is_ok());
    }

    #[test]
    fn snapshot_names_with_dashes_in_the_policy() {
        let name: SnapshotName = "home-of-all-20261125T020000Z-m".parse().unwrap();
        assert_eq!(name.policy().as_str(), "home-of-all");
        assert!(name.slot().is_manual());
        assert_eq!(name.slot().day(), "20261125");
        for bad in ["nightly", "nightly-2026", "20261125T020000Z", "-20261125T020000Z", "n-20261325T020000Z"]
        {
            assert!(bad.parse::<SnapshotName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn slots_round_trip(second in 0i64..4_000_000_000, manual: bool) {
            let time = Timestamp::from_second(second).unwrap();
            let slot = if manual { Slot::manual(time) } else { Slot::scheduled(time) };
            prop_assert_eq!(slot.to_string().parse::<Slot>().unwrap(), slot);
        }

        #[test]
        fn attempts_sort_by_time_and_tell_it(a in 0i64..4_000_000_000, b in 0i64..4_000_000_000, random: u16) {
            let id = |s| AttemptId::new(Timestamp::from_second(s).unwrap(), random);
            prop_assert_eq!(id(a).started().as_second(), a / 60 * 60);
            prop_assert_eq!(id(a).to_string().parse::<AttemptId>().unwrap(), id(a));
            if a / 60 < b / 60 { prop_assert!(id(a) < id(b)); }
        }
    }
}
