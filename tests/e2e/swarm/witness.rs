//! Looks at all that Docker and the kernel show of Backstay's services, and remembers it.

use crate::support::swarm::{Swarm, node::Node};
use backstay::controller::clock::{Clock as _, SystemClock};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The service of the controller.
pub const CONTROLLER: &str = "backstay_controller";
/// The services of tasks, and their containers.
const OURS: &str = "label=backstay.kind=task";

/// All that was seen, by where.
#[derive(Debug, Default)]
pub struct Witness(Mutex<BTreeMap<&'static str, BTreeSet<String>>>);

impl Witness {
    /// Remembers a text.
    pub fn note(&self, place: &'static str, text: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default().insert(text.into());
    }

    /// Fails unless `place` has shown the text: a place that shows nothing proves nothing.
    #[track_caller]
    pub fn must_have_seen(&self, place: &str, text: &str) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<&String> = seen.get(place).into_iter().flatten().collect();
        let some = &texts[texts.len().saturating_sub(20)..];
        assert!(texts.iter().any(|shown| shown.contains(text)), "{place} never showed {text:?}: {some:#?}");
    }

    /// Fails when one of these was shown anywhere.
    #[track_caller]
    pub fn must_not_have_seen(&self, marks: &[&str]) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut leaks = Vec::new();
        for (place, text) in
            seen.iter().flat_map(|(place, texts)| texts.iter().map(move |text| (place, text)))
        {
            for mark in marks {
                leaks.extend(text.find(mark).map(|at| format!("{place}: {}", around(text, at))));
            }
        }
        assert!(leaks.is_empty(), "secrets were shown:\n{}", leaks.join("\n"));
    }

    /// Looks until `done`; what lives shortest is looked at most.
    pub fn watch(&self, swarm: &Swarm, done: &AtomicBool) {
        thread::scope(|scope| {
            for node in swarm.nodes() {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        self.processes(&node.proc());
                        thread::sleep(Duration::from_millis(50));
                    }
                });
            }
            let now = || SystemClock.now().to_string();
            let mut since = now();
            loop {
                let (is_last, until) = (done.load(Ordering::Relaxed), now());
                self.objects(swarm);
                for node in swarm.nodes() {
                    self.containers(node);
                    let events = ["events", "--since", &since, "--until", &until, "--format", "{{json .}}"];
                    said(node, &events).lines().for_each(|event| self.note("events", event));
                }
                since = until;
                if is_last {
                    return;
                }
            }
        });
    }

    fn processes(&self, proc: &Path) {
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            for (place, file) in [("arguments", "cmdline"), ("environment", "environ")] {
                // What has ended meanwhile shows nothing.
                let shown = fs::read(entry.path().join(file)).unwrap_or_default();
                if !shown.is_empty() {
                    self.note(place, String::from_utf8_lossy(&shown).replace('\0', " "));
                }
            }
        }
    }

    /// Services, their tasks and their logs.
    fn objects(&self, swarm: &Swarm) {
        let manager = swarm.manager();
        let services = said(manager, &["service", "ls", "--quiet", "--filter", OURS]);
        for service in services.lines().chain([CONTROLLER]) {
            self.note("services", said(manager, &["service", "inspect", service]));
            self.log(swarm, service);
            for task in said(manager, &["service", "ps", "--quiet", "--no-trunc", service]).lines() {
                self.note("tasks", said(manager, &["inspect", "--type", "task", task]));
            }
        }
    }

    /// What a service said.
    pub fn log(&self, swarm: &Swarm, service: &str) -> String {
        let log = said(swarm.manager(), &["service", "logs", "--raw", "--tail", "1000", service]);
        log.lines().for_each(|line| self.note("logs of services", line));
        log
    }

    fn containers(&self, node: &Node) {
        let controller = format!("label=com.docker.swarm.service.name={CONTROLLER}");
        for filter in [OURS, &controller] {
            for container in said(node, &["ps", "--all", "--quiet", "--filter", filter]).lines() {
                self.note("containers", said(node, &["inspect", container]));
            }
        }
    }

    /// All configs, with what they hold.
    pub fn configs(&self, swarm: &Swarm) {
        for config in said(swarm.manager(), &["config", "ls", "--quiet"]).lines() {
            self.note("configs", said(swarm.manager(), &["config", "inspect", "--pretty", config]));
        }
    }

    /// All files below a folder.
    pub fn files(&self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                self.files(&entry.path());
            } else {
                self.note("remote", String::from_utf8_lossy(&fs::read(entry.path()).unwrap()));
            }
        }
    }
}

/// What docker says; what is gone meanwhile is part of that.
fn said(node: &Node, arguments: &[&str]) -> String {
    let output = node.command(arguments.iter().copied()).output().expect("docker starts");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn around(text: &str, at: usize) -> &str {
    let from = (at.saturating_sub(80)..=at).find(|from| text.is_char_boundary(*from)).unwrap_or(at);
    let end = (at + 80..text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    &text[from..end]
}
