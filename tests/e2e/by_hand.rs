//! `RESTORE.txt` followed to the letter, with nothing of ours on the machine.

use crate::{
    data,
    site::Site,
    support::{Scratch, mongo::Mongo, tools, tree},
};
use std::{fs, process::Command};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_back_by_hand() {
    let mongo = Mongo::replica_set(1).await;
    data::fill(&mongo.client().await, "girder").await;
    let documents = data::read(&mongo.client().await, "girder").await;
    let mut site = Site::new();
    let (homes, files) = site.homes();
    site.policy(
        "nightly",
        &format!(
            "  mongodb: {{uri: \"{}\"}}\n  volumes: [{{name: homes, hostPath: {}}}]\n",
            mongo.uri(),
            homes.display()
        ),
    );
    site.start_controller();
    site.run("nightly").ok();
    drop(mongo);

    let text = fs::read_to_string(site.remote.object("RESTORE.txt")).unwrap();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let fresh = Mongo::replica_set(1).await;
    let desk = Scratch::new("desk");
    desk.file("mongodb.yaml", format!("uri: {}\n", fresh.uri()));
    let done = Command::new("bash")
        .args(["-c", &commands.join("\n")])
        .current_dir(&*desk)
        .env_clear()
        .env("PATH", tools::path_variable())
        .env("RCLONE_CONFIG", site.remote.config())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}\n--- said\n{said}");
    tree::assert_same(&files, &tree::digest(&desk.join("restored/homes")));
    data::assert_same(&documents, &data::read(&fresh.client().await, "girder").await);
}
