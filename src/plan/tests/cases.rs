//! Rows of the table of cases that no other test is about.

use super::super::{
    action::{Action, NewTask},
    observed::TaskState,
    world::{World, at, policy, report},
};
use super::{running, waits};
use crate::domain::{
    location::RcloneConfig,
    schedule::Schedule,
    status::{ConditionType, Truth, WaitingReason},
    verdict::Verdict,
};
use std::{sync::Arc, time::Duration};

/// The task that would be launched now.
fn launched(world: &World) -> NewTask {
    let task = world.decide().actions.into_iter().find_map(|action| match action {
        Action::CreateTask(task) => Some(*task),
        _ => None,
    });
    task.expect("a task is due")
}

/// cases.md: policy renamed. What the old name has is not the new one's: it is not compared with, listed or pruned.
#[test]
fn policy_renamed() {
    let mut spec = policy();
    spec.name = "renamed".parse().unwrap();
    let mut world = World::new(spec, "2026-11-24T12:00:00Z");
    world.go_to("2026-11-25T02:00:00Z");
    let plan = &world.observed.runs[0].value.plan;
    assert!(plan.last_good.is_empty() && plan.keep.is_empty() && !plan.known_place);
    assert!(world.specs.values().all(|spec| spec.policy.as_str() == "renamed"));
    world.end_task(report(Verdict::Committed));
    world.settle();
    let listed: Vec<String> = world.status().snapshots.iter().map(|s| s.name.to_string()).collect();
    assert_eq!(listed, ["renamed-20261125T020000Z"]);
}

/// cases.md: controller upgraded while old tasks run.
#[test]
fn controller_upgraded_while_old_tasks_run() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.observed.image = Some("backstay@sha256:old".to_owned());
    world.go_to("2026-11-25T02:00:00Z");
    let before = world.observed.runs[0].value.plan.task_version - 1;
    Arc::make_mut(&mut world.observed.runs[0].value).plan.task_version = before;
    world.observed.image = Some("backstay@sha256:new".to_owned());
    let mut told = report(Verdict::Temporary);
    told.version = before;
    world.end_task(told);
    world.settle();
    world.pass_time(60);
    let retry = launched(&world);
    assert_eq!(retry.name.attempt, 2, "the report of the version before was read");
    assert_eq!(retry.placement.image.as_deref(), Some("backstay@sha256:old"));
    assert_eq!(retry.spec.version, before);
}

/// cases.md: status wiped, etcd restored. With the records gone as well, slots count anew and none is made up.
#[test]
fn status_and_records_lost() {
    let mut world = running();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.observed.status = None;
    world.observed.runs.clear();
    world.now = at("2026-11-25T12:00:00Z");
    world.settle();
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert!(world.outcomes().is_empty() && world.observed.runs.is_empty());
    world.go_to("2026-11-26T02:00:00Z");
    assert_eq!(world.observed.runs.len(), 1);
}

/// cases.md: clock set back. A deadline is counted from the orchestrator's timestamps.
#[test]
fn clock_set_back_during_a_run() {
    let mut world = running();
    for hours in [-20, -1, 1, 5] {
        world.now = at("2026-11-25T02:00:00Z") + jiff::SignedDuration::from_hours(hours);
        let decision = world.decide();
        assert!(!decision.actions.iter().any(|a| matches!(a, Action::DeleteTask { .. })), "{hours}");
        assert!(waits(&world).contains(&WaitingReason::TaskRunning), "{hours}");
    }
    world.now = at("2026-11-25T08:00:00Z");
    assert!(world.decide().actions.iter().any(|a| matches!(a, Action::DeleteTask { .. })));
}

/// cases.md: schedule or zone changed.
#[test]
fn zone_changed() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.now = at("2026-11-25T01:30:00Z");
    // Two o'clock in Berlin was half an hour ago.
    let zoned = Schedule::parse("0 2 * * *", "Europe/Berlin", &policy().instance, &policy().name).unwrap();
    world.policy_mut().schedule = zoned;
    world.settle();
    assert!(world.observed.runs.is_empty() && world.outcomes().is_empty());
    assert_eq!(world.status().next_run_time, Some(at("2026-11-26T01:00:00Z")));
}

/// cases.md: a task nobody knows. It carries its own end, and what it commits is listed once.
#[test]
fn a_task_nobody_knows() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.go_to("2026-11-25T02:00:00Z");
    let limits = world.observed.runs[0].value.plan.limits;
    let spec = &world.specs[&world.observed.tasks[0].uid];
    let allowed = limits.timeout_seconds + limits.pending_seconds;
    assert_eq!(spec.not_after, super::after(world.now, Duration::from_secs(allowed)));
    // It is lost and goes on; the retry finds what it commits, and both say so.
    let orphan = world.observed.tasks[0].clone();
    world.observed.tasks.clear();
    world.settle();
    world.end_task(report(Verdict::Committed));
    world.settle();
    world.observed.tasks.push(orphan);
    world.end_task(report(Verdict::Committed));
    world.settle();
    assert_eq!(world.status().snapshots.len(), 1);
    assert_eq!(world.outcomes(), ["20261125T020000Z Succeeded Succeeded"]);
    assert!(world.observed.tasks.is_empty());
}

/// cases.md: restore ends badly.
#[test]
fn restore_ends_badly() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    let (id, message) = ("r1".to_owned(), "the remote went away".to_owned());
    let started_at = world.now;
    world.observed.restores = vec![super::Restore { id, started_at, active: false, message }];
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::RestoreIncomplete]);
    let ready = world.status().condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (Truth::False, "RestoreIncomplete"));
    assert!(world.status().fix.as_ref().unwrap().contains("--forget"), "{:?}", world.status().fix);
    // A later one succeeded, or a person deleted it.
    world.observed.restores.clear();
    world.settle();
    assert_eq!(world.observed.runs.len(), 1);
    assert!(world.status().is(ConditionType::Ready));
}

/// cases.md: site rebuilt elsewhere.
#[test]
fn site_rebuilt_elsewhere() {
    for take_over in [false, true] {
        let mut spec = policy();
        spec.take_over = take_over;
        let mut world = World::new(spec, "2026-11-24T12:00:00Z");
        world.go_to("2026-11-25T02:00:00Z");
        assert!(world.specs.values().all(|spec| spec.take_over == take_over));
        assert!(world.specs.values().all(|spec| spec.site == "site-1"));
    }
}

/// cases.md: one token-rotating configuration on two policies. Only one of them has a task at a time.
#[test]
fn one_token_rotating_configuration_on_two_policies() {
    let mut spec = policy();
    spec.destination.config = RcloneConfig::Directory("/etc/rclone".into());
    let mut world = World::new(spec.clone(), "2026-11-24T12:00:00Z");
    world.load.add(&spec.destination);
    world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::ConfigurationInUse]);
    world.load.directories.clear();
    world.settle();
    assert_eq!(world.observed.runs.len(), 1);
    assert!(world.observed.tasks.iter().all(|task| matches!(task.state, TaskState::Running { .. })));
}
