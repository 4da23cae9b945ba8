//! Restores into a policy's sources, each recorded as a config: they exclude its runs, and one that ends badly holds it.
//!
//! Both sides first write and then look: a restore makes its record and then looks for a run, a run its record and then, with
//! every task that it launches, for a restore. So at least one of them sees the other and lets it go first.

use crate::{
    controller::clock::{Clock as _, SystemClock},
    domain::{identity::PolicyId, verdict::Failure},
    orchestrators::{
        restores,
        site::{OUTAGE, UNAVAILABLE},
        swarm::{
            engine::{
                Engine,
                model::{Config, Labels, Service, Task},
                refusal::refused_to_people as refused,
            },
            look::Seen,
            names::{self, kind},
            objects::{self, IN_LABELS},
            state,
        },
    },
    plan::observed::Restore,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tracing::warn;

/// Label with the record.
const RECORD: &str = "backstay.restore";
/// Who carries a restore out says so this often.
const BEAT: Duration = Duration::from_secs(20);
/// How often a Swarm that does not answer is asked.
const PACE: Duration = Duration::from_secs(1);
/// Without a word for so long, it is over.
const SILENCE: SignedDuration = SignedDuration::from_secs(90);

/// A restore as it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    started_at: Timestamp,
    message: String,
    /// When who carries it out was heard last.
    heard_at: Timestamp,
    /// Why it ended badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// The restores of a policy that are not settled, oldest first.
pub(super) fn unsettled(seen: &Seen, now: Timestamp) -> Vec<Restore> {
    let mut restores: Vec<Restore> =
        seen.of_kind(kind::RESTORE).map(|config| unsettled_one(config, seen, now)).collect();
    restores.sort_by_key(|restore| restore.started_at);
    restores
}

fn unsettled_one(config: &Config, seen: &Seen, now: Timestamp) -> Restore {
    let id = objects::request_id(config).to_owned();
    let record = config.label(RECORD).and_then(|text| serde_json::from_str::<Record>(text).ok());
    let Some(Record { started_at, message, heard_at, failure }) = record else {
        // It was one of these sources: they are held until a person has looked.
        let message = format!("config {} cannot be read", config.spec.name);
        return Restore { id, started_at: Timestamp::UNIX_EPOCH, active: false, message };
    };
    let is_heard = now.duration_since(heard_at.max(config.updated_at.unwrap_or(heard_at))) < SILENCE;
    let active = has_task(seen, &id) || failure.is_none() && is_heard;
    let message = match failure {
        _ if active => message,
        Some(failure) => format!("{message}: {failure}"),
        None => format!("{message}: who carried it out ended in the middle"),
    };
    Restore { id, started_at, active, message }
}

/// A task of the restore is not over; on a node that is away nobody waits for one whose service is removed.
fn has_task(seen: &Seen, id: &str) -> bool {
    let of_it = |labels: &Labels| is_errand(labels) && labels.get(names::ATTEMPT).is_some_and(|n| n == id);
    let goes_on = |service: &Service| !seen.task_of(service).is_some_and(state::is_over);
    let is_ending = |task: &Task| !state::is_over(task) && !state::is_away(seen.node(task));
    seen.services.iter().any(|service| of_it(&service.spec.labels) && goes_on(service))
        || seen.left_over().any(|task| of_it(&task.spec.container.labels) && is_ending(task))
}

fn is_errand(labels: &Labels) -> bool {
    labels.get(names::KIND).is_some_and(|kind| kind == kind::ERRAND)
}

/// Services of tasks that ended and that nobody has fetched for a while.
pub(super) fn left_behind(seen: &Seen, now: Timestamp) -> impl Iterator<Item = &str> {
    let is_left = move |service: &&Service| {
        let over = seen.task_of(service).filter(|task| state::is_over(task));
        let since = over.and_then(|task| task.status.at);
        is_errand(&service.spec.labels) && since.is_some_and(|at| now.duration_since(at) > SILENCE)
    };
    seen.services.iter().filter(is_left).map(|service| service.id.as_str())
}

/// A restore that has claimed a policy's sources.
#[derive(Debug)]
pub struct Claim {
    engine: Arc<Engine>,
    policy: PolicyId,
    id: String,
    record: Record,
    beat: JoinHandle<()>,
}

impl Claim {
    /// Claims the policy's sources for the restore `id`; runs wait from then on.
    ///
    /// The claim ends with [`Claim::succeeded`] or [`Claim::unchanged`]. Any other end, that of the process included, holds
    /// the policy until a later restore succeeds or a person forgets this one.
    ///
    /// # Errors
    /// A run or another restore is active.
    pub async fn begin(
        engine: &Arc<Engine>,
        policy: &PolicyId,
        id: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        free(engine, policy, None, now).await?;
        let record = Record { started_at: now, message: message.to_owned(), heard_at: now, failure: None };
        let name = names::config(kind::RESTORE, policy, Some(id));
        engine.create_config(&name, &labels(policy, &record), IN_LABELS).await.map_err(refused)?;
        let (engine, policy, id) = (Arc::clone(engine), policy.clone(), id.to_owned());
        let beat = tokio::spawn(beat(Arc::clone(&engine), name, policy.clone(), record.clone()));
        let claim = Self { engine, policy, id, record, beat };
        if let Err(busy) = free(&claim.engine, &claim.policy, Some(&claim.id), now).await {
            claim.unchanged().await?;
            return Err(busy);
        }
        Ok(claim)
    }

    /// Whose sources.
    pub fn policy(&self) -> &PolicyId {
        &self.policy
    }

    /// The sources are as the snapshot was: this and all earlier restores that ended badly are settled.
    ///
    /// # Errors
    /// A record that cannot be removed.
    pub async fn succeeded(self) -> Result<(), Failure> {
        let look = || async { Seen::of(&self.engine, &self.policy).await.map_err(refused) };
        for restore in unsettled(&insist(look).await?, SystemClock.now()) {
            if restore.id != self.id && !restore.active {
                insist(|| remove(&self.engine, &self.policy, &restore.id)).await?;
            }
        }
        self.unchanged().await
    }

    /// Nothing was written into the sources: as if it had not begun.
    ///
    /// # Errors
    /// A record that cannot be removed.
    pub async fn unchanged(self) -> Result<(), Failure> {
        self.beat.abort();
        insist(|| remove(&self.engine, &self.policy, &self.id)).await
    }

    /// It ended badly after something was written: the policy is held.
    ///
    /// # Errors
    /// A record that cannot be written; the end of this process has the same effect.
    pub async fn failed(mut self, why: &str) -> Result<(), Failure> {
        self.beat.abort();
        self.record.failure = Some(why.to_owned());
        let name = names::config(kind::RESTORE, &self.policy, Some(&self.id));
        insist(|| write(&self.engine, &name, &self.policy, &self.record)).await
    }
}

/// Again and again while the Swarm does not answer, which must not hold a policy whose restore was good.
async fn insist<T, A>(ask: impl Fn() -> A) -> Result<T, Failure>
where
    A: Future<Output = Result<T, Failure>>,
{
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match ask().await {
            Err(failure) if failure.reason == UNAVAILABLE && begun.elapsed() < OUTAGE => {
                if !is_told {
                    warn!(%failure, "the end of the restore is recorded once the Swarm answers");
                    is_told = true;
                }
                tokio::time::sleep(PACE).await;
            }
            answer => return answer,
        }
    }
}

/// Nothing uses the policy's sources but the restore `own`.
async fn free(engine: &Engine, policy: &PolicyId, own: Option<&str>, now: Timestamp) -> Result<(), Failure> {
    let seen = Seen::of(engine, policy).await.map_err(refused)?;
    let active = seen.configs.iter().find(|config| objects::is_active_run(config));
    let slot = active.map(|config| config.label(names::RUN).unwrap_or_default());
    restores::free(policy, slot, &unsettled(&seen, now), own)
}

/// Forgets restores that ended badly, or the one with this `id`: the person says that the sources are good as they are.
/// Their ids.
///
/// # Errors
/// There is no such restore, or it runs.
pub async fn forget(
    engine: &Engine,
    policy: &PolicyId,
    id: Option<&str>,
    now: Timestamp,
) -> Result<Vec<String>, Failure> {
    let seen = Seen::of(engine, policy).await.map_err(refused)?;
    let over = restores::forgettable(policy, unsettled(&seen, now), id)?;
    for restore in &over {
        remove(engine, policy, &restore.id).await?;
    }
    Ok(over.into_iter().map(|restore| restore.id).collect())
}

/// Says again and again that the restore goes on. Several misses are survived.
async fn beat(engine: Arc<Engine>, name: String, policy: PolicyId, mut record: Record) {
    loop {
        tokio::time::sleep(BEAT).await;
        record.heard_at = SystemClock.now();
        if let Err(failure) = write(&engine, &name, &policy, &record).await {
            tracing::debug!(%failure, "nobody hears that the restore goes on");
        }
    }
}

async fn write(engine: &Engine, name: &str, policy: &PolicyId, record: &Record) -> Result<(), Failure> {
    let config = engine.config(name).await.map_err(refused)?;
    engine.label_config(name, config.version.index, &labels(policy, record)).await.map_err(refused)
}

fn labels(policy: &PolicyId, record: &Record) -> Labels {
    let mut labels = names::labels(kind::RESTORE, policy);
    labels.extend(serde_json::to_string(record).ok().map(|record| (RECORD.to_owned(), record)));
    labels
}

async fn remove(engine: &Engine, policy: &PolicyId, id: &str) -> Result<(), Failure> {
    match engine.remove_config(&names::config(kind::RESTORE, policy, Some(id))).await {
        Err(refusal) if !refusal.is_absent() => Err(refused(refusal)),
        _ => Ok(()),
    }
}
