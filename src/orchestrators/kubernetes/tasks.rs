//! The tasks of runs: the part of the port that is about Jobs and their Pods.

use crate::{
    controller::port::{Created, PortError},
    domain::identity::PolicyId,
    orchestrators::kubernetes::{
        client::{code, unread, unwritten},
        facts::{Claims, last_warning},
        job::{self, Launch, Owner},
        launch, names,
        objects::{self, Container, JobSeen, PodSeen, newest},
        port::Kubernetes,
        state,
    },
    plan::{
        action::NewTask,
        observed::{Task, TaskState},
        task_spec::Work,
    },
};
use kube::api::{DeleteParams, ListParams, Preconditions};
use std::time::Duration;

/// What does not start is asked about after this time, and then again and again.
const ASKED_AFTER: Duration = Duration::from_secs(5);

impl Kubernetes {
    /// The tasks of a policy.
    pub(super) async fn tasks(&self, id: &PolicyId) -> Result<Vec<Task>, PortError> {
        let stores = self.stores()?;
        let (pods, now) = (stores.pods.of(id), self.clock.now());
        // A Job that a person has copied, or one of a policy that is gone, is none of ours.
        let policies = stores.policies.of(id).into_iter().map(|policy| policy.meta.uid);
        let owners: Vec<String> =
            stores.backups.of(id).into_iter().map(|backup| backup.meta.uid).chain(policies).collect();
        let is_ours = |job: &JobSeen| job.meta.owner.as_ref().is_some_and(|owner| owners.contains(owner));
        let mut tasks = Vec::new();
        for job in stores.jobs.of(id).into_iter().filter(is_ours) {
            let pod = newest(&pods, &job);
            let mut seen = state::state(&job, pod, None, now);
            if let TaskState::Pending { since, .. } = &seen
                && job.held_back.is_none()
            {
                if now.duration_since(*since).unsigned_abs() >= ASKED_AFTER {
                    let about = pod.map_or(&job.meta.uid, |pod| &pod.meta.uid);
                    let why = last_warning(&self.cluster, &job.meta.namespace, about).await;
                    seen = state::state(&job, pod, why.as_deref(), now);
                }
                self.watches.later(id, ASKED_AFTER * 2);
            } else if job.end.is_some() && !matches!(seen, TaskState::Ended { .. }) {
                self.watches.later(id, ASKED_AFTER);
            } else if matches!(seen, TaskState::Ended { report: None, .. }) && !has_ended(pod) {
                // The watch of Pods may be late; what the Pod said is asked for before it counts as lost.
                let pod = self.pod_now(&job).await?;
                seen = state::state(&job, pod.as_ref(), None, now);
            }
            tasks.push(Task { name: job.task, uid: job.meta.uid, state: seen });
        }
        Ok(tasks)
    }

    /// The Pod of a Job, as the server has it.
    async fn pod_now(&self, job: &JobSeen) -> Result<Option<PodSeen>, PortError> {
        let selector = format!("batch.kubernetes.io/controller-uid={}", job.meta.uid);
        let api = self.cluster.pods_in(Some(&job.meta.namespace));
        let pods = api.list(&ListParams::default().labels(&selector)).await.map_err(unread)?.items;
        Ok(pods.iter().filter_map(objects::pod).max_by_key(|pod| pod.meta.created_at))
    }

    pub(super) async fn launch(&self, id: &PolicyId, task: &NewTask) -> Result<Created, PortError> {
        let place = self.place(id).await?;
        if place.is_ending {
            return Err(PortError::Rejected(format!("namespace {} is being removed", names::namespace(id))));
        }
        let claims = Claims::look(&self.cluster, names::namespace(id), &job::claims(&task.spec.work)).await;
        let claims = claims.map_err(unread)?;
        let (kind, meta) = match task.name.slot {
            Some(slot) => ("Backup", self.record_of(id, slot)?.map(|backup| backup.meta)),
            None => ("BackupPolicy", self.policy(id)?.map(|policy| policy.meta)),
        };
        let Some(meta) = meta else {
            return Err(PortError::Conflict(format!("what task {} belongs to is gone", task.name)));
        };
        let launch = Launch {
            policy: id,
            task,
            owner: Owner { kind, name: &meta.name, uid: &meta.uid },
            image: &self.image,
            allows_root: place.allows_root,
            node: claims.node(),
            // Filling a claim may be its first use; backing it up may not.
            held_back: claims.unusable.as_deref().filter(|_| !matches!(task.spec.work, Work::Restore(_))),
            now: self.clock.now(),
        };
        let created = launch::launch(&self.cluster, &self.watches.stores.jobs, launch).await?;
        self.watches.later(id, ASKED_AFTER);
        Ok(created)
    }

    pub(super) async fn stop(&self, id: &PolicyId, uid: &str, ended: bool) -> Result<(), PortError> {
        let Some(job) = self.stores()?.jobs.of(id).into_iter().find(|job| job.meta.uid == uid) else {
            return Ok(());
        };
        if !ended && has_ended(newest(&self.stores()?.pods.of(id), &job)) {
            return Err(PortError::Conflict("the task has ended".to_owned()));
        }
        // One that has ended since it was seen is another by its version.
        let version = (!ended).then(|| job.meta.version.to_string());
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: version };
        // It stays until its Pod has ended.
        let parameters = DeleteParams::foreground().preconditions(preconditions);
        let api = self.cluster.jobs_in(Some(&job.meta.namespace));
        match api.delete(&job.meta.name, &parameters).await {
            Err(error) if code(&error) == Some(404) => drop(self.watches.stores.jobs.remove(uid)),
            Err(error) => return Err(unwritten(error)),
            Ok(either) => {
                let still_there = either.left().as_ref().and_then(objects::job);
                still_there.into_iter().for_each(|seen| self.watches.stores.jobs.note(seen));
            }
        }
        Ok(())
    }
}

/// True for a Pod whose task has said its last words.
fn has_ended(pod: Option<&PodSeen>) -> bool {
    pod.is_some_and(|pod| matches!(pod.container, Container::Ended { .. }))
}
