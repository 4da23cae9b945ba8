//! A volume goes to a real remote and comes back: the packer, rclone, and the way back, with a tree that is as difficult
//! as file systems allow.

use crate::support::{
    Scratch,
    remote::{self, Remote},
    tools,
    tree::{assert_same, difficult_tree, digest, noise},
};
use backstay::{
    domain::{
        names::{AttemptId, SnapshotName},
        policy::{Volume, VolumePlace},
    },
    storage::{
        document::{seal, seal_text},
        layout,
        manifest::{FORMAT, Manifest, SourceRecord},
        rclone::{Mode, Rclone, RcloneOptions},
        store::ObjectStore,
    },
    task::{
        context::{Meter, SourceContext},
        restore::files::{job::FilesOptions, report::FilesReport, run::FilesRestore},
        sources::volume,
    },
};
use bytes::Bytes;
use std::{fs, path::Path, process::Command, sync::Arc, time::Instant};

/// Everything is one machine's: a remote, a snapshot on it, and a way to it.
struct Site {
    remote: Remote,
    snapshot: SnapshotName,
}

impl Site {
    fn new() -> Self {
        Self { remote: Remote::new(), snapshot: "nightly-20261125T020000Z".parse().unwrap() }
    }

    async fn store(&self, mode: Mode) -> Arc<dyn ObjectStore> {
        let place = "WT/production".parse().unwrap();
        let mut options =
            RcloneOptions::new(self.remote.config(), remote::NAME.parse().unwrap(), place, mode);
        options.program = tools::tool("rclone");
        Arc::new(Rclone::start(options).await.unwrap())
    }

    async fn back_up(&self, tree: &Path, part_bytes: u64) -> SourceRecord {
        let context = SourceContext {
            store: self.store(Mode::Append).await,
            snapshot: self.snapshot.clone(),
            attempt: AttemptId::new(self.snapshot.slot().time(), 1),
            part_bytes,
            memory_bytes: 128 << 20,
            transfers: 2,
            meter: Arc::new(Meter::default()),
        };
        context.store.make_directory(&context.directory()).await.unwrap();
        let volume = Volume {
            name: "homes".parse().unwrap(),
            place: VolumePlace::HostPath(tree.to_owned()),
            include: vec![],
            exclude: vec![],
            optional: false,
            allow_empty: false,
            node_selector: Default::default(),
            one_file_system: true,
        };
        volume::store(&context, &volume).await.unwrap()
    }

    /// Writes the manifest, as the finish step does.
    async fn commit(&self, source: SourceRecord) {
        let (source, text) = seal(source);
        let store = self.store(Mode::Append).await;
        let directory = layout::directory(&self.snapshot);
        let put = async |name: String, text: Bytes| {
            store.put(&format!("{directory}/{name}"), vec![text]).await.unwrap();
        };
        put(source.prefix().source_record(0), text).await;
        put(layout::restore_text(0), seal_text("By hand\n".to_owned()).into()).await;
        let slot = self.snapshot.slot();
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            snapshot: self.snapshot.clone(),
            policy: self.snapshot.policy().clone(),
            instance: "production".parse().unwrap(),
            slot,
            committed_at: slot.time(),
            complete: true,
            missing: vec![],
            tool: "backstay".to_owned(),
            sources: vec![source],
            self_hash: String::new(),
        };
        put(layout::manifest(0), seal(manifest).1).await;
    }

    /// The program itself: exit code, and everything that it says.
    fn backstay(&self, arguments: &[&str]) -> (i32, String) {
        self.run(Command::new(env!("CARGO_BIN_EXE_backstay")), arguments)
    }

    /// The same by a command that the program's arguments are added to.
    fn run(&self, mut command: Command, arguments: &[&str]) -> (i32, String) {
        command.env("PATH", tools::path_variable()).arg(arguments[0]);
        command.args(["--from", "box:WT/production", "--rclone-config"]).arg(self.remote.config());
        let output = command.args(&arguments[1..]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    async fn restore(&self, source: &SourceRecord, target: &Path, options: FilesOptions) -> FilesReport {
        let restore = FilesRestore {
            store: self.store(Mode::Read).await,
            snapshot: self.snapshot.clone(),
            source: source.clone(),
            target: target.to_owned(),
            options,
            confirmed: false,
            memory_bytes: 128 << 20,
            meter: Arc::new(Meter::default()),
        };
        restore.run().await.unwrap()
    }
}

fn everything() -> FilesOptions {
    let mut options = FilesOptions::default();
    options.metadata.preserve_setuid = true;
    options.metadata.devices = true;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difficult_tree_comes_back_exactly() {
    let scratch = Scratch::new("restore");
    let tree = scratch.folder("tree");
    difficult_tree(&tree);
    let before = digest(&tree);
    for part_bytes in [1 << 20, 24 << 20] {
        let site = Site::new();
        let source = site.back_up(&tree, part_bytes).await;
        let target = scratch.join(format!("back-{part_bytes}"));
        let report = site.restore(&source, &target, everything()).await;
        assert!(report.is_whole() && report.unset == 0, "{report:#?}");
        assert_same(&before, &digest(&target));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_deeper_than_the_kernel_resolves_comes_back() {
    let scratch = Scratch::new("deep");
    let tree = scratch.folder("tree");
    let name = "d".repeat(255);
    // Made and compared from within, one directory at a time.
    let deepen = format!(
        "cd {} && for i in $(seq 20); do mkdir {name} && cd {name} || exit 1; done && echo deep > file",
        tree.display()
    );
    assert!(Command::new("bash").args(["-c", &deepen]).status().unwrap().success());
    let site = Site::new();
    let source = site.back_up(&tree, 1 << 20).await;
    let target = scratch.join("back");
    let report = site.restore(&source, &target, everything()).await;
    assert!(report.is_whole() && report.files == 1 && report.directories == 21, "{report:#?}");
    let look =
        format!("cd {} && for i in $(seq 20); do cd {name} || exit 1; done && cat file", target.display());
    let found = Command::new("bash").args(["-c", &look]).output().unwrap();
    assert_eq!(found.stdout, b"deep\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_path_costs_little() {
    let scratch = Scratch::new("part");
    let tree = scratch.folder("tree");
    for i in 0..20 {
        fs::create_dir(tree.join(format!("user{i:02}"))).unwrap();
        fs::write(tree.join(format!("user{i:02}/data")), noise(i, 2 << 20)).unwrap();
    }
    let site = Site::new();
    let source = site.back_up(&tree, 8 << 20).await;
    let target = scratch.join("back");
    let options = FilesOptions { include: vec!["user07".to_owned()], ..everything() };
    let report = site.restore(&source, &target, options).await;
    assert_eq!((report.files, report.directories, report.bytes), (1, 1, 2 << 20), "{report:#?}");
    assert_eq!(fs::read(target.join("user07/data")).unwrap(), noise(7, 2 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_plans_restores_refuses_and_verifies() {
    let scratch = Scratch::new("command");
    let tree = scratch.folder("tree");
    difficult_tree(&tree);
    let before = digest(&tree);
    let site = Site::new();
    let source = site.back_up(&tree, 4 << 20).await;
    site.commit(source).await;
    let target = scratch.join("back");
    let homes = format!("homes={}", target.display());
    let restore = |more: &[&str]| {
        site.backstay(&[&["restore", "--volume", &homes, "--preserve-setuid", "--devices"], more].concat())
    };

    let (code, said) = restore(&["--dry-run"]);
    assert!(code == 0 && said.contains("PLAN") && said.contains("into a new directory"), "{said}");
    assert!(!target.exists());
    let (code, said) = restore(&[]);
    assert!(code == 0 && said.contains("Restored nightly-20261125T020000Z"), "{said}");
    assert_same(&before, &digest(&target));

    // What is there is not touched without a word for it.
    fs::remove_file(target.join("files/one")).unwrap();
    fs::write(target.join("mine"), "mine").unwrap();
    let (code, said) = restore(&[]);
    assert!(code == 1 && said.contains("--confirm=production"), "{said}");
    assert!(said.contains("restore 1 ") && said.contains("not in backup: 1 "), "{said}");
    assert_eq!(restore(&["--confirm=staging"]).0, 2);
    assert!(!target.join("files/one").exists());
    let (code, said) = restore(&["--confirm=production", "--delete-extra"]);
    assert!(code == 0 && said.contains("1 deleted"), "{said}");
    assert_same(&before, &digest(&target));

    for level in ["listing", "scrub", "open", "drill"] {
        let (code, said) = site.backstay(&["verify", "--level", level]);
        assert!(code == 0 && said.contains("nothing is missing or damaged"), "{level}: {said}");
    }
    let part = site.remote.object(".tar.zst.00001");
    let mut content = fs::read(&part).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&part, content).unwrap();
    let (code, said) = site.backstay(&["verify"]);
    assert!(code == 1 && said.contains(".tar.zst.00001") && said.contains("hit: ./"), "{said}");
    let (code, said) = restore(&["--confirm=production"]);
    assert!(code == 0, "what is there already needs nothing from the remote: {said}");
    let fresh = format!("homes={}", scratch.join("fresh").display());
    let (code, said) = site.backstay(&["restore", "--volume", &fresh]);
    assert!(code == 3 && said.contains("not restored") && said.contains(".tar.zst.00001"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_below_the_target_is_not_deleted() {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        return println!("skipped: this user cannot mount anything");
    }
    let scratch = Scratch::new("mounted");
    let tree = scratch.folder("tree");
    fs::create_dir(tree.join("in")).unwrap();
    fs::write(tree.join("in/file"), "file").unwrap();
    let site = Site::new();
    let source = site.back_up(&tree, 1 << 20).await;
    site.commit(source).await;
    let (outside, target) = (scratch.folder("outside"), scratch.folder("back"));
    let places = ["in/bind", "extra/deep/bind", "bind"].map(|place| target.join(place));
    for folder in places.iter().chain([&target.join("extra/empty")]) {
        fs::create_dir_all(folder).unwrap();
    }
    for file in [outside.join("kept"), target.join("mine"), target.join("extra/mine")] {
        fs::write(file, "mine").unwrap();
    }
    // In a world of its own, which goes with the program.
    let script =
        r#"outside=$1; shift; for place in 1 2 3; do mount --bind "$outside" "$1"; shift; done; exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-ec", script, "sh"]).arg(&outside).args(&places);
    command.arg(env!("CARGO_BIN_EXE_backstay"));
    let homes = format!("homes={}", target.display());
    let flags = ["restore", "--volume", &homes, "--owner=me", "--confirm=production", "--delete-extra"];
    let (code, said) = site.run(command, &flags);
    assert!(code == 3 && said.contains("extra could not be removed: something is mounted there"), "{said}");
    assert!(said.contains("1 deleted"), "{said}");
    assert!(outside.join("kept").exists() && target.join("extra/mine").exists());
    assert!(target.join("in/file").exists() && !target.join("mine").exists());
}

/// Not a test of right and wrong: prints what `BACKSTAY_MEASURE` (a tree) takes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: BACKSTAY_MEASURE=<tree>"]
async fn measure() {
    let Some(tree) = std::env::var_os("BACKSTAY_MEASURE") else { return };
    let scratch = Scratch::new("measure");
    let site = Site::new();
    let begun = Instant::now();
    let source = site.back_up(Path::new(&tree), 24 << 20).await;
    println!("stored in {:?}", begun.elapsed());
    for round in 0..3 {
        let target = scratch.join(format!("back-{round}"));
        let begun = Instant::now();
        let report = site.restore(&source, &target, everything()).await;
        // Each round into a new folder, and none is removed: for some seconds ext4 makes inodes slowly after many were.
        println!("restored {} files in {:?}", report.files, begun.elapsed());
    }
}
