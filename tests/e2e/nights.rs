//! Night after night with a token that can be used for seconds and renewed once: the next night has the newest one.

use crate::{
    site::{INSTANCE, PATH, Site},
    support::{
        children::signal_pid,
        cloud,
        remote::{self, Remote},
    },
};
use rustix::process::Signal;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// How long a token can be used, seconds: less than a busy machine needs for a run.
const USED: u64 = 1;
/// Each so many nights the task is killed right after the token was renewed.
const KILLED: u32 = 6;
/// What rclone, which keeps the token in the directory by itself, is given for that.
const KEPT: Duration = Duration::from_millis(20);

#[test]
fn a_token_that_can_be_renewed_once_lasts_night_after_night() {
    last(KILLED + 2);
}

#[test]
#[ignore = "takes minutes: make crash"]
fn a_token_that_can_be_renewed_once_lasts_sixty_nights() {
    last(60);
}

fn last(nights: u32) {
    let (mut site, notes) = Site::with_folder(Remote::new());
    let renewed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&renewed);
    site.remote.configure(&cloud::bucket(USED, move |n| count.store(n, Ordering::Relaxed)));
    let config = site.remote.config();
    site.policy_text(
        "notes",
        &format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: notes}}\nspec:\n  instance: {INSTANCE}\n  \
             destination: {{remote: {}, path: {PATH}, configFrom: {{directory: {}}}}}\n  \
             volumes: [{{name: notes, hostPath: {}}}]\n  task: {{retries: 0}}\n",
            remote::NAME,
            config.parent().unwrap().display(),
            notes.display(),
        ),
    );
    site.start_controller();
    site.until_status("notes", "json", "PreflightPassed");
    for night in 1..=nights {
        fs::write(notes.join("note"), format!("night {night}")).unwrap();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, over(&text)).unwrap();
        if night % KILLED == 0 {
            let before = renewed.load(Ordering::Relaxed);
            let killed = site.run_while("notes", || {
                while renewed.load(Ordering::Relaxed) == before {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(KEPT);
                signal_pid(site.task(), Signal::KILL);
            });
            killed.ends(1);
            continue;
        }
        site.run("notes").ok();
    }
    let renewed = renewed.load(Ordering::Relaxed);
    // Once a night at least: else the test tests nothing.
    assert!(renewed >= nights, "the token was renewed {renewed} times only");
    let kept = format!(r#""refresh_token":"r{renewed}""#);
    assert!(fs::read_to_string(config).unwrap().contains(&kept), "{kept} is not kept");
    assert_eq!(site.log().matches("renewed a token").count(), 0, "{}", site.log());
}

/// The configuration a day later: its token is over.
fn over(config: &str) -> String {
    let (head, rest) = config.split_once(r#""expiry":""#).unwrap();
    let (_, tail) = rest.split_once('"').unwrap();
    format!(r#"{head}"expiry":"2020-01-01T00:00:00Z"{tail}"#)
}
