//! When runs are due: a five-field cron expression in a time zone.
//!
//! `H` in a field stands for one fixed value that is derived from the policy's identity, so that many policies with one
//! expression do not all start at once: `H` any, `H(a-b)` one of a range, `H/n` every n from a start of its own.
//!
//! Day of month and day of week add to each other where both are given, as in every cron.
//!
//! **Clock changes.** A slot is the first moment at which the clock shows its time or, where that time is skipped, a
//! later one; so a nightly run happens exactly once a night. Only where the hour is a repetition (`*`, `*/n`, `H/n`)
//! both passes of a repeated hour count: an hourly run stays hourly.

mod describe;
mod fields;
mod memo;
mod search;

use crate::domain::{
    error::{AtField as _, Invalid},
    names::{InstanceName, PolicyName},
};
use fields::{Field, Spread};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use memo::Memo;

/// A schedule in its zone. It has a next slot at any time before the year 5000.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    expression: String,
    zone: TimeZone,
    zone_name: String,
    fields: [Field; 5],
    canonical: String,
    memo: Memo,
}

/// A slot that a change of the clock touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockChange {
    /// When the clock changes.
    pub at: Timestamp,
    /// The wall-clock time of the first slot that is concerned.
    pub wall: DateTime,
    /// When the slot is then.
    pub slot: Timestamp,
    /// True where the time is skipped, false where it comes twice.
    pub skipped: bool,
}

impl Schedule {
    /// The schedule of a policy that sets none: once in the small hours.
    pub const DEFAULT: &str = "H H(1-4) * * *";
    /// The zone of a policy that sets none.
    pub const DEFAULT_ZONE: &str = "UTC";

    /// Parses `expression` for the policy whose identity `H` is derived from.
    ///
    /// # Errors
    /// Field `schedule`: what cannot be read or never comes (`0 3 30 2 *`). Field `timeZone`: an unknown name.
    pub fn parse(
        expression: &str,
        zone: &str,
        instance: &InstanceName,
        policy: &PolicyName,
    ) -> Result<Self, Invalid> {
        let spread = Spread { instance, policy };
        let fields = parse_fields(expression, &spread).at("schedule")?;
        let (zone, zone_name) = parse_zone(zone).at("timeZone")?;
        let canonical = fields.each_ref().map(Field::canonical).join(" ");
        let (expression, memo) = (expression.to_owned(), Memo::default());
        Ok(Self { expression, zone, zone_name, fields, canonical, memo })
    }

    /// The expression as written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The expression with every `H` and name replaced by numbers.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The zone.
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The zone's IANA name.
    pub fn time_zone_name(&self) -> &str {
        &self.zone_name
    }

    /// `at 02:17 every day`
    pub fn describe(&self) -> String {
        describe::describe(&self.fields)
    }

    /// The first slot after `time`. `None` only near the end of representable time.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.memo.next_after(time, || self.search_after(time))
    }

    fn search_after(&self, time: Timestamp) -> Option<Timestamp> {
        let mut wall = self.wall(time);
        let first_pass = loop {
            wall = search::after(&self.fields, wall)?;
            let slot = self.first_showing(wall)?;
            if slot > time {
                break slot;
            }
        };
        let second_pass = self.second_pass(time).filter(|slot| *slot < first_pass);
        Some(second_pass.unwrap_or(first_pass))
    }

    /// The newest slot at or before `time`.
    pub fn previous(&self, time: Timestamp) -> Option<Timestamp> {
        // In the second pass of a repeated hour the clock has shown later times than it shows now.
        let mut wall = self.wall(time);
        if self.zone.to_ambiguous_timestamp(wall).is_ambiguous() {
            wall = wall.checked_add(SignedDuration::from_hours(3)).ok()?;
        }
        let mut slot = loop {
            wall = search::until(&self.fields, wall)?;
            let slot = self.first_showing(wall)?;
            if slot <= time {
                break slot;
            }
            wall = just_before(wall)?;
        };
        // Only second passes can lie in between.
        while let Some(later) = self.second_pass(slot).filter(|later| *later <= time) {
            slot = later;
        }
        Some(slot)
    }

    /// The slots after `after`, up to and including `until`, oldest first. Cut it with `take`: there may be many.
    pub fn slots_between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next_after(after), |slot| self.next_after(*slot))
            .take_while(move |slot| *slot <= until)
    }

    /// The changes of the clock after `after` and up to `until` that touch a slot, oldest first.
    pub fn clock_changes(&self, after: Timestamp, until: Timestamp) -> Vec<ClockChange> {
        let changes = self.zone.following(after).take_while(|change| change.timestamp() <= until);
        changes.filter_map(|change| self.touched_by(change.timestamp())).collect()
    }

    fn touched_by(&self, change: Timestamp) -> Option<ClockChange> {
        let before_it = change.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let (before, after) = (self.zone.to_offset(before_it), self.zone.to_offset(change));
        let (old, new) = (before.to_datetime(change), after.to_datetime(change));
        let wall = search::after(&self.fields, just_before(old.min(new))?)?;
        (wall < old.max(new)).then_some(ClockChange {
            at: change,
            wall,
            slot: self.first_showing(wall)?,
            skipped: new > old,
        })
    }

    /// What the clock shows at `time`.
    fn wall(&self, time: Timestamp) -> DateTime {
        self.zone.to_datetime(time)
    }

    /// The first moment at which the clock shows `wall` or, where it is skipped, a later time.
    fn first_showing(&self, wall: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            AmbiguousOffset::Gap { before, .. } => {
                // By the old offset the skipped time lies at or after the change; the change itself is meant.
                let beyond =
                    before.to_timestamp(wall).ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
                self.zone.preceding(beyond).next().map(|change| change.timestamp())
            }
        }
    }

    /// The first slot after `time` in the second pass of a repeated hour, within the next three hours, if the hour is a
    /// repetition.
    fn second_pass(&self, time: Timestamp) -> Option<Timestamp> {
        if !self.fields[1].repeats {
            return None;
        }
        let horizon = time.checked_add(SignedDuration::from_hours(3)).ok()?;
        let back = time.checked_sub(SignedDuration::from_hours(3)).ok()?;
        let changes = self.zone.following(back).take_while(|change| change.timestamp() <= horizon);
        changes.filter_map(|change| self.repeated_after(change.timestamp(), time)).min()
    }

    /// The first slot after `time` in the second pass that begins with `change`.
    fn repeated_after(&self, change: Timestamp, time: Timestamp) -> Option<Timestamp> {
        let before_it = change.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let (before, after) = (self.zone.to_offset(before_it), self.zone.to_offset(change));
        let (end, start) = (before.to_datetime(change), after.to_datetime(change));
        let mut wall = search::after(&self.fields, just_before(start)?)?;
        while wall < end {
            let slot = after.to_timestamp(wall).ok()?;
            if slot > time {
                return Some(slot);
            }
            wall = search::after(&self.fields, wall)?;
        }
        None
    }
}

fn just_before(wall: DateTime) -> Option<DateTime> {
    wall.checked_sub(SignedDuration::from_nanos(1)).ok()
}

fn parse_fields(expression: &str, spread: &Spread<'_>) -> Result<[Field; 5], Invalid> {
    // The nicknames keep to the small hours, as the default does.
    let text = match expression.trim() {
        "@hourly" => "H * * * *",
        "@daily" => Schedule::DEFAULT,
        "@weekly" => "H H(1-4) * * H",
        "@monthly" => "H H(1-4) H * *",
        "@yearly" => "H H(1-4) H H *",
        nickname if nickname.starts_with('@') => {
            return Err(Invalid::new(format!(
                "{expression:?} is not known: write @hourly, @daily, @weekly, @monthly, @yearly or five fields"
            )));
        }
        text => text,
    };
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts.as_slice() else {
        return Err(Invalid::new(format!(
            "{expression:?} has {} fields, expected five: minute, hour, day of month, month, day of week",
            parts.len()
        )));
    };
    let field = |index: usize, text: &str| {
        fields::parse(index, text, spread)
            .map_err(|error| Invalid::new(format!("{expression:?}: {}", error.message)))
    };
    let fields = [field(0, minute)?, field(1, hour)?, field(2, day)?, field(3, month)?, field(4, weekday)?];
    if never_comes(&fields) {
        return Err(Invalid::new(format!("{expression:?} never comes: none of its months has such a day")));
    }
    Ok(fields)
}

/// True where the day does not exist in any of the months. A day of week always comes.
fn never_comes([_, _, day, month, weekday]: &[Field; 5]) -> bool {
    let longest = |month: &u8| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let first_day = day.values().first().copied().unwrap_or(0);
    weekday.any && month.values().iter().all(|month| first_day > longest(month))
}

fn parse_zone(name: &str) -> Result<(TimeZone, String), Invalid> {
    let database = jiff::tz::db();
    // "Local" or an empty TZ would mean another zone on each node.
    if let Ok(zone) = database.get(name)
        && let Some(iana) = zone.iana_name().map(str::to_owned)
    {
        return Ok((zone, iana));
    }
    let near =
        |known: &str| strsim::normalized_damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
    let known = database.available().map(|known| known.to_string());
    let nearest = known.map(|known| (near(&known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((likeness, known)) if likeness > 0.6 => format!("did you mean {known:?}?"),
        _ => "write a name such as UTC or America/Chicago".to_owned(),
    };
    Err(Invalid::new(format!("{name:?} is not an IANA time zone; {hint}")))
}

#[cfg(test)]
mod tests;
