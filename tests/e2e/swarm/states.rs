//! What becomes of a task, and what people are told about it, through the command line on a manager.

use super::{own, until, with_controller};
use crate::support::{
    Scratch,
    swarm::{Stack, Swarm, image, node::Node, remote::Served},
};
use std::{
    fs,
    process::{Command, Output},
};

const STACK: &str = "states";

/// A verb on the first manager, whose engine it finds by the environment.
pub(super) fn backstay(swarm: &Swarm, arguments: &[&str]) -> Output {
    backstay_on(swarm.manager(), arguments)
}

/// A verb on any manager.
pub(super) fn backstay_on(manager: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", "170", env!("CARGO_BIN_EXE_backstay")]).args(arguments);
    command.env("DOCKER_HOST", format!("unix://{}", manager.socket().display()));
    command.env("BACKSTAY_ORCHESTRATOR", "swarm").output().unwrap()
}

/// Waits for a controller, and for the policy to be declared.
#[track_caller]
pub(super) fn known(swarm: &Swarm, policy: &str) {
    until(&format!("{policy} is known"), || {
        let status = said(&backstay(swarm, &["status", policy]));
        let is_there = status.contains(policy) && !status.contains("there is no policy");
        is_there && !status.contains("no controller runs")
    });
}

pub(super) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A service that carries a policy; its volume is where it runs, on the manager, and nowhere else.
pub(super) fn carrier(policy: &str, labels: &[(&str, &str)]) -> String {
    let mut text = format!(
        "  {policy}:\n    image: {}\n    command: [sleep, '100000']\n    stop_grace_period: 1s\n    secrets: [rclone]\n    \
         volumes: ['only:/only']\n    deploy:\n      endpoint_mode: dnsrr\n      placement: {{constraints: [node.role == manager]}}\n      labels:\n",
        image::MONGO
    );
    let common = [
        ("destination.remote", crate::support::remote::NAME),
        ("destination.path", "STATES"),
        ("destination.configFrom.secretKeyRef.name", "rclone"),
        ("task.retries", "0"),
    ];
    for (field, value) in common.iter().chain(labels) {
        text.push_str(&format!("        backstay.{policy}.{field}: '{value}'\n"));
    }
    text
}

pub(super) fn deploy<'a>(
    swarm: &'a Swarm,
    name: &str,
    config: &str,
    carriers: &[String],
) -> (Stack<'a>, Scratch) {
    let scratch = Scratch::new("secret");
    let secret = scratch.file("rclone.conf", config);
    let text = format!(
        "version: '3.8'\nservices:\n{}volumes: {{only: {{}}}}\nsecrets:\n  rclone: {{file: {}}}\n",
        carriers.concat(),
        secret.display()
    );
    (Stack::deploy_text(swarm, name, &text), scratch)
}

/// Every way in which a source can be missing is a failure with its own words, and nothing is ever backed up as empty.
#[test]
fn a_source_that_is_missing_is_told_by_what_it_is() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8083);
    let storage = swarm.storage();
    fs::create_dir_all(storage.mnt().join("homes")).unwrap();
    let bare =
        swarm.nodes().iter().find(|node| !node.mnt().join("homes").exists()).expect("a node without homes");
    let (on_storage, on_bare) = (storage.name(), bare.name());
    let host = |node: &'static str| ("volumes.d.nodeSelector.node.hostname", node);
    let (on_storage, on_bare): (&'static str, &'static str) = (on_storage.leak(), on_bare.leak());
    let kept = bare.mnt().join("backstay/kept");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("note"), "text").unwrap();
    let optional = [
        ("volumes.kept.hostPath", "/mnt/backstay/kept"),
        ("volumes.kept.nodeSelector.node.hostname", on_bare),
        ("volumes.d.hostPath", "/mnt/homes"),
        ("volumes.d.optional", "true"),
        host(on_bare),
    ];
    let carriers = [
        carrier("optional", &optional),
        carrier("volume", &[("volumes.d.volumeName", "only"), host(on_storage)]),
        carrier("path", &[("volumes.d.hostPath", "/mnt/homes/nowhere"), host(on_storage)]),
        carrier("root", &[("volumes.d.hostPath", "/mnt/homes"), host(on_bare)]),
        carrier("label", &[("volumes.d.hostPath", "/mnt/homes"), ("volumes.d.nodeSelector.storage", "9")]),
        carrier("power", &[("volumes.d.hostPath", "/etc"), host(on_storage)]),
        carrier("typo", &[("destinaton.path", "x"), ("volumes.d.volumeName", "only")]),
    ];
    let (_stack, _secret) = deploy(swarm, STACK, &remote.config(), &carriers);
    let table = [
        ("optional", "/mnt/homes does not exist"),
        ("volume", "Docker makes a volume that is missing on a node, empty"),
        ("path", "volume d: /mnt/homes/nowhere does not exist"),
        ("root", &*format!("node {on_bare} has no /mnt/homes")),
        ("label", "no node has storage=9"),
        ("power", "--allow-path /etc"),
        ("typo", "did you mean destination?"),
    ];
    for (policy, expected) in table {
        let name = format!("{STACK}/{policy}");
        known(swarm, &name);
        let run = backstay(swarm, &["run", &name, "--wait"]);
        // What may be missing is only told.
        let code = if policy == "optional" { 0 } else { 1 };
        assert_eq!(run.status.code(), Some(code), "{}", said(&run));
        assert!(said(&run).contains(expected), "{name}: nothing says {expected:?}:\n{}", said(&run));
    }
    let made = own::snapshots(&own::objects(&remote));
    assert!(made.len() == 1 && made[0].starts_with("optional-"), "{made:?}");
}

/// A task that is killed is told with its node and why that may be; the next run is good, and the stack can be removed.
#[test]
fn a_task_that_is_killed_is_told_and_the_next_run_is_good() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8082);
    let slow = [("volumes.d.volumeName", "only"), ("destination.bandwidthLimit", "64k")];
    let (_stack, _secret) = deploy(swarm, "killed", &remote.config(), &[carrier("slow", &slow)]);
    let manager = swarm.manager();
    let name = "killed/slow";
    known(swarm, name);
    let container =
        || manager.docker(["ps", "--quiet", "--filter", "label=com.docker.swarm.service.name=killed_slow"]);
    until("the service runs", || !container().is_empty());
    let fill = "head -c 600000 /dev/urandom > /only/data";
    manager.docker(["exec", container().lines().next().unwrap(), "sh", "-c", fill]);

    let explained = said(&backstay(swarm, &["explain", name, "--orchestrator", "swarm"]));
    assert!(explained.contains("volume killed_only") && explained.contains("Next"), "{explained}");

    let killed = std::thread::scope(|scope| {
        let run = scope.spawn(|| backstay(swarm, &["run", name, "--wait"]));
        let of_task = [
            "ps",
            "--quiet",
            "--filter",
            "label=backstay.step=backup",
            "--filter",
            "label=backstay.policy=killed/slow",
        ];
        until("the task runs", || !manager.docker(of_task).is_empty());
        manager.docker(["kill", &manager.docker(of_task)]);
        run.join().unwrap()
    });
    assert_eq!(killed.status.code(), Some(1), "{}", said(&killed));
    assert!(said(&killed).contains("exit code 137"), "{}", said(&killed));

    let good = backstay(swarm, &["run", name, "--wait"]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    let listed = said(&backstay(swarm, &["list", "slow", "--rclone-config", "/nowhere"]));
    assert_eq!(listed.matches("complete").count(), 1, "{listed}");

    let sum = ["sh", "-c", "md5sum < /only/data"];
    let in_service = |words: &[&str]| {
        let at = container();
        manager.docker(["exec", at.lines().next().unwrap()].into_iter().chain(words.iter().copied()))
    };
    let stored = in_service(&sum);
    in_service(&["rm", "/only/data"]);
    let errands = || super::left(swarm, "service", "errand", name);
    stop_a_restore(manager, name);
    assert_eq!(errands(), "", "the task's service is removed");
    let held = said(&backstay(swarm, &["run", name]));
    assert!(held.contains("did not finish") && held.contains("--forget"), "{held}");
    let again = backstay(swarm, &["restore", name, "--confirm=killed"]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(in_service(&sum), stored);
    let good = backstay(swarm, &["run", name, "--wait"]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
}

/// Presses Ctrl-C in the middle of a restore, which is the first process of a container, as the page has people start it.
#[track_caller]
fn stop_a_restore(manager: &Node, policy: &str) {
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    let run = ["run", "--rm", "--name", "stopped", "--network", "none", "--volume", socket, image::BACKSTAY];
    let restore = ["restore", policy, "--confirm=killed"];
    let stopped = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| manager.command(run.into_iter().chain(restore)).output().unwrap());
        let of_task = ["ps", "--quiet", "--filter", "label=backstay.step=restore-1"];
        let works = || {
            let task = manager.docker(of_task);
            !task.is_empty() && manager.ask(["logs", &task]).is_ok_and(|log| log.contains("restoring"))
        };
        until("the restore's task works", works);
        manager.docker(["kill", "--signal", "INT", "stopped"]);
        restoring.join().unwrap()
    });
    assert_eq!(stopped.status.code(), Some(130), "{}", said(&stopped));
    let all = said(&stopped);
    assert!(all.contains("stopped by a signal; a part may be restored already"), "{all}");
    assert!(all.contains("backstay restore killed/slow --forget"), "{all}");
}
