//! `backstay task` on real parts: a replica set and a difficult tree through rclone, and back by hand.

use crate::support::{
    Scratch, children,
    mongo::Mongo,
    remote::{NAME, Remote},
    tools, tree,
};
use ::mongodb::{
    Client,
    bson::{Document, doc},
};
use backstay::{
    domain::{
        location::{Location, RcloneConfig},
        names::{Slot, SnapshotName},
        policy::{
            Guards, MemberPreference, MongoConnection, MongoUri, Mongodb, OplogMode, Source, Volume,
            VolumePlace,
        },
        retention::Retention,
        snapshot::Consistency,
        verdict::Verdict,
    },
    plan::task_spec::{BackupWork, FinishWork, TASK_SPEC_VERSION, TaskReport, TaskSpec, Work},
};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A place for the tasks of one policy.
pub struct Site {
    scratch: Scratch,
    pub remote: Remote,
    pub slot: Slot,
}

impl Site {
    pub fn new() -> Self {
        let slot = Slot::scheduled(Timestamp::from_second(1_795_572_000).unwrap());
        Self { scratch: Scratch::new("commit"), remote: Remote::new(), slot }
    }

    pub fn spec(&self, work: Work) -> TaskSpec {
        TaskSpec {
            version: TASK_SPEC_VERSION,
            policy: "nightly".parse().unwrap(),
            instance: "production".parse().unwrap(),
            destination: Location {
                remote: NAME.parse().unwrap(),
                path: "my backups/WT".parse().unwrap(),
                config: RcloneConfig::Directory(self.remote.config().parent().unwrap().to_owned()),
                bandwidth_limit: None,
                transfers: 2,
                part_size_mib: 1,
            },
            site: "9f3a".to_owned(),
            take_over: false,
            known_place: false,
            not_after: "2999-01-01T00:00:00Z".parse().unwrap(),
            memory_mib: 64,
            work,
        }
    }

    pub fn backup(&self, sources: Vec<Source>) -> TaskSpec {
        let required = sources.iter().map(Source::name).collect();
        let finish = FinishWork {
            slot: self.slot,
            required,
            optional: vec![],
            retention: Retention::default(),
            run_deadline_seconds: 3600,
            keep: vec![],
            keep_files: None,
        };
        self.spec(Work::Backup(BackupWork {
            slot: self.slot,
            attempt: 1,
            sources,
            guards: Guards { minimum_source_percent: 50 },
            last_good: vec![],
            accept_shrink: false,
            finish: Some(finish),
        }))
    }

    fn command(&self, spec: &TaskSpec) -> Command {
        let file = self.scratch.file("spec.json", serde_json::to_vec(spec).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(["task", "--spec"]).arg(file).arg("--report").arg(self.scratch.join("report.json"));
        command.env("PATH", tools::path_variable()).stdin(Stdio::null());
        command
    }

    /// Does a task to its end.
    pub fn task(&self, spec: &TaskSpec) -> (TaskReport, Output) {
        let output = self.command(spec).output().unwrap();
        (self.report(), output)
    }

    fn report(&self) -> TaskReport {
        serde_json::from_slice(&fs::read(self.scratch.join("report.json")).unwrap()).unwrap()
    }

    fn snapshot(&self) -> SnapshotName {
        SnapshotName::new("nightly".parse().unwrap(), self.slot)
    }

    /// Runs commands of a person in `folder`, who has the pinned tools and the remote's configuration.
    fn by_hand(&self, folder: &Path, script: &str) {
        let output = Command::new("bash")
            .args(["-c", script])
            .current_dir(folder)
            .env("PATH", tools::path_variable())
            .env("RCLONE_CONFIG", self.remote.config())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{errors}");
    }
}

pub fn volume(name: &str, path: &Path) -> Source {
    Source::Volume(Volume {
        name: name.parse().unwrap(),
        place: VolumePlace::HostPath(path.to_owned()),
        include: vec![],
        exclude: vec![],
        optional: false,
        allow_empty: false,
        node_selector: BTreeMap::new(),
        one_file_system: true,
    })
}

fn database(mongo: &Mongo) -> Source {
    Source::Mongodb(Mongodb {
        connection: MongoConnection {
            uri: MongoUri::Plain(mongo.uri()),
            username: None,
            password: None,
            tls_ca: None,
            tls_certificate: None,
        },
        include: vec![],
        exclude: vec![],
        oplog: OplogMode::Auto,
        member: MemberPreference::PreferSecondary,
        parallel_collections: 4,
    })
}

async fn fill(client: &Client) {
    for name in ["file", "item", "odd name.%x"] {
        let documents: Vec<Document> = (0..500)
            .map(|n| doc! {"_id": n, "name": format!("{name} {n}"), "pad": "x".repeat(200)})
            .collect();
        let collection = client.database("girder").collection::<Document>(name);
        collection.insert_many(documents).await.unwrap();
        let index = ::mongodb::IndexModel::builder().keys(doc! {"name": 1}).build();
        collection.create_index(index).await.unwrap();
    }
    let user = doc! {"createUser": "girder", "pwd": "secret", "roles": ["readWrite"]};
    client.database("girder").run_command(user).await.unwrap();
}

/// Hash and indexes of every collection, and the users.
async fn contents(client: &Client) -> BTreeMap<String, String> {
    let girder = client.database("girder");
    let hashes = girder.run_command(doc! {"dbHash": 1}).await.unwrap();
    let mut contents: BTreeMap<_, _> = hashes
        .get_document("collections")
        .unwrap()
        .iter()
        .map(|(name, hash)| (name.clone(), hash.to_string()))
        .collect();
    for name in girder.list_collection_names().await.unwrap() {
        let indexes = girder.collection::<Document>(&name).list_index_names().await.unwrap();
        contents.insert(format!("indexes of {name}"), indexes.join(" "));
    }
    let users = client.database("girder").run_command(doc! {"usersInfo": 1}).await.unwrap();
    let names: Vec<_> = users.get_array("users").unwrap().iter().map(|u| u.as_document().unwrap()).collect();
    contents.insert(
        "users".to_owned(),
        format!("{:?}", names.iter().map(|u| u.get_str("user")).collect::<Vec<_>>()),
    );
    contents
}

/// The commands of a `RESTORE.txt`: lines that begin with four spaces.
fn commands(text: &str) -> String {
    text.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_backed_up_by_a_task_and_restored_by_hand() {
    let site = Site::new();
    let homes = site.scratch.folder("homes");
    tree::difficult_tree(&homes);
    fs::write(homes.join("large"), tree::noise(1, 5_000_000)).unwrap();
    let mongo = Mongo::replica_set(1).await;
    fill(&mongo.client().await).await;

    let spec = site.backup(vec![database(&mongo), volume("homes", &homes)]);
    let (report, output) = site.task(&spec);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &report.failure), (Some(0), &None), "{log}");
    let summary = report.snapshot.unwrap();
    assert_eq!(summary.name, site.snapshot());
    assert_eq!(summary.sources[0].consistency, Consistency::PointInTime, "{:?}", report.warnings);
    assert!(summary.sources[0].documents >= 1500 && summary.stored_bytes() > 5_000_000, "{summary:?}");
    assert!(output.stdout.starts_with(b"{\"phase\":"), "progress");

    let text = fs::read_to_string(site.remote.object("RESTORE.txt")).unwrap();
    let hand = site.scratch.folder("hand");
    let target = Mongo::replica_set(1).await;
    site.scratch.file("hand/mongodb.yaml", format!("uri: {}&retryWrites=true\n", target.uri()));
    site.by_hand(&hand, &commands(&text));
    tree::assert_same(&tree::digest(&homes), &tree::digest(&hand.join("restored/homes")));
    assert_eq!(contents(&target.client().await).await, contents(&mongo.client().await).await);

    // The instance moved, and the remote has another name: only R changes.
    let moved = site.remote.root().join("elsewhere");
    fs::rename(site.remote.root().join("my backups/WT/production"), &moved).unwrap();
    let conf = fs::read_to_string(site.remote.config()).unwrap();
    site.remote.configure(&conf.replace("[box]", "[new]"));
    let steps = commands(&text).replace("R='box:my backups/WT/production'", "R=new:elsewhere");
    let again = site.scratch.folder("again");
    site.by_hand(&again, &lines(&steps, |line| !line.contains("mongorestore")));
    tree::assert_same(&tree::digest(&homes), &tree::digest(&again.join("restored/homes")));

    // The optional check names the part that is damaged.
    let sums = stand_in_for_b3sum(&site);
    let part = site.remote.object(".tar.zst.00002");
    let mut bytes = fs::read(&part).unwrap();
    bytes[1000] ^= 1;
    fs::write(&part, bytes).unwrap();
    let check = lines(&steps, |line| !line.contains("zstd -dc"))
        .replace("# ", "")
        .replace("damaged: $o\"", "$o\" > damaged");
    site.by_hand(&again, &format!("PATH={}:$PATH\n{check}", sums.display()));
    let name = part.file_name().unwrap().to_str().unwrap();
    assert_eq!(fs::read_to_string(again.join("damaged")).unwrap(), format!("{name}\n"));
}

fn lines(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| wanted(line)).map(|line| format!("{line}\n")).collect()
}

/// b3sum is not among the pinned tools: this one knows the BLAKE3 of every object that is stored now.
fn stand_in_for_b3sum(site: &Site) -> PathBuf {
    let folder = site.scratch.folder("sums");
    let mut table = String::new();
    for path in site.remote.objects() {
        let content = fs::read(site.remote.root().join(path)).unwrap();
        let known_by = HEXLOWER.encode(&Sha256::digest(&content));
        table.push_str(&format!("{known_by} {}\n", blake3::hash(&content).to_hex()));
    }
    fs::write(folder.join("table"), table).unwrap();
    let script = format!(
        "#!/bin/sh\nawk -v s=\"$(sha256sum | cut -c1-64)\" '$1 == s {{print $2}}' {}/table\n",
        folder.display()
    );
    let program = folder.join("b3sum");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_task_that_is_told_to_end_never_ends_well_and_leaves_no_process() {
    let site = Site::new();
    let homes = site.scratch.folder("homes");
    fs::write(homes.join("file"), "text").unwrap();
    // A new claim is ten seconds old before anything is committed: time enough.
    let mut child =
        site.command(&site.backup(vec![volume("homes", &homes)])).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !site.remote.objects().iter().any(|path| path.ends_with("source.json")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", site.remote.objects());
        std::thread::sleep(Duration::from_millis(50));
    }
    let started = children::descendants(child.id());
    assert!(!started.is_empty(), "rclone runs");
    children::signal_pid(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(11));
    let report = site.report();
    assert_eq!(
        (report.verdict, report.failure.unwrap().reason.as_str()),
        (Verdict::Temporary, "Interrupted")
    );
    assert!(!site.remote.objects().iter().any(|path| path.contains("manifest")));
    std::thread::sleep(Duration::from_millis(200));
    let left: Vec<_> = started.iter().filter_map(|pid| children::name(*pid)).collect();
    assert_eq!(left, Vec::<String>::new());

    // The next attempt finds what this one stored.
    let (report, output) = site.task(&site.backup(vec![volume("homes", &homes)]));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.snapshot.unwrap().complete);
    let records = site.remote.objects().iter().filter(|path| path.ends_with("source.json")).count();
    assert_eq!(records, 1);
}

#[test]
fn bad_surroundings_are_told_with_the_verdict_as_exit_code() {
    let site = Site::new();
    let gone = site.scratch.join("gone");
    let preflight = |path: &Path| site.spec(Work::Preflight { sources: vec![volume("homes", path)] });
    let (report, output) = site.task(&preflight(&gone));
    assert_eq!(output.status.code(), Some(12), "{report:?}");
    assert!(report.failure.unwrap().message.contains("does not exist"));

    let mut unknown = preflight(&site.scratch);
    unknown.destination.remote = "drive".parse().unwrap();
    let (report, output) = site.task(&unknown);
    assert_eq!(output.status.code(), Some(10), "{report:?}");
    assert!(report.failure.unwrap().message.contains("drive"));

    let (report, output) = site.task(&preflight(&site.scratch));
    assert_eq!((output.status.code(), report.failure), (Some(0), None));
    assert!(site.remote.objects().iter().all(|path| path.contains("owner-")), "{:?}", site.remote.objects());

    let mut command = site.command(&preflight(&site.scratch));
    site.scratch.file("spec.json", "{");
    assert_eq!(command.status().unwrap().code(), Some(10));
    assert_eq!(site.report().failure.unwrap().reason, "SpecUnreadable");
}
