//! A swarm of a test's own, whose nodes may be cut off and whose controllers killed. A config declares its one policy, of a
//! folder on the node with the label storage=1; so Backstay's image is all that the nodes need.

use super::{
    stack_file,
    states::{backstay_on, said},
    status_on, within,
};
use crate::{
    site::Site,
    support::{
        Scratch,
        remote::{NAME, Remote},
        swarm::{self, Plan, Stack, Swarm, node::Node, remote::Served},
        tree,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Output,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// The policy.
pub const POLICY: &str = "own/homes";
/// The place of the backups.
const PLACE: &str = "OWN/own";
/// Longest wait for a fact: a node or a leader that is lost is noticed within half a minute, and a slot comes every minute.
const PATIENCE: Duration = Duration::from_secs(240);
/// A schedule that is out of the way.
pub const NEVER: &str = "0 0 29 2 *";
/// A schedule with a slot whenever a test needs one.
pub const MINUTELY: &str = "* * * * *";

/// The swarm and its remote.
#[derive(Debug)]
pub struct Own {
    pub swarm: Swarm,
    pub remote: Served,
    declared: AtomicUsize,
}

/// A slot, or a run by hand, with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub slot: String,
    pub outcome: String,
    pub reason: String,
}

impl Own {
    /// `None` where no swarm can be had.
    pub fn start(plan: Plan) -> Option<Self> {
        let swarm = swarm::start_or_say(plan)?;
        swarm.load_backstay();
        let remote = Served::new(&swarm, 8090);
        for node in swarm.nodes() {
            fs::create_dir_all(node.mnt().join("backstay")).unwrap();
            fs::write(node.mnt().join("backstay/rclone.conf"), remote.config()).unwrap();
            fs::create_dir_all(node.mnt().join("homes")).unwrap();
        }
        let own = Self { swarm, remote, declared: AtomicUsize::new(0) };
        own.fill(1000);
        Some(own)
    }

    /// Deploys the controller, as people do.
    pub fn controller(&self) -> Stack<'_> {
        Stack::deploy(&self.swarm, "backstay", &stack_file("backstay"), &[])
    }

    /// As [`Own::controller`], onto one node; later it may go to others.
    pub fn controller_on(&self, node: &Node) -> Stack<'_> {
        let others = || self.swarm.nodes().iter().filter(|other| other.number() != node.number());
        let be = |other: &Node, what| {
            self.swarm.docker(["node", "update", "--availability", what, &other.name()]);
        };
        others().for_each(|other| be(other, "drain"));
        let stack = self.controller();
        self.until("the controller runs", || !self.controllers().is_empty());
        others().for_each(|other| be(other, "active"));
        stack
    }

    /// Writes the folder anew.
    pub fn fill(&self, bytes: usize) {
        let seed = self.declared.fetch_add(1, Ordering::Relaxed) as u64;
        fs::write(self.swarm.storage().mnt().join("homes/data"), tree::noise(seed, bytes)).unwrap();
    }

    /// Declares the policy, or declares it anew, and waits until it is accepted as it is now.
    #[track_caller]
    pub fn declare(&self, schedule: &str, limit: &str, more: &str) {
        self.create(schedule, limit, more);
        self.until("the policy is accepted", || {
            let wait = ["wait", POLICY, "--for", "CredentialsValid", "--timeout", "20"];
            self.backstay(&wait).status.success()
        });
    }

    /// Makes the config that declares it.
    pub fn create(&self, schedule: &str, limit: &str, more: &str) {
        let text = format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: homes}}\nspec:\n  schedule: '{schedule}'\n  \
             volumes: [{{name: homes, hostPath: /mnt/homes, nodeSelector: {{storage: '1'}}}}]\n  \
             destination: {{remote: {NAME}, path: OWN, configFrom: {{file: /mnt/backstay/rclone.conf}}, bandwidthLimit: '{limit}'}}\n{more}"
        );
        let scratch = Scratch::new("policy");
        let file = scratch.file("policy.yaml", text);
        let name = format!("homes-{}", self.declared.fetch_add(1, Ordering::Relaxed));
        let labels = ["--label", "backstay.policy=homes", "--label", "backstay.instance=own"];
        let make = ["config", "create"].into_iter().chain(labels).chain([&*name, file.to_str().unwrap()]);
        self.swarm.docker(make);
    }

    /// A verb on the first manager.
    pub fn backstay(&self, arguments: &[&str]) -> Output {
        backstay_on(self.swarm.manager(), arguments)
    }

    /// Does something while `backstay run --wait` is under way, and gives the run's end.
    pub fn run_while(&self, act: impl FnOnce()) -> Output {
        thread::scope(|scope| {
            let run = scope.spawn(|| self.backstay(&["run", POLICY, "--wait"]));
            act();
            run.join().unwrap()
        })
    }

    /// A run that has to be good.
    #[track_caller]
    pub fn run(&self) {
        let run = self.run_while(|| {});
        assert_eq!(run.status.code(), Some(0), "{}{}", said(&run), self.told());
    }

    /// The containers with a label that run, also those that stand still, on every node whose engine answers.
    pub fn containers(&self, label: &str) -> Vec<(&Node, String)> {
        let filter = format!("label={label}");
        let on = |node: &'_ Node| {
            let listed = node.ask(["ps", "--quiet", "--no-trunc", "--filter", &filter]).unwrap_or_default();
            listed.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        self.swarm.nodes().iter().flat_map(|node| on(node).into_iter().map(move |id| (node, id))).collect()
    }

    /// The containers of the controller's service.
    pub fn controllers(&self) -> Vec<(&Node, String)> {
        self.containers("com.docker.swarm.service.name=backstay_controller")
    }

    /// Does something while the task of a run stands still: all of it is during the run, however long it takes.
    pub fn meanwhile(&self, act: impl FnOnce(&Node)) {
        let (node, task) = self.task();
        node.pause(&task);
        act(node);
        assert!(self.runs_on(node, &task), "the task is gone{}", self.told());
        node.docker(["unpause", &task]);
    }

    /// The container of the task that makes the backup, once it runs.
    #[track_caller]
    pub fn task(&self) -> (&Node, String) {
        self.until("a task runs", || !self.containers("backstay.step=backup").is_empty());
        self.containers("backstay.step=backup").into_iter().next().expect("it is slow, so it runs")
    }

    /// True while a container runs on a node.
    pub fn runs_on(&self, node: &Node, container: &str) -> bool {
        node.ask(["ps", "--quiet", "--no-trunc"]).is_ok_and(|all| all.lines().any(|id| id == container))
    }

    /// What became of the slots, newest first, as the status tells it on a manager that answers.
    pub fn history(&self) -> Vec<Told> {
        let labels = self.swarm.nodes().iter().map(|node| status_on(node, POLICY, "backstay.status"));
        let text = labels.flatten().find(|text| !text.is_empty()).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let history = status["history"].as_array().map_or(&[][..], Vec::as_slice);
        let field = |told: &serde_json::Value, name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let told = |told| Told {
            slot: field(told, "slot"),
            outcome: field(told, "outcome"),
            reason: field(told, "reason"),
        };
        history.iter().map(told).collect()
    }

    /// What the status says at once: a message, what is waited for.
    pub fn status(&self) -> String {
        status_on(self.swarm.manager(), POLICY, "backstay.status").unwrap_or_default()
    }

    /// Every object on the remote.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        objects(&self.remote)
    }

    /// The snapshots on the remote, oldest first.
    pub fn snapshots(&self) -> Vec<String> {
        snapshots(&self.objects())
    }

    /// Every snapshot can be opened and is what was backed up.
    #[track_caller]
    pub fn verify(&self) {
        verify(&self.remote, "homes", PLACE);
    }

    /// The services of the backups' tasks that there are while something is done, by name and identity.
    pub fn services_while(&self, act: impl FnOnce()) -> BTreeSet<(String, String)> {
        services_while(&self.swarm, act)
    }

    /// Each run that had a service had one, of a first attempt.
    #[track_caller]
    pub fn ran_once(&self, services: &BTreeSet<(String, String)>) {
        let names: BTreeSet<&String> = services.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), services.len(), "a task was made twice: {services:?}{}", self.told());
        assert!(names.iter().all(|name| name.contains("-backup-1-")), "{services:?}{}", self.told());
    }

    /// Waits for a fact.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        assert!(within(PATIENCE, holds), "{what}: not within {PATIENCE:?}{}", self.told());
    }

    /// Waits until the history holds a slot that was good and is newer than `after`.
    #[track_caller]
    pub fn until_good_after(&self, after: &str) {
        self.until(&format!("a good slot after {after}"), || {
            self.history().iter().any(|told| told.outcome == "Succeeded" && *told.slot > *after)
        });
    }

    /// What a person would look at after a failure.
    pub fn told(&self) -> String {
        let nodes = self.swarm.nodes();
        let asked = |arguments: &[&str]| {
            let of = |node: &Node| node.ask(arguments.iter().copied());
            nodes.iter().map(of).find(Result::is_ok).unwrap_or_else(|| of(&nodes[0]))
        };
        let parts = [
            asked(&["node", "ls"]),
            asked(&["service", "ls"]),
            asked(&["service", "ps", "--no-trunc", "backstay_controller"]),
            asked(&["service", "logs", "--raw", "--tail", "60", "backstay_controller"]),
        ];
        let parts: Vec<String> = parts.into_iter().map(|part| part.unwrap_or_else(|error| error)).collect();
        let seen = said(&self.backstay(&["status", POLICY, "-o", "yaml"]));
        format!("\n{}\n{seen}\n{:#?}\n{:?}", parts.join("\n"), self.history(), self.snapshots())
    }
}

/// Every object on a remote, with what it holds.
pub fn objects(remote: &Served) -> BTreeMap<String, Vec<u8>> {
    let read = |path: String| Some((path.clone(), fs::read(remote.root().join(&path)).ok()?));
    Remote::at(remote.root()).objects().into_iter().filter_map(read).collect()
}

/// The snapshots among the objects of a remote, oldest first.
pub fn snapshots(objects: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let named = |path: &String| path.strip_suffix("/manifest.json")?.rsplit('/').next().map(str::to_owned);
    objects.keys().filter_map(named).collect()
}

/// Opens every snapshot of a policy at a place: all that it holds is what was backed up.
#[track_caller]
pub fn verify(remote: &Served, policy: &str, place: &str) {
    let (alone, from) = (Site::on(Remote::at(remote.root())), format!("{NAME}:{place}"));
    let of_policy = format!("{policy}-");
    for snapshot in snapshots(&objects(remote)).iter().filter(|name| name.starts_with(&of_policy)) {
        alone.backstay(["verify", "--from", &from, "--as-of", snapshot, "--level", "open"]).ok();
    }
}

/// See [`Own::services_while`].
pub fn services_while(swarm: &Swarm, act: impl FnOnce()) -> BTreeSet<(String, String)> {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    let list = ["service", "ls", "--filter", "label=backstay.step=backup", "--format", "{{.Name}} {{.ID}}"];
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let listed = swarm.nodes().iter().find_map(|node| node.ask(list).ok()).unwrap_or_default();
                let pairs = listed.lines().filter_map(|line| line.split_once(' '));
                seen.extend(pairs.map(|(name, id)| (name.to_owned(), id.to_owned())));
                thread::sleep(Duration::from_millis(500));
            }
            seen
        });
        let until_here = Over(&over);
        act();
        drop(until_here);
        watch.join().unwrap()
    })
}
