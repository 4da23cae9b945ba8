//! The Swarm as people ask it: see [`Site`]. Everything is read from its objects, so no connection to the controller is
//! needed and nothing is lost while none runs.

use crate::{
    controller::clock::{Clock as _, SystemClock},
    domain::{
        error::Invalid,
        identity::PolicyId,
        names::{Slot, SnapshotName},
        run::RunState,
        status::Status,
        verdict::Failure,
    },
    orchestrators::{
        last_progress,
        site::{self, Controller, Known, Problem, Read, TaskLog, choose},
        swarm::{
            discover::{Found, discover},
            engine::{
                Engine,
                model::{Config, Service, Task},
                refusal::refused_to_people as failed,
                stream::Output,
            },
            errand::Hands,
            facts::Cluster,
            image,
            look::{Look, Seen},
            names::{self, kind},
            notice::Notice,
            objects::{self, Asked},
            restores,
        },
    },
    plan::{
        action::Answer,
        observed::{Request, TaskName, Wish},
        task_spec::Progress,
    },
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// How the controller is started.
const START: &str = "docker stack deploy -c backstay.yaml backstay";

struct Everything {
    cluster: Cluster,
    notice: Notice,
    found: Vec<Found>,
    problems: Vec<Problem>,
}

/// A Swarm, through the engine of one of its managers.
#[derive(Debug)]
pub struct SwarmSite {
    engine: Arc<Engine>,
}

impl SwarmSite {
    /// The Swarm of the engine that the environment names.
    ///
    /// # Errors
    /// An address that is no socket.
    pub fn open() -> Result<Self, Failure> {
        let engine = Engine::from_environment()
            .map_err(|error| Failure::permanent("EngineUnusable", error.to_string()))?;
        Ok(Self { engine: Arc::new(engine) })
    }

    async fn seen(&self, policy: &PolicyId) -> Result<Seen, Failure> {
        Seen::of(&self.engine, policy).await.map_err(failed)
    }

    async fn config(&self, name: &str) -> Result<Option<Config>, Failure> {
        self.engine.find_config(name).await.map_err(failed)
    }

    /// All that people have made and declared, and what the controller tells about itself.
    async fn everything(&self) -> Result<Everything, Failure> {
        let (cluster, _) = Look::at_everything(&self.engine).await.map_err(failed)?;
        let notice = Notice::read(&self.engine).await.map_err(failed)?;
        let is_unheard = notice.is_none();
        let notice = notice.unwrap_or_default();
        let (mut found, problems) = discover(&cluster, &notice.rules());
        if is_unheard {
            found.iter_mut().for_each(unjudged);
        }
        Ok(Everything { cluster, notice, found, problems })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// All policies that are declared, with what is known about them.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn declared(&self) -> Result<Vec<Found>, Failure> {
        Ok(self.everything().await?.found)
    }

    /// What is needed to do something beside the data of the policy that `name` means.
    ///
    /// # Errors
    /// There is no such policy, it is wrong, or nothing says what a task runs as.
    pub async fn hands(&self, name: &str) -> Result<Hands, Failure> {
        let Everything { cluster, notice, found, problems } = self.everything().await?;
        let known = found.iter().map(|found| Self::known(found.clone(), &cluster.configs)).collect();
        let known = choose(name, known, &problems)?;
        let policy = Arc::clone(known.valid()?);
        let facts = found.into_iter().find(|found| found.id == known.id).map(|found| found.facts);
        let own = image::own(&self.engine).await.map_err(failed)?;
        let Some(image) = notice.image.or(own.map(|own| own.image)) else {
            let message = "no controller ever ran on this Swarm, so the image of its tasks is not known";
            return Err(
                Failure::permanent("NoImage", message).fix(format!("{START}; or start this with docker run"))
            );
        };
        let secrets = cluster.secrets.into_iter().map(|secret| (secret.spec.name, secret.id)).collect();
        let (engine, facts) = (Arc::clone(&self.engine), facts.unwrap_or_default());
        let site = self.config(names::SITE).await?.map(|config| config.bytes()).unwrap_or_default();
        let site = String::from_utf8_lossy(&site).into_owned();
        Ok(Hands { engine, clock: SystemClock, id: known.id, policy, facts, secrets, image, site })
    }

    /// Snapshots that stay whatever the rules say, those that people hold and the newest that a restore was tested with; and
    /// whether a restore writes into the policy's sources.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn kept_apart(&self, policy: &PolicyId) -> Result<(Vec<SnapshotName>, bool), Failure> {
        let seen = self.seen(policy).await?;
        let tested = seen.drill().and_then(|drill| drill.last_passed);
        let kept = seen.holds().chain(tested).collect();
        let restores = restores::unsettled(&seen, SystemClock.now());
        Ok((kept, restores.iter().any(|restore| restore.active)))
    }

    fn known(found: Found, configs: &[Config]) -> Known {
        let Found { id, generation, created_at, policy, .. } = found;
        let status = status_of(&id, configs);
        Known { id, generation: Some(generation), changed_at: created_at, policy, status }
    }

    /// True while a task of the service runs.
    async fn is_up(&self, service: &str) -> Result<bool, Failure> {
        let tasks = match self.engine.tasks_of(&[service]).await {
            Err(refusal) if refusal.is_absent() => return Ok(false),
            tasks => tasks.map_err(failed)?,
        };
        // It works already while its first health check is waited for.
        let is_up = |task: &Task| matches!(task.status.state.as_str(), "starting" | "running");
        Ok(tasks.iter().any(is_up))
    }
}

/// What is wrong with a policy may be right by what a controller allows and what its defaults say.
fn unjudged(found: &mut Found) {
    if let Err(error) = &mut found.policy {
        error.message = format!(
            "no controller has told yet what it allows and what its defaults are, and without that: {}; start it first: {START}",
            error.message
        );
    }
}

fn status_of(policy: &PolicyId, configs: &[Config]) -> Option<Status> {
    let name = names::config(kind::STATUS, policy, None);
    let config = configs.iter().find(|config| config.spec.name == name)?;
    Some(Arc::unwrap_or_clone(objects::status(config).value))
}

/// `<step>-<attempt>`, as the logs are called.
fn called(task: &TaskName) -> String {
    format!("{}-{}", task.step, task.attempt)
}

#[async_trait]
impl site::Site for SwarmSite {
    async fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
        let Everything { cluster, found, problems, .. } = self.everything().await?;
        let mut all: Vec<Known> =
            found.into_iter().map(|found| Self::known(found, &cluster.configs)).collect();
        let active = cluster.configs.iter().filter(|config| objects::is_active_run(config));
        for id in active.filter_map(|config| names::policy_of(&config.spec.labels)) {
            if all.iter().all(|known| known.id != id) {
                let policy = Err(Invalid::new("nobody declares it any more; its run goes on"));
                let status = status_of(&id, &cluster.configs);
                all.push(Known { id, generation: None, changed_at: None, policy, status });
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((all, problems))
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(700)
    }

    async fn controller(&self) -> Result<Controller, Failure> {
        let place = format!("the Swarm of {}", self.engine.socket().display());
        let start = START.to_owned();
        let nobody = Controller { place, start, ..Controller::default() };
        let Some(notice) = Notice::read(&self.engine).await.map_err(failed)? else {
            return Ok(Controller { is_unheard: true, ..nobody });
        };
        let mut runs = notice.service.is_none().then(|| "a process that a person started".to_owned());
        for service in notice.services() {
            if runs.is_none() && self.is_up(service).await? {
                runs = Some(format!("service {service}"));
            }
        }
        Ok(Controller { runs, since: notice.since, ..nobody })
    }

    async fn ask(
        &self,
        policy: &PolicyId,
        wish: Wish,
        patience: Duration,
        now: Timestamp,
    ) -> Result<String, Failure> {
        let mut random = [0u8; 6];
        getrandom::fill(&mut random).map_err(|error| Failure::temporary("NoRandom", error.to_string()))?;
        let id = data_encoding::HEXLOWER.encode(&random);
        let request = Request { id: id.clone(), requested_at: now, wish };
        let asked = Asked { request, patience_seconds: patience.as_secs() };
        let data = serde_json::to_vec(&asked).unwrap_or_default();
        let name = names::config(kind::REQUEST, policy, Some(&id));
        let labels = names::labels(kind::REQUEST, policy);
        self.engine.create_config(&name, &labels, &data).await.map_err(failed)?;
        Ok(id)
    }

    async fn renew(&self, policy: &PolicyId, id: &str, now: Timestamp) -> Result<(), Failure> {
        let name = names::config(kind::REQUEST, policy, Some(id));
        let Some(config) = self.config(&name).await? else { return Ok(()) };
        if objects::answer(&config).is_some() {
            return Ok(());
        }
        let labels = objects::renewed(&config, now);
        match self.engine.label_config(&name, config.version.index, &labels).await {
            // It is being answered.
            Err(refusal) if refusal.is_stale() || refusal.is_absent() => Ok(()),
            renewed => renewed.map_err(failed),
        }
    }

    async fn withdraw(&self, policy: &PolicyId, id: &str) -> Result<(), Failure> {
        match self.engine.remove_config(&names::config(kind::REQUEST, policy, Some(id))).await {
            Err(refusal) if refusal.is_absent() => Ok(()),
            removed => removed.map_err(failed),
        }
    }

    async fn answer(&self, policy: &PolicyId, id: &str) -> Result<Option<Answer>, Failure> {
        let config = self.config(&names::config(kind::REQUEST, policy, Some(id))).await?;
        let answer = config.as_ref().and_then(objects::answer);
        if answer.is_some() {
            // Should it stay, the controller sweeps it.
            let _ = self.withdraw(policy, id).await;
        }
        Ok(answer)
    }

    async fn status(&self, policy: &PolicyId) -> Result<Option<Status>, Failure> {
        let config = self.config(&names::config(kind::STATUS, policy, None)).await?;
        Ok(config.map(|config| Arc::unwrap_or_clone(objects::status(&config).value)))
    }

    async fn runs(&self, policy: &PolicyId) -> Result<Vec<Slot>, Failure> {
        let seen = self.seen(policy).await?;
        let runs = seen.of_kind(kind::RUN);
        Ok(runs.filter_map(|config| config.label(names::RUN)?.parse().ok()).collect())
    }

    async fn run(&self, policy: &PolicyId, slot: Slot) -> Result<Option<RunState>, Failure> {
        let config = self.config(&names::config(kind::RUN, policy, Some(&slot.to_string()))).await?;
        let run = config.map(|config| objects::run(&config)).transpose();
        let run = run.map_err(|message| Failure::permanent("RecordUnreadable", message))?;
        Ok(run.map(|run| run.value.state.clone()))
    }

    async fn progress(&self, policy: &PolicyId, slot: Slot) -> Result<Option<Progress>, Failure> {
        let seen = self.seen(policy).await?;
        let of_run = |service: &&Service| {
            names::task_of(&service.spec.labels).is_some_and(|task| task.slot == Some(slot))
        };
        let newest = seen.services.iter().filter(of_run).max_by_key(|service| service.created_at);
        let Some(task) = newest.and_then(|service| seen.task_of(service)) else { return Ok(None) };
        if task.status.state != "running" {
            return Ok(None);
        }
        let log = self.engine.task_log(&task.id, Output::Standard, Some(2)).await.unwrap_or_default();
        Ok(last_progress(&log))
    }

    async fn logs(
        &self,
        policy: &PolicyId,
        slot: Option<Slot>,
        read: &Read,
    ) -> Result<Vec<TaskLog>, Failure> {
        let seen = self.seen(policy).await?;
        let mut texts: Vec<(Option<Timestamp>, String, String)> = Vec::new();
        for config in seen.of_kind(kind::LOG) {
            let Some(task) = names::task_of(&config.spec.labels).filter(|task| task.slot == slot) else {
                continue;
            };
            let text = String::from_utf8_lossy(&config.bytes()).into_owned();
            texts.push((config.created_at, called(&task), text));
        }
        for service in &seen.services {
            let Some(task) = names::task_of(&service.spec.labels).filter(|task| task.slot == slot) else {
                continue;
            };
            let Some(id) = seen.task_of(service).map(|task| &task.id) else { continue };
            // A node that is away gives no log; the others do.
            let text = self.engine.task_log(id, Output::Error, None).await.unwrap_or_default();
            texts.push((service.created_at, called(&task), text));
        }
        texts.sort_by_key(|(at, ..)| *at);
        let log = |(_, task, text): (_, String, String)| {
            let from = read.get(&task).copied().unwrap_or_default();
            let rest = usize::try_from(from).ok().and_then(|from| text.get(from..)).unwrap_or_default();
            let whole = rest.rfind('\n').map_or(0, |at| at + 1);
            let rest = rest.get(..whole).unwrap_or_default();
            TaskLog { task, end: from + rest.len() as u64, text: rest.to_owned() }
        };
        Ok(texts.into_iter().map(log).collect())
    }

    async fn held(&self, policy: &PolicyId) -> Result<Vec<SnapshotName>, Failure> {
        Ok(self.seen(policy).await?.holds().collect())
    }

    async fn hold(&self, policy: &PolicyId, snapshot: &SnapshotName, held: bool) -> Result<(), Failure> {
        let name = names::config(kind::HOLD, policy, Some(&snapshot.slot().to_string()));
        if held {
            let labels = objects::hold_labels(policy, snapshot);
            return match self.engine.create_config(&name, &labels, objects::IN_LABELS).await {
                Err(refusal) if refusal.is_taken() => Ok(()),
                made => made.map(|_| ()).map_err(failed),
            };
        }
        match self.engine.remove_config(&name).await {
            Err(refusal) if refusal.is_absent() => Ok(()),
            removed => removed.map_err(failed),
        }
    }
}
