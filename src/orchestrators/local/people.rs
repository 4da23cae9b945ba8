//! What people leave for the controller, and what it leaves for them: requests and answers, holds, drills.
//!
//! Everything is a file of its own, so that the command line needs no connection to the controller and nothing is lost
//! while none runs.

use crate::{
    domain::{
        identity::PolicyId,
        names::SnapshotName,
        run::{RunPlan, RunState},
    },
    orchestrators::local::{files, state::StateDir},
    plan::{
        action::Answer,
        observed::{Drill, Request, Wish},
        task_spec::KeepFiles,
    },
};
use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::warn;

/// An answer that nobody fetched is removed after this time.
const ANSWER_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A request as it is recorded. It is asked for as long as its file is younger than its patience.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(flatten)]
    request: Request,
    patience_seconds: u64,
}

impl StateDir {
    /// Asks the controller for something; the identity of the request. It is refused once `patience` has passed since
    /// now, or since it was renewed.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn ask(
        &self,
        policy: &PolicyId,
        wish: Wish,
        patience: Duration,
        now: Timestamp,
    ) -> io::Result<String> {
        let id = random_id()?;
        let request = Request { id: id.clone(), requested_at: now, wish };
        let asked = Asked { request, patience_seconds: patience.as_secs() };
        files::write_json(&self.note("requests", policy, &format!("{id}.json")), &asked)?;
        Ok(id)
    }

    /// Says that somebody still waits for the answer. What is answered already is not asked again.
    ///
    /// # Errors
    /// A file that cannot be changed.
    pub fn renew(&self, policy: &PolicyId, id: &str) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let path = self.note("requests", policy, &format!("{id}.json"));
        match utimensat(CWD, &path, &times, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            changed => Ok(changed?),
        }
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
        let entries = files::entries(&self.root().join("answers")).unwrap_or_default();
        for (_, path) in entries.into_iter().filter(|(_, path)| is_older(path, ANSWER_KEPT)) {
            let _ = files::remove(&path);
        }
    }

    /// The requests of a policy that were not answered, oldest first. One that cannot be read, or that nobody waits for
    /// any more, is refused here.
    pub(super) fn requests(&self, policy: &PolicyId) -> io::Result<Vec<Request>> {
        let mut requests = Vec::new();
        for (name, path) in self.notes("requests", policy)? {
            let id = name.trim_end_matches(".json");
            let refused = match files::read_json::<Asked>(&path) {
                Ok(Some(asked)) if is_older(&path, Duration::from_secs(asked.patience_seconds)) => {
                    "nobody has waited for an answer any more".to_owned()
                }
                Ok(asked) => {
                    requests.extend(asked.map(|asked| asked.request));
                    continue;
                }
                Err(error) if is_spoilt(&error) => {
                    // Beside the answers it is kept and swept as they are.
                    fs::rename(&path, self.note("answers", policy, &format!("{id}.unreadable")))?;
                    error.to_string()
                }
                Err(error) => return Err(error),
            };
            warn!(%policy, request = id, "refused: {refused}");
            self.record_answer(policy, id, &Answer::Refused(refused))?;
        }
        requests.sort_by_key(|r| r.requested_at);
        Ok(requests)
    }

    /// The slot of the policy's run that is not over.
    pub(super) fn active_slot(&self, policy: &PolicyId) -> io::Result<Option<String>> {
        for (slot, folder) in files::entries(&self.runs_of(policy))? {
            if !folder.join("plan.json").exists() {
                continue;
            }
            let state: RunState = files::read_json(&folder.join("state.json"))?.unwrap_or_default();
            if state.end.is_none() {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// The policies, declared or not, with a run that is not over; a record that cannot be read may be of one.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn active_policies(&self) -> io::Result<Vec<PolicyId>> {
        let names = files::entries(&self.runs())?;
        let policies = names.iter().filter_map(|(name, _)| PolicyId::from_file_name(name).ok());
        Ok(policies.filter(|policy| !matches!(self.active_slot(policy), Ok(None))).collect())
    }

    /// What the policy's run that is not over does.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn active_plan(&self, policy: &PolicyId) -> io::Result<Option<RunPlan>> {
        let Some(slot) = self.active_slot(policy)? else { return Ok(None) };
        files::read_json(&self.runs_of(policy).join(slot).join("plan.json"))
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

    /// The newest restore drill of a policy. A record that is spoilt proves nothing: it is as good as none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn drill(&self, policy: &PolicyId) -> io::Result<Option<Drill>> {
        match files::read_json(&self.drill_file(policy)) {
            Err(error) if is_spoilt(&error) => Ok(None),
            read => read,
        }
    }

    /// Where a task finds the holds and the drill.
    pub(super) fn keep_files(&self, policy: &PolicyId) -> KeepFiles {
        KeepFiles { holds: self.root().join("holds"), drill: self.drill_file(policy) }
    }

    fn drill_file(&self, policy: &PolicyId) -> PathBuf {
        self.root().join("drills").join(format!("{}.json", policy.file_name()))
    }
}

/// The policy that a file of `requests`, `restores`, `holds` or `drills` speaks of.
pub(super) fn policy_of(file_name: &str) -> Option<PolicyId> {
    let stem =
        file_name.split_once('~').map_or_else(|| file_name.strip_suffix(".json"), |(policy, _)| Some(policy));
    PolicyId::from_file_name(stem?).ok().filter(|_| !Path::new(file_name).starts_with("."))
}

/// True for a file that will not become readable by waiting.
pub(super) fn is_spoilt(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied)
}

/// By when it was written or renewed. A time in the future is no age.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = path.metadata().and_then(|m| m.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|found| found > age))
}

/// A name that nothing else has.
pub(super) fn random_id() -> io::Result<String> {
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
        let id = state
            .ask(&policy, Wish::Cancel { slot: None }, Duration::from_secs(60), Timestamp::UNIX_EPOCH)
            .unwrap();
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
    fn a_request_that_nobody_waits_for_or_that_is_spoilt_is_refused_and_stops_nothing() {
        let (_keep, state, policy) = state();
        let ask = |patience| {
            let wish = Wish::Cancel { slot: None };
            state.ask(&policy, wish, Duration::from_secs(patience), Timestamp::UNIX_EPOCH).unwrap()
        };
        let file = |id: &str| state.note("requests", &policy, &format!("{id}.json"));
        let (kept, old, renewed) = (ask(3600), ask(60), ask(60));
        for id in [&old, &renewed] {
            let past = file(id).metadata().unwrap().modified().unwrap() - Duration::from_secs(100);
            fs::File::options().write(true).open(file(id)).unwrap().set_modified(past).unwrap();
        }
        state.renew(&policy, &renewed).unwrap();
        fs::write(file("bad"), r#"{"id":"bad","requestedAt":"2026-11-25T00:00:00Z","wish":{"fly":{}}}"#)
            .unwrap();
        let asked: Vec<String> = state.requests(&policy).unwrap().into_iter().map(|r| r.id).collect();
        assert_eq!(asked.len(), 2);
        assert!(asked.contains(&kept) && asked.contains(&renewed), "{asked:?}");
        for (id, why) in [(old.as_str(), "nobody"), ("bad", "bad.json")] {
            let answer = state.answer(&policy, id).unwrap();
            assert!(matches!(&answer, Some(Answer::Refused(told)) if told.contains(why)), "{answer:?}");
            assert!(!file(id).exists());
        }
        // What was answered meanwhile is not asked again.
        state.withdraw(&policy, &kept).unwrap();
        state.renew(&policy, &kept).unwrap();
        assert!(!file(&kept).exists());
    }

    #[test]
    fn records_that_are_spoilt_hold_the_policy_or_count_as_active_and_hide_no_other() {
        let (_keep, state, policy) = state();
        fs::write(state.note("restores", &policy, "x.json"), "{").unwrap();
        let restores = state.restores(&policy).unwrap();
        assert!(!restores[0].0.active && restores[0].0.message.contains("x.json"));
        state.forget_restores(&policy, None).unwrap();
        fs::write(state.drill_file(&policy), "{").unwrap();
        assert_eq!(state.drill(&policy).unwrap(), None);
        for (name, state_json) in [("active", "{}"), ("spoilt", "{")] {
            let run = state.runs().join(name).join("20261125T020000Z");
            make_folder(&run).unwrap();
            fs::write(run.join("plan.json"), "{}").unwrap();
            fs::write(run.join("state.json"), state_json).unwrap();
        }
        let ids: Vec<String> = state.active_policies().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["active", "spoilt"]);
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
