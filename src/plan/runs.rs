//! What the runs that exist need next.

use crate::{
    domain::{
        run::{Attempt, Cancel, Run, Step},
        status::WaitingReason,
    },
    plan::{
        action::Action,
        claim::restoring,
        deadline::after,
        observed::{Recorded, Task, TaskName, TaskState, Wish},
        pass::Pass,
        phase::{Phase, phase},
        spec::run_task,
        summary,
    },
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// A restore that gives way to a run does so within seconds; should nobody say so, look again.
const RESTORE_GOES: Duration = Duration::from_secs(30);

impl<'a> Pass<'a> {
    /// What one run needs next.
    pub(super) fn advance(&mut self, recorded: &'a Recorded<Run>) {
        let mut run = Arc::clone(&recorded.value);
        self.apply_cancel(&mut run);
        let slot = run.slot;
        let tasks: Vec<&'a Task> = self.observed.tasks.iter().filter(|t| t.name.slot == Some(slot)).collect();
        match phase(&run, &tasks, self.now) {
            Phase::Over => self.delete(&tasks, "the run is over"),
            Phase::Harvest(attempts) => Arc::make_mut(&mut run).state.attempts.extend(attempts),
            Phase::Cancelling => {
                self.wait(WaitingReason::TaskStopping, format!("the tasks of run {slot} are being stopped"));
                self.delete(&tasks, "a person cancelled the run");
            }
            Phase::Stopping(task) => self.stop(task),
            Phase::Waiting(task, until) => {
                self.at = Some((slot, task.name.step.clone(), number(&task.name)));
                self.waits_for(task, until);
            }
            Phase::GivenUp(task, attempt) => self.give_up(Arc::make_mut(&mut run), task, *attempt),
            Phase::Attempt(step, number) => {
                self.at = Some((slot, step.name.clone(), number));
                self.attempt(&run, &step, number);
            }
            Phase::Backoff(step, number, until) => {
                self.wait(
                    WaitingReason::Backoff,
                    format!("attempt {number} of step {} at {until}", step.name),
                );
                self.at = Some((slot, step.name, number));
                self.decision.wake(until);
            }
            Phase::End(end) => {
                Arc::make_mut(&mut run).state.end = Some(end);
                self.delete(&tasks, "the run is over");
            }
        }
        self.record_run(recorded, &run);
        self.runs.push(run);
    }

    /// Launches a task, unless a restore began at the same moment: it sees the run, and gives way.
    fn attempt(&mut self, run: &Run, step: &Step, number: u32) {
        if let Some(restore) = restoring(self.observed) {
            self.decision.waiting_on.push(restore);
            self.decision.wake(after(self.now, RESTORE_GOES));
            return;
        }
        let task = run_task(run, step, number, self.observed, self.now);
        self.act(Action::CreateTask(Box::new(task)));
    }

    /// A person's wish to cancel is part of the run's record before anything is done about it.
    fn apply_cancel(&mut self, run: &mut Arc<Run>) {
        let wanted = self.observed.requests.iter().find(|r| match &r.wish {
            Wish::Cancel { slot } => slot.is_none_or(|s| s == run.slot),
            Wish::Run { .. } => false,
        });
        if let Some(request) = wanted.filter(|_| run.state.end.is_none() && run.state.cancel.is_none()) {
            Arc::make_mut(run).state.cancel = Some(Cancel { requested_at: request.requested_at });
        }
    }

    fn waits_for(&mut self, task: &Task, until: Timestamp) {
        let name = &task.name;
        let (reason, message) = match &task.state {
            TaskState::Pending { why, .. } => {
                (WaitingReason::TaskPending, format!("task {name} has not started: {why}"))
            }
            TaskState::Unreachable { .. } => {
                (WaitingReason::TaskUnreachable, format!("the node of task {name} does not answer"))
            }
            TaskState::Running { .. } | TaskState::Ended { .. } => {
                (WaitingReason::TaskRunning, format!("task {name} runs"))
            }
        };
        self.wait(reason, message);
        self.decision.wake(until);
    }

    /// The attempt is recorded first: a death before the deletion finds a recorded attempt whose task is to be stopped.
    fn give_up(&mut self, run: &mut Run, task: &Task, attempt: Attempt) {
        self.at = Some((run.slot, attempt.step.clone(), attempt.number));
        run.state.attempts.push(attempt);
        self.stop(task);
    }

    fn stop(&mut self, task: &Task) {
        self.wait(WaitingReason::TaskStopping, format!("task {} is being stopped", task.name));
        self.delete(&[task], "it is past its deadline");
    }

    fn record_run(&mut self, recorded: &Recorded<Run>, run: &Arc<Run>) {
        if !Arc::ptr_eq(run, &recorded.value) && run.state != recorded.value.state {
            let (slot, revision) = (run.slot, recorded.revision.clone());
            self.act(Action::RecordRun { slot, revision, state: Box::new(run.state.clone()) });
        }
        summary::add_run(&mut self.status, run, self.horizon);
    }
}

fn number(name: &TaskName) -> u32 {
    u32::try_from(name.attempt).unwrap_or(u32::MAX)
}
