use super::*;
use proptest::prelude::*;

fn schedule(expression: &str, zone: &str) -> Schedule {
    parse(expression, zone).unwrap()
}

fn parse(expression: &str, zone: &str) -> Result<Schedule, Invalid> {
    Schedule::parse(expression, zone, &"production".parse().unwrap(), &"nightly".parse().unwrap())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Slots in a span, as local times with offset.
fn slots(expression: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
    let schedule = schedule(expression, zone);
    let local =
        |slot: Timestamp| slot.to_zoned(schedule.time_zone().clone()).strftime("%d %H:%M %:z").to_string();
    schedule.slots_between(at(after), at(until)).map(local).collect()
}

/// What is asked in between, and in which order, changes no answer.
#[test]
fn an_answer_that_is_known_is_the_one_that_would_be_found() {
    for expression in ["0 2 * * *", "30 1,2,3 * * *", "*/20 * * * *", "0 3 1 * 1"] {
        let schedule = schedule(expression, "Europe/Berlin");
        for start in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z"] {
            for step in 0..3000_i64 {
                let minutes = if step % 2 == 0 { step / 2 } else { 3000 - step };
                let time = at(start) + SignedDuration::from_mins(minutes);
                assert_eq!(
                    schedule.next_after(time),
                    schedule.clone().next_after(time),
                    "{expression} {time}"
                );
            }
        }
    }
}

#[test]
fn the_spread_never_changes() {
    let canonical = |instance: &str, policy: &str, expression: &str| {
        let (instance, policy) = (instance.parse().unwrap(), policy.parse().unwrap());
        Schedule::parse(expression, "UTC", &instance, &policy).unwrap().canonical().to_owned()
    };
    // Golden: a schedule that is in use must not move.
    insta::assert_snapshot!(
        [
            canonical("production", "nightly", Schedule::DEFAULT),
            canonical("staging", "nightly", Schedule::DEFAULT),
            canonical("production", "homes", Schedule::DEFAULT),
            canonical("production", "nightly", "@hourly"),
            canonical("production", "nightly", "@daily"),
            canonical("production", "nightly", "@weekly"),
            canonical("production", "nightly", "@monthly"),
            canonical("production", "nightly", "@yearly"),
            canonical("production", "nightly", "H/15 H/6 * * *"),
            canonical("production", "nightly", "H(0-9)/3 22 * * mon-fri"),
        ]
        .join("\n")
    );
}

#[test]
fn policies_spread_over_the_whole_range() {
    let mut minutes = std::collections::BTreeSet::new();
    let mut hours = std::collections::BTreeSet::new();
    for n in 0..400 {
        let policy = format!("p{n}").parse().unwrap();
        let schedule = Schedule::parse(Schedule::DEFAULT, "UTC", &"site".parse().unwrap(), &policy).unwrap();
        minutes.extend(schedule.fields[0].values());
        hours.extend(schedule.fields[1].values());
    }
    assert_eq!(hours.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(minutes.len() > 55, "{}", minutes.len());
}

#[test]
fn clocks_that_go_forward_or_back() {
    let spring = ("2026-03-08T00:00:00Z", "2026-03-09T12:00:00Z");
    let autumn = ("2026-11-01T00:00:00Z", "2026-11-02T12:00:00Z");
    let table = |expression: &str, (after, until): (&str, &str)| {
        slots(expression, "America/Chicago", after, until).join(", ")
    };
    // A time that is skipped: at the change, once. The next night as always.
    assert_eq!(table("30 2 * * *", spring), "08 03:00 -05:00, 09 02:30 -05:00");
    // Several times of one skipped hour are one slot.
    assert_eq!(table("*/15 2 * * *", spring).matches("08 ").count(), 1);
    // A time that comes twice: the first of them.
    assert_eq!(table("30 1 * * *", autumn), "01 01:30 -05:00, 02 01:30 -06:00");
    assert_eq!(table("30 1,13 1 * *", autumn), "01 01:30 -05:00, 01 13:30 -06:00");
    // Hourly stays hourly.
    let hours = slots("30 * * * *", "America/Chicago", "2026-11-01T05:00:00Z", "2026-11-01T09:00:00Z");
    assert_eq!(hours, ["01 00:30 -05:00", "01 01:30 -05:00", "01 01:30 -06:00", "01 02:30 -06:00"]);
    let hours = slots("30 * * * *", "America/Chicago", "2026-03-08T06:00:00Z", "2026-03-08T09:00:00Z");
    assert_eq!(hours, ["08 00:30 -06:00", "08 01:30 -06:00", "08 03:00 -05:00", "08 03:30 -05:00"]);
    // Half an hour, and a day that begins at one o'clock.
    assert_eq!(
        slots("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z"),
        ["04 02:30 +11:00"]
    );
    assert_eq!(
        slots("0 0 * * *", "Asia/Beirut", "2026-03-28T00:00:00Z", "2026-03-29T12:00:00Z"),
        ["29 01:00 +03:00"]
    );
}

#[test]
fn changes_of_the_clock_are_told_where_they_matter() {
    let schedule = schedule("30 1 * * *", "America/Chicago");
    let changes = schedule.clock_changes(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(!change.skipped);
    assert_eq!(change.wall.to_string(), "2026-11-01T01:30:00");
    assert_eq!(change.slot, at("2026-11-01T06:30:00Z"));
}

#[test]
fn wrong_expressions_say_what_is_allowed() {
    let wrong = [
        "",
        "* * * *",
        "0 0 * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5/10 * * * *",
        "*/0 * * * *",
        "*/99 * * * *",
        "9-3 * * * *",
        "a * * * *",
        "H(3-99) * * * *",
        "H( * * * *",
        "0 3 30 2 *",
        "0 3 31 4,6 *",
        "@reboot",
        "0 0 L * *",
        "0 0 ? * *",
        "1,,2 * * * *",
        "* * * foo *",
        "+5 * * * *",
    ];
    let messages: Vec<_> = wrong.iter().map(|text| parse(text, "UTC").unwrap_err().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"));
    let zones = ["America/Chikago", "local", "", "Mars", "CST6CDT5"];
    let messages: Vec<_> =
        zones.iter().map(|zone| parse("0 2 * * *", zone).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn schedules_in_english() {
    let expressions = [
        "0 2 * * *",
        "17 * * * *",
        "*/15 * * * *",
        "* * * * *",
        "30 1,13 * * mon-fri",
        "0 2 1 * *",
        "0 2 1,15 1,7 sun",
        "0 */6 * * *",
        "0,20 8-18 * * *",
        "5 */2 * * 6",
        "0 2 * 12 *",
        "30 2 29 2 *",
    ];
    let phrases: Vec<_> =
        expressions.iter().map(|text| format!("{text}: {}", schedule(text, "UTC").describe())).collect();
    insta::assert_snapshot!(phrases.join("\n"));
}

#[test]
fn rare_days_come_and_weekdays_add_to_days() {
    assert_eq!(
        schedule("0 0 29 2 *", "UTC").next_after(at("2026-01-01T00:00:00Z")),
        Some(at("2028-02-29T00:00:00Z"))
    );
    let both = slots("0 0 13 * fri", "UTC", "2026-03-01T00:00:00Z", "2026-03-20T00:00:00Z");
    assert_eq!(both, ["06 00:00 +00:00", "13 00:00 +00:00", "20 00:00 +00:00"]);
    assert_eq!(schedule("0 0 * * 7", "UTC").canonical(), "0 0 * * 0");
    assert_eq!(schedule("0 0 * * fri-sun", "UTC").canonical(), "0 0 * * 0,5,6");
}

fn expressions() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "30 2 * * *",
        "H H(1-4) * * *",
        "*/15 * * * *",
        "0 */2 * * *",
        "30 1 * * *",
        "0 0 1 * *",
        "30 1,2 * * sun",
        "@hourly",
        "*/20 1-3 * * *",
    ])
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "America/Chicago",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "Asia/Beirut",
        "Africa/Casablanca",
    ])
}

proptest! {
    #[test]
    fn any_text_is_accepted_or_refused_and_never_panics(expression in "[0-9*/,H()a-z@ -]{0,24}", zone in "[A-Za-z/]{0,12}") {
        if let Ok(schedule) = parse(&expression, "UTC") {
            prop_assert!(schedule.next_after(at("2026-01-01T00:00:00Z")).is_some());
            schedule.describe();
        }
        let _ = parse("0 2 * * *", &zone);
    }

    /// Slots ascend, each is its own newest slot, and nothing lies between two of them.
    #[test]
    fn next_and_previous_agree(expression in expressions(), zone in zones(), second in 1_760_000_000i64..1_830_000_000) {
        let schedule = schedule(expression, zone);
        let time = Timestamp::from_second(second).unwrap();
        let next = schedule.next_after(time).unwrap();
        let previous = schedule.previous(time).unwrap();
        prop_assert!(previous <= time && time < next);
        prop_assert_eq!(schedule.previous(next), Some(next));
        prop_assert_eq!(schedule.next_after(previous), Some(next));
        let just_before = next.checked_sub(SignedDuration::from_secs(1)).unwrap();
        prop_assert_eq!(schedule.next_after(just_before), Some(next));
        prop_assert_eq!(schedule.previous(just_before), Some(previous));
    }

    /// The search skips nothing that a look at every minute finds.
    #[test]
    fn a_look_at_every_minute_finds_the_same(
        expression in prop::sample::select(vec!["*/7 3-5 1-10 */2 1-3", "0 0 13 * fri", "59 23 31 12 *", "30 2 * 2 0", "5 4 28-30 * *"]),
        minute in 0i64..3_000_000,
    ) {
        let fields = schedule(expression, "UTC").fields;
        let start = DateTime::constant(2026, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::from_mins(minute)).unwrap();
        let [m, h, d, month, w] = &fields;
        let fits = |time: DateTime| {
            let (on_day, on_weekday) = (d.has(time.day()), w.has(time.weekday().to_sunday_zero_offset()));
            let day = if d.any || w.any { on_day && on_weekday } else { on_day || on_weekday };
            day && m.has(time.minute()) && h.has(time.hour()) && month.has(time.month())
        };
        let step = |n: i64| start.checked_add(SignedDuration::from_mins(n)).unwrap();
        let (next, last) = (search::after(&fields, start).unwrap(), search::until(&fields, start).unwrap());
        prop_assert!(fits(next) && fits(last));
        for n in 0..3000 {
            prop_assert!(!fits(step(n + 1)) || next <= step(n + 1));
            prop_assert!(!fits(step(-n)) || last >= step(-n));
        }
    }

    /// A nightly schedule has one slot on each local date, whatever the clock does.
    #[test]
    fn every_night_once(minute in 0u8..60, hour in 0u8..24, zone in zones()) {
        let schedule = schedule(&format!("{minute} {hour} * * *"), zone);
        let days: Vec<_> = schedule
            .slots_between(at("2026-01-10T00:00:00Z"), at("2026-12-20T00:00:00Z"))
            .map(|slot| slot.to_zoned(schedule.time_zone().clone()).date())
            .collect();
        for pair in days.windows(2) {
            prop_assert_eq!(pair[0].tomorrow().unwrap(), pair[1]);
        }
    }
}
