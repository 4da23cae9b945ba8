//! One machine's site for a test: a remote, policies, state, a controller, and the program's verbs on them.

use crate::support::{
    Scratch,
    children::{self, Kept},
    remote::{self, Remote},
    tools, tree,
};
use rustix::process::Signal;
use std::{
    ffi::OsStr,
    fs,
    ops::Deref,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// The instance of every policy here.
pub const INSTANCE: &str = "site";
/// Where backups lie on the remote.
pub const PATH: &str = "WT";
/// Longest time that any verb may take, seconds: a hang is a failure of its own.
const PATIENCE: &str = "240";

/// Folders and a controller; everything that it started ends with it.
#[derive(Debug)]
pub struct Site {
    scratch: Scratch,
    pub remote: Remote,
    controller: Option<Kept>,
}

impl Deref for Site {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl Site {
    pub fn new() -> Self {
        Self::on(Remote::new())
    }

    pub fn on(remote: Remote) -> Self {
        let scratch = Scratch::new("site");
        for folder in ["policies", "state", "run", "tmp"] {
            scratch.folder(folder);
        }
        Self { scratch, remote, controller: None }
    }

    /// A site and its folder `notes`, with something in it.
    pub fn with_folder(remote: Remote) -> (Self, PathBuf) {
        let site = Self::on(remote);
        let notes = site.folder("notes");
        fs::write(notes.join("note"), "text").unwrap();
        (site, notes)
    }

    /// Writes a policy; `body` is what stands below `spec:` besides instance and destination, indented by two.
    pub fn policy(&self, name: &str, body: &str) {
        let config = self.remote.config();
        let text = format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: {name}}}\nspec:\n  instance: {INSTANCE}\n  \
             destination: {{remote: {}, path: {PATH}, configFrom: {{file: {}}}}}\n{}",
            remote::NAME,
            config.display(),
            body.trim_start_matches('\n'),
        );
        self.policy_text(name, &text);
    }

    /// Writes a whole policy document.
    pub fn policy_text(&self, name: &str, text: &str) {
        let fresh = self.file("fresh.yaml", text);
        fs::rename(fresh, self.join("policies").join(format!("{name}.yaml"))).unwrap();
    }

    pub fn start_controller(&mut self) {
        let log = fs::File::options().append(true).create(true).open(self.join("controller.log")).unwrap();
        let mut command = children::tied(env!("CARGO_BIN_EXE_backstay"));
        command.args(["controller", "--orchestrator", "local", "--policies"]).arg(self.join("policies"));
        command.arg("--state").arg(self.join("state")).stdout(log.try_clone().unwrap()).stderr(log);
        self.prepare(&mut command);
        self.controller = Some(children::start(command));
        self.settle();
    }

    /// Waits until the controller has looked at every policy.
    fn settle(&self) {
        let declared = fs::read_dir(self.join("policies")).unwrap().count();
        let seen = || {
            let outcome = self.backstay(["status", "-o", "json"]);
            let status: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
            let known = status["policies"].as_array().map_or(&[][..], Vec::as_slice);
            known.iter().filter(|policy| !policy["status"].is_null()).count() == declared
        };
        for _ in 0..600 {
            if seen() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the controller does not get to its policies: {}", self.log());
    }

    /// Waits until a policy's status tells this: a run is over a moment before it does.
    pub fn until_status(&self, policy: &str, format: &str, text: &str) {
        for _ in 0..600 {
            if self.backstay(["status", policy, "-o", format]).stdout.contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the status of {policy} never tells {text:?}: {}", self.log());
    }

    /// Does something while `backstay run POLICY --wait` is under way, and gives the run's end.
    pub fn run_while(&self, policy: &str, act: impl FnOnce()) -> Outcome {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| self.run(policy));
            act();
            run.join().unwrap()
        })
    }

    /// Kills the controller; its tasks go on.
    pub fn kill_controller(&mut self) {
        self.controller = None;
    }

    /// What the controller said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.join("controller.log")).unwrap_or_default()
    }

    /// The place of this instance on the remote, as `--from` takes it.
    pub fn place(&self) -> String {
        format!("{}:{PATH}/{INSTANCE}", remote::NAME)
    }

    fn prepare(&self, command: &mut Command) {
        command.env("PATH", tools::path_variable()).env("BACKSTAY_TEST_SITE", &*self.scratch);
        command.env("RCLONE_CONFIG", self.remote.config()).env("BACKSTAY_STATE", self.join("state"));
        command.env("NO_COLOR", "1");
        // What is left behind is seen here, and is no other test's.
        command.env("XDG_RUNTIME_DIR", self.join("run")).env("TMPDIR", self.join("tmp"));
    }

    /// Folders for a while that Backstay made and did not remove.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let entries = ["run", "tmp"].into_iter().flat_map(|folder| fs::read_dir(self.join(folder)).unwrap());
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Runs a verb and waits for its end.
    pub fn backstay<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let mut command = children::tied("timeout");
        command
            .args(["--foreground", "--kill-after=5", PATIENCE, env!("CARGO_BIN_EXE_backstay")])
            .args(arguments);
        command.current_dir(&*self.scratch).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.prepare(&mut command);
        let shown = format!("{command:?}");
        let output = command.output().unwrap();
        Outcome {
            command: shown,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a verb until it ends with `code`: what it says is about to become true.
    #[track_caller]
    pub fn eventually<const N: usize>(&self, arguments: [&str; N], code: i32) -> Outcome {
        for _ in 0..600 {
            let outcome = self.backstay(arguments);
            if outcome.code == code {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.backstay(arguments).ends(code)
    }

    /// `backstay run POLICY --wait`.
    pub fn run(&self, policy: &str) -> Outcome {
        self.backstay(["run", policy, "--wait"])
    }

    /// `backstay restore --from` the bare remote, into what the arguments say.
    pub fn restore<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let place = self.place();
        let fixed = ["restore", "--from", place.as_str()].map(|a| OsStr::new(a).to_owned());
        self.backstay(fixed.into_iter().chain(arguments.into_iter().map(|a| a.as_ref().to_owned())))
    }

    /// The names of all snapshots whose manifest is on the remote, oldest first.
    pub fn snapshots(&self) -> Vec<String> {
        let named =
            |path: &String| path.strip_suffix("/manifest.json")?.rsplit('/').next().map(str::to_owned);
        self.remote.objects().iter().filter_map(named).collect()
    }

    /// A folder with difficult contents, and what it holds.
    pub fn homes(&self) -> (PathBuf, tree::Digest) {
        let homes = self.folder("homes");
        tree::difficult_tree(&homes);
        let digest = tree::digest(&homes);
        (homes, digest)
    }

    /// Processes that this site's controller started, directly or through a task, by their program's name.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let mark = [b"BACKSTAY_TEST_SITE=", self.scratch.as_os_str().as_encoded_bytes(), b"\0"].concat();
        let ours = |pid: &u32| {
            let named = children::name(*pid).is_some_and(|found| name.is_empty() || found == name);
            let environment =
                if named { fs::read(format!("/proc/{pid}/environ")).unwrap_or_default() } else { vec![] };
            environment.windows(mark.len()).any(|window| window == mark)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
    }

    /// The task that runs now.
    pub fn task(&self) -> u32 {
        let verb = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_task = |pid: &u32| verb(pid).split(|&c| c == 0).nth(1) == Some(b"task");
        self.processes("backstay").into_iter().find(is_task).expect("a task runs")
    }

    /// Waits until this site runs a program of that name, and gives its id.
    pub fn wait_for_process(&self, name: &str) -> u32 {
        loop {
            if let Some(pid) = self.processes(name).first() {
                return *pid;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.controller = None;
        // Tasks outlive their controller by design.
        for pid in self.processes("") {
            children::signal_pid(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- the controller said:\n{}", self.log());
        }
    }
}

/// How a verb ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    fn shown(&self) -> String {
        format!(
            "{}\nended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }

    /// Fails unless it ended with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ends(0)
    }

    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.shown());
        self
    }

    /// Fails unless output or message hold each of the texts.
    #[track_caller]
    pub fn says<const N: usize>(self, texts: [&str; N]) -> Self {
        for text in texts {
            let said = self.stdout.contains(text) || self.stderr.contains(text);
            assert!(said, "nothing says {text:?}: {}", self.shown());
        }
        self
    }
}
