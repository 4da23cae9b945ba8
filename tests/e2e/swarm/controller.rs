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

fn one_node() -> Plan {
    Plan { workers: 0, ..Plan::default() }
}

fn three_managers() -> Plan {
    Plan { managers: 3, workers: 0, ..Plan::default() }
}

/// Does something on a swarm with a controller, which begins on a node of a number from 0, and looks at what came of it: each
/// slot had one task, that one made a snapshot, and every snapshot is good.
#[track_caller]
fn each_slot_runs_once(plan: Plan, begins_on: usize, act: impl FnOnce(&Own, &Stack<'_>)) {
    let Some(own) = Own::start(plan) else { return };
    let stack = own.controller_on(&own.swarm.nodes()[begins_on]);
    let services = own.services_while(|| act(&own, &stack));
    own.ran_once(&services);
    assert_eq!(own.snapshots().len(), services.len(), "{services:?}{}", own.told());
    own.verify();
}

/// A run is under way while the controller comes to its end; another one finds the task, and the run ends well.
#[track_caller]
fn is_adopted(own: &Own, blow: impl FnOnce(&Node, &str)) {
    own.fill(MUCH);
    let before = own.controllers();
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
}

#[test]
#[ignore = "half a minute: make e2e-swarm"]
fn a_controller_that_is_killed_finds_its_task_again() {
    each_slot_runs_once(one_node(), 0, |own, _| {
        own.declare(NEVER, SLOW, "");
        is_adopted(own, |node, controller| {
            node.docker(["kill", controller]);
        });
    });
}

#[test]
#[ignore = "a minute: make e2e-swarm"]
fn a_controller_that_is_updated_finds_its_task_again() {
    each_slot_runs_once(one_node(), 0, |own, stack| {
        own.declare(NEVER, SLOW, "");
        is_adopted(own, |node, _| {
            node.docker(["service", "update", "--force", "--detach", "backstay_controller"]);
        });
        own.fill(MUCH);
        let run = own.run_while(|| own.meanwhile(|_| stack.redeploy(&stack_file("backstay"), &[])));
        assert_eq!(run.status.code(), Some(0), "{}{}", said(&run), own.told());
        own.until("one controller runs", || own.controllers().len() == 1);
    });
}

/// Three controllers, two of them replicas of one service; one stands still over a slot, another is stopped in its tracks.
#[test]
#[ignore = "five minutes: make e2e-swarm"]
fn several_controllers_run_a_slot_once() {
    each_slot_runs_once(one_node(), 0, |own, _| {
        own.swarm.docker(["service", "scale", "--detach", "backstay_controller=2"]);
        own.until("both replicas run", || own.controllers().len() == 2);
        let _spare = Stack::deploy(&own.swarm, "spare", &stack_file("backstay"), &[]);
        own.until("a third one runs", || {
            !own.containers("com.docker.swarm.service.name=spare_controller").is_empty()
        });
        own.fill(LITTLE);
        own.declare(MINUTELY, "64k", "");
        own.until_good_after("");
        let controllers = own.controllers();
        let (first, second) = (&controllers[0], &controllers[1]);
        // Each stands still over a slot that the others run, and is then back for the next.
        first.0.pause(&first.1);
        own.until_good_after(&newest(own));
        first.0.docker(["unpause", &first.1]);
        second.0.docker(["kill", "--signal", "STOP", &second.1]);
        own.until_good_after(&newest(own));
        second.0.docker(["kill", "--signal", "CONT", &second.1]);
        own.until_good_after(&newest(own));
        own.declare(NEVER, "64k", "");
        let history = own.history();
        assert!(history.iter().all(|told| told.outcome == "Succeeded"), "{}", own.told());
        assert_eq!(history.len(), own.snapshots().len(), "{}", own.told());
    });
}

/// The newest slot of which the end is told; of none an empty text.
fn newest(own: &Own) -> String {
    own.history().first().map(|told| told.slot.clone()).unwrap_or_default()
}

/// What a policy may use is not known before a controller has told it: nothing is called wrong, and one who waits waits.
#[test]
#[ignore = "half a minute: make e2e-swarm"]
fn no_policy_is_judged_before_a_controller_has_told_its_rules() {
    let Some(own) = Own::start(one_node()) else { return };
    own.create(NEVER, "1M", "");
    let plan = own.backstay(&["restore", POLICY, "--dry-run"]);
    assert_eq!(plan.status.code(), Some(1), "{}", said(&plan));
    assert!(said(&plan).contains("no controller has told yet what it allows"), "{}", said(&plan));
    let wait = ["wait", POLICY, "--for", "CredentialsValid", "--timeout", "120"];
    thread::scope(|scope| {
        let waiting = scope.spawn(|| own.backstay(&wait));
        thread::sleep(Duration::from_secs(3));
        assert!(!waiting.is_finished());
        let _stack = own.controller();
        let end = waiting.join().unwrap();
        assert_eq!(end.status.code(), Some(0), "{}{}", said(&end), own.told());
    });
}

/// A second controller is started and removed: the first one is still found by whoever asks.
#[test]
#[ignore = "half a minute: make e2e-swarm"]
fn a_controller_that_is_left_is_found() {
    each_slot_runs_once(one_node(), 0, |own, _| {
        own.declare(NEVER, "1M", "");
        let spare = Stack::deploy(&own.swarm, "spare", &stack_file("backstay"), &[]);
        own.until("the second one has told of itself", || {
            let told = ["config", "inspect", "--format", "{{json .Spec.Labels}}", "backstay-controller"];
            own.swarm.docker(told).contains("spare_controller")
        });
        drop(spare);
        own.run();
    });
}

/// The only controller stands still over two slots: the newer one is run late, the older one is told as missed.
#[test]
#[ignore = "four minutes: make e2e-swarm"]
fn what_passed_while_the_controller_stood_still_is_told() {
    each_slot_runs_once(one_node(), 0, |own, _| {
        own.fill(LITTLE);
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
        assert!(missed.iter().all(|missed| missed.reason == "ControllerUnavailable"), "{}", own.told());
        assert!(missed.iter().all(|missed| run.iter().all(|run| missed.slot < run.slot)), "{}", own.told());
        every_slot_is_told(own);
    });
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
    each_slot_runs_once(three_managers(), 0, |own, _| {
        let [first, second, third] = own.swarm.nodes() else { panic!("three nodes") };
        own.declare(NEVER, SLOW, "");
        own.fill(MUCH);
        let asked = own.backstay(&["run", POLICY]);
        assert!(asked.status.success(), "{}", said(&asked));
        own.meanwhile(|node| {
            assert_eq!(node.name(), third.name());
            first.kill_daemon();
            let elsewhere = |(node, _): (&Node, String)| node.name() != first.name();
            own.until("the controller runs elsewhere", || own.controllers().into_iter().any(elsewhere));
        });
        let slot = ends_well(own);
        first.start_daemon();
        own.until("the first manager follows", || is_follower(second, first));
        own.until("one controller is left", || own.controllers().len() == 1);
        runs_one_more(own, &slot);
    });
}

fn is_follower(asked: &Node, node: &Node) -> bool {
    let format = "{{.Status.State}} {{.ManagerStatus.Reachability}} {{.ManagerStatus.Leader}}";
    asked
        .ask(["node", "inspect", "--format", format, &node.name()])
        .is_ok_and(|s| s == "ready reachable false")
}

/// A slot that comes by the schedule is run.
#[track_caller]
fn runs_one_more(own: &Own, after: &str) {
    own.declare(MINUTELY, "64k", "");
    own.until_good_after(after);
    own.declare(NEVER, "64k", "");
}

/// Two managers of three are lost while a task runs, and come back: nobody decides meanwhile, the run ends well, and who waits
/// for that waits on and is told why.
#[test]
#[ignore = "three minutes: make e2e-swarm"]
fn a_quorum_that_is_lost_and_comes_back_costs_no_run() {
    each_slot_runs_once(three_managers(), 2, |own, _| {
        let [first, second, third] = own.swarm.nodes() else { panic!("three nodes") };
        own.declare(NEVER, "24k", "");
        own.fill(MUCH);
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
            assert_eq!(said(&end).matches("no answer at the moment").count(), 1, "{}", said(&end));
        }
        let slot = ends_well(own);
        runs_one_more(own, &slot);
    });
}

/// The manager that leads is cut off with a controller on it, which goes on by what it saw last; another one is started
/// elsewhere. Whatever the two want, each slot is run once.
#[test]
#[ignore = "four minutes: make e2e-swarm"]
fn a_controller_that_is_cut_off_with_its_manager_runs_nothing_twice() {
    each_slot_runs_once(three_managers(), 0, |own, _| {
        let [first, second, third] = own.swarm.nodes() else { panic!("three nodes") };
        own.fill(LITTLE);
        own.declare(MINUTELY, "16k", "");
        own.until_good_after("");
        own.swarm.cut(first);
        let of_others = || own.controllers().into_iter().any(|(node, _)| node.name() != first.name());
        own.until("another controller runs", of_others);
        assert_eq!(own.controllers().len(), 2, "the first one does not know: {}", own.told());
        own.until("the others answer", || second.ask(["node", "ls"]).is_ok());
        own.until_good_after(&newest(own));
        own.swarm.heal(first);
        own.until("the first manager is back", || is_ready(third, first));
        own.until("one controller is left", || own.controllers().len() == 1);
        own.until_good_after(&newest(own));
        own.declare(NEVER, "64k", "");
        every_slot_is_told(own);
    });
}

fn is_ready(asked: &Node, node: &Node) -> bool {
    let format = "{{.Status.State}} {{.ManagerStatus.Reachability}}";
    asked.ask(["node", "inspect", "--format", format, &node.name()]).is_ok_and(|s| s == "ready reachable")
}
