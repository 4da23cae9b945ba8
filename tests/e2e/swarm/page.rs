//! What `docs/swarm.md` tells a person to type.

use super::{backstay, status, until, with_controller};
use crate::support::swarm::{Stack, Swarm, image, remote::Served};
use std::{fs, path::Path};

/// A stack whose service has a volume and a policy for it.
fn deploy<'a>(
    swarm: &'a Swarm,
    name: &str,
    command: &str,
    config: &Path,
    labels: &[(&str, &str)],
) -> Stack<'a> {
    let secret = format!("{name}_rclone");
    let common = [
        ("volumes.data.volumeName", "data"),
        ("destination.remote", "box"),
        ("destination.path", "WT"),
        ("destination.configFrom.secretKeyRef.name", &*secret),
        ("status", "service"),
    ];
    let labels: String = common
        .iter()
        .chain(labels)
        .map(|(field, value)| format!("        backstay.notes.{field}: {value}\n"))
        .collect();
    let text = format!(
        "version: '3.8'\nservices:\n  keeper:\n    image: {}\n    command: [sh, -c, '{command} && sleep 600']\n    \
         volumes: ['data:/keep']\n    secrets: [rclone]\n    stop_grace_period: 1s\n    deploy:\n      \
         placement: {{constraints: [node.role == manager]}}\n      labels:\n{labels}\
         volumes: {{data: {{}}}}\nsecrets: {{rclone: {{file: {}}}}}\n",
        image::MONGO,
        config.display(),
    );
    Stack::deploy_text(swarm, name, &text)
}

/// A command in the container of the stack's service.
fn in_keeper(swarm: &Swarm, stack: &str, command: &str) -> String {
    let name = format!("label=com.docker.swarm.service.name={stack}_keeper");
    let container = swarm.docker(["ps", "--quiet", "--filter", &name]);
    swarm.docker(["exec", container.lines().next().unwrap(), "sh", "-c", command])
}

#[test]
fn a_person_sees_runs_and_restores_with_what_the_page_says() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8081);
    let folder = swarm.manager().mnt().join("page");
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("rclone.conf");
    fs::write(&config, remote.config()).unwrap();
    let _stack = deploy(swarm, "page", "echo text > /keep/note", &config, &[]);
    until("the policy is accepted", || status(swarm, "page/notes", "backstay.ready") == "True");
    assert!(backstay(swarm, &["status", "page/notes"]).contains("page/notes"));
    assert!(backstay(swarm, &["run", "page/notes", "--wait"]).contains("stored"));
    assert!(!status(swarm, "page/notes", "backstay.last-success").is_empty());

    // What needs the remote's secret is done by a task that has it.
    assert!(
        backstay(swarm, &["doctor", "page/notes"]).contains("controller: service backstay_controller runs")
    );
    assert!(backstay(swarm, &["verify", "page/notes"]).contains("nothing is missing or damaged"));
    assert!(backstay(swarm, &["prune", "page/notes", "--dry-run"]).contains("keeps notes-"));
    let listed = backstay(swarm, &["list", "notes"]);
    let snapshot = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    backstay(swarm, &["hold", snapshot]);
    assert!(backstay(swarm, &["list", "notes"]).contains("held"));
    let mirrored = "{{index .Spec.Labels \"backstay-status.notes.last-run\"}}";
    until("the service tells how the run ended", || {
        swarm.docker(["service", "inspect", "--format", mirrored, "page_keeper"]).ends_with("Succeeded")
    });

    // Back into the volume that the policy reads, by a task on the node that has it.
    in_keeper(swarm, "page", "echo by mistake > /keep/note");
    let plan = backstay(swarm, &["restore", "page/notes", "--dry-run"]);
    assert!(plan.contains("page_data") && plan.contains("update 1"), "{plan}");
    backstay(swarm, &["restore", "page/notes", "--confirm=page"]);
    assert_eq!(in_keeper(swarm, "page", "cat /keep/note"), "text");

    // Another stack is filled from it before its first backup.
    let filled = [("restoreFrom.instance", "page")];
    let _other = deploy(swarm, "pages", "true", &config, &filled);
    until("the other policy is declared", || !status(swarm, "pages/notes", "backstay.ready").is_empty());
    backstay(swarm, &["wait", "pages/notes", "--for", "Bootstrapped", "--timeout", "120"]);
    assert_eq!(in_keeper(swarm, "pages", "cat /keep/note"), "text");
    assert!(backstay(swarm, &["run", "pages/notes", "--wait"]).contains("stored"));

    let place = ["restore", "--from", "box:WT/page", "--rclone-config", "/mnt/page/rclone.conf"];
    let target = ["--volume", "data=/mnt/page/back"];
    let run = ["run", "--rm", "--volume", "/mnt:/mnt", image::BACKSTAY];
    let plan = swarm.docker(run.into_iter().chain(place).chain(target).chain(["--dry-run"]));
    assert!(plan.contains("into a new directory"), "{plan}");
    swarm.docker(run.into_iter().chain(place).chain(target));
    assert_eq!(fs::read_to_string(folder.join("back/note")).unwrap(), "text\n");
}
