//! Observe, decide, act, record: for every policy, whenever something about it may have changed or a time has come.
//!
//! One task owns all state and takes the decisions one by one, so that caps hold; calls to the orchestrator run beside
//! it, each with a deadline, at most one pass of a policy at a time. A policy in trouble waits by itself. Nothing runs
//! while nothing is due.

use crate::{
    controller::{
        clock::Clock,
        port::{Create, Created, Delete, Orchestrator, PortError, Record, Wake},
        queue::Queue,
    },
    domain::identity::PolicyId,
    plan::{
        action::{Action, Decision},
        decide::decide,
        observed::{Caps, Declared, Observed},
    },
};
use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{error, info, warn};

/// How the loop behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many runs may be active.
    pub caps: Caps,
    /// Each call to the orchestrator may take this long.
    pub call_deadline: Duration,
    /// Everything is looked at again after this time, should hints have been lost.
    pub resync: Duration,
    /// Passes that may be under way at once.
    pub passes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            call_deadline: Duration::from_secs(30),
            resync: Duration::from_secs(600),
            passes: 8,
        }
    }
}

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

/// Runs until `shutdown` is done; actions under way are finished, tasks live on.
pub async fn run(
    port: Arc<dyn Orchestrator>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let wakes = port.wakes();
    let now = clock.now();
    let mut controller = Controller {
        port,
        clock,
        settings,
        health,
        queue: Queue::default(),
        work: JoinSet::new(),
        list_at: Some(now),
        resync_at: now,
        list_failures: 0,
        list_again: false,
    };
    controller.run(wakes, shutdown).await;
}

struct Controller {
    port: Arc<dyn Orchestrator>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    health: Arc<Health>,
    queue: Queue,
    work: JoinSet<Done>,
    /// When to list; `None` while a list is under way.
    list_at: Option<Timestamp>,
    /// The first list from then on makes every policy due.
    resync_at: Timestamp,
    list_failures: u32,
    /// A hint came while a list was under way.
    list_again: bool,
}

/// A call, or a row of calls, that ended.
enum Done {
    Listed(Result<Vec<Declared>, PortError>),
    Observed(PolicyId, Result<Box<Observed>, PortError>),
    Acted(PolicyId, Box<Decision>, Result<(), PortError>),
}

impl Controller {
    async fn run(&mut self, mut wakes: mpsc::Receiver<Wake>, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        loop {
            let now = self.clock.now();
            self.start_due(now);
            let next = self.next_look(now);
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                () = &mut shutdown => break,
                Some(done) = self.work.join_next(), if !self.work.is_empty() => self.take(done),
                Some(wake) = wakes.recv() => self.hear(wake),
                () = clock.sleep_until(next) => {}
            }
        }
        info!("stopping; tasks live on");
        // What was begun ends by its own deadline.
        while self.work.join_next().await.is_some() {}
    }

    /// Starts a list and the passes that are due.
    fn start_due(&mut self, now: Timestamp) {
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            let (port, deadline) = (Arc::clone(&self.port), self.settings.call_deadline);
            self.work.spawn(async move { Done::Listed(within(deadline, port.list()).await) });
        }
        let busy = self.queue.entries.values().filter(|entry| entry.busy).count();
        for id in self.queue.due(self.settings.passes.saturating_sub(busy), now) {
            if let Some(entry) = self.queue.entries.get_mut(&id) {
                entry.busy = true;
                let (port, deadline) = (Arc::clone(&self.port), self.settings.call_deadline);
                self.work.spawn(async move {
                    let observed = within(deadline, port.observe(&id)).await;
                    Done::Observed(id, observed.map(Box::new))
                });
            }
        }
    }

    /// When the next thing is due after `now`. What is due by then waits for a pass that ends.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        [self.queue.next(now), self.list_at].into_iter().flatten().min().unwrap_or(Timestamp::MAX)
    }

    fn hear(&mut self, wake: Wake) {
        let now = self.clock.now();
        match wake {
            Wake::Policies => {
                self.list_again = self.list_at.is_none();
                self.list_at = self.list_at.map(|at| at.min(now));
            }
            Wake::Policy(id) => {
                if let Some(entry) = self.queue.entries.get_mut(&id) {
                    entry.wake(now);
                }
            }
        }
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Listed(listed)) => self.listed(listed),
            Ok(Done::Observed(id, Ok(observed))) => self.observed(&id, *observed),
            Ok(Done::Observed(id, Err(error))) => self.failed(&id, &error),
            Ok(Done::Acted(id, decision, Ok(()))) => self.acted(&id, &decision),
            Ok(Done::Acted(id, _, Err(error))) => self.failed(&id, &error),
            // Calls catch their own panics.
            Err(panic) => error!(%panic, "a pass broke off; this is a bug of backstay"),
        }
    }

    fn listed(&mut self, listed: Result<Vec<Declared>, PortError>) {
        let now = self.clock.now();
        let after = |d: Duration| SignedDuration::try_from(d).ok().and_then(|d| now.saturating_add(d).ok());
        match listed {
            Ok(declared) => {
                let resync = now >= self.resync_at;
                if resync {
                    self.resync_at = after(self.settings.resync).unwrap_or(now);
                }
                self.queue.replace(declared, resync, now);
                self.list_failures = 0;
                self.list_at = Some(if std::mem::take(&mut self.list_again) { now } else { self.resync_at });
                self.health.ready.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                warn!(%error, "the policies cannot be listed; nothing changes until they can");
                self.list_failures = self.list_failures.saturating_add(1);
                let pause = Duration::from_secs(1 << self.list_failures.min(6));
                self.list_at = Some(after(pause).unwrap_or(now));
            }
        }
    }

    /// The decision is taken here, in the one task that knows what all policies use.
    fn observed(&mut self, id: &PolicyId, mut observed: Observed) {
        let now = self.clock.now();
        let is_known = self.queue.is_known();
        let Some(entry) = self.queue.entries.get_mut(id) else { return };
        if !is_known {
            entry.occupies = observed.active_run().map(|run| run.value.plan.destination.clone());
            entry.preflight = entry.destination().filter(|_| observed.has_preflight()).cloned();
            entry.seen = true;
            return entry.rest(Some(now), now);
        }
        observed.refusal.clone_from(&entry.refusal);
        let declared = entry.declared.clone();
        let load = self.queue.load(id, self.settings.caps);
        // A fault of ours in one policy's decision must not stop the others.
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&declared, &observed, &load, now)));
        let Ok(decision) = decided else { return self.failed(id, &broke_off()) };
        self.queue.note(id, &decision, self.settings.caps, now);
        if decision.is_idle() {
            return self.acted(id, &decision);
        }
        let (port, deadline, id) = (Arc::clone(&self.port), self.settings.call_deadline, id.clone());
        self.work.spawn(async move {
            let result = act(port.as_ref(), deadline, &id, &decision).await;
            Done::Acted(id, Box::new(decision), result)
        });
    }

    fn acted(&mut self, id: &PolicyId, decision: &Decision) {
        let now = self.clock.now();
        if let Some(entry) = self.queue.entries.get_mut(id) {
            let found_work = decision.actions.iter().any(Action::asks_for_another_look);
            entry.succeed(found_work, decision.wake_at, now);
        }
    }

    fn failed(&mut self, id: &PolicyId, error: &PortError) {
        let now = self.clock.now();
        let Some(entry) = self.queue.entries.get_mut(id) else { return };
        match error {
            PortError::Conflict(_) => info!(policy = %id, %error, "observing again"),
            PortError::Unavailable(_) | PortError::MaybeDone(_) => {
                warn!(policy = %id, %error, "observing again after a pause");
            }
            PortError::Rejected(message) => {
                warn!(policy = %id, %error, "refused");
                entry.refusal = Some(message.clone());
            }
        }
        entry.fail(now);
    }
}

/// Does the actions in order; the first that meets an error ends the pass.
async fn act(
    port: &dyn Orchestrator,
    deadline: Duration,
    id: &PolicyId,
    decision: &Decision,
) -> Result<(), PortError> {
    for action in &decision.actions {
        within(deadline, one(port, id, action)).await?;
    }
    Ok(())
}

async fn one(port: &dyn Orchestrator, id: &PolicyId, action: &Action) -> Result<(), PortError> {
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
        Action::DeleteTask { name, uid, why } => {
            info!(policy = %id, task = %name, "deleting the task: {why}");
            port.delete(id, Delete::Task { uid }).await
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

/// A panic's message is on stderr already.
fn broke_off() -> PortError {
    PortError::Unavailable(
        "Backstay itself broke off: a bug; the log has the details, please report them".to_owned(),
    )
}

/// A call that outlives its deadline may have had its effect. One that panics ends only itself.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let late = |_| PortError::MaybeDone(format!("no answer within {} s", deadline.as_secs()));
    let call =
        AssertUnwindSafe(call).catch_unwind().map(|caught| caught.unwrap_or_else(|_| Err(broke_off())));
    tokio::time::timeout(deadline, call).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::error::Invalid,
        plan::observed::{Secrets, Spec},
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
