//! How soon the controller acts, and what it costs, with many policies: `make bench-swarm`. It prints numbers and writes
//! them to `target/bench/swarm.json`; nothing of it is judged but that it came to its end.
//!
//! The controller is a process of this host, so that its memory is its own; between it and the engine stands a socket that
//! counts. Everything else of the swarm, the tasks with it, runs on this machine as well.

use crate::support::{
    Scratch,
    children::{self, Kept},
    remote::NAME,
    swarm::{
        self, Plan, Stack, Swarm,
        counted::{Calls, Counted},
        image,
        remote::Served,
    },
};
use backstay::{
    controller::clock::{Clock as _, SystemClock},
    domain::names::Slot,
    orchestrators::swarm::{engine::Engine, names},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, time::Duration};

/// Services that carry the policies.
const CARRIERS: usize = 5;
/// Slots of the first part: so many policies have one in each of so many minutes that follow each other.
const GROUP: usize = 25;
const GROUPS: usize = 5;
/// The caps of the first part: a slot is to wait for nothing but the controller.
const NO_CAPS: [&str; 4] = ["--max-runs", "64", "--max-runs-per-remote", "64"];
const IDLE: SignedDuration = SignedDuration::from_secs(135);
/// Minutes of the slot that is everybody's.
const BUSY: usize = 4;

#[test]
#[ignore = "forty minutes: make bench-swarm"]
fn many_policies() {
    let Some(swarm) = swarm::start_or_say(Plan::default()) else { return };
    swarm.load_images();
    for node in swarm.nodes() {
        fs::create_dir(node.mnt().join("data")).unwrap();
        fs::write(node.mnt().join("data/note"), "text").unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let policies = std::env::var("BACKSTAY_BENCH_POLICIES").map_or(500, |n| n.parse().unwrap());
    let result = runtime.block_on(measure(&swarm, policies));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("swarm.json"), format!("{result:#}\n")).unwrap();
    println!("{result:#}");
}

async fn measure(swarm: &Swarm, policies: usize) -> Value {
    let remote = Served::new(swarm, 8080);
    let secrets = Scratch::new("secrets");
    let engine = Engine::at(&swarm.manager().socket()).unwrap();
    let counted = Counted::before(swarm.manager().socket());
    let times = Times::after(SystemClock.now(), policies);
    let secret = secrets.file("rclone.conf", remote.config());
    let _stack = Stack::deploy_text(swarm, "many", &stack(policies, &times, &secret));

    let first = Controller::start(&counted, &NO_CAPS);
    until_looked_at(&engine, policies, &times).await;
    let idle = first.during(&counted, tokio::time::sleep(IDLE.unsigned_abs())).await;
    println!("idle: {idle:#}");
    let mut made = Made::default();
    let end = times.first + SignedDuration::from_mins(GROUPS as i64);
    let slots = first.during(&counted, made.watch(&engine, end)).await;
    println!("slots: {slots:#}\n{:#}", made.summary());
    until_no_tasks(&engine, times.common - SignedDuration::from_secs(30)).await;
    drop(first);

    let second = Controller::start(&counted, &[]);
    wait_until(times.common).await;
    let (mut all, mut minutes) = (Made::default(), Vec::new());
    for minute in 1..=BUSY {
        let end = times.common + SignedDuration::from_mins(minute as i64);
        let mut busy = second.during(&counted, all.watch(&engine, end)).await;
        busy["runs ended so far"] = json!(ended(&engine, times.common).await);
        println!("common slot, minute {minute}: {busy:#}");
        minutes.push(busy);
    }
    json!({
        "policies": policies,
        "engine": swarm.docker(["version", "--format", "{{.Server.Version}}"]),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "slot to service, seconds": made.summary(),
        "idle": idle,
        "slots": slots,
        "common slot, minute by minute": minutes,
    })
}

/// When what is due.
struct Times {
    /// The first minute of the first part.
    first: Timestamp,
    /// The minute that is everybody's.
    common: Timestamp,
}

impl Times {
    /// Each policy is looked at once by a task of its own before, four of them at once.
    fn after(now: Timestamp, policies: usize) -> Self {
        let lead = 6 + policies as i64 * 17 / 600;
        let minute = now.as_second().div_euclid(60) + 1;
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        Self { first: at(minute + lead), common: at(minute + lead + GROUPS as i64 + 2) }
    }

    /// Two slots in the next hour, or one.
    fn schedule(&self, policy: usize) -> String {
        let minute = |at: Timestamp| at.to_zoned(TimeZone::UTC).minute();
        let common = minute(self.common);
        if policy >= GROUP * GROUPS {
            return format!("{common} * * * *");
        }
        let own = self.first + SignedDuration::from_mins((policy / GROUP) as i64);
        format!("{},{common} * * * *", minute(own))
    }
}

fn stack(policies: usize, times: &Times, secret: &Path) -> String {
    let mut text = "version: '3.8'\nservices:\n".to_owned();
    for carrier in 0..CARRIERS {
        text.push_str(&format!(
            "  carrier{carrier}:\n    image: {}\n    command: [sleep, '100000']\n    stop_grace_period: 1s\n    secrets: [rclone]\n    \
             deploy:\n      endpoint_mode: dnsrr\n      placement: {{constraints: [node.role == manager]}}\n      labels:\n",
            image::MONGO
        ));
        for policy in (carrier..policies).step_by(CARRIERS) {
            let node = format!("n{}", 2 + policy % 2);
            let fields = [
                ("schedule", times.schedule(policy)),
                ("volumes.d.hostPath", "/mnt/data".to_owned()),
                ("volumes.d.nodeSelector.node.hostname", node),
                ("destination.remote", NAME.to_owned()),
                ("destination.path", "MANY".to_owned()),
                ("destination.configFrom.secretKeyRef.name", "rclone".to_owned()),
            ];
            for (field, value) in fields {
                text.push_str(&format!("        backstay.p{policy:03}.{field}: '{value}'\n"));
            }
        }
    }
    text.push_str(&format!("secrets: {{rclone: {{file: {}}}}}\n", secret.display()));
    text
}

/// Waits until every policy's remote and sources were looked at, and nothing goes on any more.
async fn until_looked_at(engine: &Engine, policies: usize, times: &Times) {
    let begun = SystemClock.now();
    loop {
        let configs = engine.configs("backstay.kind=status").await.unwrap();
        let is_done = |text: Option<&str>| text.is_some_and(|text| text.contains("PreflightPassed"));
        let done = configs.iter().filter(|config| is_done(config.label("backstay.status"))).count();
        let now = SystemClock.now();
        println!("{done} of {policies} policies were looked at, {} s", now.duration_since(begun).as_secs());
        if done == policies {
            break;
        }
        assert!(now + IDLE < times.first, "too slow for the slots that were planned");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    until_no_tasks(engine, times.first).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let left = times.first.duration_since(SystemClock.now());
    assert!(left > IDLE, "too slow for the slots that were planned");
}

async fn until_no_tasks(engine: &Engine, limit: Timestamp) {
    while SystemClock.now() < limit && !engine.services(Some(names::ATTEMPT)).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn wait_until(time: Timestamp) {
    let left = time.duration_since(SystemClock.now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// Policies whose run of the slot is told in their status.
async fn ended(engine: &Engine, slot: Timestamp) -> usize {
    let slot = Slot::scheduled(slot).to_string();
    let configs = engine.configs("backstay.kind=status").await.unwrap();
    let tells = |text: Option<&str>| text.is_some_and(|text| text.starts_with(&slot));
    configs.iter().filter(|config| tells(config.label("backstay.last-run"))).count()
}

/// For each policy's slot, how long after it the service of its backup was made, seconds: both by the engine's clock.
#[derive(Default)]
struct Made(BTreeMap<(String, Slot), f64>);

impl Made {
    /// Looks often enough for a service to be seen before it is removed.
    async fn watch(&mut self, engine: &Engine, end: Timestamp) {
        while SystemClock.now() < end {
            for service in engine.services(Some(names::RUN)).await.unwrap() {
                let label = |name: &str| service.spec.labels.get(name).cloned().unwrap_or_default();
                let (policy, slot) = (label(names::POLICY), label(names::RUN).parse::<Slot>().unwrap());
                let late = service.created_at.unwrap().duration_since(slot.time()).as_secs_f64();
                let known = self.0.entry((policy, slot)).or_insert(late);
                *known = known.min(late);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    fn summary(&self) -> Value {
        let mut late: Vec<f64> = self.0.values().copied().collect();
        late.sort_by(f64::total_cmp);
        let at = |part: f64| late.get((part * (late.len().max(1) - 1) as f64).ceil() as usize);
        json!({"slots": late.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "most": late.last()})
    }
}

/// A controller of this host, with what it says in a file.
struct Controller {
    process: Kept,
    _scratch: Scratch,
}

impl Controller {
    fn start(counted: &Counted, caps: &[&str]) -> Self {
        let scratch = Scratch::new("controller");
        let log = fs::File::create(scratch.join("log")).unwrap();
        let mut command = children::tied(env!("CARGO_BIN_EXE_backstay"));
        command.args(["controller", "--orchestrator", "swarm", "--image", image::BACKSTAY]);
        command.args(["--allow-path", "/mnt/data"]).args(caps);
        command.env("DOCKER_HOST", format!("unix://{}", counted.socket().display()));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self { process: children::start(command), _scratch: scratch }
    }

    /// What it costs while something else is done.
    async fn during(&self, counted: &Counted, other: impl Future<Output = ()>) -> Value {
        let ((calls, bytes), cpu, begun) = (counted.so_far(), self.cpu(), SystemClock.now());
        other.await;
        let minutes = SystemClock.now().duration_since(begun).as_secs_f64() / 60.0;
        let (now, bytes_now) = counted.so_far();
        let per_minute = |n: f64| (n / minutes * 10.0).round() / 10.0;
        let new =
            |(kind, n): (&String, &u64)| (kind.clone(), n - calls.get(kind).copied().unwrap_or_default());
        let new: Calls = now.iter().map(new).filter(|(_, n)| *n > 0).collect();
        json!({
            "minutes": per_minute(minutes * minutes),
            "calls per minute": per_minute(new.values().sum::<u64>() as f64),
            "calls": new,
            "KiB answered per minute": per_minute((bytes_now - bytes) as f64 / 1024.0),
            "CPU ms per minute": per_minute(self.cpu() - cpu),
            "memory MiB": self.memory("VmRSS"),
            "of it its own MiB": self.memory("RssAnon"),
            "most so far MiB": self.memory("VmHWM"),
        })
    }

    /// A line of `/proc/PID/status`, MiB.
    fn memory(&self, field: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        let kib: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
        (kib / 102.4).round() / 10.0
    }

    /// Milliseconds so far: the kernel counts in hundredths of a second.
    fn cpu(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap();
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        [11, 12].map(|n| fields[n].parse::<f64>().unwrap()).iter().sum::<f64>() * 10.0
    }
}
