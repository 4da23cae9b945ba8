//! The search for the times on a clock at which the fields match. Only the clock's face counts here, no zone.

use crate::domain::schedule::fields::Field;
use jiff::civil::{Date, DateTime};

/// The first match after `time`.
pub(super) fn after(fields: &[Field; 5], time: DateTime) -> Option<DateTime> {
    let [minute, hour, _, month, _] = fields;
    let mut date = time.date();
    let rest_of_hour = minute.first(time.minute() + 1).filter(|_| hour.has(time.hour()));
    let mut found = match rest_of_hour {
        Some(minute) => Some((time.hour(), minute)),
        None => hour.first(time.hour() + 1).zip(minute.first(0)),
    };
    loop {
        if !month.has(date.month()) {
            date = date.last_of_month();
        } else if is_day(fields, date)
            && let Some((hour, minute)) = found
        {
            return Some(date.at(hour, minute, 0, 0));
        }
        date = next_day(fields, date)?;
        found = hour.first(0).zip(minute.first(0));
    }
}

/// The last match at or before `time`.
pub(super) fn until(fields: &[Field; 5], time: DateTime) -> Option<DateTime> {
    let [minute, hour, _, month, _] = fields;
    let mut date = time.date();
    let begun_hour = minute.last(time.minute()).filter(|_| hour.has(time.hour()));
    let mut found = match begun_hour {
        Some(minute) => Some((time.hour(), minute)),
        None => hour.last(time.hour() - 1).zip(minute.last(59)),
    };
    loop {
        if !month.has(date.month()) {
            date = date.first_of_month();
        } else if is_day(fields, date)
            && let Some((hour, minute)) = found
        {
            return Some(date.at(hour, minute, 0, 0));
        }
        date = day_before(fields, date)?;
        found = hour.last(23).zip(minute.last(59));
    }
}

/// The next day after `date` that may match: where only the day of the month is given, the days between are passed over.
fn next_day([_, _, day, _, weekday]: &[Field; 5], date: Date) -> Option<Date> {
    if day.any || !weekday.any {
        return date.tomorrow().ok();
    }
    match day.first(date.day() + 1).filter(|day| *day <= date.days_in_month()) {
        Some(day) => Date::new(date.year(), date.month(), day).ok(),
        None => date.last_of_month().tomorrow().ok(),
    }
}

/// The same backwards.
fn day_before([_, _, day, _, weekday]: &[Field; 5], date: Date) -> Option<Date> {
    if day.any || !weekday.any {
        return date.yesterday().ok();
    }
    match day.last(date.day() - 1).filter(|day| *day > 0) {
        Some(day) => Date::new(date.year(), date.month(), day).ok(),
        None => date.first_of_month().yesterday().ok(),
    }
}

/// Day of month and day of week add to each other where both are given.
fn is_day([_, _, day, _, weekday]: &[Field; 5], date: Date) -> bool {
    let (on_day, on_weekday) = (day.has(date.day()), weekday.has(date.weekday().to_sunday_zero_offset()));
    match (day.any, weekday.any) {
        (false, false) => on_day || on_weekday,
        _ => on_day && on_weekday,
    }
}
