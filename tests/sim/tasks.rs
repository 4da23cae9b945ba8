//! The tasks as the orchestrator plays them: they start, run for a while and end in one of many ways.

use crate::{
    clock::{DAY, HOUR, MINUTE, Ms, SECOND, ms, stamp},
    faults::Class,
    orchestrator::World,
    remote::report,
    site,
};
use backstay::{
    domain::verdict::Verdict,
    plan::{
        observed::{Task, TaskState},
        task_spec::{TaskReport, TaskSpec},
    },
};
use std::sync::Arc;

/// How a task will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It does its work and reports.
    Commits,
    /// One of its sources cannot be read.
    Broken,
    /// It fails before it has stored anything.
    Fails(Verdict),
    /// It is killed before it has stored anything.
    Killed,
    /// It does its work and is killed before it can say so.
    ReportLost,
    /// It never ends by itself but at its own last moment.
    Hangs,
    /// Not even then.
    Frozen,
    /// Its record disappears; with it the task, or not: then it commits unseen.
    Vanishes { unseen: bool },
    /// Its node answers no more, for this long.
    NodeLost(Ms),
}

/// A task and its future.
#[derive(Debug, Clone)]
pub struct SimTask {
    pub task: Task,
    pub spec: Arc<TaskSpec>,
    pub ending: Ending,
    /// It was asked to stop.
    pub stopping: bool,
    /// It was made by a call that came too late for its caller.
    pub late: bool,
}

impl SimTask {
    pub fn new(task: Task, spec: TaskSpec, late: bool) -> Self {
        Self { task, spec: Arc::new(spec), ending: Ending::Commits, stopping: false, late }
    }

    /// It was started and has not ended, as far as anybody can see.
    pub fn is_running(&self) -> bool {
        matches!(self.task.state, TaskState::Running { .. } | TaskState::Unreachable { .. })
    }

    /// It may be at work, and its node says so.
    pub fn is_live(&self) -> bool {
        matches!(self.task.state, TaskState::Pending { .. } | TaskState::Running { .. })
    }
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Starts,
    Ends,
    IsStopped,
    NodeIsBack,
}

impl World {
    /// Draws the future of a task that was just made: when it starts, or never.
    pub fn fate_of_task(&mut self, number: usize, uid: &str) -> Option<Ms> {
        let preflight = self.task(number, uid)?.task.name.is_preflight();
        let ending = if preflight && self.faults.strikes(Class::Tasks, 60, "node lost under a preflight") {
            Ending::NodeLost(self.faults.rng().wide(MINUTE, 9 * DAY))
        } else {
            self.draw_ending()
        };
        let task = self.task(number, uid)?;
        task.ending = ending;
        if self.faults.strikes(Class::Tasks, 15, "task never starts") {
            return None;
        }
        let slow = self.faults.strikes(Class::Tasks, 50, "task starts late");
        let longest = if slow {
            20 * MINUTE
        } else if preflight {
            2 * SECOND
        } else {
            20 * SECOND
        };
        Some(self.now + self.faults.rng().range(100, longest))
    }

    fn draw_ending(&mut self) -> Ending {
        if !self.faults.has(Class::Tasks) {
            return Ending::Commits;
        }
        let (ticket, long) = (self.faults.rng().below(1000), self.faults.rng().range(MINUTE, 2 * DAY));
        let (what, ending) = match ticket {
            0..700 => return Ending::Commits,
            700..740 => ("source unreadable", Ending::Broken),
            740..810 => ("task fails: temporary", Ending::Fails(Verdict::Temporary)),
            810..825 => ("task fails: permanent", Ending::Fails(Verdict::Permanent)),
            825..840 => ("task fails: guard", Ending::Fails(Verdict::Guard)),
            840..855 => ("task fails: credentials", Ending::Fails(Verdict::Credentials)),
            855..890 => ("task killed", Ending::Killed),
            890..920 => ("report lost", Ending::ReportLost),
            920..940 => ("task hangs", Ending::Hangs),
            940..955 => ("task frozen", Ending::Frozen),
            955..970 => ("task vanishes", Ending::Vanishes { unseen: false }),
            970..985 => ("task vanishes and goes on unseen", Ending::Vanishes { unseen: true }),
            _ => ("node lost", Ending::NodeLost(long)),
        };
        self.faults.count(what);
        ending
    }

    pub fn task(&mut self, number: usize, uid: &str) -> Option<&mut SimTask> {
        self.subjects[number].tasks.iter_mut().find(|t| t.task.uid == uid)
    }

    /// Lets something happen to a task; what follows, and when.
    pub fn act_of_task(&mut self, number: usize, uid: &str, act: Act) -> Option<(Ms, Act)> {
        let task = self.task(number, uid)?.clone();
        let now = self.now;
        match (act, &task.task.state) {
            (Act::Starts, TaskState::Pending { .. }) => {
                self.set_state(number, uid, TaskState::Running { since: stamp(now) });
                let last = ms(task.spec.not_after).max(now);
                let ends = match task.ending {
                    Ending::Hangs => last,
                    Ending::Frozen => return None,
                    _ => (now + self.duration(&task)).min(last),
                };
                Some((ends, Act::Ends))
            }
            (Act::Ends, TaskState::Running { .. } | TaskState::Unreachable { .. }) if !task.stopping => {
                self.end(number, uid, &task)
            }
            (Act::IsStopped, TaskState::Running { .. }) => {
                // Its last words may still come through.
                self.breaks_off(number, &task);
                let words = self.faults.strikes(Class::Tasks, 300, "stopped task reports");
                let report = words.then(|| report(Verdict::Temporary, "Stopped"));
                self.ended(number, uid, report);
                None
            }
            (Act::NodeIsBack, TaskState::Unreachable { .. }) => {
                if task.stopping {
                    self.breaks_off(number, &task);
                    self.remember(number);
                    self.subjects[number].tasks.retain(|t| t.task.uid != uid);
                    return None;
                }
                let report = self.work_of(number, &task);
                self.ended(number, uid, Some(report));
                None
            }
            _ => None,
        }
    }

    fn duration(&mut self, task: &SimTask) -> Ms {
        let slow = self.faults.strikes(Class::Remote, 30, "slow remote");
        let rng = self.faults.rng();
        let moves_data = task.task.name.slot.is_some() || site::fills(&task.spec);
        match (moves_data, slow) {
            (false, _) => rng.range(SECOND, 20 * SECOND),
            (true, false) => rng.wide(20 * SECOND, 90 * MINUTE),
            (true, true) => rng.range(HOUR, 9 * HOUR),
        }
    }

    fn work_of(&mut self, number: usize, task: &SimTask) -> TaskReport {
        let claimed_at = task.task.name.slot.and_then(|slot| self.subjects[number].ledger.claimed_at(slot));
        self.work(number, &task.spec, claimed_at.unwrap_or(0), task.ending == Ending::Broken)
    }

    fn end(&mut self, number: usize, uid: &str, task: &SimTask) -> Option<(Ms, Act)> {
        match task.ending {
            Ending::Commits | Ending::Broken => {
                let report = self.work_of(number, task);
                self.ended(number, uid, Some(report));
            }
            Ending::Fails(verdict) => self.ended(number, uid, Some(report(verdict, "Broken"))),
            Ending::Hangs | Ending::Frozen => {
                self.breaks_off(number, task);
                self.ended(number, uid, Some(report(Verdict::Temporary, "NobodyWaits")))
            }
            Ending::Killed => {
                self.breaks_off(number, task);
                self.ended(number, uid, None)
            }
            Ending::ReportLost => {
                self.work_of(number, task);
                self.ended(number, uid, None);
            }
            Ending::Vanishes { unseen } => {
                if unseen {
                    self.work_of(number, task);
                } else {
                    self.breaks_off(number, task);
                }
                self.remember(number);
                self.subjects[number].tasks.retain(|t| t.task.uid != uid);
            }
            Ending::NodeLost(time) => {
                self.set_state(number, uid, TaskState::Unreachable { since: stamp(self.now) });
                return Some((self.now + time, Act::NodeIsBack));
            }
        }
        None
    }

    fn ended(&mut self, number: usize, uid: &str, report: Option<TaskReport>) {
        let started_at = match self.task(number, uid).map(|t| &t.task.state) {
            Some(TaskState::Running { since } | TaskState::Unreachable { since }) => Some(*since),
            _ => None,
        };
        let (at, detail) = (stamp(self.now), String::new());
        self.set_state(
            number,
            uid,
            TaskState::Ended { started_at, at, report: report.map(Box::new), detail },
        );
    }

    fn set_state(&mut self, number: usize, uid: &str, state: TaskState) {
        self.remember(number);
        if let Some(task) = self.task(number, uid) {
            task.task.state = state;
        }
        self.check_alone(number);
    }
}
