//! On a real Docker Swarm.

mod bed;
mod journey;
mod measure;
mod page;
mod secrets;
mod states;
mod witness;

use crate::support::swarm::{self, Stack, Swarm, image};
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
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(180) {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("{what}: not within three minutes{}", said_by_the_controller());
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

/// A label of the config with a policy's status; empty where there is none yet.
fn status(swarm: &Swarm, policy: &str, label: &str) -> String {
    let of = format!("label=backstay.policy={policy}");
    let listed =
        swarm.docker(["config", "ls", "--quiet", "--filter", "label=backstay.kind=status", "--filter", &of]);
    let Some(id) = listed.lines().next() else { return String::new() };
    swarm.docker(["config", "inspect", "--format", &format!("{{{{index .Spec.Labels \"{label}\"}}}}"), id])
}
