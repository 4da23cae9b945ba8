//! One host as an orchestrator: the controller's loop and the port on real files and processes.
//!
//! The task program is a shell script that reports what a test tells it to: what is looked at here is who launches it,
//! when, and what becomes of its report.

use backstay::{
    controller::{
        clock::{Clock, SystemClock},
        run_loop::{self, Health},
        settings::Settings,
    },
    domain::{
        identity::PolicyId,
        run::{Outcome, RunState},
        status::{ConditionType, Status},
    },
    orchestrators::local::{
        files,
        policies::Directory,
        port::Local,
        state::{ControllerLock, StateDir},
        tasks::Launcher,
    },
    plan::{
        action::Answer,
        observed::{Caps, Wish},
    },
};
use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const RUN: Wish = Wish::Run { accept_shrink: false, wait_turn: false };

/// Reads its specification, counts itself, waits for the file `go`, and reports success; preflights succeed at once.
const TASK: &str = r#"#!/bin/sh
folder=$(dirname "$4")
report() { printf '%s' "$1" > "$4.new" && mv "$4.new" "$4"; }
case $2 in */preflight/*) printf '{"version":1,"verdict":"Committed"}' > "$4"; exit 0;; esac
echo started >> ROOT/started
echo '{"phase":"homes: storing","bytes":5,"items":1}'
while [ ! -e ROOT/go ]; do
  [ -e ROOT/die ] && { echo 'the disk is on fire' >&2; rm ROOT/die; kill -9 $$; }
  sleep 0.02
done
slot=$(sed -n 's/.*"slot": "\(.*\)".*/\1/p' "$2" | head -1)
cat > "$4" <<END
{"version":1,"verdict":"Committed","snapshot":{"name":"nightly-$slot","instance":"production",
 "committedAt":"2026-11-25T02:10:00Z","complete":true,"sources":[]}}
END
"#;

/// Folders, and a controller that can be stopped in the hard way.
struct Site {
    root: TempDir,
    controller: Option<(Runtime, ControllerLock)>,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("policies")).unwrap();
        let script = TASK.replace("ROOT", root.path().to_str().unwrap());
        fs::write(root.path().join("task"), script).unwrap();
        let mut site = Self { root, controller: None };
        site.declare("nightly", "");
        site.start();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn declare(&self, name: &str, extra: &str) {
        let text = format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: {name}}}\nspec:\n  instance: production\n  \
             volumes: [{{name: homes, hostPath: /srv}}]\n  schedule: \"0 2 1 1 *\"\n  \
             destination: {{remote: box, path: WT, configFrom: {{file: /etc/rclone.conf}}}}\n{extra}"
        );
        let path = self.path("policies").join(format!("{name}.yaml"));
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn state(&self) -> StateDir {
        StateDir::create(&self.path("state")).unwrap()
    }

    fn start(&mut self) {
        let lock = self.state().lock().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let directory = Directory { policies: self.path("policies"), defaults: None };
        let launcher = Launcher { program: "/bin/sh".into(), arguments: vec![self.path("task").into()] };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let local = Local::start(self.state(), directory, launcher, Arc::clone(&clock)).unwrap();
        let settings = Settings { caps: Caps { total: 2, per_remote: 2 }, ..Settings::default() };
        runtime.spawn(run_loop::run(
            Arc::new(local),
            clock,
            settings,
            Arc::new(Health::default()),
            std::future::pending(),
        ));
        drop(_entered);
        self.controller = Some((runtime, lock));
    }

    /// What `kill -9` leaves: nothing of the loop, all of the processes and files.
    fn kill_controller(&mut self) {
        let (runtime, lock) = self.controller.take().unwrap();
        runtime.shutdown_background();
        // The lock goes with the process.
        drop(lock);
    }

    fn status(&self, policy: &str) -> Status {
        files::read_json(&self.state().status_file(&id(policy))).unwrap().unwrap_or_default()
    }

    fn ask(&self, policy: &str, wish: Wish) -> Answer {
        let request =
            self.state().ask(&id(policy), wish, Duration::from_secs(60), SystemClock.now()).unwrap();
        eventually("an answer", || self.state().answer(&id(policy), &request).unwrap())
    }

    fn started(&self) -> usize {
        fs::read_to_string(self.path("started")).unwrap_or_default().lines().count()
    }

    fn end_of_run(&self, slot: &str) -> RunState {
        let file = self.state().runs_of(&id("nightly")).join(slot).join("state.json");
        eventually("the end of the run", || {
            files::read_json::<RunState>(&file).unwrap().filter(|state| state.end.is_some())
        })
    }

    fn begin(&self) -> String {
        let Answer::Accepted(slot) = self.ask("nightly", RUN) else { panic!("refused") };
        eventually("the task", || (self.started() == 1).then_some(()));
        slot.to_string()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Tasks that still wait end by themselves, and nothing more is launched.
        let _ = fs::write(self.path("go"), "");
        if self.controller.is_some() {
            self.kill_controller();
        }
        std::thread::sleep(Duration::from_millis(60));
    }
}

fn id(policy: &str) -> PolicyId {
    policy.parse().unwrap()
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_policy_is_seen_and_a_run_on_demand_ends_well() {
    let site = Site::new();
    eventually("Ready", || site.status("nightly").is(ConditionType::Ready).then_some(()));
    eventually("the preflight", || site.status("nightly").is(ConditionType::CredentialsValid).then_some(()));
    let slot = site.begin();
    assert!(matches!(site.ask("nightly", RUN), Answer::Refused(why) if why.contains(&slot)));
    fs::write(site.path("go"), "").unwrap();
    let run = site.end_of_run(&slot);
    assert_eq!(run.end.unwrap().outcome, Outcome::Succeeded);
    eventually("the status", || site.status("nightly").is(ConditionType::LastRunSucceeded).then_some(()));
    assert_eq!(site.status("nightly").snapshots.len(), 1);
    assert_eq!(site.started(), 1);
}

#[test]
fn a_controller_that_was_killed_adopts_the_running_task() {
    let mut site = Site::new();
    let slot = site.begin();
    site.kill_controller();
    site.start();
    eventually("the adoption", || (site.status("nightly").active.len() == 1).then_some(()));
    fs::write(site.path("go"), "").unwrap();
    let run = site.end_of_run(&slot);
    assert_eq!(run.end.unwrap().outcome, Outcome::Succeeded);
    assert_eq!((site.started(), run.attempts.len()), (1, 1), "exactly one task");
}

#[test]
fn a_task_that_ended_while_no_controller_ran_is_harvested() {
    let mut site = Site::new();
    let slot = site.begin();
    site.kill_controller();
    fs::write(site.path("go"), "").unwrap();
    let report = site.state().runs_of(&id("nightly")).join(&slot).join("backup-1/report.json");
    eventually("the report", || report.exists().then_some(()));
    site.start();
    assert_eq!(site.end_of_run(&slot).end.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(site.started(), 1);
}

#[test]
fn a_record_of_the_process_that_was_lost_is_found_by_the_arguments() {
    let mut site = Site::new();
    let slot = site.begin();
    let record = site.state().runs_of(&id("nightly")).join(&slot).join("backup-1/process.json");
    eventually("the record", || record.exists().then_some(()));
    site.kill_controller();
    // As if the controller had died between the launch and the record of it.
    fs::remove_file(record).unwrap();
    site.start();
    eventually("the adoption", || (site.status("nightly").active.len() == 1).then_some(()));
    fs::write(site.path("go"), "").unwrap();
    assert_eq!(site.end_of_run(&slot).end.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(site.started(), 1);
}

#[test]
fn a_task_that_is_killed_is_a_temporary_failure_with_its_last_words() {
    let site = Site::new();
    let slot = site.begin();
    fs::write(site.path("die"), "").unwrap();
    let file = site.state().runs_of(&id("nightly")).join(&slot).join("state.json");
    let state = eventually("the attempt", || {
        files::read_json::<RunState>(&file).unwrap().filter(|state| !state.attempts.is_empty())
    });
    let failure = state.attempts[0].failure.clone().unwrap();
    assert_eq!(failure.reason, "TaskLost");
    assert!(failure.message.contains("signal: 9") && failure.message.contains("on fire"), "{failure}");
    let status = eventually("the status", || Some(site.status("nightly")).filter(|s| !s.waiting.is_empty()));
    assert!(status.waiting[0].message.contains("attempt 2"), "{:?}", status.waiting);
}

#[test]
fn a_run_that_is_cancelled_stops_its_task() {
    let site = Site::new();
    let slot = site.begin();
    assert!(matches!(site.ask("nightly", Wish::Cancel { slot: None }), Answer::Accepted(_)));
    let run = site.end_of_run(&slot);
    assert_eq!(run.end.unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn policies_come_change_break_and_go_while_the_controller_runs() {
    let site = Site::new();
    site.declare("homes", "");
    eventually("the second policy", || site.status("homes").is(ConditionType::Ready).then_some(()));
    site.declare("homes", "  shedule: x\n");
    let broken = eventually("the error", || {
        site.status("homes").condition(ConditionType::Ready).filter(|c| c.reason == "InvalidSpec").cloned()
    });
    assert!(broken.message.contains("schedule"), "{}", broken.message);
    fs::write(site.path("policies").join("bad.yaml"), "{").unwrap();
    let problem = eventually("the problem", || site.state().info().unwrap().problems.first().cloned());
    assert!(problem.place.ends_with("bad.yaml"));
    site.declare("homes", "  suspend: true\n");
    eventually("the correction", || site.status("homes").is(ConditionType::Ready).then_some(()));
    assert!(site.status("nightly").is(ConditionType::Ready), "the other is not disturbed");
}

#[test]
fn a_restore_keeps_runs_out_until_it_ends() {
    let site = Site::new();
    let claim = site.state().begin_restore(&id("nightly"), "snapshot x", SystemClock.now()).unwrap();
    assert!(matches!(site.ask("nightly", RUN), Answer::Refused(why) if why.contains("snapshot x")));
    claim.failed("the disk is full").unwrap();
    eventually("the hold", || {
        let status = site.status("nightly");
        status.condition(ConditionType::Ready).filter(|c| c.reason == "RestoreIncomplete").map(|_| ())
    });
    let again = site.state().begin_restore(&id("nightly"), "snapshot x", SystemClock.now()).unwrap();
    again.succeeded().unwrap();
    eventually("the release", || site.status("nightly").is(ConditionType::Ready).then_some(()));
    site.begin();
}

#[test]
fn many_policies_take_turns_where_caps_leave_little_room() {
    let site = Site::new();
    let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    names.iter().for_each(|name| site.declare(name, ""));
    for name in &names {
        eventually("its preflight", || site.status(name).is(ConditionType::CredentialsValid).then_some(()));
    }
}

#[test]
fn a_settled_controller_writes_nothing() {
    let site = Site::new();
    eventually("the preflight", || site.status("nightly").is(ConditionType::CredentialsValid).then_some(()));
    let written = || {
        let modified = |path: PathBuf| path.metadata().unwrap().modified().unwrap();
        (modified(site.state().status_file(&id("nightly"))), modified(site.path("state").join("runs")))
    };
    std::thread::sleep(Duration::from_millis(300));
    let before = written();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(written(), before);
}
