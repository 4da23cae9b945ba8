//! Restores into a policy's sources: they exclude its runs, and one that ends badly holds it.

use crate::{
    domain::{identity::PolicyId, verdict::Failure},
    orchestrators::{
        local::{
            files,
            people::{is_spoilt, random_id},
            process::ProcessId,
            state::StateDir,
        },
        restores,
    },
    plan::observed::Restore,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{io, path::PathBuf};

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
        let active = self.active_slot(policy).map_err(failed)?;
        restores::free(policy, active, &self.unsettled(policy).map_err(failed)?, None)?;
        let id = random_id().map_err(failed)?;
        let process = ProcessId::current().unwrap_or_else(ProcessId::gone);
        let record = RestoreRecord { started_at: now, message: message.to_owned(), process, failure: None };
        let path = self.note("restores", policy, &format!("{id}.json"));
        files::write_json(&path, &record).map_err(failed)?;
        Ok(RestoreClaim { state: self.clone(), policy: policy.clone(), id, path, record })
    }

    /// The restores of a policy that are not settled, oldest first, with the processes of those that run.
    pub(super) fn restores(&self, policy: &PolicyId) -> io::Result<Vec<(Restore, Option<ProcessId>)>> {
        let mut restores = Vec::new();
        for (id, path) in self.notes("restores", policy)? {
            let id = id.trim_end_matches(".json").to_owned();
            let record = match files::read_json::<RestoreRecord>(&path) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                // It was one of these sources: they are held until a person has looked.
                Err(error) if is_spoilt(&error) => {
                    let (started_at, message) = (Timestamp::UNIX_EPOCH, error.to_string());
                    restores.push((Restore { id, started_at, active: false, message }, None));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let active = record.failure.is_none() && record.process.is_alive();
            let message = match (&record.failure, active) {
                (Some(failure), _) => format!("{}: {failure}", record.message),
                (None, true) => record.message,
                (None, false) => format!("{}: its process ended in the middle", record.message),
            };
            let restore = Restore { id, started_at: record.started_at, active, message };
            restores.push((restore, active.then_some(record.process)));
        }
        restores.sort_by_key(|(restore, _)| restore.started_at);
        Ok(restores)
    }

    fn unsettled(&self, policy: &PolicyId) -> io::Result<Vec<Restore>> {
        Ok(self.restores(policy)?.into_iter().map(|(restore, _)| restore).collect())
    }

    /// True while a restore writes into the policy's sources.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn is_restoring(&self, policy: &PolicyId) -> io::Result<bool> {
        Ok(self.restores(policy)?.iter().any(|(restore, _)| restore.active))
    }

    /// Forgets restores that ended badly, or the one with this `id`: the person says that the sources are good as they
    /// are. Their ids.
    ///
    /// # Errors
    /// There is no such restore, or it runs.
    pub fn forget_restores(&self, policy: &PolicyId, id: Option<&str>) -> Result<Vec<String>, Failure> {
        let failed = |error: io::Error| Failure::permanent("StateUnusable", error.to_string());
        let over = restores::forgettable(policy, self.unsettled(policy).map_err(failed)?, id)?;
        let forget = |restore: Restore| {
            files::remove(&self.note("restores", policy, &format!("{}.json", restore.id)))
                .map(|()| restore.id)
        };
        over.into_iter().map(forget).collect::<io::Result<_>>().map_err(failed)
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
    /// Whose sources.
    pub fn policy(&self) -> &PolicyId {
        &self.policy
    }

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
