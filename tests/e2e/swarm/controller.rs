//! The controller as a service: killed, updated, several at once, paused, moved, without a quorum. No slot is run twice,
//! none is lost silently, no task is left alone.

use super::{
    own::{MINUTELY, NEVER, Own, POLICY},
    stack_file,
    states::{backstay_on, said},
};
use crate::support::swarm::{Plan, Stack, node::Node};
use std::{collections::BTreeSet, thread, time::Duration};

/// Bytes a second that make a task of [`MUCH`] last long enough to be caught.
const SLOW: &str = "48k";
const MUCH: usize = 600_000;
const LITTLE: usize = 50_000;

fn one_node() -> Option<Own> {
    Own::start(Plan { workers: 0, ..Plan::default() })
}

/// A run is under way while the controller comes to its end; another one finds the task, and the run ends once.
#[track_caller]
fn is_adopted(own: &Own, blow: impl FnOnce(&Node, &str)) {
    own.fill(MUCH);
    let before = own.controllers();
    let services = own.services_while(|| {
        let run = own.run_while(|| {
            own.meanwhile(|_| {
                blow(before[0].0, &before[0].1);
                own.until("another controller runs", || {
                    let now = own.controllers();
                    now.len() == 1 && now[0].1 != before[0].1
                });
            });
        });
        assert_eq!(run.status.code(), Some(0), "{}{}", said(&run), own.told());
    });
    assert_eq!(services.len(), 1, "{services:?}");
    own.ran_once(&services);
}

#[test]
#[ignore = "half a minute: make e2e-swarm"]
fn a_controller_that_is_killed_finds_its_task_again() {
    let Some(own) = one_node() else { return };
    let _stack = own.controller();
    own.declare(NEVER, SLOW, "");
    is_adopted(&own, |node, controller| {
        node.docker(["kill", controller]);
    });
    assert_eq!(own.snapshots().len(), 1);
    own.verify();
}

#[test]
#[ignore = "a minute: make e2e-swarm"]
fn a_controller_that_is_updated_finds_its_task_again() {
    let Some(own) = one_node() else { return };
    let stack = own.controller();
    own.declare(NEVER, SLOW, "");
    is_adopted(&own, |node, _| {
        node.docker(["service", "update", "--force", "--detach", "backstay_controller"]);
    });
    own.fill(MUCH);
    let run = own.run_while(|| own.meanwhile(|_| stack.redeploy(&stack_file("backstay"), &[])));
    assert_eq!(run.status.code(), Some(0), "{}{}", said(&run), own.told());
    own.until("one controller runs", || own.controllers().len() == 1);
    assert_eq!(own.snapshots().len(), 2);
    own.verify();
}

/// Three controllers, two of them replicas of one service; one stands still over a slot, another is stopped in its tracks.
#[test]
#[ignore = "five minutes: make e2e-swarm"]
fn several_controllers_run_a_slot_once() {
    let Some(own) = one_node() else { return };
    let _stack = own.controller();
    own.swarm.docker(["service", "scale", "--detach", "backstay_controller=2"]);
    own.until("both replicas run", || own.controllers().len() == 2);
    let _spare = Stack::deploy(&own.swarm, "spare", &stack_file("backstay"), &[]);
    own.until("a third one runs", || {
        !own.containers("com.docker.swarm.service.name=spare_controller").is_empty()
    });
    own.fill(LITTLE);
    let services = own.services_while(|| {
        own.declare(MINUTELY, "64k", "");
        own.until_good_after("");
        let controllers = own.controllers();
        let (first, second) = (&controllers[0], &controllers[1]);
        // Each stands still over a slot that the others run, and is then back for the next.
        let newest = || own.history().first().map(|told| told.slot.clone()).unwrap_or_default();
        first.0.pause(&first.1);
        own.until_good_after(&newest());
        first.0.docker(["unpause", &first.1]);
        second.0.docker(["kill", "--signal", "STOP", &second.1]);
        own.until_good_after(&newest());
        second.0.docker(["kill", "--signal", "CONT", &second.1]);
        own.until_good_after(&newest());
        own.declare(NEVER, "64k", "");
    });
    own.ran_once(&services);
    let history = own.history();
    assert!(history.iter().all(|told| told.outcome == "Succeeded"), "{}", own.told());
    assert_eq!(history.len(), services.len(), "{services:?}{}", own.told());
    assert_eq!(own.snapshots().len(), services.len(), "{}", own.told());
    own.verify();
}

/// A second controller is started and removed: the first one is still found by whoever asks.
#[test]
#[ignore = "half a minute: make e2e-swarm"]
fn a_controller_that_is_left_is_found() {
    let Some(own) = one_node() else { return };
    let _stack = own.controller();
    own.declare(NEVER, "1M", "");
    let spare = Stack::deploy(&own.swarm, "spare", &stack_file("backstay"), &[]);
    own.until("the second one has told of itself", || {
        let told = ["config", "inspect", "--format", "{{json .Spec.Labels}}", "backstay-controller"];
        own.swarm.docker(told).contains("spare_controller")
    });
    drop(spare);
    own.run();
}

/// The only controller stands still over two slots: the newer one is run late, the older one is told as missed.
#[test]
#[ignore = "four minutes: make e2e-swarm"]
fn what_passed_while_the_controller_stood_still_is_told() {
    let Some(own) = one_node() else { return };
    let _stack = own.controller();
    own.fill(LITTLE);
    let services = own.services_while(|| {
        own.declare(MINUTELY, "64k", "");
        own.until_good_after("");
        let controllers = own.controllers();
        let (node, controller) = &controllers[0];
        node.pause(controller);
        let told = own.history();
        thread::sleep(Duration::from_secs(125));
        assert_eq!(own.history(), told, "nobody else tells");
        node.docker(["unpause", controller]);
        own.until_good_after(&told[0].slot);
        own.declare(NEVER, "64k", "");
        let is_known = |slot: &String| told.iter().any(|known| known.slot == *slot);
        let (missed, run): (Vec<_>, Vec<_>) = own
            .history()
            .into_iter()
            .filter(|told| !is_known(&told.slot))
            .partition(|told| told.outcome == "Missed");
        assert!(!missed.is_empty() && missed.len() <= 2, "{}", own.told());
        assert!(missed.iter().all(|told| told.reason == "ControllerUnavailable"), "{}", own.told());
        assert!(missed.iter().all(|missed| run.iter().all(|run| missed.slot < run.slot)), "{}", own.told());
    });
    own.ran_once(&services);
    assert_eq!(own.snapshots().len(), services.len(), "{}", own.told());
    every_slot_is_told(&own);
}

/// From the oldest slot that is told to the newest there is one for each minute.
#[track_caller]
fn every_slot_is_told(own: &Own) {
    let minute = |slot: &str| -> u32 {
        let time = &slot[slot.find('T').expect("a slot is a time") + 1..];
        time[..2].parse::<u32>().unwrap() * 60 + time[2..4].parse::<u32>().unwrap()
    };
    let slots: Vec<String> =
        own.history().into_iter().map(|told| told.slot).filter(|slot| !slot.ends_with("-m")).collect();
    let distinct: BTreeSet<&String> = slots.iter().collect();
    assert_eq!(distinct.len(), slots.len(), "{}", own.told());
    for pair in slots.windows(2) {
        assert_eq!((minute(&pair[0]) + 1440 - minute(&pair[1])) % 1440, 1, "{pair:?}{}", own.told());
    }
}

fn three_managers() -> Option<Own> {
    Own::start(Plan { managers: 3, workers: 0, ..Plan::default() })
}

/// What a slow task has made, once the run that it is of is over: asked of whoever answers.
#[track_caller]
fn ends_well(own: &Own) -> String {
    own.until("the run is over", || !own.history().is_empty());
    let history = own.history();
    assert_eq!(history[0].outcome, "Succeeded", "{}", own.told());
    history[0].slot.clone()
}

/// The manager that leads is lost, and the controller with it: another manager leads, another controller goes on.
#[test]
#[ignore = "three minutes: make e2e-swarm"]
fn the_controller_moves_with_its_manager_lost() {
    let Some(own) = three_managers() else { return };
    let [first, second, third] = own.swarm.nodes() else { panic!("three nodes") };
    let _stack = own.controller_on(first);
    own.declare(NEVER, SLOW, "");
    own.fill(MUCH);
    let services = own.services_while(|| {
        let asked = own.backstay(&["run", POLICY]);
        assert!(asked.status.success(), "{}", said(&asked));
        own.meanwhile(|node| {
            assert_eq!(node.name(), third.name());
            first.kill_daemon();
            let elsewhere = |(node, _): (&Node, String)| node.name() != first.name();
            own.until("the controller runs elsewhere", || own.controllers().into_iter().any(elsewhere));
        });
        let slot = ends_well(&own);
        first.start_daemon();
        own.until("the first manager follows", || is_follower(second, first));
        own.until("one controller is left", || own.controllers().len() == 1);
        own.declare(MINUTELY, "64k", "");
        own.until_good_after(&slot);
        own.declare(NEVER, "64k", "");
    });
    own.ran_once(&services);
    assert_eq!(own.snapshots().len(), services.len(), "{}", own.told());
    own.verify();
}

fn is_follower(asked: &Node, node: &Node) -> bool {
    let format = "{{.Status.State}} {{.ManagerStatus.Reachability}} {{.ManagerStatus.Leader}}";
    asked
        .ask(["node", "inspect", "--format", format, &node.name()])
        .is_ok_and(|s| s == "ready reachable false")
}

/// Two managers of three are lost while a task runs, and come back: nobody decides meanwhile, and the run ends well.
#[test]
#[ignore = "three minutes: make e2e-swarm"]
fn a_quorum_that_is_lost_and_comes_back_costs_no_run() {
    let Some(own) = three_managers() else { return };
    let [first, second, third] = own.swarm.nodes() else { panic!("three nodes") };
    let _stack = own.controller_on(third);
    own.declare(NEVER, "24k", "");
    own.fill(MUCH);
    let services = own.services_while(|| {
        // Who waits for something meanwhile waits on, and is told why.
        let waiters: [&[&str]; 2] =
            [&["run", POLICY, "--wait"], &["wait", POLICY, "--for", "LastRunSucceeded"]];
        let ends = thread::scope(|scope| {
            let waiting = waiters.map(|waits| scope.spawn(|| backstay_on(third, waits)));
            let (_, task) = own.task();
            first.kill_daemon();
            second.kill_daemon();
            own.until("nobody leads", || third.ask(["node", "ls"]).is_err());
            own.until("the task has ended alone", || !own.runs_on(third, &task));
            assert_eq!(own.snapshots().len(), 1, "it needs nobody to commit");
            first.start_daemon();
            second.start_daemon();
            waiting.map(|waits| waits.join().unwrap())
        });
        for end in ends {
            assert_eq!(end.status.code(), Some(0), "{}{}", said(&end), own.told());
            let told = said(&end).matches("no answer at the moment").count();
            assert_eq!(told, 1, "{}", said(&end));
        }
        let slot = ends_well(&own);
        own.declare(MINUTELY, "64k", "");
        own.until_good_after(&slot);
        own.declare(NEVER, "64k", "");
    });
    own.ran_once(&services);
    assert_eq!(own.snapshots().len(), services.len(), "{}", own.told());
    own.verify();
}

/// The manager that leads is cut off with a controller on it, which goes on by what it saw last; another one is started
/// elsewhere. Whatever the two want, each slot is run once.
#[test]
#[ignore = "four minutes: make e2e-swarm"]
fn a_controller_that_is_cut_off_with_its_manager_runs_nothing_twice() {
    let Some(own) = three_managers() else { return };
    let [first, second, third] = own.swarm.nodes() else { panic!("three nodes") };
    let _stack = own.controller_on(first);
    own.fill(LITTLE);
    let services = own.services_while(|| {
        own.declare(MINUTELY, "16k", "");
        own.until_good_after("");
        own.swarm.cut(first);
        let of_others = || own.controllers().into_iter().any(|(node, _)| node.name() != first.name());
        own.until("another controller runs", of_others);
        assert_eq!(own.controllers().len(), 2, "the first one does not know: {}", own.told());
        let newest = || own.history().first().map(|told| told.slot.clone()).unwrap_or_default();
        own.until("the others answer", || second.ask(["node", "ls"]).is_ok());
        own.until_good_after(&newest());
        own.swarm.heal(first);
        own.until("the first manager is back", || is_ready(third, first));
        own.until("one controller is left", || own.controllers().len() == 1);
        own.until_good_after(&newest());
        own.declare(NEVER, "64k", "");
    });
    own.ran_once(&services);
    every_slot_is_told(&own);
    assert_eq!(own.snapshots().len(), services.len(), "{}", own.told());
    own.verify();
}

fn is_ready(asked: &Node, node: &Node) -> bool {
    let format = "{{.Status.State}} {{.ManagerStatus.Reachability}}";
    asked.ask(["node", "inspect", "--format", format, &node.name()]).is_ok_and(|s| s == "ready reachable")
}
