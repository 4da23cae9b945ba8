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
        manifest::SourceRecord,
        rclone::{Mode, Rclone, RcloneOptions},
        store::ObjectStore,
    },
    task::{
        context::{Meter, SourceContext},
        restore::files::{job::FilesOptions, report::FilesReport, run::FilesRestore},
        sources::volume,
    },
};
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
        println!("restored {} files in {:?}", report.files, begun.elapsed());
        fs::remove_dir_all(target).unwrap();
    }
}
