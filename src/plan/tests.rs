//! Rows of the table of cases, each under its own name, and a month of accidents.

mod bootstrap;
mod cases;

use super::{
    action::{Action, Answer, Decision},
    deadline::after,
    observed::{Drill, Request, Restore, Spec, TaskState, Wish},
    world::{World, at, policy, report, source, volume},
};
use crate::domain::{
    error::Invalid,
    location::RcloneConfig,
    names::Slot,
    run::{Outcome, StepName, steps},
    schedule::Schedule,
    status::{ConditionType, Truth, WaitingReason},
    verdict::Verdict,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

const RUN: Wish = Wish::Run { accept_shrink: false, wait_turn: false };

/// A world in which the run of the 25th has begun.
fn running() -> World {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.go_to("2026-11-25T02:00:00Z");
    world
}

fn waits(world: &World) -> Vec<WaitingReason> {
    world.decide().waiting_on.iter().map(|w| w.reason).collect()
}

#[test]
fn a_nightly_run_from_claim_to_success() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    assert!(world.decide().is_idle(), "nothing is due");
    assert_eq!(world.decide().wake_at, Some(at("2026-11-25T02:00:00Z")));
    let decision = world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(decision.wake_at, Some(at("2026-11-25T08:00:00Z")), "the deadline of the task");
    world.now = at("2026-11-25T02:20:00Z");
    world.end_task(report(Verdict::Committed));
    world.settle();
    insta::assert_yaml_snapshot!("nightly_trace", world.trace);
    insta::assert_yaml_snapshot!("nightly_status", world.status());
    assert!(world.decide().is_idle(), "a steady state writes nothing");
}

#[test]
fn the_first_decisions_in_full() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.now = at("2026-11-25T02:00:00Z");
    let claim = world.decide();
    insta::assert_yaml_snapshot!("decision_claim", claim);
    claim.actions.iter().for_each(|a| world.apply(a));
    insta::assert_yaml_snapshot!("decision_first_attempt", world.decide());
}

/// cases.md: phase 5, the back-off.
#[test]
fn temporary_failures_are_tried_again_with_growing_pauses_then_the_run_fails() {
    let mut world = running();
    for pause in [60, 240] {
        world.end_task(report(Verdict::Temporary));
        let decision = world.settle();
        assert_eq!(waits(&world), [WaitingReason::Backoff]);
        assert_eq!(decision.wake_at, Some(after(world.now, Duration::from_secs(pause))));
        world.pass_time(pause as i64);
        world.settle();
    }
    world.end_task(report(Verdict::Temporary));
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Failed Broken"]);
    let status = world.status();
    assert_eq!(status.message.as_deref(), Some("Failed: it broke (3 attempts)"));
    assert_eq!(status.fix.as_deref(), Some("mend it"));
    assert!(status.last_success.is_none());
}

/// cases.md: phase 5, permanent.
#[test]
fn permanent_guard_and_credential_failures_are_not_tried_again() {
    for verdict in [Verdict::Permanent, Verdict::Guard, Verdict::Credentials] {
        let mut world = running();
        world.end_task(report(verdict));
        world.settle();
        assert_eq!(world.outcomes(), ["20261125T020000Z Failed Broken"], "{verdict:?}");
        let credentials = world.status().condition(ConditionType::CredentialsValid).unwrap().status;
        let expected = if verdict == Verdict::Credentials { Truth::False } else { Truth::True };
        assert_eq!(credentials, expected);
    }
}

/// cases.md: phase 3, harvest before anything else.
#[test]
fn a_task_that_ended_is_recorded_and_nothing_else_in_the_pass() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    let actions = world.decide().actions;
    assert!(
        matches!(
            actions.as_slice(),
            [Action::RecordRun { .. }, Action::RecordStatus { .. }] | [Action::RecordRun { .. }]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_lost_report_is_never_a_success_and_the_retry_finds_what_was_stored() {
    let mut world = running();
    world.kill_task();
    world.settle();
    world.pass_time(60);
    world.settle();
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
    assert_eq!(world.status().last_run.as_ref().unwrap().attempts, 2);
}

/// cases.md: phase 5, a task that vanished unrecorded.
#[test]
fn a_task_that_vanished_unrecorded_is_made_again_under_the_same_name() {
    let mut world = running();
    let name = world.observed.tasks[0].name.clone();
    world.observed.tasks.clear();
    world.settle();
    assert_eq!(world.observed.tasks[0].name, name);
}

#[test]
fn a_run_whose_tasks_always_vanish_ends() {
    let mut world = running();
    for _ in 0..200 {
        world.observed.tasks.clear();
        world.pass_time(3600);
        world.settle();
        if world.outcomes().iter().any(|o| o.starts_with("20261125T020000Z Failed RunExpired")) {
            return;
        }
    }
    panic!("{:?}", world.outcomes());
}

/// cases.md: phase 4, the deadline.
#[test]
fn a_task_past_its_deadline_is_recorded_then_deleted_and_the_next_waits_until_it_is_gone() {
    let mut world = running();
    world.now = at("2026-11-25T08:00:00Z");
    let decision = world.decide();
    let lines: Vec<String> = decision.actions.iter().map(super::world::line).collect();
    insta::assert_yaml_snapshot!("timed_out", lines);
    // The controller dies between the record and the deletion.
    world.apply(&decision.actions[0]);
    world.pass_time(3600);
    assert_eq!(waits(&world), [WaitingReason::TaskStopping]);
    assert!(world.decide().actions.iter().any(|a| matches!(a, Action::DeleteTask { .. })));
    assert!(!world.decide().actions.iter().any(|a| matches!(a, Action::CreateTask(_))));
    world.settle();
    assert_eq!(world.observed.tasks[0].name.attempt, 2);
}

/// cases.md: Job's Pod never made.
#[test]
fn a_task_that_never_starts_is_a_temporary_failure_with_the_orchestrators_words() {
    let mut world = running();
    world.set_task(TaskState::Pending { since: world.now, why: "quota exceeded".to_owned() });
    assert_eq!(waits(&world), [WaitingReason::TaskPending]);
    world.pass_time(900);
    world.settle();
    let run = &world.observed.runs[0].value;
    let failure = run.state.attempts[0].failure.as_ref().unwrap();
    assert_eq!((failure.reason.as_str(), failure.verdict), ("PendingTooLong", Verdict::Temporary));
    assert!(failure.message.contains("quota exceeded"), "{}", failure.message);
}

/// cases.md: phase 4, unreachable.
#[test]
fn a_lost_node_is_given_up_and_its_twin_does_not_keep_the_next_attempt() {
    let mut world = running();
    world.set_task(TaskState::Unreachable { since: world.now });
    assert_eq!(waits(&world), [WaitingReason::TaskUnreachable]);
    world.pass_time(300);
    let decision = world.decide();
    // The deletion reaches the orchestrator but not the node.
    let lost = world.observed.tasks.clone();
    decision.actions.iter().for_each(|a| world.apply(a));
    world.observed.tasks = lost;
    world.pass_time(60);
    let decision = world.decide();
    assert!(decision.actions.iter().any(|a| matches!(a, Action::CreateTask(_))), "{decision:?}");
}

/// cases.md: policy edited during a run.
#[test]
fn policy_edited_during_a_run() {
    let mut world = running();
    world.policy_mut().volumes.clear();
    world.policy_mut().suspend = true;
    world.end_task(report(Verdict::Temporary));
    world.settle();
    world.pass_time(60);
    world.settle();
    let spec = &world.specs[&world.observed.tasks[0].uid];
    let super::task_spec::Work::Backup(work) = &spec.work else { panic!("{spec:?}") };
    assert_eq!(work.sources.len(), 2, "the run keeps its plan, retries too");
    assert_eq!(world.status().active[0].generation, 1, "the status shows what it runs with");
    assert_eq!(world.status().observed_generation, 3);
}

/// cases.md: policy deleted. What was claimed before ends as it was planned; nothing new begins.
#[test]
fn policy_removed_or_broken_during_a_run_lets_it_end() {
    for spec in [Spec::Gone, Spec::Wrong(Invalid::new("is wrong").at("schedule"))] {
        let mut world = running();
        world.declared.spec = spec;
        world.end_task(report(Verdict::Committed));
        world.settle();
        assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
        assert!(!world.status().is(ConditionType::Ready));
        world.go_to("2026-11-26T02:00:00Z");
        assert_eq!(world.outcomes().len(), 1, "no new runs");
    }
}

/// cases.md: instance or destination changed.
#[test]
fn instance_or_destination_changed() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.policy_mut().destination.path = "elsewhere".parse().unwrap();
    world.settle();
    let status = world.status();
    assert!(status.snapshots.is_empty());
    assert_eq!(status.former_locations[0].to_string(), "box:WT/production");
    assert!(status.message.as_ref().unwrap().starts_with("LocationChanged"), "{:?}", status.message);
    assert!(status.last_success.is_some(), "history stays");
}

#[test]
fn a_place_is_known_once_snapshots_are_there_and_no_more_when_it_changes() {
    let mut world = running();
    let knows = |world: &World| {
        let newest = world.observed.tasks.last().unwrap();
        world.specs[&newest.uid].known_place
    };
    assert!(!knows(&world), "nothing was ever made there");
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.go_to("2026-11-26T02:00:00Z");
    assert!(knows(&world), "the run before has made a snapshot");
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.policy_mut().retention.keep_last = 3;
    world.settle();
    assert!(knows(&world), "so does a preflight");
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.policy_mut().destination.path = "elsewhere".parse().unwrap();
    world.settle();
    assert!(!knows(&world), "another place is free");
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.go_to("2026-11-27T02:00:00Z");
    assert!(!knows(&world), "for the run as well");
    world.observed.status = None;
    world.settle();
    assert!(!world.status().knows_place(), "nor is it known without a status");
}

#[test]
fn a_failed_drill_is_told_with_the_way_on() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.observed.drill = Some(Drill {
        snapshot: "nightly-20261125T020000Z".parse().unwrap(),
        at: at("2026-11-25T03:00:00Z"),
        passed: false,
        message: "homes differs".to_owned(),
        last_passed: None,
    });
    world.settle();
    let status = world.status();
    assert!(super::decide::is_bad(status));
    assert!(status.message.as_ref().unwrap().contains("restore drill failed"), "{:?}", status.message);
    assert!(status.fix.as_ref().unwrap().contains("backstay verify nightly --level drill"));
}

/// cases.md: on-demand meets scheduled.
#[test]
fn on_demand_meets_a_running_run() {
    let mut world = running();
    world.ask("a", RUN);
    world.ask("b", Wish::Run { accept_shrink: true, wait_turn: true });
    world.settle();
    assert_eq!(
        world.answers["a"],
        Answer::Refused("run 20261125T020000Z is not over; --wait-turn waits for its end".to_owned())
    );
    assert_eq!(world.observed.requests.len(), 1, "the other waits for its turn");
    world.now = at("2026-11-25T02:30:00Z");
    world.end_task(report(Verdict::Committed));
    world.settle();
    let slot = Slot::manual(at("2026-11-25T02:00:00Z"));
    assert_eq!(world.answers["b"], Answer::Accepted(slot), "named by the request, whenever its turn comes");
    assert!(world.run(slot).unwrap().plan.accept_shrink);
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert_eq!(world.status().last_success.as_ref().unwrap().slot, slot, "a manual success counts");
}

/// cases.md: on-demand meets scheduled.
#[test]
fn a_scheduled_slot_waits_for_a_manual_run() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.now = at("2026-11-25T01:59:00Z");
    world.ask("a", RUN);
    world.settle();
    world.go_to("2026-11-25T02:00:00Z");
    assert!(waits(&world).contains(&WaitingReason::RunActive));
    world.now = at("2026-11-25T02:10:00Z");
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert!(world.run(Slot::scheduled(at("2026-11-25T02:00:00Z"))).is_some());
}

#[test]
fn a_request_is_answered_by_the_run_it_made_also_after_a_death() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.ask("a", RUN);
    let decision = world.decide();
    world.apply(&decision.actions[0]);
    world.pass_time(5);
    world.settle();
    assert_eq!(world.observed.runs.len(), 1, "claimed once");
    assert_eq!(world.answers["a"], Answer::Accepted(world.observed.runs[0].value.slot));
}

/// cases.md: phase 2, cancel.
#[test]
fn cancel_stops_the_tasks_and_records_it_once_they_are_gone() {
    let mut world = running();
    world.ask("c", Wish::Cancel { slot: None });
    let decision = world.decide();
    let lines: Vec<String> = decision.actions.iter().map(super::world::line).collect();
    insta::assert_yaml_snapshot!("cancel", lines);
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Cancelled Cancelled"]);
    world.pass_time(1);
    world.ask("d", Wish::Cancel { slot: None });
    world.settle();
    assert_eq!(world.answers["d"], Answer::Refused("no run of nightly is active".to_owned()));
}

#[test]
fn a_cancel_that_comes_too_late_finds_the_success() {
    let mut world = running();
    world.ask("c", Wish::Cancel { slot: None });
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
}

#[test]
fn missed_slots_have_one_catch_up_and_reasons() {
    let mut world = World::new(policy(), "2026-11-20T12:00:00Z");
    world.go_to("2026-11-25T09:00:00Z");
    world.end_task(report(Verdict::Committed));
    world.settle();
    insta::assert_yaml_snapshot!("missed", (&world.status().missed, world.outcomes()));
}

#[test]
fn a_slot_that_cannot_start_in_time_is_missed() {
    let mut spec = policy();
    spec.starting_deadline = Some(Duration::from_secs(3600));
    let mut world = World::new(spec, "2026-11-24T12:00:00Z");
    world.go_to("2026-11-25T03:30:00Z");
    assert_eq!(world.outcomes(), ["20261125T020000Z Missed StartingDeadlineExceeded"]);
}

/// cases.md: slots, at most one waits.
#[test]
fn a_slot_that_waits_is_missed_when_the_next_is_due() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.load.active = world.load.caps.total;
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::TooManyRuns]);
    assert!(world.outcomes().is_empty(), "waiting is derived, never stored");
    world.go_to("2026-11-26T02:00:00Z");
    assert_eq!(world.outcomes(), ["20261125T020000Z Missed TooManyRuns"]);
}

#[test]
fn caps_by_remote_and_by_writable_configuration() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    let destination = policy().destination;
    (0..world.load.caps.per_remote).for_each(|_| world.load.add(&destination));
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::TooManyRunsOnRemote]);

    let mut spec = policy();
    spec.destination.config = RcloneConfig::Directory("/etc/rclone".into());
    let mut world = World::new(spec.clone(), "2026-11-24T12:00:00Z");
    world.load.add(&spec.destination);
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::ConfigurationInUse]);
}

#[test]
fn a_policy_that_cannot_be_looked_at_counts_everywhere() {
    let mut directory = policy();
    directory.destination.config = RcloneConfig::Directory("/etc/rclone".into());
    let caps = World::new(policy(), "2026-11-24T12:00:00Z").load.caps;
    for (spec, unseen, expected) in [
        (policy(), 1, None),
        (policy(), caps.per_remote, Some(WaitingReason::TooManyRunsOnRemote)),
        (policy(), caps.total, Some(WaitingReason::TooManyRuns)),
        (directory, 1, Some(WaitingReason::ConfigurationInUse)),
    ] {
        let mut world = World::new(spec, "2026-11-24T12:00:00Z");
        world.load.unseen = unseen;
        world.go_to("2026-11-25T02:00:00Z");
        assert_eq!(world.observed.runs.len(), usize::from(expected.is_none()), "{expected:?}");
        assert!(expected.is_none_or(|reason| waits(&world).contains(&reason)), "{expected:?}");
    }
}

#[test]
fn a_preflight_takes_no_room_from_runs_but_its_writable_configuration() {
    let mut spec = policy();
    spec.destination.config = RcloneConfig::Directory("/etc/rclone".into());
    for (config, own) in [(policy().destination.config, 0), (spec.destination.config, 1)] {
        let mut spec = policy();
        spec.destination.config = config;
        let mut world = World::new(spec.clone(), "2026-11-24T12:00:00Z");
        world.policy_mut().retention.keep_last = 3;
        world.go_to("2026-11-25T01:59:00Z");
        assert_eq!(world.decide().preflight, Some(spec.destination.clone()));
        let mut others = world.load.clone();
        (0..10).for_each(|_| others.add_preflight(&policy().destination));
        world.load = others;
        world.go_to("2026-11-25T02:00:00Z");
        assert_eq!(world.observed.runs.len(), 1 - own);
        assert_eq!(waits(&world).contains(&WaitingReason::ConfigurationInUse), own == 1);
        if own == 1 {
            world.end_task(report(Verdict::Committed));
            world.settle();
        }
        assert_eq!(world.observed.runs.len(), 1);
    }
}

/// Where its run may have to renew the token that the preflight is looking at.
#[test]
fn a_preflight_on_a_lost_node_holds_no_run_back_for_longer_than_an_attempt_would() {
    let mut spec = policy();
    spec.destination.config = RcloneConfig::Directory("/etc/rclone".into());
    let mut world = World::new(spec, "2026-11-24T12:00:00Z");
    world.policy_mut().retention.keep_last = 3;
    world.go_to("2026-11-25T01:58:00Z");
    world.set_task(TaskState::Unreachable { since: world.now });
    let lost = world.observed.tasks.clone();
    world.now = at("2026-11-25T02:00:00Z");
    assert!(waits(&world).contains(&WaitingReason::ConfigurationInUse));
    assert_eq!(world.decide().wake_at, Some(at("2026-11-25T02:03:00Z")));
    world.now = at("2026-11-25T02:03:00Z");
    for _ in 0..5 {
        // The deletion reaches the orchestrator but not the node.
        world.decide().actions.iter().for_each(|action| world.apply(action));
        world.observed.tasks.retain(|task| task.name.slot.is_some());
        world.observed.tasks.extend(lost.iter().cloned());
    }
    assert_eq!(world.observed.runs.len(), 1);
    assert_eq!(world.decide().preflight, None, "nor does it hold back those of other policies");
}

#[test]
fn overlap_never_happens_and_the_slots_under_a_long_run_are_missed() {
    let mut spec = policy();
    spec.schedule = Schedule::parse("0 * * * *", "UTC", &spec.instance, &spec.name).unwrap();
    let mut world = World::new(spec, "2026-11-25T00:30:00Z");
    for hour in 1..5 {
        world.go_to(&format!("2026-11-25T0{hour}:00:00Z"));
    }
    world.end_task(report(Verdict::Committed));
    world.settle();
    insta::assert_yaml_snapshot!("overlap", (world.outcomes(), world.status().active.len()));
}

/// cases.md: resumed after a month.
#[test]
fn suspended_slots_are_skipped_and_a_resumed_policy_waits_for_the_next() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.policy_mut().suspend = true;
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(world.outcomes(), ["20261125T020000Z Skipped Suspended"]);
    assert_eq!(world.status().next_run_time, None);
    assert_eq!(world.status().condition(ConditionType::Fresh).unwrap().status, Truth::Unknown);
    world.now = at("2026-12-25T12:00:00Z");
    world.policy_mut().suspend = false;
    world.settle();
    world.end_task(report(Verdict::Committed));
    let decision = world.settle();
    assert!(world.observed.runs.is_empty(), "no run at a surprising hour");
    assert_eq!(decision.wake_at, Some(at("2026-12-26T02:00:00Z")));
}

/// cases.md: schedule or zone changed.
#[test]
fn a_changed_schedule_counts_from_now() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.now = at("2026-11-24T23:00:00Z");
    let schedule = Schedule::parse("0 22 * * *", "UTC", &policy().instance, &policy().name).unwrap();
    world.policy_mut().schedule = schedule;
    world.settle();
    assert!(world.observed.runs.is_empty());
    assert_eq!(world.status().next_run_time, Some(at("2026-11-25T22:00:00Z")));
}

/// cases.md: clock set back; clock far ahead.
#[test]
fn clock_set_back_and_clock_far_ahead() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.go_to("2026-11-25T01:30:00Z");
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(world.outcomes().len(), 1, "nothing is due until it catches up");
    world.go_to("2026-11-20T12:00:00Z");
    let ready = world.status().condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (Truth::False, "ClockSkew"));
    world.go_to("2026-11-21T02:00:00Z");
    assert!(world.run(Slot::scheduled(at("2026-11-21T02:00:00Z"))).is_some(), "ignored and not obeyed");
}

#[test]
fn a_clock_that_was_far_ahead_leaves_no_trace() {
    let mut spec = policy();
    spec.schedule = Schedule::parse("0 * * * *", "UTC", &spec.instance, &spec.name).unwrap();
    let mut world = World::new(spec, "2026-11-25T00:30:00Z");
    let run = |world: &mut World, time: &str| {
        world.go_to(time);
        world.pass_time(60);
        world.end_task(report(Verdict::Committed));
        world.settle();
    };
    run(&mut world, "2026-11-25T01:00:00Z");
    for time in ["2030-01-01T00:00:00Z", "2030-01-01T01:00:00Z", "2030-01-01T02:00:00Z"] {
        run(&mut world, time);
    }
    assert_eq!(world.status().history.len(), 30, "full of slots that have not come yet");
    world.go_to("2026-11-25T01:30:00Z");
    let ready = world.status().condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (Truth::False, "ClockSkew"));
    assert!(world.status().history.is_empty() && world.status().missed.is_empty());
    assert!(!world.status().is(ConditionType::Fresh));
    for hour in 2..=4 {
        let time = format!("2026-11-25T0{hour}:00:00Z");
        run(&mut world, &time);
        world.pass_time(60);
        assert!(world.settle().is_idle(), "the slot runs once");
        let last = world.status().last_success.as_ref().unwrap();
        assert_eq!(last.slot, Slot::scheduled(at(&time)), "the newest success is told");
    }
    assert!(world.status().is(ConditionType::Ready), "the records of the future are gone");
    assert!(world.status().is(ConditionType::Fresh));
    let told = world.outcomes();
    let expected = ["04", "03", "02"].map(|hour| format!("20261125T{hour}0000Z Succeeded Succeeded"));
    assert_eq!(told, expected);
}

#[test]
fn an_end_told_by_a_clock_that_was_ahead_neither_stays_the_newest_nor_stretches_the_deadline() {
    let mut world = running();
    world.now = at("2030-01-01T00:00:00Z");
    world.load.active = world.load.caps.total;
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.load.active = 0;
    world.go_to("2026-11-25T03:00:00Z");
    assert_eq!(world.status().fresh_until_time, Some(at("2026-11-27T03:00:00Z")));
    world.go_to("2026-11-26T02:00:00Z");
    world.end_task(report(Verdict::Permanent));
    world.settle();
    assert_eq!(world.status().last_run.as_ref().unwrap().outcome, Outcome::Failed);
}

#[test]
fn the_newest_success_and_the_newest_scheduled_run_stay_on_record() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    for n in 0..5 {
        world.pass_time(600);
        world.ask(&format!("r{n}"), RUN);
        world.settle();
        world.end_task(report(Verdict::Permanent));
        world.settle();
    }
    assert!(world.run(Slot::scheduled(at("2026-11-25T02:00:00Z"))).is_some());
    assert_eq!(world.observed.runs.len(), 4);
}

#[test]
fn a_policy_is_not_called_fresh_because_its_schedule_changed() {
    type Change = fn(&mut crate::domain::policy::Policy);
    let fresh = |within: Option<u64>, change: Change, now: &str| {
        let mut world = running();
        world.end_task(report(Verdict::Committed));
        world.settle();
        world.policy_mut().fresh_within = within.map(Duration::from_secs);
        world.policy_mut().suspend = true;
        world.go_to("2026-12-24T12:00:00Z");
        world.policy_mut().suspend = false;
        change(world.policy_mut());
        world.load.active = world.load.caps.total;
        world.settle();
        world.go_to(now);
        let fresh = world.status().condition(ConditionType::Fresh).unwrap();
        (fresh.status, fresh.reason.clone())
    };
    let unknown = (Truth::Unknown, "ScheduleChanged".to_owned());
    let passed = (Truth::False, "DeadlinePassed".to_owned());
    let monthly: Change = |policy| {
        policy.schedule = Schedule::parse("0 2 1 * *", "UTC", &policy.instance, &policy.name).unwrap();
    };
    for (within, change, now, expected) in [
        (None, (|_| ()) as Change, "2026-12-24T12:00:00Z", unknown.clone()),
        (None, |_| (), "2026-12-26T03:00:00Z", passed.clone()),
        (Some(86_400), |_| (), "2026-12-24T12:00:00Z", passed),
        (Some(86_400 * 60), |_| (), "2026-12-24T12:00:00Z", (Truth::True, "InTime".to_owned())),
        (None, monthly, "2026-12-24T12:00:00Z", (Truth::True, "InTime".to_owned())),
        (None, monthly, "2027-01-01T03:00:00Z", unknown),
    ] {
        assert_eq!(fresh(within, change, now), expected, "{within:?} {now}");
    }
}

/// cases.md: status wiped, etcd restored.
#[test]
fn status_wiped() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.observed.status = None;
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
    assert_eq!(world.observed.runs.len(), 1, "the slot is not run again");
}

/// cases.md: restore starts while a backup runs, or the reverse; restore ends badly.
#[test]
fn restores_and_runs_exclude_each_other() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    let restore = |active| Restore {
        id: "r1".to_owned(),
        started_at: at("2026-11-25T01:00:00Z"),
        active,
        message: "nightly-20261124T020000Z".to_owned(),
    };
    world.observed.restores = vec![restore(true)];
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::RestoreActive]);
    world.observed.restores = vec![restore(false)];
    world.ask("a", RUN);
    world.settle();
    assert!(matches!(&world.answers["a"], Answer::Refused(m) if m.contains("did not finish")));
    let ready = world.status().condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (Truth::False, "RestoreIncomplete"));
    world.observed.restores.clear();
    world.settle();
    assert_eq!(world.observed.runs.len(), 1, "the held slot runs");
}

/// cases.md: restore starts while a backup runs, or the reverse. Where nothing locks them, the run waits with its first task
/// until the restore, which has seen the run, is gone.
#[test]
fn a_run_that_is_claimed_as_a_restore_begins_launches_nothing() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.now = at("2026-11-25T02:00:00Z");
    while world.observed.runs.is_empty() {
        world.decide().actions.iter().for_each(|action| world.apply(action));
    }
    let started_at = world.now;
    let (id, message) = ("r1".to_owned(), "backstay restore".to_owned());
    world.observed.restores = vec![Restore { id, started_at, active: true, message }];
    let decision = world.settle();
    assert!(world.observed.tasks.is_empty(), "{:?}", world.trace);
    assert_eq!(waits(&world), [WaitingReason::RestoreActive]);
    assert!(decision.wake_at.is_some(), "it looks again by itself");
    world.observed.restores.clear();
    world.settle();
    assert_eq!(world.observed.tasks.len(), 1);
}

/// cases.md: phase 5, finish with what is missing.
#[test]
fn a_source_that_failed_for_good_leaves_a_partial_snapshot() {
    let mut world = running();
    let mut failed = report(Verdict::Permanent);
    failed.sources = vec![source("mongodb")];
    world.end_task(failed);
    world.settle();
    assert_eq!(world.observed.tasks.last().unwrap().name.step, StepName::finish());
    let mut finished = report(Verdict::Committed);
    finished.snapshot = Some(crate::domain::snapshot::SnapshotSummary {
        name: "nightly-20261125T020000Z".parse().unwrap(),
        instance: "production".parse().unwrap(),
        committed_at: world.now,
        complete: false,
        sources: vec![source("mongodb")],
        missing: vec!["homes".parse().unwrap()],
    });
    world.end_task(finished);
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Partial Broken"]);
    let status = world.status();
    assert!(status.last_success.is_none(), "does not count for freshness");
    let message = status.message.as_deref().unwrap();
    assert!(message.contains("without homes: it broke"), "{message}");
}

#[test]
fn sources_on_several_nodes_are_stored_step_by_step_and_an_optional_one_may_fail() {
    let mut spec = policy();
    spec.volumes = vec![volume("homes", false), volume("scratch", true), volume("more", false)];
    let node = |name: &str| match name {
        "mongodb" => None,
        "scratch" => Some("b".to_owned()),
        _ => Some("a".to_owned()),
    };
    let plan = steps(&spec, |s| node(s.name().as_str()));
    insta::assert_yaml_snapshot!(
        "steps",
        plan.iter()
            .map(|s| (s.name.to_string(), s.sources.iter().map(|s| s.name().to_string()).collect::<Vec<_>>()))
            .collect::<Vec<_>>()
    );

    let mut world = World::new(spec.clone(), "2026-11-24T12:00:00Z");
    let nodes = spec.sources().iter().filter_map(|s| Some((s.name(), node(s.name().as_str())?))).collect();
    world.observed.nodes = nodes;
    world.go_to("2026-11-25T02:00:00Z");
    for verdict in [Verdict::Committed, Verdict::Committed, Verdict::Permanent, Verdict::Committed] {
        world.pass_time(600);
        world.end_task(report(verdict));
        world.settle();
    }
    assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
}

#[test]
fn one_bad_night_is_no_alarm_two_are() {
    let mut world = running();
    world.now = at("2026-11-25T02:20:00Z");
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert_eq!(world.status().fresh_until_time, Some(at("2026-11-27T03:00:00Z")));
    world.load.active = world.load.caps.total;
    world.go_to("2026-11-27T02:59:00Z");
    assert!(world.status().is(ConditionType::Fresh));
    world.go_to("2026-11-27T03:00:00Z");
    assert_eq!(world.status().condition(ConditionType::Fresh).unwrap().status, Truth::False);
}

#[test]
fn a_policy_that_never_ran_is_stale_in_the_end() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.load.active = world.load.caps.total;
    world.go_to("2026-11-24T12:00:01Z");
    assert_eq!(world.status().fresh_until_time, Some(at("2026-11-26T03:00:00Z")));
    world.go_to("2026-11-26T03:00:00Z");
    assert_eq!(world.status().condition(ConditionType::Fresh).unwrap().status, Truth::False);
}

#[test]
fn old_records_are_forgotten_once_the_status_tells_of_them() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    for day in 25..=30 {
        world.go_to(&format!("2026-11-{day}T02:00:00Z"));
        world.end_task(report(if day == 25 { Verdict::Permanent } else { Verdict::Committed }));
        world.settle();
    }
    let kept: Vec<String> = world.observed.runs.iter().map(|r| r.value.slot.day()).collect();
    assert_eq!(kept, ["20261125", "20261128", "20261129", "20261130"], "the last three and the last bad one");
    assert_eq!(world.status().history.len(), 6);
    assert!(world.decide().is_idle());
}

#[test]
fn a_preflight_for_each_new_specification() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.policy_mut().retention.keep_last = 3;
    world.settle();
    assert_eq!(world.observed.tasks.len(), 1);
    world.end_task(report(Verdict::Credentials));
    world.settle();
    assert!(world.observed.tasks.is_empty());
    let status = world.status();
    assert_eq!(status.condition(ConditionType::CredentialsValid).unwrap().status, Truth::False);
    assert_eq!(status.message.as_deref(), Some("it broke; mend it"));
}

#[test]
fn a_secret_that_was_replaced_is_looked_at_but_not_a_token_that_a_task_renewed() {
    for (fixed, renewed, verdict, expected) in [
        (0, 0, Verdict::Committed, 0),
        (7, 0, Verdict::Committed, 1),
        (7, 0, Verdict::Credentials, 1),
        (0, 7, Verdict::Committed, 0),
        (0, 7, Verdict::Credentials, 1),
    ] {
        let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
        world.policy_mut().retention.keep_last = 3;
        world.settle();
        world.end_task(report(verdict));
        world.settle();
        assert!(world.observed.tasks.is_empty());
        world.pass_time(60);
        world.declared.secrets = super::observed::Secrets { fixed, renewed };
        world.settle();
        assert_eq!(world.observed.tasks.len(), expected, "{fixed} {renewed} {verdict:?}");
        if expected == 1 {
            world.end_task(report(Verdict::Committed));
            world.settle();
        }
        assert_eq!(
            world.status().is(ConditionType::CredentialsValid),
            expected == 1 || verdict == Verdict::Committed
        );
        assert!(world.decide().is_idle());
    }
}

#[test]
fn a_preflight_that_told_nothing_is_tried_again_with_growing_pauses() {
    type End = fn(&mut World);
    let ends: [End; 3] = [
        |world| world.end_task(report(Verdict::Temporary)),
        World::kill_task,
        // It hangs.
        |world| world.pass_time(600),
    ];
    for end in ends {
        let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
        world.policy_mut().schedule =
            Schedule::parse("0 2 1 1 *", "UTC", &policy().instance, &policy().name).unwrap();
        world.settle();
        for minutes in [15, 30, 60, 120, 240, 480, 960, 1440, 1440] {
            assert_eq!(world.observed.tasks.len(), 1);
            end(&mut world);
            let decision = world.settle();
            let valid = world.status().condition(ConditionType::CredentialsValid).unwrap();
            assert_eq!((valid.status, world.observed.tasks.len()), (Truth::Unknown, 0));
            let next = after(world.now, Duration::from_secs(minutes * 60));
            assert_eq!(decision.wake_at, Some(next));
            world.now = next;
            world.settle();
        }
        world.end_task(report(Verdict::Committed));
        world.settle();
        assert!(world.status().is(ConditionType::CredentialsValid));
    }
}

/// A policy whose first look at 01:30 found nothing out.
fn unchecked() -> World {
    let mut world = World::new(policy(), "2026-11-25T01:30:00Z");
    world.policy_mut().retention.keep_last = 3;
    world.settle();
    world.end_task(report(Verdict::Temporary));
    world.settle();
    world
}

fn credentials_and_tasks(world: &World) -> (Truth, usize) {
    let valid = world.status().condition(ConditionType::CredentialsValid).unwrap().status;
    (valid, world.observed.tasks.len())
}

#[test]
fn a_look_that_finds_nothing_out_does_not_take_back_what_a_run_has_shown() {
    for (verdict, expected) in [(Verdict::Temporary, Truth::True), (Verdict::Credentials, Truth::False)] {
        let mut world = unchecked();
        world.go_to("2026-11-25T01:59:00Z");
        world.go_to("2026-11-25T02:00:00Z");
        assert_eq!(credentials_and_tasks(&world), (Truth::Unknown, 2), "a look and a run");
        world.end_task(report(Verdict::Committed));
        world.settle();
        assert_eq!(credentials_and_tasks(&world), (Truth::True, 1), "the look");
        world.end_task(report(verdict));
        world.settle();
        assert_eq!(credentials_and_tasks(&world), (expected, 0));
    }
}

#[test]
fn no_look_begins_for_what_a_run_has_just_shown() {
    for (verdict, expected) in
        [(Verdict::Committed, (Truth::True, 0)), (Verdict::Permanent, (Truth::Unknown, 1))]
    {
        let mut world = unchecked();
        world.now = at("2026-11-25T02:00:00Z");
        world.observed.tasks.clear();
        world.settle();
        world.pass_time(7200);
        world.end_task(report(verdict));
        world.settle();
        assert_eq!(credentials_and_tasks(&world), expected, "{verdict:?}");
    }
}

#[test]
fn held_and_restore_tested_snapshots_are_kept_from_pruning() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.observed.holds = vec!["nightly-20260101T020000Z".parse().unwrap()];
    world.observed.drill = Some(Drill {
        snapshot: "nightly-20261001T020000Z".parse().unwrap(),
        at: at("2026-10-02T00:00:00Z"),
        passed: true,
        message: "41 collections, 7 files equal".to_owned(),
        last_passed: Some("nightly-20261001T020000Z".parse().unwrap()),
    });
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(world.observed.runs[0].value.plan.keep.len(), 2);
    // Held while the first attempt is under way.
    world.observed.holds.push("nightly-20260201T020000Z".parse().unwrap());
    world.end_task(report(Verdict::Temporary));
    world.settle();
    world.pass_time(60);
    world.settle();
    let spec = &world.specs[&world.observed.tasks.last().unwrap().uid];
    let super::task_spec::Work::Backup(work) = &spec.work else { panic!("{spec:?}") };
    assert_eq!(work.finish.as_ref().unwrap().keep.len(), 3);
    assert!(world.status().is(ConditionType::RestoreTested));
}

/// What can happen between two looks of the controller.
#[derive(Debug, Clone)]
enum Accident {
    Time(i64),
    End(Verdict),
    Kill,
    Vanish,
    Ask(bool),
    Cancel,
    /// The controller dies after so many actions of its next decision.
    Death(usize),
    WipeWaiting(bool),
}

fn accident() -> impl Strategy<Value = Accident> {
    prop_oneof![
        4 => (1i64..36 * 3600).prop_map(Accident::Time),
        3 => Just(Accident::End(Verdict::Committed)),
        2 => Just(Accident::End(Verdict::Temporary)),
        1 => Just(Accident::End(Verdict::Permanent)),
        1 => Just(Accident::Kill),
        1 => Just(Accident::Vanish),
        1 => any::<bool>().prop_map(Accident::Ask),
        1 => Just(Accident::Cancel),
        2 => (0usize..4).prop_map(Accident::Death),
        1 => any::<bool>().prop_map(Accident::WipeWaiting),
    ]
}

fn happen(world: &mut World, accident: &Accident, n: usize) {
    let live = world.observed.tasks.last().is_some_and(|t| matches!(t.state, TaskState::Running { .. }));
    match accident {
        Accident::Time(seconds) => world.pass_time(*seconds),
        Accident::End(verdict) if live => world.end_task(report(*verdict)),
        Accident::Kill if live => world.kill_task(),
        Accident::Vanish => world.observed.tasks.clear(),
        Accident::Ask(wait_turn) => {
            world.ask(&format!("r{n}"), Wish::Run { accept_shrink: false, wait_turn: *wait_turn });
        }
        Accident::Cancel => world.ask(&format!("c{n}"), Wish::Cancel { slot: None }),
        Accident::Death(actions) => {
            let decision = world.decide();
            decision.actions.iter().take(*actions).for_each(|a| world.apply(a));
        }
        Accident::WipeWaiting(full) => world.load.active = if *full { world.load.caps.total } else { 0 },
        Accident::End(_) | Accident::Kill => {}
    }
}

fn check(world: &World, outcomes: &mut BTreeMap<Slot, Outcome>) -> Result<(), TestCaseError> {
    let active = world.observed.runs.iter().filter(|r| r.value.state.end.is_none()).count();
    prop_assert!(active <= 1, "two active runs");
    let live = world.observed.tasks.iter().filter(|t| !matches!(t.state, TaskState::Ended { .. })).count();
    prop_assert!(live <= 1, "two live tasks: {:?}", world.observed.tasks);
    for told in &world.status().history {
        let first = *outcomes.entry(told.slot).or_insert(told.outcome);
        prop_assert_eq!(first, told.outcome, "the outcome of {} changed", told.slot);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_month_of_accidents(accidents in prop::collection::vec(accident(), 60)) {
        let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
        let since = world.now;
        let mut outcomes = BTreeMap::new();
        for (n, accident) in accidents.iter().enumerate() {
            happen(&mut world, accident, n);
            if !matches!(accident, Accident::Death(_)) {
                world.settle();
                check(&world, &mut outcomes)?;
            }
        }
        // All is well again: everything ends, and then there is silence.
        world.load.active = 0;
        for seconds in [400; 20].into_iter().chain([0; 10]) {
            world.pass_time(seconds);
            world.settle();
            check(&world, &mut outcomes)?;
            if world.observed.tasks.iter().any(|t| matches!(t.state, TaskState::Running { .. })) {
                world.end_task(report(Verdict::Committed));
            }
        }
        prop_assert!(world.observed.runs.iter().all(|r| r.value.state.end.is_some()));
        prop_assert!(world.decide().is_idle(), "{:?}", world.decide());
        let schedule = policy().schedule;
        let slots = std::iter::successors(schedule.next_after(since), |t| schedule.next_after(*t));
        for time in slots.take_while(|t| *t <= world.now) {
            prop_assert!(outcomes.contains_key(&Slot::scheduled(time)), "{time} has no outcome");
        }
        let requested = |r: &Request| r.id.clone();
        prop_assert!(world.observed.requests.is_empty(), "{:?}", world.observed.requests.iter().map(requested).collect::<Vec<_>>());
    }
}

#[test]
fn times_at_the_end_of_time_do_not_overflow() {
    assert_eq!(after(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
}

// Cases that the simulator found.

#[test]
fn slots_that_passed_before_a_claim_are_told_though_the_controller_died_before_it_told_of_them() {
    let mut world = World::new(policy(), "2026-11-20T12:00:00Z");
    world.now = at("2026-11-25T09:00:00Z");
    let claim = world.decide();
    world.apply(claim.actions.iter().find(|a| matches!(a, Action::CreateRun(_))).unwrap());
    world.settle_without_status();
    world.end_task(report(Verdict::Permanent));
    world.settle_without_status();
    world.settle();
    let told = world.outcomes();
    assert_eq!(told.iter().filter(|line| line.contains("Missed")).count(), 4, "{told:?}");
}

#[test]
fn a_claim_for_a_request_that_lands_late_has_the_name_of_its_repetition() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.ask("a", RUN);
    let name = |decision: &Decision| {
        decision.actions.iter().find_map(|action| match action {
            Action::CreateRun(run) => Some(run.slot),
            _ => None,
        })
    };
    let first = name(&world.decide());
    world.pass_time(32);
    assert!(first.is_some());
    assert_eq!(name(&world.decide()), first);
}

#[test]
fn a_run_is_claimed_only_after_the_end_of_the_one_before_is_on_record() {
    let mut spec = policy();
    spec.schedule = Schedule::parse("0 * * * *", "UTC", &spec.instance, &spec.name).unwrap();
    let mut world = World::new(spec, "2026-11-25T00:30:00Z");
    world.go_to("2026-11-25T01:00:00Z");
    world.now = at("2026-11-25T02:10:00Z");
    world.end_task(report(Verdict::Committed));
    let recorded = world.decide();
    recorded.actions.iter().for_each(|a| world.apply(a));
    let actions = world.decide().actions;
    let place = |wanted: &dyn Fn(&Action) -> bool| actions.iter().position(wanted).unwrap();
    let ends = place(&|a| matches!(a, Action::RecordRun { state, .. } if state.end.is_some()));
    assert!(ends < place(&|a| matches!(a, Action::CreateRun(_))), "{actions:#?}");
}

#[test]
fn a_policy_made_wrong_is_called_stale_when_its_time_has_come() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.declared.spec = Spec::Wrong(Invalid::new("a slip"));
    let decision = world.settle();
    let until = world.status().fresh_until_time.unwrap();
    assert_eq!(decision.wake_at, Some(until));
    assert!(world.status().is(ConditionType::Fresh));
    world.now = until;
    world.settle();
    assert_eq!(world.status().condition(ConditionType::Fresh).unwrap().status, Truth::False);
}

#[test]
fn a_preflight_by_a_clock_far_off_is_told_once() {
    for hours in [-50, 50] {
        let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
        world.policy_mut().retention.keep_last = 3;
        world.settle();
        let away = SignedDuration::from_hours(hours);
        let there = world.now + away;
        let failed = Box::new(report(Verdict::Temporary));
        let detail = String::new();
        world.set_task(TaskState::Ended { started_at: None, at: there, report: Some(failed), detail });
        let decision = world.settle();
        assert!(decision.wake_at.is_some_and(|at| at > world.now), "{hours}: {:?}", decision.wake_at);
        assert!(world.observed.tasks.is_empty(), "{hours}");
    }
}

#[test]
fn a_run_that_is_told_while_the_policy_is_wrong_hides_no_slot_before_it() {
    let mut world = World::new(policy(), "2026-11-20T12:00:00Z");
    world.now = at("2026-11-25T09:00:00Z");
    let claim = world.decide();
    world.apply(claim.actions.iter().find(|a| matches!(a, Action::CreateRun(_))).unwrap());
    let good = std::mem::replace(&mut world.declared.spec, Spec::Wrong(Invalid::new("a slip")));
    world.settle();
    world.end_task(report(Verdict::Permanent));
    world.settle();
    assert_eq!(world.outcomes().len(), 1);
    world.declared.spec = good;
    world.settle();
    assert_eq!(world.outcomes().len(), 5, "{:?}", world.outcomes());
}

#[test]
fn a_status_made_again_while_the_policy_is_wrong_lists_nothing_at_a_place_where_it_is_not() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.policy_mut().destination.path = "elsewhere".parse().unwrap();
    let moved = std::mem::replace(&mut world.declared.spec, Spec::Wrong(Invalid::new("a slip")));
    world.observed.status = None;
    world.settle();
    assert_eq!(world.status().snapshots.len(), 1);
    world.declared.spec = moved;
    world.settle();
    assert!(world.status().snapshots.is_empty());
    assert_eq!(world.status().former_locations.len(), 1);
}

#[test]
fn a_task_whose_node_is_lost_is_deleted_again_after_pauses_that_grow() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.policy_mut().retention.keep_last = 3;
    world.settle();
    let since = world.now;
    world.set_task(TaskState::Unreachable { since });
    let day = 24 * 3600;
    for (lost, pause) in [(60, 300), (1200, 1200), (day, 6 * 3600), (3 * day, 6 * 3600)] {
        world.now = since + SignedDuration::from_secs(lost);
        // The specification is another one than the task was made for.
        world.declared.generation = 9;
        let mut decision = world.decide();
        decision.actions.retain(|a| matches!(a, Action::DeleteTask { .. }));
        assert_eq!(decision.actions.len(), 1, "{lost}");
        let looks_again = decision.wake_at.unwrap().duration_since(world.now).as_secs();
        assert_eq!(looks_again, pause, "{lost}");
    }
}

#[test]
fn nothing_is_claimed_before_it_is_on_record_from_when_on_slots_count() {
    let mut world = World::new(policy(), "2026-11-25T03:00:00Z");
    world.observed.status = None;
    world.declared.created_at = Some(at("2026-11-20T12:00:00Z"));
    let actions = world.decide().actions;
    assert!(!actions.iter().any(|a| matches!(a, Action::CreateRun(_))), "{actions:#?}");
    world.settle();
    assert_eq!(world.observed.runs.len(), 1);
    assert_eq!(world.outcomes().len(), 4, "{:?}", world.outcomes());
}

#[test]
fn a_slot_that_was_told_as_missed_while_its_claim_was_on_the_way_is_told_by_its_run() {
    let mut policy = policy();
    policy.starting_deadline = Some(Duration::from_secs(600));
    let mut world = World::new(policy, "2026-11-24T12:00:00Z");
    world.now = at("2026-11-25T02:09:59Z");
    let claim = world.decide().actions.remove(0);
    // Another controller is a moment ahead.
    world.go_to("2026-11-25T02:10:00Z");
    assert_eq!(world.outcomes(), ["20261125T020000Z Missed StartingDeadlineExceeded"]);
    world.apply(&claim);
    world.settle();
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
}

#[test]
fn a_refusal_of_what_is_not_tried_again_is_not_told() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.observed.refusal = Some("a name is taken".to_owned());
    let decision = world.decide();
    assert!(decision.is_idle(), "{decision:?}");
}

#[test]
fn a_refusal_is_told_while_it_lasts_and_what_was_refused_is_tried_again() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.observed.refusal = Some("a name is taken".to_owned());
    world.now = at("2026-11-25T02:00:00Z");
    let actions = world.decide().actions;
    let [told @ Action::RecordStatus { status, .. }, Action::CreateRun(_)] = &actions[..] else {
        panic!("{actions:#?}")
    };
    assert_eq!(status.condition(ConditionType::Ready).unwrap().reason, "Refused");
    assert!(status.active.is_empty(), "it may be refused again");
    world.apply(told);
    let actions = world.decide().actions;
    assert!(matches!(actions[..], [Action::CreateRun(_)]), "{actions:#?}");
    world.apply(&actions[0]);
    world.observed.refusal = None;
    world.settle();
    assert_eq!(world.status().active.len(), 1);
    assert!(world.status().is(ConditionType::Ready));
    assert!(world.outcomes().is_empty(), "{:?}", world.outcomes());
}
