//! What goes wrong on real sites, one fault at a time: nothing is lost, nothing hangs, and the message says what to do.

use crate::{
    data,
    site::{Outcome, Site},
    support::{
        children::signal_pid,
        cloud,
        mongo::{self, Mongo},
        remote::Remote,
        small::Small,
        tree,
    },
};
use mongodb::bson::{Document, doc};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// So that the fault under test is seen at once, not after the retries.
const ONCE: &str = "  task: {retries: 0}\n";

/// A site that backs up a folder `notes`, and the folder.
fn notes(remote: Remote) -> (Site, PathBuf) {
    let (mut site, notes) = Site::with_folder(remote);
    site.policy("notes", &format!("  volumes: [{{name: notes, hostPath: {}}}]\n{ONCE}", notes.display()));
    site.start_controller();
    (site, notes)
}

/// A site that backs up a database.
fn database(uri: &str, extra: &str) -> Site {
    let mut site = Site::new();
    site.policy("dump", &format!("  mongodb: {{uri: \"{uri}\"{extra}}}\n{ONCE}"));
    site.start_controller();
    site
}

/// Fails if anything that the site wrote or stored holds the text.
fn assert_secret(site: &Site, secret: &str) {
    fn look(folder: &Path, secret: &[u8]) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                look(&entry.path(), secret);
            } else if let Ok(bytes) = fs::read(entry.path()) {
                assert!(
                    !bytes.windows(secret.len()).any(|w| w == secret),
                    "{} shows it",
                    entry.path().display()
                );
            }
        }
    }
    look(&site.join("state"), secret.as_bytes());
    look(&site.remote.root(), secret.as_bytes());
    assert!(!site.log().contains(secret), "the log shows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_shown_nowhere() {
    let mongo = Mongo::start(mongo::Plan { members: 1, auth: true, ..Default::default() }).await;
    data::fill(&mongo.client().await, "girder").await;
    let mut site = Site::new();
    let secret = site.file("secrets/password", "not-the-password-7423");
    let body = format!(
        "  mongodb: {{uri: \"{}\", username: root, passwordFrom: {{file: {}}}}}\n{ONCE}",
        mongo.uri(),
        secret.display()
    );
    site.policy("dump", &body);
    site.start_controller();
    let failed = site.run("dump").ends(1).says(["password"]);
    assert!(!failed.stdout.contains("not-the-password") && !failed.stderr.contains("not-the-password"));
    site.until_status("dump", "table", "password");
    assert_secret(&site, "not-the-password-7423");
    assert_eq!(site.snapshots(), [""; 0]);

    fs::write(&secret, format!("{}\n", mongo::PASSWORD)).unwrap();
    site.run("dump").ok();
    assert_secret(&site, mongo::PASSWORD);
    assert_eq!(site.snapshots().len(), 1);
}

#[test]
fn a_renewed_token_that_could_not_be_kept_is_told_until_the_next_run() {
    let (site, _) = notes(Remote::new());
    let config = site.remote.config();
    // The preflight must not be what renews it.
    site.until_status("notes", "json", "PreflightPassed");
    // Somebody works on it just when the token is renewed.
    site.remote.configure(&cloud::single_use(move |_| fs::write(&config, "[mine]\n").unwrap()));
    let lost = ["renewed a token", "somebody changed it meanwhile", "rclone config reconnect"];
    site.run("notes").ends(1).says(lost);
    site.until_status("notes", "table", "The last run remarked:");
    site.backstay(["status", "notes"]).says(lost);
    assert_eq!(fs::read_to_string(site.remote.config()).unwrap(), "[mine]\n");
}

#[test]
fn an_unknown_remote_is_named_with_those_that_exist() {
    let (site, _) = notes(Remote::new());
    site.remote.configure("[other]\ntype = alias\nremote = /nonexistent\n");
    site.run("notes").ends(1).says(["box", "rclone"]);
    let nowhere = format!("notes={}", site.join("target").display());
    site.restore(["--volume", &nowhere]).ends(1).says(["box"]);
}

#[test]
fn a_check_tells_before_any_run_that_a_remote_cannot_be_used() {
    let (mut site, notes) = Site::with_folder(Remote::new());
    site.remote.configure("[other]\ntype = alias\nremote = /nonexistent\n");
    site.policy("notes", &format!("  volumes: [{{name: notes, hostPath: {}}}]\n", notes.display()));
    site.start_controller();
    site.eventually(["status", "--check"], 2).says([
        "UNPROTECTED",
        "box",
        "✗ The policy is without any backup",
    ]);
}

#[test]
fn a_check_that_can_tell_nothing_says_unknown_on_stdout() {
    let (site, _) = notes(Remote::new());
    let unknown =
        |arguments: &[&str]| site.backstay(["status", "--check"].iter().chain(arguments)).ends(3).stdout;
    assert!(unknown(&["nobody"]).starts_with("UNKNOWN there is no policy \"nobody\""));
    fs::rename(site.join("policies"), site.join("elsewhere")).unwrap();
    assert!(unknown(&[]).starts_with("UNKNOWN "));
    assert!(unknown(&["-o", "json"]).contains("is not a directory"));
}

/// Begins a run of `notes` that does not end by itself.
fn begin_endless(site: &Site, notes: &Path) {
    fs::write(notes.join("large"), tree::noise(3, 48 << 20)).unwrap();
    site.backstay(["run", "notes"]).ok();
    signal_pid(site.wait_for_process("rclone"), Signal::STOP);
}

#[test]
fn a_policy_that_is_removed_during_its_run_is_seen_and_stopped_and_keeps_restores_out() {
    let (site, notes) = notes(Remote::new());
    site.run("notes").ok();
    begin_endless(&site, &notes);
    fs::remove_file(site.join("policies/notes.yaml")).unwrap();
    site.backstay(["status", "notes"]).ok().says(["REMOVED"]);
    site.backstay(["logs", "notes"]).ok();
    let volume = format!("notes={}", notes.display());
    site.restore(["--volume", &volume, "--confirm=site"])
        .ends(1)
        .says(["is active", "backstay cancel notes"]);
    site.backstay(["run", "notes"]).ends(1).says(["nobody declares it any more"]);
    site.backstay(["cancel", "notes"]).ok().says(["is being stopped"]);
}

#[test]
fn a_request_ends_with_its_asker() {
    let (site, notes) = notes(Remote::new());
    site.run("notes").ok();
    begin_endless(&site, &notes);
    let requests = || fs::read_dir(site.join("state/requests")).unwrap().count();
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| site.backstay(["run", "notes", "--wait-turn", "--wait"]));
        let is_asker = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains("--wait-turn"))
        };
        while requests() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // It listens once it has asked.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let pid = site.processes("backstay").into_iter().find(is_asker).unwrap();
        signal_pid(pid, Signal::TERM);
        asker.join().unwrap().ends(130).says(["the request is taken back"]);
    });
    assert_eq!(requests(), 0);
}

/// One who waits for a run is not needed for it.
#[test]
fn a_run_goes_on_without_the_one_who_waits() {
    let (site, notes) = notes(Remote::new());
    site.run("notes").ok();
    fs::write(notes.join("large"), tree::noise(3, 48 << 20)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| site.backstay(["run", "notes", "--wait"]));
        let rclone = site.wait_for_process("rclone");
        signal_pid(rclone, Signal::STOP);
        let is_waiting = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.ends_with("--wait\0"))
        };
        let pid = site.processes("backstay").into_iter().find(is_waiting).unwrap();
        // It has heard the answer by then.
        std::thread::sleep(std::time::Duration::from_secs(1));
        signal_pid(pid, Signal::INT);
        waiting.join().unwrap().ends(130).says(["goes on", "backstay cancel notes"]);
        signal_pid(rclone, Signal::CONT);
    });
    for _ in 0..600 {
        if site.snapshots().len() == 2 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the run made no snapshot: {}", site.log());
}

#[test]
fn without_a_controller_nothing_is_true_and_no_end_is_waited_for() {
    let (site, notes) = notes(Remote::new());
    site.policy("notes", &format!("  volumes: [{{name: notes, hostPath: {}}}]\n", notes.display()));
    site.backstay(["wait", "notes", "--for", "CredentialsValid"]).ok();
    fs::write(notes.join("large"), tree::noise(3, 48 << 20)).unwrap();
    let ended = site.run_while("notes", || {
        signal_pid(site.wait_for_process("rclone"), Signal::STOP);
        let controller = fs::read_to_string(site.join("state/controller.lock")).unwrap();
        signal_pid(controller.trim().parse().unwrap(), Signal::KILL);
    });
    ended.ends(1).says(["no controller runs", "start it"]);
    let wait = || site.backstay(["wait", "notes", "--for", "Ready", "--timeout", "0"]).ends(1);
    wait().says(["no controller runs"]);
    site.policy("notes", "  volumes: [{name: notes, hostpath: /nonexistent}]\n");
    wait().says(["hostPath"]);
}

#[test]
fn what_cannot_be_read_is_told_and_stops_no_other_policy() {
    let (site, notes) = notes(Remote::new());
    site.file("state/requests/notes~bad.json", "{");
    site.file("state/runs/gone/20260101T000000Z/plan.json", "{}");
    site.file("state/runs/gone/20260101T000000Z/state.json", "{");
    site.policy("more", &format!("  volumes: [{{name: notes, hostPath: {}}}]\n", notes.display()));
    site.eventually(["status", "--check"], 2).says(["gone", "nothing is done", "plan.json", "cannot read"]);
    site.run("more").ok();
    site.run("notes").ok();
}

#[test]
fn a_full_remote_fails_the_run_and_leaves_no_snapshot() {
    let Some(small) = Small::new(8) else { return eprintln!("left out: only root may mount") };
    let (site, notes) = notes(Remote::at(small.path()));
    fs::write(notes.join("large"), tree::noise(1, 24 << 20)).unwrap();
    site.run("notes").ends(1).says(["full"]);
    assert!(!Path::new(&small.path().join("WT")).exists() || manifests(small.path()).is_empty());
}

fn manifests(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().flatten();
    entries
        .flat_map(|e| if e.path().is_dir() { manifests(&e.path()) } else { vec![e.path()] })
        .filter(|path| path.ends_with("manifest.json"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_or_frozen_ends_the_run() {
    let mut mongo = Mongo::replica_set(1).await;
    data::fill(&mongo.client().await, "girder").await;
    let site = database(&mongo.uri(), "");
    mongo.freeze(0);
    site.run("dump").ends(1).says(["127.0.0.1"]);
    mongo.thaw(0);
    site.run("dump").ok();
    mongo.kill(0);
    site.run("dump").ends(1).says(["127.0.0.1"]);
    assert_eq!(site.snapshots().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_mongodump_fails_the_run_and_the_next_one_is_whole() {
    let mongo = Mongo::replica_set(1).await;
    data::fill(&mongo.client().await, "girder").await;
    let site = database(&mongo.uri(), "");
    let killed = site.run_while("dump", || {
        let dump = site.wait_for_process("mongodump");
        signal_pid(dump, Signal::KILL);
    });
    killed.ends(1).says(["mongodump"]);
    assert_eq!(site.snapshots(), [""; 0]);
    site.run("dump").ok();
    site.backstay(["verify", "--from", &site.place(), "--level", "drill"])
        .ok()
        .says(["a drill does not compare users, roles"]);
}

/// Parts that were under way are in memory still: the task starts another daemon and sends them again.
#[test]
fn a_killed_rclone_costs_no_backup() {
    let (site, notes) = notes(Remote::new());
    fs::write(notes.join("large"), tree::noise(1, 64 << 20)).unwrap();
    let outcome = site.run_while("notes", || {
        let daemon = site.wait_for_process("rclone");
        while site.remote.objects().iter().all(|path| !path.contains(".tar.zst.")) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        signal_pid(daemon, Signal::KILL);
    });
    outcome.ok();
    site.backstay(["verify", "--from", &site.place()]).ok();
}

/// The largest stored part whose name holds the text.
fn part(site: &Site, kind: &str) -> PathBuf {
    let parts = site.remote.objects().into_iter().filter(|path| path.contains(kind));
    let parts = parts.map(|path| site.remote.root().join(path));
    parts.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("a part")
}

fn refuses(outcome: Outcome, object: &Path) {
    let name = object.file_name().unwrap().to_str().unwrap();
    outcome.ends(1).says([name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_was_cut_or_changed_is_refused_before_the_database_is_touched() {
    let mongo = Mongo::replica_set(1).await;
    data::fill(&mongo.client().await, "girder").await;
    let site = database(&mongo.uri(), "");
    site.run("dump").ok();
    let object = part(&site, ".archive.zst.");
    let whole = fs::read(&object).unwrap();
    let target = Mongo::standalone().await;
    let refused = || {
        refuses(site.restore(["--mongodb", &target.uri()]), &object);
        refuses(site.backstay(["verify", "--from", &site.place()]), &object);
    };

    for length in [whole.len() - 1, whole.len() / 2, 1] {
        fs::write(&object, &whole[..length]).unwrap();
        refused();
    }
    fs::write(&object, &whole).unwrap();
    flip(&object, whole.len() as u64 / 2);
    refused();
    fs::remove_file(&object).unwrap();
    refused();
    assert_eq!(target.client().await.database("girder").list_collection_names().await.unwrap(), [""; 0]);

    fs::write(&object, &whole).unwrap();
    site.restore(["--mongodb", &target.uri()]).ok();
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_damaged_part_of_a_volume_is_named_and_not_restored() {
    let (site, notes) = notes(Remote::new());
    fs::write(notes.join("large"), tree::noise(1, 2 << 20)).unwrap();
    site.run("notes").ok();
    site.backstay(["verify", "--from", &site.place()]).ok();
    let object = part(&site, ".tar.zst.");
    flip(&object, 1 << 20);
    refuses(site.backstay(["verify", "--from", &site.place()]), &object);
    let target = site.folder("target");
    let outcome = site.restore(["--volume", &format!("notes={}", target.display())]);
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert!(!target.join("large").exists(), "a damaged file is not left in place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_empty_is_replaced_only_when_confirmed() {
    let mongo = Mongo::replica_set(1).await;
    let client = mongo.client().await;
    data::fill(&client, "girder").await;
    let before = data::read(&client, "girder").await;
    let site = database(&mongo.uri(), "");
    site.run("dump").ok();
    client.database("girder").collection::<Document>("item").delete_many(doc! {"folder": 3}).await.unwrap();
    let changed = data::read(&client, "girder").await;
    site.restore(["--mongodb", &mongo.uri()]).ends(1).says(["--confirm=site", "girder"]);
    data::assert_same(&changed, &data::read(&client, "girder").await);
    site.restore(["--mongodb", &mongo.uri(), "--confirm=site"]).ok();
    data::assert_same(&before, &data::read(&client, "girder").await);
}

#[test]
fn a_volume_that_is_empty_gone_or_shrunk_is_no_backup() {
    let (site, notes) = notes(Remote::new());
    for number in 0..20 {
        fs::write(notes.join(number.to_string()), tree::noise(number, 100_000)).unwrap();
    }
    site.run("notes").ok();
    for number in 0..15 {
        fs::remove_file(notes.join(number.to_string())).unwrap();
    }
    site.run("notes").ends(1).says(["--accept-shrink"]);
    site.backstay(["run", "notes", "--wait", "--accept-shrink"]).ok();
    fs::rename(&notes, site.join("elsewhere")).unwrap();
    site.run("notes").ends(1).says([notes.to_str().unwrap()]);
    fs::create_dir(&notes).unwrap();
    site.run("notes").ends(1).says(["not one file", "look first whether", "mounted"]);
    assert_eq!(site.snapshots().len(), 2);
}

/// A disk that is not mounted leaves an empty folder, or none.
#[test]
fn a_remote_that_lost_everything_is_not_filled_anew_before_a_person_says_so() {
    let (site, notes) = notes(Remote::new());
    site.run("notes").ok();
    let (root, away) = (site.remote.root(), site.join("away"));
    fs::rename(&root, &away).unwrap();
    site.run("notes").ends(1).says(["owner claim", "mounted", "backstay run notes --accept-shrink"]);
    // It tells the end of a run that was waited for.
    site.backstay(["status", "--check"]).ends(1).says(["FAILED", "mounted"]);
    assert!(!root.exists());
    fs::create_dir(&root).unwrap();
    site.policy("notes", &format!("  volumes: [{{name: notes, hostPath: {}}}]\n", notes.display()));
    // The preflight's words, not the run's.
    site.until_status("notes", "json", "than it was; is the remote mounted");
    site.backstay(["doctor", "notes"]).ends(1).says(["owner claim", "mounted"]);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);

    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    site.run("notes").ok();
    fs::rename(&root, &away).unwrap();
    site.backstay(["run", "notes", "--wait", "--accept-shrink"]).ok();
    site.eventually(["status", "--check"], 0);
    site.backstay(["doctor", "notes"]).says(["notes: destination: box:WT/site can be read"]);
}

#[test]
fn two_sites_cannot_write_into_one_place() {
    let (site, _) = notes(Remote::new());
    site.run("notes").ok();
    let (other, _) = notes(Remote::at(&site.remote.root()));
    other.run("notes").ends(1).says(["takeOver"]);
    assert_eq!(site.snapshots().len(), 1);
}

#[test]
fn a_wrong_policy_is_refused_with_field_and_value_and_the_others_go_on() {
    let (site, _) = notes(Remote::new());
    site.policy("broken", "  volumes: [{name: notes, hostpath: /nonexistent}]\n");
    site.backstay(["status"]).says(["hostpath", "hostPath"]);
    site.run("notes").ok();
    let file = site.join("policies/broken.yaml");
    site.backstay(["validate", "-f", file.to_str().unwrap()]).ends(1).says(["hostpath", "hostPath"]);
}
