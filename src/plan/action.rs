//! What a decision says: actions in the order in which they are to be done, and when to look again.

use crate::{
    domain::{
        location::Location,
        names::Slot,
        policy::Placement,
        run::{Run, RunState},
        status::{Status, Waiting},
    },
    plan::{observed::TaskName, task_spec::TaskSpec},
};
use jiff::Timestamp;
use serde::Serialize;

/// What to do about one policy, and why not more.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// In order. When one of them meets a conflict or an unknown end, the rest is dropped and the policy observed again.
    pub actions: Vec<Action>,
    /// Why something that is due does not happen.
    pub waiting_on: Vec<Waiting>,
    /// When to look again without being told to. `None`: only when something changes.
    pub wake_at: Option<Timestamp>,
    /// What would start if a cap left room.
    #[serde(skip)]
    pub wants_room: Option<Wanted>,
    /// The destination of the run that is active after the actions, for the load of the others.
    #[serde(skip)]
    pub occupies: Option<Location>,
    /// The same of the preflight.
    #[serde(skip)]
    pub preflight: Option<Location>,
}

/// What waits for room, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// What.
    pub want: Want,
    /// Where it would use a remote and its configuration.
    pub place: Location,
}

/// What waits for room, in the order in which it gets some: runs before preflights, the longest wait first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A run that is due, or was asked for, since then.
    Run(Timestamp),
    /// A preflight.
    Preflight,
}

impl Decision {
    /// True when nothing is to be done.
    pub fn is_idle(&self) -> bool {
        self.actions.is_empty()
    }

    /// Waits for room for a preflight, or for what is like one, unless something waits already.
    pub(super) fn want_preflight(&mut self, place: &Location) {
        self.wants_room.get_or_insert_with(|| Wanted { want: Want::Preflight, place: place.clone() });
    }

    /// Looks again no later than `at`.
    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

/// One effect. Each may be repeated without harm.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Claim a slot: make its record, with the plan.
    CreateRun(Box<Run>),
    /// Launch a task.
    CreateTask(Box<NewTask>),
    /// Record how far a run is.
    RecordRun {
        /// Which.
        slot: Slot,
        /// The revision that was observed.
        revision: String,
        /// The new state.
        state: Box<RunState>,
    },
    /// Tell a person what became of a request, which is thereby over.
    AnswerRequest {
        /// Which.
        id: String,
        /// The answer.
        answer: Answer,
    },
    /// Stop a task if it runs, and forget it.
    DeleteTask {
        /// Which, for the log.
        name: TaskName,
        /// Which, for the orchestrator.
        uid: String,
        /// Why.
        why: String,
        /// It was seen to have ended.
        #[serde(skip)]
        ended: bool,
    },
    /// Forget the record of an old run, its tasks and logs.
    DeleteRun {
        /// Which.
        slot: Slot,
    },
    /// Record the status; always last.
    RecordStatus {
        /// The revision that was observed; none when there is no status yet.
        revision: Option<String>,
        /// The new status.
        status: Box<Status>,
    },
}

impl Action {
    /// True when what comes next depends on it and nobody will say so. A deletion is told of by its own hint or time.
    pub fn asks_for_another_look(&self) -> bool {
        !matches!(self, Self::DeleteTask { .. } | Self::RecordStatus { .. })
    }
}

/// A task to launch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewTask {
    /// Its name.
    pub name: TaskName,
    /// Where it must run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where it may run, and as what.
    #[serde(skip)]
    pub placement: Placement,
    /// What it does.
    pub spec: TaskSpec,
}

/// What became of a person's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is done, by this run or to it.
    Accepted(Slot),
    /// It is not done, and why.
    Refused(String),
}
