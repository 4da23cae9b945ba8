//! Carries restores out: what comes next for each follows from its status and its tasks.

use crate::{
    api::{document::Document, tree::Node},
    controller::{clock::Clock, port::PortError},
    domain::{
        error::Invalid,
        identity::PolicyId,
        location::Location,
        names::{InstanceName, PolicyName},
        policy::{Placement, Policy},
        restore::{MetadataOptions, Ownership, Restore, RestoreRequest, RestoreSource},
        run::StepName,
    },
    orchestrators::kubernetes::{
        client::{Cluster, apply_status, unread, within},
        facts::{Claims, Namespaces, Place, claim},
        job::{self, Launch, Owner},
        launch,
        objects::{self, BackupSeen, JobSeen, newest},
        restores::{self, Ended, Phase, RestoreSeen, Status, done, failed, refused},
        state,
        watch::Stores,
    },
    plan::{
        action::NewTask,
        observed::{Spec, TaskName, TaskState},
        restoring,
        task_spec::{RestoreMode, RestoreWork, TASK_SPEC_VERSION, TaskSpec, Work},
        validate::{self, Orchestrator},
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// The calls of one step may take so long.
const CALLS: Duration = Duration::from_secs(30);
/// While a restore goes on it is looked at this often.
const PACE: Duration = Duration::from_secs(2);
/// A task of a restore may take so long.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// MiB for buffers, where no policy says.
const MEMORY_MIB: u32 = 128;
/// Where a task stands among those of a restore: first the plan, then the deed.
const PLAN: i64 = 1;
const DEED: i64 = 2;

/// Whoever carries restores out.
pub struct Hand {
    cluster: Cluster,
    stores: Arc<Stores>,
    image: String,
    clock: Arc<dyn Clock>,
    namespaces: Arc<Namespaces>,
}

/// All that a restore needs to know.
struct Meant {
    restore: Restore,
    request: RestoreRequest,
    location: Location,
    instance: InstanceName,
    own: Option<Arc<Policy>>,
}

impl Hand {
    /// With what the port has.
    pub fn new(
        cluster: &Cluster,
        stores: &Arc<Stores>,
        namespaces: &Arc<Namespaces>,
        image: &str,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            stores: Arc::clone(stores),
            image: image.to_owned(),
            clock: Arc::clone(clock),
            namespaces: Arc::clone(namespaces),
        }
    }

    /// Carries out every restore that is not over, for ever.
    pub async fn carry_out(self) {
        loop {
            let mut going_on = Vec::new();
            if self.stores.are_complete() {
                self.stores.restores.each(|restore| {
                    if !restore.meta.deleting && !restore.status.phase.is_some_and(Phase::is_over) {
                        going_on.push(restore.clone());
                    }
                });
            }
            for restore in &going_on {
                if let Err(error) = within(CALLS, self.step(restore)).await {
                    warn!(restore = restore.meta.name, namespace = restore.meta.namespace, %error, "trying again");
                }
            }
            if going_on.is_empty() {
                self.stores.restoring.notified().await;
            } else {
                tokio::time::sleep(PACE).await;
            }
        }
    }

    /// One step of a restore; what comes next is seen in its status.
    async fn step(&self, restore: &RestoreSeen) -> Result<(), PortError> {
        let (now, status) = (self.clock.now(), &restore.status);
        let place = self.namespaces.get(&self.cluster, &restore.meta.namespace).await.map_err(unread)?;
        if status.launched {
            return self.see_to_the_end(restore, now).await;
        }
        // It was confirmed when it began.
        let meant = self.meant(restore, place.allows_root, status.start_time.unwrap_or(now));
        let meant = match meant {
            Ok(meant) => meant,
            Err(error) => return self.record(restore, refused(&error, now)).await,
        };
        let next = match status.phase {
            None => Status { phase: Some(Phase::Planning), start_time: Some(now), ..Status::default() },
            Some(Phase::Planning) => match self.task(restore, PLAN, now) {
                Seen::Absent => return self.launch(restore, &meant, PLAN, &place).await,
                Seen::GoesOn(why) => told(status, why),
                Seen::Ended(end) => self.planned(restore, &meant, &end),
            },
            Some(Phase::Waiting) => match self.run_in_the_way(restore).await? {
                Some(run) => told(status, Some(format!("waits for the end of run {run}"))),
                None => Status { phase: Some(Phase::Restoring), message: None, ..status.clone() },
            },
            // From now on no run begins. One that began at the same moment goes first.
            Some(Phase::Restoring) => match self.run_in_the_way(restore).await? {
                Some(_) => Status { phase: Some(Phase::Waiting), ..status.clone() },
                None => {
                    self.record(restore, Status { launched: true, ..status.clone() }).await?;
                    return self.launch(restore, &meant, DEED, &place).await;
                }
            },
            Some(_) => return Ok(()),
        };
        if next == *status { Ok(()) } else { self.record(restore, next).await }
    }

    /// The task that does it was launched: its end is the end of the restore, also when it is gone.
    async fn see_to_the_end(&self, restore: &RestoreSeen, now: Timestamp) -> Result<(), PortError> {
        let next = match self.task(restore, DEED, now) {
            Seen::GoesOn(why) => told(&restore.status, why),
            Seen::Ended(end) => done(&restore.status, &end, now),
            Seen::Absent => {
                let detail = "its Job was removed, or never made".to_owned();
                done(&restore.status, &Ended { report: None, detail }, now)
            }
        };
        if next == restore.status { Ok(()) } else { self.record(restore, next).await }
    }

    /// What the document means at `now`.
    fn meant(&self, seen: &RestoreSeen, allows_root: bool, now: Timestamp) -> Result<Meant, Invalid> {
        let document = Document::restore(&seen.meta.name, Node::from_json(&seen.spec));
        let restore = validate::restore(&document, Orchestrator::Kubernetes, now)
            .map_err(|errors| Invalid::first_of(errors.into_iter().map(|located| located.error)))?;
        let own = self.own(&seen.id);
        let (location, instance, own) = match (&restore.from, own) {
            (RestoreSource::Place { location, instance, .. }, _) => {
                (Location::clone(location), instance.clone(), None)
            }
            (RestoreSource::Policy(_), Some(Ok(own))) => {
                (own.destination.clone(), own.instance.clone(), Some(own))
            }
            (RestoreSource::Policy(name), Some(Err(error))) => {
                return Err(Invalid::new(format!("policy {name}: {error}")).at("from.policy"));
            }
            (RestoreSource::Policy(name), None) => {
                let message = format!(
                    "there is no policy {name} here; name the place: from.location and from.instance"
                );
                return Err(Invalid::new(message).at("from.policy"));
            }
        };
        // Whoever is not root owns what they restore.
        let ownership = if allows_root { Ownership::Keep } else { Ownership::Me };
        let metadata = MetadataOptions { ownership, preserve_setuid: false, devices: false };
        let request = restoring::request(&restore, own.as_deref(), &metadata)?;
        Ok(Meant { restore, request, location, instance, own })
    }

    fn own(&self, id: &PolicyId) -> Option<Result<Arc<Policy>, Invalid>> {
        let policy = self.stores.policies.of(id).into_iter().find(|policy| !policy.meta.deleting)?;
        Some(match policy.spec {
            Spec::Valid(policy) => Ok(policy),
            Spec::Wrong(error) => Err(error),
            Spec::Gone => return None,
        })
    }

    /// The status after the plan.
    fn planned(&self, seen: &RestoreSeen, meant: &Meant, end: &Ended) -> Status {
        let now = self.clock.now();
        let outcome = end.report.as_ref().and_then(|report| report.outcome.as_ref());
        let plan = outcome.and_then(|outcome| outcome.get("planned")).cloned();
        let snapshot = end.snapshot();
        match (end.failure(), meant.restore.dry_run) {
            (Some(failure), _) => failed(&seen.status, &failure, now),
            (None, true) => Status {
                phase: Some(Phase::Planned),
                message: Some("this is what would be done; nothing was changed".to_owned()),
                completion_time: Some(now),
                plan,
                snapshot,
                ..seen.status.clone()
            },
            (None, false) => Status {
                phase: Some(Phase::Waiting),
                excludes: self.concerned(&seen.meta.namespace, &meant.request),
                plan,
                snapshot,
                ..seen.status.clone()
            },
        }
    }

    /// The policies of a namespace whose sources a restore writes into.
    fn concerned(&self, namespace: &str, request: &RestoreRequest) -> Vec<PolicyName> {
        let targets: Vec<&str> = request.volumes.iter().filter_map(|target| claim(&target.place)).collect();
        let database = request.mongodb.as_ref().map(|target| &target.connection);
        let writes_into = |policy: &Policy| {
            let own = policy.mongodb.as_ref().map(|source| &source.connection);
            let mut claims = policy.volumes.iter().filter_map(|volume| claim(&volume.place));
            (own.is_some() && own == database) || claims.any(|name| targets.contains(&name))
        };
        let policies = self.stores.policies.of_namespace(namespace).into_iter();
        let valid = policies.filter_map(|policy| match policy.spec {
            Spec::Valid(valid) => Some(valid),
            _ => None,
        });
        valid.filter(|policy| writes_into(policy)).map(|policy| policy.name.clone()).collect()
    }

    /// A run of a policy that is excluded and has not ended, as the server has it.
    async fn run_in_the_way(&self, restore: &RestoreSeen) -> Result<Option<String>, PortError> {
        if restore.status.excludes.is_empty() {
            return Ok(None);
        }
        let api = self.cluster.backups_in(Some(&restore.meta.namespace));
        let listed = api.list(&ListParams::default()).await.map_err(unread)?.items;
        let mut active = listed.iter().filter_map(objects::backup).filter(BackupSeen::is_active);
        let in_the_way = active.find(|backup| restore.status.excludes.contains(backup.id.name()));
        Ok(in_the_way.map(|backup| backup.meta.name))
    }

    /// How a task of a restore is.
    fn task(&self, seen: &RestoreSeen, which: i64, now: Timestamp) -> Seen {
        let name = task_name(which);
        let jobs = self.stores.jobs.of(&seen.id);
        let own = |job: &&JobSeen| job.task == name && job.meta.owner.as_ref() == Some(&seen.meta.uid);
        let Some(job) = jobs.iter().find(own) else { return Seen::Absent };
        let pods = self.stores.pods.of(&seen.id);
        match state::state(job, newest(&pods, job), None, now) {
            TaskState::Ended { report, detail, .. } => {
                Seen::Ended(Box::new(Ended { report: report.map(|report| *report), detail }))
            }
            TaskState::Pending { why, .. } => Seen::GoesOn(Some(format!("its task has not started: {why}"))),
            TaskState::Unreachable { .. } => {
                Seen::GoesOn(Some("the node of its task does not answer".to_owned()))
            }
            TaskState::Running { .. } => Seen::GoesOn(None),
        }
    }

    async fn launch(
        &self,
        seen: &RestoreSeen,
        meant: &Meant,
        which: i64,
        place: &Place,
    ) -> Result<(), PortError> {
        let task = new_task(seen, meant, which, place, self.clock.now());
        let namespace = seen.meta.namespace.as_str();
        let claims =
            Claims::look(&self.cluster, namespace, &job::claims(&task.spec.work)).await.map_err(unread)?;
        let launch = Launch {
            policy: &seen.id,
            task: &task,
            owner: Owner { kind: "Restore", name: &seen.meta.name, uid: &seen.meta.uid },
            image: &self.image,
            allows_root: place.allows_root,
            node: claims.node(),
            held_back: None,
            now: self.clock.now(),
        };
        info!(restore = seen.meta.name, namespace, task = %task.name, "launching the task of a restore");
        launch::launch(&self.cluster, &self.stores.jobs, launch).await.map(drop)
    }

    async fn record(&self, seen: &RestoreSeen, status: Status) -> Result<(), PortError> {
        if let Some(phase) = status.phase {
            info!(restore = seen.meta.name, namespace = seen.meta.namespace, phase = ?phase, message = status.message, "restore");
        }
        let api = self.cluster.restores_in(Some(&seen.meta.namespace));
        let document =
            serde_json::to_value(&status).map_err(|error| PortError::Rejected(error.to_string()))?;
        let version = seen.meta.version.to_string();
        let written = apply_status(&api, "Restore", &seen.meta.name, &version, document).await?;
        restores::seen(&written).into_iter().for_each(|now| self.stores.restores.note(now));
        Ok(())
    }
}

/// How a task of a restore is.
enum Seen {
    /// There is none.
    Absent,
    /// It has not ended; and what keeps it from starting.
    GoesOn(Option<String>),
    /// It has.
    Ended(Box<Ended>),
}

/// The same with another message.
fn told(status: &Status, message: Option<String>) -> Status {
    Status { message, ..status.clone() }
}

fn task_name(which: i64) -> TaskName {
    TaskName { slot: None, step: StepName::restore(1), attempt: which }
}

fn new_task(seen: &RestoreSeen, meant: &Meant, which: i64, place: &Place, now: Timestamp) -> NewTask {
    let mode = if which == PLAN { RestoreMode::Plan } else { RestoreMode::Execute };
    let settings = meant.own.as_ref().map(|own| &own.task);
    NewTask {
        name: task_name(which),
        node: None,
        placement: settings.map_or_else(Placement::default, |task| task.placement.clone()),
        spec: TaskSpec {
            version: TASK_SPEC_VERSION,
            policy: seen.id.name().clone(),
            instance: meant.instance.clone(),
            destination: meant.location.clone(),
            site: place.site.clone(),
            take_over: false,
            known_place: false,
            not_after: now.saturating_add(LONGEST).unwrap_or(now),
            memory_mib: settings.map_or(MEMORY_MIB, |task| task.memory_mib),
            work: Work::Restore(Box::new(RestoreWork { request: meant.request.clone(), mode })),
        },
    }
}
