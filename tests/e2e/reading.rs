//! From the answers of `init` to a look into the first snapshot, as a newcomer goes.

use crate::{
    site::{INSTANCE, PATH, Site},
    support::tree,
};
use serde_json::Value;
use std::{fs, os::unix::fs::symlink};

/// A site with a few files to back up.
fn site() -> Site {
    let site = Site::new();
    let docs = site.folder("homes").join("ada/docs");
    fs::create_dir_all(&docs).unwrap();
    fs::write(docs.join("a.txt"), tree::noise(1, 5000)).unwrap();
    symlink("a.txt", docs.join("link")).unwrap();
    site
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_newcomer_gets_from_init_to_a_look_into_a_snapshot() {
    let mut site = site();
    let volume = format!("homes={}", site.join("homes").display());
    let flags = ["--instance", INSTANCE, "--volume", &volume, "--remote", "box", "--path", PATH];
    let policy = site.backstay(["init"].iter().chain(&flags)).ok();
    site.policy_text("nightly", &policy.stdout);
    site.backstay(["validate", "-f", "policies"]).ok().says(["nightly is valid"]);
    site.backstay(["explain", "-f", "policies"]).ok().says(["every day", "everything of the last 7 days"]);
    let explicit = site.backstay(["explain", "-f", "policies", "-o", "yaml"]).ok();
    site.file("explicit.yaml", explicit.stdout);
    let json_of = |arguments: &[&str]| {
        let fixed = ["explain", "-f", "policies", "-o", "json"];
        json(&site.backstay(fixed.iter().chain(arguments)).ok().stdout)
    };
    assert_eq!(json_of(&[])[0], json_of(&["nightly"]), "a directory gives a list, a name one document");
    assert_eq!(json_of(&["-f", "explicit.yaml"]).as_array().unwrap().len(), 2);
    site.backstay(["explain", "-f", "policies", "--preview", "-o", "yaml"]).ends(2).says(["--preview"]);
    site.backstay(["validate", "-f", "explicit.yaml"]).ok();
    site.backstay(["doctor", "--policies", "policies"]).says(["nothing was backed up there yet"]);

    site.start_controller();
    site.run("nightly").ok();
    // By the policy's name, by the state alone, and from the remote alone.
    site.backstay(["list", "nightly", "--policies", "policies"]).ok().says(["complete"]);
    assert_eq!(site.backstay(["list"]).ok().stdout.lines().count(), 2);
    let place = site.place();
    let from = |arguments: &[&str]| site.backstay(arguments.iter().chain(&["--from", &place]));
    let listed = json(&from(&["list", "-o", "json"]).ok().stdout);
    let name = listed["snapshots"][0]["name"].as_str().unwrap();
    from(&["show", name]).ok().says(["1 files", "BestEffort"]);
    from(&["ls", "latest", "homes/ada/docs"]).ok().says(["ada/docs/a.txt", "ada/docs/link -> a.txt"]);
    assert_eq!(from(&["ls", "latest", "homes"]).ok().stdout.lines().count(), 2);
    let all = json(&from(&["ls", "latest", "homes", "-R", "-o", "json"]).ok().stdout);
    assert_eq!(all.as_array().unwrap().len(), 5);
    site.backstay(["prune", "nightly"]).ok().says(["no snapshot is dropped"]);
    site.backstay(["hold", name]).ok().says(["is held"]);
    site.backstay(["list"]).ok().says(["complete, held"]);
    assert_eq!(json(&from(&["list", "-o", "json"]).ok().stdout)["held"][0], name);
    for verb in [&["prune", "nightly", "--dry-run"][..], &["explain", "-f", "policies", "--preview"]] {
        site.backstay(verb).ok().says(["held, or the newest restore-tested"]);
    }
    site.backstay(["list", "--from", "box:WT"]).ends(1).says(["it holds site", "/site"]);
    site.backstay(["hold", "nightly-20200101T000000Z"]).ends(1).says(["no snapshot", "there is only"]);
    site.backstay(["hold", name, "--release"]).ok().says(["is released"]);
    site.backstay(["prune", "nightly", "--confirm=weekly"]).ends(2).says(["--confirm=nightly"]);
    site.backstay(["explain", "-f", "policies", "--preview"]).ok().says(["one of the newest 2"]);

    from(&["ls", "latest", "homes/bob"]).ends(1).says(["has no \"bob\""]);
    from(&["ls", "latest", "mongodb"]).ends(1).says(["it has homes"]);
    from(&["show", "nightly-20200101T000000Z"]).ends(1).says(["there is only"]);
    from(&["show", "tomorrow"]).ends(2).says(["write latest, yesterday"]);
}

#[test]
fn what_is_wrong_is_told_before_anything_runs() {
    let site = site();
    site.backstay(["init", "--instance", INSTANCE]).ends(2).says(["--volume", "--remote"]);
    site.policy_text(
        "lost",
        "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: lost}\nspec:\n  instance: x\n  \
         volumes: [{name: homes, hostPath: /nowhere}]\n  destination: {remote: nobody, configFrom: {file: /nowhere.conf}}\n",
    );
    let told = json(&site.backstay(["doctor", "--policies", "policies", "-o", "json"]).ends(1).stdout);
    let bad: Vec<_> = told.as_array().unwrap().iter().filter(|one| one["good"] == false).collect();
    assert_eq!(bad.len(), 2, "{told}");
    assert!(bad.iter().all(|one| one["fix"].is_string()), "{told}");
    let no_controller = |verb: &str| site.backstay([verb, "lost", "--policies", "policies"]).ends(1);
    no_controller("run").says(["no controller runs on /", "--policies DIR --state /"]);
    no_controller("prune").says(["none has run on /", "start one"]);
    site.policy_text("again", &fs::read_to_string(site.join("policies/lost.yaml")).unwrap());
    let twice = ["declared more than once", "again.yaml (line 3)", "lost.yaml (line 3)"];
    site.backstay(["validate", "-f", "policies"]).ends(1).says(twice);
    site.backstay(["status", "--policies", "policies"]).says(twice);
    site.backstay(["list", "--state", "/nowhere"]).ends(2).says(["--from REMOTE:PATH/INSTANCE"]);
}
