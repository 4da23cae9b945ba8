//! A site for one who waits for something on it: what cannot be asked for a while is asked again.

use crate::{
    cli::output,
    domain::{
        identity::PolicyId,
        names::{Slot, SnapshotName},
        run::RunState,
        status::Status,
        verdict::Failure,
    },
    orchestrators::site::{
        Controller, Known, OUTAGE, Problem, Read, Site, TaskLog, UNAVAILABLE, UNREACHABLE,
    },
    plan::{action::Answer, observed::Wish, task_spec::Progress},
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What fails again within this time belongs to the outage that was told already.
const ONE_OUTAGE: Duration = Duration::from_secs(60);

/// The site. Only what changes nothing is asked again.
pub struct Patient<'a> {
    site: &'a dyn Site,
    /// The longest outage that is borne.
    bound: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// It has answered: its address is right.
    has_answered: bool,
    failed_at: Option<Instant>,
}

impl<'a> Patient<'a> {
    /// For one who gives up after `limit` in any case.
    pub fn new(site: &'a dyn Site, limit: Option<Duration>) -> Self {
        Self { site, bound: limit.map_or(OUTAGE, |limit| limit.min(OUTAGE)), seen: Mutex::default() }
    }

    async fn insist<T, A>(&self, ask: impl Fn() -> A) -> Result<T, Failure>
    where
        A: Future<Output = Result<T, Failure>>,
    {
        let begun = Instant::now();
        loop {
            let failure = match ask().await {
                Err(failure) => failure,
                answer => {
                    self.seen.lock().unwrap_or_else(PoisonError::into_inner).has_answered = true;
                    return answer;
                }
            };
            if begun.elapsed() > self.bound || !self.bears(&failure) {
                return Err(failure);
            }
            tokio::time::sleep(self.site.pace()).await;
        }
    }

    /// True for what passes by itself; once in an outage that is said.
    fn bears(&self, failure: &Failure) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = failure.reason == UNAVAILABLE || failure.reason == UNREACHABLE && seen.has_answered;
        let is_new = seen.failed_at.is_none_or(|at| at.elapsed() > ONE_OUTAGE);
        if passes && is_new {
            let bound = self.bound.as_secs();
            output::note(format!("no answer at the moment, waiting for up to {bound} s: {failure}"));
        }
        seen.failed_at = Some(Instant::now());
        passes
    }
}

#[async_trait]
impl Site for Patient<'_> {
    async fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
        self.insist(|| self.site.all()).await
    }

    fn pace(&self) -> Duration {
        self.site.pace()
    }

    async fn controller(&self) -> Result<Controller, Failure> {
        self.insist(|| self.site.controller()).await
    }

    async fn ask(
        &self,
        policy: &PolicyId,
        wish: Wish,
        patience: Duration,
        now: Timestamp,
    ) -> Result<String, Failure> {
        self.site.ask(policy, wish, patience, now).await
    }

    async fn renew(&self, policy: &PolicyId, id: &str, now: Timestamp) -> Result<(), Failure> {
        self.insist(|| self.site.renew(policy, id, now)).await
    }

    /// Not again: who takes it back is about to end, and without an asker it ends by itself.
    async fn withdraw(&self, policy: &PolicyId, id: &str) -> Result<(), Failure> {
        self.site.withdraw(policy, id).await
    }

    async fn answer(&self, policy: &PolicyId, id: &str) -> Result<Option<Answer>, Failure> {
        self.insist(|| self.site.answer(policy, id)).await
    }

    async fn status(&self, policy: &PolicyId) -> Result<Option<Status>, Failure> {
        self.insist(|| self.site.status(policy)).await
    }

    async fn runs(&self, policy: &PolicyId) -> Result<Vec<Slot>, Failure> {
        self.insist(|| self.site.runs(policy)).await
    }

    async fn run(&self, policy: &PolicyId, slot: Slot) -> Result<Option<RunState>, Failure> {
        self.insist(|| self.site.run(policy, slot)).await
    }

    async fn progress(&self, policy: &PolicyId, slot: Slot) -> Result<Option<Progress>, Failure> {
        self.insist(|| self.site.progress(policy, slot)).await
    }

    async fn logs(
        &self,
        policy: &PolicyId,
        slot: Option<Slot>,
        read: &Read,
    ) -> Result<Vec<TaskLog>, Failure> {
        self.insist(|| self.site.logs(policy, slot, read)).await
    }

    async fn held(&self, policy: &PolicyId) -> Result<Vec<SnapshotName>, Failure> {
        self.insist(|| self.site.held(policy)).await
    }

    async fn hold(&self, policy: &PolicyId, snapshot: &SnapshotName, held: bool) -> Result<(), Failure> {
        self.site.hold(policy, snapshot, held).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Answers as it is told, call after call.
    struct Told {
        answers: Vec<Result<(), &'static str>>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl Site for Told {
        async fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
            let n = self.calls.fetch_add(1, Ordering::Relaxed);
            let answer = self.answers.get(n).copied().unwrap_or(Ok(()));
            answer
                .map(|()| (Vec::new(), Vec::new()))
                .map_err(|reason| Failure::temporary(reason, "no leader"))
        }
        fn pace(&self) -> Duration {
            Duration::from_millis(1)
        }
        async fn controller(&self) -> Result<Controller, Failure> {
            unreachable!()
        }
        async fn ask(&self, _: &PolicyId, _: Wish, _: Duration, _: Timestamp) -> Result<String, Failure> {
            unreachable!()
        }
        async fn renew(&self, _: &PolicyId, _: &str, _: Timestamp) -> Result<(), Failure> {
            unreachable!()
        }
        async fn withdraw(&self, _: &PolicyId, _: &str) -> Result<(), Failure> {
            unreachable!()
        }
        async fn answer(&self, _: &PolicyId, _: &str) -> Result<Option<Answer>, Failure> {
            unreachable!()
        }
        async fn status(&self, _: &PolicyId) -> Result<Option<Status>, Failure> {
            unreachable!()
        }
        async fn runs(&self, _: &PolicyId) -> Result<Vec<Slot>, Failure> {
            unreachable!()
        }
        async fn run(&self, _: &PolicyId, _: Slot) -> Result<Option<RunState>, Failure> {
            unreachable!()
        }
        async fn progress(&self, _: &PolicyId, _: Slot) -> Result<Option<Progress>, Failure> {
            unreachable!()
        }
        async fn logs(&self, _: &PolicyId, _: Option<Slot>, _: &Read) -> Result<Vec<TaskLog>, Failure> {
            unreachable!()
        }
        async fn held(&self, _: &PolicyId) -> Result<Vec<SnapshotName>, Failure> {
            unreachable!()
        }
        async fn hold(&self, _: &PolicyId, _: &SnapshotName, _: bool) -> Result<(), Failure> {
            unreachable!()
        }
    }

    #[tokio::test]
    async fn an_outage_is_borne_and_a_wrong_address_or_another_failure_is_not() {
        let table: [(&[Result<(), &'static str>], &str); 5] = [
            (&[Err(UNAVAILABLE), Err(UNAVAILABLE)], "answers after 3"),
            (&[Err(UNREACHABLE)], "ends with OrchestratorUnreachable after 1"),
            (&[Ok(()), Err(UNREACHABLE), Err(UNAVAILABLE)], "answers after 4"),
            (&[Err("NoManager")], "ends with NoManager after 1"),
            (&[Ok(()), Err(UNAVAILABLE), Err("NoManager")], "ends with NoManager after 3"),
        ];
        for (answers, expected) in table {
            let site = Told { answers: answers.to_vec(), calls: AtomicUsize::new(0) };
            let patient = Patient::new(&site, None);
            let mut end = patient.all().await;
            if answers.first() == Some(&Ok(())) {
                end = patient.all().await;
            }
            let calls = site.calls.load(Ordering::Relaxed);
            let told = match end {
                Ok(_) => format!("answers after {calls}"),
                Err(failure) => format!("ends with {} after {calls}", failure.reason),
            };
            assert_eq!(told, expected);
        }
    }

    #[tokio::test]
    async fn an_outage_that_lasts_is_not_borne_for_longer_than_the_asker_waits() {
        let site = Told { answers: vec![Err(UNAVAILABLE); 100_000], calls: AtomicUsize::new(0) };
        let end = Patient::new(&site, Some(Duration::from_millis(30))).all().await;
        assert_eq!(end.unwrap_err().reason, UNAVAILABLE);
    }
}
