//! From a policy to a backup, and back from the remote alone.

use crate::{
    data,
    site::{INSTANCE, PATH, Site},
    support::{
        Scratch,
        children::signal_pid,
        mongo::Mongo,
        remote::{self, Remote},
        tree,
    },
};
use rustix::process::Signal;
use std::{fs, path::Path};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_comes_back_from_the_remote_alone() {
    let mongo = Mongo::replica_set(1).await;
    let client = mongo.client().await;
    data::fill(&client, "girder").await;
    data::fill(&client, "other").await;
    let (girder, other) = (data::read(&client, "girder").await, data::read(&client, "other").await);
    let users = data::users(&client, "girder").await;

    let mut site = Site::new();
    let (homes, files) = site.homes();
    site.policy(
        "nightly",
        &format!(
            "  mongodb: {{uri: \"{}\"}}\n  volumes: [{{name: homes, hostPath: {}}}]\n",
            mongo.uri(),
            homes.display()
        ),
    );
    site.start_controller();
    site.run("nightly").ok();
    site.backstay(["status"]).ok().says(["nightly"]);
    site.kill_controller();
    drop(mongo);
    fs::remove_dir_all(&homes).unwrap();
    fs::remove_dir_all(site.join("state")).unwrap();

    let fresh = Mongo::replica_set(1).await;
    let volume = format!("homes={}", homes.display());
    site.restore(["--mongodb", &fresh.uri(), "--users", "--volume", &volume, "--preserve-setuid"]).ok();
    tree::assert_same(&files, &tree::digest(&homes));
    let client = fresh.client().await;
    data::assert_same(&girder, &data::read(&client, "girder").await);
    data::assert_same(&other, &data::read(&client, "other").await);
    assert_eq!(users, data::users(&client, "girder").await);

    // Into the same server under another name: what is there stays, the rest comes beside it.
    let renamed = ["--mongodb", &fresh.uri(), "--namespace", "girder.*", "--rename", "girder=copy"];
    site.restore(renamed).ok();
    data::assert_same(&girder, &data::read(&client, "copy").await);
    data::assert_same(&girder, &data::read(&client, "girder").await);
}

/// A volume whose single file holds `text`.
fn store(site: &Site, text: &str) -> String {
    fs::write(site.join("notes/current.txt"), text).unwrap();
    let before = site.snapshots();
    // Two runs by hand in one second would have one name.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    site.run("notes").ok();
    let after = site.snapshots();
    after.into_iter().find(|name| !before.contains(name)).expect("a new snapshot")
}

fn notes() -> Site {
    let mut site = Site::new();
    let notes = site.folder("notes");
    fs::create_dir_all(notes.join("alice/deep")).unwrap();
    fs::write(notes.join("alice/deep/a.txt"), "a").unwrap();
    fs::create_dir(notes.join("bob")).unwrap();
    fs::write(notes.join("bob/b.txt"), "b").unwrap();
    site.policy("notes", &format!("  volumes: [{{name: notes, hostPath: {}}}]\n", notes.display()));
    site.start_controller();
    site
}

/// Restores into a new folder and returns what `current.txt` says there.
fn back(site: &Site, arguments: &[&str]) -> String {
    let target = Scratch::new("target");
    let volume = format!("notes={}", target.display());
    site.restore(["--volume", &volume].iter().chain(arguments)).ok();
    fs::read_to_string(target.join("current.txt")).unwrap()
}

/// `notes-20261125T020000Z-m` → `2026-11-25T02:00:00Z`.
fn time_of(snapshot: &str) -> String {
    let t = snapshot.split('-').nth(1).unwrap();
    format!("{}-{}-{}T{}:{}:{}Z", &t[0..4], &t[4..6], &t[6..8], &t[9..11], &t[11..13], &t[13..15])
}

#[test]
fn a_restore_chooses_its_snapshot_by_time_or_name_and_its_files_by_path() {
    let site = notes();
    let first = store(&site, "one");
    let second = store(&site, "two");
    assert_eq!(back(&site, &[]), "two");
    assert_eq!(back(&site, &["--as-of", "latest"]), "two");
    assert_eq!(back(&site, &["--as-of", &first]), "one");
    assert_eq!(back(&site, &["--as-of", &time_of(&first)]), "one");
    assert_eq!(back(&site, &["--as-of", &time_of(&second)]), "two");
    assert_eq!(back(&site, &["--as-of", &time_of(&second)[..10]]), "two");

    let nowhere = format!("notes={}", site.join("nowhere").display());
    site.restore(["--volume", &nowhere, "--as-of", "2020-01-01T00:00:00Z"]).ends(1).says(["2020"]);
    site.restore(["--volume", &nowhere, "--as-of", "yesterday"]).ends(1).says(["T23:59:59Z"]);
    site.restore(["--volume", &nowhere, "--as-of", "notes-20200101T000000Z"])
        .ends(1)
        .says(["notes-20200101T000000Z"]);
    site.restore(["--volume", &nowhere.replace("notes=", "notse=")]).ends(1).says(["notse", "notes"]);

    let target = site.folder("part");
    site.restore(["--volume", &format!("notes={}", target.display()), "--path", "alice"]).ok();
    assert_eq!(fs::read_to_string(target.join("alice/deep/a.txt")).unwrap(), "a");
    assert!(!target.join("bob").exists() && !target.join("current.txt").exists());
}

#[test]
fn what_is_there_is_replaced_only_when_confirmed_and_a_dry_run_changes_nothing() {
    let site = notes();
    store(&site, "from the backup");
    let target = site.folder("target");
    let volume = format!("notes={}", target.display());
    site.restore(["--volume", &volume, "--dry-run"]).ok();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);

    fs::write(target.join("current.txt"), "mine").unwrap();
    fs::write(target.join("extra.txt"), "mine too").unwrap();
    site.restore(["--volume", &volume]).ends(1).says(["--confirm=site"]);
    site.restore(["--volume", &volume, "--confirm=production"]).ends(2).says(["site"]);
    assert_eq!(read(&target, "current.txt"), "mine");
    site.restore(["--volume", &volume, "--confirm=site"]).ok();
    assert_eq!(read(&target, "current.txt"), "from the backup");
    assert_eq!(read(&target, "extra.txt"), "mine too");
    site.restore(["--volume", &volume, "--confirm=site", "--delete-extra"]).ok();
    assert!(!target.join("extra.txt").exists());
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn one_sites_backups_restore_another_whose_own_stay_apart() {
    let site = notes();
    store(&site, "of the first site");
    // The folder moves to another instance's name, and its policies do not know of it.
    let moved = site.remote.root().join("WT/elsewhere");
    fs::rename(site.remote.root().join("WT/site"), &moved).unwrap();
    let target = site.folder("target");
    let volume = format!("notes={}", target.display());
    site.backstay(["restore", "--from", "box:WT/elsewhere", "--volume", &volume]).ok();
    assert_eq!(read(&target, "current.txt"), "of the first site");
    site.restore(["--volume", &volume]).ends(1).says(["nothing was ever backed up there", "rclone lsd"]);
}

/// The controller dies while a task runs; the next one finds the task and records its end.
#[test]
fn a_controller_that_is_killed_and_started_again_adopts_the_running_task() {
    let mut site = notes();
    fs::write(site.join("notes/large"), tree::noise(3, 48 << 20)).unwrap();
    site.policy(
        "notes",
        &format!(
            "  volumes: [{{name: notes, hostPath: {}}}]\n  schedule: \"0 0 1 1 *\"\n",
            site.join("notes").display()
        ),
    );
    site.backstay(["run", "notes"]).ok();
    let rclone = site.wait_for_process("rclone");
    // Held, so that the task cannot end before its controller does.
    crate::support::children::signal_pid(rclone, rustix::process::Signal::STOP);
    site.kill_controller();
    let tasks: Vec<u32> = site.processes("backstay");
    assert!(!tasks.is_empty(), "the task outlives its controller");
    site.start_controller();
    crate::support::children::signal_pid(rclone, rustix::process::Signal::CONT);
    while site.snapshots().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    site.backstay(["wait", "notes", "--for", "Fresh"]).ok();
    assert_eq!(site.snapshots().len(), 1, "the task was adopted, not run again");
}

/// The policy's name is enough: its place, its own sources, and the runs that must wait meanwhile.
#[test]
fn a_policy_is_restored_in_place_and_a_restore_that_ends_badly_holds_it() {
    let site = notes();
    store(&site, "from the backup");
    fs::write(site.join("notes/current.txt"), "by mistake").unwrap();
    site.backstay(["restore", "notes", "--dry-run"]).ok().says(["update 1", "--confirm=site"]);
    site.backstay(["restore", "notes"]).ends(1).says(["--confirm=site"]);
    assert_eq!(read(&site.join("notes"), "current.txt"), "by mistake");
    site.run("notes").ok();
    let first = site.snapshots().remove(0);
    site.backstay(["restore", "notes", "--as-of", &first, "--confirm=site"]).ok();
    assert_eq!(read(&site.join("notes"), "current.txt"), "from the backup");

    // A part of the newest snapshot is lost: the restore cannot be whole, so nothing may be backed up over it.
    let newest = site.snapshots().pop().unwrap();
    let objects = site.remote.objects();
    let part = objects.iter().find(|path| path.contains(&newest) && path.ends_with(".00000")).unwrap();
    let lost = site.remote.root().join(part);
    let kept = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    site.backstay(["restore", "notes", "--dry-run"]).ends(3).says(["--as-of"]);
    fs::write(&lost, vec![0; kept.len()]).unwrap();
    // What was refused before it changed anything holds nothing.
    site.backstay(["restore", "notes", "--path", "nothere", "--confirm=site"]).ends(1).says(["nothere"]);
    site.run("notes").ok();
    site.backstay(["restore", "notes", "--as-of", &newest, "--confirm=site"]).ends(3).says(["--as-of"]);
    site.run("notes").ends(1).says(["did not finish", "backstay restore notes --forget"]);
    site.backstay(["status"]).says(["did not finish", "backstay restore notes --forget"]);
    site.backstay(["restore", "notes", "--forget"]).ok();
    site.run("notes").ok();
    site.backstay(["restore", "notes", "--as-of", &newest, "--confirm=site"]).ends(3);
    fs::write(&lost, kept).unwrap();
    site.backstay(["restore", "notes", "--confirm=site"]).ok();
    site.run("notes").ok();
}

/// A restore that is stopped in the middle says what it leaves, and the same command finishes it.
#[test]
fn a_restore_that_is_stopped_holds_its_policy_and_goes_on() {
    let site = notes();
    let notes = site.join("notes");
    for n in 0..8 {
        fs::write(notes.join(format!("large-{n}")), tree::noise(n, 8 << 20)).unwrap();
    }
    let kept = tree::digest(&notes);
    site.run("notes").ok();
    fs::remove_dir_all(&notes).unwrap();
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| site.backstay(["restore", "notes"]));
        while !notes.join("large-0").exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // What is under way takes its time.
        signal_pid(site.wait_for_process("rclone"), Signal::STOP);
        let is_restore = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains("restore"))
        };
        let pid = site.processes("backstay").into_iter().find(is_restore).unwrap();
        signal_pid(pid, Signal::INT);
        restore.join().unwrap().ends(130).says(["a part may be restored", "backstay restore notes --forget"]);
    });
    site.run("notes").ends(1).says(["did not finish"]);
    site.backstay(["restore", "notes"]).ok();
    tree::assert_same(&kept, &tree::digest(&notes));
    site.run("notes").ok();
}

#[test]
fn a_drill_is_remembered_in_the_status() {
    let site = notes();
    store(&site, "once");
    site.backstay(["verify", "notes", "--level", "drill"]).ok();
    site.run("notes").ok();
    let status = site.backstay(["status", "notes", "-o", "json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let conditions = status["policies"][0]["status"]["conditions"].as_array().unwrap();
    let tested = conditions.iter().find(|condition| condition["type"] == "RestoreTested").unwrap();
    assert_eq!(tested["status"], "True", "{tested}");
}

#[test]
fn a_document_asks_for_a_restore_too() {
    let mut site = Site::new();
    let notes = site.folder("notes");
    let body = format!("  volumes: [{{name: notes, hostPath: {}}}]\n", notes.display());
    site.policy("notes", &body);
    site.start_controller();
    store(&site, "first");

    let back = site.join("back");
    let document = |spec: &str| {
        let text = format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: Restore\nmetadata: {{name: r}}\nspec: {{{spec}}}\n"
        );
        site.file("restore.yaml", text);
        site.backstay(["restore", "-f", "restore.yaml"])
    };
    // In full, with nothing but the document; then nothing to do with this host's policy, and into its place.
    let place = format!(
        "from: {{policy: notes, instance: {INSTANCE}, location: {{remote: {}, path: {PATH}, configFrom: {{file: {}}}}}}}",
        remote::NAME,
        site.remote.config().display()
    );
    let target = format!("{place}, volumes: [{{name: notes, hostPath: {}}}]", back.display());
    document(&format!("{target}, dryRun: true")).ok().says(["without dryRun in the document"]);
    assert!(!back.exists());
    document(&target).ok();
    assert_eq!(fs::read_to_string(back.join("current.txt")).unwrap(), "first");

    fs::write(notes.join("current.txt"), "second").unwrap();
    document("from: {policy: notes}").ends(1).says(["is not empty", "confirm: {policy: notes, notAfter: "]);
    #[expect(
        clippy::disallowed_methods,
        reason = "a confirmation is good until a time that the real clock tells"
    )]
    let now = jiff::Timestamp::now();
    let confirmed = |hours| {
        let end = now + jiff::SignedDuration::from_hours(hours);
        document(&format!("from: {{policy: notes}}, confirm: {{policy: notes, notAfter: '{end}'}}"))
    };
    confirmed(-1).ends(1).says(["restore.yaml:4: confirm.notAfter", "is over"]);
    assert_eq!(fs::read_to_string(notes.join("current.txt")).unwrap(), "second");
    confirmed(1).ok();
    assert_eq!(fs::read_to_string(notes.join("current.txt")).unwrap(), "first");
    site.backstay(["restore", "-f", "policies/notes.yaml"]).ends(1).says(["is no Restore"]);
    site.backstay(["restore", "-f", "restore.yaml", "--path", "x"]).ends(2);
}

/// A site built elsewhere takes up where the lost one stopped; one that has data keeps it.
#[test]
fn an_empty_site_is_filled_before_its_first_run_and_one_with_data_is_not() {
    let mut lost = notes();
    store(&lost, "from the backup");
    lost.kill_controller();
    let filled = |root: &Path, content: Option<&str>| {
        let mut site = Site::on(Remote::at(root));
        let notes = site.join("notes");
        if let Some(content) = content {
            fs::create_dir(&notes).unwrap();
            fs::write(notes.join("current.txt"), content).unwrap();
        }
        let body = format!(
            "  volumes: [{{name: notes, hostPath: {}}}]\n  restoreFrom: {{asOf: latest}}\n",
            notes.display()
        );
        site.policy("notes", &body);
        site.start_controller();
        site.backstay(["wait", "notes", "--for", "Bootstrapped", "--timeout", "60"]).ok();
        site
    };
    let new = filled(&lost.remote.root(), None);
    assert_eq!(read(&new.join("notes"), "current.txt"), "from the backup");
    new.backstay(["status", "notes", "-o", "json"]).ok().says(["\"Restored\"", "filled from notes-"]);
    new.run("notes").ok();
    assert_eq!(new.snapshots().len(), 2, "the place on the remote is taken over");

    let other = filled(&lost.remote.root(), Some("its own"));
    assert_eq!(read(&other.join("notes"), "current.txt"), "its own");
    other.backstay(["status", "notes", "-o", "json"]).ok().says(["\"HadData\"", "nothing was restored"]);
}
