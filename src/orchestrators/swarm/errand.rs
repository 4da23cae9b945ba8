//! A task that a person waits for: launched, watched and removed from the command line, so that it needs no controller.

use crate::{
    controller::clock::{Clock as _, SystemClock},
    domain::{
        identity::PolicyId,
        policy::Policy,
        run::{StepName, TaskLimits},
        verdict::Failure,
    },
    orchestrators::swarm::{
        engine::{Engine, model::Task, refusal::Refusal, stream::Output},
        facts::Facts,
        harvest::{self, Harvest},
        names::kind,
        service::{self, Launch},
        state,
    },
    plan::{
        action::NewTask,
        observed::{TaskName, TaskState},
        task_spec::{Progress, TASK_SPEC_VERSION, TaskReport, TaskSpec, Work},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// How often the task is looked at.
const PACE: Duration = Duration::from_millis(700);
/// Managers may elect another leader meanwhile.
const SILENCE: SignedDuration = SignedDuration::from_secs(60);

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
    /// Does one task: its report. It is stopped when the person who waits is.
    ///
    /// # Errors
    /// It cannot be launched, does not start, or ends without a word.
    pub async fn carry_out(
        &self,
        errand: Errand,
        show: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<TaskReport, Failure> {
        let launch = Launch {
            policy: &self.id,
            kind: kind::ERRAND,
            task: &self.task(errand),
            facts: &self.facts,
            image: &self.image,
            secrets: &self.secrets,
        };
        let spec = service::service(launch).map_err(|why| Failure::permanent("TaskRefused", why))?;
        let made = self.engine.create_service(&spec).await.map_err(refused)?;
        let ended = tokio::select! {
            ended = self.until_over(&made.id, show) => ended,
            () = interrupted() => Err(Failure::temporary("Interrupted", "stopped by a signal")),
        };
        if let Err(refusal) = self.engine.remove_service(&made.id).await
            && !refusal.is_absent()
        {
            tracing::warn!(%refusal, "the task's service is left; the controller removes it");
        }
        ended
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
                Err(_) => continue,
            };
            heard = now;
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
        harvest::last_progress(&log).into_iter().for_each(show);
    }
}

fn saying(phase: String) -> Progress {
    Progress { phase, bytes: 0, total_bytes: None, items: 0 }
}

fn lost(detail: &str) -> Failure {
    Failure::temporary("TaskLost", format!("the task ended without a report: {detail}"))
}

/// What an engine refused, for a person.
pub(super) fn refused(refusal: Refusal) -> Failure {
    let message = crate::controller::port::PortError::from(refusal).to_string();
    Failure::temporary("EngineUnavailable", message)
        .fix("run this on a manager, or name its engine with DOCKER_HOST=unix:///path/to/docker.sock")
}

/// Waits for a signal that ends this process otherwise.
async fn interrupted() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
