//! The port on one host. Everything blocking runs beside the loop, so that a file system that hangs holds up one call.

use crate::{
    controller::{
        clock::Clock,
        port::{Create, Created, Delete, Orchestrator, PortError, Record, Wake},
    },
    domain::{
        identity::PolicyId,
        names::Slot,
        run::{Run, RunPlan, RunState},
        status::Status,
    },
    orchestrators::local::{
        files,
        notice::Notice,
        policies::{Directory, Found},
        process::ProcessId,
        removed,
        secrets::secrets,
        state::{StateDir, make_folder},
        tasks::{self, Children, Launched, Launcher},
        watch::Watcher,
    },
    plan::{
        action::NewTask,
        observed::{Declared, Observed, Recorded, Secrets, Spec},
    },
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{runtime::Handle, sync::mpsc};
use tracing::warn;

/// Hints that may wait for the loop.
const WAKES: usize = 1024;

/// One host as an orchestrator.
pub struct Local {
    state: StateDir,
    directory: Directory,
    notice: Arc<Notice>,
    launcher: Launcher,
    clock: Arc<dyn Clock>,
    watcher: Watcher,
    children: Children,
    wakes: mpsc::Sender<Wake>,
    hints: Mutex<Option<mpsc::Receiver<Wake>>>,
}

impl Local {
    /// An orchestrator over a state directory whose lock the caller holds. To be called within a runtime.
    ///
    /// # Errors
    /// A state directory that cannot be read.
    pub fn start(
        state: StateDir,
        directory: Directory,
        launcher: Launcher,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let notice = Arc::new(Notice::put_up(&state, &directory)?);
        sweep(&state)?;
        let (wakes, hints) = mpsc::channel(WAKES);
        let watcher = Watcher::start(&state, &directory, wakes.clone());
        let (children, hints) = (Children::default(), Mutex::new(Some(hints)));
        Ok(Self { state, directory, notice, launcher, clock, watcher, children, wakes, hints })
    }

    /// Runs blocking work on the state directory.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateDir) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let state = self.state.clone();
        let done = tokio::task::spawn_blocking(move || work(&state)).await;
        done.map_err(|panic| PortError::MaybeDone(panic.to_string()))?.map_err(from_io)
    }

    async fn create_task(&self, policy: &PolicyId, task: &NewTask) -> Result<Created, PortError> {
        let (launcher, policy, task) = (self.launcher.clone(), policy.clone(), task.clone());
        let (children, wakes, now) = (self.children.clone(), self.wakes.clone(), self.clock.now());
        let handle = Handle::current();
        self.blocking(move |state| {
            // A child belongs to the runtime that waits for it.
            let _runtime = handle.enter();
            let folder = state.task(&policy, &task.name);
            let is_new = children.add(&folder);
            let launched = tasks::launch(state, &launcher, &policy, &task, now);
            let Ok(Launched::Fresh(child)) = launched else {
                if is_new {
                    children.remove(&folder);
                }
                return launched.map(|_| Created::Ours);
            };
            handle.spawn(async move {
                children.wait(child, &folder).await;
                let _ = wakes.send(Wake::Policy(policy)).await;
            });
            Ok(Created::Fresh)
        })
        .await
    }
}

#[async_trait]
impl Orchestrator for Local {
    fn wakes(&self) -> mpsc::Receiver<Wake> {
        let taken = self.hints.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    async fn list(&self) -> Result<Vec<Declared>, PortError> {
        self.watcher.watch_policies(&self.directory);
        let (directory, notice, now) = (self.directory.clone(), Arc::clone(&self.notice), self.clock.now());
        self.blocking(move |state| {
            let listed = list(state, &directory, &notice, now);
            listed.as_ref().err().into_iter().for_each(|error| notice.looked(None, Some(error)));
            listed
        })
        .await
    }

    async fn observe(&self, policy: &PolicyId) -> Result<Observed, PortError> {
        let (id, children, notice) = (policy.clone(), self.children.clone(), Arc::clone(&self.notice));
        let seen = self.blocking(move |state| {
            let seen = observe(state, &id, &children);
            notice.looked(Some(&id), seen.as_ref().err());
            seen
        });
        let (observed, processes) = seen.await?;
        processes.iter().for_each(|process| self.watcher.watch_process(policy, process));
        Ok(observed)
    }

    async fn create(&self, policy: &PolicyId, what: Create<'_>) -> Result<Created, PortError> {
        match what {
            Create::Task(task) => self.create_task(policy, task).await,
            Create::Run(run) => {
                let (policy, run) = (policy.clone(), run.clone());
                self.blocking(move |state| Ok(claim(state, &policy, &run))).await?
            }
        }
    }

    async fn record(&self, policy: &PolicyId, what: Record<'_>) -> Result<(), PortError> {
        let policy = policy.clone();
        match what {
            Record::Answer { id, answer } => {
                let (id, answer) = (id.to_owned(), answer.clone());
                self.blocking(move |state| state.record_answer(&policy, &id, &answer)).await
            }
            Record::Run { slot, revision, state: new } => {
                let (revision, new) = (revision.to_owned(), new.clone());
                self.blocking(move |state| {
                    let path = state.run(&policy, slot).join("state.json");
                    Ok(replace(&path, Some(&revision), &new))
                })
                .await?
            }
            Record::Status { revision, status } => {
                let (revision, status) = (revision.map(str::to_owned), status.clone());
                self.blocking(move |state| {
                    Ok(replace(&state.status_file(&policy), revision.as_deref(), &status))
                })
                .await?
            }
        }
    }

    async fn delete(&self, policy: &PolicyId, what: Delete<'_>) -> Result<(), PortError> {
        let policy = policy.clone();
        match what {
            Delete::Task { uid, ended } => {
                let uid = uid.to_owned();
                let deleted = self.blocking(move |_| tasks::delete(&uid, ended)).await?;
                deleted.then_some(()).ok_or_else(|| PortError::Conflict("the task has ended".to_owned()))
            }
            Delete::Run { slot } => self.blocking(move |state| forget(&state.run(&policy, slot))).await,
        }
    }
}

fn from_io(error: io::Error) -> PortError {
    PortError::Unavailable(error.to_string())
}

/// The policies of the directory, and those of the state that have a run which is not over.
fn list(
    state: &StateDir,
    directory: &Directory,
    notice: &Notice,
    now: Timestamp,
) -> io::Result<Vec<Declared>> {
    let (found, problems) = directory.read().map_err(io::Error::other)?;
    let mut declared: Vec<Declared> = found.into_iter().map(from_found).collect();
    for id in state.active_policies()? {
        if declared.iter().all(|d| d.id != id) {
            let secrets = Secrets::default();
            declared.push(Declared { id, generation: 0, created_at: None, spec: Spec::Gone, secrets });
        }
    }
    notice.listed(problems, &declared);
    let wanted: BTreeSet<_> = declared.iter().map(|declared| &declared.id).collect();
    if let Err(error) = removed::sweep(state, &wanted, now) {
        warn!(%error, "what is left of policies that were removed cannot be swept");
    }
    Ok(declared)
}

fn from_found(found: Found) -> Declared {
    let secrets = found.policy.as_ref().map(|policy| secrets(policy)).unwrap_or_default();
    let spec = match found.policy {
        Ok(policy) => Spec::Valid(policy),
        Err(error) => Spec::Wrong(error),
    };
    // Slots count from the moment at which the controller sees the policy first.
    Declared { id: found.id, generation: found.generation, created_at: None, spec, secrets }
}

fn observe(
    state: &StateDir,
    policy: &PolicyId,
    children: &Children,
) -> io::Result<(Observed, Vec<ProcessId>)> {
    let (tasks, processes): (Vec<_>, Vec<_>) = tasks::tasks(state, policy, children)?.into_iter().unzip();
    let (restores, restoring): (Vec<_>, Vec<_>) = state.restores(policy)?.into_iter().unzip();
    let observed = Observed {
        status: status(&state.status_file(policy))?,
        runs: runs(state, policy)?,
        tasks,
        requests: state.requests(policy)?,
        restores,
        holds: state.holds(policy)?,
        drill: state.drill(policy)?,
        keep_files: Some(state.keep_files(policy)),
        nodes: std::collections::BTreeMap::new(),
        image: None,
        site: state.site()?,
        refusal: None,
    };
    Ok((observed, processes.into_iter().chain(restoring).flatten().collect()))
}

/// A status that cannot be read is as good as none: it is made again from the records.
fn status(path: &Path) -> io::Result<Option<Recorded<Status>>> {
    let Some(bytes) = files::read(path)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(Some(Recorded::new(value, revision(&bytes))))
}

fn runs(state: &StateDir, policy: &PolicyId) -> io::Result<Vec<Recorded<Run>>> {
    let mut runs = Vec::new();
    for (name, folder) in files::entries(&state.runs_of(policy))? {
        let Ok(slot) = name.parse::<Slot>() else { continue };
        // Without a plan the slot is not claimed.
        let Some(plan) = files::read_json::<RunPlan>(&folder.join("plan.json"))? else { continue };
        let path = folder.join("state.json");
        let state: RunState = files::read_json(&path)?.unwrap_or_default();
        let revision = revision(&files::read(&path)?.unwrap_or_default());
        runs.push(Recorded::new(Run { slot, plan, state }, revision));
    }
    Ok(runs)
}

/// What is at a path, for compare-and-set; absence has one as well.
fn revision(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(32).collect()
}

/// Writes a document if what is there is what was observed. Only the one controller of a state directory writes these.
fn replace<T: serde::Serialize>(path: &Path, observed: Option<&str>, value: &T) -> Result<(), PortError> {
    let bytes = files::read(path).map_err(from_io)?;
    let there = bytes.as_ref().map(|bytes| revision(bytes));
    let empty = revision(&[]);
    if there.as_deref().unwrap_or(&empty) != observed.unwrap_or(&empty) {
        return Err(PortError::Conflict(path.display().to_string()));
    }
    files::write_json(path, value).map_err(from_io)
}

/// Claims a slot: the folder, then the plan, whole. A folder without a plan is a claim that was cut off.
fn claim(state: &StateDir, policy: &PolicyId, run: &Run) -> Result<Created, PortError> {
    let _lock = state.lock_policy(policy).map_err(from_io)?;
    if state.restores(policy).map_err(from_io)?.iter().any(|(restore, _)| restore.active) {
        return Err(PortError::Conflict("a restore began".to_owned()));
    }
    let folder = state.run(policy, run.slot);
    let plan = folder.join("plan.json");
    if plan.exists() {
        return Ok(Created::Ours);
    }
    let made = || {
        make_folder(&folder)?;
        files::write_json(&plan, &run.plan)?;
        files::sync(&state.runs_of(policy))
    };
    made().map_err(from_io)?;
    Ok(Created::Fresh)
}

/// Removes a run: the plan first, without which it is no run.
fn forget(folder: &Path) -> io::Result<()> {
    files::remove(&folder.join("plan.json"))?;
    removed::remove_tree(folder)
}

/// Removes what claims and removals that were cut off have left.
fn sweep(state: &StateDir) -> io::Result<()> {
    for (_, policy) in files::entries(&state.runs())? {
        for (_, run) in files::entries(&policy)? {
            if !run.join("plan.json").exists() {
                forget(&run)?;
            }
        }
    }
    Ok(())
}
