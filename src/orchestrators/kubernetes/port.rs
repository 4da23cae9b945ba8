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
    domain::{identity::PolicyId, run::Run, status::Status},
    orchestrators::kubernetes::{
        client::{Cluster, apply_status, unread},
        events,
        facts::{Claims, Namespaces, Place, claims_of},
        hand::Hand,
        names,
        objects::{self, BackupSeen, PolicySeen},
        records, restores,
        watch::{Stores, Watches},
    },
    plan::{
        observed::{Declared, Observed, Recorded, Request, Secrets, Spec},
        validate::Facts,
    },
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Where claims are is looked up again after this time at the earliest.
const KNOWN: Duration = Duration::from_secs(60);
/// How often it is seen whether everything is known.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A cluster as an orchestrator.
pub struct Kubernetes {
    pub(super) cluster: Cluster,
    /// The image of tasks.
    pub(super) image: String,
    pub(super) clock: Arc<dyn Clock>,
    facts: Arc<Facts>,
    pub(super) watches: Watches,
    wakes: Mutex<Option<mpsc::Receiver<Wake>>>,
    namespaces: Arc<Namespaces>,
    /// Where the claims of each policy were when something was about to start.
    claims: Mutex<HashMap<PolicyId, (Instant, Claims)>>,
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
        let (mut watches, wakes) = Watches::start(&cluster, namespaces, facts.clone());
        let known = Arc::new(Namespaces::default());
        watches.also(Hand::new(&cluster, &watches.stores, &known, &image, &clock).carry_out());
        Self {
            cluster,
            image,
            clock,
            facts: Arc::new(facts),
            watches,
            wakes: Mutex::new(Some(wakes)),
            namespaces: known,
            claims: Mutex::default(),
        }
    }

    pub(super) fn stores(&self) -> Result<&Stores, PortError> {
        match self.watches.stores.are_complete() {
            true => Ok(&self.watches.stores),
            false => {
                Err(PortError::Unavailable("the objects of the cluster are not all known yet".to_owned()))
            }
        }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<PolicyId, (Instant, Claims)>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn policy(&self, id: &PolicyId) -> Result<Option<PolicySeen>, PortError> {
        Ok(self.stores()?.policies.of(id).into_iter().find(|policy| !policy.meta.deleting))
    }

    pub(super) async fn place(&self, policy: &PolicyId) -> Result<Place, PortError> {
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
            Some((at, known)) if !starts || at.elapsed() < KNOWN => Ok(known),
            _ => {
                let looked = Claims::look(&self.cluster, &policy.meta.namespace, &claims_of(valid)).await;
                let looked = looked.map_err(unread)?;
                self.claims().insert(id.clone(), (Instant::now(), looked.clone()));
                Ok(looked)
            }
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
}

/// True when a pass may start something for which it matters where claims are.
fn may_start(policy: &PolicySeen, requests: &[Request], now: jiff::Timestamp) -> bool {
    let Some(status) = &policy.status else { return true };
    let is_due = status.next_run_time.is_some_and(|next| next <= now);
    !requests.is_empty() || is_due || status.observed_generation != policy.generation
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
        self.sweep(stores);
        declared.extend(undeclared.into_values());
        Ok(declared)
    }

    async fn observe(&self, id: &PolicyId) -> Result<Observed, PortError> {
        let stores = self.stores()?;
        let (policy, backups) = (self.policy(id)?, stores.backups.of(id));
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
            restores: restores::of(&stores.restores.of_namespace(names::namespace(id)), id),
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
                let Some(run) = backup.run().filter(|_| backup.meta.version.to_string() == revision) else {
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
