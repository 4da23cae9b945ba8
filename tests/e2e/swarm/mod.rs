//! On a real Docker Swarm.

mod bed;
mod controller;
mod cut;
mod journey;
mod measure;
mod own;
mod page;
mod removed;
mod secrets;
mod states;
mod undisturbed;
mod witness;

use crate::support::swarm::{self, Stack, Swarm, image, node::Node};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// The swarm of all tests that only deploy and look, with one controller for all of them.
fn with_controller() -> Option<&'static Swarm> {
    static CONTROLLER: OnceLock<Option<Stack<'static>>> = OnceLock::new();
    let deploy = || {
        let swarm = swarm::shared()?;
        Some(Stack::deploy(swarm, "backstay", &stack_file("backstay"), &[]))
    };
    CONTROLLER.get_or_init(deploy).as_ref().map(|stack| stack.swarm)
}

/// A stack file of the repository.
fn stack_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("swarm").join(name).with_extension("yaml")
}

/// Waits until something holds, for three minutes at most: a slot comes every minute.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    assert!(
        within(Duration::from_secs(180), holds),
        "{what}: not within three minutes{}",
        said_by_the_controller()
    );
}

/// Waits until something holds; false when it does not in this time.
fn within(time: Duration, holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > time {
            return false;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn said_by_the_controller() -> String {
    let Some(swarm) = swarm::shared() else { return String::new() };
    let logs =
        swarm.manager().command(["service", "logs", "--raw", "--tail", "60", "backstay_controller"]).output();
    let text = logs.map(|logs| [logs.stdout, logs.stderr].concat()).unwrap_or_default();
    format!("; the controller said:\n{}", String::from_utf8_lossy(&text))
}

/// The program as a person runs it: beside the controller, with nothing but Docker's socket.
fn backstay(swarm: &Swarm, arguments: &[&str]) -> String {
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    let run = ["run", "--rm", "--network", "none", "--volume", socket, image::BACKSTAY];
    swarm.docker(run.into_iter().chain(arguments.iter().copied()))
}

/// The objects of a kind that are left of a policy, by their ids.
fn left(swarm: &Swarm, what: &str, kind: &str, policy: &str) -> String {
    let (kind, policy) = (format!("label=backstay.kind={kind}"), format!("label=backstay.policy={policy}"));
    swarm.docker([what, "ls", "--quiet", "--filter", &kind, "--filter", &policy])
}

/// A label of the config with a policy's status; empty where there is none yet.
fn status(swarm: &Swarm, policy: &str, label: &str) -> String {
    status_on(swarm.manager(), policy, label).unwrap()
}

/// As [`status`], on any manager; what it said where it cannot tell.
fn status_on(manager: &Node, policy: &str, label: &str) -> Result<String, String> {
    let of = format!("label=backstay.policy={policy}");
    let listed = manager.ask([
        "config",
        "ls",
        "--quiet",
        "--filter",
        "label=backstay.kind=status",
        "--filter",
        &of,
    ])?;
    let Some(id) = listed.lines().next() else { return Ok(String::new()) };
    manager.ask(["config", "inspect", "--format", &format!("{{{{index .Spec.Labels \"{label}\"}}}}"), id])
}
