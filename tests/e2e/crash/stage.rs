//! A site with a database and files, whose runs take long enough to be disturbed, and what it knows of itself.

use super::{
    cases::{Case, Kind, Point, Whom},
    count::Came,
};
use crate::{
    data,
    site::{INSTANCE, PATH, Site},
    support::{
        Scratch,
        children::{self, Kept},
        mongo::{Mongo, Plan},
        proxy::Proxy,
        remote::{self, Remote},
        small::Small,
        tools, tree,
    },
};
use mongodb::bson::{Binary, doc, spec::BinarySubtype};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// MiB of a remote that can be full: what the runs of all points that share a stage leave, and some.
const SMALL: u32 = 192;
/// The one policy.
pub const POLICY: &str = "nightly";
/// How often to look whether a moment has come.
pub const LOOK: Duration = Duration::from_millis(4);
/// No run takes longer, with the deadline of its task and what comes before and after.
const PATIENCE: Duration = Duration::from_secs(150);

/// A database's collections, as [`data::read`] gives them.
pub type Documents = BTreeMap<String, String>;

/// A site and what is needed to disturb and to judge it.
pub struct Stage {
    pub site: Site,
    pub mongo: Mongo,
    pub target: Mongo,
    pub network: Option<Network>,
    _small: Option<Small>,
    pub files: tree::Digest,
    pub documents: Documents,
    /// What the database that changes may look like in a snapshot.
    pub busy: RefCell<Vec<Documents>>,
    pub usual: Usual,
    /// Every object of the snapshots that are good, by path, with its hash.
    pub kept: BTreeMap<String, String>,
    /// The slots that were judged.
    pub slots: BTreeSet<String>,
    pub runtime: Handle,
}

/// What an undisturbed run looks like.
#[derive(Debug, Default)]
pub struct Usual {
    pub length: Duration,
    /// How long each process lives.
    lives: Vec<(Whom, Duration)>,
}

impl Usual {
    /// How long it lives, from its appearance on; the run itself, for whom is always there.
    pub fn life(&self, whom: Whom) -> Duration {
        self.lives.iter().find(|(who, _)| *who == whom).map_or(self.length, |(_, life)| *life)
    }
}

/// A WebDAV server that keeps objects in the remote's folder, and the proxy in front of it.
#[derive(Debug)]
pub struct Network {
    pub proxy: Proxy,
    _server: Kept,
    /// Requests and uploads of an undisturbed run.
    pub usual: [usize; 2],
}

impl Stage {
    /// Sets it up, with a first good snapshot.
    pub fn set(kind: Kind, runtime: Handle) -> Self {
        let plan = Plan {
            members: if kind == Kind::Pair { 2 } else { 1 },
            oplog_mib: if matches!(kind, Kind::SmallOplog | Kind::Insists) { 16 } else { 0 },
            ..Plan::default()
        };
        let small = (kind == Kind::Small).then(|| Small::new(SMALL).expect("only root may mount"));
        let remote = small.as_ref().map_or_else(Remote::new, |small| Remote::at(small.path()));
        let network = (kind == Kind::Network).then(|| Network::before(&remote));
        let (mongo, target) =
            runtime.block_on(async { (Mongo::start(plan).await, Mongo::standalone().await) });
        let mut site = Site::on(remote);
        let homes = site.folder("homes");
        fill(&homes);
        let files = tree::digest(&homes);
        let documents = runtime.block_on(fill_database(&mongo));
        site.policy_text(POLICY, &policy(&site, &mongo, &homes, kind));
        site.start_controller();
        let mut stage = Self {
            site,
            mongo,
            target,
            network,
            _small: small,
            files,
            documents,
            busy: RefCell::new(vec![Documents::new()]),
            usual: Usual::default(),
            kept: BTreeMap::new(),
            slots: BTreeSet::new(),
            runtime,
        };
        // The look at remote and sources that a new policy begins with.
        stage.settle();
        stage.run_well();
        stage
    }

    /// One point: a run, what is done to it, and the judgement.
    pub fn play(&mut self, case: &Case, point: Point) -> Came {
        self.prepare(case.deed);
        let hit = std::thread::scope(|scope| {
            // Without --wait, so that it also ends when there is no controller.
            let asking = scope.spawn(|| self.site.backstay(["run", POLICY]));
            let hit = self.inflict(case.deed, point);
            asking.join().unwrap();
            hit
        });
        self.heal(case.deed);
        let succeeded = self.judge(case, hit);
        Came { hit, succeeded }
    }

    /// A run that must succeed; what it looks like is the measure for the next one that is disturbed.
    pub fn run_well(&mut self) {
        // Two runs by hand in one second would have one name.
        sleep(Duration::from_millis(1100));
        if let Some(network) = &self.network {
            network.proxy.heal();
        }
        let whom = [Whom::Task, Whom::Rclone, Whom::Mongodump];
        let mut seen: [Option<(Instant, Instant)>; 3] = [None; 3];
        let begin = Instant::now();
        let outcome = std::thread::scope(|scope| {
            let run = scope.spawn(|| self.site.run(POLICY));
            while !run.is_finished() {
                for (whom, seen) in whom.iter().zip(&mut seen) {
                    if self.find(*whom).is_some() {
                        let now = Instant::now();
                        *seen = Some((seen.map_or(now, |(first, _)| first), now));
                    }
                }
                sleep(LOOK * 5);
            }
            run.join().unwrap()
        });
        self.usual.length = begin.elapsed();
        outcome.ok();
        let lives = whom.iter().zip(seen).filter_map(|(whom, seen)| Some((*whom, seen?)));
        self.usual.lives = lives.map(|(whom, (first, last))| (whom, last - first)).collect();
        if let Some(network) = &mut self.network {
            network.usual = network.proxy.seen();
        }
        let slots = self.new_slots();
        let [slot] = slots.as_slice() else { panic!("one run was asked for, there are {slots:?}") };
        self.remember(&format!("{POLICY}-{slot}"));
        self.slots.insert(slot.clone());
    }

    /// The id of a process of the run that goes on, or of the controller.
    pub fn find(&self, whom: Whom) -> Option<u32> {
        let (name, word) = match whom {
            Whom::Controller => ("backstay", "controller"),
            Whom::Task => ("backstay", "--spec"),
            Whom::Mongodump => ("mongodump", "--archive"),
            Whom::Rclone => ("rclone", "rcd"),
            Whom::Mongod => return None,
        };
        let fits = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
        };
        self.site.processes(name).into_iter().find(fits)
    }

    /// Slots that were claimed and not judged.
    pub fn new_slots(&self) -> Vec<String> {
        let runs = fs::read_dir(self.site.join("state/runs")).unwrap().flatten();
        let slots = runs.flat_map(|policy| fs::read_dir(policy.path()).unwrap()).flatten();
        let names = slots.map(|slot| slot.file_name().into_string().unwrap());
        names.filter(|name| !self.slots.contains(name) && !name.starts_with('.')).collect()
    }

    /// Whether there is a new run, and it has ended.
    pub fn is_over(&self) -> bool {
        let slots = self.new_slots();
        let has_ended = |slot: &String| {
            let runs = fs::read_dir(self.site.join("state/runs")).unwrap().flatten();
            runs.map(|policy| policy.path().join(slot).join("state.json"))
                .filter_map(|file| serde_json::from_slice(&fs::read(file).ok()?).ok())
                .any(|state: serde_json::Value| !state["end"].is_null())
        };
        !slots.is_empty() && slots.iter().all(has_ended)
    }

    /// What the program says of the policy.
    pub fn status(&self) -> serde_json::Value {
        let outcome = self.site.backstay(["status", POLICY, "-o", "json"]);
        let mut all: serde_json::Value =
            serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
        all["policies"][0]["status"].take()
    }

    /// Waits until nothing is asked for, nothing is under way, and the status says so.
    pub fn settle(&self) {
        let begin = Instant::now();
        let asked = || fs::read_dir(self.site.join("state/requests")).unwrap().count() > 0;
        let said = || {
            let status = self.status();
            let names = |text: &str| self.new_slots().iter().all(|slot| text.contains(slot.as_str()));
            status["active"].is_null() && names(&status["history"].to_string())
        };
        while asked() || self.find(Whom::Task).is_some() || !said() {
            assert!(begin.elapsed() < PATIENCE, "nothing ends: {}", self.site.backstay(["status"]).stdout);
            sleep(Duration::from_millis(20));
        }
    }

    /// Where the objects of an instance lie, from the remote's root.
    pub fn objects(&self) -> impl Iterator<Item = String> {
        self.site.remote.objects().into_iter()
    }
}

impl Network {
    fn before(remote: &Remote) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = children::tied(tools::tool("rclone"));
        command.args(["serve", "webdav", "--addr", &format!("127.0.0.1:{port}")]);
        command.arg(remote.root()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = children::start(command);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            sleep(Duration::from_millis(10));
        }
        let proxy = Proxy::before(port);
        let url = format!("http://127.0.0.1:{}", proxy.port());
        remote.configure(&format!("[{}]\ntype = webdav\nurl = {url}\nvendor = other\n", remote::NAME));
        Self { proxy, _server: server, usual: [0; 2] }
    }
}

fn policy(site: &Site, mongo: &Mongo, homes: &Path, kind: Kind) -> String {
    // rclone's WebDAV server locks whole folders, and answers 423 to a second upload.
    let transfers = if kind == Kind::Network { 1 } else { 4 };
    let more = match kind {
        Kind::Pair => ", member: Primary",
        Kind::Insists => ", oplog: Required",
        _ => "",
    };
    format!(
        "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: {POLICY}}}\nspec:\n  instance: {INSTANCE}\n  \
         schedule: \"0 0 1 1 *\"\n  mongodb: {{uri: \"{}\"{more}}}\n  volumes: [{{name: homes, hostPath: {}}}]\n  \
         task: {{retries: 0, timeoutSeconds: 60}}\n  destination: {{remote: {}, path: {PATH}, partSizeMiB: 1, transfers: {transfers}, \
         bandwidthLimit: 8M, configFrom: {{file: {}}}}}\n",
        mongo.uri(),
        homes.display(),
        remote::NAME,
        site.remote.config().display(),
    )
}

/// Two thousand small files and a few that are not.
fn fill(homes: &Path) {
    for number in 0..2000_u64 {
        let folder = homes.join(format!("user-{:02}", number % 40));
        fs::create_dir_all(&folder).unwrap();
        let length = usize::try_from(number % 1000).unwrap();
        fs::write(folder.join(format!("file-{number:04}")), tree::noise(number, length)).unwrap();
    }
    for number in 0..3 {
        fs::write(homes.join(format!("large-{number}")), tree::noise(number + 9, 1 << 20)).unwrap();
    }
}

/// What a dump may lose, and documents enough for it to take a while.
async fn fill_database(mongo: &Mongo) -> Documents {
    let client = mongo.client().await;
    data::fill(&client, "girder").await;
    let noise = |number: u64| Binary { subtype: BinarySubtype::Generic, bytes: tree::noise(number, 1000) };
    let blobs: Vec<_> =
        (0..4000_u64).map(|n| doc! {"_id": i64::try_from(n).unwrap(), "bytes": noise(n)}).collect();
    client.database("girder").collection("blob").insert_many(blobs).await.unwrap();
    data::read(&client, "girder").await
}

/// A folder to restore into, gone afterwards.
pub fn scratch() -> Scratch {
    Scratch::new("restored")
}
