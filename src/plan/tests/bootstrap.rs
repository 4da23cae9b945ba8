//! An empty site that is filled first.

use super::super::{
    action::Action,
    observed::{Spec, TaskState, Wish},
    task_spec::{RestoreMode, TaskReport, Work},
    world::{World, at, policy, report, volume},
};
use super::{RUN, waits};
use crate::domain::{
    bootstrap::BootstrapPhase,
    names::SnapshotName,
    policy::{Policy, RestoreFrom},
    snapshot::{AsOf, SnapshotSummary},
    status::{ConditionType, Truth, WaitingReason},
    verdict::{Failure, Verdict},
};
use std::sync::Arc;

const SNAPSHOT: &str = "nightly-20261120T020000Z";

fn filled() -> Policy {
    let policy = policy();
    let from = RestoreFrom {
        location: policy.destination.clone(),
        instance: policy.instance.clone(),
        policy: policy.name.clone(),
        as_of: AsOf::Latest,
        users: false,
    };
    Policy {
        restore_from: Some(from),
        volumes: vec![volume("homes", false), volume("mail", false)],
        ..policy
    }
}

/// A policy that nobody has seen before; nothing was looked at.
fn new_site(policy: Policy) -> World {
    let mut world = World::new(super::super::world::policy(), "2026-11-24T12:00:00Z");
    world.observed.status = None;
    world.observed.tasks.clear();
    world.declared.spec = Spec::Valid(Arc::new(policy));
    world.observed.nodes = [("homes", "a"), ("mail", "b")]
        .map(|(volume, node)| (volume.parse().unwrap(), node.to_owned()))
        .into();
    world.settle();
    world
}

fn done() -> TaskReport {
    let name: SnapshotName = SNAPSHOT.parse().unwrap();
    let snapshot = SnapshotSummary {
        name,
        instance: "production".parse().unwrap(),
        committed_at: at("2026-11-20T02:10:00Z"),
        complete: true,
        sources: vec![],
        missing: vec![],
    };
    TaskReport { snapshot: Some(snapshot), ..report(Verdict::Committed) }
}

fn occupied(changed: bool) -> TaskReport {
    let failure = Failure::new(Verdict::Guard, "TargetNotEmpty", "/mnt/homes is not empty");
    TaskReport { outcome: changed.then(|| "broken".into()), ..TaskReport::failed(failure) }
}

fn broken(changed: bool) -> TaskReport {
    TaskReport { outcome: changed.then(|| "broken".into()), ..report(Verdict::Temporary) }
}

/// What the newest task is to do.
fn asked(world: &World) -> (String, RestoreMode, AsOf, bool) {
    let task = world.observed.tasks.last().unwrap();
    let Work::Restore(work) = &world.specs[&task.uid].work else { panic!("{task:?}") };
    (task.name.to_string(), work.mode, work.request.as_of.clone(), work.request.confirmed)
}

fn phase(world: &World) -> BootstrapPhase {
    world.status().bootstrap.as_ref().unwrap().phase
}

fn truth(world: &World) -> Option<Truth> {
    world.status().condition(ConditionType::Bootstrapped).map(|condition| condition.status)
}

#[test]
fn every_source_is_looked_at_before_any_is_filled_and_then_runs_start() {
    let mut world = new_site(filled());
    world.ask("a", RUN);
    let mut steps = Vec::new();
    while !phase(&world).is_over() {
        let (name, mode, as_of, confirmed) = asked(&world);
        assert!(!confirmed, "what is there is never replaced");
        steps.push(format!("{name} {mode:?} {as_of}"));
        assert!(world.observed.runs.is_empty());
        world.end_task(done());
        world.settle();
    }
    let pinned = SNAPSHOT;
    assert_eq!(
        steps,
        [
            "bootstrap-look-1-1 Look latest".to_owned(),
            format!("bootstrap-look-2-2 Look {pinned}"),
            format!("bootstrap-look-3-3 Look {pinned}"),
            format!("bootstrap-fill-1-4 Execute {pinned}"),
            format!("bootstrap-fill-2-5 Execute {pinned}"),
            format!("bootstrap-fill-3-6 Execute {pinned}"),
        ]
    );
    assert_eq!((phase(&world), truth(&world)), (BootstrapPhase::Restored, Some(Truth::True)));
    // The site's own place is taken over by what was built anew from it.
    assert!(world.specs.values().any(|spec| matches!(spec.work, Work::Preflight { .. }) && spec.take_over));
}

#[test]
fn users_come_back_only_where_they_are_asked_for() {
    for wanted in [false, true] {
        let mut policy = filled();
        policy.restore_from.as_mut().unwrap().users = wanted;
        let mut world = new_site(policy);
        for _ in 0..3 {
            world.end_task(done());
            world.settle();
        }
        let task = world.observed.tasks.last().unwrap();
        let Work::Restore(work) = &world.specs[&task.uid].work else { panic!("{task:?}") };
        assert_eq!((work.mode, work.request.mongodb.as_ref().unwrap().users), (RestoreMode::Execute, wanted));
    }
}

#[test]
fn a_site_that_has_data_is_left_alone() {
    let mut world = new_site(filled());
    world.end_task(done());
    world.settle();
    world.end_task(occupied(false));
    world.settle();
    assert_eq!((phase(&world), truth(&world)), (BootstrapPhase::HadData, Some(Truth::True)));
    let wrote = |line: &String| line.contains("bootstrap-fill");
    assert!(!world.trace.iter().any(wrote), "{:?}", world.trace);
    assert!(!waits(&world).contains(&WaitingReason::Bootstrapping));
}

#[test]
fn a_policy_that_has_run_is_never_filled() {
    let mut world = World::new(policy(), "2026-11-24T12:00:00Z");
    world.go_to("2026-11-25T02:00:00Z");
    world.end_task(report(Verdict::Committed));
    world.settle();
    *world.policy_mut() = filled();
    world.settle();
    assert_eq!(phase(&world), BootstrapPhase::HadData);
    assert!(!world.trace.iter().any(|line| line.contains("bootstrap")), "{:?}", world.trace);
}

#[test]
fn what_fails_is_tried_again_later_and_told_meanwhile() {
    let mut world = new_site(filled());
    world.end_task(broken(false));
    let decision = world.settle();
    assert!(world.observed.tasks.is_empty() && decision.wake_at.is_some());
    assert_eq!(truth(&world), Some(Truth::False));
    assert!(world.status().message.as_ref().unwrap().contains("it broke"), "{:?}", world.status().message);
    assert_eq!(waits(&world), [] as [WaitingReason; 0], "nothing is due");
    world.ask("a", RUN);
    world.settle();
    assert!(
        world.answers["a"] != super::super::action::Answer::Accepted("20261124T120000Z-m".parse().unwrap())
    );
    world.pass_time(60);
    world.settle();
    assert_eq!(asked(&world).0, "bootstrap-look-1-2");
}

#[test]
fn files_go_on_where_they_stopped_and_a_database_is_left_to_a_person() {
    for (part, expected) in [(1, BootstrapPhase::Incomplete), (2, BootstrapPhase::Filling)] {
        let mut world = new_site(filled());
        for _ in 0..(3 + part - 1) {
            world.end_task(done());
            world.settle();
        }
        assert!(asked(&world).0.starts_with(&format!("bootstrap-fill-{part}")));
        world.end_task(broken(true));
        world.settle();
        assert_eq!(phase(&world), expected);
        if expected == BootstrapPhase::Incomplete {
            world.ask("a", RUN);
            world.settle();
            assert!(
                world.observed.runs.is_empty() && world.status().fix.as_ref().unwrap().contains("restore")
            );
            world.policy_mut().restore_from = None;
            world.settle();
            assert_eq!((truth(&world), world.status().bootstrap.clone()), (None, None));
        }
    }
}

/// A report that is lost says nothing of what was written: what is found then is not taken for data of the site's own.
#[test]
fn a_place_that_a_lost_task_may_have_filled_is_left_to_a_person() {
    let mut world = new_site(filled());
    for _ in 0..3 {
        world.end_task(done());
        world.settle();
    }
    world.kill_task();
    world.settle();
    world.pass_time(60);
    world.settle();
    world.end_task(occupied(false));
    world.settle();
    assert_eq!(phase(&world), BootstrapPhase::Incomplete);
}

#[test]
fn nothing_is_made_or_removed_before_its_reason_is_on_record() {
    let mut world = new_site(filled());
    world.end_task(done());
    let actions = world.decide().actions;
    assert!(actions.iter().all(|action| matches!(action, Action::RecordStatus { .. })), "{actions:?}");
    world.settle_without_status();
    assert_eq!(world.observed.tasks.len(), 1, "the report is still there");
}

/// A world in which everything was empty, and the first task that fills it runs.
fn filling() -> World {
    let mut world = new_site(filled());
    for _ in 0..3 {
        world.end_task(done());
        world.settle();
    }
    assert_eq!(asked(&world).0, "bootstrap-fill-1-4");
    world
}

// Cases that the simulator found.

#[test]
fn a_place_that_a_vanished_task_may_have_filled_is_left_to_a_person() {
    let mut world = filling();
    world.observed.tasks.clear();
    world.settle();
    world.end_task(occupied(false));
    world.settle();
    assert_eq!(phase(&world), BootstrapPhase::Incomplete);
}

#[test]
fn no_run_is_claimed_before_it_is_on_record_that_the_filling_is_over() {
    let mut world = filling();
    for _ in 0..2 {
        world.end_task(done());
        world.settle();
    }
    world.now = at("2026-11-25T02:00:00Z");
    world.end_task(done());
    let actions = world.decide().actions;
    assert!(!actions.iter().any(|action| matches!(action, Action::CreateRun(_))), "{actions:?}");
    world.settle();
    assert_eq!(world.observed.runs.len(), 1);
}

#[test]
fn runs_wait_for_a_task_that_still_fills_what_is_asked_for_no_more() {
    let mut world = filling();
    world.policy_mut().restore_from = None;
    world.ask("a", Wish::Run { accept_shrink: false, wait_turn: true });
    let writes = world.observed.tasks.clone();
    for _ in 0..3 {
        world.decide().actions.iter().for_each(|action| world.apply(action));
        // It takes its time to stop.
        world.observed.tasks.clone_from(&writes);
        assert!(world.observed.runs.is_empty());
        world.pass_time(5);
    }
    world.observed.tasks.clear();
    world.settle();
    assert_eq!(world.observed.runs.len(), 1);
}

#[test]
fn each_volume_is_filled_alone_and_an_edit_meanwhile_skips_none() {
    let mut world = filling();
    world.observed.nodes.clear();
    world.end_task(done());
    world.settle();
    let fills = |world: &World| {
        let task = world.observed.tasks.last().unwrap();
        let Work::Restore(work) = &world.specs[&task.uid].work else { panic!("{task:?}") };
        let names: Vec<String> = work.request.volumes.iter().map(|v| v.name.to_string()).collect();
        names
    };
    assert_eq!(fills(&world), ["homes"]);
    world.policy_mut().volumes.remove(0);
    world.settle();
    world.observed.tasks.clear();
    world.settle();
    assert_eq!(fills(&world), ["mail"]);
    world.end_task(done());
    world.settle();
    assert_eq!(phase(&world), BootstrapPhase::Restored);
}

#[test]
fn a_filling_whose_node_does_not_answer_says_so() {
    let mut world = filling();
    world.set_task(TaskState::Unreachable { since: world.now });
    assert_eq!(waits(&world), [WaitingReason::TaskUnreachable]);
}

#[test]
fn a_filling_that_waits_for_room_says_where_though_a_run_is_due() {
    let mut world = new_site(filled());
    let from = world.policy_mut().restore_from.clone().unwrap();
    world.observed.tasks.clear();
    (0..4).for_each(|_| world.load.add_preflight(&from.location));
    let decision = world.go_to("2026-11-25T02:00:00Z");
    assert_eq!(waits(&world), [WaitingReason::Bootstrapping]);
    assert_eq!(decision.wants_room.unwrap().place, from.location);
}

/// cases.md: status wiped, etcd restored.
#[test]
fn a_task_that_fills_is_proof_though_the_status_was_wiped() {
    let mut world = filling();
    world.observed.status = None;
    world.settle();
    assert_eq!(phase(&world), BootstrapPhase::Incomplete);
    assert!(world.observed.tasks.is_empty());
}
