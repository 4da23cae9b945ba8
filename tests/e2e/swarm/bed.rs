//! The bed itself: what the other tests of this folder stand on.

use super::until;
use crate::support::swarm::{self, Plan, Stack, image};
use std::fs;

/// Every node runs both images, and a task sees the `/mnt` of its own node alone.
#[test]
fn a_service_runs_on_each_node() {
    let Some(swarm) = swarm::shared() else { return };
    for node in swarm.nodes() {
        let version = node.docker(["run", "--rm", "--network", "none", image::BACKSTAY, "--version"]);
        assert!(version.starts_with("backstay "), "{version}");
        fs::write(node.mnt().join("bed"), "").unwrap();
    }
    let text = format!(
        "version: '3.8'\nservices:\n  touch:\n    image: {}\n    command: [sh, -c, 'cp /etc/hostname /seen/bed && sleep 600']\n    \
         volumes: ['/mnt:/seen']\n    stop_grace_period: 1s\n    deploy: {{mode: global}}\n",
        image::MONGO
    );
    let _stack = Stack::deploy_text(swarm, "bed", &text);
    for node in swarm.nodes() {
        until("the task wrote", || fs::read(node.mnt().join("bed")).is_ok_and(|seen| !seen.is_empty()));
    }
}

/// A node that is cut off is seen as down and, healed, as ready; a killed daemon comes back with its containers.
#[test]
fn nodes_are_cut_healed_killed_and_started() {
    let Some(swarm) = swarm::start_or_say(Plan { workers: 1, ..Plan::default() }) else { return };
    let [manager, worker] = swarm.nodes() else { panic!("two nodes") };
    let state = || manager.docker(["node", "inspect", "--format", "{{.Status.State}}", &worker.name()]);
    assert_eq!(state(), "ready");
    assert_eq!(swarm.storage().name(), worker.name());
    swarm.cut(worker);
    until("the node is down", || state() == "down");
    swarm.heal(worker);
    until("the node is ready", || state() == "ready");
    worker.kill_daemon();
    until("the node is down", || state() == "down");
    worker.start_daemon();
    until("the node is ready", || state() == "ready");
}
