//! What is left behind: answers that nobody fetched, and the state of policies that are declared no more.

use crate::{
    controller::port::PortError,
    domain::identity::PolicyId,
    orchestrators::swarm::{
        engine::{
            Engine,
            model::{Config, Service},
            refusal::absent_is_fine,
        },
        facts::Cluster,
        names::{self, kind},
        objects,
    },
    plan::action::Answer,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use tracing::{info, warn};

/// The state of a policy is kept so long after it was seen last.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Its tasks for so long: it may be deployed anew at this moment.
const GONE: SignedDuration = SignedDuration::from_mins(10);
/// An answer that nobody fetched.
const ANSWER_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Since when a policy is not declared, on its status.
const ABSENT: &str = "backstay.absent-since";

/// Sweeps what is old enough. What cannot be removed now is removed later.
pub(super) async fn sweep(engine: &Engine, cluster: &Cluster, wanted: &BTreeSet<&PolicyId>, now: Timestamp) {
    for config in cluster.configs.iter().filter(|config| config.label(names::KIND).is_some()) {
        if let Err(error) = sweep_one(engine, cluster, config, wanted, now).await {
            warn!(config = config.spec.name, %error, "what is left of a policy cannot be swept");
        }
    }
}

async fn sweep_one(
    engine: &Engine,
    cluster: &Cluster,
    config: &Config,
    wanted: &BTreeSet<&PolicyId>,
    now: Timestamp,
) -> Result<(), PortError> {
    let is_older = |age| config.updated_at.is_some_and(|at| now.duration_since(at) > age);
    match objects::kind_of(config) {
        Some(kind::REQUEST) if objects::answer(config).is_some() && is_older(ANSWER_KEPT) => {
            absent_is_fine(engine.remove_config(&config.spec.name).await)
        }
        Some(kind::STATUS) => {
            let policy = names::policy_of(&config.spec.labels);
            let is_wanted = policy.as_ref().is_some_and(|policy| wanted.contains(policy));
            let since = config.label(ABSENT).and_then(|since| since.parse::<Timestamp>().ok());
            let mut labels = config.spec.labels.clone();
            match (is_wanted, since) {
                (true, None) => return Ok(()),
                (true, Some(_)) => drop(labels.remove(ABSENT)),
                (false, None) => drop(labels.insert(ABSENT.to_owned(), now.to_string())),
                (false, Some(since)) if now.duration_since(since) > KEPT => {
                    return forget(engine, cluster, config).await;
                }
                (false, Some(since)) if now.duration_since(since) > GONE => {
                    return remove_tasks(engine, cluster, config).await;
                }
                (false, Some(_)) => return Ok(()),
            }
            Ok(engine.label_config(&config.spec.name, config.version.index, &labels).await?)
        }
        _ => Ok(()),
    }
}

/// Removes everything of a policy, its status last.
async fn forget(engine: &Engine, cluster: &Cluster, status: &Config) -> Result<(), PortError> {
    info!(policy = status.label(names::POLICY), "declared no more for seven days: its state is removed");
    remove_tasks(engine, cluster, status).await?;
    let identity = status.label(names::IDENTITY);
    let configs = &cluster.configs;
    let own =
        configs.iter().filter(|config| config.label(names::IDENTITY) == identity && config.id != status.id);
    for config in own.chain([status]) {
        absent_is_fine(engine.remove_config(&config.spec.name).await)?;
    }
    Ok(())
}

/// Removes the tasks of a policy that has no run: looks at what it would have used.
async fn remove_tasks(engine: &Engine, cluster: &Cluster, status: &Config) -> Result<(), PortError> {
    let identity = status.label(names::IDENTITY);
    for service in &cluster.services {
        let labels = &service.spec.labels;
        let is_task = labels.get(names::KIND).is_some_and(|kind| kind == kind::TASK);
        if is_task && labels.get(names::IDENTITY).map(String::as_str) == identity {
            absent_is_fine(engine.remove_service(&service.id).await)?;
        }
    }
    Ok(())
}

/// Stops the tasks that are on the networks of a service which is gone: they would keep its stack from being removed.
pub(super) async fn let_networks_go(engine: &Engine, services: &[Service]) {
    let is_there = |id: &String| services.iter().any(|service| service.id == *id);
    let left = |service: &&Service| {
        service.spec.labels.contains_key(names::KIND)
            && service.spec.labels.get(names::CARRIER).is_some_and(|carrier| !is_there(carrier))
    };
    for service in services.iter().filter(left) {
        info!(service = service.spec.name, "stopped: the service whose networks it was on is gone");
        if let Err(error) = absent_is_fine(engine.remove_service(&service.id).await) {
            warn!(service = service.spec.name, %error, "it cannot be stopped");
        }
    }
}

/// Refuses a request that cannot be read, or that nobody waits for any more.
pub(super) async fn refuse(engine: &Engine, config: &Config, why: &str) -> Result<(), PortError> {
    warn!(request = objects::request_id(config), "refused: {why}");
    let labels = objects::answered(config, &Answer::Refused(why.to_owned()));
    match engine.label_config(&config.spec.name, config.version.index, &labels).await {
        Err(refusal) if !refusal.is_absent() && !refusal.is_stale() => Err(refusal.into()),
        _ => Ok(()),
    }
}
