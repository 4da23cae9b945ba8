//! Observe, decide, act, record: for every policy, whenever something about it may have changed or a time has come.
//!
//! One task owns the [`Machine`], so that decisions are taken one by one and caps hold; the calls that it asks for run
//! beside it, each with a deadline, at most one pass of a policy at a time. A policy in trouble waits by itself. Nothing
//! runs while nothing is due.

use crate::{
    controller::{
        clock::Clock,
        machine::{Answer, Call, Machine, broke_off},
        port::{Create, Created, Delete, Orchestrator, PortError, Record, Wake},
        settings::Settings,
    },
    domain::identity::PolicyId,
    plan::{action::Action, decide::decide},
};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{error, info};

/// What probes are told.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// True once all policies were listed.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// Runs until `shutdown` is done; passes under way are finished, tasks live on.
pub async fn run(
    port: Arc<dyn Orchestrator>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let wakes = port.wakes();
    let deadline = settings.call_deadline;
    let machine = Machine::new(settings, Box::new(decide), clock.now());
    Shell { port, clock, deadline, health, machine, work: JoinSet::new() }.run(wakes, shutdown).await;
}

struct Shell {
    port: Arc<dyn Orchestrator>,
    clock: Arc<dyn Clock>,
    /// Each call may take this long.
    deadline: Duration,
    health: Arc<Health>,
    machine: Machine,
    work: JoinSet<Answer>,
}

impl Shell {
    async fn run(&mut self, mut wakes: mpsc::Receiver<Wake>, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        loop {
            let now = self.clock.now();
            self.machine.due(now).into_iter().for_each(|call| self.call(call));
            let next = self.machine.next_look(now).unwrap_or(Timestamp::MAX);
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                () = &mut shutdown => break,
                Some(done) = self.work.join_next(), if !self.work.is_empty() => self.take(done),
                Some(wake) = wakes.recv() => self.machine.hear(&wake, self.clock.now()),
                () = clock.sleep_until(next) => {}
            }
        }
        info!("stopping; tasks live on");
        self.machine.stop();
        while let Some(done) = self.work.join_next().await {
            self.take(done);
        }
    }

    fn call(&mut self, call: Call) {
        let (port, deadline) = (Arc::clone(&self.port), self.deadline);
        self.work.spawn(async move {
            let answer = within(deadline, perform(port.as_ref(), &call)).await;
            answer.unwrap_or_else(|error| call.failed(error))
        });
    }

    fn take(&mut self, done: Result<Answer, tokio::task::JoinError>) {
        match done {
            Ok(answer) => {
                let next = self.machine.answer(answer, self.clock.now());
                self.health.ready.store(self.machine.is_ready(), Ordering::Relaxed);
                next.into_iter().for_each(|call| self.call(call));
            }
            // Calls catch their own panics.
            Err(panic) => error!(%panic, "a call broke off; this is a bug of backstay"),
        }
    }
}

/// Makes one call.
pub async fn perform(port: &dyn Orchestrator, call: &Call) -> Answer {
    match call {
        Call::List => Answer::Listed(port.list().await),
        Call::Observe(id) => Answer::Observed(id.clone(), port.observe(id).await.map(Box::new)),
        Call::Act(id, action) => Answer::Acted(id.clone(), act(port, id, action).await),
    }
}

async fn act(port: &dyn Orchestrator, id: &PolicyId, action: &Action) -> Result<(), PortError> {
    match action {
        Action::CreateRun(run) => {
            info!(policy = %id, slot = %run.slot, "claiming the slot");
            created(port.create(id, Create::Run(run)).await?)
        }
        Action::CreateTask(task) => {
            info!(policy = %id, task = %task.name, "launching the task");
            created(port.create(id, Create::Task(task)).await?)
        }
        Action::RecordRun { slot, revision, state } => {
            if let Some(end) = &state.end {
                info!(policy = %id, %slot, outcome = ?end.outcome, reason = %end.reason, "{}", end.message);
            }
            port.record(id, Record::Run { slot: *slot, revision, state }).await
        }
        Action::AnswerRequest { id: request, answer } => {
            info!(policy = %id, request, ?answer, "answering");
            port.record(id, Record::Answer { id: request, answer }).await
        }
        Action::DeleteTask { name, uid, why, ended } => {
            info!(policy = %id, task = %name, "deleting the task: {why}");
            port.delete(id, Delete::Task { uid, ended: *ended }).await
        }
        Action::DeleteRun { slot } => port.delete(id, Delete::Run { slot: *slot }).await,
        Action::RecordStatus { revision, status } => {
            port.record(id, Record::Status { revision: revision.as_deref(), status }).await
        }
    }
}

fn created(created: Created) -> Result<(), PortError> {
    match created {
        Created::Fresh | Created::Ours => Ok(()),
        Created::Foreign(what) => Err(PortError::Rejected(format!("a name is taken: {what}"))),
    }
}

/// A call that outlives its deadline may have had its effect. One that panics ends only itself.
async fn within<T>(deadline: Duration, call: impl Future<Output = T>) -> Result<T, PortError> {
    let call = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(deadline, call).await {
        Ok(caught) => caught.map_err(|_| broke_off()),
        Err(_) => Err(PortError::MaybeDone(format!("no answer within {} s", deadline.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::error::Invalid,
        plan::observed::{Declared, Observed, Secrets, Spec},
    };
    use async_trait::async_trait;
    use std::sync::Mutex;
    use tokio::sync::Notify;

    /// Two policies; observing the first panics. Remembers who was observed, and who got a status.
    #[derive(Default)]
    struct Port {
        seen: Mutex<Vec<(String, &'static str)>>,
        done: Arc<Notify>,
    }

    impl Port {
        fn note(&self, policy: &PolicyId, what: &'static str) {
            let mut seen = self.seen.lock().unwrap();
            seen.push((policy.to_string(), what));
            let count =
                |wanted: (&str, &str)| seen.iter().filter(|(p, w)| (p.as_str(), *w) == wanted).count();
            if count(("broken", "observed")) >= 3 && count(("fine", "recorded")) >= 1 {
                self.done.notify_one();
            }
        }
    }

    #[async_trait]
    impl Orchestrator for Port {
        fn wakes(&self) -> mpsc::Receiver<Wake> {
            mpsc::channel(1).1
        }

        async fn list(&self) -> Result<Vec<Declared>, PortError> {
            let declared = |name: &str| Declared {
                id: name.parse().unwrap(),
                generation: 1,
                created_at: None,
                spec: Spec::Wrong(Invalid::new("wrong")),
                secrets: Secrets::default(),
            };
            Ok(["broken", "fine"].map(declared).into())
        }

        async fn observe(&self, policy: &PolicyId) -> Result<Observed, PortError> {
            self.note(policy, "observed");
            assert_ne!(policy.to_string(), "broken", "a planted bug");
            Ok(Observed::default())
        }

        async fn create(&self, _: &PolicyId, _: Create<'_>) -> Result<Created, PortError> {
            Ok(Created::Fresh)
        }

        async fn record(&self, policy: &PolicyId, _: Record<'_>) -> Result<(), PortError> {
            self.note(policy, "recorded");
            Ok(())
        }

        async fn delete(&self, _: &PolicyId, _: Delete<'_>) -> Result<(), PortError> {
            Ok(())
        }
    }

    /// Starts at 1970 and jumps to whatever is waited for.
    struct Jumping(Mutex<Timestamp>);

    #[async_trait]
    impl Clock for Jumping {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        async fn sleep_until(&self, until: Timestamp) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut now = self.0.lock().unwrap();
            *now = until.max(*now);
        }
    }

    #[tokio::test]
    async fn a_panic_in_one_policys_pass_is_tried_again_and_stops_no_other() {
        let port = Arc::new(Port::default());
        let done = Arc::clone(&port.done);
        let clock = Arc::new(Jumping(Mutex::new(Timestamp::UNIX_EPOCH)));
        let shutdown = async move { done.notified().await };
        run(port, clock, Settings::default(), Arc::default(), shutdown).await;
    }
}
