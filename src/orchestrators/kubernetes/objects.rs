//! What is kept of the objects that are watched: small, and already read.

use crate::{
    api::{backup::BackupSpec, document::Document, tree::Node},
    domain::{
        error::Invalid,
        identity::PolicyId,
        names::{Slot, SnapshotName},
        run::{Run, RunPlan, RunState},
        status::Status,
    },
    orchestrators::kubernetes::{job, names},
    plan::{
        observed::{Spec, TaskName},
        validate::{self, Facts},
    },
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ContainerState, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::core::DynamicObject;
use serde_json::Value;
use std::sync::Arc;

/// What every object has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity: never that of a later object of the same name.
    pub uid: String,
    /// Which of its states this is; later ones have larger numbers.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// It is being removed.
    pub deleting: bool,
    /// Identity of the object that it belongs to.
    pub owner: Option<String>,
}

/// Something that is kept of an object.
pub trait Seen {
    /// What every object has.
    fn meta(&self) -> &Meta;
    /// The policy that it is about.
    fn policy(&self) -> &PolicyId;
}

/// A `BackupPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySeen {
    pub meta: Meta,
    pub id: PolicyId,
    pub generation: i64,
    pub spec: Spec,
    pub status: Option<Arc<Status>>,
    pub holds: Vec<SnapshotName>,
}

/// A `Backup`: the record of a run, or a request for one.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupSeen {
    pub meta: Meta,
    pub id: PolicyId,
    /// What is asked for.
    pub asked: BackupSpec,
    /// A controller or the command line made it: it may be removed.
    pub is_managed: bool,
    /// The slot that it claims, of a record that a controller made.
    pub slot: Option<Slot>,
    /// The run, once it has a plan.
    pub run: Option<Result<Arc<Run>, String>>,
    /// In one word, once it is more than a request.
    pub phase: Option<String>,
    /// What is said of it, for a person.
    pub message: Option<String>,
    /// Nobody waits for it after this.
    pub patience: Option<Timestamp>,
}

/// The Job of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSeen {
    pub meta: Meta,
    pub id: PolicyId,
    pub task: TaskName,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// Why it is kept from starting.
    pub held_back: Option<String>,
}

/// The end of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    pub at: Timestamp,
    pub reason: String,
    pub message: String,
}

/// The Pod of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSeen {
    pub meta: Meta,
    pub id: PolicyId,
    pub node: Option<String>,
    /// Why it has no node.
    pub unschedulable: Option<String>,
    /// Since when its node has not said that it is well.
    pub unready_since: Option<Timestamp>,
    /// It ended, and why, where Kubernetes says so of the whole Pod.
    pub end: Option<String>,
    pub container: Container,
}

/// How the task's container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// Nothing is said of it.
    Unknown,
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: Timestamp,
    },
    Ended {
        code: i32,
        reason: String,
        message: String,
        started_at: Option<Timestamp>,
        at: Option<Timestamp>,
    },
}

macro_rules! seen {
    ($($type:ident),*) => {$(
        impl Seen for $type {
            fn meta(&self) -> &Meta {
                &self.meta
            }
            fn policy(&self) -> &PolicyId {
                &self.id
            }
        }
    )*};
}
seen!(PolicySeen, BackupSeen, JobSeen, PodSeen);

fn time(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

/// What every object has.
pub fn meta(meta: &ObjectMeta) -> Option<Meta> {
    let owners = meta.owner_references.iter().flatten();
    Some(Meta {
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        version: meta.resource_version.as_deref()?.parse().ok()?,
        created_at: time(meta.creation_timestamp.as_ref())?,
        deleting: meta.deletion_timestamp.is_some(),
        owner: owners.map(|owner| owner.uid.clone()).next(),
    })
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// What a `BackupPolicy` says; nothing of one whose name cannot be a policy's, which its definition refuses.
pub fn policy(object: &DynamicObject, facts: &Facts) -> Option<PolicySeen> {
    let seen = meta(&object.metadata)?;
    let id = names::policy(&seen.namespace, &seen.name)?;
    let spec = Node::from_json(object.data.get("spec").unwrap_or(&Value::Null));
    let document = Document::policy(&seen.name, Some(&seen.namespace), spec);
    let spec = match validate::policy(&document, facts) {
        Ok(policy) => Spec::Valid(Arc::new(policy)),
        Err(errors) => Spec::Wrong(Invalid::first_of(errors.into_iter().map(|located| located.error))),
    };
    let status = object.data.get("status").filter(|status| status.is_object());
    let holds = annotation(&object.metadata, names::HOLDS).unwrap_or_default();
    Some(PolicySeen {
        generation: object.metadata.generation.unwrap_or_default(),
        // One that cannot be read is of another version, or a person's: it is written anew.
        status: status.map(|status| Arc::new(serde_json::from_value(status.clone()).unwrap_or_default())),
        holds: holds.split(',').filter_map(|name| name.trim().parse().ok()).collect(),
        meta: seen,
        id,
        spec,
    })
}

/// What a `Backup` says; nothing of one that names no policy.
pub fn backup(object: &DynamicObject) -> Option<BackupSeen> {
    let seen = meta(&object.metadata)?;
    let asked: BackupSpec = serde_json::from_value(object.data.get("spec")?.clone()).ok()?;
    let labels = object.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    let status = object.data.get("status").unwrap_or(&Value::Null);
    let run = status.get("plan").map(|plan| run(plan, status).map(Arc::new));
    Some(BackupSeen {
        id: names::policy(&seen.namespace, &asked.policy)?,
        is_managed: label(names::MANAGED_BY) == Some(names::BACKSTAY),
        slot: label(names::RUN).and_then(|slot| slot.parse().ok()),
        run,
        phase: status.get("phase").and_then(Value::as_str).map(str::to_owned),
        message: status.get("message").and_then(Value::as_str).map(str::to_owned),
        patience: patience(&object.metadata, seen.created_at),
        meta: seen,
        asked,
    })
}

fn patience(meta: &ObjectMeta, created_at: Timestamp) -> Option<Timestamp> {
    let seconds: i64 = annotation(meta, names::PATIENCE)?.parse().ok()?;
    let since = annotation(meta, names::RENEWED).and_then(|at| at.parse().ok()).unwrap_or(created_at);
    since.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}

fn run(plan: &Value, status: &Value) -> Result<Run, String> {
    let plan: RunPlan = serde_json::from_value(plan.clone()).map_err(|error| error.to_string())?;
    let slot = status.get("slot").and_then(Value::as_str).unwrap_or_default();
    let slot: Slot = slot.parse().map_err(|error: Invalid| error.to_string())?;
    let state: RunState = match status.get("state") {
        Some(state) => serde_json::from_value(state.clone()).map_err(|error| error.to_string())?,
        None => RunState::default(),
    };
    Ok(Run { slot, plan, state })
}

impl BackupSeen {
    /// The run, where it is one that can be read.
    pub fn run(&self) -> Option<&Arc<Run>> {
        self.run.as_ref()?.as_ref().ok()
    }

    /// True for the record of a run that is not over. One that cannot be read counts: it may be.
    pub fn is_active(&self) -> bool {
        match &self.run {
            Some(Ok(run)) => run.state.end.is_none(),
            Some(Err(_)) => true,
            None => false,
        }
    }
}

/// What a Job of ours says.
pub fn job(job: &Job) -> Option<JobSeen> {
    let status = job.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let end = conditions.into_iter().find(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    });
    let seen = meta(&job.metadata)?;
    Some(JobSeen {
        id: names::policy_of(&job.metadata)?,
        task: names::task_of(&job.metadata)?,
        end: end.map(|end| JobEnd {
            at: time(end.last_transition_time.as_ref()).unwrap_or(seen.created_at),
            reason: end.reason.clone().unwrap_or_default(),
            message: end.message.clone().unwrap_or_default(),
        }),
        held_back: annotation(&job.metadata, names::HELD_BACK).map(str::to_owned),
        meta: seen,
    })
}

/// What the Pod of a Job of ours says.
pub fn pod(pod: &Pod) -> Option<PodSeen> {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |name: &str| conditions.iter().find(|condition| condition.type_ == name);
    let statuses = status.container_statuses.into_iter().flatten();
    // Others may have put containers of their own into the Pod.
    let state = statuses.into_iter().find(|one| one.name == job::CONTAINER).and_then(|one| one.state);
    let container = container(state.unwrap_or_default());
    let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let why = [status.reason, status.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let unready = condition("Ready").filter(|ready| ready.status != "True");
    Some(PodSeen {
        meta: meta(&pod.metadata)?,
        id: names::policy_of(&pod.metadata)?,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        unschedulable: condition("PodScheduled")
            .filter(|scheduled| scheduled.status == "False")
            .and_then(|scheduled| scheduled.message.clone()),
        unready_since: unready.and_then(|ready| time(ready.last_transition_time.as_ref())),
        end: is_over.then_some(why),
        container,
    })
}

fn container(state: ContainerState) -> Container {
    if let Some(ended) = state.terminated {
        return Container::Ended {
            code: ended.exit_code,
            reason: ended.reason.unwrap_or_default(),
            message: ended.message.unwrap_or_default(),
            started_at: time(ended.started_at.as_ref()),
            at: time(ended.finished_at.as_ref()),
        };
    }
    if let Some(running) = state.running {
        return match time(running.started_at.as_ref()) {
            Some(since) => Container::Running { since },
            None => Container::Unknown,
        };
    }
    match state.waiting {
        Some(waiting) => Container::Waiting {
            reason: waiting.reason.unwrap_or_default(),
            message: waiting.message.unwrap_or_default(),
        },
        None => Container::Unknown,
    }
}

/// The Pod of a Job; of several, the newest.
pub fn newest<'a>(pods: &'a [PodSeen], job: &JobSeen) -> Option<&'a PodSeen> {
    let own = pods.iter().filter(|pod| pod.meta.owner.as_ref() == Some(&job.meta.uid));
    own.max_by_key(|pod| pod.meta.created_at)
}
