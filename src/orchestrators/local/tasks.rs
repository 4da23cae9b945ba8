//! Tasks as processes: launched with their own group and their output in files, so that they outlive the controller;
//! found again by process number and start time; stopped by TERM, and by KILL after a while.

use crate::{
    domain::{identity::PolicyId, names::Slot},
    orchestrators::{
        MEMORY_TO_GIVE_BACK,
        local::{
            files,
            process::ProcessId,
            state::{StateDir, make_folder},
        },
    },
    plan::{
        action::NewTask,
        observed::{Task, TaskName, TaskState},
        task_spec::{Progress, TaskReport},
    },
};
use jiff::Timestamp;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A task that was asked to stop is killed after this time.
const GRACE: Duration = Duration::from_secs(30);
/// How much of a log's end is looked at for the last words.
const TAIL: u64 = 4096;

/// Files of a task.
pub mod names {
    /// What it does.
    pub const SPEC: &str = "spec.json";
    /// How it ended.
    pub const REPORT: &str = "report.json";
    /// Its process.
    pub const PROCESS: &str = "process.json";
    /// Its standard output: what it is doing, a line of JSON each.
    pub const PROGRESS: &str = "progress.jsonl";
    /// Its standard error.
    pub const LOG: &str = "log";
    /// How its process ended, where the controller that launched it lived to see it.
    pub const EXIT: &str = "exit";
    /// It was asked to stop.
    pub const STOPPED: &str = "stopped";
    /// The controller needs it no more.
    pub const DELETED: &str = "deleted";
}

/// How tasks are launched.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before `--spec FILE --report FILE`.
    pub arguments: Vec<OsString>,
}

/// A task's process, as it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    #[serde(flatten)]
    process: ProcessId,
    started_at: Timestamp,
}

/// A task that was launched now, or before.
#[derive(Debug)]
pub enum Launched {
    /// The process, to be waited for.
    Fresh(tokio::process::Child),
    /// It was launched before.
    Before,
}

/// Launches a task unless it was launched before.
///
/// The folder with the specification is there first, whole; then the process; then the record of the process. A death
/// between the last two leaves a process that is found by its arguments.
///
/// # Errors
/// Files that cannot be written, a program that cannot be started.
pub fn launch(
    state: &StateDir,
    launcher: &Launcher,
    policy: &PolicyId,
    task: &NewTask,
    now: Timestamp,
) -> io::Result<Launched> {
    let folder = state.task(policy, &task.name);
    forget_deleted(&folder, task.name.slot.is_none())?;
    make_folder(&folder)?;
    let spec = folder.join(names::SPEC);
    if !spec.exists() {
        files::write_json(&spec, &task.spec)?;
        files::sync(folder.parent().unwrap_or(&folder))?;
    }
    if started(&folder)?.is_some() {
        return Ok(Launched::Before);
    }
    let output = |name: &str| File::create(folder.join(name)).map(Stdio::from);
    let child = tokio::process::Command::new(&launcher.program)
        .args(&launcher.arguments)
        .arg("--spec")
        .arg(&spec)
        .arg("--report")
        .arg(folder.join(names::REPORT))
        .current_dir(&folder)
        .env(MEMORY_TO_GIVE_BACK.0, MEMORY_TO_GIVE_BACK.1)
        .stdin(Stdio::null())
        .stdout(output(names::PROGRESS)?)
        .stderr(output(names::LOG)?)
        .process_group(0)
        .spawn()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("{} cannot be started: {error}", launcher.program.display()))
        })?;
    // Not waited for yet: it has its number, also if it has ended already.
    if let Some(process) = child.id().and_then(ProcessId::of) {
        files::write_json(&folder.join(names::PROCESS), &Started { process, started_at: now })?;
    }
    Ok(Launched::Fresh(child))
}

/// A task that was deleted leaves room for a new one of its name; a new preflight, for all before it.
fn forget_deleted(folder: &Path, with_siblings: bool) -> io::Result<()> {
    let siblings = match folder.parent().filter(|_| with_siblings) {
        Some(parent) => files::entries(parent)?.into_iter().map(|(_, path)| path).collect(),
        None => vec![folder.to_owned()],
    };
    let is_deleted = |folder: &&PathBuf| folder.join(names::DELETED).exists();
    siblings.iter().filter(is_deleted).try_for_each(fs::remove_dir_all)
}

/// The process of a task, if it was ever launched; one whose record was lost is recorded now.
fn started(folder: &Path) -> io::Result<Option<Started>> {
    if let Some(started) = files::read_json(&folder.join(names::PROCESS))? {
        return Ok(Some(started));
    }
    let spec = folder.join(names::SPEC);
    let Some(made_at) = modified(&spec) else { return Ok(None) };
    let process = match spec.to_str().and_then(ProcessId::with_argument) {
        Some(process) => process,
        None if folder.join(names::REPORT).exists() => ProcessId::gone(),
        None => return Ok(None),
    };
    let started = Started { process, started_at: made_at };
    files::write_json(&folder.join(names::PROCESS), &started)?;
    Ok(Some(started))
}

/// The tasks that this controller launches and waits for, by folder: they run until it has noted how they ended.
#[derive(Debug, Clone, Default)]
pub struct Children(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Children {
    fn set(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task that is about to be launched; false when it was before.
    pub fn add(&self, folder: &Path) -> bool {
        self.set().insert(folder.to_owned())
    }

    /// A task that was not launched after all.
    pub fn remove(&self, folder: &Path) {
        self.set().remove(folder);
    }

    /// Waits for a task and notes how its process ended.
    pub async fn wait(&self, mut child: tokio::process::Child, folder: &Path) {
        if let Ok(status) = child.wait().await {
            let (note, file) = (status.to_string(), folder.join(names::EXIT));
            // Only for the words of a message; a task without the note is judged the same.
            let _ = tokio::task::spawn_blocking(move || files::write(&file, note.as_bytes())).await;
        }
        self.remove(folder);
    }
}

/// The tasks of a policy, with the processes of those that run.
///
/// # Errors
/// A folder that cannot be read to its end.
pub fn tasks(
    state: &StateDir,
    policy: &PolicyId,
    children: &Children,
) -> io::Result<Vec<(Task, Option<ProcessId>)>> {
    let mut tasks = Vec::new();
    for (name, folder) in files::entries(&state.runs_of(policy))? {
        if let Ok(slot) = name.parse::<Slot>() {
            tasks_in(&folder, Some(slot), children, &mut tasks)?;
        }
    }
    tasks_in(&state.preflights_of(policy), None, children, &mut tasks)?;
    Ok(tasks)
}

fn tasks_in(
    folder: &Path,
    slot: Option<Slot>,
    children: &Children,
    tasks: &mut Vec<(Task, Option<ProcessId>)>,
) -> io::Result<()> {
    for (name, path) in files::entries(folder)? {
        let Some((step, attempt)) = name.rsplit_once('-') else { continue };
        let (Ok(step), Ok(attempt)) = (step.parse(), attempt.parse()) else { continue };
        if path.join(names::DELETED).exists() {
            continue;
        }
        let name = TaskName { slot, step, attempt };
        if let Some(started) = started(&path)? {
            let is_child = children.set().contains(&path);
            let alive = is_child || started.process.is_alive();
            let state = if alive {
                TaskState::Running { since: started.started_at }
            } else {
                ended(&path, &started)?
            };
            let uid = format!("{}#{}", path.display(), started.process);
            tasks.push((Task { name, uid, state }, (alive && !is_child).then_some(started.process)));
        }
    }
    Ok(())
}

/// How a task ended whose process is gone. Its report is final by then.
fn ended(folder: &Path, started: &Started) -> io::Result<TaskState> {
    let report = folder.join(names::REPORT);
    let at =
        [report.clone(), folder.join(names::EXIT), folder.join(names::LOG)].iter().find_map(|p| modified(p));
    let (report, detail) = match files::read_json::<TaskReport>(&report) {
        Ok(Some(report)) => (Some(Box::new(report)), String::new()),
        Ok(None) => (None, last_words(folder)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => (None, error.to_string()),
        Err(error) => return Err(error),
    };
    let started_at = started.started_at;
    Ok(TaskState::Ended {
        started_at: Some(started_at),
        at: at.unwrap_or(started_at).max(started_at),
        report,
        detail,
    })
}

/// How the process ended, if that is known, and the last line of its log.
fn last_words(folder: &Path) -> String {
    let exit = fs::read_to_string(folder.join(names::EXIT)).unwrap_or_else(|_| "killed or lost".to_owned());
    let line = tail(&folder.join(names::LOG)).unwrap_or_default();
    match line.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{}: {}", exit.trim(), line.trim()),
        None => exit.trim().to_owned(),
    }
}

/// What a task says that it is doing: the last whole line of its standard output.
pub fn last_progress(path: &Path) -> Option<Progress> {
    let text = tail(path).ok()?;
    let whole = &text[..=text.rfind('\n')?];
    whole.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn modified(path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Asks a running task to stop, kills one that was asked long ago, forgets one that has ended. False, and nothing is done,
/// when it has ended and was not seen to (`ended`): what it said is still to be recorded.
///
/// # Errors
/// Marks that cannot be written.
pub fn delete(uid: &str, ended: bool) -> io::Result<bool> {
    let Some((folder, process)) = uid.rsplit_once('#') else { return Ok(true) };
    let folder = Path::new(folder);
    let Some(started) = files::read_json::<Started>(&folder.join(names::PROCESS))? else { return Ok(true) };
    if started.process.to_string() != process {
        return Ok(true);
    }
    let mark = folder.join(names::STOPPED);
    if !started.process.is_alive() {
        if !ended {
            return Ok(false);
        }
        started.process.sweep_group();
        files::write(&folder.join(names::DELETED), b"")?;
        return Ok(true);
    }
    match fs::metadata(&mark).and_then(|m| m.modified()) {
        Err(_) => {
            files::write(&mark, b"")?;
            started.process.signal(Signal::TERM);
        }
        Ok(asked) if asked.elapsed().is_ok_and(|waited| waited < GRACE) => {}
        Ok(_) => started.process.signal(Signal::KILL),
    }
    Ok(true)
}
