//! From nothing to a good backup, what is seen of it, and back from the remote alone.

use super::*;
use crate::support::{Scratch, kube, remote, tree};
use mongodb::bson::{Document, doc};
use serde_json::json;

/// A server of its own Pod, a claim on the second node with a Pod that uses it, and the Secret for the remote.
fn furnish(site: &Site<'_>, port: u16) -> (kube::Served, PathBuf) {
    let (cluster, namespace) = (site.cluster, site.namespace.as_str());
    let homes = cluster.volume(namespace, "homes", &cluster.nodes()[1]);
    std::fs::create_dir_all(homes.join("ada")).unwrap();
    std::fs::write(homes.join("ada/notes.txt"), "hello").unwrap();
    std::os::unix::fs::symlink("notes.txt", homes.join("ada/link")).unwrap();
    let mounts = json!([{"name": "homes", "mountPath": "/homes"}]);
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "user", "image": image::SLEEPER, "volumeMounts": mounts}],
                 "volumes": [{"name": "homes", "persistentVolumeClaim": {"claimName": "homes"}}]},
    }));
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mongo", "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "mongo", "image": image::MONGO, "command": ["mongod", "--bind_ip_all"]}]},
    }));
    cluster.on_mongodb(namespace, "mongo", async |client| {
        let notes = client.database("girder").collection::<Document>("notes");
        notes.insert_many((0..500).map(|n| doc! {"_id": n, "text": "x".repeat(100)})).await.unwrap();
    });
    cluster.address(namespace, "user");
    let served = cluster.remote(port);
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rclone", "namespace": namespace},
        "stringData": {"rclone.conf": served.config()},
    }));
    (served, homes)
}

fn policy(site: &Site<'_>) -> Value {
    let address = site.cluster.address(&site.namespace, "mongo");
    json!({
        "apiVersion": "backstay.dev/v1alpha1", "kind": "BackupPolicy",
        "metadata": {"name": "nightly", "namespace": site.namespace},
        "spec": {
            "mongodb": {"uri": format!("mongodb://{address}:27017/")},
            "volumes": [{"name": "homes", "claimName": "homes"}],
            "destination": {"remote": remote::NAME, "path": "WT", "configFrom": {"secretKeyRef": {"name": "rclone"}}},
        },
    })
}

/// `kubectl create` of a request for a run.
fn ask_for_a_run(site: &Site<'_>, name: &str) {
    site.cluster.apply(&json!({
        "apiVersion": "backstay.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": site.namespace}, "spec": {"policy": "nightly"},
    }));
}

#[test]
fn a_policy_is_backed_up_its_status_says_so_and_it_comes_back_from_the_remote_alone() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "journey");
    let (served, homes) = furnish(&site, 9001);
    let before = tree::digest(&homes);
    cluster.apply(&policy(&site));
    site.wait_for("nightly", "Ready", "True");
    site.wait_for("nightly", "CredentialsValid", "True");
    ask_for_a_run(&site, "now");
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
