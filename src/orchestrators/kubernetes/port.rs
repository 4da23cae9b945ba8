//! The controller's port on a cluster.
//!
//! What is seen comes from watches, and from our own writes before those tell of them. Every object of ours is made,
//! changed and removed by one call each, guarded by its name, its version or its identity, so that two controllers, or one
//! that comes back with an old picture, cannot undo each other's work.

use crate::{
    controller::{
        clock::Clock,
        port::{Create, Created, Delete, Orchestrator, PortError, Record, Wake},
    },
    domain::{error::Invalid, identity::PolicyId, names::Slot, run::Run, status::Status},
    orchestrators::kubernetes::{
        client::{Cluster, code, unread, unwritten},
        events,
        facts::{Claims, Namespaces, Place, claims_of, last_warning},
        job::{self, Launch, Owner},
        names,
        objects::{self, BackupSeen, JobSeen, PodSeen, PolicySeen},
        records::{self, Answered},
        state,
        watch::{Stores, Watches},
    },
    plan::{
        action::{Answer, NewTask},
        observed::{Declared, Observed, Recorded, Request, Secrets, Spec, Task, TaskState},
        validate::Facts,
    },
};
use async_trait::async_trait;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// What does not start is asked about after this time, and then again and again.
const ASKED_AFTER: Duration = Duration::from_secs(5);

/// How often it is seen whether everything is known.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A cluster as an orchestrator.
pub struct Kubernetes {
    cluster: Cluster,
    /// The image of tasks.
    image: String,
    clock: Arc<dyn Clock>,
    facts: Arc<Facts>,
    watches: Watches,
    wakes: Mutex<Option<mpsc::Receiver<Wake>>>,
    namespaces: Namespaces,
    /// Where the claims of each policy were when something was about to start.
    claims: Mutex<HashMap<PolicyId, Claims>>,
}

impl Kubernetes {
    /// An orchestrator for the policies of some namespaces, or of all where none is named. To be called within a runtime.
    pub fn start(
        cluster: Cluster,
        namespaces: &[String],
        facts: Facts,
        image: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (watches, wakes) = Watches::start(&cluster, namespaces, facts.clone());
        Self {
            cluster,
            image,
            clock,
            facts: Arc::new(facts),
            watches,
            wakes: Mutex::new(Some(wakes)),
            namespaces: Namespaces::default(),
            claims: Mutex::default(),
        }
    }

    fn stores(&self) -> Result<&Stores, PortError> {
        match self.watches.stores.are_complete() {
            true => Ok(&self.watches.stores),
            false => {
                Err(PortError::Unavailable("the objects of the cluster are not all known yet".to_owned()))
            }
        }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<PolicyId, Claims>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self, id: &PolicyId) -> Result<Option<PolicySeen>, PortError> {
        Ok(self.stores()?.policies.of(id).into_iter().find(|policy| !policy.meta.deleting))
    }

    async fn place(&self, policy: &PolicyId) -> Result<Place, PortError> {
        self.namespaces.get(&self.cluster, names::namespace(policy)).await.map_err(unread)
    }

    /// Where the claims are: looked up when something may start, since that is asked of the server.
    async fn where_claims_are(
        &self,
        id: &PolicyId,
        policy: &PolicySeen,
        starts: bool,
    ) -> Result<Claims, PortError> {
        let Spec::Valid(valid) = &policy.spec else { return Ok(Claims::default()) };
        let known = self.claims().get(id).cloned();
        match known {
            Some(known) if !starts => Ok(known),
            _ => {
                let looked = Claims::look(&self.cluster, &policy.meta.namespace, &claims_of(valid)).await;
                let looked = looked.map_err(unread)?;
                self.claims().insert(id.clone(), looked.clone());
                Ok(looked)
            }
        }
    }

    /// The tasks of a policy.
    async fn tasks(&self, id: &PolicyId) -> Result<Vec<Task>, PortError> {
        let stores = self.stores()?;
        let (pods, now) = (stores.pods.of(id), self.clock.now());
        let mut tasks = Vec::new();
        for job in stores.jobs.of(id) {
            let pod = newest(&pods, &job);
            let mut seen = state::state(&job, pod, None, now);
            if let TaskState::Pending { since, .. } = &seen
                && job.held_back.is_none()
            {
                if now.duration_since(*since).unsigned_abs() >= ASKED_AFTER {
                    let about = pod.map_or(&job.meta.uid, |pod| &pod.meta.uid);
                    let why = last_warning(&self.cluster, &job.meta.namespace, about).await?;
                    seen = state::state(&job, pod, why.as_deref(), now);
                }
                self.watches.later(id, ASKED_AFTER * 2);
            } else if job.end.is_some() && !matches!(seen, TaskState::Ended { .. }) {
                self.watches.later(id, ASKED_AFTER);
            }
            tasks.push(Task { name: job.task, uid: job.meta.uid, state: seen });
        }
        Ok(tasks)
    }

    async fn requests(&self, backups: &[BackupSeen]) -> Result<Vec<Request>, PortError> {
        let mut requests = Vec::new();
        for backup in backups {
            match records::request(backup, self.clock.now()) {
                Some(Ok(request)) => requests.push(request),
                Some(Err(why)) => self.refuse(backup, &why).await?,
                None => {}
            }
        }
        requests.sort_by_key(|request| request.requested_at);
        Ok(requests)
    }

    async fn refuse(&self, backup: &BackupSeen, why: &str) -> Result<(), PortError> {
        self.record_backup(backup, records::refused(why)).await
    }

    /// Writes the status of a backup over what was seen of it.
    async fn record_backup(&self, backup: &BackupSeen, status: Value) -> Result<(), PortError> {
        let api = self.cluster.backups_in(Some(&backup.meta.namespace));
        let version = backup.meta.version.to_string();
        let written = apply_status(&api, "Backup", &backup.meta.name, &version, status).await?;
        objects::backup(&written).into_iter().for_each(|now| self.watches.stores.backups.note(now));
        Ok(())
    }

    async fn claim(&self, id: &PolicyId, run: &Run) -> Result<Created, PortError> {
        let backups = self.stores()?.backups.of(id);
        let asked = run.plan.request.as_ref().and_then(|id| backups.into_iter().find(|b| b.meta.uid == *id));
        let (backup, is_fresh) = match asked {
            Some(asked) => (asked, true),
            None => match self.claim_name(id, run.slot).await? {
                Named::Ours(backup, is_fresh) => (backup, is_fresh),
                Named::Foreign(what) => return Ok(Created::Foreign(what)),
            },
        };
        if backup.run.is_some() {
            return Ok(Created::Ours);
        }
        self.record_backup(&backup, records::begun(run)).await?;
        Ok(if is_fresh { Created::Fresh } else { Created::Ours })
    }

    /// Makes the record of a slot, or finds it.
    async fn claim_name(&self, id: &PolicyId, slot: Slot) -> Result<Named, PortError> {
        let Some(policy) = self.policy(id)? else {
            return Err(PortError::Rejected(format!("policy {id} is declared no more")));
        };
        let owner = Owner { kind: "BackupPolicy", name: &policy.meta.name, uid: &policy.meta.uid };
        let name = names::backup(id, slot);
        let api = self.cluster.backups_in(Some(&policy.meta.namespace));
        let object = serde_json::from_value(json!({
            "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": "Backup",
            "metadata": {
                "name": name, "namespace": policy.meta.namespace, "ownerReferences": [owner.reference()],
                "labels": {names::MANAGED_BY: names::BACKSTAY, names::POLICY: id.name().as_str(), names::RUN: slot.to_string()},
            },
            "spec": {"policy": id.name().as_str()},
        }));
        let object: DynamicObject =
            object.map_err(|error: serde_json::Error| PortError::Rejected(error.to_string()))?;
        let (there, is_fresh) = match api.create(&PostParams::default(), &object).await {
            Err(error) if code(&error) == Some(409) => (api.get(&name).await.map_err(unread)?, false),
            made => (made.map_err(unwritten)?, true),
        };
        let Some(backup) = objects::backup(&there) else {
            return Ok(Named::Foreign(format!("Backup {name}")));
        };
        self.watches.stores.backups.note(backup.clone());
        let is_ours = backup.meta.owner.as_ref() == Some(&policy.meta.uid) && backup.slot == Some(slot);
        Ok(if is_ours { Named::Ours(backup, is_fresh) } else { Named::Foreign(format!("Backup {name}")) })
    }

    async fn launch(&self, id: &PolicyId, task: &NewTask) -> Result<Created, PortError> {
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
            held_back: claims.unusable.as_deref(),
            now: self.clock.now(),
        };
        let job = job::job(launch).map_err(PortError::Rejected)?;
        let job: Job = serde_json::from_value(job).map_err(|error| {
            PortError::Rejected(format!("the settings of the task are not such as Kubernetes takes: {error}"))
        })?;
        let name = job.metadata.name.clone().unwrap_or_default();
        let api = self.cluster.jobs_in(Some(&meta.namespace));
        let (there, created) = match api.create(&PostParams::default(), &job).await {
            Err(error) if code(&error) == Some(409) => {
                let there = api.get(&name).await.map_err(unread)?;
                let owners = there.metadata.owner_references.iter().flatten();
                let is_ours = owners.into_iter().any(|owner| owner.uid == meta.uid);
                (there, if is_ours { Created::Ours } else { Created::Foreign(format!("Job {name}")) })
            }
            made => (made.map_err(unwritten)?, Created::Fresh),
        };
        objects::job(&there).into_iter().for_each(|seen| self.watches.stores.jobs.note(seen));
        self.watches.later(id, ASKED_AFTER);
        Ok(created)
    }

    /// The record of a run.
    fn record_of(&self, id: &PolicyId, slot: Slot) -> Result<Option<BackupSeen>, PortError> {
        let backups = self.stores()?.backups.of(id);
        Ok(backups.into_iter().find(|backup| run_of(backup).is_some_and(|run| run.slot == slot)))
    }

    async fn stop(&self, id: &PolicyId, uid: &str, ended: bool) -> Result<(), PortError> {
        let Some(job) = self.stores()?.jobs.of(id).into_iter().find(|job| job.meta.uid == uid) else {
            return Ok(());
        };
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

    /// Removes the record of a run, and with it its tasks. What a person made stays, and says how it ended.
    async fn forget(&self, id: &PolicyId, slot: Slot) -> Result<(), PortError> {
        let Some(backup) = self.record_of(id, slot)? else { return Ok(()) };
        if !backup.is_managed {
            let status = run_of(&backup).map(|run| records::forgotten(run)).unwrap_or_default();
            return self.record_backup(&backup, status).await;
        }
        self.remove(&backup).await
    }

    async fn remove(&self, backup: &BackupSeen) -> Result<(), PortError> {
        let preconditions = Preconditions { uid: Some(backup.meta.uid.clone()), resource_version: None };
        let parameters = DeleteParams::background().preconditions(preconditions);
        let api = self.cluster.backups_in(Some(&backup.meta.namespace));
        match api.delete(&backup.meta.name, &parameters).await {
            Err(error) if !matches!(code(&error), Some(404 | 409)) => Err(unwritten(error)),
            _ => {
                self.watches.stores.backups.remove(&backup.meta.uid);
                Ok(())
            }
        }
    }

    async fn answer(&self, id: &PolicyId, request: &str, answer: &Answer) -> Result<(), PortError> {
        let backups = self.stores()?.backups.of(id);
        let Some(backup) = backups.into_iter().find(|b| b.meta.uid == request) else { return Ok(()) };
        match records::answered(&backup, answer) {
            Answered::Status(status) => self.record_backup(&backup, status).await,
            Answered::InTheRecord => Ok(()),
        }
    }

    async fn record_status(
        &self,
        id: &PolicyId,
        revision: Option<&str>,
        status: &Status,
    ) -> Result<(), PortError> {
        let Some(policy) = self.policy(id)? else { return Ok(()) };
        let version = policy.meta.version.to_string();
        let is_as_seen = match revision {
            Some(revision) => revision == version,
            None => policy.status.is_none(),
        };
        if !is_as_seen {
            return Err(PortError::Conflict(format!("policy {id}")));
        }
        let document =
            serde_json::to_value(status).map_err(|error| PortError::Rejected(error.to_string()))?;
        let api = self.cluster.policies_in(Some(&policy.meta.namespace));
        let written = apply_status(&api, "BackupPolicy", &policy.meta.name, &version, document).await?;
        objects::policy(&written, &self.facts)
            .into_iter()
            .for_each(|now| self.watches.stores.policies.note(now));
        let told = events::between(policy.status.as_deref(), status);
        if !told.is_empty() {
            let (cluster, now) = (self.cluster.clone(), self.clock.now());
            tokio::spawn(async move { events::leave(&cluster, &policy.meta, told, now).await });
        }
        Ok(())
    }

    /// Removes records that were begun and never got a plan: their slot was claimed again, or is over.
    async fn sweep(&self, stores: &Stores) {
        let mut left = Vec::new();
        let now = self.clock.now();
        stores.backups.each(|backup| {
            let is_old = now.duration_since(backup.meta.created_at).as_hours() >= 1;
            if backup.is_managed && backup.run.is_none() && is_old {
                left.push(backup.clone());
            }
        });
        for backup in left {
            if let Err(error) = self.remove(&backup).await {
                tracing::warn!(backup = backup.meta.name, %error, "what is left of a run cannot be removed");
            }
        }
    }
}

enum Named {
    Ours(BackupSeen, bool),
    Foreign(String),
}

fn run_of(backup: &BackupSeen) -> Option<&Arc<Run>> {
    backup.run.as_ref()?.as_ref().ok()
}

/// The Pod of a Job; of several, the newest.
fn newest<'a>(pods: &'a [PodSeen], job: &JobSeen) -> Option<&'a PodSeen> {
    let own = pods.iter().filter(|pod| pod.meta.owner.as_ref() == Some(&job.meta.uid));
    own.max_by_key(|pod| pod.meta.created_at)
}

/// Writes a whole status over the state of an object that was seen.
async fn apply_status(
    api: &Api<DynamicObject>,
    kind: &str,
    name: &str,
    version: &str,
    status: Value,
) -> Result<DynamicObject, PortError> {
    let object = json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": kind,
        "metadata": {"name": name, "resourceVersion": version},
        "status": status,
    });
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(name, &parameters, &Patch::Apply(object)).await.map_err(unwritten)
}

/// True when a pass may start something for which it matters where claims are.
fn may_start(policy: &PolicySeen, requests: &[Request], now: jiff::Timestamp) -> bool {
    let Some(status) = &policy.status else { return true };
    let is_due = status.next_run_time.is_none_or(|next| next <= now);
    !requests.is_empty()
        || is_due
        || status.observed_generation != policy.generation
        || !status.waiting.is_empty()
}

#[async_trait]
impl Orchestrator for Kubernetes {
    fn wakes(&self) -> mpsc::Receiver<Wake> {
        let taken = self.wakes.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    async fn list(&self) -> Result<Vec<Declared>, PortError> {
        // The first list waits for the watches, as long as the loop lets it.
        while !self.watches.stores.are_complete() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let stores = self.stores()?;
        let mut declared = Vec::new();
        stores.policies.each(|policy| {
            if !policy.meta.deleting {
                declared.push(declare(policy));
            }
        });
        refuse_twins(&mut declared);
        let known: HashSet<PolicyId> = declared.iter().map(|declared| declared.id.clone()).collect();
        let mut undeclared = BTreeMap::new();
        stores.backups.each(|backup| {
            if backup.is_active() && !backup.meta.deleting && !known.contains(&backup.id) {
                let (id, secrets) = (backup.id.clone(), Secrets::default());
                let gone = Declared { id, generation: 0, created_at: None, spec: Spec::Gone, secrets };
                undeclared.insert(backup.id.clone(), gone);
            }
        });
        self.claims().retain(|id, _| known.contains(id));
        self.sweep(stores).await;
        declared.extend(undeclared.into_values());
        Ok(declared)
    }

    async fn observe(&self, id: &PolicyId) -> Result<Observed, PortError> {
        let (policy, backups) = (self.policy(id)?, self.stores()?.backups.of(id));
        let backups: Vec<BackupSeen> = backups.into_iter().filter(|backup| !backup.meta.deleting).collect();
        let requests = self.requests(&backups).await?;
        let claims = match &policy {
            Some(policy) => {
                let starts = may_start(policy, &requests, self.clock.now());
                self.where_claims_are(id, policy, starts).await?
            }
            None => Claims::default(),
        };
        let nodes = match policy.as_ref().map(|policy| &policy.spec) {
            Some(Spec::Valid(valid)) => claims.of_sources(valid),
            _ => BTreeMap::new(),
        };
        let runs = backups.iter().filter_map(records::run).collect::<Result<Vec<_>, _>>();
        let status = policy.as_ref().and_then(|policy| {
            let value = Arc::clone(policy.status.as_ref()?);
            Some(Recorded { value, revision: policy.meta.version.to_string() })
        });
        Ok(Observed {
            status,
            runs: runs.map_err(PortError::Unavailable)?,
            tasks: self.tasks(id).await?,
            requests,
            holds: policy.map(|policy| policy.holds).unwrap_or_default(),
            nodes,
            image: Some(self.image.clone()),
            site: self.place(id).await?.site,
            ..Observed::default()
        })
    }

    async fn create(&self, policy: &PolicyId, what: Create<'_>) -> Result<Created, PortError> {
        match what {
            Create::Run(run) => self.claim(policy, run).await,
            Create::Task(task) => self.launch(policy, task).await,
        }
    }

    async fn record(&self, policy: &PolicyId, what: Record<'_>) -> Result<(), PortError> {
        match what {
            Record::Answer { id, answer } => self.answer(policy, id, answer).await,
            Record::Status { revision, status } => self.record_status(policy, revision, status).await,
            Record::Run { slot, revision, state } => {
                let Some(backup) = self.record_of(policy, slot)? else {
                    return Err(PortError::Conflict(format!("the record of run {slot} is gone")));
                };
                let Some(run) = run_of(&backup).filter(|_| backup.meta.version.to_string() == revision)
                else {
                    return Err(PortError::Conflict(format!("the record of run {slot}")));
                };
                let run = Run { state: state.clone(), ..Run::clone(run) };
                self.record_backup(&backup, records::begun(&run)).await
            }
        }
    }

    async fn delete(&self, policy: &PolicyId, what: Delete<'_>) -> Result<(), PortError> {
        match what {
            Delete::Task { uid, ended } => self.stop(policy, uid, ended).await,
            Delete::Run { slot } => self.forget(policy, slot).await,
        }
    }
}

fn declare(policy: &PolicySeen) -> Declared {
    Declared {
        id: policy.id.clone(),
        generation: policy.generation,
        created_at: Some(policy.meta.created_at),
        spec: policy.spec.clone(),
        // Nobody but tasks reads Secrets, so nobody sees that one was replaced.
        secrets: Secrets::default(),
    }
}

/// Refuses every policy that keeps its backups where another of the same name does.
fn refuse_twins(declared: &mut [Declared]) {
    let place = |declared: &Declared| match &declared.spec {
        Spec::Valid(policy) => {
            let path = policy.destination.instance_path(&policy.instance);
            Some(format!("{}:{}/{}", policy.destination.remote, path.as_str(), policy.name))
        }
        _ => None,
    };
    let mut by_place: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, one) in declared.iter().enumerate() {
        if let Some(place) = place(one) {
            by_place.entry(place).or_default().push(index);
        }
    }
    for (place, twins) in by_place.into_iter().filter(|(_, twins)| twins.len() > 1) {
        let names: Vec<String> =
            twins.iter().filter_map(|index| declared.get(*index)).map(|d| d.id.to_string()).collect();
        let message = format!(
            "{} would all keep their backups in {place}; give them different instances",
            names.join(" and ")
        );
        for index in twins {
            if let Some(one) = declared.get_mut(index) {
                one.spec = Spec::Wrong(Invalid { field: "instance".to_owned(), message: message.clone() });
            }
        }
    }
}
