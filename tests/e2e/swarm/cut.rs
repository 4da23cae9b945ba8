//! A worker that is cut off while it runs a task, and comes back: nothing that it does late makes a bad backup look good
//! or a good one disappear.

use super::{
    own::{self, NEVER, Own},
    stack_file,
    states::{backstay, known, said},
    status, within,
};
use crate::support::{
    Scratch,
    remote::NAME,
    swarm::{self, Plan, Stack, Swarm, image, mongo, node::Node, remote::Served},
    tree,
};
use mongodb::bson::{Document, doc};
use std::{collections::BTreeMap, path::Path, thread, time::Duration};

fn with_a_worker() -> Option<Own> {
    Own::start(Plan { workers: 1, ..Plan::default() })
}

const MUCH: usize = 600_000;

/// Objects of snapshots that were good before are there, bit for bit.
#[track_caller]
fn nothing_is_gone(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) {
    let gone: Vec<_> = before.iter().filter(|(path, bytes)| after.get(*path) != Some(bytes)).collect();
    let names: Vec<_> = gone.iter().map(|(path, _)| path).collect();
    assert!(names.is_empty(), "gone or changed: {names:#?}");
}

/// Cut off for long enough to be noticed, and healed: the node stops the task, the attempt says why, the next one is good.
#[test]
#[ignore = "two minutes: make e2e-swarm"]
fn a_task_of_a_worker_that_is_cut_off_is_given_up_and_the_next_is_good() {
    let Some(own) = with_a_worker() else { return };
    let worker = own.swarm.storage();
    let _stack = own.controller();
    own.declare(NEVER, "16k", "  task: {retries: 1}\n");
    own.fill(20_000);
    own.run();
    let good = own.objects();
    own.fill(MUCH);
    let run = own.run_while(|| {
        let (node, _) = own.task();
        assert_eq!(node.name(), worker.name());
        own.swarm.cut(worker);
        own.until("it is told that the node does not answer", || own.status().contains("does not answer"));
        assert_eq!(own.snapshots().len(), 1);
        own.swarm.heal(worker);
    });
    assert_eq!(run.status.code(), Some(0), "{}{}", said(&run), own.told());
    assert!(said(&run).contains("the node was cut off for more than ten seconds"), "{}", said(&run));
    assert_eq!(own.snapshots().len(), 2);
    nothing_is_gone(&good, &own.objects());
    own.verify();
}

/// The managers lose a worker that goes on to reach the remote: its task ends well alone, and is believed once it is back.
#[test]
#[ignore = "a minute: make e2e-swarm"]
fn a_task_that_ends_while_its_node_is_lost_is_not_made_again() {
    let Some(own) = with_a_worker() else { return };
    let worker = own.swarm.storage();
    let _stack = own.controller();
    own.declare(NEVER, "16k", "");
    own.fill(MUCH);
    let services = own.services_while(|| {
        let run = own.run_while(|| {
            own.task();
            own.swarm.part(own.swarm.manager(), worker);
            own.until("the node is away", || own.status().contains("does not answer"));
            own.until("the task has ended alone", || own.containers("backstay.step=backup").is_empty());
            assert_eq!(own.snapshots().len(), 1, "it has committed");
            assert!(own.history().is_empty(), "nobody knows yet");
            own.swarm.rejoin(own.swarm.manager(), worker);
        });
        assert_eq!(run.status.code(), Some(0), "{}{}", said(&run), own.told());
    });
    own.ran_once(&services);
    own.verify();
}

/// A database and two policies of it, whose tasks may run on any node.
fn database(config: &Path) -> String {
    let mut text = format!(
        "version: '3.8'\nservices:\n  mongo:\n    image: {}\n    command: [mongod, --bind_ip_all, --wiredTigerCacheSizeGB, '0.25']\n    \
         networks: [data]\n    secrets: [rclone]\n    stop_grace_period: 1s\n    deploy:\n      endpoint_mode: dnsrr\n      \
         placement: {{constraints: [node.labels.mongo == 3]}}\n      labels:\n",
        image::MONGO
    );
    for policy in TWINS {
        let fields = [
            ("mongodb.uri", "mongodb://mongo/"),
            ("destination.remote", NAME),
            ("destination.path", policy),
            ("destination.configFrom.secretKeyRef.name", "rclone"),
            ("destination.bandwidthLimit", "64k"),
        ];
        for (field, value) in fields {
            text.push_str(&format!("        backstay.{policy}.{field}: '{value}'\n"));
        }
    }
    text + &format!(
        "networks: {{data: {{driver: overlay}}}}\nsecrets:\n  rclone: {{file: {}}}\n",
        config.display()
    )
}

/// The policies: of one the lost attempt goes on while the next is under way, of the other when that one is done.
const TWINS: [&str; 2] = ["early", "late"];

/// A manager, a worker on which the tasks begin, and another one with the database.
struct Twins {
    swarm: Swarm,
    remote: Served,
}

impl Twins {
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        // A node is given up after five minutes.
        let held = within(Duration::from_secs(480), holds);
        assert!(held, "{what}: not within eight minutes: {}", self.log());
    }

    /// The records of a policy's runs.
    fn record(&self, policy: &str) -> String {
        let of_policy = format!("label=backstay.policy=twins/{policy}");
        let runs = ["config", "ls", "--quiet", "--filter", "label=backstay.kind=run", "--filter", &of_policy];
        let ids = self.swarm.docker(runs);
        let format = ["config", "inspect", "--format", "{{json .Spec.Labels}}"];
        self.swarm.docker(format.into_iter().chain(ids.lines()))
    }

    /// What the controller said.
    fn log(&self) -> String {
        let log = self.swarm.manager().ask(["service", "logs", "--raw", "backstay_controller"]);
        log.unwrap_or_else(|error| error)
    }

    fn last_run(&self, policy: &str) -> String {
        status(&self.swarm, &format!("twins/{policy}"), "backstay.last-run")
    }

    /// Nodes that take new tasks; what runs elsewhere goes on.
    fn only(&self, takes: impl Fn(&Node) -> bool) {
        for node in self.swarm.nodes() {
            let availability = if takes(node) { "active" } else { "pause" };
            self.swarm.docker(["node", "update", "--availability", availability, &node.name()]);
        }
    }

    fn task(&self, node: &Node, policy: &str, attempt: &str) -> Option<String> {
        let (policy, attempt) =
            (format!("label=backstay.policy=twins/{policy}"), format!("label=backstay.attempt={attempt}"));
        let ps = [
            "ps",
            "--quiet",
            "--filter",
            "label=backstay.step=backup",
            "--filter",
            &policy,
            "--filter",
            &attempt,
        ];
        node.docker(ps).lines().next().map(str::to_owned)
    }

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        own::objects(&self.remote)
    }

    fn run_both(&self) {
        thread::scope(|scope| {
            let runs = TWINS.map(|policy| {
                scope.spawn(move || backstay(&self.swarm, &["run", &format!("twins/{policy}"), "--wait"]))
            });
            for run in runs.map(|run| run.join().unwrap()) {
                assert_eq!(run.status.code(), Some(0), "{}", said(&run));
            }
        });
    }
}

/// Two attempts of one run at once, since the node of the first is lost to the managers and not to the remote. Whoever
/// is done first has made the snapshot; the other one adds nothing and takes nothing away.
#[test]
#[ignore = "eight minutes: make e2e-swarm"]
fn a_lost_attempt_that_goes_on_harms_nothing() {
    let Some(swarm) = swarm::start_or_say(Plan::default()) else { return };
    swarm.load_images();
    let remote = Served::new(&swarm, 8091);
    let twins = Twins { swarm, remote };
    let (swarm, remote) = (&twins.swarm, &twins.remote);
    let [manager, lost, _] = swarm.nodes() else { panic!("three nodes") };
    let _controller = Stack::deploy(swarm, "backstay", &stack_file("backstay"), &[]);
    let scratch = Scratch::new("secret");
    let config = scratch.file("rclone.conf", remote.config());
    let _stack = Stack::deploy_text(swarm, "twins", &database(&config));
    mongo::on(swarm, "twins_mongo", async |client| {
        let text = |n: u64| data_encoding::BASE64.encode(&tree::noise(n, 12_000));
        let tales: Vec<Document> = (0..40).map(|n| doc! {"_id": n, "text": text(n as u64)}).collect();
        client.database("girder").collection("tales").insert_many(tales).await.unwrap();
    });
    TWINS.iter().for_each(|policy| known(swarm, &format!("twins/{policy}")));
    twins.run_both();
    let good = twins.objects();
    let first = TWINS.map(|policy| twins.last_run(policy));

    twins.only(|node| node.number() == lost.number());
    for policy in TWINS {
        let asked = backstay(swarm, &["run", &format!("twins/{policy}")]);
        assert!(asked.status.success(), "{}", said(&asked));
    }
    let tasks = TWINS.map(|policy| {
        twins.until("the task dumps", || {
            twins.task(lost, policy, "1").is_some_and(|id| lost.docker(["logs", &id]).contains("dumping"))
        });
        twins.task(lost, policy, "1").expect("it is slow")
    });
    twins.only(|_| true);
    swarm.part(manager, lost);
    tasks.iter().for_each(|task| lost.pause(task));
    let begun = twins.objects();
    let elsewhere = |policy| swarm.nodes().iter().any(|node| twins.task(node, policy, "2").is_some());
    twins.until("the next attempt of early runs", || elsewhere("early"));
    lost.docker(["unpause", &tasks[0]]);
    for (policy, first) in TWINS.iter().zip(&first) {
        twins.until("its run is over", || twins.last_run(policy) != *first);
        let told = || said(&backstay(swarm, &["logs", &format!("twins/{policy}")]));
        let run = || twins.record(policy);
        assert!(twins.last_run(policy).contains("Succeeded"), "{}{}{}", told(), run(), twins.log());
    }
    twins.until("the early one is at its end", || twins.task(lost, "early", "1").is_none());
    // What the late one had begun to store is still its own.
    let is_settled = |path: &String| good.contains_key(path) || !begun.contains_key(path);
    let mut done = twins.objects();
    done.retain(|path, _| is_settled(path));
    nothing_is_gone(&good, &done);
    assert_eq!(own::snapshots(&done).len(), 4);

    lost.docker(["unpause", &tasks[1]]);
    twins.until("the late one is at its end", || twins.task(lost, "late", "1").is_none());
    nothing_is_gone(&done, &twins.objects());
    TWINS.iter().for_each(|policy| own::verify(remote, policy, &format!("{policy}/twins")));
    swarm.rejoin(manager, lost);
    twins.run_both();
    nothing_is_gone(&done, &twins.objects());
    TWINS.iter().for_each(|policy| own::verify(remote, policy, &format!("{policy}/twins")));
    assert_eq!(own::snapshots(&twins.objects()).len(), 6);
}
