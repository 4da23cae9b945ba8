//! Which snapshots are kept, and why.

use crate::domain::names::{Slot, SnapshotName};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::Offset};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What is kept. At least one rule is more than zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Everything at most this many days older than the newest good snapshot.
    pub keep_within_days: u32,
    /// The newest N.
    pub keep_last: u32,
    /// The newest of each of the last N days that have one.
    pub keep_daily: u32,
    /// The newest of each of the last N ISO weeks that have one.
    pub keep_weekly: u32,
    /// The newest of each of the last N months that have one.
    pub keep_monthly: u32,
    /// The newest of each of the last N years that have one.
    pub keep_yearly: u32,
}

impl Default for Retention {
    /// Everything for a week.
    fn default() -> Self {
        Self {
            keep_within_days: 7,
            keep_last: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
        }
    }
}

/// The newest complete snapshots that no rule can remove.
pub const ALWAYS_KEPT: usize = 2;

/// A snapshot, as retention sees it. All of one decision are of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its name; its slot is its age.
    pub name: SnapshotName,
    /// When its manifest was written.
    pub committed_at: Timestamp,
    /// Every required source is there and readable.
    pub complete: bool,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// One of the newest [`ALWAYS_KEPT`].
    Newest,
    /// A person holds it, or it is the newest that a restore was tested with.
    Held,
    /// Incomplete, and no complete one after it is old enough to take its place.
    OnlyOneSince,
    /// At most `keepWithinDays` older than the newest.
    Within(u32),
    /// Among the newest `keepLast`.
    Last(u32),
    /// The newest of this day.
    Daily(Date),
    /// The newest of the ISO week that begins on this day.
    Weekly(Date),
    /// The newest of the month that begins on this day.
    Monthly(Date),
    /// The newest of this year.
    Yearly(i16),
    /// No rule keeps it any more, but one did within the last grace period: it may be in use.
    Grace,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => write!(f, "one of the newest {ALWAYS_KEPT}, which always stay"),
            Self::Held => f.write_str("held, or the newest restore-tested"),
            Self::OnlyOneSince => f.write_str("incomplete, with no complete one after it yet"),
            Self::Within(days) => write!(f, "within {days} days of the newest"),
            Self::Last(count) => write!(f, "among the newest {count}"),
            Self::Daily(day) => write!(f, "the newest of {day}"),
            Self::Weekly(day) => write!(f, "the newest of the week of {day}"),
            Self::Monthly(day) => write!(f, "the newest of {}", day.strftime("%B %Y")),
            Self::Yearly(year) => write!(f, "the newest of {year}"),
            Self::Grace => f.write_str("no rule keeps it; it stays for a grace period, as it may be in use"),
        }
    }
}

/// What becomes of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which.
    pub name: SnapshotName,
    /// Why it is kept, in the order of [`Reason`]; empty: it goes.
    pub reasons: BTreeSet<Reason>,
}

impl Decision {
    /// True when nothing keeps it.
    pub fn is_doomed(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// What becomes of each of `points`, newest first.
///
/// Evaluated twice, now and `grace` ago: only what both drop goes. What did not exist then was not dropped then: it was
/// the newest once since, and so kept. Age is measured from the newest complete snapshot, never from the clock; `now`
/// only tells which snapshots existed a grace period ago.
pub fn decide(
    points: &[Point],
    rules: &Retention,
    held: &BTreeSet<SnapshotName>,
    grace: SignedDuration,
    now: Timestamp,
) -> Vec<Decision> {
    let then = now.checked_sub(grace).unwrap_or(Timestamp::MIN);
    let mut complete: Vec<&Point> = points.iter().filter(|point| point.complete).collect();
    complete.sort_by_key(|point| std::cmp::Reverse(point.name.slot()));
    let before: Vec<&Point> = complete.iter().copied().filter(|point| point.committed_at <= then).collect();

    let mut reasons = keep(&complete, rules);
    let young = complete.iter().filter(|point| point.committed_at > then).map(|point| point.name.slot());
    for slot in keep(&before, rules).into_keys().chain(young) {
        let kept_now = reasons.entry(slot).or_default();
        if kept_now.is_empty() {
            kept_now.insert(Reason::Grace);
        }
    }
    for point in complete.iter().take(ALWAYS_KEPT) {
        reasons.entry(point.name.slot()).or_default().insert(Reason::Newest);
    }
    for point in points {
        if held.contains(&point.name) {
            reasons.entry(point.name.slot()).or_default().insert(Reason::Held);
        }
        let replaced = before.first().is_some_and(|newest| newest.name.slot() > point.name.slot());
        if !point.complete && !replaced {
            reasons.entry(point.name.slot()).or_default().insert(Reason::OnlyOneSince);
        }
    }
    let mut decisions: Vec<_> = points
        .iter()
        .map(|point| Decision {
            name: point.name.clone(),
            reasons: reasons.get(&point.name.slot()).cloned().unwrap_or_default(),
        })
        .collect();
    decisions.sort_by_key(|decision| std::cmp::Reverse(decision.name.slot()));
    decisions
}

/// The rules alone, over complete snapshots, newest first.
fn keep(points: &[&Point], rules: &Retention) -> BTreeMap<Slot, BTreeSet<Reason>> {
    let Retention { keep_within_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly } =
        *rules;
    let mut kept: BTreeMap<Slot, BTreeSet<Reason>> = BTreeMap::new();
    let Some(newest) = points.first() else { return kept };
    let span = SignedDuration::from_hours(24 * i64::from(keep_within_days));
    for (place, point) in points.iter().enumerate() {
        let age = newest.name.slot().time().duration_since(point.name.slot().time());
        if keep_within_days > 0 && age <= span {
            kept.entry(point.name.slot()).or_default().insert(Reason::Within(keep_within_days));
        }
        if place < usize::try_from(keep_last).unwrap_or(usize::MAX) {
            kept.entry(point.name.slot()).or_default().insert(Reason::Last(keep_last));
        }
    }
    let mut newest_of_each = |count: u32, period: fn(Date) -> Reason| {
        let (mut seen, count) = (BTreeSet::new(), usize::try_from(count).unwrap_or(usize::MAX));
        for point in points {
            if seen.len() >= count {
                break;
            }
            let slot = point.name.slot();
            let period = period(Offset::UTC.to_datetime(slot.time()).date());
            if seen.insert(period) {
                kept.entry(slot).or_default().insert(period);
            }
        }
    };
    newest_of_each(keep_daily, Reason::Daily);
    newest_of_each(keep_weekly, |day| Reason::Weekly(monday(day)));
    newest_of_each(keep_monthly, |day| Reason::Monthly(day.first_of_month()));
    newest_of_each(keep_yearly, |day| Reason::Yearly(day.year()));
    kept
}

fn monday(day: Date) -> Date {
    let back = i64::from(day.weekday().to_monday_zero_offset());
    day.checked_sub(SignedDuration::from_hours(24 * back)).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;
    /// 25 November 2026, 02:00 UTC.
    const NIGHT: i64 = 1_795_572_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn point(second: i64, complete: bool) -> Point {
        Point {
            name: SnapshotName::new("nightly".parse().unwrap(), Slot::scheduled(at(second))),
            committed_at: at(second + 600),
            complete,
        }
    }

    fn nights(ages: impl IntoIterator<Item = i64>) -> Vec<Point> {
        ages.into_iter().map(|age| point(NIGHT - age * DAY, true)).collect()
    }

    fn rules(text: &str) -> Retention {
        let mut rules = Retention { keep_within_days: 0, ..Retention::default() };
        for rule in text.split_whitespace() {
            let (name, count) = rule.split_at(1);
            let count = count.parse().unwrap();
            match name {
                "r" => rules.keep_within_days = count,
                "l" => rules.keep_last = count,
                "d" => rules.keep_daily = count,
                "w" => rules.keep_weekly = count,
                "m" => rules.keep_monthly = count,
                _ => rules.keep_yearly = count,
            }
        }
        rules
    }

    fn kept_ages(points: &[Point], rules: &Retention, now: i64, grace_days: i64) -> Vec<i64> {
        decide(points, rules, &BTreeSet::new(), SignedDuration::from_hours(24 * grace_days), at(now))
            .iter()
            .filter(|decision| !decision.is_doomed())
            .map(|decision| (NIGHT - decision.name.slot().time().as_second()) / DAY)
            .collect()
    }

    #[test]
    fn each_rule_keeps_what_it_says() {
        // 25 November 2026 is a Wednesday: its week begins two nights before.
        for (text, expected) in [
            ("r7", vec![0, 1, 2, 3, 4, 5, 6, 7]),
            ("l3", vec![0, 1, 2]),
            ("l1", vec![0, 1]),
            ("d4", vec![0, 1, 2, 3]),
            ("w3", vec![0, 1, 3, 10]),
            ("m3", vec![0, 1, 25, 56]),
            ("y2", vec![0, 1]),
            ("l2 d3 w2 m2", vec![0, 1, 2, 3, 25]),
        ] {
            assert_eq!(kept_ages(&nights(0..60), &rules(text), NIGHT + DAY / 2, 0), expected, "{text}");
        }
    }

    #[test]
    fn what_was_kept_a_grace_period_ago_stays() {
        let kept = kept_ages(&nights(0..30), &rules("l3"), NIGHT + DAY / 2, 3);
        assert_eq!(kept, vec![0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_younger_than_a_grace_period_stays_whatever_the_rules_say() {
        let points = nights(0..30);
        for (grace_days, kept) in
            [(0, vec![0, 1]), (3, vec![0, 1, 2, 3]), (9, vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]
        {
            assert_eq!(kept_ages(&points, &rules("l1"), NIGHT + DAY / 2, grace_days), kept, "{grace_days}");
        }
    }

    #[test]
    fn a_clock_far_ahead_and_a_week_of_failures_delete_nothing() {
        let points = nights(0..8);
        for now in [NIGHT + DAY, NIGHT + 30 * DAY, NIGHT + 4000 * DAY, NIGHT - 4000 * DAY] {
            assert_eq!(kept_ages(&points, &rules("r7"), now, 3).len(), 8);
        }
    }

    #[test]
    fn incomplete_ones_neither_count_nor_rotate_good_ones_out() {
        let mut points = nights([3, 4, 5]);
        points.extend([0, 1, 2].map(|age| point(NIGHT - age * DAY, false)));
        let kept = kept_ages(&points, &rules("l1"), NIGHT + 10 * DAY, 3);
        assert_eq!(kept, vec![0, 1, 2, 3, 4], "the incomplete ones wait for a complete one");
        points.push(point(NIGHT + DAY, true));
        let kept = kept_ages(&points, &rules("l1"), NIGHT + 2 * DAY, 3);
        assert_eq!(kept, vec![-1, 0, 1, 2, 3], "a new complete one is not yet a grace period old");
        let kept = kept_ages(&points, &rules("l1"), NIGHT + 10 * DAY, 3);
        assert_eq!(kept, vec![-1, 3], "now it is");
    }

    #[test]
    fn held_ones_stay_and_reasons_read_well() {
        let points = nights(0..10);
        let held = BTreeSet::from([points[9].name.clone()]);
        let decisions = decide(&points, &rules("d2 w2 m1 r1"), &held, SignedDuration::ZERO, at(NIGHT + DAY));
        let text: Vec<_> = decisions
            .iter()
            .filter(|decision| !decision.is_doomed())
            .map(|decision| {
                let reasons: Vec<_> = decision.reasons.iter().map(ToString::to_string).collect();
                format!("{}: {}", decision.name, reasons.join("; "))
            })
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    proptest! {
        #[test]
        fn the_newest_two_and_the_held_stay_and_more_rules_keep_more(
            hours in proptest::collection::btree_map(0i64..4000, any::<bool>(), 0..40),
            counts in proptest::array::uniform6(0u32..5),
            extra in 0usize..6,
            held in 0usize..40,
            now in 0i64..6000,
            grace in 0i64..200,
        ) {
            let points: Vec<Point> =
                hours.iter().map(|(hour, complete)| point(NIGHT + hour * 3600, *complete)).collect();
            let build = |counts: [u32; 6]| Retention {
                keep_within_days: counts[0], keep_last: counts[1], keep_daily: counts[2],
                keep_weekly: counts[3], keep_monthly: counts[4], keep_yearly: counts[5],
            };
            let held: BTreeSet<_> = points.get(held).map(|point| point.name.clone()).into_iter().collect();
            let run = |counts| decide(
                &points, &build(counts), &held, SignedDuration::from_hours(grace), at(NIGHT + now * 3600),
            );
            let decisions = run(counts);
            prop_assert_eq!(decisions.len(), points.len());
            let kept: BTreeSet<_> =
                decisions.iter().filter(|d| !d.is_doomed()).map(|d| d.name.clone()).collect();
            for point in points.iter().rev().filter(|point| point.complete).take(ALWAYS_KEPT) {
                prop_assert!(kept.contains(&point.name));
            }
            prop_assert!(held.is_subset(&kept));
            let mut more = counts;
            more[extra] += 1;
            let more: BTreeSet<_> =
                run(more).into_iter().filter(|d| !d.is_doomed()).map(|d| d.name).collect();
            prop_assert!(kept.is_subset(&more));
        }
    }
}
