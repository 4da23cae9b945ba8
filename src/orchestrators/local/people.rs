//! What people leave for the controller, and what it leaves for them: requests and answers, restores, holds, drills.
//!
//! Everything is a file of its own, so that the command line needs no connection to the controller and nothing is lost
//! while none runs.

use crate::{
    domain::{identity::PolicyId, names::SnapshotName, run::RunState, verdict::Failure},
    orchestrators::local::{files, process::ProcessId, state::StateDir},
    plan::{
        action::Answer,
        observed::{Drill, Request, Restore, Wish},
        task_spec::KeepFiles,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// An answer that nobody fetched is removed after this time.
const ANSWER_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A restore as it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RestoreRecord {
    started_at: Timestamp,
    message: String,
    process: ProcessId,
    /// Why it ended badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl StateDir {
    /// Asks the controller for something; the identity of the request.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn ask(&self, policy: &PolicyId, wish: Wish, now: Timestamp) -> io::Result<String> {
        let id = random_id()?;
        let request = Request { id: id.clone(), requested_at: now, wish };
        files::write_json(&self.note("requests", policy, &format!("{id}.json")), &request)?;
        Ok(id)
    }

    /// Takes a request back, if it was not answered yet.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn withdraw(&self, policy: &PolicyId, id: &str) -> io::Result<()> {
        files::remove(&self.note("requests", policy, &format!("{id}.json")))
    }

    /// The answer to a request, once there is one.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn answer(&self, policy: &PolicyId, id: &str) -> io::Result<Option<Answer>> {
        files::read_json(&self.note("answers", policy, &format!("{id}.json")))
    }

    /// Answers a request: first the answer, then the request's end.
    pub(super) fn record_answer(&self, policy: &PolicyId, id: &str, answer: &Answer) -> io::Result<()> {
        self.sweep_answers();
        files::write_json(&self.note("answers", policy, &format!("{id}.json")), answer)?;
        self.withdraw(policy, id)
    }

    fn sweep_answers(&self) {
        let is_old = |path: &PathBuf| {
            let modified = path.metadata().and_then(|m| m.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ANSWER_KEPT))
        };
        let entries = files::entries(&self.root().join("answers")).unwrap_or_default();
        for (_, path) in entries.into_iter().filter(|(_, path)| is_old(path)) {
            let _ = files::remove(&path);
        }
    }

    /// The requests of a policy that were not answered, oldest first.
    pub(super) fn requests(&self, policy: &PolicyId) -> io::Result<Vec<Request>> {
        let mut requests = Vec::new();
        for (_, path) in self.notes("requests", policy)? {
            requests.extend(files::read_json::<Request>(&path)?);
        }
        requests.sort_by_key(|r| r.requested_at);
        Ok(requests)
    }

    /// Claims the policy's sources for a restore that writes into them; runs wait from then on.
    ///
    /// The claim ends with [`RestoreClaim::succeeded`] or [`RestoreClaim::unchanged`]. Any other end, that of the process
    /// included, holds the policy until a later restore succeeds or a person forgets this one.
    ///
    /// # Errors
    /// A run or another restore is active.
    pub fn begin_restore(
        &self,
        policy: &PolicyId,
        message: &str,
        now: Timestamp,
    ) -> Result<RestoreClaim, Failure> {
        let failed = |error: io::Error| Failure::permanent("StateUnusable", error.to_string());
        let _lock = self.lock_policy(policy).map_err(failed)?;
        if let Some(slot) = self.active_slot(policy).map_err(failed)? {
            let message = format!(
                "run {slot} of {policy} is active; a restore into its sources would be backed up half done"
            );
            let fix = format!("wait for it (backstay status {policy}), or stop it: backstay cancel {policy}");
            return Err(Failure::temporary("RunActive", message).fix(fix));
        }
        let restores = self.restores(policy).map_err(failed)?;
        if let Some((other, _)) = restores.iter().find(|(restore, _)| restore.active) {
            let message = format!("restore {} into the sources of {policy} is active", other.id);
            return Err(Failure::temporary("RestoreActive", message).fix("wait for its end"));
        }
        let id = random_id().map_err(failed)?;
        let process = ProcessId::current().unwrap_or_else(ProcessId::gone);
        let record = RestoreRecord { started_at: now, message: message.to_owned(), process, failure: None };
        let path = self.note("restores", policy, &format!("{id}.json"));
        files::write_json(&path, &record).map_err(failed)?;
        Ok(RestoreClaim { state: self.clone(), policy: policy.clone(), id, path, record })
    }

    /// The slot of the policy's run that is not over.
    fn active_slot(&self, policy: &PolicyId) -> io::Result<Option<String>> {
        for (slot, folder) in files::entries(&self.runs_of(policy))? {
            let is_claimed = folder.join("plan.json").exists();
            let state: RunState = files::read_json(&folder.join("state.json"))?.unwrap_or_default();
            if is_claimed && state.end.is_none() {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// The restores of a policy that are not settled, oldest first, with the processes of those that run.
    pub(super) fn restores(&self, policy: &PolicyId) -> io::Result<Vec<(Restore, Option<ProcessId>)>> {
        let mut restores = Vec::new();
        for (id, path) in self.notes("restores", policy)? {
            let Some(record) = files::read_json::<RestoreRecord>(&path)? else { continue };
            let active = record.failure.is_none() && record.process.is_alive();
            let message = match (&record.failure, active) {
                (Some(failure), _) => format!("{}: {failure}", record.message),
                (None, true) => record.message,
                (None, false) => format!("{}: its process ended in the middle", record.message),
            };
            let id = id.trim_end_matches(".json").to_owned();
            let restore = Restore { id, started_at: record.started_at, active, message };
            restores.push((restore, active.then_some(record.process)));
        }
        restores.sort_by_key(|(restore, _)| restore.started_at);
        Ok(restores)
    }

    /// True while a restore writes into the policy's sources.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn is_restoring(&self, policy: &PolicyId) -> io::Result<bool> {
        Ok(self.restores(policy)?.iter().any(|(restore, _)| restore.active))
    }

    /// Forgets a restore that ended badly: the person says that the sources are good as they are.
    ///
    /// # Errors
    /// There is no such restore, or it runs.
    pub fn forget_restore(&self, policy: &PolicyId, id: &str) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::permanent("StateUnusable", error.to_string());
        match self.restores(policy).map_err(failed)?.iter().find(|(restore, _)| restore.id == id) {
            Some((restore, _)) if restore.active => {
                let message = format!("restore {id} of {policy} is active");
                Err(Failure::permanent("RestoreActive", message).fix("wait for its end, or interrupt it"))
            }
            Some(_) => files::remove(&self.note("restores", policy, &format!("{id}.json"))).map_err(failed),
            None => Err(Failure::permanent("NotFound", format!("{policy} has no restore {id}"))),
        }
    }

    /// Keeps a snapshot from being pruned, or no longer.
    ///
    /// # Errors
    /// A file that cannot be written or removed.
    pub fn hold(&self, policy: &PolicyId, snapshot: &SnapshotName, held: bool) -> io::Result<()> {
        let path = self.note("holds", policy, &snapshot.to_string());
        if held { files::write(&path, b"") } else { files::remove(&path) }
    }

    /// The snapshots of a policy that are held.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn holds(&self, policy: &PolicyId) -> io::Result<Vec<SnapshotName>> {
        let notes = self.notes("holds", policy)?;
        Ok(notes.into_iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    /// Records a restore drill.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn record_drill(
        &self,
        policy: &PolicyId,
        snapshot: &SnapshotName,
        passed: bool,
        message: &str,
        now: Timestamp,
    ) -> io::Result<()> {
        let before = self.drill(policy)?.and_then(|drill| drill.last_passed);
        let last_passed = if passed { before.into_iter().chain([snapshot.clone()]).max() } else { before };
        let drill =
            Drill { snapshot: snapshot.clone(), at: now, passed, message: message.to_owned(), last_passed };
        files::write_json(&self.drill_file(policy), &drill)
    }

    /// The newest restore drill of a policy.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn drill(&self, policy: &PolicyId) -> io::Result<Option<Drill>> {
        files::read_json(&self.drill_file(policy))
    }

    /// Where a task finds the holds and the drill.
    pub(super) fn keep_files(&self, policy: &PolicyId) -> KeepFiles {
        KeepFiles { holds: self.root().join("holds"), drill: self.drill_file(policy) }
    }

    fn drill_file(&self, policy: &PolicyId) -> PathBuf {
        self.root().join("drills").join(format!("{}.json", policy.file_name()))
    }
}

/// A restore that has claimed a policy's sources.
#[derive(Debug)]
pub struct RestoreClaim {
    state: StateDir,
    policy: PolicyId,
    id: String,
    path: PathBuf,
    record: RestoreRecord,
}

impl RestoreClaim {
    /// The restore's identity, for people.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The sources are as the snapshot was: this and all earlier restores that ended badly are settled.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn succeeded(self) -> io::Result<()> {
        for (restore, _) in self.state.restores(&self.policy)? {
            if restore.id != self.id && !restore.active {
                files::remove(&self.state.note("restores", &self.policy, &format!("{}.json", restore.id)))?;
            }
        }
        files::remove(&self.path)
    }

    /// Nothing was written into the sources: as if it had not begun.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn unchanged(self) -> io::Result<()> {
        files::remove(&self.path)
    }

    /// It ended badly after something was written: the policy is held.
    ///
    /// # Errors
    /// A file that cannot be written; the end of this process has the same effect.
    pub fn failed(mut self, why: &str) -> io::Result<()> {
        self.record.failure = Some(why.to_owned());
        files::write_json(&self.path, &self.record)
    }
}

/// Where the answer to a request appears, for those who wait for it.
pub fn answer_folder(state: &StateDir) -> PathBuf {
    state.root().join("answers")
}

/// The policy that a file of `requests`, `restores`, `holds` or `drills` speaks of.
pub(super) fn policy_of(file_name: &str) -> Option<PolicyId> {
    let stem =
        file_name.split_once('~').map_or_else(|| file_name.strip_suffix(".json"), |(policy, _)| Some(policy));
    PolicyId::from_file_name(stem?).ok().filter(|_| !Path::new(file_name).starts_with("."))
}

fn random_id() -> io::Result<String> {
    let mut random = [0u8; 6];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(data_encoding::HEXLOWER.encode(&random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrators::local::state::make_folder;

    fn state() -> (tempfile::TempDir, StateDir, PolicyId) {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDir::create(temporary.path()).unwrap();
        (temporary, state, "nightly".parse().unwrap())
    }

    #[test]
    fn a_request_is_seen_until_it_is_answered() {
        let (_keep, state, policy) = state();
        let id = state.ask(&policy, Wish::Cancel { slot: None }, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(state.requests(&policy).unwrap().len(), 1);
        assert!(state.requests(&"night".parse().unwrap()).unwrap().is_empty());
        let answer = Answer::Refused("no".to_owned());
        state.record_answer(&policy, &id, &answer).unwrap();
        assert!(state.requests(&policy).unwrap().is_empty());
        assert_eq!(state.answer(&policy, &id).unwrap(), Some(answer));
    }

    #[test]
    fn a_restore_excludes_runs_and_other_restores_and_holds_the_policy_when_it_ends_badly() {
        let (_keep, state, policy) = state();
        let now = Timestamp::UNIX_EPOCH;
        let run = state.runs_of(&policy).join("20261125T020000Z");
        make_folder(&run).unwrap();
        files::write(&run.join("plan.json"), b"{}").unwrap();
        assert_eq!(state.begin_restore(&policy, "x", now).unwrap_err().reason, "RunActive");
        std::fs::remove_dir_all(&run).unwrap();

        let claim = state.begin_restore(&policy, "x", now).unwrap();
        assert_eq!(state.begin_restore(&policy, "y", now).unwrap_err().reason, "RestoreActive");
        assert!(state.restores(&policy).unwrap()[0].0.active);
        claim.failed("the disk is full").unwrap();
        let held = state.restores(&policy).unwrap();
        assert!(!held[0].0.active && held[0].0.message.contains("the disk is full"));

        state.begin_restore(&policy, "again", now).unwrap().unchanged().unwrap();
        assert_eq!(state.restores(&policy).unwrap().len(), 1, "still held");
        state.begin_restore(&policy, "again", now).unwrap().succeeded().unwrap();
        assert!(state.restores(&policy).unwrap().is_empty());
    }

    #[test]
    fn holds_and_drills() {
        let (_keep, state, policy) = state();
        let snapshot: SnapshotName = "nightly-20261125T020000Z".parse().unwrap();
        state.hold(&policy, &snapshot, true).unwrap();
        assert_eq!(state.holds(&policy).unwrap(), std::slice::from_ref(&snapshot));
        state.hold(&policy, &snapshot, false).unwrap();
        assert!(state.holds(&policy).unwrap().is_empty());
        state.record_drill(&policy, &snapshot, true, "equal", Timestamp::UNIX_EPOCH).unwrap();
        let newer: SnapshotName = "nightly-20261126T020000Z".parse().unwrap();
        state.record_drill(&policy, &newer, false, "differs", Timestamp::UNIX_EPOCH).unwrap();
        let drill = state.drill(&policy).unwrap().unwrap();
        assert_eq!((drill.passed, drill.last_passed), (false, Some(snapshot)));
    }

    #[test]
    fn file_names_tell_the_policy() {
        assert_eq!(policy_of("nightly~ab.json"), Some("nightly".parse().unwrap()));
        assert_eq!(policy_of("site.nightly~x"), Some("site/nightly".parse().unwrap()));
        assert_eq!(policy_of("nightly.json"), Some("nightly".parse().unwrap()));
        assert_eq!(policy_of(".new-1-1"), None);
    }
}
