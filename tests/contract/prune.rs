//! A pruning pass that is killed after any of its deletions, with the rclone that it used.

use crate::{
    commit::{Site, volume},
    support::{
        Scratch, children,
        remote::{NAME, Remote},
        tools, tree,
    },
};
use backstay::{
    domain::{
        names::{PolicyName, Slot},
        retention::Retention,
    },
    plan::task_spec::{BackupWork, Work},
    storage::{
        owner::Claimant,
        rclone::{Mode, Rclone, RcloneOptions},
    },
    task::prune::{self, Request},
};
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// Where the child finds the configuration.
const CONFIG: &str = "BACKSTAY_TEST_PRUNE";
/// Kept of the nights; the rest goes.
const KEPT: u32 = 2;

/// Five nights, of which a later pass keeps two.
fn nights() -> Site {
    let mut site = Site::new();
    let (newest, files) = (site.slot.time(), Scratch::new("files"));
    fs::write(files.join("noise"), tree::noise(1, 3 << 20)).unwrap();
    for age in (0..5).rev() {
        site.slot = Slot::scheduled(newest - SignedDuration::from_hours(24 * age));
        let (report, output) = site.task(&site.backup(vec![volume("files", &files)]));
        assert!(output.status.success(), "{report:?}");
    }
    site
}

/// The pass that the child makes, ten days after the nights, when nothing protects them any more.
async fn pass(config: PathBuf) {
    let site = Site::new();
    let spec = site.spec(Work::Backup(BackupWork { sources: vec![], ..work(&site) }));
    let mut options = RcloneOptions::new(
        config,
        NAME.parse().unwrap(),
        spec.destination.instance_path(&spec.instance),
        Mode::Prune,
    );
    options.program = tools::tool("rclone");
    let store = Rclone::start(options).await.unwrap();
    let policy: PolicyName = spec.policy.clone();
    let claimant = Claimant {
        policy: &policy,
        instance: &spec.instance,
        site: &spec.site,
        destination: &spec.destination,
        settle: Duration::ZERO,
    };
    let rules = Retention { keep_within_days: 0, keep_last: KEPT, ..Retention::default() };
    let request = Request {
        claimant: &claimant,
        rules: &rules,
        held: BTreeSet::new(),
        known: BTreeSet::new(),
        run_deadline_seconds: 3600,
        allow_many: true,
    };
    #[expect(clippy::disallowed_methods, reason = "the nights were committed by the real clock")]
    let later = Timestamp::now() + SignedDuration::from_hours(240);
    let pruned = prune::prune(&store, &request, later).await.unwrap();
    assert_eq!(pruned.warnings, [""; 0]);
    store.stop().await;
}

fn work(site: &Site) -> BackupWork {
    match site.backup(vec![]).work {
        Work::Backup(work) => work,
        _ => unreachable!("it is a backup"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of the tests here"]
async fn a_pass() {
    if let Some(config) = std::env::var_os(CONFIG) {
        pass(config.into()).await;
    }
}

/// Makes a pass in a process of its own, and kills it once so many objects are gone. True when it lived until then.
fn pass_until(remote: &Remote, deletions: usize) -> bool {
    let begin = remote.objects().len();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "prune::a_pass", "--ignored"]).env(CONFIG, remote.config());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    loop {
        if begin - remote.objects().len() >= deletions {
            for pid in children::descendants(child.id()).into_iter().chain([child.id()]) {
                children::signal_pid(pid, Signal::KILL);
            }
            child.wait().unwrap();
            return true;
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the pass failed");
            return false;
        }
        sleep(Duration::from_millis(1));
    }
}

fn copy_of(site: &Site) -> Remote {
    let remote = Remote::new();
    let from = site.remote.root().join(".");
    assert!(Command::new("cp").arg("-a").arg(from).arg(remote.root()).status().unwrap().success());
    remote
}

/// The snapshots with a manifest, oldest first, as `WT/…/<day>/<name>/`.
fn snapshots(objects: &[String]) -> Vec<&str> {
    objects.iter().filter_map(|path| path.strip_suffix("manifest.json")).collect()
}

fn killed_after(points: impl Iterator<Item = usize>) {
    let site = nights();
    let all = site.remote.objects();
    let whole = copy_of(&site);
    assert!(!pass_until(&whole, usize::MAX));
    let end = whole.objects();
    assert_eq!(snapshots(&end), snapshots(&all)[3..], "two nights are kept");
    let deletions = all.len() - end.len();
    assert!(deletions > 3 * 4, "{deletions} objects went");
    let mut met = 0;
    for point in points.take_while(|point| *point < deletions) {
        let remote = copy_of(&site);
        pass_until(&remote, point);
        let left = remote.objects();
        met += usize::from(left.len() > end.len());
        for night in snapshots(&left) {
            let of = |objects: &[String]| objects.iter().filter(|path| path.starts_with(night)).count();
            assert_eq!(
                of(&left),
                of(&all),
                "killed after {point} deletions: {night} is listed and not whole"
            );
        }
        assert!(
            end.iter().all(|path| left.contains(path)),
            "killed after {point} deletions: too much is gone"
        );
        assert!(!pass_until(&remote, usize::MAX));
        assert_eq!(remote.objects(), end, "killed after {point} deletions, and another pass");
    }
    println!("{deletions} deletions, {met} passes killed before the last");
    assert!(met > 0, "every pass was over before it was killed");
}

#[test]
fn a_pass_that_is_killed_takes_nothing_that_is_listed_and_the_next_one_ends_it() {
    killed_after((1..).step_by(6));
}

#[test]
#[ignore = "every deletion: make crash"]
fn a_pass_may_be_killed_after_any_deletion() {
    killed_after(1..);
}
