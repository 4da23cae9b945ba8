//! The host as people ask it: see [`Site`].

use crate::{
    domain::{
        identity::PolicyId,
        names::{Slot, SnapshotName},
        run::RunState,
        status::Status,
        verdict::Failure,
    },
    orchestrators::{
        local::{files, lookup::Host, tasks},
        site::{Controller, Known, Problem, Read, Site, TaskLog},
    },
    plan::{action::Answer, observed::Wish, task_spec::Progress},
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

/// Most of a log that is read at once.
const PIECE: usize = 1 << 20;

fn piece(log: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unusable(error: io::Error) -> Failure {
    Failure::permanent("StateUnusable", error.to_string())
}

#[async_trait]
impl Site for Host {
    async fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
        Self::all(self)
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(100)
    }

    async fn controller(&self) -> Result<Controller, Failure> {
        let Some(state) = &self.state else { return Ok(self.no_controller()) };
        let runs = state.controller();
        let troubles = runs.as_ref().and_then(|_| state.info().ok()).map(|info| info.troubles);
        let root = state.root().display().to_string();
        Ok(Controller {
            is_unheard: false,
            since: runs.as_ref().and_then(|_| state.controller_since()),
            runs,
            start: format!("backstay controller --state {root}"),
            place: root,
            troubles: troubles.unwrap_or_default(),
        })
    }

    async fn ask(
        &self,
        policy: &PolicyId,
        wish: Wish,
        patience: Duration,
        now: Timestamp,
    ) -> Result<String, Failure> {
        self.state()?.ask(policy, wish, patience, now).map_err(unusable)
    }

    async fn renew(&self, policy: &PolicyId, id: &str, _now: Timestamp) -> Result<(), Failure> {
        self.state()?.renew(policy, id).map_err(unusable)
    }

    async fn withdraw(&self, policy: &PolicyId, id: &str) -> Result<(), Failure> {
        self.state()?.withdraw(policy, id).map_err(unusable)
    }

    async fn answer(&self, policy: &PolicyId, id: &str) -> Result<Option<Answer>, Failure> {
        self.state()?.answer(policy, id).map_err(unusable)
    }

    async fn status(&self, policy: &PolicyId) -> Result<Option<Status>, Failure> {
        files::read_json(&self.state()?.status_file(policy)).map_err(unusable)
    }

    async fn runs(&self, policy: &PolicyId) -> Result<Vec<Slot>, Failure> {
        let entries = files::entries(&self.state()?.runs_of(policy)).map_err(unusable)?;
        Ok(entries.into_iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    async fn run(&self, policy: &PolicyId, slot: Slot) -> Result<Option<RunState>, Failure> {
        let folder = self.state()?.run(policy, slot);
        let state: RunState =
            files::read_json(&folder.join("state.json")).map_err(unusable)?.unwrap_or_default();
        // A run that is over may be swept between two looks; what was read of it counts.
        Ok((state.end.is_some() || folder.join("plan.json").exists()).then_some(state))
    }

    async fn progress(&self, policy: &PolicyId, slot: Slot) -> Result<Option<Progress>, Failure> {
        let mut newest = None;
        for (_, task) in files::entries(&self.state()?.run(policy, slot)).map_err(unusable)? {
            let file = task.join(tasks::names::PROGRESS);
            if let Ok(modified) = file.metadata().and_then(|m| m.modified()) {
                newest = newest.max(Some((modified, file)));
            }
        }
        Ok(newest.and_then(|(_, file)| tasks::last_progress(&file)))
    }

    async fn logs(
        &self,
        policy: &PolicyId,
        slot: Option<Slot>,
        read: &Read,
    ) -> Result<Vec<TaskLog>, Failure> {
        let state = self.state()?;
        let folder = slot.map_or_else(|| state.preflights_of(policy), |slot| state.run(policy, slot));
        let mut logs = Vec::new();
        for (task, folder) in files::entries(&folder).map_err(unusable)? {
            let from = read.get(&task).copied().unwrap_or_default();
            let Ok(mut bytes) = piece(&folder.join(tasks::names::LOG), from) else { continue };
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            // A line that fills a piece is cut; the end of a log that goes on waits for its newline.
            if whole > 0 || bytes.len() < PIECE {
                bytes.truncate(whole);
            }
            let (end, text) = (from + bytes.len() as u64, String::from_utf8_lossy(&bytes).into_owned());
            logs.push(TaskLog { task, text, end });
        }
        Ok(logs)
    }

    async fn held(&self, policy: &PolicyId) -> Result<Vec<SnapshotName>, Failure> {
        self.state()?.holds(policy).map_err(unusable)
    }

    async fn hold(&self, policy: &PolicyId, snapshot: &SnapshotName, held: bool) -> Result<(), Failure> {
        self.state()?.hold(policy, snapshot, held).map_err(unusable)
    }
}
