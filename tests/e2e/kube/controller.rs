//! The controller killed, twice there, or without a server; what people remove under it.

use super::*;
use crate::support::kube;
use rustix::process::Signal;
use std::{thread::sleep, time::Duration};

/// A policy whose run takes some seconds, since its database is slow to be reached.
fn begin(site: &Site<'_>, name: &str) {
    site.ask_for_a_run(name);
    wait("a task", || !site.cluster.list(&site.namespace, "jobs").is_empty());
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn a_run_survives_its_controller_and_a_second_controller_does_nothing_twice() {
    let Some(cluster) = kube::shared() else { return };
    let mut site = Site::new(cluster, "killed");
    let _furnished = site.furnish(9021);
    site.apply(&site.policy("nightly"));
    site.wait_for("nightly", "CredentialsValid", "True");
    begin(&site, "first");
    site.controller = None;
    sleep(Duration::from_secs(3));
    site.start_controller();
    let second = site.another_controller("second");
    assert_eq!(site.ended("first")["phase"], "Succeeded");
    // The first stands still for longer than its lease lasts, while the other one takes over.
    site.controller.as_ref().unwrap().signal(Signal::STOP);
    sleep(Duration::from_secs(20));
    begin(&site, "second");
    site.controller.as_ref().unwrap().signal(Signal::CONT);
    assert_eq!(site.ended("second")["phase"], "Succeeded");
    drop(second);
    let status = site.get("backuppolicy", "nightly")["status"].clone();
    let history = status["history"].as_array().unwrap();
    assert_eq!(history.len(), 2, "{status}");
    assert!(history.iter().all(|one| one["outcome"] == "Succeeded"), "{status}");
    assert_eq!(status["snapshots"].as_array().unwrap().len(), 2, "{status}");
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn a_policy_that_is_deleted_takes_its_tasks_along_and_a_deleted_namespace_ends() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "deleted");
    let (served, _homes) = site.furnish(9022);
    site.apply(&site.policy("nightly"));
    site.wait_for("nightly", "CredentialsValid", "True");
    site.ask_for_a_run("kept");
    assert_eq!(site.ended("kept")["phase"], "Succeeded");
    cluster.run(["--namespace", "deleted", "delete", "bsp", "nightly"]);
    wait("no policy", || site.get("backuppolicy", "nightly").is_null());
    // The same name again is another policy, and finds what the first one left.
    site.apply(&site.policy("nightly"));
    site.ask_for_a_run("again");
    assert_eq!(site.ended("again")["phase"], "Succeeded");
    let stored = walk(served.root()).into_iter().filter(|path| path.ends_with("manifest.json")).count();
    assert_eq!(stored, 2, "{:?}", walk(served.root()));
    site.ask_for_a_run("last");
    cluster.run(["delete", "namespace", "deleted", "--wait=false"]);
    wait("the end of the namespace", || cluster.ask(["get", "namespace", "deleted"]).is_err());
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn a_server_that_ends_or_stands_still_during_a_run_costs_nothing_but_time() {
    let Some(cluster) = kube::start_or_say(2) else { return };
    let site = Site::new(&cluster, "server");
    let _furnished = site.furnish(9023);
    site.apply(&site.policy("nightly"));
    site.wait_for("nightly", "CredentialsValid", "True");
    begin(&site, "killed");
    cluster.control().kill_server();
    sleep(Duration::from_secs(5));
    cluster.control().start_server();
    assert_eq!(site.ended("killed")["phase"], "Succeeded");
    begin(&site, "frozen");
    cluster.control().signal_server(Signal::STOP);
    sleep(Duration::from_secs(20));
    cluster.control().signal_server(Signal::CONT);
    assert_eq!(site.ended("frozen")["phase"], "Succeeded");
    let node = &cluster.nodes()[1];
    begin(&site, "kubelet");
    node.stop_kubelet();
    sleep(Duration::from_secs(10));
    node.start_kubelet();
    assert_eq!(site.ended("kubelet")["phase"], "Succeeded");
}
