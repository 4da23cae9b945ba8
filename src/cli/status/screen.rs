//! The screen: one sentence, a table, and for each policy in trouble what happened and what to do.

use super::{
    verdict::{Severity, State},
    view::{Row, View},
};
use crate::{
    cli::{
        style::Style,
        table::{Cell, Table, printable},
        time::span_between,
    },
    domain::{
        run::Outcome,
        size::human,
        status::{ConditionType, Status, Truth},
    },
};
use jiff::{Timestamp, tz::TimeZone};
use std::fmt::Write as _;

/// Slots in the strip.
const STRIP: usize = 14;

/// The whole screen.
pub(super) fn draw(view: &View, wide: bool, color: bool, now: Timestamp) -> String {
    let mut text = format!("{}\n", sentence(view, color));
    if !view.policies.is_empty() {
        let _ = write!(text, "\n{}", table(view, wide, now).render(color));
    }
    for row in &view.policies {
        text.push_str(&details(row, color));
    }
    if let [only] = &view.policies[..] {
        text.push_str(&remarks(only));
    }
    for trouble in &view.troubles {
        let what = trouble.policy.as_ref().map_or_else(|| "controller".to_owned(), ToString::to_string);
        let what = Style::Red.paint(&what, color).into_owned();
        let _ = write!(text, "\n{what}  nothing is done: {}\n", printable(&trouble.message));
        text.push_str("  fix:  mend or remove what is named; backups go on by themselves then\n");
    }
    for problem in &view.problems {
        let place = Style::Red.paint(&problem.place, color).into_owned();
        let _ = write!(text, "\n{place}  declares nothing: {}\n", printable(&problem.message));
        if problem.place.starts_with('/') {
            let _ = writeln!(text, "  check: backstay validate -f {}", problem.place);
        }
    }
    text
}

/// What a person wants to know first.
fn sentence(view: &View, color: bool) -> String {
    let total = view.policies.len();
    let count = |state: State| view.policies.iter().filter(|row| row.state == state).count();
    let of = |n: usize| match (total, n) {
        (1, _) => "The policy is".to_owned(),
        (_, 1) => format!("1 of {total} policies is"),
        _ => format!("{n} of {total} policies are"),
    };
    let is_never = |row: &&Row| {
        row.state == State::Failed && row.status.as_ref().is_none_or(|status| status.last_success.is_none())
    };
    let failed = match view.policies.iter().filter(is_never).count() {
        0 => "without a good last run, but still fresh",
        never if never == count(State::Failed) => "without any backup: no run has succeeded yet",
        _ => "without a good last run, some of them without any backup",
    };
    let worst = [
        (State::Invalid, "wrong and cannot run"),
        (State::Held, "held: no run starts"),
        (State::Unseen, "not looked at by the controller"),
        (State::Stale, "past its freshness deadline"),
        (State::Unprotected, "without any backup, and its remote or sources cannot be used"),
        (State::Failed, failed),
        (State::Denied, "unable to use its remote or sources, but still fresh"),
        (State::Unproven, "backed up, but its newest restore drill failed"),
    ];
    let said = worst.iter().find(|(state, _)| count(*state) > 0);
    let text = match said {
        Some((state, what)) => {
            let n = count(*state);
            format!("{} {}", of(n), if n > 1 { what.replace("its ", "their ") } else { (*what).to_owned() })
        }
        None if total == 0 => "No policy is declared".to_owned(),
        None if total == 1 => "The policy is in good order".to_owned(),
        None => format!("All {total} policies are in good order"),
    };
    let text = match (&view.controller, view.problems.len()) {
        (None, _) => format!("{text}; no controller runs, so nothing will be backed up"),
        (Some(_), _) if !view.troubles.is_empty() => {
            format!("{text}; the controller meets what it cannot read")
        }
        (Some(_), 0) => text,
        (Some(_), n) => format!("{text}; {n} document{} cannot be used", if n == 1 { "" } else { "s" }),
    };
    let (mark, style) = match view.severity() {
        Severity::Good => ("✓", Style::Green),
        Severity::Warning => ("!", Style::Yellow),
        Severity::Critical => ("✗", Style::Red),
        Severity::Unknown => ("?", Style::Yellow),
    };
    style.paint(&format!("{mark} {text}"), color).into_owned()
}

fn table(view: &View, wide: bool, now: Timestamp) -> Table {
    let mut headings =
        vec!["POLICY", "STATE", "LAST GOOD", "DEADLINE", "NEXT", ">SIZE", "VERIFIED", "14 RUNS"];
    if wide {
        headings.extend([">STORED", ">FILES", ">DOCUMENTS", "WHERE"]);
    }
    let mut table = Table::new(&headings);
    for row in &view.policies {
        let status = row.status.clone().unwrap_or_default();
        let state_style = match row.state.severity() {
            Severity::Critical => Style::Red,
            Severity::Warning => Style::Yellow,
            _ if row.state == State::Ok => Style::Green,
            _ => Style::Plain,
        };
        let good = status.last_success.as_ref();
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let bytes = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), human);
        let mut cells: Vec<Cell> = vec![
            row.policy.to_string().into(),
            Cell::styled(row.state.as_str(), state_style),
            good.map_or_else(|| "-".to_owned(), |run| ago(run.slot.time(), now)).into(),
            status.fresh_until_time.map_or_else(|| "-".to_owned(), |until| left(until, now)).into(),
            next(&status, row.state, now).into(),
            bytes(good.and_then(|run| run.source_bytes)).into(),
            verified(&status, now).into(),
            strip(&status).into(),
        ];
        if wide {
            let place = status.location.as_ref().map(ToString::to_string).unwrap_or_default();
            cells.push(bytes(good.and_then(|run| run.stored_bytes)).into());
            cells.push(number(good.and_then(|run| run.files)).into());
            cells.push(number(good.and_then(|run| run.documents)).into());
            cells.push(place.into());
        }
        table.row(cells);
    }
    table
}

/// A glyph for each of the newest slots, oldest first, and one for a run that is active.
fn strip(status: &Status) -> String {
    let active = status.active.iter().map(|_| '◐');
    let newest = status.history.iter().map(|slot| glyph(slot.outcome));
    let mut glyphs: Vec<char> = active.chain(newest).take(STRIP).collect();
    glyphs.reverse();
    glyphs.into_iter().collect()
}

fn glyph(outcome: Outcome) -> char {
    match outcome {
        Outcome::Succeeded => '●',
        Outcome::Partial => '◑',
        Outcome::Failed => '✗',
        Outcome::Missed => '○',
        Outcome::Skipped => '·',
        Outcome::Cancelled => '⊘',
    }
}

/// What happened, what to do about it, and where to read more; nothing for a policy that is well.
fn details(row: &Row, color: bool) -> String {
    let status = row.status.clone().unwrap_or_default();
    let said = row.invalid.clone().or_else(|| status.message.clone());
    let (Some(message), true) = (said, row.state != State::Ok && row.state != State::Paused) else {
        return String::new();
    };
    let style = match row.state.severity() {
        Severity::Critical => Style::Red,
        Severity::Warning => Style::Yellow,
        _ => Style::Bold,
    };
    let name = style.paint(&row.policy.to_string(), color).into_owned();
    let mut text = format!("\n{name}  {}\n", printable(&message));
    if let Some(fix) = status.fix.as_ref().filter(|_| row.invalid.is_none()) {
        let _ = writeln!(text, "  fix:  {}", printable(fix));
    }
    if status.last_run.is_some() || !status.active.is_empty() {
        let _ = writeln!(text, "  logs: backstay logs {}", row.policy);
    }
    text
}

/// What the last run's tasks remarked: too much for a screen of many policies.
fn remarks(row: &Row) -> String {
    let last = row.status.as_ref().and_then(|status| status.last_run.as_ref());
    let warnings = last.map_or(&[][..], |run| &run.warnings);
    let lines: String = warnings.iter().map(|warning| format!("  {}\n", printable(warning))).collect();
    if lines.is_empty() { lines } else { format!("\nThe last run remarked:\n{lines}") }
}

fn verified(status: &Status, now: Timestamp) -> String {
    match status.condition(ConditionType::RestoreTested) {
        Some(c) if c.status == Truth::True => ago(c.last_transition_time, now),
        Some(c) if c.status == Truth::False => "failed".to_owned(),
        _ => "never".to_owned(),
    }
}

/// The next slot on the clock of the policy's zone; with its day when it is more than a day away.
fn next(status: &Status, state: State, now: Timestamp) -> String {
    if state == State::Running {
        return "now".to_owned();
    }
    let Some(at) = status.next_run_time else { return "-".to_owned() };
    let zone =
        status.schedule.as_ref().and_then(|s| TimeZone::get(&s.time_zone).ok()).unwrap_or(TimeZone::UTC);
    let local = at.to_zoned(zone);
    let away = at.duration_since(now);
    match away.as_hours() {
        ..24 => local.strftime("%H:%M").to_string(),
        24..168 => local.strftime("%a %H:%M").to_string(),
        _ => local.strftime("%-d %b %H:%M").to_string(),
    }
}

/// `2d4h ago`
fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span_between(at, now))
}

/// `+26h` before a deadline, `-3h` after it.
fn left(until: Timestamp, now: Timestamp) -> String {
    if until < now {
        format!("-{}", span_between(until, now))
    } else {
        format!("+{}", span_between(now, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::{ActiveRun, Condition, RunSummary, ScheduleStatus, SlotOutcome};
    use crate::{cli::status::verdict::state, domain::run::StepName};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn status(outcomes: &[(Outcome, &str)]) -> Status {
        let history: Vec<SlotOutcome> = outcomes
            .iter()
            .map(|(outcome, slot)| SlotOutcome {
                slot: slot.parse().unwrap(),
                outcome: *outcome,
                reason: "x".to_owned(),
                seconds: None,
            })
            .collect();
        let good = history.iter().find(|h| h.outcome == Outcome::Succeeded);
        Status {
            last_success: good.map(|h| {
                RunSummary {
                    slot: h.slot,
                    outcome: h.outcome,
                    reason: String::new(),
                    message: String::new(),
                    fix: None,
                    start_time: h.slot.time(),
                    completion_time: h.slot.time(),
                    attempts: 1,
                    source_bytes: Some(48_425_234_432),
                    stored_bytes: Some(12_000_000),
                    files: Some(218_402),
                    documents: Some(7),
                    consistency: None,
                    snapshot: None,
                    sources: vec![],
                    warnings: vec![],
                }
                .into()
            }),
            history: history.into(),
            schedule: Some(ScheduleStatus {
                expression: "0 2 * * *".to_owned(),
                time_zone: "America/Chicago".to_owned(),
                since: at("2026-11-01T00:00:00Z"),
                suspended: false,
                settled: None,
            }),
            next_run_time: Some(at("2026-11-25T08:00:00Z")),
            fresh_until_time: Some(at("2026-11-26T09:00:00Z")),
            ..Status::default()
        }
    }

    fn row(name: &str, status: Status, now: Timestamp) -> Row {
        let state = state(false, Some(&status), now);
        Row { policy: name.parse().unwrap(), state, invalid: None, status: Some(status) }
    }

    #[test]
    fn the_screen() {
        let now = at("2026-11-25T04:00:00Z");
        let mut stale =
            status(&[(Outcome::Failed, "20261124T080000Z"), (Outcome::Succeeded, "20261122T080000Z")]);
        stale.fresh_until_time = Some(at("2026-11-25T01:00:00Z"));
        stale.message = Some("Failed: Box token expired (2 attempts)".to_owned());
        stale.fix = Some("rclone config reconnect box:".to_owned());
        stale.last_run.clone_from(&stale.last_success);
        let mut running =
            status(&[(Outcome::Succeeded, "20261124T080000Z"), (Outcome::Missed, "20261123T080000Z")]);
        running.active.push(ActiveRun {
            slot: "20261125T040000Z-m".parse().unwrap(),
            start_time: now,
            generation: 1,
            step: StepName::backup(),
            attempt: 1,
            last_failure: None,
        });
        let mut fine = status(&[(Outcome::Succeeded, "20261124T080000Z")]);
        fine.last_run.clone_from(&fine.last_success);
        let remark = "homes: 3 entries are sockets".to_owned();
        fine.last_run.as_mut().unwrap().edit().warnings.push(remark);
        fine.conditions.edit().push(Condition {
            kind: ConditionType::RestoreTested,
            status: Truth::True,
            reason: String::new(),
            message: String::new(),
            last_transition_time: at("2026-11-16T00:00:00Z"),
            observed_generation: 1,
        });
        let mut view = View {
            controller: Some("1".to_owned()),
            policies: vec![
                row("site/nightly", stale, now),
                row("homes", running, now),
                row("fine", fine, now),
            ],
            problems: vec![],
            troubles: vec![],
        };
        insta::assert_snapshot!("screen", draw(&view, false, false, now));
        view.policies.remove(0);
        assert_eq!(sentence(&view, false), "✓ All 2 policies are in good order");
        assert!(!draw(&view, false, false, now).contains("remarked"));
        view.policies.remove(0);
        let remarked = draw(&view, false, false, now);
        assert!(
            remarked.ends_with("\nThe last run remarked:\n  homes: 3 entries are sockets\n"),
            "{remarked}"
        );
        view.controller = None;
        assert_eq!(view.severity(), Severity::Warning);
        view.policies.clear();
        assert_eq!(view.severity(), Severity::Unknown);
    }
}
