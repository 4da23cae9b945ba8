//! What `docs/swarm.md` tells a person to type.

use super::{status, until, with_controller};
use crate::support::swarm::{Stack, Swarm, image, remote::Served};
use std::fs;

/// The program as the page runs it: beside the controller, with nothing but Docker's socket.
fn backstay(swarm: &Swarm, arguments: &[&str]) -> String {
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    let run = ["run", "--rm", "--network", "none", "--volume", socket, image::BACKSTAY];
    swarm.docker(run.into_iter().chain(arguments.iter().copied()))
}

#[test]
fn a_person_sees_runs_and_restores_with_what_the_page_says() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8081);
    let folder = swarm.manager().mnt().join("page");
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("rclone.conf");
    fs::write(&config, remote.config()).unwrap();
    let text = format!(
        "version: '3.8'\nservices:\n  keeper:\n    image: {}\n    command: [sh, -c, 'echo text > /data/note && sleep 600']\n    \
         volumes: ['data:/data']\n    secrets: [rclone]\n    stop_grace_period: 1s\n    deploy:\n      \
         placement: {{constraints: [node.role == manager]}}\n      labels:\n        \
         backstay.notes.volumes.data.volumeName: page_data\n        \
         backstay.notes.destination.remote: box\n        backstay.notes.destination.path: WT\n        \
         backstay.notes.destination.configFrom.secretKeyRef.name: page_rclone\n\
         volumes: {{data: {{}}}}\nsecrets: {{rclone: {{file: {}}}}}\n",
        image::MONGO,
        config.display(),
    );
    let _stack = Stack::deploy_text(swarm, "page", &text);
    until("the policy is accepted", || status(swarm, "page/notes", "backstay.ready") == "True");
    assert!(backstay(swarm, &["status", "page/notes"]).contains("page/notes"));
    assert!(backstay(swarm, &["run", "page/notes", "--wait"]).contains("stored"));
    assert!(!status(swarm, "page/notes", "backstay.last-success").is_empty());

    let place = ["restore", "--from", "box:WT/page", "--rclone-config", "/mnt/page/rclone.conf"];
    let target = ["--volume", "data=/mnt/page/back"];
    let run = ["run", "--rm", "--volume", "/mnt:/mnt", image::BACKSTAY];
    let plan = swarm.docker(run.into_iter().chain(place).chain(target).chain(["--dry-run"]));
    assert!(plan.contains("into a new directory"), "{plan}");
    swarm.docker(run.into_iter().chain(place).chain(target));
    assert_eq!(fs::read_to_string(folder.join("back/note")).unwrap(), "text\n");
}
