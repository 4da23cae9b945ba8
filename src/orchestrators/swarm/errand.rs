//! A task that a person waits for: launched, watched and removed from the command line, so that it needs no controller.

use crate::{
    controller::clock::{Clock as _, SystemClock},
    domain::{
        identity::PolicyId,
        policy::Policy,
        run::{StepName, TaskLimits},
        verdict::Failure,
    },
    orchestrators::{
        last_progress,
        site::OUTAGE,
        stop::{Stop, stopped},
        swarm::{
            engine::{
                Engine,
                model::Task,
                refusal::{Refusal, absent_is_fine, refused_to_people as refused},
                stream::Output,
            },
            facts::Facts,
            harvest::Harvest,
            names::{self, kind},
            service::{self, Launch},
            state,
        },
    },
    plan::{
        action::NewTask,
        observed::{TaskName, TaskState},
        task_spec::{Progress, TASK_SPEC_VERSION, TaskReport, TaskSpec, Work},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::sleep;

/// How often the task is looked at.
const PACE: Duration = Duration::from_millis(700);
/// Managers may be started again and elect another leader meanwhile.
const SILENCE: SignedDuration = SignedDuration::from_secs(OUTAGE.as_secs() as i64);
/// A task that is told to end is killed before this time is over, on a node that answers.
const TO_END: Duration = Duration::from_secs(40);

/// What is needed to do something beside the data of a policy.
#[derive(Debug)]
pub struct Hands {
    pub(super) engine: Arc<Engine>,
    pub(super) clock: SystemClock,
    /// Whose data.
    pub id: PolicyId,
    /// What it says.
    pub policy: Arc<Policy>,
    /// What is known about it.
    pub facts: Facts,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) image: String,
    /// The site's identity; empty before a controller ever ran.
    pub(super) site: String,
}

/// What a person wants done.
#[derive(Debug)]
pub struct Errand {
    /// What it is called.
    pub step: StepName,
    /// Its number, another for each: tasks of one restore have the same.
    pub number: i64,
    /// Where it must be done.
    pub node: Option<String>,
    /// What.
    pub work: Work,
    /// How long it may take.
    pub hours: i64,
}

impl Hands {
    /// Does one task: its report. A report that tells no outcome says that nothing was done; so does that of a task which
    /// never began. It is stopped when the person who waits is.
    ///
    /// # Errors
    /// It ends without a word, or is stopped in the middle: nobody knows what it has done.
    pub async fn carry_out(
        &self,
        errand: Errand,
        show: &(dyn Fn(Progress) + Send + Sync),
        stop: &Stop,
    ) -> Result<TaskReport, Failure> {
        if stop.is_asked() {
            return Ok(TaskReport::failed(stopped("stopped by a signal")));
        }
        let launch = Launch {
            policy: &self.id,
            kind: kind::ERRAND,
            task: &self.task(errand),
            facts: &self.facts,
            image: &self.image,
            secrets: &self.secrets,
        };
        let spec = match service::service(launch) {
            Ok(spec) => spec,
            Err(why) => return Ok(TaskReport::failed(Failure::permanent("TaskRefused", why))),
        };
        let made = match self.engine.create_service(&spec).await {
            Err(refusal) if !refusal.maybe_done => return Ok(TaskReport::failed(refused(refusal))),
            made => made.map_err(refused)?.id,
        };
        let mut has_begun = false;
        let ended = tokio::select! {
            ended = self.until_over(&made, show, &mut has_begun) => ended,
            () = stop.asked() => return self.stop(&made, has_begun, stop).await,
        };
        if let Err(failure) = absent_is_fine(self.engine.remove_service(&made).await) {
            tracing::warn!(%failure, "the task's service is left; the controller removes it");
        }
        match ended {
            Err(failure) if !has_begun => Ok(TaskReport::failed(failure)),
            ended => ended,
        }
    }

    /// Stops the task and waits until nothing of it runs, unless a second signal says not to.
    async fn stop(&self, service: &str, has_begun: bool, stop: &Stop) -> Result<TaskReport, Failure> {
        // It may have begun since it was looked at last.
        let has_begun = has_begun || self.look(service, self.clock.now()).await.is_ok_and(has_begun_now);
        if let Err(error) = absent_is_fine(self.engine.remove_service(service).await) {
            return Err(stopped(&format!(
                "stopped by a signal, but its task goes on, since its service cannot be removed ({error}): docker service rm {service}"
            )));
        }
        if !has_begun {
            return Ok(TaskReport::failed(stopped("stopped by a signal")));
        }
        let is_over = tokio::select! {
            () = self.until_gone(service) => true,
            () = sleep(TO_END) => false,
            () = stop.again() => false,
        };
        let goes_on = "stopped by a signal; its task was told to end, and may go on for half a minute or until its node is back";
        Err(stopped(if is_over { "stopped by a signal" } else { goes_on }))
    }

    async fn until_gone(&self, service: &str) {
        let label = format!("{}={}", names::IDENTITY, names::identity(&self.id));
        loop {
            let is_left = |task: &Task| task.service_id == service && !state::is_over(task);
            if self.engine.tasks(&label).await.is_ok_and(|tasks| !tasks.iter().any(is_left)) {
                return;
            }
            sleep(PACE).await;
        }
    }

    fn task(&self, errand: Errand) -> NewTask {
        let Errand { step, number, node, work, hours } = errand;
        let policy = &self.policy;
        let end = self.clock.now().saturating_add(SignedDuration::from_hours(hours));
        NewTask {
            name: TaskName { slot: None, step, attempt: number },
            node,
            placement: policy.task.placement.clone(),
            spec: TaskSpec {
                version: TASK_SPEC_VERSION,
                policy: policy.name.clone(),
                instance: policy.instance.clone(),
                destination: policy.destination.clone(),
                site: self.site.clone(),
                take_over: false,
                known_place: true,
                not_after: end.unwrap_or(Timestamp::MAX),
                memory_mib: TaskLimits::from(&policy.task).memory_mib,
                work,
            },
        }
    }

    async fn until_over(
        &self,
        service: &str,
        show: &(dyn Fn(Progress) + Send + Sync),
        has_begun: &mut bool,
    ) -> Result<TaskReport, Failure> {
        let made = self.clock.now();
        let mut heard = made;
        let harvest = Harvest::default();
        loop {
            sleep(PACE).await;
            let now = self.clock.now();
            let (task, state) = match self.look(service, made).await {
                Ok(seen) => seen,
                Err(refusal) if now.duration_since(heard) > SILENCE => return Err(refused(refusal)),
                Err(refusal) => {
                    show(saying(format!("waiting, since the Swarm does not answer ({refusal})")));
                    continue;
                }
            };
            heard = now;
            *has_begun |= !matches!(state, TaskState::Pending { .. });
            match (state, task) {
                (TaskState::Pending { why, .. }, _) if self.is_late(made, now) => {
                    return Err(Failure::temporary(
                        "PendingTooLong",
                        format!("the task did not start: {why}"),
                    ));
                }
                (TaskState::Pending { why, .. }, _) => show(saying(why)),
                (TaskState::Unreachable { .. }, _) => show(saying("its node does not answer".to_owned())),
                (TaskState::Running { .. }, Some(task)) => self.progress(&task, show).await,
                (TaskState::Running { .. }, None) => {}
                (TaskState::Ended { report: Some(report), .. }, _) => return Ok(*report),
                (TaskState::Ended { detail, .. }, Some(task)) if state::has_reported(&task) => {
                    match harvest.report(&self.engine, &task, now).await {
                        Some(Ok(report)) => return Ok(report),
                        Some(Err(_)) => {}
                        None => return Err(lost(&detail)),
                    }
                }
                (TaskState::Ended { detail, .. }, _) => return Err(lost(&detail)),
            }
        }
    }

    async fn look(&self, service: &str, made: Timestamp) -> Result<(Option<Task>, TaskState), Refusal> {
        let services = [service];
        let (tasks, nodes) = tokio::try_join!(self.engine.tasks_of(&services), self.engine.nodes())?;
        let task = tasks.into_iter().max_by_key(|task| task.created_at);
        let node = task.as_ref().and_then(|task| nodes.iter().find(|node| node.id == task.node_id));
        let state = state::state(made, task.as_ref(), node, None);
        Ok((task, state))
    }

    fn is_late(&self, made: Timestamp, now: Timestamp) -> bool {
        let patience = SignedDuration::try_from(self.policy.task.pending).unwrap_or(SignedDuration::MAX);
        now.duration_since(made) > patience
    }

    async fn progress(&self, task: &Task, show: &(dyn Fn(Progress) + Send + Sync)) {
        let log = self.engine.task_log(&task.id, Output::Standard, Some(2)).await.unwrap_or_default();
        last_progress(&log).into_iter().for_each(show);
    }
}

fn saying(phase: String) -> Progress {
    Progress { phase, bytes: 0, total_bytes: None, items: 0 }
}

fn lost(detail: &str) -> Failure {
    Failure::temporary("TaskLost", format!("the task ended without a report: {detail}"))
}

/// True when the program of the task may have done something.
fn has_begun_now((_, state): (Option<Task>, TaskState)) -> bool {
    !matches!(state, TaskState::Pending { .. })
}
