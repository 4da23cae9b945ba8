//! From nothing to a good backup, what is seen of it, and back from the remote alone.

use super::*;
use crate::support::{Scratch, kube, remote, tree};

#[test]
fn a_policy_is_backed_up_its_status_says_so_and_it_comes_back_from_the_remote_alone() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "journey");
    let (served, homes) = site.furnish(9001);
    let before = tree::digest(&homes);
    site.apply(&site.policy("nightly"));
    site.wait_for("nightly", "Ready", "True");
    site.wait_for("nightly", "CredentialsValid", "True");
    site.ask_for_a_run("now");
    site.wait_for("nightly", "LastRunSucceeded", "True");
    let backup = site.get("backup", "now");
    assert_eq!(backup["status"]["phase"], "Succeeded", "{backup}");
    wait("the end of all tasks", || cluster.list("journey", "jobs").is_empty());
    let status = site.get("backuppolicy", "nightly")["status"].clone();
    assert!(status["lastSuccess"]["documents"].as_u64() >= Some(500), "{status}");
    let line = cluster.run(["--namespace", "journey", "get", "bsp"]);
    assert!(line.contains("nightly") && line.contains("True"), "{line}");

    let scratch = Scratch::new("kube");
    let config = scratch.file(
        "rclone.conf",
        format!("[{}]\ntype = alias\nremote = {}\n", remote::NAME, served.root().display()),
    );
    let target = scratch.folder("back");
    let from = format!("{}:WT/journey", remote::NAME);
    let into = format!("homes={}", target.display());
    let mut restore = site.backstay(&[
        "restore",
        "--from",
        &from,
        "--rclone-config",
        config.to_str().unwrap(),
        "--volume",
        &into,
    ]);
    let output = restore.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    tree::assert_same(&before, &tree::digest(&target));
}
