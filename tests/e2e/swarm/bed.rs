//! The bed itself: what the other tests of this folder stand on.

use crate::support::swarm::{self, Plan, Stack, image, mongo, remote::Served};
use std::{fs, path::Path, thread, time::Duration};

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{what}: not within a minute");
}

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

/// The stack of a Whole Tale site, as it is in the repository, comes up: three servers on three nodes, one replica set.
#[test]
fn the_stack_of_a_site_comes_up() {
    let Some(swarm) = swarm::shared() else { return };
    for node in swarm.nodes() {
        for folder in ["homes", "backstay", "acme"] {
            fs::create_dir_all(node.mnt().join(folder)).unwrap();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("swarm/wholetale.yaml");
    let small = [("MONGO_CACHE_GB", "0.25"), ("GATEWAY_IMAGE", image::MONGO)];
    let _stack = Stack::deploy(swarm, "wtbed", &file, &small);
    mongo::initiate(swarm, "wtbed");
    let remote = Served::new(swarm, 8090);
    let text = format!(
        "version: '3.8'\nservices:\n  copy:\n    image: {}\n    entrypoint: [rclone]\n    \
         command: [--config, /mnt/rclone.conf, copyto, /mnt/rclone.conf, 'box:a/b']\n    volumes: ['/mnt:/mnt']\n    \
         deploy: {{restart_policy: {{condition: none}}, placement: {{constraints: [node.hostname == n3]}}}}\n",
        image::BACKSTAY
    );
    fs::write(swarm.nodes()[2].mnt().join("rclone.conf"), remote.config()).unwrap();
    let _copy = Stack::deploy_text(swarm, "copybed", &text);
    until("the copy is on the remote", || remote.root().join("a/b").exists());
}
