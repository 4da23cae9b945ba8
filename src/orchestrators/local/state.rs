//! The state directory. Its form is stable; everything in it may be read by anyone who may enter it (mode 0700).
//!
//! ```text
//! controller.lock                     held by the controller that runs; its process number
//! controller.json                     where the policies are, what is wrong with them, what the controller cannot do
//! site                                random identity of this site: owner of its places on the remotes
//! status/<policy>.json                the status of a policy
//! runs/<policy>/<slot>/plan.json      a run's frozen plan; without it the slot is not claimed
//!                     /state.json     how far it is
//!                     /<step>-<n>/    a task: spec.json, process.json, report.json, progress.jsonl, log
//! preflight/<policy>/preflight-<n>/   a task that belongs to no run
//! requests/<policy>~<id>.json         what a person wants of the controller
//! answers/<policy>~<id>.json          what became of it
//! restores/<policy>~<id>.json         a restore into the policy's sources that runs, or ended badly
//! holds/<policy>~<snapshot>           a snapshot that is not pruned
//! drills/<policy>.json                the newest restore drill
//! removed/<policy>.json               since when nobody declares the policy; its state goes seven days later
//! locks/<policy>                      taken for a moment by whoever claims a run or a restore
//! ```

use crate::{
    domain::{identity::PolicyId, names::Slot, verdict::Failure},
    orchestrators::{
        local::files,
        site::{Problem, Trouble},
    },
    plan::observed::TaskName,
};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// A state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// What the controller says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControllerInfo {
    /// The directory of the policies, absolute.
    pub policies: PathBuf,
    /// The file of the defaults, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<PathBuf>,
    /// Documents that are no policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What keeps it from looking at policies; gone once it can again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// Held while a controller runs on a state directory.
#[derive(Debug)]
pub struct ControllerLock {
    _file: File,
}

/// Held for a moment while a run or a restore is claimed.
#[derive(Debug)]
pub struct PolicyLock {
    _file: File,
}

impl StateDir {
    const FOLDERS: [&str; 10] = [
        "status",
        "runs",
        "preflight",
        "requests",
        "answers",
        "restores",
        "holds",
        "drills",
        "removed",
        "locks",
    ];

    /// Makes what is missing of a state directory.
    ///
    /// # Errors
    /// A directory that cannot be made or used.
    pub fn create(root: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root)?;
        let state = Self { root: fs::canonicalize(root)? };
        for folder in Self::FOLDERS {
            builder.create(state.root.join(folder))?;
        }
        if !state.root.join("site").exists() {
            let mut random = [0u8; 16];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            files::write(&state.root.join("site"), data_encoding::HEXLOWER.encode(&random).as_bytes())?;
        }
        Ok(state)
    }

    /// True when a controller has made `root` its state directory.
    pub fn is_one(root: &Path) -> bool {
        root.join("site").is_file()
    }

    /// An existing state directory.
    ///
    /// # Errors
    /// [`Failure`] with the next step when there is none.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let missing = |error: io::Error| {
            let message =
                format!("no controller has run on the state directory {} yet: {error}", root.display());
            Failure::permanent("NoState", message).fix(Self::begin(root))
        };
        let root = fs::canonicalize(root).map_err(missing)?;
        if !Self::is_one(&root) {
            return Err(missing(io::Error::other("it has no file called site")));
        }
        Ok(Self { root })
    }

    /// How to get a state directory where there is none.
    pub(super) fn begin(root: &Path) -> String {
        format!(
            "start one: backstay controller --orchestrator local --policies DIR --state {}; if one runs elsewhere, name its state with --state or BACKSTAY_STATE",
            root.display()
        )
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The random identity of this site.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn site(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.root.join("site"))?.trim().to_owned())
    }

    /// Becomes the one controller of this directory.
    ///
    /// # Errors
    /// Another one runs, or the lock cannot be had.
    pub fn lock(&self) -> Result<ControllerLock, Failure> {
        let path = self.root.join("controller.lock");
        let failed = |error: io::Error| {
            Failure::permanent("StateUnusable", format!("{} cannot be locked: {error}", path.display()))
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if !lock_soon(&file) {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let message =
                format!("another controller, process {}, runs on {}", pid.trim(), self.root.display());
            let fix = format!("stop it (kill {}), or give this one a --state of its own", pid.trim());
            return Err(Failure::permanent("AlreadyRunning", message).fix(fix));
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(ControllerLock { _file: file })
    }

    /// The process number of the controller that runs, if one does.
    pub fn controller(&self) -> Option<String> {
        let mut file = File::open(self.root.join("controller.lock")).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut pid = String::new();
        file.read_to_string(&mut pid).ok()?;
        Some(pid.trim().to_owned())
    }

    /// When the controller that runs, or ran last, began.
    pub fn controller_since(&self) -> Option<Timestamp> {
        let modified = fs::metadata(self.root.join("controller.lock")).and_then(|m| m.modified()).ok()?;
        Timestamp::try_from(modified).ok()
    }

    /// What the controller said about itself last.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn info(&self) -> io::Result<ControllerInfo> {
        Ok(files::read_json(&self.info_file())?.unwrap_or_default())
    }

    /// Where [`StateDir::info`] is.
    pub fn info_file(&self) -> PathBuf {
        self.root.join("controller.json")
    }

    /// Excludes, for a moment, everyone else who claims a run or a restore of this policy.
    ///
    /// # Errors
    /// A lock that cannot be had.
    pub fn lock_policy(&self, policy: &PolicyId) -> io::Result<PolicyLock> {
        let path = self.root.join("locks").join(policy.file_name());
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(PolicyLock { _file: file })
    }

    /// The file of a policy's status.
    pub fn status_file(&self, policy: &PolicyId) -> PathBuf {
        self.root.join("status").join(format!("{}.json", policy.file_name()))
    }

    /// The folder of all runs.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The folder of a policy's runs.
    pub fn runs_of(&self, policy: &PolicyId) -> PathBuf {
        self.runs().join(policy.file_name())
    }

    /// The folder of a run.
    pub fn run(&self, policy: &PolicyId, slot: Slot) -> PathBuf {
        self.runs_of(policy).join(slot.to_string())
    }

    /// The folder of a policy's preflights.
    pub fn preflights_of(&self, policy: &PolicyId) -> PathBuf {
        self.root.join("preflight").join(policy.file_name())
    }

    /// The folder of a task.
    pub fn task(&self, policy: &PolicyId, name: &TaskName) -> PathBuf {
        let folder = match name.slot {
            Some(slot) => self.run(policy, slot),
            None => self.preflights_of(policy),
        };
        folder.join(format!("{}-{}", name.step, name.attempt))
    }

    /// A file in a folder of what people leave: `requests/<policy>~<id>.json`.
    pub(super) fn note(&self, folder: &str, policy: &PolicyId, id: &str) -> PathBuf {
        self.root.join(folder).join(format!("{}~{id}", policy.file_name()))
    }

    /// The files of a policy in a folder of what people leave, with their ids.
    pub(super) fn notes(&self, folder: &str, policy: &PolicyId) -> io::Result<Vec<(String, PathBuf)>> {
        let prefix = format!("{}~", policy.file_name());
        let entries = files::entries(&self.root.join(folder))?;
        let own = |(name, path): (String, PathBuf)| Some((name.strip_prefix(&prefix)?.to_owned(), path));
        Ok(entries.into_iter().filter_map(own).collect())
    }
}

/// Takes the lock, and waits a moment for it: a process that was killed while it launched another lends its lock to that
/// one until the new program begins.
fn lock_soon(file: &File) -> bool {
    (0..10).any(|_| {
        let locked = flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !locked {
            std::thread::sleep(Duration::from_millis(50));
        }
        locked
    })
}

/// Makes a directory that only its owner enters; one that exists is fine.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_controller_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDir::create(&temporary.path().join("state")).unwrap();
        assert_eq!(state.controller(), None);
        let lock = state.lock().unwrap();
        let own = std::process::id().to_string();
        assert_eq!(state.controller(), Some(own.clone()));
        let refused = state.lock().unwrap_err();
        assert!(refused.message.contains(&format!("process {own}")), "{refused}");
        drop(lock);
        state.lock().unwrap();
        assert!(StateDir::open(temporary.path()).is_err());
        assert_eq!(StateDir::open(state.root()).unwrap().site().unwrap().len(), 32);
    }
}
