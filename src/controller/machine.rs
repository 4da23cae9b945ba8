//! The controller without its surroundings: what happened goes in, the calls to be made come out.
//!
//! It reads no clock, waits for nothing and calls nobody, so the same events at the same times give the same calls, and a
//! simulation can take it through a year in a moment. [`run_loop`](super::run_loop) makes the calls.

use crate::{
    controller::{
        port::{PortError, Wake},
        queue::Queue,
        settings::Settings,
    },
    domain::identity::PolicyId,
    plan::{
        action::{Action, Decision},
        observed::{Declared, Load, Observed},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tracing::{info, warn};

/// What decides about one policy: [`crate::plan::decide::decide`].
pub type Decide = Box<dyn Fn(&Declared, &Observed, &Load, Timestamp) -> Decision + Send>;

/// A call to the orchestrator that is to be made now. Each is answered once, by [`Machine::answer`].
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// All policies.
    List,
    /// Everything about one policy.
    Observe(PolicyId),
    /// One effect on one policy.
    Act(PolicyId, Box<Action>),
}

impl Call {
    /// The answer that says that the call met an error.
    pub fn failed(&self, error: PortError) -> Answer {
        match self {
            Self::List => Answer::Listed(Err(error)),
            Self::Observe(id) => Answer::Observed(id.clone(), Err(error)),
            Self::Act(id, _) => Answer::Acted(id.clone(), Err(error)),
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of [`Call::List`].
    Listed(Result<Vec<Declared>, PortError>),
    /// Of [`Call::Observe`].
    Observed(PolicyId, Result<Box<Observed>, PortError>),
    /// Of [`Call::Act`].
    Acted(PolicyId, Result<(), PortError>),
}

/// All that the controller knows. Everything but the caps can be forgotten and is found again.
pub struct Machine {
    settings: Settings,
    decide: Decide,
    queue: Queue,
    /// When to list; `None` while a list is under way.
    list_at: Option<Timestamp>,
    /// The first list from then on makes every policy due.
    resync_at: Timestamp,
    list_failures: u32,
    /// A hint came while a list was under way.
    list_again: bool,
    /// All policies were listed once.
    ready: bool,
    /// Passes under way end, nothing else begins.
    stopping: bool,
}

impl Machine {
    /// A controller that has just started and knows nothing.
    pub fn new(settings: Settings, decide: Decide, now: Timestamp) -> Self {
        Self {
            settings,
            decide,
            queue: Queue::default(),
            list_at: Some(now),
            resync_at: now,
            list_failures: 0,
            list_again: false,
            ready: false,
            stopping: false,
        }
    }

    /// True once all policies were listed.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// From now on only passes under way are brought to their end.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The calls that are due: a list, and the looks at policies that may be made at once.
    pub fn due(&mut self, now: Timestamp) -> Vec<Call> {
        if self.stopping {
            return Vec::new();
        }
        let mut calls = Vec::new();
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            calls.push(Call::List);
        }
        let room = self.settings.passes.saturating_sub(self.queue.busy());
        for id in self.queue.due(room, now) {
            self.queue.begin(&id, now);
            calls.push(Call::Observe(id));
        }
        calls
    }

    /// When the next thing is due after `now`; what is due by then waits for a pass that ends.
    pub fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        [self.queue.next(now), self.list_at].into_iter().flatten().min()
    }

    /// Takes a hint.
    pub fn hear(&mut self, wake: &Wake, now: Timestamp) {
        match wake {
            Wake::Policies => {
                self.list_again = self.list_at.is_none();
                self.list_at = self.list_at.map(|at| at.min(now));
            }
            Wake::Policy(id) => {
                if let Some(entry) = self.queue.entries.get_mut(id) {
                    entry.wake(now);
                }
            }
        }
    }

    /// Takes the answer to a call; gives the call that follows it in the same pass.
    pub fn answer(&mut self, answer: Answer, now: Timestamp) -> Option<Call> {
        match answer {
            Answer::Listed(listed) => self.listed(listed, now),
            Answer::Observed(id, Ok(observed)) => return self.observed(id, *observed, now),
            Answer::Acted(id, Ok(())) => return self.go_on(id, now),
            Answer::Observed(id, Err(error)) | Answer::Acted(id, Err(error)) => self.failed(&id, &error, now),
        }
        None
    }

    fn listed(&mut self, listed: Result<Vec<Declared>, PortError>, now: Timestamp) {
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
                self.ready = true;
            }
            Err(error) => {
                warn!(%error, "the policies cannot be listed; nothing changes until they can");
                self.list_failures = self.list_failures.saturating_add(1);
                let pause = Duration::from_secs(1 << self.list_failures.min(6));
                self.list_at = Some(after(pause).unwrap_or(now));
            }
        }
    }

    /// The decision is taken here, by the one who knows what all policies use.
    fn observed(&mut self, id: PolicyId, mut observed: Observed, now: Timestamp) -> Option<Call> {
        let is_known = self.queue.is_known();
        let entry = self.queue.entries.get_mut(&id)?;
        if !entry.known {
            let run = observed.active_run().map(|run| run.value.plan.destination.clone());
            let preflight = entry.looks_at(&observed, now).cloned();
            entry.found(run, preflight);
        }
        if !is_known || self.stopping {
            entry.rest(Some(now), now);
            return None;
        }
        observed.refusal.clone_from(&entry.refusal);
        let load = self.queue.load(&id, self.settings.caps);
        let declared = &self.queue.entries.get(&id)?.declared;
        // A fault of ours in one policy's decision must not stop the others.
        let decided = catch_unwind(AssertUnwindSafe(|| (self.decide)(declared, &observed, &load, now)));
        let Ok(decision) = decided else {
            self.failed(&id, &broke_off(), now);
            return None;
        };
        self.queue.decided(&id, decision);
        self.go_on(id, now)
    }

    /// The next action of the pass, or its end.
    fn go_on(&mut self, id: PolicyId, now: Timestamp) -> Option<Call> {
        let pass = self.queue.entries.get_mut(&id)?.pass.as_mut()?;
        let Some(action) = pass.actions.next() else {
            self.queue.succeed(&id, self.settings.caps, now);
            return None;
        };
        Some(Call::Act(id, Box::new(action)))
    }

    /// The first error ends the pass.
    fn failed(&mut self, id: &PolicyId, error: &PortError, now: Timestamp) {
        let Some(entry) = self.queue.entries.get_mut(id) else { return };
        match error {
            PortError::Conflict(_) => info!(policy = %id, %error, "observing again"),
            PortError::Unavailable(_) | PortError::MaybeDone(_) => {
                warn!(policy = %id, %error, "observing again after a pause");
            }
            PortError::Rejected(message) => {
                warn!(policy = %id, %error, "refused");
                // Of what the policy no longer says nothing needs to be told.
                entry.refusal = Some(message.clone()).filter(|_| !entry.outdated);
            }
        }
        self.queue.fail(id, now);
    }
}

/// A panic's message is on stderr already.
pub(super) fn broke_off() -> PortError {
    PortError::Unavailable(
        "Backstay itself broke off: a bug; the log has the details, please report them".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controller::queue::tests::declared,
        domain::{location::RcloneConfig, policy::RestoreFrom, run::StepName, snapshot::AsOf},
        plan::observed::{Caps, Spec, Task, TaskName, TaskState},
    };
    use std::sync::Arc;

    /// A machine whose every decision is one action; a policy, and the time.
    fn that_always_acts() -> (Machine, PolicyId, Timestamp) {
        let now = Timestamp::UNIX_EPOCH;
        let forget = Action::DeleteRun { slot: "20261125T020000Z".parse().unwrap() };
        let decide =
            move |_: &_, _: &_, _: &_, _| Decision { actions: vec![forget.clone()], ..Decision::default() };
        let machine = Machine::new(Settings::default(), Box::new(decide), now);
        (machine, "a".parse().unwrap(), now)
    }

    #[test]
    fn a_look_that_succeeds_ends_the_guess_though_what_follows_fails() {
        let (mut machine, id, now) = that_always_acts();
        let other = "b".parse().unwrap();
        let counts = |machine: &Machine| machine.queue.load(&other, Caps::default()).unseen;
        machine.answer(Answer::Listed(Ok(vec![declared("a")])), now);
        let refused = PortError::Unavailable("not now".to_owned());
        machine.answer(Answer::Observed(id.clone(), Err(refused)), now);
        assert_eq!(counts(&machine), 1, "it may have a run");
        let act = machine.answer(Answer::Observed(id.clone(), Ok(Box::default())), now).unwrap();
        machine.answer(act.failed(PortError::Rejected("no".to_owned())), now);
        assert_eq!(counts(&machine), 0, "it has none");
    }

    #[test]
    fn a_configuration_is_in_use_by_what_fills_a_site_from_the_first_look_on() {
        let (mut machine, id, now) = that_always_acts();
        let mut filled = declared("a");
        let Spec::Valid(policy) = &mut filled.spec else { panic!("not valid") };
        let policy = Arc::make_mut(policy);
        let mut location = policy.destination.clone();
        location.config = RcloneConfig::Directory("/etc/rclone".into());
        let (instance, name) = (policy.instance.clone(), policy.name.clone());
        let as_of = AsOf::Latest;
        policy.restore_from =
            Some(RestoreFrom { location: location.clone(), instance, policy: name, as_of, users: false });
        machine.answer(Answer::Listed(Ok(vec![filled, declared("b")])), now);
        let name = TaskName { slot: None, step: StepName::bootstrap(false, 1), attempt: 3 };
        let task = Task { name, uid: "1".to_owned(), state: TaskState::Running { since: now } };
        let observed = Observed { tasks: vec![task], ..Observed::default() };
        machine.answer(Answer::Observed(id, Ok(Box::new(observed))), now);
        let load = machine.queue.load(&"b".parse().unwrap(), Caps::default());
        assert!(load.full_of_preflights(&location));
    }

    #[test]
    fn a_refusal_of_what_the_policy_said_before_is_not_kept() {
        let (mut machine, id, now) = that_always_acts();
        let look = || Answer::Observed(id.clone(), Ok(Box::default()));
        machine.answer(Answer::Listed(Ok(vec![declared("a")])), now);
        assert!(machine.answer(look(), now).is_none(), "the first look only shows what is used");
        machine.due(now);
        let act = machine.answer(look(), now).unwrap();
        let edited = Declared { generation: 2, ..declared("a") };
        machine.answer(Answer::Listed(Ok(vec![edited])), now);
        machine.answer(act.failed(PortError::Rejected("no".to_owned())), now);
        assert_eq!(machine.queue.entries[&id].refusal, None);
        machine.due(now + SignedDuration::from_secs(2));
        let act = machine.answer(look(), now).unwrap();
        machine.answer(act.failed(PortError::Rejected("no".to_owned())), now);
        assert!(machine.queue.entries[&id].refusal.is_some(), "that is of now");
    }

    #[test]
    fn a_pass_that_meets_no_refusal_ends_it() {
        let (mut machine, id, now) = that_always_acts();
        machine.answer(Answer::Listed(Ok(vec![declared("a")])), now);
        let look = || Answer::Observed(id.clone(), Ok(Box::default()));
        assert!(machine.answer(look(), now).is_none(), "the first look only shows what is used");
        let act = machine.answer(look(), now).unwrap();
        machine.answer(act.failed(PortError::Rejected("no".to_owned())), now);
        assert_eq!(machine.queue.entries[&id].refusal.as_deref(), Some("no"));
        machine.answer(look(), now).unwrap();
        machine.answer(Answer::Acted(id.clone(), Ok(())), now);
        assert_eq!(machine.queue.entries[&id].refusal, None);
        assert_eq!(machine.queue.entries[&id].due, Some(now), "it is told at once");
    }
}
