//! The clock, and times as people read them.

use crate::domain::{error::Invalid, snapshot::AsOf};
use jiff::Timestamp;
use std::time::Duration;

/// Which snapshot, as [`AsOf::parse`] reads it now.
pub fn as_of(text: &str) -> Result<AsOf, Invalid> {
    AsOf::parse(text, now())
}

/// Now.
#[expect(clippy::disallowed_methods, reason = "the command line is an edge: what a person asks is asked now")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// `in 14h`, `2d4h ago`, `now`
pub fn until(now: Timestamp, time: Timestamp) -> String {
    let seconds = time.as_second() - now.as_second();
    let span = span(Duration::from_secs(seconds.unsigned_abs()));
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// How long before `now` something was; nothing negative, where clocks differ.
pub fn span_between(time: Timestamp, now: Timestamp) -> String {
    span(Duration::from_secs(u64::try_from(now.as_second() - time.as_second()).unwrap_or(0)))
}

/// The two largest units: `2d4h`, `14h`, `3m20s`.
pub fn span(duration: Duration) -> String {
    let total = duration.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| total >= *size).unwrap_or(units.len() - 1);
    let (size, name) = units[first];
    let rest = units.get(first + 1).map(|(next, unit)| (total % size / next, unit));
    match rest {
        // From ten of the larger unit on, the smaller one is noise.
        Some((count, unit)) if count > 0 && total / size < 10 => {
            format!("{}{name}{count}{unit}", total / size)
        }
        _ => format!("{}{name}", total / size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (200, "3m20s"),
            (3600, "1h"),
            (50_400, "14h"),
            (187_200, "2d4h"),
            (900_000, "10d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(until(at(100), at(0)), "1m40s ago");
        assert_eq!(until(at(0), at(50_400)), "in 14h");
    }
}
