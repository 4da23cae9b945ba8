//! The controller's port on a Swarm.
//!
//! Every object of ours is made, changed and removed by one call each, guarded by its name or its version, so that two
//! controllers, or one that comes back, cannot undo each other's work.

use crate::{
    controller::{
        clock::Clock,
        port::{Create, Created, Delete, Orchestrator, PortError, Record, Wake},
    },
    domain::{identity::PolicyId, names::Slot, run::Run},
    orchestrators::{
        checksum,
        site::Problem,
        swarm::{
            discover::{Found, Rules, discover},
            engine::{
                Engine,
                model::Labels,
                refusal::{Refusal, absent_is_fine},
            },
            facts::{Cluster, Facts},
            harvest::Harvest,
            logs,
            look::{Look, Seen},
            mirror,
            names::{self, kind},
            objects, optional, removed, restores,
            service::{self, Launch},
            state,
            watch::{self, Hints},
        },
    },
    plan::{
        action::NewTask,
        observed::{Declared, Observed, Secrets, Spec, TaskState},
    },
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{OnceCell, mpsc};
use tracing::warn;

/// A Swarm as an orchestrator.
pub struct Swarm {
    engine: Arc<Engine>,
    rules: Rules,
    image: String,
    clock: Arc<dyn Clock>,
    site: OnceCell<String>,
    known: Mutex<Known>,
    harvest: Harvest,
    hints: Arc<Hints>,
    wakes: Mutex<Option<mpsc::Receiver<Wake>>>,
}

/// What the last look at everything told.
#[derive(Debug, Default)]
struct Known {
    facts: HashMap<PolicyId, Facts>,
    /// Identities of all services.
    services: BTreeSet<String>,
    /// Identities of the secrets, by name.
    secrets: BTreeMap<String, String>,
    look: Option<Look>,
    problems: Vec<Problem>,
}

impl Swarm {
    /// An orchestrator that runs tasks as `image`. To be called within a runtime.
    pub fn start(engine: Engine, rules: Rules, image: String, clock: Arc<dyn Clock>) -> Self {
        let engine = Arc::new(engine);
        let (hints, wakes) = Hints::new();
        watch::start(&engine, &hints);
        Self {
            engine,
            rules,
            image,
            clock,
            site: OnceCell::new(),
            known: Mutex::default(),
            harvest: Harvest::default(),
            hints,
            wakes: Mutex::new(Some(wakes)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The random identity of this site: made once, by whoever comes first.
    async fn site(&self) -> Result<&str, PortError> {
        let found = self.site.get_or_try_init(|| async {
            if let Some(found) = self.engine.find_config(names::SITE).await? {
                return Ok::<_, PortError>(String::from_utf8_lossy(&found.bytes()).into_owned());
            }
            let mut random = [0u8; 16];
            getrandom::fill(&mut random).map_err(|error| PortError::Unavailable(error.to_string()))?;
            let site = data_encoding::HEXLOWER.encode(&random);
            let labels = Labels::from([(names::KIND.to_owned(), kind::SITE.to_owned())]);
            // One that was made at the same time is a conflict: the next look finds it.
            self.engine.create_config(names::SITE, &labels, site.as_bytes()).await?;
            Ok(site)
        });
        found.await.map(String::as_str)
    }

    /// Notes what a look at everything says, and gives what is declared.
    fn take(&self, cluster: &Cluster, look: Look) -> Vec<Declared> {
        let (found, problems) = discover(cluster, &self.rules);
        let secrets: BTreeMap<String, String> =
            cluster.secrets.iter().map(|secret| (secret.spec.name.clone(), secret.id.clone())).collect();
        let mut known = self.known();
        if known.problems != problems {
            problems.iter().for_each(|problem| warn!(place = problem.place, "{}", problem.message));
        }
        let mut declared = Vec::new();
        for found in found {
            known.facts.insert(found.id.clone(), found.facts.clone());
            declared.push(declare(found, &secrets));
        }
        let active = cluster.configs.iter().filter(|config| objects::is_active_run(config));
        for id in active.filter_map(|config| names::policy_of(&config.spec.labels)) {
            if declared.iter().all(|declared| declared.id != id) {
                let secrets = Secrets::default();
                declared.push(Declared { id, generation: 0, created_at: None, spec: Spec::Gone, secrets });
            }
        }
        known.facts.retain(|id, _| declared.iter().any(|declared| declared.id == *id));
        known.services = cluster.services.iter().map(|service| service.id.clone()).collect();
        (known.secrets, known.problems, known.look) = (secrets, problems, Some(look));
        self.hints.know(declared.iter().map(|declared| &declared.id));
        declared
    }

    async fn seen(&self, policy: &PolicyId) -> Result<Seen, PortError> {
        let touched = self.hints.touched(policy);
        let shared = self.known().look.as_ref().and_then(|look| look.of(policy, touched));
        match shared {
            Some(seen) => Ok(seen),
            None => Ok(Seen::of(&self.engine, policy).await?),
        }
    }

    async fn claim(&self, policy: &PolicyId, run: &Run) -> Result<Created, PortError> {
        let name = names::config(kind::RUN, policy, Some(&run.slot.to_string()));
        let plan = serde_json::to_vec(&run.plan).map_err(|error| PortError::Rejected(error.to_string()))?;
        let labels = objects::run_labels(policy, run.slot, &run.state);
        match self.engine.create_config(&name, &labels, &plan).await {
            Err(refusal) if refusal.is_taken() => {
                let there = self.engine.config(&name).await?;
                let is_ours = names::policy_of(&there.spec.labels).as_ref() == Some(policy);
                Ok(if is_ours { Created::Ours } else { Created::Foreign(format!("config {name}")) })
            }
            made => Ok(made.map(|_| Created::Fresh)?),
        }
    }

    async fn launch(&self, policy: &PolicyId, task: &NewTask) -> Result<Created, PortError> {
        let (facts, secrets, is_alone) = {
            let known = self.known();
            let facts = known.facts.get(policy).cloned().unwrap_or_default();
            let is_alone = facts.carrier.as_ref().is_some_and(|carrier| !known.services.contains(carrier));
            (facts, known.secrets.clone(), is_alone)
        };
        if is_alone && service::is_carried(task, &facts) {
            return Err(PortError::Rejected(format!(
                "the service that carries {policy} is gone, and its networks with it; deploy it again, or give the run up: backstay cancel {policy}"
            )));
        }
        let launch =
            Launch { policy, kind: kind::TASK, task, facts: &facts, image: &self.image, secrets: &secrets };
        let spec = service::service(launch).map_err(PortError::Rejected)?;
        match self.engine.create_service(&spec).await {
            Err(refusal) if refusal.is_taken() => self.taken(policy, task).await,
            Err(Refusal { status: 404, message, .. }) => Err(PortError::Rejected(message)),
            made => {
                made?;
                self.hints.poll();
                Ok(Created::Fresh)
            }
        }
    }

    /// The name of a task's service is taken: by the same task, or by something else.
    async fn taken(&self, policy: &PolicyId, task: &NewTask) -> Result<Created, PortError> {
        let name = names::service(policy, &task.name);
        match self.engine.service(&name).await {
            Ok(there)
                if names::policy_of(&there.spec.labels).as_ref() == Some(policy)
                    && names::task_of(&there.spec.labels).as_ref() == Some(&task.name) =>
            {
                Ok(Created::Ours)
            }
            Ok(_) => Ok(Created::Foreign(format!("service {name}"))),
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn stop(&self, uid: &str, ended: bool) -> Result<(), PortError> {
        // A task without a service stops by itself.
        if uid.starts_with(names::LEFT_OVER) {
            return Ok(());
        }
        let tasks = match self.engine.tasks_of(&[uid]).await {
            // The service is gone already.
            Err(refusal) if refusal.is_absent() => return Ok(()),
            tasks => tasks?,
        };
        let newest = tasks.into_iter().max_by_key(|task| task.created_at);
        match newest.filter(state::is_over) {
            Some(_) if !ended => return Err(PortError::Conflict("the task has ended".to_owned())),
            Some(task) if task.status.state != "complete" => logs::keep(&self.engine, &task).await,
            _ => {}
        }
        absent_is_fine(self.engine.remove_service(uid).await)
    }

    /// Removes a run's services, then its record.
    async fn forget(&self, policy: &PolicyId, slot: Slot) -> Result<(), PortError> {
        let label = format!("{}={}", names::IDENTITY, names::identity(policy));
        for service in self.engine.services(Some(&label)).await? {
            if service.spec.labels.get(names::RUN) == Some(&slot.to_string()) {
                absent_is_fine(self.engine.remove_service(&service.id).await)?;
            }
        }
        for config in self.engine.configs(&label).await? {
            let is_log = objects::kind_of(&config) == Some(kind::LOG);
            if is_log && config.label(names::RUN) == Some(&slot.to_string()) {
                absent_is_fine(self.engine.remove_config(&config.spec.name).await)?;
            }
        }
        let name = names::config(kind::RUN, policy, Some(&slot.to_string()));
        absent_is_fine(self.engine.remove_config(&name).await)
    }

    async fn write(&self, policy: &PolicyId, what: Record<'_>) -> Result<(), PortError> {
        match what {
            Record::Answer { id, answer } => {
                let name = names::config(kind::REQUEST, policy, Some(id));
                // Otherwise it was taken back.
                let Some(config) = self.engine.find_config(&name).await? else { return Ok(()) };
                let labels = objects::answered(&config, answer);
                Ok(self.engine.label_config(&name, config.version.index, &labels).await?)
            }
            Record::Run { slot, revision, state } => {
                let name = names::config(kind::RUN, policy, Some(&slot.to_string()));
                self.replace(&name, revision, &objects::run_labels(policy, slot, state)).await
            }
            Record::Status { revision: Some(revision), status } => {
                let name = names::config(kind::STATUS, policy, None);
                self.replace(&name, revision, &objects::status_labels(policy, status)).await
            }
            Record::Status { revision: None, status } => {
                let name = names::config(kind::STATUS, policy, None);
                let labels = objects::status_labels(policy, status);
                self.engine.create_config(&name, &labels, objects::IN_LABELS).await?;
                Ok(())
            }
        }
    }

    async fn replace(&self, name: &str, revision: &str, labels: &Labels) -> Result<(), PortError> {
        let version = revision.parse().map_err(|_| PortError::Conflict(format!("{name}: {revision:?}")))?;
        Ok(self.engine.label_config(name, version, labels).await?)
    }
}

#[async_trait]
impl Orchestrator for Swarm {
    fn wakes(&self) -> mpsc::Receiver<Wake> {
        let taken = self.wakes.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    async fn list(&self) -> Result<Vec<Declared>, PortError> {
        let (cluster, look) = Look::at_everything(&self.engine).await?;
        let declared = self.take(&cluster, look);
        let mirroring: Vec<_> = {
            let known = self.known();
            known
                .facts
                .iter()
                .filter(|(_, facts)| facts.mirrors)
                .map(|(id, f)| (id.clone(), f.clone()))
                .collect()
        };
        for (policy, facts) in &mirroring {
            mirror::write(&self.engine, &cluster, policy, facts).await;
        }
        removed::let_networks_go(&self.engine, &cluster.services).await;
        let wanted = declared.iter().map(|declared| &declared.id).collect();
        removed::sweep(&self.engine, &cluster, &wanted, self.clock.now()).await;
        Ok(declared)
    }

    async fn observe(&self, policy: &PolicyId) -> Result<Observed, PortError> {
        let site = self.site().await?.to_owned();
        let seen = self.seen(policy).await?;
        let now = self.clock.now();
        let runs: Result<Vec<_>, _> = seen.of_kind(kind::RUN).map(objects::run).collect();
        let mut requests = Vec::new();
        for config in seen.of_kind(kind::REQUEST) {
            match objects::request(config, now) {
                Some(Ok(request)) => requests.push(request),
                Some(Err(why)) => removed::refuse(&self.engine, config, &why).await?,
                None => {}
            }
        }
        requests.sort_by_key(|request| request.requested_at);
        for service in &seen.services {
            if let Some(path) = optional::missing(&service.spec.labels, seen.task_of(service)) {
                self.hints.touch(policy);
                optional::start_without(&self.engine, service, path).await?;
            }
        }
        let (tasks, awaiting) = self.harvest.tasks(&self.engine, &seen, now).await;
        if awaiting {
            self.hints.await_report(policy);
        } else if tasks.iter().any(|task| !matches!(task.state, TaskState::Ended { .. })) {
            self.hints.poll();
        }
        for service in restores::left_behind(&seen, now) {
            absent_is_fine(self.engine.remove_service(service).await)?;
        }
        Ok(Observed {
            status: seen.of_kind(kind::STATUS).next().map(objects::status),
            runs: runs.map_err(PortError::Unavailable)?,
            tasks,
            requests,
            restores: restores::unsettled(&seen, now),
            holds: seen.holds().collect(),
            drill: seen.drill(),
            keep_files: None,
            nodes: self.known().facts.get(policy).map(|facts| facts.nodes.clone()).unwrap_or_default(),
            image: Some(self.image.clone()),
            site,
            refusal: None,
        })
    }

    async fn create(&self, policy: &PolicyId, what: Create<'_>) -> Result<Created, PortError> {
        self.hints.touch(policy);
        let created = match what {
            Create::Run(run) => self.claim(policy, run).await,
            Create::Task(task) => self.launch(policy, task).await,
        };
        self.hints.touch(policy);
        created
    }

    async fn record(&self, policy: &PolicyId, what: Record<'_>) -> Result<(), PortError> {
        self.hints.touch(policy);
        let recorded = self.write(policy, what).await;
        self.hints.touch(policy);
        recorded
    }

    async fn delete(&self, policy: &PolicyId, what: Delete<'_>) -> Result<(), PortError> {
        self.hints.touch(policy);
        let deleted = match what {
            Delete::Task { uid, ended } => self.stop(uid, ended).await,
            Delete::Run { slot } => self.forget(policy, slot).await,
        };
        self.hints.touch(policy);
        deleted
    }
}

fn declare(found: Found, secrets: &BTreeMap<String, String>) -> Declared {
    let Found { id, generation, created_at, policy, .. } = found;
    let (spec, secrets) = match policy {
        Ok(policy) => {
            let used: Vec<&str> = super::place::secret_names(&policy)
                .into_iter()
                .map(|name| secrets.get(&name).map_or("", String::as_str))
                .collect();
            let fixed = if used.is_empty() { 0 } else { checksum(&used) };
            (Spec::Valid(policy), Secrets { fixed, renewed: 0 })
        }
        Err(error) => (Spec::Wrong(error), Secrets::default()),
    };
    Declared { id, generation, created_at, spec, secrets }
}
