//! Services that carry policies belong to their users: nobody else changes them, whatever is done to them while a run is
//! under way and after it.

use super::{
    states::{backstay, known, said},
    until, with_controller,
};
use crate::support::{
    Scratch,
    remote::NAME,
    swarm::{Stack, Swarm, image, remote::Served},
};
use std::{path::Path, process::Output, thread};

/// A service `web` of two tasks that carries a policy, in version `word`; and another one where `more` is.
fn text(word: &str, limit: &str, more: bool, config: &Path) -> String {
    let extra =
        format!("  extra:\n    image: {}\n    init: true\n    command: [sleep, '100000']\n", image::MONGO);
    format!(
        "version: '3.8'\nservices:\n  web:\n    image: {}\n    init: true\n    command: [sleep, '100000']\n    \
         environment: {{WORD: {word}}}\n    volumes: ['data:/data']\n    secrets: [rclone]\n    deploy:\n      replicas: 2\n      \
         endpoint_mode: dnsrr\n      placement: {{constraints: [node.role == manager]}}\n      \
         update_config: {{parallelism: 1, delay: 500ms, monitor: 500ms, failure_action: pause}}\n      \
         rollback_config: {{parallelism: 1, monitor: 500ms}}\n      labels:\n        \
         backstay.files.volumes.data.volumeName: data\n        backstay.files.destination.remote: {NAME}\n        \
         backstay.files.destination.path: CALM\n        backstay.files.destination.bandwidthLimit: {limit}\n        \
         backstay.files.destination.configFrom.secretKeyRef.name: rclone\n{}volumes: {{data: {{}}}}\n\
         secrets: {{rclone: {{file: {}}}}}\n",
        image::MONGO,
        if more { extra.as_str() } else { "" },
        config.display(),
    )
}

/// A deployed stack and its remote.
struct Calm<'a> {
    swarm: &'a Swarm,
    name: &'static str,
    scratch: Scratch,
    _remote: Served,
    _stack: Stack<'a>,
}

impl<'a> Calm<'a> {
    fn new(swarm: &'a Swarm, name: &'static str, port: u16, limit: &str) -> Self {
        let (remote, scratch) = (Served::new(swarm, port), Scratch::new("calm"));
        let config = scratch.file("rclone.conf", remote.config());
        let stack = Stack::deploy_text(swarm, name, &text("one", limit, true, &config));
        let calm = Self { swarm, name, scratch, _remote: remote, _stack: stack };
        known(swarm, &calm.policy());
        until("both tasks run", || calm.tasks().len() == 2);
        calm
    }

    fn policy(&self) -> String {
        format!("{}/files", self.name)
    }

    fn web(&self) -> String {
        format!("{}_web", self.name)
    }

    /// All that Docker knows of the service, its version and the state of its update included.
    fn inspect(&self) -> String {
        self.swarm.docker(["service", "inspect", &self.web()])
    }

    fn told(&self, format: &str) -> String {
        self.swarm.docker(["service", "inspect", "--format", format, &self.web()])
    }

    fn update_state(&self) -> String {
        self.told("{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")
    }

    fn word(&self) -> String {
        self.told("{{join .Spec.TaskTemplate.ContainerSpec.Env \" \"}}")
    }

    /// The tasks that run.
    fn tasks(&self) -> Vec<String> {
        let format = "{{.ID}} {{.CurrentState}}";
        let ps = ["service", "ps", "--filter", "desired-state=running", "--format", format, &self.web()];
        let listed = self.swarm.docker(ps);
        let running =
            listed.lines().filter_map(|line| line.split_once(" Running").map(|(id, _)| id.to_owned()));
        let mut running: Vec<String> = running.collect();
        running.sort();
        running
    }

    fn write(&self, bytes: u32) {
        let of = format!("label=com.docker.swarm.service.name={}", self.web());
        let containers = self.swarm.docker(["ps", "--quiet", "--filter", &of]);
        let fill = format!("head -c {bytes} /dev/urandom > /data/data");
        self.swarm.docker(["exec", containers.lines().next().unwrap(), "sh", "-c", &fill]);
    }

    fn run(&self) -> Output {
        backstay(self.swarm, &["run", &self.policy(), "--wait"])
    }

    /// The container of the run's task, while it is there.
    fn task(&self) -> String {
        let policy = format!("label=backstay.policy={}", self.policy());
        self.swarm.docker(["ps", "--quiet", "--filter", "label=backstay.step=backup", "--filter", &policy])
    }

    fn deploy(&self, word: &str, limit: &str, more: bool, prune: &[&str]) {
        let file =
            self.scratch.file("again.yaml", text(word, limit, more, &self.scratch.join("rclone.conf")));
        let deploy = ["stack", "deploy", "--resolve-image", "never"].into_iter().chain(prune.iter().copied());
        self.swarm.docker(deploy.chain(["--compose-file", file.to_str().unwrap(), self.name]));
    }

    /// A change by the user is over; what is then stays.
    #[track_caller]
    fn settled(&self, state: &str) -> String {
        until(&format!("the update is {state}"), || self.update_state() == state);
        until("both tasks run", || self.tasks().len() == 2);
        self.inspect()
    }
}

/// Deployed anew, pruned, updated and rolled back while a run goes on: each is the user's alone, and the run ends well.
#[test]
#[ignore = "a minute and more: make e2e-swarm"]
fn what_users_do_to_a_service_during_a_run_is_done_to_it_alone() {
    let Some(swarm) = with_controller() else { return };
    let limit = "64k";
    let calm = Calm::new(swarm, "calm", 8092, limit);
    calm.write(300_000);
    let before = calm.inspect();
    let (run, after) = thread::scope(|scope| {
        let run = scope.spawn(|| calm.run());
        until("the task runs", || !calm.task().is_empty());
        // It stands still meanwhile, so that all of it is during the run.
        let task = calm.task();
        swarm.manager().pause(&task);
        assert_eq!(calm.inspect(), before);

        calm.deploy("one", limit, false, &["--prune"]);
        let extra = ["service", "ls", "--quiet", "--filter", "name=calm_extra"];
        until("the service that is no more is gone", || swarm.docker(extra).is_empty());
        calm.deploy("two", limit, false, &[]);
        calm.settled("completed");
        assert_eq!(calm.word(), "WORD=two");
        swarm.docker(["service", "rollback", "--detach", "calm_web"]);
        let after = calm.settled("rollback_completed");
        assert_eq!(calm.word(), "WORD=one");
        swarm.docker(["unpause", &task]);
        (run.join().unwrap(), after)
    });
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    assert_eq!(calm.inspect(), after);
    // What the user had before is still what a rollback goes back to.
    swarm.docker(["service", "rollback", "--detach", "calm_web"]);
    until("it is rolled back", || calm.word() == "WORD=two");
}

/// A rollout that failed and is paused stays so over a whole run: what is left of the service is not replaced.
#[test]
#[ignore = "a minute and more: make e2e-swarm"]
fn a_rollout_that_is_paused_stays_paused() {
    let Some(swarm) = with_controller() else { return };
    let calm = Calm::new(swarm, "paused", 8093, "1M");
    calm.write(1000);
    // The failure of the first task is seen before the second one would be replaced, on a busy machine as well.
    let watched = ["--update-monitor", "30s", "--update-delay", "5m", "--args", "false", "paused_web"];
    swarm.docker(["service", "update", "--detach"].into_iter().chain(watched));
    until("the update is paused", || calm.update_state() == "paused");
    let (before, healthy) = (calm.inspect(), calm.tasks());
    let run = calm.run();
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    assert_eq!(calm.inspect(), before);
    assert!(healthy.iter().any(|task| calm.tasks().contains(task)), "{healthy:?} {:?}", calm.tasks());
}
